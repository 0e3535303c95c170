// SPDX-License-Identifier: Apache-2.0
// The adapter pool's bookkeeping.
#include <inttypes.h>
#include <string.h>

#include "runtime/adapter/pool.h"
#include "support/support.h"

START_TEST(pool_drops_the_least_recently_used_and_never_what_is_in_use)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_pool *pool;
    uint8_t digests[5][32];
    uint32_t slot[5];
    for (int i = 0; i < 5; i++) {
        memset(digests[i], i + 1, sizeof digests[i]);
    }
    ck_assert_ok(graft_pool_create(ctx, &pool, 1000, 3));
    ck_assert_ok(graft_pool_take(pool, digests[0], 300, &slot[0]));
    ck_assert_ok(graft_pool_take(pool, digests[1], 300, &slot[1]));
    ck_assert_ok(graft_pool_take(pool, digests[2], 300, &slot[2]));
    ck_assert_status(graft_pool_take(pool, digests[3], 16, &slot[3]), GRAFT_E_BUDGET); // all in use
    ck_assert_error_has("3 of its 3 slots");
    graft_pool_release(pool, slot[0]);
    graft_pool_release(pool, slot[1]);
    graft_pool_acquire(pool, slot[0]); // used again: 1 is now the oldest idle one
    graft_pool_release(pool, slot[0]);
    ck_assert_ok(graft_pool_take(pool, digests[3], 200, &slot[3]));
    ck_assert_uint_eq(graft_pool_find(pool, digests[1]), 3); // gone
    ck_assert_uint_lt(graft_pool_find(pool, digests[0]), 3); // still there
    ck_assert_status(graft_pool_take(pool, digests[4], 700, &slot[4]), GRAFT_E_BUDGET);
    ck_assert_uint_lt(graft_pool_find(pool, digests[0]), 3); // a refusal drops nothing
    graft_pool_destroy(&pool);
    graft_ctx_destroy(&ctx);
}
END_TEST

// Ranges inside the pool and apart from each other; *taken: their bytes.
static void check_ranges(const struct graft_pool *pool, uint64_t *taken)
{
    *taken = 0;
    for (uint32_t i = 0; i < pool->n_slots; i++) {
        const struct graft_pool_slot *a = &pool->slots[i];
        if (!a->used) {
            continue;
        }
        ck_assert(a->offset + a->bytes <= pool->bytes);
        *taken += a->bytes;
        for (uint32_t k = 0; k < i; k++) {
            const struct graft_pool_slot *b = &pool->slots[k];
            ck_assert(!b->used || a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset);
        }
    }
}

// Do what the moves say on a copy of the pool's bytes.
static void do_moves(struct graft_pool *pool, uint8_t *bytes)
{
    for (uint32_t i = 0; i < pool->n_moves; i++) {
        const struct graft_pool_move *m = &pool->moves[i];
        ck_assert(m->to < m->from);
        for (uint64_t k = 0; k < m->bytes; k++) {
            bytes[m->to + k] = bytes[m->from + k];
        }
    }
}

START_TEST(what_fits_the_free_bytes_is_taken_and_nothing_in_use_is_hurt)
{
    enum { BYTES = 64 * 1024, SLOTS = 12, STEPS = 20000 };
    static uint8_t bytes[BYTES];
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_pool *pool;
    struct graft_test_random random = {.state = 7};
    ck_assert_ok(graft_pool_create(ctx, &pool, BYTES, SLOTS));
    uint32_t refused = 0;
    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t i = (uint32_t)(graft_test_random_u64(&random) >> 20) % SLOTS, slot;
        if (pool->slots[i].used && pool->slots[i].references && step % 3) {
            graft_pool_release(pool, i);
            continue;
        }
        uint8_t digest[32] = {(uint8_t)step, (uint8_t)(step >> 8), (uint8_t)(step >> 16), 1};
        uint64_t wanted = 16 + (graft_test_random_u64(&random) >> 20) % (BYTES / 3), held = 0, taken;
        uint32_t n_held = 0;
        for (uint32_t k = 0; k < SLOTS; k++) {
            held += pool->slots[k].used && pool->slots[k].references ? pool->slots[k].bytes : 0;
            n_held += pool->slots[k].used && pool->slots[k].references;
        }
        bool fits = held + (wanted + 15) / 16 * 16 <= BYTES && n_held < SLOTS;
        enum graft_status status = graft_pool_take(pool, digest, wanted, &slot);
        ck_assert_msg((status == GRAFT_OK) == fits, "step %u: %s", step, graft_last_error());
        refused += !fits;
        if (status == GRAFT_OK) {
            do_moves(pool, bytes);
            memset(bytes + pool->slots[slot].offset, digest[0] ^ digest[1], pool->slots[slot].bytes);
        }
        check_ranges(pool, &taken);
        uint64_t hurt = 0;
        for (uint32_t k = 0; k < SLOTS; k++) { // everybody's bytes are still his own
            const struct graft_pool_slot *s = &pool->slots[k];
            for (uint64_t b = 0; s->used && b < s->bytes; b += 16) {
                hurt += bytes[s->offset + b] != (s->digest[0] ^ s->digest[1]);
            }
        }
        ck_assert_msg(hurt == 0, "step %u: %" PRIu64 " bytes are not their slots'", step, hurt);
    }
    ck_assert_uint_gt(pool->n_compactions, 100);
    ck_assert_uint_gt(refused, 100);
    for (uint32_t k = 0; k < SLOTS; k++) {
        while (pool->slots[k].references) {
            graft_pool_release(pool, k);
        }
    }
    ck_assert_uint_eq(graft_pool_expire(pool, UINT64_C(1) << 60), 0);
    ck_assert_uint_gt(graft_pool_expire(pool, 0), 0);
    graft_pool_destroy(&pool);
    graft_ctx_destroy(&ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pool");
    TCase *tests = tcase_create("pool");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, pool_drops_the_least_recently_used_and_never_what_is_in_use);
    tcase_add_test(tests, what_fits_the_free_bytes_is_taken_and_nothing_in_use_is_hurt);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
