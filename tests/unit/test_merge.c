// SPDX-License-Identifier: Apache-2.0
// Merged weights against PEFT's merge_and_unload (tests/golden/make_merge.py) and PEFT's logits; formats; what is reported;
// what the file says about itself. tests/merge_reference compares whole files with numpy and PyPI gguf.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/plat.h"
#include "runtime/quant/quant.h"
#include "support/adapter_folder.h"
#include "support/merge_files.h"
#include "support/peft_golden.h"
#include "support/support.h"
#include "support/tiny_model.h"

static struct graft_ctx *ctx;
static char folder[GRAFT_MERGE_PATH_BYTES], base[GRAFT_PEFT_PATH_BYTES];

static void begin(void)
{
    ctx = graft_test_ctx(NULL, 0);
    graft_merge_folder_begin(folder);
    graft_peft_path(base, "base.gguf");
}

static void end(void)
{
    graft_merge_end(&ctx, folder);
}

static const struct {
    const char *name, *adapters[2];
    float weights[2];
} cases[] = {
    {"plain", {"plain"}, {1}},
    {"rslora", {"rslora"}, {1}},
    {"dora", {"dora"}, {1}},
    {"dora-patterns", {"dora-patterns"}, {1}},
    {"dora-embed", {"dora-embed"}, {1}},
    {"embed-head", {"embed-head"}, {1}},
    {"norms", {"norms"}, {1}},
    {"head", {"head"}, {1}},
    {"rank1", {"rank1"}, {1}},
    {"rank256", {"rank256"}, {1}},
    {"regex", {"regex"}, {1}},
    {"f16", {"f16"}, {1}},
    {"bf16", {"bf16"}, {1}},
    {"blend", {"plain", "rslora"}, {0.6f, -0.4f}},
};
enum { CASES = sizeof cases / sizeof *cases };

static void merge_case(int i, const char *type, const char *out, struct graft_merge_report **report)
{
    char paths[2][GRAFT_PEFT_PATH_BYTES];
    struct graft_merge_adapter adapters[2];
    struct graft_merge_params params = {.size = sizeof params, .adapters = adapters, .type = type};
    for (; params.n_adapters < 2 && cases[i].adapters[params.n_adapters]; params.n_adapters++) {
        uint32_t n = params.n_adapters;
        graft_peft_path(paths[n], cases[i].adapters[n]);
        adapters[n] = (struct graft_merge_adapter){paths[n], cases[i].weights[n]};
    }
    ck_assert_ok(graft_merge(ctx, base, out, &params, report));
}

// Products of the rows with the fixed vector of make_merge.py against those of `name`.
static void check_rows(const struct graft_gguf *gguf, const char *name, double f32_limit, double limit)
{
    char path[GRAFT_PEFT_PATH_BYTES];
    struct graft_map map;
    uint64_t at = 0;
    snprintf(path, sizeof path, "%s/golden/merge/%s.rows", GRAFT_TEST_SOURCE_DIR, name);
    ck_assert_ok(graft_map_open(&map, path));
    const float *want = (const float *)(const void *)map.data;
    for (uint64_t t = 0; t < gguf->n_tensors; t++) {
        const struct graft_gguf_tensor *tensor = &gguf->tensors[t];
        bool vector = tensor->n_dims == 1;
        float *values = graft_merge_values(gguf, tensor);
        double allowed = tensor->type == GRAFT_TYPE_F32 ? f32_limit : limit;
        for (uint64_t row = 0; row < (vector ? tensor->dims[0] : tensor->dims[1]); row++, at++) {
            double got = vector ? (double)values[row] : 0;
            for (uint64_t i = 0; i < tensor->dims[0] && !vector; i++) {
                got += (double)values[row * tensor->dims[0] + i] * ((double)((7919 * i + 31) % 1013) / 1013 - 0.5);
            }
            ck_assert_uint_lt(at, map.size / 4);
            ck_assert_msg(fabs(got - (double)want[at]) <= allowed * (1 + fabs((double)want[at])),
                          "%s, %.*s row %d: %.9g, PEFT has %.9g", name, (int)tensor->name.length, tensor->name.data, (int)row,
                          got, (double)want[at]);
        }
        free(values);
    }
    ck_assert_uint_eq(at, map.size / 4);
    graft_map_close(&map);
}

