"""Asks a running server for greedy tokens and logprobs; reference.py judges them."""

import concurrent.futures
import random

import programs

# Around a page, a prefill tile, a chunk; all together they make mixed steps.
PROMPT_TOKENS = (2, 15, 16, 17, 63, 128, 130, 257, 600)
OUTPUT_TOKENS = 24
TOP = 20


def prompts_of(vocab_size):
    rng = random.Random(7)
    return [[rng.randrange(vocab_size) for _ in range(length)] for length in PROMPT_TOKENS]


def ask(address, prompt, timeout_s):
    """{prompt, tokens, scored: [[id, logprob]...] of each position but the first, those of the tokens
    included}. 20 logprobs are what captured steps report anyway."""
    answer = programs.post(address, "/v1/completions", {
        "prompt": prompt, "max_tokens": OUTPUT_TOKENS, "temperature": 0, "ignore_eos": True,
        "prompt_logprobs": TOP, "logprobs": TOP, "return_tokens_as_token_ids": True,
        "return_token_ids": True}, timeout_s)
    choice = answer["choices"][0]
    scored = [[[int(token), entry["logprob"]] for token, entry in position.items()]
              for position in choice["prompt_logprobs"][1:]]
    scored += [[[int(token.removeprefix("token_id:")), logprob]
                for token, logprob in position.items()]
               for position in choice["logprobs"]["top_logprobs"]]
    return {"prompt": prompt, "scored": scored, "tokens": choice["token_ids"]}


def until_unlike(answer, other):
    """`answer` up to the first token in which it differs from `other`: what follows the same tokens."""
    alike = 0
    while alike < OUTPUT_TOKENS - 1 and answer["tokens"][alike] == other["tokens"][alike]:
        alike += 1
    num_scored = len(answer["prompt"]) + alike
    return {"scored": answer["scored"][:num_scored], "tokens": answer["tokens"][:alike + 1]}


def answers_of(serve, vocab_size, budget):
    """All prompts side by side, then each alone; `same_alone` counts equal token lists."""
    prompts = prompts_of(vocab_size)
    with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
        asked = [pool.submit(ask, serve.http, prompt, budget.left(60)) for prompt in prompts]
        together = [future.result() for future in asked]
    alone = [ask(serve.http, prompt, budget.left(60)) for prompt in prompts]
    same = sum(a["tokens"] == b["tokens"] for a, b in zip(together, alone))
    for answer, other in zip(together, alone):
        answer["alone"] = until_unlike(other, answer)
    return {"answers": together, "same_alone": same}


def verdict(report):
    """Whether a report of reference.py, with its `same_alone`, passes, and the report as one line."""
    ok = report["cosine"] > 0.9999 and report["decoded"] > 0.9999 and report["wrong"] == 0
    line = (f"cosine {report['cosine']:.6f} (worst prompt {report['worst']:.6f}; transformers in "
            f"bf16 {report['bf16']:.6f}), of tokens decoded {report['decoded']:.6f}; "
            f"{report['equal']} of {report['tokens']} tokens equal, {report['near_ties']} near ties "
            f"within {report['near']:.3f}, {report['wrong']} wrong; {report['same_alone']} of "
            f"{len(PROMPT_TOKENS)} alike alone and in a batch")
    return ok, line
