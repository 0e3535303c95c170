// SPDX-License-Identifier: Apache-2.0
// Models in several files: those that PyPI gguf splits (golden/make_split.py) are the model they were made of, and every way in
// which a file can be missing or wrong is one sentence that names it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loaders/gguf.h"
#include "support/gguf_builder.h"
#include "support/merge_files.h"
#include "support/peft_golden.h"
#include "support/support.h"

#define SPLIT GRAFT_TEST_SOURCE_DIR "/golden/gguf/split-00001-of-00003.gguf"

START_TEST(a_split_model_has_the_tensors_and_keys_of_the_whole_one)
{
    char path[GRAFT_PEFT_PATH_BYTES];
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    struct graft_gguf *whole, *split;
    graft_peft_path(path, "base.gguf");
    ck_assert_ok(graft_gguf_open(ctx, &whole, path, false));
    ck_assert_ok(graft_gguf_open(ctx, &split, SPLIT, false));
    ck_assert_uint_eq(split->n_parts, 3);
    ck_assert_uint_eq(split->n_tensors, whole->n_tensors);
    ck_assert_uint_eq(split->n_keys, whole->n_keys + 3);
    const char *wrong = graft_test_gguf_walk(split);
    ck_assert_msg(!wrong, "%s", wrong);
    uint32_t seen[3] = {0};
    for (uint64_t i = 0; i < whole->n_tensors; i++) {
        char name[GRAFT_GGUF_MAX_NAME_BYTES + 1];
        snprintf(name, sizeof name, "%.*s", (int)whole->tensors[i].name.length, whole->tensors[i].name.data);
        const struct graft_gguf_tensor *t = graft_gguf_tensor(split, name);
        ck_assert_ptr_nonnull(t);
        ck_assert_uint_eq(t->bytes, whole->tensors[i].bytes);
        ck_assert_mem_eq(graft_gguf_data(split, t), graft_gguf_data(whole, &whole->tensors[i]), t->bytes);
        seen[graft_gguf_part_of(split, t)]++;
    }
    ck_assert(seen[0] && seen[1] && seen[2]);
    graft_gguf_close(&whole);
    graft_gguf_close(&split);
    for (uint32_t n = 1; n < 100; n++) { // every allocation fails once
        alloc.fail_at = alloc.requests + n;
        if (graft_gguf_open(ctx, &split, SPLIT, false) == GRAFT_OK) {
            graft_gguf_close(&split);
            break;
        }
        ck_assert_ptr_null(split);
        ck_assert_uint_lt(n, 99);
    }
    graft_ctx_destroy(&ctx);
    ck_assert_uint_eq(alloc.live, 0);
}
END_TEST

// False: there is no such device.
static bool compute(struct graft_ctx *ctx, const char *select, const char *path, float out[GRAFT_PEFT_TOKENS][GRAFT_PEFT_VOCAB])
{
    struct graft_device *device;
    struct graft_model *model;
    struct graft_seq *seq;
    struct graft_device_params params = {.size = sizeof params, .select = select};
    enum graft_status status = graft_device_open(ctx, &device, &params);
    if (status == GRAFT_E_DEVICE && !select) {
        printf("skipped: %s\n", graft_last_error());
        return false;
    }
    ck_assert_status(status, GRAFT_OK);
    ck_assert_ok(graft_model_open(device, &model, path, NULL));
    ck_assert_ok(graft_seq_create(model, &seq));
    graft_peft_compute(model, seq, false, out);
    graft_seq_destroy(&seq);
    graft_model_close(&model);
    graft_device_close(&device);
    return true;
}

