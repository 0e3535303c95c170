// SPDX-License-Identifier: Apache-2.0
// What the Windows side of the platform shares: UTF-8 paths as Windows takes them, and its errors in words.
#ifndef GRAFT_PLATFORM_WIDE_WINDOWS_H
#define GRAFT_PLATFORM_WIDE_WINDOWS_H

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include "platform/err.h"

enum { GRAFT_WIDE_PATH = 4096, GRAFT_WHY_BYTES = 256 };

// A path as UTF-16 with backslashes; one of 248 characters and more as an absolute one with \\?\ in front, which lifts the
// limit of 260 (Microsoft, "Maximum Path Length Limitation"). Errors: GRAFT_E_IO (not UTF-8, or too long).
GRAFT_MUST_CHECK enum graft_status graft_wide_path(const char *path, wchar_t out[GRAFT_WIDE_PATH]);

// An error of Windows in words, UTF-8: the common ones as POSIX systems say them, others in Windows' own words.
struct graft_why {
    char text[GRAFT_WHY_BYTES];
};
struct graft_why graft_why(DWORD error);

// Write all bytes to an open file at *offset, or (NULL) where the last ones ended. False: GetLastError().
bool graft_write_open(HANDLE file, const uint64_t *offset, const void *data, uint64_t bytes);
// Give the open file or folder (opened with DELETE) the name `to`, over a file that is there. False: GetLastError().
bool graft_rename_open(HANDLE file, const char *to);

#endif
