#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/quant/*.bin: what PyPI gguf makes of random and extreme blocks. Needs: pip install gguf numpy.

Layout, little-endian: u32 n_blocks, u32 n_rows_in; n_blocks blocks; their values (f32); then, where gguf can quantize,
n_rows_in blocks of f32 inputs and the blocks they become.
"""
import os

import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T

HERE = os.path.dirname(os.path.abspath(__file__))
# Scales: zeros of both signs, least and greatest subnormal, least normal, greatest, ordinary.
SCALES = np.array([0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x2E66, 0xA000, 0x1234], dtype="<u2")
SCALE_AT = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q6_K: [208], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q2_K: [80, 82],
            T.Q3_K: [108], T.Q5_K: [0, 2], T.IQ4_NL: [0], T.IQ4_XS: [0]}
COUNT = {T.F32: 64, T.F16: 1024, T.BF16: 512, T.Q4_0: 30, T.Q4_1: 30, T.Q8_0: 30, T.Q4_K: 12, T.Q6_K: 12,
         T.Q5_0: 30, T.Q5_1: 30, T.Q2_K: 12, T.Q3_K: 12, T.Q5_K: 12, T.IQ4_NL: 30, T.IQ4_XS: 12, T.MXFP4: 30}


def blocks_of(rng, kind, values, size):
    blocks = rng.integers(0, 256, (COUNT[kind], size), dtype=np.uint8)
    for place in SCALE_AT.get(kind, []):
        for i in range(len(blocks)):
            scale = SCALES[(i + place) % len(SCALES)] if i < 20 else rng.integers(0, 0x7C00)
            blocks[i, place:place + 2] = np.array([scale], dtype="<u2").view(np.uint8)
    if kind == T.MXFP4:  # exponents: two subnormal scales, both ends, the rest random
        blocks[:8, 0] = [0, 1, 2, 3, 127, 128, 254, 255]
    if kind in (T.F16, T.BF16):
        special = np.array([0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x7BFF, 0x7C00, 0xFC00, 0x7F80, 0xFF80, 0x7F7F], dtype="<u2")
        blocks[:len(special)] = special.view(np.uint8).reshape(-1, 2)
    return blocks


def inputs_of(rng, kind, values):
    if values == 1:
        bits = rng.integers(0, 2**32, 1024, dtype=np.uint64).astype(np.uint32)
        bits[:256] = (rng.integers(0x32000000, 0x48000000, 256)).astype(np.uint32)  # around the f16 range
        halves = rng.integers(0, 0x7C00, 256, dtype=np.uint16).view(np.float16).astype(np.float32).view(np.uint32)
        bits[256:512] = halves + np.where(halves < 0x38800000, 0, 0x1000)  # exact ties of normal f16 values
        bits[512:768] = (bits[512:768] & 0xFFFF0000) | 0x8000  # exact ties of bf16
        bits[768:780] = [0, 0x80000000, 1, 0x7F800000, 0xFF800000, 0x7F7FFFFF, 0x477FEFFF, 0x477FF000, 0x33000000, 0x33000001,
                         0x33800000, 0x387FFFFF]
        x = bits.view(np.float32)
        return x[~np.isnan(x)].reshape(-1, 1)
    n = 24
    x = rng.standard_normal((n, values)).astype(np.float32)
    x *= (10.0 ** rng.integers(-7, 5, (n, 1))).astype(np.float32)
    x[0] = 0
    x[1] = -0.0
    x[2] = 3.25
    x[3] = -1e-6
    x[4, ::2] = -x[4, 1::2]  # equal magnitudes: the first one wins
    x[5] = np.arange(values) - values / 2  # many exact ties
    x[6] = (np.arange(values) % 16 - 8) / 2
    x[7] *= np.float32(1e7)  # the scale overflows f16
    x[8] = x[8] * np.float32(1e-30)  # the scale underflows f16
    x[9] = np.arange(values) % 32 - 15.5  # with a scale of 1 in Q8_0: halves, rounded away from zero
    x[9, 5] = 127
    return x


def main():
    os.makedirs(os.path.join(HERE, "quant"), exist_ok=True)
    rng = np.random.default_rng(20240607)
    for kind in COUNT:
        values, size = GGML_QUANT_SIZES[kind]
        blocks = blocks_of(rng, kind, values, size)
        with np.errstate(all="ignore"):
            out = np.ascontiguousarray(quants.dequantize(blocks, kind)).astype("<f4", copy=False)
            x = inputs_of(rng, kind, values)
            try:
                packed = np.ascontiguousarray(quants.quantize(x, kind)).view(np.uint8)
            except NotImplementedError:
                x, packed = x[:0], np.zeros(0, np.uint8)
        with open(os.path.join(HERE, "quant", kind.name.lower() + ".bin"), "wb") as f:
            f.write(np.array([len(blocks), len(x)], dtype="<u4").tobytes())
            f.write(blocks.tobytes() + out.tobytes() + x.tobytes() + packed.tobytes())
    # FNV-1a 64 over the f32 bits of all f16 values that are no NaN: stands in the test.
    half = np.arange(65536, dtype=np.uint16)
    half = half[(half & 0x7FFF) <= 0x7C00]
    digest = 0xCBF29CE484222325
    for byte in half.view(np.float16).astype("<f4").tobytes():
        digest = ((digest ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    print(f"all f16 values: {digest:#018x}")


main()
