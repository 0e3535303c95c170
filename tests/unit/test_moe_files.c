// SPDX-License-Identifier: Apache-2.0
// Files of adapters on the experts and routers of a mixture: merged into the stacked tensors of a base (PEFT's
// merge_and_unload: make_moe_modules.py), combined, and converted to GGUF and back.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graft/combine.h"
#include "graft/adapter_file.h"
#include "platform/plat.h"
#include "support/merge_files.h"
#include "support/peft_golden.h"
#include "support/support.h"

static struct graft_ctx *ctx;
static char folder[GRAFT_MERGE_PATH_BYTES];

static void begin(void)
{
    ctx = graft_test_ctx(NULL, 0);
    graft_merge_folder_begin(folder);
}

static void end(void)
{
    graft_merge_end(&ctx, folder);
}

static void moe_path(char path[GRAFT_PEFT_PATH_BYTES], const char *name)
{
    char text[128];
    snprintf(text, sizeof text, "../moe/%s", name);
    graft_peft_path(path, text);
}

// What PEFT has of some matrices, in the order of make_moe_modules.py.
static const struct {
    const char *model, *adapter;
    struct {
        const char *tensor;
        uint32_t expert;
    } matrices[3];
    float tolerance; // 0: replaced, the very values
} merged[] = {
    {"qwen3moe",
     "every-expert",
     {{"blk.0.ffn_up_exps.weight", 5}, {"blk.1.ffn_down_exps.weight", 0}, {"blk.1.ffn_gate_inp.weight", 0}},
     1e-5f},
    {"qwen3moe", "experts-dora", {{"blk.0.ffn_down_exps.weight", 3}, {"blk.1.ffn_gate_inp.weight", 0}}, 1e-5f},
    {"qwen3moe", "whole-router", {{"blk.0.ffn_gate_inp.weight", 0}, {"blk.1.ffn_gate_inp.weight", 0}}, 0},
    {"mixtral", "mixtral-experts", {{"blk.1.ffn_gate_exps.weight", 3}, {"blk.0.ffn_down_exps.weight", 2}}, 1e-5f},
};
enum { MERGED = sizeof merged / sizeof *merged };

static void check_logits(const char *model_path, const char *name, const char *adapter, double limit)
{
    static float got[GRAFT_PEFT_TOKENS][GRAFT_PEFT_VOCAB];
    struct graft_device *device;
    struct graft_model *model;
    struct graft_seq *seq;
    struct graft_adapter *handle = NULL;
    struct graft_device_params device_params = {.size = sizeof device_params, .select = "ref"};
    struct graft_model_params params = {
        .size = sizeof params, .n_ctx = 64, .n_batch = 16, .exact = true, .adapter_pool_bytes = 4 << 20};
    char logits[64];
    double worst, kl;
    ck_assert_ok(graft_device_open(ctx, &device, &device_params));
    ck_assert_ok(graft_model_open(device, &model, model_path, &params));
    ck_assert_ok(graft_seq_create(model, &seq));
    if (adapter) {
        ck_assert_msg(graft_adapter_load(model, &handle, adapter) == GRAFT_OK, "%s", graft_last_error());
        ck_assert_ok(graft_seq_set_adapters(seq, &(struct graft_adapter_use){.adapter = handle, .weight = 1}, 1));
    }
    graft_peft_compute(model, seq, false, got);
    snprintf(logits, sizeof logits, "../moe/%s", name);
    kl = graft_peft_divergence(logits, got, &worst);
    ck_assert_msg(kl <= limit, "%s: KL %.3g", name, kl);
    printf("%s: KL %.2g\n", name, kl);
    graft_seq_destroy(&seq);
    graft_adapter_release(&handle);
    graft_model_close(&model);
    graft_device_close(&device);
}

