#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adapters combined by PEFT's add_weighted_adapter: writes the folder combine beside this file.

in/NAME/: adapters of the base in peft/base.gguf. CASE/: what PEFT makes of them in f64, stored as f32, with the scale 1 that its
A and B are meant for (PEFT itself leaves use_rslora of the first adapter on). cases.json lists inputs and parameters.
Two things that PEFT leaves open are fixed here as graft/combine.h and runtime/merge/combine.h define them: signs of singular
vectors (the largest value of each row of V^T is positive), and the random masks of dare (Philox 4x32-10, keyed by seed, adapter,
module and tensor).
Needs: pip install torch transformers peft numpy."""
import hashlib
import json
import os
import shutil
import struct

import numpy as np
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer, LoraModel
from peft.utils import merge_utils
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "combine")
CONFIG = LlamaConfig(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                     vocab_size=288, tie_word_embeddings=False, max_position_embeddings=256, rms_norm_eps=1e-5)
ONE_LAYER = dict(layers_to_transform=[1])
INPUTS = {
    "one": dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj", "up_proj"], **ONE_LAYER),
    "two": dict(r=4, lora_alpha=5, target_modules=["q_proj", "v_proj", "o_proj"], use_rslora=True, **ONE_LAYER),
    "three": dict(r=4, lora_alpha=3, target_modules=["q_proj", "v_proj", "down_proj"], **ONE_LAYER),
    "wide": dict(r=6, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj"], rank_pattern={"down_proj": 3},
                 alpha_pattern={"v_proj": 9}, **ONE_LAYER),
    "ends": dict(r=2, lora_alpha=3, target_modules=["embed_tokens", "lm_head"]),
    "ends-too": dict(r=2, lora_alpha=2, target_modules=["embed_tokens", "lm_head"]),
}
THREE = [["one", 0.7], ["two", 0.4], ["three", -0.5]]
UNEQUAL = [["one", 1.0], ["wide", 0.5]]
ENDS = [["ends", 0.6], ["ends-too", 0.8]]
CASES = {
    "linear": (THREE, dict(method="linear")),
    "cat": (THREE, dict(method="cat")),
    "svd": (THREE, dict(method="svd")),
    "svd-2": (THREE, dict(method="svd", svd_rank=2)),
    "svd-clamp": (THREE, dict(method="svd", svd_rank=3, svd_clamp=0.9)),
    "magnitude_prune": (THREE, dict(method="magnitude_prune", density=0.4)),
    "ties": (THREE, dict(method="ties", density=0.5)),
    "ties-frequency": (THREE, dict(method="ties", density=0.5, majority_sign_method="frequency")),
    "dare_linear": (THREE, dict(method="dare_linear", density=0.6, seed=7)),
    "dare_ties": (THREE, dict(method="dare_ties", density=0.6, seed=7, majority_sign_method="frequency")),
    "magnitude_prune_svd": (THREE, dict(method="magnitude_prune_svd", density=0.3)),
    "ties_svd": (THREE, dict(method="ties_svd", density=0.5)),
    "ties_svd-frequency": (THREE, dict(method="ties_svd", density=0.5, majority_sign_method="frequency", svd_rank=7)),
    "dare_linear_svd": (THREE, dict(method="dare_linear_svd", density=0.7, seed=11)),
    "dare_ties_svd": (THREE, dict(method="dare_ties_svd", density=0.7, seed=9007199254740991)),
    "unequal-cat": (UNEQUAL, dict(method="cat")),
    "unequal-svd": (UNEQUAL, dict(method="svd")),
    "unequal-ties_svd": (UNEQUAL, dict(method="ties_svd", density=0.5)),
    "ends-linear": (ENDS, dict(method="linear")),
    "ends-svd": (ENDS, dict(method="svd")),
    "ends-dare_ties_svd": (ENDS, dict(method="dare_ties_svd", density=0.8, seed=3)),
}


def philox(key, count):
    """The first `count` words of a key's stream. Salmon et al., SC 2011; checked against their known answers below."""
    n = (count + 3) // 4
    block = np.arange(n, dtype=np.uint64)
    low = np.uint64(0xffffffff)
    c = [block & low, block >> np.uint64(32), np.zeros(n, np.uint64), np.zeros(n, np.uint64)]
    return rounds(c, key & 0xffffffff, key >> 32).T.reshape(-1)[:count]


def rounds(c, k0, k1):
    low, shift = np.uint64(0xffffffff), np.uint64(32)
    for _ in range(10):
        left, right = np.uint64(0xd2511f53) * c[0], np.uint64(0xcd9e8d57) * c[2]
        c = [(right >> shift) ^ c[1] ^ np.uint64(k0), right & low, (left >> shift) ^ c[3] ^ np.uint64(k1), left & low]
        k0, k1 = (k0 + 0x9e3779b9) & 0xffffffff, (k1 + 0xbb67ae85) & 0xffffffff
    return np.stack(c)


