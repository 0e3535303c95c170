// SPDX-License-Identifier: Apache-2.0
// Speculation: drafts are what the text says, what pays is computed, and no answer changes by it, neither its tokens nor its
// distribution.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/session/chat_private.h"
#include "support/engine_world.h"

// ---- the index, against the plainest search ----

enum { TOKENS = 400 };

// The longest match of the last 16 places where the pair stands, of equal ones the last; at most 16 tokens count.
static uint32_t search(const int32_t *ids, uint32_t n, uint32_t *match)
{
    uint32_t best = 0, seen = 0;
    *match = 0;
    for (uint32_t place = n - 1; n >= 2 && place >= 2 && seen < 16 && *match < 16; place--) {
        uint32_t m = 0;
        while (m < 16 && m < place && ids[place - 1 - m] == ids[n - 1 - m]) {
            m++;
        }
        seen += m >= 2;
        if (m >= 2 && m > *match) {
            *match = m;
            best = place;
        }
    }
    return best;
}

START_TEST(drafts_are_what_followed_before)
{
    struct graft_test_world world;
    struct graft_draft_meter meter;
    struct graft_speculation s;
    int32_t ids[TOKENS];
    uint32_t found = 0, longer = 0;
    uint64_t state = 77;
    ck_assert(graft_test_open_engine_world(&world, 0, 64, 1));
    graft_draft_meter_begin(&meter);
    ck_assert_ok(graft_speculation_take(world.ctx, &s, 4096));
    for (int32_t alphabet = 1; alphabet < 60; alphabet += 4) {
        for (uint32_t i = 0; i < TOKENS; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            ids[i] = (int32_t)((state >> 33) % (uint64_t)alphabet) * 1000;
            ids[i] = i > 100 && state >> 62 ? ids[i - 37] : ids[i]; // three of four repeat
        }
        graft_speculation_begin(&s, &meter);
        for (uint32_t n = 1; n <= TOKENS; n += 1 + n % 3) {
            uint32_t match, place = search(ids, n, &match), most = n % 19;
            graft_speculation_find(&s, &meter, ids, n, most);
            uint32_t wanted = !place ? 0 : most < GRAFT_DRAFT_MOST ? most : GRAFT_DRAFT_MOST;
            ck_assert_msg(s.n_tokens == wanted && (!wanted || s.match == match),
                          "%d kinds, %u: %u tokens behind %u, not %u, %u", alphabet, n, s.n_tokens, s.match, wanted, match);
            for (uint32_t k = 0; k < s.n_tokens; k++) { // and periods go on
                uint32_t at = place + k;
                while (at >= n) {
                    at -= n - place;
                }
                ck_assert_msg(s.tokens[k] == ids[at], "%d kinds, %u: token %u", alphabet, n, k);
            }
            found += s.n_tokens > 0;
            longer += s.match > 6;
        }
    }
    ck_assert(found > 1000 && longer > 500);
    graft_speculation_give_back(world.ctx, &s);
    graft_test_world_close(&world);
}
END_TEST

// ---- what pays ----

static uint32_t chosen(struct graft_draft_meter *meter, uint32_t n_rows, uint32_t room, uint32_t n, uint32_t n_tokens,
                       uint32_t match)
{
    static struct graft_speculation s[8];
    struct graft_speculation *all[8];
    uint32_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        s[i] = (struct graft_speculation){.rates = meter->rates, .n_tokens = n_tokens, .match = match};
        all[i] = &s[i];
    }
    graft_draft_choose(meter, 0, n_rows, room, all, n);
    for (uint32_t i = 0; i < n; i++) {
        sum += s[i].n_tokens;
    }
    return sum;
}

