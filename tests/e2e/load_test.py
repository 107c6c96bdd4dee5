"""Many clients at once, some of whom give up: in the end every page and slot is free again."""

import concurrent.futures
import json
import random
import socket
import struct
import time
import unittest

import grpc

import harness

NUM_CLIENTS = 200
VOCAB = 256


def prompt(random_source, most=40):
    return [random_source.randrange(10, VOCAB) for _ in range(random_source.randint(1, most))]


class LoadTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Few pages and slots, so that requests queue and are preempted.
        cls.pair = harness.Pair(harness.tiny_model(),
                                worker_args=("--max-num-seqs", 8, "--max-model-len", 256,
                                             "--kv-cache-memory-bytes", "128KiB"),
                                router_args=("--max-num-queued-reqs", 2000))
        cls.pb, cls.pb_grpc, cls.control, control_grpc = harness.stubs()
        cls.channel = grpc.insecure_channel(cls.pair.grpc)
        cls.inference = cls.pb_grpc.InferenceStub(cls.channel)
        cls.admin_channel = grpc.insecure_channel(cls.pair.admin)
        cls.admin = control_grpc.ControlStub(cls.admin_channel)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        cls.admin_channel.close()
        cls.pair.close()

    def stream(self, source, give_up):
        request = self.pb.GenerateRequest(max_tokens=source.randint(1, 100), ignore_eos=True,
                                          return_token_ids=True, temperature=1.0,
                                          n=source.choice([1, 1, 2]))
        request.token_ids.ids.extend(prompt(source))
        num_before_leaving = source.randint(0, 20)
        num_tokens = 0
        call = self.inference.GenerateStream(request, timeout=60)
        for response in call:
            num_tokens += len(response.chunk.token_ids)
            if give_up and num_tokens >= num_before_leaving:
                call.cancel()
                return "left"
        self.assertEqual(num_tokens, request.max_tokens * request.n)
        return "done"

    def completion(self, source):
        body = {"prompt": prompt(source), "max_tokens": source.randint(1, 60), "ignore_eos": True,
                "return_token_ids": True}
        status, _, text = harness.http_call(self.pair.http, "POST", "/v1/completions", body)
        self.assertEqual(status, 200, text)
        answer = json.loads(text)
        self.assertEqual(answer["usage"]["completion_tokens"], body["max_tokens"])
        return "done"

    def vanish(self, source):
        """A client whose connection is reset, while it waits or in the middle of its stream."""
        body = json.dumps({"prompt": prompt(source), "max_tokens": 150, "ignore_eos": True,
                           "stream": source.random() < 0.5}).encode()
        host, port = self.pair.http.rsplit(":", 1)
        with socket.create_connection((host, int(port))) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
                               b"Content-Type: application/json\r\n"
                               b"Content-Length: %d\r\n\r\n" % len(body) + body)
            connection.settimeout(0.05 * source.random())
            try:
                connection.recv(source.randint(1, 2000))
            except TimeoutError:
                pass
        return "left"

    def refuse(self, source):
        body = {"prompt": prompt(source), "max_tokens": 100000}
        status, _, _ = harness.http_call(self.pair.http, "POST", "/v1/completions", body)
        self.assertEqual(status, 400)
        return "refused"

    def one_client(self, seed):
        source = random.Random(seed)
        kind = source.random()
        if kind < 0.35:
            return self.stream(source, give_up=False)
        if kind < 0.6:
            return self.stream(source, give_up=True)
        if kind < 0.8:
            return self.completion(source)
        if kind < 0.95:
            return self.vanish(source)
        return self.refuse(source)

    def loads_when_idle(self):
        deadline = time.monotonic() + 30
        while True:
            info = self.admin.GetServerInfo(self.control.GetServerInfoRequest())
            load = self.admin.GetLoads(self.control.GetLoadsRequest()).groups[0]
            idle = info.num_active_requests == 0 and load.num_running + load.num_waiting == 0
            if idle or time.monotonic() > deadline:
                self.assertTrue(idle, f"still busy: {info} {load}")
                return load

    def expect_whole(self, load):
        self.assertEqual(load.num_pages_leased, 0)
        self.assertEqual(load.num_pages_free + load.num_pages_leased + load.num_pages_cached,
                         load.num_pages_total)
        self.assertEqual(load.num_slots_free, load.num_slots_total)

    def test_200_mixed_clients_leave_no_page_and_no_slot_held(self):
        with concurrent.futures.ThreadPoolExecutor(NUM_CLIENTS) as pool:
            outcomes = list(pool.map(self.one_client, range(NUM_CLIENTS)))
        for outcome in ("done", "left", "refused"):
            self.assertGreater(outcomes.count(outcome), 0)
        self.expect_whole(self.loads_when_idle())
        self.assertEqual(harness.metric(self.pair.http, "mili_num_requests_running"), 0)
        self.assertEqual(harness.metric(self.pair.http, "mili_num_requests_waiting"), 0)
        self.assertEqual(harness.metric(self.pair.http, "mili_kv_cache_usage_perc"), 0)
        self.assertGreater(harness.metric(self.pair.http, "mili_num_preemptions_total"), 0)

    def test_10000_requests_grow_neither_process(self):
        request = self.pb.GenerateRequest(max_tokens=2, ignore_eos=True)
        request.token_ids.ids.extend([11, 12, 13])

        def burst(num_requests):
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                for _ in pool.map(lambda _: self.inference.Generate(request, timeout=60),
                                  range(num_requests)):
                    pass
            self.expect_whole(self.loads_when_idle())
            return [program.rss_bytes()
                    for program in (self.pair.router, self.pair.worker)]

        burst(3000)  # statuses of ended requests, allocator and metrics have reached their size
        before = burst(1000)
        after = burst(10000)
        for name, was, now in zip(("router", "worker"), before, after):
            self.assertLess(now - was, 8 << 20, f"{name} grew from {was} to {now} bytes")


if __name__ == "__main__":
    unittest.main()
