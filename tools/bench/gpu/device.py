"""What the device does meanwhile: a worker's steps amid a load, and how much of a GPU's memory is in use."""

import ctypes
import http.client
import threading

import programs

READ_EVERY_S = 0.02
# Of a worker's /metrics page, each since it started.
TOTALS = {"steps": "mili_step_duration_seconds_count", "tokens": "mili_iteration_tokens_total_sum",
          "compute_s": "mili_step_duration_seconds_sum", "idle_s": "mili_gpu_idle_seconds_total"}


def totals_of(page):
    """The page's TOTALS. ValueError: it is not a worker's."""
    values = dict(line.rsplit(" ", 1) for line in page.splitlines() if line[:1] not in ("", "#"))
    missing = [name for name in TOTALS.values() if name not in values]
    if missing:
        raise ValueError(f"/metrics has no {missing[0]}")
    return {key: float(values[name]) for key, name in TOTALS.items()}


class Readings:
    """Reads a worker's totals again and again while in a `with`; `steady` sums up afterwards."""

    def __init__(self, address):
        self.address = address
        self.read = []
        self.failure = None
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._main)

    def _main(self):
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            while True:
                connection.request("GET", "/metrics")
                self.read.append(totals_of(connection.getresponse().read().decode()))
                connection.close()
                if self.is_over.wait(READ_EVERY_S):
                    return
        except (OSError, ValueError, http.client.HTTPException) as failure:
            self.failure = failure
        finally:
            connection.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()

    def steady(self, num_seqs):
        """Of the stretches between two readings in which every step computed one token of each of
        `num_seqs` sequences, so that none began or ended: {steps, step_ms, idle_us}, both means over
        all these steps. A step's time is from the end of the one before; idle is the part of it in
        which the device had nothing to compute."""
        if self.failure is not None:
            raise programs.Failure(f"{self.address}/metrics: {self.failure}")
        sums = dict.fromkeys(TOTALS, 0.0)
        for before, after in zip(self.read, self.read[1:]):
            change = {key: after[key] - before[key] for key in TOTALS}
            if change["steps"] > 0 and change["tokens"] == num_seqs * change["steps"]:
                sums = {key: sums[key] + change[key] for key in TOTALS}
        steps = sums["steps"]
        if steps == 0:
            raise programs.Failure(f"none of {len(self.read)} readings shows {num_seqs} sequences "
                                   "decoded and nothing else")
        return {"steps": steps, "step_ms": 1e3 * (sums["compute_s"] + sums["idle_s"]) / steps,
                "idle_us": 1e6 * sums["idle_s"] / steps}


class Memory:
    """What is in use on the first GPU, by whomever, as NVML says it: in microseconds, so that nothing
    has changed since it was asked."""

    class Info(ctypes.Structure):
        _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]

    def __init__(self):
        try:
            self.nvml = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError as error:
            raise programs.Failure(f"NVML: {error}") from error
        self.gpu = ctypes.c_void_p()
        self._call("nvmlInit_v2")
        self._call("nvmlDeviceGetHandleByIndex_v2", 0, ctypes.byref(self.gpu))

    def _call(self, name, *args):
        code = getattr(self.nvml, name)(*args)
        if code != 0:
            raise programs.Failure(f"{name}: error {code}")

    def used_mib(self):
        info = self.Info()
        self._call("nvmlDeviceGetMemoryInfo", self.gpu, ctypes.byref(info))
        return info.used / (1 << 20)
