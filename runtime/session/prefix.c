// SPDX-License-Identifier: Apache-2.0
#include "runtime/session/prefix.h"

#include <string.h>

#include "loaders/sha256.h"
#include "platform/bytes.h"

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
    *out = prefix;
    return GRAFT_OK;
}

void graft_prefix_destroy(struct graft_prefix **prefix)
{
    if (!prefix || !*prefix) {
        return;
    }
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

static uint32_t find(const struct graft_prefix *prefix, const uint8_t *key)
{
    uint32_t page = *bucket_of(prefix, key);
    while (page && memcmp(prefix->pages[page].key, key, GRAFT_PREFIX_KEY_BYTES) != 0) {
        page = prefix->pages[page].next;
    }
    return page;
}

uint32_t graft_prefix_find(struct graft_prefix *prefix, const uint8_t key[GRAFT_PREFIX_KEY_BYTES])
{
    uint32_t page = find(prefix, key);
    if (page) {
        prefix->pages[page].used = ++prefix->clock;
    }
    return page;
}

void graft_prefix_keep(struct graft_prefix *prefix, const uint8_t key[GRAFT_PREFIX_KEY_BYTES], uint32_t page)
{
    struct graft_prefix_page *p = &prefix->pages[page];
    if (p->kept || find(prefix, key)) {
        return;
    }
    uint32_t *bucket = bucket_of(prefix, key);
    memcpy(p->key, key, sizeof p->key);
    p->kept = true;
    p->used = ++prefix->clock;
    p->next = *bucket;
    *bucket = page;
    prefix->n_kept++;
    graft_kv_keep(prefix->kv, page);
}

static void forget(struct graft_prefix *prefix, uint32_t page)
{
    uint32_t *at = bucket_of(prefix, prefix->pages[page].key);
    while (*at != page) {
        at = &prefix->pages[*at].next;
    }
    *at = prefix->pages[page].next;
    prefix->pages[page] = (struct graft_prefix_page){0};
    prefix->n_kept--;
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
    uint32_t oldest = 0;
    for (uint32_t page = 1; page < prefix->kv->limits.n_pages; page++) {
        const struct graft_prefix_page *p = &prefix->pages[page];
        if (p->kept && prefix->kv->refs[page] == 1 && (!oldest || p->used < prefix->pages[oldest].used)) {
            oldest = page;
        }
    }
    if (!oldest) {
        return false;
    }
    forget(prefix, oldest);
    return true;
}

uint32_t graft_prefix_idle(const struct graft_prefix *prefix)
{
    uint32_t n = 0;
    for (uint32_t page = 1; page < prefix->kv->limits.n_pages; page++) {
        n += prefix->pages[page].kept && prefix->kv->refs[page] == 1;
    }
    return n;
}
