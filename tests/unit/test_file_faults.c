// SPDX-License-Identifier: Apache-2.0
// Faults F4, F5 and F21: system calls that fail in turn, while files are replaced, written in pieces, merged, read and mapped.
// Whatever fails, the old file is whole or the new one is, no temporary is left, the error names the file, and memory is given
// back; short and interrupted calls are no errors at all.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "graft/engine.h"
#include "graft/merge.h"
#include "platform/aside.h"
#include "platform/plat.h"
#include "support/merge_files.h"
#include "support/model_world.h"
#include "support/peft_golden.h"

// ---- this program's own system calls: they go before libc's, also for the library's objects in it ----

enum call { OPEN, READ, WRITE, SYNC, SIZE, RENAME, MAP, THREAD, CALLS };
static const char *const call_names[CALLS] = {"open",      "read",   "write", "fsync",
                                              "ftruncate", "rename", "mmap",  "pthread_create"};

static struct {
    enum call call;
    uint64_t left; // calls until it fails; 0: none does
    int error;     // 0: reads and writes move one byte only
    bool struck;
} fault;

static bool strikes(enum call call)
{
    if (fault.left == 0 || fault.call != call || --fault.left > 0) {
        return false;
    }
    fault.struck = true;
    errno = fault.error;
    return true;
}

#define EXPORTED __attribute__((visibility("default")))

EXPORTED int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
    va_end(args);
    return strikes(OPEN) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
EXPORTED int openat(int folder, const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
    va_end(args);
    return strikes(OPEN) ? -1 : (int)syscall(SYS_openat, folder, path, flags, mode);
}
EXPORTED ssize_t read(int fd, void *data, size_t bytes)
{
    if (strikes(READ)) {
        return fault.error ? -1 : (ssize_t)syscall(SYS_read, fd, data, bytes ? 1 : 0);
    }
    return (ssize_t)syscall(SYS_read, fd, data, bytes);
}
EXPORTED ssize_t write(int fd, const void *data, size_t bytes)
{
    if (fd > 2 && strikes(WRITE)) {
        return fault.error ? -1 : (ssize_t)syscall(SYS_write, fd, data, bytes ? 1 : 0);
    }
    return (ssize_t)syscall(SYS_write, fd, data, bytes);
}
EXPORTED ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at)
{
    if (strikes(WRITE)) {
        return fault.error ? -1 : (ssize_t)syscall(SYS_pwrite64, fd, data, bytes ? 1 : 0, at);
    }
    return (ssize_t)syscall(SYS_pwrite64, fd, data, bytes, at);
}
EXPORTED int fsync(int fd)
{
    return strikes(SYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}
EXPORTED int ftruncate(int fd, off_t bytes)
{
    return strikes(SIZE) ? -1 : (int)syscall(SYS_ftruncate, fd, bytes);
}
EXPORTED int rename(const char *from, const char *to)
{
    return strikes(RENAME) ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
EXPORTED int renameat(int a, const char *from, int b, const char *to)
{
    return strikes(RENAME) ? -1 : (int)syscall(SYS_renameat2, a, from, b, to, 0);
}
EXPORTED void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (fd >= 0 && strikes(MAP)) {
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset); // NOLINT
}

EXPORTED int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *user)
{
    static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!next) {
        *(void **)(void *)&next = dlsym(RTLD_NEXT, "pthread_create");
    }
    return strikes(THREAD) ? fault.error : next(thread, attributes, run, user);
}

// ---- scenarios: each gives its status; a file it writes is called "out" ----

static char folder[GRAFT_MERGE_PATH_BYTES], base[GRAFT_PEFT_PATH_BYTES], adapter[GRAFT_PEFT_PATH_BYTES];
static char old_text[5000], new_text[150000];

static enum graft_status replace(struct graft_ctx *ctx, const char *out)
{
    (void)ctx;
    return graft_file_replace(out, new_text, sizeof new_text);
}

static enum graft_status aside(struct graft_ctx *ctx, const char *out)
{
    struct graft_aside *file;
    GRAFT_TRY(graft_aside_open(ctx, &file, out));
    enum graft_status status = GRAFT_OK;
    for (size_t at = 0; at < sizeof new_text && status == GRAFT_OK; at += 1000) {
        status = graft_aside_write(file, new_text + at, 1000);
    }
    if (status != GRAFT_OK) {
        graft_aside_discard(&file);
        return status;
    }
    return graft_aside_commit(&file);
}

