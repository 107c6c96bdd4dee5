"""What is measured, what it could be at most, what others reach, what MILI aims at.

Limits: bytes at 3.0 TB/s and floating-point operations at 790 TFLOP/s, what one H100 80GB SXM was seen
to do; the longer of the two for a step's matrices, plus the time to read its KV. Peers: the better of
vLLM 0.26.0 (v) and SGLang 0.5.16 (s), measured on that kind of GPU with the same shapes and random
weights: bf16, graphs, greedy, no prefix cache. Steps and prompts are the engine's own; "served" is over
HTTP with token-id prompts. No peer has figures of kernels alone, of the device between two steps, or of
memory that grows; and of a first token after a cached prefix MILI has none yet.
"""

# (limit, best peer's figure, which peer, aim); None where there is none. First what is the same for
# all models, then model -> key -> such a tuple.
WITHOUT_PEER = {
    **{f"served idle b{n}": (None, None, None, 5.0) for n in (1, 8, 64, 256)},
    "memory at ready": (None,) * 4, "memory grown": (None,) * 4,
    **{f"attention {load}": (3.0, None, None, 2.55) for load in ("64 x 1k", "64 x 4k", "256 x 1k")},
    "attention of prompt 8k": (790, None, None, 550),
    "glue from 1k": (None, None, None, 85),
}
FIGURES = {
    "0.6b": {
        "step b1": (0.41, 1.48, "s", 0.66), "step b8": (0.48, 2.76, "v", 0.85),
        "step b64": (1.02, 3.26, "s", 1.6), "step b256": (2.90, 5.89, "s", 3.9),
        "step b64 ctx1k": (3.06, 4.52, "v", 3.8),
        "prompt 128": (0.40, 8.78, "v", 1.5), "prompt 1k": (1.34, 12.1, "s", 3.0),
        "prompt 2k": (3.09, 18.2, "v", 5.5), "prompt 4k": (7.77, 28.99, "v", 12.0),
        "prompt 8k": (22.0, 37.4, "v", 30.0),
        "ready": (0.5, 73, "s", 1.5),
        "ttft 16": (0.4, 11.5, "s", 3.0), "ttft 128": (0.4, 15.5, "v", 3.0),
        "ttft 1k": (1.34, 12.1, "s", 5.0), "ttft 4k": (7.77, 29, "v", 13.0),
        "ttft 8k": (22.0, 38.4, "s", 32.0),
        "c1 128->256": (None, 563, "v", 1400), "c1 itl": (0.41, 1.48, "s", 0.7),
        "c16 128->256": (None, 8200, "s", 15000), "c64 128->512": (None, 17768, "v", 27000),
        "c64 128->512 gRPC": (None, 17768, "v", 27000),
        "c256 128->256": (None, 17900, "v", 45000),
        "c64 2048->128": (None, 6150, "v", 7000),
        "c16 itl": (None, 1.88, "v", None), "c64 itl": (None, 5.9, "v", 2.2),
        "c256 itl": (None, 11.6, "v", None), "c64 2048->128 itl": (None, 6.9, "v", None),
        "c64 2048->128 itl p99": (None, 34, "v", None),
        "256 x 128->512": (60600, 33529, "v", 42000), "128 x 2048->128": (9200, 7177, "v", 7800),
        "glue b256": (None, None, None, 2.5), **WITHOUT_PEER,
    },
    "8b": {
        "step b1": (5.06, 6.64, "s", 5.95), "step b8": (5.15, 7.01, "v", 6.15),
        "step b64": (5.85, 8.37, "v", 7.2), "step b256": (8.27, 13.19, "v", 11.0),
        "step b64 ctx1k": (8.47, 10.78, "v", 9.7),
        "prompt 128": (5.05, 10.87, "v", 7.0), "prompt 1k": (18.5, 31.4, "v", 23.0),
        "prompt 2k": (38.1, 54.8, "v", 46.0), "prompt 4k": (80.3, 108.8, "v", 96.0),
        "prompt 8k": (177, 230.6, "v", 205.0),
        "ready": (0.5, 73, "s", 2.5),
        "ttft 16": (5.05, 13.5, "v", 8.0), "ttft 128": (5.05, 15.4, "v", 8.0),
        "ttft 1k": (18.5, 32, "v", 27.0), "ttft 4k": (80.3, 113, "v", 98.0),
        "ttft 8k": (177, 230, "s", 208.0),
        "c1 128->256": (198, 145, "v", 163), "c1 itl": (5.06, 6.64, "s", 6.1),
        "c16 128->256": (None, 2120, "v", 2350), "c64 128->512": (None, 7100, "s", 7500),
        "c64 128->512 gRPC": (None, 7100, "s", 7500),
        "c256 128->256": (None, 11800, "v", 16000),
        "c16 itl": (None, 7.1, "v", 6.5), "c64 itl": (None, 8.4, "v", 8.0),
        "c256 itl": (None, 17.6, "v", 13.0),
        # p99: vLLM with steps of 2048 tokens; with its own of 8192 the p99s are 360 and 190 ms, and the
        # median, which is the better one, 13.7.
        "c64 2048->128": (None, 1640, "v", 1850), "c64 2048->128 itl": (None, 13.7, "v", 13.0),
        "c64 2048->128 itl p99": (None, 107, "v", 45),
        "itl p99 beside 8k": (None, 64, "v", 40), "ttft 8k beside 32": (None, 269, "v", 300),
        "256 x 128->512": (23300, 15991, "v", 18000), "128 x 2048->128": (2290, 1821, "v", 1950),
        "256 x 128->512, steps of 8192": (23300, 15991, "v", 18000),
        "128 x 2048->128, steps of 8192": (2290, 1821, "v", 1950),
        "glue b256": (None, None, None, 3.5), **WITHOUT_PEER,
    },
    "8b-fp8": {
        "step b1": (2.74, 4.63, "v", 3.45), "step b8": (2.83, 4.82, "v", 3.65),
        "step b64": (3.54, 6.07, "v", 4.7), "step b256": (6.08, 10.89, "v", 8.4),
        "step b64 ctx1k": (6.15, 8.64, "v", 7.6),
        "prompt 128": (2.73, 13.39, "v", 4.5), "prompt 1k": (10.3, 32.9, "v", 15.0),
        "prompt 2k": (21.7, 38.0, "v", 30.0), "prompt 4k": (47.5, 75.3, "v", 66.0),
        "prompt 8k": (111, 163.8, "v", 145.0),
        "256 x 128->512": (30800, 19158, "v", 22000), "128 x 2048->128": (3400, 2380, "v", 2750),
        "glue b256": (None, None, None, 3.5),
        **{key: WITHOUT_PEER[key] for key in ("glue from 1k", "served idle b256", "memory at ready",
                                              "memory grown")},
    },
}