START_TEST(only_what_pays_is_computed)
{
    struct graft_draft_meter meter;
    struct graft_speculation s = {.match = 2, .n_tokens = 1};
    graft_draft_meter_begin(&meter);
    for (uint32_t rows = 1; rows <= 32; rows *= 2) { // rows cost nothing
        graft_step_costs_add(&meter.costs, 0, rows, 1000);
    }
    ck_assert_uint_eq(chosen(&meter, 1, 31, 1, 10, 8), 10);
    ck_assert_uint_eq(chosen(&meter, 4, 28, 4, 10, 8), 28);
    ck_assert_uint_eq(chosen(&meter, 4, 3, 4, 10, 8), 3);
    ck_assert_uint_eq(chosen(&meter, 32, 0, 8, 10, 8), 0);
    ck_assert_uint_eq(chosen(&meter, 1, 31, 0, 0, 0), 0);
    graft_draft_meter_begin(&meter);
    for (uint32_t rows = 1; rows <= 32; rows *= 2) { // every row costs what the first does
        graft_step_costs_add(&meter.costs, 0, rows, 1000 * rows);
    }
    for (int i = 0; i < 200; i++) { // and from time to time one is tried: sooner behind a long match
        ck_assert_uint_eq(chosen(&meter, 1, 31, 1, 10, 16), i % 8 == 7);
    }
    graft_draft_meter_begin(&meter);
    for (uint32_t rows = 1; rows <= 32; rows *= 2) { // software: 1.4 times for 4 rows, 2.7 times for 8
        graft_step_costs_add(&meter.costs, 0, rows, rows < 4 ? 1000 + 200 * (rows - 1) : rows < 8 ? 1400 : 340 * rows);
    }
    ck_assert_uint_eq(chosen(&meter, 1, 31, 1, 10, 4), 3); // as many as the bucket holds
    for (int i = 0; i < 60; i++) {
        graft_draft_learn(&meter, &s, 0, 1); // pairs never hold here
    }
    ck_assert_uint_eq(chosen(&meter, 1, 31, 1, 10, 2), 0);
    ck_assert_uint_eq(chosen(&meter, 1, 31, 1, 10, 4), 3); // others still do
    s.match = 4;
    for (int i = 0; i < 60; i++) {
        graft_draft_learn(&meter, &s, 1, 1);
    }
    ck_assert_float_gt(meter.rates.held[2], 0.9f * meter.rates.tried[2]);
    ck_assert_float_lt(meter.rates.held[0], 0.1f * meter.rates.tried[0]);
}
END_TEST

START_TEST(pauses_beside_prompts_are_short)
{
    static const uint64_t gpu[] = {1000, 1000, 1010, 1020, 1050, 1300, 1900, 3600},
                          cpu[] = {50, 55, 70, 110, 160, 240, 460, 900};
    struct graft_step_costs costs = {0};
    ck_assert_uint_eq(graft_step_costs_rows(&costs, 0, 0, 128), 128);
    ck_assert_uint_eq(graft_step_costs_rows(&costs, 0, 1, 128), 128); // nothing is known
    for (uint32_t b = 0; b < 8; b++) {
        graft_step_costs_add(&costs, 0, 1u << b, gpu[b] * 1000);
    }
    uint32_t rows = 0;
    for (int i = 0; i < 20; i++) { // every step is measured
        rows = graft_step_costs_rows(&costs, 0, 1, 128);
        graft_step_costs_add(&costs, GRAFT_STEP_PROMPTS, rows, gpu[rows == 128 ? 7 : rows == 64 ? 6 : 5] * 1000);
    }
    ck_assert_uint_eq(rows, 64); // 1.9 times
    memset(&costs, 0, sizeof costs);
    for (uint32_t b = 0; b < 8; b++) {
        graft_step_costs_add(&costs, 0, 1u << b, cpu[b] * 1000);
    }
    uint32_t large = 0;
    for (int i = 0; i < 200; i++) {
        uint32_t bucket = 0;
        rows = graft_step_costs_rows(&costs, 0, 1, 32);
        while (1u << bucket < rows) {
            bucket++;
        }
        graft_step_costs_add(&costs, GRAFT_STEP_PROMPTS, rows, cpu[bucket] * 1000);
        large += rows == 32;
    }
    ck_assert(rows == 16 && large > 1 && large < 8); // 3.2 times, but 8 would be half as fast
    ck_assert_uint_eq(graft_step_costs_rows(&costs, 0, 20, 32), 32);
    ck_assert_uint_eq(graft_step_costs_rows(&costs, 0, 32, 32), 32);
}
END_TEST

