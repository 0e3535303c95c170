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
    for (uint32_t i = 0; i < heads->rope_dim / 2; i++) {
        float c = as_float(rope[2 * i]), s = as_float(rope[2 * i + 1]);
        float a = head[2 * i], b = head[2 * i + 1];
        head[2 * i] = a * c - b * s;
        head[2 * i + 1] = a * s + b * c;
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

// The norm of one head of q or k, whose values stand in the order of graft_ref_rotary_row; lora: as in graft_ref_norm.
static void norm_head(const struct graft_ref_heads *heads, const float *gain, const struct graft_ref_lora *lora,
                      uint32_t target, uint32_t r, float *head)
{
    uint32_t dim = heads->head_dim;
    float inverse = graft_ref_inverse_rms(graft_ref_sum_squares(head, dim), dim, heads->eps);
    for (uint32_t d = 0; d < dim; d++) {
        uint32_t i = graft_ref_rotary_row(heads, d);
        head[d] *= inverse * (gain[i] + (lora ? graft_ref_norm_difference(lora, target, r, i) : 0.0f));
    }
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
        const float *bias = heads->bias[is_q ? 0 : is_k ? 1 : 2], *gain = is_q || is_k ? heads->head_norm[is_k] : NULL;
        for (uint32_t d = 0; d < dim; d++) {
            uint32_t o = is_q || is_k ? graft_ref_rotary_row(heads, own * dim + d) : own * dim + d;
            graft_ref_dot_rows(w, o, xn, state->n_rows, values + d, dim, scratch);
            for (uint32_t r = 0; r < state->n_rows; r++) {
                values[(uint64_t)r * dim + d] = values[(uint64_t)r * dim + d] * inv_rms[r] + (bias ? bias[o] : 0.0f);
            }
        }
        for (uint32_t r = 0; r < state->n_rows; r++) {
            float *head = values + (uint64_t)r * dim;
            uint32_t slot = graft_ref_row(state, r)[heads->ring ? GRAFT_ROW_RING_SLOT : GRAFT_ROW_SLOT];
            if (gain) {
                norm_head(heads, gain, w->lora, GRAFT_LORA_Q_NORM + is_k, r, head);
            }
            if (is_q || is_k) {
                graft_ref_rope(heads, state->words + heads->rope + r * heads->rope_dim, head);
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
