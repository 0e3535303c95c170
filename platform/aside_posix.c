// SPDX-License-Identifier: Apache-2.0
// The steps of outputs written aside on POSIX systems (folders are exchanged by Linux's renameat2).
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/aside_private.h"

enum { LOCK_TRIES = 16 };

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
    return error == EWOULDBLOCK ? graft_aside_fail_taken(path)
                                : graft_fail(GRAFT_E_IO, "%s: cannot be written: %s", path, strerror(error));
}

enum graft_status graft_aside_take(struct graft_aside *output)
{
    struct stat info;
    if (stat(output->path, &info) == 0 && !S_ISREG(info.st_mode)) {
        return graft_fail(GRAFT_E_IO, "%s: is %s, not a regular file", output->path,
                          S_ISDIR(info.st_mode) ? "a directory" : "a device, FIFO or socket");
    }
    int error = EAGAIN;
    for (int i = 0; i < LOCK_TRIES; i++) {
        int fd = open(output->temporary, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
        if (fd < 0) {
            error = errno;
            break;
        }
        if (lock_same(fd, output->temporary, &error) && ftruncate(fd, 0) == 0) {
            output->file = fd;
            return GRAFT_OK;
        }
        close(fd);
        if (error) {
            break;
        }
        error = EAGAIN;
    }
    return fail_lock(output->path, error);
}

enum graft_status graft_aside_put(struct graft_aside *out, const uint8_t *data, uint64_t bytes)
{
    for (uint64_t done = 0; done < bytes;) {
        ssize_t got = write((int)out->file, data + done, (size_t)(bytes - done));
        if (got > 0) {
            done += (uint64_t)got;
        } else if (got == 0 || errno != EINTR) {
            return graft_fail(GRAFT_E_IO, "%s: cannot be written: %s", out->path, strerror(got == 0 ? EIO : errno));
        }
    }
    return GRAFT_OK;
}

enum graft_status graft_aside_place(struct graft_aside *out)
{
    if (fsync((int)out->file) != 0 || rename(out->temporary, out->path) != 0) {
        return graft_fail(GRAFT_E_IO, "%s: cannot be written: %s", out->path, strerror(errno));
    }
    sync_parent(out->ctx, out->path);
    return GRAFT_OK;
}

void graft_aside_let_go(struct graft_aside *out, bool remove)
{
    if (out->file == GRAFT_ASIDE_NONE) {
        return;
    }
    if (remove) { // ours: it is locked
        unlink(out->temporary);
    }
    close((int)out->file);
}

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

enum graft_status graft_aside_folder_check(const struct graft_aside_folder *folder, bool *there)
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
        status = graft_aside_check_name(folder, entry->d_name);
    }
    closedir(dir);
    return status;
}

enum graft_status graft_aside_folder_take(struct graft_aside_folder *folder)
{
    int error = EAGAIN;
    for (int i = 0; i < LOCK_TRIES; i++) {
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
            folder->file = fd;
            remove_folder(folder, fd, folder->temporary, false);
            return GRAFT_OK;
        }
        close(fd);
        if (error) {
            break;
        }
        error = EAGAIN;
    }
    return fail_lock(folder->path, error);
}

enum graft_status graft_aside_folder_place(struct graft_aside_folder *folder, bool there)
{
    (void)fsync((int)folder->file);
    int failed = there ? renameat2(AT_FDCWD, folder->temporary, AT_FDCWD, folder->path, RENAME_EXCHANGE)
                       : rename(folder->temporary, folder->path);
    if (failed) {
        int error = errno;
        return graft_fail(GRAFT_E_IO, "%s: cannot be put in its place: %s%s", folder->path, strerror(error),
                          there && (error == EINVAL || error == ENOSYS)
                              ? "; this file system cannot exchange folders, remove the old one first"
                              : "");
    }
    if (there) { // the temporary's name now belongs to the old folder
        int old = open(folder->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (old >= 0) {
            remove_folder(folder, old, folder->temporary, true);
            close(old);
        }
    }
    sync_parent(folder->ctx, folder->path);
    return GRAFT_OK;
}

void graft_aside_folder_let_go(struct graft_aside_folder *folder, bool remove)
{
    if (folder->file == GRAFT_ASIDE_NONE) {
        return;
    }
    if (remove) { // ours: it is locked
        remove_folder(folder, (int)folder->file, folder->temporary, true);
    }
    close((int)folder->file);
}