static enum graft_status output(struct graft_ctx *ctx, const char *out)
{
    struct graft_output *file;
    GRAFT_TRY(graft_output_begin(ctx, &file, out, "test"));
    enum graft_status status = graft_output_reserve(file, sizeof new_text);
    for (size_t at = 0; at < sizeof new_text && status == GRAFT_OK; at += 50000) {
        status = graft_output_write(file, at, new_text + at, 50000);
    }
    if (status != GRAFT_OK) {
        graft_output_abandon(&file);
        return status;
    }
    return graft_output_commit(&file);
}

static enum graft_status merge(struct graft_ctx *ctx, const char *out)
{
    struct graft_merge_adapter one = {adapter, 1};
    struct graft_merge_params params = {.size = sizeof params, .adapters = &one, .n_adapters = 1, .n_threads = 1};
    return graft_merge(ctx, base, out, &params, NULL);
}

static const struct {
    const char *name;
    enum graft_status (*run)(struct graft_ctx *ctx, const char *out);
    bool text; // the new content is new_text
} writers[] = {{"replace", replace, true}, {"aside", aside, true}, {"output", output, true}, {"merge", merge, false}};

static void put_old(const char *path)
{
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(old_text, 1, sizeof old_text, file), sizeof old_text);
    ck_assert_int_eq(fclose(file), 0);
}

static bool has(const char *path, const char *text, size_t size)
{
    static char content[sizeof new_text + 1];
    FILE *file = fopen(path, "rb");
    size_t got = file ? fread(content, 1, sizeof content, file) : 0;
    if (file) {
        fclose(file);
    }
    return got == size && memcmp(content, text, size) == 0;
}

START_TEST(a_file_is_the_old_one_or_the_new_one_whatever_fails)
{
    static const struct {
        enum call call;
        int error;
    } faults[] = {{OPEN, EMFILE}, {OPEN, EACCES}, {WRITE, ENOSPC}, {WRITE, EIO},   {WRITE, EDQUOT}, {WRITE, EFBIG},
                  {WRITE, 0},     {WRITE, EINTR}, {SYNC, EIO},     {SYNC, ENOSPC}, {SIZE, EFBIG},   {RENAME, EXDEV},
                  {RENAME, EIO},  {READ, EIO},    {READ, EINTR},   {READ, 0},      {MAP, ENOMEM}};
    const char *out = graft_merge_at(folder, "out");
    uint32_t failed = 0;
    for (size_t f = 0; f < sizeof faults / sizeof *faults; f++) {
        bool harmless = faults[f].error == 0 || faults[f].error == EINTR;
        for (uint64_t n = 1;; n += n < 12 ? 1 : n / 4) {
            struct graft_test_alloc alloc = {0};
            struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
            put_old(out);
            fault.call = faults[f].call;
            fault.error = faults[f].error;
            fault.struck = false;
            fault.left = n;
            enum graft_status status = writers[_i].run(ctx, out);
            fault.left = 0;
            bool struck = fault.struck;
            char detail[256];
            snprintf(detail, sizeof detail, "%s, %s number %d fails with %d: %s (%s)", writers[_i].name,
                     call_names[faults[f].call], (int)n, faults[f].error, graft_status_name(status), graft_last_error());
            ck_assert_msg(status == GRAFT_OK || (struck && !harmless), "%s", detail);
            ck_assert_msg(status == GRAFT_OK || status == GRAFT_E_IO, "%s", detail);
            ck_assert_msg(status == GRAFT_OK || strchr(graft_last_error(), '/'), "%s: no path", detail);
            failed += status != GRAFT_OK;
            bool old = has(out, old_text, sizeof old_text);
            ck_assert_msg(old == (status != GRAFT_OK), "%s: the old file is%s there", detail, old ? "" : " not");
            ck_assert_msg(status != GRAFT_OK || !writers[_i].text || has(out, new_text, sizeof new_text), "%s: not whole",
                          detail);
            ck_assert_msg(graft_merge_entries(folder, "out") == 0, "%s: a temporary is left", detail);
            graft_ctx_destroy(&ctx);
            ck_assert_msg(alloc.live == 0, "%s: memory", detail);
            if (!struck) {
                break;
            }
            ck_assert_uint_lt(n, 100000);
        }
    }
    ck_assert_uint_ge(failed, 8); // most faults of most calls are errors
}
END_TEST

