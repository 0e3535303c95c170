// SPDX-License-Identifier: Apache-2.0
// The GGUF container: every refusal of docs/loading.md by its number there, and damaged files.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loaders/gguf.h"
#include "platform/bytes.h"
#include "support/gguf_builder.h"
#include "support/support.h"

// Four keys and three tensors; the offsets inside entries that the tables below patch follow from the names.
static void base_entries(struct graft_test_gguf *b)
{
    graft_test_gguf_text(b, "general.architecture", "llama");
    graft_test_gguf_u32(b, "test.n", 7);
    graft_test_gguf_texts(b, "test.list", (const char *const[]){"a", "bc"}, 2);
    graft_test_gguf_bool(b, "test.flag", true);
    float rows[16];
    for (int i = 0; i < 16; i++) {
        rows[i] = (float)i;
    }
    graft_test_gguf_tensor(b, "a.weight", GRAFT_TYPE_F32, 2, (uint64_t[]){8, 2}, rows, sizeof rows);
    graft_test_gguf_tensor(b, "b.weight", GRAFT_TYPE_Q4_0, 1, (uint64_t[]){64}, NULL, 36);
    graft_test_gguf_tensor(b, "c.weight", GRAFT_TYPE_F16, 1, (uint64_t[]){3}, NULL, 6);
}

static struct graft_test_gguf base_file(void)
{
    struct graft_test_gguf b = {0};
    base_entries(&b);
    graft_test_gguf_finish(&b);
    return b;
}

// Open a copy of exactly `size` bytes, so that a sanitizer sees every read behind the end. If it opens, walk it.
static enum graft_status open_copy(struct graft_ctx *ctx, const uint8_t *file, size_t size, bool allow_unknown,
                                   const char *name)
{
    uint8_t *copy = malloc(size ? size : 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, file, size);
    struct graft_gguf *gguf;
    enum graft_status status = graft_gguf_open_memory(ctx, &gguf, copy, size, "x.gguf", allow_unknown);
    if (status == GRAFT_OK) {
        const char *wrong = graft_test_gguf_walk(gguf);
        ck_assert_msg(!wrong, "%s: %s", name, wrong);
        graft_gguf_close(&gguf);
    } else {
        ck_assert_msg(!gguf && strstr(graft_last_error(), "x.gguf: ") == graft_last_error(), "%s: \"%s\"", name,
                      graft_last_error());
    }
    ck_assert_ptr_null(gguf);
    free(copy);
    return status;
}

static void expect(const struct graft_test_gguf *b, const char *name, enum graft_status expected, const char *text)
{
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    enum graft_status got = open_copy(ctx, b->file, b->file_size, false, name);
    ck_assert_msg(got == expected, "%s: %s (%s), expected %s", name, graft_status_name(got), got ? graft_last_error() : "",
                  graft_status_name(expected));
    if (text) {
        ck_assert_msg(strstr(graft_last_error(), text), "%s: \"%s\" lacks \"%s\"", name, graft_last_error(), text);
    }
    graft_ctx_destroy(&ctx);
    ck_assert_uint_eq(alloc.live, 0);
}

