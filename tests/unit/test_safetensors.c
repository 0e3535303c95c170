// SPDX-License-Identifier: Apache-2.0
// safetensors images: every refusal, and damaged files.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loaders/safetensors.h"
#include "support/support.h"

enum { LENGTH_BYTES = 8 };

// Two tensors, 24 + 8 bytes of data.
static const char good[] =
    "{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[24,32]},"
    "\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}  ";

// Header and `data_bytes` bytes 0, 1, 2 ...; free it.
static uint8_t *make_image(const char *header, size_t header_bytes, size_t data_bytes, size_t *size)
{
    *size = LENGTH_BYTES + header_bytes + data_bytes;
    uint8_t *image = malloc(*size);
    ck_assert_ptr_nonnull(image);
    for (size_t i = 0; i < LENGTH_BYTES; i++) {
        image[i] = (uint8_t)((uint64_t)header_bytes >> 8 * i);
    }
    memcpy(image + LENGTH_BYTES, header, header_bytes);
    for (size_t i = 0; i < data_bytes; i++) {
        image[LENGTH_BYTES + header_bytes + i] = (uint8_t)i;
    }
    return image;
}

static void refuse_image(struct graft_ctx *ctx, const uint8_t *image, size_t size, const char *name, enum graft_status expected,
                         const char *text)
{
    struct graft_safetensors *st;
    enum graft_status status = graft_safetensors_open(ctx, &st, image, size, "x.safetensors");
    ck_assert_msg(status == expected && !st, "%s: %s (%s), expected %s", name, graft_status_name(status), graft_last_error(),
                  graft_status_name(expected));
    ck_assert_msg(strstr(graft_last_error(), "x.safetensors: ") == graft_last_error() && strstr(graft_last_error(), text),
                  "%s: \"%s\" lacks \"%s\"", name, graft_last_error(), text);
}

START_TEST(tensors_are_listed_by_their_place_in_the_file)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_safetensors *st;
    size_t size;
    uint8_t *image = make_image(good, sizeof good - 1, 32, &size);
    ck_assert_ok(graft_safetensors_open(ctx, &st, image, size, "x.safetensors"));
    ck_assert_uint_eq(st->n_tensors, 2);
    const struct graft_safetensor *a = &st->tensors[0], *b = &st->tensors[1];
    ck_assert_str_eq(a->name, "a.weight");
    ck_assert_uint_eq(a->type, GRAFT_TYPE_F32);
    ck_assert(a->n_dims == 2 && a->rows == 2 && a->cols == 3 && a->bytes == 24);
    ck_assert_ptr_eq(a->data, image + size - 32);
    ck_assert_str_eq(b->name, "b");
    ck_assert(b->type == GRAFT_TYPE_F16 && b->n_dims == 1 && b->rows == 1 && b->cols == 4);
    ck_assert_ptr_eq(b->data, image + size - 8);
    graft_safetensors_close(&st);
    ck_assert_ptr_null(st);
    graft_safetensors_close(&st);
    free(image);
    graft_ctx_destroy(&ctx);
}
END_TEST

#define TENSOR(dtype, shape, offsets) "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