// ---- answers ----

// Request i of a crowd whose prompts repeat themselves, under every kind of setting.
static struct graft_request_params repeating(uint32_t i, int32_t ids[100], struct graft_adapter_use uses[2],
                                             const struct graft_grammar *grammar)
{
    static const struct graft_logit_bias biases[] = {{70, 2.0f}, {101, -INFINITY}};
    static const char *const stops[] = {"never seen", "e"};
    uint32_t n = 20 + i * 7 % 60, period = 2 + i % 9;
    for (uint32_t k = 0; k < n; k++) {
        ids[k] = (int32_t)(k % period * 31 + i % 5) % 256;
    }
    struct graft_request_params p = {.tokens = ids,
                                     .n_tokens = n,
                                     .max_tokens = 10 + i % 7 * 4,
                                     .sampling = {.seed = 100 + i, .top_k = 5, .temperature = i % 2 ? -1 : 0.5f},
                                     .uses = uses,
                                     .n_uses = graft_test_uses(i / 3, uses),
                                     .logprobs = i % 3 == 1,
                                     .n_logprobs = i % 3 == 1 ? 3 : 0};
    p.sampling.repeat_penalty = i % 8 == 2 ? 1.1f : 0;
    p.sampling.frequency_penalty = i % 8 == 2 ? 0.1f : 0;
    p.sampling.dry_multiplier = i % 8 == 3 ? 0.5f : 0;
    p.sampling.mirostat = i % 8 == 4 ? 2 : 0;
    p.sampling.xtc_probability = i % 8 == 6 ? 0.5f : 0;
    p.sampling.temperature = i % 8 == 4 || i % 8 == 6 ? 0.7f : p.sampling.temperature;
    p.sampling.biases = i % 8 == 5 ? biases : NULL;
    p.sampling.n_biases = i % 8 == 5 ? 2 : 0;
    p.grammar = i % 8 == 7 ? grammar : NULL;
    p.stops = stops;
    p.n_stops = i % 10 == 9 ? 2 : 0;
    return p;
}

// Everything that was seen of two answers is equal, bit for bit.
static void expect_equal(const struct graft_test_answer *a, const struct graft_test_answer *b, uint32_t i)
{
    ck_assert_msg(a->finish == b->finish && a->n == b->n, "request %u: %d after %u tokens, without drafts %d after %u (%s, %s)",
                  i, a->finish, a->n, b->finish, b->n, a->detail, b->detail);
    ck_assert_msg(memcmp(a->tokens, b->tokens, a->n * sizeof *a->tokens) == 0, "request %u: tokens", i);
    ck_assert_msg(memcmp(a->logprobs, b->logprobs, a->n * sizeof *a->logprobs) == 0, "request %u: logprobs", i);
    for (uint32_t k = 0; k < a->n; k++) {
        ck_assert_msg(memcmp(a->top[k], b->top[k], a->n_top * sizeof *a->top[k]) == 0, "request %u: alternatives %u", i, k);
    }
    ck_assert_msg(strcmp(a->text, b->text) == 0, "request %u: \"%s\", without drafts \"%s\"", i, a->text, b->text);
}

enum { CROWD = 56 };
static struct graft_test_answer without[CROWD], with[CROWD];
static struct graft_test_prompt prompts[CROWD];

