// SPDX-License-Identifier: Apache-2.0
// Merges that end early or must not begin: killed at any moment, no room, damaged inputs, refusals, cancelled, allocations that
// fail, small budgets; and the same bytes on any number of threads.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "platform/plat.h"
#include "support/adapter_folder.h"
#include "support/merge_files.h"
#include "support/peft_golden.h"
#include "support/support.h"
#include "support/tiny_model.h"

static struct graft_ctx *ctx;
static char folder[GRAFT_MERGE_PATH_BYTES], base[GRAFT_PEFT_PATH_BYTES], plain[GRAFT_PEFT_PATH_BYTES];

static void begin(void)
{
    ctx = graft_test_ctx(NULL, 0);
    graft_merge_folder_begin(folder);
    graft_peft_path(base, "base.gguf");
    graft_peft_path(plain, "plain");
}

static void end(void)
{
    graft_merge_end(&ctx, folder);
}

// A line of shell; its exit code.
GRAFT_PRINTF(1, 2) static int shell(const char *format, ...)
{
    char line[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    return system(line);
}

static void write_file(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, bytes, file), bytes);
    ck_assert_int_eq(fclose(file), 0);
}

static bool holds(const char *path, const char *text)
{
    char got[64] = "";
    FILE *file = fopen(path, "rb");
    size_t n = file ? fread(got, 1, sizeof got - 1, file) : 0;
    if (file) {
        fclose(file);
    }
    return n == strlen(text) && strcmp(got, text) == 0;
}

START_TEST(the_same_bytes_on_any_number_of_threads)
{
    static const char *const types[] = {"keep", "auto", "q8_0"};
    const char *one = graft_merge_at(folder, "one.gguf"), *other = graft_merge_at(folder, "other.gguf");
    char dora[GRAFT_PEFT_PATH_BYTES];
    graft_peft_path(dora, "dora");
    struct graft_merge_adapter adapters[] = {{plain, 0.7f}, {dora, 0.3f}};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        struct graft_merge_params params = {
            .size = sizeof params, .adapters = adapters, .n_adapters = 2, .type = types[t], .n_threads = 1};
        struct graft_merge_report *reports[2];
        struct graft_merge_summary sums[2];
        ck_assert_ok(graft_merge(ctx, base, one, &params, &reports[0]));
        for (uint32_t threads = 2; threads <= 16; threads += 7) {
            params.n_threads = threads;
            ck_assert_ok(graft_merge(ctx, base, other, &params, &reports[1]));
            ck_assert_msg(graft_merge_same_bytes(one, other), "%s, %u threads", types[t], threads);
            for (int i = 0; i < 2; i++) {
                graft_merge_summarize(reports[i], &sums[i]);
            }
            ck_assert_uint_eq(sums[1].n_threads, threads);
            ck_assert(sums[0].share == sums[1].share && sums[0].residual == sums[1].residual);
            graft_merge_report_free(&reports[1]);
        }
        graft_merge_report_free(&reports[0]);
    }
}
END_TEST

