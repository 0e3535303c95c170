// SPDX-License-Identifier: Apache-2.0
// Models, sequences, batches and chats on the scalar reference, with a tiny model.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graft/graft.h"
#include "support/matrices.h"
#include "support/support.h"
#include "support/tiny_model.h"

static char path[GRAFT_TINY_PATH_BYTES]; // of the tiny model

// A context, the reference device and the tiny model on it.
struct world {
    struct graft_test_alloc alloc;
    struct graft_ctx *ctx;
    struct graft_device *device;
    struct graft_model *model;
};

static enum graft_status open_device(struct world *w)
{
    struct graft_device_params params = {.size = sizeof params, .select = "ref"};
    return graft_device_open(w->ctx, &w->device, &params);
}

static void open_world(struct world *w, uint32_t n_ctx, uint32_t n_batch, uint32_t n_seq)
{
    *w = (struct world){0};
    w->ctx = graft_test_ctx(&w->alloc, 0);
    ck_assert_ok(open_device(w));
    struct graft_model_params params = {.size = sizeof params, .n_ctx = n_ctx, .n_batch = n_batch, .n_seq = n_seq};
    ck_assert_ok(graft_model_open(w->device, &w->model, path, &params));
}

static void close_world(struct world *w)
{
    graft_model_close(&w->model);
    graft_device_close(&w->device);
    struct graft_memory_use use;
    graft_ctx_memory(w->ctx, &use);
    ck_assert_uint_eq(use.used_bytes, 0);
    graft_ctx_destroy(&w->ctx);
    ck_assert_uint_eq(w->alloc.live, 0);
}

static uint64_t allocations(struct world *w)
{
    struct graft_memory_use use;
    graft_ctx_memory(w->ctx, &use);
    return use.allocations;
}

// Append tokens one batch at a time and copy the last row's logits.
static void feed(struct world *w, struct graft_seq *seq, const int32_t *ids, uint32_t count, uint32_t batch, float *logits)
{
    struct graft_row rows[64];
    for (uint32_t at = 0; at < count;) {
        uint32_t n = count - at < batch ? count - at : batch;
        for (uint32_t i = 0; i < n; i++) {
            rows[i] = (struct graft_row){.seq = seq, .token = ids[at + i], .want = at + i + 1 == count};
        }
        ck_assert_ok(graft_decode(w->model, rows, n, GRAFT_WANT_LOGITS));
        at += n;
        if (at == count) {
            const float *row;
            ck_assert_ok(graft_model_logits(w->model, n - 1, &row));
            memcpy(logits, row, GRAFT_TINY_VOCAB * sizeof *logits);
        }
    }
}

static void fill_ids(int32_t *ids, uint32_t count, uint64_t seed)
{
    struct graft_test_random random = {.state = seed};
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = (int32_t)(graft_test_random_u64(&random) % GRAFT_TINY_VOCAB);
    }
}

START_TEST(chunks_of_any_size_give_the_same_bits)
{
    struct world w;
    open_world(&w, 128, 32, 1);
    int32_t ids[50];
    fill_ids(ids, 50, 7);
    float one[GRAFT_TINY_VOCAB], other[GRAFT_TINY_VOCAB];
    struct graft_seq *seq;
    ck_assert_ok(graft_seq_create(w.model, &seq));
    feed(&w, seq, ids, 50, 32, one);
    for (uint32_t batch = 1; batch < 32; batch += 6) {
        graft_seq_truncate(seq, 0);
        feed(&w, seq, ids, 50, batch, other);
        ck_assert_msg(memcmp(one, other, sizeof one) == 0, "batches of %u", batch);
    }
    graft_seq_destroy(&seq);
    close_world(&w);
}
END_TEST

