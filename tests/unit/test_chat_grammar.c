// SPDX-License-Identifier: Apache-2.0
// Answers of a tiny model with random weights, bound by grammars: whatever it would say, what comes is a text of the grammar.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graft/graft.h"
#include "support/support.h"
#include "support/tiny_model.h"

static char path[GRAFT_TINY_PATH_BYTES];

struct world {
    struct graft_test_alloc alloc;
    struct graft_ctx *ctx;
    struct graft_device *device;
    struct graft_model *model;
};

static void open_world(struct world *w)
{
    *w = (struct world){0};
    w->ctx = graft_test_ctx(&w->alloc, 0);
    struct graft_device_params device = {.size = sizeof device, .select = "ref"};
    ck_assert_ok(graft_device_open(w->ctx, &w->device, &device));
    struct graft_model_params params = {.size = sizeof params, .n_ctx = 512, .n_batch = 16, .n_seq = 1};
    ck_assert_ok(graft_model_open(w->device, &w->model, path, &params));
}

static void close_world(struct world *w)
{
    graft_model_close(&w->model);
    graft_device_close(&w->device);
    graft_ctx_destroy(&w->ctx);
    ck_assert_uint_eq(w->alloc.live, 0);
}

static struct graft_grammar *new_grammar(struct world *w, const char *gbnf)
{
    struct graft_grammar *grammar;
    ck_assert_ok(graft_grammar_create(w->ctx, &grammar, gbnf, strlen(gbnf)));
    return grammar;
}

static struct graft_chat *new_chat(struct world *w, struct graft_sampling sampling, const struct graft_grammar *grammar)
{
    struct graft_chat_params params = {.size = sizeof params, .sampling = sampling, .max_tokens = 400};
    struct graft_chat *chat;
    ck_assert_ok(graft_chat_create(w->model, &chat, &params));
    if (grammar) {
        ck_assert_ok(graft_chat_set_grammar(chat, grammar));
    }
    return chat;
}

// An answer to its end; *whole: it ended by itself.
static enum graft_status listen(struct graft_chat *chat, char *text, size_t room, bool *whole)
{
    size_t used = 0;
    bool done = false;
    enum graft_status status = GRAFT_OK;
    while (!done && status == GRAFT_OK) {
        const char *piece;
        size_t length;
        status = graft_chat_next(chat, &piece, &length, &done);
        if (status == GRAFT_OK) {
            ck_assert_uint_lt(used + length, room);
            memcpy(text + used, piece, length);
            used += length;
        }
    }
    text[used] = '\0';
    struct graft_chat_stats stats;
    graft_chat_last_stats(chat, &stats);
    *whole = stats.answer_tokens < 400;
    return status;
}

#define SAMPLING(...) ((struct graft_sampling){.size = sizeof(struct graft_sampling), __VA_ARGS__})

START_TEST(answers_are_texts_of_the_grammar_whatever_is_sampled)
{
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":6},"
        "\"n\":{\"type\":\"integer\",\"minimum\":-5,\"maximum\":120},\"tags\":{\"type\":\"array\",\"items\":"
        "{\"enum\":[\"a\",\"the\",null]},\"maxItems\":2}},\"required\":[\"name\",\"n\",\"tags\"],"
        "\"additionalProperties\":false}";
    static const struct graft_logit_bias no_end = {GRAFT_TINY_IM_END, -INFINITY};
    const struct graft_sampling samplings[] = {
        SAMPLING(.seed = 1),
        SAMPLING(.temperature = -1.0f),
        SAMPLING(.seed = 2, .temperature = 2.0f, .top_k = UINT32_MAX, .top_p = 1.0f, .min_p = -1.0f),
        SAMPLING(.seed = 3, .repeat_penalty = 1.3f, .dry_multiplier = 1.0f, .temperature = 1.5f),
        SAMPLING(.seed = 4, .mirostat = 2, .temperature = 1.5f),
        SAMPLING(.seed = 5, .top_k = 3, .temperature = 3.0f),
        SAMPLING(.seed = 6, .typical_p = 0.5f, .xtc_probability = 0.5f, .temperature = 3.0f),
        SAMPLING(.seed = 7, .biases = &no_end, .n_biases = 1), // the end is the only way on when the object is closed
    };
    struct world w;
    open_world(&w);
    struct graft_grammar *grammar;
    ck_assert_ok(graft_grammar_from_schema(w.ctx, &grammar, schema, sizeof schema - 1));
    int ended = 0;
    for (size_t i = 0; i < sizeof samplings / sizeof *samplings; i++) {
        struct graft_chat *chat = new_chat(&w, samplings[i], grammar);
        for (int round = 0; round < 3; round++) {
            char text[8192];
            bool whole;
            ck_assert_ok(graft_chat_send(chat, "an order", 8));
            ck_assert_ok(listen(chat, text, sizeof text, &whole));
            if (whole) {
                json_error_t error;
                json_t *value = json_loads(text, 0, &error);
                ck_assert_msg(value != NULL, "sampling %zu: %s: %s", i, text, error.text);
                json_int_t n = json_integer_value(json_object_get(value, "n"));
                ck_assert_msg(json_is_string(json_object_get(value, "name")) && n >= -5 && n <= 120 &&
                                  json_is_array(json_object_get(value, "tags")) && json_object_size(value) == 3,
                              "sampling %zu: %s", i, text);
                json_decref(value);
                ended++;
            }
            graft_chat_clear(chat);
        }
        graft_chat_destroy(&chat);
    }
    ck_assert_int_ge(ended, 20);
    graft_grammar_destroy(&grammar);
    close_world(&w);
}
END_TEST

