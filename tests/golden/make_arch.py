#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tiny random models of every architecture and what transformers and PEFT compute with them: writes the folder arch beside this
file. The GGUF files have the keys and tensors that llama.cpp's converter writes (PyPI's gguf: constants.py, tensor_mapping.py).

NAME.gguf: a random model whose matrices are quantized; NAME.logits: f32 [20][288] of the tokens IDS, by transformers (eager
attention) on the dequantized weights; NAME.greedy: i32 [8], the tokens that follow IDS greedily. phi3-long: phi3 with the long
factors, whose context is beyond the original one. qwen2-yarn: positions stretched by YaRN. NAME.KIND/: an adapter as PEFT saves it, NAME.KIND.logits: f32 of the last 8
of IDS with it. NAME.KIND.gguf: the same adapter as llama.cpp's convert_lora_to_gguf.py lays it out, of some.
Needs: pip install torch transformers peft gguf numpy. Run with names of architectures to make only those."""
import math
import os
import shutil
import sys

import gguf
import numpy as np
import torch
from gguf.constants import GGMLQuantizationType as T
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, MistralConfig, Phi3Config, Qwen2Config, Qwen3Config

from tiny_gguf import byte_tokens, permute

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "arch")
KINDS = {
    "lora": dict(r=4, lora_alpha=4, target_modules="all-linear", use_rslora=True),
    "dora": dict(r=3, lora_alpha=6, target_modules="all-linear", use_dora=True),
    "bias": dict(r=2, lora_alpha=3, target_modules="all-linear", lora_bias=True),
    "whole": dict(r=2, lora_alpha=4, target_modules=["embed_tokens", "o_proj"], modules_to_save=["model.norm", "input_layernorm"]),
}
NORMS = {"qwen3": ["q_norm", "k_norm", "post_attention_layernorm"],
         "gemma2": ["post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"],
         "gemma3": ["q_norm", "k_norm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"]}
AS_GGUF = [("qwen2", "lora"), ("qwen3", "lora"), ("phi3", "lora"), ("gemma3", "lora"), ("gemma3", "norms")]
VOCAB, EMBD, FF, LAYERS, CONTEXT, WINDOW, TAIL = 288, 64, 96, 2, 64, 7, 8
IDS = [1, 84, 200, 17, 7, 9, 45, 283, 100, 2, 66, 150, 31, 32, 33, 240, 12, 99, 180, 5]
COMMON = dict(vocab_size=VOCAB, hidden_size=EMBD, intermediate_size=FF, num_hidden_layers=LAYERS, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=CONTEXT, rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=0,
              pad_token_id=0, attn_implementation="eager")
SHORT, LONG = [1.0 + 0.05 * i for i in range(8)], [1.5 + 0.7 * i for i in range(8)]
LONGROPE = dict(rope_type="longrope", short_factor=SHORT, long_factor=LONG, rope_theta=10000.0)
PHI = dict(COMMON, num_attention_heads=2, num_key_value_heads=1, sliding_window=WINDOW, tie_word_embeddings=False,
           max_position_embeddings=128)
CONFIGS = {
    "mistral": MistralConfig(**COMMON, head_dim=32, sliding_window=WINDOW, tie_word_embeddings=False),
    "qwen2": Qwen2Config(**COMMON, tie_word_embeddings=True, rope_theta=1e6),
    "qwen3": Qwen3Config(**COMMON, head_dim=32, tie_word_embeddings=False, rope_theta=1e6),
    "qwen2-yarn": Qwen2Config(**dict(COMMON, max_position_embeddings=128), tie_word_embeddings=True,
                              rope_parameters=dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=32)),
    "phi3": Phi3Config(**PHI, rope_parameters=dict(LONGROPE, partial_rotary_factor=0.5), original_max_position_embeddings=32),
    "phi3-long": Phi3Config(**PHI, rope_parameters=dict(LONGROPE, partial_rotary_factor=0.5),
                            original_max_position_embeddings=12),
    "gemma2": Gemma2Config(**dict(COMMON, num_hidden_layers=4), head_dim=32, sliding_window=WINDOW, query_pre_attn_scalar=32,
                           attn_logit_softcapping=2.0, final_logit_softcapping=5.0, tie_word_embeddings=True),
    "gemma3": Gemma3TextConfig(**dict(COMMON, num_hidden_layers=6), head_dim=32, sliding_window=WINDOW, query_pre_attn_scalar=32,
                               tie_word_embeddings=True,
                               rope_parameters={"full_attention": dict(rope_type="linear", factor=8.0, rope_theta=1e6),
                                                "sliding_attention": dict(rope_type="default", rope_theta=10000.0)}),
}
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.qkv_proj": "attn_qkv",
         "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "pre_feedforward_layernorm": "ffn_norm",
         "post_feedforward_layernorm": "post_ffw_norm"}
OUTER = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
         "lm_head.weight": "output.weight"}


def tokenizer(w, family):
    """A small vocabulary of the kind that the family has."""
    if family in ("qwen2", "qwen3"):
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre("qwen2")
        w.add_token_list(byte_tokens() + ["th", "<|im_start|>", "<|im_end|>"] + [f"<|unused_{i}|>" for i in range(259, VOCAB)])
        w.add_token_types([1] * 257 + [3, 3] + [5] * (VOCAB - 259))
        w.add_token_merges(["t h"])
        w.add_bos_token_id(257)
        w.add_eos_token_id(258)
        w.add_add_bos_token(False)
        w.add_chat_template("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
                            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
        return
    special = {"gemma": ["<pad>", "<eos>", "<bos>", "<unk>"], "phi3": ["<unk>", "<s>", "</s>", "<|end|>"],
               "mistral": ["<unk>", "<s>", "</s>", "[INST]"]}["gemma" if "gemma" in family else family]
    turn = {"gemma": ["<start_of_turn>", "<end_of_turn>"], "phi3": ["<|user|>", "<|assistant|>"],
            "mistral": ["[/INST]", "<|x|>"]}["gemma" if "gemma" in family else family]
    pieces = special + [f"<0x{b:02X}>" for b in range(256)] + ["\u2581", "t", "h", "e", "\u2581t", "he", "\u2581the"] + turn
    pieces += [f"<unused{i}>" for i in range(len(pieces), VOCAB)]
    types = [3] * 4 + [6] * 256 + [1] * 7 + [4 if "gemma" in family else 3] * 2
    w.add_tokenizer_model("llama")
    w.add_token_list(pieces)
    w.add_token_scores([0.0] * 260 + [-10.0, -11.0, -12.0, -13.0, -1.0, -2.0, -0.5] + [0.0] * (VOCAB - 267))
    w.add_token_types(types + [5] * (VOCAB - len(types)))
    w.add_bos_token_id(2 if "gemma" in family else 1)
    w.add_eos_token_id(1 if "gemma" in family else 2)
    w.add_unk_token_id(3 if "gemma" in family else 0)
    w.add_add_bos_token(True)
    w.add_add_space_prefix("gemma" not in family)
    w.add_chat_template("{{ bos_token }}{% for m in messages %}" + turn[0] + "{{ m['role'] }}\n{{ m['content'] | trim }}" + turn[1] +
                        "\n{% endfor %}{% if add_generation_prompt %}" + turn[0] + "model\n{% endif %}")


def metadata(w, name, config):
    """As llama.cpp's convert_hf_to_gguf.py has it for each family."""
    heads = config.num_attention_heads
    dim = getattr(config, "head_dim", None) or EMBD // heads
    w.add_name("tiny " + name)
    w.add_block_count(config.num_hidden_layers)
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(EMBD)
    w.add_feed_forward_length(FF)
    w.add_head_count(heads)
    w.add_head_count_kv(config.num_key_value_heads)
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    if name == "mistral":
        w.add_rope_dimension_count(dim)
        w.add_vocab_size(VOCAB)
        w.add_key_length(dim)
        w.add_value_length(dim)
        w.add_rope_freq_base(10000.0)
        w.add_sliding_window(WINDOW)
    elif name.startswith("qwen"):
        w.add_rope_freq_base(1e4 if "yarn" in name else 1e6)
        if "yarn" in name:
            w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            w.add_rope_scaling_factor(4.0)
            w.add_rope_scaling_orig_ctx_len(32)
        if name == "qwen3":
            w.add_key_length(dim)
            w.add_value_length(dim)
    elif name.startswith("phi3"):
        original = config.original_max_position_embeddings
        w.add_rope_dimension_count(dim // 2)
        w.add_rope_freq_base(10000.0)
        w.add_sliding_window(WINDOW)
        w.add_rope_scaling_orig_ctx_len(original)
        w.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(config.max_position_embeddings / original) / math.log(original)))
        w.add_tensor("rope_factors_long.weight", np.array(LONG, dtype=np.float32))
        w.add_tensor("rope_factors_short.weight", np.array(SHORT, dtype=np.float32))
    elif name.startswith("gemma"):
        w.add_key_length(dim)
        w.add_value_length(dim)
        w.add_sliding_window(WINDOW)
        if name == "gemma2":
            w.add_attn_logit_softcapping(config.attn_logit_softcapping)
            w.add_final_logit_softcapping(config.final_logit_softcapping)
        else:
            w.add_rope_freq_base(1e6)
            w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            w.add_rope_scaling_factor(8.0)


