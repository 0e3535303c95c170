#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Is what graft wrote the adapter that PEFT wrote? Reads files only, with numpy and PyPI's gguf.

    check_adapter.py ORIGINAL WRITTEN [HEADS KV_HEADS]

ORIGINAL: a PEFT folder. WRITTEN: a PEFT folder, or a GGUF file (then also the base's heads). Every tensor must have the same
type and bits (rows of q and k permuted back, token_embd's A turned back), every module the same scale by the rules of the
format's own reader: PEFT's get_pattern_key, llama.cpp's alpha / rank in f32; a configuration must name exactly the modules
that are there. Prints what differs; exit status 1 if anything."""
import json
import math
import os
import re
import sys

import gguf
import numpy as np

TYPES = {"F32": np.uint32, "F16": np.uint16, "BF16": np.uint16}
MODULES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
           "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
           "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "output": "lm_head",
           "output_norm": "model.norm", "token_embd": "model.embed_tokens"}
wrong = []


def pattern(table, module, default):
    return next((v for k, v in table.items() if re.match(rf"(.*\.)?({k})$", module)), default)


def read_peft(folder):
    with open(os.path.join(folder, "adapter_config.json")) as f:
        c = json.load(f)
    with open(os.path.join(folder, "adapter_model.safetensors"), "rb") as f:
        data = f.read()
    length = int.from_bytes(data[:8], "little")
    tensors, scales, place = {}, {}, 0
    header = json.loads(data[8:8 + length])
    if length % 8 or header.pop("__metadata__") != {"format": "pt"}:
        wrong.append(f"{folder}: header")
    for name, e in header.items():
        begin, end = e["data_offsets"]
        if begin != place and "graft" in folder:
            wrong.append(f"{folder}: {name} does not follow the tensor before it")
        place = end
        bits = np.frombuffer(data[8 + length + begin:8 + length + end], TYPES[e["dtype"]]).reshape(e["shape"])
        tensors[name.removeprefix("base_model.model.")] = (e["dtype"], bits)
        match = re.match(r"base_model\.model\.(.*)\.lora_(embedding_)?A", name)
        if match:
            module = match[1]
            r = pattern(c.get("rank_pattern") or {}, module, c["r"])
            alpha = pattern(c.get("alpha_pattern") or {}, module, c["lora_alpha"])
            if r != e["shape"][0]:
                wrong.append(f"{folder}: {module} has rank {e['shape'][0]}, the configuration says {r}")
            scales[module] = np.float32(alpha / (math.sqrt(r) if c.get("use_rslora") else r))
    return tensors, scales, c.get("alora_invocation_tokens")


def check_config(folder, tensors, scales):
    """Would PEFT find exactly these modules? Its check_target_module_exists and modules_to_save, for a llama of two layers."""
    with open(os.path.join(folder, "adapter_config.json")) as f:
        c = json.load(f)
    layers = [f"model.layers.{i}.{m}" for i in range(2) for m in MODULES.values() if m[:4] in ("self", "mlp.", "inpu", "post")]
    every = layers + ["model.embed_tokens", "model.norm", "lm_head"]
    found = {m for m in every if any(m == t or m.endswith("." + t) for t in c["target_modules"])}
    if found != set(scales):
        wrong.append(f"{folder}: target_modules finds {sorted(found ^ set(scales))} wrongly")
    saved = {m for m in every if any(m.endswith(t) for t in c["modules_to_save"] or [])}
    whole = {n.removesuffix(".weight") for n in tensors if n.removesuffix(".weight") in every}
    if saved != whole:
        wrong.append(f"{folder}: modules_to_save finds {sorted(saved ^ whole)} wrongly")
    for key, ending in (("use_dora", ".lora_magnitude_vector"), ("lora_bias", ".lora_B.bias")):
        if bool(c.get(key)) != any(n.endswith(ending) for n in tensors):
            wrong.append(f"{folder}: {key} is {c.get(key)}")


def read_gguf(path, heads):
    reader = gguf.GGUFReader(path)
    text = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    if (text["general.type"], text["adapter.type"], text["general.architecture"]) != ("adapter", "lora", "llama"):
        wrong.append(f"{path}: is no LoRA adapter of a llama")
    tensors, scales = {}, {}
    for t in reader.tensors:
        kind = gguf.GGMLQuantizationType(t.tensor_type).name
        bits = np.ascontiguousarray(t.data).view(TYPES[kind]).reshape([int(n) for n in reversed(t.shape)])
        match = re.match(r"(blk\.(\d+)\.)?(\w+)\.weight(\.lora_[ab])?$", t.name)
        module = MODULES[match[3]] if match[2] is None else f"model.layers.{match[2]}.{MODULES[match[3]]}"
        if match[3] in heads and match[4] == ".lora_b":
            n = heads[match[3]]
            bits = bits.reshape(n, bits.shape[0] // n // 2, 2, bits.shape[1]).swapaxes(1, 2).reshape(bits.shape)
        embed = match[3] == "token_embd"
        if embed and match[4] == ".lora_a":
            bits = bits.T
        end = {None: ".weight", ".lora_a": ".lora_embedding_A" if embed else ".lora_A.weight",
               ".lora_b": ".lora_embedding_B" if embed else ".lora_B.weight"}[match[4]]
        tensors[module + end] = (kind, bits)
        if match[4] == ".lora_b":
            scales[module] = np.float32(text["adapter.lora.alpha"]) / np.float32(bits.shape[1])
    return tensors, scales, text.get("adapter.alora.invocation_tokens")


original, want, tokens = read_peft(sys.argv[1])
if sys.argv[2].endswith(".gguf"):
    written, got, other = read_gguf(sys.argv[2], {"attn_q": int(sys.argv[3]), "attn_k": int(sys.argv[4])})
else:
    written, got, other = read_peft(sys.argv[2])
    check_config(sys.argv[2], written, got)
original = {n: t for n, t in original.items() if n in written or ".base_layer." not in n}  # GGUF leaves copies of the base out
if set(original) != set(written):
    wrong.append(f"names differ: {sorted(set(original) ^ set(written))[:4]}")
for name in set(original) & set(written):
    a, b = original[name], written[name]
    if a[0] != b[0] or a[1].shape != b[1].shape or not np.array_equal(a[1], b[1]):
        wrong.append(f"{name} differs")
for module, scale in want.items():
    if got.get(module) != scale:
        wrong.append(f"{module} has scale {got.get(module)}, expected {scale}")
if (tokens or None) != (list(other) if other else None):
    wrong.append(f"invocation tokens {other}, expected {tokens}")
print("\n".join(wrong) if wrong else f"{len(original)} tensors and {len(want)} scales are the same")
sys.exit(bool(wrong))
