// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "support/vk_support.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void keep_line(void *user, enum graft_log_level level, const char *text)
{
    (void)level;
    struct graft_test_log *log = user;
    int wrote = snprintf(log->text + log->used, sizeof log->text - log->used, "%s\n", text);
    if (wrote > 0 && log->used + (size_t)wrote < sizeof log->text) {
        log->used += (size_t)wrote;
    }
    log->lines++;
}

struct graft_ctx *graft_test_vk_ctx(struct graft_test_alloc *alloc, uint64_t budget_bytes, const char *cache_dir,
                                    struct graft_test_log *log)
{
    struct graft_ctx_params params = {.size = sizeof params, .budget_bytes = budget_bytes, .cache_dir = cache_dir};
    if (alloc) {
        params.alloc = graft_test_alloc;
        params.free = graft_test_free;
        params.alloc_user = alloc;
    }
    if (log) {
        params.log = keep_line;
        params.log_user = log;
    }
    struct graft_ctx *ctx = NULL;
    ck_assert_ok(graft_ctx_create(&ctx, &params));
    return ctx;
}

void graft_test_folder(char path[64])
{
    strcpy(path, "/tmp/graft-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(path));
}

void graft_test_folder_file(const char *folder, char path[512])
{
    path[0] = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir)) {
        if (entry->d_name[0] != '.') {
            snprintf(path, 512, "%s/%s", folder, entry->d_name);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

void graft_test_folder_remove(const char *folder)
{
    char path[512];
    for (graft_test_folder_file(folder, path); path[0]; graft_test_folder_file(folder, path)) {
        if (unlink(path) != 0) {
            break;
        }
    }
    rmdir(folder);
}
