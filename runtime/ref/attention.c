// SPDX-License-Identifier: Apache-2.0
// Causal attention of each row over the pages of its sequence: AO = softmax(Q K^T) V, perhaps over a window of the last
// positions and with capped scores. Vaswani et al. 2017; grouped queries: Ainslie 2023; windows: Beltagy 2020.
#include <math.h>

#include "runtime/ref/ref.h"

float graft_ref_cap(float value, float cap)
{
    return cap > 0.0f ? cap * tanhf(value / cap) : value;
}

// K or V of token t for one KV head, as f32.
static void load(const struct graft_ref_heads *heads, enum graft_kv_format format, const uint32_t *table, const uint8_t *pages,
                 uint32_t head_kv, uint32_t t, float *out)
{
    uint32_t page = table[t / GRAFT_PAGE_TOKENS], offset = t % GRAFT_PAGE_TOKENS;
    uint64_t unit = ((uint64_t)page * heads->n_head_kv + head_kv) * graft_kv_unit_bytes(format, heads->head_dim);
    graft_kv_load(format, heads->head_dim, pages + unit, offset, out);
}

void graft_ref_attention(const struct graft_ref_heads *heads, const struct graft_ref_state *state, const float *q,
                         const void *k, const void *v, float *ao, uint32_t first, uint32_t last, float *scratch)
{
    uint32_t dim = heads->head_dim;
    float *vector = scratch;       // [dim]
    float *scores = scratch + dim; // [tokens]
    for (uint32_t r = 0; r < state->n_rows; r++) {
        const uint32_t *row = graft_ref_row(state, r);
        const uint32_t *table =
            state->words + (heads->ring ? state->layout.rings : state->layout.tables) + row[GRAFT_ROW_TABLE];
        uint32_t tokens = row[GRAFT_ROW_POS] + 1; // itself included
        uint32_t begin = heads->window && tokens > heads->window ? tokens - heads->window : 0;
        for (uint32_t h = first; h < last; h++) {
            uint32_t head_kv = h / (heads->n_head / heads->n_head_kv);
            const float *query = q + ((uint64_t)r * heads->n_head + h) * dim;
            float *out = ao + ((uint64_t)r * heads->n_head + h) * dim;
            float most = -INFINITY, sum = 0.0f;
            for (uint32_t t = begin; t < tokens; t++) {
                load(heads, heads->kv_k, table, k, head_kv, t, vector);
                scores[t] = graft_ref_cap(graft_ref_dot(query, vector, dim), heads->attention_cap);
                most = scores[t] > most ? scores[t] : most;
            }
            for (uint32_t d = 0; d < dim; d++) {
                out[d] = 0.0f;
            }
            for (uint32_t t = begin; t < tokens; t++) {
                float weight = expf(scores[t] - most);
                sum += weight;
                load(heads, heads->kv_v, table, v, head_kv, t, vector);
                for (uint32_t d = 0; d < dim; d++) {
                    out[d] += weight * vector[d];
                }
            }
            for (uint32_t d = 0; d < dim; d++) {
                out[d] /= sum;
            }
        }
    }
}
