// SPDX-License-Identifier: Apache-2.0
// Logits of the rows that want them.
#include "runtime/quant/quant.h"
#include "runtime/ref/ref.h"

void graft_ref_head(const struct graft_ref_matrix *w, const struct graft_ref_state *state, const float *xn,
                    const float *inv_rms, float cap, float *logits, uint32_t first, uint32_t last, float *scratch)
{
    const struct graft_quant *quant = graft_quant_find(w->type);
    const uint32_t *out = state->words + state->layout.outs;
    uint32_t n_out = state->words[GRAFT_STATE_N_OUT];
    for (uint32_t o = first; o < last; o++) {
        quant->dequantize_row(w->data + o * w->row_bytes, scratch, w->n_in);
        for (uint32_t i = 0; i < n_out; i++) {
            const float *x = xn + (uint64_t)out[i] * w->n_in;
            float dot = graft_ref_dot(scratch, x, w->n_in);
            dot += w->lora ? graft_ref_expand(w->lora, w->target, w->stage, o, out[i], dot, x, w->n_in) : 0.0f;
            logits[(uint64_t)i * w->n_out + o] = graft_ref_cap(dot * inv_rms[out[i]], cap);
        }
    }
}
