#!/usr/bin/env python3
"""Makes tests/data/smollm2/goldens.json: what transformers answers with SmolLM2-135M-Instruct.

    pip install torch transformers accelerate tokenizers gguf numpy
    tools/make_smollm2_goldens.py SmolLM2-135M-Instruct.Q4_1.gguf [OUT]

The weights are those of the GGUF file, dequantised, and the arithmetic is float32: what the server
must come close to. Before anything else the loaded model is checked against
gguf.quants.dequantize, so that transformers' own reading of the file is not taken on trust.

prompts[]: greedy token_ids, up to 48, the end token included; of each its logprob and its margin,
the logit's distance to the runner-up (where it is tiny, another order of summation may choose
otherwise). prompt_token_ids tell an error of the tokenizer from one of the model.
score: logprobs[i] is that of token_ids[i + 1] given those before it.
"""
import argparse
import hashlib
import json
import pathlib

import gguf
import numpy as np
import tokenizers
import torch
import transformers

MAX_TOKENS = 48

RAW = [
    ("capital", "The capital of France is", True),
    ("sky", "The sky is blue because", True),
    ("fibonacci", "def fibonacci(n):\n    ", True),
    ("digits", "In the year 1984, 12345 + 67890 =", False),
    ("accents", "Le café était fermé, mais la boulangerie", False),
    ("story", "Once upon a time, in a small village by the sea,", False),
    ("list", "Three things to remember when baking bread:\n1.", False),
    ("one_word", "Hello", False),
    ("whitespace", "a  b\n\n\tc   ", False),
    ("emoji", "Good morning 🌞! Today we will", False),
]
CHAT = [
    ("chat_sky", [("user", "Why is the sky blue?")], True),
    ("chat_france", [("user", "What is the capital of France?")], True),
    ("chat_poem", [("user", "Write a short poem about the sea.")], True),
    ("chat_system", [("system", "You answer like a pirate."), ("user", "Who are you?")], True),
    (
        "chat_turns",
        [
            ("user", "My name is Ada."),
            ("assistant", "Nice to meet you, Ada! How can I help you today?"),
            ("user", "What is my name, and how many letters does it have?"),
        ],
        True,
    ),
    ("chat_code", [("user", "Write a Python function that reverses a string.")], False),
    ("chat_translate", [("user", "Translate into French: Good evening, my friend.")], False),
    ("chat_list", [("user", "Give me five tips for sleeping well.")], False),
    ("chat_math", [("user", "What is 17 + 25? Explain step by step.")], False),
    ("chat_gravity", [("user", "Explain gravity to a child of six years.")], False),
    ("chat_history", [("user", "Who was Marie Curie, and what did she discover?")], False),
    ("chat_email", [("user", "Write an email asking my boss for a day off.")], False),
    ("chat_sort", [("user", "Sort these words: pear, apple, fig, banana.")], False),
    ("chat_planets", [("user", "Name the planets of the solar system in order.")], False),
    ("chat_json", [("user", 'Reply with JSON only: {"name": a name, "age": a number}')], False),
    ("chat_long", [("user", "Tell me a long story about a lighthouse keeper.")], False),
]


def make_tokenizer(reader):
    """The tokenizer that Hugging Face ships for this model, from the vocabulary in the file."""
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in reader.fields["tokenizer.ggml.merges"].contents()]
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Digits(individual_digits=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [tokenizers.AddedToken(t, normalized=False) for t, k in zip(tokens, kinds) if k == 3]
    )
    return tokenizer


