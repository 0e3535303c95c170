// SPDX-License-Identifier: Apache-2.0
// Which adapter is where in the pool: slots of the table and byte ranges of the pool, with reference counts. Bookkeeping
// only: no device, no
// bytes. Thread-safety: one thread at a time.
#ifndef GRAFT_RUNTIME_ADAPTER_POOL_H
#define GRAFT_RUNTIME_ADAPTER_POOL_H

#include "platform/ctx.h"

struct graft_pool_slot {
    bool used;
    uint8_t digest[32];
    uint64_t offset, bytes; // multiples of 16
    uint32_t references;    // handles and sequences; only at 0 may the slot be taken
    uint64_t last_use;      // of the pool's clock
};

struct graft_pool {
    struct graft_ctx *ctx;
    uint64_t bytes;
    uint32_t n_slots;
    uint64_t clock;
    struct graft_pool_slot *slots;
};

GRAFT_MUST_CHECK enum graft_status graft_pool_create(struct graft_ctx *ctx, struct graft_pool **out, uint64_t bytes,
                                                     uint32_t n_slots);
void graft_pool_destroy(struct graft_pool **pool);
// Slot that holds these bytes; n_slots if none.
uint32_t graft_pool_find(const struct graft_pool *pool, const uint8_t digest[32]);
// Take a slot and a range of `bytes`: first fit, after dropping unreferenced adapters, least recently used first, as far as
// needed. The slot
// starts with one reference. Errors: GRAFT_E_BUDGET with what is needed, free and pinned; nothing is dropped then.
GRAFT_MUST_CHECK enum graft_status graft_pool_take(struct graft_pool *pool, const uint8_t digest[32], uint64_t bytes,
                                                   uint32_t *slot);
void graft_pool_acquire(struct graft_pool *pool, uint32_t slot);
void graft_pool_release(struct graft_pool *pool, uint32_t slot);
// Forget a slot whose upload failed.
void graft_pool_drop(struct graft_pool *pool, uint32_t slot);

#endif