// A number written over the base file: `width` bytes at `plus` behind the start of the file, of key or of tensor number
// `entry`.
enum anchor { AT_FILE, AT_KEY, AT_TENSOR };
static const struct patch {
    const char *name;
    enum anchor anchor;
    uint32_t entry, plus, width;
    uint64_t value;
    enum graft_status expected;
    const char *text;
} patches[] = {
    {"item 03: version 0", AT_FILE, 0, 4, 4, 0, GRAFT_E_UNSUPPORTED, "GGUF version 0 at offset 4, supported are 2 and 3"},
    {"item 03: version 1", AT_FILE, 0, 4, 4, 1, GRAFT_E_UNSUPPORTED, "GGUF version 1 at offset 4"},
    {"item 03: version 4", AT_FILE, 0, 4, 4, 4, GRAFT_E_UNSUPPORTED, "GGUF version 4 at offset 4"},
    {"item 03: big-endian", AT_FILE, 0, 4, 4, 0x03000000, GRAFT_E_UNSUPPORTED, "big-endian"},
    {"item 04: 2^60 tensors", AT_FILE, 0, 8, 8, 1ull << 60, GRAFT_E_FORMAT,
     "number of tensors 1152921504606846976 at offset 8 exceeds"},
    {"item 04: 2^64 - 1 tensors", AT_FILE, 0, 8, 8, UINT64_MAX, GRAFT_E_FORMAT, "exceeds the file"},
    {"item 04: 2^60 keys", AT_FILE, 0, 16, 8, 1ull << 60, GRAFT_E_FORMAT,
     "number of keys 1152921504606846976 at offset 16 exceeds"},
    {"item 04: 1000 keys", AT_FILE, 0, 16, 8, 1000, GRAFT_E_FORMAT, "number of keys 1000 at offset 16 exceeds the file"},
    {"item 04: one key more than there is", AT_FILE, 0, 16, 8, 5, GRAFT_E_FORMAT, "tensor number 0"},
    {"item 04: one tensor more than there is", AT_FILE, 0, 8, 8, 4, GRAFT_E_FORMAT, "tensor number 3"},
    {"item 05: empty key", AT_KEY, 1, 0, 8, 0, GRAFT_E_FORMAT,
     "key number 1 at offset 69: the name has 0 bytes, allowed are 1 to 255"},
    {"item 05: long key", AT_KEY, 1, 0, 8, 256, GRAFT_E_LIMIT, "the name has 256 bytes, allowed are 1 to 255"},
    {"item 05: endless key", AT_KEY, 1, 0, 8, UINT64_MAX, GRAFT_E_FORMAT, "the name has 18446744073709551615 bytes"},
    {"item 05: control character", AT_KEY, 1, 9, 1, '\n', GRAFT_E_FORMAT, "byte 1 of the name is the control character 0x0a"},
    {"item 05: NUL in a key", AT_KEY, 1, 8, 1, 0, GRAFT_E_FORMAT, "control character 0x00"},
    {"item 05: key not UTF-8", AT_KEY, 1, 9, 1, 0xff, GRAFT_E_FORMAT, "key number 1 at offset 69: the name is not UTF-8"},
    {"item 05: duplicate key", AT_KEY, 3, 13, 4, 0x7473696c, GRAFT_E_FORMAT,
     "key test.list at offset 143: the name appears twice, "
     "first as key number 2"},
    {"item 06: value type 13", AT_KEY, 1, 14, 4, 13, GRAFT_E_FORMAT,
     "key test.n at offset 83: the value type is 13, allowed are 0 to 12"},
    {"item 06: value type 2^32 - 1", AT_KEY, 1, 14, 4, UINT32_MAX, GRAFT_E_FORMAT, "the value type is 4294967295"},
    {"item 06: item type 13", AT_KEY, 2, 21, 4, 13, GRAFT_E_FORMAT, "key test.list at offset 112: the item type is 13"},
    {"item 06: array of arrays", AT_KEY, 2, 21, 4, 9, GRAFT_E_UNSUPPORTED, "key test.list at offset 112: an array of arrays"},
    {"item 07: string behind the end", AT_KEY, 0, 32, 8, 1ull << 40, GRAFT_E_FORMAT,
     "key general.architecture at offset 64: the string "
     "needs 1099511627776 bytes, the file has"},
    {"item 07: endless string", AT_KEY, 0, 32, 8, UINT64_MAX, GRAFT_E_FORMAT, "the string needs 18446744073709551615 bytes"},
    {"item 07: array behind the end", AT_KEY, 2, 25, 8, 1ull << 40, GRAFT_E_FORMAT,
     "key test.list at offset 116: the array has "
     "1099511627776 items of type string, the file's"},
    {"item 07: endless array", AT_KEY, 2, 25, 8, UINT64_MAX, GRAFT_E_FORMAT, "hold at most"},
    {"item 07: string of an array behind the end", AT_KEY, 2, 33, 8, 5000, GRAFT_E_FORMAT,
     "key test.list at offset 132: the string "
     "needs 5000 bytes"},
    {"item 07: bool of 2", AT_KEY, 3, 21, 1, 2, GRAFT_E_FORMAT,
     "key test.flag at offset 164: a bool is 2, allowed are 0 and 1"},
    {"item 09: empty tensor name", AT_TENSOR, 1, 0, 8, 0, GRAFT_E_FORMAT,
     "tensor number 1 at offset 213: the name has 0 bytes"},
    {"item 09: long tensor name", AT_TENSOR, 1, 0, 8, 64, GRAFT_E_LIMIT, "the name has 64 bytes, allowed are 1 to 63"},
    {"item 09: tensor name not ASCII", AT_TENSOR, 1, 8, 1, 0xc3, GRAFT_E_FORMAT,
     "byte 0 of the name is 0xc3, allowed is printable ASCII"},
    {"item 09: control character", AT_TENSOR, 1, 9, 1, 0x1b, GRAFT_E_FORMAT, "byte 1 of the name is 0x1b"},
    {"item 09: duplicate tensor", AT_TENSOR, 1, 8, 1, 'a', GRAFT_E_FORMAT,
     "tensor a.weight at offset 213: the name appears twice, first "
     "as tensor number 0"},
    {"item 10: no dimension", AT_TENSOR, 0, 16, 4, 0, GRAFT_E_FORMAT,
     "tensor a.weight at offset 181: 0 dimensions, allowed are 1 to 4"},
    {"item 10: five dimensions", AT_TENSOR, 0, 16, 4, 5, GRAFT_E_FORMAT, "5 dimensions"},
    {"item 10: dimension 0", AT_TENSOR, 0, 28, 8, 0, GRAFT_E_FORMAT, "tensor a.weight at offset 193: dimension 1 is 0"},
    {"item 10: negative dimension", AT_TENSOR, 0, 20, 8, UINT64_MAX, GRAFT_E_FORMAT, "dimension 0 is 18446744073709551615"},
    {"item 10: product overflows", AT_TENSOR, 0, 28, 8, 1ull << 62, GRAFT_E_FORMAT,
     "the product of the dimensions 8 x "
     "4611686018427387904 x 1 x 1 overflows"},
    {"item 10: row overflows", AT_TENSOR, 0, 20, 8, 1ull << 62, GRAFT_E_FORMAT, "overflows"},
    {"item 11: type without a name", AT_TENSOR, 0, 36, 4, 1000, GRAFT_E_FORMAT,
     "tensor a.weight at offset 201: type 1000 is unknown or was "
     "removed from GGUF, supported: F32, F16, BF16, Q4_0, Q4_1, Q5_0,"},
    {"item 11: removed type", AT_TENSOR, 0, 36, 4, 4, GRAFT_E_FORMAT, "type 4 is unknown or was removed"},
    {"item 11: type that is not supported", AT_TENSOR, 0, 36, 4, 17, GRAFT_E_UNSUPPORTED,
     "type IQ2_XS (17) is not supported, supported: F32"},
    {"item 11: type that is never stored", AT_TENSOR, 0, 36, 4, 9, GRAFT_E_UNSUPPORTED, "type Q8_1 (9)"},
    {"item 11: row is no multiple of the block", AT_TENSOR, 1, 20, 8, 33, GRAFT_E_FORMAT,
     "tensor b.weight at offset 241: a row has 33 "
     "values, type Q4_0 needs a multiple of 32"},
    {"item 12: offset not aligned", AT_TENSOR, 1, 32, 8, 65, GRAFT_E_FORMAT,
     "tensor b.weight at offset 65: the offset in the data section "
     "is no multiple of the alignment 32"},
    {"item 12: offset behind the end", AT_TENSOR, 1, 32, 8, 1 << 20, GRAFT_E_FORMAT,
     "tensor b.weight at offset 1048576: 36 bytes in the "
     "data section (which starts at 320) end behind"},
    {"item 12: offset overflows", AT_TENSOR, 1, 32, 8, UINT64_MAX - 31, GRAFT_E_FORMAT, "end behind the file's"},
    {"item 12: overlap", AT_TENSOR, 1, 32, 8, 32, GRAFT_E_FORMAT,
     "tensor b.weight at offset 32: overlaps the tensor before it"},
    {"item 12: hole", AT_TENSOR, 1, 32, 8, 96, GRAFT_E_FORMAT, "tensor b.weight at offset 96: leaves a hole of 32 bytes"},
};

