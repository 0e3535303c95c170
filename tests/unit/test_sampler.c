// SPDX-License-Identifier: Apache-2.0
// Sampling: every filter against numbers worked out by hand, the draw against its distribution (chi-square, fixed seeds).
#include <math.h>
#include <string.h>

#include "graft/chat.h"
#include "runtime/session/session.h"
#include "support/support.h"
#include "support/vocab_fixture.h"

static struct graft_ctx *ctx;

static void set_up(void)
{
    ctx = graft_test_ctx(NULL, 0);
}

static void tear_down(void)
{
    struct graft_memory_use use;
    graft_ctx_memory(ctx, &use);
    ck_assert_uint_eq(use.used_bytes, 0);
    graft_ctx_destroy(&ctx);
}

#define SAMPLING(...) ((struct graft_sampling){.size = sizeof(struct graft_sampling), __VA_ARGS__})
#define PLAIN         .temperature = 1.0f, .top_k = UINT32_MAX, .top_p = 1.0f, .min_p = -1.0f

enum { N = 6 };
// Probabilities 0.4 0.25 0.15 0.1 0.06 0.04 of ids 10 .. 15.
static const double probabilities[N] = {0.4, 0.25, 0.15, 0.1, 0.06, 0.04};

static void fill(struct graft_candidate candidates[N])
{
    for (int i = 0; i < N; i++) {
        candidates[i] = (struct graft_candidate){10 + i, (float)log(probabilities[i]) + 3.0f}; // any offset
    }
}

static struct graft_sampler *make(struct graft_sampling sampling)
{
    struct graft_sampler *sampler;
    ck_assert_ok(graft_sampler_create(ctx, &sampler, &sampling, 32));
    return sampler;
}

static void draw(struct graft_sampler *sampler, uint32_t n, uint32_t counts[N])
{
    memset(counts, 0, N * sizeof *counts);
    for (uint32_t k = 0; k < n; k++) {
        struct graft_candidate candidates[N];
        fill(candidates);
        int32_t id;
        ck_assert_ok(graft_sampler_choose(sampler, candidates, N, &id));
        ck_assert(id >= 10 && id < 10 + N);
        counts[id - 10]++;
    }
}

// Draw 20,000 times and compare with expected probabilities: chi-square with up to 5 degrees of freedom stays below 20.5 with
// probability 0.999.
static void expect(struct graft_sampling sampling, const double wanted[N])
{
    struct graft_sampler *sampler = make(sampling);
    uint32_t counts[N];
    enum { DRAWS = 20000 };
    draw(sampler, DRAWS, counts);
    double chi = 0.0;
    for (int i = 0; i < N; i++) {
        double expected = wanted[i] * DRAWS;
        if (expected == 0.0) {
            ck_assert_msg(counts[i] == 0, "id %d was drawn %u times", 10 + i, counts[i]);
        } else {
            chi += (counts[i] - expected) * (counts[i] - expected) / expected;
        }
    }
    ck_assert_msg(chi < 20.5, "chi-square %g", chi);
    graft_sampler_destroy(&sampler);
}

START_TEST(temperature_one_draws_the_model_s_distribution)
{
    expect(SAMPLING(PLAIN, .seed = 1), probabilities);
    expect(SAMPLING(PLAIN, .seed = 2), probabilities);
}
END_TEST

START_TEST(temperature_sharpens_and_flattens)
{
    double sharp[N], flat[N], sum_sharp = 0, sum_flat = 0;
    for (int i = 0; i < N; i++) {
        sum_sharp += sharp[i] = pow(probabilities[i], 1 / 0.5);
        sum_flat += flat[i] = pow(probabilities[i], 1 / 2.0);
    }
    for (int i = 0; i < N; i++) {
        sharp[i] /= sum_sharp;
        flat[i] /= sum_flat;
    }
    struct graft_sampling sampling = SAMPLING(PLAIN, .seed = 3);
    sampling.temperature = 0.5f;
    expect(sampling, sharp);
    sampling.temperature = 2.0f;
    expect(sampling, flat);
}
END_TEST

START_TEST(top_k_keeps_the_first_k)
{
    struct graft_sampling sampling = SAMPLING(PLAIN, .seed = 4);
    sampling.top_k = 2;
    expect(sampling, (double[N]){0.4 / 0.65, 0.25 / 0.65});
    sampling.top_k = 1;
    expect(sampling, (double[N]){1.0});
}
END_TEST