START_TEST(what_cannot_be_merged_is_refused_and_nothing_is_left)
{
    char path[GRAFT_PEFT_PATH_BYTES];
    const char *out = graft_merge_at(folder, "out.gguf");
    struct graft_merge_adapter adapter = {plain, 1};
    struct graft_merge_params good = {.size = sizeof good, .adapters = &adapter, .n_adapters = 1}, params;
    write_file(out, "before", 6);
#define REFUSED(change, status, text)                                                                                          \
    do {                                                                                                                       \
        params = good;                                                                                                         \
        adapter = (struct graft_merge_adapter){plain, 1};                                                                      \
        change;                                                                                                                \
        ck_assert_status(graft_merge(ctx, base, out, &params, NULL), status);                                                  \
        ck_assert_error_has(text);                                                                                             \
        ck_assert(holds(out, "before") && graft_merge_entries(folder, NULL) == 1);                                             \
    } while (0)
    REFUSED(params.size = 0, GRAFT_E_ARGUMENT, "size");
    REFUSED(params.n_adapters = 0, GRAFT_E_ARGUMENT, "0 adapters");
    REFUSED(params.n_adapters = 17, GRAFT_E_ARGUMENT, "17 adapters");
    REFUSED(params.type = "q9_9", GRAFT_E_ARGUMENT, "Q8_0");
    REFUSED(params.type = "q4_k", GRAFT_E_UNSUPPORTED, "rows of 64 weights");
    REFUSED(params.keep_effect = 1.5, GRAFT_E_ARGUMENT, "1.5");
    REFUSED(adapter.weight = NAN, GRAFT_E_ARGUMENT, "weight");
    REFUSED(adapter.path = "/no/such/adapter", GRAFT_E_IO, "/no/such/adapter");
    graft_peft_path(path, "bias");
    REFUSED(adapter.path = path, GRAFT_E_UNSUPPORTED, "lora_bias");
    graft_peft_path(path, "alora");
    REFUSED(adapter.path = path, GRAFT_E_UNSUPPORTED, "aLoRA");
    snprintf(path, sizeof path, "%s/golden/adapter/peft", GRAFT_TEST_SOURCE_DIR);
    ck_assert_ok(graft_merge_one(ctx, base, path, NULL, graft_merge_at(folder, "fits.gguf"), NULL));
    unlink(graft_merge_at(folder, "fits.gguf"));
    adapter = (struct graft_merge_adapter){plain, 1e30f};
    params = good;
    params.type = "f16";
    ck_assert_status(graft_merge(ctx, base, out, &params, NULL), GRAFT_E_UNSUPPORTED);
    ck_assert_error_has("beyond what F16 can hold");
    ck_assert(holds(out, "before") && graft_merge_entries(folder, NULL) == 1);
}
END_TEST

START_TEST(an_input_is_never_the_output)
{
    const char *own = graft_merge_at(folder, "base.gguf"), *link = graft_merge_at(folder, "link.gguf");
    ck_assert_int_eq(shell("cp '%s' '%s' && ln -s base.gguf '%s' && cp -r '%s' '%s/plain'", base, own, link, plain, folder), 0);
    ck_assert_status(graft_merge_one(ctx, own, plain, NULL, own, NULL), GRAFT_E_ARGUMENT);
    ck_assert_error_has("is the base itself");
    ck_assert_status(graft_merge_one(ctx, own, plain, NULL, link, NULL), GRAFT_E_ARGUMENT);
    ck_assert_status(graft_merge_one(ctx, base, graft_merge_at(folder, "plain"), NULL,
                                     graft_merge_at(folder, "plain/adapter_model.safetensors"), NULL),
                     GRAFT_E_ARGUMENT);
    ck_assert_error_has("belongs to an adapter");
    ck_assert(graft_merge_same_bytes(base, own));
    ck_assert_status(graft_merge_one(ctx, base, plain, NULL, graft_merge_at(folder, "plain"), NULL), GRAFT_E_IO);
    ck_assert_status(graft_merge_one(ctx, base, plain, NULL, graft_merge_at(folder, "none/out.gguf"), NULL), GRAFT_E_IO);
    ck_assert_uint_eq(graft_merge_entries(folder, NULL), 3);
}
END_TEST

START_TEST(cut_inputs_are_errors)
{
    struct graft_map map;
    const char *cut = graft_merge_at(folder, "cut.gguf"), *out = graft_merge_at(folder, "out.gguf");
    ck_assert_ok(graft_map_open(&map, base));
    for (uint64_t size = 0; size + 64 < map.size; size += map.size / 23) {
        write_file(cut, map.data, size);
        ck_assert_int_ne(graft_merge_one(ctx, cut, plain, NULL, out, NULL), GRAFT_OK);
        ck_assert_error_has("cut.gguf");
        ck_assert_uint_eq(graft_merge_entries(folder, "cut.gguf"), 0);
    }
    graft_map_close(&map);
    ck_assert_int_eq(
        shell("cp -r '%s' '%s/plain' && truncate -s -1 '%s/plain/adapter_model.safetensors'", plain, folder, folder), 0);
    ck_assert_status(graft_merge_one(ctx, base, graft_merge_at(folder, "plain"), NULL, out, NULL), GRAFT_E_FORMAT);
    ck_assert_error_has("adapter_model.safetensors");
    ck_assert_uint_eq(graft_merge_entries(folder, "cut.gguf"), 1);
}
END_TEST

