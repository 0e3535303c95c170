// SPDX-License-Identifier: Apache-2.0
// Hostile models that are sound as files, by the numbers of the threat list (A 13 to 21; A 1 to 12 and 18 to 20 of the
// container: test_gguf): the status, and the whole message.
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/session/session.h"
#include "support/support.h"
#include "support/tiny_model.h"

// A key of another value than the model's own, or of another type; `kind` 'u', 'f', 's' or 0: as the model is.
struct hostile {
    const char *name;
    struct graft_tiny_model model;
    char kind;
    const char *key;
    uint32_t u;
    float f;
    const char *s;
    enum graft_status expected;
    const char *message; // behind "x.gguf: "
};

static void expect(const struct hostile *h)
{
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    struct graft_test_gguf b = {0};
    struct graft_tiny_model model = h->model;
    struct graft_gguf *gguf;
    struct graft_source *source = NULL;
    if (h->kind) {
        int i = 0;
        while (model.leave_out[i]) {
            i++;
        }
        model.leave_out[i] = h->key;
    }
    graft_tiny_model_build(&b, &model);
    if (h->kind == 'u') {
        graft_test_gguf_u32(&b, h->key, h->u);
    } else if (h->kind == 'f') {
        graft_test_gguf_f32(&b, h->key, h->f);
    }
    graft_test_gguf_finish(&b);
    ck_assert_ok(graft_gguf_open_memory(ctx, &gguf, b.file, b.file_size, "x.gguf", false));
    enum graft_status got = graft_source_open(ctx, &source, gguf);
    char want[1024];
    snprintf(want, sizeof want, "x.gguf: %s", h->message);
    ck_assert_msg(got == h->expected && strcmp(graft_last_error(), want) == 0, "%s: %s \"%s\", expected %s \"%s\"", h->name,
                  graft_status_name(got), graft_last_error(), graft_status_name(h->expected), want);
    ck_assert_ptr_null(source);
    graft_gguf_close(&gguf);
    graft_ctx_destroy(&ctx);
    graft_test_gguf_free(&b);
    ck_assert_uint_eq(alloc.live, 0);
}

static void expect_all(const struct hostile *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        expect(&cases[i]);
    }
}
#define COUNT(table) (sizeof(table) / sizeof *(table))

