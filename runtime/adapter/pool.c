// SPDX-License-Identifier: Apache-2.0
#include "runtime/adapter/pool.h"

#include <string.h>

#include "platform/bytes.h"

enum graft_status graft_pool_create(struct graft_ctx *ctx, struct graft_pool **out, uint64_t bytes, uint32_t n_slots)
{
    struct graft_pool *pool;
    *out = NULL;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &pool, 1, "the adapter pool's table"));
    pool->ctx = ctx;
    pool->bytes = bytes & ~UINT64_C(15);
    pool->n_slots = n_slots;
    enum graft_status status = GRAFT_NEW(ctx, GRAFT_MEM_HOST, &pool->slots, n_slots, "the adapter pool's slots");
    if (status != GRAFT_OK) {
        graft_pool_destroy(&pool);
        return status;
    }
    *out = pool;
    return GRAFT_OK;
}

void graft_pool_destroy(struct graft_pool **pool)
{
    if (!pool || !*pool) {
        return;
    }
    GRAFT_FREE((*pool)->ctx, &(*pool)->slots);
    GRAFT_FREE((*pool)->ctx, pool);
}

uint32_t graft_pool_find(const struct graft_pool *pool, const uint8_t digest[32])
{
    uint32_t i = 0;
    while (i < pool->n_slots && !(pool->slots[i].used && memcmp(pool->slots[i].digest, digest, 32) == 0)) {
        i++;
    }
    return i;
}

// First gap of `bytes` between the ranges of the slots that `kept` says stay; false if there is none.
static bool first_fit(const struct graft_pool *pool, const bool *gone, uint64_t bytes, uint64_t *offset)
{
    uint64_t at = 0;
    bool moved = true;
    while (moved) { // ends: every round moves `at` behind one more range
        if (at > pool->bytes || bytes > pool->bytes - at) {
            return false;
        }
        moved = false;
        for (uint32_t i = 0; i < pool->n_slots; i++) {
            const struct graft_pool_slot *s = &pool->slots[i];
            if (s->used && !gone[i] && at < s->offset + s->bytes && s->offset < at + bytes) {
                at = s->offset + s->bytes;
                moved = true;
            }
        }
    }
    *offset = at;
    return true;
}

enum graft_status graft_pool_take(struct graft_pool *pool, const uint8_t digest[32], uint64_t bytes, uint32_t *slot)
{
    bool *gone;
    GRAFT_TRY(GRAFT_NEW(pool->ctx, GRAFT_MEM_HOST, &gone, pool->n_slots, "adapters to drop"));
    bytes = (bytes + 15) & ~UINT64_C(15);
    enum graft_status status = GRAFT_OK;
    for (;;) {
        uint64_t offset;
        uint32_t free_slot = 0, oldest = pool->n_slots;
        while (free_slot < pool->n_slots && pool->slots[free_slot].used && !gone[free_slot]) {
            free_slot++;
        }
        if (free_slot < pool->n_slots && first_fit(pool, gone, bytes, &offset)) {
            for (uint32_t i = 0; i < pool->n_slots; i++) {
                if (gone[i]) {
                    graft_pool_drop(pool, i);
                }
            }
            struct graft_pool_slot *s = &pool->slots[free_slot];
            *s = (struct graft_pool_slot){
                .used = true, .offset = offset, .bytes = bytes, .references = 1, .last_use = ++pool->clock};
            memcpy(s->digest, digest, sizeof s->digest);
            *slot = free_slot;
            break;
        }
        for (uint32_t i = 0; i < pool->n_slots; i++) {
            const struct graft_pool_slot *s = &pool->slots[i];
            if (s->used && !gone[i] && s->references == 0 &&
                (oldest == pool->n_slots || s->last_use < pool->slots[oldest].last_use)) {
                oldest = i;
            }
        }
        if (oldest == pool->n_slots) {
            uint64_t taken = 0;
            uint32_t n = 0;
            for (uint32_t i = 0; i < pool->n_slots; i++) {
                taken += pool->slots[i].used && pool->slots[i].references ? pool->slots[i].bytes : 0;
                n += pool->slots[i].used && pool->slots[i].references;
            }
            status = graft_fail(GRAFT_E_BUDGET,
                                "the adapter needs %" PRIu64 " bytes of the pool; %" PRIu64 " of its %" PRIu64
                                " bytes and %u of its %u "
                                "slots are held by adapters in use",
                                bytes, taken, pool->bytes, n, pool->n_slots);
            break;
        }
        gone[oldest] = true;
    }
    GRAFT_FREE(pool->ctx, &gone);
    return status;
}

void graft_pool_acquire(struct graft_pool *pool, uint32_t slot)
{
    pool->slots[slot].references++;
    pool->slots[slot].last_use = ++pool->clock;
}

void graft_pool_release(struct graft_pool *pool, uint32_t slot)
{
    pool->slots[slot].references--;
}

void graft_pool_drop(struct graft_pool *pool, uint32_t slot)
{
    pool->slots[slot] = (struct graft_pool_slot){0};
}
