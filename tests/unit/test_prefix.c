// SPDX-License-Identifier: Apache-2.0
// The prefix cache against the plainest model of it: a list of what is kept, searched from one end to the other.
#include <string.h>

#include "runtime/session/prefix.h"
#include "support/support.h"

enum { SEQS = 6, PAGES = 40, KEYS = 90, STEPS = 20000 };

static struct {
    uint8_t key;        // of a kept page, as an index; 0: the page is not kept
    uint64_t left;      // when the last sequence left it
    uint32_t sequences; // that have it
} model[PAGES];

static void key_of(uint32_t i, uint8_t key[GRAFT_PREFIX_KEY_BYTES])
{
    memset(key, 0, GRAFT_PREFIX_KEY_BYTES);
    key[0] = (uint8_t)(i % 7); // many in one bucket
    key[9] = (uint8_t)i;
}

static uint32_t model_find(uint32_t key)
{
    for (uint32_t page = 1; page < PAGES; page++) {
        if (model[page].key == key) {
            return page;
        }
    }
    return 0;
}

static uint32_t model_idle(uint32_t *oldest)
{
    uint32_t n = 0;
    *oldest = 0;
    for (uint32_t page = 1; page < PAGES; page++) {
        if (model[page].key && !model[page].sequences) {
            *oldest = !*oldest || model[page].left < model[*oldest].left ? page : *oldest;
            n++;
        }
    }
    return n;
}

START_TEST(pages_go_in_the_order_in_which_they_were_left)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_limits limits = {.n_batch = 8, .n_seq = SEQS, .n_pages = PAGES, .table_pages = 12, .n_out = 8};
    struct graft_kv *kv;
    struct graft_prefix *prefix;
    uint64_t state = 3, now = 0;
    uint32_t shared = 0, evicted = 0, kept = 0;
    memset(model, 0, sizeof model);
    ck_assert_ok(graft_kv_create(ctx, &kv, &limits));
    ck_assert_ok(graft_prefix_create(ctx, &prefix, kv));
    for (uint32_t step = 0; step < STEPS; step++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint32_t random = (uint32_t)(state >> 33), seq = random % SEQS, what = random / SEQS % 16, key = 1 + random / 97 % KEYS;
        uint32_t length = kv->lengths[seq], at = length / GRAFT_PAGE_TOKENS, oldest, idle = model_idle(&oldest);
        uint8_t bytes[GRAFT_PREFIX_KEY_BYTES];
        key_of(key, bytes);
        if (what < 6) { // a page of its own, or one that is there
            uint32_t page = graft_prefix_find(prefix, bytes), slot;
            ck_assert_uint_eq(page, model_find(key));
            if (page && graft_kv_share(kv, seq, page)) {
                model[page].sequences++;
                shared++;
            } else if (!page && kv->n_free && at < limits.table_pages) {
                for (uint32_t i = 0; i < GRAFT_PAGE_TOKENS; i++) {
                    ck_assert(graft_kv_append(kv, seq, &slot));
                }
                model[slot / GRAFT_PAGE_TOKENS].sequences = 1;
            }
        } else if (what < 10 && at) {
            uint32_t page = kv->tables[seq * limits.table_pages + at - 1];
            graft_prefix_keep(prefix, bytes, page);
            if (!model[page].key && !model_find(key)) {
                model[page].key = (uint8_t)key;
                kept++;
            }
        } else if (what < 13 && at) {
            uint32_t keep = random / 5000 % at;
            for (uint32_t i = at; i > keep; i--) {
                uint32_t page = kv->tables[seq * limits.table_pages + i - 1];
                model[page].left = --model[page].sequences == 0 ? ++now : model[page].left;
            }
            graft_kv_truncate(kv, seq, keep * GRAFT_PAGE_TOKENS);
        } else if (kv->n_free < 4 || what == 15) {
            ck_assert(graft_prefix_evict(prefix) == (idle > 0));
            ck_assert(!oldest || kv->refs[oldest] == 0);
            model[oldest].key = 0;
            evicted += idle > 0;
        }
        ck_assert_uint_eq(graft_prefix_idle(prefix), model_idle(&oldest));
    }
    ck_assert(shared > 500 && evicted > 500 && kept > 500);
    while (graft_prefix_evict(prefix)) {
    }
    ck_assert_uint_eq(graft_prefix_idle(prefix), 0);
    graft_prefix_destroy(&prefix);
    for (uint32_t seq = 0; seq < SEQS; seq++) {
        graft_kv_truncate(kv, seq, 0);
    }
    graft_kv_destroy(&kv);
    graft_ctx_destroy(&ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("prefix");
    TCase *tests = tcase_create("prefix");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, pages_go_in_the_order_in_which_they_were_left);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
