// SPDX-License-Identifier: Apache-2.0
// Outputs written aside, on POSIX systems (folders are exchanged by Linux's renameat2).
#define _GNU_SOURCE
#include "platform/aside.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/bytes.h"

enum { BUFFER_BYTES = 1 << 16, LOCK_TRIES = 16 };

struct graft_aside {
    struct graft_ctx *ctx;
    char *path, *temporary;
    int fd;
    uint64_t bytes;
    uint32_t used; // of the buffer
    uint8_t *buffer;
};

// "PATH.tmp"; slashes at the end of a folder's name are not part of it.
static enum graft_status name_temporary(struct graft_ctx *ctx, const char *path, char **plain, char **temporary)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') {
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

static void sync_parent(struct graft_ctx *ctx, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder;
    if (graft_strdup(ctx, &folder, slash ? path : ".", slash && slash != path ? (uint64_t)(slash - path) : 1) != GRAFT_OK) {
        return;
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    GRAFT_FREE(ctx, &folder);
}

// Lock what was opened as `name`; false if it was renamed or removed before the lock was there, or (*error set) locked by
// another.
static bool lock_same(int fd, const char *name, int *error)
{
    struct stat mine, now;
    *error = 0;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        *error = errno;
        return false;
    }
    if (fstat(fd, &mine) != 0) {
        *error = errno;
        return false;
    }
    return lstat(name, &now) == 0 && mine.st_ino == now.st_ino && mine.st_dev == now.st_dev;
}

static enum graft_status fail_lock(const char *path, int error)
{
    return error == EWOULDBLOCK ? graft_fail(GRAFT_E_IO, "%s: another process is writing it", path)
                                : graft_fail(GRAFT_E_IO, "%s: cannot be written: %s", path, strerror(error));
}

enum graft_status graft_aside_open(struct graft_ctx *ctx, struct graft_aside **out, const char *path)
{
    *out = NULL;
    struct graft_aside *output;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &output, 1, "an output file"));
    output->ctx = ctx;
    output->fd = -1;
    enum graft_status status;
    struct stat info;
    GRAFT_TRY_OUT(name_temporary(ctx, path, &output->path, &output->temporary), status, out);
    GRAFT_TRY_OUT(graft_alloc(ctx, GRAFT_MEM_HOST, (void **)&output->buffer, BUFFER_BYTES, 1, "an output buffer"), status, out);
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) {
        status = graft_fail(GRAFT_E_IO, "%s: is %s, not a regular file", path,
                            S_ISDIR(info.st_mode) ? "a directory" : "a device, FIFO or socket");
        goto out;
    }
    int error = EAGAIN;
    for (int i = 0; i < LOCK_TRIES && output->fd < 0; i++) {
        int fd = open(output->temporary, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
        if (fd < 0) {
            error = errno;
            break;
        }
        if (lock_same(fd, output->temporary, &error) && ftruncate(fd, 0) == 0) {
            output->fd = fd;
            break;
        }
        close(fd);
        if (error) {
            break;
        }
        error = EAGAIN;
    }
    status = output->fd >= 0 ? GRAFT_OK : fail_lock(path, error);
out:
    if (status != GRAFT_OK) {
        graft_aside_discard(&output);
    }
    *out = output;
    return status;
}

// Straight to the file.
static enum graft_status put(struct graft_aside *out, const uint8_t *data, uint64_t bytes)
{
    for (uint64_t done = 0; done < bytes;) {
        ssize_t got = write(out->fd, data + done, (size_t)(bytes - done));
        if (got > 0) {
            done += (uint64_t)got;
        } else if (got == 0 || errno != EINTR) {
            return graft_fail(GRAFT_E_IO, "%s: cannot be written: %s", out->path, strerror(got == 0 ? EIO : errno));
        }
    }
    return GRAFT_OK;
}

static enum graft_status flush(struct graft_aside *out)
{
    uint32_t used = out->used;
    out->used = 0;
    return put(out, out->buffer, used);
}

