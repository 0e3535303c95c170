// SPDX-License-Identifier: Apache-2.0
// What graft_combine refuses and how it says so; what is left when memory, budget or patience run out.
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "graft/graft.h"
#include "loaders/adapter.h"
#include "runtime/merge/lapack.h"
#include "support/merge_files.h"
#include "support/support.h"

enum { PATH = 512 };

static char work[GRAFT_MERGE_PATH_BYTES], out[GRAFT_MERGE_PATH_BYTES];
static struct graft_ctx *ctx;
static struct graft_combine_adapter inputs[GRAFT_COMBINE_MAX_ADAPTERS + 1];
static char paths[GRAFT_COMBINE_MAX_ADAPTERS + 1][PATH];

static void begin(void)
{
    graft_merge_folder_begin(work);
    snprintf(out, sizeof out, "%s", graft_merge_at(work, "out"));
    ctx = graft_test_ctx(NULL, 0);
}

static void end(void)
{
    graft_ctx_destroy(&ctx);
    graft_merge_folder_end(work);
}

// Adapters by their folders below tests/golden; weight 1.
static struct graft_combine_params given(const char *method, double density, uint32_t n, const char *const *names)
{
    for (uint32_t i = 0; i < n; i++) {
        snprintf(paths[i], PATH, "%s/golden/%s", GRAFT_TEST_SOURCE_DIR, names[i]);
        inputs[i] = (struct graft_combine_adapter){.path = paths[i], .weight = 1};
    }
    return (struct graft_combine_params){
        .size = sizeof(struct graft_combine_params), .adapters = inputs, .n_adapters = n, .method = method, .density = density};
}
#define GIVEN(method, density, ...)                                                                                            \
    given(method, density, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), (const char *const[]){__VA_ARGS__})

static void check_refused(const struct graft_combine_params *params, enum graft_status status, const char *text)
{
    struct graft_combine_report *report = (void *)&report;
    ck_assert_status(graft_combine(ctx, out, params, &report), status);
    ck_assert_error_has(text);
    ck_assert_ptr_null(report);
    ck_assert_int_ne(access(out, F_OK), 0);
}

#define ONE "combine/in/one"
#define TWO "combine/in/two"

START_TEST(parameters_out_of_range_are_named)
{
    struct graft_combine_params p = GIVEN("mean", 0, ONE, TWO);
    check_refused(&p, GRAFT_E_ARGUMENT, "method \"mean\" is not known; there are cat, svd, linear");
    p = GIVEN("cat", 0, ONE, TWO);
    p.size--;
    check_refused(&p, GRAFT_E_ARGUMENT, "params->size");
    p = GIVEN("cat", 0, ONE, TWO);
    p.n_adapters = 0;
    check_refused(&p, GRAFT_E_ARGUMENT, "1 to 16 adapters");
    p.n_adapters = GRAFT_COMBINE_MAX_ADAPTERS + 1;
    check_refused(&p, GRAFT_E_ARGUMENT, "given are 17");
    p = GIVEN("cat", 0, ONE, TWO);
    inputs[1].weight = NAN;
    check_refused(&p, GRAFT_E_ARGUMENT, "adapter 2");
    p = GIVEN("cat", 0.5, ONE, TWO);
    check_refused(&p, GRAFT_E_ARGUMENT, "cat prunes nothing");
    p = GIVEN("ties", 0, ONE, TWO);
    check_refused(&p, GRAFT_E_ARGUMENT, "ties needs a density");
    p = GIVEN("ties", 0.5, ONE, TWO);
    inputs[1].density = 1.5;
    check_refused(&p, GRAFT_E_ARGUMENT, "in/two it is 1.5");
    p = GIVEN("ties", -0.5, ONE, TWO);
    check_refused(&p, GRAFT_E_ARGUMENT, "-0.5");
    p = GIVEN("ties", 0.5, ONE, TWO);
    p.majority_sign_method = "median";
    check_refused(&p, GRAFT_E_ARGUMENT, "there are total, frequency");
    p = GIVEN("linear", 0, ONE, TWO);
    p.majority_sign_method = "total";
    check_refused(&p, GRAFT_E_ARGUMENT, "linear has no election");
    p = GIVEN("cat", 0, ONE, TWO);
    p.svd_rank = 4;
    check_refused(&p, GRAFT_E_ARGUMENT, "not for cat");
    p = GIVEN("svd", 0, ONE, TWO);
    p.svd_rank = 257;
    check_refused(&p, GRAFT_E_ARGUMENT, "svd_rank is 257");
    p = GIVEN("svd", 0, ONE, TWO);
    p.svd_clamp = -1;
    check_refused(&p, GRAFT_E_ARGUMENT, "svd_clamp -1");
    p = GIVEN("svd", 0, ONE, TWO);
    p.dtype = "f64";
    check_refused(&p, GRAFT_E_ARGUMENT, "dtype \"f64\"");
    p = GIVEN("svd", 0, ONE, TWO);
    snprintf(paths[1], PATH, "%s", out);
    check_refused(&p, GRAFT_E_ARGUMENT, "is an input and the output");
}
END_TEST

