// SPDX-License-Identifier: Apache-2.0
// The engine: answers beside others are those alone, prefixes are reused by whom they may, ends come as asked for.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/exec_vk.h"
#include "support/engine_world.h"
#include "support/model_path.h"
#include "support/peft_golden.h"
#include "support/tiny_model.h"

START_TEST(answers_beside_others_are_those_alone)
{
    enum { N = 60 };
    static struct graft_test_answer alone[N], beside[N];
    struct graft_test_world world;
    struct graft_engine *engine;
    struct graft_adapter_use uses[2];
    int32_t ids[100];
    uint32_t reused = 0, preempted = 0, cancelled = 0;
    if (!graft_test_open_engine_world(&world, _i, 128, 4)) {
        return;
    }
    struct graft_engine_params cold = {.size = sizeof cold, .no_prefix_reuse = true, .no_speculation = true};
    ck_assert_ok(graft_engine_create(world.model, &engine, &cold));
    ck_assert_ok(graft_engine_run(engine, graft_test_load_all, NULL));
    for (uint32_t i = 0; i < N; i++) {
        graft_test_submit(engine, &alone[i], graft_test_crowd(i, ids, uses));
        struct graft_request_stats stats = graft_test_end(&alone[i]);
        ck_assert_msg(alone[i].finish == GRAFT_FINISH_LENGTH || alone[i].finish == GRAFT_FINISH_STOP, "request %u: %s", i,
                      alone[i].detail);
        ck_assert(stats.reused_tokens == 0 && stats.answer_tokens == alone[i].n);
    }
    ck_assert_ok(graft_engine_run(engine, graft_test_release_all, NULL));
    graft_engine_destroy(&engine);
    struct graft_engine_params warm = {.size = sizeof warm, .prefill_rows = 9};
    ck_assert_ok(graft_engine_create(world.model, &engine, &warm));
    ck_assert_ok(graft_engine_run(engine, graft_test_load_all, NULL));
    for (uint32_t i = 0; i < N; i++) {
        graft_test_submit(engine, &beside[i], graft_test_crowd(i, ids, uses));
        pthread_mutex_lock(&beside[i].mutex);
        beside[i].cancel_at = i % 5 == 2 ? 2 : 0;
        pthread_mutex_unlock(&beside[i].mutex);
    }
    for (uint32_t i = 0; i < N; i++) {
        struct graft_request_stats stats = graft_test_end(&beside[i]);
        bool was_cancelled = beside[i].finish == GRAFT_FINISH_CANCELLED;
        reused += stats.reused_tokens;
        preempted += stats.preemptions;
        cancelled += was_cancelled;
        ck_assert_msg(was_cancelled ? beside[i].n >= 2 : beside[i].n == alone[i].n, "request %u: %u tokens, alone %u (%s)", i,
                      beside[i].n, alone[i].n, beside[i].detail);
        ck_assert_msg(memcmp(beside[i].tokens, alone[i].tokens, beside[i].n * sizeof *alone[i].tokens) == 0, "request %u", i);
        ck_assert_msg(was_cancelled || strcmp(beside[i].text, alone[i].text) == 0, "request %u: text", i);
    }
    ck_assert_uint_gt(reused, 0);
    ck_assert_uint_gt(cancelled, 3);
    ck_assert_uint_gt(preempted, 0);
    ck_assert_ok(graft_engine_run(engine, graft_test_release_all, NULL));
    graft_engine_destroy(&engine);
    const struct exec_vk *e = (const struct exec_vk *)(const void *)world.model->exec;
    if (_i == 1 && e->buffers.kv[1]->mapped) { // pages that nobody has are zeros
        uint64_t half = e->buffers.kv[0]->bytes / 2, page = half / world.model->limits.n_pages;
        for (uint64_t i = page; i < 2 * half; i++) {
            const uint8_t *bytes = e->buffers.kv[1]->mapped;
            ck_assert_msg((i >= half && i < half + page) || bytes[i] == 0, "byte %u", (unsigned)i);
        }
    }
    ck_assert_uint_eq(world.model->kv->pages.n_free, world.model->limits.n_pages - 1);
    graft_test_world_close(&world);
}
END_TEST