START_TEST(merged_experts_are_those_of_peft)
{
    char base[GRAFT_PEFT_PATH_BYTES], adapter[GRAFT_PEFT_PATH_BYTES], path[GRAFT_PEFT_PATH_BYTES], name[64];
    struct graft_gguf *gguf;
    struct graft_map map;
    uint64_t at = 0;
    const char *out = graft_merge_at(folder, "out.gguf");
    snprintf(name, sizeof name, "%s.gguf", merged[_i].model);
    moe_path(base, name);
    moe_path(adapter, merged[_i].adapter);
    snprintf(name, sizeof name, "%s.merged", merged[_i].adapter);
    moe_path(path, name);
    ck_assert_ok(graft_merge_one(ctx, base, adapter, "f32", out, NULL));
    ck_assert_ok(graft_gguf_open(ctx, &gguf, out, false));
    ck_assert_ok(graft_map_open(&map, path));
    const float *want = (const float *)(const void *)map.data;
    for (size_t k = 0; k < 3 && merged[_i].matrices[k].tensor; k++) {
        const struct graft_gguf_tensor *tensor = graft_gguf_tensor(gguf, merged[_i].matrices[k].tensor);
        ck_assert_ptr_nonnull(tensor);
        ck_assert_uint_eq(tensor->type, GRAFT_TYPE_F32);
        uint64_t count = tensor->dims[0] * tensor->dims[1];
        const float *got = (const float *)(const void *)graft_gguf_data(gguf, tensor) + count * merged[_i].matrices[k].expert;
        for (uint64_t i = 0; i < count; i++, at++) {
            float tolerance = merged[_i].tolerance * (1 + fabsf(want[at]));
            ck_assert_msg(fabsf(got[i] - want[at]) <= tolerance, "%s, value %d: %g, PEFT has %g", merged[_i].matrices[k].tensor,
                          (int)i, (double)got[i], (double)want[at]);
        }
    }
    ck_assert_uint_eq(at, map.size / 4);
    graft_map_close(&map);
    graft_gguf_close(&gguf);
    check_logits(out, merged[_i].adapter, NULL, 1e-9);
}
END_TEST

// Only experts 0, 4 and 6 of the last layer change; formats stay, and so does every byte of all others.
START_TEST(experts_that_nothing_changes_keep_their_bytes)
{
    char base[GRAFT_PEFT_PATH_BYTES], adapter[GRAFT_PEFT_PATH_BYTES];
    struct graft_gguf *before, *after;
    struct graft_merge_report *report;
    struct graft_merge_summary sum;
    const char *out = graft_merge_at(folder, "out.gguf");
    uint32_t changed = 0;
    moe_path(base, "qwen3moe.gguf");
    moe_path(adapter, "some-experts");
    ck_assert_ok(graft_merge_one(ctx, base, adapter, "keep", out, &report));
    ck_assert_ok(graft_gguf_open(ctx, &before, base, false));
    ck_assert_ok(graft_gguf_open(ctx, &after, out, false));
    for (uint64_t i = 0; i < before->n_tensors; i++) {
        const struct graft_gguf_tensor *a = &before->tensors[i], *b = &after->tensors[i];
        ck_assert_uint_eq(a->bytes, b->bytes);
        uint64_t each = a->bytes / a->dims[2];
        for (uint64_t e = 0; e < a->dims[2]; e++) {
            bool differs = memcmp(graft_gguf_data(before, a) + e * each, graft_gguf_data(after, b) + e * each, each) != 0;
            bool may =
                strncmp(a->name.data, "blk.1.ffn_up_exps", 17) == 0 || strncmp(a->name.data, "blk.1.ffn_down_exps", 19) == 0;
            may = may && (e == 0 || e == 4 || e == 6);
            ck_assert_msg(differs == may, "%.*s, expert %d", (int)a->name.length, a->name.data, (int)e);
            changed += differs;
        }
    }
    ck_assert_uint_eq(changed, 6);
    graft_merge_summarize(report, &sum);
    ck_assert_uint_eq(sum.n_touched, 2);
    graft_merge_report_free(&report);
    graft_gguf_close(&before);
    graft_gguf_close(&after);
}
END_TEST

