// SPDX-License-Identifier: Apache-2.0
// Context shift: the keys that are left are those of their new positions, on every device and in every format; shared pages
// stay what they are; conversations and engines go on where the context ends.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graft/graft.h"
#include "runtime/quant/quant.h"
#include "support/model_world.h"

enum { LENGTH = 150, KEEP = 20, DROP = 70 };

static const struct graft_vk_options lane;

static bool open_world(struct graft_test_world *world, int device, const char *path, enum graft_kv_type keys, bool exact)
{
    struct graft_model_params params = {
        .size = sizeof params, .n_ctx = 160, .n_batch = 32, .n_seq = 2, .exact = exact, .kv_keys = keys};
    return graft_test_world_open(world, device ? &lane : NULL, path, &params);
}

// Keys or values of a layer's token as f32: [n_head_kv][head_dim].
static void token_values(struct graft_test_world *world, uint32_t seq, uint32_t layer, uint32_t t, bool values, float *out)
{
    static uint8_t page[65536];
    struct graft_model *m = world->model;
    const struct graft_config *c = &m->source->config;
    enum graft_kv_format format = values ? m->limits.kv_v : m->limits.kv_k;
    uint32_t number = m->kv->tables[seq * m->limits.table_pages + t / GRAFT_PAGE_TOKENS];
    ck_assert_ok(m->exec->functions->page_read(m->exec, layer, number, values, page));
    for (uint32_t h = 0; h < c->n_head_kv; h++) {
        graft_kv_load(format, c->head_dim, page + h * graft_kv_unit_bytes(format, c->head_dim), t % GRAFT_PAGE_TOKENS,
                      out + h * c->head_dim);
    }
}

// The rotation that transformers' sink cache applies, in double: k cos - rotate(k) sin of the distance (pairs side by side).
static void turned(const struct graft_config *c, const float *key, double distance, double *out)
{
    for (uint32_t i = 0; i < c->n_head_kv * c->head_dim; i += 2) {
        uint32_t pair = i % c->head_dim / 2;
        double angle = pair < c->rope_dim / 2 ? -distance * (double)c->rope_inv_freq[pair] : 0;
        out[i] = (double)key[i] * cos(angle) - (double)key[i + 1] * sin(angle);
        out[i + 1] = (double)key[i] * sin(angle) + (double)key[i + 1] * cos(angle);
    }
}

static const struct {
    int device;
    enum graft_kv_type keys;
    bool exact;
    double tolerance; // of the largest key
} cases[] = {{0, GRAFT_KV_DEFAULT, true, 1e-6}, {1, GRAFT_KV_DEFAULT, true, 1e-6}, {1, GRAFT_KV_F16, false, 1e-3},
             {1, GRAFT_KV_Q8_0, false, 1e-2},   {0, GRAFT_KV_Q8_0, false, 1e-2},   {1, GRAFT_KV_Q4_0, false, 0.2}};

START_TEST(keys_that_are_left_are_those_of_their_new_positions)
{
    char path[GRAFT_TINY_PATH_BYTES];
    struct graft_test_world world;
    struct graft_seq *seq;
    int32_t ids[LENGTH];
    static float before[LENGTH][2][256], after[256];
    static double want[256];
    uint32_t dropped;
    graft_tiny_model_file(&(struct graft_tiny_model){.head_dim = 32}, path);
    if (!open_world(&world, cases[_i].device, path, cases[_i].keys, cases[_i].exact)) {
        remove(path);
        return;
    }
    const struct graft_config *c = &world.model->source->config;
    uint32_t width = c->n_head_kv * c->head_dim;
    graft_test_ids(ids, LENGTH, 9);
    ck_assert_ok(graft_seq_create(world.model, &seq));
    graft_test_feed(world.model, seq, ids, LENGTH, 32, NULL);
    for (uint32_t layer = 0; layer < c->n_layer; layer++) {
        for (uint32_t t = 0; t < LENGTH; t++) {
            token_values(&world, 0, layer, t, false, before[t][0]);
            token_values(&world, 0, layer, t, true, before[t][1]);
        }
        if (layer + 1 < c->n_layer) {
            continue; // the last one is looked at
        }
        uint32_t pages = world.model->kv->pages.n_free;
        ck_assert_ok(graft_seq_shift(seq, KEEP, DROP, &dropped));
        ck_assert_uint_eq(dropped, 64); // whole pages
        ck_assert_uint_eq(graft_seq_length(seq), LENGTH - 64);
        ck_assert_uint_eq(world.model->kv->pages.n_free, pages + 2);
        for (uint32_t t = 0; t < LENGTH - 64; t++) {
            uint32_t old = t < 32 ? t : t + 64;
            double most = 0;
            turned(c, before[old][0], t < 32 ? 0 : 64, want);
            token_values(&world, 0, layer, t, false, after);
            for (uint32_t i = 0; i < width; i++) {
                most = fmax(most, fabs(want[i]));
            }
            for (uint32_t i = 0; i < width; i++) {
                ck_assert_msg(fabs((double)after[i] - want[i]) <= (t < 32 ? 0 : cases[_i].tolerance * most),
                              "token %u, value %u: %g, expected %g", t, i, (double)after[i], want[i]);
            }
            token_values(&world, 0, layer, t, true, after);
            ck_assert_mem_eq(after, before[old][1], width * sizeof *after);
        }
    }
    graft_test_feed(world.model, seq, ids, 20, 20, NULL); // and it goes on
    graft_seq_destroy(&seq);
    graft_test_world_close(&world);
    remove(path);
}
END_TEST

