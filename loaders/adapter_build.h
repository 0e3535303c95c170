// SPDX-License-Identifier: Apache-2.0
// What the readers of adapter files share: tensors whose names are understood -> checked pairs.
#ifndef GRAFT_LOADERS_ADAPTER_BUILD_H
#define GRAFT_LOADERS_ADAPTER_BUILD_H

#include "loaders/adapter_config.h"

#define GRAFT_ADAPTER_MAX_BYTES (UINT64_C(2) << 30) // of the tensor file

enum graft_adapter_part { GRAFT_ADAPTER_A, GRAFT_ADAPTER_B, GRAFT_ADAPTER_BIAS, GRAFT_ADAPTER_MAGNITUDE, GRAFT_ADAPTER_PARTS,
                          GRAFT_ADAPTER_WHOLE, GRAFT_ADAPTER_BASE_COPY };

enum { GRAFT_ADAPTER_LAYER_DIGITS = 6 };

// One tensor and what its name says.
struct graft_adapter_tensor {
    uint32_t layer;
    enum graft_target target;
    enum graft_adapter_part part;
    const char *name; // for errors
    uint32_t n_dims;  // 1 or 2
    struct graft_adapter_view view;
};

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

// Names of whole tensors outlive the reading, since fitting names them in errors: copy them to desc->names.
GRAFT_MUST_CHECK enum graft_status graft_adapter_keep_names(struct graft_adapter_desc *desc);

// A GGUF adapter as llama.cpp writes it, from desc->bytes into desc; adapter_gguf.c. `file` names it in errors.
GRAFT_MUST_CHECK enum graft_status graft_adapter_read_gguf(struct graft_adapter_desc *desc, const char *file);

#endif
