// SPDX-License-Identifier: Apache-2.0
// Adapter files through the public header: what is described, fit, conversion, and differences against numpy's
// (tests/golden/make_adapter_diff.py).
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "graft/adapter_file.h"
#include "loaders/adapter.h"
#include "runtime/adapter/delta.h"
#include "support/support.h"
#include "support/vk_support.h"

enum { PATH_ROOM = 512 };

static struct graft_adapter_file *open_source(struct graft_ctx *ctx, const char *name)
{
    char path[PATH_ROOM];
    struct graft_adapter_file *file;
    snprintf(path, sizeof path, "%s/%s", GRAFT_TEST_SOURCE_DIR, name);
    ck_assert_ok(graft_adapter_file_open(ctx, &file, path));
    return file;
}

static const char *base_path(void)
{
    return GRAFT_TEST_SOURCE_DIR "/golden/peft/base.gguf";
}

START_TEST(every_kind_is_named)
{
    static const struct {
        const char *name, *kind;
        uint32_t parts, least, most;
        bool rslora, dora, bias;
    } cases[] = {{"plain", "LoRA", 14, 5, 5, false, false, false},
                 {"rslora", "rsLoRA", 8, 3, 3, true, false, false},
                 {"dora", "DoRA", 14, 4, 4, false, true, false},
                 {"dora-patterns", "DoRA, rsLoRA", 8, 1, 9, true, true, false},
                 {"bias", "LoRA, lora_bias", 10, 4, 4, false, false, true},
                 {"alora", "LoRA, aLoRA", 6, 4, 4, false, false, false},
                 {"norms", "LoRA", 7, 2, 2, false, false, false},
                 {"embed-head", "LoRA", 6, 4, 4, false, false, false},
                 {"embed-head.gguf", "LoRA", 4, 4, 4, false, false, false}};
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[PATH_ROOM];
        struct graft_adapter_file_info info;
        snprintf(path, sizeof path, "golden/peft/%s", cases[i].name);
        struct graft_adapter_file *file = open_source(ctx, path);
        ck_assert_ok(graft_adapter_file_fit(file, base_path()));
        graft_adapter_file_describe(file, &info);
        ck_assert_str_eq(info.kind, cases[i].kind);
        ck_assert_msg(info.n_parts == cases[i].parts, "%s: %u parts", cases[i].name, info.n_parts);
        ck_assert_uint_eq(info.rank_least, cases[i].least);
        ck_assert_uint_eq(info.rank_most, cases[i].most);
        ck_assert(info.use_rslora == cases[i].rslora && info.use_dora == cases[i].dora && info.lora_bias == cases[i].bias);
        ck_assert_uint_eq(info.base_parameters, 98624); // make_peft.py: the sum of all shapes
        uint64_t parameters = 0;
        for (uint32_t k = 0; k < info.n_parts; k++) {
            struct graft_adapter_file_part part;
            graft_adapter_file_part(file, k, &part);
            parameters += part.n_parameters;
        }
        ck_assert_uint_eq(parameters, info.n_parameters);
        ck_assert((info.n_invocation == 2) == (strcmp(cases[i].name, "alora") == 0));
        graft_adapter_file_close(&file);
        ck_assert_ptr_null(file);
    }
    struct graft_adapter_file *file = open_source(ctx, "golden/peft/embed-head");
    struct graft_adapter_file_part part;
    graft_adapter_file_part(file, 1, &part);
    ck_assert_str_eq(part.module, "model.embed_tokens");
    ck_assert(part.kind == GRAFT_ADAPTER_PAIR && part.layer == -1 && part.n_in == 64 && part.n_out == 288 && part.rank == 4);
    graft_adapter_file_part(file, 5, &part);
    ck_assert(part.kind == GRAFT_ADAPTER_COPY_OF_BASE && part.n_parameters == 0);
    graft_adapter_file_part(file, 6, &part);
    ck_assert_str_eq(part.target, "");
    graft_adapter_file_close(&file);
    graft_adapter_file_close(&file);
    ck_assert_uint_eq(alloc.live, 1);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(an_adapter_of_another_base_does_not_fit)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_adapter_file *file = open_source(ctx, "../demo/adapters/legal");
    struct graft_adapter_file_info info;
    ck_assert_status(graft_adapter_file_fit(file, base_path()), GRAFT_E_FORMAT);
    ck_assert_error_has("q_proj has shape 576 x 576, the base's 64 x 64");
    graft_adapter_file_describe(file, &info);
    ck_assert_uint_eq(info.base_parameters, 0);
    ck_assert_status(graft_adapter_file_fit(file, GRAFT_TEST_SOURCE_DIR "/golden/peft/plain.gguf"), GRAFT_E_UNSUPPORTED);
    ck_assert_error_has("is \"adapter\", a model file says");
    ck_assert_status(graft_adapter_file_fit(file, "/absent.gguf"), GRAFT_E_IO);
    graft_adapter_file_close(&file);
    ck_assert_status(graft_adapter_file_open(ctx, &file, "/absent"), GRAFT_E_IO);
    ck_assert_ptr_null(file);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(conversion_needs_the_base_where_rows_move)
{
    char folder[64], path[PATH_ROOM];
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    graft_test_folder(folder);
    snprintf(path, sizeof path, "%s/a.gguf", folder);
    struct graft_adapter_file *plain = open_source(ctx, "golden/peft/plain"), *rank1 = open_source(ctx, "golden/peft/rank1"),
                              *back;
    struct graft_adapter_diff *diff;
    struct graft_adapter_difference item;
    ck_assert_status(graft_adapter_file_convert(plain, path, GRAFT_ADAPTER_GGUF), GRAFT_E_ARGUMENT);
    ck_assert_error_has("the base model is needed");
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_ok(graft_adapter_file_convert(rank1, path, GRAFT_ADAPTER_GGUF)); // gate and up: no row moves
    ck_assert_ok(graft_adapter_file_fit(plain, base_path()));
    ck_assert_ok(graft_adapter_file_convert(plain, path, GRAFT_ADAPTER_GGUF));
    ck_assert_ok(graft_adapter_file_open(ctx, &back, path));
    // compared across formats: the same, either way round
    for (int i = 0; i < 2; i++) {
        ck_assert_ok(graft_adapter_diff_open(ctx, &diff, i ? back : plain, i ? plain : back));
        ck_assert_uint_eq(graft_adapter_diff_count(diff), 14);
        for (uint32_t k = 0; k < 14; k++) {
            graft_adapter_diff_item(diff, k, &item);
            ck_assert_msg(item.kind == GRAFT_ADAPTER_SAME && item.relative == 0, "%s: %.3g", item.module, item.relative);
        }
        graft_adapter_diff_close(&diff);
    }
    graft_adapter_file_close(&plain);
    plain = open_source(ctx, "golden/peft/plain");
    ck_assert_status(graft_adapter_diff_open(ctx, &diff, plain, back), GRAFT_E_ARGUMENT);
    ck_assert_ptr_null(diff);
    graft_adapter_file_close(&back);
    graft_adapter_file_close(&plain);
    graft_adapter_file_close(&rank1);
    graft_test_folder_remove(folder);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(differences_are_those_of_numpy)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    json_error_t error;
    json_t *golden = json_load_file(GRAFT_TEST_SOURCE_DIR "/golden/adapter_diff.json", 0, &error), *modules;
    const char *name;
    ck_assert_msg(golden != NULL, "%s", error.text);
    uint32_t compared = 0;
    json_object_foreach(golden, name, modules)
    {
        char first[PATH_ROOM];
        const char *bar = strchr(name, '|');
        snprintf(first, sizeof first, "%.*s", (int)(bar - name), name);
        struct graft_adapter_file *a = open_source(ctx, first), *b = open_source(ctx, bar + 1);
        struct graft_adapter_diff *diff;
        uint32_t both = 0;
        ck_assert_ok(graft_adapter_diff_open(ctx, &diff, a, b));
        for (uint32_t i = 0; i < graft_adapter_diff_count(diff); i++) {
            struct graft_adapter_difference item;
            graft_adapter_diff_item(diff, i, &item);
            json_t *want = json_object_get(modules, item.module);
            if (strcmp(item.part, "delta") != 0 || !want) {
                ck_assert(item.kind != GRAFT_ADAPTER_SAME && item.kind != GRAFT_ADAPTER_DIFFER);
                continue;
            }
            double values[3] = {item.norm_a, item.norm_b, item.relative};
            for (size_t k = 0; k < 3; k++) {
                double wanted = json_real_value(json_array_get(want, k));
                ck_assert_msg(fabs(values[k] / wanted - 1) < 1e-9, "%s, %s: value %zu is %.15g, numpy's %.15g", name,
                              item.module, k, values[k], wanted);
            }
            ck_assert_int_eq(item.kind, GRAFT_ADAPTER_DIFFER);
            both++;
        }
        ck_assert_uint_eq(both, json_object_size(modules));
        compared += both;
        graft_adapter_diff_close(&diff);
        graft_adapter_file_close(&a);
        graft_adapter_file_close(&b);
    }
    ck_assert_uint_gt(compared, 100);
    json_decref(golden);
    graft_ctx_destroy(&ctx);
}
END_TEST