static void convert(const char *from, const char *model, const char *to, enum graft_adapter_format format)
{
    struct graft_adapter_file *file;
    char base[GRAFT_PEFT_PATH_BYTES];
    moe_path(base, model);
    ck_assert_msg(graft_adapter_file_open(ctx, &file, from) == GRAFT_OK, "%s", graft_last_error());
    ck_assert_msg(graft_adapter_file_fit(file, base) == GRAFT_OK, "%s", graft_last_error());
    ck_assert_msg(graft_adapter_file_convert(file, to, format) == GRAFT_OK, "%s", graft_last_error());
    graft_adapter_file_close(&file);
}

// Both change `changes` tensors of the model, in the same way.
static void check_same(const char *a_path, const char *b_path, const char *model, uint32_t changes)
{
    struct graft_adapter_file *a, *b;
    struct graft_adapter_diff *diff;
    char base[GRAFT_PEFT_PATH_BYTES];
    moe_path(base, model);
    ck_assert_ok(graft_adapter_file_open(ctx, &a, a_path));
    ck_assert_ok(graft_adapter_file_open(ctx, &b, b_path));
    ck_assert_ok(graft_adapter_file_fit(a, base));
    ck_assert_ok(graft_adapter_file_fit(b, base));
    ck_assert_ok(graft_adapter_diff_open(ctx, &diff, a, b));
    ck_assert_uint_eq(graft_adapter_diff_count(diff), changes);
    for (uint32_t i = 0; i < graft_adapter_diff_count(diff); i++) {
        struct graft_adapter_difference d;
        graft_adapter_diff_item(diff, i, &d);
        ck_assert_msg(d.kind == GRAFT_ADAPTER_SAME, "%s, %s and %s", d.module, a_path, b_path);
    }
    graft_adapter_diff_close(&diff);
    graft_adapter_file_close(&a);
    graft_adapter_file_close(&b);
}

// The golden GGUF adapters were written by PyPI's gguf from the same tensors.
START_TEST(experts_are_converted_there_and_back)
{
    static const struct {
        const char *peft, *model;
        uint32_t changes;
    } cases[] = {{"every-expert", "qwen3moe.gguf", 52}, {"mixtral-experts", "mixtral.gguf", 28}};
    const char *peft = cases[_i].peft, *model = cases[_i].model, *out = graft_merge_at(folder, "a.gguf");
    char path[GRAFT_PEFT_PATH_BYTES], gguf[GRAFT_PEFT_PATH_BYTES], name[64], folder_out[GRAFT_MERGE_PATH_BYTES];
    snprintf(name, sizeof name, "%s.gguf", peft);
    snprintf(folder_out, sizeof folder_out, "%s", graft_merge_at(folder, "back"));
    moe_path(path, peft);
    moe_path(gguf, name);
    convert(path, model, out, GRAFT_ADAPTER_GGUF);
    check_same(out, gguf, model, cases[_i].changes);
    convert(out, model, folder_out, GRAFT_ADAPTER_PEFT);
    check_same(folder_out, path, model, cases[_i].changes);
}
END_TEST

// Stacked parameters become a module per expert; ranks and scales of their own are kept.
START_TEST(experts_are_written_as_modules)
{
    static const struct {
        const char *name, *base;
        uint32_t changes;
    } cases[] = {{"stacked", "qwen3moe.gguf", 50},      {"some-experts", "qwen3moe.gguf", 6},
                 {"experts-dora", "qwen3moe.gguf", 52}, {"experts-bias", "qwen3moe.gguf", 100},
                 {"whole-router", "qwen3moe.gguf", 20}, {"mixtral-router", "mixtral.gguf", 5}};
    const char *name = cases[_i].name, *base = cases[_i].base;
    char path[GRAFT_PEFT_PATH_BYTES], model[GRAFT_PEFT_PATH_BYTES], out[GRAFT_MERGE_PATH_BYTES];
    snprintf(out, sizeof out, "%s", graft_merge_at(folder, "out"));
    moe_path(path, name);
    moe_path(model, base);
    convert(path, base, out, GRAFT_ADAPTER_PEFT);
    check_same(out, path, base, cases[_i].changes);
    check_logits(model, name, out, 1e-5);
}
END_TEST