START_TEST(items_03_to_12_a_patched_number_is_refused_with_its_place)
{
    const struct patch *p = &patches[_i];
    struct graft_test_gguf b = base_file();
    size_t at = p->plus + (p->anchor == AT_KEY ? b.key_at[p->entry] : p->anchor == AT_TENSOR ? b.tensor_at[p->entry] : 0);
    uint8_t raw[8];
    for (int i = 0; i < 8; i++) {
        raw[i] = (uint8_t)(p->value >> 8 * i);
    }
    graft_test_gguf_patch(&b, at, raw, p->width);
    expect(&b, p->name, p->expected, p->text);
    graft_test_gguf_free(&b);
}
END_TEST

// What is not GGUF at all.
static const struct {
    const char *name, *start;
    size_t length, size;
    const char *text;
} strangers[] = {
    {"item 01: empty file", "", 0, 0, "is not a GGUF file: too short, 0 bytes, at least 24 are needed"},
    {"item 01: only a magic", "GGUF", 4, 4, "is too short for a GGUF file: 4 bytes"},
    {"item 01: 23 bytes", "GGUF\3", 5, 23, "is too short for a GGUF file: 23 bytes, at least 24 are needed"},
    {"item 02: GGML", "lmgg", 4, 100, "it looks like a GGML file"},
    {"item 02: GGJT", "tjgg\3", 5, 100, "it looks like a GGJT file"},
    {"item 02: zip", "PK\3\4", 4, 100, "a zip archive, perhaps a PyTorch checkpoint"},
    {"item 02: pickle", "\x80\2}q", 4, 100, "a Python pickle"},
    {"item 02: HTML", "<!DOCTYPE html>", 15, 100, "an HTML page; the download went wrong"},
    {"item 02: git-lfs pointer", "version https://git-lfs.github.com/spec/v1\n", 43, 130, "a git-lfs pointer"},
    {"item 02: short git-lfs pointer", "version https://git-lfs", 23, 23, "a git-lfs pointer"},
    {"item 02: safetensors", "\x40\0\0\0\0\0\0\0{\"a\"", 12, 100, "a safetensors file"},
    {"item 02: anything else", "\1\2\3\xff", 4, 100, "it starts with 01 02 03 ff at offset 0"},
};

