"""tools/bench/gpu, from a bundle and without a GPU: what it measures, and what it says of it."""

import argparse
import http.server
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
from unittest import mock

import harness

sys.path.insert(0, str(harness.ROOT / "tools/bench/gpu"))
import device  # noqa: E402
import kernels  # noqa: E402
import parity  # noqa: E402
import peers  # noqa: E402
import programs  # noqa: E402
import served  # noqa: E402
import shapes  # noqa: E402
import steps  # noqa: E402


WITH_TRANSFORMERS = unittest.skipUnless(
    importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"),
    "no torch and transformers")


def run_bench(command, *args):
    """(exit code, what it wrote as JSON, what it printed)."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.json"
        done = subprocess.run([sys.executable, command, "--device", "cpu", "--out", out, *args],
                              capture_output=True, text=True)
        report = json.loads(out.read_text()) if out.exists() else None
        return done.returncode, report, done.stdout + done.stderr


class GpuBenchTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = pathlib.Path(tempfile.mkdtemp(prefix="mili-gpu-bench-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.root)
        # A checkpoint that is there is not made again.
        cls.work = cls.root / "work"
        shutil.copytree(harness.tiny_model("qwen3"), cls.work / "tiny")
        subprocess.run([harness.ROOT / "tools/bundle", "--bench", "--bin-dir", harness.BIN, "--out",
                        cls.root / "bundle"], check=True, capture_output=True)

    def test_a_bundle_measures_steps_and_serving(self):
        code, report, text = run_bench(self.root / "bundle/bench/gpu/run", "--models", "tiny",
                                       "--only", "steps,served", "--work", self.work)
        self.assertEqual((code, report["failures"]), (0, []), text)
        measured = {row["what"]: row["value"] for row in report["rows"]}
        self.assertEqual(set(measured), {"step b1", "idle b1", "step b4", "idle b4", "prompt 128",
                                         "ready", "ttft 16", "c4 16->32", "c4 16->32 gRPC",
                                         "c4 16->480", "served idle b4"})
        for what, value in measured.items():
            self.assertGreater(value, 0, what)
        # What the device did: 16 requests, 4 at a time, of 16 tokens and 32 more.
        for row in report["rows"][-4:-2]:
            self.assertGreaterEqual(row["steps"], 4 * 32)
            self.assertLessEqual(row["steps"] * row["tokens_per_step"], 16 * (16 + 32))
            self.assertGreater(row["compute_ms"], 0)
        steady = report["rows"][-1]
        self.assertLessEqual(steady["steady_steps"], 480)
        self.assertLess(steady["value"], 1e3 * steady["step_ms"])

    def test_what_fails_is_named_and_does_not_stop_the_rest(self):
        bin_dir = self.root / "bin"
        bin_dir.mkdir()
        for name in ("mili", "mili-router", "mili-worker"):
            (bin_dir / name).symlink_to(harness.BIN / name)
        (bin_dir / "mili-load").write_text("#!/bin/sh\necho no luck >&2\nexit 3\n")
        (bin_dir / "mili-load").chmod(0o755)
        code, report, text = run_bench(
            harness.ROOT / "tools/bench/gpu/run", "--models", "tiny", "--only", "served", "--work",
            self.work, "--bin-dir", bin_dir)
        self.assertEqual((code, report is None), (1, False), text)
        self.assertEqual(report["failures"], [
            f"tiny: {what}: mili-load: exit code 3: no luck"
            for what in ("ttft 16", "c4 16->32", "c4 16->32 gRPC", "c4 16->480")])
        self.assertEqual([row["what"] for row in report["rows"]], ["ready"])

    def test_a_program_that_hangs_is_ended_with_its_children(self):
        fifo = self.root / "fifo"
        os.mkfifo(fifo)
        # Ends when no process has the other end open any more.
        with subprocess.Popen(["cat", fifo]) as reader:
            text = programs.run(["sh", "-c", f"sleep 100 >{fifo} & echo begun; wait"], 1.0,
                                keep_partial=True)
            self.assertEqual(reader.wait(20), 0)
        self.assertEqual(text, "begun\nsh: not done after 1 s\n")
        with self.assertRaisesRegex(programs.Failure, "^sh: exit code 4: no luck"):
            programs.run(["sh", "-c", "echo no luck >&2; exit 4"], 20)

    def test_the_time_of_a_step_is_that_of_all_its_sequences(self):
        runs = [{"concurrency": count, "decode_tokens_per_s": 2000, "idle_p50_ms": 0.003}
                for count in (1, 4)]
        with mock.patch.object(steps, "bench", return_value={"runs": runs, "first_token_ms": 7}):
            options = argparse.Namespace(device="cpu", repeat=1)
            measured = dict(steps.measure(options, "tiny", self.work / "tiny", programs.Budget(20)))
        self.assertEqual(measured, {"step b1": 0.5, "idle b1": 3, "step b4": 2, "idle b4": 3,
                                    "prompt 128": 7})

    def test_one_run_of_a_prompt_is_not_enough_for_a_captured_step(self):
        with mock.patch.object(programs, "run_json", return_value={"runs": [], "first_token_ms": 7}
                               ) as asked:
            options = argparse.Namespace(device="cpu", repeat=1, bin_dir=self.root)
            list(steps.measure(options, "tiny", self.work / "tiny", programs.Budget(20)))
        commands = [call.args[0] for call in asked.call_args_list]
        self.assertEqual([command[command.index("--bench-repeat") + 1] for command in commands],
                         [1, 5])

    def test_a_step_gets_no_more_than_the_time_left(self):
        self.assertLessEqual(programs.Budget(10).left(100), 10)
        self.assertFalse(programs.Budget(10).is_spent())
        self.assertTrue(programs.Budget(0).is_spent())
        with self.assertRaisesRegex(programs.Failure, "no time left"):
            programs.Budget(0).left(100)

    def test_ratios_above_one_are_in_our_favour(self):
        step = peers.row_of("8b", "step b64", 7.2, True)
        self.assertAlmostEqual(step["of_limit"], 5.85 / 7.2)
        self.assertAlmostEqual(step["over_peer"], 8.37 / 7.2)
        self.assertTrue(step["meets_aim"])
        rate = peers.row_of("8b", "256 x 128->512", 16000, True)
        self.assertAlmostEqual(rate["over_peer"], 16000 / 15991)
        self.assertFalse(rate["meets_aim"])
        self.assertIn("missed", peers.table([rate]))
        # Without a peer.
        idle = peers.row_of("8b", "served idle b64", 4.0, True)
        self.assertEqual((idle["unit"], idle["meets_aim"], "peer" in idle), ("us", True, False))
        attention = peers.row_of("8b", "attention 64 x 1k", 2.4, True)
        self.assertAlmostEqual(attention["of_limit"], 0.8)
        self.assertFalse(attention["meets_aim"])
        self.assertNotIn("peer", peers.row_of("8b", "step b64", 7.2, False))

    def test_every_figure_with_a_peer_is_measured(self):
        decodes = {name for *_, names in steps.DECODES["full"] for name in names.values()}
        beside = {"c64 2048->128 itl p99", "itl p99 beside 8k", "ttft 8k beside 32"}
        memory = {"memory at ready", "memory grown"}
        figures = {key for model, key in self.aims_of_kernels() if model == "8b"}
        large = {served.large_steps_name(name) for name in served.LOADS["full"]}
        idle = {served.IDLE[name] for name in served.LOADS["full"] if name in served.IDLE}
        measured = {"ready", *beside, *memory, *(large & set(peers.FIGURES["8b"])), *decodes,
                    *steps.PROMPTS["full"].values(), *served.FIRST_TOKENS["full"].values(),
                    *served.LOADS["full"], *served.ITL.values(), *idle, *figures}
        # Measured for what the device does between its steps alone.
        self.assertEqual(measured, {*peers.FIGURES["8b"], "c8 128->256"})
        self.assertLessEqual(set(peers.FIGURES["0.6b"]), measured)
        of_fp8 = {key for model, key in self.aims_of_kernels() if model == "8b-fp8"}
        self.assertEqual({*decodes, *steps.PROMPTS["full"].values(), *served.LOADS["fp8"],
                          "served idle b256", *memory, *of_fp8}, set(peers.FIGURES["8b-fp8"]))

    @staticmethod
    def aims_of_kernels():
        return set().union(*(wanted for *_, wanted in kernels.AIMS))

    def fake_benches(self, folder, attention):
        """Programs that print what the benches of a GPU's kernels print; `attention` is a script."""
        folder.mkdir()
        glue = "".join(f"{kernel:<22} {model:<5} {tokens:6} {9:9.2f} {us:9.2f} {share:7.1f}\n"
                       for model in ("0.6B", "8B")
                       for kernel, tokens, us, share in (
                           ("qkv_prepare", 64, 9, 1), ("qkv_prepare", 256, 2.51, 55.7),
                           ("silu_mul", 256, 1.9, 82), ("silu_mul fp8", 256, 3.4, 80),
                           ("silu_mul", 1024, 7.55, 83.3), ("add_rms_norm", 4096, 12.77, 87.6),
                           ("silu_mul fp8", 4096, 21.9, 79.5)))
        for name, script in (("cuda_attention_bench", attention),
                             ("cuda_glue_bench", f"cat <<END\n{glue}END\n")):
            (folder / name).write_text(f"#!/bin/sh\n{script}")
            (folder / name).chmod(0o755)
        return folder

    ATTENTION = "".join(
        f"prompt {heads:2}/8 heads of 128  8192           {kind:<8} {1100:9.2f} us  {rate:6.1f} TFLOP/s\n"
        for heads in (32, 16) for kind, rate in (("portable", 300), ("", 601.5))) + "".join(
        f"decode {heads:2}/8 heads of 128  {load:<14} {pdl:<3} {us:9.2f} us  limit {90:9.2f} us  90.0 %\n"
        for heads in (32, 16) for load in ("64 x 1024", "64 x 4096", "256 x 1024")
        for pdl, us in (("", 120), ("pdl", 100)))

    def test_figures_of_kernels_are_of_what_is_served(self):
        folder = self.fake_benches(self.root / "kernels", f"cat <<END\n{self.ATTENTION}END\n")
        models = ("0.6b", "8b", "8b-fp8")
        measured = list(kernels.measure(folder, models, programs.Budget(20)))
        self.assertEqual({item[:2] for item in measured}, self.aims_of_kernels())
        figures = {item[:2]: item[2] for item in measured}
        self.assertAlmostEqual(figures["8b", "attention 64 x 1k"], 3.0 * 90 / 100)
        self.assertEqual(figures["0.6b", "attention of prompt 8k"], 601.5)
        self.assertEqual([item for item in measured if "glue" in item[1]], [
            ("0.6b", "glue b256", 2.51, {"kernel": "qkv_prepare"}),
            ("0.6b", "glue from 1k", 83.3, {"kernel": "silu_mul at 1024"}),
            ("8b", "glue b256", 2.51, {"kernel": "qkv_prepare"}),
            ("8b", "glue from 1k", 83.3, {"kernel": "silu_mul at 1024"}),
            ("8b-fp8", "glue b256", 3.4, {"kernel": "silu_mul fp8"}),
            ("8b-fp8", "glue from 1k", 79.5, {"kernel": "silu_mul fp8 at 4096"})])
        only = kernels.measure(folder, ["0.6b"], programs.Budget(20))
        self.assertEqual({item[0] for item in only}, {"0.6b"})

    def test_a_bench_that_is_cut_before_its_aims_is_a_failure(self):
        lines = self.ATTENTION.splitlines(keepends=True)
        folder = self.fake_benches(self.root / "cut",
                                   f"cat <<END\n{''.join(lines[:-2])}END\nexec sleep 100")
        measured = list(kernels.measure(folder, ["0.6b", "8b"], programs.Budget(2)))
        self.assertIn(("0.6b", "attention 64 x 4k", 2.7), measured)
        failures = [str(item) for item in measured if isinstance(item, programs.Failure)]
        self.assertRegex(failures[0], "^cuda_attention_bench: not measured: 0.6b attention 256 x 1k; "
                                      r"cuda_attention_bench: not done after \d s$")
        # No time is left for the other.
        self.assertEqual(failures[1:], ["cuda_glue_bench: no time left"])

    def test_a_bench_that_time_ran_out_for_is_listed_and_one_that_ends_badly_fails(self):
        folder = self.fake_benches(self.root / "benches", "[ \"$1\" = aims ] || { echo a row; exit 3; }\n"
                                   f"cat <<END\n{self.ATTENTION}END\n")
        for name, script in (("mili", "echo mili 0.1.0"), ("cuda_linear_bench", "echo one; sleep 100")):
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        work = self.root / "shapes"
        (work / "0.6b").mkdir(parents=True)
        (work / "0.6b/config.json").write_text("{}")
        code, report, text = run_bench(
            harness.ROOT / "tools/bench/gpu/run", "--device", "cuda", "--models", "0.6b", "--only",
            "kernels,benches", "--seconds", "4", "--work", work, "--bin-dir", folder)
        self.assertEqual((code, report["failures"]), (1, ["benches: cuda_attention_bench: exit code 3: "]))
        self.assertEqual({row["what"] for row in report["rows"]},
                         {key for model, key in self.aims_of_kernels() if model == "0.6b"}, text)
        self.assertEqual(report["kernels"]["cuda_attention_bench"][0], "a row")
        self.assertEqual(report["kernels"]["cuda_linear_bench"][0], "one")
        self.assertRegex(report["cut"][0], "^cuda_linear_bench: not done after [1-4] s$")
        self.assertEqual(report["cut"][1:], ["cuda_glue_bench: no time left"])
        self.assertIn("cut: cuda_linear_bench: not done", text)

    def test_idle_time_is_that_of_steps_that_decode_all_sequences_and_nothing_else(self):
        pages = [(100, 900, 1.0, 5.0),        # before the load
                 (110, 4000, 1.05, 9.0),      # prompts, and the wait for them
                 (160, 4400, 1.30, 9.0001),   # 50 steps of 8, 2 us between two
                 (210, 4800, 1.55, 9.0004),   # 50 more, 6 us
                 (260, 5190, 1.80, 9.1),      # one has ended
                 (260, 5190, 1.80, 9.1)]
        text = "".join(f"# HELP {name} x\n# TYPE {name} counter\n{name} %s\n"
                       for name in device.TOTALS.values())
        wanted = text.replace("_count %s", "_count %d")
        unread = [wanted % (steps, tokens, compute, idle) for steps, tokens, compute, idle in pages]
        all_read = threading.Event()

        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write((unread.pop(0) if unread else wanted % pages[-1]).encode())
                if not unread:
                    all_read.set()

            def log_message(self, *_):
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            with device.Readings(f"127.0.0.1:{server.server_port}") as readings:
                self.assertTrue(all_read.wait(20))
            server.shutdown()
        steady = readings.steady(8)
        self.assertEqual(steady["steps"], 100)
        self.assertAlmostEqual(steady["idle_us"], 4)
        self.assertAlmostEqual(steady["step_ms"], 5.004)
        with self.assertRaisesRegex(programs.Failure, "shows 7 sequences decoded and nothing else"):
            readings.steady(7)
        with self.assertRaisesRegex(ValueError, "no mili_step_duration_seconds_count"):
            device.totals_of("other 3\n")

    def test_memory_may_grow_by_what_the_plan_holds_for_that(self):
        room = served.planned_mib("KV cache   69720.0 MiB = 39840 pages\ngraphs     130.2 MiB\n"
                                  "reserve    256.0 MiB\ntotal      72443.8 MiB\n")
        self.assertAlmostEqual(room, 386.2)
        within = list(served.memory_figures(70000, 70100, 70110, room))
        self.assertEqual(within, [("memory at ready", 70000), ("memory grown", 110,
                                  {"grown_in_loads": 100, "room": room})])
        *_, failure = served.memory_figures(70000, 70100, 70390, room)
        self.assertRegex(str(failure), "grew by 390 MiB after ready, for which the plan holds 386")

    def test_the_tables_of_documents_are_made_of_what_was_written(self):
        load = {"steps": 530.4, "tokens_per_step": 308.6, "compute_ms": 13.87, "idle_ms": 0.0081}
        old = {"rows": [peers.row_of("tiny", "c4 16->32", 14000.0, True, load),
                        peers.row_of("8b", "step b1", 9.0, True),
                        peers.row_of("8b", "256 x 128->512", 17795.2, True, load)]}
        new = {"rows": [peers.row_of("8b", "step b1", 5.366, True),
                        peers.row_of("8b-fp8", "step b64", 5.054, True)],
               "parity": {"8b": {"model": "8b", "cosine": 0.9999651, "bf16": 0.9999724, "wrong": 0,
                                 "decoded": 0.9999641, "decoded_bf16": 0.9999731, "tokens": 216,
                                 "equal": 207, "near_ties": 9, "near": 0.23, "same_alone": 2}}}
        files = [self.root / "old.json", self.root / "new.json"]
        for file, record in zip(files, (old, new)):
            file.write_text(json.dumps(record))
        done = subprocess.run([harness.ROOT / "tools/bench/gpu/markdown.py", *files],
                              capture_output=True, text=True, check=True)
        for line in ("| step b1, ms | 5.37 | 94 % | 1.24 s | 5.95 |",
                     "| 256 x 128->512, tok/s | 17,795 | 76 % | 1.11 v | 18,000, missed |",
                     "| step b64, ms | 5.05 | 70 % | 1.20 v | 4.7, missed |",
                     "3 of 3 figures with a peer beat the better one, 1 of 3 meet their aim. "
                     "Missed: 8B 256 x 128->512 by 1.1 %, 8B fp8 step b64 by 7.5 %.",
                     "| 8B 256 x 128->512 | 530 | 309 | 13.87 | 8 |",
                     "| 8B | 0.999965 | 0.999972 | 0.999964 | 0.999973 | 207 of 216 | 9, 0.230 | 0 "
                     "| 2 of 9 |"):
            self.assertIn(line, done.stdout.splitlines())
        self.assertNotIn("c4 16->32", done.stdout)

    def test_parity_wants_close_logits_and_right_tokens(self):
        good = {"cosine": 0.99995, "worst": 0.9999, "bf16": 0.9999, "decoded": 0.99995, "equal": 30,
                "tokens": 32, "near": 0.05, "near_ties": 2, "wrong": 0, "same_alone": 9}
        self.assertTrue(parity.verdict(good)[0])
        for fault in ({"cosine": 0.9998}, {"decoded": 0.9998}, {"wrong": 1},
                      {"cosine": float("nan")}, {"decoded": float("nan")}):
            self.assertFalse(parity.verdict({**good, **fault})[0], fault)

    def test_an_answer_alone_is_judged_as_far_as_it_follows_the_same_tokens(self):
        together = {"prompt": [5, 6, 7], "tokens": list(range(24)), "scored": list(range(26))}
        alone = {**together, "tokens": [0, 1, 9] + [3] * 21}
        self.assertEqual(parity.until_unlike(alone, together),
                         {"tokens": [0, 1, 9], "scored": [0, 1, 2, 3, 4]})
        self.assertEqual(parity.until_unlike(together, together),
                         {"tokens": together["tokens"], "scored": together["scored"]})

    def test_shapes_are_exact(self):
        def parameters(model):
            total = 0
            for _, shape in shapes.tensors_of(shapes.CONFIGS[model]):
                total += shape[0] * (shape[1] if len(shape) > 1 else 1)
            return total

        self.assertEqual(parameters("0.6b"), 596_049_920)
        self.assertEqual(parameters("8b"), 8_190_735_360)

    @WITH_TRANSFORMERS
    def test_checkpoints_agree_with_transformers(self):
        code, report, text = run_bench(
            harness.ROOT / "tools/bench/gpu/run", "--models", "tiny,tiny-qwen2,tiny-llama",
            "--only", "parity", "--work", self.root / "made", "--bin-dir", harness.BIN)
        self.assertEqual(code, 0, text)
        for model in ("tiny", "tiny-qwen2", "tiny-llama"):
            self.assertGreater(report["parity"][model]["cosine"], 0.9999)

    @WITH_TRANSFORMERS
    def test_a_fault_of_decoding_alone_is_found(self):
        """A server that rotates by other angles; its prompts' logits are put right again."""
        right, wrong = self.root / "right/tiny", self.root / "wrong"
        subprocess.run([sys.executable, harness.ROOT / "tools/bench/gpu/checkpoints.py",
                        right.parent, "cpu", "tiny"], check=True, capture_output=True)
        shutil.copytree(right, wrong)
        config = json.loads((wrong / "config.json").read_text())
        (wrong / "config.json").write_text(json.dumps({**config, "rope_theta": 300000}))
        asked = []
        for checkpoint in (right, wrong):
            with programs.Serve(harness.BIN, checkpoint, ["--device", "cpu"], 60) as serve:
                asked.append(parity.answers_of(serve, config["vocab_size"], programs.Budget(60)))
        for good, bad in zip(asked[0]["answers"], asked[1]["answers"]):
            of_prompt = len(bad["prompt"]) - 1
            bad["scored"][:of_prompt] = good["scored"][:of_prompt]
            bad["alone"]["scored"][:of_prompt] = good["scored"][:of_prompt]
        cases = "".join(json.dumps({"model": name, "checkpoint": str(right), **answers}) + "\n"
                        for name, answers in zip(("right", "wrong"), asked))
        judge = programs.Background([sys.executable, harness.ROOT / "tools/bench/gpu/reference.py",
                                     "cpu"])
        reports = [json.loads(line) for line in judge.finish(100, cases).splitlines()[1:]]
        for report in reports:
            self.assertGreater(report["cosine"], 0.9999)
            is_right = report["model"] == "right"
            self.assertEqual(parity.verdict({**report, "same_alone": 0})[0], is_right, report)


if __name__ == "__main__":
    unittest.main()