START_TEST(answers_are_bit_for_bit_those_without)
{
    static const char gbnf[] = "root ::= [a-z]{2,4} (\" \" [a-z]{2,4})*";
    struct graft_test_world world;
    struct graft_grammar *grammar;
    struct graft_adapter_use uses[2];
    int32_t ids[100];
    if (!graft_test_open_engine_world(&world, _i, 400, 4)) {
        return;
    }
    ck_assert_ok(graft_grammar_create(world.ctx, &grammar, gbnf, strlen(gbnf)));
    for (int drafts = 0; drafts < 3; drafts++) { // none, the oracle's, the text's own where they pay
        struct graft_test_answer *answers = drafts ? with : without;
        struct graft_engine_params params = {.size = sizeof params, .no_speculation = !drafts, .max_waiting = CROWD};
        struct graft_engine *engine;
        uint32_t drafted = 0, accepted = 0, off = 0;
        ck_assert_ok(graft_engine_create(world.model, &engine, &params));
        struct graft_test_oracle oracle = {prompts, without, CROWD};
        engine->meter.propose = drafts == 1 ? graft_test_foresee : NULL;
        engine->meter.user = &oracle;
        ck_assert_ok(graft_engine_run(engine, graft_test_load_all, NULL));
        for (uint32_t i = 0; i < CROWD; i++) {
            struct graft_request_params p = repeating(i, ids, uses, grammar);
            p.no_speculation = i == 40;
            memcpy(prompts[i].ids, ids, sizeof ids);
            prompts[i].n = p.n_tokens;
            graft_test_submit(engine, &answers[i], p);
        }
        for (uint32_t i = 0; i < CROWD; i++) {
            struct graft_request_stats stats = graft_test_end(&answers[i]);
            drafted += stats.draft_tokens;
            accepted += stats.accepted_tokens;
            off += i == 40 ? stats.draft_tokens : 0;
            ck_assert_uint_ge(stats.draft_tokens, stats.accepted_tokens);
        }
        struct graft_engine_stats stats;
        graft_engine_describe(engine, &stats);
        ck_assert(stats.draft_tokens == drafted && stats.accepted_tokens == accepted && off == 0);
        ck_assert_msg(drafts == 1   ? accepted > 15 && drafted > accepted + 15 && stats.draft_steps > 2
                      : drafts == 0 ? drafted == 0
                                    : drafted >= accepted,
                      "%u drafted, %u accepted, %u steps", drafted, accepted, (unsigned)stats.draft_steps);
        ck_assert_ok(graft_engine_run(engine, graft_test_release_all, NULL));
        graft_engine_destroy(&engine);
        ck_assert_uint_eq(world.model->kv->pages.n_free, world.model->limits.n_pages - 1);
        for (uint32_t i = 0; i < CROWD && drafts; i++) {
            expect_equal(&with[i], &without[i], i);
        }
    }
    graft_grammar_destroy(&grammar);
    graft_test_world_close(&world);
}
END_TEST

// ---- conversations ----

// What a conversation held at three times.
static struct {
    int32_t ids[600];
    uint32_t n;
} spoken[3];

// Guesses that are right about every second time.
static void remember(void *user, struct graft_speculation *s, const int32_t *ids, uint32_t n_ids, uint32_t most)
{
    (void)user;
    s->match = 3;
    s->n_tokens = 0;
    for (int k = 0; k < 3 && !s->n_tokens; k++) {
        if (n_ids < spoken[k].n && memcmp(ids, spoken[k].ids, n_ids * sizeof *ids) == 0) {
            for (; s->n_tokens < most && n_ids + s->n_tokens < spoken[k].n; s->n_tokens++) {
                s->tokens[s->n_tokens] = (spoken[k].ids[n_ids + s->n_tokens] + ((n_ids + s->n_tokens) % 3 == 0)) % 256;
            }
        }
    }
}

static void snapshot(int k, const struct graft_chat *chat)
{
    spoken[k].n = chat->n_ids;
    memcpy(spoken[k].ids, chat->ids, chat->n_ids * sizeof *chat->ids);
}

static void hear(struct graft_chat *chat, char *text, uint32_t pieces)
{
    bool done = false;
    for (uint32_t i = 0; i < pieces && !done; i++) {
        const char *piece;
        size_t length;
        ck_assert_ok(graft_chat_next(chat, &piece, &length, &done));
        strncat(text, piece, length);
    }
}

