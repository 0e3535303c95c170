// SPDX-License-Identifier: Apache-2.0
// Adapters combined, against PEFT's add_weighted_adapter (tests/golden/make_combine.py): every method, equal and unequal ranks,
// embeddings and head, negative weights; one adapter of every kind stays itself; masks and their statistics.
#define _GNU_SOURCE
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graft/graft.h"
#include "loaders/adapter.h"
#include "platform/plat.h"
#include "runtime/merge/elements.h"
#include "runtime/merge/lapack.h"
#include "runtime/merge/philox.h"
#include "runtime/quant/quant.h"
#include "support/merge_files.h"
#include "support/support.h"

enum { PATH = 512 };

static char work[GRAFT_MERGE_PATH_BYTES];
static struct graft_ctx *ctx;

static void begin(void)
{
    graft_merge_folder_begin(work);
    ctx = graft_test_ctx(NULL, 0);
}

static void end(void)
{
    graft_ctx_destroy(&ctx);
    graft_merge_folder_end(work);
}

static const char *golden(const char *folder, const char *name)
{
    static char paths[4][PATH];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, PATH, "%s/golden/%s/%s", GRAFT_TEST_SOURCE_DIR, folder, name);
    return path;
}

static struct graft_adapter_desc *read_adapter(const char *path)
{
    struct graft_adapter_desc *desc;
    ck_assert_ok(graft_adapter_read(ctx, &desc, path));
    return desc;
}

static float *values_of(const struct graft_adapter_view *view)
{
    float *out = malloc(view->rows * view->cols * sizeof *out);
    ck_assert_ptr_nonnull(out);
    graft_quant_find(view->type)->dequantize_row(view->data, out, view->rows * view->cols);
    return out;
}

// sum += factor * B A
static void add_product(const struct graft_adapter_pair *pair, double factor, double *sum)
{
    float *a = values_of(&pair->a), *b = values_of(&pair->b);
    uint64_t n_in = pair->a.cols;
    for (uint64_t i = 0; i < pair->b.rows; i++) {
        for (uint64_t k = 0; k < pair->rank; k++) {
            for (uint64_t j = 0; j < n_in; j++) {
                sum[i * n_in + j] += factor * (double)b[i * pair->rank + k] * (double)a[k * n_in + j];
            }
        }
    }
    free(a);
    free(b);
}

static const struct graft_adapter_pair *find_pair(const struct graft_adapter_desc *desc, const struct graft_adapter_pair *like)
{
    for (uint32_t i = 0; i < desc->n_pairs; i++) {
        if (desc->pairs[i].layer == like->layer && desc->pairs[i].target == like->target) {
            return &desc->pairs[i];
        }
    }
    return NULL;
}

static double norm_of(const double *x, uint64_t n)
{
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        sum += x[i] * x[i];
    }
    return sqrt(sum);
}

// The products of two adapters agree: || scale B A - scale' B' A' || <= tolerance * || scale' B' A' ||, module by module.
static void check_products(const struct graft_adapter_desc *got, const struct graft_adapter_desc *want, double tolerance,
                           const char *what)
{
    ck_assert_msg(got->n_pairs == want->n_pairs, "%s: %u modules, expected %u", what, got->n_pairs, want->n_pairs);
    for (uint32_t i = 0; i < want->n_pairs; i++) {
        const struct graft_adapter_pair *w = &want->pairs[i], *g = find_pair(got, w);
        ck_assert_msg(g && g->a.cols == w->a.cols && g->b.rows == w->b.rows, "%s: module %u", what, i);
        uint64_t n = w->a.cols * w->b.rows;
        double *sum = calloc(n, sizeof *sum);
        ck_assert_ptr_nonnull(sum);
        add_product(w, (double)w->scale, sum);
        double norm = norm_of(sum, n);
        add_product(g, -(double)g->scale, sum);
        double error = norm_of(sum, n) / norm;
        ck_assert_msg(norm > 0 && error <= tolerance, "%s: layer %u %s differs by %g of its norm", what, w->layer,
                      graft_target_name(w->target), error);
        free(sum);
    }
}

