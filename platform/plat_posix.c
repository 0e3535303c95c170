// SPDX-License-Identifier: Apache-2.0
// The operating-system interface of plat.h on POSIX systems.
#define _GNU_SOURCE
#include "platform/plat.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "platform/bytes.h"
#include "platform/guard.h"

// Open a regular file for reading; anything else is refused without blocking.
static enum graft_status open_regular(const char *path, int *fd, uint64_t *size)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) {
        return graft_fail(GRAFT_E_IO, "%s: %s", path, strerror(errno));
    }
    struct stat st;
    if (fstat(*fd, &st) != 0) {
        int error = errno;
        close(*fd);
        return graft_fail(GRAFT_E_IO, "%s: %s", path, strerror(error));
    }
    if (!S_ISREG(st.st_mode)) {
        close(*fd);
        return graft_fail(GRAFT_E_IO, "%s: is %s, not a regular file", path,
                          S_ISDIR(st.st_mode)    ? "a directory"
                          : S_ISFIFO(st.st_mode) ? "a FIFO"
                                                 : "a device or socket");
    }
    *size = (uint64_t)st.st_size;
    return GRAFT_OK;
}

enum graft_status graft_map_open(struct graft_map *map, const char *path)
{
    memset(map, 0, sizeof *map);
    int fd;
    uint64_t size;
    GRAFT_TRY(open_regular(path, &fd, &size));
    if (size > SIZE_MAX) {
        close(fd);
        return graft_fail(GRAFT_E_IO, "%s: %" PRIu64 " bytes are more than this system can map", path, size);
    }
    if (size > 0) {
        void *data = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            int error = errno;
            close(fd);
            return graft_fail(GRAFT_E_IO, "%s: cannot be mapped: %s", path, strerror(error));
        }
        map->data = data;
        map->size = size;
        map->handle = graft_guard_add(data, size);
    }
    close(fd);
    return GRAFT_OK;
}

bool graft_map_damaged(const struct graft_map *map)
{
    return graft_guard_struck(map->handle);
}