START_TEST(adapters_that_do_not_fit_together_are_named)
{
    struct graft_combine_params p = GIVEN("linear", 0, ONE, "combine/in/wide");
    check_refused(&p, GRAFT_E_ARGUMENT, "self_attn.q_proj has rank 4 in");
    ck_assert_error_has("and 6 in");
    ck_assert_error_has("cat and svd do not");
    p = GIVEN("ties", 0.5, ONE, "combine/in/wide");
    check_refused(&p, GRAFT_E_ARGUMENT, "needs equal ones");
    p = GIVEN("cat", 0, "peft/rank256", "peft/rank256");
    check_refused(&p, GRAFT_E_LIMIT, "would get rank 512");
    p = GIVEN("cat", 0, "peft/alora", "peft/plain");
    check_refused(&p, GRAFT_E_ARGUMENT, "different alora_invocation_tokens (2 and 0 of them)");
    p = GIVEN("cat", 0, "combine/in/nothing", TWO);
    check_refused(&p, GRAFT_E_IO, "nothing");
    p = GIVEN("cat", 0, ONE, "adapter/peft");
    p.base = paths[0];
    check_refused(&p, GRAFT_E_IO, "in/one");
}
END_TEST

START_TEST(dora_is_kept_or_refused)
{
    static const char *const pruning[] = {"ties", "dare_linear", "magnitude_prune_svd"};
    struct graft_combine_params p = GIVEN("cat", 0, "peft/dora", "peft/plain");
    check_refused(&p, GRAFT_E_ARGUMENT, "dora: model.layers.0.self_attn.q_proj is DoRA");
    ck_assert_error_has("merge them into the base");
    p = GIVEN("svd", 0, "peft/plain", "peft/dora");
    check_refused(&p, GRAFT_E_ARGUMENT, "and " GRAFT_TEST_SOURCE_DIR "/golden/peft/plain changes the same module");
    p = GIVEN("cat", 0, "peft/dora");
    inputs[0].weight = 0.5;
    check_refused(&p, GRAFT_E_ARGUMENT, "DoRA with weight 0.5");
    for (size_t i = 0; i < 3; i++) {
        p = GIVEN(pruning[i], 0.5, "peft/dora", "peft/dora");
        check_refused(&p, GRAFT_E_ARGUMENT, "is DoRA, and");
    }
    p = GIVEN("cat", 0, "peft/dora-patterns", "peft/rank1"); // up_proj is in both; without it, one is DoRA and one is not
    check_refused(&p, GRAFT_E_ARGUMENT, "is DoRA");
}
END_TEST

