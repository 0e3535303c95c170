// SPDX-License-Identifier: Apache-2.0
#include "runtime/session/prefix.h"

#include <string.h>

#include "loaders/sha256.h"
#include "platform/bytes.h"

// ---- lists of pages that no sequence has, in the order in which they were left ----

static void leave_list(struct graft_prefix_list *list, uint32_t page)
{
    struct graft_prefix_node *n = &list->nodes[page];
    list->nodes[n->before].after = n->after;
    list->nodes[n->after].before = n->before;
    *n = (struct graft_prefix_node){0};
    list->n--;
}

static void update_list(struct graft_prefix_list *list, uint32_t page, bool idle)
{
    struct graft_prefix_node *n = &list->nodes[page], *end = &list->nodes[0];
    if (n->idle && !idle) {
        leave_list(list, page);
    } else if (idle && !n->idle) {
        *n = (struct graft_prefix_node){.before = end->before, .idle = true};
        list->nodes[end->before].after = page;
        end->before = page;
        list->n++;
    }
}

static void on_shared(void *user, uint32_t page)
{
    struct graft_prefix *prefix = user;
    update_list(&prefix->idle, page, prefix->pages[page].kept && prefix->kv->pages.refs[page] == 1);
}

static void on_shared_ring(void *user, uint32_t ring)
{
    struct graft_prefix *prefix = user;
    update_list(&prefix->idle_rings, ring, prefix->owners[ring] && prefix->kv->ring_pages.refs[ring] == 1);
}

// ---- pages of the rings ----

void graft_prefix_forget_ring(struct graft_prefix *prefix, uint32_t ring)
{
    if (!ring || !prefix->owners[ring]) {
        return;
    }
    update_list(&prefix->idle_rings, ring, false);
    prefix->pages[prefix->owners[ring]].ring = 0;
    prefix->owners[ring] = 0;
    graft_kv_drop(&prefix->kv->ring_pages, ring);
}

// A page of the rings that a sequence has takes the place of one that none has: there is one copy less, and it is the younger.
static void keep_ring(struct graft_prefix *prefix, uint32_t page, uint32_t ring)
{
    uint32_t old = prefix->pages[page].ring;
    if (!ring || prefix->owners[ring]) {
        return;
    }
    if (old && prefix->idle_rings.nodes[old].idle) {
        graft_prefix_forget_ring(prefix, old);
    }
    if (!prefix->pages[page].ring) {
        prefix->owners[ring] = page;
        prefix->pages[page].ring = ring;
        graft_kv_keep(&prefix->kv->ring_pages, ring);
    }
}

static void on_empty_ring(void *user)
{
    struct graft_prefix *prefix = user;
    graft_prefix_forget_ring(prefix, prefix->idle_rings.nodes[0].after);
}

// ---- making and ending ----

enum graft_status graft_prefix_create(struct graft_ctx *ctx, struct graft_prefix **out, struct graft_kv *kv)
{
    struct graft_prefix *prefix;
    *out = NULL;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &prefix, 1, "the prefix cache"));
    prefix->ctx = ctx;
    prefix->kv = kv;
    uint32_t n = kv->limits.n_pages, n_rings = kv->rings ? graft_layer_pages(&kv->limits, true) : 0;
    enum graft_status status;
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &prefix->pages, n, "the prefix cache"), status, fail);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &prefix->buckets, n, "the prefix cache"), status, fail);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &prefix->idle.nodes, n, "the prefix cache"), status, fail);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &prefix->owners, n_rings, "the prefix cache"), status, fail);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &prefix->idle_rings.nodes, n_rings, "the prefix cache"), status, fail);
    kv->pages.on_shared = on_shared;
    kv->ring_pages.on_shared = on_shared_ring;
    kv->ring_pages.on_empty = on_empty_ring;
    kv->pages.shared_user = kv->ring_pages.shared_user = prefix;
    *out = prefix;
    return GRAFT_OK;
