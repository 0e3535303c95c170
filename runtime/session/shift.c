// SPDX-License-Identifier: Apache-2.0
// Context shift: pages leave a sequence, and the keys behind them are rotated to their new positions.
#include <math.h>
#include <string.h>

#include "runtime/session/session.h"

enum { MAX_HEAD_DIM = 2 * GRAFT_MAX_ROPE_PAIRS };

// Turn the pairs of one head, which lie side by side in the pages, back by the angles.
static void turn_back(const struct graft_config *config, const float *cosines, const float *sines, float *head)
{
    uint32_t pairs = config->rope_dim / 2;
    for (uint32_t i = 0; i < pairs; i++) {
        uint32_t a = 2 * i, b = 2 * i + 1;
        float x = head[a], y = head[b];
        head[a] = x * cosines[i] + y * sines[i];
        head[b] = y * cosines[i] - x * sines[i];
    }
}

// Rotate the keys of a page in every layer that has a ring, or has none. One that others have, too, stays as it is: the entry
// gets another page, with the values.
static enum graft_status move_page(struct graft_model *model, bool ring, uint32_t *entry, uint32_t distance, uint8_t *bytes)
{
    struct graft_kv_pool *pool = ring ? &model->kv->ring_pages : &model->kv->pages;
    uint32_t from = *entry;
    if (pool->refs[from] > 1) {
        graft_kv_renew(pool, entry);
    }
    uint32_t to = *entry;
    const struct graft_config *c = &model->source->config;
    struct graft_exec *exec = model->exec;
    enum graft_kv_format format = model->limits.kv_k;
    float cosines[GRAFT_MAX_ROPE_PAIRS], sines[GRAFT_MAX_ROPE_PAIRS], head[MAX_HEAD_DIM];
    for (uint32_t layer = 0; layer < c->n_layer; layer++) {
        if (graft_layer_has_ring(model->source, &model->limits, layer) != ring) {
            continue;
        }
        const float *inv_freq = model->source->layers[layer].rope_local ? c->rope_inv_freq_local : c->rope_inv_freq;
        for (uint32_t i = 0; i < c->rope_dim / 2; i++) { // as state.c: angles are products of f32 numbers
            float angle = (float)distance * inv_freq[i];
            cosines[i] = (float)cos((double)angle);
            sines[i] = (float)sin((double)angle);
        }
        GRAFT_TRY(exec->functions->page_read(exec, layer, from, false, bytes));
        for (uint32_t h = 0; h < c->n_head_kv; h++) {
            uint8_t *unit = bytes + h * graft_kv_unit_bytes(format, c->head_dim);
            for (uint32_t t = 0; t < GRAFT_PAGE_TOKENS; t++) {
                graft_kv_load(format, c->head_dim, unit, t, head);
                turn_back(c, cosines, sines, head);
                graft_kv_store(format, c->head_dim, unit, t, head);
            }
        }
        GRAFT_TRY(exec->functions->page_write(exec, layer, to, false, bytes));
        if (to != from) {
            GRAFT_TRY(exec->functions->page_read(exec, layer, from, true, bytes));
            GRAFT_TRY(exec->functions->page_write(exec, layer, to, true, bytes));
        }
    }
    return GRAFT_OK;
}

// Adapters begin where they began, among the tokens that are left.
static void move_adapters(struct graft_seq *seq, uint32_t keep, uint32_t dropped)
{
    for (uint32_t i = 0; i < seq->n_uses; i++) {
        uint32_t *from = &seq->uses[i].from;
        *from = *from == UINT32_MAX || *from <= keep ? *from : *from <= keep + dropped ? keep : *from - dropped;
    }
}

enum graft_status graft_seq_shift(struct graft_seq *seq, uint32_t n_keep, uint32_t n_drop, uint32_t *dropped)
{
    struct graft_model *model = seq->model;
    struct graft_kv *kv = model->kv;
    uint32_t *table = graft_kv_table(kv, seq->index), *ring = graft_kv_ring(kv, seq->index), length = kv->lengths[seq->index];
    uint32_t keep = graft_kv_pages(n_keep), drop = n_drop < GRAFT_PAGE_TOKENS ? 1 : n_drop / GRAFT_PAGE_TOKENS;
    uint32_t pages = graft_kv_pages(length), copies = 0, freed = 0;
    *dropped = 0;
    if (keep > length / GRAFT_PAGE_TOKENS || drop > length / GRAFT_PAGE_TOKENS - keep) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "%u tokens are to go behind the first %u (in pages of %u: %u behind %u), there are %u", n_drop,
                          n_keep, GRAFT_PAGE_TOKENS, drop * GRAFT_PAGE_TOKENS, keep * GRAFT_PAGE_TOKENS, length);
    }
    if (kv->rings && (pages - keep - drop) * GRAFT_PAGE_TOKENS < kv->limits.window + GRAFT_PAGE_TOKENS) {
        return graft_fail(GRAFT_E_ARGUMENT, "%u tokens would be left behind the first %u, layers with a window need %u",
                          (pages - keep - drop) * GRAFT_PAGE_TOKENS, keep * GRAFT_PAGE_TOKENS,
                          kv->limits.window + GRAFT_PAGE_TOKENS);
    }
    for (uint32_t i = keep; i < pages; i++) {
        freed += i < keep + drop && kv->pages.refs[table[i]] == 1;
        copies += i >= keep + drop && kv->pages.refs[table[i]] > 1;
    }
    if (copies > kv->pages.n_free + freed) {
        return graft_fail(GRAFT_E_CONTEXT_FULL, "%u pages that others share must be copied, %u are free", copies,
                          kv->pages.n_free + freed);
    }
    uint64_t keys = graft_kv_page_bytes(&model->source->config, &model->limits, false);
    uint64_t values = graft_kv_page_bytes(&model->source->config, &model->limits, true);
    uint8_t *bytes;
    GRAFT_TRY(graft_alloc(model->ctx, GRAFT_MEM_HOST, (void **)&bytes, keys > values ? keys : values, 1, "a page on its way"));
    graft_kv_remove(kv, seq->index, keep, drop);
    move_adapters(seq, keep * GRAFT_PAGE_TOKENS, drop * GRAFT_PAGE_TOKENS);
    enum graft_status status = GRAFT_OK;
    for (uint32_t i = keep; i < pages - drop && status == GRAFT_OK; i++) {
        status = move_page(model, false, &table[i], drop * GRAFT_PAGE_TOKENS, bytes);
        if (ring && ring[i] && status == GRAFT_OK) {
            status = move_page(model, true, &ring[i], drop * GRAFT_PAGE_TOKENS, bytes);
        }
    }
    status = status == GRAFT_OK ? model->exec->functions->pages_written(model->exec) : status;
    GRAFT_FREE(model->ctx, &bytes);
    model->lost = model->lost || status == GRAFT_E_DEVICE_LOST;
    *dropped = drop * GRAFT_PAGE_TOKENS;
    return status;
}