START_TEST(what_has_no_meaning_for_a_method_is_refused)
{
    struct graft_combine_params p = GIVEN("ties", 0.5, "peft/bias", "peft/bias");
    check_refused(&p, GRAFT_E_ARGUMENT, "has a bias (lora_bias)");
    p = GIVEN("magnitude_prune", 0.5, "peft/norms", "peft/norms");
    check_refused(&p, GRAFT_E_ARGUMENT, "replaces a tensor of the base (modules_to_save)");
    p = GIVEN("cat", 0, "peft/norms", "peft/norms");
    check_refused(&p, GRAFT_E_ARGUMENT, "sum to 2");
    p = GIVEN("cat", 0, "peft/head", "peft/embed-head");
    check_refused(&p, GRAFT_E_ARGUMENT, "changes by A and B");
    p = GIVEN("cat", 0, "peft/head");
    inputs[0].weight = 0.5;
    check_refused(&p, GRAFT_E_ARGUMENT, "sum to 0.5");
    p = GIVEN("cat", 0, "peft/bias", "peft/embed-head");
    check_refused(&p, GRAFT_E_ARGUMENT, "embed_tokens, which cannot have the bias");
    p = GIVEN("cat", 0, "peft/plain");
    inputs[0].weight = 0;
    check_refused(&p, GRAFT_E_ARGUMENT, "leaves nothing");
    p = GIVEN("svd", 0, ONE, TWO);
    p.dtype = "f16";
    inputs[0].weight = 1e9;
    check_refused(&p, GRAFT_E_UNSUPPORTED, "beyond the largest F16");
    ck_assert_error_has("model.layers.1.");
}
END_TEST

static bool stop_after_two(void *user, uint64_t done, uint64_t total)
{
    (void)user;
    ck_assert_uint_eq(total, 5); // q, v, o, down, up
    return done < 2;
}

START_TEST(it_can_be_cancelled)
{
    struct graft_combine_params p = GIVEN("ties_svd", 0.5, ONE, TWO);
    p.progress = stop_after_two;
    check_refused(&p, GRAFT_E_CANCELLED, "after 2 of 5 modules");
}
END_TEST

// Whatever allocation fails: an error, nothing lost, what was at the output's place still there.
START_TEST(every_failed_allocation_is_survived)
{
    static const struct {
        const char *method;
        double density;
    } methods[] = {{"cat", 0}, {"svd", 0}, {"ties", 0.5}, {"dare_ties_svd", 0.5}, {"magnitude_prune_svd", 0.5}};
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
        struct graft_combine_params p = GIVEN(methods[m].method, methods[m].density, ONE, TWO);
        bool done = false;
        ck_assert_ok(graft_combine(ctx, out, &p, NULL));
        for (uint64_t n = 1; !done; n += n < 400 ? 1 : 37) {
            struct graft_test_alloc alloc = {.fail_at = n};
            struct graft_ctx *failing = NULL;
            struct graft_combine_params q = p;
            if (graft_ctx_create(&failing, &(struct graft_ctx_params){.size = sizeof(struct graft_ctx_params),
                                                                      .alloc = graft_test_alloc,
                                                                      .free = graft_test_free,
                                                                      .alloc_user = &alloc}) == GRAFT_OK) {
                struct graft_combine_report *report;
                enum graft_status status = graft_combine(failing, out, &q, &report);
                done = alloc.requests < n; // removing the replaced folder may fail, the new one is in its place then
                ck_assert_msg(status == GRAFT_OK || (!done && status == GRAFT_E_MEMORY), "allocation %u of %s: %s", (unsigned)n,
                              methods[m].method, graft_last_error());
                ck_assert((report != NULL) == (status == GRAFT_OK));
                graft_combine_report_free(&report);
                graft_ctx_destroy(&failing);
            }
            ck_assert_uint_eq(alloc.live, 0);
            struct graft_adapter_desc *desc;
            ck_assert_ok(graft_adapter_read(ctx, &desc, out));
            graft_adapter_free(&desc);
        }
    }
}
END_TEST