START_TEST(sequences_in_one_batch_equal_single_runs)
{
    enum { N = 3, LENGTH = 40 };
    struct world w;
    open_world(&w, 256, 32, N);
    int32_t ids[N][LENGTH];
    float alone[N][GRAFT_TINY_VOCAB];
    struct graft_seq *seqs[N];
    for (int s = 0; s < N; s++) {
        fill_ids(ids[s], LENGTH, 100 + (uint64_t)s);
        ck_assert_ok(graft_seq_create(w.model, &seqs[s]));
        feed(&w, seqs[s], ids[s], LENGTH, 16, alone[s]);
    }
    for (int s = 0; s < N; s++) {
        graft_seq_truncate(seqs[s], 0);
    }
    for (uint32_t t = 0; t < LENGTH; t++) { // rows of all sequences side by side
        struct graft_row rows[N];
        for (int s = 0; s < N; s++) {
            rows[s] = (struct graft_row){.seq = seqs[s], .token = ids[s][t], .want = t + 1 == LENGTH};
        }
        ck_assert_ok(graft_decode(w.model, rows, N, GRAFT_WANT_LOGITS));
    }
    for (int s = 0; s < N; s++) {
        const float *row;
        ck_assert_ok(graft_model_logits(w.model, (uint32_t)s, &row));
        ck_assert_msg(memcmp(row, alone[s], sizeof alone[s]) == 0, "sequence %d", s);
        graft_seq_destroy(&seqs[s]);
    }
    close_world(&w);
}
END_TEST

START_TEST(a_truncated_sequence_continues_as_if_the_rest_never_was)
{
    struct world w;
    open_world(&w, 128, 32, 1);
    int32_t ids[60];
    fill_ids(ids, 60, 3);
    float straight[GRAFT_TINY_VOCAB], back[GRAFT_TINY_VOCAB];
    struct graft_seq *seq;
    ck_assert_ok(graft_seq_create(w.model, &seq));
    feed(&w, seq, ids, 40, 32, straight);
    graft_seq_truncate(seq, 0);
    feed(&w, seq, ids, 30, 32, back);
    feed(&w, seq, ids + 5, 30, 32, back); // something else
    ck_assert_uint_eq(graft_seq_length(seq), 60);
    graft_seq_truncate(seq, 30);
    ck_assert_uint_eq(graft_seq_length(seq), 30);
    feed(&w, seq, ids + 30, 10, 32, back);
    ck_assert_mem_eq(straight, back, sizeof straight);
    graft_seq_destroy(&seq);
    close_world(&w);
}
END_TEST

START_TEST(candidates_are_the_best_logits_in_order)
{
    struct world w;
    open_world(&w, 64, 8, 1);
    int32_t ids[5];
    fill_ids(ids, 5, 9);
    float logits[GRAFT_TINY_VOCAB];
    struct graft_seq *seq;
    ck_assert_ok(graft_seq_create(w.model, &seq));
    feed(&w, seq, ids, 5, 8, logits);
    struct graft_candidate best[64];
    uint32_t count = 64;
    ck_assert_ok(graft_model_candidates(w.model, 4, best, &count));
    ck_assert_uint_eq(count, 64);
    for (uint32_t i = 0; i < count; i++) {
        ck_assert_float_eq(best[i].logit, logits[best[i].id]);
        uint32_t larger = 0;
        for (uint32_t k = 0; k < GRAFT_TINY_VOCAB; k++) {
            larger += logits[k] > best[i].logit;
        }
        ck_assert_uint_eq(larger, i); // ties do not happen among random numbers
    }
    ck_assert_status(graft_model_candidates(w.model, 3, best, &count), GRAFT_E_ARGUMENT);
    ck_assert_status(graft_model_candidates(w.model, 5, best, &count), GRAFT_E_ARGUMENT);
    graft_seq_destroy(&seq);
    close_world(&w);
}
END_TEST

START_TEST(a_full_context_is_refused_before_anything_changes)
{
    struct world w;
    open_world(&w, 64, 32, 2); // 64 tokens shared, and a page more for the second sequence's partial one
    int32_t ids[64];
    fill_ids(ids, 64, 5);
    float logits[GRAFT_TINY_VOCAB], again[GRAFT_TINY_VOCAB];
    struct graft_seq *a, *b;
    ck_assert_ok(graft_seq_create(w.model, &a));
    ck_assert_ok(graft_seq_create(w.model, &b));
    feed(&w, a, ids, 60, 32, logits);
    feed(&w, b, ids, 30, 32, logits);
    struct graft_row rows[8];
    for (int i = 0; i < 8; i++) { // three of b, then five of a: the last one does not fit
        rows[i] = (struct graft_row){.seq = i < 3 ? b : a, .token = 1, .want = false};
    }
    ck_assert_status(graft_decode(w.model, rows, 8, GRAFT_WANT_LOGITS), GRAFT_E_CONTEXT_FULL);
    ck_assert_uint_eq(graft_seq_length(a), 60);
    ck_assert_uint_eq(graft_seq_length(b), 30);
    graft_seq_truncate(b, 29);
    feed(&w, b, ids + 29, 1, 1, again);
    ck_assert_mem_eq(logits, again, sizeof logits);
    graft_seq_destroy(&a);
    graft_seq_destroy(&b);
    close_world(&w);
}
END_TEST

