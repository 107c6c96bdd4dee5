#!/usr/bin/env python3
"""Writes checkpoints with random weights: checkpoints.py FOLDER DEVICE MODEL... (needs torch).

The weights are large enough that logits spread and every part of the model matters: norms about 1,
embedding and head 0.3, matrices 1.2 / sqrt(inputs).
"""
import concurrent.futures
import json
import pathlib
import shutil
import sys
import time

import torch
from shapes import CONFIGS, tensors_of

SHARD_BYTES = 4 << 30


def random_tensor(name, shape, generator, device):
    noise = torch.randn(shape, generator=generator, device=device, dtype=torch.bfloat16)
    if "norm" in name:
        return noise.mul_(0.2).add_(1)
    if name.endswith("bias"):
        return noise.mul_(0.5)
    if "embed" in name or "lm_head" in name:
        return noise.mul_(0.3)
    return noise.mul_(1.2 / shape[1] ** 0.5)


def shards_of(config):
    """Tensors in runs of at most SHARD_BYTES."""
    shards, size = [[]], 0
    for name, shape in tensors_of(config):
        num_bytes = 2 * torch.Size(shape).numel()
        if shards[-1] and size + num_bytes > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append((name, shape, num_bytes))
        size += num_bytes
    return shards


def write_shard(path, tensors, seed, device):
    """safetensors: u64 length of the header, the header in JSON, the data one after another."""
    header, end = {}, 0
    for name, shape, num_bytes in tensors:
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + num_bytes]}
        end += num_bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = torch.Generator(device).manual_seed(seed)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape, _ in tensors:
            data = random_tensor(name, shape, generator, device).view(torch.int16)
            file.write(data.cpu().numpy())


def make(config, folder, device):
    """Whole or not at all: the folder takes its name last."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    shards = shards_of(config)
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        written = [pool.submit(write_shard, part / name, shard, seed, device)
                   for seed, (name, shard) in enumerate(zip(names, shards))]
        for future in written:
            future.result()
    index = {"metadata": {"total_size": sum(t[2] for shard in shards for t in shard)},
             "weight_map": {t[0]: name for name, shard in zip(names, shards) for t in shard}}
    (part / "model.safetensors.index.json").write_text(json.dumps(index))
    (part / "config.json").write_text(json.dumps(config, indent=1))
    part.rename(folder)


def main():
    work, device, models = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    for model in models:
        start = time.monotonic()
        make(CONFIGS[model], work / model, device)
        print(json.dumps({"model": model, "seconds": round(time.monotonic() - start, 2)}),
              flush=True)


if __name__ == "__main__":
    main()
