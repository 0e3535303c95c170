// SPDX-License-Identifier: Apache-2.0
// Files and folders that are written aside: what is there before, during and after, and when something fails.
#define _XOPEN_SOURCE 700
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifndef _WIN32
#include <signal.h>
#include <sys/resource.h>
#endif

#include "platform/aside.h"
#include "platform/plat.h"
#include "support/support.h"
#include "support/vk_support.h"

enum { PATH_ROOM = 256 };

static char folder[64];
static struct graft_ctx *ctx;
static struct graft_test_alloc counted;

static void begin(void)
{
    counted = (struct graft_test_alloc){0};
    ctx = graft_test_ctx(&counted, 0);
    graft_test_folder(folder);
}

static void end(void)
{
    graft_test_remove_all(folder);
    ck_assert_uint_eq(counted.live, 1);
    graft_ctx_destroy(&ctx);
}

static const char *inside(const char *name)
{
    static char path[4][PATH_ROOM];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], PATH_ROOM, "%s/%s", folder, name);
    return path[next];
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(inside(name), "wb");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

static void holds(const char *name, const char *text)
{
    char *data;
    uint64_t size;
    ck_assert_ok(graft_file_read(ctx, inside(name), 1 << 20, &data, &size));
    ck_assert_msg(size == strlen(text) && memcmp(data, text, (size_t)size) == 0, "%s holds %s, expected %s", name, data, text);
    graft_free(ctx, (void **)&data);
}

START_TEST(the_old_file_is_there_until_the_new_one_is_whole)
{
    struct graft_aside *out;
    put("a", "old");
    ck_assert_ok(graft_aside_open(ctx, &out, inside("a")));
    ck_assert_ok(graft_aside_write(out, "new ", 4));
    ck_assert_ok(graft_aside_write(out, NULL, 0));
    ck_assert_ok(graft_aside_write(out, "file", 4));
    ck_assert_uint_eq(graft_aside_bytes(out), 8);
    holds("a", "old");
    ck_assert_ok(graft_aside_commit(&out));
    ck_assert_ptr_null(out);
    holds("a", "new file");
    ck_assert_int_eq(graft_test_entries(folder), 1);
    ck_assert_ok(graft_aside_open(ctx, &out, inside("a")));
    ck_assert_ok(graft_aside_write(out, "x", 1));
    graft_aside_discard(&out);
    graft_aside_discard(&out);
    holds("a", "new file");
    ck_assert_int_eq(graft_test_entries(folder), 1);
    // a path without a folder
    ck_assert_int_eq(chdir(folder), 0);
    ck_assert_ok(graft_aside_open(ctx, &out, "b"));
    ck_assert_ok(graft_aside_commit(&out));
    holds("b", "");
    ck_assert_int_eq(chdir("/"), 0);
}
END_TEST

START_TEST(pieces_of_every_size_arrive_in_order)
{
    struct graft_aside *out;
    struct graft_test_random random = {5};
    static uint8_t data[400000], *back;
    uint64_t done = 0, size;
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)graft_test_random_u64(&random);
    }
    memset(data + 100000, 0, 1000);
    ck_assert_ok(graft_aside_open(ctx, &out, inside("a")));
    while (done < sizeof data) {
        uint64_t piece = done < 150000 ? graft_test_random_u64(&random) % 3000 : graft_test_random_u64(&random) % 140000;
        piece = done + piece > sizeof data ? sizeof data - done : piece;
        if (done <= 100000 && done + piece > 100000) { // the zeros as such
            ck_assert_ok(graft_aside_write(out, data + done, 100000 - done));
            ck_assert_ok(graft_aside_zeros(out, 1000));
            done = 101000;
            continue;
        }
        ck_assert_ok(graft_aside_write(out, data + done, piece));
        done += piece;
    }
    ck_assert_ok(graft_aside_commit(&out));
    ck_assert_ok(graft_file_read(ctx, inside("a"), sizeof data, (char **)&back, &size));
    ck_assert_uint_eq(size, sizeof data);
    ck_assert_mem_eq(back, data, sizeof data);
    graft_free(ctx, (void **)&back);
}
END_TEST