START_TEST(every_kind_gives_the_weights_of_peft)
{
    static const char *const types[] = {"f32", "f16", "BF16"};
    static const double limits[] = {1e-5, 2e-3, 2e-2};
    for (int t = 0; t < 3; t++) {
        struct graft_gguf *gguf;
        struct graft_merge_report *report;
        const char *out = graft_merge_at(folder, "out.gguf");
        merge_case(_i, types[t], out, &report);
        ck_assert_ok(graft_gguf_open(ctx, &gguf, out, false));
        check_rows(gguf, cases[_i].name, 1e-5, limits[t]);
        graft_gguf_close(&gguf);
        struct graft_merge_summary sum;
        graft_merge_summarize(report, &sum);
        ck_assert_double_eq_tol(sum.share, 1, t == 2 ? 1e-3 : 1e-4);
        ck_assert_double_lt(sum.residual, t == 0 ? 1e-6 : t == 1 ? 5e-3 : 4e-2);
        graft_merge_report_free(&report);
    }
}
END_TEST

START_TEST(f32_and_f16_give_the_logits_of_peft)
{
    struct graft_device *device;
    struct graft_device_params device_params = {.size = sizeof device_params, .select = "ref"};
    ck_assert_ok(graft_device_open(ctx, &device, &device_params));
    for (int t = 0; t < 2; t++) {
        struct graft_model *model;
        struct graft_seq *seq;
        struct graft_model_params params = {.size = sizeof params, .n_ctx = 64, .n_batch = 16, .exact = true};
        static float got[GRAFT_PEFT_TOKENS][GRAFT_PEFT_VOCAB];
        const char *out = graft_merge_at(folder, "out.gguf");
        merge_case(_i, t ? "f16" : "f32", out, NULL);
        ck_assert_ok(graft_model_open(device, &model, out, &params));
        ck_assert_ok(graft_seq_create(model, &seq));
        graft_peft_compute(model, seq, false, got);
        double worst, kl = graft_peft_divergence(cases[_i].name, got, &worst);
        ck_assert_msg(kl <= (t ? 1e-5 : 1e-9), "%s as %s: KL %.3g", cases[_i].name, t ? "F16" : "F32", kl);
        printf("%s as %s: KL %.2g\n", cases[_i].name, t ? "F16" : "F32", kl);
        graft_seq_destroy(&seq);
        graft_model_close(&model);
    }
    graft_device_close(&device);
}
END_TEST

static const struct graft_gguf_tensor *tensor_of(const struct graft_gguf *gguf, const char *name)
{
    const struct graft_gguf_tensor *tensor = graft_gguf_tensor(gguf, name);
    ck_assert_msg(tensor != NULL, "there is no %s", name);
    return tensor;
}

static bool same_data(const struct graft_gguf *a, const char *in_a, const struct graft_gguf *b, const char *in_b)
{
    const struct graft_gguf_tensor *one = tensor_of(a, in_a), *two = tensor_of(b, in_b);
    return one->type == two->type && one->bytes == two->bytes &&
           memcmp(graft_gguf_data(a, one), graft_gguf_data(b, two), one->bytes) == 0;
}

