"""Starts what is measured and gives up on it in time. Nothing here needs more than the library of Python."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import tempfile
import time


class Failure(Exception):
    """One line: what did not work."""


class Budget:
    """Time left of the whole run; a step never gets more than that."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def is_spent(self):
        return self.end - time.monotonic() < 1

    def left(self, most):
        if self.is_spent():
            raise Failure("no time left")
        return min(most, self.end - time.monotonic())


def end_group(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Background:
    """A command that runs until `finish`, or as long as that lets it."""

    def __init__(self, command):
        command = [str(part) for part in command]
        named = command[1] if "python" in command[0] else command[0]
        self.name = pathlib.Path(named).name
        self.out, self.err = (tempfile.TemporaryFile("w+") for _ in range(2))
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self.out,
                                        stderr=self.err, text=True, start_new_session=True)

    def has_printed(self, line):
        self.out.seek(0)
        return line in self.out.read().splitlines()

    def has_ended(self):
        return self.process.poll() is not None

    def finish(self, timeout_s, text="", keep_partial=False):
        """What it printed, given `text` to read; its process group is ended after timeout_s.
        `keep_partial`: what came until then or until it failed counts, with the reason as the last
        line."""
        try:
            self.process.communicate(text, timeout_s)
            code = self.process.returncode
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end_group(self.process)
        self.out.seek(0)
        self.err.seek(0)
        printed, errors = self.out.read(), self.err.read().strip().splitlines() or [""]
        self.close()
        if code == 0:
            return printed
        reason = f"{self.name}: " + (f"not done after {timeout_s:.0f} s" if code is None else
                                     f"exit code {code}: {errors[-1]}")
        if keep_partial:
            return f"{printed}{reason}\n"
        raise Failure(reason)

    def close(self):
        """Ends it, unless `finish` has done so already."""
        if self.out.closed:
            return
        end_group(self.process)
        for file in (self.process.stdin, self.out, self.err):
            file.close()


def run(command, timeout_s, keep_partial=False):
    return Background(command).finish(timeout_s, keep_partial=keep_partial)


def run_json(command, timeout_s):
    """The JSON object on the last line that `command` prints."""
    lines = run(command, timeout_s).strip().splitlines()
    try:
        return json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        raise Failure(f"{command[0]} printed no JSON") from error


class Serve:
    """`mili serve` on free ports, from exec to ready; `start_s` says how long that took. `http`,
    `grpc` and `worker_metrics` are its addresses."""

    def __init__(self, bin_dir, model, args, timeout_s):
        read_fd, write_fd = os.pipe()
        self.log = tempfile.NamedTemporaryFile(prefix="mili-serve-", suffix=".log")
        start = time.monotonic()
        self.process = subprocess.Popen(
            [str(bin_dir / "mili"), "serve", str(model), "--port", "0", "--grpc-port", "0",
             "--admin-port", "0", "--metrics-port", "0", *args, "--ready-fd", str(write_fd)],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, pass_fds=[write_fd],
            start_new_session=True)
        os.close(write_fd)
        try:
            self._wait(read_fd, start + timeout_s)
            self.start_s = time.monotonic() - start
            self.worker_metrics = re.search(r"\bmetrics=(\S+)", self.text()).group(1)
        except BaseException:
            end_group(self.process)
            raise
        finally:
            os.close(read_fd)

    def _wait(self, read_fd, deadline):
        unread = b""
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([read_fd], [], [], left)[0]:
                raise Failure(f"mili serve was not ready in time: {self.last_line()}")
            piece = os.read(read_fd, 4096)
            if not piece:
                raise Failure(f"mili serve ended: {self.last_line()}")
            *lines, unread = (unread + piece).split(b"\n")
            for line in lines:
                kind, _, rest = line.decode().partition(" ")
                if kind == "listening":
                    fields = dict(field.split("=", 1) for field in rest.split())
                    self.http, self.grpc = fields["http"], fields["grpc"]
                if kind == "ready":
                    return

    def text(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def last_line(self):
        return (self.text().strip().splitlines() or ["no message"])[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        end_group(self.process)
        self.log.close()


def post(address, path, body, timeout_s):
    """The JSON that answers `body`."""
    connection = http.client.HTTPConnection(address, timeout=timeout_s)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode()
        if response.status != 200:
            raise Failure(f"{path} answered {response.status}: {text[:300]}")
        return json.loads(text)
    except (OSError, http.client.HTTPException) as error:
        raise Failure(f"{path}: {error}") from error
    finally:
        connection.close()
