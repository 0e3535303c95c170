// SPDX-License-Identifier: Apache-2.0
// Layers with a window keep only the pages of their window: the bits are those of a model that keeps all, for prompts, answers,
// tokens that are taken back, saved sessions and context shift; and the memory is less.
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "graft/graft.h"
#include "support/model_world.h"

enum { WINDOW = 40, LENGTH = 300, N_CTX = 512 };

static const struct graft_vk_options lane;

static void make_file(char path[GRAFT_TINY_PATH_BYTES])
{
    struct graft_test_gguf b = {0};
    graft_tiny_model_build(&b, &(struct graft_tiny_model){.head_dim = 32, .n_layer = 3});
    graft_test_gguf_u32(&b, "llama.attention.sliding_window", WINDOW);
    graft_tiny_save(&b, path);
    graft_test_gguf_free(&b);
}

// With batches of 512 rows a ring would be no smaller than the context, so that there is none.
static bool open_world(struct graft_test_world *world, bool vk, const char *path, bool ring, enum graft_kv_type kv)
{
    struct graft_model_params params = {
        .size = sizeof params, .n_ctx = N_CTX, .n_batch = ring ? 32 : N_CTX, .n_seq = 2, .kv_keys = kv, .kv_values = kv};
    if (!graft_test_world_open(world, vk ? &lane : NULL, path, &params)) {
        return false;
    }
    ck_assert_uint_eq(world->model->limits.ring_pages > 0, ring);
    return true;
}

static const struct {
    bool vk;
    enum graft_kv_type kv;
} cases[] = {{false, GRAFT_KV_DEFAULT}, {true, GRAFT_KV_DEFAULT}, {true, GRAFT_KV_Q8_0}};
enum { CASES = sizeof cases / sizeof *cases };

START_TEST(rings_have_the_bits_of_all_pages)
{
    char path[GRAFT_TINY_PATH_BYTES], file[64];
    static float want[4][GRAFT_TINY_VOCAB], got[4][GRAFT_TINY_VOCAB];
    int32_t ids[LENGTH + 64], read[N_CTX + 1];
    uint64_t kv[2];
    uint32_t n, dropped;
    snprintf(file, sizeof file, "/tmp/graft-ring-%ld.session", (long)getpid());
    make_file(path);
    graft_test_ids(ids, LENGTH + 64, 5);
    for (int ring = 0; ring < 2; ring++) {
        struct graft_test_world world;
        struct graft_seq *seq, *other;
        float(*out)[GRAFT_TINY_VOCAB] = ring ? got : want;
        if (!open_world(&world, cases[_i].vk, path, ring, cases[_i].kv)) {
            remove(path);
            return;
        }
        struct graft_memory_use use;
        struct graft_estimate estimate;
        struct graft_model_params params = {.size = sizeof params,
                                            .n_ctx = N_CTX,
                                            .n_batch = ring ? 32 : N_CTX,
                                            .n_seq = 2,
                                            .kv_keys = cases[_i].kv,
                                            .kv_values = cases[_i].kv};
        graft_ctx_memory(world.ctx, &use);
        kv[ring] = use.class_bytes[GRAFT_MEM_KV];
        ck_assert_ok(graft_model_estimate(world.ctx, cases[_i].vk ? &world.device : NULL, path, &params, &estimate));
        if (cases[_i].vk) {
            ck_assert_uint_eq(estimate.class_bytes[GRAFT_MEM_KV], kv[ring]);
        }
        ck_assert_ok(graft_seq_create(world.model, &other)); // a neighbour, whose ring is not touched
        ck_assert_ok(graft_seq_create(world.model, &seq));
        graft_test_feed(world.model, other, ids + 7, 90, 32, NULL);
        graft_test_feed(world.model, seq, ids, LENGTH, ring ? 29 : 32, out[0]);
        graft_test_feed(world.model, seq, ids + LENGTH, 20, 1, NULL);
        graft_seq_truncate(seq, LENGTH + 1); // a few are taken back
        ck_assert_uint_eq(graft_seq_length(seq), LENGTH + 1);
        graft_test_feed(world.model, seq, ids + 3, 30, 32, out[1]);
        ck_assert_ok(graft_seq_save(seq, file, ids, graft_seq_length(seq), NULL, 0));
        graft_seq_truncate(seq, 0);
        graft_test_feed(world.model, seq, ids + 50, 77, 32, NULL);
        ck_assert_ok(graft_seq_restore(seq, file, read, N_CTX + 1, &n, NULL, NULL));
        graft_test_feed(world.model, seq, ids + 5, 1, 1, out[2]);
        ck_assert_ok(graft_seq_shift(seq, 20, 100, &dropped));
        graft_test_feed(world.model, seq, ids + 9, 3, 3, out[3]);
        ck_assert_status(graft_seq_shift(seq, 1, graft_seq_length(seq) - 70, &dropped), ring ? GRAFT_E_ARGUMENT : GRAFT_OK);
        if (ring) {
            ck_assert_error_has("layers with a window need");
            graft_seq_truncate(seq, 100); // what it would attend to is overwritten
            ck_assert_uint_eq(graft_seq_length(seq), 0);
        }
        graft_seq_destroy(&seq);
        graft_seq_destroy(&other);
        graft_test_world_close(&world);
    }
    ck_assert_mem_eq(want, got, sizeof want);
    ck_assert_uint_lt(kv[1] * 10, kv[0] * 9);
    printf("KV of %d tokens, two sequences, window %d: %.0f KiB, with rings %.0f KiB\n", N_CTX, WINDOW, (double)kv[0] / 1024,
           (double)kv[1] / 1024);
    remove(file);
    remove(path);
}
END_TEST

