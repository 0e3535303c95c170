// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/server_files.h"

#include <fcntl.h>
#include <io.h>
#include <stdio.h>
#include <string.h>

#include "platform/plat.h"
#include "platform/wide_windows.h"

#include <aclapi.h>
#include <sddl.h>

const char others_write_advice[] = "icacls FILE /inheritance:r /grant:r USER:F",
           others_read_advice[] = "icacls FILE /inheritance:r /grant:r USER:F";

static _Thread_local struct graft_why last; // of the last call that failed

bool real_path(const char *path, char out[PATH_BYTES], const char **why)
{
    wchar_t wide[GRAFT_WIDE_PATH], real[GRAFT_WIDE_PATH];
    HANDLE file = INVALID_HANDLE_VALUE;
    DWORD length = 0;
    if (graft_wide_path(path, wide) == GRAFT_OK) {
        file = CreateFileW(wide, 0, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING,
                           FILE_FLAG_BACKUP_SEMANTICS, NULL);
    } else {
        SetLastError(ERROR_BAD_PATHNAME);
    }
    if (file != INVALID_HANDLE_VALUE) {
        length = GetFinalPathNameByHandleW(file, real, GRAFT_WIDE_PATH, FILE_NAME_NORMALIZED | VOLUME_NAME_DOS);
    }
    last = graft_why(GetLastError());
    *why = last.text;
    if (file != INVALID_HANDLE_VALUE) {
        CloseHandle(file);
    }
    if (length == 0 || length >= GRAFT_WIDE_PATH) {
        return false;
    }
    const wchar_t *from = real; // \\?\C:\..., \\?\UNC\SERVER\...
    if (wcsncmp(from, L"\\\\?\\UNC\\", 8) == 0) {
        real[6] = L'\\';
        from += 6;
    } else if (wcsncmp(from, L"\\\\?\\", 4) == 0) {
        from += 4;
    }
    if (WideCharToMultiByte(CP_UTF8, 0, from, -1, out, PATH_BYTES, NULL, NULL) <= 0) {
        return false;
    }
    for (char *p = out; *p; p++) {
        *p = *p == '\\' ? '/' : *p;
    }
    return true;
}

bool path_is_link(const char *path)
{
    wchar_t wide[GRAFT_WIDE_PATH];
    DWORD found = graft_wide_path(path, wide) == GRAFT_OK ? GetFileAttributesW(wide) : INVALID_FILE_ATTRIBUTES;
    return found != INVALID_FILE_ATTRIBUTES && (found & FILE_ATTRIBUTE_REPARSE_POINT);
}

// ---- access lists ----

// It belongs to the owner, or to those who can do as they like on this machine.
static bool is_trusted(PSID who, PSID owner)
{
    static const WELL_KNOWN_SID_TYPE known[] = {WinLocalSystemSid, WinBuiltinAdministratorsSid, WinCreatorOwnerSid,
                                                WinCreatorOwnerRightsSid};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (IsWellKnownSid(who, known[i])) {
            return true;
        }
    }
    return owner && EqualSid(who, owner);
}

// Some entry of the list allows some of `rights` to somebody else. No list at all allows everything (Microsoft, "DACLs and
// ACEs").
static bool others_may(const char *path, DWORD rights)
{
    wchar_t wide[GRAFT_WIDE_PATH];
    PSECURITY_DESCRIPTOR descriptor = NULL;
    PACL list = NULL;
    PSID owner = NULL;
    if (graft_wide_path(path, wide) != GRAFT_OK ||
        GetNamedSecurityInfoW(wide, SE_FILE_OBJECT, OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION, &owner, NULL, &list,
                              NULL, &descriptor) != ERROR_SUCCESS) {
        return false; // not there, or not ours to look at: reading it will say so
    }
    bool may = list == NULL;
    for (DWORD i = 0; list && i < list->AceCount; i++) {
        ACE_HEADER *entry;
        if (!GetAce(list, i, (void **)&entry) || entry->AceType != ACCESS_ALLOWED_ACE_TYPE ||
            entry->AceFlags & INHERIT_ONLY_ACE) {
            continue;
        }
        ACCESS_ALLOWED_ACE *allowed = (ACCESS_ALLOWED_ACE *)(void *)entry;
        may |= (allowed->Mask & rights) != 0 && !is_trusted(&allowed->SidStart, owner);
    }
    LocalFree(descriptor);
    return may;
}