def unpermute(rows, num_heads):
    """Rows of q or k from GGUF's order, gguf[2i+j] = hf[j*D/2+i] of each head, to canonical."""
    head_dim = rows.shape[0] // num_heads
    return (
        rows.reshape(num_heads, head_dim // 2, 2, *rows.shape[1:])
        .swapaxes(1, 2)
        .reshape(rows.shape)
    )


def check_weights(model, reader):
    names = {
        "token_embd": "model.embed_tokens",
        "output_norm": "model.norm",
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    state = model.state_dict()
    for tensor in reader.tensors:
        parts = tensor.name.split(".")
        name = names[parts[-2]] + ".weight"
        if parts[0] == "blk":
            name = f"model.layers.{parts[1]}.{name}"
        want = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if parts[-2] == "attn_q":
            want = unpermute(want, model.config.num_attention_heads)
        if parts[-2] == "attn_k":
            want = unpermute(want, model.config.num_key_value_heads)
        got = state[name].float().numpy()
        assert got.shape == want.shape and np.array_equal(got, want), name
    print(f"{len(reader.tensors)} tensors of transformers equal gguf.quants.dequantize")


@torch.inference_mode()
def greedy(model, prompt_ids, eos_id):
    ids, logprobs, margins = [], [], []
    cache = transformers.DynamicCache()
    step = torch.tensor([prompt_ids])
    while len(ids) < MAX_TOKENS and eos_id not in ids:
        logits = model(step, past_key_values=cache, use_cache=True).logits[0, -1].double()
        best = logits.topk(2).values
        token = int(logits.argmax())
        ids.append(token)
        logprobs.append(round(float(torch.log_softmax(logits, -1)[token]), 5))
        margins.append(round(float(best[0] - best[1]), 5))
        step = torch.tensor([[token]])
    return {"token_ids": ids, "logprobs": logprobs, "margins": margins}


@torch.inference_mode()
def score(model, ids):
    logits = model(torch.tensor([ids])).logits[0, :-1].double()
    of_next = torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    return {
        "token_ids": ids,
        "mean_nll": round(float(-of_next.mean()), 6),
        "logprobs": [round(float(x), 4) for x in of_next],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("gguf", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path, nargs="?", default="tests/data/smollm2")
    args = parser.parse_args()
    reader = gguf.GGUFReader(args.gguf)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.gguf.parent, gguf_file=args.gguf.name, dtype=torch.float32
    ).eval()
    check_weights(model, reader)
    tokenizer = make_tokenizer(reader)
    template = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=reader.fields["tokenizer.chat_template"].contents(),
    )
    eos_id = reader.fields["tokenizer.ggml.eos_token_id"].contents()

    prompts = []
    for name, text, ci in RAW:
        prompts.append({"name": name, "ci": ci, "text": text})
    for name, turns, ci in CHAT:
        messages = [{"role": role, "content": content} for role, content in turns]
        text = template.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompts.append({"name": name, "ci": ci, "messages": messages, "text": text})
    for prompt in prompts:
        prompt["prompt_token_ids"] = tokenizer.encode(prompt["text"]).ids
        prompt.update(greedy(model, prompt["prompt_token_ids"], eos_id))
        prompt["completion"] = tokenizer.decode(prompt["token_ids"], skip_special_tokens=True)
        print(f"{prompt['name']}: {prompt['completion']!r}, least margin {min(prompt['margins'])}")

    prose = (args.out / "prose.txt").read_text(encoding="utf-8")
    scored = score(model, tokenizer.encode(prose).ids)
    print(f"prose: {len(scored['token_ids'])} tokens, mean nll {scored['mean_nll']}")
    goldens = {
        "model": "SmolLM2-135M-Instruct, GGUF Q4_1, dequantised to float32",
        "model_sha256": hashlib.sha256(args.gguf.read_bytes()).hexdigest(),
        "made_with": {m.__name__: m.__version__ for m in (transformers, torch, tokenizers)},
        "eos_token_id": eos_id,
        "prompts": prompts,
        "score": {"file": "prose.txt", **scored},
    }
    write(args.out / "goldens.json", goldens)


def write(path, goldens):
    """Readable, with every list of numbers on one line."""
    lists = []

    def hide(value):
        if isinstance(value, dict):
            return {k: hide(v) for k, v in value.items()}
        if isinstance(value, list) and value and not isinstance(value[0], (dict, list)):
            lists.append(json.dumps(value, separators=(",", ":")))
            return f"@list{len(lists) - 1}@"
        return [hide(v) for v in value] if isinstance(value, list) else value

    text = json.dumps(hide(goldens), ensure_ascii=False, indent=1)
    for i, line in enumerate(lists):
        text = text.replace(f'"@list{i}@"', line)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