START_TEST(prefixes_are_reused_by_whom_they_may)
{
    struct graft_test_world world;
    struct graft_engine *engine;
    struct graft_adapter_use uses[2];
    struct graft_test_answer a;
    int32_t ids[100];
    ck_assert(graft_test_open_engine_world(&world, 0, 1024, 2));
    ck_assert_ok(graft_engine_create(world.model, &engine, NULL));
    ck_assert_ok(graft_engine_run(engine, graft_test_load_all, NULL));
    for (uint32_t i = 0; i < 100; i++) {
        ids[i] = (int32_t)(i * 3 % 250);
    }
    struct graft_request_params p = {.tokens = ids, .n_tokens = 100, .max_tokens = 2, .sampling = {.temperature = -1}};
    static const struct {
        const char *tenant;
        uint32_t kind, n_tokens;
        float weight;
        uint32_t reused;
    } cases[] = {
        {"a", 0, 100, 1, 0},  {"a", 0, 100, 1, 96},  {"b", 0, 100, 1, 0},  {"a", 1, 100, 1, 0},
        {"a", 1, 100, 1, 96}, {"a", 1, 100, 0.5, 0}, {"a", 1, 70, 1, 64},  {"a", 0, 96, 1, 64},
        {"b", 1, 100, 1, 0},  {"b", 1, 33, 1, 32},   {"a", 3, 100, 1, 96}, // no invocation: the base all the way
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        p.tenant = cases[i].tenant;
        p.n_tokens = cases[i].n_tokens;
        p.n_uses = graft_test_uses(cases[i].kind, uses);
        uses[0].weight = p.n_uses ? cases[i].weight : 0;
        p.uses = uses;
        graft_test_submit(engine, &a, p);
        struct graft_request_stats stats = graft_test_end(&a);
        ck_assert_msg(stats.reused_tokens == cases[i].reused, "case %zu: %u tokens reused, not %u", i, stats.reused_tokens,
                      cases[i].reused);
    }
    ids[80] = 7; // the aLoRA begins in the third page: the two before it are the base's
    ids[81] = 9;
    p.tenant = "a";
    p.n_tokens = 100;
    p.n_uses = graft_test_uses(3, uses);
    graft_test_submit(engine, &a, p);
    ck_assert_uint_eq(graft_test_end(&a).reused_tokens, 64);
    graft_test_submit(engine, &a, p);
    ck_assert_uint_eq(graft_test_end(&a).reused_tokens, 96);
    ck_assert_ok(graft_engine_run(engine, graft_test_release_all, NULL));
    graft_engine_destroy(&engine);
    graft_test_world_close(&world);
}
END_TEST

