#!/usr/bin/env python3
"""Makes tests/data/dequant: raw blocks of each weight type and the floats that they mean.

    pip install gguf numpy; tools/make_dequant_data.py [OUT]

For each TYPE: TYPE.bin holds blocks as in a GGUF file, TYPE.f32 their values as little-endian
float32, by gguf.quants.dequantize. Blocks are random bytes, so every code and every packed scale
occurs; scales are finite float16, among them zero, negative and subnormal ones.
"""
import pathlib
import sys

import gguf
import numpy as np

# Byte offsets of the float16 scales within a block.
SCALES = {
    "Q8_0": [0],
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}
NUM_ELEMENTS = 4096


def random_blocks(rng, name, num_blocks):
    """[num_blocks, block_bytes] of valid random blocks."""
    _, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    blocks = rng.integers(0, 256, (num_blocks, block_bytes), dtype=np.uint8)
    for at in SCALES[name]:
        scales = rng.normal(0, 0.02, num_blocks).astype(np.float16)
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/data/dequant")
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for name in SCALES:
        kind = gguf.GGMLQuantizationType[name]
        elements, _ = gguf.GGML_QUANT_SIZES[kind]
        blocks = random_blocks(rng, name, NUM_ELEMENTS // elements)
        edge = [0.0, -1.5, 6e-8, 0.75]  # zero, negative, the least subnormal, plain
        for i, value in enumerate(edge):
            for at in SCALES[name]:
                blocks[i, at : at + 2] = np.array([value], np.float16).view(np.uint8)
        write(out, name, blocks, gguf.quants.dequantize(blocks, kind))
    halves = rng.normal(0, 1, NUM_ELEMENTS).astype(np.float16)
    halves[:8] = [0.0, -0.0, 6e-8, -6e-8, 6.1e-5, 65504, -65504, 1]
    write(out, "F16", halves, halves)
    brains = (rng.normal(0, 1, NUM_ELEMENTS).astype(np.float32).view(np.uint32) >> 16).astype(
        np.uint16
    )
    brains[:4] = [0x0000, 0x8000, 0x0001, 0x7F7F]
    write(out, "BF16", brains, (brains.astype(np.uint32) << 16).view(np.float32))


def write(out, name, raw, values):
    assert np.isfinite(values).all()
    np.ascontiguousarray(raw).tofile(out / f"{name.lower()}.bin")
    np.ascontiguousarray(values, dtype="<f4").tofile(out / f"{name.lower()}.f32")


if __name__ == "__main__":
    main()