// Two questions, adapters changed in the middle of an answer, another conversation in between; with drafts and without.
START_TEST(conversations_are_those_without)
{
    static char texts[2][3][8192];
    struct graft_test_world world;
    memset(texts, 0, sizeof texts);
    ck_assert(graft_test_open_engine_world(&world, 0, 512, 2));
    ck_assert_ok(graft_test_load_all(world.model, NULL));
    for (int drafts = 0; drafts < 2; drafts++) {
        struct graft_chat *chat, *other;
        struct graft_chat_stats stats;
        struct graft_adapter_use use = {.adapter = graft_test_adapters[0], .weight = 1};
        struct graft_chat_params params = {.size = sizeof params, .max_tokens = 90, .no_speculation = !drafts};
        params.sampling = (struct graft_sampling){.seed = 9, .top_k = 20, .repeat_penalty = 1.05f};
        ck_assert_ok(graft_chat_create(world.model, &chat, &params));
        params.sampling.seed = 10;
        ck_assert_ok(graft_chat_create(world.model, &other, &params));
        chat->meter.propose = remember;
        other->meter.propose = remember;
        ck_assert_ok(graft_chat_send(chat, "first", 5));
        hear(chat, texts[drafts][0], 1000);
        if (!drafts) {
            snapshot(0, chat);
        }
        graft_chat_last_stats(chat, &stats);
        ck_assert(drafts ? stats.accepted_tokens > 10 && stats.draft_tokens > stats.accepted_tokens : stats.draft_tokens == 0);
        ck_assert(stats.context_used <= chat->n_ids && stats.answer_tokens <= 90);
        ck_assert_ok(graft_chat_send(chat, "second", 6));
        hear(chat, texts[drafts][1], 7);
        ck_assert_ok(graft_chat_send(other, "third", 5));
        for (int i = 0; i < 5; i++) {
            hear(chat, texts[drafts][1], 1);
            hear(other, texts[drafts][2], 1);
        }
        if (!drafts) {
            snapshot(1, chat);
        }
        ck_assert_ok(graft_chat_set_adapters(chat, &use, 1));
        ck_assert_ok(graft_chat_send(chat, "fourth", 6));
        hear(chat, texts[drafts][1], 1000);
        hear(other, texts[drafts][2], 1000);
        if (!drafts) {
            snapshot(2, chat);
        }
        graft_chat_destroy(&other);
        graft_chat_destroy(&chat);
    }
    for (int i = 0; i < 3; i++) {
        ck_assert_msg(texts[0][i][0] && strcmp(texts[0][i], texts[1][i]) == 0, "%d: \"%s\", without drafts \"%s\"", i,
                      texts[1][i], texts[0][i]);
    }
    ck_assert_ok(graft_test_release_all(world.model, NULL));
    graft_test_world_close(&world);
}
END_TEST

// ---- the distribution ----

// Upper quantile of chi-square by Wilson and Hilferty 1931: n (1 - 2 / 9n + z sqrt(2 / 9n))^3; z = 3.719: 1 in 10,000.
static double chi_square_bound(double n)
{
    double v = 2 / (9 * n), c = 1 - v + 3.719 * sqrt(v);
    return n * c * c * c;
}

enum { PLACES = 3 };
static double counts[2][PLACES][GRAFT_TEST_VOCAB];

// What was said most often at a place without drafts: sometimes that is what comes.
static void guess_the_usual(void *user, struct graft_speculation *s, const int32_t *ids, uint32_t n_ids, uint32_t most)
{
    uint32_t said = n_ids - *(const uint32_t *)user;
    (void)ids;
    s->match = 2;
    for (s->n_tokens = 0; s->n_tokens < most; s->n_tokens++) {
        const double *seen = counts[0][said + s->n_tokens];
        int32_t usual = 0;
        for (int32_t id = 0; id < GRAFT_TEST_VOCAB; id++) {
            usual = seen[id] > seen[usual] ? id : usual;
        }
        s->tokens[s->n_tokens] = usual;
    }
}