START_TEST(item_14_an_unknown_architecture_is_refused_with_the_list)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    static const char *const names[] = {"mamba", "", "Llama", "llama\n", "../llama"};
    for (size_t i = 0; i < COUNT(names); i++) {
        struct graft_test_gguf b = {0};
        struct graft_gguf *gguf;
        struct graft_source *source = NULL;
        char begin[100];
        graft_test_gguf_text(&b, "general.architecture", names[i]);
        graft_test_gguf_finish(&b);
        ck_assert_ok(graft_gguf_open_memory(ctx, &gguf, b.file, b.file_size, "x.gguf", false));
        ck_assert_status(graft_source_open(ctx, &source, gguf), GRAFT_E_UNSUPPORTED);
        snprintf(begin, sizeof begin, "x.gguf: architecture \"%s\" is not supported; supported are: llama", names[i]);
        ck_assert_msg(strncmp(graft_last_error(), begin, strlen(begin)) == 0, "\"%s\", expected \"%s\"", graft_last_error(),
                      begin);
        graft_gguf_close(&gguf);
        graft_test_gguf_free(&b);
    }
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(item_15_hyperparameters_are_refused_with_the_value_and_what_is_allowed)
{
#define U(k, v, st, text)                                                                                                      \
    {                                                                                                                          \
        k " " #v, {0}, 'u', "llama." k, v, 0, NULL, st, text                                                                   \
    }
#define F(k, v, text)                                                                                                          \
    {                                                                                                                          \
        k, {0}, 'f', "llama." k, 0, v, NULL, GRAFT_E_FORMAT, "key llama." k " is " text                                        \
    }
    static const struct hostile cases[] = {
        U("attention.head_count", 0, GRAFT_E_FORMAT, "key llama.attention.head_count is 0, allowed are 1 to 1024"),
        U("attention.head_count", 4294967295, GRAFT_E_FORMAT,
          "key llama.attention.head_count is 4294967295, allowed are 1 to 1024"),
        U("attention.head_count_kv", 0, GRAFT_E_FORMAT, "key llama.attention.head_count_kv is 0, allowed are 1 to 1024"),
        U("attention.head_count_kv", 8, GRAFT_E_FORMAT,
          "llama.attention.head_count is 4, no multiple of llama.attention.head_count_kv 8"),
        U("attention.head_count_kv", 3, GRAFT_E_FORMAT,
          "llama.attention.head_count is 4, no multiple of llama.attention.head_count_kv 3"),
        U("block_count", 0, GRAFT_E_FORMAT, "key llama.block_count is 0, allowed are 1 to 512"),
        U("block_count", 4294967295, GRAFT_E_FORMAT, "key llama.block_count is 4294967295, allowed are 1 to 512"),
        U("rope.dimension_count", 0, GRAFT_E_FORMAT, "key llama.rope.dimension_count is 0, allowed are 2 to 16"),
        U("rope.dimension_count", 18, GRAFT_E_FORMAT, "key llama.rope.dimension_count is 18, allowed are 2 to 16"),
        U("rope.dimension_count", 3, GRAFT_E_FORMAT, "llama.rope.dimension_count is 3, allowed are even numbers"),
        U("context_length", 0, GRAFT_E_FORMAT, "key llama.context_length is 0, allowed are 1 to 134217728"),
        U("context_length", 4294967295, GRAFT_E_FORMAT, "key llama.context_length is 4294967295, allowed are 1 to 134217728"),
        U("embedding_length", 0, GRAFT_E_FORMAT, "key llama.embedding_length is 0, allowed are 1 to 131072"),
        U("feed_forward_length", 0, GRAFT_E_FORMAT, "key llama.feed_forward_length is 0, allowed are 1 to 524288"),
        U("vocab_size", 0, GRAFT_E_FORMAT, "key llama.vocab_size is 0, allowed are 1 to 2097152"),
        U("vocab_size", 1000, GRAFT_E_FORMAT, "llama.vocab_size is 1000, tensor token_embd.weight has 290 rows"),
        F("attention.layer_norm_rms_epsilon", 0.0f, "0, allowed are finite numbers above 0"),
        F("attention.layer_norm_rms_epsilon", -1.0f, "-1, allowed are finite numbers above 0"),
        F("attention.layer_norm_rms_epsilon", NAN, "nan, allowed are finite numbers above 0"),
        F("attention.layer_norm_rms_epsilon", INFINITY, "inf, allowed are finite numbers above 0"),
        F("rope.freq_base", 0.0f, "0, allowed are finite numbers above 0"),
        F("rope.freq_base", NAN, "nan, allowed are finite numbers above 0"),
        {"width is no multiple of the heads",
         {.leave_out = {"llama.attention.key_length", "llama.attention.value_length"}},
         'u',
         "llama.attention.head_count",
         6,
         0,
         NULL,
         GRAFT_E_FORMAT,
         "llama.embedding_length is 64, no multiple of llama.attention.head_count 6"},
        {"rows of the embedding",
         {.wrong_shape = "token_embd.weight"},
         0,
         NULL,
         0,
         0,
         NULL,
         GRAFT_E_FORMAT,
         "tokenizer.ggml.tokens has 290 items, tensor token_embd.weight has 291 rows"},
    };
#undef U
#undef F
    expect_all(cases, COUNT(cases));
}
END_TEST

