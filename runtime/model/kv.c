// SPDX-License-Identifier: Apache-2.0
// Page allocation by a stack of free pages: constant time, no fragmentation, since any page serves any sequence.
#include "runtime/model/kv.h"

#include <string.h>

#include "graft/model.h"
#include "platform/bytes.h"

struct graft_limits graft_kv_limits(uint32_t n_ctx, uint32_t n_batch, uint32_t n_seq)
{
    uint32_t table_pages = graft_kv_pages(n_ctx);
    // Every sequence but one may leave its last page partly empty: sum ceil(a_i) <= ceil(sum a_i) + n_seq - 1.
    uint32_t n_pages = 1 + table_pages + (n_seq - 1);
    // Every sequence may want its next token; evaluation wants a few dozen rows at a time. Logits of more would cost much
    // memory.
    uint32_t n_out = n_seq > GRAFT_MAX_WANTED ? n_seq : GRAFT_MAX_WANTED;
    return (struct graft_limits){.n_batch = n_batch,
                                 .n_seq = n_seq,
                                 .n_pages = n_pages,
                                 .table_pages = table_pages,
                                 .n_out = n_out < n_batch ? n_out : n_batch};
}

void graft_limits_set_rings(struct graft_limits *limits, const struct graft_source *source)
{
    limits->window = 0;
    for (uint32_t l = 0; l < source->config.n_layer; l++) {
        limits->window = source->layers[l].window > limits->window ? source->layers[l].window : limits->window;
    }
    uint64_t pages = ((uint64_t)limits->window + limits->n_batch) / GRAFT_PAGE_TOKENS + 3;
    limits->ring_pages = limits->window && 1 + limits->n_seq * pages < limits->n_pages ? (uint32_t)pages : 0;
}

bool graft_kv_bytes(const struct graft_source *source, const struct graft_limits *limits, uint64_t *bytes)
{
    *bytes = 0;
    for (uint32_t l = 0; l < source->config.n_layer; l++) {
        uint64_t keys, values;
        if (!graft_kv_layer_bytes(&source->config, limits, graft_layer_has_ring(source, limits, l), &keys, &values) ||
            !graft_add_u64(*bytes, keys, bytes) || !graft_add_u64(*bytes, values, bytes)) {
            return false;
        }
    }
    return true;
}

bool graft_kv_layer_bytes(const struct graft_config *config, const struct graft_limits *limits, bool ring, uint64_t *keys,
                          uint64_t *values)
{
    uint64_t units;
    return graft_mul_u64(graft_layer_pages(limits, ring), config->n_head_kv, &units) &&
           graft_mul_u64(units, graft_kv_unit_bytes(limits->kv_k, config->head_dim), keys) &&
           graft_mul_u64(units, graft_kv_unit_bytes(limits->kv_v, config->head_dim), values);
}

static enum graft_status take_pool(struct graft_ctx *ctx, struct graft_kv_pool *pool, uint32_t n_pages)
{
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &pool->free, n_pages, "the list of free pages"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &pool->refs, n_pages, "the pages' references"));
    for (uint32_t page = n_pages - 1; page > 0; page--) {
        pool->free[pool->n_free++] = page; // the lowest numbers are taken first
    }
    return GRAFT_OK;
}

enum graft_status graft_kv_create(struct graft_ctx *ctx, struct graft_kv **out, const struct graft_limits *limits)
{
    *out = NULL;
    struct graft_kv *kv;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &kv, 1, "the page tables"));
    kv->ctx = ctx;
    kv->limits = *limits;
    enum graft_status status;
    uint64_t entries = (uint64_t)limits->n_seq * limits->table_pages;
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &kv->tables, entries, "the page tables"), status, failed);
    if (limits->ring_pages) {
        GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &kv->rings, entries, "the page tables"), status, failed);
        GRAFT_TRY_OUT(take_pool(ctx, &kv->ring_pages, graft_layer_pages(limits, true)), status, failed);
    }
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &kv->lengths, limits->n_seq, "the sequences' lengths"), status, failed);
    GRAFT_TRY_OUT(take_pool(ctx, &kv->pages, limits->n_pages), status, failed);
    *out = kv;
    return GRAFT_OK;
failed:
    graft_kv_destroy(&kv);
    return status;
}

void graft_kv_destroy(struct graft_kv **kv)
{
    if (!kv || !*kv) {
        return;
    }
    struct graft_ctx *ctx = (*kv)->ctx;
    GRAFT_FREE(ctx, &(*kv)->pages.refs);
    GRAFT_FREE(ctx, &(*kv)->pages.free);
    GRAFT_FREE(ctx, &(*kv)->ring_pages.refs);
    GRAFT_FREE(ctx, &(*kv)->ring_pages.free);
    GRAFT_FREE(ctx, &(*kv)->rings);
    GRAFT_FREE(ctx, &(*kv)->lengths);
    GRAFT_FREE(ctx, &(*kv)->tables);
    GRAFT_FREE(ctx, kv);
}

// ---- pages and their references ----

static uint32_t take(struct graft_kv_pool *pool)
{
    if (pool->n_free == 0) {
        pool->on_empty(pool->shared_user);
    }
    uint32_t page = pool->free[--pool->n_free];
    pool->refs[page] = 1;
    return page;
}

void graft_kv_keep(struct graft_kv_pool *pool, uint32_t page)
{
    if (++pool->refs[page] == 2 && pool->on_shared) {
        pool->on_shared(pool->shared_user, page);
    }
}