START_TEST(wrong_rows_are_refused)
{
    struct world w;
    open_world(&w, 64, 4, 1);
    struct graft_seq *seq, *second;
    ck_assert_ok(graft_seq_create(w.model, &seq));
    ck_assert_status(graft_seq_create(w.model, &second), GRAFT_E_LIMIT);
    struct graft_row rows[5] = {{.seq = seq, .token = GRAFT_TINY_VOCAB}};
    ck_assert_status(graft_decode(w.model, rows, 1, GRAFT_WANT_LOGITS), GRAFT_E_ARGUMENT);
    rows[0].token = -1;
    ck_assert_status(graft_decode(w.model, rows, 1, GRAFT_WANT_LOGITS), GRAFT_E_ARGUMENT);
    ck_assert_status(graft_decode(w.model, rows, 0, GRAFT_WANT_LOGITS), GRAFT_E_ARGUMENT);
    ck_assert_status(graft_decode(w.model, rows, 5, GRAFT_WANT_LOGITS), GRAFT_E_ARGUMENT);
    rows[0] = (struct graft_row){.seq = NULL, .token = 1};
    ck_assert_status(graft_decode(w.model, rows, 1, GRAFT_WANT_LOGITS), GRAFT_E_ARGUMENT);
    ck_assert_uint_eq(graft_seq_length(seq), 0);
    graft_seq_destroy(&seq);
    ck_assert_ok(graft_seq_create(w.model, &seq));
    graft_seq_destroy(&seq);
    close_world(&w);
}
END_TEST

START_TEST(every_weight_format_runs)
{
    for (size_t i = 0; i < GRAFT_TEST_TYPES; i++) {
        const uint32_t *types = graft_test_types;
        char other[GRAFT_TINY_PATH_BYTES];
        graft_tiny_model_file(&(struct graft_tiny_model){.type = types[i], .untied = i % 2, .rope_factors = i % 3 == 0}, other);
        struct world w = {0};
        w.ctx = graft_test_ctx(&w.alloc, 0);
        ck_assert_ok(open_device(&w));
        ck_assert_ok(graft_model_open(w.device, &w.model, other, NULL));
        struct graft_model_info info;
        graft_model_describe(w.model, &info);
        ck_assert_str_eq(info.quantization, graft_type_info(types[i])->name);
        ck_assert_uint_eq(info.n_ctx, 512);
        struct graft_seq *seq;
        ck_assert_ok(graft_seq_create(w.model, &seq));
        float logits[GRAFT_TINY_VOCAB];
        feed(&w, seq, (int32_t[]){1, 2, 3}, 3, 3, logits);
        for (int k = 0; k < GRAFT_TINY_VOCAB; k++) {
            ck_assert(isfinite(logits[k]));
        }
        graft_seq_destroy(&seq);
        close_world(&w);
        remove(other);
    }
}
END_TEST

START_TEST(estimate_is_what_opening_takes)
{
    struct world w;
    open_world(&w, 256, 16, 3);
    struct graft_memory_use use;
    graft_ctx_memory(w.ctx, &use);
    struct graft_estimate estimate;
    struct graft_model_params params = {.size = sizeof params, .n_ctx = 256, .n_batch = 16, .n_seq = 3};
    ck_assert_ok(graft_model_estimate(w.ctx, w.device, path, &params, &estimate));
    for (int i = 0; i < GRAFT_MEM_CLASSES; i++) {
        ck_assert_msg(estimate.class_bytes[i] + 4096 >= use.class_bytes[i] &&
                          use.class_bytes[i] + 8192 >= estimate.class_bytes[i],
                      "%s: estimate %llu, taken %llu", graft_mem_class_name((enum graft_mem_class)i),
                      (unsigned long long)estimate.class_bytes[i], (unsigned long long)use.class_bytes[i]);
    }
    ck_assert_uint_ge(estimate.total_bytes + 1024, use.used_bytes); // the device handle is not the model's
    close_world(&w);
}
END_TEST

