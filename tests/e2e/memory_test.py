"""The worker holds what its memory plan says, and no more."""

import unittest

import grpc

import harness

MIB = 1 << 20
# The most that libraries, threads and gRPC's buffers may take beside weights, KV and workspace.
PROCESS = 48 * MIB


@unittest.skipUnless(harness.smollm2(), "MILI_TEST_MODEL is not set")
class MemoryTest(unittest.TestCase):
    def facts(self, address):
        import mili.worker.v1.worker_pb2 as pb
        import mili.worker.v1.worker_pb2_grpc as pb_grpc

        with grpc.insecure_channel(address) as channel:
            for news in pb_grpc.WorkerStub(channel).Describe(pb.DescribeRequest(), timeout=30):
                if news.HasField("facts"):
                    return news.facts
        self.fail("Describe sent no facts")

    def fill_kv(self, pair, facts):
        """Sequences that together touch every page."""
        pb, pb_grpc, _, _ = harness.stubs()
        num_tokens = facts.num_pages * facts.page_size_tokens
        length = 1024
        with grpc.insecure_channel(pair.grpc) as channel:
            stub = pb_grpc.InferenceStub(channel)
            calls = []
            for idx in range(-(-num_tokens // length) + 1):
                request = pb.GenerateRequest(max_tokens=8, ignore_eos=True)
                request.token_ids.ids.extend((idx + k) % 1000 + 10 for k in range(length - 8))
                calls.append(stub.Generate.future(request, timeout=120))
            for call in calls:
                call.result()

    def test_rss_is_weights_touched_kv_and_workspace(self):
        harness.stubs()
        with harness.Pair(harness.smollm2(),
                          worker_args=("--kv-cache-memory-bytes", "96MiB")) as pair:
            facts = self.facts(pair.worker.addresses["worker"])
            at_start = pair.worker.rss_bytes()
            planned = facts.weights_bytes + facts.workspace_bytes + facts.process_bytes
            self.assertLessEqual(at_start, facts.weights_bytes + facts.workspace_bytes + PROCESS)
            self.assertAlmostEqual(at_start, planned, delta=0.05 * planned)
            self.fill_kv(pair, facts)
            full = pair.worker.rss_bytes()
            planned += facts.kv_bytes
            self.assertAlmostEqual(full, planned, delta=0.05 * planned)
            print(f"plan {planned / MIB:.1f} MiB; RSS {at_start / MIB:.1f} MiB at start, "
                  f"{full / MIB:.1f} MiB with every page touched")


if __name__ == "__main__":
    unittest.main()
