// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/server_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/plat.h"

const char others_write_advice[] = "chmod go-w", others_read_advice[] = "chmod go-w,o-r";

bool real_path(const char *path, char out[PATH_BYTES], const char **why)
{
    bool good = realpath(path, out) != NULL;
    *why = good ? NULL : strerror(errno);
    return good;
}

bool path_is_link(const char *path)
{
    struct stat found;
    return lstat(path, &found) == 0 && S_ISLNK(found.st_mode);
}

bool others_may_write(const char *path)
{
    struct stat found;
    return stat(path, &found) == 0 && (found.st_mode & (S_IWGRP | S_IWOTH));
}

bool others_may_read(const char *path)
{
    struct stat found;
    return stat(path, &found) == 0 && (found.st_mode & S_IROTH);
}

enum graft_status replace_private_file(const char *path, const void *data, uint64_t size, bool *kept)
{
    struct stat before;
    bool there = stat(path, &before) == 0;
    mode_t mask = umask(0177);
    enum graft_status status = graft_file_replace(path, data, size);
    umask(mask);
    *kept = !there || status != GRAFT_OK ||
            (chown(path, before.st_uid, before.st_gid) == 0 && chmod(path, before.st_mode & 0777) == 0);
    return status;
}

int log_file_open(const char *path, uint64_t *bytes, const char **why)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    struct stat found;
    *bytes = fd >= 0 && fstat(fd, &found) == 0 ? (uint64_t)found.st_size : 0;
    *why = fd >= 0 ? NULL : strerror(errno);
    return fd;
}

void file_rename(const char *from, const char *to)
{
    rename(from, to);
}

void file_remove(const char *path)
{
    unlink(path);
}
