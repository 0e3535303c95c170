// SPDX-License-Identifier: Apache-2.0
// Which adapter is where in the pool: slots of the table and byte ranges of the pool, with reference counts. Bookkeeping
// only: no device, no bytes. Thread-safety: one thread at a time.
#ifndef GRAFT_RUNTIME_ADAPTER_POOL_H
#define GRAFT_RUNTIME_ADAPTER_POOL_H

#include "platform/ctx.h"

struct graft_pool_slot {
    bool used;
    bool gone; // its bytes were lost; the slot is free when the references are
    uint8_t digest[32];
    uint64_t offset, bytes; // multiples of 16
    uint32_t references;    // handles and sequences; only at 0 may the slot be taken
    uint64_t last_use;      // of the pool's clock
    uint64_t last_use_ns;   // of the system's clock
    uint64_t loads, hits;   // times loaded and times chosen, those before it was dropped included
};

// What is remembered of an adapter that was dropped, the last GRAFT_POOL_PAST times n_slots of them.
enum { GRAFT_POOL_PAST = 4 };
struct graft_pool_past {
    uint8_t digest[32];
    uint64_t loads, hits;
    uint64_t dropped; // of the pool's clock; 0: this entry is free
};

// One range that has to be copied to a lower place: what is there is not needed any more, or is the range itself.
struct graft_pool_move {
    uint32_t slot;
    uint64_t from, to, bytes;
};

struct graft_pool {
    struct graft_ctx *ctx;
    uint64_t bytes;
    uint32_t n_slots;
    uint64_t clock;
    struct graft_pool_slot *slots;
    struct graft_pool_move *moves; // [n_slots] that graft_pool_take wants done
    uint32_t n_moves;
    struct graft_pool_past *past;                 // [GRAFT_POOL_PAST * n_slots]
    uint64_t n_compactions;                       // since the pool was created
    uint32_t *order; // [n_slots] scratch
};

GRAFT_MUST_CHECK enum graft_status graft_pool_create(struct graft_ctx *ctx, struct graft_pool **out, uint64_t bytes,
                                                     uint32_t n_slots);
void graft_pool_destroy(struct graft_pool **pool);
// Slot that holds these bytes; n_slots if none.
uint32_t graft_pool_find(const struct graft_pool *pool, const uint8_t digest[32]);
// Take a slot and a range of `bytes`, after dropping unreferenced adapters, least recently used first, until a slot and that
// many bytes are free; never more than that. If the free bytes are in pieces, the adapters are moved together:
// pool->moves[n_moves], in the order in which they have to be copied, by the caller, before the new range is written. The slot
// starts with one reference. Errors: GRAFT_E_BUDGET with what is needed and held; nothing is dropped or moved then. Allocates
// nothing.
GRAFT_MUST_CHECK enum graft_status graft_pool_take(struct graft_pool *pool, const uint8_t digest[32], uint64_t bytes,
                                                   uint32_t *slot);
// One reference more, and the slot counts as used now; one less.
void graft_pool_acquire(struct graft_pool *pool, uint32_t slot);
void graft_pool_release(struct graft_pool *pool, uint32_t slot);
// Take the adapter out of a slot: bytes and slot are free. What was counted of it is remembered.
void graft_pool_drop(struct graft_pool *pool, uint32_t slot);
// Drop unreferenced adapters that were not used for idle_ns; how many.
uint32_t graft_pool_expire(struct graft_pool *pool, uint64_t idle_ns);

#endif
