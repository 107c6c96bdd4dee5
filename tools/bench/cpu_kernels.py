"""Runs kernels_bench and prints its figures as a table; started by tools/bench/cpu_kernels."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

import measure

PEAKS = ["int8", "int16", "bf16", "fp32"]


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--filter", default=".")
    parser.add_argument("--min-time", type=float, default=0.15, help="seconds a kernel and round")
    parser.add_argument("--rounds", type=int, default=3, help="all kernels are run so often, in turn")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--isa")
    parser.add_argument("--save", metavar="NAME")
    parser.add_argument("--resume", action="store_true", help="add to what --save NAME wrote before")
    parser.add_argument("--bin-dir", type=pathlib.Path, default=measure.ROOT / "build/cpu/bin")
    return parser.parse_args()


def run(options):
    """kernels_bench's JSON: {"context": ..., "benchmarks": [...]}."""
    env = dict(os.environ)
    if options.threads:
        env["MILI_BENCH_THREADS"] = str(options.threads)
    if options.isa:
        env["MILI_BENCH_TABLE"] = options.isa
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        done = subprocess.run(
            [options.bin_dir / "kernels_bench", f"--benchmark_filter={options.filter}",
             f"--benchmark_min_time={options.min_time}", f"--benchmark_out={out.name}",
             "--benchmark_out_format=json"], env=env, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit(f"kernels_bench ended with {done.returncode}: {done.stderr.strip()}")
        return json.loads(pathlib.Path(out.name).read_text())


def to_row(benchmark):
    row = {"kernel": benchmark["name"].removesuffix("/manual_time"),
           "us": benchmark["real_time"] / 1e3,  # Google Benchmark's unit is ns unless told
           "gb_per_s": benchmark["bytes_per_second"] / 1e9, "of_read": benchmark["of_read"],
           "read_gb_per_s": benchmark["read_bytes/s"] / 1e9}
    if "mac/s" in benchmark:
        row["gmac_per_s"] = benchmark["mac/s"] / 1e9
    if "of_peak" in benchmark:
        row["of_peak"] = benchmark["of_peak"]
    return row


def median(rows, key, scale=1):
    return scale * statistics.median(row[key] for row in rows)


def spread(rows, key):
    """The median, and the least and the most as percent."""
    if key not in rows[0]:
        return ""
    text = f"{median(rows, key, 100):.0f} %"
    if len(rows) > 1:
        values = [100 * row[key] for row in rows]
        text += f" ({min(values):.0f} to {max(values):.0f})"
    return text


def print_table(rows):
    print("| kernel | time, us | GB/s | of read | at GB/s | GMAC/s | of peak |")
    print("|---|---|---|---|---|---|---|")
    for kernel in dict.fromkeys(row["kernel"] for row in rows):
        of = [row for row in rows if row["kernel"] == kernel]
        rate = f"{median(of, 'gmac_per_s'):.0f}" if "gmac_per_s" in of[0] else ""
        print(f"| {kernel} | {median(of, 'us'):.1f} | {median(of, 'gb_per_s'):.1f} "
              f"| {spread(of, 'of_read')} | {median(of, 'read_gb_per_s'):.0f} "
              f"| {rate} | {spread(of, 'of_peak')} |")


def main():
    options = parse()
    before = measure.load(options.save, {}) if options.resume else {}
    rows, runs = before.get("kernels", []), before.get("peaks", [])
    for _ in range(options.rounds):
        result = run(options)
        context = result["context"]
        runs.append({kind: float(context[f"{kind}_macs_per_s"]) for kind in PEAKS})
        rows += [to_row(benchmark) for benchmark in result["benchmarks"]]
    peaks = ", ".join(f"{kind} {median(runs, kind, 1e-9):.0f}" for kind in PEAKS)
    print(f"{measure.machine()}; {context['table']} on {context['threads']} threads; cold memory of "
          f"{int(context['cold_bytes']) >> 20} MiB; peak GMAC/s: {peaks} (0: no such instruction)\n")
    print_table(rows)
    if options.save:
        measure.save(options.save, {"machine": measure.machine(), "revision": measure.revision(),
                                    "table": context["table"], "threads": int(context["threads"]),
                                    "cold_bytes": int(context["cold_bytes"]), "peaks": runs,
                                    "kernels": rows})


main()
