// SPDX-License-Identifier: Apache-2.0
// KV pages: which page of the cache holds which tokens of which sequence. Numbers only; the memory belongs to the executor.
// Page 0 is spare (rows that only fill up a batch write there). Thread-safety: one thread at a time.
#ifndef GRAFT_RUNTIME_MODEL_KV_H
#define GRAFT_RUNTIME_MODEL_KV_H

#include "runtime/model/plan.h"

// Pages of one kind, numbered from 1, and who has them.
struct graft_kv_pool {
    uint32_t *free; // stack of free pages
    uint32_t n_free;
    uint32_t *refs; // of each page: sequences that have it, and one more while a prefix cache keeps it
    // Called when nothing has a page any more, before it counts as free; NULL = nothing is done.
    void (*on_free)(void *user, uint32_t page);
    void *user;
    // Called when a page that one had is had by two, and when it is had by one again; NULL = nothing is done.
    void (*on_shared)(void *user, uint32_t page);
    // Called when a sequence needs a page and none is free: a prefix cache gives one up that no sequence has. NULL: there is
    // always one.
    void (*on_empty)(void *user);
    void *shared_user;
};

struct graft_kv {
    struct graft_ctx *ctx;
    struct graft_limits limits;
    uint32_t *tables;  // [n_seq][table_pages] pages of each sequence; 0 behind its last one
    uint32_t *lengths; // [n_seq] tokens
    struct graft_kv_pool pages;
    // Layers with a window have pages of their own, limits.ring_pages for each sequence, which has the last ones of its pages
    // there. rings: as tables; 0 for a page that it has no more, and nothing attends to. NULL: there are none.
    // ring_pages: sequences have no more than all, so that one is free for each that needs one, or a prefix cache keeps it.
    uint32_t *rings;
    struct graft_kv_pool ring_pages;
};

GRAFT_MUST_CHECK enum graft_status graft_kv_create(struct graft_ctx *ctx, struct graft_kv **out,
                                                   const struct graft_limits *limits);
void graft_kv_destroy(struct graft_kv **kv);

// Pages a sequence of `length` tokens holds.
static inline uint32_t graft_kv_pages(uint32_t length)
{
    return length / GRAFT_PAGE_TOKENS + (length % GRAFT_PAGE_TOKENS != 0);
}
// The pages of a sequence, and those of the rings, NULL without: [table_pages] each.
static inline uint32_t *graft_kv_table(const struct graft_kv *kv, uint32_t seq)
{
    return kv->tables + (size_t)seq * kv->limits.table_pages;
}
static inline uint32_t *graft_kv_ring(const struct graft_kv *kv, uint32_t seq)
{
    return kv->rings ? kv->rings + (size_t)seq * kv->limits.table_pages : NULL;
}
// Append one token to a sequence: *slot gets where its K and V go (page * GRAFT_PAGE_TOKENS + offset). False if the sequence's
// table is full or no page is free; nothing changes then.
bool graft_kv_append(struct graft_kv *kv, uint32_t seq, uint32_t *slot);
// Forget the tokens from `length` on; pages that hold none any more are free again. With rings the sequence is emptied instead
// if what the next token's window needs is overwritten: look at the length afterwards.
void graft_kv_truncate(struct graft_kv *kv, uint32_t seq, uint32_t length);

// Append a whole page of GRAFT_PAGE_TOKENS tokens that is computed already to a sequence whose length is a multiple of that;
// ring: the same tokens' page in layers with a window, or 0 where no later token attends to them. False if its table is full.
// Shared pages may not be written: a sequence may not be truncated into one and then grow.
bool graft_kv_share(struct graft_kv *kv, uint32_t seq, uint32_t page, uint32_t ring);
// First page that a token at position `length` attends to in layers with a window.
uint32_t graft_kv_window_begin(const struct graft_kv *kv, uint32_t length);
// First page of the rings that a sequence has, with all that follow it; 0 without rings.
uint32_t graft_kv_ring_begin(const struct graft_kv *kv, uint32_t seq);
// The sequence has no pages of the rings before `first` any more. Without rings nothing is done.
void graft_kv_forget_ring(struct graft_kv *kv, uint32_t seq, uint32_t first);
// Take the pages [first, first + count) out of a sequence that has tokens behind them; what follows moves up, page by page.
void graft_kv_remove(struct graft_kv *kv, uint32_t seq, uint32_t first, uint32_t count);
// One reference more, or less, for a page that is not free.
void graft_kv_keep(struct graft_kv_pool *pool, uint32_t page);
void graft_kv_drop(struct graft_kv_pool *pool, uint32_t page);
// Another page for an entry of a sequence's table, with a content that is not known; the old one has a reference less. There
// must be a free page, or on_empty.
void graft_kv_renew(struct graft_kv_pool *pool, uint32_t *entry);

// Limits that hold n_ctx tokens however n_seq sequences divide them: ceil(n_ctx / page) + n_seq - 1 pages and the spare one;
// n_out is the larger of n_seq and GRAFT_MAX_WANTED, but at most n_batch.
struct graft_limits graft_kv_limits(uint32_t n_ctx, uint32_t n_batch, uint32_t n_seq);

#endif