START_TEST(item_15_hyperparameters_of_a_wrong_type_are_refused_with_both)
{
    static const struct hostile cases[] = {
        {"float", {0}, 'f', "llama.block_count", 0, 2.0f, NULL, GRAFT_E_FORMAT, "the type is f32, it must be an integer"},
        {"string", {0}, 's', "llama.embedding_length", 0, 0, "64", GRAFT_E_FORMAT, "the type is string, it must be an integer"},
        {"string", {0}, 's', "llama.rope.freq_base", 0, 0, "1e4", GRAFT_E_FORMAT, "the type is string, it must be a number"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct hostile *h = &cases[i];
        struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
        struct graft_test_gguf b = {0};
        struct graft_gguf *gguf;
        struct graft_source *source = NULL;
        char want[200];
        graft_tiny_model_build(&b, &(struct graft_tiny_model){.leave_out = {h->key}});
        uint64_t at = b.n_keys;
        if (h->kind == 'f') {
            graft_test_gguf_f32(&b, h->key, h->f);
        } else {
            graft_test_gguf_text(&b, h->key, h->s);
        }
        graft_test_gguf_finish(&b);
        ck_assert_ok(graft_gguf_open_memory(ctx, &gguf, b.file, b.file_size, "x.gguf", false));
        ck_assert_status(graft_source_open(ctx, &source, gguf), h->expected);
        snprintf(want, sizeof want, "x.gguf: key %s at offset %zu: %s", h->key, b.key_at[at] + 8 + strlen(h->key) + 4,
                 h->message);
        ck_assert_str_eq(graft_last_error(), want);
        graft_gguf_close(&gguf);
        graft_ctx_destroy(&ctx);
        graft_test_gguf_free(&b);
    }
}
END_TEST

START_TEST(item_16_everything_that_is_missing_is_listed)
{
    static const struct hostile cases[] = {
        {"one tensor",
         {.leave_out = {"blk.1.ffn_up.weight"}},
         0,
         NULL,
         0,
         0,
         NULL,
         GRAFT_E_FORMAT,
         "1 keys or tensors of architecture llama are missing: blk.1.ffn_up.weight"},
        {"keys and tensors",
         {.leave_out = {"llama.block_count", "blk.0.attn_q.weight", "llama.attention.head_count"}},
         0,
         NULL,
         0,
         0,
         NULL,
         GRAFT_E_FORMAT,
         "3 keys or tensors of architecture llama are missing: llama.block_count, llama.attention.head_count, "
         "blk.0.attn_q.weight"},
        {"the embedding",
         {.leave_out = {"token_embd.weight", "output_norm.weight"}},
         0,
         NULL,
         0,
         0,
         NULL,
         GRAFT_E_FORMAT,
         "2 keys or tensors of architecture llama are missing: token_embd.weight, output_norm.weight"},
    };
    expect_all(cases, COUNT(cases));
}
END_TEST

START_TEST(item_17_shapes_that_the_hyperparameters_do_not_give_are_refused_with_both)
{
    static const struct {
        const char *tensor, *found, *wanted;
    } shapes[] = {
        {"blk.0.attn_q.weight", "64, 65, 1, 1", "64, 64"},   {"blk.1.attn_k.weight", "64, 33, 1, 1", "64, 32"},
        {"blk.0.attn_v.weight", "64, 33, 1, 1", "64, 32"},   {"blk.1.attn_output.weight", "64, 65, 1, 1", "64, 64"},
        {"blk.0.ffn_gate.weight", "64, 97, 1, 1", "64, 96"}, {"blk.1.ffn_up.weight", "64, 97, 1, 1", "64, 96"},
        {"blk.0.ffn_down.weight", "96, 65, 1, 1", "96, 64"}, {"blk.0.attn_norm.weight", "65, 1, 1, 1", "64, 1"},
        {"blk.1.ffn_norm.weight", "65, 1, 1, 1", "64, 1"},   {"output_norm.weight", "65, 1, 1, 1", "64, 1"},
        {"output.weight", "64, 291, 1, 1", "64, 290"},
    };
    for (size_t i = 0; i < COUNT(shapes); i++) {
        char message[200];
        snprintf(message, sizeof message, "tensor %s has shape [%s], the hyperparameters ask for [%s]", shapes[i].tensor,
                 shapes[i].found, shapes[i].wanted);
        expect(&(struct hostile){.name = shapes[i].tensor,
                                 .model = {.untied = true, .wrong_shape = shapes[i].tensor},
                                 .expected = GRAFT_E_FORMAT,
                                 .message = message});
    }
    // More dimensions than a matrix has: the sibling that is not looked at (ne[2]) is where other loaders read too far.
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_test_gguf b = {0};
    struct graft_gguf *gguf;
    struct graft_source *source = NULL;
    graft_tiny_model_build(&b, &(struct graft_tiny_model){.leave_out = {"blk.0.attn_k.weight"}});
    graft_test_gguf_tensor(&b, "blk.0.attn_k.weight", GRAFT_TYPE_F32, 3, (uint64_t[]){64, 32, 2}, NULL, 4 * 64 * 32 * 2);
    graft_test_gguf_finish(&b);
    ck_assert_ok(graft_gguf_open_memory(ctx, &gguf, b.file, b.file_size, "x.gguf", false));
    ck_assert_status(graft_source_open(ctx, &source, gguf), GRAFT_E_FORMAT);
    ck_assert_str_eq(graft_last_error(), "x.gguf: tensor blk.0.attn_k.weight has shape [64, 32, 2, 1], the hyperparameters ask "
                                         "for [64, 32]");
    graft_gguf_close(&gguf);
    graft_ctx_destroy(&ctx);
    graft_test_gguf_free(&b);
}
END_TEST

START_TEST(item_19_what_is_no_model_file_or_over_the_budget_is_refused_before_it_is_read)
{
    char path[GRAFT_TINY_PATH_BYTES];
    graft_tiny_model_file(NULL, path);
#ifndef _WIN32
    char fifo[100];
    snprintf(fifo, sizeof fifo, "/tmp/graft-hostile-%ld", (long)getpid());
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
#endif
    const struct {
        const char *path, *message;
    } files[] = {{"/tmp", "/tmp: is a directory, not a regular file"},
#ifndef _WIN32
                 {"/dev/zero", "/dev/zero: is a device or socket, not a regular file"},
                 {fifo, NULL},
#endif
                 {"/nonexistent.gguf", "/nonexistent.gguf: No such file or directory"}};
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0), *small = graft_test_ctx(NULL, 200000);
    struct graft_device *device;
    struct graft_model *model;
    struct graft_device_params ref = {.size = sizeof ref, .select = "ref"};
    ck_assert_ok(graft_device_open(ctx, &device, &ref));
    for (size_t i = 0; i < COUNT(files); i++) {
        ck_assert_status(graft_model_open(device, &model, files[i].path, NULL), GRAFT_E_IO);
        ck_assert(files[i].message ? strcmp(graft_last_error(), files[i].message) == 0
                                   : strstr(graft_last_error(), ": is a FIFO, not a regular file") != NULL);
        ck_assert_ptr_null(model);
    }
#ifndef _WIN32
    unlink(fifo);
#endif
    graft_device_close(&device);
    graft_ctx_destroy(&ctx);
    ck_assert_ok(graft_device_open(small, &device, &ref));
    ck_assert_status(graft_model_open(device, &model, path, NULL), GRAFT_E_BUDGET);
    ck_assert_error_has("tiny needs ");
    ck_assert_error_has("are missing; a context of ");
    graft_device_close(&device);
    graft_ctx_destroy(&small);
    remove(path);
}
END_TEST