START_TEST(a_budget_is_kept_or_refused_with_what_would_fit)
{
    struct world w;
    open_world(&w, 512, 8, 1);
    struct graft_memory_use use;
    graft_ctx_memory(w.ctx, &use);
    uint64_t whole = use.peak_bytes;
    close_world(&w);
    w = (struct world){0};
    w.ctx = graft_test_ctx(&w.alloc, whole - 100000); // the KV cache of 512 tokens takes 131072
    ck_assert_ok(open_device(&w));
    struct graft_model_params params = {.size = sizeof params, .n_ctx = 512, .n_batch = 8};
    ck_assert_status(graft_model_open(w.device, &w.model, path, &params), GRAFT_E_BUDGET);
    ck_assert_error_has("are missing; a context of");
    ck_assert_ptr_null(w.model);
    struct graft_estimate estimate;
    ck_assert_ok(graft_model_estimate(w.ctx, w.device, path, &params, &estimate));
    ck_assert_uint_gt(estimate.n_ctx_fits, 0);
    ck_assert_uint_lt(estimate.n_ctx_fits, 512);
    params.n_ctx = estimate.n_ctx_fits;
    ck_assert_ok(graft_model_open(w.device, &w.model, path, &params));
    graft_ctx_memory(w.ctx, &use);
    ck_assert_uint_le(use.peak_bytes, use.budget_bytes);
    close_world(&w);
}
END_TEST

// An answer to its end or `most` pieces; returns bytes.
static size_t listen(struct graft_chat *chat, char *text, size_t room, uint32_t most)
{
    size_t used = 0;
    bool done = false;
    for (uint32_t i = 0; i < most && !done; i++) {
        const char *piece;
        size_t length;
        ck_assert_ok(graft_chat_next(chat, &piece, &length, &done));
        ck_assert(done == (length == 0));
        ck_assert_uint_lt(used + length, room);
        memcpy(text + used, piece, length);
        used += length;
    }
    text[used] = '\0';
    return used;
}

static struct graft_chat *new_chat(struct world *w, struct graft_sampling sampling, uint32_t max_tokens, bool raw)
{
    struct graft_chat_params params = {.size = sizeof params, .sampling = sampling, .max_tokens = max_tokens, .raw = raw};
    struct graft_chat *chat;
    ck_assert_ok(graft_chat_create(w->model, &chat, &params));
    return chat;
}

#define SAMPLING(...) ((struct graft_sampling){.size = sizeof(struct graft_sampling), __VA_ARGS__})

START_TEST(a_token_allocates_nothing)
{
    for (int kind = 0; kind < 2; kind++) { // candidates, whole logits
        struct world w;
        open_world(&w, 256, 16, 1);
        struct graft_chat *chat = new_chat(&w, SAMPLING(.seed = 4, .repeat_penalty = kind ? 1.3f : 1.0f), 60, false);
        ck_assert_ok(graft_chat_send(chat, "hello", 5));
        uint64_t before = allocations(&w), requests = w.alloc.requests;
        char text[4096];
        listen(chat, text, sizeof text, 100);
        ck_assert_uint_eq(allocations(&w), before);
        ck_assert_uint_eq(w.alloc.requests, requests);
        struct graft_chat_stats stats;
        graft_chat_last_stats(chat, &stats);
        ck_assert_uint_gt(stats.answer_tokens, 0);
        graft_chat_destroy(&chat);
        close_world(&w);
    }
}
END_TEST

