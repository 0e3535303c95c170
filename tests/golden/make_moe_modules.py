#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adapters on the experts and routers of the mixtures in the folder moe, each expert a module of its own, and the logits that PEFT
computes with them. Run it after make_moe.py, with a version of transformers whose experts are modules (before 5).

moe/ADAPTER/, moe/ADAPTER.logits: on the dequantized weights of moe/MODEL.gguf, whose logits without an adapter must be those that
make_moe.py has stored. moe/ADAPTER.gguf: the same tensors as llama.cpp's convert_lora_to_gguf.py lays them out: those of a layer's
experts in one tensor of three dimensions. moe/BLEND.logits: two adapters, each with its weight on its scale.
moe/ADAPTER.merged: what PEFT makes of the modules MERGED (merge_and_unload), one behind the other, f32.
Needs: pip install torch "transformers<5" peft gguf numpy."""
import os
import shutil

import gguf
import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import MixtralConfig, MixtralForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from tiny_gguf import permute

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "moe")
LAYERS, EMBD, HEADS, KV, VOCAB = 2, 64, 4, 2, 288
IDS = [1, 84, 200, 17, 7, 9, 45, 283, 100, 2]
COMMON = dict(hidden_size=EMBD, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KV, vocab_size=VOCAB,
              tie_word_embeddings=False, max_position_embeddings=256)
MODELS = {  # as in make_moe.py
    "qwen3moe": (Qwen3MoeForCausalLM,
                 Qwen3MoeConfig(intermediate_size=96, head_dim=32, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=32,
                                norm_topk_prob=True, rms_norm_eps=1e-6, **COMMON)),
    "mixtral": (MixtralForCausalLM,
                MixtralConfig(intermediate_size=64, num_local_experts=4, num_experts_per_tok=2, rms_norm_eps=1e-5, rope_theta=1e4,
                              **COMMON)),
}
BLOCK = {"qwen3moe": "mlp", "mixtral": "block_sparse_moe"}
EXPERT = {"qwen3moe": {"gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"},
          "mixtral": {"w1": "ffn_gate", "w3": "ffn_up", "w2": "ffn_down"}}
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm"}
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
ADAPTERS = {
    "router": ("qwen3moe", dict(r=2, lora_alpha=2, target_modules=["mlp.gate"])),
    "every-expert": ("qwen3moe", dict(r=3, lora_alpha=5, target_modules=["gate_proj", "up_proj", "down_proj", "mlp.gate", "q_proj"])),
    "some-experts": ("qwen3moe", dict(r=2, lora_alpha=3, use_rslora=True, rank_pattern={r"experts\.6\.down_proj": 9},
                                      alpha_pattern={"experts.4.up_proj": 1.5},
                                      target_modules=r".*layers\.1\.mlp\.experts\.(0|4|6)\.(up|down)_proj")),
    "experts-dora": ("qwen3moe", dict(r=2, lora_alpha=4, use_dora=True,
                                      target_modules=r".*(experts\.[1-6]\.(gate|down)_proj|mlp\.gate)")),
    "experts-bias": ("qwen3moe", dict(r=1, lora_alpha=2, lora_bias=True, target_modules=["gate_proj", "up_proj", "down_proj", "mlp.gate"])),
    "head-norms": ("qwen3moe", dict(r=2, lora_alpha=2, target_modules=r".*experts\.2\.up_proj",
                                    modules_to_save=["q_norm", "k_norm", "post_attention_layernorm"])),
    "mixtral-experts": ("mixtral", dict(r=3, lora_alpha=4, target_modules=["w1", "w2", "w3", "block_sparse_moe.gate", "v_proj"])),
    "whole-router": ("qwen3moe", dict(r=2, lora_alpha=3, target_modules=["q_proj", "down_proj"], modules_to_save=["gate"])),
    "mixtral-router": ("mixtral", dict(r=2, lora_alpha=4, use_dora=True, target_modules=["v_proj"],
                                       modules_to_save=["layers.1.block_sparse_moe.gate"])),
}
AS_GGUF = ["every-expert", "mixtral-experts"]
BLENDS = {"experts-blend": ("qwen3moe", [("every-expert", 0.7), ("some-experts", -0.6)])}
MERGED = {"every-expert": ["model.layers.0.mlp.experts.5.up_proj", "model.layers.1.mlp.experts.0.down_proj", "model.layers.1.mlp.gate"],
          "experts-dora": ["model.layers.0.mlp.experts.3.down_proj", "model.layers.1.mlp.gate"],
          "whole-router": ["model.layers.0.mlp.gate", "model.layers.1.mlp.gate"],
          "mixtral-experts": ["model.layers.1.block_sparse_moe.experts.3.w1", "model.layers.0.block_sparse_moe.experts.2.w2"]}


def unpermute(w, heads):
    return w.reshape(heads, w.shape[0] // heads // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def base(name):
    """The model with the file's weights."""
    kind, config = MODELS[name]
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(os.path.join(HERE, name + ".gguf")).tensors}
    model = kind(config).float().eval()
    state = {}
    for full, p in model.named_parameters():
        parts = full.removesuffix(".weight").split(".")
        if "layers" not in parts:
            x = tensors[OUTER[".".join(parts)] + ".weight"]
        elif "experts" in parts:
            x = tensors[f"blk.{parts[2]}.{EXPERT[name][parts[-1]]}_exps.weight"][int(parts[5])]
        elif parts[-1] == "gate":
            x = tensors[f"blk.{parts[2]}.ffn_gate_inp.weight"]
        else:
            inner = ".".join(parts[3:])
            x = tensors[f"blk.{parts[2]}.{NAMES[inner]}.weight"]
            if name == "mixtral" and parts[-1] in ("q_proj", "k_proj"):
                x = unpermute(x, HEADS if parts[-1] == "q_proj" else KV)
        state[full] = torch.from_numpy(np.array(x, dtype=np.float32)).reshape(p.shape)
    model.load_state_dict(state)
    got, want = logits(model), np.fromfile(os.path.join(HERE, name + ".logits"), np.float32).reshape(len(IDS), VOCAB)
    assert np.abs(got - want).max() < 1e-3 * np.abs(want).max(), (name, np.abs(got - want).max())
    return state


