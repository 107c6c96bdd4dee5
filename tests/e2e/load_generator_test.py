"""mili-load, against servers that answer in ways of their own."""

import http.server
import json
import subprocess
import threading
import unittest

import harness

EVENT = 'data: {"choices":[{"index":0,"text":"","token_ids":[%s]}]}\n\n'


def chunk(text):
    return f"{len(text):x}\r\n{text}\r\n"


class Server:
    """Answers each request with what `answer` gives for its number: pieces, written one by one, or a
    status."""

    def __init__(self, answer):
        self.bodies = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.bodies.append(body)
                pieces = answer(len(server.bodies) - 1)
                if isinstance(pieces, int):
                    self.send_response(pieces)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for piece in pieces:
                    self.wfile.write(piece.encode())
                    self.wfile.flush()
                self.close_connection = not "".join(pieces).endswith("0\r\n\r\n")

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def load(self, *args):
        """(exit code, the report, what it complained of)."""
        host, port = self.http.server_address
        done = subprocess.run(
            [harness.BIN / "mili-load", "--http", f"{host}:{port}", "--warm-up", "0", "--json",
             *args], capture_output=True, text=True, timeout=30)
        return done.returncode, json.loads(done.stdout), done.stderr.splitlines()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


WHOLE = (chunk(EVENT % "7") + chunk(EVENT % "8,9") + chunk(EVENT % "")
         + chunk("data: [DONE]\n\n") + "0\r\n\r\n")


class LoadGeneratorTest(unittest.TestCase):
    def test_counts_tokens_however_the_answer_is_cut(self):
        with Server(lambda number: [WHOLE] if number == 0 else list(WHOLE)) as server:
            code, report, errors = server.load("--requests", "2", "--output-tokens", "3")
        self.assertEqual((code, report["errors"], errors), (0, 0, []))
        self.assertEqual(report["output_tokens"], 2 * 3)
        self.assertGreater(report["ttft_ms_p50"], 0)

    def test_sends_each_request_once(self):
        with Server(lambda _: [WHOLE]) as server:
            code, report, _ = server.load("--requests", "20", "--concurrency", "6", "--threads",
                                          "4", "--prompt-tokens", "5", "--vocab-size", "1000")
            prompts = {tuple(body["prompt"]) for body in server.bodies}
        self.assertEqual((code, report["output_tokens"]), (0, 20 * 3))
        self.assertEqual(len(server.bodies), 20)
        self.assertEqual(len(prompts), 20)
        self.assertTrue(all(len(prompt) == 5 and max(prompt) < 1000 for prompt in prompts))

    def test_goes_on_after_an_answer_that_fails(self):
        def answer(number):
            return {0: 503, 1: [WHOLE[:30]]}.get(number, [WHOLE])

        with Server(answer) as server:
            code, report, errors = server.load("--requests", "4")
        self.assertEqual((code, report["errors"], report["output_tokens"]), (1, 2, 2 * 3))
        self.assertIn("answered HTTP/1.1 503", errors[0])
        self.assertIn("End of file", errors[1])


if __name__ == "__main__":
    unittest.main()
