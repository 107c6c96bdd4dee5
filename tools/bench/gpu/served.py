"""The served system: `mili serve`, driven by mili-load over HTTP and gRPC."""

import concurrent.futures
import contextlib
import random
import re
import statistics
import time

import device
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
        "c8 128->256": ("http", 8, 8, 128, 256),
        "c64 128->512 gRPC": ("grpc", 64, 128, 128, 512),
        "c16 128->256": ("http", 16, 48, 128, 256),
        "c256 128->256": ("http", 256, 512, 128, 256),
        "c64 2048->128": ("http", 64, 128, 2048, 128),
    },
    "small": {"c4 16->32": ("http", 4, 16, 16, 32), "c4 16->32 gRPC": ("grpc", 4, 16, 16, 32),
              "c4 16->480": ("grpc", 4, 4, 16, 480)},
}
LOADS["fp8"] = {name: LOADS["full"][name] for name in ("256 x 128->512", "128 x 2048->128")}
# Loads in whose steady part the device's idle time a step is measured, router and all.
IDLE = {"c1 128->256": "served idle b1", "c8 128->256": "served idle b8",
        "c64 128->512": "served idle b64", "256 x 128->512": "served idle b256",
        "c4 16->480": "served idle b4"}
# Loads whose median time between two tokens of a stream counts.
ITL = {"c1 128->256": "c1 itl", "c16 128->256": "c16 itl", "c64 128->512": "c64 itl",
       "c256 128->256": "c256 itl", "c64 2048->128": "c64 2048->128 itl"}
# Every way of choosing a token, alone and together: each may want kernels that none before did.
SAMPLINGS = (
    {"temperature": 0}, {"temperature": 0.8, "seed": 5}, {"temperature": 1, "top_k": 50},
    {"temperature": 1, "top_p": 0.9}, {"temperature": 1, "min_p": 0.05},
    {"temperature": 1, "top_k": 50, "top_p": 0.9, "min_p": 0.05, "n": 4},
    {"temperature": 0, "presence_penalty": 1, "frequency_penalty": 0.5, "repetition_penalty": 1.1},
    {"temperature": 0, "logit_bias": {"5": 10}}, {"temperature": 0, "min_tokens": 8},
    {"temperature": 0, "logprobs": 20}, {"temperature": 0, "prompt_logprobs": 20},
    {"temperature": 1, "top_p": 0.9, "repetition_penalty": 1.1, "logit_bias": {"5": -10},
     "logprobs": 5, "prompt_logprobs": 5},
)
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


def ask_in_all_ways(serve, vocab_size, timeout_s):
    """Each of SAMPLINGS for a short and a longer prompt, one after the other, then all side by side."""
    rng = random.Random(4)
    bodies = [{"prompt": [rng.randrange(vocab_size) for _ in range(length)], "max_tokens": 16,
               "ignore_eos": True, **sampling} for length in (16, 300) for sampling in SAMPLINGS]
    end = time.monotonic() + timeout_s

    def ask(body):
        programs.post(serve.http, "/v1/completions", body, max(0.1, end - time.monotonic()))

    for body in bodies:
        ask(body)
    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        for future in [pool.submit(ask, body) for body in bodies]:
            future.result()


def planned_mib(text):
    """What the memory plan that a worker prints leaves for captured steps and for the unforeseen."""
    return sum(float(mib) for mib in re.findall(r"^(?:graphs|reserve) +([\d.]+) MiB", text, re.M))


def memory_figures(at_ready, after_loads, at_end, room):
    """What is in use when ready, in MiB, and how much more at the end. Only captured steps and kernels
    that are loaded at their first use may come after ready, and the plan holds `room` for them."""
    grown = at_end - at_ready
    yield "memory at ready", at_ready
    yield "memory grown", grown, {"grown_in_loads": after_loads - at_ready, "room": room}
    if grown > room:
        yield programs.Failure(f"memory in use grew by {grown:.0f} MiB after ready, for which the plan "
                               f"holds {room:.0f}")


def device_of(result):
    """What the device did in the steps of a load."""
    return {"steps": result["steps"], "tokens_per_step": result["tokens_per_step"],
            "compute_ms": result["compute_ms_per_step"], "idle_ms": result["idle_ms_per_step"]}


def load_figures(options, serve, name, spec, vocab_size, timeout_s):
    with device.Readings(serve.worker_metrics) if name in IDLE else contextlib.nullcontext() as readings:
        result = load(options, serve, *spec, vocab_size, timeout_s)
    yield name, result["tokens_per_s"], device_of(result)
    if name in ITL:
        yield ITL[name], result["itl_ms_p50"]
    if name == "c64 2048->128":
        yield "c64 2048->128 itl p99", result["itl_ms_p99"]
    if name in IDLE:
        steady = readings.steady(spec[1])
        yield IDLE[name], steady["idle_us"], {"steady_steps": steady["steps"],
                                              "step_ms": steady["step_ms"]}


def measure(options, model, checkpoint, vocab_size, budget):
    """Yields (key, value), loads with what the device did meanwhile as well, or a Failure for what did
    not work."""
    args = ["--device", options.device, *shapes.MODELS[model][1]]
    # The first start leaves files in the page cache and tuned tables on disk: the second counts.
    with programs.Serve(options.bin_dir, checkpoint, args, budget.left(60)):
        pass
    size = "fp8" if model.endswith("fp8") else steps.size_of(model)
    memory = None
    if options.device == "cuda":
        try:
            memory = device.Memory()
        except programs.Failure as failure:
            yield failure
    with programs.Serve(options.bin_dir, checkpoint, args, budget.left(60)) as serve:
        at_ready = memory and memory.used_mib()
        yield "ready", serve.start_s
        for prompt, name in FIRST_TOKENS[size].items():
            try:
                result = load(options, serve, "http", 1, 9, prompt, 2, vocab_size, budget.left(30))
                yield name, result["ttft_ms_p50"]
            except programs.Failure as failure:
                yield programs.Failure(f"{name}: {failure}")
        for name, spec in LOADS[size].items():
            try:
                yield from load_figures(options, serve, name, spec, vocab_size, budget.left(90))
            except programs.Failure as failure:
                yield programs.Failure(f"{name}: {failure}")
        # A smaller model's streams are over before the prompts come.
        if "itl p99 beside 8k" in peers.FIGURES.get(model, {}):
            itl_ms, first_ms = beside_prompts(options, serve, vocab_size, budget.left(30))
            yield "itl p99 beside 8k", itl_ms
            yield "ttft 8k beside 32", first_ms
        after_loads = memory and memory.used_mib()
        try:
            ask_in_all_ways(serve, vocab_size, budget.left(30))
        except programs.Failure as failure:
            yield programs.Failure(f"samplings: {failure}")
        if memory:
            yield from memory_figures(at_ready, after_loads, memory.used_mib(),
                                      planned_mib(serve.text()))
    large_steps = {name: spec for name, spec in LOADS[size].items()
                   if large_steps_name(name) in peers.FIGURES.get(model, {})}
    if not large_steps:
        return
    args += ["--max-num-batched-tokens", "8192"]
    with programs.Serve(options.bin_dir, checkpoint, args, budget.left(60)) as serve:
        for name, spec in large_steps.items():
            result = load(options, serve, *spec, vocab_size, budget.left(90))
            yield large_steps_name(name), result["tokens_per_s"], device_of(result)
