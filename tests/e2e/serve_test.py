"""`mili serve` as an operator meets it: start, calls, drain, signals, and what can go wrong."""

import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import grpc

import harness


def run(*args, patience_s=60):
    """(exit code, stdout, stderr) of a program that ends by itself."""
    done = subprocess.run([str(harness.BIN / args[0]), *map(str, args[1:])], capture_output=True,
                          text=True, timeout=patience_s, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


def last_line(text):
    return text.strip().splitlines()[-1] if text.strip() else ""


class ServeTest(unittest.TestCase):
    def start_stream(self, server, max_tokens):
        """A gRPC stream that has produced its first token."""
        pb, pb_grpc, _, _ = harness.stubs()
        channel = grpc.insecure_channel(server.grpc)
        self.addCleanup(channel.close)
        request = pb.GenerateRequest(max_tokens=max_tokens, ignore_eos=True, return_token_ids=True)
        request.token_ids.ids.extend([11, 12, 13])
        call = pb_grpc.InferenceStub(channel).GenerateStream(request, timeout=60)
        for response in call:
            if response.HasField("chunk"):
                return call, len(response.chunk.token_ids)
        self.fail("the stream ended before its first token")

    def test_all_probes_and_metrics_answer_and_nothing_survives_sigterm(self):
        with harness.Serve(harness.tiny_model()) as server:
            for path in ("/health", "/ready", "/livez", "/version", "/metrics", "/v1/models", "/"):
                status, _, text = harness.http_call(server.http, "GET", path)
                self.assertEqual(status, 200, f"{path}: {text}")
            self.assertEqual(harness.http_call(server.http, "GET", "/nowhere")[0], 404)
            children = server.children()
            self.assertEqual(set(children), {"mili-router", "mili-worker"})
            server.program.signal(signal.SIGTERM)
            self.assertEqual(server.program.wait(), 0)
            for pid in children.values():
                self.assertFalse(pathlib.Path(f"/proc/{pid}").exists())

    def test_sigterm_lets_running_streams_end_and_refuses_new_ones(self):
        with harness.Serve(harness.tiny_model()) as server:
            call, num_tokens = self.start_stream(server, max_tokens=200)
            server.program.signal(signal.SIGTERM)
            for response in call:
                num_tokens += len(response.chunk.token_ids)
            self.assertEqual(num_tokens, 200)
            self.assertEqual(server.program.wait(), 0)

    def test_second_signal_ends_at_once(self):
        with harness.Serve(harness.tiny_model(), "--shutdown-timeout", "60") as server:
            streams = [self.start_stream(server, max_tokens=200) for _ in range(4)]
            children = server.children()
            # Held back by a stopped worker, the drain cannot end by itself.
            os.kill(children["mili-worker"], signal.SIGSTOP)
            self.start_draining(server)
            server.program.signal(signal.SIGTERM)
            self.assertNotEqual(server.program.wait(10), 0)
            for pid in children.values():
                self.assertFalse(pathlib.Path(f"/proc/{pid}").exists())
            self.assertEqual(len(streams), 4)

    def start_draining(self, server):
        server.program.signal(signal.SIGTERM)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if harness.http_call(server.http, "GET", "/ready")[0] == 503:
                    return
            except OSError:
                return
        self.fail("/ready never turned to 503")

    def test_children_die_with_a_parent_that_is_killed(self):
        with harness.Serve(harness.tiny_model()) as server:
            pids = [os.pidfd_open(pid) for pid in server.children().values()]
            server.program.signal(signal.SIGKILL)
            for pid in pids:
                self.assertTrue(select.select([pid], [], [], 10)[0], "a child outlived its parent")
                os.close(pid)

    def test_port_in_use_is_one_line_with_a_remedy(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for flag in ("--port", "--grpc-port"):
                other = "--grpc-port" if flag == "--port" else "--port"
                code, _, err = run("mili", "serve", harness.tiny_model(), flag, port, other, 0,
                                   "--admin-port", 0, "--metrics-port", 0)
                self.assertNotEqual(code, 0)
                self.assertIn(str(port), last_line(err))
                self.assertIn("in use", last_line(err))

    def test_a_model_that_is_not_there_names_the_path(self):
        code, _, err = run("mili", "serve", "/no/such/model", "--port", 0, "--grpc-port", 0,
                           "--admin-port", 0, "--metrics-port", 0)
        self.assertNotEqual(code, 0)
        self.assertIn("/no/such/model", last_line(err))

    def test_a_truncated_model_names_the_tensor_or_file(self):
        source = pathlib.Path(harness.tiny_model())
        with tempfile.TemporaryDirectory() as broken:
            for file in source.iterdir():
                data = file.read_bytes()
                if file.suffix == ".safetensors":
                    data = data[:len(data) - 100]
                (pathlib.Path(broken) / file.name).write_bytes(data)
            code, _, err = run("mili", "serve", broken, "--port", 0, "--grpc-port", 0,
                               "--admin-port", 0, "--metrics-port", 0)
            self.assertNotEqual(code, 0)
            self.assertRegex(last_line(err), r"safetensors")

    def test_five_failures_before_the_first_ready_end_with_the_workers_last_line(self):
        started = time.monotonic()
        code, _, err = run("mili", "serve", harness.tiny_model(), "--port", 0, "--grpc-port", 0,
                           "--admin-port", 0, "--metrics-port", 0, "--kv-cache-memory-bytes", "1")
        self.assertNotEqual(code, 0)
        self.assertIn("kv-cache-memory-bytes", err)
        self.assertLess(time.monotonic() - started, 30)

    def test_a_setting_that_the_model_forbids_ends_with_the_first_failure(self):
        code, _, err = run("mili", "serve", harness.tiny_model(), "--port", 0, "--grpc-port", 0,
                           "--admin-port", 0, "--metrics-port", 0, "--max-model-len", 99999999)
        self.assertNotEqual(code, 0)
        self.assertRegex(last_line(err), r"ended before it was ready: max-model-len is 99999999")

    def test_a_directory_is_quantised_while_it_loads(self):
        request = {"prompt": [11, 12, 13], "max_tokens": 8, "temperature": 0, "ignore_eos": True,
                   "logprobs": 1}
        logprobs = {}
        for quantization, dtype in (("none", "bf16"), ("q8_0", "q8_0")):
            with harness.Serve(harness.tiny_model("qwen3"), "--quantization",
                               quantization) as server:
                self.assertRegex(server.program.text(), rf"dtype\W+{dtype}\b")
                status, _, text = harness.http_call(server.http, "POST", "/v1/completions", request)
                self.assertEqual(status, 200, text)
                choice = json.loads(text)["choices"][0]
                logprobs[quantization] = choice["logprobs"]["token_logprobs"]
                self.assertEqual(len(logprobs[quantization]), 8)
        # Its answer is another one, but hardly: 8 bits a weight.
        self.assertNotEqual(logprobs["q8_0"], logprobs["none"])
        self.assertAlmostEqual(logprobs["q8_0"][0], logprobs["none"][0], delta=0.1)

    def test_unknown_flag_and_bad_value_are_usage_errors(self):
        for args in (("--no-such-flag",), ("--port", "70000"), ("--cpu-kernels", "slow")):
            code, _, err = run("mili", "serve", harness.tiny_model(), *args)
            self.assertEqual(code, 2, err)
            self.assertIn(args[0].lstrip("-"), err)

    def test_killed_router_ends_the_whole_with_its_reason(self):
        with harness.Serve(harness.tiny_model()) as server:
            os.kill(server.children()["mili-router"], signal.SIGKILL)
            self.assertNotEqual(server.program.wait(20), 0)
            self.assertIn("router", server.program.last_line())

    def test_health_tells_of_a_lost_worker_and_of_its_return(self):
        with harness.Serve(harness.tiny_model()) as server:
            os.kill(server.children()["mili-worker"], signal.SIGKILL)
            server.program.wait_for("not-ready")
            server.program.wait_for("ready")
            self.assertEqual(harness.http_call(server.http, "GET", "/health")[0], 200)


@unittest.skipUnless(harness.smollm2(), "MILI_TEST_MODEL is not set")
class SmolLm2ServeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Serve(harness.smollm2())

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def complete(self, **fields):
        status, _, text = harness.http_call(self.server.http, "POST", "/v1/completions",
                                            {"max_tokens": 24, "temperature": 0, **fields})
        self.assertEqual(status, 200, text)
        return text

    def test_it_knows_the_capital_of_france(self):
        answer = json.loads(self.complete(prompt="The capital of France is"))
        self.assertIn("Paris", answer["choices"][0]["text"])

    def test_streamed_text_joined_is_the_unstreamed_text(self):
        whole = json.loads(self.complete(prompt="Emoji: 🦀 and Ünïcödé:", max_tokens=64))
        pieces = []
        events = self.complete(prompt="Emoji: 🦀 and Ünïcödé:", max_tokens=64, stream=True)
        lines = [line for line in events.splitlines() if line.startswith("data: ")]
        self.assertEqual(lines[-1], "data: [DONE]")
        for line in lines[:-1]:
            pieces.append(json.loads(line[6:])["choices"][0]["text"])
        self.assertEqual("".join(pieces), whole["choices"][0]["text"])

    def test_same_seed_gives_the_same_text_alone_and_in_a_crowd(self):
        fields = dict(prompt="Once upon a time", temperature=0.9, seed=7, max_tokens=48)
        alone = json.loads(self.complete(**fields))["choices"][0]["text"]
        texts = []
        threads = [threading.Thread(target=lambda: self.complete(prompt=f"Noise {i}", max_tokens=60))
                   for i in range(6)]
        threads += [threading.Thread(
            target=lambda: texts.append(json.loads(self.complete(**fields))["choices"][0]["text"]))
            for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(texts, [alone] * 4)

    def test_stop_string_ends_the_text_before_it(self):
        answer = json.loads(self.complete(prompt="1, 2, 3, 4,", stop=[" 7"]))
        self.assertEqual(answer["choices"][0]["finish_reason"], "stop")
        self.assertNotIn("7", answer["choices"][0]["text"])


if __name__ == "__main__":
    unittest.main()