// What left the ring before a sequence was cut is not there after saving and restoring either.
START_TEST(a_restored_sequence_knows_what_its_ring_has_lost)
{
    char path[GRAFT_TINY_PATH_BYTES], file[64];
    static float want[GRAFT_TINY_VOCAB], got[GRAFT_TINY_VOCAB];
    int32_t ids[LENGTH], read[N_CTX + 1];
    uint32_t n;
    struct graft_test_world world;
    struct graft_seq *seq;
    snprintf(file, sizeof file, "/tmp/graft-ring-%ld.session", (long)getpid());
    make_file(path);
    graft_test_ids(ids, LENGTH, 5);
    if (open_world(&world, cases[_i].vk, path, true, cases[_i].kv)) {
        uint32_t begin = LENGTH / GRAFT_PAGE_TOKENS + 1 - world.model->limits.ring_pages,
                 cut = begin * GRAFT_PAGE_TOKENS + WINDOW + 20;
        ck_assert_ok(graft_seq_create(world.model, &seq));
        for (int lost = 0; lost < 2; lost++) {
            graft_test_feed(world.model, seq, ids, LENGTH, 29, NULL);
            graft_seq_truncate(seq, cut);
            ck_assert_uint_eq(graft_seq_length(seq), cut);
            ck_assert_ok(graft_seq_save(seq, file, ids, cut, NULL, 0));
            graft_test_feed(world.model, seq, ids, 1, 1, want);
            graft_seq_truncate(seq, 0);
            graft_test_feed(world.model, seq, ids + 50, 77, 32, NULL);
            ck_assert_ok(graft_seq_restore(seq, file, read, N_CTX + 1, &n, NULL, NULL));
            graft_seq_truncate(seq, cut - (lost ? 30 : 20)); // still there, or not
            ck_assert_uint_eq(graft_seq_length(seq), lost ? 0 : cut - 20);
            if (!lost) {
                graft_test_feed(world.model, seq, ids + cut - 20, 20, 32, NULL);
                graft_test_feed(world.model, seq, ids, 1, 1, got);
                ck_assert_mem_eq(want, got, sizeof want);
            }
            graft_seq_truncate(seq, 0);
            ck_assert_uint_eq(world.model->kv->ring_pages.n_free, 2 * world.model->limits.ring_pages);
        }
        graft_seq_destroy(&seq);
        graft_test_world_close(&world);
    }
    remove(file);
    remove(path);
}
END_TEST

struct said {
    int32_t tokens[64];
    uint32_t n;
    _Atomic int finish;
};

static void on_event(void *user, const struct graft_event *event)
{
    struct said *said = user;
    if (event->token >= 0 && said->n < 64) {
        said->tokens[said->n++] = event->token;
    }
    said->finish = (int)event->finish;
}

START_TEST(an_engine_answers_the_same_and_leaves_zeros)
{
    char path[GRAFT_TINY_PATH_BYTES];
    struct said said[2][3];
    int32_t ids[200];
    memset(said, 0, sizeof said);
    make_file(path);
    graft_test_ids(ids, 200, 3);
    for (int ring = 0; ring < 2; ring++) {
        struct graft_test_world world;
        struct graft_engine *engine;
        ck_assert(open_world(&world, false, path, ring, GRAFT_KV_DEFAULT));
        ck_assert_ok(graft_engine_create(world.model, &engine, NULL));
        for (int i = 0; i < 3; i++) {
            struct graft_request *request;
            struct graft_request_params p = {.size = sizeof p,
                                             .tokens = ids,
                                             .n_tokens = 150 + 20u * (uint32_t)i,
                                             .max_tokens = 30,
                                             .on_event = on_event,
                                             .user = &said[ring][i]};
            p.sampling = (struct graft_sampling){.size = sizeof p.sampling, .temperature = -1};
            ck_assert_ok(graft_engine_submit(engine, &request, &p));
            graft_request_release(&request);
        }
        for (int i = 0; i < 3; i++) {
            while (!said[ring][i].finish) {
                usleep(1000);
            }
        }
        graft_engine_destroy(&engine);
        static uint8_t page[65536];
        for (uint32_t p = 1; ring && p <= 2 * world.model->limits.ring_pages; p++) {
            struct graft_model *m = world.model;
            ck_assert_ok(m->exec->functions->page_read(m->exec, 1, p, false, page));
            for (uint64_t k = 0; k < graft_kv_page_bytes(&m->source->config, &m->limits, false); k++) {
                ck_assert_uint_eq(page[k], 0);
            }
        }
        graft_test_world_close(&world);
    }
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(said[0][i].n, said[1][i].n);
        ck_assert_mem_eq(said[0][i].tokens, said[1][i].tokens, sizeof said[0][i].tokens);
    }
    remove(path);
}
END_TEST

