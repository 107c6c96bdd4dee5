"""Measures mili-worker, llama.cpp and ik_llama.cpp in turns on the same files; see cpu_peer."""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess

import measure

DECODE_TOKENS = 64
STREAMS = 8
# What is measured, in tokens/s. All decode the same number of tokens.
NAMES = {"decode": "decode, batch 1", "decode 128": "decode, after 128 tokens",
         "prompt": "prompt of 512 tokens", "streams": f"{STREAMS} streams, all together"}


def mili(options, model):
    def bench(prompt_tokens, output_tokens, concurrency):
        return measure.run_json([
            options.bin_dir / "mili-worker", "--bench", model, "--threads", options.threads,
            "--bench-prompt-tokens", prompt_tokens, "--bench-output-tokens", output_tokens,
            "--bench-concurrency", concurrency, "--bench-repeat", 1, "--json"])["runs"]

    # The first output token is the prompt's.
    single, streams = bench(1, DECODE_TOKENS + 1, f"1,{STREAMS}")
    return {"decode": single["decode_tokens_per_s"], "streams": streams["decode_tokens_per_s"],
            "decode 128": bench(128, DECODE_TOKENS + 1, 1)[0]["decode_tokens_per_s"],
            "prompt": bench(512, 1, 1)[0]["prefill_tokens_per_s"]}


def json_lines(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def llama_cpp(options, model):
    """Flash attention is the faster of its settings on every CPU tried."""
    common = ["-m", model, "-t", options.threads, "-r", 1, "-fa", "on", "-o", "jsonl"]
    bench = options.llama_cpp / "llama-bench"
    prompt, decode = json_lines([bench, *common, "-p", 512, "-n", DECODE_TOKENS])
    (deep,) = json_lines([bench, *common, "-p", 0, "-n", DECODE_TOKENS, "-d", 128])
    (streams,) = json_lines([
        options.llama_cpp / "llama-batched-bench", "-m", model, "-t", options.threads, "-tb",
        options.threads, "-fa", "on", "-c", 2048, "-b", 512, "-npp", 1, "-ntg", DECODE_TOKENS,
        "-npl", STREAMS, "--output-format", "jsonl"])
    return {"decode": decode["avg_ts"], "decode 128": deep["avg_ts"], "prompt": prompt["avg_ts"],
            "streams": streams["speed_tg"]}


def ik_llama_cpp(options, model):
    done = subprocess.run([str(part) for part in [
        options.ik, "-m", model, "-t", options.threads, "-r", 1, "-fa", 1, "-rtr", 1, "-p", 512,
        "-n", DECODE_TOKENS, "-gp", f"128,{DECODE_TOKENS}", "-o", "json"]],
        capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{options.ik} ended with {done.returncode}: {done.stderr.strip()}")
    prompt, decode, deep = json.loads(done.stdout[done.stdout.index("["):])
    return {"decode": decode["avg_ts"], "decode 128": deep["avg_ts"], "prompt": prompt["avg_ts"]}


def read_share(options, model):
    """Of the bandwidth, by steps and plain reads of the weights in turns."""
    share = measure.run_json([options.bin_dir / "mili-cpu-decode-bench", model, options.threads])
    return {"of_read": share["of_read"], "GB/s": share["read_gb_per_s"]}


def measure_pair(options, model, runs):
    """One turn of every program, appended to runs[program][name]."""
    engines = {"mili": mili, "read": read_share, "llama.cpp": llama_cpp}
    if options.ik:
        engines["ik_llama.cpp"] = ik_llama_cpp
    for engine, run in engines.items():
        for name, speed in run(options, model).items():
            runs.setdefault(engine, {}).setdefault(name, []).append(speed)


def spread(values, digits=0):
    return (f"{statistics.median(values):,.{digits}f} "
            f"({min(values):,.{digits}f} to {max(values):,.{digits}f})")


def ratios(a, b):
    return [x / y for x, y in zip(a, b)]


def print_table(models):
    """Markdown, so that it can go into a document as it is."""
    print("| | MILI | llama.cpp | ratio | ik_llama.cpp | ratio | of read bandwidth |")
    print("|---|---|---|---|---|---|---|")
    for model, entry in models.items():
        runs = entry["runs"]
        for name, title in NAMES.items():
            ours = runs["mili"][name]
            cells = [f"{model}: {title}", spread(ours)]
            for peer in ("llama.cpp", "ik_llama.cpp"):
                theirs = runs.get(peer, {}).get(name)
                cells += [spread(theirs), spread(ratios(ours, theirs), 2)] if theirs else ["", ""]
            share = ""
            if name == "decode" and "of_read" in runs["read"]:
                share = f"{statistics.median(runs['read']['of_read']):.0%}"
            print("| " + " | ".join([*cells, share]) + " |")
        print(f"| {model}: streams to one | "
              f"{spread(ratios(runs['mili']['streams'], runs['mili']['decode']), 2)} |  |  |  |  |  |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", type=pathlib.Path)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--ik", type=pathlib.Path, metavar="LLAMA_BENCH")
    parser.add_argument("--save", metavar="NAME", help="write tools/bench/results/NAME.json")
    parser.add_argument("--resume", action="store_true",
                        help="add the pairs to those that NAME.json holds")
    parser.add_argument("--bin-dir", type=pathlib.Path, default=measure.ROOT / "build/cpu/bin")
    parser.add_argument("--llama-cpp", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--peer-version", required=True)
    options = parser.parse_args()
    if options.resume and not options.save:
        parser.error("--resume needs --save")
    if not options.models:
        fetched = subprocess.run([str(measure.ROOT / "tools/fetch_model")], check=True,
                                 capture_output=True, text=True).stdout.strip()
        options.models = [pathlib.Path(fetched)]

    result = {"machine": measure.machine(), "threads": options.threads, "models": {}}
    if options.resume:
        result = measure.load(options.save, result)
    result |= {"date": str(datetime.date.today()), "commit": measure.revision(),
               "peer": f"llama.cpp of llama-cpp-python {options.peer_version}"}
    for model in options.models:
        entry = result["models"].setdefault(model.stem, {"runs": {}})
        for _ in range(options.pairs):
            measure_pair(options, model, entry["runs"])
    if options.save:
        measure.save(options.save, result)
    print(f"{result['machine']}, {options.threads} used; tokens/s, medians (min to max) of "
          "interleaved runs; ratios of neighbours\n")
    print_table(result["models"])


if __name__ == "__main__":
    main()
