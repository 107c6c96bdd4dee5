"""The served system: `mili serve`, driven by mili-load over HTTP and gRPC."""

import concurrent.futures
import random
import statistics
import time

import peers
import programs
import shapes
import steps

# What a load is called: interface, clients, requests, tokens of a prompt, tokens produced. Those that
# matter most first, should time run out.
LOADS = {
    "full": {
        "256 x 128->512": ("grpc", 256, 256, 128, 512),
        "128 x 2048->128": ("grpc", 128, 128, 2048, 128),
        "c64 128->512": ("http", 64, 128, 128, 512),
        "c1 128->256": ("http", 1, 3, 128, 256),
        "c64 128->512 gRPC": ("grpc", 64, 128, 128, 512),
        "c16 128->256": ("http", 16, 48, 128, 256),
        "c256 128->256": ("http", 256, 512, 128, 256),
        "c64 2048->128": ("http", 64, 128, 2048, 128),
    },
    "small": {"c4 16->32": ("http", 4, 16, 16, 32), "c4 16->32 gRPC": ("grpc", 4, 16, 16, 32)},
}
LOADS["fp8"] = {name: LOADS["full"][name] for name in ("256 x 128->512", "128 x 2048->128")}
FIRST_TOKENS = {
    "full": {16: "ttft 16", 128: "ttft 128", 1024: "ttft 1k", 4096: "ttft 4k", 8192: "ttft 8k"},
    "fp8": {},
    "small": {16: "ttft 16"},
}


def load(options, serve, interface, clients, requests, prompt, output, vocab_size, timeout_s):
    address = serve.http if interface == "http" else serve.grpc
    return programs.run_json(
        [options.bin_dir / "mili-load", f"--{interface}", address, "--concurrency", clients,
         "--requests", requests, "--prompt-tokens", prompt, "--output-tokens", output,
         "--vocab-size", vocab_size, "--warm-up-tokens", 16, "--worker-metrics",
         serve.worker_metrics, "--json"], timeout_s)


def large_steps_name(name):
    """As vLLM computes them on this GPU unless told otherwise; here a small model's steps alone are
    that large."""
    return f"{name}, steps of 8192"


def beside_prompts(options, serve, vocab_size, timeout_s):
    """32 streams into which a prompt of 8192 tokens comes every 0.4 s: the 99th percentile of the time
    between two of their tokens, and the median time to a first token of those prompts, both in ms."""
    rng = random.Random(3)
    prompts = [[rng.randrange(vocab_size) for _ in range(8192)] for _ in range(5)]

    def first_token_ms(prompt):
        start = time.monotonic()
        programs.post(serve.http, "/v1/completions", {"prompt": prompt, "max_tokens": 1}, timeout_s)
        return 1e3 * (time.monotonic() - start)

    with concurrent.futures.ThreadPoolExecutor(1 + len(prompts)) as pool:
        streams = pool.submit(load, options, serve, "grpc", 32, 32, 128, 256, vocab_size, timeout_s)
        time.sleep(0.5)
        asked = []
        for prompt in prompts:
            asked.append(pool.submit(first_token_ms, prompt))
            time.sleep(0.4)
        return (streams.result()["itl_ms_p99"],
                statistics.median(future.result() for future in asked))


def device_of(result):
    """What the device did in the steps of a load."""
    return {"steps": result["steps"], "tokens_per_step": result["tokens_per_step"],
            "compute_ms": result["compute_ms_per_step"], "idle_ms": result["idle_ms_per_step"]}


def measure(options, model, checkpoint, vocab_size, budget):
    """Yields (key, value), loads with what the device did meanwhile as well, or a Failure for what did
    not work."""
    args = ["--device", options.device, *shapes.MODELS[model][1]]
    # The first start leaves files in the page cache and tuned tables on disk: the second counts.
    with programs.Serve(options.bin_dir, checkpoint, args, budget.left(60)):
        pass
    size = "fp8" if model.endswith("fp8") else steps.size_of(model)
    with programs.Serve(options.bin_dir, checkpoint, args, budget.left(60)) as serve:
        yield "ready", serve.start_s
        for prompt, name in FIRST_TOKENS[size].items():
            try:
                result = load(options, serve, "http", 1, 9, prompt, 2, vocab_size, budget.left(30))
                yield name, result["ttft_ms_p50"]
            except programs.Failure as failure:
                yield programs.Failure(f"{name}: {failure}")
        for name, spec in LOADS[size].items():
            try:
                result = load(options, serve, *spec, vocab_size, budget.left(90))
            except programs.Failure as failure:
                yield programs.Failure(f"{name}: {failure}")
                continue
            yield name, result["tokens_per_s"], device_of(result)
            if name.startswith("c1 "):
                yield "c1 itl", result["itl_ms_p50"]
            if name == "c64 2048->128":
                yield "c64 2048->128 itl p99", result["itl_ms_p99"]
        # A smaller model's streams are over before the prompts come.
        if "itl p99 beside 8k" in peers.FIGURES.get(model, {}):
            itl_ms, first_ms = beside_prompts(options, serve, vocab_size, budget.left(30))
            yield "itl p99 beside 8k", itl_ms
            yield "ttft 8k beside 32", first_ms
    large_steps = {name: spec for name, spec in LOADS[size].items()
                   if large_steps_name(name) in peers.FIGURES.get(model, {})}
    if not large_steps:
        return
    args += ["--max-num-batched-tokens", "8192"]
    with programs.Serve(options.bin_dir, checkpoint, args, budget.left(60)) as serve:
        for name, spec in large_steps.items():
            result = load(options, serve, *spec, vocab_size, budget.left(90))
            yield large_steps_name(name), result["tokens_per_s"], device_of(result)
