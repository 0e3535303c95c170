// SPDX-License-Identifier: Apache-2.0
// The operating-system interface of plat.h on Windows 10 and newer.
#include "platform/plat.h"

#include <stdio.h>
#include <string.h>

#include "platform/bytes.h"
#include "platform/wide_windows.h"

// Open a regular file for reading; `share`: what others may do with it meanwhile.
static enum graft_status open_regular(const char *path, DWORD share, HANDLE *file, uint64_t *size)
{
    wchar_t wide[GRAFT_WIDE_PATH];
    GRAFT_TRY(graft_wide_path(path, wide));
    DWORD attributes = GetFileAttributesW(wide);
    if (attributes == INVALID_FILE_ATTRIBUTES) {
        return graft_fail(GRAFT_E_IO, "%s: %s", path, graft_why(GetLastError()).text);
    }
    if (attributes & FILE_ATTRIBUTE_DIRECTORY) {
        return graft_fail(GRAFT_E_IO, "%s: is a directory, not a regular file", path);
    }
    *file = CreateFileW(wide, GENERIC_READ, share, NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    if (*file == INVALID_HANDLE_VALUE) {
        DWORD error = GetLastError();
        enum graft_status status = graft_fail(GRAFT_E_IO, "%s: %s", path, graft_why(error).text);
        SetLastError(error);
        return status;
    }
    LARGE_INTEGER bytes;
    if (GetFileType(*file) != FILE_TYPE_DISK || !GetFileSizeEx(*file, &bytes)) {
        CloseHandle(*file);
        return graft_fail(GRAFT_E_IO, "%s: is a device or socket, not a regular file", path);
    }
    *size = (uint64_t)bytes.QuadPart;
    return GRAFT_OK;
}

// Map an open file of `size` > 0 bytes, at `at` or (NULL) anywhere. NULL: GetLastError().
static void *map_view(HANDLE file, void *at)
{
    HANDLE section = CreateFileMappingW(file, NULL, PAGE_READONLY, 0, 0, NULL);
    if (!section) {
        return NULL;
    }
    void *view = MapViewOfFileEx(section, FILE_MAP_READ, 0, 0, 0, at);
    DWORD error = GetLastError();
    CloseHandle(section); // the view keeps it
    SetLastError(error);
    return view;
}

enum { SHARE_ALL = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE };

enum graft_status graft_map_open(struct graft_map *map, const char *path)
{
    memset(map, 0, sizeof *map);
    HANDLE file;
    uint64_t size;
    GRAFT_TRY(open_regular(path, SHARE_ALL, &file, &size));
    enum graft_status status = GRAFT_OK;
    if (size > 0) {
        map->data = map_view(file, NULL);
        map->size = map->data ? size : 0;
        status = map->data ? GRAFT_OK
                           : graft_fail(GRAFT_E_IO, "%s: cannot be mapped: %s", path, graft_why(GetLastError()).text);
    }
    CloseHandle(file);
    return status;
}

bool graft_map_damaged(const struct graft_map *map)
{
    (void)map;
    return false;
}

// All views at their places behind `base`, or none. *raced: another thread took a place.
static enum graft_status map_views(uint8_t *base, const char *const *paths, uint32_t n, const uint64_t *starts,
                                   const uint64_t *sizes, bool *raced)
{
    enum graft_status status = GRAFT_OK;
    uint32_t mapped = 0;
    *raced = false;
    for (; mapped < n && status == GRAFT_OK; mapped++) {
        HANDLE file;
        uint64_t size;
        status = open_regular(paths[mapped], SHARE_ALL, &file, &size);
        if (status != GRAFT_OK) {
            break;
        }
        if (size != sizes[mapped]) {
            status = graft_fail(GRAFT_E_IO, "%s: changed its size while it was mapped", paths[mapped]);
        } else if (size > 0 && !map_view(file, base + starts[mapped])) {
            DWORD error = GetLastError();
            *raced = error == ERROR_INVALID_ADDRESS;
            status = graft_fail(GRAFT_E_IO, "%s: cannot be mapped: %s", paths[mapped], graft_why(error).text);
        }
        CloseHandle(file);
        if (status != GRAFT_OK) {
            break;
        }
    }
    while (status != GRAFT_OK && mapped-- > 0) {
        if (sizes[mapped] > 0) {
            UnmapViewOfFile(base + starts[mapped]);
        }
    }
    return status;
}

enum graft_status graft_map_open_all(struct graft_map *map, const char *const *paths, uint32_t n, uint64_t *starts,
                                     uint64_t *sizes)
{
    enum { TRIES = 8 };
    memset(map, 0, sizeof *map);
    SYSTEM_INFO system;
    GetSystemInfo(&system); // views begin at multiples of its granularity, 64 KiB
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++) {
        HANDLE file;
        GRAFT_TRY(open_regular(paths[i], SHARE_ALL, &file, &sizes[i]));
        CloseHandle(file);
        starts[i] = total;
        if (!graft_add_u64(total, sizes[i], &total) || !graft_align_u64(total, system.dwAllocationGranularity, &total)) {
            return graft_fail(GRAFT_E_IO,
                              "%s: its %" PRIu64 " bytes and those in front of it are more than this system can map", paths[i],
                              sizes[i]);
        }
    }
    if (total == 0) {
        return GRAFT_OK;
    }
    enum graft_status status = GRAFT_OK;
    bool raced = true;
    for (int i = 0; i < TRIES && raced; i++) {
        uint8_t *range = VirtualAlloc(NULL, (size_t)total, MEM_RESERVE, PAGE_NOACCESS); // is there such a range?
        if (!range) {
            status = graft_fail(GRAFT_E_IO, "%s: cannot be mapped: %s", paths[0], graft_why(GetLastError()).text);
            break;
        }
        VirtualFree(range, 0, MEM_RELEASE);
        status = map_views(range, paths, n, starts, sizes, &raced);
        map->data = range;
    }
    map->data = status == GRAFT_OK ? map->data : NULL;
    map->size = status == GRAFT_OK ? total : 0;
    return status;
}