START_TEST(a_chat_reuses_its_prefix_and_retries_and_undoes)
{
    struct world w;
    open_world(&w, 512, 16, 1);
    struct graft_chat *chat = new_chat(&w, SAMPLING(.temperature = -1.0f), 12, false);
    char first[1024], again[1024], second[1024];
    ck_assert_ok(graft_chat_send(chat, "one", 3));
    listen(chat, first, sizeof first, 100);
    ck_assert_ok(graft_chat_retry(chat));
    struct graft_chat_stats stats;
    graft_chat_last_stats(chat, &stats);
    ck_assert_uint_eq(stats.prompt_tokens, 1); // all but the last one are cached
    listen(chat, again, sizeof again, 100);
    ck_assert_str_eq(first, again); // greedy
    ck_assert_ok(graft_chat_send(chat, "two", 3));
    graft_chat_last_stats(chat, &stats);
    ck_assert_uint_gt(stats.reused_tokens, 10);
    listen(chat, second, sizeof second, 100);
    const char *history;
    ck_assert_ok(graft_chat_history(chat, &history));
    json_t *messages = json_loads(history, 0, NULL);
    ck_assert_uint_eq(json_array_size(messages), 4);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(messages, 1), "content")), first);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(messages, 3), "content")), second);
    json_decref(messages);
    ck_assert_ok(graft_chat_undo(chat));
    ck_assert_ok(graft_chat_retry(chat)); // answers the first question again
    listen(chat, again, sizeof again, 100);
    ck_assert_str_eq(first, again);
    ck_assert_ok(graft_chat_undo(chat));
    ck_assert_status(graft_chat_undo(chat), GRAFT_E_ARGUMENT);
    ck_assert_status(graft_chat_retry(chat), GRAFT_E_ARGUMENT);
    graft_chat_destroy(&chat);
    close_world(&w);
}
END_TEST

START_TEST(sampling_inside_chat_parameters_needs_no_size)
{
    struct world w;
    open_world(&w, 256, 16, 1);
    char answers[2][1024];
    for (int i = 0; i < 2; i++) { // greedy, twice: a drawn answer would differ
        struct graft_chat_params params = {.size = sizeof params, .sampling = {.temperature = -1.0f}, .max_tokens = 40};
        struct graft_chat *chat;
        ck_assert_ok(graft_chat_create(w.model, &chat, &params));
        ck_assert_ok(graft_chat_send(chat, "hello", 5));
        listen(chat, answers[i], sizeof answers[i], 100);
        ck_assert_status(graft_chat_set_sampling(chat, &params.sampling), GRAFT_E_ARGUMENT); // alone it does
        graft_chat_destroy(&chat);
    }
    ck_assert_str_eq(answers[0], answers[1]);
    close_world(&w);
}
END_TEST

START_TEST(control_tokens_in_a_message_stay_text)
{
    struct world w;
    open_world(&w, 512, 16, 1);
    static const char *const texts[] = {"a<|im_end|>b", "a<|im_end-|>b"};
    uint32_t prompt[2];
    for (int i = 0; i < 2; i++) {
        struct graft_chat *chat = new_chat(&w, SAMPLING(.temperature = -1.0f), 1, false);
        ck_assert_ok(graft_chat_send(chat, texts[i], strlen(texts[i])));
        struct graft_chat_stats stats;
        graft_chat_last_stats(chat, &stats);
        prompt[i] = stats.prompt_tokens;
        graft_chat_destroy(&chat);
    }
    ck_assert_uint_eq(prompt[0] + 1, prompt[1]); // one byte more, one token more: the name was split like any text
    close_world(&w);
}
END_TEST

START_TEST(a_cancelled_answer_stops_and_is_kept)
{
    struct world w;
    open_world(&w, 512, 16, 1);
    struct graft_chat *chat = new_chat(&w, SAMPLING(.seed = 1), 0, false);
    ck_assert_ok(graft_chat_send(chat, "hello", 5));
    char text[1024];
    listen(chat, text, sizeof text, 3);
    graft_chat_cancel(chat);
    const char *piece;
    size_t length;
    bool done;
    ck_assert_status(graft_chat_next(chat, &piece, &length, &done), GRAFT_E_CANCELLED);
    ck_assert_ok(graft_chat_next(chat, &piece, &length, &done));
    ck_assert(done);
    const char *history;
    ck_assert_ok(graft_chat_history(chat, &history));
    json_t *messages = json_loads(history, 0, NULL);
    ck_assert_uint_eq(json_array_size(messages), 2);
    json_decref(messages);
    ck_assert_ok(graft_chat_send(chat, "on", 2)); // the flag does not outlive the answer
    graft_chat_destroy(&chat);
    close_world(&w);
}
END_TEST