enum graft_status graft_map_open_all(struct graft_map *map, const char *const *paths, uint32_t n, uint64_t *starts,
                                     uint64_t *sizes)
{
    memset(map, 0, sizeof *map);
    uint64_t total = 0, page = graft_page_bytes();
    for (uint32_t i = 0; i < n; i++) {
        int fd;
        GRAFT_TRY(open_regular(paths[i], &fd, &sizes[i]));
        close(fd);
        starts[i] = total;
        if (!graft_add_u64(total, sizes[i], &total) || !graft_align_u64(total, page, &total) || total > SIZE_MAX) {
            return graft_fail(GRAFT_E_IO,
                              "%s: its %" PRIu64 " bytes and those in front of it are more than this system can map", paths[i],
                              sizes[i]);
        }
    }
    if (total == 0) {
        return GRAFT_OK;
    }
    uint8_t *range = mmap(NULL, (size_t)total, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) {
        return graft_fail(GRAFT_E_IO, "%s: cannot be mapped: %s", paths[0], strerror(errno));
    }
    map->data = range;
    map->size = total;
    for (uint32_t i = 0; i < n; i++) {
        int fd;
        uint64_t size = 0;
        enum graft_status status = open_regular(paths[i], &fd, &size);
        if (status == GRAFT_OK && size != sizes[i]) {
            close(fd);
            status = graft_fail(GRAFT_E_IO, "%s: changed its size while it was mapped", paths[i]);
        } else if (status == GRAFT_OK) {
            if (size && mmap(range + starts[i], (size_t)size, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED) {
                status = graft_fail(GRAFT_E_IO, "%s: cannot be mapped: %s", paths[i], strerror(errno));
            }
            close(fd);
        }
        if (status != GRAFT_OK) {
            graft_map_close(map);
            return status;
        }
    }
    map->handle = graft_guard_add(range, total);
    return GRAFT_OK;
}

void graft_map_close(struct graft_map *map)
{
    if (map->data) {
        graft_guard_remove(map->handle);
        munmap((void *)(uintptr_t)map->data, (size_t)map->size);
    }
    memset(map, 0, sizeof *map);
}

void graft_map_advise(const struct graft_map *map, uint64_t offset, uint64_t bytes, enum graft_advice advice)
{
    if (!map->data || offset >= map->size) {
        return;
    }
    if (bytes > map->size - offset) {
        bytes = map->size - offset;
    }
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t begin = offset & ~(page - 1), end = offset + bytes;
    if (advice == GRAFT_ADVICE_DONT_NEED) { // whole pages inside the range only
        begin = (offset + page - 1) & ~(page - 1);
        end &= ~(page - 1);
        if (end <= begin) {
            return;
        }
    }
    int flag = advice == GRAFT_ADVICE_SEQUENTIAL  ? MADV_SEQUENTIAL
               : advice == GRAFT_ADVICE_WILL_NEED ? MADV_WILLNEED
                                                  : MADV_DONTNEED;
    (void)madvise((void *)(uintptr_t)(map->data + begin), (size_t)(end - begin), flag);
}

// Times of files have the grain of the system's tick (at most 10 ms): a file written to a moment ago may be written to again
// without a sign. Wait until another write would be seen, if the file is left alone that long. *now describes it.
static void wait_until_settled(int fd, struct stat *now)
{
    enum { GRAIN_NS = 20000000, TRIES = 5 };
    for (int i = 0; i < TRIES; i++) {
        struct timespec clock;
        (void)fstat(fd, now); // succeeded a moment ago
        clock_gettime(CLOCK_REALTIME, &clock);
        int64_t age = ((int64_t)clock.tv_sec - now->st_mtim.tv_sec) * 1000000000 + clock.tv_nsec - now->st_mtim.tv_nsec;
        if (age < 0 || age >= GRAIN_NS) {
            return;
        }
        nanosleep(&(struct timespec){.tv_nsec = (long)(GRAIN_NS - age)}, NULL);
    }
}

enum graft_status graft_file_read(struct graft_ctx *ctx, const char *path, uint64_t max_bytes, char **out, uint64_t *size)
{
    int fd;
    uint64_t bytes;
    GRAFT_TRY(open_regular(path, &fd, &bytes));
    enum graft_status status = GRAFT_OK;
    char *text = NULL;
    struct stat before;
    wait_until_settled(fd, &before);
    bytes = (uint64_t)before.st_size;
    if (bytes > max_bytes) {
        status = graft_fail(GRAFT_E_LIMIT, "%s: has %" PRIu64 " bytes, at most %" PRIu64 " are read", path, bytes, max_bytes);
        goto out;
    }
    GRAFT_TRY_OUT(graft_alloc_unset(ctx, GRAFT_MEM_HOST, (void **)&text, bytes + 1, 1, "a file's content"), status, out);
    for (uint64_t done = 0; done < bytes;) {
        ssize_t got = read(fd, text + done, (size_t)(bytes - done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            status = graft_fail(GRAFT_E_IO, "%s: %s", path, got < 0 ? strerror(errno) : "shrank while it was read");
            goto out;
        }
        done += (uint64_t)got;
    }
    struct stat after; // what was written over while it was read is half of each
    if (fstat(fd, &after) != 0 || after.st_size != before.st_size || after.st_mtim.tv_sec != before.st_mtim.tv_sec ||
        after.st_mtim.tv_nsec != before.st_mtim.tv_nsec) {
        status = graft_fail(GRAFT_E_IO, "%s: changed while it was read", path);
        goto out;
    }
    text[bytes] = 0;
    *out = text;
    *size = bytes;
    text = NULL;
out:
    graft_free(ctx, (void **)&text);
    close(fd);
    return status;
}

static enum graft_status make_parents(char *path)
{
    for (char *p = path + 1; *p; p++) {
        if (*p != '/') {
            continue;
        }
        *p = 0;
        int failed = mkdir(path, 0700) != 0 && errno != EEXIST;
        int error = errno;
        if (failed) {
            enum graft_status status = graft_fail(GRAFT_E_IO, "%s: %s", path, strerror(error));
            *p = '/';
            return status;
        }
        *p = '/';
    }
    return GRAFT_OK;
}

enum graft_status graft_file_replace(const char *path, const void *data, uint64_t size)
{
    char temporary[PATH_MAX], directory[PATH_MAX];
    int length = snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)getpid());
    if (length < 0 || (size_t)length >= sizeof temporary) {
        return graft_fail(GRAFT_E_IO, "%s: the path is too long", path);
    }
    GRAFT_TRY(make_parents(temporary));
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return graft_fail(GRAFT_E_IO, "%s: %s", temporary, strerror(errno));
    }
    const char *p = data;
    bool good = true;
    int error = 0;
    for (uint64_t done = 0; good && done < size;) {
        ssize_t put = write(fd, p + done, (size_t)(size - done));
        if (put > 0) {
            done += (uint64_t)put;
        } else if (put == 0 || errno != EINTR) {
            good = false;
            error = put == 0 ? EIO : errno;
        }
    }
    if (good && fsync(fd) != 0) {
        good = false;
        error = errno;
    }
    if (close(fd) != 0 && good) {
        good = false;
        error = errno;
    }
    if (good && rename(temporary, path) != 0) {
        good = false;
        error = errno;
    }
    if (!good) {
        unlink(temporary);
        return graft_fail(GRAFT_E_IO, "%s: cannot be written: %s", path, strerror(error));
    }
    const char *slash = strrchr(path, '/');
    size_t dir_length = slash ? (size_t)(slash - path) : 0;
    snprintf(directory, sizeof directory, "%.*s", dir_length ? (int)dir_length : 1, dir_length ? path : slash ? "/" : ".");
    int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0) {
        (void)fsync(dir);
        close(dir);
    }
    return GRAFT_OK;
}

uint64_t graft_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint32_t graft_cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) {
        return (uint32_t)CPU_COUNT(&set);
    }
    return 1;
}

uint64_t graft_page_bytes(void)
{
    long bytes = sysconf(_SC_PAGESIZE);
    return bytes > 0 ? (uint64_t)bytes : 4096;
}

void graft_pages_hint(void *memory, uint64_t bytes)
{
#ifdef MADV_HUGEPAGE
    uintptr_t page = graft_page_bytes(), begin = ((uintptr_t)memory + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)memory + bytes) / page * page;
    if (end > begin) {
        (void)madvise((void *)begin, end - begin, MADV_HUGEPAGE);
    }
#else
    (void)memory;
    (void)bytes;
#endif
}

void graft_thread_give_way(void)
{
#ifdef __linux__ // where a nice value belongs to the thread
    enum { NICE = 10 };
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
#endif
}

bool graft_path_separator(char c)
{
    return c == '/';
}

const char *graft_path_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool graft_path_absolute(const char *path)
{
    return path[0] == '/';
}

#define ADVICE "Debian and Ubuntu: apt install libvulkan1 mesa-vulkan-drivers (AMD, Intel, software), or the vendor's driver"
const char graft_driver_advice[] = ADVICE, graft_no_vulkan_device[] = "no Vulkan device was found; " ADVICE;