START_TEST(the_budget_holds)
{
    struct graft_combine_params p = GIVEN("ties_svd", 0.5, ONE, TWO);
    struct graft_ctx *measured = graft_test_ctx(NULL, UINT64_C(1) << 40), *tight, *short_of;
    struct graft_memory_use use;
    ck_assert_ok(graft_combine(measured, out, &p, NULL));
    graft_ctx_memory(measured, &use);
    ck_assert_uint_eq(use.used_bytes, 0);
    tight = graft_test_ctx(NULL, use.peak_bytes);
    ck_assert_ok(graft_combine(tight, out, &p, NULL));
    short_of = graft_test_ctx(NULL, use.peak_bytes - 1);
    ck_assert_status(graft_combine(short_of, out, &p, NULL), GRAFT_E_BUDGET);
    graft_ctx_memory(short_of, &use);
    ck_assert_uint_eq(use.used_bytes, 0);
    graft_ctx_destroy(&measured);
    graft_ctx_destroy(&tight);
    graft_ctx_destroy(&short_of);
}
END_TEST

START_TEST(reports_say_what_became_of_each_module)
{
    struct graft_combine_params p = GIVEN("svd", 0, ONE, TWO);
    struct graft_combine_report *report;
    struct graft_combine_summary sum;
    struct graft_combine_module m;
    double norm = 0, difference = 0;
    uint64_t bytes = 0;
    ck_assert_ok(graft_combine(ctx, out, &p, &report));
    graft_combine_summarize(report, &sum);
    ck_assert_str_eq(sum.method, "svd");
    ck_assert_str_eq(sum.dtype, "f32");
    ck_assert_uint_eq(sum.n_modules, 5);
    ck_assert_uint_eq(sum.rank, 4);
    for (uint32_t i = 0; i < sum.n_modules; i++) {
        ck_assert_ok(graft_combine_module(report, i, &m));
        bool alone = strstr(m.name, "down") || strstr(m.name, "up_") || strstr(m.name, "o_proj");
        ck_assert_uint_eq(m.n_adapters, alone ? 1 : 2);
        ck_assert_msg(alone ? m.error < 1e-6 : m.error > 0.1 && m.error < 0.8, "%s: %g", m.name, m.error);
        norm += m.norm * m.norm;
        difference += m.error * m.error * m.norm * m.norm;
        bytes += m.bytes;
    }
    ck_assert_str_eq((graft_combine_module(report, 0, &m) == GRAFT_OK ? m.name : ""), "model.layers.1.self_attn.q_proj");
    ck_assert_double_eq_tol(sum.norm, sqrt(norm), 1e-9 * sum.norm);
    ck_assert_double_eq_tol(sum.error, sqrt(difference / norm), 1e-9);
    ck_assert_uint_eq(sum.bytes, bytes);
    ck_assert_uint_eq(sum.n_parameters * 4, bytes);
    ck_assert_status(graft_combine_module(report, sum.n_modules, &m), GRAFT_E_ARGUMENT);
    graft_combine_report_free(&report);
    for (uint32_t i = 0; i < 11; i++) {
        ck_assert_ptr_nonnull(graft_combine_method(i));
    }
    ck_assert_ptr_null(graft_combine_method(11));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("combine_refusals");
    TCase *tcase = tcase_create("combine_refusals");
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_set_timeout(tcase, 120);
    if (graft_lapack_require("this") != GRAFT_OK) {
        printf("skipped: refusals of methods with an SVD, in a build without LAPACK\n");
    } else {
        tcase_add_test(tcase, parameters_out_of_range_are_named);
        tcase_add_test(tcase, dora_is_kept_or_refused);
        tcase_add_test(tcase, what_has_no_meaning_for_a_method_is_refused);
        tcase_add_test(tcase, it_can_be_cancelled);
        tcase_add_test(tcase, every_failed_allocation_is_survived);
        tcase_add_test(tcase, the_budget_holds);
        tcase_add_test(tcase, reports_say_what_became_of_each_module);
    }
    tcase_add_test(tcase, adapters_that_do_not_fit_together_are_named);
    suite_add_tcase(suite, tcase);
    return graft_test_main(suite);
}
