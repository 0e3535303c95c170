#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A PEFT adapter and a GGUF adapter for the tests' tiny llama model, written by PyPI's safetensors and gguf, and what each packs
into, computed by numpy: writes the folder adapter beside this file.

peft/: rsLoRA with rank_pattern and alpha_pattern, F32, F16 and BF16 tensors. lora.gguf: one alpha, two ranks.
*.packed: the table [layer][17 targets][8] as u32, then the packed bytes: 16 of zero, then per pair A [rank to 8][n_in] f16, then B * scale
[n_out][rank to 8] f16.
Heads are permuted as llama.cpp's convert_hf_to_gguf.py does it for q and k."""
import json
import math
import os

import gguf
import numpy as np
from safetensors import TensorSpec, serialize

from tiny_gguf import permute

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "adapter")
LAYERS, EMBD, FF, HEADS, KV, DIM = 2, 64, 96, 4, 2, 16
TARGETS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
           "mlp.down_proj"]
GGUF_NAMES = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
IN = [EMBD, EMBD, EMBD, HEADS * DIM, EMBD, EMBD, FF]
OUT = [HEADS * DIM, KV * DIM, KV * DIM, EMBD, FF, FF, EMBD]
rng = np.random.default_rng(20240921)


def values(rows, cols, kind):
    x = (rng.standard_normal((rows, cols)) * 0.3).astype(np.float32)
    if kind == "bfloat16":
        return (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return x.astype(np.float16).astype(np.float32) if kind == "float16" else x


def raw(x, kind):
    if kind == "bfloat16":
        return (x.view(np.uint32) >> 16).astype(np.uint16)
    return x.astype(np.dtype(kind))


def packed(name, pairs):
    """pairs: (layer, target) -> (a, b, scale), b's rows in the base's order already."""
    table = np.zeros((LAYERS, 17, 8), np.uint32)
    data = bytes(16)
    for (layer, target), (a, b, scale) in sorted(pairs.items()):
        rank = (a.shape[0] + 7) // 8 * 8
        pa = np.zeros((rank, a.shape[1]), np.float16)
        pa[:a.shape[0]] = a.astype(np.float16)
        pb = np.zeros((b.shape[0], rank), np.float16)
        pb[:, :a.shape[0]] = (b * np.float32(scale)).astype(np.float16)
        table[layer, target] = [len(data) // 16, (len(data) + pa.nbytes) // 16, rank, 0, 0, 0, 0, 0]
        data += pa.tobytes() + pb.tobytes()
    with open(os.path.join(HERE, name), "wb") as f:
        f.write(table.tobytes() + data)


def peft():
    chosen = {(0, 0): (3, 7, "float32"), (0, 1): (3, 5, "float16"), (0, 6): (9, 5, "bfloat16"), (1, 2): (3, 5, "float32"),
              (1, 3): (3, 5, "float16"), (1, 4): (1, 2.5, "bfloat16"), (1, 5): (3, 5, "float32")}
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 5, "use_rslora": True, "bias": "none",
              "target_modules": "all-linear", "base_model_name_or_path": "tiny/llama",
              "rank_pattern": {"down_proj": 9, "layers.1.mlp.gate_proj": 1, "gate_proj": 200, "proj": 7},
              "alpha_pattern": {"gate_proj": 2.5, "model.layers.0.self_attn.q_proj": 7, "odel.layers.0.self_attn.k_proj": 9}}
    specs, pairs, keep = {}, {}, []
    for (layer, target), (rank, alpha, kind) in chosen.items():
        a, b = values(rank, IN[target], kind), values(OUT[target], rank, kind)
        heads = {0: HEADS, 1: KV}.get(target)
        pairs[layer, target] = (a, permute(b, heads) if heads else b, alpha / math.sqrt(rank))
        for letter, x in (("A", a), ("B", b)):
            array = np.ascontiguousarray(raw(x, kind))
            keep.append(array)
            specs[f"base_model.model.model.layers.{layer}.{TARGETS[target]}.lora_{letter}.weight"] = TensorSpec(
                dtype=kind, shape=list(x.shape), data_ptr=array.ctypes.data, data_len=array.nbytes)
    with open(os.path.join(HERE, "peft", "adapter_model.safetensors"), "wb") as f:
        f.write(bytes(serialize(specs, {"format": "pt"})))
    with open(os.path.join(HERE, "peft", "adapter_config.json"), "w") as f:
        json.dump(config, f, indent=2)
        f.write("\n")
    packed("peft.packed", pairs)


def llama_cpp():
    chosen = {(0, 0): (4, "float32"), (0, 1): (4, "float16"), (0, 5): (10, "float32"), (1, 3): (4, "float16")}
    writer = gguf.GGUFWriter(os.path.join(HERE, "lora.gguf"), "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 6.0)
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, "Tiny Llama")
    pairs = {}
    for (layer, target), (rank, kind) in chosen.items():
        a, b = values(rank, IN[target], kind), values(OUT[target], rank, kind)
        pairs[layer, target] = (a, b, 6.0 / rank)
        name = f"blk.{layer}.{GGUF_NAMES[target]}.weight"
        writer.add_tensor(name + ".lora_a", raw(a, kind))
        writer.add_tensor(name + ".lora_b", raw(b, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    packed("gguf.packed", pairs)


peft()
llama_cpp()
