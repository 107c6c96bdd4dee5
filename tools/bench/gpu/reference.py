#!/usr/bin/env python3
"""Judges a worker's answers by transformers on the same device: reference.py DEVICE.

Says "imported" first; until it is given something to do after that, it leaves the device alone. Reads
JSON lines {model, checkpoint, answers} and prints one for each. Needs torch, transformers and
accelerate, which loads straight to the device. The reference is the same checkpoint in float32, the
model run once over prompt and answer, so that one wrong token does not make all later ones differ.
What is compared are logits: of each position those that the worker scored, the next token's (in a
prompt a random one) and its 20 likeliest; a log probability is one after the reference's normaliser is
added. Positions of prompts and of tokens decoded have a cosine each. A token other than the
reference's first choice is a near tie if the reference gives it a logit less than a twentieth of the
row's standard deviation below, or less than twice what transformers' own bf16 loses by its worst
choice in these rows: two computations of that accuracy differ by as much again.
"""
import collections
import json
import pathlib
import sys

import shapes
import torch
import transformers

NEAR = 0.05


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0).item()


def gaps(logits, tokens):
    """How far each row's token is below the row's first choice, in the row's standard deviations."""
    chosen = logits.gather(1, tokens[:, None])[:, 0]
    return (logits.max(dim=-1).values - chosen) / logits.std(dim=-1)


def scored_logits(logits, bf16, prompt, answer):
    """{decoded, ours, reference, bf16}: a line for each logit that the worker scored."""
    pairs = [(row, token, logprob) for row, position in enumerate(answer["scored"])
             for token, logprob in position]
    rows = torch.tensor([pair[0] for pair in pairs], device=logits.device)
    ids = torch.tensor([pair[1] for pair in pairs], device=logits.device)
    ours = torch.tensor([pair[2] for pair in pairs], device=logits.device, dtype=torch.float64)
    ours += torch.logsumexp(logits.double(), dim=-1)[rows]
    return {"decoded": rows >= len(prompt) - 1, "ours": ours, "reference": logits[rows, ids],
            "bf16": bf16[rows, ids]}


def count_tokens(logits, prompt, answer, near):
    tokens = torch.tensor(answer["tokens"], device=logits.device)
    gap = gaps(logits[len(prompt) - 1:][:len(tokens)], tokens)
    return {"tokens": len(tokens), "equal": (gap == 0).sum().item(),
            "near_ties": ((gap > 0) & (gap <= near)).sum().item(),
            "wrong": (~(gap <= near)).sum().item()}


@torch.inference_mode()
def logits_of(model, answers, device):
    """[tokens, vocabulary] of each, but for the last token, which predicts nothing asked for."""
    out = []
    for answer in answers:
        ids = torch.tensor([answer["prompt"] + answer["tokens"][:-1]], device=device)
        out.append(model(ids).logits[0].float())
    return out


def report_of(case, device):
    config = json.loads((pathlib.Path(case["checkpoint"]) / "config.json").read_text())
    model = getattr(transformers, config["architectures"][0]).from_pretrained(
        case["checkpoint"], dtype=torch.bfloat16, attn_implementation="sdpa",
        device_map=device).eval()
    bf16 = logits_of(model, case["answers"], device)
    reference = logits_of(model.float(), case["answers"], device)
    strayed = max(gaps(exact, rough.argmax(dim=-1)).max().item()
                  for exact, rough in zip(reference, bf16))
    near = max(NEAR, 2 * strayed)
    scored, counts = [], collections.Counter()
    for exact, rough, together in zip(reference, bf16, case["answers"]):
        for answer in (together, together["alone"]):
            scored.append(scored_logits(exact, rough, together["prompt"], answer))
            counts.update(count_tokens(exact, together["prompt"], answer, near))
    every = {key: torch.cat([one[key] for one in scored]) for key in scored[0]}
    of_prompts = ~every["decoded"]

    def cosine_of(key, lines, which):
        return cosine(lines[key][which], lines["reference"][which])

    return {"model": case["model"], "cosine": cosine_of("ours", every, of_prompts),
            "bf16": cosine_of("bf16", every, of_prompts),
            "decoded": cosine_of("ours", every, every["decoded"]),
            "decoded_bf16": cosine_of("bf16", every, every["decoded"]),
            "worst": min(cosine_of("ours", one, ~one["decoded"]) for one in scored),
            "near": near, **counts}


def main():
    device = sys.argv[1]
    torch.backends.cuda.matmul.allow_tf32 = False
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # Looked up now, which takes many seconds, while something else is being done.
    for name in {config["architectures"][0] for config in shapes.CONFIGS.values()}:
        getattr(transformers, name)
    print("imported", flush=True)
    for line in sys.stdin:
        print(json.dumps(report_of(json.loads(line), device)), flush=True)
        if device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
