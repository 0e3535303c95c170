// SPDX-License-Identifier: Apache-2.0
#include "platform/wide_windows.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

enum { LONG_FROM = 248 };

enum graft_status graft_wide_path(const char *path, wchar_t out[GRAFT_WIDE_PATH])
{
    static const wchar_t verbatim[] = L"\\\\?\\";
    enum { SKIP = 4 };
    wchar_t given[GRAFT_WIDE_PATH];
    int length = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, given, GRAFT_WIDE_PATH); // with the NUL
    if (length <= 0) {
        return graft_fail(GRAFT_E_IO, "%.500s: %s", path,
                          GetLastError() == ERROR_NO_UNICODE_TRANSLATION ? "the path is not UTF-8" : "the path is too long");
    }
    for (wchar_t *p = given; *p; p++) {
        *p = *p == L'/' ? L'\\' : *p;
    }
    if (length < LONG_FROM || wcsncmp(given, L"\\\\", 2) == 0) { // names of servers and devices stay as they are
        memcpy(out, given, (size_t)length * sizeof *out);
        return GRAFT_OK;
    }
    memcpy(out, verbatim, sizeof verbatim);
    DWORD whole = GetFullPathNameW(given, GRAFT_WIDE_PATH - SKIP, out + SKIP, NULL);
    if (whole == 0 || whole >= GRAFT_WIDE_PATH - SKIP) {
        return graft_fail(GRAFT_E_IO, "%.500s: the path is too long", path);
    }
    return GRAFT_OK;
}

struct graft_why graft_why(DWORD error)
{
    static const struct {
        DWORD error;
        const char *text;
    } common[] = {
        {ERROR_FILE_NOT_FOUND, "No such file or directory"},
        {ERROR_PATH_NOT_FOUND, "No such file or directory"},
        {ERROR_INVALID_NAME, "No such file or directory"},
        {ERROR_BAD_PATHNAME, "No such file or directory"},
        {ERROR_ACCESS_DENIED, "Permission denied"},
        {ERROR_WRITE_PROTECT, "Read-only file system"},
        {ERROR_DISK_FULL, "No space left on device"},
        {ERROR_HANDLE_DISK_FULL, "No space left on device"},
        {ERROR_FILE_EXISTS, "File exists"},
        {ERROR_ALREADY_EXISTS, "File exists"},
        {ERROR_DIRECTORY, "Not a directory"},
        {ERROR_DIR_NOT_EMPTY, "Directory not empty"},
        {ERROR_TOO_MANY_OPEN_FILES, "Too many open files"},
        {ERROR_NOT_ENOUGH_MEMORY, "Cannot allocate memory"},
        {ERROR_OUTOFMEMORY, "Cannot allocate memory"},
        {ERROR_SHARING_VIOLATION, "another process has it open"},
        {ERROR_LOCK_VIOLATION, "another process has it locked"},
        {ERROR_USER_MAPPED_FILE, "another process has it mapped"},
    };
    struct graft_why out = {""};
    for (size_t i = 0; i < sizeof common / sizeof *common; i++) {
        if (common[i].error == error) {
            snprintf(out.text, sizeof out.text, "%s", common[i].text);
            return out;
        }
    }
    wchar_t wide[GRAFT_WHY_BYTES / 4];
    DWORD n = FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL, error, 0, wide,
                             sizeof wide / sizeof *wide, NULL);
    while (n > 0 && (wide[n - 1] <= L' ' || wide[n - 1] == L'.')) {
        n--;
    }
    int bytes = WideCharToMultiByte(CP_UTF8, 0, wide, (int)n, out.text, (int)sizeof out.text - 1, NULL, NULL);
    if (bytes <= 0) {
        snprintf(out.text, sizeof out.text, "error %lu of Windows", (unsigned long)error);
    }
    return out;
}

bool graft_write_open(HANDLE file, const uint64_t *offset, const void *data, uint64_t bytes)
{
    enum { PIECE = 1 << 30 };
    for (uint64_t done = 0; done < bytes;) {
        uint64_t place = (offset ? *offset : 0) + done;
        OVERLAPPED at = {.Offset = (DWORD)place, .OffsetHigh = (DWORD)(place >> 32)};
        DWORD put = 0, want = bytes - done < PIECE ? (DWORD)(bytes - done) : PIECE;
        if (!WriteFile(file, (const uint8_t *)data + done, want, &put, offset ? &at : NULL) || put == 0) {
            return false;
        }
        done += put;
    }
    return true;
}

bool graft_rename_open(HANDLE file, const char *to)
{
    union {
        FILE_RENAME_INFO info;
        uint8_t bytes[sizeof(FILE_RENAME_INFO) + GRAFT_WIDE_PATH * sizeof(wchar_t)];
    } request;
    wchar_t wide[GRAFT_WIDE_PATH], whole[GRAFT_WIDE_PATH]; // a relative name is taken for one beside the file
    DWORD length = graft_wide_path(to, wide) == GRAFT_OK ? GetFullPathNameW(wide, GRAFT_WIDE_PATH, whole, NULL) : 0;
    if (length == 0 || length >= GRAFT_WIDE_PATH) {
        SetLastError(ERROR_BAD_PATHNAME);
        return false;
    }
    memset(&request, 0, sizeof request);
    request.info.ReplaceIfExists = TRUE;
    request.info.FileNameLength = length * (DWORD)sizeof(wchar_t);
    memcpy(request.bytes + offsetof(FILE_RENAME_INFO, FileName), whole, (length + 1) * sizeof(wchar_t));
    return SetFileInformationByHandle(file, FileRenameInfo, &request, sizeof request) != 0;
}