def unit_of(key):
    if key == "ready":
        return "s"
    if "idle" in key or key == "glue b256":
        return "us"
    for start, unit in (("memory", "MiB"), ("attention of", "TFLOP/s"), ("attention", "TB/s"),
                        ("glue", "%")):
        if key.startswith(start):
            return unit
    is_time = key.startswith(("step", "prompt", "ttft")) or "itl" in key
    return "ms" if is_time else "tok/s"


def over(row, figure):
    """How much better a row's value is than a figure: above 1 is in MILI's favour."""
    is_time = row["unit"] in ("s", "ms", "us")
    return figure / row["value"] if is_time else row["value"] / figure


def row_of(model, key, value, on_gpu, more=None):
    """A measurement beside its limit, peer and aim, which mean something on a GPU only. `more`: what
    the device did in the steps of a load, or which kernel it was."""
    row = {"model": model, "what": key, "value": value, "unit": unit_of(key), **(more or {})}
    limit, peer, who, aim = FIGURES.get(model, {}).get(key, (None,) * 4)
    if not on_gpu or value <= 0:
        return row
    if limit is not None:
        row["of_limit"] = over(row, limit)
    if peer is not None:
        row |= {"peer": peer, "peer_name": who, "over_peer": over(row, peer)}
    if aim is not None:
        row |= {"aim": aim, "meets_aim": over(row, aim) >= 1}
    return row


def text_of(row):
    """What stands behind a row's value: of limit, peer, over peer, aim, or nothing."""
    if not any(name in row for name in ("of_limit", "peer", "aim")):
        return ""
    limit = f"{100 * row['of_limit']:.0f} %" if "of_limit" in row else "-"
    peer, over_peer, aim = "-  ", "-  ", "-"
    if "peer" in row:
        peer, over_peer = f"{row['peer']:g} {row['peer_name']}", f"{row['over_peer']:.2f}x"
    if "aim" in row:
        aim = f"{row['aim']:>8g} {'met' if row['meets_aim'] else 'missed'}"
    return f" {limit:>8} {peer:>10} {over_peer:>9} {aim:<15}"


def table(rows):
    lines = [f"{'model':<10} {'what':<31} {'value':>10} {'unit':<7} {'of limit':>8} {'peer':>10} "
             f"{'over peer':>9} {'aim':>8}"]
    for row in rows:
        value = row["value"]
        line = f"{row['model']:<10} {row['what']:<31} " + (
            f"{value:>10.0f}" if value >= 1000 else f"{value:>10.3f}") + f" {row['unit']:<7}"
        line += text_of(row)
        if "steps" in row:
            line += (f" {row['steps']:.0f} steps of {row['compute_ms']:.2f} ms, "
                     f"{1e3 * row['idle_ms']:.0f} us between")
        if "kernel" in row:
            line += f" {row['kernel']}"
        lines.append(line)
    return "\n".join(line.rstrip() for line in lines)