static bool cancel_behind(void *user, uint64_t done, uint64_t total)
{
    uint32_t *left = user;
    ck_assert_uint_le(done, total);
    return *left > 0 && --*left > 0;
}

START_TEST(cancelled_at_any_report_it_leaves_nothing)
{
    const char *out = graft_merge_at(folder, "out.gguf");
    struct graft_merge_adapter adapter = {plain, 1};
    uint32_t left = 0, tries = 0;
    struct graft_merge_params params = {.size = sizeof params,
                                        .adapters = &adapter,
                                        .n_adapters = 1,
                                        .type = "auto",
                                        .n_threads = 2,
                                        .progress = cancel_behind,
                                        .progress_user = &left};
    write_file(out, "before", 6);
    enum graft_status status = GRAFT_E_CANCELLED;
    for (uint32_t n = 1; status != GRAFT_OK; n += 13, tries++) {
        left = n;
        status = graft_merge(ctx, base, out, &params, NULL);
        ck_assert(status == GRAFT_OK || status == GRAFT_E_CANCELLED);
        ck_assert(status == GRAFT_OK || holds(out, "before"));
        ck_assert_uint_eq(graft_merge_entries(folder, NULL), 1);
    }
    ck_assert_uint_gt(tries, 5);
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    const char *out = graft_merge_at(folder, "out.gguf");
    write_file(out, "before", 6);
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        struct graft_test_alloc alloc = {0};
        struct graft_ctx *own = graft_test_ctx(&alloc, 0);
        struct graft_merge_report *report;
        alloc.requests = 0;
        alloc.fail_at = n;
        enum graft_status status = graft_merge_one(own, base, plain, NULL, out, &report);
        done = alloc.requests < n;
        ck_assert_msg(status == (done ? GRAFT_OK : GRAFT_E_MEMORY), "allocation %d: %s", (int)n, graft_last_error());
        ck_assert(done || (holds(out, "before") && report == NULL));
        ck_assert_uint_eq(graft_merge_entries(folder, NULL), 1);
        graft_merge_report_free(&report);
        graft_ctx_destroy(&own);
        ck_assert_uint_eq(alloc.live, 0);
    }
}
END_TEST

// A model whose matrices are larger than the budget, and an adapter of rank 8.
static void larger_model(char model[GRAFT_TINY_PATH_BYTES], const char *adapter, uint32_t n_layer)
{
    struct graft_tiny_model m = {
        .type = GRAFT_TYPE_Q4_0, .n_layer = n_layer, .n_embd = 512, .n_ff = 2048, .n_head = 8, .n_head_kv = 8, .head_dim = 64};
    struct graft_test_adapter a = {
        .n_layer = n_layer, .n_embd = 512, .n_ff = 2048, .q_rows = 512, .kv_rows = 512, .rank = 8, .layers = true};
    graft_tiny_model_file(&m, model);
    ck_assert_int_eq(shell("mkdir '%s'", adapter), 0);
    graft_test_adapter_folder(&a, adapter);
}