def fresh(name, state):
    kind, config = MODELS[name]
    model = kind(config).float()
    model.load_state_dict(state)
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model.float().eval()(input_ids=torch.tensor([IDS])).logits[0].numpy().astype(np.float32)


def train(name, model_name, options, state):
    model = get_peft_model(fresh(model_name, state), LoraConfig(task_type="CAUSAL_LM", **options)).eval()
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    for n, p in trained:  # values that show, as f16
        if "lora_magnitude" in n:
            p.data *= 1 + 0.3 * torch.randn_like(p)
        elif "modules_to_save" in n:
            p.data += 0.3 * torch.randn_like(p) * p.data.abs().mean()
        else:
            p.data = 0.25 * torch.randn_like(p)
        p.data = p.data.half().float()
    logits(model).tofile(os.path.join(HERE, name + ".logits"))
    folder = os.path.join(HERE, name)
    for n, p in trained:
        p.data = p.data.half()
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "README.md"))
    if name in MERGED:
        model.float()
        merged = model.merge_and_unload()
        rows = [merged.get_submodule(module).weight.detach().numpy().astype(np.float32).ravel() for module in MERGED[name]]
        np.concatenate(rows).tofile(os.path.join(HERE, name + ".merged"))


def as_gguf(name, model_name, alpha):
    w = gguf.GGUFWriter(os.path.join(HERE, name + ".gguf"), "llama" if model_name == "mixtral" else model_name)
    w.add_type(gguf.GGUFType.ADAPTER)
    w.add_string(gguf.Keys.Adapter.TYPE, "lora")
    w.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    stacks = {}
    for key, x in load_file(os.path.join(HERE, name, "adapter_model.safetensors")).items():
        parts = key.removeprefix("base_model.model.model.layers.").split(".")
        layer, part, x = parts[0], {"lora_A": ".lora_a", "lora_B": ".lora_b"}[parts[-2]], x.numpy()
        if "experts" in parts:
            stacks.setdefault(f"blk.{layer}.{EXPERT[model_name][parts[-3]]}_exps.weight{part}", {})[int(parts[3])] = x
            continue
        module = "ffn_gate_inp" if parts[-3] == "gate" else NAMES[".".join(parts[1:-2])]
        if model_name == "mixtral" and module in ("attn_q", "attn_k") and part == ".lora_b":
            x = permute(x, HEADS if module == "attn_q" else KV)
        w.add_tensor(f"blk.{layer}.{module}.weight{part}", np.ascontiguousarray(x))
    for key, experts in stacks.items():
        w.add_tensor(key, np.stack([experts[e] for e in range(len(experts))]))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def blend(name, model_name, parts, state):
    first = os.path.join(HERE, parts[0][0])
    model = PeftModel.from_pretrained(fresh(model_name, state), first, adapter_name="0")
    for i, (adapter, _) in list(enumerate(parts))[1:]:
        model.load_adapter(os.path.join(HERE, adapter), str(i))
    model.base_model.set_adapter([str(i) for i in range(len(parts))])
    for module in model.modules():
        for i, (_, weight) in enumerate(parts):
            if isinstance(getattr(module, "scaling", None), dict) and str(i) in module.scaling:
                module.scaling[str(i)] *= weight
    logits(model.float()).tofile(os.path.join(HERE, name + ".logits"))


states = {name: base(name) for name in MODELS}
for i, (name, (model_name, options)) in enumerate(ADAPTERS.items()):
    torch.manual_seed(100 + i)
    train(name, model_name, options, states[model_name])
    if name in AS_GGUF:
        as_gguf(name, model_name, float(options["lora_alpha"]))
for name, (model_name, parts) in BLENDS.items():
    blend(name, model_name, parts, states[model_name])
