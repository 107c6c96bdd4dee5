"""tools/bench/gpu, from a bundle and without a GPU: what it measures, and what it says of it."""

import argparse
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import harness

sys.path.insert(0, str(harness.ROOT / "tools/bench/gpu"))
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
                                         "ready", "ttft 16", "c4 16->32", "c4 16->32 gRPC"})
        for what, value in measured.items():
            self.assertGreater(value, 0, what)
        # What the device did: 16 requests, 4 at a time, of 16 tokens and 32 more.
        for row in report["rows"][-2:]:
            self.assertGreaterEqual(row["steps"], 4 * 32)
            self.assertLessEqual(row["steps"] * row["tokens_per_step"], 16 * (16 + 32))
            self.assertGreater(row["compute_ms"], 0)

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
            for what in ("ttft 16", "c4 16->32", "c4 16->32 gRPC")])
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
        self.assertNotIn("peer", peers.row_of("8b", "step b64", 7.2, False))

    def test_every_figure_with_a_peer_is_measured(self):
        decodes = {name for *_, names in steps.DECODES["full"] for name in names.values()}
        itl = {"c1 itl", "c64 2048->128 itl p99", "itl p99 beside 8k", "ttft 8k beside 32"}
        large = {served.large_steps_name(name) for name in served.LOADS["full"]}
        measured = {"ready", *itl, *(large & set(peers.FIGURES["8b"])), *decodes,
                    *steps.PROMPTS["full"].values(), *served.FIRST_TOKENS["full"].values(),
                    *served.LOADS["full"]}
        self.assertEqual(measured, set(peers.FIGURES["8b"]))
        self.assertLessEqual(set(peers.FIGURES["0.6b"]), measured)
        self.assertEqual({*decodes, *steps.PROMPTS["full"].values(), *served.LOADS["fp8"]},
                         set(peers.FIGURES["8b-fp8"]))

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