// One view, or several with less than a granule between them, where nobody else can have memory.
void graft_map_close(struct graft_map *map)
{
    MEMORY_BASIC_INFORMATION region;
    for (uint64_t at = 0; at < map->size && VirtualQuery(map->data + at, &region, sizeof region); at += region.RegionSize) {
        if (region.Type == MEM_MAPPED) {
            UnmapViewOfFile(map->data + at);
        }
    }
    memset(map, 0, sizeof *map);
}

void graft_map_advise(const struct graft_map *map, uint64_t offset, uint64_t bytes, enum graft_advice advice)
{
    if (!map->data || offset >= map->size) {
        return;
    }
    bytes = bytes > map->size - offset ? map->size - offset : bytes;
    void *begin = (void *)(uintptr_t)(map->data + offset);
    if (advice == GRAFT_ADVICE_WILL_NEED) {
        WIN32_MEMORY_RANGE_ENTRY range = {begin, (SIZE_T)bytes};
        (void)PrefetchVirtualMemory(GetCurrentProcess(), 1, &range, 0);
    } else if (advice == GRAFT_ADVICE_DONT_NEED) {
        (void)VirtualUnlock(begin, (SIZE_T)bytes); // of memory that is not locked: its pages leave the working set
    }
}

enum graft_status graft_file_read(struct graft_ctx *ctx, const char *path, uint64_t max_bytes, char **out, uint64_t *size)
{
    enum { TRIES = 5, WAIT_MS = 20, PIECE = 1 << 30 };
    HANDLE file;
    uint64_t bytes;
    enum graft_status status = GRAFT_E_IO;
    for (int i = 0; i < TRIES; i++) { // nobody may write to it meanwhile; who does so now may be ready in a moment
        status = open_regular(path, FILE_SHARE_READ | FILE_SHARE_DELETE, &file, &bytes);
        if (status == GRAFT_OK || GetLastError() != ERROR_SHARING_VIOLATION) {
            break;
        }
        Sleep(WAIT_MS);
    }
    GRAFT_TRY(status);
    char *text = NULL;
    if (bytes > max_bytes) {
        status = graft_fail(GRAFT_E_LIMIT, "%s: has %" PRIu64 " bytes, at most %" PRIu64 " are read", path, bytes, max_bytes);
        goto out;
    }
    GRAFT_TRY_OUT(graft_alloc_unset(ctx, GRAFT_MEM_HOST, (void **)&text, bytes + 1, 1, "a file's content"), status, out);
    for (uint64_t done = 0; done < bytes;) {
        DWORD got = 0, want = bytes - done < PIECE ? (DWORD)(bytes - done) : PIECE;
        if (!ReadFile(file, text + done, want, &got, NULL)) {
            status = graft_fail(GRAFT_E_IO, "%s: %s", path, graft_why(GetLastError()).text);
            goto out;
        }
        if (got == 0) {
            status = graft_fail(GRAFT_E_IO, "%s: shrank while it was read", path);
            goto out;
        }
        done += got;
    }
    text[bytes] = 0;
    *out = text;
    *size = bytes;
    text = NULL;
out:
    graft_free(ctx, (void **)&text);
    CloseHandle(file);
    return status;
}

