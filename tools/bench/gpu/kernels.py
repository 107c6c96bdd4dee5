"""The kernels for which there is an aim, by their own benches: attention and the small ones between."""

import re

import programs

# Rows of cuda_attention_bench -> what they are called.
DECODES = {"64 x 1024": "attention 64 x 1k", "64 x 4096": "attention 64 x 4k",
           "256 x 1024": "attention 256 x 1k"}
PROMPTS = {"8192": "attention of prompt 8k"}
MODEL_OF_HEADS = {"16": "0.6b", "32": "8b"}
# Of cuda_glue_bench: what runs in a step of bf16, and in one of fp8.
GLUE = {"bf16": ("add_rms_norm", "silu_mul", "qkv_prepare", "embed + norm"),
        "fp8": ("add_rms_norm fp8", "silu_mul fp8", "qkv_prepare", "embed + norm", "quantize_fp8")}
READ_TB_S = 3.0


def attention_figures(text):
    """(model, key, value) of what `cuda_attention_bench aims` prints: TB/s of KV, TFLOP/s. Only with
    early starts and Hopper's own kernels, as they are served."""
    for heads, row, us, limit_us in re.findall(
            r"^decode +(\d+)/\d+ heads of +\d+  (.{14}) pdl +([\d.]+) us +limit +([\d.]+) us", text,
            re.M):
        if row.strip() in DECODES:
            yield (MODEL_OF_HEADS[heads], DECODES[row.strip()],
                   READ_TB_S * float(limit_us) / float(us))
    for heads, row, tflop_s in re.findall(
            r"^prompt +(\d+)/\d+ heads of +\d+  (.{14}) {9,}[\d.]+ us +([\d.]+) TFLOP/s", text, re.M):
        if row.strip() in PROMPTS:
            yield MODEL_OF_HEADS[heads], PROMPTS[row.strip()], float(tflop_s)


def glue_figures(text):
    """(model, key, value, {kernel}) of what `cuda_glue_bench rows` prints: the slowest at 256 tokens,
    in us, and the one with the least share of the limit at 1024 or more."""
    by = {}
    for kernel, model, tokens, us, share in re.findall(
            r"^(\S.*?) +(0\.6B|8B) +(\d+) +[\d.]+ +([\d.]+) +([\d.]+)$", text, re.M):
        by[model.lower(), kernel, int(tokens)] = float(us), float(share)
    for model, size, kind in (("0.6b", "0.6b", "bf16"), ("8b", "8b", "bf16"), ("8b-fp8", "8b", "fp8")):
        of_kind = {key[1:]: value for key, value in by.items()
                   if key[0] == size and key[1] in GLUE[kind]}
        small = {key: us for key, (us, _) in of_kind.items() if key[1] == 256}
        large = {key: share for key, (_, share) in of_kind.items() if key[1] >= 1024}
        if small and large:
            slowest, least = max(small, key=small.get), min(large, key=large.get)
            yield model, "glue b256", small[slowest], {"kernel": slowest[0]}
            yield model, "glue from 1k", large[least], {"kernel": f"{least[0]} at {least[1]}"}


# Program, its arguments, what its text says, and of which figures.
AIMS = (("cuda_attention_bench", ("aims",), attention_figures,
         {(model, key) for model in MODEL_OF_HEADS.values()
          for key in (*DECODES.values(), *PROMPTS.values())}),
        ("cuda_glue_bench", ("rows",), glue_figures,
         {(model, key) for model in ("0.6b", "8b", "8b-fp8") for key in ("glue b256", "glue from 1k")}))


def measure(bin_dir, models, budget):
    """Yields (model, key, value) of `models`, with the kernel where it is one of several, or a Failure
    for what did not work: a figure that is missing is one."""
    for program, args, figures_of, wanted in AIMS:
        wanted = {figure for figure in wanted if figure[0] in models}
        if not wanted:
            continue
        try:
            text = programs.run([bin_dir / program, *args], budget.left(60), True)
        except (programs.Failure, OSError) as failure:
            yield programs.Failure(f"{program}: {failure}")
            continue
        for figure in figures_of(text):
            if figure[:2] in wanted:
                wanted.remove(figure[:2])
                yield figure
        if wanted:
            named = ", ".join(f"{model} {key}" for model, key in sorted(wanted))
            last = (text.splitlines() or ["it printed nothing"])[-1]
            yield programs.Failure(f"{program}: not measured: {named}; {last}")