// Answers of three tokens behind a prompt that makes drafts: with and without speculation, other seeds for each, so that the
// draws are independent. Two-sample chi-square over each of the three places.
START_TEST(samples_have_the_distribution_of_those_without)
{
    enum { N = 3000 };
    uint32_t n_prompt = GRAFT_PAGE_TOKENS + 1; // a page that is reused: no steps with rows of prompts
    struct graft_test_world world;
    int32_t ids[GRAFT_PAGE_TOKENS + 1] = {0};
    ck_assert(graft_test_open_engine_world(&world, 0, 256, 8));
    memset(counts, 0, sizeof counts);
    for (uint32_t i = 0; i < n_prompt; i++) {
        ids[i] = (int32_t)(i % 4 * 40 + 10);
    }
    for (int drafts = 0; drafts < 2; drafts++) {
        enum { ROUND = 60 };
        static struct graft_test_answer answers[ROUND];
        struct graft_engine_params params = {.size = sizeof params, .no_speculation = !drafts};
        struct graft_engine *engine;
        struct graft_engine_stats stats;
        ck_assert_ok(graft_engine_create(world.model, &engine, &params));
        engine->meter.propose = guess_the_usual;
        engine->meter.user = &n_prompt;
        for (uint32_t i = 0; i < N; i += ROUND) {
            for (uint32_t k = 0; k < ROUND; k++) {
                struct graft_request_params p = {.tokens = ids, .n_tokens = n_prompt, .max_tokens = PLACES};
                p.sampling =
                    (struct graft_sampling){.seed = 1 + i + k + (drafts ? 5000000 : 0), .temperature = 0.6f, .top_k = 12};
                graft_test_submit(engine, &answers[k], p);
            }
            for (uint32_t k = 0; k < ROUND; k++) {
                graft_test_end(&answers[k]);
                for (uint32_t t = 0; t < answers[k].n; t++) {
                    counts[drafts][t][answers[k].tokens[t]]++;
                }
            }
        }
        graft_engine_describe(engine, &stats);
        ck_assert_msg(!drafts || (stats.draft_tokens > N && stats.accepted_tokens > N / 20 &&
                                  stats.accepted_tokens < stats.draft_tokens - N / 20),
                      "%u drafted, %u accepted", (unsigned)stats.draft_tokens, (unsigned)stats.accepted_tokens);
        graft_engine_destroy(&engine);
    }
    for (uint32_t t = 0; t < PLACES; t++) {
        double sum = 0, rest[2] = {0, 0}, cells = 0;
        for (uint32_t id = 0; id <= GRAFT_TEST_VOCAB; id++) { // seldom ones together
            double a = id < GRAFT_TEST_VOCAB ? counts[0][t][id] : rest[0],
                   b = id < GRAFT_TEST_VOCAB ? counts[1][t][id] : rest[1];
            if (a + b < 10 && id < GRAFT_TEST_VOCAB) {
                rest[0] += a;
                rest[1] += b;
            } else if (a + b > 0) {
                sum += (a - b) * (a - b) / (a + b);
                cells++;
            }
        }
        ck_assert_msg(cells > 3 && sum < chi_square_bound(cells - 1), "token %u: chi-square %.1f of %.0f cells, allowed %.1f",
                      t, sum, cells, chi_square_bound(cells - 1));
        printf("token %u: chi-square %.1f of %.0f cells, allowed %.1f\n", t, sum, cells, chi_square_bound(cells - 1));
    }
    graft_test_world_close(&world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("speculate");
    TCase *tests = tcase_create("speculate");
    tcase_set_timeout(tests, 300);
    tcase_add_test(tests, drafts_are_what_followed_before);
    tcase_add_test(tests, only_what_pays_is_computed);
    tcase_add_test(tests, pauses_beside_prompts_are_short);
    tcase_add_loop_test(tests, answers_are_bit_for_bit_those_without, 0, 3);
    tcase_add_test(tests, conversations_are_those_without);
    tcase_add_test(tests, samples_have_the_distribution_of_those_without);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