START_TEST(keep_keeps_formats_size_and_what_is_not_touched)
{
    struct graft_gguf *before, *after;
    struct graft_merge_report *report;
    struct graft_merge_summary sum;
    const char *out = graft_merge_at(folder, "out.gguf");
    merge_case(1, NULL, out, &report); // rslora: q, k, v and o
    ck_assert_ok(graft_gguf_open(ctx, &before, base, false));
    ck_assert_ok(graft_gguf_open(ctx, &after, out, false));
    ck_assert_uint_eq(before->n_tensors, after->n_tensors);
    ck_assert_uint_eq(before->data_bytes, after->data_bytes);
    for (uint64_t i = 0; i < before->n_tensors; i++) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)before->tensors[i].name.length, before->tensors[i].name.data);
        bool touched = strstr(name, "attn_") && !strstr(name, "norm");
        ck_assert_uint_eq(after->tensors[i].type, before->tensors[i].type);
        ck_assert_uint_eq(after->tensors[i].offset - after->data_offset, before->tensors[i].offset - before->data_offset);
        ck_assert_msg(same_data(before, name, after, name) != touched, "%s is %s", name, touched ? "unchanged" : "changed");
    }
    graft_merge_summarize(report, &sum);
    ck_assert_uint_eq(sum.n_touched, 8);
    ck_assert_uint_eq(sum.n_tensors, before->n_tensors);
    ck_assert_uint_eq(sum.touched_before, sum.touched_after);
    ck_assert_str_eq(sum.base_type, "Q4_0");
    ck_assert_uint_eq(sum.out_bytes, after->map.size);
    graft_merge_report_free(&report);
    graft_gguf_close(&after);
    graft_gguf_close(&before);
}
END_TEST

START_TEST(the_file_says_what_was_merged)
{
    struct graft_gguf *gguf;
    struct graft_merge_report *report;
    struct graft_merge_summary sum;
    struct graft_text text;
    uint64_t cursor = 0;
    const char *first = graft_merge_at(folder, "first.gguf"), *second = graft_merge_at(folder, "second.gguf");
    char adapter[GRAFT_PEFT_PATH_BYTES];
    merge_case(CASES - 1, "auto", first, &report);
    graft_merge_summarize(report, &sum);
    ck_assert_ok(graft_gguf_open(ctx, &gguf, first, false));
    ck_assert_ok(graft_gguf_text(gguf, "graft.merge.base.sha256", &text));
    ck_assert(text.length == 64 && memcmp(text.data, sum.base_digest, 64) == 0);
    const struct graft_gguf_key *names = graft_gguf_find(gguf, "graft.merge.adapter.names");
    ck_assert(names && names->count == 2);
    ck_assert_ok(graft_gguf_next_text(gguf, names, &cursor, &text));
    ck_assert(text.length == 5 && memcmp(text.data, "plain", 5) == 0);
    double weight;
    ck_assert_ok(graft_gguf_item_f64(gguf, graft_gguf_find(gguf, "graft.merge.adapter.weights"), 1, &weight));
    ck_assert_double_eq_tol(weight, -0.4, 1e-7);
    const char *digest, *made_for;
    ck_assert_ok(graft_merge_adapter(report, 0, &digest, &made_for));
    const struct graft_gguf_key *digests = graft_gguf_find(gguf, "graft.merge.adapter.sha256");
    cursor = 0;
    ck_assert_ok(graft_gguf_next_text(gguf, digests, &cursor, &text));
    ck_assert(text.length == 64 && memcmp(text.data, digest, 64) == 0);
    ck_assert_uint_eq(graft_gguf_find(gguf, "graft.merge.tensors")->count, sum.n_touched);
    graft_gguf_close(&gguf);
    graft_merge_report_free(&report);
    // What the base says about its own merge stays.
    graft_peft_path(adapter, "rank1");
    ck_assert_ok(graft_merge_one(ctx, first, adapter, NULL, second, NULL));
    ck_assert_ok(graft_gguf_open(ctx, &gguf, second, false));
    cursor = 0;
    names = graft_gguf_find(gguf, "graft.merge.base.merge.adapter.names");
    ck_assert(names && names->count == 2);
    names = graft_gguf_find(gguf, "graft.merge.adapter.names");
    ck_assert(names && names->count == 1);
    ck_assert_ptr_nonnull(graft_gguf_find(gguf, "graft.merge.base.merge.base.sha256"));
    graft_gguf_close(&gguf);
}
END_TEST

