"""CPU time a token in router and client, with a worker that computes nothing; see router_cost."""

import argparse
import datetime
import json
import resource
import subprocess
import sys
import time

import measure

sys.path.insert(0, str(measure.ROOT / "tests/e2e"))
import harness  # noqa: E402

PROMPT_TOKENS, OUTPUT_TOKENS = 128, 512
STREAMS = (1, 8, 64, 256)


def cpu_s(pid):
    """CPU time of a process so far, its ended threads included (clock_getcpuclockid(3))."""
    return time.clock_gettime(~pid << 3 | 2)


def load(kind, address, streams):
    """mili-load's report and the CPU time that it took itself."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [harness.BIN / "mili-load", f"--{kind}", address, "--concurrency", str(streams),
         "--requests", str(streams), "--prompt-tokens", str(PROMPT_TOKENS), "--output-tokens",
         str(OUTPUT_TOKENS), "--warm-up-tokens", "2", "--json"],
        capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout), spent_s


def sample(kind, address, streams, pids):
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    report, client_s = load(kind, address, streams)
    spent = {name: cpu_s(pid) - before[name] for name, pid in pids.items()} | {"client": client_s}
    row = {key: report[key] for key in ("tokens_per_s", "ttft_ms_p99", "itl_ms_p50", "itl_ms_p99")}
    for name, seconds in spent.items():
        row[f"{name}_us_a_token"] = 1e6 * seconds / report["output_tokens"]
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step-us", type=int, default=2000, help="how long each step takes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", metavar="NAME", help="write tools/bench/results/NAME.json")
    options = parser.parse_args()
    samples = {}
    with harness.Program("mili-fake-worker", "--delay-us", options.step_us, "--max-num-seqs", 256,
                         "--num-pages", 16384, "--max-num-batched-tokens", 2048) as worker:
        worker.wait_for("ready")
        with harness.Program("mili-router", "--worker", worker.addresses["worker"], "--port", 0,
                             "--grpc-port", 0, "--admin-port", 0) as router:
            router.wait_for("ready")
            pids = {"router": router.process.pid, "worker": worker.process.pid}
            for _ in range(options.rounds):
                for streams in STREAMS:
                    for kind in ("grpc", "http"):
                        samples.setdefault((streams, kind), []).append(
                            sample(kind, router.addresses[kind], streams, pids))
    result = {"machine": measure.machine(), "date": str(datetime.date.today()),
              "commit": measure.revision(), "step_us": options.step_us,
              "rounds": options.rounds, "measurements": {}}
    print(f"{result['machine']}; steps of {options.step_us} us; medians of {options.rounds} rounds")
    print("streams  over   tokens/s  of steps' worth  ITL p50, p99 ms  us of CPU a token: router, "
          "client, worker")
    for (streams, kind), rows in samples.items():
        row = {key: measure.summary([one[key] for one in rows]) for key in rows[0]}
        result["measurements"][f"{streams} {kind}"] = row
        median = {key: value["median"] for key, value in row.items()}
        worth = streams / (1e-6 * options.step_us)
        print(f"{streams:>7}  {kind:<4} {median['tokens_per_s']:>10.0f}  "
              f"{100 * median['tokens_per_s'] / worth:>13.0f} %  {median['itl_ms_p50']:>7.2f} "
              f"{median['itl_ms_p99']:>7.2f}  {median['router_us_a_token']:>24.1f} "
              f"{median['client_us_a_token']:>7.1f} {median['worker_us_a_token']:>7.1f}")
    if options.save:
        measure.save(options.save, result)


if __name__ == "__main__":
    main()