START_TEST(items_01_and_02_a_file_of_another_kind_is_named)
{
    uint8_t file[200] = {0};
    memcpy(file, strangers[_i].start, strangers[_i].length);
    struct graft_test_gguf b = {.file = file, .file_size = strangers[_i].size};
    expect(&b, strangers[_i].name, GRAFT_E_FORMAT, strangers[_i].text);
}
END_TEST

static const struct {
    const char *name;
    uint32_t value, type;
    enum graft_status expected;
    const char *text;
} alignments[] = {
    {"item 08: alignment 0", 0, 4, GRAFT_E_FORMAT,
     "key general.alignment at offset 194: the alignment is 0, allowed are powers of 2"},
    {"item 08: alignment 3", 3, 4, GRAFT_E_FORMAT, "the alignment is 3"},
    {"item 08: alignment 4", 4, 4, GRAFT_E_FORMAT, "the alignment is 4, allowed are powers of 2 from 8 to 65536"},
    {"item 08: alignment 48", 48, 4, GRAFT_E_FORMAT, "the alignment is 48"},
    {"item 08: alignment 2^17", 1u << 17, 4, GRAFT_E_FORMAT, "the alignment is 131072"},
    {"item 08: alignment 2^31", 1u << 31, 4, GRAFT_E_FORMAT, "the alignment is 2147483648"},
    {"item 08: alignment of a wrong type", 32, 5, GRAFT_E_FORMAT, "the type is i32, it must be u32"},
    {"alignment 8", 8, 4, GRAFT_OK, NULL},
    {"alignment 32", 32, 4, GRAFT_OK, NULL},
    {"alignment 65536", 65536, 4, GRAFT_OK, NULL},
};

START_TEST(item_08_an_alignment_is_a_power_of_2_from_8_to_65536)
{
    struct graft_test_gguf b = {.alignment = alignments[_i].expected == GRAFT_OK ? alignments[_i].value : 32};
    base_entries(&b);
    graft_test_gguf_u32(&b, "general.alignment", alignments[_i].value);
    graft_test_gguf_finish(&b);
    graft_test_gguf_patch_u32(&b, b.key_at[4] + 8 + 17, alignments[_i].type);
    expect(&b, alignments[_i].name, alignments[_i].expected, alignments[_i].text);
    graft_test_gguf_free(&b);
}
END_TEST

