// SPDX-License-Identifier: Apache-2.0
// What the readers of adapter files share: tensors whose names are understood -> checked pairs.
#ifndef GRAFT_LOADERS_ADAPTER_BUILD_H
#define GRAFT_LOADERS_ADAPTER_BUILD_H

#include "loaders/adapter_config.h"

#define GRAFT_ADAPTER_MAX_BYTES (UINT64_C(2) << 30) // of the tensor file

enum graft_adapter_part { GRAFT_ADAPTER_A, GRAFT_ADAPTER_B, GRAFT_ADAPTER_BIAS, GRAFT_ADAPTER_MAGNITUDE, GRAFT_ADAPTER_PARTS,
                          GRAFT_ADAPTER_WHOLE, GRAFT_ADAPTER_BASE_COPY };

enum { GRAFT_ADAPTER_LAYER_DIGITS = 6, GRAFT_ADAPTER_NAME_BYTES = 128 };

// One tensor and what its name says.
struct graft_adapter_tensor {
    uint32_t layer;
    uint32_t expert; // as in struct graft_adapter_pair
    enum graft_target target;
    enum graft_adapter_part part;
    bool mixtral;     // of a module whose name is Mixtral's: block_sparse_moe
    bool stacked;     // cut out of a parameter that holds all experts
    const char *name; // for errors
    uint32_t n_dims;  // 1 or 2
    struct graft_adapter_view view;
};

// "model.layers.3.self_attn.q_proj", "model.layers.3.mlp.experts.5.up_proj", "lm_head"; of a norm
// "model.layers.3.input_layernorm". mixtral: "model.layers.3.block_sparse_moe.experts.5.w3". Returns `out`.
const char *graft_adapter_module(enum graft_target target, uint32_t layer, uint32_t expert, bool mixtral,
                                 char out[GRAFT_ADAPTER_NAME_BYTES]);

// A layer's number without leading zeros; *text moves behind it. False if there is none.
bool graft_adapter_layer(const char **text, uint32_t *out);

// Sort `tensors`, check each pair and fill desc's pairs, max_rank and n_parameters. With `config` rank and scale come from
// there and are checked against the tensors; without, rank is A's and scale = alpha / rank. All-zero B: a warning in the log.
// Errors, all GRAFT_E_FORMAT but memory and GRAFT_E_LIMIT for ranks: no tensors, A without B, unlike ranks, NaN and Inf with
// their index, a tensor that the configuration does not announce, an announced one that is missing. Thread-safety: one thread
// at a time on one desc.
GRAFT_MUST_CHECK enum graft_status graft_adapter_build(struct graft_adapter_desc *desc, struct graft_adapter_tensor *tensors,
                                                       uint64_t n_tensors, const struct graft_adapter_config *config,
                                                       double alpha, const char *file);

// What PEFT trains of a parameter that holds the matrices of all experts (target_parameters): A [n_expert * rank][n_in], B
// [n_out][rank * n_expert]. Rows of A are an expert's one after the other; in a row of B the experts lie side by side.
struct graft_adapter_stack {
    uint32_t layer;
    const char *parameter; // "gate_up_proj" or "down_proj"
    const char *name_a, *name_b;
    struct graft_adapter_view a, b;
};
// Append the tensors of every expert to `tensors`, from *n on: gate, up and down, whose B are rows of their own in desc->bytes
// afterwards. rank: the configuration's for this parameter. At most 4 tensors an expert. Errors: GRAFT_E_FORMAT (shapes that
// are not those of a stack of such ranks), GRAFT_E_LIMIT (experts), GRAFT_E_MEMORY, GRAFT_E_BUDGET.
GRAFT_MUST_CHECK enum graft_status graft_adapter_unstack(struct graft_adapter_desc *desc,
                                                         const struct graft_adapter_stack *stack, uint32_t rank,
                                                         struct graft_adapter_tensor *tensors, uint64_t *n, const char *file);

// Names of whole tensors outlive the reading, since fitting names them in errors: copy them to desc->names.
GRAFT_MUST_CHECK enum graft_status graft_adapter_keep_names(struct graft_adapter_desc *desc);

// A GGUF adapter as llama.cpp writes it, from desc->bytes into desc; adapter_gguf.c. `file` names it in errors.
GRAFT_MUST_CHECK enum graft_status graft_adapter_read_gguf(struct graft_adapter_desc *desc, const char *file);

#endif