START_TEST(a_split_model_computes_the_bits_of_the_whole_one)
{
    static float whole[GRAFT_PEFT_TOKENS][GRAFT_PEFT_VOCAB], split[GRAFT_PEFT_TOKENS][GRAFT_PEFT_VOCAB];
    char path[GRAFT_PEFT_PATH_BYTES];
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    graft_peft_path(path, "base.gguf");
    if (compute(ctx, _i ? "ref" : NULL, path, whole)) {
        compute(ctx, _i ? "ref" : NULL, SPLIT, split);
        ck_assert_mem_eq(whole, split, sizeof whole);
        double worst;
        ck_assert_double_lt(graft_peft_divergence("base", split, &worst), 1e-4);
    }
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(a_split_base_is_merged_into_one_file_with_the_same_tensors)
{
    char folder[GRAFT_MERGE_PATH_BYTES], base[GRAFT_PEFT_PATH_BYTES], adapter[GRAFT_PEFT_PATH_BYTES];
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    graft_merge_folder_begin(folder);
    graft_peft_path(base, "base.gguf");
    graft_peft_path(adapter, "plain");
    const char *one = graft_merge_at(folder, "one.gguf"), *two = graft_merge_at(folder, "two.gguf");
    ck_assert_ok(graft_merge_one(ctx, base, adapter, "keep", one, NULL));
    ck_assert_ok(graft_merge_one(ctx, SPLIT, adapter, "keep", two, NULL));
    struct graft_gguf *a, *b;
    ck_assert_ok(graft_gguf_open(ctx, &a, one, false));
    ck_assert_ok(graft_gguf_open(ctx, &b, two, false));
    ck_assert_ptr_null(graft_gguf_find(b, "split.count"));
    ck_assert_uint_eq(a->n_tensors, b->n_tensors);
    for (uint64_t i = 0; i < a->n_tensors; i++) {
        char name[GRAFT_GGUF_MAX_NAME_BYTES + 1];
        snprintf(name, sizeof name, "%.*s", (int)a->tensors[i].name.length, a->tensors[i].name.data);
        const struct graft_gguf_tensor *t = graft_gguf_tensor(b, name);
        ck_assert_ptr_nonnull(t);
        ck_assert_mem_eq(graft_gguf_data(a, &a->tensors[i]), graft_gguf_data(b, t), t->bytes);
    }
    graft_gguf_close(&a);
    graft_gguf_close(&b);
    graft_merge_folder_end(folder);
    graft_ctx_destroy(&ctx);
}
END_TEST

// A set of two files with one tensor each, and what can be changed about them.
struct set {
    const char *second_tensor;
    uint16_t count[2], no[2];
    uint32_t tensors[2];
    bool no_total, no_second, cut_second;
    const char *names[2];
};

static void save(const char *folder, const struct set *set, int i)
{
    struct graft_test_gguf b = {0};
    char path[600];
    if (i == 0) {
        graft_test_gguf_text(&b, "general.architecture", "llama");
    }
    graft_test_gguf_key(&b, "split.no", GRAFT_GGUF_U16, (uint8_t[]){(uint8_t)set->no[i], 0}, 2);
    graft_test_gguf_key(&b, "split.count", GRAFT_GGUF_U16, (uint8_t[]){(uint8_t)set->count[i], (uint8_t)(set->count[i] >> 8)},
                        2);
    if (!set->no_total) {
        graft_test_gguf_key(&b, "split.tensors.count", GRAFT_GGUF_I32, (uint8_t[]){(uint8_t)set->tensors[i], 0, 0, 0}, 4);
    }
    graft_test_gguf_tensor(&b, i ? set->second_tensor : "a.weight", GRAFT_TYPE_F32, 1, (uint64_t[]){4}, NULL, 16);
    graft_test_gguf_finish(&b);
    if (i && set->cut_second) {
        b.file_size -= 8;
    }
    snprintf(path, sizeof path, "%s/%s", folder, set->names[i]);
    graft_test_gguf_save(&b, path);
    graft_test_gguf_free(&b);
}

START_TEST(every_wrong_set_of_files_is_refused_by_name)
{
    const char *one = "m-00001-of-00002.gguf", *two = "m-00002-of-00002.gguf";
    const struct {
        struct set set;
        const char *open;
        enum graft_status status;
        const char *says[2];
    } cases[] = {
        {{"b.weight", {2, 2}, {0, 1}, {2, 2}, .names = {one, two}}, one, GRAFT_OK, {"", ""}},
        {{"b.weight", {2, 2}, {0, 1}, {2, 2}, .names = {one, two}},
         two,
         GRAFT_E_UNSUPPORTED,
         {"m-00002-of-00002.gguf: is part 2 of 2 of a split model", "m-00001-of-00002.gguf"}},
        {{"b.weight", {2, 2}, {0, 1}, {2, 2}, .names = {"renamed.gguf", two}},
         "renamed.gguf",
         GRAFT_E_FORMAT,
         {"renamed.gguf: is part 1 of 2", "must end in -00001-of-00002.gguf"}},
        {{"b.weight", {2, 2}, {0, 1}, {2, 2}, .no_second = true, .names = {one, two}},
         one,
         GRAFT_E_IO,
         {"is the first of 2 files", "m-00002-of-00002.gguf: No such file"}},
        {{"b.weight", {2, 2}, {0, 0}, {2, 2}, .names = {one, two}},
         one,
         GRAFT_E_FORMAT,
         {"m-00002-of-00002.gguf: split.no is 0, expected 1", "not part 2 of this model"}},
        {{"b.weight", {2, 3}, {0, 1}, {2, 2}, .names = {one, two}},
         one,
         GRAFT_E_FORMAT,
         {"m-00002-of-00002.gguf: split.count is 3, expected 2", ""}},
        {{"b.weight", {2, 2}, {0, 1}, {2, 5}, .names = {one, two}},
         one,
         GRAFT_E_FORMAT,
         {"m-00002-of-00002.gguf: split.tensors.count is 5, expected 2", ""}},
        {{"b.weight", {2, 2}, {0, 1}, {3, 3}, .names = {one, two}},
         one,
         GRAFT_E_FORMAT,
         {"split.tensors.count is 3, the 2 files have 2 tensors", "m-00001"}},
        {{"a.weight", {2, 2}, {0, 1}, {2, 2}, .names = {one, two}},
         one,
         GRAFT_E_FORMAT,
         {"m-00002-of-00002.gguf: tensor a.weight is in", "m-00001-of-00002.gguf too"}},
        {{"b.weight", {2, 2}, {0, 1}, {2, 2}, .no_total = true, .names = {one, two}},
         one,
         GRAFT_E_FORMAT,
         {"split.tensors.count", "m-00001"}},
        {{"b.weight", {2, 2}, {0, 1}, {2, 2}, .cut_second = true, .names = {one, two}},
         one,
         GRAFT_E_FORMAT,
         {"m-00002-of-00002.gguf: tensor b.weight", "cut short"}},
        {{"b.weight", {2, 2}, {7, 1}, {2, 2}, .names = {one, two}},
         one,
         GRAFT_E_FORMAT,
         {"split.no is 7", "allowed are 0 to 1"}},
        {{"b.weight", {2000, 2}, {0, 1}, {2, 2}, .names = {one, two}}, one, GRAFT_E_LIMIT, {"split.count is 2000", "1024"}},
    };
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char folder[GRAFT_MERGE_PATH_BYTES], path[600];
        struct graft_gguf *gguf;
        graft_merge_folder_begin(folder);
        save(folder, &cases[i].set, 0);
        if (!cases[i].set.no_second) {
            save(folder, &cases[i].set, 1);
        }
        snprintf(path, sizeof path, "%s/%s", folder, cases[i].open);
        enum graft_status status = graft_gguf_open(ctx, &gguf, path, false);
        ck_assert_msg(status == cases[i].status, "case %zu: %s", i, status ? graft_last_error() : "opened");
        for (int k = 0; k < 2 && status != GRAFT_OK; k++) {
            ck_assert_error_has(cases[i].says[k]);
        }
        graft_gguf_close(&gguf);
        graft_merge_folder_end(folder);
    }
    graft_ctx_destroy(&ctx);
    ck_assert_uint_eq(alloc.live, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gguf_split");
    TCase *tc = tcase_create("split");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, a_split_model_has_the_tensors_and_keys_of_the_whole_one);
    tcase_add_loop_test(tc, a_split_model_computes_the_bits_of_the_whole_one, 0, 2);
    tcase_add_test(tc, a_split_base_is_merged_into_one_file_with_the_same_tensors);
    tcase_add_test(tc, every_wrong_set_of_files_is_refused_by_name);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