bool others_may_write(const char *path)
{
    return others_may(path,
                      FILE_WRITE_DATA | FILE_APPEND_DATA | DELETE | WRITE_DAC | WRITE_OWNER | GENERIC_WRITE | GENERIC_ALL);
}

bool others_may_read(const char *path)
{
    return others_may(path, FILE_READ_DATA | GENERIC_READ | GENERIC_ALL);
}

enum graft_status replace_private_file(const char *path, const void *data, uint64_t size, bool *kept)
{
    wchar_t wide[GRAFT_WIDE_PATH];
    PSECURITY_DESCRIPTOR descriptor = NULL;
    PACL list = NULL;
    BOOL present = FALSE, is_default;
    GRAFT_TRY(graft_wide_path(path, wide));
    SECURITY_INFORMATION what = DACL_SECURITY_INFORMATION;
    bool known = GetNamedSecurityInfoW(wide, SE_FILE_OBJECT, what, NULL, NULL, &list, NULL, &descriptor) == ERROR_SUCCESS;
    if (!known) { // a new file: its owner, the system and administrators
        what |= PROTECTED_DACL_SECURITY_INFORMATION;
        known = ConvertStringSecurityDescriptorToSecurityDescriptorW(L"D:P(A;;FA;;;OW)(A;;FA;;;SY)(A;;FA;;;BA)",
                                                                     SDDL_REVISION_1, &descriptor, NULL) &&
                GetSecurityDescriptorDacl(descriptor, &present, &list, &is_default);
    }
    enum graft_status status = graft_file_replace(path, data, size);
    *kept = status != GRAFT_OK ||
            (known && SetNamedSecurityInfoW(wide, SE_FILE_OBJECT, what, NULL, NULL, list, NULL) == ERROR_SUCCESS);
    if (descriptor) {
        LocalFree(descriptor);
    }
    return status;
}

// ---- logs ----

int log_file_open(const char *path, uint64_t *bytes, const char **why)
{
    wchar_t wide[GRAFT_WIDE_PATH];
    HANDLE file = INVALID_HANDLE_VALUE;
    LARGE_INTEGER size = {.QuadPart = 0};
    if (path_is_link(path)) {
        SetLastError(ERROR_CANT_ACCESS_FILE);
    } else if (graft_wide_path(path, wide) == GRAFT_OK) {
        file = CreateFileW(wide, FILE_APPEND_DATA | SYNCHRONIZE, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL,
                           OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
    } else {
        SetLastError(ERROR_BAD_PATHNAME);
    }
    last = graft_why(GetLastError());
    *why = last.text;
    *bytes = file != INVALID_HANDLE_VALUE && GetFileSizeEx(file, &size) ? (uint64_t)size.QuadPart : 0;
    return file == INVALID_HANDLE_VALUE ? -1 : _open_osfhandle((intptr_t)file, _O_APPEND | _O_BINARY | _O_NOINHERIT);
}

void file_rename(const char *from, const char *to)
{
    wchar_t a[GRAFT_WIDE_PATH], b[GRAFT_WIDE_PATH];
    if (graft_wide_path(from, a) == GRAFT_OK && graft_wide_path(to, b) == GRAFT_OK) {
        MoveFileExW(a, b, MOVEFILE_REPLACE_EXISTING);
    }
}

void file_remove(const char *path)
{
    wchar_t wide[GRAFT_WIDE_PATH];
    if (graft_wide_path(path, wide) == GRAFT_OK) {
        DeleteFileW(wide);
    }
}