static enum graft_status make_parents(const char *path)
{
    wchar_t wide[GRAFT_WIDE_PATH];
    GRAFT_TRY(graft_wide_path(path, wide));
    for (wchar_t *p = wide; *p; p++) {
        if (*p != L'\\' || p == wide || p[-1] == L'\\' || p[-1] == L':' || p[-1] == L'?') {
            continue; // also in front of what is no folder: C:, \\server, \\?
        }
        *p = 0;
        bool failed = !CreateDirectoryW(wide, NULL) && GetLastError() != ERROR_ALREADY_EXISTS;
        DWORD error = GetLastError();
        bool folder = GetFileAttributesW(wide) != INVALID_FILE_ATTRIBUTES;
        *p = L'\\';
        if (failed && !folder) {
            return graft_fail(GRAFT_E_IO, "%s: its folder cannot be made: %s", path, graft_why(error).text);
        }
    }
    return GRAFT_OK;
}

enum graft_status graft_file_replace(const char *path, const void *data, uint64_t size)
{
    char temporary[GRAFT_WIDE_PATH];
    wchar_t wide[GRAFT_WIDE_PATH];
    int length = snprintf(temporary, sizeof temporary, "%s.%lu.tmp", path, (unsigned long)GetCurrentProcessId());
    if (length < 0 || (size_t)length >= sizeof temporary) {
        return graft_fail(GRAFT_E_IO, "%s: the path is too long", path);
    }
    GRAFT_TRY(make_parents(path));
    GRAFT_TRY(graft_wide_path(temporary, wide));
    HANDLE file = CreateFileW(wide, GENERIC_WRITE | DELETE, FILE_SHARE_READ, NULL, CREATE_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE) {
        return graft_fail(GRAFT_E_IO, "%s: %s", temporary, graft_why(GetLastError()).text);
    }
    bool good = graft_write_open(file, NULL, data, size) && FlushFileBuffers(file) && graft_rename_open(file, path);
    DWORD error = GetLastError();
    CloseHandle(file);
    if (!good) {
        DeleteFileW(wide);
        return graft_fail(GRAFT_E_IO, "%s: cannot be written: %s", path, graft_why(error).text);
    }
    return GRAFT_OK;
}

uint64_t graft_clock_ns(void)
{
    LARGE_INTEGER rate, now;
    QueryPerformanceFrequency(&rate);
    QueryPerformanceCounter(&now);
    uint64_t per_second = (uint64_t)rate.QuadPart, ticks = (uint64_t)now.QuadPart;
    return ticks / per_second * 1000000000u + ticks % per_second * 1000000000u / per_second;
}

uint32_t graft_cpu_count(void)
{
    DWORD_PTR own, all;
    uint32_t n = 0;
    if (GetProcessAffinityMask(GetCurrentProcess(), &own, &all)) {
        for (; own; own &= own - 1) {
            n++;
        }
    }
    return n ? n : 1;
}

uint64_t graft_page_bytes(void)
{
    SYSTEM_INFO system;
    GetSystemInfo(&system);
    return system.dwPageSize;
}

void graft_pages_hint(void *memory, uint64_t bytes)
{
    (void)memory; // large pages need a right of their own on Windows
    (void)bytes;
}

void graft_thread_give_way(void)
{
    (void)SetThreadPriority(GetCurrentThread(), THREAD_PRIORITY_LOWEST);
}

bool graft_path_separator(char c)
{
    return c == '/' || c == '\\';
}

const char *graft_path_name(const char *path)
{
    const char *name = path;
    for (const char *p = path; *p; p++) {
        if (graft_path_separator(*p) || (*p == ':' && p == path + 1)) {
            name = p + 1;
        }
    }
    return name;
}

bool graft_path_absolute(const char *path)
{
    return graft_path_separator(path[0]) || (path[0] && path[1] == ':' && graft_path_separator(path[2]));
}

#define ADVICE "the driver of the GPU's maker brings it and the loader, vulkan-1.dll"
const char graft_driver_advice[] = ADVICE, graft_no_vulkan_device[] = "no Vulkan device was found; " ADVICE;