START_TEST(a_chat_that_fills_the_context_says_so_and_goes_on)
{
    struct world w;
    open_world(&w, 64, 16, 1);
    struct graft_chat *chat = new_chat(&w, SAMPLING(.seed = 3, .repeat_penalty = 1.01f), 0, true);
    char long_text[200];
    memset(long_text, 'x', sizeof long_text);
    ck_assert_status(graft_chat_send(chat, long_text, sizeof long_text), GRAFT_E_CONTEXT_FULL);
    ck_assert_ok(graft_chat_send(chat, long_text, 50));
    enum graft_status status = GRAFT_OK;
    bool done = false;
    uint32_t pieces = 0;
    while (status == GRAFT_OK && !done) {
        const char *piece;
        size_t length;
        status = graft_chat_next(chat, &piece, &length, &done);
        pieces++;
    }
    ck_assert(status == GRAFT_E_CONTEXT_FULL || done);
    ck_assert_uint_le(pieces, 20);
    ck_assert_ok(graft_chat_undo(chat));
    ck_assert_ok(graft_chat_send(chat, "again", 5));
    graft_chat_clear(chat);
    ck_assert_ok(graft_chat_send(chat, long_text, 60));
    graft_chat_destroy(&chat);
    close_world(&w);
}
END_TEST

START_TEST(answers_are_whole_utf8_characters)
{
    struct world w;
    open_world(&w, 512, 16, 1);
    struct graft_chat *chat =
        new_chat(&w, SAMPLING(.temperature = 5.0f, .top_k = UINT32_MAX, .top_p = 1.0f, .min_p = -1.0f, .seed = 8), 200,
                 true); // wild: bytes that form no characters
    ck_assert_ok(graft_chat_send(chat, "x", 1));
    bool done = false;
    while (!done) {
        const char *piece;
        size_t length;
        ck_assert_ok(graft_chat_next(chat, &piece, &length, &done));
        json_t *check = json_stringn(piece, length); // refuses what is not UTF-8
        ck_assert_ptr_nonnull(check);
        ck_assert_ptr_null(memchr(piece, 0, length));
        json_decref(check);
    }
    const char *history;
    ck_assert_ok(graft_chat_history(chat, &history));
    graft_chat_destroy(&chat);
    close_world(&w);
}
END_TEST

// Open, send, read some tokens, undo, history, close; the first error ends it.
static enum graft_status whole_life(struct world *w)
{
    struct graft_chat *chat = NULL;
    enum graft_status status = open_device(w);
    struct graft_model_params params = {.size = sizeof params, .n_ctx = 96, .n_batch = 16};
    if (status == GRAFT_OK) {
        status = graft_model_open(w->device, &w->model, path, &params);
    }
    struct graft_chat_params chat_params = {.size = sizeof chat_params, .system = "be brief", .max_tokens = 4};
    chat_params.sampling = SAMPLING(.seed = 5, .presence_penalty = 0.1f);
    if (status == GRAFT_OK) {
        status = graft_chat_create(w->model, &chat, &chat_params);
    }
    if (status == GRAFT_OK) {
        status = graft_chat_send(chat, "hi", 2);
    }
    for (bool done = false; status == GRAFT_OK && !done;) {
        const char *piece;
        size_t length;
        status = graft_chat_next(chat, &piece, &length, &done);
    }
    const char *history;
    if (status == GRAFT_OK) {
        status = graft_chat_history(chat, &history);
    }
    if (status == GRAFT_OK) {
        status = graft_chat_undo(chat);
    }
    graft_chat_destroy(&chat);
    graft_model_close(&w->model);
    graft_device_close(&w->device);
    return status;
}

START_TEST(every_failing_allocation_is_an_error_and_leaks_nothing)
{
    struct world w = {0};
    w.ctx = graft_test_ctx(&w.alloc, 0);
    ck_assert_ok(whole_life(&w));
    uint64_t total = w.alloc.requests;
    ck_assert_uint_gt(total, 50);
    graft_ctx_destroy(&w.ctx);
    for (uint64_t n = 2; n <= total; n++) { // the first one is the context itself
        w = (struct world){.alloc = {.fail_at = n}};
        w.ctx = graft_test_ctx(&w.alloc, 0);
        enum graft_status status = whole_life(&w);
        ck_assert_msg(status == GRAFT_E_MEMORY, "allocation %llu of %llu: %s (%s)", (unsigned long long)n,
                      (unsigned long long)total, graft_status_name(status), graft_last_error());
        graft_ctx_destroy(&w.ctx);
        ck_assert_msg(w.alloc.live == 0, "allocation %llu: %llu blocks leaked", (unsigned long long)n,
                      (unsigned long long)w.alloc.live);
    }
}
END_TEST

