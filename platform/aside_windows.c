// SPDX-License-Identifier: Apache-2.0
// The steps of outputs written aside on Windows. A temporary is locked by being open without being shared for writing (a file)
// or removal (a folder). Folders cannot be exchanged in one step here: an old one is renamed away and back if that fails, so
// that for a moment there is none at `path`.
#include <stdio.h>
#include <string.h>

#include "platform/aside_private.h"
#include "platform/wide_windows.h"

static enum graft_status cannot_write(const char *path, DWORD error)
{
    return error == ERROR_SHARING_VIOLATION
               ? graft_aside_fail_taken(path)
               : graft_fail(GRAFT_E_IO, "%s: cannot be written: %s", path, graft_why(error).text);
}

static void remove_open(HANDLE file)
{
    FILE_DISPOSITION_INFO gone = {.DeleteFile = TRUE};
    (void)SetFileInformationByHandle(file, FileDispositionInfo, &gone, sizeof gone); // when it is closed
}

enum graft_status graft_aside_take(struct graft_aside *out)
{
    wchar_t wide[GRAFT_WIDE_PATH];
    GRAFT_TRY(graft_wide_path(out->path, wide));
    DWORD attributes = GetFileAttributesW(wide);
    if (attributes != INVALID_FILE_ATTRIBUTES && attributes & FILE_ATTRIBUTE_DIRECTORY) {
        return graft_fail(GRAFT_E_IO, "%s: is a directory, not a regular file", out->path);
    }
    GRAFT_TRY(graft_wide_path(out->temporary, wide));
    HANDLE file = CreateFileW(wide, GENERIC_WRITE | DELETE, FILE_SHARE_READ, NULL, OPEN_ALWAYS,
                              FILE_ATTRIBUTE_NORMAL | FILE_FLAG_OPEN_REPARSE_POINT, NULL);
    if (file == INVALID_HANDLE_VALUE) {
        return cannot_write(out->path, GetLastError());
    }
    if (GetFileType(file) != FILE_TYPE_DISK || !SetEndOfFile(file)) { // at its beginning
        DWORD error = GetLastError();
        CloseHandle(file);
        return cannot_write(out->path, error);
    }
    out->file = (intptr_t)file;
    return GRAFT_OK;
}

enum graft_status graft_aside_put(struct graft_aside *out, const uint8_t *data, uint64_t bytes)
{
    return graft_write_open((HANDLE)out->file, NULL, data, bytes)
               ? GRAFT_OK
               : graft_fail(GRAFT_E_IO, "%s: cannot be written: %s", out->path, graft_why(GetLastError()).text);
}

enum graft_status graft_aside_place(struct graft_aside *out)
{
    if (!FlushFileBuffers((HANDLE)out->file) || !graft_rename_open((HANDLE)out->file, out->path)) {
        return graft_fail(GRAFT_E_IO, "%s: cannot be written: %s", out->path, graft_why(GetLastError()).text);
    }
    return GRAFT_OK;
}

void graft_aside_let_go(struct graft_aside *out, bool remove)
{
    if (out->file == GRAFT_ASIDE_NONE) {
        return;
    }
    if (remove) {
        remove_open((HANDLE)out->file);
    }
    CloseHandle((HANDLE)out->file);
}

static void remove_one(const char *folder, const char *name, const char *ending)
{
    char path[GRAFT_WIDE_PATH];
    wchar_t wide[GRAFT_WIDE_PATH];
    int length = snprintf(path, sizeof path, "%s/%s%s", folder, name, ending);
    if (length > 0 && (size_t)length < sizeof path && graft_wide_path(path, wide) == GRAFT_OK) {
        DeleteFileW(wide);
    }
}

// The files that the folder at `path` may hold, and what their own writing leaves behind.
static void empty(const struct graft_aside_folder *folder, const char *path)
{
    for (const char *const *name = folder->names; *name; name++) {
        remove_one(path, *name, "");
        remove_one(path, *name, ".tmp");
    }
}