START_TEST(item_12_a_data_section_cut_by_one_byte_is_refused_at_every_tensor)
{
    static const size_t ends[] = {64, 100, 134};
    static const char *const names[] = {"tensor a.weight", "tensor b.weight", "tensor c.weight"};
    for (size_t i = 0; i < 3; i++) {
        struct graft_test_gguf b = base_file();
        ck_assert_uint_eq(b.file_size, b.data_offset + 134);
        b.file_size = b.data_offset + ends[i] - 1;
        expect(&b, names[i], GRAFT_E_FORMAT, names[i]);
        ck_assert_error_has("the file is cut short or damaged");
        graft_test_gguf_free(&b);
    }
}
END_TEST

static void count_warnings(void *user, enum graft_log_level level, const char *text)
{
    *(int *)user += level == GRAFT_LOG_WARN && strstr(text, "x.gguf: 5 bytes behind the last tensor are ignored") != NULL;
}

START_TEST(item_13_trailing_bytes_are_counted_and_warned_about)
{
    struct graft_test_gguf b = base_file();
    uint8_t file[1000] = {0};
    memcpy(file, b.file, b.file_size);
    int warnings = 0;
    struct graft_ctx_params params = {.size = sizeof params, .log = count_warnings, .log_user = &warnings};
    struct graft_ctx *ctx;
    ck_assert_ok(graft_ctx_create(&ctx, &params));
    struct graft_gguf *gguf;
    size_t padded = b.data_offset + 160; // up to here it is the last tensor's padding, which may be missing
    for (size_t size = b.file_size; size <= padded + 5; size++) {
        ck_assert_ok(graft_gguf_open_memory(ctx, &gguf, file, size, "x.gguf", false));
        ck_assert_uint_eq(graft_gguf_trailing_bytes(gguf), size <= padded ? 0 : size - padded);
        ck_assert_uint_eq(gguf->data_bytes, 134);
        graft_gguf_close(&gguf);
    }
    ck_assert_int_eq(warnings, 1);
    graft_ctx_destroy(&ctx);
    graft_test_gguf_free(&b);
}
END_TEST

START_TEST(item_18_a_part_of_a_split_model_in_memory_is_refused)
{
    struct graft_test_gguf b = {0};
    graft_test_gguf_key(&b, "split.count", 2, (uint8_t[]){3, 0}, 2);
    graft_test_gguf_finish(&b);
    expect(&b, "split", GRAFT_E_UNSUPPORTED, "split.count is 3: one part of a split model in memory is not a model");
    graft_test_gguf_patch(&b, b.key_at[0] + 8 + 11 + 4, (uint8_t[]){1}, 1);
    expect(&b, "a single part", GRAFT_OK, NULL);
    graft_test_gguf_free(&b);
}
END_TEST

START_TEST(item_19_what_is_no_regular_file_is_refused_without_waiting)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_gguf *gguf;
#ifndef _WIN32
    char fifo[100];
    snprintf(fifo, sizeof fifo, "/tmp/graft-fifo-%ld", (long)getpid());
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    ck_assert_status(graft_gguf_open(ctx, &gguf, fifo, false), GRAFT_E_IO);
    ck_assert_error_has("FIFO");
    unlink(fifo);
    ck_assert_status(graft_gguf_open(ctx, &gguf, "/dev/zero", false), GRAFT_E_IO);
#endif
    ck_assert_status(graft_gguf_open(ctx, &gguf, "/tmp", false), GRAFT_E_IO);
    ck_assert_error_has("directory");
    ck_assert_status(graft_gguf_open(ctx, &gguf, "/nonexistent.gguf", false), GRAFT_E_IO);
    ck_assert_ptr_null(gguf);
    graft_ctx_destroy(&ctx);
}
END_TEST

static struct graft_test_gguf many_keys(uint32_t count)
{
    struct graft_test_gguf b = {0};
    for (uint32_t i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof name, "%x", i);
        graft_test_gguf_key(&b, name, 0, NULL, 1);
    }
    graft_test_gguf_finish(&b);
    return b;
}

START_TEST(item_20_more_than_65536_keys_are_refused_at_once)
{
    struct graft_test_gguf b = many_keys(GRAFT_GGUF_MAX_KEYS + 1);
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_gguf *gguf;
    uint64_t start = graft_clock_ns();
    ck_assert_status(graft_gguf_open_memory(ctx, &gguf, b.file, b.file_size, "x.gguf", false), GRAFT_E_LIMIT);
    ck_assert_uint_lt(graft_clock_ns() - start, 50000000);
    ck_assert_error_has("65537 keys at offset 16, allowed are 65536");
    graft_ctx_destroy(&ctx);
    graft_test_gguf_free(&b);
}
END_TEST

