#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tiny random mixtures of experts and the logits that transformers computes with them: writes the folder moe beside this file.

NAME.gguf: qwen3moe and llama with experts (Mixtral), as llama.cpp's converter writes them: the experts of a layer in one tensor of
three dimensions, q and k of the second with permuted rows. NAME.logits: f32 [len(IDS)][n_vocab] in f32 on the dequantized weights.
ADAPTER/ and ADAPTER.logits: what PEFT computes with an adapter on the first; stacked: of parameters that hold all experts.
make_moe_modules.py goes on from here, with a version of transformers whose experts and router are modules.
Needs: pip install torch transformers peft gguf numpy."""
import os
import shutil

import gguf
import numpy as np
import torch
from gguf.constants import GGMLQuantizationType as T
from peft import LoraConfig, get_peft_model
from transformers import MixtralConfig, MixtralForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from tiny_gguf import add_byte_tokenizer, permute

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "moe")
LAYERS, EMBD, HEADS, KV, VOCAB = 2, 64, 4, 2, 288
IDS = [1, 84, 200, 17, 7, 9, 45, 283, 100, 2]
COMMON = dict(hidden_size=EMBD, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KV, vocab_size=VOCAB,
              tie_word_embeddings=False, max_position_embeddings=256)
MODELS = {
    "qwen3moe": (Qwen3MoeForCausalLM,
                 Qwen3MoeConfig(intermediate_size=96, head_dim=32, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=32,
                                norm_topk_prob=True, rms_norm_eps=1e-6, **COMMON)),
    "mixtral": (MixtralForCausalLM,
                MixtralConfig(intermediate_size=64, num_local_experts=4, num_experts_per_tok=2, rms_norm_eps=1e-5, rope_theta=1e4,
                              **COMMON)),
}
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate": "ffn_gate_inp",
         "block_sparse_moe.gate": "ffn_gate_inp", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
OTHERS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
# gate and up of different types in layer 1, as mixtures of formats have them.
EXPERTS = {"gate": [T.Q4_0, T.Q8_0], "up": [T.Q4_0, T.Q5_0], "down": [T.Q8_0, T.Q4_1]}
ADAPTERS = {
    "plain": dict(r=5, lora_alpha=7, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
    "dora": dict(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], use_dora=True),
    "norms": dict(r=2, lora_alpha=2, target_modules=["q_proj"],
                  modules_to_save=["model.norm", "input_layernorm", "post_attention_layernorm"]),
    "embed-head": dict(r=4, lora_alpha=8, target_modules=["embed_tokens", "lm_head", "v_proj"]),
    "stacked": dict(r=2, lora_alpha=3, target_modules=["q_proj"], target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]),
    "stacked-down": dict(r=3, lora_alpha=6, target_modules=["o_proj"], target_parameters=["mlp.experts.down_proj", "mlp.gate.weight"],
                         use_rslora=True),
}


def quantized(x, kind):
    """The stored blocks and their values."""
    if kind == T.F32:
        return x.astype(np.float32), x
    blocks = gguf.quants.quantize(x.reshape(-1, x.shape[-1]), kind)
    values = gguf.quants.dequantize(blocks, kind).reshape(x.shape)
    return blocks.reshape(*x.shape[:-1], -1), values


def write(name):
    kind, config = MODELS[name]
    mixtral = name == "mixtral"
    torch.manual_seed(20251125)
    model = kind(config).float().eval()
    w = gguf.GGUFWriter(os.path.join(HERE, name + ".gguf"), "llama" if mixtral else "qwen3moe")
    w.add_name("tiny")
    w.add_block_count(LAYERS)
    w.add_context_length(256)
    w.add_embedding_length(EMBD)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV)
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_rope_freq_base(10000.0)
    w.add_vocab_size(VOCAB)
    add_byte_tokenizer(w, VOCAB)
    if mixtral:
        w.add_rope_dimension_count(EMBD // HEADS)
        w.add_expert_count(config.num_local_experts)
    else:
        w.add_key_length(config.head_dim)
        w.add_value_length(config.head_dim)
        w.add_expert_count(config.num_experts)
        w.add_expert_feed_forward_length(config.moe_intermediate_size)
    w.add_expert_used_count(config.num_experts_per_tok)

    def add(out, x, kind, heads=0):
        blocks, values = quantized(x, kind)
        w.add_tensor(out, permute(blocks, heads) if heads else blocks, raw_dtype=kind)  # rows only: blocks stay what they are
        return torch.from_numpy(np.array(values, dtype=np.float32))

    for full, p in model.named_parameters():
        parts = full.removesuffix(".weight").split(".")
        x = torch.randn(p.shape)
        x = (1 + 0.2 * x if x.ndim == 1 else x * (1.0 if "embed" in full or parts[-1] == "gate" else 0.15)).numpy()
        if "layers" not in parts:
            p.data = add(OTHERS[".".join(parts)] + ".weight", x, T.F32 if x.ndim == 1 else T.Q4_0)
            continue
        layer, rest = int(parts[2]), ".".join(parts[3:])
        if "experts" not in rest:
            heads = {"self_attn.q_proj": HEADS, "self_attn.k_proj": KV}.get(rest, 0) if mixtral else 0
            plain = x.ndim == 1 or parts[-1] == "gate"
            p.data = add(f"blk.{layer}.{NAMES[rest]}.weight", x, T.F32 if plain else T.Q4_0, heads)
        elif rest.endswith("gate_up_proj"):
            half = x.shape[1] // 2
            gate = add(f"blk.{layer}.ffn_gate_exps.weight", x[:, :half], EXPERTS["gate"][layer])
            up = add(f"blk.{layer}.ffn_up_exps.weight", x[:, half:], EXPERTS["up"][layer])
            p.data = torch.cat([gate, up], dim=1)
        else:
            p.data = add(f"blk.{layer}.ffn_down_exps.weight", x, EXPERTS["down"][layer])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return model


def logits(model, name):
    with torch.no_grad():
        out = model.float().eval()(input_ids=torch.tensor([IDS])).logits[0]
    out.numpy().astype(np.float32).tofile(os.path.join(HERE, name + ".logits"))


def adapted(state, name, options):
    kind, config = MODELS["qwen3moe"]
    model = kind(config).float()
    model.load_state_dict(state)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    for full, p in model.named_parameters():  # every trained tensor gets values that show
        if not p.requires_grad:
            continue
        if "lora_magnitude" in full:
            p.data *= 1 + 0.3 * torch.randn_like(p)
        elif "modules_to_save" in full:
            p.data += 0.2 * torch.randn_like(p) * p.data.abs().mean()
        else:
            p.data = 0.2 * torch.randn_like(p)
    logits(model, name)
    shutil.rmtree(os.path.join(HERE, name), ignore_errors=True)
    model.save_pretrained(os.path.join(HERE, name))
    os.remove(os.path.join(HERE, name, "README.md"))


os.makedirs(HERE, exist_ok=True)
logits(write("mixtral"), "mixtral")
base = write("qwen3moe")
logits(base, "qwen3moe")
for name, options in ADAPTERS.items():
    adapted(base.state_dict(), name, options)
