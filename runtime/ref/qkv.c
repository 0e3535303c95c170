// SPDX-License-Identifier: Apache-2.0
// Queries, keys and values: projection of the normed residual, rotary positions, and the write into the KV pages.
#include <string.h>

#include "runtime/ref/ref.h"

static float as_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void graft_ref_rope(const struct graft_ref_heads *heads, const uint32_t *rope, float *head)
{
    uint32_t half = heads->rope_dim / 2;
    for (uint32_t i = 0; i < half; i++) {
        uint32_t ia = heads->rope_halves ? i : 2 * i;
        uint32_t ib = heads->rope_halves ? i + half : 2 * i + 1;
        float c = as_float(rope[2 * i]), s = as_float(rope[2 * i + 1]);
        float a = head[ia], b = head[ib];
        head[ia] = a * c - b * s;
        head[ib] = a * s + b * c;
    }
}

// Write one head of one token into its page: [page][n_head_kv] units.
static void store_page(const struct graft_ref_heads *heads, enum graft_kv_format format, uint32_t slot, uint32_t head_kv,
                       const float *values, uint8_t *pages)
{
    uint32_t page = slot / GRAFT_PAGE_TOKENS, offset = slot % GRAFT_PAGE_TOKENS;
    uint64_t unit = ((uint64_t)page * heads->n_head_kv + head_kv) * graft_kv_unit_bytes(format, heads->head_dim);
    graft_kv_store(format, heads->head_dim, pages + unit, offset, values);
}

void graft_ref_qkv(const struct graft_ref_heads *heads, const struct graft_ref_matrix *wq, const struct graft_ref_matrix *wk,
                   const struct graft_ref_matrix *wv, const struct graft_ref_state *state, const float *xn,
                   const float *inv_rms, float *q, void *k, void *v, uint32_t first, uint32_t last, float *scratch)
{
    uint32_t dim = heads->head_dim;
    float *values = scratch + wq->n_in; // [n_rows][dim]
    for (uint32_t h = first; h < last; h++) {
        bool is_q = h < heads->n_head, is_k = !is_q && h < heads->n_head + heads->n_head_kv;
        uint32_t own = is_q ? h : is_k ? h - heads->n_head : h - heads->n_head - heads->n_head_kv; // number among its kind
        const struct graft_ref_matrix *w = is_q ? wq : is_k ? wk : wv;
        for (uint32_t d = 0; d < dim; d++) {
            graft_ref_dot_rows(w, own * dim + d, xn, state->n_rows, values + d, dim, scratch);
        }
        for (uint32_t r = 0; r < state->n_rows; r++) {
            float *head = values + (uint64_t)r * dim;
            uint32_t slot = graft_ref_row(state, r)[GRAFT_ROW_SLOT];
            for (uint32_t d = 0; d < dim; d++) {
                head[d] *= inv_rms[r];
            }
            if (is_q || is_k) {
                graft_ref_rope(heads, state->words + state->layout.rope + r * heads->rope_dim, head);
            }
            if (is_q) {
                for (uint32_t d = 0; d < dim; d++) {
                    q[((uint64_t)r * heads->n_head + own) * dim + d] = head[d] * heads->attention_scale;
                }
            } else {
                store_page(heads, is_k ? heads->kv_k : heads->kv_v, slot, own, head, is_k ? k : v);
            }
        }
    }
}
