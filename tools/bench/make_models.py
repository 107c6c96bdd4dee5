#!/usr/bin/env python3
"""Makes the model files that tools/bench/cpu_peer measures with.

    pip install gguf numpy
    tools/bench/make_models.py OUT [--smollm2 FILE.gguf] [--tokenizer DIR]

OUT/SmolLM2-135M-Instruct.TYPE.gguf  the matrices of FILE (tools/fetch_model) in another type
OUT/SmolLM2-135M-Instruct/           the same in bf16 as a Hugging Face directory, no tokenizer
OUT/Qwen3-0.6B-random.TYPE.gguf      Qwen3-0.6B's shapes, random weights, the tokenizer of DIR
OUT/Qwen3-0.6B-random/               the same in bf16 as a Hugging Face directory

TYPE is Q8_0, Q4_0 and BF16; every matrix has it, the norms are float32. Requantised or random, the
answers mean little; speed does not depend on them.
"""
import argparse
import json
import pathlib
import shutil

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType

TYPES = ["Q8_0", "Q4_0", "BF16"]
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vocab_size": 151936,
}


def quantize(values, kind):
    """(bytes as GGUF holds them, their type); vectors stay float32."""
    if values.ndim == 1:
        return values.astype(np.float32), GGMLQuantizationType.F32
    kind = GGMLQuantizationType[kind]
    return gguf.quants.quantize(values.astype(np.float32), kind), kind