START_TEST(devices_are_listed_with_the_reference_last)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_device_info infos[16];
    uint32_t count;
    const char *note;
    ck_assert_ok(graft_device_list(ctx, infos, 16, &count, &note));
    ck_assert_uint_ge(count, 1);
    ck_assert_int_eq(infos[count - 1].kind, GRAFT_DEVICE_REFERENCE);
    ck_assert(count > 1 || note != NULL);
    char number[16];
    snprintf(number, sizeof number, "%u", count - 1);
    struct graft_device *device;
    ck_assert_ok(graft_device_open(
        ctx, &device, &(struct graft_device_params){.size = sizeof(struct graft_device_params), .select = number}));
    graft_device_describe(device, &infos[0]);
    ck_assert_int_eq(infos[0].kind, GRAFT_DEVICE_REFERENCE);
    graft_device_close(&device);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(a_file_shows_its_keys_and_tensors)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_file *file;
    ck_assert_ok(graft_file_open(ctx, &file, path));
    bool found = false;
    for (uint64_t i = 0; i < graft_file_key_count(file); i++) {
        const char *name, *type, *json;
        bool cut;
        ck_assert_ok(graft_file_key(file, i, 3, &name, &type, &json, &cut));
        json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
        ck_assert_ptr_nonnull(value);
        if (strcmp(name, "tokenizer.ggml.tokens") == 0) {
            found = true;
            ck_assert_str_eq(type, "array of string");
            ck_assert(cut);
            ck_assert_uint_eq(json_array_size(value), 3);
        } else if (strcmp(name, "llama.block_count") == 0) {
            ck_assert_str_eq(json, "2");
        }
        json_decref(value);
    }
    ck_assert(found);
    struct graft_file_tensor tensor;
    ck_assert_uint_eq(graft_file_tensor_count(file), 20);
    ck_assert_ok(graft_file_tensor(file, 0, &tensor));
    ck_assert_str_eq(tensor.name, "token_embd.weight");
    ck_assert_str_eq(tensor.type, "F32");
    ck_assert_uint_eq(tensor.dims[1], GRAFT_TINY_VOCAB);
    ck_assert_status(graft_file_tensor(file, 20, &tensor), GRAFT_E_ARGUMENT);
    graft_file_close(&file);
    graft_ctx_destroy(&ctx);
}
END_TEST

static void make_file(void)
{
    graft_tiny_model_file(NULL, path);
}

static void remove_file(void)
{
    remove(path);
}

int main(void)
{
    Suite *suite = suite_create("session");
    TCase *tc = tcase_create("session");
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, make_file, remove_file);
    tcase_add_test(tc, chunks_of_any_size_give_the_same_bits);
    tcase_add_test(tc, sequences_in_one_batch_equal_single_runs);
    tcase_add_test(tc, a_truncated_sequence_continues_as_if_the_rest_never_was);
    tcase_add_test(tc, candidates_are_the_best_logits_in_order);
    tcase_add_test(tc, a_full_context_is_refused_before_anything_changes);
    tcase_add_test(tc, wrong_rows_are_refused);
    tcase_add_test(tc, every_weight_format_runs);
    tcase_add_test(tc, estimate_is_what_opening_takes);
    tcase_add_test(tc, a_budget_is_kept_or_refused_with_what_would_fit);
    tcase_add_test(tc, a_token_allocates_nothing);
    tcase_add_test(tc, a_chat_reuses_its_prefix_and_retries_and_undoes);
    tcase_add_test(tc, sampling_inside_chat_parameters_needs_no_size);
    tcase_add_test(tc, control_tokens_in_a_message_stay_text);
    tcase_add_test(tc, a_cancelled_answer_stops_and_is_kept);
    tcase_add_test(tc, a_chat_that_fills_the_context_says_so_and_goes_on);
    tcase_add_test(tc, answers_are_whole_utf8_characters);
    tcase_add_test(tc, every_failing_allocation_is_an_error_and_leaks_nothing);
    tcase_add_test(tc, devices_are_listed_with_the_reference_last);
    tcase_add_test(tc, a_file_shows_its_keys_and_tensors);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
