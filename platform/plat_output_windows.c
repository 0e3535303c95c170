// SPDX-License-Identifier: Apache-2.0
// Large files that replace others safely, on Windows (plat.h). A temporary is open without being shared for writing or removal
// as long as its process lives: whoever can open another one for removal knows that it was left behind.
#include <stdio.h>
#include <string.h>
#include <wchar.h>

#include "platform/bytes.h"
#include "platform/plat.h"
#include "platform/wide_windows.h"

enum { TAG_BYTES = 32, DIGITS = 8, SHOWN_NAME = 200, TRIES = 100 };

struct graft_output {
    struct graft_ctx *ctx;
    HANDLE file;
    char *path; // the final place, as given
};

static HANDLE open_for_names(const char *path)
{
    wchar_t wide[GRAFT_WIDE_PATH];
    if (graft_wide_path(path, wide) != GRAFT_OK) {
        return INVALID_HANDLE_VALUE;
    }
    return CreateFileW(wide, 0, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING,
                       FILE_FLAG_BACKUP_SEMANTICS, NULL);
}

bool graft_same_file(const char *a, const char *b)
{
    BY_HANDLE_FILE_INFORMATION one, two;
    HANDLE first = open_for_names(a), second = open_for_names(b);
    bool same = first != INVALID_HANDLE_VALUE && second != INVALID_HANDLE_VALUE && GetFileInformationByHandle(first, &one) &&
                GetFileInformationByHandle(second, &two) && one.dwVolumeSerialNumber == two.dwVolumeSerialNumber &&
                one.nFileIndexHigh == two.nFileIndexHigh && one.nFileIndexLow == two.nFileIndexLow;
    if (first != INVALID_HANDLE_VALUE) {
        CloseHandle(first);
    }
    if (second != INVALID_HANDLE_VALUE) {
        CloseHandle(second);
    }
    return same;
}

// .NAME.XXXXXXXX.TAG
static bool is_temporary(const wchar_t *name, const wchar_t *tag)
{
    size_t length = wcslen(name), tail = wcslen(tag);
    if (name[0] != L'.' || length < tail + DIGITS + 4 || wcscmp(name + length - tail, tag) != 0) {
        return false;
    }
    const wchar_t *digits = name + length - tail - 1 - DIGITS;
    return digits[-1] == L'.' && digits[DIGITS] == L'.' && wcsspn(digits, L"0123456789abcdef") == DIGITS;
}

// `folder` ends in a backslash, or is "".
static void remove_left_behind(const wchar_t *folder, const wchar_t *tag)
{
    wchar_t pattern[GRAFT_WIDE_PATH], path[GRAFT_WIDE_PATH];
    WIN32_FIND_DATAW found;
    if (swprintf(pattern, GRAFT_WIDE_PATH, L"%ls.*", folder) < 0) {
        return;
    }
    HANDLE search = FindFirstFileW(pattern, &found);
    for (bool more = search != INVALID_HANDLE_VALUE; more; more = FindNextFileW(search, &found)) {
        if (found.dwFileAttributes & (FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_REPARSE_POINT) ||
            !is_temporary(found.cFileName, tag) || swprintf(path, GRAFT_WIDE_PATH, L"%ls%ls", folder, found.cFileName) < 0) {
            continue;
        }
        HANDLE file = CreateFileW(path, DELETE, 0, NULL, OPEN_EXISTING,
                                  FILE_FLAG_DELETE_ON_CLOSE | FILE_FLAG_OPEN_REPARSE_POINT, NULL);
        if (file != INVALID_HANDLE_VALUE) {
            CloseHandle(file);
        }
    }
    if (search != INVALID_HANDLE_VALUE) {
        FindClose(search);
    }
}

static enum graft_status create(struct graft_output *o, const wchar_t *folder, const wchar_t *name, const wchar_t *tag)
{
    wchar_t temporary[GRAFT_WIDE_PATH];
    uint64_t seed = graft_clock_ns() ^ (uint64_t)GetCurrentProcessId() << 32 ^ (uint64_t)(uintptr_t)o;
    DWORD error = ERROR_FILE_EXISTS;
    for (int i = 0; i < TRIES && error == ERROR_FILE_EXISTS; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        if (swprintf(temporary, GRAFT_WIDE_PATH, L"%ls.%.*ls.%08x.%ls", folder, SHOWN_NAME, name, (unsigned)(seed >> 32), tag) <
            0) {
            return graft_fail(GRAFT_E_IO, "%s: the path is too long", o->path);
        }
        o->file =
            CreateFileW(temporary, GENERIC_WRITE | DELETE, FILE_SHARE_READ, NULL, CREATE_NEW, FILE_ATTRIBUTE_NORMAL, NULL);
        if (o->file != INVALID_HANDLE_VALUE) {
            return GRAFT_OK;
        }
        error = GetLastError();
    }
    return graft_fail(GRAFT_E_IO, "%s: a file cannot be made in its folder: %s", o->path, graft_why(error).text);
}