START_TEST(top_p_keeps_the_smallest_set_that_reaches_p)
{
    struct graft_sampling sampling = SAMPLING(PLAIN, .seed = 5);
    sampling.top_p = 0.7f; // 0.4 + 0.25 = 0.65 is not enough, with 0.15 it is
    expect(sampling, (double[N]){0.4 / 0.8, 0.25 / 0.8, 0.15 / 0.8});
    sampling.top_p = 0.3f;
    expect(sampling, (double[N]){1.0});
}
END_TEST

START_TEST(min_p_keeps_what_is_near_the_best)
{
    struct graft_sampling sampling = SAMPLING(PLAIN, .seed = 6);
    sampling.min_p = 0.3f; // at least 0.12
    expect(sampling, (double[N]){0.4 / 0.8, 0.25 / 0.8, 0.15 / 0.8});
    sampling.min_p = 1.0f;
    expect(sampling, (double[N]){1.0});
}
END_TEST

START_TEST(filters_come_in_their_order)
{
    // top-k 4 first (0.4 0.25 0.15 0.1 of 0.9), then top-p 0.8 of that (0.444 + 0.278 + 0.167), then min-p 0.5 (at least 0.2),
    // then temperature.
    struct graft_sampling sampling = SAMPLING(.temperature = 0.5f, .top_k = 4, .top_p = 0.8f, .min_p = 0.5f, .seed = 7);
    expect(sampling, (double[N]){0.16 / 0.2225, 0.0625 / 0.2225});
}
END_TEST

START_TEST(greedy_is_the_best_and_the_smaller_id_of_equals)
{
    struct graft_sampler *sampler = make(SAMPLING(.temperature = -1.0f));
    struct graft_candidate candidates[3] = {{4, 2.0f}, {9, 2.0f}, {1, 1.0f}};
    int32_t id;
    ck_assert_ok(graft_sampler_choose(sampler, candidates, 3, &id));
    ck_assert_int_eq(id, 4);
    graft_sampler_destroy(&sampler);
}
END_TEST

// Logits after penalties, seen through greedy choices: which of two is larger.
static int32_t after_penalty(struct graft_sampling sampling, const int32_t *seen, size_t n_seen, float logit_1, float logit_2)
{
    sampling.temperature = -1.0f;
    struct graft_sampler *sampler = make(sampling);
    for (size_t i = 0; i < n_seen; i++) {
        graft_sampler_accept(sampler, seen[i]);
    }
    struct graft_candidate candidates[2] = {{1, logit_1}, {2, logit_2}};
    int32_t id;
    ck_assert_ok(graft_sampler_choose(sampler, candidates, 2, &id));
    graft_sampler_destroy(&sampler);
    return id;
}

START_TEST(penalties_change_the_logits_of_recent_tokens_as_published)
{
    const int32_t once[] = {1}, thrice[] = {1, 1, 1}, old[] = {1, 3, 3};
    struct graft_sampling repeat = SAMPLING(.repeat_penalty = 2.0f);
    ck_assert_int_eq(after_penalty(repeat, once, 1, 4.0f, 2.1f), 2);   // 4 / 2 = 2 < 2.1
    ck_assert_int_eq(after_penalty(repeat, once, 1, 4.4f, 2.1f), 1);   // 2.2
    ck_assert_int_eq(after_penalty(repeat, once, 1, -1.0f, -1.9f), 2); // -1 * 2 = -2
    ck_assert_int_eq(after_penalty(repeat, once, 1, -0.9f, -1.9f), 1);
    ck_assert_int_eq(after_penalty(repeat, thrice, 3, 4.4f, 2.1f), 1); // once, however often
    struct graft_sampling presence = SAMPLING(.presence_penalty = 1.0f);
    ck_assert_int_eq(after_penalty(presence, thrice, 3, 4.0f, 2.9f), 1); // 3
    ck_assert_int_eq(after_penalty(presence, thrice, 3, 4.0f, 3.1f), 2);
    struct graft_sampling frequency = SAMPLING(.frequency_penalty = 0.5f);
    ck_assert_int_eq(after_penalty(frequency, thrice, 3, 4.0f, 2.4f), 1); // 2.5
    ck_assert_int_eq(after_penalty(frequency, thrice, 3, 4.0f, 2.6f), 2);
    struct graft_sampling window = SAMPLING(.presence_penalty = 1.0f, .penalty_window = 2);
    ck_assert_int_eq(after_penalty(window, old, 3, 4.0f, 3.5f), 1); // the 1 has left the window
    ck_assert_int_eq(after_penalty(window, old, 2, 4.0f, 3.5f), 2);
}
END_TEST