def write(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def requantize(source, kind, path):
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(path, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        is_list = field.types[0] == GGUFValueType.ARRAY
        writer.add_key_value(name, field.contents(), field.types[0],
                             sub_type=field.types[-1] if is_list else None)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        data, data_type = quantize(values, kind)
        writer.add_tensor(tensor.name, data, raw_dtype=data_type)
    write(writer)


def shapes_of(c):
    """(name in GGUF, name in Hugging Face's form, shape) of every tensor; a Llama has no norms of q
    and k."""
    hidden, inner = c["hidden_size"], c["intermediate_size"]
    dim = c.get("head_dim", hidden // c["num_attention_heads"])
    q, kv = c["num_attention_heads"] * dim, c["num_key_value_heads"] * dim
    yield "token_embd", "model.embed_tokens", (c["vocab_size"], hidden)
    yield "output_norm", "model.norm", (hidden,)
    for i in range(c["num_hidden_layers"]):
        for ours, theirs, shape in [
            ("attn_norm", "input_layernorm", (hidden,)),
            ("attn_q", "self_attn.q_proj", (q, hidden)),
            ("attn_k", "self_attn.k_proj", (kv, hidden)),
            ("attn_v", "self_attn.v_proj", (kv, hidden)),
            ("attn_q_norm", "self_attn.q_norm", (dim,)),
            ("attn_k_norm", "self_attn.k_norm", (dim,)),
            ("attn_output", "self_attn.o_proj", (hidden, q)),
            ("ffn_norm", "post_attention_layernorm", (hidden,)),
            ("ffn_gate", "mlp.gate_proj", (inner, hidden)),
            ("ffn_up", "mlp.up_proj", (inner, hidden)),
            ("ffn_down", "mlp.down_proj", (hidden, inner)),
        ]:
            yield f"blk.{i}.{ours}", f"model.layers.{i}.{theirs}", shape


def random_tensor(seed, shape):
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(shape, dtype=np.float32)
    return 1 + 0.1 * noise if len(shape) == 1 else noise * np.float32(0.02)


def add_tokenizer(writer, folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    size = QWEN3["vocab_size"]
    tokens = [f"[PAD{i}]" for i in range(size)]
    kinds = [gguf.TokenType.UNUSED] * size
    for token, i in tokenizer["model"]["vocab"].items():
        tokens[i], kinds[i] = token, gguf.TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        tokens[added["id"]], kinds[added["id"]] = added["content"], kind
    merges = tokenizer["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_bos_token_id(QWEN3["bos_token_id"])
    writer.add_eos_token_id(QWEN3["eos_token_id"])
    writer.add_add_bos_token(False)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    writer.add_chat_template(config["chat_template"])


def make_gguf(kind, tokenizer, path):
    c = QWEN3
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_name("Qwen3-0.6B, random")
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(c["num_key_value_heads"])
    writer.add_key_length(c["head_dim"])
    writer.add_value_length(c["head_dim"])
    writer.add_rope_freq_base(c["rope_theta"])
    writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    add_tokenizer(writer, tokenizer)
    for seed, (name, _, shape) in enumerate(shapes_of(QWEN3)):
        data, data_type = quantize(random_tensor(seed, shape), kind)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=data_type)
    write(writer)


def write_directory(config, tensors, folder):
    """tensors: (name, shape, function that gives the values). safetensors: u64 length of the header,
    the header in JSON, the data one after another."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    header, end = {}, 0
    for name, shape, _ in tensors:
        size = 2 * int(np.prod(shape))
        header[f"{name}.weight"] = {"dtype": "BF16", "shape": shape,
                                    "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, _, values in tensors:
            row = values().astype(np.float32).reshape(1, -1)
            file.write(gguf.quants.quantize(row, GGMLQuantizationType.BF16).tobytes())


def make_directory(tokenizer, folder):
    write_directory(QWEN3, [(name, shape, lambda seed=seed, shape=shape: random_tensor(seed, shape))
                            for seed, (_, name, shape) in enumerate(shapes_of(QWEN3))], folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / name, folder / name)


def smollm2_config(reader):
    def field(name):
        return reader.fields[f"llama.{name}"].contents()

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": field("embedding_length"),
        "intermediate_size": field("feed_forward_length"),
        "max_position_embeddings": field("context_length"),
        "num_attention_heads": field("attention.head_count"),
        "num_hidden_layers": field("block_count"),
        "num_key_value_heads": field("attention.head_count_kv"),
        "rms_norm_eps": field("attention.layer_norm_rms_epsilon"),
        "rope_theta": field("rope.freq_base"),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "vocab_size": field("vocab_size"),
    }


def smollm2_directory(source, folder):
    """The dequantised weights; GGUF has the rows of q and k in the order of interleaved RoPE."""
    reader = gguf.GGUFReader(source)
    config = smollm2_config(reader)
    in_file = {tensor.name.removesuffix(".weight"): tensor for tensor in reader.tensors}

    def values_of(ours, theirs):
        tensor = in_file[ours]
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
        num_heads = heads.get(theirs.rpartition(".")[2])
        if num_heads is None:
            return values
        rows, cols = values.shape
        turned = values.reshape(num_heads, rows // num_heads // 2, 2, cols).swapaxes(1, 2)
        return turned.reshape(rows, cols)

    names = [(ours, theirs) for ours, theirs, _ in shapes_of(config) if ours in in_file]
    write_directory(config, [(theirs, [int(n) for n in reversed(in_file[ours].shape)],
                              lambda ours=ours, theirs=theirs: values_of(ours, theirs))
                             for ours, theirs in names], folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--smollm2", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--tokenizer", type=pathlib.Path, metavar="DIR")
    options = parser.parse_args()
    if options.smollm2 is None and options.tokenizer is None:
        parser.error("nothing to make: give --smollm2, --tokenizer or both")
    options.out.mkdir(parents=True, exist_ok=True)
    for kind in TYPES:
        if options.smollm2 is not None:
            requantize(options.smollm2, kind, options.out / f"SmolLM2-135M-Instruct.{kind}.gguf")
        if options.tokenizer is not None:
            make_gguf(kind, options.tokenizer, options.out / f"Qwen3-0.6B-random.{kind}.gguf")
    if options.smollm2 is not None:
        smollm2_directory(options.smollm2, options.out / "SmolLM2-135M-Instruct")
    if options.tokenizer is not None:
        make_directory(options.tokenizer, options.out / "Qwen3-0.6B-random")


if __name__ == "__main__":
    main()
