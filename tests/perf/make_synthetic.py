#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_synthetic.py SHAPE TYPE OUT.gguf [ADAPTER_FOLDER [RANK]]: a llama of a real shape with random weights as a GGUF file, and a PEFT
adapter of rank RANK (16) on all seven targets. For measuring graft merge on models that are too large to fetch. A small random
pattern is quantized once by PyPI gguf and repeated, so that it takes the time of writing the file. No vocabulary.

SHAPE: llama-8b, llama-1b, llama-135m, tiny. TYPE: f32, f16, q4_0, q4_1, q8_0."""
import json
import os
import struct
import sys

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

# layers, width, ffn, heads, kv heads, head size, vocabulary, tied
SHAPES = {"llama-8b": (32, 4096, 14336, 32, 8, 128, 128256, False), "llama-1b": (16, 2048, 8192, 32, 8, 64, 128256, True),
          "llama-135m": (30, 576, 1536, 9, 3, 64, 49152, True), "tiny": (2, 256, 512, 4, 2, 64, 320, True)}
PATTERN_BLOCKS, ALIGN = 509, 32  # a prime number of blocks: rows do not repeat
rng = np.random.default_rng(20240901)


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def u32(name, value):
    return key(name, 4, struct.pack("<I", value))


def f32(name, value):
    return key(name, 6, struct.pack("<f", value))


def base(shape, kind, path):
    layers, embd, ff, heads, kv, dim, vocab, tied = SHAPES[shape]
    qtype = GGMLQuantizationType[kind.upper()]
    values, bytes_ = GGML_QUANT_SIZES[qtype]
    blocks = PATTERN_BLOCKS if values > 1 else PATTERN_BLOCKS * 32
    x = (rng.standard_normal((1, blocks * values)) * 0.02).astype(np.float32)
    pattern = gguf.quants.quantize(x, qtype).tobytes()
    pattern = pattern * (max(1, (64 << 20) // len(pattern)))
    tensors = [("token_embd.weight", embd, vocab)]
    for i in range(layers):
        for name, n_in, n_out in (("attn_norm", embd, 0), ("attn_q", embd, heads * dim), ("attn_k", embd, kv * dim),
                                  ("attn_v", embd, kv * dim), ("attn_output", heads * dim, embd), ("ffn_norm", embd, 0),
                                  ("ffn_gate", embd, ff), ("ffn_up", embd, ff), ("ffn_down", ff, embd)):
            tensors.append((f"blk.{i}.{name}.weight", n_in, n_out))
    tensors += [("output_norm.weight", embd, 0)] + ([] if tied else [("output.weight", embd, vocab)])
    keys = [key("general.architecture", 8, text("llama")), key("general.name", 8, text(f"{shape}:{kind}")),
            u32("llama.block_count", layers), u32("llama.context_length", 8192), u32("llama.embedding_length", embd),
            u32("llama.feed_forward_length", ff), u32("llama.attention.head_count", heads),
            u32("llama.attention.head_count_kv", kv), u32("llama.attention.key_length", dim),
            u32("llama.attention.value_length", dim), f32("llama.attention.layer_norm_rms_epsilon", 1e-5),
            f32("llama.rope.freq_base", 500000.0), u32("llama.rope.dimension_count", dim), u32("llama.vocab_size", vocab)]
    infos, offset, sizes = b"", 0, []
    for name, n_in, n_out in tensors:
        size = n_in * 4 if n_out == 0 else n_in // values * bytes_ * n_out
        dims = struct.pack("<IQ", 1, n_in) if n_out == 0 else struct.pack("<IQQ", 2, n_in, n_out)
        infos += text(name) + dims + struct.pack("<IQ", 0 if n_out == 0 else int(qtype), offset)
        sizes.append(size)
        offset += (size + ALIGN - 1) // ALIGN * ALIGN
    head = struct.pack("<IIQQ", 0x46554747, 3, len(tensors), len(keys)) + b"".join(keys) + infos
    phase = 0
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % ALIGN))
        for (name, n_in, n_out), size in zip(tensors, sizes):
            if n_out == 0:
                f.write(np.ones(n_in, np.float32).tobytes())
            left = size if n_out else 0
            while left:
                piece = pattern[phase:phase + left]
                f.write(piece)
                phase = (phase + len(piece)) % len(pattern)
                left -= len(piece)
            f.write(bytes(-size % ALIGN))


def adapter(shape, folder, rank):
    layers, embd, ff, heads, kv, dim, vocab, tied = SHAPES[shape]
    os.makedirs(folder, exist_ok=True)
    header, data, offset = {}, [], 0
    for i in range(layers):
        for name, n_in, n_out in (("self_attn.q_proj", embd, heads * dim), ("self_attn.k_proj", embd, kv * dim),
                                  ("self_attn.v_proj", embd, kv * dim), ("self_attn.o_proj", heads * dim, embd),
                                  ("mlp.gate_proj", embd, ff), ("mlp.up_proj", embd, ff), ("mlp.down_proj", ff, embd)):
            for letter, rows, cols in (("A", rank, n_in), ("B", n_out, rank)):
                x = (rng.standard_normal((rows, cols)) * 0.01).astype(np.float16)
                header[f"base_model.model.model.layers.{i}.{name}.lora_{letter}.weight"] = {
                    "dtype": "F16", "shape": [rows, cols], "data_offsets": [offset, offset + x.nbytes]}
                offset += x.nbytes
                data.append(x)
    text_ = json.dumps(header).encode()
    text_ += b" " * (-len(text_) % 8)
    with open(os.path.join(folder, "adapter_model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text_)) + text_)
        for x in data:
            f.write(x.tobytes())
    with open(os.path.join(folder, "adapter_config.json"), "w") as f:
        json.dump({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank, "bias": "none",
                   "target_modules": "all-linear", "base_model_name_or_path": None}, f)


if len(sys.argv) < 4:
    sys.exit(__doc__)
base(*sys.argv[1:4])
if len(sys.argv) > 4:
    adapter(sys.argv[1], sys.argv[4], int(sys.argv[5]) if len(sys.argv) > 5 else 16)
