"""Real processes for the end-to-end tests: starts them on free ports, waits for their news, ends them.

Nothing here sleeps: every wait is for a line on a ready pipe, a byte on a socket or the end of a
process, with a deadline after which the test fails and the logs are shown.
"""

import contextlib
import functools
import http.client
import importlib
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("MILI_BIN_DIR", ROOT / "build/cpu/bin"))
TINY_MODELS = ROOT / "tests/data/models"
PATIENCE_S = 60


def tiny_model(name="llama"):
    return str(TINY_MODELS / f"tiny-{name}")


def smollm2():
    """The real small model, or None where nobody fetched it."""
    return os.environ.get("MILI_TEST_MODEL")


@functools.lru_cache
def stubs():
    """(inference_pb2, inference_pb2_grpc, control_pb2, control_pb2_grpc); the worker's are loaded too."""
    from grpc_tools import protoc

    out = tempfile.mkdtemp(prefix="mili-stubs-")
    protos = ["mili/v1/inference.proto", "mili/v1/control.proto", "google/rpc/status.proto",
              "google/rpc/error_details.proto", "mili/worker/v1/worker.proto"]
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    code = protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"-I{well_known}", f"--python_out={out}",
                        f"--grpc_python_out={out}", *protos])
    if code != 0:
        raise RuntimeError("protoc failed")
    sys.path.insert(0, out)
    # Another `google` package is already imported from site-packages: let it see ours too.
    import google
    google.__path__.append(f"{out}/google")
    modules = ("mili.v1.inference_pb2", "mili.v1.inference_pb2_grpc", "mili.v1.control_pb2",
               "mili.v1.control_pb2_grpc")
    loaded = tuple(importlib.import_module(name) for name in modules)
    importlib.import_module("mili.worker.v1.worker_pb2_grpc")
    shutil.rmtree(out)
    return loaded


class Program:
    """One of our programs, its ready pipe and its log."""

    def __init__(self, name, *args, env=None, stdin=subprocess.DEVNULL):
        self.name = name
        self.log = tempfile.NamedTemporaryFile(prefix=f"{name}-", suffix=".log", delete=False)
        self.read_fd, write_fd = os.pipe()
        command = [str(BIN / name), *map(str, args), "--ready-fd", str(write_fd)]
        self.process = subprocess.Popen(command, stdin=stdin, stdout=self.log, stderr=self.log,
                                        pass_fds=[write_fd], env={**os.environ, **(env or {})})
        os.close(write_fd)
        self.unread = b""
        self.addresses = {}

    def next_event(self, deadline):
        """The next line of the ready pipe; None when the program has closed it."""
        while b"\n" not in self.unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.read_fd], [], [], left)[0]:
                raise TimeoutError(f"{self.name} sent no news\n{self.text()}")
            piece = os.read(self.read_fd, 4096)
            if not piece:
                return None
            self.unread += piece
        line, self.unread = self.unread.split(b"\n", 1)
        return line.decode()

    def wait_for(self, word, patience_s=PATIENCE_S):
        """Reads events until one begins with `word`."""
        deadline = time.monotonic() + patience_s
        while True:
            event = self.next_event(deadline)
            if event is None:
                raise RuntimeError(f"{self.name} ended before '{word}'\n{self.text()}")
            kind, _, rest = event.partition(" ")
            if kind == "listening":
                self.addresses = dict(field.split("=", 1) for field in rest.split())
            if kind == word:
                return rest

    def text(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def last_line(self):
        lines = self.text().strip().splitlines()
        return lines[-1] if lines else ""

    def rss_bytes(self):
        statm = pathlib.Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def wait(self, patience_s=PATIENCE_S):
        return self.process.wait(patience_s)

    def signal(self, number):
        self.process.send_signal(number)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.read_fd)
        self.log.close()
        os.unlink(self.log.name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Pair:
    """A worker and a router that is attached to it, started apart."""

    def __init__(self, model, worker_args=(), router_args=()):
        with contextlib.ExitStack() as stack:
            self.worker = stack.enter_context(
                Program("mili-worker", model, "--listen", "127.0.0.1:0", "--metrics-port", 0,
                        *worker_args))
            self.worker.wait_for("listening")
            address = self.worker.addresses["worker"]
            self.router = stack.enter_context(
                Program("mili-router", "--worker", address, "--port", 0, "--grpc-port", 0,
                        "--admin-port", 0, *router_args))
            self.router.wait_for("listening")
            self.http = self.router.addresses["http"]
            self.grpc = self.router.addresses["grpc"]
            self.admin = self.router.addresses["admin"]
            self.router.wait_for("ready")
            self.stack = stack.pop_all()

    def close(self):
        self.stack.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Serve:
    """`mili serve MODEL` on free ports."""

    def __init__(self, model, *args):
        self.program = Program("mili", "serve", model, "--port", 0, "--grpc-port", 0,
                               "--admin-port", 0, "--metrics-port", 0, *args)
        try:
            self.program.wait_for("listening")
            self.http = self.program.addresses["http"]
            self.grpc = self.program.addresses["grpc"]
            self.admin = self.program.addresses["admin"]
            self.program.wait_for("ready")
        except BaseException:
            self.program.close()
            raise

    def children(self):
        """Names of the direct children -> their process ids."""
        found = {}
        pid = self.program.process.pid
        tasks = pathlib.Path(f"/proc/{pid}/task")
        for task in tasks.iterdir():
            for child in (task / "children").read_text().split():
                found[pathlib.Path(f"/proc/{child}/comm").read_text().strip()] = int(child)
        return found

    def close(self):
        if self.program.process.poll() is None:
            self.program.signal(signal.SIGTERM)
            try:
                self.program.wait(20)
            except subprocess.TimeoutExpired:
                pass
        self.program.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def http_call(address, method, path, body=None, headers=None, timeout=PATIENCE_S):
    """(status, headers, text) of one HTTP exchange; a dict body goes as JSON."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        headers = {"Content-Type": "application/json", **(headers or {})}
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()
    finally:
        connection.close()


def metric(address, name):
    """Sum of a metric's samples over its labels, from /metrics."""
    status, _, text = http_call(address, "GET", "/metrics")
    if status != 200:
        raise RuntimeError(f"/metrics answered {status}")
    values = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
              if line.split("{")[0].split(" ")[0] == name]
    if not values:
        raise KeyError(f"/metrics has no {name}")
    return sum(values)
