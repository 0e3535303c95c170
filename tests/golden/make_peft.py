#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adapters of every kind and the logits that PEFT computes with them: writes the folder peft beside this file.

base.gguf: a random llama with Q4_0 matrices. NAME/: an adapter as PEFT's save_pretrained writes it. NAME.logits: f32
[len(IDS)][n_vocab] of the token ids below, by transformers and PEFT on the dequantized base in f32, in eval mode.
Needs: pip install torch transformers peft gguf numpy."""
import json
import os
import shutil

import gguf
import numpy as np
import torch
from gguf.constants import GGMLQuantizationType as T
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from tiny_gguf import add_byte_tokenizer, permute

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peft")
LAYERS, EMBD, FF, HEADS, KV, VOCAB = 2, 64, 96, 4, 2, 288
IDS = [1, 84, 200, 17, 7, 9, 45, 283, 100, 2]
CONFIG = LlamaConfig(hidden_size=EMBD, intermediate_size=FF, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                     num_key_value_heads=KV, vocab_size=VOCAB, tie_word_embeddings=False, max_position_embeddings=256,
                     rms_norm_eps=1e-5)
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
KINDS = {
    "plain": dict(r=5, lora_alpha=7, target_modules="all-linear"),
    "rslora": dict(r=3, lora_alpha=5, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], use_rslora=True),
    "dora": dict(r=4, lora_alpha=8, target_modules="all-linear", use_dora=True),
    "dora-patterns": dict(r=4, lora_alpha=6, target_modules=["q_proj", "k_proj", "up_proj", "down_proj"], use_dora=True,
                          use_rslora=True, rank_pattern={"down_proj": 9, "layers.1.mlp.up_proj": 1}, alpha_pattern={"k_proj": 3}),
    "bias": dict(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "gate_proj", "down_proj"], lora_bias=True),
    "embed-head": dict(r=4, lora_alpha=8, target_modules=["embed_tokens", "lm_head", "v_proj"]),
    "norms": dict(r=2, lora_alpha=2, target_modules=["q_proj"],
                  modules_to_save=["norm", "input_layernorm", "post_attention_layernorm"]),
    "head": dict(r=2, lora_alpha=2, target_modules=["v_proj"], modules_to_save=["lm_head"]),
    "rank1": dict(r=1, lora_alpha=3, target_modules=["gate_proj", "up_proj"]),
    "rank256": dict(r=256, lora_alpha=16, target_modules=["q_proj"], layers_to_transform=[0]),
    "regex": dict(r=2, lora_alpha=4, target_modules=r".*\.(q|v|down)_proj", rank_pattern={r".*\.1\..*_proj": 3},
                  alpha_pattern={r"(q|k)_proj": 9}, fan_in_fan_out=True),
    "f16": dict(r=4, lora_alpha=8, target_modules=["q_proj", "o_proj"]),
    "bf16": dict(r=4, lora_alpha=8, target_modules=["k_proj", "down_proj"]),
    "alora": dict(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj"], alora_invocation_tokens=[7, 9]),
    "dora-embed": dict(r=4, lora_alpha=8, target_modules=["embed_tokens", "lm_head", "q_proj"], use_dora=True),
}


def base():
    """The model with its dequantized weights, and base.gguf."""
    torch.manual_seed(20240607)
    model = LlamaForCausalLM(CONFIG).float().eval()
    w = gguf.GGUFWriter(os.path.join(HERE, "base.gguf"), "llama")
    w.add_name("tiny")
    w.add_block_count(LAYERS)
    w.add_context_length(256)
    w.add_embedding_length(EMBD)
    w.add_feed_forward_length(FF)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(EMBD // HEADS)
    w.add_rope_freq_base(10000.0)
    w.add_vocab_size(VOCAB)
    add_byte_tokenizer(w, VOCAB)
    for name, p in model.named_parameters():
        x = p.detach().numpy()
        if x.ndim == 1:
            x = (1 + 0.2 * torch.randn(x.shape)).numpy()
            p.data = torch.from_numpy(x.copy())
        else:
            x = (torch.randn(x.shape) * (1.0 if "embed" in name else 0.15)).numpy()
        parts = name.split(".")
        heads = HEADS if "q_proj" in name else KV if "k_proj" in name else 0
        if parts[1] == "layers":
            out = f"blk.{parts[2]}.{NAMES['.'.join(parts[3:-1])]}.weight"
        else:
            out = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
                   "lm_head.weight": "output.weight"}[name]
        if x.ndim == 1:
            w.add_tensor(out, x.astype(np.float32))
            continue
        quantized = gguf.quants.quantize(x, T.Q4_0)
        p.data = torch.from_numpy(gguf.quants.dequantize(quantized, T.Q4_0).copy())
        if heads:  # rows only, so that blocks stay what they are
            quantized = permute(quantized, heads)
        w.add_tensor(out, quantized, raw_dtype=T.Q4_0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return model.state_dict()


def fresh(state):
    model = LlamaForCausalLM(CONFIG).float()
    model.load_state_dict(state)
    return model


def randomize(model):
    """Every trained tensor gets values that show."""
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        if "lora_magnitude" in name:
            p.data *= 1 + 0.3 * torch.randn_like(p)
        elif "modules_to_save" in name:
            p.data += 0.2 * torch.randn_like(p) * p.data.abs().mean()
        else:
            p.data = 0.2 * torch.randn_like(p)


def logits(model, name):
    with torch.no_grad():
        out = model.float().eval()(input_ids=torch.tensor([IDS])).logits[0]
    out.numpy().astype(np.float32).tofile(os.path.join(HERE, name + ".logits"))


shutil.rmtree(HERE, ignore_errors=True)
os.makedirs(HERE)
state = base()
logits(fresh(state), "base")
for name, options in KINDS.items():
    model = get_peft_model(fresh(state), LoraConfig(task_type="CAUSAL_LM", **options))
    randomize(model)
    kind = {"f16": torch.float16, "bf16": torch.bfloat16}.get(name)
    if kind:
        for p in model.parameters():
            p.data = p.data.to(kind).float() if p.requires_grad else p.data
    logits(model, name)
    for n, p in model.named_parameters():
        p.data = p.data.to(kind) if kind and p.requires_grad else p.data
    model.save_pretrained(os.path.join(HERE, name))
    os.remove(os.path.join(HERE, name, "README.md"))

# A blend: both adapters active, each with its weight on its scale.
model = get_peft_model(fresh(state), LoraConfig(task_type="CAUSAL_LM", **KINDS["plain"]), "plain")
model.load_adapter(os.path.join(HERE, "plain"), "first")
model.load_adapter(os.path.join(HERE, "rslora"), "second")
model.base_model.set_adapter(["first", "second"])
for module in model.modules():
    for adapter, weight in (("first", 0.6), ("second", -0.4)):
        if isinstance(getattr(module, "scaling", None), dict) and adapter in module.scaling:
            module.scaling[adapter] *= weight
logits(model, "blend")
