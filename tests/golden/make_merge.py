#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What PEFT's merge_and_unload makes of every kind of adapter in peft/ (make_peft.py): writes merge/NAME.rows beside this file.

NAME.rows: f32, for every tensor of base.gguf in its order: a matrix as its product with x, one value a row, x[i] =
((7919 i + 31) mod 1013) / 1013 - 0.5; a vector as it is. On the dequantized base, in f64. blend: base + 0.6 (plain - base) - 0.4
(rslora - base).
Needs: pip install torch transformers peft gguf numpy."""
import os

import gguf
import numpy as np
import torch
from peft import PeftModel
from transformers import LlamaConfig, LlamaForCausalLM

from tiny_gguf import permute

HERE = os.path.dirname(os.path.abspath(__file__))
PEFT, OUT = os.path.join(HERE, "peft"), os.path.join(HERE, "merge")
EMBD, FF, HEADS, KV, VOCAB = 64, 96, 4, 2, 288
CONFIG = LlamaConfig(hidden_size=EMBD, intermediate_size=FF, num_hidden_layers=2, num_attention_heads=HEADS,
                     num_key_value_heads=KV, vocab_size=VOCAB, tie_word_embeddings=False, max_position_embeddings=256,
                     rms_norm_eps=1e-5)
NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
         "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
KINDS = ["plain", "rslora", "dora", "dora-patterns", "dora-embed", "embed-head", "norms", "head", "rank1", "rank256", "regex", "f16", "bf16"]


def torch_name(name):
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{NAMES[parts[2]]}.weight"
    return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
            "output.weight": "lm_head.weight"}[name]


def heads_of(name):
    return HEADS if "attn_q." in name else KV if "attn_k." in name else 0


def unpermute(w, heads):
    return w.reshape(heads, w.shape[0] // heads // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


tensors = gguf.GGUFReader(os.path.join(PEFT, "base.gguf")).tensors
order = [t.name for t in tensors]
state = {}
for t in tensors:
    w = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64)
    state[torch_name(t.name)] = torch.from_numpy(unpermute(w, heads_of(t.name)) if heads_of(t.name) else w.copy())


def merged(kind):
    model = LlamaForCausalLM(CONFIG).double()
    model.load_state_dict(state)
    model = PeftModel.from_pretrained(model, os.path.join(PEFT, kind)).double().merge_and_unload()
    return {n: p.detach().double() for n, p in model.state_dict().items()}


def save(kind, weights):
    rows = []
    for name in order:
        w = weights[torch_name(name)].numpy()
        if w.ndim == 1:
            rows.append(w)
            continue
        w = permute(w, heads_of(name)) if heads_of(name) else w
        rows.append(w @ ((7919 * np.arange(w.shape[1]) + 31) % 1013 / 1013 - 0.5))
    np.concatenate(rows).astype(np.float32).tofile(os.path.join(OUT, kind + ".rows"))


os.makedirs(OUT, exist_ok=True)
save("base", state)
every = {kind: merged(kind) for kind in KINDS}
for kind, weights in every.items():
    save(kind, weights)
save("blend", {n: state[n] + 0.6 * (every["plain"][n] - state[n]) - 0.4 * (every["rslora"][n] - state[n]) for n in state})
