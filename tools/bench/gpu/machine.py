#!/usr/bin/env python3
"""What this GPU can do, as one line of JSON: copy, bf16 product, host to device (needs torch)."""

import json
import statistics

import torch


def seconds(work, repeat=10):
    """Median over `repeat` calls, after two."""
    times = []
    for i in range(repeat + 2):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        stop.record()
        stop.synchronize()
        if i >= 2:
            times.append(start.elapsed_time(stop) / 1e3)
    return statistics.median(times)


def main():
    device = torch.cuda.get_device_properties(0)
    source = torch.randn(1 << 29, dtype=torch.bfloat16, device="cuda")
    copy = torch.empty_like(source)
    a, b = (torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    pinned = torch.ones(1 << 27, dtype=torch.bfloat16, pin_memory=True)
    product = torch.empty_like(a)
    print(json.dumps({
        "gpu": device.name, "sms": device.multi_processor_count, "torch": torch.__version__,
        "copy_tb_s": 2 * source.nbytes / seconds(lambda: copy.copy_(source)) / 1e12,
        "bf16_tflop_s": 2 * 8192**3 / seconds(lambda: torch.matmul(a, b, out=product)) / 1e12,
        "pinned_gb_s": pinned.nbytes / seconds(
            lambda: copy[:1 << 27].copy_(pinned, non_blocking=True)) / 1e9,
    }))


if __name__ == "__main__":
    main()
