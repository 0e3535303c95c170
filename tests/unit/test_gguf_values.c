// SPDX-License-Identifier: Apache-2.0
// Keys, tensors and values of a good file, as PyPI gguf wrote and reads them (tests/golden/make_gguf.py).
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "loaders/gguf.h"
#include "support/gguf_builder.h"
#include "support/support.h"

static uint64_t fnv(const uint8_t *data, uint64_t bytes)
{
    uint64_t digest = 0xcbf29ce484222325u;
    for (uint64_t i = 0; i < bytes; i++) {
        digest = (digest ^ data[i]) * 0x100000001b3u;
    }
    return digest;
}

START_TEST(a_file_of_pypi_gguf_reads_as_pypi_gguf_reads_it)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_gguf *gguf;
    ck_assert_ok(graft_gguf_open(ctx, &gguf, GRAFT_TEST_SOURCE_DIR "/golden/gguf/small.gguf", false));
    FILE *list = fopen(GRAFT_TEST_SOURCE_DIR "/golden/gguf/small.txt", "r");
    ck_assert_ptr_nonnull(list);
    char line[400], got[400];
    uint64_t keys = 0, tensors = 0;
    while (fgets(line, sizeof line, list)) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == 'k') {
            const struct graft_gguf_key *key = &gguf->keys[keys++];
            ck_assert_uint_le(keys, gguf->n_keys);
            snprintf(got, sizeof got, "key %.*s %d %d %" PRIu64 " %016" PRIx64, (int)key->name.length, key->name.data,
                     (int)key->type, (int)key->item_type, key->count, fnv(key->data, key->bytes));
        } else {
            const struct graft_gguf_tensor *tensor = &gguf->tensors[tensors++];
            ck_assert_uint_le(tensors, gguf->n_tensors);
            int at = snprintf(got, sizeof got, "tensor %.*s %u %" PRIu64 " %" PRIu64, (int)tensor->name.length,
                              tensor->name.data, tensor->type, tensor->offset, tensor->bytes);
            for (uint32_t k = 0; k < tensor->n_dims; k++) {
                at += snprintf(got + at, sizeof got - (size_t)at, " %" PRIu64, tensor->dims[k]);
            }
            snprintf(got + at, sizeof got - (size_t)at, " %016" PRIx64, fnv(graft_gguf_data(gguf, tensor), tensor->bytes));
        }
        ck_assert_str_eq(got, line);
    }
    fclose(list);
    ck_assert_uint_eq(keys, gguf->n_keys);
    ck_assert_uint_eq(tensors, gguf->n_tensors);
    ck_assert_uint_eq(gguf->alignment, 64);
    ck_assert_ptr_null(graft_test_gguf_walk(gguf));
    graft_gguf_close(&gguf);
    graft_ctx_destroy(&ctx);
}
END_TEST

static bool text_is(struct graft_text text, const char *expected)
{
    return text.length == strlen(expected) && memcmp(text.data, expected, (size_t)text.length) == 0;
}

