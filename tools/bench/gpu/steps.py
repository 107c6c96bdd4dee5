"""Whole steps without a router: mili-worker --bench."""

import programs
import shapes

# Tokens of a prompt, tokens produced, sequences side by side, and what each is called.
DECODES = {
    "full": [(128, 257, {1: "step b1", 8: "step b8", 64: "step b64", 256: "step b256"}),
             (960, 257, {64: "step b64 ctx1k"})],
    "small": [(16, 33, {1: "step b1", 4: "step b4"})],
}
PROMPTS = {
    "full": {128: "prompt 128", 1024: "prompt 1k", 2048: "prompt 2k", 4096: "prompt 4k",
             8192: "prompt 8k"},
    "small": {128: "prompt 128"},
}
# Of a prompt, a run is one step. Up to 256 tokens it is served as a graph, which its second run
# captures: the median of five is of runs that replay it.
PROMPT_REPEAT = 5


def size_of(model):
    return "small" if model.startswith("tiny") else "full"


def bench(options, checkpoint, args, prompt, output, concurrency, repeat, timeout_s):
    numbers = ",".join(str(number) for number in concurrency)
    return programs.run_json(
        [options.bin_dir / "mili-worker", checkpoint, "--bench", "--json", "--bench-prompt-tokens",
         prompt, "--bench-output-tokens", output, "--bench-concurrency", numbers, "--bench-repeat",
         repeat, *args], timeout_s)


def measure(options, model, checkpoint, budget):
    """Yields (key, value) or a Failure for what did not work. Times are of the wall, steps in flight
    as when serving; idle is what the device waited between two of them."""
    args = ["--device", options.device, *shapes.MODELS[model][1]]
    size = size_of(model)
    for prompt, output, names in DECODES[size]:
        try:
            result = bench(options, checkpoint, args, prompt, output, names, options.repeat,
                           budget.left(100))
        except programs.Failure as failure:
            yield programs.Failure(f"{', '.join(names.values())}: {failure}")
            continue
        for run in result["runs"]:
            step_ms = 1e3 * run["concurrency"] / run["decode_tokens_per_s"]
            name = names[run["concurrency"]]
            yield name, step_ms
            yield name.replace("step", "idle"), 1e3 * run["idle_p50_ms"]
    for prompt, name in PROMPTS[size].items():
        # In one piece, as the peers computed it.
        whole = ["--max-num-batched-tokens", max(prompt, 2048)]
        try:
            result = bench(options, checkpoint, [*args, *whole], prompt, 1, [1],
                           max(options.repeat, PROMPT_REPEAT), budget.left(40))
            yield name, result["first_token_ms"]
        except programs.Failure as failure:
            yield programs.Failure(f"{name}: {failure}")