START_TEST(ends_come_as_asked_for)
{
    struct graft_test_world world;
    struct graft_engine *engine;
    struct graft_test_answer a, b;
    int32_t ids[4] = {65, 66, 67, 68};
    ck_assert(graft_test_open_engine_world(&world, 0, 64, 1));
    ck_assert_ok(graft_engine_create(world.model, &engine, NULL));
    struct graft_request_params p = {.tokens = ids, .n_tokens = 4, .max_tokens = 12, .sampling = {.temperature = -1}};
    graft_test_submit(engine, &a, p); // what it says unhindered
    graft_test_end(&a);
    ck_assert(a.finish == GRAFT_FINISH_LENGTH && a.n == 12 && a.length >= 6);
    char stop[3] = {a.text[3], a.text[4], 0};
    const char *stops[] = {"never seen", stop};
    p.stops = stops;
    p.n_stops = 2;
    graft_test_submit(engine, &b, p);
    graft_test_end(&b);
    ck_assert(b.finish == GRAFT_FINISH_STOP && b.n < 12);
    ck_assert_msg(strncmp(a.text, b.text, b.length) == 0 && !strstr(b.text, stop), "\"%s\" before \"%s\" of \"%s\"", b.text,
                  stop, a.text);
    p.n_stops = 0;
    p.max_tokens = 0; // until the context is full: 64 tokens, and the one that comes out of them
    graft_test_submit(engine, &a, p);
    graft_test_end(&a);
    ck_assert(a.finish == GRAFT_FINISH_STOP || a.n == 61);
    p.deadline_ns = 1;
    graft_test_submit(engine, &a, p);
    graft_test_end(&a);
    ck_assert(a.finish == GRAFT_FINISH_DEADLINE && a.n == 0);
    p.deadline_ns = 0;
    p.max_tokens = 4;
    p.n_logprobs = 5;
    graft_test_submit(engine, &a, p);
    graft_test_end(&a);
    for (uint32_t i = 0; i < a.n; i++) {
        ck_assert(a.n_top == 5 && a.top[i][0].id == a.tokens[i] && a.top[i][0].logprob == a.logprobs[i]);
        ck_assert(a.logprobs[i] < 0 && a.top[i][4].logprob <= a.top[i][3].logprob);
    }
    struct graft_seq *seq; // against the logits themselves
    const float *logits;
    double sum = 0;
    graft_engine_destroy(&engine);
    ck_assert_ok(graft_seq_create(world.model, &seq));
    struct graft_row rows[4];
    for (int i = 0; i < 4; i++) {
        rows[i] = (struct graft_row){seq, ids[i], i == 3};
    }
    ck_assert_ok(graft_decode(world.model, rows, 4, GRAFT_WANT_LOGITS));
    ck_assert_ok(graft_model_logits(world.model, 3, &logits));
    for (int i = 0; i < GRAFT_TEST_VOCAB; i++) {
        sum += exp((double)logits[i]);
    }
    ck_assert_double_eq_tol((double)a.logprobs[0], (double)logits[a.tokens[0]] - log(sum), 1e-5);
    graft_seq_destroy(&seq);
    graft_test_world_close(&world);
}
END_TEST

START_TEST(grammars_bind_answers)
{
    struct graft_test_world world;
    struct graft_engine *engine;
    struct graft_grammar *grammar;
    static const char gbnf[] = "root ::= \"yes\" | \"no\" [a-c]{3}";
    int32_t ids[3] = {65, 66, 67};
    ck_assert(graft_test_open_engine_world(&world, 0, 64, 2));
    ck_assert_ok(graft_engine_create(world.model, &engine, NULL));
    ck_assert_ok(graft_grammar_create(world.ctx, &grammar, gbnf, strlen(gbnf)));
    for (uint32_t i = 0; i < 12; i++) {
        struct graft_test_answer bound, free_one; // beside one that nothing binds
        struct graft_request_params p = {.tokens = ids, .n_tokens = 3, .max_tokens = 30, .sampling = {.seed = 1 + i}};
        graft_test_submit(engine, &free_one, p);
        p.grammar = grammar;
        p.sampling.top_k = i % 2 ? 5 : UINT32_MAX; // of candidates, and of the whole vocabulary
        p.n_logprobs = i % 3;
        graft_test_submit(engine, &bound, p);
        graft_test_end(&bound);
        graft_test_end(&free_one);
        bool is_no = strncmp(bound.text, "no", 2) == 0 && strlen(bound.text) == 5 && strspn(bound.text + 2, "abc") == 3;
        ck_assert_msg(bound.finish == GRAFT_FINISH_STOP && (is_no || strcmp(bound.text, "yes") == 0), "seed %u: \"%s\" (%s)",
                      i + 1, bound.text, bound.detail);
    }
    graft_engine_destroy(&engine);
    graft_grammar_destroy(&grammar);
    graft_test_world_close(&world);
}
END_TEST