// Reading: adapters, models, whole files.
START_TEST(what_cannot_be_read_is_an_error_that_names_it)
{
    static const struct {
        enum call call;
        int error;
    } faults[] = {{OPEN, EMFILE}, {OPEN, ENFILE}, {READ, EIO}, {READ, EINTR}, {READ, 0}, {MAP, ENOMEM}, {MAP, ENODEV}};
    for (size_t f = 0; f < sizeof faults / sizeof *faults; f++) {
        bool harmless = faults[f].error == 0 || faults[f].error == EINTR;
        for (uint64_t n = 1; n < 100; n++) {
            struct graft_test_world w;
            struct graft_model_params params = {
                .size = sizeof params, .n_ctx = 64, .n_batch = 2, .adapter_pool_bytes = 1 << 20};
            struct graft_adapter *loaded = NULL;
            ck_assert(graft_test_world_device(&w, NULL));
            fault.call = faults[f].call;
            fault.error = faults[f].error;
            fault.struck = false;
            fault.left = n;
            enum graft_status status = graft_model_open(&w.device, &w.model, base, &params);
            if (status == GRAFT_OK) {
                status = graft_adapter_load(w.model, &loaded, adapter);
            }
            fault.left = 0;
            bool struck = fault.struck;
            ck_assert_msg(status == GRAFT_OK || (struck && !harmless && status == GRAFT_E_IO),
                          "%s number %d fails with %d: %s (%s)", call_names[faults[f].call], (int)n, faults[f].error,
                          graft_status_name(status), graft_last_error());
            ck_assert_msg(status == GRAFT_OK || strchr(graft_last_error(), '/'), "%s", graft_last_error());
            graft_adapter_release(&loaded);
            graft_test_world_close(&w);
            if (!struck) {
                break;
            }
        }
    }
}
END_TEST

// F21: no thread is to be had, for the executor's workers or the engine: an error, and all is given back.
START_TEST(a_thread_that_cannot_be_started_is_an_error)
{
    uint32_t failed = 0;
    for (uint64_t n = 1; n < 20; n++) {
        struct graft_test_world w;
        struct graft_engine *engine = NULL;
        struct graft_model_params params = {.size = sizeof params, .n_ctx = 64, .n_batch = 2};
        ck_assert(graft_test_world_device(&w, NULL));
        fault.call = THREAD;
        fault.error = EAGAIN;
        fault.struck = false;
        fault.left = n;
        enum graft_status status = graft_model_open(&w.device, &w.model, base, &params);
        if (status == GRAFT_OK) {
            status = graft_engine_create(w.model, &engine, NULL);
        }
        fault.left = 0;
        ck_assert_msg(status == GRAFT_OK || (fault.struck && status == GRAFT_E_INTERNAL), "thread %d: %s (%s)", (int)n,
                      graft_status_name(status), graft_last_error());
        ck_assert_msg(status == GRAFT_OK || strstr(graft_last_error(), "a thread could not be started"), "%s",
                      graft_last_error());
        failed += status != GRAFT_OK;
        graft_engine_destroy(&engine);
        graft_test_world_close(&w);
        if (!fault.struck) {
            break;
        }
    }
    ck_assert_uint_ge(failed, 1);
}
END_TEST

static void begin(void)
{
    graft_merge_folder_begin(folder);
}

static void end(void)
{
    graft_merge_folder_end(folder);
}

int main(void)
{
    memset(old_text, 'o', sizeof old_text);
    memset(new_text, 'n', sizeof new_text);
    graft_peft_path(base, "base.gguf");
    graft_peft_path(adapter, "plain");
    Suite *suite = suite_create("file faults");
    TCase *tc = tcase_create("file faults");
    tcase_set_timeout(tc, 300);
    tcase_add_unchecked_fixture(tc, begin, end);
    tcase_add_loop_test(tc, a_file_is_the_old_one_or_the_new_one_whatever_fails, 0, sizeof writers / sizeof *writers);
    tcase_add_test(tc, what_cannot_be_read_is_an_error_that_names_it);
    tcase_add_test(tc, a_thread_that_cannot_be_started_is_an_error);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