// Values as make_gguf.py wrote them.
START_TEST(typed_reads_give_the_written_values)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_gguf *g;
    ck_assert_ok(graft_gguf_open(ctx, &g, GRAFT_TEST_SOURCE_DIR "/golden/gguf/small.gguf", false));
    static const struct {
        const char *name;
        enum graft_status expected;
        uint32_t value;
        const char *text;
    } integers[] = {
        {"test.uint8", GRAFT_OK, 200, NULL},
        {"test.uint16", GRAFT_OK, 60000, NULL},
        {"test.uint32", GRAFT_OK, 4000000000u, NULL},
        {"test.int8", GRAFT_E_FORMAT, 0, "key test.int8 at offset"},
        {"test.int16", GRAFT_E_FORMAT, 0, "the value is -30000, allowed are 0 to 4294967295"},
        {"test.int32", GRAFT_E_FORMAT, 0, "the value is -2000000000"},
        {"test.int64", GRAFT_E_FORMAT, 0, "the value is -9223372036854775808"},
        {"test.uint64", GRAFT_E_FORMAT, 0, "the value is 18446744073709551615"},
        {"test.float32", GRAFT_E_FORMAT, 0, "the type is f32, it must be an integer"},
        {"test.bool", GRAFT_E_FORMAT, 0, "the type is bool, it must be an integer"},
        {"test.ints", GRAFT_E_FORMAT, 0, "the type is array, it must be an integer"},
        {"test.absent", GRAFT_E_FORMAT, 0, "small.gguf: the required key test.absent is missing"},
    };
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        uint32_t value = 5;
        ck_assert_status(graft_gguf_u32(g, integers[i].name, &value), integers[i].expected);
        ck_assert_uint_eq(value, integers[i].expected == GRAFT_OK ? integers[i].value : 5);
        if (integers[i].text) {
            ck_assert_error_has(integers[i].text);
        }
    }
    uint32_t u = 0;
    float f = 0;
    bool flag = false;
    struct graft_text text;
    ck_assert_ok(graft_gguf_u32_or(g, "test.absent", 9, &u));
    ck_assert_uint_eq(u, 9);
    ck_assert_status(graft_gguf_u32_or(g, "test.string", 9, &u), GRAFT_E_FORMAT);
    ck_assert_ok(graft_gguf_f32(g, "test.float32", &f));
    ck_assert(f == 1.5e-5f);
    ck_assert_ok(graft_gguf_f32(g, "test.int32", &f));
    ck_assert(f == -2e9f);
    ck_assert_status(graft_gguf_f32(g, "test.float64", &f), GRAFT_E_FORMAT);
    ck_assert_error_has("the value is 1e+300");
    ck_assert_ok(graft_gguf_f32_or(g, "test.absent", 0.5f, &f));
    ck_assert(f == 0.5f);
    ck_assert_ok(graft_gguf_bool_or(g, "test.bool", false, &flag));
    ck_assert(flag);
    ck_assert_status(graft_gguf_bool_or(g, "test.uint8", false, &flag), GRAFT_E_FORMAT);
    ck_assert_ok(graft_gguf_text(g, "general.name", &text));
    ck_assert(text_is(text, "Tiny t\xc3\xa9st \xf0\x9f\x9a\x80"));
    ck_assert_ok(graft_gguf_text(g, "test.string", &text));
    ck_assert(text.length == 0 && text.data);
    ck_assert_ok(graft_gguf_text_or_none(g, "test.absent", &text));
    ck_assert_ptr_null(text.data);
    ck_assert_status(graft_gguf_text(g, "test.absent", &text), GRAFT_E_FORMAT);
    ck_assert_status(graft_gguf_text(g, "test.bool", &text), GRAFT_E_FORMAT);

    const struct graft_gguf_key *key = graft_gguf_find(g, "tokenizer.ggml.tokens");
    static const char *const tokens[] = {"<s>", "",
                                         "\xc4\xa0\x61",
                                         "\xf0\x9f\x9a\x80", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"};
    uint64_t cursor = 0;
    for (size_t i = 0; i < 5; i++) {
        ck_assert_ok(graft_gguf_next_text(g, key, &cursor, &text));
        ck_assert(text_is(text, tokens[i]));
    }
    ck_assert_status(graft_gguf_next_text(g, key, &cursor, &text), GRAFT_E_ARGUMENT);
    double real;
    int64_t whole;
    ck_assert_ok(graft_gguf_item_f64(g, graft_gguf_find(g, "test.floats"), 1, &real));
    ck_assert(real == -1.5);
    ck_assert_ok(graft_gguf_item_i64(g, graft_gguf_find(g, "test.ints"), 1, &whole));
    ck_assert_int_eq(whole, -2);
    ck_assert_ok(graft_gguf_item_i64(g, graft_gguf_find(g, "test.int64"), 0, &whole));
    ck_assert(whole == INT64_MIN);
    ck_assert_status(graft_gguf_item_i64(g, graft_gguf_find(g, "test.uint64"), 0, &whole), GRAFT_E_FORMAT);
    ck_assert_status(graft_gguf_item_i64(g, graft_gguf_find(g, "test.floats"), 0, &whole), GRAFT_E_FORMAT);
    ck_assert_status(graft_gguf_item_i64(g, graft_gguf_find(g, "test.ints"), 3, &whole), GRAFT_E_ARGUMENT);
    ck_assert_status(graft_gguf_item_f64(g, key, 0, &real), GRAFT_E_FORMAT);
    cursor = 0;
    ck_assert_status(graft_gguf_next_text(g, graft_gguf_find(g, "test.ints"), &cursor, &text), GRAFT_E_FORMAT);
    graft_gguf_close(&g);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(a_string_that_is_not_utf_8_is_refused_when_it_is_read)
{
    struct graft_test_gguf b = {0};
    graft_test_gguf_text(&b, "k", "ab\xff");
    graft_test_gguf_finish(&b);
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_gguf *gguf;
    struct graft_text text;
    ck_assert_ok(graft_gguf_open_memory(ctx, &gguf, b.file, b.file_size, "x.gguf", false));
    ck_assert_status(graft_gguf_text(gguf, "k", &text), GRAFT_E_FORMAT);
    ck_assert_error_has("x.gguf: key k: the string at offset 45 is not UTF-8");
    graft_gguf_close(&gguf);
    graft_ctx_destroy(&ctx);
    graft_test_gguf_free(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gguf values");
    TCase *tests = tcase_create("gguf values");
    tcase_add_test(tests, a_file_of_pypi_gguf_reads_as_pypi_gguf_reads_it);
    tcase_add_test(tests, typed_reads_give_the_written_values);
    tcase_add_test(tests, a_string_that_is_not_utf_8_is_refused_when_it_is_read);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