// A tiny model of a format, and an adapter on every matrix of its layers; paths in static buffers.
static void tiny(uint32_t type, bool untied, bool embed, bool head, const char **model, const char **adapter)
{
    static char file[GRAFT_TINY_PATH_BYTES];
    bool wide = graft_type_info(type)->block_values == 256;
    struct graft_tiny_model m = {.type = type, .untied = untied, .n_embd = wide ? 256 : 64, .n_ff = wide ? 512 : 96};
    uint32_t dim = wide ? 64 : 16;
    struct graft_test_adapter a = {.n_layer = 2,
                                   .n_embd = m.n_embd,
                                   .n_ff = m.n_ff,
                                   .q_rows = 4 * dim,
                                   .kv_rows = 2 * dim,
                                   .n_vocab = GRAFT_TINY_VOCAB,
                                   .rank = 4,
                                   .layers = !embed && !head,
                                   .embed = embed,
                                   .head = head,
                                   .seed = 5 + type};
    graft_tiny_model_file(&m, file);
    *model = file;
    *adapter = graft_merge_at(folder, "adapter");
    ck_assert(mkdir(*adapter, 0700) == 0 || errno == EEXIST);
    graft_test_adapter_folder(&a, *adapter);
}

// Logits of a few tokens; adapter may be NULL.
static void tiny_logits(const char *model_path, const char *adapter_path, float got[4][GRAFT_TINY_VOCAB])
{
    struct graft_device *device;
    struct graft_model *model;
    struct graft_seq *seq;
    struct graft_adapter *adapter = NULL;
    struct graft_device_params device_params = {.size = sizeof device_params, .select = "ref"};
    struct graft_model_params params = {
        .size = sizeof params, .n_ctx = 32, .n_batch = 8, .exact = true, .adapter_pool_bytes = 4 << 20};
    struct graft_row rows[4];
    ck_assert_ok(graft_device_open(ctx, &device, &device_params));
    ck_assert_ok(graft_model_open(device, &model, model_path, &params));
    ck_assert_ok(graft_seq_create(model, &seq));
    if (adapter_path) {
        ck_assert_ok(graft_adapter_load(model, &adapter, adapter_path));
        ck_assert_ok(graft_seq_set_adapters(seq, &(struct graft_adapter_use){.adapter = adapter, .weight = 1}, 1));
    }
    for (int i = 0; i < 4; i++) {
        rows[i] = (struct graft_row){.seq = seq, .token = 40 + 31 * i, .want = true};
    }
    ck_assert_ok(graft_decode(model, rows, 4, GRAFT_WANT_LOGITS));
    for (uint32_t i = 0; i < 4; i++) {
        const float *logits;
        ck_assert_ok(graft_model_logits(model, i, &logits));
        memcpy(got[i], logits, sizeof got[i]);
    }
    graft_seq_destroy(&seq);
    graft_adapter_release(&adapter);
    graft_model_close(&model);
    graft_device_close(&device);
}

// Root of the mean of squared differences.
static double difference(float a[4][GRAFT_TINY_VOCAB], float b[4][GRAFT_TINY_VOCAB])
{
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < GRAFT_TINY_VOCAB; k++) {
            sum += ((double)a[i][k] - (double)b[i][k]) * ((double)a[i][k] - (double)b[i][k]);
        }
    }
    return sqrt(sum / (4 * GRAFT_TINY_VOCAB));
}