// A tiny model in which one value of one tensor is not finite: written over the bytes of the finished file.
static void damage(struct graft_test_gguf *b, const char *tensor, uint64_t at, const void *bytes, size_t count)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_gguf *gguf;
    ck_assert_ok(graft_gguf_open_memory(ctx, &gguf, b->file, b->file_size, "x.gguf", false));
    const struct graft_gguf_tensor *t = graft_gguf_tensor(gguf, tensor);
    ck_assert_ptr_nonnull(t);
    graft_test_gguf_patch(b, t->offset + at, bytes, count);
    graft_gguf_close(&gguf);
    graft_ctx_destroy(&ctx);
}

START_TEST(item_21_values_that_are_not_finite_are_found_by_tensor_and_index)
{
    static const uint8_t inf16[] = {0x00, 0x7c}, nan32[] = {0x01, 0x00, 0x80, 0x7f}, nan16[] = {0xc1, 0x7f},
                         minus_inf16[] = {0x00, 0xfc};
    static const struct {
        const char *name;
        uint32_t type;
        uint64_t block_bytes, scale_at;
        const uint8_t *bytes;
        size_t count;
        uint64_t bad, first; // in block 3
    } cases[] = {
        {"F32", GRAFT_TYPE_F32, 4, 0, nan32, 4, 1, 3},
        {"F16", GRAFT_TYPE_F16, 2, 0, minus_inf16, 2, 1, 3},
        {"BF16", GRAFT_TYPE_BF16, 2, 0, nan16, 2, 1, 3},
        {"Q4_0", GRAFT_TYPE_Q4_0, 18, 0, inf16, 2, 32, 96},
        {"Q4_1 m", GRAFT_TYPE_Q4_1, 20, 2, inf16, 2, 32, 96},
        {"Q5_0", GRAFT_TYPE_Q5_0, 22, 0, minus_inf16, 2, 32, 96},
        {"Q5_1 m", GRAFT_TYPE_Q5_1, 24, 2, inf16, 2, 32, 96},
        {"Q8_0", GRAFT_TYPE_Q8_0, 34, 0, inf16, 2, 32, 96},
        {"Q2_K", GRAFT_TYPE_Q2_K, 84, 80, inf16, 2, 256, 768},
        {"Q3_K", GRAFT_TYPE_Q3_K, 110, 108, inf16, 2, 256, 768},
        {"Q4_K", GRAFT_TYPE_Q4_K, 144, 0, inf16, 2, 256, 768},
        {"Q5_K", GRAFT_TYPE_Q5_K, 176, 0, inf16, 2, 256, 768},
        {"Q6_K", GRAFT_TYPE_Q6_K, 210, 208, inf16, 2, 256, 768},
        {"IQ4_NL", GRAFT_TYPE_IQ4_NL, 18, 0, inf16, 2, 32, 96},
        {"IQ4_XS", GRAFT_TYPE_IQ4_XS, 136, 0, inf16, 2, 256, 768},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
        struct graft_test_gguf b = {0};
        struct graft_file *file;
        struct graft_file_tensor tensor;
        struct graft_tensor_values values;
        struct graft_device *device;
        struct graft_model *model;
        char path[] = "/tmp/graft-hostile-XXXXXX", want[400];
        int fd = mkstemp(path);
        ck_assert_int_ge(fd, 0);
        close(fd);
        graft_tiny_model_build(&b, &(struct graft_tiny_model){.type = cases[i].type});
        graft_test_gguf_finish(&b);
        damage(&b, "blk.1.ffn_up.weight", 3 * cases[i].block_bytes + cases[i].scale_at, cases[i].bytes, cases[i].count);
        graft_test_gguf_save(&b, path);
        ck_assert_ok(graft_file_open(ctx, &file, path));
        uint64_t found = 0;
        for (uint64_t t = 0; t < graft_file_tensor_count(file); t++) {
            ck_assert_ok(graft_file_tensor_values(file, t, &values));
            ck_assert_ok(graft_file_tensor(file, t, &tensor));
            uint64_t n = tensor.dims[0] * tensor.dims[1];
            bool here = strcmp(tensor.name, "blk.1.ffn_up.weight") == 0;
            ck_assert_msg(values.looked_at == n && values.bad <= cases[i].bad && (values.bad > 0) == here,
                          "%s, %s: %d of %d bad", cases[i].name, tensor.name, (int)values.bad, (int)values.looked_at);
            if (here) { // a level of zero times infinity is not finite either; formats with zero sub-scales may have fewer
                ck_assert_msg(values.first >= cases[i].first && values.first < cases[i].first + cases[i].bad, "%s: first %d",
                              cases[i].name, (int)values.first);
                snprintf(want, sizeof want,
                         "%s: tensor blk.1.ffn_up.weight: %d of %d values are not finite, the first at index "
                         "%d",
                         path, (int)values.bad, (int)n, (int)values.first);
                found++;
            }
        }
        ck_assert_uint_eq(found, 1);
        ck_assert_status(graft_file_tensor_values(file, graft_file_tensor_count(file), &values), GRAFT_E_ARGUMENT);
        graft_file_close(&file);
        struct graft_device_params ref = {.size = sizeof ref, .select = "ref"};
        ck_assert_ok(graft_device_open(ctx, &device, &ref));
        struct graft_model_params params = {.size = sizeof params, .n_ctx = 32, .check_values = true};
        ck_assert_status(graft_model_open(device, &model, path, &params), GRAFT_E_FORMAT);
        ck_assert_str_eq(graft_last_error(), want);
        params.check_values = false;
        ck_assert_ok(graft_model_open(device, &model, path, &params));
        graft_model_close(&model);
        graft_device_close(&device);
        graft_ctx_destroy(&ctx);
        graft_test_gguf_free(&b);
        remove(path);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hostile models");
    TCase *tc = tcase_create("hostile models");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, item_14_an_unknown_architecture_is_refused_with_the_list);
    tcase_add_test(tc, item_15_hyperparameters_are_refused_with_the_value_and_what_is_allowed);
    tcase_add_test(tc, item_15_hyperparameters_of_a_wrong_type_are_refused_with_both);
    tcase_add_test(tc, item_16_everything_that_is_missing_is_listed);
    tcase_add_test(tc, item_17_shapes_that_the_hyperparameters_do_not_give_are_refused_with_both);
    tcase_add_test(tc, item_19_what_is_no_model_file_or_over_the_budget_is_refused_before_it_is_read);
    tcase_add_test(tc, item_21_values_that_are_not_finite_are_found_by_tensor_and_index);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
