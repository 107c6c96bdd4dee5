"""The served system: `mili serve`, driven by mili-load over HTTP and gRPC."""

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
    },
    "small": {"c4 16->32": ("http", 4, 16, 16, 32), "c4 16->32 gRPC": ("grpc", 4, 16, 16, 32)},
}
FIRST_TOKENS = {
    "full": {16: "ttft 16", 128: "ttft 128", 1024: "ttft 1k", 4096: "ttft 4k", 8192: "ttft 8k"},
    "small": {16: "ttft 16"},
}


def load(options, serve, interface, clients, requests, prompt, output, vocab_size, timeout_s):
    address = serve.http if interface == "http" else serve.grpc
    return programs.run_json(
        [options.bin_dir / "mili-load", f"--{interface}", address, "--concurrency", clients,
         "--requests", requests, "--prompt-tokens", prompt, "--output-tokens", output,
         "--vocab-size", vocab_size, "--warm-up-tokens", 16, "--worker-metrics",
         serve.worker_metrics, "--json"], timeout_s)


def measure(options, model, checkpoint, vocab_size, budget):
    """Yields (key, value), loads with what the device did meanwhile as well, or a Failure for what did
    not work."""
    args = ["--device", options.device, *shapes.MODELS[model][1]]
    # The first start leaves files in the page cache and tuned tables on disk: the second counts.
    with programs.Serve(options.bin_dir, checkpoint, args, budget.left(60)):
        pass
    with programs.Serve(options.bin_dir, checkpoint, args, budget.left(60)) as serve:
        yield "ready", serve.start_s
        size = steps.size_of(model)
        for prompt, name in FIRST_TOKENS[size].items():
            try:
                result = load(options, serve, "http", 1, 9, prompt, 2, vocab_size, budget.left(30))
                yield name, result["ttft_ms_p50"]
            except programs.Failure as failure:
                yield programs.Failure(f"{name}: {failure}")
        for name, (interface, clients, *numbers) in LOADS[size].items():
            try:
                result = load(options, serve, interface, clients, *numbers, vocab_size,
                              budget.left(90))
            except programs.Failure as failure:
                yield programs.Failure(f"{name}: {failure}")
                continue
            yield name, result["tokens_per_s"], {
                "steps": result["steps"], "tokens_per_step": result["tokens_per_step"],
                "compute_ms": result["compute_ms_per_step"],
                "idle_ms": result["idle_ms_per_step"]}
            if clients == 1:
                yield "c1 itl", result["itl_ms_p50"]
