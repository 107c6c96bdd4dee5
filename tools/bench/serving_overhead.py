"""Interleaves the in-process engine with the served one; see serving_overhead."""

import argparse
import datetime
import os
import statistics
import subprocess
import sys

import measure

sys.path.insert(0, str(measure.ROOT / "tests/e2e"))
import harness  # noqa: E402

PROMPT_TOKENS, OUTPUT_TOKENS = 16, 128


def in_process(model, concurrency, worker_args):
    row = measure.run_json([harness.BIN / "mili-worker", "--bench", model, "--bench-prompt-tokens",
                            PROMPT_TOKENS, "--bench-output-tokens", OUTPUT_TOKENS,
                            "--bench-concurrency", concurrency, "--bench-repeat", 3, "--json",
                            *worker_args])
    # Tokens over the whole life of a request, as a client counts them.
    run = next(run for run in row["runs"] if run["concurrency"] == concurrency)
    decode_s = (OUTPUT_TOKENS - 1) * concurrency / run["decode_tokens_per_s"]
    total_s = run["first_token_ms"] / 1e3 + decode_s
    return {"ttft_ms": run["first_token_ms"],
            "tokens_per_s": OUTPUT_TOKENS * concurrency / total_s}


def served(kind, address, concurrency):
    row = measure.run_json([harness.BIN / "mili-load", f"--{kind}", address, "--concurrency",
                            concurrency, "--requests", 5 * concurrency, "--prompt-tokens",
                            PROMPT_TOKENS, "--output-tokens", OUTPUT_TOKENS, "--json"])
    return {"ttft_ms": row["ttft_ms_p50"],
            "tokens_per_s": OUTPUT_TOKENS * concurrency / row["e2e_ms_p50"] * 1e3}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--concurrency", type=lambda text: [int(c) for c in text.split(",")],
                        default=[1, 8], help="requests at a time, such as 1,8")
    parser.add_argument("--threads", help="compute threads of the worker; its own choice otherwise")
    parser.add_argument("--save", metavar="NAME", help="write tools/bench/results/NAME.json")
    options = parser.parse_args()
    if options.model is None:
        options.model = subprocess.run([str(measure.ROOT / "tools/fetch_model")], check=True,
                                       capture_output=True, text=True).stdout.strip()
    worker_args = ["--threads", options.threads] if options.threads else []
    samples = {}
    with harness.Pair(options.model, worker_args) as pair:
        ways = [("engine", lambda c: in_process(options.model, c, worker_args)),
                ("gRPC", lambda c: served("grpc", pair.grpc, c)),
                ("HTTP", lambda c: served("http", pair.http, c))]
        for round_idx in range(options.rounds):
            # Each way is first, second and last in turn, so that drift favours none.
            first = round_idx % len(ways)
            for concurrency in options.concurrency:
                for name, take in ways[first:] + ways[:first]:
                    samples.setdefault((concurrency, name), []).append(take(concurrency))

    def median(concurrency, name, key):
        return statistics.median(sample[key] for sample in samples[concurrency, name])

    result = {"machine": measure.machine(), "date": str(datetime.date.today()),
              "commit": measure.revision(), "model": os.path.basename(options.model),
              "prompt_tokens": PROMPT_TOKENS, "output_tokens": OUTPUT_TOKENS,
              "rounds": options.rounds, "threads": options.threads, "measurements": {}}
    print(f"{result['model']}, {result['machine']}; {PROMPT_TOKENS} -> {OUTPUT_TOKENS} tokens, "
          f"medians of {options.rounds} rounds")
    for concurrency, name in sorted(samples, key=lambda key: (key[0], key[1] != "engine")):
        row = {key: measure.summary([sample[key] for sample in samples[concurrency, name]])
               for key in ("ttft_ms", "tokens_per_s")}
        # Round by round against the engine, since the machine's speed drifts.
        engine = samples[concurrency, "engine"]
        pairs = list(zip(samples[concurrency, name], engine))
        row["added_ttft_ms"] = statistics.median(a["ttft_ms"] - b["ttft_ms"] for a, b in pairs)
        row["tokens_per_s_ratio"] = statistics.median(
            a["tokens_per_s"] / b["tokens_per_s"] for a, b in pairs)
        result["measurements"][f"{concurrency} {name}"] = row
        print(f"{concurrency} at a time, {name:<7} {row['tokens_per_s']['median']:8.1f} tokens/s "
              f"({row['tokens_per_s_ratio']:.3f} of the engine), TTFT "
              f"{row['ttft_ms']['median']:7.2f} ms (+{row['added_ttft_ms']:.2f})")
    least, most = min(options.concurrency), max(options.concurrency)
    if least < most:
        gain = median(most, "gRPC", "tokens_per_s") / median(least, "gRPC", "tokens_per_s")
        result[f"streams_{most}_over_{least}"] = gain
        print(f"{most} streams give {gain:.2f}x the tokens/s of {least}")
    if options.save:
        measure.save(options.save, result)


if __name__ == "__main__":
    main()
