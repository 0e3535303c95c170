#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How far two adapters are apart, computed by numpy with the deltas as whole matrices in double precision: writes
adapter_diff.json beside this file: {"A|B": {module: [|| A ||, || B ||, || A - B || / || A ||]}} of modules that both have.
Run it after make_peft.py. Needs: pip install numpy."""
import json
import math
import os
import re

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
PAIRS = [("golden/peft/plain", "golden/peft/rslora"), ("golden/peft/f16", "golden/peft/plain"),
         ("golden/peft/regex", "golden/peft/dora-patterns"), ("golden/peft/embed-head", "golden/peft/plain"),
         ("../demo/adapters/legal", "../demo/adapters/finance"), ("../demo/adapters/support", "../demo/adapters/legal")]


def values(raw, kind, shape):
    if kind == "BF16":
        return (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape).astype(np.float64)
    return np.frombuffer(raw, {"F32": np.float32, "F16": np.float16}[kind]).reshape(shape).astype(np.float64)


def pattern(table, module, default):
    return next((v for k, v in table.items() if re.match(rf"(.*\.)?({k})$", module)), default)


def deltas(path):
    with open(os.path.join(HERE, "..", path, "adapter_config.json")) as f:
        c = json.load(f)
    with open(os.path.join(HERE, "..", path, "adapter_model.safetensors"), "rb") as f:
        data = f.read()
    length = int.from_bytes(data[:8], "little")
    found = {}
    for name, e in json.loads(data[8:8 + length]).items():
        match = re.match(r"base_model\.model\.(.*)\.lora_(embedding_)?([AB])(\.weight)?$", name)
        if match:
            begin, end = e["data_offsets"]
            found[match[1], match[3]] = values(data[8 + length + begin:8 + length + end], e["dtype"], e["shape"])
    out = {}
    for module, letter in found:
        r, alpha = pattern(c["rank_pattern"], module, c["r"]), pattern(c["alpha_pattern"], module, c["lora_alpha"])
        scale = np.float32(alpha / (math.sqrt(r) if c["use_rslora"] else r)).astype(np.float64)
        out[module] = scale * (found[module, "B"] @ found[module, "A"])
    return out


result = {}
for first, second in PAIRS:
    a, b = deltas(first), deltas(second)
    norm = np.linalg.norm
    result[first + "|" + second] = {m: [norm(a[m]), norm(b[m]), norm(a[m] - b[m]) / norm(a[m])] for m in sorted(a) if m in b}
with open(os.path.join(HERE, "adapter_diff.json"), "w") as f:
    json.dump(result, f, indent=0)
    f.write("\n")