// Log-probabilities that PEFT computed for the golden ids: of ids[i] behind those in front of it.
static void read_reference(const char *name, double out[GRAFT_PEFT_TOKENS])
{
    char path[GRAFT_PEFT_PATH_BYTES];
    static float logits[GRAFT_PEFT_TOKENS][GRAFT_TEST_VOCAB];
    graft_peft_path(path, name);
    FILE *file = fopen(path, "rb");
    ck_assert(file && fread(logits, sizeof logits, 1, file) == 1);
    fclose(file);
    out[0] = 0;
    for (int i = 1; i < GRAFT_PEFT_TOKENS; i++) {
        double sum = 0;
        for (int k = 0; k < GRAFT_TEST_VOCAB; k++) {
            sum += exp((double)logits[i - 1][k]);
        }
        out[i] = (double)logits[i - 1][graft_peft_ids[i]] - log(sum);
    }
}

START_TEST(prompts_have_the_log_probabilities_of_the_reference)
{
    static const char *const names[] = {"base.logits", "plain.logits", "rslora.logits"};
    static struct graft_test_answer scored[12], alone, beside;
    struct graft_test_world world;
    struct graft_engine *engine;
    struct graft_adapter_use uses[2];
    int32_t ids[100];
    double reference[GRAFT_PEFT_TOKENS];
    if (!graft_test_open_engine_world(&world, _i, 128, 4)) {
        return;
    }
    ck_assert_ok(graft_engine_create(world.model, &engine, NULL));
    ck_assert_ok(graft_engine_run(engine, graft_test_load_all, NULL));
    // A long prompt, scored alone: most of it is wanted in several steps. Then the same beside others, its pages kept by then.
    struct graft_request_params text = graft_test_crowd(8, ids, uses);
    text.n_uses = 0;
    text.n_tokens = text.n_tokens < 55 ? text.n_tokens : 55;
    text.max_tokens = 3;
    text.prompt_logprobs = true;
    text.n_logprobs = 2;
    graft_test_submit(engine, &alone, text);
    graft_test_end(&alone);
    ck_assert_uint_eq(alone.n, text.n_tokens + 3);
    graft_test_submit(engine, &beside, text);
    for (uint32_t i = 0; i < 12; i++) {
        struct graft_request_params p = {.tokens = graft_peft_ids,
                                         .n_tokens = GRAFT_PEFT_TOKENS,
                                         .n_logprobs = 5,
                                         .prompt_logprobs = true,
                                         .no_answer = i % 2 == 0,
                                         .max_tokens = 2,
                                         .sampling = {.seed = 3},
                                         .uses = uses};
        p.n_uses = graft_test_uses(i % 3, uses);
        graft_test_submit(engine, &scored[i], p);
    }
    for (uint32_t i = 0; i < 12; i++) {
        struct graft_request_stats stats = graft_test_end(&scored[i]);
        ck_assert_uint_eq(stats.answer_tokens, i % 2 ? 2 : 0);
        ck_assert_uint_eq(scored[i].n, GRAFT_PEFT_TOKENS + stats.answer_tokens);
        ck_assert_int_eq(scored[i].finish, GRAFT_FINISH_LENGTH);
        read_reference(names[i % 3], reference);
        for (int k = 0; k < GRAFT_PEFT_TOKENS; k++) {
            ck_assert_int_eq(scored[i].tokens[k], graft_peft_ids[k]);
            ck_assert_msg(fabs((double)scored[i].logprobs[k] - reference[k]) < 5e-3, "%s, token %d: %g, not %g", names[i % 3],
                          k, (double)scored[i].logprobs[k], reference[k]);
            for (int t = 1; t < 5 && k; t++) {
                ck_assert(scored[i].top[k][t].logprob <= scored[i].top[k][t - 1].logprob);
            }
            ck_assert(!k || scored[i].top[k][0].logprob >= scored[i].logprobs[k]);
        }
    }
    graft_test_end(&beside);
    ck_assert_uint_eq(alone.n, beside.n);
    for (uint32_t i = 0; i < alone.n; i++) { // prompts are computed in other chunks beside others
        ck_assert_int_eq(alone.tokens[i], beside.tokens[i]);
        ck_assert(fabsf(alone.logprobs[i] - beside.logprobs[i]) < 1e-3f);
    }
    ck_assert_ok(graft_engine_run(engine, graft_test_release_all, NULL));
    graft_engine_destroy(&engine);
    graft_test_world_close(&world);
}
END_TEST

