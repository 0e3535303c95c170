// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/bytes.h"
#include "platform/plat.h"
#include "support/support.h"
#include "support/vk_support.h"

START_TEST(ledger_refuses_past_the_budget_and_says_by_how_much)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 1000);
    ck_assert_ok(graft_ledger_reserve(ctx, GRAFT_MEM_KV, 600, "pages"));
    ck_assert_status(graft_ledger_reserve(ctx, GRAFT_MEM_WEIGHTS, 500, "tensors"), GRAFT_E_BUDGET);
    ck_assert_error_has("100 bytes are missing");
    struct graft_memory_use use;
    graft_ctx_memory(ctx, &use);
    ck_assert_uint_eq(use.used_bytes, 600);
    ck_assert_uint_eq(use.class_bytes[GRAFT_MEM_KV], 600);
    graft_ledger_release(ctx, GRAFT_MEM_KV, 600);
    graft_ctx_memory(ctx, &use);
    ck_assert_uint_eq(use.used_bytes, 0);
    ck_assert_uint_eq(use.peak_bytes, 600);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(alloc_is_zeroed_aligned_counted_and_given_back)
{
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    uint32_t *p;
    ck_assert_ok(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &p, 100, "numbers"));
    ck_assert_uint_eq((uintptr_t)p % 64, 0);
    ck_assert_uint_eq(p[99], 0);
    p[99] = 7;
    ck_assert_ok(GRAFT_GROW(ctx, GRAFT_MEM_HOST, &p, 1000, "numbers"));
    ck_assert_uint_eq(p[99], 7);
    ck_assert_uint_eq(p[999], 0);
    GRAFT_FREE(ctx, &p);
    ck_assert_ptr_null(p);
    struct graft_memory_use use;
    graft_ctx_memory(ctx, &use);
    ck_assert_uint_eq(use.used_bytes, 0);
    graft_ctx_destroy(&ctx);
    ck_assert_uint_eq(alloc.live, 0);
}
END_TEST

START_TEST(alloc_overflow_is_an_error)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    void *p;
    ck_assert_status(graft_alloc(ctx, GRAFT_MEM_HOST, &p, UINT64_MAX / 2, 3, "x"), GRAFT_E_MEMORY);
    ck_assert_ptr_null(p);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(reader_never_passes_the_end)
{
    uint8_t data[6] = {1, 2, 3, 4, 5, 6};
    struct graft_reader reader = {.data = data, .size = sizeof data, .file = "x.gguf"};
    uint32_t v;
    ck_assert_ok(graft_read_u32(&reader, &v, "version"));
    ck_assert_uint_eq(v, 0x04030201);
    ck_assert_status(graft_read_u32(&reader, &v, "count"), GRAFT_E_FORMAT);
    ck_assert_error_has("x.gguf: count at offset 4 needs 4 bytes, the file has 2 left");
    ck_assert_uint_eq(reader.position, 4);
}
END_TEST