// With one layer keys depend on token and position alone: a shifted sequence then is one that never had the dropped tokens.
START_TEST(with_one_layer_a_shifted_sequence_is_one_without_the_dropped_tokens)
{
    char path[GRAFT_TINY_PATH_BYTES];
    static float shifted[GRAFT_TINY_VOCAB], fresh[GRAFT_TINY_VOCAB];
    struct graft_test_world world;
    struct graft_seq *a, *b;
    int32_t ids[LENGTH];
    uint32_t dropped;
    graft_tiny_model_file(&(struct graft_tiny_model){.head_dim = 32, .n_layer = 1}, path);
    if (!open_world(&world, _i, path, GRAFT_KV_DEFAULT, true)) {
        remove(path);
        return;
    }
    graft_test_ids(ids, LENGTH, 9);
    ck_assert_ok(graft_seq_create(world.model, &a));
    graft_test_feed(world.model, a, ids, LENGTH - 1, 32, NULL);
    ck_assert_ok(graft_seq_shift(a, KEEP, DROP, &dropped));
    graft_test_feed(world.model, a, ids + LENGTH - 1, 1, 1, shifted);
    graft_seq_destroy(&a);
    ck_assert_ok(graft_seq_create(world.model, &b));
    graft_test_feed(world.model, b, ids, 32, 32, NULL);
    graft_test_feed(world.model, b, ids + 32 + dropped, LENGTH - 32 - dropped, 32, fresh);
    double most = 0;
    for (uint32_t i = 0; i < GRAFT_TINY_VOCAB; i++) {
        most = fmax(most, fabs((double)fresh[i]));
    }
    for (uint32_t i = 0; i < GRAFT_TINY_VOCAB; i++) {
        ck_assert_double_le(fabs((double)fresh[i] - (double)shifted[i]), 1e-5 * most);
    }
    graft_seq_destroy(&b);
    graft_test_world_close(&world);
    remove(path);
}
END_TEST

START_TEST(pages_of_others_stay_and_what_does_not_fit_changes_nothing)
{
    char path[GRAFT_TINY_PATH_BYTES];
    struct graft_test_world world;
    struct graft_seq *a, *b;
    static float before[256], after[256];
    int32_t ids[LENGTH];
    uint32_t dropped;
    graft_tiny_model_file(&(struct graft_tiny_model){.head_dim = 32}, path);
    ck_assert(open_world(&world, 0, path, GRAFT_KV_DEFAULT, true));
    struct graft_kv *kv = world.model->kv;
    graft_test_ids(ids, LENGTH, 9);
    ck_assert_ok(graft_seq_create(world.model, &a));
    ck_assert_ok(graft_seq_create(world.model, &b));
    graft_test_feed(world.model, a, ids, 128, 32, NULL);
    for (uint32_t i = 0; i < 4; i++) {
        ck_assert(graft_kv_share(kv, 1, kv->tables[i], 0));
    }
    graft_test_feed(world.model, a, ids, 32, 32, NULL);
    graft_test_feed(world.model, b, ids, 32, 32, NULL); // no page is free now
    ck_assert_status(graft_seq_shift(a, 1, 32, &dropped), GRAFT_E_CONTEXT_FULL);
    ck_assert_error_has("must be copied");
    ck_assert_uint_eq(graft_seq_length(a), 160);
    graft_seq_truncate(a, 128);
    graft_seq_truncate(b, 128);
    token_values(&world, 1, 1, 100, false, before);
    ck_assert_ok(graft_seq_shift(a, 1, 32, &dropped)); // two pages are copied: two were free
    ck_assert_uint_eq(graft_seq_length(a), 96);
    token_values(&world, 1, 1, 100, false, after);
    ck_assert_mem_eq(before, after, sizeof before);
    ck_assert_uint_ne(kv->tables[1], kv->tables[kv->limits.table_pages + 2]);
    ck_assert_status(graft_seq_shift(a, 96, 32, &dropped), GRAFT_E_ARGUMENT);
    ck_assert_error_has("there are 96");
    graft_seq_destroy(&a);
    graft_seq_destroy(&b);
    ck_assert_uint_eq(kv->pages.n_free, kv->limits.n_pages - 1);
    graft_test_world_close(&world);
    remove(path);
}
END_TEST

