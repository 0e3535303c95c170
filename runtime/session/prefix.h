// SPDX-License-Identifier: Apache-2.0
// Which KV pages hold which text: whole pages that were computed are found again by a chain of hashes.
//
//   key(0) = SHA-256(whose), key(i + 1) = SHA-256(key(i), what the rows of page i ran with, the tokens of page i)
//
// so a key stands for everything that its page and those before it depend on. A page that is kept has one reference more. Those
// that no sequence has stand in a list in the order in which they were left, the last page of a sequence before the first; its
// head is given up first. All of it takes constant time. Thread-safety: one thread at a time.
//
// In layers with a window a page may have another page, of the rings, with the same tokens' keys and values there. It is kept
// as long as sequences leave it alone: when they need it, the one that was left first goes, and its page stays without. A
// sequence can begin behind a page if all pages that its next token attends to have theirs. Source: automatic prefix caching of
// vLLM (docs/design/prefix_caching.md).
#ifndef GRAFT_RUNTIME_SESSION_PREFIX_H
#define GRAFT_RUNTIME_SESSION_PREFIX_H

#include "runtime/model/kv.h"

enum { GRAFT_PREFIX_KEY_BYTES = 32 };

// Pages in the order in which they were left; node 0 is the list's head and its end.
struct graft_prefix_list {
    struct graft_prefix_node {
        uint32_t before, after;
        bool idle; // it is in the list
    } * nodes;
    uint32_t n;
};

struct graft_prefix {
    struct graft_ctx *ctx;
    struct graft_kv *kv;
    struct graft_prefix_page {
        uint8_t key[GRAFT_PREFIX_KEY_BYTES];
        bool kept;
        uint32_t next;                         // page of the same bucket; 0 = last
        uint32_t ring;                         // its page of the rings; 0 = none
    } * pages;                                 // [n_pages]
    uint32_t *buckets;                         // [n_pages] first page; 0 = none
    uint32_t *owners;                          // pages that kept pages of the rings belong to; 0: not kept
    struct graft_prefix_list idle, idle_rings; // those that no sequence has
};

GRAFT_MUST_CHECK enum graft_status graft_prefix_create(struct graft_ctx *ctx, struct graft_prefix **out, struct graft_kv *kv);
void graft_prefix_destroy(struct graft_prefix **prefix);
// key becomes that of the page behind it: what[what_bytes] is what its rows run with, tokens[GRAFT_PAGE_TOKENS].
void graft_prefix_next(uint8_t key[GRAFT_PREFIX_KEY_BYTES], const void *what, uint64_t what_bytes, const int32_t *tokens);
// The page of a key; 0 if there is none.
uint32_t graft_prefix_find(const struct graft_prefix *prefix, const uint8_t key[GRAFT_PREFIX_KEY_BYTES]);
// The kept page's page of the rings; 0 if it has none.
uint32_t graft_prefix_ring(const struct graft_prefix *prefix, uint32_t page);
// Keep a page under a key, and its page of the rings (0: none). If the key has a page, that one stays, and gets `ring` if it
// has none, or one that no sequence has.
void graft_prefix_keep(struct graft_prefix *prefix, const uint8_t key[GRAFT_PREFIX_KEY_BYTES], uint32_t page, uint32_t ring);
// Let go of a page, whoever else has it: its content is about to change. One that is not kept is left alone.
void graft_prefix_forget(struct graft_prefix *prefix, uint32_t page);
// The same for a page of the rings, or 0; what it belongs to stays.
void graft_prefix_forget_ring(struct graft_prefix *prefix, uint32_t ring);
// Give up the page that was left first, of those that no sequence has; false if there is none.
bool graft_prefix_evict(struct graft_prefix *prefix);
// Pages that no sequence has.
uint32_t graft_prefix_idle(const struct graft_prefix *prefix);

#endif
