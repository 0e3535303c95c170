// SPDX-License-Identifier: Apache-2.0
// Adapters -> files: a PEFT folder that PEFT loads, or a GGUF file as llama.cpp's convert_lora_to_gguf.py writes it.
//
// What is written is a description, whether it was read from a file or made in memory. In memory: zero a struct
// graft_adapter_desc, set ctx, pairs (target, layer, rank, scale; a: [rank][n_in], b: [n_out][rank] as F32, F16 or BF16 views,
// in any order) and n_pairs, and what else it has (whole, base_name, alora, use_rslora, rows_permuted); digest, bytes, names,
// max_rank and n_parameters are not looked at. Everything that views point to stays the caller's.
//
// Values and types of tensors are never changed, so converting there and back gives the same bits; only rows of q and k change
// places between the two formats. The same description gives the same bytes. A file is written aside, synced and renamed
// (platform/aside.h): whoever looks finds the old adapter or the whole new one, and nothing is left behind.
#ifndef GRAFT_LOADERS_ADAPTER_WRITE_H
#define GRAFT_LOADERS_ADAPTER_WRITE_H

#include "loaders/adapter.h"

// What the writers must know about the base. All zero: nothing is known, which is enough as long as no row of q or k has to
// change its place.
struct graft_adapter_base {
    uint32_t n_layer;           // 0: unknown; layers that the adapter leaves out at the end then go unnoticed in target_modules
    uint32_t n_head, n_head_kv; // 0: unknown
    uint32_t n_expert;          // 0: none, or unknown
    char architecture[32];      // "": unknown; a GGUF adapter is for llama then, if it does not say otherwise itself
    bool mixtral;               // experts are called block_sparse_moe.experts.N.w1, w2, w3
    bool post_norms;            // norms stand behind the blocks too (Gemma): the feed-forward's is pre_feedforward_layernorm
    bool norms_plus_one;        // a GGUF file's gains are 1 + those of PEFT
    bool plain_rows;            // the base's GGUF has q's and k's rows where PEFT has them (rope in halves): none are moved
    bool checked;               // the adapter's copies of the base's embedding and head (base_copy) were compared with the base
};

// Write `folder`/adapter_model.safetensors and adapter_config.json: the folder is made, or replaced as a whole if it holds
// nothing else. The configuration says rank and alpha so that each pair gets exactly its scale (float(alpha / r), with
// use_rslora float(alpha / sqrt(r))): the most frequent ones as r and lora_alpha, others in rank_pattern and alpha_pattern. It
// has use_dora, lora_bias, modules_to_save and alora_invocation_tokens where the description has them. `base` may be NULL.
// Errors, besides those of graft_aside_folder_open and _commit: GRAFT_E_ARGUMENT (a pair that is not whole: rank outside 1 to
// GRAFT_ADAPTER_MAX_RANK, shapes that disagree, a scale outside 1e-27 to 1e27 (fold a sign into B), one target twice,
// no pair; heads needed and unknown), GRAFT_E_UNSUPPORTED (DoRA or biases on some pairs only, or both: PEFT has one switch for
// all), GRAFT_E_LIMIT (more patterns, or a longer configuration, than are read back). Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status graft_adapter_write_peft(const struct graft_adapter_desc *desc,
                                                            const struct graft_adapter_base *base, const char *folder);

// Write a GGUF adapter (version 3, general.type "adapter"). The matrices of all experts of a layer are one tensor of three
// dimensions: every expert has one, of one rank and type, or the adapter is refused. The format has one alpha and computes
// alpha / rank for every pair: rsLoRA and patterns can be written if one alpha gives all the scales, exactly or, where no f32
// does, within one unit in their last place (a line in the log says so). `base` may be NULL. Errors, besides those of
// graft_aside_open and _commit: as above for pairs that are not whole; GRAFT_E_UNSUPPORTED, with the name of what the format
// cannot hold: DoRA, lora_bias, scales that no one alpha gives, a whole head or router, copies of the base that were not
// checked (checked ones are left out, as llama.cpp does). Norms are written, as llama.cpp's converter does; llama.cpp ignores
// them when it runs. Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status graft_adapter_write_gguf(const struct graft_adapter_desc *desc,
                                                            const struct graft_adapter_base *base, const char *path);

#endif
