// SPDX-License-Identifier: Apache-2.0
// Outputs written aside: names, buffer, and the order of steps; the steps themselves are the system's.
#include <stdio.h>
#include <string.h>

#include "platform/aside_private.h"
#include "platform/plat.h"

enum { BUFFER_BYTES = 1 << 16 };

// "PATH.tmp"; slashes at the end of a folder's name are not part of it.
static enum graft_status name_temporary(struct graft_ctx *ctx, const char *path, char **plain, char **temporary)
{
    size_t length = strlen(path);
    while (length > 1 && graft_path_separator(path[length - 1])) {
        length--;
    }
    if (length == 0) {
        return graft_fail(GRAFT_E_IO, "the output's path is empty");
    }
    GRAFT_TRY(graft_strdup(ctx, plain, path, length));
    GRAFT_TRY(graft_alloc(ctx, GRAFT_MEM_HOST, (void **)temporary, length + sizeof ".tmp", 1, "a path"));
    snprintf(*temporary, length + sizeof ".tmp", "%s.tmp", *plain);
    return GRAFT_OK;
}

enum graft_status graft_aside_fail_taken(const char *path)
{
    return graft_fail(GRAFT_E_IO, "%s: another process is writing it", path);
}

enum graft_status graft_aside_open(struct graft_ctx *ctx, struct graft_aside **out, const char *path)
{
    *out = NULL;
    struct graft_aside *output;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &output, 1, "an output file"));
    output->ctx = ctx;
    output->file = GRAFT_ASIDE_NONE;
    enum graft_status status;
    GRAFT_TRY_OUT(name_temporary(ctx, path, &output->path, &output->temporary), status, out);
    GRAFT_TRY_OUT(graft_alloc(ctx, GRAFT_MEM_HOST, (void **)&output->buffer, BUFFER_BYTES, 1, "an output buffer"), status, out);
    status = graft_aside_take(output);
out:
    if (status != GRAFT_OK) {
        graft_aside_discard(&output);
    }
    *out = output;
    return status;
}

static enum graft_status flush(struct graft_aside *out)
{
    uint32_t used = out->used;
    out->used = 0;
    return graft_aside_put(out, out->buffer, used);
}

enum graft_status graft_aside_write(struct graft_aside *out, const void *data, uint64_t bytes)
{
    if (bytes > BUFFER_BYTES - out->used) {
        GRAFT_TRY(flush(out));
    }
    if (bytes >= BUFFER_BYTES) {
        GRAFT_TRY(graft_aside_put(out, data, bytes));
    } else if (bytes > 0) {
        memcpy(out->buffer + out->used, data, (size_t)bytes);
        out->used += (uint32_t)bytes;
    }
    out->bytes += bytes;
    return GRAFT_OK;
}

enum graft_status graft_aside_zeros(struct graft_aside *out, uint64_t bytes)
{
    static const uint8_t zeros[256];
    for (uint64_t piece; bytes > 0; bytes -= piece) {
        piece = bytes < sizeof zeros ? bytes : sizeof zeros;
        GRAFT_TRY(graft_aside_write(out, zeros, piece));
    }
    return GRAFT_OK;
}

uint64_t graft_aside_bytes(const struct graft_aside *out)
{
    return out->bytes;
}

static void end_file(struct graft_aside **out, bool remove)
{
    struct graft_ctx *ctx = (*out)->ctx;
    graft_aside_let_go(*out, remove);
    GRAFT_FREE(ctx, &(*out)->buffer);
    GRAFT_FREE(ctx, &(*out)->temporary);
    GRAFT_FREE(ctx, &(*out)->path);
    GRAFT_FREE(ctx, out);
}

enum graft_status graft_aside_commit(struct graft_aside **out)
{
    enum graft_status status = flush(*out);
    if (status == GRAFT_OK) {
        status = graft_aside_place(*out);
    }
    end_file(out, status != GRAFT_OK);
    return status;
}

void graft_aside_discard(struct graft_aside **out)
{
    if (out && *out) {
        end_file(out, true);
    }
}

enum graft_status graft_aside_check_name(const struct graft_aside_folder *folder, const char *name)
{
    bool known = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
    for (const char *const *one = folder->names; *one && !known; one++) {
        known = strcmp(name, *one) == 0;
    }
    return known ? GRAFT_OK
                 : graft_fail(GRAFT_E_ARGUMENT, "%s: the folder holds %.100s, which replacing it would lose", folder->path,
                              name);
}

static void end_folder(struct graft_aside_folder **folder, bool remove)
{
    struct graft_ctx *ctx = (*folder)->ctx;
    graft_aside_folder_let_go(*folder, remove);
    GRAFT_FREE(ctx, &(*folder)->temporary);
    GRAFT_FREE(ctx, &(*folder)->path);
    GRAFT_FREE(ctx, folder);
}

enum graft_status graft_aside_folder_open(struct graft_ctx *ctx, struct graft_aside_folder **out, const char *path,
                                           const char *const *names)
{
    *out = NULL;
    struct graft_aside_folder *folder;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &folder, 1, "an output folder"));
    folder->ctx = ctx;
    folder->file = GRAFT_ASIDE_NONE;
    folder->names = names;
    enum graft_status status;
    bool there;
    GRAFT_TRY_OUT(name_temporary(ctx, path, &folder->path, &folder->temporary), status, out);
    GRAFT_TRY_OUT(graft_aside_folder_check(folder, &there), status, out);
    status = graft_aside_folder_take(folder);
out:
    if (status != GRAFT_OK) {
        graft_aside_folder_discard(&folder);
    }
    *out = folder;
    return status;
}

enum graft_status graft_aside_folder_file(struct graft_aside_folder *folder, struct graft_aside **out, const char *name)
{
    char *path;
    size_t bytes = strlen(folder->temporary) + strlen(name) + 2;
    *out = NULL;
    GRAFT_TRY(graft_alloc(folder->ctx, GRAFT_MEM_HOST, (void **)&path, bytes, 1, "a path"));
    snprintf(path, bytes, "%s/%s", folder->temporary, name);
    enum graft_status status = graft_aside_open(folder->ctx, out, path);
    GRAFT_FREE(folder->ctx, &path);
    return status;
}

enum graft_status graft_aside_folder_commit(struct graft_aside_folder **out)
{
    bool there;
    enum graft_status status = graft_aside_folder_check(*out, &there);
    if (status == GRAFT_OK) {
        status = graft_aside_folder_place(*out, there);
    }
    end_folder(out, status != GRAFT_OK);
    return status;
}

void graft_aside_folder_discard(struct graft_aside_folder **out)
{
    if (out && *out) {
        end_folder(out, true);
    }
}