START_TEST(every_weight_format_merges_and_runs)
{
    if (!graft_quant_find((uint32_t)_i) || !graft_quant_find((uint32_t)_i)->quantize_row) {
        return;
    }
    static float unmerged[4][GRAFT_TINY_VOCAB], merged[4][GRAFT_TINY_VOCAB], plain[4][GRAFT_TINY_VOCAB];
    const char *model, *adapter, *name = graft_type_info((uint32_t)_i)->name;
    tiny((uint32_t)_i, true, false, false, &model, &adapter);
    tiny_logits(model, adapter, unmerged);
    tiny_logits(model, NULL, plain);
    static const char *const types[] = {"keep", "auto", "f16", "f32"};
    double differences[4];
    for (int t = 0; t < 4; t++) {
        const char *out = graft_merge_at(folder, "tiny.gguf");
        struct graft_merge_report *report;
        struct graft_merge_summary sum;
        ck_assert_ok(graft_merge_one(ctx, model, adapter, types[t], out, &report));
        graft_merge_summarize(report, &sum);
        for (uint32_t i = 0; i < sum.n_touched; i++) {
            struct graft_merge_tensor tensor;
            ck_assert_ok(graft_merge_tensor(report, i, &tensor));
            ck_assert_str_eq(tensor.type_before, name);
            ck_assert(t != 0 || strcmp(tensor.type_after, name) == 0);
            ck_assert_msg(t == 0 || tensor.share >= 0.95, "%s as %s: %s keeps %g", name, types[t], tensor.name, tensor.share);
        }
        ck_assert_uint_eq(sum.n_touched, 14);
        graft_merge_report_free(&report);
        tiny_logits(out, NULL, merged);
        differences[t] = difference(unmerged, merged);
    }
    double change = difference(unmerged, plain);
    printf("%s: change of a logit %.3g, off when merged as keep %.3g, auto %.3g, F16 %.3g, F32 %.3g\n", name, change,
           differences[0], differences[1], differences[2], differences[3]);
    ck_assert_double_lt(differences[2], 0.05 * change);
    ck_assert_double_lt(differences[3], 0.02 * change); // what is left is the pool's f16
    unlink(model);
}
END_TEST

START_TEST(a_tied_model_gets_a_head_of_its_own)
{
    static float unmerged[4][GRAFT_TINY_VOCAB], merged[4][GRAFT_TINY_VOCAB];
    for (int which = 1; which < 4; which++) {
        const char *model, *adapter, *out = graft_merge_at(folder, "tiny.gguf");
        struct graft_gguf *before, *after;
        tiny(GRAFT_TYPE_F32, false, which & 1, which & 2, &model, &adapter);
        ck_assert_ok(graft_merge_one(ctx, model, adapter, NULL, out, NULL));
        ck_assert_ok(graft_gguf_open(ctx, &before, model, false));
        ck_assert_ok(graft_gguf_open(ctx, &after, out, false));
        ck_assert_uint_eq(after->n_tensors, before->n_tensors + 1);
        ck_assert(same_data(after, "output.weight", before, "token_embd.weight") == !(which & 2));
        ck_assert(same_data(after, "token_embd.weight", before, "token_embd.weight") == !(which & 1));
        graft_gguf_close(&after);
        graft_gguf_close(&before);
        tiny_logits(model, adapter, unmerged);
        tiny_logits(out, NULL, merged);
        ck_assert_double_lt(difference(unmerged, merged), 2e-3);
        unlink(model);
    }
}
END_TEST

START_TEST(what_changes_nothing_keeps_every_byte)
{
    static const uint32_t types[] = {GRAFT_TYPE_Q4_K, GRAFT_TYPE_Q6_K, GRAFT_TYPE_Q4_1, GRAFT_TYPE_F16};
    for (int t = 0; t < 4; t++) {
        const char *model, *adapter, *out = graft_merge_at(folder, "tiny.gguf");
        struct graft_merge_report *report;
        struct graft_merge_summary sum;
        struct graft_gguf *before, *after;
        tiny(types[t], true, false, false, &model, &adapter);
        struct graft_merge_adapter adapters[] = {{adapter, 0}};
        struct graft_merge_params params = {.size = sizeof params, .adapters = adapters, .n_adapters = 1};
        ck_assert_ok(graft_merge(ctx, model, out, &params, &report));
        graft_merge_summarize(report, &sum);
        ck_assert_double_eq(sum.share, 1);
        ck_assert_double_eq(sum.residual, 0);
        ck_assert_uint_eq(sum.n_below, 0);
        graft_merge_report_free(&report);
        ck_assert_ok(graft_gguf_open(ctx, &before, model, false));
        ck_assert_ok(graft_gguf_open(ctx, &after, out, false));
        ck_assert_uint_eq(before->data_bytes, after->data_bytes);
        ck_assert_int_eq(
            memcmp(before->map.data + before->data_offset, after->map.data + after->data_offset, before->data_bytes), 0);
        graft_gguf_close(&after);
        graft_gguf_close(&before);
        unlink(model);
    }
}
END_TEST