START_TEST(one_writer_at_a_time_and_what_a_dead_one_left_is_taken_over)
{
    struct graft_aside *out, *second;
    struct graft_aside_folder *one, *two;
    static const char *const names[] = {"x", "y", NULL};
    ck_assert_ok(graft_aside_open(ctx, &out, inside("a")));
    ck_assert_status(graft_aside_open(ctx, &second, inside("a")), GRAFT_E_IO);
    ck_assert_error_has("another process is writing it");
    ck_assert_ptr_null(second);
    ck_assert_ok(graft_aside_write(out, "first", 5));
    ck_assert_ok(graft_aside_commit(&out));
    holds("a", "first");
    ck_assert_ok(graft_aside_folder_open(ctx, &one, inside("f"), names));
    ck_assert_status(graft_aside_folder_open(ctx, &two, inside("f"), names), GRAFT_E_IO);
    ck_assert_error_has("another process is writing it");
    ck_assert_ptr_null(two);
    graft_aside_folder_discard(&one);
    ck_assert_int_eq(graft_test_entries(folder), 1);
    put("b.tmp", "a long rest of a killed process");
    ck_assert_ok(graft_aside_open(ctx, &out, inside("b")));
    ck_assert_ok(graft_aside_write(out, "short", 5));
    ck_assert_ok(graft_aside_commit(&out));
    holds("b", "short");
    ck_assert_int_eq(graft_test_entries(folder), 2);
}
END_TEST

static enum graft_status write_folder(const char *name, const char *x, const char *y)
{
    static const char *const names[] = {"x", "y", NULL};
    struct graft_aside_folder *out;
    struct graft_aside *file;
    GRAFT_TRY(graft_aside_folder_open(ctx, &out, inside(name), names));
    ck_assert_ok(graft_aside_folder_file(out, &file, "x"));
    ck_assert_ok(graft_aside_write(file, x, strlen(x)));
    ck_assert_ok(graft_aside_commit(&file));
    if (y) {
        ck_assert_ok(graft_aside_folder_file(out, &file, "y"));
        ck_assert_ok(graft_aside_write(file, y, strlen(y)));
        ck_assert_ok(graft_aside_commit(&file));
    }
    return graft_aside_folder_commit(&out);
}

START_TEST(a_folder_is_replaced_as_a_whole)
{
    ck_assert_ok(write_folder("f", "1", "2"));
    holds("f/x", "1");
    holds("f/y", "2");
    ck_assert_ok(write_folder("f///", "3", NULL));
    holds("f/x", "3");
    ck_assert_int_ne(access(inside("f/y"), F_OK), 0);
    ck_assert_int_eq(graft_test_entries(folder), 1);
    put("f/other", "mine");
    ck_assert_status(write_folder("f", "4", "5"), GRAFT_E_ARGUMENT);
    ck_assert_error_has("holds other");
    holds("f/x", "3");
    put("file", "mine");
    ck_assert_status(write_folder("file", "4", "5"), GRAFT_E_IO);
    ck_assert_int_eq(graft_test_entries(folder), 2);
    ck_assert_status(write_folder("absent/f", "4", "5"), GRAFT_E_IO);
    ck_assert_status(write_folder("", "4", "5"), GRAFT_E_ARGUMENT); // the folder of this test
}
END_TEST

START_TEST(a_file_that_comes_meanwhile_stops_the_exchange)
{
    static const char *const names[] = {"x", NULL};
    struct graft_aside_folder *out;
    ck_assert_ok(graft_aside_folder_open(ctx, &out, inside("f"), names));
    ck_assert_int_eq(mkdir(inside("f"), 0700), 0);
    put("f/thesis", "mine");
    ck_assert_status(graft_aside_folder_commit(&out), GRAFT_E_ARGUMENT);
    ck_assert_ptr_null(out);
    holds("f/thesis", "mine");
    ck_assert_int_eq(graft_test_entries(folder), 1);
}
END_TEST

