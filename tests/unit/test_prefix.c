// SPDX-License-Identifier: Apache-2.0
// The prefix cache against the plainest model of it: a list of what is kept, searched from one end to the other.
#include <stdio.h>
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
            if (page && graft_kv_share(kv, seq, page, 0)) {
                model[page].sequences++;
                shared++;
            } else if (!page && kv->pages.n_free && at < limits.table_pages) {
                for (uint32_t i = 0; i < GRAFT_PAGE_TOKENS; i++) {
                    ck_assert(graft_kv_append(kv, seq, &slot));
                }
                model[slot / GRAFT_PAGE_TOKENS].sequences = 1;
            }
        } else if (what < 10 && at) {
            uint32_t page = kv->tables[seq * limits.table_pages + at - 1];
            graft_prefix_keep(prefix, bytes, page, 0);
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
        } else if (kv->pages.n_free < 4 || what == 15) {
            ck_assert(graft_prefix_evict(prefix) == (idle > 0));
            ck_assert(!oldest || kv->pages.refs[oldest] == 0);
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

// ---- with rings: what is in the pages of a sequence is what it computed, or somebody with the same tokens did ----

enum { WINDOW = 70, BATCH = 8, TABLE = 12, RINGS = 64, WAYS = 3 };
static struct {
    uint64_t pages[PAGES], rings[RINGS]; // what was computed there; 0: nothing
    uint64_t chains[SEQS][TABLE];        // what page i of a sequence stands for: its tokens and all before
    uint32_t freed, freed_rings;
} world;

static void on_free(void *user, uint32_t page)
{
    (void)user;
    world.pages[page] = 0;
    world.freed++;
}

static void on_free_ring(void *user, uint32_t page)
{
    (void)user;
    world.rings[page] = 0;
    world.freed_rings++;
}

static void chain_key(uint64_t chain, uint8_t key[GRAFT_PREFIX_KEY_BYTES])
{
    memset(key, 0, GRAFT_PREFIX_KEY_BYTES);
    memcpy(key, &chain, sizeof chain);
}

static void check_sequence(const struct graft_kv *kv, uint32_t seq)
{
    uint32_t n = kv->lengths[seq] / GRAFT_PAGE_TOKENS,
             begin = kv->lengths[seq] + 1 > WINDOW ? (kv->lengths[seq] + 1 - WINDOW) / GRAFT_PAGE_TOKENS : 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = seq * TABLE + i;
        ck_assert_uint_eq(world.pages[kv->tables[at]], world.chains[seq][i]);
        if (i >= begin) {
            ck_assert_uint_ne(kv->rings[at], 0);
            ck_assert_uint_eq(world.rings[kv->rings[at]], world.chains[seq][i]);
        }
    }
}

// The longest beginning of a sequence's chain behind which it can go on, found by trying all.
static uint32_t longest_known(const struct graft_prefix *prefix, uint32_t seq, uint32_t most)
{
    for (uint32_t n = most; n > 0; n--) {
        bool good = true;
        for (uint32_t i = 0; i < n && good; i++) {
            uint8_t key[GRAFT_PREFIX_KEY_BYTES];
            chain_key(world.chains[seq][i], key);
            uint32_t page = graft_prefix_find(prefix, key), from = n * GRAFT_PAGE_TOKENS + 1;
            bool seen = (i + 1) * GRAFT_PAGE_TOKENS > (from > WINDOW ? from - WINDOW : 0);
            good = page && (!seen || graft_prefix_ring(prefix, page));
        }
        if (good) {
            return n;
        }
    }
    return 0;
}

