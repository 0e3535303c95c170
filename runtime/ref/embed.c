// SPDX-License-Identifier: Apache-2.0
// Embedding: a row of the table per token.
#include "runtime/quant/quant.h"
#include "runtime/ref/ref.h"

void graft_ref_embed(const struct graft_ref_matrix *embd, const struct graft_ref_state *state, float *x)
{
    const struct graft_quant *quant = graft_quant_find(embd->type);
    for (uint32_t r = 0; r < state->n_rows; r++) {
        uint32_t token = graft_ref_row(state, r)[GRAFT_ROW_TOKEN];
        quant->dequantize_row(embd->data + token * embd->row_bytes, x + (uint64_t)r * embd->n_in, embd->n_in);
    }
}