START_TEST(a_conversation_goes_on_where_the_context_ends_and_keeps_its_system_prompt)
{
    char path[GRAFT_TINY_PATH_BYTES];
    struct graft_test_world world;
    struct graft_chat *chat;
    graft_tiny_model_file(NULL, path);
    ck_assert(open_world(&world, 0, path, GRAFT_KV_DEFAULT, false));
    struct graft_chat_params params = {.size = sizeof params, .system = "Be brief.", .context_shift = true, .max_tokens = 400};
    params.sampling = (struct graft_sampling){.size = sizeof params.sampling, .temperature = 3, .seed = 4};
    ck_assert_ok(graft_chat_create(world.model, &chat, &params));
    uint32_t tokens = 0;
    for (int turn = 0; turn < 4; turn++) {
        bool done = false;
        ck_assert_ok(graft_chat_send(chat, "What was it that you said?", 26));
        while (!done) {
            const char *piece;
            size_t length;
            ck_assert_ok(graft_chat_next(chat, &piece, &length, &done)); // never GRAFT_E_CONTEXT_FULL
        }
        struct graft_chat_stats stats;
        graft_chat_last_stats(chat, &stats);
        ck_assert_uint_le(stats.context_used, 160);
        tokens += stats.answer_tokens;
    }
    ck_assert_uint_gt(tokens, 200); // more than fits
    const char *json;
    ck_assert_ok(graft_chat_history(chat, &json));
    ck_assert_ptr_nonnull(strstr(json, "Be brief."));
    char too_long[400];
    memset(too_long, 'x', sizeof too_long);
    ck_assert_status(graft_chat_send(chat, too_long, sizeof too_long), GRAFT_E_CONTEXT_FULL);
    graft_chat_destroy(&chat);
    graft_test_world_close(&world);
    remove(path);
}
END_TEST

static void count_event(void *user, const struct graft_event *event)
{
    uint32_t *counts = user; // tokens; how it ended
    counts[0] += event->token >= 0;
    counts[1] = event->finish;
}

START_TEST(an_engine_shifts_when_it_is_told_to)
{
    for (int shift = 0; shift < 2; shift++) {
        char path[GRAFT_TINY_PATH_BYTES];
        struct graft_test_world world;
        struct graft_engine *engine;
        struct graft_request *request;
        int32_t ids[40];
        uint32_t counts[2] = {0};
        graft_tiny_model_file(NULL, path);
        ck_assert(open_world(&world, 0, path, GRAFT_KV_DEFAULT, false));
        graft_test_ids(ids, 40, 3);
        struct graft_engine_params params = {.size = sizeof params, .context_shift = shift};
        ck_assert_ok(graft_engine_create(world.model, &engine, &params));
        struct graft_request_params p = {
            .size = sizeof p, .tokens = ids, .n_tokens = 40, .max_tokens = 500, .on_event = count_event, .user = counts};
        struct graft_logit_bias never[2] = {{GRAFT_TINY_IM_END, -INFINITY}, {288, -INFINITY}};
        p.sampling =
            (struct graft_sampling){.size = sizeof p.sampling, .temperature = 3, .seed = 4, .n_biases = 2, .biases = never};
        ck_assert_ok(graft_engine_submit(engine, &request, &p));
        graft_request_release(&request);
        while (!*(volatile uint32_t *)&counts[1]) {
        }
        graft_engine_destroy(&engine);
        ck_assert_uint_eq(counts[1], GRAFT_FINISH_LENGTH);
        ck_assert_uint_eq(counts[0], shift ? 500 : 121);
        ck_assert_uint_eq(world.model->kv->pages.n_free, world.model->limits.n_pages - 1);
        graft_test_world_close(&world);
        remove(path);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shift");
    TCase *tc = tcase_create("shift");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, keys_that_are_left_are_those_of_their_new_positions, 0, sizeof cases / sizeof *cases);
    tcase_add_loop_test(tc, with_one_layer_a_shifted_sequence_is_one_without_the_dropped_tokens, 0, 2);
    tcase_add_test(tc, pages_of_others_stay_and_what_does_not_fit_changes_nothing);
    tcase_add_test(tc, a_conversation_goes_on_where_the_context_ends_and_keeps_its_system_prompt);
    tcase_add_test(tc, an_engine_shifts_when_it_is_told_to);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