START_TEST(the_peak_stays_inside_the_budget_and_the_bytes_are_the_same)
{
    char model[GRAFT_TINY_PATH_BYTES];
    const char *adapter = graft_merge_at(folder, "adapter"), *free_of = graft_merge_at(folder, "free.gguf"),
               *tight = graft_merge_at(folder, "tight.gguf");
    struct graft_memory_use use;
    larger_model(model, adapter, 1);
    struct graft_merge_adapter adapters[] = {{adapter, 1}};
    struct graft_merge_params params = {
        .size = sizeof params, .adapters = adapters, .n_adapters = 1, .type = "auto", .n_threads = 16};
    ck_assert_ok(graft_merge(ctx, model, free_of, &params, NULL));
    graft_ctx_memory(ctx, &use);
    uint64_t most = use.peak_bytes;
    uint32_t fewer = 0, refused = 0;
    for (uint64_t budget = most; budget > most / 16; budget -= most / 20) {
        struct graft_ctx *small = graft_test_ctx(NULL, budget);
        struct graft_merge_report *report;
        struct graft_merge_summary sum;
        enum graft_status status = graft_merge(small, model, tight, &params, &report);
        graft_ctx_memory(small, &use);
        ck_assert_uint_le(use.peak_bytes, budget);
        ck_assert(status == GRAFT_OK || status == GRAFT_E_BUDGET);
        if (status == GRAFT_OK) {
            graft_merge_summarize(report, &sum);
            fewer += sum.n_threads < 16;
            ck_assert(graft_merge_same_bytes(free_of, tight));
        }
        refused += status != GRAFT_OK;
        graft_merge_report_free(&report);
        graft_ctx_destroy(&small);
    }
    printf("16 threads: %d bytes at most; %u smaller budgets with fewer threads, %u refused\n", (int)most, fewer, refused);
    ck_assert_uint_gt(fewer, 0);
    unlink(model);
}
END_TEST

// ---- files ----

START_TEST(a_limit_on_file_sizes_is_a_clear_error)
{
    const char *out = graft_merge_at(folder, "out.gguf");
    struct graft_map map;
    write_file(out, "before", 6);
    ck_assert_ok(graft_map_open(&map, base));
    struct rlimit before, limit;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    limit = before;
    for (int part = 0; part < 4; part++) {
        limit.rlim_cur = map.size * (uint64_t)part / 4;
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        enum graft_status status = graft_merge_one(ctx, base, plain, NULL, out, NULL);
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
        ck_assert_int_eq(status, GRAFT_E_IO);
        ck_assert_error_has("cannot be written");
        ck_assert(holds(out, "before") && graft_merge_entries(folder, NULL) == 1);
    }
    signal(SIGXFSZ, handler);
    graft_map_close(&map);
}
END_TEST

START_TEST(a_full_disk_is_a_clear_error)
{
    const char *disk = graft_merge_at(folder, "disk"), *out = graft_merge_at(folder, "disk/out.gguf");
    if (shell("mkdir '%s' && mount -t tmpfs -o size=48k none '%s' 2>/dev/null", disk, disk) != 0) {
        printf("skipped: a small file system cannot be mounted here\n");
        return;
    }
    write_file(out, "before", 6);
    enum graft_status status = graft_merge_one(ctx, base, plain, NULL, out, NULL);
    bool good = holds(out, "before") && graft_merge_entries(disk, NULL) == 1;
    ck_assert_int_eq(shell("umount '%s'", disk), 0);
    ck_assert_int_eq(status, GRAFT_E_IO);
    ck_assert_error_has("No space left");
    ck_assert(good);
}
END_TEST