void graft_kv_drop(struct graft_kv_pool *pool, uint32_t page)
{
    if (--pool->refs[page] == 0) {
        if (pool->on_free) {
            pool->on_free(pool->user, page);
        }
        pool->free[pool->n_free++] = page;
    } else if (pool->refs[page] == 1 && pool->on_shared) {
        pool->on_shared(pool->shared_user, page);
    }
}

void graft_kv_renew(struct graft_kv_pool *pool, uint32_t *entry)
{
    uint32_t old = *entry;
    *entry = take(pool);
    graft_kv_drop(pool, old);
}

static void leave(struct graft_kv_pool *pool, uint32_t *entry)
{
    if (*entry) {
        graft_kv_drop(pool, *entry);
        *entry = 0;
    }
}

// ---- sequences ----

// A page of the rings for page `at` of a sequence: that of the page which leaves the ring, if nothing else has it.
static void append_ring(struct graft_kv *kv, uint32_t seq, uint32_t at)
{
    uint32_t *ring = graft_kv_ring(kv, seq), *old = at >= kv->limits.ring_pages ? &ring[at - kv->limits.ring_pages] : NULL;
    if (old && *old && kv->ring_pages.refs[*old] == 1) {
        ring[at] = *old;
        *old = 0;
        return;
    }
    if (old) {
        leave(&kv->ring_pages, old);
    }
    ring[at] = take(&kv->ring_pages);
}

bool graft_kv_append(struct graft_kv *kv, uint32_t seq, uint32_t *slot)
{
    uint32_t *table = graft_kv_table(kv, seq);
    uint32_t at = kv->lengths[seq] / GRAFT_PAGE_TOKENS, offset = kv->lengths[seq] % GRAFT_PAGE_TOKENS;
    if (offset == 0) {
        if (at == kv->limits.table_pages || kv->pages.n_free == 0) {
            return false;
        }
        table[at] = take(&kv->pages);
        if (kv->rings) {
            append_ring(kv, seq, at);
        }
    }
    kv->lengths[seq]++;
    *slot = table[at] * GRAFT_PAGE_TOKENS + offset;
    return true;
}

bool graft_kv_share(struct graft_kv *kv, uint32_t seq, uint32_t page, uint32_t ring)
{
    uint32_t at = kv->lengths[seq] / GRAFT_PAGE_TOKENS;
    if (at == kv->limits.table_pages) {
        return false;
    }
    graft_kv_keep(&kv->pages, page);
    graft_kv_table(kv, seq)[at] = page;
    if (ring) {
        graft_kv_keep(&kv->ring_pages, ring);
        graft_kv_ring(kv, seq)[at] = ring;
    }
    kv->lengths[seq] += GRAFT_PAGE_TOKENS;
    return true;
}

uint32_t graft_kv_window_begin(const struct graft_kv *kv, uint32_t length)
{
    return length + 1 > kv->limits.window ? (length + 1 - kv->limits.window) / GRAFT_PAGE_TOKENS : 0;
}

// First page from which on the ring has all pages of the first `length` tokens.
static uint32_t ring_begin(const struct graft_kv *kv, uint32_t seq, uint32_t length)
{
    const uint32_t *ring = graft_kv_ring(kv, seq);
    uint32_t first = graft_kv_pages(length);
    while (first > 0 && ring[first - 1]) {
        first--;
    }
    return first;
}

uint32_t graft_kv_ring_begin(const struct graft_kv *kv, uint32_t seq)
{
    return kv->rings ? ring_begin(kv, seq, kv->lengths[seq]) : 0;
}

void graft_kv_forget_ring(struct graft_kv *kv, uint32_t seq, uint32_t first)
{
    for (uint32_t i = 0; kv->rings && i < first; i++) {
        leave(&kv->ring_pages, &graft_kv_ring(kv, seq)[i]);
    }
}

void graft_kv_truncate(struct graft_kv *kv, uint32_t seq, uint32_t length)
{
    if (length >= kv->lengths[seq]) {
        return;
    }
    bool lost = kv->rings && ring_begin(kv, seq, length) > graft_kv_window_begin(kv, length);
    length = lost ? 0 : length;
    uint32_t *table = graft_kv_table(kv, seq), *ring = graft_kv_ring(kv, seq);
    uint32_t keep = graft_kv_pages(length);
    for (uint32_t i = graft_kv_pages(kv->lengths[seq]); i > keep; i--) {
        leave(&kv->pages, &table[i - 1]);
        if (ring) {
            leave(&kv->ring_pages, &ring[i - 1]);
        }
    }
    kv->lengths[seq] = length;
}

// Take entries [first, first + count) out of a table of n.
static void remove_entries(struct graft_kv_pool *pool, uint32_t *table, uint32_t n, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        leave(pool, &table[i]);
    }
    memmove(table + first, table + first + count, (n - first - count) * sizeof *table);
    memset(table + n - count, 0, count * sizeof *table);
}

void graft_kv_remove(struct graft_kv *kv, uint32_t seq, uint32_t first, uint32_t count)
{
    uint32_t pages = graft_kv_pages(kv->lengths[seq]);
    remove_entries(&kv->pages, graft_kv_table(kv, seq), pages, first, count);
    if (kv->rings) {
        remove_entries(&kv->ring_pages, graft_kv_ring(kv, seq), pages, first, count);
    }
    kv->lengths[seq] -= count * GRAFT_PAGE_TOKENS;
}