START_TEST(a_warning_says_that_the_adapter_was_made_for_other_weights)
{
    static const struct {
        const char *base_name;
        bool warns;
    } names[] = {{NULL, false},
                 {"org/model-Q4_K_M.gguf", true},
                 {"org/model.Q4_0.gguf", false},
                 {"org/model-bnb-4bit", true},
                 {"model", true},
                 {"model-q4_01", true}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *model, *adapter;
        struct graft_merge_report *report;
        struct graft_merge_summary sum;
        tiny(GRAFT_TYPE_Q4_0, true, false, false, &model, &adapter);
        struct graft_test_adapter a = {.n_layer = 2,
                                       .n_embd = 64,
                                       .n_ff = 96,
                                       .q_rows = 64,
                                       .kv_rows = 32,
                                       .rank = 2,
                                       .layers = true,
                                       .size = 1,
                                       .base_name = names[i].base_name};
        graft_test_adapter_folder(&a, adapter);
        ck_assert_ok(graft_merge_one(ctx, model, adapter, NULL, graft_merge_at(folder, "o.gguf"), &report));
        graft_merge_summarize(report, &sum);
        bool warned = false;
        for (uint32_t k = 0; k < sum.n_warnings; k++) {
            warned = warned || strstr(graft_merge_warning(report, k), "was made for");
        }
        ck_assert_msg(warned == names[i].warns, "%s", names[i].base_name ? names[i].base_name : "no name");
        graft_merge_report_free(&report);
        unlink(model);
    }
}
END_TEST

START_TEST(a_small_change_is_lost_in_four_bits_and_auto_keeps_it)
{
    const char *model, *adapter;
    struct graft_merge_report *report;
    struct graft_merge_summary keep, automatic;
    tiny(GRAFT_TYPE_Q4_0, true, false, false, &model, &adapter);
    struct graft_test_adapter a = {
        .n_layer = 2, .n_embd = 64, .n_ff = 96, .q_rows = 64, .kv_rows = 32, .rank = 2, .layers = true, .size = 0.02f};
    graft_test_adapter_folder(&a, adapter);
    ck_assert_ok(graft_merge_one(ctx, model, adapter, NULL, graft_merge_at(folder, "o.gguf"), &report));
    graft_merge_summarize(report, &keep);
    ck_assert_ptr_nonnull(strstr(graft_merge_warning(report, 0), "--type auto"));
    graft_merge_report_free(&report);
    ck_assert_ok(graft_merge_one(ctx, model, adapter, "auto", graft_merge_at(folder, "o.gguf"), &report));
    graft_merge_summarize(report, &automatic);
    ck_assert_uint_eq(automatic.n_warnings, 0);
    graft_merge_report_free(&report);
    printf("change %.3g: share %.3g kept, %.3g with auto, %.2f times the bytes\n", keep.change, keep.share, automatic.share,
           (double)automatic.touched_after / (double)keep.touched_after);
    ck_assert_uint_eq(keep.n_below, keep.n_touched);
    ck_assert_double_lt(keep.share, 0.5);
    ck_assert_double_ge(automatic.share, 0.95);
    ck_assert_double_lt(automatic.residual, 1);
    unlink(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("merge");
    TCase *tests = tcase_create("merge");
    tcase_set_timeout(tests, 300);
    tcase_add_checked_fixture(tests, begin, end);
    tcase_add_loop_test(tests, every_kind_gives_the_weights_of_peft, 0, CASES);
    tcase_add_loop_test(tests, f32_and_f16_give_the_logits_of_peft, 0, CASES);
    tcase_add_test(tests, keep_keeps_formats_size_and_what_is_not_touched);
    tcase_add_test(tests, the_file_says_what_was_merged);
    tcase_add_loop_test(tests, every_weight_format_merges_and_runs, 0, 64);
    tcase_add_test(tests, a_tied_model_gets_a_head_of_its_own);
    tcase_add_test(tests, what_changes_nothing_keeps_every_byte);
    tcase_add_test(tests, a_warning_says_that_the_adapter_was_made_for_other_weights);
    tcase_add_test(tests, a_small_change_is_lost_in_four_bits_and_auto_keeps_it);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
