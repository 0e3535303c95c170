// SPDX-License-Identifier: Apache-2.0
#include "runtime/session/prefix.h"

#include <string.h>

#include "loaders/sha256.h"
#include "platform/bytes.h"

static void leave_list(struct graft_prefix *prefix, uint32_t page)
{
    struct graft_prefix_page *p = &prefix->pages[page];
    prefix->pages[p->before].after = p->after;
    prefix->pages[p->after].before = p->before;
    p->before = p->after = 0;
    p->idle = false;
    prefix->n_idle--;
}

static void on_shared(void *user, uint32_t page)
{
    struct graft_prefix *prefix = user;
    struct graft_prefix_page *p = &prefix->pages[page], *end = &prefix->pages[0];
    bool idle = p->kept && prefix->kv->refs[page] == 1;
    if (p->idle && !idle) {
        leave_list(prefix, page);
    } else if (idle && !p->idle) {
        p->before = end->before;
        p->after = 0;
        prefix->pages[end->before].after = page;
        end->before = page;
        p->idle = true;
        prefix->n_idle++;
    }
}

enum graft_status graft_prefix_create(struct graft_ctx *ctx, struct graft_prefix **out, struct graft_kv *kv)
{
    struct graft_prefix *prefix;
    *out = NULL;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &prefix, 1, "the prefix cache"));
    prefix->ctx = ctx;
    prefix->kv = kv;
    enum graft_status status = GRAFT_NEW(ctx, GRAFT_MEM_HOST, &prefix->pages, kv->limits.n_pages, "the prefix cache");
    status =
        status != GRAFT_OK ? status : GRAFT_NEW(ctx, GRAFT_MEM_HOST, &prefix->buckets, kv->limits.n_pages, "the prefix cache");
    if (status != GRAFT_OK) {
        graft_prefix_destroy(&prefix);
        return status;
    }
    kv->on_shared = on_shared;
    kv->shared_user = prefix;
    *out = prefix;
    return GRAFT_OK;
}

void graft_prefix_destroy(struct graft_prefix **prefix)
{
    if (!prefix || !*prefix) {
        return;
    }
    (*prefix)->kv->on_shared = NULL;
    GRAFT_FREE((*prefix)->ctx, &(*prefix)->buckets);
    GRAFT_FREE((*prefix)->ctx, &(*prefix)->pages);
    GRAFT_FREE((*prefix)->ctx, prefix);
}

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

void graft_prefix_keep(struct graft_prefix *prefix, const uint8_t key[GRAFT_PREFIX_KEY_BYTES], uint32_t page)
{
    struct graft_prefix_page *p = &prefix->pages[page];
    if (p->kept || graft_prefix_find(prefix, key)) {
        return;
    }
    uint32_t *bucket = bucket_of(prefix, key);
    memcpy(p->key, key, sizeof p->key);
    p->kept = true;
    p->next = *bucket;
    *bucket = page;
    graft_kv_keep(prefix->kv, page);
}

static void forget(struct graft_prefix *prefix, uint32_t page)
{
    uint32_t *at = bucket_of(prefix, prefix->pages[page].key);
    while (*at != page) {
        at = &prefix->pages[*at].next;
    }
    *at = prefix->pages[page].next;
    if (prefix->pages[page].idle) {
        leave_list(prefix, page);
    }
    prefix->pages[page] = (struct graft_prefix_page){0};
    graft_kv_drop(prefix->kv, page);
}

void graft_prefix_forget(struct graft_prefix *prefix, uint32_t page)
{
    if (prefix->pages[page].kept) {
        forget(prefix, page);
    }
}

bool graft_prefix_evict(struct graft_prefix *prefix)
{
    uint32_t oldest = prefix->pages[0].after;
    if (!oldest) {
        return false;
    }
    forget(prefix, oldest);
    return true;
}

uint32_t graft_prefix_idle(const struct graft_prefix *prefix)
{
    return prefix->n_idle;
}