START_TEST(what_is_no_file_is_not_replaced)
{
    struct graft_aside *out;
    ck_assert_int_eq(mkdir(inside("d"), 0700), 0);
    ck_assert_status(graft_aside_open(ctx, &out, inside("d")), GRAFT_E_IO);
    ck_assert_status(graft_aside_open(ctx, &out, ""), GRAFT_E_IO);
    ck_assert_status(graft_aside_open(ctx, &out, inside("absent/a")), GRAFT_E_IO);
    ck_assert_int_eq(graft_test_entries(folder), 1);
}
END_TEST

#ifndef _WIN32 // links, FIFOs and limits as POSIX systems have them
START_TEST(a_link_in_the_temporarys_place_is_not_followed)
{
    static const char *const names[] = {"x", "y", NULL};
    struct graft_aside *out;
    struct graft_aside_folder *one;
    put("victim", "precious");
    ck_assert_int_eq(symlink(inside("victim"), inside("c.tmp")), 0);
    ck_assert_status(graft_aside_open(ctx, &out, inside("c")), GRAFT_E_IO);
    ck_assert_status(graft_aside_folder_open(ctx, &one, inside("c"), names), GRAFT_E_IO);
    holds("victim", "precious");
}
END_TEST

START_TEST(fifos_and_devices_are_not_replaced)
{
    struct graft_aside *out;
    ck_assert_int_eq(mkfifo(inside("p"), 0600), 0);
    ck_assert_status(graft_aside_open(ctx, &out, inside("p")), GRAFT_E_IO);
    ck_assert_status(graft_aside_open(ctx, &out, "/dev/null"), GRAFT_E_IO);
    ck_assert_int_eq(graft_test_entries(folder), 1);
}
END_TEST

START_TEST(a_full_disk_leaves_the_old_file)
{
    struct graft_aside *out;
    struct rlimit limit, small;
    static uint8_t data[100000];
    put("a", "old");
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = 70000;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    ck_assert_ok(graft_aside_open(ctx, &out, inside("a")));
    enum graft_status status = graft_aside_write(out, data, sizeof data);
    graft_aside_discard(&out);
    ck_assert_int_eq(status, GRAFT_E_IO);
    // what is still in the buffer fails at the end
    ck_assert_ok(graft_aside_open(ctx, &out, inside("a")));
    ck_assert_ok(graft_aside_write(out, data, 65000));
    ck_assert_ok(graft_aside_write(out, data, 10000));
    status = graft_aside_commit(&out);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(status, GRAFT_E_IO);
    ck_assert_ptr_null(out);
    holds("a", "old");
    ck_assert_int_eq(graft_test_entries(folder), 1);
}
END_TEST
#endif

int main(void)
{
    Suite *suite = suite_create("aside");
    TCase *tests = tcase_create("aside");
    tcase_add_checked_fixture(tests, begin, end);
    tcase_add_test(tests, the_old_file_is_there_until_the_new_one_is_whole);
    tcase_add_test(tests, pieces_of_every_size_arrive_in_order);
    tcase_add_test(tests, one_writer_at_a_time_and_what_a_dead_one_left_is_taken_over);
    tcase_add_test(tests, a_folder_is_replaced_as_a_whole);
    tcase_add_test(tests, a_file_that_comes_meanwhile_stops_the_exchange);
    tcase_add_test(tests, what_is_no_file_is_not_replaced);
#ifndef _WIN32
    tcase_add_test(tests, a_link_in_the_temporarys_place_is_not_followed);
    tcase_add_test(tests, fifos_and_devices_are_not_replaced);
    tcase_add_test(tests, a_full_disk_leaves_the_old_file);
#endif
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
