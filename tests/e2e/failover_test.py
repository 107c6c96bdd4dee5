"""A worker that is killed in the middle of streams loses nothing and doubles nothing."""

import os
import signal
import threading
import unittest

import grpc

import harness

NUM_STREAMS = 8
MAX_TOKENS = 160


def request(pb, idx, seed):
    """Greedy for even streams, seeded sampling for odd ones; penalties keep a state to rebuild."""
    message = pb.GenerateRequest(request_id=f"failover-{seed}-{idx}", max_tokens=MAX_TOKENS,
                                 ignore_eos=True, return_token_ids=True, seed=seed + idx,
                                 temperature=0.9 if idx % 2 else 0.0, frequency_penalty=0.3)
    message.token_ids.ids.extend((7 * idx + k) % 200 + 10 for k in range(5 + 3 * idx))
    return message


class FailoverTest(unittest.TestCase):
    def run_streams(self, server, seed, on_token=lambda: None):
        """All streams side by side; the tokens of each. Calls on_token with every chunk."""
        pb, pb_grpc, _, _ = harness.stubs()
        outputs = [None] * NUM_STREAMS

        def run_one(idx, stub):
            tokens = []
            for response in stub.GenerateStream(request(pb, idx, seed), timeout=120):
                if response.HasField("chunk"):
                    tokens.extend(response.chunk.token_ids)
                    on_token()
            outputs[idx] = tokens

        with grpc.insecure_channel(server.grpc) as channel:
            stub = pb_grpc.InferenceStub(channel)
            threads = [threading.Thread(target=run_one, args=(idx, stub))
                       for idx in range(NUM_STREAMS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return outputs

    def survives(self, model, *args):
        _, _, control, control_grpc = harness.stubs()
        with harness.Serve(model, *args) as server:
            undisturbed = self.run_streams(server, seed=100)
            for tokens in undisturbed:
                self.assertEqual(len(tokens), MAX_TOKENS)

            num_chunks = 0
            lock = threading.Lock()
            worker_pid = server.children()["mili-worker"]

            def kill_once():
                nonlocal num_chunks
                with lock:
                    num_chunks += 1
                    if num_chunks == 2 * NUM_STREAMS:
                        os.kill(worker_pid, signal.SIGKILL)

            # The same requests again: GetRequest below tells of the later ones.
            disturbed = self.run_streams(server, seed=100, on_token=kill_once)
            self.assertEqual(disturbed, undisturbed)

            with grpc.insecure_channel(server.admin) as channel:
                stub = control_grpc.ControlStub(channel)
                lost = sum(
                    stub.GetRequest(control.GetRequestRequest(request_id=f"failover-100-{idx}"))
                    .num_lost_batches for idx in range(NUM_STREAMS))
                load = stub.GetLoads(control.GetLoadsRequest()).groups[0]
            self.assertGreater(lost, 0, "the kill came too late to hit a stream")
            self.assertEqual(load.num_pages_free + load.num_pages_cached, load.num_pages_total)
            self.assertEqual(load.num_slots_free, load.num_slots_total)
            self.assertEqual(load.epoch, 2)
            self.assertNotEqual(server.children()["mili-worker"], worker_pid)

    def test_tiny_model_continues_to_the_same_tokens_after_kill_9(self):
        self.survives(harness.tiny_model())

    def test_tiny_model_continues_with_run_ahead_depth_1(self):
        self.survives(harness.tiny_model(), "--run-ahead-depth", "1")

    @unittest.skipUnless(harness.smollm2(), "MILI_TEST_MODEL is not set")
    def test_smollm2_continues_to_the_same_tokens_after_kill_9(self):
        self.survives(harness.smollm2())


if __name__ == "__main__":
    unittest.main()
