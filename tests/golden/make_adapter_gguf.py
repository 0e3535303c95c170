#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Some of the folders of tests/golden/peft as GGUF adapters: writes peft/NAME.gguf beside them. Run it after make_peft.py.

The layout is that of llama.cpp's convert_lora_to_gguf.py, in PyPI's gguf and numpy: rows of q's and k's B permuted as
convert_hf_to_gguf.py permutes the base's, token_embd's A turned, norms as whole vectors, base_layer tensors left out. Two
things are otherwise: tensors keep their types, and the alpha of an rsLoRA adapter is the one that gives its scale as alpha / r
(the converter writes lora_alpha and so loses the scale). Needs: pip install gguf numpy."""
import json
import math
import os

import gguf
import numpy as np

from tiny_gguf import permute

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peft")
HEADS = {"attn_q": 4, "attn_k": 2}
TYPES = {"F32": (np.float32, gguf.GGMLQuantizationType.F32), "F16": (np.float16, gguf.GGMLQuantizationType.F16),
         "BF16": (np.uint16, gguf.GGMLQuantizationType.BF16)}
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "lm_head": "output", "norm": "output_norm",
         "embed_tokens": "token_embd"}


def tensors(path):
    """name -> (array, type), from the safetensors file's own description of itself."""
    with open(path, "rb") as f:
        data = f.read()
    length = int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8:8 + length]).items():
        if name != "__metadata__":
            dtype, kind = TYPES[entry["dtype"]]
            begin, end = (8 + length + at for at in entry["data_offsets"])
            yield name, np.frombuffer(data[begin:end], dtype).reshape(entry["shape"]), kind


def convert(name):
    with open(os.path.join(HERE, name, "adapter_config.json")) as f:
        config = json.load(f)
    alpha = config["lora_alpha"] * (math.sqrt(config["r"]) if config["use_rslora"] else 1)
    w = gguf.GGUFWriter(os.path.join(HERE, name + ".gguf"), "llama")
    w.add_type(gguf.GGUFType.ADAPTER)
    w.add_string(gguf.Keys.Adapter.TYPE, "lora")
    w.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    if config["alora_invocation_tokens"]:
        w.add_key_value(gguf.Keys.Adapter.ALORA_INVOCATION_TOKENS, config["alora_invocation_tokens"], gguf.GGUFValueType.ARRAY,
                        gguf.GGUFValueType.UINT32)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, x, kind in tensors(os.path.join(HERE, name, "adapter_model.safetensors")):
        key = key.removeprefix("base_model.model.").removeprefix("model.")
        if key.endswith(".base_layer.weight"):
            continue
        layer = ""
        if key.startswith("layers."):
            number, key = key.removeprefix("layers.").split(".", 1)
            layer = f"blk.{number}."
        for ending, part in ((".lora_A.weight", ".lora_a"), (".lora_B.weight", ".lora_b"), (".lora_embedding_A", ".lora_a"),
                             (".lora_embedding_B", ".lora_b"), (".weight", "")):
            if key.endswith(ending):
                module = NAMES[key.removesuffix(ending)]
                break
        if part == ".lora_b" and module in HEADS:
            x = permute(x, HEADS[module])
        if module == "token_embd" and part == ".lora_a":
            x = x.T
        w.add_tensor(f"{layer}{module}.weight{part}", np.ascontiguousarray(x), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


for adapter in ("plain", "rslora", "embed-head", "norms", "alora", "bf16"):
    convert(adapter)
