// SPDX-License-Identifier: Apache-2.0
// Large files that replace others safely, on POSIX systems (plat.h). A temporary is held by flock as long as its process lives:
// whoever gets the lock of another one knows that it was left behind.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/bytes.h"
#include "platform/plat.h"

enum { TAG_BYTES = 32, DIGITS = 8, SHOWN_NAME = 200, TRIES = 100 };

struct graft_output {
    struct graft_ctx *ctx;
    int fd, folder_fd;
    char *path;                                     // the final place, as given
    char name[SHOWN_NAME + DIGITS + TAG_BYTES + 8]; // of the temporary in the folder
    const char *final_name;                         // of the file in the folder: the end of path
    uint64_t started, settled;                      // write-back has begun, has ended before these offsets
};

bool graft_same_file(const char *a, const char *b)
{
    struct stat one, two;
    return stat(a, &one) == 0 && stat(b, &two) == 0 && one.st_dev == two.st_dev && one.st_ino == two.st_ino;
}

// .NAME.XXXXXXXX.TAG
static bool is_temporary(const char *name, const char *tag)
{
    size_t length = strlen(name), tail = strlen(tag);
    if (name[0] != '.' || length < tail + DIGITS + 4 || strcmp(name + length - tail, tag) != 0) {
        return false;
    }
    const char *digits = name + length - tail - 1 - DIGITS;
    return digits[-1] == '.' && digits[DIGITS] == '.' && strspn(digits, "0123456789abcdef") == DIGITS;
}

// Does the open file still stand in the folder under this name?
static bool stands(int folder, const char *name, int fd)
{
    struct stat there, here;
    return fstatat(folder, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &here) == 0 && there.st_dev == here.st_dev &&
           there.st_ino == here.st_ino;
}

static void remove_left_behind(int folder, const char *tag)
{
    int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = copy >= 0 ? fdopendir(copy) : NULL;
    if (!directory) {
        if (copy >= 0) {
            close(copy);
        }
        return;
    }
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (!is_temporary(entry->d_name, tag)) {
            continue;
        }
        int fd = openat(folder, entry->d_name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) {
            continue;
        }
        struct stat info;
        if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
            stands(folder, entry->d_name, fd)) {
            (void)unlinkat(folder, entry->d_name, 0);
        }
        close(fd);
    }
    closedir(directory);
}

// A new temporary that is locked and stands in the folder: another process may take one for left behind before it is locked.
static enum graft_status create(struct graft_output *o, const char *tag)
{
    uint64_t seed = graft_clock_ns() ^ (uint64_t)getpid() << 32 ^ (uint64_t)(uintptr_t)o;
    for (int i = 0; i < TRIES; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        snprintf(o->name, sizeof o->name, ".%.*s.%08x.%s", SHOWN_NAME, o->final_name, (unsigned)(seed >> 32), tag);
        o->fd = openat(o->folder_fd, o->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (o->fd < 0 && errno == EEXIST) {
            continue;
        }
        if (o->fd < 0) {
            return graft_fail(GRAFT_E_IO, "%s: a file cannot be made in its folder: %s", o->path, strerror(errno));
        }
        (void)flock(o->fd, LOCK_EX); // a file system without locks: nothing is removed there either
        if (stands(o->folder_fd, o->name, o->fd)) {
            return GRAFT_OK;
        }
        close(o->fd);
        o->fd = -1;
    }
    return graft_fail(GRAFT_E_IO, "%s: no name for a temporary file is free", o->path);
}

static void release(struct graft_output **output)
{
    struct graft_output *o = *output;
    struct graft_ctx *ctx = o->ctx;
    if (o->fd >= 0) {
        close(o->fd);
    }
    if (o->folder_fd >= 0) {
        close(o->folder_fd);
    }
    GRAFT_FREE(ctx, &o->path);
    GRAFT_FREE(ctx, output);
}

// The folder, and the name in it.
static enum graft_status open_folder(struct graft_output *o)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(o->path, '/');
    size_t length = slash ? (size_t)(slash - o->path) : 0;
    o->final_name = slash ? slash + 1 : o->path;
    int written = snprintf(folder, sizeof folder, "%.*s", slash && length ? (int)length : 1,
                           !slash   ? "."
                           : length ? o->path
                                    : "/");
    if (*o->final_name == '\0' || strlen(o->final_name) > NAME_MAX || written < 0 || (size_t)written >= sizeof folder) {
        return graft_fail(GRAFT_E_IO, "%s: is no name of a file", o->path);
    }
    o->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (o->folder_fd < 0) {
        return graft_fail(GRAFT_E_IO, "%s: its folder cannot be opened: %s", o->path, strerror(errno));
    }
    struct stat info;
    if (fstatat(o->folder_fd, o->final_name, &info, 0) == 0 && !S_ISREG(info.st_mode)) {
        return graft_fail(GRAFT_E_IO, "%s: is there and no regular file", o->path);
    }
    return GRAFT_OK;
}