static void check_values(const struct graft_adapter_view *got, const struct graft_adapter_view *want, const char *what)
{
    ck_assert_msg(got->rows == want->rows && got->cols == want->cols, "%s: other shape", what);
    float *g = values_of(got), *w = values_of(want);
    for (uint64_t i = 0; i < want->rows * want->cols; i++) {
        ck_assert_msg(fabsf(g[i] - w[i]) <= 2e-6f * (1 + fabsf(w[i])), "%s: value %u is %g, expected %g", what, (unsigned)i,
                      (double)g[i], (double)w[i]);
    }
    free(g);
    free(w);
}

struct given {
    struct graft_combine_params params;
    struct graft_combine_adapter adapters[GRAFT_COMBINE_MAX_ADAPTERS];
    char paths[GRAFT_COMBINE_MAX_ADAPTERS][PATH];
};

static void from_json(const json_t *json, struct given *out)
{
    size_t i;
    json_t *input;
    *out = (struct given){0};
    out->params =
        (struct graft_combine_params){.size = sizeof out->params,
                                      .adapters = out->adapters,
                                      .method = json_string_value(json_object_get(json, "method")),
                                      .density = json_number_value(json_object_get(json, "density")),
                                      .majority_sign_method = json_string_value(json_object_get(json, "majority_sign_method")),
                                      .svd_rank = (uint32_t)json_integer_value(json_object_get(json, "svd_rank")),
                                      .svd_clamp = json_number_value(json_object_get(json, "svd_clamp")),
                                      .seed = (uint64_t)json_integer_value(json_object_get(json, "seed"))};
    json_array_foreach(json_object_get(json, "inputs"), i, input)
    {
        snprintf(out->paths[i], PATH, "%s/%s", golden("combine", "in"), json_string_value(json_array_get(input, 0)));
        out->adapters[i] =
            (struct graft_combine_adapter){.path = out->paths[i], .weight = json_number_value(json_array_get(input, 1))};
        out->params.n_adapters++;
    }
}

// False, in a build without LAPACK, for what needs an SVD; it must say so then.
static bool can_do(const struct given *given)
{
    bool svd = strstr(given->params.method, "svd") && graft_lapack_require("this") != GRAFT_OK;
    if (svd) {
        ck_assert_status(graft_combine(ctx, graft_merge_at(work, "out"), &given->params, NULL), GRAFT_E_UNSUPPORTED);
        ck_assert_error_has("LAPACKE and OpenBLAS");
        printf("skipped: %s, in a build without LAPACK\n", given->params.method);
    }
    return !svd;
}

static json_t *cases(void)
{
    json_error_t error;
    json_t *json = json_load_file(golden("combine", "cases.json"), 0, &error);
    ck_assert_msg(json != NULL, "%s", error.text);
    return json;
}

START_TEST(every_method_gives_what_peft_gives)
{
    json_t *json = cases(), *one;
    const char *name;
    size_t n = 0;
    json_object_foreach(json, name, one)
    {
        struct given given;
        from_json(one, &given);
        n++;
        if (!can_do(&given)) {
            continue;
        }
        ck_assert_msg(graft_combine(ctx, graft_merge_at(work, "out"), &given.params, NULL) == GRAFT_OK, "%s: %s", name,
                      graft_last_error());
        struct graft_adapter_desc *got = read_adapter(graft_merge_at(work, "out")),
                                  *want = read_adapter(golden("combine", name));
        check_products(got, want, 2e-6, name);
        const char *method = given.params.method;
        for (uint32_t i = 0; i < want->n_pairs && strcmp(method, "cat") != 0; i++) { // PEFT pads unequal ranks there
            const struct graft_adapter_pair *g = find_pair(got, &want->pairs[i]);
            if (g->rank == want->pairs[i].rank) { // an svd gives no rank that is all zeros
                ck_assert_float_eq(g->scale, 1);
                check_values(&g->a, &want->pairs[i].a, name);
                check_values(&g->b, &want->pairs[i].b, name);
            }
        }
        graft_adapter_free(&got);
        graft_adapter_free(&want);
    }
    ck_assert_uint_eq(n, 21);
    json_decref(json);
}
END_TEST