START_TEST(a_seed_repeats_and_seeds_differ)
{
    uint32_t same = 0;
    struct graft_sampler *a = make(SAMPLING(PLAIN, .seed = 99)), *b = make(SAMPLING(PLAIN, .seed = 99)),
                         *c = make(SAMPLING(PLAIN, .seed = 100));
    for (int k = 0; k < 200; k++) {
        struct graft_candidate candidates[N];
        int32_t ids[3];
        struct graft_sampler *all[3] = {a, b, c};
        for (int i = 0; i < 3; i++) {
            fill(candidates);
            ck_assert_ok(graft_sampler_choose(all[i], candidates, N, &ids[i]));
        }
        ck_assert_int_eq(ids[0], ids[1]);
        same += ids[0] == ids[2];
    }
    ck_assert_uint_lt(same, 120); // by chance about 26 %
    ck_assert_uint_eq(graft_sampler_seed(a), 99);
    graft_sampler_destroy(&a);
    graft_sampler_destroy(&b);
    graft_sampler_destroy(&c);
    a = make(SAMPLING(PLAIN));
    ck_assert_uint_ne(graft_sampler_seed(a), 0);
    graft_sampler_destroy(&a);
}
END_TEST

START_TEST(whole_rows_are_wanted_exactly_when_64_candidates_are_not_enough)
{
    static const struct {
        struct graft_sampling sampling;
        bool wants;
    } cases[] = {{{.size = sizeof(struct graft_sampling)}, false},
                 {{.size = sizeof(struct graft_sampling), .temperature = -1.0f, .top_k = UINT32_MAX}, false},
                 {{.size = sizeof(struct graft_sampling), .top_k = 64}, false},
                 {{.size = sizeof(struct graft_sampling), .top_k = 65}, true},
                 {{.size = sizeof(struct graft_sampling), .top_k = UINT32_MAX}, true},
                 {{.size = sizeof(struct graft_sampling), .repeat_penalty = 1.1f}, true},
                 {{.size = sizeof(struct graft_sampling), .typical_p = 0.5f, .xtc_probability = 0.5f}, false},
                 {{.size = sizeof(struct graft_sampling), .top_n_sigma = 1.0f}, true},
                 {{.size = sizeof(struct graft_sampling), .mirostat = 2}, true},
                 {{.size = sizeof(struct graft_sampling), .temperature = -1.0f, .mirostat = 2}, false},
                 {{.size = sizeof(struct graft_sampling), .temperature = -1.0f, .dry_multiplier = 1.0f}, true},
                 {{.size = sizeof(struct graft_sampling), .temperature = -1.0f, .presence_penalty = 1.0f}, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct graft_sampler *sampler = make(cases[i].sampling);
        ck_assert_msg(graft_sampler_wants_logits(sampler) == cases[i].wants, "case %zu", i);
        graft_sampler_destroy(&sampler);
    }
}
END_TEST

START_TEST(settings_out_of_range_are_refused)
{
    static const struct graft_logit_bias outside = {32, 1.0f};
    static const struct graft_sampling bad[] = {{.size = sizeof(struct graft_sampling), .temperature = NAN},
                                                {.size = sizeof(struct graft_sampling), .top_p = 1.5f},
                                                {.size = sizeof(struct graft_sampling), .top_p = -0.5f},
                                                {.size = sizeof(struct graft_sampling), .min_p = 1.5f},
                                                {.size = sizeof(struct graft_sampling), .repeat_penalty = -1},
                                                {.size = sizeof(struct graft_sampling), .presence_penalty = INFINITY},
                                                {.size = sizeof(struct graft_sampling), .penalty_window = 1u << 21},
                                                {.size = sizeof(struct graft_sampling), .typical_p = 1.5f},
                                                {.size = sizeof(struct graft_sampling), .top_n_sigma = -1.0f},
                                                {.size = sizeof(struct graft_sampling), .xtc_probability = 2.0f},
                                                {.size = sizeof(struct graft_sampling), .dry_base = 0.5f},
                                                {.size = sizeof(struct graft_sampling), .dry_window = 1u << 21},
                                                {.size = sizeof(struct graft_sampling), .mirostat = 3},
                                                {.size = sizeof(struct graft_sampling), .mirostat_tau = -1.0f},
                                                {.size = sizeof(struct graft_sampling), .n_biases = 1},
                                                {.size = sizeof(struct graft_sampling), .n_biases = 1, .biases = &outside},
                                                {.size = 4000}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct graft_sampler *sampler;
        ck_assert_status(graft_sampler_create(ctx, &sampler, &bad[i], 32), GRAFT_E_ARGUMENT);
    }
    struct graft_sampler *sampler = make(SAMPLING(PLAIN));
    struct graft_candidate candidates[2] = {{1, 1.0f}, {2, NAN}};
    int32_t id;
    ck_assert_status(graft_sampler_choose(sampler, candidates, 0, &id), GRAFT_E_ARGUMENT);
    ck_assert_status(graft_sampler_choose(sampler, candidates, 2, &id), GRAFT_E_NOT_FINITE);
    candidates[1].logit = INFINITY;
    ck_assert_status(graft_sampler_choose(sampler, candidates, 2, &id), GRAFT_E_NOT_FINITE);
    ck_assert_error_has("the logit of token 2 is infinite");
    graft_sampler_destroy(&sampler);
}
END_TEST

static float number(const json_t *settings, const char *name, float standard)
{
    const json_t *value = json_object_get(settings, name);
    return value ? (float)json_number_value(value) : standard;
}

// Every sampler, alone and with others, against the same written from its definition in numpy: with the same seed the same
// tokens are drawn, in all rows (tests/golden/make_sampling.py).
START_TEST(what_is_drawn_is_what_the_definitions_draw)
{
    enum { MOST = 150 };
    json_t *golden = graft_test_golden("sampling.json"), *settings, *rows = json_object_get(golden, "rows");
    size_t k;
    json_array_foreach(json_object_get(golden, "cases"), k, settings)
    {
        int32_t breakers[8];
        struct graft_logit_bias biases[MOST];
        struct graft_sampling s = SAMPLING(PLAIN);
        s.temperature = number(settings, "temperature", 1.0f);
        s.top_k = (uint32_t)number(settings, "top_k", MOST);
        s.top_p = number(settings, "top_p", 1.0f);
        s.min_p = number(settings, "min_p", -1.0f);
        s.typical_p = number(settings, "typical_p", 0.0f);
        s.top_n_sigma = number(settings, "top_n_sigma", 0.0f);
        s.xtc_probability = number(settings, "xtc_probability", 0.0f);
        s.xtc_threshold = number(settings, "xtc_threshold", 0.0f);
        s.dry_multiplier = number(settings, "dry_multiplier", 0.0f);
        s.dry_base = number(settings, "dry_base", 0.0f);
        s.dry_allowed_length = (uint32_t)number(settings, "dry_allowed_length", 0);
        s.dry_window = (uint32_t)number(settings, "dry_window", 0);
        s.mirostat = (uint32_t)number(settings, "mirostat", 0);
        s.mirostat_tau = number(settings, "mirostat_tau", 0.0f);
        s.mirostat_eta = number(settings, "mirostat_eta", 0.0f);
        s.repeat_penalty = number(settings, "repeat_penalty", 0.0f);
        s.presence_penalty = number(settings, "presence_penalty", 0.0f);
        s.frequency_penalty = number(settings, "frequency_penalty", 0.0f);
        s.penalty_window = (uint32_t)number(settings, "penalty_window", 0);
        s.seed = (uint64_t)json_integer_value(json_object_get(settings, "seed"));
        const json_t *list = json_object_get(settings, "biases"), *item;
        size_t i;
        json_array_foreach(list, i, item)
        {
            biases[i].id = (int32_t)json_integer_value(json_array_get(item, 0));
            biases[i].bias = (float)json_number_value(json_array_get(item, 1));
        }
        s.biases = biases;
        s.n_biases = (uint32_t)json_array_size(list);
        list = json_object_get(settings, "dry_breakers");
        json_array_foreach(list, i, item)
        {
            breakers[i] = (int32_t)json_integer_value(item);
        }
        s.dry_breakers = breakers;
        s.n_dry_breakers = (uint32_t)json_array_size(list);
        struct graft_sampler *sampler;
        ck_assert_ok(graft_sampler_create(ctx, &sampler, &s, MOST));
        json_array_foreach(json_object_get(settings, "history"), i, item)
        {
            graft_sampler_accept(sampler, (int32_t)json_integer_value(item));
        }
        json_array_foreach(rows, i, item)
        {
            struct graft_candidate candidates[MOST];
            for (int32_t id = 0; id < MOST; id++) {
                candidates[id] = (struct graft_candidate){id, (float)json_number_value(json_array_get(item, (size_t)id))};
            }
            graft_candidates_sort(candidates, MOST);
            int32_t got, want = (int32_t)json_integer_value(json_array_get(json_object_get(settings, "tokens"), i));
            ck_assert_ok(graft_sampler_choose(sampler, candidates, MOST, &got));
            ck_assert_msg(got == want, "case %zu, row %zu: drew %d, expected %d", k, i, got, want);
            graft_sampler_accept(sampler, got);
        }
        graft_sampler_destroy(&sampler);
    }
    ck_assert_uint_ge(k, 28);
    json_decref(golden);
}
END_TEST

START_TEST(odd_logits_and_settings_leave_something_to_draw)
{
    static const struct graft_logit_bias none[] = {
        {10, -INFINITY}, {11, -INFINITY}, {12, -INFINITY}, {13, -INFINITY}, {14, -INFINITY}};
    struct graft_sampling all[] = {SAMPLING(PLAIN, .typical_p = 0.5f), SAMPLING(PLAIN, .top_n_sigma = 0.5f),
                                   SAMPLING(PLAIN, .xtc_probability = 1.0f, .xtc_threshold = 0.01f),
                                   SAMPLING(PLAIN, .mirostat = 1), SAMPLING(PLAIN, .mirostat = 2, .mirostat_tau = 0.01f)};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        all[i].biases = none;
        all[i].n_biases = 5;
        all[i].seed = 1;
        struct graft_sampler *sampler = make(all[i]);
        for (int round = 0; round < 50; round++) {
            struct graft_candidate candidates[N];
            fill(candidates);
            int32_t id;
            ck_assert_ok(graft_sampler_choose(sampler, candidates, N, &id));
            ck_assert_msg(id == 15, "case %zu drew %d", i, id);
        }
        graft_sampler_destroy(&sampler);
    }
    // A long repetition gives a huge penalty, not an infinite one.
    struct graft_sampler *sampler = make(SAMPLING(.temperature = -1.0f, .dry_multiplier = 1.0f, .dry_base = 10.0f));
    for (int i = 0; i < 2000; i++) {
        graft_sampler_accept(sampler, 10);
    }
    struct graft_candidate candidates[N];
    fill(candidates);
    int32_t id;
    ck_assert_ok(graft_sampler_choose(sampler, candidates, N, &id));
    ck_assert_int_eq(id, 11);
    graft_sampler_destroy(&sampler);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sampler");
    TCase *tc = tcase_create("sampler");
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, temperature_one_draws_the_model_s_distribution);
    tcase_add_test(tc, temperature_sharpens_and_flattens);
    tcase_add_test(tc, top_k_keeps_the_first_k);
    tcase_add_test(tc, top_p_keeps_the_smallest_set_that_reaches_p);
    tcase_add_test(tc, min_p_keeps_what_is_near_the_best);
    tcase_add_test(tc, filters_come_in_their_order);
    tcase_add_test(tc, greedy_is_the_best_and_the_smaller_id_of_equals);
    tcase_add_test(tc, penalties_change_the_logits_of_recent_tokens_as_published);
    tcase_add_test(tc, a_seed_repeats_and_seeds_differ);
    tcase_add_test(tc, whole_rows_are_wanted_exactly_when_64_candidates_are_not_enough);
    tcase_add_test(tc, what_is_drawn_is_what_the_definitions_draw);
    tcase_add_test(tc, odd_logits_and_settings_leave_something_to_draw);
    tcase_add_test(tc, settings_out_of_range_are_refused);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