START_TEST(a_grammar_begins_and_ends_with_the_next_answer)
{
    struct world w;
    open_world(&w);
    struct graft_grammar *yes = new_grammar(&w, "root ::= \"yes\" | \"no\""), *digits = new_grammar(&w, "root ::= [0-9]{5}");
    struct graft_chat *chat = new_chat(&w, SAMPLING(.seed = 3), yes);
    char text[8192];
    bool whole;
    ck_assert_ok(graft_chat_send(chat, "well", 4));
    ck_assert_ok(graft_chat_set_grammar(chat, digits)); // not of the answer that is being given
    ck_assert_ok(listen(chat, text, sizeof text, &whole));
    ck_assert_msg(strcmp(text, "yes") == 0 || strcmp(text, "no") == 0, "%s", text);
    ck_assert_ok(graft_chat_retry(chat));
    ck_assert_ok(listen(chat, text, sizeof text, &whole));
    ck_assert_uint_eq(strlen(text), 5);
    ck_assert_uint_eq(strspn(text, "0123456789"), 5);
    ck_assert_ok(graft_chat_retry(chat)); // the state begins anew with every answer
    ck_assert_ok(listen(chat, text, sizeof text, &whole));
    ck_assert_uint_eq(strlen(text), 5);
    ck_assert_ok(graft_chat_set_grammar(chat, NULL));
    ck_assert_ok(graft_chat_retry(chat));
    ck_assert_ok(listen(chat, text, sizeof text, &whole));
    ck_assert_uint_ne(strspn(text, "0123456789"), strlen(text));
    graft_chat_destroy(&chat);
    graft_grammar_destroy(&digits);
    graft_grammar_destroy(&yes);
    close_world(&w);
}
END_TEST

START_TEST(a_token_allocates_nothing_with_a_grammar)
{
    struct world w;
    open_world(&w);
    struct graft_grammar *grammar = new_grammar(&w, "root ::= ([a-z]{1,9} \" \"?)* \".\"");
    struct graft_chat *chat = new_chat(&w, SAMPLING(.seed = 4, .temperature = 2.0f), grammar);
    ck_assert_ok(graft_chat_send(chat, "hello", 5));
    uint64_t requests = w.alloc.requests;
    char text[8192];
    bool whole;
    ck_assert_ok(listen(chat, text, sizeof text, &whole));
    ck_assert_uint_eq(w.alloc.requests, requests);
    ck_assert_uint_gt(strlen(text), 0);
    graft_chat_destroy(&chat);
    graft_grammar_destroy(&grammar);
    close_world(&w);
}
END_TEST

static void make_file(void)
{
    graft_tiny_model_file(&(struct graft_tiny_model){0}, path);
}

static void remove_file(void)
{
    remove(path);
}

int main(void)
{
    Suite *suite = suite_create("chat grammar");
    TCase *tests = tcase_create("chat grammar");
    tcase_set_timeout(tests, 120);
    tcase_add_unchecked_fixture(tests, make_file, remove_file);
    tcase_add_test(tests, answers_are_texts_of_the_grammar_whatever_is_sampled);
    tcase_add_test(tests, a_grammar_begins_and_ends_with_the_next_answer);
    tcase_add_test(tests, a_token_allocates_nothing_with_a_grammar);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