static void release(struct graft_output **output)
{
    struct graft_output *o = *output;
    struct graft_ctx *ctx = o->ctx;
    if (o->file != INVALID_HANDLE_VALUE) {
        CloseHandle(o->file);
    }
    GRAFT_FREE(ctx, &o->path);
    GRAFT_FREE(ctx, output);
}

static enum graft_status begin(struct graft_output *o, const char *tag)
{
    wchar_t folder[GRAFT_WIDE_PATH], name[GRAFT_WIDE_PATH], wide_tag[TAG_BYTES + 1];
    for (size_t i = 0; i <= strlen(tag); i++) {
        wide_tag[i] = (wchar_t)(unsigned char)tag[i];
    }
    GRAFT_TRY(graft_wide_path(o->path, folder));
    DWORD attributes = GetFileAttributesW(folder);
    if (attributes != INVALID_FILE_ATTRIBUTES && attributes & FILE_ATTRIBUTE_DIRECTORY) {
        return graft_fail(GRAFT_E_IO, "%s: is there and no regular file", o->path);
    }
    wchar_t *slash = wcsrchr(folder, L'\\'), *last = slash ? slash + 1 : folder;
    wcscpy(name, last);
    *last = 0;
    if (!*name) {
        return graft_fail(GRAFT_E_IO, "%s: is no name of a file", o->path);
    }
    attributes = GetFileAttributesW(*folder ? folder : L".");
    if (attributes == INVALID_FILE_ATTRIBUTES) {
        return graft_fail(GRAFT_E_IO, "%s: its folder cannot be opened: %s", o->path, graft_why(GetLastError()).text);
    }
    remove_left_behind(folder, wide_tag);
    return create(o, folder, name, wide_tag);
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
    o->file = INVALID_HANDLE_VALUE;
    enum graft_status status = graft_strdup(ctx, &o->path, path, strlen(path));
    if (status == GRAFT_OK) {
        status = begin(o, tag);
    }
    if (status != GRAFT_OK) {
        release(&o);
        return status;
    }
    *out = o;
    return GRAFT_OK;
}

static enum graft_status cannot_write(const struct graft_output *o, DWORD error)
{
    return graft_fail(GRAFT_E_IO, "%s: cannot be written: %s", o->path, graft_why(error).text);
}

enum graft_status graft_output_reserve(struct graft_output *o, uint64_t bytes)
{
    FILE_END_OF_FILE_INFO end = {.EndOfFile.QuadPart = (LONGLONG)bytes};
    DWORD error = bytes > INT64_MAX ? ERROR_DISK_FULL
                  : SetFileInformationByHandle(o->file, FileEndOfFileInfo, &end, sizeof end) ? ERROR_SUCCESS
                                                                                             : GetLastError();
    if (error != ERROR_SUCCESS) {
        return graft_fail(GRAFT_E_IO, "%s: cannot be written: its %" PRIu64 " bytes: %s", o->path, bytes,
                          graft_why(error).text);
    }
    return GRAFT_OK;
}

enum graft_status graft_output_write(struct graft_output *o, uint64_t offset, const void *data, uint64_t bytes)
{
    return graft_write_open(o->file, &offset, data, bytes) ? GRAFT_OK : cannot_write(o, GetLastError());
}

void graft_output_behind(struct graft_output *o, uint64_t offset)
{
    (void)o; // Windows writes back by itself
    (void)offset;
}

enum graft_status graft_output_commit(struct graft_output **output)
{
    struct graft_output *o = *output;
    if (!FlushFileBuffers(o->file) || !graft_rename_open(o->file, o->path)) {
        enum graft_status status = cannot_write(o, GetLastError());
        graft_output_abandon(output);
        return status;
    }
    release(output);
    return GRAFT_OK;
}

void graft_output_abandon(struct graft_output **output)
{
    if (!output || !*output) {
        return;
    }
    FILE_DISPOSITION_INFO gone = {.DeleteFile = TRUE};
    (void)SetFileInformationByHandle((*output)->file, FileDispositionInfo, &gone, sizeof gone);
    release(output);
}
