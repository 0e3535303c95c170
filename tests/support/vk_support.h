// SPDX-License-Identifier: Apache-2.0
// Shared by the tests of the device layer: a log that is kept, a temporary folder, one small scenario.
#ifndef GRAFT_TESTS_VK_SUPPORT_H
#define GRAFT_TESTS_VK_SUPPORT_H

#include "runtime/vk/vk.h"
#include "support/support.h"

struct graft_test_log {
    char text[65536]; // all lines, each with its newline; later lines are dropped when it is full
    size_t used;
    uint32_t lines;
};
// A context whose warnings (or more) go to `log`; cache_dir and log may be NULL.
struct graft_ctx *graft_test_vk_ctx(struct graft_test_alloc *alloc, uint64_t budget_bytes, const char *cache_dir,
                                    struct graft_test_log *log);
// A new empty folder; free it with graft_test_folder_remove.
void graft_test_folder(char path[64]);
// Remove the files in a folder, and the folder.
void graft_test_folder_remove(const char *path);
// Path of the only file in the folder, or "" if there is none.
void graft_test_folder_file(const char *folder, char path[512]);

#endif
