"""Runs kernels_bench and prints its figures as a table; started by tools/bench/cpu_kernels."""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile

import measure


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--filter", default=".")
    parser.add_argument("--min-time", type=float, default=0.15, help="seconds a kernel")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--isa")
    parser.add_argument("--save", metavar="NAME")
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
    row = {"kernel": benchmark["name"].removesuffix("/real_time"),
           "us": benchmark["real_time"] / 1e3,  # Google Benchmark's unit is ns unless told
           "gb_per_s": benchmark["bytes_per_second"] / 1e9, "of_read": benchmark["of_read"]}
    if "mac/s" in benchmark:
        row["gmac_per_s"] = benchmark["mac/s"] / 1e9
    if "of_peak" in benchmark:
        row["of_peak"] = benchmark["of_peak"]
    return row


def percent(row, key):
    return f"{100 * row[key]:.0f} %" if key in row else ""


def print_table(rows):
    print("| kernel | time, us | GB/s | of read | GMAC/s | of peak |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        rate = f"{row['gmac_per_s']:.0f}" if "gmac_per_s" in row else ""
        print(f"| {row['kernel']} | {row['us']:.1f} | {row['gb_per_s']:.1f} "
              f"| {percent(row, 'of_read')} | {rate} | {percent(row, 'of_peak')} |")


def main():
    options = parse()
    result = run(options)
    context = result["context"]
    limits = {key: float(context[key]) for key in
              ("read_bytes_per_s", "int8_macs_per_s", "int16_macs_per_s", "fp32_macs_per_s")}
    rows = [to_row(benchmark) for benchmark in result["benchmarks"]]
    print(f"{measure.machine()}; {context['table']} on {context['threads']} threads; read "
          f"{limits['read_bytes_per_s'] / 1e9:.1f} GB/s; peak GMAC/s: int8 "
          f"{limits['int8_macs_per_s'] / 1e9:.0f}, int16 {limits['int16_macs_per_s'] / 1e9:.0f}, fp32 "
          f"{limits['fp32_macs_per_s'] / 1e9:.0f} (0: no such instruction)\n")
    print_table(rows)
    if options.save:
        measure.save(options.save, {"machine": measure.machine(), "revision": measure.revision(),
                                    "table": context["table"], "threads": int(context["threads"]),
                                    "limits": limits, "kernels": rows})


main()
