// SPDX-License-Identifier: Apache-2.0
// Which KV pages hold which text: whole pages that were computed are found again by a chain of hashes.
//
//   key(0) = SHA-256(whose), key(i + 1) = SHA-256(key(i), what the rows of page i ran with, the tokens of page i)
//
// so a key stands for everything that its page and those before it depend on. A page that is kept has one reference more. Those
// that no sequence has stand in a list in the order in which they were left, the last page of a sequence before the first; its
// head is given up first. All of it takes constant time. Thread-safety: one thread at a time.
// Source: automatic prefix caching of vLLM (docs/design/prefix_caching.md).
#ifndef GRAFT_RUNTIME_SESSION_PREFIX_H
#define GRAFT_RUNTIME_SESSION_PREFIX_H

#include "runtime/model/kv.h"

enum { GRAFT_PREFIX_KEY_BYTES = 32 };

struct graft_prefix {
    struct graft_ctx *ctx;
    struct graft_kv *kv;
    struct graft_prefix_page {
        uint8_t key[GRAFT_PREFIX_KEY_BYTES];
        bool kept, idle;
        uint32_t next;          // page of the same bucket; 0 = last
        uint32_t before, after; // in the list of those that no sequence has; page 0 is its head and its end
    } * pages;                  // [n_pages]
    uint32_t *buckets;          // [n_pages] first page; 0 = none
    uint32_t n_idle;
};

GRAFT_MUST_CHECK enum graft_status graft_prefix_create(struct graft_ctx *ctx, struct graft_prefix **out, struct graft_kv *kv);
void graft_prefix_destroy(struct graft_prefix **prefix);
// key becomes that of the page behind it: what[what_bytes] is what its rows run with, tokens[GRAFT_PAGE_TOKENS].
void graft_prefix_next(uint8_t key[GRAFT_PREFIX_KEY_BYTES], const void *what, uint64_t what_bytes, const int32_t *tokens);
// The page of a key; 0 if there is none.
uint32_t graft_prefix_find(const struct graft_prefix *prefix, const uint8_t key[GRAFT_PREFIX_KEY_BYTES]);
// Keep a page under a key. Nothing happens if the key has one, or the page is kept already.
void graft_prefix_keep(struct graft_prefix *prefix, const uint8_t key[GRAFT_PREFIX_KEY_BYTES], uint32_t page);
// Let go of a page, whoever else has it: its content is about to change. One that is not kept is left alone.
void graft_prefix_forget(struct graft_prefix *prefix, uint32_t page);
// Give up the page that was left first, of those that no sequence has; false if there is none.
bool graft_prefix_evict(struct graft_prefix *prefix);
// Pages that no sequence has.
uint32_t graft_prefix_idle(const struct graft_prefix *prefix);

#endif