START_TEST(a_gguf_adapter_and_other_types_hold_the_same)
{
    static const struct {
        const char *dtype;
        double tolerance;
    } types[] = {{"f32", 2e-6}, {"f16", 2e-3}, {"bf16", 2e-2}};
    json_t *json = cases();
    struct given given;
    from_json(json_object_get(json, "unequal-cat"), &given);
    struct graft_adapter_desc *want = read_adapter(golden("combine", "unequal-cat")), *got;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        given.params.dtype = types[i].dtype;
        ck_assert_ok(graft_combine(ctx, graft_merge_at(work, "out"), &given.params, NULL));
        got = read_adapter(graft_merge_at(work, "out"));
        check_products(got, want, types[i].tolerance, types[i].dtype);
        graft_adapter_free(&got);
        ck_assert_status(graft_combine(ctx, graft_merge_at(work, "out.gguf"), &given.params, NULL),
                         GRAFT_E_ARGUMENT); // q's rows
        given.params.base = golden("peft", "base.gguf");
        ck_assert_ok(graft_combine(ctx, graft_merge_at(work, "out.gguf"), &given.params, NULL));
        ck_assert_ok(graft_combine(
            ctx, graft_merge_at(work, "back"), // GGUF -> PEFT: the rows go back
            &(struct graft_combine_params){
                .size = sizeof given.params,
                .adapters = &(struct graft_combine_adapter){.path = graft_merge_at(work, "out.gguf"), .weight = 1},
                .n_adapters = 1,
                .base = given.params.base},
            NULL));
        got = read_adapter(graft_merge_at(work, "back"));
        check_products(got, want, types[i].tolerance, types[i].dtype);
        graft_adapter_free(&got);
        given.params.base = NULL;
    }
    graft_adapter_free(&want);
    json_decref(json);
}
END_TEST

// PEFT and GGUF adapters together: the rows of q are brought into one order.
START_TEST(formats_mix_when_the_base_is_known)
{
    json_t *json = cases();
    struct given given;
    from_json(json_object_get(json, "linear"), &given);
    struct graft_combine_adapter *first = &given.adapters[0], one = {.path = first->path, .weight = 1};
    struct graft_combine_params alone = {
        .size = sizeof alone, .adapters = &one, .n_adapters = 1, .base = golden("peft", "base.gguf")};
    ck_assert_ok(graft_combine(ctx, graft_merge_at(work, "one.gguf"), &alone, NULL));
    first->path = graft_merge_at(work, "one.gguf");
    ck_assert_status(graft_combine(ctx, graft_merge_at(work, "out"), &given.params, NULL), GRAFT_E_ARGUMENT);
    ck_assert_error_has("-m");
    given.params.base = golden("peft", "base.gguf");
    ck_assert_ok(graft_combine(ctx, graft_merge_at(work, "out"), &given.params, NULL));
    struct graft_adapter_desc *want = read_adapter(golden("combine", "linear")),
                              *got = read_adapter(graft_merge_at(work, "out"));
    check_products(got, want, 2e-6, "mixed");
    graft_adapter_free(&got);
    graft_adapter_free(&want);
    json_decref(json);
}
END_TEST

static void check_same_view(const struct graft_adapter_view *got, const struct graft_adapter_view *want, const char *name)
{
    ck_assert_msg((got->data != NULL) == (want->data != NULL), "%s: a part is missing", name);
    if (!want->data) {
        return;
    }
    ck_assert_msg(got->type == want->type && got->rows == want->rows && got->cols == want->cols, "%s: other shape or type",
                  name);
    uint64_t bytes = want->rows * want->cols * (want->type == GRAFT_TYPE_F32 ? 4 : 2);
    ck_assert_msg(memcmp(got->data, want->data, bytes) == 0, "%s: other values", name);
}