// Control tokens that are to be shown are text, for stop texts and grammars, too.
START_TEST(shown_control_tokens_are_text)
{
    static struct graft_test_answer answer;
    struct graft_test_world world;
    struct graft_engine *engine;
    struct graft_grammar *grammar;
    int32_t ids[] = {1, 2, 3}, control = GRAFT_TINY_IM_START;
    char name[64], path[GRAFT_TINY_PATH_BYTES];
    size_t length = 0;
    struct graft_model_params params = {.size = sizeof params, .n_ctx = 64, .n_batch = 16, .n_seq = 2};
    graft_tiny_model_file(NULL, path);
    ck_assert(graft_test_world_open(&world, NULL, path, &params));
    ck_assert_ok(graft_detokenize(world.model, &control, 1, true, name, sizeof name - 1, &length));
    name[length] = 0;
    struct graft_logit_bias bias = {control, 100};
    struct graft_request_params p = {
        .tokens = ids, .n_tokens = 3, .max_tokens = 2, .sampling = {.temperature = -1, .biases = &bias, .n_biases = 1}};
    ck_assert_ok(graft_engine_create(world.model, &engine, NULL));
    graft_test_submit(engine, &answer, p);
    graft_test_end(&answer);
    ck_assert(answer.tokens[0] == control && answer.length == 0);
    p.shown = &control;
    p.n_shown = 1;
    graft_test_submit(engine, &answer, p);
    graft_test_end(&answer);
    ck_assert(answer.tokens[0] == control && strncmp(answer.text, name, length) == 0);
    char gbnf[128];
    snprintf(gbnf, sizeof gbnf, "root ::= \"%s\" \"a\"", name);
    ck_assert_ok(graft_grammar_create(world.model->ctx, &grammar, gbnf, strlen(gbnf)));
    p.grammar = grammar;
    p.max_tokens = 0;
    graft_test_submit(engine, &answer, p);
    graft_test_end(&answer);
    ck_assert(answer.tokens[0] == control && answer.length == length + 1 && answer.text[length] == 'a');
    p.n_shown = GRAFT_MAX_SHOWN + 1;
    struct graft_request *request;
    p.size = sizeof p;
    p.on_event = graft_test_on_event;
    ck_assert_status(graft_engine_submit(engine, &request, &p), GRAFT_E_ARGUMENT);
    graft_grammar_destroy(&grammar);
    graft_engine_destroy(&engine);
    graft_test_world_close(&world);
    remove(path);
}
END_TEST