def answer(counter, key):
    return [int(x) for x in rounds([np.array([x], np.uint64) for x in counter], *key)[:, 0]]


assert answer([0] * 4, [0] * 2) == [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]
assert answer([0xffffffff] * 4, [0xffffffff] * 2) == [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]


class Masks:
    """Stands in for torch.bernoulli: knows which tensor of which adapter is being pruned."""

    def begin(self, module, present, seed, parts, turned):
        tensors = ["lora_A", "lora_B"] if parts else ["delta"]
        self.queue = [(module, i, t) for t in tensors for i in present]
        self.seed, self.turned = seed, turned

    def draw(self, probability):
        module, adapter, tensor = self.queue.pop(0)
        text = f"graft dare {self.seed} {adapter} {module} {tensor}"
        key = struct.unpack("<Q", hashlib.sha256(text.encode()).digest()[:8])[0]
        shape = probability.shape
        words = philox(key, probability.numel())
        turned = tensor == "delta" and self.turned(shape)
        words = words.reshape(shape[::-1]).T if turned else words.reshape(shape)
        return torch.from_numpy((words < float(probability.flatten()[0]) * 2.0**32).astype(np.float64))


masks = Masks()
bernoulli, svd = torch.bernoulli, torch.linalg.svd
torch.bernoulli = lambda p: masks.draw(p)


def svd_with_signs(*args, **kwargs):
    u, s, vh = svd(*args, **kwargs)
    n = len(s)
    sign = torch.sign(vh[:n].gather(1, vh[:n].abs().argmax(1, keepdim=True)))
    u, vh = u.clone(), vh.clone()
    u[:, :n] *= sign.T
    vh[:n] *= sign
    return u, s, vh


torch.linalg.svd = svd_with_signs


def watch(name, parts):
    """PEFT's own arithmetic, told which module it works on."""
    inner = getattr(LoraModel, name)

    def outer(self, combination_type, adapters, weights, *rest, **kwargs):
        target = next(x for x in rest if isinstance(x, LoraLayer))
        module = next(n for n, m in self.model.named_modules() if m is target)
        present = [i for i, a in enumerate(adapters) if a in target.lora_A or a in target.lora_embedding_A]
        # A matrix's words lie along its shorter side. PEFT has an embedding's as [vocabulary][n_embd], which is that already.
        masks.begin(module, present, self.seed, parts, lambda shape: shape[1] > shape[0])
        return inner(self, combination_type, adapters, weights, *rest, **kwargs)

    setattr(LoraModel, name, outer)


watch("_generalized_task_arithmetic_weighted_adapter", True)
watch("_svd_generalized_task_arithmetic_weighted_adapter", False)


def save(folder, tensors, config):
    os.makedirs(folder)
    save_file({k: v.to(torch.float32).contiguous() for k, v in tensors.items()}, os.path.join(folder, "adapter_model.safetensors"),
              {"format": "pt"})
    with open(os.path.join(folder, "adapter_config.json"), "w") as f:
        json.dump(dict(peft_type="LORA", task_type="CAUSAL_LM", **config), f, indent=1, sort_keys=True)
        f.write("\n")


shutil.rmtree(HERE, ignore_errors=True)
os.makedirs(HERE)
torch.manual_seed(77)
weights = {}
for name, options in INPUTS.items():
    model = get_peft_model(LlamaForCausalLM(CONFIG), LoraConfig(task_type="CAUSAL_LM", **options))
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    weights[name] = {k: torch.randn(v.shape) * 0.3 for k, v in tensors.items()}
    save(os.path.join(HERE, "in", name), weights[name], options)

listing = {}
for case, (inputs, parameters) in CASES.items():
    model = None
    for name, _ in inputs:
        config = LoraConfig(task_type="CAUSAL_LM", **INPUTS[name])
        if model is None:
            model = get_peft_model(LlamaForCausalLM(CONFIG), config, name)
        else:
            model.add_adapter(name, config)
    model = model.double()
    for name, _ in inputs:
        for n, p in model.named_parameters():
            if f".{name}." in n or n.endswith(f".{name}"):
                p.data = weights[name][n.replace(f".{name}", "")].double()
    model.base_model.seed = parameters.get("seed", 0)
    options = {k: v for k, v in parameters.items() if k not in ("method", "seed")}
    model.add_weighted_adapter([n for n, _ in inputs], [w for _, w in inputs], "result", combination_type=parameters["method"], **options)
    tensors = get_peft_model_state_dict(model, adapter_name="result", save_embedding_layers=False)
    made = model.peft_config["result"]
    save(os.path.join(HERE, case), tensors, dict(r=made.r, lora_alpha=made.r, target_modules=sorted(made.target_modules),
                                                 layers_to_transform=made.layers_to_transform))
    listing[case] = dict(inputs=inputs, **parameters)
with open(os.path.join(HERE, "cases.json"), "w") as f:
    json.dump(listing, f, indent=1)
    f.write("\n")
