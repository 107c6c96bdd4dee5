#!/usr/bin/env python3
"""Makes the tiny random models of tests/data/models and what transformers answers with them.

    pip install torch transformers accelerate tokenizers gguf numpy
    tools/make_tiny_models.py [OUT]

OUT/models/NAME/            Hugging Face directories, bf16; some with a tokenizer, one sharded
OUT/models/NAME.TYPE.gguf   the same weights as a GGUF file, so that both must read alike
OUT/models/quant/TYPE.gguf  tiny Llamas with most matrices in one quantised type
OUT/goldens/NAME.json       {"vocab_size", "prompts": [{token_ids, greedy_ids, margins}]}
OUT/goldens/NAME.f32        float32 logits of every prompt position, prompts one after another

All arithmetic is float32. greedy_ids ignore end tokens; margins are the logit's distance to the
runner-up.
"""
import json
import pathlib
import sys

import gguf
import numpy as np
import tokenizers
import torch
import transformers
from make_dequant_data import random_blocks

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"]
NUM_BPE = 316
VOCAB = NUM_BPE + len(SPECIAL)
EOS, EOT = 318, 316  # <|im_end|>, <|endoftext|>
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content']"
    " + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "eos_token_id": EOS,
    "bos_token_id": None,
    "pad_token_id": None,
    "dtype": "bfloat16",
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS = {
    # name: (config, has a tokenizer, bytes of a shard)
    "tiny-qwen3": (
        transformers.Qwen3Config(
            **COMMON, head_dim=32, intermediate_size=96, num_hidden_layers=2,
            tie_word_embeddings=False, rope_theta=1e6,
        ),
        True,
        100_000,
    ),
    "tiny-qwen3-tied": (
        transformers.Qwen3Config(
            **COMMON, head_dim=16, intermediate_size=64, num_hidden_layers=3,
            tie_word_embeddings=True, rope_theta=1e6,
        ),
        True,
        10**9,
    ),
    "tiny-qwen2": (
        transformers.Qwen2Config(
            **COMMON, intermediate_size=96, num_hidden_layers=2, tie_word_embeddings=True,
            rope_theta=1e5,
        ),
        False,
        10**9,
    ),
    "tiny-llama": (
        transformers.LlamaConfig(
            **COMMON, intermediate_size=80, num_hidden_layers=2, tie_word_embeddings=False,
            rope_parameters=LLAMA3_ROPE,
        ),
        True,
        10**9,
    ),
}
GGUF_TYPES = {"tiny-qwen3": "BF16", "tiny-qwen2": "F16", "tiny-llama": "BF16"}
QUANT_TYPES = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]


def randomize(model, seed):
    """Weights large enough that logits spread and every part of the model matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name:
                weight.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                weight.copy_(0.5 * noise)
            elif "embed" in name or "lm_head" in name:
                weight.copy_(0.3 * noise)
            else:
                weight.copy_(noise * 1.2 / weight.shape[1] ** 0.5)


def prompts_of(vocab, lengths, seed):
    rng = np.random.default_rng(seed)
    return [[int(x) for x in rng.integers(0, vocab, n)] for n in lengths]


@torch.inference_mode()
def write_goldens(model, out, name, prompts, num_greedy):
    logits_of_all, entries = [], []
    for prompt in prompts:
        logits_of_all.append(model(torch.tensor([prompt])).logits[0].numpy())
        ids, margins = list(prompt), []
        for _ in range(num_greedy):
            logits = model(torch.tensor([ids])).logits[0, -1]
            best = logits.topk(2).values
            ids.append(int(logits.argmax()))
            margins.append(round(float(best[0] - best[1]), 5))
        entries.append(
            {"token_ids": prompt, "greedy_ids": ids[len(prompt) :], "margins": margins}
        )
        print(f"{name}: {len(prompt)} tokens -> {len(set(ids[len(prompt):]))} distinct, "
              f"least margin {min(margins)}, |logits| {np.abs(logits_of_all[-1]).max():.2f}")
    np.concatenate(logits_of_all).astype("<f4").tofile(out / f"{name}.f32")
    lines = ",\n  ".join(json.dumps(entry) for entry in entries)
    (out / f"{name}.json").write_text(
        f'{{"vocab_size": {logits_of_all[0].shape[1]}, "prompts": [\n  {lines}\n]}}\n'
    )


def make_tokenizer(prose):
    """Byte-level BPE as Qwen's, with 60 merges learnt from the prose."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.normalizer = tokenizers.normalizers.NFC()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(QWEN2_PATTERN), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(
                add_prefix_space=False, trim_offsets=False, use_regex=False
            ),
        ]
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=NUM_BPE,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(prose.splitlines(), trainer)
    assert tokenizer.get_vocab_size() == NUM_BPE
    for text in SPECIAL:
        token = tokenizers.AddedToken(text, normalized=False, special=text != "<think>")
        if token.special:
            tokenizer.add_special_tokens([token])
        else:
            tokenizer.add_tokens([token])
    return tokenizer