// Two pairs that differ by little in one value, or by their ranks alone.
START_TEST(small_differences_are_not_lost)
{
    enum { IN = 40, OUT = 70, RANK = 6 };
    static float a1[RANK * IN], b1[OUT * RANK], a2[RANK * IN], b2[OUT * RANK], wide_a[2 * RANK * IN], wide_b[OUT * 2 * RANK];
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_test_random random = {3};
    struct graft_delta_norms norms;
    for (uint32_t i = 0; i < RANK * IN; i++) {
        a1[i] = a2[i] = wide_a[i] = graft_test_random_f32(&random, -1, 1);
    }
    for (uint32_t i = 0; i < OUT * RANK; i++) {
        b1[i] = b2[i] = graft_test_random_f32(&random, -1, 1);
        wide_b[i / RANK * 2 * RANK + i % RANK] = b1[i]; // the second half stays 0
    }
    b2[17] += 0x1p-20f;
    struct graft_adapter_pair p = {.rank = RANK,
                                   .scale = 1.5f,
                                   .a = {(const uint8_t *)a1, GRAFT_TYPE_F32, RANK, IN},
                                   .b = {(const uint8_t *)b1, GRAFT_TYPE_F32, OUT, RANK}},
                              q = p, wide = p;
    q.b.data = (const uint8_t *)b2;
    ck_assert_ok(graft_delta_compare(ctx, &p, &q, 0, &norms));
    double want = 0;
    for (uint32_t i = 0; i < IN; i++) { // one row of B A changes, by the change times a row of A
        double change = 1.5 * ((double)b2[17] - (double)b1[17]) * (double)a1[17 % RANK * IN + i];
        want += change * change;
    }
    ck_assert_msg(fabs(norms.difference / sqrt(want) - 1) < 1e-9, "%.12g, expected %.12g", norms.difference, sqrt(want));
    wide.rank = 2 * RANK;
    wide.a = (struct graft_adapter_view){(const uint8_t *)wide_a, GRAFT_TYPE_F32, 2 * RANK, IN};
    wide.b = (struct graft_adapter_view){(const uint8_t *)wide_b, GRAFT_TYPE_F32, OUT, 2 * RANK};
    ck_assert_ok(graft_delta_compare(ctx, &p, &wide, 0, &norms));
    ck_assert_msg(norms.difference / norms.a < 1e-7, "%.3g", norms.difference / norms.a);
    ck_assert_double_eq_tol(norms.a, norms.b, 1e-9 * norms.a);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(vectors_wholes_and_one_sided_parts)
{
    static const struct {
        const char *a, *b;
        uint32_t same, differ, only_a, only_b;
    } cases[] = {{"dora", "plain", 0, 14, 14, 0}, // 14 magnitudes only in A
                 {"plain", "dora", 0, 14, 0, 14},     {"dora", "dora", 28, 0, 0, 0},
                 {"bias", "bias", 20, 0, 0, 0},       {"norms", "norms", 7, 0, 0, 0},
                 {"norms", "norms.gguf", 7, 0, 0, 0}, {"embed-head", "embed-head.gguf", 4, 0, 2, 0}, // copies of the base
                 {"head", "norms", 0, 0, 3, 7}};
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char first[PATH_ROOM], second[PATH_ROOM];
        snprintf(first, sizeof first, "golden/peft/%s", cases[i].a);
        snprintf(second, sizeof second, "golden/peft/%s", cases[i].b);
        struct graft_adapter_file *a = open_source(ctx, first), *b = open_source(ctx, second);
        struct graft_adapter_diff *diff;
        uint32_t counts[GRAFT_ADAPTER_UNLIKE + 1] = {0};
        ck_assert_ok(graft_adapter_file_fit(b, base_path()));
        ck_assert_ok(graft_adapter_diff_open(ctx, &diff, a, b));
        for (uint32_t k = 0; k < graft_adapter_diff_count(diff); k++) {
            struct graft_adapter_difference item;
            graft_adapter_diff_item(diff, k, &item);
            counts[item.kind]++;
        }
        ck_assert_msg(counts[0] == cases[i].same && counts[1] == cases[i].differ && counts[2] == cases[i].only_a &&
                          counts[3] == cases[i].only_b && counts[4] == 0,
                      "%s, %s: %u %u %u %u %u", first, second, counts[0], counts[1], counts[2], counts[3], counts[4]);
        graft_adapter_diff_close(&diff);
        graft_adapter_file_close(&a);
        graft_adapter_file_close(&b);
    }
    struct graft_adapter_file *a = open_source(ctx, "golden/peft/plain"), *b = open_source(ctx, "../demo/adapters/finance");
    struct graft_adapter_diff *diff;
    struct graft_adapter_difference item;
    ck_assert_ok(graft_adapter_diff_open(ctx, &diff, a, b));
    graft_adapter_diff_item(diff, 0, &item);
    ck_assert_int_eq(item.kind, GRAFT_ADAPTER_UNLIKE);
    graft_adapter_diff_close(&diff);
    graft_adapter_file_close(&a);
    graft_adapter_file_close(&b);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(a_failed_allocation_leaves_nothing_behind)
{
    for (uint64_t n = 1;; n++) {
        struct graft_test_alloc alloc = {0};
        struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
        struct graft_adapter_file *a = open_source(ctx, "golden/peft/f16"), *b = open_source(ctx, "golden/peft/f16"), *c = NULL;
        struct graft_adapter_diff *diff = NULL;
        alloc.fail_at = alloc.requests + n;
        enum graft_status status = graft_adapter_file_fit(a, base_path());
        status = status == GRAFT_OK ? graft_adapter_diff_open(ctx, &diff, a, b) : status;
        status =
            status == GRAFT_OK ? graft_adapter_file_open(ctx, &c, GRAFT_TEST_SOURCE_DIR "/golden/peft/norms.gguf") : status;
        graft_adapter_diff_close(&diff);
        graft_adapter_file_close(&a);
        graft_adapter_file_close(&b);
        graft_adapter_file_close(&c);
        ck_assert_uint_eq(alloc.live, 1);
        graft_ctx_destroy(&ctx);
        if (status == GRAFT_OK) {
            ck_assert_uint_gt(n, 20);
            break;
        }
        ck_assert_int_eq(status, GRAFT_E_MEMORY);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("adapter_file");
    TCase *tests = tcase_create("adapter_file");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, every_kind_is_named);
    tcase_add_test(tests, an_adapter_of_another_base_does_not_fit);
    tcase_add_test(tests, conversion_needs_the_base_where_rows_move);
    tcase_add_test(tests, differences_are_those_of_numpy);
    tcase_add_test(tests, small_differences_are_not_lost);
    tcase_add_test(tests, vectors_wholes_and_one_sided_parts);
    tcase_add_test(tests, a_failed_allocation_leaves_nothing_behind);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