START_TEST(every_other_header_is_refused_by_name)
{
    static const struct {
        const char *name, *header;
        size_t data_bytes;
        enum graft_status status;
        const char *text;
    } cases[] = {
        {"no JSON", "{\"a\":", 8, GRAFT_E_FORMAT, "not valid JSON"},
        {"duplicate name", "{\"a\":{},\"a\":{}}", 8, GRAFT_E_FORMAT, "not valid JSON"},
        {"text behind", "{} x", 0, GRAFT_E_FORMAT, "not valid JSON"},
        {"bytes that are no UTF-8", "{\"\xff\":{}}", 0, GRAFT_E_FORMAT, "not valid JSON"},
        {"NUL in a name", "{\"a\\u0000b\":{}}", 0, GRAFT_E_FORMAT, "not valid JSON"},
        {"empty name", "{\"\":{}}", 0, GRAFT_E_FORMAT, "has a name of 0 bytes, allowed are 1 to 255"},
        {"control character in a name", "{\"a\\u001bb\":{}}", 0, GRAFT_E_FORMAT, "control characters"},
        {"entry is a list", "{\"a\":[]}", 0, GRAFT_E_FORMAT, "a is no JSON object"},
        {"no dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, GRAFT_E_FORMAT, "no dtype"},
        {"dtype I64", TENSOR("I64", "[1]", "[0,8]"), 8, GRAFT_E_UNSUPPORTED, "dtype I64, allowed are F32, F16 and BF16"},
        {"dtype with escapes", TENSOR("\\u001b[2J", "[1]", "[0,8]"), 8, GRAFT_E_UNSUPPORTED, "(unprintable)"},
        {"a field more", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, GRAFT_E_FORMAT,
         "4 fields"},
        {"no shape", TENSOR("F32", "null", "[0,4]"), 4, GRAFT_E_FORMAT, "no shape"},
        {"shape of nothing", TENSOR("F32", "[]", "[0,4]"), 4, GRAFT_E_UNSUPPORTED, "0 dimensions, allowed are 1 and 2"},
        {"three dimensions", TENSOR("F32", "[1,1,1]", "[0,4]"), 4, GRAFT_E_UNSUPPORTED, "3 dimensions"},
        {"zero rows", TENSOR("F32", "[0,4]", "[0,0]"), 0, GRAFT_E_FORMAT, "whole numbers above 0"},
        {"zero columns", TENSOR("F32", "[4,0]", "[0,0]"), 0, GRAFT_E_FORMAT, "whole numbers above 0"},
        {"negative rows", TENSOR("F32", "[-1,4]", "[0,4]"), 4, GRAFT_E_FORMAT, "whole numbers above 0"},
        {"a fraction", TENSOR("F32", "[1.5]", "[0,4]"), 4, GRAFT_E_FORMAT, "whole numbers above 0"},
        {"number beyond 64 bits", TENSOR("F32", "[99999999999999999999]", "[0,4]"), 4, GRAFT_E_FORMAT, "not valid JSON"},
        {"product beyond 64 bits", TENSOR("F32", "[9223372036854775807,4]", "[0,4]"), 4, GRAFT_E_FORMAT,
         "needs another number"},
        {"bytes beyond 64 bits", TENSOR("F32", "[4611686018427387905]", "[0,4]"), 4, GRAFT_E_FORMAT, "needs another number"},
        {"one offset", TENSOR("F32", "[1]", "[0]"), 4, GRAFT_E_FORMAT, "data_offsets of two whole numbers"},
        {"negative offset", TENSOR("F32", "[1]", "[-4,0]"), 4, GRAFT_E_FORMAT, "data_offsets of two whole numbers"},
        {"end before begin", TENSOR("F32", "[1]", "[4,0]"), 4, GRAFT_E_FORMAT, "data_offsets 4 to 0"},
        {"end behind the file", TENSOR("F32", "[2]", "[0,8]"), 4, GRAFT_E_FORMAT, "the file has 4 bytes of data"},
        {"shape too small", TENSOR("F32", "[1]", "[0,8]"), 8, GRAFT_E_FORMAT, "has 8 bytes of data, its shape 1 x 1"},
        {"hole before", TENSOR("F32", "[1]", "[4,8]"), 8, GRAFT_E_FORMAT, "begins at byte 4 of the data"},
        {"bytes behind", TENSOR("F32", "[1]", "[0,4]"), 8, GRAFT_E_FORMAT, "the tensors end at 4"},
        {"bytes without tensors", "{}", 4, GRAFT_E_FORMAT, "the tensors end at 0"},
        {"overlap",
         "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],"
         "\"data_offsets\":[4,12]}}",
         12, GRAFT_E_FORMAT, "begins at byte 4 of the data, the tensors before it end at 8"},
        {"the same bytes twice",
         "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],"
         "\"data_offsets\":[0,4]}}",
         4, GRAFT_E_FORMAT, "begins at byte 0 of the data, the tensors before it end at 4"},
        {"metadata is a list", "{\"__metadata__\":[]}", 0, GRAFT_E_FORMAT, "__metadata__ is no JSON object"},
        {"metadata holds a number", "{\"__metadata__\":{\"n\":1}}", 0, GRAFT_E_FORMAT, "value of __metadata__ is no text"},
    };
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t size;
        uint8_t *image = make_image(cases[i].header, strlen(cases[i].header), cases[i].data_bytes, &size);
        refuse_image(ctx, image, size, cases[i].name, cases[i].status, cases[i].text);
        ck_assert_uint_eq(alloc.live, 1);
        free(image);
    }
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(files_that_are_something_else_are_named)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    refuse_image(ctx, (const uint8_t *)"PK\003\004aaaaaaaaaaaa", 16, "zip", GRAFT_E_FORMAT, "zip archive");
    refuse_image(ctx, (const uint8_t *)"\x80\x02}qaaaaaaaaaaaa", 16, "pickle", GRAFT_E_FORMAT, "pickle");
    refuse_image(ctx, (const uint8_t *)"{", 1, "short", GRAFT_E_FORMAT, "too short");
    refuse_image(ctx, NULL, 0, "empty", GRAFT_E_FORMAT, "has 0 bytes");
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(lengths_and_counts_beyond_the_bounds_are_refused)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    size_t size;
    uint8_t *image = make_image(good, sizeof good - 1, 32, &size);
    image[3] = 1; // 16 MiB and more
    refuse_image(ctx, image, size, "length", GRAFT_E_LIMIT, "allowed are 16777216");
    memset(image, 0xff, LENGTH_BYTES);
    refuse_image(ctx, image, size, "length of all ones", GRAFT_E_LIMIT, "18446744073709551615");
    free(image);
    image = make_image(good, sizeof good - 1, 0, &size);
    image[0]++;
    refuse_image(ctx, image, size, "length behind the end", GRAFT_E_FORMAT, "behind it");
    free(image);

    char name[300];
    memset(name, 'n', 256);
    strcpy(name, "{\"");
    memset(name + 2, 'n', 256);
    strcpy(name + 258, "\":{}}");
    image = make_image(name, strlen(name), 0, &size);
    refuse_image(ctx, image, size, "name", GRAFT_E_FORMAT, "name of 256 bytes, allowed are 1 to 255");
    free(image);

    const size_t commas = GRAFT_SAFETENSORS_MAX_ITEMS + 1;
    char *many = malloc(commas + 1);
    ck_assert_ptr_nonnull(many);
    memset(many, '[', commas + 1);
    many[0] = '{';
    image = make_image(many, commas + 1, 0, &size);
    refuse_image(ctx, image, size, "items", GRAFT_E_LIMIT, "allowed are 1048576");
    memset(many + 1, ' ', commas);
    memset(many + 1, '[', 9000); // deeper than the parser goes
    free(image);
    image = make_image(many, commas + 1, 0, &size);
    refuse_image(ctx, image, size, "depth", GRAFT_E_FORMAT, "not valid JSON");
    free(image);
    free(many);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(a_file_cut_at_any_byte_is_refused)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    size_t size;
    uint8_t *image = make_image(good, sizeof good - 1, 32, &size);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = malloc(cut ? cut : 1); // exactly as long, so that a sanitizer sees every read behind the end
        ck_assert_ptr_nonnull(copy);
        memcpy(copy, image, cut);
        struct graft_safetensors *st;
        ck_assert_status(graft_safetensors_open(ctx, &st, copy, cut, "x.safetensors"), GRAFT_E_FORMAT);
        free(copy);
    }
    free(image);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(a_file_with_any_byte_changed_is_read_or_refused)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    size_t size;
    uint8_t *image = make_image(good, sizeof good - 1, 32, &size);
    static const uint8_t values[] = {0, '"', '9', '-', '[', '{', '}', ',', 0x80, 0xff};
    for (size_t i = 0; i < size; i++) {
        uint8_t kept = image[i];
        for (size_t v = 0; v < sizeof values; v++) {
            image[i] = values[v];
            struct graft_safetensors *st;
            if (graft_safetensors_open(ctx, &st, image, size, "x.safetensors") == GRAFT_OK) {
                for (uint64_t t = 0; t < st->n_tensors; t++) {
                    ck_assert(st->tensors[t].data >= image && st->tensors[t].data + st->tensors[t].bytes <= image + size);
                }
            }
            graft_safetensors_close(&st);
        }
        image[i] = kept;
    }
    free(image);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(a_failed_allocation_leaves_nothing_behind)
{
    size_t size;
    uint8_t *image = make_image(good, sizeof good - 1, 32, &size);
    for (uint64_t n = 2;; n++) { // the first is the context
        struct graft_test_alloc alloc = {.fail_at = n};
        struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
        struct graft_safetensors *st;
        enum graft_status status = graft_safetensors_open(ctx, &st, image, size, "x.safetensors");
        graft_safetensors_close(&st);
        ck_assert_uint_eq(alloc.live, 1);
        graft_ctx_destroy(&ctx);
        if (status == GRAFT_OK) {
            ck_assert_uint_gt(n, 3);
            break;
        }
        ck_assert_int_eq(status, GRAFT_E_MEMORY);
    }
    free(image);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("safetensors");
    TCase *tests = tcase_create("safetensors");
    tcase_add_test(tests, tensors_are_listed_by_their_place_in_the_file);
    tcase_add_test(tests, every_other_header_is_refused_by_name);
    tcase_add_test(tests, files_that_are_something_else_are_named);
    tcase_add_test(tests, lengths_and_counts_beyond_the_bounds_are_refused);
    tcase_add_test(tests, a_file_cut_at_any_byte_is_refused);
    tcase_add_test(tests, a_file_with_any_byte_changed_is_read_or_refused);
    tcase_add_test(tests, a_failed_allocation_leaves_nothing_behind);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