def write_tokenizer(tokenizer, where):
    tokenizer.save(str(where / "tokenizer.json"))
    config = {
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "eos_token": "<|im_end|>",
        "pad_token": {"content": "<|endoftext|>", "special": True},
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }
    (where / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def permute(rows, num_heads):
    """Rows of q or k to GGUF's order, gguf[2i+j] = hf[j*D/2+i] of each head."""
    head_dim = rows.shape[0] // num_heads
    return (
        rows.reshape(num_heads, 2, head_dim // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
    )


def gguf_name(name):
    table = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in table:
        return table[name]
    layer, part = name.removeprefix("model.layers.").split(".", 1)
    part, kind = part.rsplit(".", 1)
    parts = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "self_attn.q_norm": "attn_q_norm",
        "self_attn.k_norm": "attn_k_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    return f"blk.{layer}.{parts[part]}.{kind}"


def start_gguf(path, arch, config, head_dim):
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    return writer


def finish_gguf(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer, tokenizer):
    saved = json.loads(tokenizer.to_str())
    tokens = [tokenizer.id_to_token(i) for i in range(VOCAB)]
    kinds = [1] * NUM_BPE + [4 if t == "<think>" else 3 for t in SPECIAL]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(m) for m in saved["model"]["merges"]])
    writer.add_eos_token_id(EOS)
    writer.add_pad_token_id(EOT)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def llama3_factors(config, head_dim):
    """What llama.cpp's converter writes to rope_freqs: plain frequency over scaled."""
    rope = config.rope_parameters
    plain = 1.0 / rope["rope_theta"] ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    scaled, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    return (plain / scaled.double().numpy()).astype(np.float32)


def write_same_as_gguf(model, config, path, arch, type_name, tokenizer):
    """The bf16 weights of `model`, exactly, in a wider or equal type."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer = start_gguf(path, arch, config, head_dim)
    if tokenizer is not None:
        add_tokenizer(writer, tokenizer)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = weight.float().numpy()
        if arch == "llama" and ".q_proj." in name:
            values = permute(values, config.num_attention_heads)
        if arch == "llama" and ".k_proj." in name:
            values = permute(values, config.num_key_value_heads)
        kind = gguf.GGMLQuantizationType[type_name if values.ndim == 2 else "F32"]
        writer.add_tensor(gguf_name(name), gguf.quants.quantize(values, kind), raw_dtype=kind)
    if config.rope_parameters["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config, head_dim))
    finish_gguf(writer)


def quant_matrix(rng, shape, type_name):
    """Blocks whose values spread like a trained matrix: about 1 / sqrt(columns)."""
    kind = gguf.GGMLQuantizationType[type_name]
    elements, _ = gguf.GGML_QUANT_SIZES[kind]
    if not type_name.endswith("_K"):
        values = rng.normal(0, shape[1] ** -0.5, shape).astype(np.float32)
        return gguf.quants.quantize(values, kind), kind
    # The package cannot quantise to K types: random codes under scales that centre them.
    blocks = random_blocks(rng, type_name, shape[0] * shape[1] // elements)
    scale = rng.uniform(0.5, 1.5, len(blocks)) * shape[1] ** -0.5
    if type_name == "Q6_K":
        scales = {208: scale / (74 * 18.5)}
    else:
        top = 15 if type_name == "Q4_K" else 31
        scales = {0: scale / (31 * top * 0.29), 2: scale / (31 * top * 0.29) * top / 2}
    for at, values in scales.items():
        blocks[:, at : at + 2] = values.astype(np.float16).view(np.uint8).reshape(-1, 2)
    return blocks.reshape(shape[0], -1), kind


def write_quant(path, type_name):
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=256, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=1, head_dim=32, max_position_embeddings=128,
    )
    rng = np.random.default_rng(QUANT_TYPES.index(type_name) + 10)
    writer = start_gguf(path, "llama", config, 32)
    for name, shape in [
        ("token_embd", (64, 256)),
        ("blk.0.attn_q", (128, 256)),
        ("blk.0.attn_k", (32, 256)),
        ("blk.0.attn_v", (32, 256)),
        ("blk.0.attn_output", (256, 128)),
        ("blk.0.ffn_gate", (64, 256)),
        ("blk.0.ffn_up", (64, 256)),
        ("blk.0.ffn_down", (256, 64)),
    ]:
        # Where a K block does not fit into a row, converters fall back as well.
        fits = shape[1] % 256 == 0 or not type_name.endswith("_K")
        blocks, kind = quant_matrix(rng, shape, type_name if fits else "Q8_0")
        writer.add_tensor(f"{name}.weight", blocks, raw_dtype=kind)
    for name in ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"]:
        writer.add_tensor(f"{name}.weight", rng.normal(1, 0.2, 256).astype(np.float32))
    finish_gguf(writer)


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/data")
    (out / "models" / "quant").mkdir(parents=True, exist_ok=True)
    (out / "goldens").mkdir(exist_ok=True)
    tokenizer = make_tokenizer((out / "smollm2" / "prose.txt").read_text(encoding="utf-8"))
    for seed, (name, (config, has_tokenizer, shard_bytes)) in enumerate(MODELS.items()):
        where = out / "models" / name
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        randomize(model, seed)
        model.generation_config = transformers.GenerationConfig(
            eos_token_id=[EOS, EOT], do_sample=True, temperature=0.7, top_k=20, top_p=0.9
        )
        model.save_pretrained(where, max_shard_size=shard_bytes)
        if has_tokenizer:
            write_tokenizer(tokenizer, where)
        if name in GGUF_TYPES:
            kind = GGUF_TYPES[name]
            path = out / "models" / f"{name}.{kind.lower()}.gguf"
            arch = config.model_type
            write_same_as_gguf(model, config, path, arch, kind, tokenizer if has_tokenizer else None)
        exact = transformers.AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32).eval()
        write_goldens(exact, out / "goldens", name, prompts_of(VOCAB, [1, 7, 35], seed), 32)
    for type_name in QUANT_TYPES:
        path = out / "models" / "quant" / f"{type_name.lower()}.gguf"
        write_quant(path, type_name)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        ).eval()
        prompts = prompts_of(64, [1, 18], 7)
        write_goldens(model, out / "goldens", f"quant-{type_name.lower()}", prompts, 16)


if __name__ == "__main__":
    main()