// Prompts that begin alike, one after the other and side by side: pages are found again, also those of windows, and every
// answer is that of an engine without reuse.
START_TEST(an_engine_finds_prefixes_again_behind_windows)
{
    enum { REQUESTS = 12 };
    static const struct {
        uint32_t common, own; // tokens of the common text, then of the request's own
        uint32_t least;       // of them that must be found again
    } asked[REQUESTS] = {{150, 5, 0},  {150, 40, 128}, {90, 9, 64}, {150, 5, 0},   {64, 1, 0},   {33, 60, 0},
                         {150, 40, 0}, {10, 200, 0},   {150, 7, 0}, {150, 7, 128}, {128, 30, 0}, {300, 20, 0}};
    char path[GRAFT_TINY_PATH_BYTES];
    struct said said[2][REQUESTS];
    int32_t ids[400], prompt[400];
    uint64_t reused = 0;
    memset(said, 0, sizeof said);
    make_file(path);
    graft_test_ids(ids, 400, 3);
    for (int reuse = 0; reuse < 2; reuse++) {
        struct graft_test_world world;
        struct graft_engine *engine;
        if (!open_world(&world, cases[_i].vk, path, true, cases[_i].kv)) {
            remove(path);
            return;
        }
        struct graft_engine_params params = {.size = sizeof params, .no_prefix_reuse = !reuse};
        ck_assert_ok(graft_engine_create(world.model, &engine, &params));
        for (int i = 0; i < REQUESTS; i++) {
            struct graft_request *request;
            const struct graft_logit_bias never[] = {{0, -INFINITY}, {GRAFT_TINY_IM_END, -INFINITY}}; // ends
            memcpy(prompt, ids, asked[i].common * sizeof *ids);
            for (uint32_t k = 0; k < asked[i].own; k++) {
                prompt[asked[i].common + k] = ids[(k * 7 + 3 * asked[i].own) % 400];
            }
            struct graft_request_params p = {.size = sizeof p,
                                             .tokens = prompt,
                                             .n_tokens = asked[i].common + asked[i].own,
                                             .max_tokens = 20,
                                             .on_event = on_event,
                                             .user = &said[reuse][i]};
            p.sampling = (struct graft_sampling){.size = sizeof p.sampling, .temperature = -1, .biases = never, .n_biases = 2};
            ck_assert_ok(graft_engine_submit(engine, &request, &p));
            bool beside = i % 4 == 2; // and the next one
            while (!beside && !said[reuse][i].finish) {
                usleep(1000);
            }
            struct graft_request_stats stats;
            graft_request_describe(request, &stats);
            if (reuse && !beside && i % 4 != 3) {
                ck_assert_msg(stats.reused_tokens >= asked[i].least, "request %d: %u", i, stats.reused_tokens);
            }
            reused += reuse ? stats.reused_tokens : 0;
            ck_assert(reuse || stats.reused_tokens == 0);
            graft_request_release(&request);
        }
        for (int i = 0; i < REQUESTS; i++) {
            while (!said[reuse][i].finish) {
                usleep(1000);
            }
        }
        graft_engine_destroy(&engine);
        ck_assert_uint_eq(world.model->kv->ring_pages.n_free, 2 * world.model->limits.ring_pages);
        graft_test_world_close(&world);
    }
    printf("%u tokens found again\n", (unsigned)reused);
    ck_assert_uint_ge(reused, 256);
    for (int i = 0; i < REQUESTS; i++) {
        ck_assert_uint_eq(said[0][i].n, 20);
        ck_assert_uint_eq(said[0][i].n, said[1][i].n);
        ck_assert_mem_eq(said[0][i].tokens, said[1][i].tokens, sizeof said[0][i].tokens);
    }
    remove(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ring");
    TCase *tc = tcase_create("ring");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, rings_have_the_bits_of_all_pages, 0, CASES);
    tcase_add_test(tc, an_engine_answers_the_same_and_leaves_zeros);
    tcase_add_loop_test(tc, a_restored_sequence_knows_what_its_ring_has_lost, 0, CASES);
    tcase_add_loop_test(tc, an_engine_finds_prefixes_again_behind_windows, 0, CASES);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