START_TEST(one_adapter_with_weight_1_stays_itself)
{
    static const char *const kinds[] = {"plain",      "rslora", "dora",       "dora-patterns", "bias",
                                        "embed-head", "norms",  "dora-embed", "head",          "rank1",
                                        "rank256",    "regex",  "f16",        "bf16",          "alora"};
    static const char *const methods[] = {NULL, "linear", "cat", "ties"};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
            struct graft_combine_adapter adapter = {.path = golden("peft", kinds[k]), .weight = 1};
            struct graft_combine_params params = {.size = sizeof params, .adapters = &adapter, .n_adapters = 1};
            struct graft_combine_report *report;
            struct graft_combine_summary sum;
            params.method = methods[m];
            params.density = m == 3 ? 0.2 : 0;
            ck_assert_msg(graft_combine(ctx, graft_merge_at(work, "out"), &params, &report) == GRAFT_OK, "%s: %s", kinds[k],
                          graft_last_error());
            graft_combine_summarize(report, &sum);
            graft_combine_report_free(&report);
            ck_assert_str_eq(sum.method, "copy");
            ck_assert_msg(sum.error < 1e-7, "%s: error %g", kinds[k], sum.error);
            struct graft_adapter_desc *want = read_adapter(adapter.path), *got = read_adapter(graft_merge_at(work, "out"));
            ck_assert_uint_eq(got->n_pairs, want->n_pairs);
            for (uint32_t i = 0; i < want->n_pairs; i++) {
                const struct graft_adapter_pair *w = &want->pairs[i], *g = find_pair(got, w);
                ck_assert_ptr_nonnull(g);
                ck_assert_msg(g->rank == w->rank && g->scale == w->scale, "%s: rank %u and scale %.9g, expected %u and %.9g",
                              kinds[k], g->rank, (double)g->scale, w->rank, (double)w->scale);
                check_same_view(&g->a, &w->a, kinds[k]);
                check_same_view(&g->b, &w->b, kinds[k]);
                check_same_view(&g->magnitude, &w->magnitude, kinds[k]);
                check_same_view(&g->bias, &w->bias, kinds[k]);
            }
            ck_assert_uint_eq(got->n_whole, want->n_whole);
            for (uint32_t i = 0, j; i < want->n_whole; i++) {
                const struct graft_adapter_whole *w = &want->whole[i];
                for (j = 0; j < got->n_whole; j++) {
                    const struct graft_adapter_whole *g = &got->whole[j];
                    if (g->target == w->target && g->layer == w->layer && g->base_copy == w->base_copy) {
                        check_same_view(&g->view, &w->view, kinds[k]);
                        break;
                    }
                }
                ck_assert_uint_lt(j, got->n_whole);
            }
            ck_assert(got->use_rslora == want->use_rslora);
            ck_assert_uint_eq(got->n_alora, want->n_alora);
            ck_assert_mem_eq(got->alora, want->alora, want->n_alora * sizeof *want->alora);
            graft_adapter_free(&got);
            graft_adapter_free(&want);
        }
    }
}
END_TEST

START_TEST(one_adapters_weight_goes_into_its_scale_and_sign)
{
    static const double weights[] = {0.3, -1.7};
    static const char *const kinds[] = {"plain", "rslora", "regex"};
    for (size_t k = 0; k < 3; k++) {
        for (size_t i = 0; i < 2; i++) {
            struct graft_combine_adapter adapter = {.path = golden("peft", kinds[k]), .weight = weights[i]};
            struct graft_combine_params params = {.size = sizeof params, .adapters = &adapter, .n_adapters = 1};
            ck_assert_ok(graft_combine(ctx, graft_merge_at(work, "out"), &params, NULL));
            struct graft_adapter_desc *want = read_adapter(adapter.path), *got = read_adapter(graft_merge_at(work, "out"));
            for (uint32_t j = 0; j < want->n_pairs; j++) {
                want->pairs[j].scale *= (float)weights[i];
            }
            check_products(got, want, 1e-6, kinds[k]);
            graft_adapter_free(&got);
            graft_adapter_free(&want);
        }
    }
}
END_TEST

// Biases and tensors that replace the base's add up where that has a meaning.
START_TEST(biases_and_whole_tensors_are_added_up)
{
    struct graft_combine_adapter both[] = {{.path = golden("peft", "bias"), .weight = 0.25},
                                           {.path = golden("peft", "plain"), .weight = 2}};
    struct graft_combine_params params = {.size = sizeof params, .adapters = both, .n_adapters = 2, .method = "cat"};
    ck_assert_ok(graft_combine(ctx, graft_merge_at(work, "out"), &params, NULL));
    struct graft_adapter_desc *bias = read_adapter(both[0].path), *got = read_adapter(graft_merge_at(work, "out"));
    for (uint32_t i = 0; i < got->n_pairs; i++) {
        const struct graft_adapter_pair *g = &got->pairs[i], *w = find_pair(bias, g);
        float *values = values_of(&g->bias), *wanted = w ? values_of(&w->bias) : NULL;
        for (uint64_t j = 0; j < g->b.rows; j++) {
            double want = wanted ? 0.25 * (double)w->scale * (double)wanted[j] : 0;
            ck_assert_double_eq_tol((double)values[j] * (double)g->scale, want, 1e-6);
        }
        free(values);
        free(wanted);
    }
    graft_adapter_free(&bias);
    graft_adapter_free(&got);

    both[0] = (struct graft_combine_adapter){.path = golden("peft", "norms"), .weight = 1.5};
    both[1] = (struct graft_combine_adapter){.path = golden("peft", "norms"), .weight = -0.5};
    ck_assert_ok(graft_combine(ctx, graft_merge_at(work, "out"), &params, NULL)); // 1.5 T - 0.5 T
    struct graft_adapter_desc *norms = read_adapter(both[0].path);
    got = read_adapter(graft_merge_at(work, "out"));
    ck_assert_uint_eq(got->n_whole, norms->n_whole);
    for (uint32_t i = 0; i < norms->n_whole; i++) {
        check_values(&got->whole[i].view, &norms->whole[i].view, norms->whole[i].name);
    }
    graft_adapter_free(&norms);
    graft_adapter_free(&got);
}
END_TEST