START_TEST(what_others_left_is_removed_and_what_they_hold_is_not)
{
    const char *out = graft_merge_at(folder, "out.gguf"), *left = graft_merge_at(folder, ".old.gguf.0123abcd.graft-merge"),
               *held = graft_merge_at(folder, ".out.gguf.89abcdef.graft-merge"),
               *foreign = graft_merge_at(folder, ".out.gguf.89abcdeg.graft-merge"),
               *named = graft_merge_at(folder, "out.gguf.89abcdef.graft-merge");
    write_file(left, "x", 1);
    write_file(held, "x", 1);
    write_file(foreign, "x", 1);
    write_file(named, "x", 1);
    int fd = open(held, O_WRONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(flock(fd, LOCK_EX), 0);
    ck_assert_ok(graft_merge_one(ctx, base, plain, NULL, out, NULL));
    ck_assert_int_ne(access(left, F_OK), 0);
    ck_assert_int_eq(access(held, F_OK), 0);
    ck_assert_int_eq(access(foreign, F_OK), 0);
    ck_assert_int_eq(access(named, F_OK), 0);
    close(fd);
    ck_assert_ok(graft_merge_one(ctx, base, plain, NULL, out, NULL));
    ck_assert_int_ne(access(held, F_OK), 0);
    ck_assert_uint_eq(graft_merge_entries(folder, NULL), 3);
}
END_TEST

START_TEST(killed_at_any_moment_the_output_is_the_old_or_the_new_one)
{
    enum { KILLS = 60 };
    char model[GRAFT_TINY_PATH_BYTES];
    const char *adapter = graft_merge_at(folder, "adapter"), *want = graft_merge_at(folder, "want.gguf"),
               *place = graft_merge_at(folder, "place"), *out = graft_merge_at(folder, "place/out.gguf");
    larger_model(model, adapter, 2);
    ck_assert_int_eq(shell("mkdir '%s'", place), 0);
    uint64_t started = graft_clock_ns();
    ck_assert_ok(graft_merge_one(ctx, model, adapter, NULL, want, NULL));
    uint64_t whole = graft_clock_ns() - started;
    struct graft_test_random random = {20240905};
    uint32_t old = 0, complete = 0, left = 0;
    fflush(stdout);
    for (int i = 0; i < KILLS; i++) {
        write_file(out, "before", 6);
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            struct graft_ctx *own;
            _exit(graft_ctx_create(&own, NULL) == GRAFT_OK && graft_merge_one(own, model, adapter, NULL, out, NULL) == GRAFT_OK
                      ? 0
                      : 1);
        }
        uint64_t wait = graft_test_random_u64(&random) % (whole + whole / 4);
        struct timespec pause = {(time_t)(wait / 1000000000), (long)(wait % 1000000000)};
        nanosleep(&pause, NULL);
        kill(child, SIGKILL);
        int status;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
        left += graft_merge_entries(place, NULL) > 1;
        ck_assert_uint_le(graft_merge_entries(place, NULL), 2); // what the last one left is gone
        if (holds(out, "before")) {
            old++;
        } else {
            ck_assert(graft_merge_same_bytes(out, want));
            complete++;
        }
    }
    ck_assert_ok(graft_merge_one(ctx, model, adapter, NULL, out, NULL));
    ck_assert(graft_merge_same_bytes(out, want) && graft_merge_entries(place, NULL) == 1);
    printf("%d merges killed: %u left the old output, %u the new one, %u a temporary that the next run removed\n", KILLS, old,
           complete, left);
    ck_assert_uint_gt(old, 0);
    ck_assert_uint_gt(left, 0);
    unlink(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("merge_files");
    TCase *tests = tcase_create("merge_files");
    tcase_set_timeout(tests, 300);
    tcase_add_checked_fixture(tests, begin, end);
    tcase_add_test(tests, the_same_bytes_on_any_number_of_threads);
    tcase_add_test(tests, what_cannot_be_merged_is_refused_and_nothing_is_left);
    tcase_add_test(tests, an_input_is_never_the_output);
    tcase_add_test(tests, cut_inputs_are_errors);
    tcase_add_test(tests, cancelled_at_any_report_it_leaves_nothing);
    tcase_add_test(tests, every_allocation_may_fail);
    tcase_add_test(tests, the_peak_stays_inside_the_budget_and_the_bytes_are_the_same);
    tcase_add_test(tests, a_limit_on_file_sizes_is_a_clear_error);
    tcase_add_test(tests, a_full_disk_is_a_clear_error);
    tcase_add_test(tests, what_others_left_is_removed_and_what_they_hold_is_not);
    tcase_add_test(tests, killed_at_any_moment_the_output_is_the_old_or_the_new_one);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
