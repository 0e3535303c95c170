#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/gguf/small.gguf with PyPI gguf and small.txt: what PyPI gguf reads back. Needs: pip install gguf numpy.

small.txt: "key NAME TYPE ITEM_TYPE COUNT FNV" (FNV-1a 64 of the raw value) and "tensor NAME TYPE OFFSET BYTES DIMS... FNV".
"""
import os

import numpy as np
import gguf
from gguf.constants import GGMLQuantizationType as T, GGUFValueType as V

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gguf")


def fnv(data):
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = ((digest ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{digest:016x}"


def main():
    os.makedirs(HERE, exist_ok=True)
    path = os.path.join(HERE, "small.gguf")
    rng = np.random.default_rng(7)
    w = gguf.GGUFWriter(path, "llama")
    w.add_custom_alignment(64)
    w.add_name("Tiny tést 🚀")
    for kind, value in [(V.UINT8, 200), (V.INT8, -100), (V.UINT16, 60000), (V.INT16, -30000), (V.UINT32, 4000000000),
                        (V.INT32, -2000000000), (V.UINT64, 2**64 - 1), (V.INT64, -2**63), (V.FLOAT32, 1.5e-5),
                        (V.FLOAT64, 1e300), (V.BOOL, True), (V.STRING, "")]:
        w.add_key_value(f"test.{kind.name.lower()}", value, kind)
    w.add_array("tokenizer.ggml.tokens", ["<s>", "", "Ġa", "🚀", "x" * 40])
    w.add_array("test.floats", [0.0, -1.5, 3.25])
    w.add_array("test.ints", [1, -2, 3])
    w.add_array("test.bools", [True, False, True])
    for name, kind, shape in [("token_embd.weight", T.Q4_0, (5, 64)), ("blk.0.attn_norm.weight", T.F32, (7,)),
                              ("a.f16", T.F16, (3, 5)), ("a.bf16", T.BF16, (2, 2, 2, 4)), ("a.q8_0", T.Q8_0, (3, 32)),
                              ("a.q4_1", T.Q4_1, (2, 32))]:
        x = rng.standard_normal(shape).astype(np.float32)
        w.add_tensor(name, gguf.quants.quantize(x, kind), raw_dtype=kind)
    for name, kind, size in [("a.q4_k", T.Q4_K, 144), ("a.q6_k", T.Q6_K, 210)]:
        w.add_tensor(name, rng.integers(0, 256, (2, size), dtype=np.uint8), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    reader = gguf.GGUFReader(path)
    with open(os.path.join(HERE, "small.txt"), "w") as out:
        for f in reader.fields.values():
            if f.name.startswith("GGUF."):
                continue
            kinds = [int(k) for k in f.types]
            item = kinds[-1] if kinds[0] == 9 else kinds[0]
            skip = 2 + (1 if kinds[0] != 9 else 3)  # name length, name, type (and item type, count)
            raw = b"".join(bytes(p.tobytes()) for p in f.parts[skip:])
            out.write(f"key {f.name} {kinds[0]} {item} {len(f.data)} {fnv(raw)}\n")
        for t in reader.tensors:
            dims = " ".join(str(int(d)) for d in t.shape)
            out.write(f"tensor {t.name} {int(t.tensor_type)} {int(t.data_offset)} {int(t.n_bytes)} {dims} {fnv(t.data.tobytes())}\n")


main()