enum graft_status graft_aside_folder_check(const struct graft_aside_folder *folder, bool *there)
{
    wchar_t wide[GRAFT_WIDE_PATH];
    WIN32_FIND_DATAW found;
    *there = false;
    GRAFT_TRY(graft_wide_path(folder->path, wide));
    DWORD attributes = GetFileAttributesW(wide);
    if (attributes == INVALID_FILE_ATTRIBUTES) {
        return GRAFT_OK;
    }
    *there = true;
    if (!(attributes & FILE_ATTRIBUTE_DIRECTORY) || attributes & FILE_ATTRIBUTE_REPARSE_POINT) {
        return graft_fail(GRAFT_E_IO, "%s: is not a folder, where a folder is to be written", folder->path);
    }
    char pattern[GRAFT_WIDE_PATH], name[MAX_PATH * 4];
    snprintf(pattern, sizeof pattern, "%s/*", folder->path);
    GRAFT_TRY(graft_wide_path(pattern, wide));
    HANDLE search = FindFirstFileW(wide, &found);
    if (search == INVALID_HANDLE_VALUE) {
        return graft_fail(GRAFT_E_IO, "%s: %s", folder->path, graft_why(GetLastError()).text);
    }
    enum graft_status status = GRAFT_OK;
    do {
        if (WideCharToMultiByte(CP_UTF8, 0, found.cFileName, -1, name, sizeof name, NULL, NULL) <= 0) {
            snprintf(name, sizeof name, "a file with a long name");
        }
        status = graft_aside_check_name(folder, name);
    } while (status == GRAFT_OK && FindNextFileW(search, &found));
    FindClose(search);
    return status;
}

// Open a folder so that nobody else can, for removal or another name.
static HANDLE hold(const wchar_t *path)
{
    return CreateFileW(path, DELETE | FILE_READ_ATTRIBUTES, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_EXISTING,
                       FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT, NULL);
}

enum graft_status graft_aside_folder_take(struct graft_aside_folder *folder)
{
    wchar_t wide[GRAFT_WIDE_PATH];
    BY_HANDLE_FILE_INFORMATION info;
    GRAFT_TRY(graft_wide_path(folder->temporary, wide));
    if (!CreateDirectoryW(wide, NULL) && GetLastError() != ERROR_ALREADY_EXISTS) {
        return cannot_write(folder->path, GetLastError());
    }
    HANDLE file = hold(wide);
    if (file == INVALID_HANDLE_VALUE) {
        return cannot_write(folder->path, GetLastError());
    }
    if (!GetFileInformationByHandle(file, &info) || !(info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) ||
        info.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) {
        CloseHandle(file);
        return cannot_write(folder->path, ERROR_DIRECTORY);
    }
    folder->file = (intptr_t)file;
    empty(folder, folder->temporary);
    return GRAFT_OK;
}

enum graft_status graft_aside_folder_place(struct graft_aside_folder *folder, bool there)
{
    char away[GRAFT_WIDE_PATH];
    wchar_t wide[GRAFT_WIDE_PATH];
    HANDLE old = INVALID_HANDLE_VALUE;
    DWORD error = ERROR_SUCCESS;
    int length = snprintf(away, sizeof away, "%s.old.tmp", folder->path);
    if (length < 0 || (size_t)length >= sizeof away) {
        return graft_fail(GRAFT_E_IO, "%s: the path is too long", folder->path);
    }
    GRAFT_TRY(graft_wide_path(folder->path, wide));
    if (there) {
        old = hold(wide);
        if (old == INVALID_HANDLE_VALUE || !graft_rename_open(old, away)) {
            error = GetLastError();
        }
    }
    if (error == ERROR_SUCCESS && !graft_rename_open((HANDLE)folder->file, folder->path)) {
        error = GetLastError();
        if (there && !graft_rename_open(old, folder->path)) {
            CloseHandle(old);
            return graft_fail(GRAFT_E_IO, "%s: cannot be put in its place: %s; the old folder is now %s", folder->path,
                              graft_why(error).text, away);
        }
    } else if (error == ERROR_SUCCESS && there) {
        empty(folder, away);
        remove_open(old);
    }
    if (old != INVALID_HANDLE_VALUE) {
        CloseHandle(old);
    }
    return error == ERROR_SUCCESS ? GRAFT_OK
                                  : graft_fail(GRAFT_E_IO, "%s: cannot be put in its place: %s", folder->path,
                                               graft_why(error).text);
}

void graft_aside_folder_let_go(struct graft_aside_folder *folder, bool remove)
{
    if (folder->file == GRAFT_ASIDE_NONE) {
        return;
    }
    if (remove) {
        empty(folder, folder->temporary);
        remove_open((HANDLE)folder->file);
    }
    CloseHandle((HANDLE)folder->file);
}