fail:
    graft_prefix_destroy(&prefix);
    return status;
}

void graft_prefix_destroy(struct graft_prefix **given)
{
    if (!given || !*given) {
        return;
    }
    struct graft_prefix *prefix = *given;
    struct graft_ctx *ctx = prefix->ctx;
    prefix->kv->pages.on_shared = prefix->kv->ring_pages.on_shared = NULL;
    prefix->kv->ring_pages.on_empty = NULL;
    GRAFT_FREE(ctx, &prefix->idle_rings.nodes);
    GRAFT_FREE(ctx, &prefix->owners);
    GRAFT_FREE(ctx, &prefix->idle.nodes);
    GRAFT_FREE(ctx, &prefix->buckets);
    GRAFT_FREE(ctx, &prefix->pages);
    GRAFT_FREE(ctx, given);
}

// ---- keys ----

void graft_prefix_next(uint8_t key[GRAFT_PREFIX_KEY_BYTES], const void *what, uint64_t what_bytes, const int32_t *tokens)
{
    struct graft_sha256 hash;
    graft_sha256_begin(&hash);
    graft_sha256_add(&hash, key, GRAFT_PREFIX_KEY_BYTES);
    graft_sha256_add(&hash, what, what_bytes);
    graft_sha256_add(&hash, tokens, GRAFT_PAGE_TOKENS * sizeof *tokens);
    graft_sha256_end(&hash, key);
}

static uint32_t *bucket_of(const struct graft_prefix *prefix, const uint8_t *key)
{
    return &prefix->buckets[graft_load_u32(key) % prefix->kv->limits.n_pages];
}

uint32_t graft_prefix_find(const struct graft_prefix *prefix, const uint8_t key[GRAFT_PREFIX_KEY_BYTES])
{
    uint32_t page = *bucket_of(prefix, key);
    while (page && memcmp(prefix->pages[page].key, key, GRAFT_PREFIX_KEY_BYTES) != 0) {
        page = prefix->pages[page].next;
    }
    return page;
}

uint32_t graft_prefix_ring(const struct graft_prefix *prefix, uint32_t page)
{
    return prefix->pages[page].ring;
}

void graft_prefix_keep(struct graft_prefix *prefix, const uint8_t key[GRAFT_PREFIX_KEY_BYTES], uint32_t page, uint32_t ring)
{
    struct graft_prefix_page *p = &prefix->pages[page];
    uint32_t known = p->kept ? page : graft_prefix_find(prefix, key);
    if (known) { // the same tokens
        keep_ring(prefix, known, ring);
        return;
    }
    uint32_t *bucket = bucket_of(prefix, key);
    memcpy(p->key, key, sizeof p->key);
    p->kept = true;
    p->next = *bucket;
    *bucket = page;
    graft_kv_keep(&prefix->kv->pages, page);
    keep_ring(prefix, page, ring);
}

static void forget(struct graft_prefix *prefix, uint32_t page)
{
    uint32_t *at = bucket_of(prefix, prefix->pages[page].key);
    while (*at != page) {
        at = &prefix->pages[*at].next;
    }
    *at = prefix->pages[page].next;
    graft_prefix_forget_ring(prefix, prefix->pages[page].ring);
    update_list(&prefix->idle, page, false);
    prefix->pages[page] = (struct graft_prefix_page){0};
    graft_kv_drop(&prefix->kv->pages, page);
}

void graft_prefix_forget(struct graft_prefix *prefix, uint32_t page)
{
    if (prefix->pages[page].kept) {
        forget(prefix, page);
    }
}

bool graft_prefix_evict(struct graft_prefix *prefix)
{
    uint32_t oldest = prefix->idle.nodes[0].after;
    if (!oldest) {
        return false;
    }
    forget(prefix, oldest);
    return true;
}

uint32_t graft_prefix_idle(const struct graft_prefix *prefix)
{
    return prefix->idle.n;
}