START_TEST(utf8_follows_rfc_3629)
{
    static const struct { const char *text; bool valid; } cases[] = {
        {"plain", true}, {"caf\xc3\xa9", true}, {"\xf0\x9f\x9a\x80", true}, {"\xc0\x80", false}, {"\xed\xa0\x80", false},
        {"\xf4\x90\x80\x80", false}, {"\xe2\x82", false}, {"\x80", false}, {"\xff", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_msg(graft_utf8_valid((const uint8_t *)cases[i].text, strlen(cases[i].text)) == cases[i].valid, "case %zu", i);
    }
}
END_TEST

START_TEST(replaced_files_hold_old_or_new_content)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    char path[200];
    snprintf(path, sizeof path, "/tmp/graft-test-%ld/a/b", (long)getpid());
    ck_assert_ok(graft_file_replace(path, "one", 3));
    ck_assert_ok(graft_file_replace(path, "second", 6));
    char *text;
    uint64_t size;
    ck_assert_ok(graft_file_read(ctx, path, 100, &text, &size));
    ck_assert_str_eq(text, "second");
    GRAFT_FREE(ctx, &text);
    ck_assert_status(graft_file_read(ctx, path, 3, &text, &size), GRAFT_E_LIMIT);
    ck_assert_status(graft_file_read(ctx, "/tmp", 3, &text, &size), GRAFT_E_IO);
    ck_assert_error_has("directory");
    unlink(path);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(paths_are_utf_8_and_may_be_long)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_map map;
    char folder[64], path[600], *text;
    uint64_t size;
    graft_test_folder(folder);
    int length = snprintf(path, sizeof path, "%s/Gr\u00f6\u00dfe \u6a21\u578b", folder);
    for (int i = 0; i < 5; i++) {
        length += snprintf(path + length, sizeof path - (size_t)length, "/%080d", i);
    }
    ck_assert_ok(graft_file_replace(path, "long", 4));
    ck_assert_ok(graft_file_replace(path, "longer", 6));
    ck_assert_ok(graft_file_read(ctx, path, 100, &text, &size));
    ck_assert_str_eq(text, "longer");
    GRAFT_FREE(ctx, &text);
    ck_assert_ok(graft_map_open(&map, path));
    ck_assert_uint_eq(map.size, 6);
    ck_assert_mem_eq(map.data, "longer", 6);
    graft_map_close(&map);
    ck_assert(graft_same_file(path, path));
    ck_assert(!graft_same_file(path, folder));
    ck_assert_int_eq(graft_test_entries(folder), 1);
    graft_test_remove_all(folder);
    ck_assert_str_eq(graft_path_name("a/b/c"), "c");
    ck_assert_str_eq(graft_path_name("c"), "c");
    ck_assert_str_eq(graft_path_name("a/"), "");
    ck_assert(graft_path_absolute("/a") && !graft_path_absolute("a/b") && !graft_path_absolute(""));
#ifdef _WIN32
    ck_assert_str_eq(graft_path_name("C:\\a\\b.gguf"), "b.gguf");
    ck_assert_str_eq(graft_path_name("C:b.gguf"), "b.gguf");
    ck_assert(graft_path_absolute("C:\\a") && graft_path_absolute("\\a") && !graft_path_absolute("C:a"));
    ck_assert_status(graft_map_open(&map, "\xff.gguf"), GRAFT_E_IO);
    ck_assert_error_has("not UTF-8");
#endif
    graft_ctx_destroy(&ctx);
}
END_TEST

static atomic_bool writing;

static void write_on(void *path)
{
    FILE *file = NULL;
    while (!file && atomic_load(&writing)) { // on Windows not while it is read
        file = fopen(path, "r+b");
    }
    if (!file) {
        return;
    }
    setvbuf(file, NULL, _IONBF, 0);
    for (uint64_t i = 0; atomic_load(&writing); i++) {
        fseek(file, (long)(i % 1000) * 16000, SEEK_SET);
        fputc((int)(i & 255), file);
    }
    fclose(file);
}

// What is written over while it is read is refused; left alone it is read.
START_TEST(a_file_that_changes_while_it_is_read_is_refused)
{
    enum { BYTES = 16 << 20 };
    char path[] = "/tmp/graft-changing-XXXXXX", *text = NULL;
    uint64_t size;
    struct graft_thread *writer;
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    int fd = mkstemp(path), refused = 0;
    ck_assert(fd >= 0 && ftruncate(fd, BYTES) == 0);
    close(fd);
    atomic_store(&writing, true);
    ck_assert_ok(graft_thread_start(ctx, &writer, write_on, path));
    for (int i = 0; i < 20 && !refused; i++) {
        enum graft_status status = graft_file_read(ctx, path, BYTES, &text, &size);
        refused += status == GRAFT_E_IO && (strstr(graft_last_error(), "changed while it was read") ||
                                           strstr(graft_last_error(), "another process has it open")); // Windows
        ck_assert(status == GRAFT_OK || status == GRAFT_E_IO);
        graft_free(ctx, (void **)&text);
    }
    atomic_store(&writing, false);
    graft_thread_join(&writer);
    ck_assert_int_gt(refused, 0);
    ck_assert_ok(graft_file_read(ctx, path, BYTES, &text, &size));
    ck_assert_uint_eq(size, BYTES);
    graft_free(ctx, (void **)&text);
    unlink(path);
    graft_ctx_destroy(&ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("platform");
    TCase *tests = tcase_create("platform");
    tcase_add_test(tests, ledger_refuses_past_the_budget_and_says_by_how_much);
    tcase_add_test(tests, alloc_is_zeroed_aligned_counted_and_given_back);
    tcase_add_test(tests, alloc_overflow_is_an_error);
    tcase_add_test(tests, reader_never_passes_the_end);
    tcase_add_test(tests, utf8_follows_rfc_3629);
    tcase_add_test(tests, replaced_files_hold_old_or_new_content);
    tcase_add_test(tests, paths_are_utf_8_and_may_be_long);
    tcase_add_test(tests, a_file_that_changes_while_it_is_read_is_refused);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
