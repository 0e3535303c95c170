#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""By hand: does PEFT load what graft wrote, and compute with it what it computed with the original?

    check_adapter_peft.py GRAFT

Converts every folder of tests/golden/peft with the command GRAFT (to PEFT again, and to GGUF and back where that is possible),
loads the results with PEFT on base.gguf's dequantized weights and compares logits with NAME.logits, bit for bit. PEFT's warnings
about adapter keys (missing, unexpected) are failures. Needs: pip install torch transformers peft gguf numpy."""
import os
import subprocess
import sys
import tempfile
import warnings

import gguf
import numpy as np
import torch
from peft import PeftModel
from transformers import LlamaConfig, LlamaForCausalLM

PEFT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peft")
BASE = os.path.join(PEFT, "base.gguf")
IDS = [1, 84, 200, 17, 7, 9, 45, 283, 100, 2]  # as in make_peft.py
CONFIG = LlamaConfig(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                     vocab_size=288, tie_word_embeddings=False, max_position_embeddings=256, rms_norm_eps=1e-5)
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
WEIGHTS = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(BASE).tensors}


def fresh():
    model = LlamaForCausalLM(CONFIG).float().eval()
    state = {}
    for name, p in model.named_parameters():
        parts = name.split(".")
        key = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
               "lm_head.weight": "output.weight"}.get(name) or f"blk.{parts[2]}.{NAMES['.'.join(parts[3:-1])]}.weight"
        w = WEIGHTS[key].reshape(p.shape)
        heads = 4 if "q_proj" in name else 2 if "k_proj" in name else 0
        if heads:
            w = w.reshape(heads, w.shape[0] // heads // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)
        state[name] = torch.from_numpy(np.ascontiguousarray(w, dtype=np.float32))
    model.load_state_dict(state)
    return model


def convert(source, out):
    return subprocess.run([sys.argv[1], "adapter", "convert", source, "-o", out, "-m", BASE], capture_output=True).returncode == 0


failed = False
with tempfile.TemporaryDirectory() as folder:
    for name in sorted(n for n in os.listdir(PEFT) if os.path.isdir(os.path.join(PEFT, n))):
        want = np.fromfile(os.path.join(PEFT, name + ".logits"), np.float32).reshape(len(IDS), -1)
        out = os.path.join(folder, name)
        written = [out] if convert(os.path.join(PEFT, name), out) else []
        failed = failed or not written
        if convert(os.path.join(PEFT, name), out + ".gguf") and convert(out + ".gguf", out + "-back"):
            written.append(out + "-back")
        for path in written:
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                model = PeftModel.from_pretrained(fresh(), path).float().eval()
            with torch.no_grad():
                got = model(input_ids=torch.tensor([IDS])).logits[0].numpy()
            said = [str(w.message) for w in seen if "adapter keys" in str(w.message)]
            same = np.array_equal(got, want) and not said
            failed = failed or not same
            print(f"{os.path.basename(path)}: {'the same logits' if same else f'off by {np.abs(got - want).max()}, {said}'}")
sys.exit(failed)
