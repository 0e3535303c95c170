// SPDX-License-Identifier: Apache-2.0
// DoRA's multiplier of each output: m / || W + s B A ||, the norm over the input, W dequantized. Liu et al. 2024, section 4;
// as PEFT computes it (peft/tuners/lora/dora.py). Outputs of an embedding are its dimensions, its inputs the tokens.
#ifndef GRAFT_RUNTIME_ADAPTER_DORA_H
#define GRAFT_RUNTIME_ADAPTER_DORA_H

#include "loaders/adapter.h"
#include "runtime/model/config.h"

struct graft_dora {
    const struct graft_adapter_pair *pair;
    const struct graft_weight *weight;
    float *a;   // [rank][n_in] as f32
    float *row; // [n_in]
    double *squares; // of an embedding: [n_embd] ||.||^2; NULL otherwise
};

// Take scratch (class HOST); of an embedding all norms are computed here, rank * n_vocab * n_embd multiplications. Errors:
// GRAFT_E_MEMORY, GRAFT_E_BUDGET. End in any case.
GRAFT_MUST_CHECK enum graft_status graft_dora_begin(struct graft_dora *dora, struct graft_ctx *ctx,
                                                    const struct graft_adapter_pair *pair, const struct graft_weight *weight);
// The multiplier of row `row` of B when its squared norm is known already. Errors as below. Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status graft_dora_of_squares(const struct graft_adapter_pair *pair, uint64_t row, double squares,
                                                         float *out);
// Multiplier of row `row` of B, which is row `base_row` of the base's matrix. rank * n_in multiplications unless it is of an
// embedding. Errors: GRAFT_E_FORMAT (the norm is zero, or the result is not finite).
GRAFT_MUST_CHECK enum graft_status graft_dora_multiplier(struct graft_dora *dora, uint64_t row, uint64_t base_row, float *out);
void graft_dora_end(struct graft_dora *dora, struct graft_ctx *ctx);

#endif