static void begin_sequence(struct graft_kv *kv, struct graft_prefix *prefix, uint32_t seq, uint64_t random)
{
    graft_kv_truncate(kv, seq, 0);
    for (uint32_t i = 0; i < TABLE; i++, random /= WAYS) {
        world.chains[seq][i] = (i ? world.chains[seq][i - 1] : 17) * 31 + 1 + random % WAYS;
    }
    uint32_t n = longest_known(prefix, seq, TABLE - 1);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t key[GRAFT_PREFIX_KEY_BYTES];
        chain_key(world.chains[seq][i], key);
        uint32_t page = graft_prefix_find(prefix, key);
        bool seen = i >= graft_kv_window_begin(kv, n * GRAFT_PAGE_TOKENS);
        ck_assert(graft_kv_share(kv, seq, page, seen ? graft_prefix_ring(prefix, page) : 0));
    }
}

START_TEST(pages_of_rings_hold_what_their_sequences_computed)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_limits limits = {
        .n_batch = BATCH, .n_seq = SEQS, .n_pages = PAGES, .table_pages = TABLE, .n_out = 8, .window = WINDOW, .ring_pages = 5};
    struct graft_kv *kv;
    struct graft_prefix *prefix;
    uint64_t state = 11;
    uint32_t reused = 0, appended = 0;
    memset(&world, 0, sizeof world);
    ck_assert_ok(graft_kv_create(ctx, &kv, &limits));
    ck_assert_ok(graft_prefix_create(ctx, &prefix, kv));
    kv->pages.on_free = on_free;
    kv->ring_pages.on_free = on_free_ring;
    for (uint32_t step = 0; step < STEPS; step++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint32_t random = (uint32_t)(state >> 33), seq = random % SEQS, what = random / SEQS % 16;
        uint32_t at = kv->lengths[seq] / GRAFT_PAGE_TOKENS;
        while (kv->pages.n_free < 3 && graft_prefix_evict(prefix)) {
        }
        if (what == 0 || at == 0) { // few ways, so that beginnings meet
            begin_sequence(kv, prefix, seq, (state >> 20) % 81);
            reused += kv->lengths[seq] / GRAFT_PAGE_TOKENS;
        } else if (what == 1 && at > 1) { // taken back, as far as the ring goes, into a page of its own
            uint32_t keep = at - 1;
            if (kv->pages.refs[kv->tables[seq * TABLE + keep - 1]] == 1) {
                graft_kv_truncate(kv, seq, keep * GRAFT_PAGE_TOKENS);
            }
        } else if (what == 2) {
            graft_kv_truncate(kv, seq, 0);
        }
        at = kv->lengths[seq] / GRAFT_PAGE_TOKENS;
        if (what > 2 && at < TABLE && kv->pages.n_free) {
            uint32_t slot;
            for (uint32_t i = 0; i < GRAFT_PAGE_TOKENS; i++) {
                ck_assert(graft_kv_append(kv, seq, &slot));
            }
            uint32_t page = kv->tables[seq * TABLE + at], ring = kv->rings[seq * TABLE + at];
            world.pages[page] = world.rings[ring] = world.chains[seq][at];
            uint8_t key[GRAFT_PREFIX_KEY_BYTES];
            chain_key(world.chains[seq][at], key);
            graft_prefix_keep(prefix, key, page, ring);
            appended++;
        }
        for (uint32_t s = 0; s < SEQS; s++) {
            check_sequence(kv, s);
        }
    }
    printf("%u pages computed, %u found\n", appended, reused);
    ck_assert(appended > STEPS / 4 && reused > STEPS / 50);
    for (uint32_t s = 0; s < SEQS; s++) {
        graft_kv_truncate(kv, s, 0);
    }
    while (graft_prefix_evict(prefix)) {
    }
    ck_assert_uint_eq(kv->pages.n_free, PAGES - 1);
    ck_assert_uint_eq(kv->ring_pages.n_free, SEQS * limits.ring_pages);
    for (uint32_t page = 1; page <= SEQS * limits.ring_pages; page++) {
        ck_assert_uint_eq(kv->ring_pages.refs[page] + (world.rings[page] != 0), 0);
    }
    graft_prefix_destroy(&prefix);
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
    tcase_add_test(tests, pages_of_rings_hold_what_their_sequences_computed);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
