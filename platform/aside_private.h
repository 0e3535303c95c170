// SPDX-License-Identifier: Apache-2.0
// Between aside.c, which is the same on every system, and aside_posix.c or aside_windows.c.
#ifndef GRAFT_PLATFORM_ASIDE_PRIVATE_H
#define GRAFT_PLATFORM_ASIDE_PRIVATE_H

#include "platform/aside.h"

enum { GRAFT_ASIDE_NONE = -1 };

struct graft_aside {
    struct graft_ctx *ctx;
    char *path, *temporary;
    intptr_t file; // a file descriptor or HANDLE of the temporary, locked; GRAFT_ASIDE_NONE: not begun
    uint64_t bytes;
    uint32_t used; // of the buffer
    uint8_t *buffer;
};

struct graft_aside_folder {
    struct graft_ctx *ctx;
    char *path, *temporary;
    const char *const *names;
    intptr_t file; // of the temporary folder, locked; GRAFT_ASIDE_NONE: not begun
};

// Make or take over the temporary, empty and locked; `path` must be a regular file or absent. Errors as graft_aside_open.
enum graft_status graft_aside_take(struct graft_aside *out);
// Write at the end of the temporary, past the buffer.
enum graft_status graft_aside_put(struct graft_aside *out, const uint8_t *data, uint64_t bytes);
// Sync, and rename over `path`. On failure the temporary is still there.
enum graft_status graft_aside_place(struct graft_aside *out);
// Close the temporary, if it was begun; `remove`: and remove it.
void graft_aside_let_go(struct graft_aside *out, bool remove);

// Is there a folder at `path`, which holds known names only? Errors as graft_aside_folder_open.
enum graft_status graft_aside_folder_check(const struct graft_aside_folder *folder, bool *there);
// Make or take over the temporary, empty and locked.
enum graft_status graft_aside_folder_take(struct graft_aside_folder *folder);
// Put it in its place; `there`: an old one is, which is removed afterwards. On failure the temporary is still there.
enum graft_status graft_aside_folder_place(struct graft_aside_folder *folder, bool there);
// Close the temporary, if it was begun; `remove`: and remove it.
void graft_aside_folder_let_go(struct graft_aside_folder *folder, bool remove);

// For the systems: the texts of a lock that another process has, and of another name in a folder.
enum graft_status graft_aside_fail_taken(const char *path);
enum graft_status graft_aside_check_name(const struct graft_aside_folder *folder, const char *name);

#endif
