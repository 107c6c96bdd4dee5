"""Interleaves mili-worker --bench and llama.cpp and prints the ratios; see cpu_peer."""

import argparse
import datetime
import os
import subprocess

import measure

SHAPES = {"decode": (16, 128), "prompt 512": (512, 8)}
KEYS = {"decode": "decode_tokens_per_s", "prompt 512": "prefill_tokens_per_s"}


def ours(options, prompt_tokens, output_tokens):
    return measure.run_json([
        measure.ROOT / "build/cpu/bin/mili-worker", "--bench", options.model, "--threads",
        options.threads, "--bench-prompt-tokens", prompt_tokens, "--bench-output-tokens",
        output_tokens, "--bench-concurrency", 1, "--bench-repeat", 1, "--json"])


def peers(options, prompt_tokens, output_tokens):
    return measure.run_json([
        options.peer_python, measure.ROOT / "tools/bench/llama_cpp_bench.py", options.model,
        prompt_tokens, output_tokens, options.threads])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--save", metavar="NAME", help="write tools/bench/results/NAME.json")
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--peer-version", required=True)
    options = parser.parse_args()
    if options.model is None:
        options.model = subprocess.run([str(measure.ROOT / "tools/fetch_model")], check=True,
                                       capture_output=True, text=True).stdout.strip()

    result = {"machine": measure.machine(), "date": str(datetime.date.today()),
              "commit": measure.revision(), "threads": options.threads,
              "model": os.path.basename(options.model),
              "peer": f"llama-cpp-python {options.peer_version}", "pairs": options.pairs,
              "measurements": {}}
    print(f"{result['model']}, {result['machine']}, {options.threads} threads used; "
          f"medians (min to max) of {options.pairs} interleaved pairs, tokens/s")
    for name, shape in SHAPES.items():
        mine, theirs = [], []
        for _ in range(options.pairs):
            mine.append(ours(options, *shape)[KEYS[name]])
            theirs.append(peers(options, *shape)[KEYS[name]])
        ratios = [a / b for a, b in zip(mine, theirs)]
        rows = {"mili": mine, "llama.cpp": theirs, "ratio": ratios}
        result["measurements"][name] = {key: measure.summary(row) for key, row in rows.items()}
        for key, row in rows.items():
            stats = measure.summary(row)
            digits = 2 if key == "ratio" else 1
            print(f"{name:<11} {key:<10} {stats['median']:9.{digits}f} "
                  f"({stats['min']:.{digits}f} to {stats['max']:.{digits}f})")
    if options.save:
        measure.save(options.save, result)


if __name__ == "__main__":
    main()