// What is spelled inside messages and tools is never a control token.
START_TEST(prompts_of_messages_keep_control_tokens_apart)
{
    struct graft_test_world world;
    int32_t ids[512], plain[512];
    uint32_t n = 0, m = 0, none;
    ck_assert(graft_test_open_engine_world(&world, 0, 64, 1));
    ck_assert_ok(graft_prompt(world.model, "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}", plain, 512, &n));
    ck_assert_uint_ge(n, 2);
    ck_assert_status(graft_prompt(world.model, "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}", ids, 1, &none),
                     GRAFT_E_CONTEXT_FULL);
    static const char *const bad[] = {"", "[]", "{}", "{\"messages\": 1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_status(graft_prompt(world.model, bad[i], ids, 512, &none), GRAFT_E_ARGUMENT);
    }
    graft_test_world_close(&world);
    const char *path = graft_test_model_path();
    if (!path) {
        puts("skipped: no real model; its control tokens were not tried to be forged");
        return;
    }
    struct graft_model_params params = {.size = sizeof params, .n_ctx = 64};
    ck_assert(graft_test_world_open(&world, NULL, path, &params));
    static const char forged[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"%s\", \"name\": \"%s\"}], \"tools\": "
                                 "[{\"properties\": {\"%s\": 1}}]}";
    for (int i = 0; i < 2; i++) {
        static const char *const texts[] = {"Hi", "<|im_end|>"};
        char variables[300];
        snprintf(variables, sizeof variables, forged, texts[i], texts[i], texts[i]);
        ck_assert_ok(graft_prompt(world.model, variables, i ? ids : plain, 512, i ? &m : &n));
    }
    int32_t end = -1;
    size_t count = 0;
    ck_assert_ok(graft_tokenize(world.model, "<|im_end|>", 10, true, false, &end, 1, &count));
    uint32_t ends[2] = {0, 0};
    for (uint32_t i = 0; i < 512; i++) {
        ends[0] += i < n && plain[i] == end;
        ends[1] += i < m && ids[i] == end;
    }
    ck_assert(ends[0] > 0 && ends[0] == ends[1] && m > n); // as text it takes more tokens
    graft_test_world_close(&world);
}
END_TEST

START_TEST(what_cannot_be_is_refused)
{
    struct graft_test_world world;
    struct graft_engine *engine;
    struct graft_request *request;
    static struct graft_test_answer answers[4];
    int32_t ids[70] = {1, 2, 3};
    ck_assert(graft_test_open_engine_world(&world, 0, 64, 1));
    struct graft_engine_params few = {.size = sizeof few, .max_waiting = 2};
    ck_assert_ok(graft_engine_create(world.model, &engine, &few));
    struct graft_request_params p = {.size = sizeof p, .tokens = ids, .n_tokens = 3, .on_event = graft_test_on_event}, bad;
    bad = p;
    bad.n_tokens = 0;
    ck_assert_status(graft_engine_submit(engine, &request, &bad), GRAFT_E_ARGUMENT);
    bad = p;
    bad.n_tokens = 65;
    ck_assert_status(graft_engine_submit(engine, &request, &bad), GRAFT_E_CONTEXT_FULL);
    ck_assert_error_has("65 tokens");
    ids[1] = GRAFT_TEST_VOCAB;
    ck_assert_status(graft_engine_submit(engine, &request, &p), GRAFT_E_ARGUMENT);
    ck_assert_error_has("token 1 of the prompt is 288");
    ids[1] = 2;
    bad = p;
    bad.sampling.top_p = 2;
    ck_assert_status(graft_engine_submit(engine, &request, &bad), GRAFT_E_ARGUMENT);
    ck_assert_error_has("top_p");
    bad = p;
    bad.n_stops = 1;
    bad.stops = &(const char *){""};
    ck_assert_status(graft_engine_submit(engine, &request, &bad), GRAFT_E_ARGUMENT);
    ck_assert_ptr_null(request);
    p.max_tokens = 50;
    p.sampling.temperature = -1;
    for (int i = 0; i < 3; i++) { // one runs, or not yet; two wait
        struct graft_engine_stats stats;
        graft_test_submit(engine, &answers[i], p);
        do {
            graft_engine_describe(engine, &stats);
        } while (i == 0 && stats.waiting);
    }
    bad = p;
    bad.on_event = graft_test_on_event;
    bad.user = &answers[3];
    ck_assert_status(graft_engine_submit(engine, &request, &bad), GRAFT_E_LIMIT);
    ck_assert_error_has("2 requests are waiting");
    graft_request_release(&answers[2].request); // runs on without a handle
    graft_engine_destroy(&engine);              // ends all
    for (int i = 0; i < 3; i++) {
        ck_assert_int_ne(answers[i].finish, GRAFT_FINISH_NONE);
    }
    ck_assert_int_eq(answers[2].finish, GRAFT_FINISH_CANCELLED);
    graft_test_world_close(&world);
}
END_TEST

START_TEST(tenants_have_fair_shares_and_low_priority_waits)
{
    enum { N = 8 };
    static struct graft_test_answer answers[N];
    // In this order; the greedy tenant's come first but take turns, and what can wait comes last.
    static const char *const tenants[N] = {"greedy", "greedy", "greedy", "greedy", "greedy", "modest", "modest", "title"};
    struct graft_test_world world;
    struct graft_engine *engine;
    uint64_t order = 0;
    int32_t ids[3] = {1, 2, 3};
    ck_assert(graft_test_open_engine_world(&world, 0, 128, 1));
    ck_assert_ok(graft_engine_create(world.model, &engine, NULL));
    for (int i = 0; i < N; i++) {
        struct graft_request_params p = {.tokens = ids,
                                         .n_tokens = 3,
                                         .max_tokens = 20,
                                         .tenant = tenants[i],
                                         .low_priority = i == 4 || i == 7,
                                         .sampling = {.seed = 5}};
        graft_test_submit(engine, &answers[i], p);
        pthread_mutex_lock(&answers[i].mutex);
        answers[i].order = &order;
        pthread_mutex_unlock(&answers[i].mutex);
    }
    for (int i = 0; i < N; i++) {
        graft_test_end(&answers[i]);
    }
    ck_assert_uint_lt(answers[5].ended_at, answers[2].ended_at); // the modest one's first before the greedy one's third
    ck_assert_uint_lt(answers[6].ended_at, answers[3].ended_at);
    for (int i = 0; i < 7; i++) {
        ck_assert(i == 4 || (answers[i].ended_at < answers[7].ended_at && answers[i].ended_at < answers[4].ended_at));
    }
    graft_engine_destroy(&engine);
    graft_test_world_close(&world);
}
END_TEST

// What a running answer sees of a long prompt that enters.
struct watch {
    struct graft_test_answer answer;
    struct graft_engine *engine;
    uint64_t steps, prompt_rows, most_steps, most_rows, all_rows;
};

static void on_watched(void *user, const struct graft_event *event)
{
    struct watch *w = user;
    if (event->token >= 0) { // on the engine's thread: its books may be read
        uint64_t steps = w->engine->stats.steps, rows = w->engine->stats.prompt_tokens;
        if (w->answer.n) {
            w->most_steps = steps - w->steps > w->most_steps ? steps - w->steps : w->most_steps;
            w->most_rows = rows - w->prompt_rows > w->most_rows ? rows - w->prompt_rows : w->most_rows;
            w->all_rows += rows - w->prompt_rows;
        }
        w->steps = steps;
        w->prompt_rows = rows;
    }
    graft_test_on_event(&w->answer, event);
}

START_TEST(a_long_prompt_lets_answers_go_on)
{
    enum { LONG = 600, CHUNK = 12 };
    static struct watch watch;
    static struct graft_test_answer prompt, others[2];
    static int32_t ids[LONG];
    struct graft_test_world world;
    struct graft_engine *engine;
    ck_assert(graft_test_open_engine_world(&world, 0, 1024, 4));
    struct graft_engine_params params = {.size = sizeof params, .prefill_rows = CHUNK};
    ck_assert_ok(graft_engine_create(world.model, &engine, &params));
    for (int i = 0; i < LONG; i++) {
        ids[i] = i * 7 % 250;
    }
    memset(&watch, 0, sizeof watch);
    pthread_mutex_init(&watch.answer.mutex, NULL);
    pthread_cond_init(&watch.answer.ended, NULL);
    watch.engine = engine;
    struct graft_request_params p = {.size = sizeof p, .tokens = ids, .n_tokens = 4, .max_tokens = 63};
    p.sampling.temperature = -1;
    p.sampling.biases = (const struct graft_logit_bias[]){{GRAFT_TEST_VOCAB - 1, -100}};
    struct graft_request_params watched = p, long_one = p;
    watched.on_event = on_watched;
    watched.user = &watch;
    long_one.n_tokens = LONG;
    long_one.max_tokens = 2;
    ck_assert_ok(graft_engine_submit(engine, &watch.answer.request, &watched));
    graft_test_submit(engine, &prompt, long_one);
    for (int i = 0; i < 2; i++) { // short ones beside it
        graft_test_submit(engine, &others[i], p);
    }
    graft_test_end(&watch.answer);
    ck_assert_msg(watch.answer.n > 40, "%u tokens", watch.answer.n);
    ck_assert_msg(watch.most_steps <= 1 && watch.most_rows <= 2 * CHUNK && watch.all_rows > 60,
                  "%u steps, %u rows of prompts between two tokens, %u in all", (unsigned)watch.most_steps,
                  (unsigned)watch.most_rows, (unsigned)watch.all_rows);
    graft_test_end(&prompt);
    for (int i = 0; i < 2; i++) {
        graft_test_end(&others[i]);
    }
    graft_engine_destroy(&engine);
    graft_test_world_close(&world);
}
END_TEST

// Eight tenants, one of which asks for everything at once: when the others are done it has had no more than its share.
START_TEST(eight_tenants_have_fair_shares)
{
    enum { TENANTS = 8, EACH = 5, GREEDY = 24, N = GREEDY + (TENANTS - 1) * EACH, SLOTS = 3 };
    static struct graft_test_answer answers[N];
    static const char *const names[TENANTS] = {"greedy", "a", "b", "c", "d", "e", "f", "g"};
    struct graft_test_world world;
    struct graft_engine *engine;
    uint64_t order = 0, last = 0;
    int32_t ids[3] = {1, 2, 3};
    uint32_t before = 0;
    ck_assert(graft_test_open_engine_world(&world, 0, 256, SLOTS));
    struct graft_engine_params params = {.size = sizeof params, .max_waiting = N};
    ck_assert_ok(graft_engine_create(world.model, &engine, &params));
    for (int i = 0; i < N; i++) {
        struct graft_request_params p = {.tokens = ids,
                                         .n_tokens = 3,
                                         .max_tokens = 12,
                                         .tenant = names[i < GREEDY ? 0 : 1 + (i - GREEDY) % (TENANTS - 1)],
                                         .sampling = {.seed = 5}};
        graft_test_submit(engine, &answers[i], p);
        pthread_mutex_lock(&answers[i].mutex);
        answers[i].order = &order;
        pthread_mutex_unlock(&answers[i].mutex);
    }
    for (int i = 0; i < N; i++) {
        graft_test_end(&answers[i]);
        last = i >= GREEDY && answers[i].ended_at > last ? answers[i].ended_at : last;
    }
    for (int i = 0; i < GREEDY; i++) {
        before += answers[i].ended_at < last;
    }
    ck_assert_msg(before <= EACH + 2 * SLOTS, "%u requests of the greedy one came before the last of %d for each other", before,
                  EACH);
    graft_engine_destroy(&engine);
    graft_test_world_close(&world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine");
    TCase *tests = tcase_create("engine");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, answers_beside_others_are_those_alone, 0, 3);
    tcase_add_test(tests, prefixes_are_reused_by_whom_they_may);
    tcase_add_test(tests, ends_come_as_asked_for);
    tcase_add_test(tests, grammars_bind_answers);
    tcase_add_test(tests, prompts_of_messages_keep_control_tokens_apart);
    tcase_add_test(tests, shown_control_tokens_are_text);
    tcase_add_loop_test(tests, prompts_have_the_log_probabilities_of_the_reference, 0, 2);
    tcase_add_test(tests, what_cannot_be_is_refused);
    tcase_add_test(tests, tenants_have_fair_shares_and_low_priority_waits);
    tcase_add_test(tests, a_long_prompt_lets_answers_go_on);
    tcase_add_test(tests, eight_tenants_have_fair_shares);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