enum graft_status graft_aside_write(struct graft_aside *out, const void *data, uint64_t bytes)
{
    if (bytes > BUFFER_BYTES - out->used) {
        GRAFT_TRY(flush(out));
    }
    if (bytes >= BUFFER_BYTES) {
        GRAFT_TRY(put(out, data, bytes));
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

static void free_output(struct graft_aside **out)
{
    struct graft_ctx *ctx = (*out)->ctx;
    if ((*out)->fd >= 0) {
        close((*out)->fd);
    }
    GRAFT_FREE(ctx, &(*out)->buffer);
    GRAFT_FREE(ctx, &(*out)->temporary);
    GRAFT_FREE(ctx, &(*out)->path);
    GRAFT_FREE(ctx, out);
}

enum graft_status graft_aside_commit(struct graft_aside **out)
{
    struct graft_aside *output = *out;
    enum graft_status status = flush(output);
    if (status == GRAFT_OK && (fsync(output->fd) != 0 || rename(output->temporary, output->path) != 0)) {
        status = graft_fail(GRAFT_E_IO, "%s: cannot be written: %s", output->path, strerror(errno));
    }
    if (status != GRAFT_OK) {
        graft_aside_discard(out);
        return status;
    }
    sync_parent(output->ctx, output->path);
    free_output(out);
    return GRAFT_OK;
}

void graft_aside_discard(struct graft_aside **out)
{
    if (!out || !*out) {
        return;
    }
    if ((*out)->fd >= 0) { // ours: it is locked
        unlink((*out)->temporary);
    }
    free_output(out);
}

struct graft_aside_folder {
    struct graft_ctx *ctx;
    char *path, *temporary;
    const char *const *names;
    int fd; // of the temporary; locked
};

// The files that the folder may hold, and what their own writing leaves behind, are removed from `path`, then the folder.
static void remove_folder(struct graft_aside_folder *folder, int fd, const char *path, bool itself)
{
    for (const char *const *name = folder->names; *name; name++) {
        char temporary[256];
        snprintf(temporary, sizeof temporary, "%s.tmp", *name);
        unlinkat(fd, *name, 0);
        unlinkat(fd, temporary, 0);
    }
    if (itself) {
        rmdir(path);
    }
}

// A folder that is there holds known names only. *there: there is one.
static enum graft_status check_old(const struct graft_aside_folder *folder, bool *there)
{
    enum graft_status status = GRAFT_OK;
    struct stat info;
    *there = lstat(folder->path, &info) == 0;
    if (!*there) {
        return GRAFT_OK;
    }
    DIR *dir = S_ISDIR(info.st_mode) ? opendir(folder->path) : NULL;
    if (!dir) {
        return graft_fail(GRAFT_E_IO, "%s: %s", folder->path,
                          S_ISDIR(info.st_mode) ? strerror(errno) : "is not a folder, where a folder is to be written");
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL && status == GRAFT_OK;) {
        bool known = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
        for (const char *const *name = folder->names; *name && !known; name++) {
            known = strcmp(entry->d_name, *name) == 0;
        }
        if (!known) {
            status = graft_fail(GRAFT_E_ARGUMENT, "%s: the folder holds %.100s, which replacing it would lose", folder->path,
                                entry->d_name);
        }
    }
    closedir(dir);
    return status;
}

static void free_folder(struct graft_aside_folder **folder)
{
    struct graft_ctx *ctx = (*folder)->ctx;
    if ((*folder)->fd >= 0) {
        close((*folder)->fd);
    }
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
    folder->fd = -1;
    folder->names = names;
    enum graft_status status;
    bool there;
    GRAFT_TRY_OUT(name_temporary(ctx, path, &folder->path, &folder->temporary), status, out);
    GRAFT_TRY_OUT(check_old(folder, &there), status, out);
    int error = EAGAIN;
    for (int i = 0; i < LOCK_TRIES && folder->fd < 0; i++) {
        if (mkdir(folder->temporary, 0777) != 0 && errno != EEXIST) {
            error = errno;
            break;
        }
        int fd = open(folder->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 && errno == ENOENT) {
            continue;
        }
        if (fd < 0) {
            error = errno;
            break;
        }
        if (lock_same(fd, folder->temporary, &error)) {
            folder->fd = fd;
            break;
        }
        close(fd);
        if (error) {
            break;
        }
        error = EAGAIN;
    }
    if (folder->fd < 0) {
        status = fail_lock(folder->path, error);
        goto out;
    }
    remove_folder(folder, folder->fd, folder->temporary, false);
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
    struct graft_aside_folder *folder = *out;
    bool there;
    enum graft_status status = check_old(folder, &there);
    if (status == GRAFT_OK) {
        (void)fsync(folder->fd);
        int failed = there ? renameat2(AT_FDCWD, folder->temporary, AT_FDCWD, folder->path, RENAME_EXCHANGE)
                           : rename(folder->temporary, folder->path);
        if (failed) {
            int error = errno;
            status = graft_fail(GRAFT_E_IO, "%s: cannot be put in its place: %s%s", folder->path, strerror(error),
                                there && (error == EINVAL || error == ENOSYS)
                                    ? "; this file system cannot exchange folders, remove the old one first"
                                    : "");
        }
    }
    if (status != GRAFT_OK) {
        graft_aside_folder_discard(out);
        return status;
    }
    if (there) { // the temporary's name now belongs to the old folder
        int old = open(folder->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (old >= 0) {
            remove_folder(folder, old, folder->temporary, true);
            close(old);
        }
    }
    sync_parent(folder->ctx, folder->path);
    free_folder(out);
    return GRAFT_OK;
}

void graft_aside_folder_discard(struct graft_aside_folder **out)
{
    if (!out || !*out) {
        return;
    }
    if ((*out)->fd >= 0) { // ours: it is locked
        remove_folder(*out, (*out)->fd, (*out)->temporary, true);
    }
    free_folder(out);
}