static uint64_t digest_of(const char *path)
{
    struct graft_adapter_desc *desc = read_adapter(path);
    uint64_t word;
    memcpy(&word, desc->digest, sizeof word);
    graft_adapter_free(&desc);
    return word;
}

START_TEST(the_same_seed_gives_the_same_bytes_and_another_one_others)
{
    json_t *json = cases();
    static const char *const names[] = {"dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd", "svd", "ties_svd"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct given given;
        from_json(json_object_get(json, names[i]), &given);
        if (!can_do(&given)) {
            continue;
        }
        ck_assert_ok(graft_combine(ctx, graft_merge_at(work, "first"), &given.params, NULL));
        ck_assert_ok(graft_combine(ctx, graft_merge_at(work, "second"), &given.params, NULL));
        given.params.seed++;
        ck_assert_ok(graft_combine(ctx, graft_merge_at(work, "third"), &given.params, NULL));
        ck_assert_uint_eq(digest_of(graft_merge_at(work, "first")), digest_of(graft_merge_at(work, "second")));
        ck_assert_msg((digest_of(graft_merge_at(work, "first")) != digest_of(graft_merge_at(work, "third"))) == (i < 4), "%s",
                      names[i]);
    }
    json_decref(json);
}
END_TEST

START_TEST(philox_gives_its_known_answers)
{
    // Random123's kat_vectors, philox 4x32 10
    static const struct {
        uint32_t counter[4], key[2], answer[4];
    } known[] = {
        {{0}, {0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    uint32_t out[4], whole[41], piece[41];
    for (size_t i = 0; i < 3; i++) {
        graft_philox(known[i].counter, known[i].key, out);
        ck_assert_mem_eq(out, known[i].answer, sizeof out);
    }
    graft_philox_words(UINT64_C(0x123456789abcdef), (UINT64_C(1) << 34) - 9, 41, whole);
    for (uint64_t first = 0; first < 41; first++) {
        graft_philox_words(UINT64_C(0x123456789abcdef), (UINT64_C(1) << 34) - 9 + first, 41 - first, piece);
        ck_assert_mem_eq(piece, whole + first, (41 - first) * sizeof *whole);
    }
}
END_TEST

static void read_ones(void *user, uint32_t i, uint64_t first, uint64_t count, float *out)
{
    const struct graft_elements *e = user;
    (void)first;
    for (uint64_t j = 0; j < count * e->cols; j++) {
        out[j] = (float)(i + 1);
    }
}

// Of n values, a share within 5 sigma of `density` stays, and the mean is that of the tensors; masks of two tensors are
// independent.
START_TEST(dare_keeps_density_and_mean)
{
    enum { ROWS = 1000, COLS = 513 };
    static const double densities[] = {0.05, 0.5, 0.9};
    for (size_t d = 0; d < 3; d++) {
        struct graft_elements e = {.n = 2, .rows = ROWS, .cols = COLS, .read = read_ones, .prune = GRAFT_PRUNE_RANDOM};
        double density = densities[d], n = ROWS * COLS, kept[2] = {0}, both = 0, mean = 0;
        e.user = &e;
        for (uint32_t i = 0; i < 2; i++) {
            e.weights[i] = i ? 1000 : 1; // tells which tensors stayed
            e.density[i] = density;
            e.keys[i] = 99 + i;
        }
        ck_assert_ok(graft_elements_begin(&e, ctx));
        double *rows = malloc(e.block * COLS * sizeof *rows);
        ck_assert_ptr_nonnull(rows);
        for (uint64_t count; (count = graft_elements_next(&e, rows)) > 0;) {
            for (uint64_t i = 0; i < count * COLS; i++) {
                double scaled = rows[i] * density;
                bool second = scaled > 1500, first = scaled - (second ? 2000 : 0) > 0.5;
                kept[0] += first;
                kept[1] += second;
                both += first && second;
                mean += rows[i] / n;
            }
        }
        free(rows);
        graft_elements_end(&e, ctx);
        double sigma = sqrt(n * density * (1 - density));
        for (uint32_t i = 0; i < 2; i++) {
            ck_assert_msg(fabs(kept[i] - n * density) < 5 * sigma, "tensor %u: %g of %g stay", i, kept[i], n * density);
        }
        ck_assert(fabs(both - n * density * density) < 5 * sqrt(n * density * density * (1 - density * density)));
        double deviation = sqrt((1 + 2000.0 * 2000.0) * (1 - density) / density / n);
        ck_assert_msg(fabs(mean - 2001) < 5 * deviation, "mean %g", mean);
    }
}
END_TEST

// The threshold of magnitude pruning among equal magnitudes: exactly int(density * values) stay, the first ones.
static void read_steps(void *user, uint32_t i, uint64_t first, uint64_t count, float *out)
{
    const struct graft_elements *e = user;
    (void)i;
    for (uint64_t j = 0; j < count * e->cols; j++) {
        uint64_t at = first * e->cols + j;
        out[j] = at % 3 == 0 ? -2.0f : at % 3 == 1 ? 1.0f : 1e-30f;
    }
}

START_TEST(pruning_keeps_exactly_as_many_as_asked)
{
    enum { ROWS = 130, COLS = 30 };
    static const double densities[] = {0.0001, 0.2, 0.5, 0.9999, 1};
    for (size_t d = 0; d < sizeof densities / sizeof *densities; d++) {
        struct graft_elements e = {.n = 1, .rows = ROWS, .cols = COLS, .read = read_steps, .prune = GRAFT_PRUNE_MAGNITUDE};
        double rows[GRAFT_ELEMENTS_ROWS * COLS];
        e.user = &e;
        e.weights[0] = 1;
        e.density[0] = densities[d];
        ck_assert_ok(graft_elements_begin(&e, ctx));
        for (int pass = 0; pass < 2; pass++) {
            uint64_t kept = 0, small = 0, last_kept = 0, first_small_lost = UINT64_MAX, at = 0;
            graft_elements_rewind(&e);
            for (uint64_t count; (count = graft_elements_next(&e, rows)) > 0;) {
                for (uint64_t i = 0; i < count * COLS; i++, at++) {
                    kept += rows[i] != 0;
                    small += rows[i] == 1;
                    last_kept = rows[i] == 1 ? at : last_kept;
                    first_small_lost = rows[i] == 0 && at % 3 == 1 && at < first_small_lost ? at : first_small_lost;
                }
            }
            ck_assert_uint_eq(kept, (uint64_t)(densities[d] * ROWS * COLS));
            ck_assert(small == 0 || last_kept < first_small_lost);
        }
        graft_elements_end(&e, ctx);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("combine");
    TCase *tcase = tcase_create("combine");
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, every_method_gives_what_peft_gives);
    tcase_add_test(tcase, a_gguf_adapter_and_other_types_hold_the_same);
    tcase_add_test(tcase, formats_mix_when_the_base_is_known);
    tcase_add_test(tcase, one_adapter_with_weight_1_stays_itself);
    tcase_add_test(tcase, one_adapters_weight_goes_into_its_scale_and_sign);
    tcase_add_test(tcase, biases_and_whole_tensors_are_added_up);
    tcase_add_test(tcase, the_same_seed_gives_the_same_bytes_and_another_one_others);
    tcase_add_test(tcase, philox_gives_its_known_answers);
    tcase_add_test(tcase, dare_keeps_density_and_mean);
    tcase_add_test(tcase, pruning_keeps_exactly_as_many_as_asked);
    suite_add_tcase(suite, tcase);
    return graft_test_main(suite);
}