START_TEST(item_20_65536_keys_open_in_linear_time)
{
    struct graft_test_gguf b = many_keys(GRAFT_GGUF_MAX_KEYS);
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_gguf *gguf;
    uint64_t start = graft_clock_ns();
    ck_assert_ok(graft_gguf_open_memory(ctx, &gguf, b.file, b.file_size, "x.gguf", false));
    ck_assert_uint_lt(graft_clock_ns() - start, 1000000000); // quadratic search would take minutes
    ck_assert_ptr_eq(graft_gguf_find(gguf, "ffff"), &gguf->keys[0xffff]);
    ck_assert_ptr_null(graft_gguf_find(gguf, "10000"));
    graft_gguf_close(&gguf);
    graft_ctx_destroy(&ctx);
    graft_test_gguf_free(&b);
}
END_TEST

START_TEST(item_07_strings_arrays_and_headers_have_a_cap)
{
    struct graft_test_gguf b = {0};
    char *big = malloc(GRAFT_GGUF_MAX_STRING_BYTES + 2);
    ck_assert_ptr_nonnull(big);
    memset(big, 'x', GRAFT_GGUF_MAX_STRING_BYTES + 1);
    big[GRAFT_GGUF_MAX_STRING_BYTES + 1] = '\0';
    graft_test_gguf_text(&b, "k", big);
    graft_test_gguf_finish(&b);
    expect(&b, "string", GRAFT_E_LIMIT, "key k at offset 37: the string has 1048577 bytes, allowed are 1048576");
    graft_test_gguf_free(&b);

    big[GRAFT_GGUF_MAX_STRING_BYTES] = '\0';
    for (int i = 0; i < 65; i++) { // 65 MiB of allowed strings
        char name[8];
        snprintf(name, sizeof name, "k%d", i);
        graft_test_gguf_text(&b, name, big);
        if (i == 0) {
            struct graft_test_gguf one = b;
            one.keys = (struct graft_test_bytes){0};
            graft_test_gguf_text(&one, "k", big);
            one.n_keys = 1;
            graft_test_gguf_finish(&one);
            expect(&one, "the longest string", GRAFT_OK, NULL);
            graft_test_gguf_free(&one);
        }
    }
    graft_test_gguf_finish(&b);
    expect(&b, "header", GRAFT_E_LIMIT, "ends behind the first 67108864 bytes, the most allowed for a header");
    graft_test_gguf_free(&b);
    free(big);

    graft_test_gguf_array(&b, "k", GRAFT_GGUF_U8, GRAFT_GGUF_MAX_ARRAY + 1, NULL, GRAFT_GGUF_MAX_ARRAY + 1);
    graft_test_gguf_finish(&b);
    expect(&b, "array", GRAFT_E_LIMIT, "the array has 16777217 items, allowed are 16777216");
    graft_test_gguf_free(&b);
}
END_TEST