START_TEST(what_a_gguf_adapter_cannot_hold_is_refused)
{
    static const char *const names[][2] = {{"some-experts", "layer 1 up_proj of expert 1 is missing"},
                                           {"whole-router", "layers.0.mlp.gate is replaced as a whole (modules_to_save)"}};
    struct graft_adapter_file *file;
    char path[GRAFT_PEFT_PATH_BYTES], base[GRAFT_PEFT_PATH_BYTES];
    moe_path(path, names[_i][0]);
    moe_path(base, "qwen3moe.gguf");
    ck_assert_ok(graft_adapter_file_open(ctx, &file, path));
    ck_assert_ok(graft_adapter_file_fit(file, base));
    ck_assert_status(graft_adapter_file_convert(file, graft_merge_at(folder, "a.gguf"), GRAFT_ADAPTER_GGUF),
                     GRAFT_E_UNSUPPORTED);
    ck_assert_error_has(names[_i][1]);
    graft_adapter_file_close(&file);
}
END_TEST

// cat is exact: what two adapters do together with their weights.
START_TEST(combined_experts_do_what_the_blend_does)
{
    char paths[2][GRAFT_PEFT_PATH_BYTES], model[GRAFT_PEFT_PATH_BYTES], out[GRAFT_MERGE_PATH_BYTES];
    moe_path(paths[0], "every-expert");
    moe_path(paths[1], "some-experts");
    moe_path(model, "qwen3moe.gguf");
    snprintf(out, sizeof out, "%s", graft_merge_at(folder, "out"));
    struct graft_combine_adapter adapters[2] = {{.path = paths[0], .weight = 0.7}, {.path = paths[1], .weight = -0.6}};
    struct graft_combine_params params = {
        .size = sizeof params, .adapters = adapters, .n_adapters = 2, .method = "cat", .base = model};
    ck_assert_msg(graft_combine(ctx, out, &params, NULL) == GRAFT_OK, "%s", graft_last_error());
    check_logits(model, "experts-blend", out, 1e-5);
}
END_TEST

// One is kept as it is; halves of two that are alike are the same again.
START_TEST(whole_routers_are_combined)
{
    char path[GRAFT_PEFT_PATH_BYTES], model[GRAFT_PEFT_PATH_BYTES], out[GRAFT_MERGE_PATH_BYTES];
    moe_path(path, "whole-router");
    moe_path(model, "qwen3moe.gguf");
    snprintf(out, sizeof out, "%s", graft_merge_at(folder, "out"));
    struct graft_combine_adapter adapters[2] = {{.path = path, .weight = 0.25}, {.path = path, .weight = 0.75}};
    struct graft_combine_params params = {
        .size = sizeof params, .adapters = adapters, .n_adapters = 2, .method = "cat", .base = model};
    ck_assert_msg(graft_combine(ctx, out, &params, NULL) == GRAFT_OK, "%s", graft_last_error());
    check_logits(model, "whole-router", out, 1e-5);
    adapters[1].weight = 0.5;
    ck_assert_status(graft_combine(ctx, out, &params, NULL), GRAFT_E_ARGUMENT);
    ck_assert_error_has("mlp.gate.weight replaces a tensor of the base");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("moe files");
    TCase *tests = tcase_create("moe files");
    tcase_add_checked_fixture(tests, begin, end);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, merged_experts_are_those_of_peft, 0, MERGED);
    tcase_add_test(tests, experts_that_nothing_changes_keep_their_bytes);
    tcase_add_loop_test(tests, experts_are_converted_there_and_back, 0, 2);
    tcase_add_loop_test(tests, experts_are_written_as_modules, 0, 6);
    tcase_add_loop_test(tests, what_a_gguf_adapter_cannot_hold_is_refused, 0, 2);
    tcase_add_test(tests, combined_experts_do_what_the_blend_does);
    tcase_add_test(tests, whole_routers_are_combined);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
