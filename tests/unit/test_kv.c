// SPDX-License-Identifier: Apache-2.0
// KV pages: who holds which page.
#include <string.h>

#include "runtime/model/kv.h"
#include "support/support.h"

static struct graft_ctx *ctx;
static struct graft_kv *kv;

static void open_kv(uint32_t n_ctx, uint32_t n_seq)
{
    ctx = graft_test_ctx(NULL, 0);
    struct graft_limits limits = graft_kv_limits(n_ctx, 8, n_seq);
    ck_assert_ok(graft_kv_create(ctx, &kv, &limits));
}

static void close_kv(void)
{
    graft_kv_destroy(&kv);
    struct graft_memory_use use;
    graft_ctx_memory(ctx, &use);
    ck_assert_uint_eq(use.used_bytes, 0);
    graft_ctx_destroy(&ctx);
}

START_TEST(limits_hold_the_context_however_sequences_divide_it)
{
    for (uint32_t n_seq = 1; n_seq <= 5; n_seq++) {
        for (uint32_t first = 1; first <= 100; first++) {
            open_kv(100, n_seq);
            uint32_t left = 100, slot;
            for (uint32_t s = 0; s < n_seq; s++) {
                uint32_t share = s + 1 == n_seq ? left : left < first ? left : first;
                left -= share;
                for (uint32_t i = 0; i < share; i++) {
                    ck_assert_msg(graft_kv_append(kv, s, &slot), "%u sequences, shares of %u", n_seq, first);
                }
            }
            close_kv();
        }
    }
}
END_TEST

START_TEST(slots_are_never_shared_and_never_on_the_spare_page)
{
    open_kv(320, 4);
    static bool used[32 * (10 + 4)];
    memset(used, 0, sizeof used);
    for (uint32_t i = 0; i < 80; i++) {
        for (uint32_t s = 0; s < 4; s++) {
            uint32_t slot;
            ck_assert(graft_kv_append(kv, s, &slot));
            ck_assert_uint_ge(slot, GRAFT_PAGE_TOKENS);
            ck_assert_uint_lt(slot, kv->limits.n_pages * GRAFT_PAGE_TOKENS);
            ck_assert(!used[slot]);
            used[slot] = true;
            ck_assert_uint_eq(slot % GRAFT_PAGE_TOKENS, i % GRAFT_PAGE_TOKENS);
            ck_assert_uint_eq(slot / GRAFT_PAGE_TOKENS, kv->tables[s * kv->limits.table_pages + i / GRAFT_PAGE_TOKENS]);
        }
    }
    close_kv();
}
END_TEST

START_TEST(truncating_frees_whole_pages_and_a_full_cache_refuses)
{
    open_kv(64, 1); // two pages
    uint32_t slot, first, again;
    ck_assert(graft_kv_append(kv, 0, &first));
    for (int i = 1; i < 64; i++) {
        ck_assert(graft_kv_append(kv, 0, &slot));
    }
    ck_assert(!graft_kv_append(kv, 0, &slot));
    ck_assert_uint_eq(kv->lengths[0], 64);
    ck_assert_uint_eq(kv->pages.n_free, 0);
    graft_kv_truncate(kv, 0, 33);
    ck_assert_uint_eq(kv->pages.n_free, 0); // token 32 lies on the second page
    graft_kv_truncate(kv, 0, 32);
    ck_assert_uint_eq(kv->pages.n_free, 1);
    ck_assert_uint_eq(kv->tables[1], 0);
    graft_kv_truncate(kv, 0, 40); // longer than it is: nothing
    ck_assert_uint_eq(kv->lengths[0], 32);
    graft_kv_truncate(kv, 0, 0);
    ck_assert_uint_eq(kv->pages.n_free, 2);
    ck_assert(graft_kv_append(kv, 0, &again));
    ck_assert_uint_eq(first, again);
    close_kv();
}
END_TEST

START_TEST(random_use_loses_no_page)
{
    open_kv(640, 6);
    struct graft_test_random random = {.state = 11};
    uint32_t lengths[6] = {0};
    for (int step = 0; step < 20000; step++) {
        uint32_t s = (uint32_t)(graft_test_random_u64(&random) % 6), slot;
        if (graft_test_random_u64(&random) % 50 == 0) {
            uint32_t to = (uint32_t)(graft_test_random_u64(&random) % 400);
            graft_kv_truncate(kv, s, to);
            lengths[s] = to < lengths[s] ? to : lengths[s];
        } else if (graft_kv_append(kv, s, &slot)) {
            lengths[s]++;
        }
        uint32_t pages = kv->pages.n_free;
        for (uint32_t k = 0; k < 6; k++) {
            ck_assert_uint_eq(kv->lengths[k], lengths[k]);
            pages += (lengths[k] + 31) / 32;
        }
        ck_assert_uint_eq(pages + 1, kv->limits.n_pages);
    }
    close_kv();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kv");
    TCase *tc = tcase_create("kv");
    tcase_add_test(tc, limits_hold_the_context_however_sequences_divide_it);
    tcase_add_test(tc, slots_are_never_shared_and_never_on_the_spare_page);
    tcase_add_test(tc, truncating_frees_whole_pages_and_a_full_cache_refuses);
    tcase_add_test(tc, random_use_loses_no_page);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