enum graft_status graft_output_begin(struct graft_ctx *ctx, struct graft_output **out, const char *path, const char *tag)
{
    struct graft_output *o;
    *out = NULL;
    if (strlen(tag) > TAG_BYTES) {
        return graft_fail(GRAFT_E_ARGUMENT, "the tag %s is longer than %d bytes", tag, TAG_BYTES);
    }
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &o, 1, "an output file"));
    o->ctx = ctx;
    o->fd = o->folder_fd = -1;
    enum graft_status status = graft_strdup(ctx, &o->path, path, strlen(path));
    if (status == GRAFT_OK) {
        status = open_folder(o);
    }
    if (status == GRAFT_OK) {
        remove_left_behind(o->folder_fd, tag);
        status = create(o, tag);
    }
    if (status != GRAFT_OK) {
        release(&o);
        return status;
    }
    *out = o;
    return GRAFT_OK;
}

static enum graft_status cannot_write(const struct graft_output *o, int error)
{
    return graft_fail(GRAFT_E_IO, "%s: cannot be written: %s", o->path, strerror(error));
}

enum graft_status graft_output_reserve(struct graft_output *o, uint64_t bytes)
{
    int error = 0;
    if (bytes > INT64_MAX) {
        error = EFBIG;
    } else if (ftruncate(o->fd, (off_t)bytes) != 0) {
        error = errno;
    } else if (bytes > 0 && fallocate(o->fd, 0, 0, (off_t)bytes) != 0) {
        error = errno == ENOSPC || errno == EFBIG || errno == EDQUOT || errno == EIO ? errno : 0;
    }
    if (error) {
        return graft_fail(GRAFT_E_IO, "%s: cannot be written: its %" PRIu64 " bytes: %s", o->path, bytes, strerror(error));
    }
    return GRAFT_OK;
}

enum graft_status graft_output_write(struct graft_output *o, uint64_t offset, const void *data, uint64_t bytes)
{
    const uint8_t *p = data;
    for (uint64_t done = 0; done < bytes;) {
        ssize_t put = pwrite(o->fd, p + done, (size_t)(bytes - done), (off_t)(offset + done));
        if (put > 0) {
            done += (uint64_t)put;
        } else if (put < 0 && errno == EFAULT) { // only a mapped file can vanish
            return graft_fail(GRAFT_E_IO, "%s: cannot be written: the file that its bytes come from was cut short", o->path);
        } else if (put == 0 || errno != EINTR) {
            return cannot_write(o, put == 0 ? EIO : errno);
        }
    }
    return GRAFT_OK;
}

void graft_output_behind(struct graft_output *o, uint64_t offset)
{
    if (offset <= o->started) {
        return;
    }
#ifdef SYNC_FILE_RANGE_WRITE
    (void)sync_file_range(o->fd, (off_t)o->started, (off_t)(offset - o->started), SYNC_FILE_RANGE_WRITE);
    if (o->started > o->settled) {
        (void)sync_file_range(o->fd, (off_t)o->settled, (off_t)(o->started - o->settled),
                              SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
        (void)posix_fadvise(o->fd, (off_t)o->settled, (off_t)(o->started - o->settled), POSIX_FADV_DONTNEED);
    }
#endif
    o->settled = o->started;
    o->started = offset;
}

enum graft_status graft_output_commit(struct graft_output **output)
{
    struct graft_output *o = *output;
    if (fsync(o->fd) != 0 || renameat(o->folder_fd, o->name, o->folder_fd, o->final_name) != 0) {
        enum graft_status status = cannot_write(o, errno);
        graft_output_abandon(output);
        return status;
    }
    (void)fsync(o->folder_fd); // some file systems refuse it for folders; the file is in its place
    release(output);
    return GRAFT_OK;
}

void graft_output_abandon(struct graft_output **output)
{
    if (!output || !*output) {
        return;
    }
    (void)unlinkat((*output)->folder_fd, (*output)->name, 0);
    release(output);
}
