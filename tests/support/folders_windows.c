// SPDX-License-Identifier: Apache-2.0
#include <wchar.h>

#include "platform/wide_windows.h"
#include "support/support.h"

// One of the entries of a folder, and how many there are; false: none.
static bool any_entry(const wchar_t *path, wchar_t out[GRAFT_WIDE_PATH], int *count)
{
    wchar_t pattern[GRAFT_WIDE_PATH];
    WIN32_FIND_DATAW found;
    *count = 0;
    swprintf(pattern, GRAFT_WIDE_PATH, L"%ls\\*", path);
    HANDLE search = FindFirstFileW(pattern, &found);
    ck_assert_msg(search != INVALID_HANDLE_VALUE, "%ls cannot be read", path);
    for (bool more = true; more; more = FindNextFileW(search, &found)) {
        if (wcscmp(found.cFileName, L".") != 0 && wcscmp(found.cFileName, L"..") != 0) {
            swprintf(out, GRAFT_WIDE_PATH, L"%ls\\%ls", path, found.cFileName);
            (*count)++;
        }
    }
    FindClose(search);
    return *count > 0;
}

static void remove_all(const wchar_t *path)
{
    wchar_t inside[GRAFT_WIDE_PATH];
    int count;
    while (any_entry(path, inside, &count)) {
        if (!DeleteFileW(inside)) {
            remove_all(inside);
        }
    }
    ck_assert_msg(RemoveDirectoryW(path) != 0, "%ls cannot be removed: error %lu", path, (unsigned long)GetLastError());
}

// Long enough for what a test puts below it.
static void whole_path(const char *path, wchar_t out[GRAFT_WIDE_PATH])
{
    wchar_t wide[GRAFT_WIDE_PATH];
    ck_assert_ok(graft_wide_path(path, wide));
    wcscpy(out, L"\\\\?\\");
    ck_assert_uint_gt(GetFullPathNameW(wide, GRAFT_WIDE_PATH - 4, out + 4, NULL), 0);
}

void graft_test_remove_all(const char *path)
{
    wchar_t wide[GRAFT_WIDE_PATH];
    whole_path(path, wide);
    remove_all(wide);
}

int graft_test_entries(const char *path)
{
    wchar_t wide[GRAFT_WIDE_PATH], inside[GRAFT_WIDE_PATH];
    int count;
    whole_path(path, wide);
    any_entry(wide, inside, &count);
    return count;
}