START_TEST(a_file_cut_anywhere_is_refused)
{
    struct graft_test_gguf files[2] = {base_file()};
    graft_test_gguf_text(&files[1], "k", "the file ends with this string");
    graft_test_gguf_finish(&files[1]);
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    for (int i = 0; i < 2; i++) {
        for (size_t size = 0; size < files[i].file_size; size++) {
            ck_assert_msg(open_copy(ctx, files[i].file, size, false, "cut") != GRAFT_OK, "cut to %zu bytes it opens", size);
        }
        ck_assert_ok(open_copy(ctx, files[i].file, files[i].file_size, false, "whole"));
        graft_test_gguf_free(&files[i]);
    }
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(a_damaged_byte_is_refused_or_harmless)
{
    struct graft_test_gguf b = base_file();
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    uint64_t outside = alloc.live;
    for (size_t at = 0; at < b.data_offset; at++) {
        uint8_t old = b.file[at];
        for (int value = 0; value < 256; value++) {
            b.file[at] = (uint8_t)value;
            (void)open_copy(ctx, b.file, b.file_size, value & 1, "damaged");
            ck_assert_uint_eq(alloc.live, outside);
        }
        b.file[at] = old;
    }
    graft_ctx_destroy(&ctx);
    graft_test_gguf_free(&b);
}
END_TEST

START_TEST(random_damage_is_refused_or_harmless)
{
    struct graft_test_gguf b = base_file();
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_test_random random = {11};
    uint8_t *file = malloc(b.file_size);
    ck_assert_ptr_nonnull(file);
    for (int round = 0; round < 20000; round++) {
        memcpy(file, b.file, b.file_size);
        for (uint64_t n = 1 + graft_test_random_u64(&random) % 4; n > 0; n--) {
            size_t at = 4 + graft_test_random_u64(&random) % (b.data_offset - 4);
            file[at] = (uint8_t)(graft_test_random_u64(&random) >> (graft_test_random_u64(&random) % 57));
        }
        (void)open_copy(ctx, file, b.file_size, true, "random damage");
    }
    free(file);
    graft_ctx_destroy(&ctx);
    graft_test_gguf_free(&b);
}
END_TEST

START_TEST(every_failing_allocation_is_an_error_and_leaks_nothing)
{
    struct graft_test_gguf b = base_file();
    for (uint64_t n = 2;; n++) { // the first is the context
        struct graft_test_alloc alloc = {.fail_at = n};
        struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
        struct graft_gguf *gguf;
        enum graft_status status = graft_gguf_open_memory(ctx, &gguf, b.file, b.file_size, "x.gguf", false);
        graft_gguf_close(&gguf);
        ck_assert_uint_eq(alloc.live, 1);
        graft_ctx_destroy(&ctx);
        if (status == GRAFT_OK) {
            ck_assert_uint_gt(n, 6);
            break;
        }
        ck_assert_int_eq(status, GRAFT_E_MEMORY);
    }
    graft_test_gguf_free(&b);
}
END_TEST

START_TEST(version_2_and_types_that_are_only_known_open_on_request)
{
    struct graft_test_gguf b = {.version = 2};
    graft_test_gguf_tensor(&b, "x", 17, 2, (uint64_t[]){256, 2}, NULL, 148); // IQ2_XS
    graft_test_gguf_finish(&b);
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_gguf *gguf;
    ck_assert_status(graft_gguf_open_memory(ctx, &gguf, b.file, b.file_size, "x.gguf", false), GRAFT_E_UNSUPPORTED);
    ck_assert_ok(graft_gguf_open_memory(ctx, &gguf, b.file, b.file_size, "x.gguf", true));
    ck_assert_uint_eq(gguf->version, 2);
    ck_assert_uint_eq(gguf->tensors[0].bytes, 148);
    graft_gguf_close(&gguf);
    graft_ctx_destroy(&ctx);
    graft_test_gguf_free(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gguf");
    TCase *tests = tcase_create("gguf");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, items_03_to_12_a_patched_number_is_refused_with_its_place, 0, sizeof patches / sizeof *patches);
    tcase_add_loop_test(tests, items_01_and_02_a_file_of_another_kind_is_named, 0, sizeof strangers / sizeof *strangers);
    tcase_add_loop_test(tests, item_08_an_alignment_is_a_power_of_2_from_8_to_65536, 0, sizeof alignments / sizeof *alignments);
    tcase_add_test(tests, item_12_a_data_section_cut_by_one_byte_is_refused_at_every_tensor);
    tcase_add_test(tests, item_13_trailing_bytes_are_counted_and_warned_about);
    tcase_add_test(tests, item_18_a_part_of_a_split_model_in_memory_is_refused);
    tcase_add_test(tests, item_19_what_is_no_regular_file_is_refused_without_waiting);
    tcase_add_test(tests, item_20_more_than_65536_keys_are_refused_at_once);
    tcase_add_test(tests, item_20_65536_keys_open_in_linear_time);
    tcase_add_test(tests, item_07_strings_arrays_and_headers_have_a_cap);
    tcase_add_test(tests, a_file_cut_anywhere_is_refused);
    tcase_add_test(tests, a_damaged_byte_is_refused_or_harmless);
    tcase_add_test(tests, random_damage_is_refused_or_harmless);
    tcase_add_test(tests, every_failing_allocation_is_an_error_and_leaks_nothing);
    tcase_add_test(tests, version_2_and_types_that_are_only_known_open_on_request);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
