// SPDX-License-Identifier: Apache-2.0
#include "runtime/adapter/pool.h"

#include <string.h>

#include "platform/bytes.h"
#include "platform/plat.h"

enum graft_status graft_pool_create(struct graft_ctx *ctx, struct graft_pool **out, uint64_t bytes, uint32_t n_slots)
{
    struct graft_pool *pool;
    *out = NULL;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &pool, 1, "the adapter pool's table"));
    pool->ctx = ctx;
    pool->bytes = bytes & ~UINT64_C(15);
    pool->n_slots = n_slots;
    enum graft_status status = GRAFT_NEW(ctx, GRAFT_MEM_HOST, &pool->slots, n_slots, "the adapter pool's slots");
    status = status != GRAFT_OK ? status : GRAFT_NEW(ctx, GRAFT_MEM_HOST, &pool->moves, n_slots, "the adapter pool's moves");
    status = status != GRAFT_OK ? status : GRAFT_NEW(ctx, GRAFT_MEM_HOST, &pool->order, n_slots, "the adapter pool's order");
    status = status != GRAFT_OK ? status
                                : graft_alloc(ctx, GRAFT_MEM_HOST, (void **)&pool->past, (uint64_t)n_slots * GRAFT_POOL_PAST,
                                              sizeof *pool->past, "the adapter pool's history");
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
    GRAFT_FREE((*pool)->ctx, &(*pool)->moves);
    GRAFT_FREE((*pool)->ctx, &(*pool)->order);
    GRAFT_FREE((*pool)->ctx, &(*pool)->past);
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

// First gap of `bytes` between the ranges in use; false if there is none.
static bool first_fit(const struct graft_pool *pool, uint64_t bytes, uint64_t *offset)
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
            if (s->used && at < s->offset + s->bytes && s->offset < at + bytes) {
                at = s->offset + s->bytes;
                moved = true;
            }
        }
    }
    *offset = at;
    return true;
}

// Move all ranges together, lowest first; where the free rest begins. Lower ranges first: no copy overwrites what a later one
// reads.
static uint64_t compact(struct graft_pool *pool)
{
    uint32_t n = 0;
    uint64_t end = 0;
    for (uint32_t i = 0; i < pool->n_slots; i++) {
        if (!pool->slots[i].used) {
            continue;
        }
        uint32_t at = n++;
        for (; at > 0 && pool->slots[pool->order[at - 1]].offset > pool->slots[i].offset; at--) {
            pool->order[at] = pool->order[at - 1];
        }
        pool->order[at] = i;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct graft_pool_slot *s = &pool->slots[pool->order[i]];
        if (s->offset != end) {
            pool->moves[pool->n_moves++] = (struct graft_pool_move){pool->order[i], s->offset, end, s->bytes};
            s->offset = end;
        }
        end += s->bytes;
    }
    return end;
}

// The least recently used adapter that nothing holds; n_slots if there is none.
static uint32_t oldest_idle(const struct graft_pool *pool)
{
    uint32_t oldest = pool->n_slots;
    for (uint32_t i = 0; i < pool->n_slots; i++) {
        const struct graft_pool_slot *s = &pool->slots[i];
        if (s->used && s->references == 0 && (oldest == pool->n_slots || s->last_use < pool->slots[oldest].last_use)) {
            oldest = i;
        }
    }
    return oldest;
}

// The entry of an adapter's past; if it has none, the free or oldest one.
static struct graft_pool_past *past_of(const struct graft_pool *pool, const uint8_t digest[32])
{
    struct graft_pool_past *oldest = pool->past;
    for (uint32_t i = 0; i < pool->n_slots * GRAFT_POOL_PAST; i++) {
        struct graft_pool_past *past = &pool->past[i];
        if (past->dropped && memcmp(past->digest, digest, sizeof past->digest) == 0) {
            return past;
        }
        oldest = past->dropped < oldest->dropped ? past : oldest;
    }
    return oldest;
}

enum graft_status graft_pool_take(struct graft_pool *pool, const uint8_t digest[32], uint64_t bytes, uint32_t *slot)
{
    uint64_t taken = 0, held = 0, offset;
    uint32_t n = 0, n_held = 0;
    pool->n_moves = 0;
    bytes = bytes <= UINT64_MAX - 15 ? (bytes + 15) & ~UINT64_C(15) : UINT64_MAX;
    for (uint32_t i = 0; i < pool->n_slots; i++) {
        const struct graft_pool_slot *s = &pool->slots[i];
        taken += s->used ? s->bytes : 0;
        n += s->used;
        held += s->used && s->references ? s->bytes : 0;
        n_held += s->used && s->references;
    }
    if (bytes > pool->bytes || held > pool->bytes - bytes || n_held == pool->n_slots) {
        return graft_fail(GRAFT_E_BUDGET,
                          "the adapter needs %" PRIu64 " bytes of the pool; %" PRIu64 " of its %" PRIu64
                          " bytes and %u of its %u slots are held by adapters in use",
                          bytes, held, pool->bytes, n_held, pool->n_slots);
    }
    while (taken > pool->bytes - bytes || n == pool->n_slots) { // ends: what nothing holds suffices
        uint32_t oldest = oldest_idle(pool);
        taken -= pool->slots[oldest].bytes;
        n--;
        graft_pool_drop(pool, oldest);
    }
    if (!first_fit(pool, bytes, &offset)) {
        offset = compact(pool);
        pool->n_compactions++;
    }
    uint32_t i = 0;
    while (pool->slots[i].used) {
        i++;
    }
    const struct graft_pool_past *past = past_of(pool, digest);
    bool known = past->dropped && memcmp(past->digest, digest, sizeof past->digest) == 0;
    pool->slots[i] = (struct graft_pool_slot){.used = true,
                                              .loads = (known ? past->loads : 0) + 1,
                                              .hits = known ? past->hits : 0,
                                              .offset = offset,
                                              .bytes = bytes,
                                              .references = 1,
                                              .last_use = ++pool->clock,
                                              .last_use_ns = graft_clock_ns()};
    memcpy(pool->slots[i].digest, digest, sizeof pool->slots[i].digest);
    *slot = i;
    return GRAFT_OK;
}

void graft_pool_acquire(struct graft_pool *pool, uint32_t slot)
{
    pool->slots[slot].references++;
    pool->slots[slot].last_use = ++pool->clock;
    pool->slots[slot].last_use_ns = graft_clock_ns();
}

void graft_pool_release(struct graft_pool *pool, uint32_t slot)
{
    pool->slots[slot].references--;
    pool->slots[slot].last_use = ++pool->clock;
    pool->slots[slot].last_use_ns = graft_clock_ns();
}

void graft_pool_drop(struct graft_pool *pool, uint32_t slot)
{
    struct graft_pool_slot *s = &pool->slots[slot];
    struct graft_pool_past *past = past_of(pool, s->digest);
    *past = (struct graft_pool_past){.loads = s->loads, .hits = s->hits, .dropped = ++pool->clock};
    memcpy(past->digest, s->digest, sizeof past->digest);
    *s = (struct graft_pool_slot){0};
}

uint32_t graft_pool_expire(struct graft_pool *pool, uint64_t idle_ns)
{
    uint32_t n = 0;
    uint64_t now = graft_clock_ns();
    for (uint32_t i = 0; i < pool->n_slots; i++) {
        const struct graft_pool_slot *s = &pool->slots[i];
        if (s->used && s->references == 0 && now - s->last_use_ns >= idle_ns) {
            graft_pool_drop(pool, i);
            n++;
        }
    }
    return n;
}