def gguf_name(name, family):
    if name in OUTER:
        return OUTER[name]
    parts = name.split(".")
    inner = ".".join(parts[3:-1])
    own = NAMES[inner]
    if "gemma" in family and inner == "post_attention_layernorm":
        own = "post_attention_norm"
    return f"blk.{parts[2]}.{own}.{parts[-1]}"


def base(name, config):
    """The model with its dequantized weights, and NAME.gguf."""
    torch.manual_seed(sum(map(ord, name.split("-")[0])))
    model = AutoModelForCausalLM.from_config(config).float().eval()
    arch = {"mistral": "llama", "phi3-long": "phi3", "qwen2-yarn": "qwen2"}.get(name, name)
    w = gguf.GGUFWriter(os.path.join(HERE, name + ".gguf"), arch)
    metadata(w, name, config)
    tokenizer(w, name.split("-")[0])
    gemma = "gemma" in name
    for n, p in model.named_parameters():
        x = p.detach().numpy()
        if x.ndim == 1:
            bias = n.endswith("bias")
            x = ((0 if bias or gemma else 1) + (0.5 if bias else 0.2) * torch.randn(x.shape)).numpy()
            p.data = torch.from_numpy(x.copy())
            w.add_tensor(gguf_name(n, name), (x + 1 if gemma else x).astype(np.float32))
            continue
        # gemma scales its embeddings by sqrt(n_embd)
        x = (torch.randn(x.shape) * ((1 / 8 if gemma else 0.3) if "embed" in n else 0.15)).numpy()
        kind = T.Q8_0 if "embed" in n or "lm_head" in n else T.Q5_0 if "v_proj" in n else T.Q4_0
        quantized = gguf.quants.quantize(x, kind)
        p.data = torch.from_numpy(gguf.quants.dequantize(quantized, kind).copy())
        heads = config.num_attention_heads if "q_proj" in n else config.num_key_value_heads if "k_proj" in n else 0
        if arch == "llama" and heads:  # rows only, so that blocks stay what they are
            quantized = permute(quantized, heads)
        w.add_tensor(gguf_name(n, name), quantized, raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return model.state_dict()


def fresh(config, state):
    model = AutoModelForCausalLM.from_config(config).float()
    model.load_state_dict(state)
    return model.eval()


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def expected(model, name):
    logits(model, IDS).numpy().tofile(os.path.join(HERE, name + ".logits"))
    ids = list(IDS)
    for _ in range(8):
        last = logits(model, ids)[-1]
        best = torch.topk(last, 2).values
        assert best[0] - best[1] > 0.002, (name, "a near tie", best)
        ids.append(int(last.argmax()))
    np.array(ids[len(IDS):], dtype=np.int32).tofile(os.path.join(HERE, name + ".greedy"))


def as_gguf(name, kind, options):
    w = gguf.GGUFWriter(os.path.join(HERE, f"{name}.{kind}.gguf"), name)
    w.add_type(gguf.GGUFType.ADAPTER)
    w.add_string(gguf.Keys.Adapter.TYPE, "lora")
    w.add_float32(gguf.Keys.Adapter.LORA_ALPHA, options["lora_alpha"] * (math.sqrt(options["r"]) if options.get("use_rslora") else 1))
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, x in load_file(os.path.join(HERE, f"{name}.{kind}", "adapter_model.safetensors")).items():
        key, part = key.removeprefix("base_model.model."), ""
        for ending in ("lora_A", "lora_B"):
            if f".{ending}." in key:
                key, part = key.replace(f".{ending}", ""), {"lora_A": ".lora_a", "lora_B": ".lora_b"}[ending]
        x = x.numpy()
        w.add_tensor(gguf_name(key, name) + part, (x.astype(np.float32) + 1) if x.ndim == 1 and "gemma" in name else x)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def adapters(name, config, state):
    kinds = dict(KINDS)
    if name in NORMS:
        kinds["norms"] = dict(r=2, lora_alpha=4, target_modules=["o_proj"], modules_to_save=NORMS[name])
    for kind, options in kinds.items():
        torch.manual_seed(7)
        model = get_peft_model(fresh(config, state), LoraConfig(task_type="CAUSAL_LM", **options)).eval()
        trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        for n, p in trained:  # values that show, as f16
            scale = 0.2 * p.data.abs().mean() + 0.1 if "modules_to_save" in n else 0.1
            new = p.data * (1 + 0.3 * torch.randn_like(p)) if "magnitude" in n else scale * torch.randn_like(p)
            p.data = (p.data + new if "modules_to_save" in n else new).half().float()
        logits(model, IDS)[-TAIL:].numpy().tofile(os.path.join(HERE, f"{name}.{kind}.logits"))
        for n, p in trained:
            p.data = p.data.half()
        folder = os.path.join(HERE, f"{name}.{kind}")
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder, save_embedding_layers=False)
        os.remove(os.path.join(folder, "README.md"))
        if (name, kind) in AS_GGUF:
            as_gguf(name, kind, options)


os.makedirs(HERE, exist_ok=True)
for name, config in CONFIGS.items():
    if sys.argv[1:] and name not in sys.argv[1:]:
        continue
    state = base(name, config)
    expected(fresh(config, state), name)
    if name not in ("mistral", "phi3-long", "qwen2-yarn"):
        adapters(name, config, state)
