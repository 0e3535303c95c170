// SPDX-License-Identifier: Apache-2.0
// system.h on Windows.
#define _CRT_RAND_S // rand_s
#include <stdlib.h>

#include <fcntl.h>
#include <io.h>
#include <string.h>
#include <wchar.h>

#include "platform/plat.h"
#include "platform/wide_windows.h"

#include <shellapi.h>

#include "tools/journal.h"
#include "tools/system.h"

static bool to_wide(const char *path, wchar_t out[GRAFT_WIDE_PATH])
{
    return graft_wide_path(path, out) == GRAFT_OK;
}

static UINT code_page; // the terminal's, as it was found

static void restore_code_page(void)
{
    SetConsoleOutputCP(code_page);
}

bool system_begin(int *argc, char ***argv)
{
    int count = 0;
    wchar_t **wide = CommandLineToArgvW(GetCommandLineW(), &count);
    char **utf8 = wide ? calloc((size_t)count + 1, sizeof *utf8) : NULL;
    for (int i = 0; i < count && utf8; i++) {
        int bytes = WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, NULL, 0, NULL, NULL);
        utf8[i] = bytes > 0 ? malloc((size_t)bytes) : NULL;
        if (!utf8[i]) {
            return false;
        }
        WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, utf8[i], bytes, NULL, NULL);
    }
    if (!utf8) {
        return false;
    }
    LocalFree(wide);
    *argc = count;
    *argv = utf8;
    FILE *const streams[] = {stdin, stdout, stderr};
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
        if (_fileno(streams[i]) >= 0) { // a service has none
            _setmode(_fileno(streams[i]), _O_BINARY);
        }
    }
    setvbuf(stderr, NULL, _IONBF, 0);
    code_page = GetConsoleOutputCP();
    if (code_page && SetConsoleOutputCP(CP_UTF8)) {
        atexit(restore_code_page);
    }
    return true;
}

static HANDLE handle_of(FILE *stream)
{
    return _fileno(stream) >= 0 ? (HANDLE)_get_osfhandle(_fileno(stream)) : INVALID_HANDLE_VALUE;
}

bool system_is_terminal(FILE *stream)
{
    DWORD mode; // _isatty is true of any device, NUL among them
    return GetConsoleMode(handle_of(stream), &mode) != 0;
}

bool system_takes_escapes(FILE *stream)
{
    DWORD mode;
    HANDLE console = handle_of(stream);
    return GetConsoleMode(console, &mode) && SetConsoleMode(console, mode | ENABLE_VIRTUAL_TERMINAL_PROCESSING);
}

uint32_t system_columns(void)
{
    CONSOLE_SCREEN_BUFFER_INFO info;
    return GetConsoleScreenBufferInfo(handle_of(stdout), &info) ? (uint32_t)(info.srWindow.Right - info.srWindow.Left + 1) : 0;
}

static void (*volatile on_interrupt)(void);

static BOOL WINAPI on_control(DWORD event)
{
    void (*handler)(void) = on_interrupt;
    if (!handler || (event != CTRL_C_EVENT && event != CTRL_BREAK_EVENT)) {
        return FALSE;
    }
    handler();
    return TRUE;
}

void system_on_interrupt(void (*handler)(void))
{
    static bool installed;
    on_interrupt = handler;
    if (!installed) {
        installed = SetConsoleCtrlHandler(on_control, TRUE) != 0;
    }
}

void system_end_now(int code)
{
    if (code_page) {
        restore_code_page();
    }
    _exit(code);
}

void folder_path(enum folder folder, char out[PATH_BYTES])
{
    static const char *const below[] = {
        [FOLDER_DATA] = "graft", [FOLDER_STATE] = "graft/state", [FOLDER_CACHE] = "graft/cache"};
    const wchar_t *base = _wgetenv(L"LOCALAPPDATA");
    char utf8[PATH_BYTES] = "";
    if (!base || WideCharToMultiByte(CP_UTF8, 0, base, -1, utf8, sizeof utf8, NULL, NULL) <= 0 || !*utf8) {
        out[0] = 0;
        return;
    }
    for (char *p = utf8; *p; p++) {
        *p = *p == '\\' ? '/' : *p;
    }
    int length = snprintf(out, PATH_BYTES, "%s/%s", utf8, below[folder]);
    if (length < 0 || length >= PATH_BYTES - 300) {
        out[0] = 0;
    }
}

void system_list(const char *folder, void (*each)(void *user, const char *name), void *user)
{
    char pattern[PATH_BYTES], name[4 * MAX_PATH];
    wchar_t wide[GRAFT_WIDE_PATH];
    WIN32_FIND_DATAW found;
    int length = snprintf(pattern, sizeof pattern, "%s/*", folder);
    if (length < 0 || length >= PATH_BYTES || !to_wide(pattern, wide)) {
        return;
    }
    HANDLE search = FindFirstFileW(wide, &found);
    for (bool more = search != INVALID_HANDLE_VALUE; more; more = FindNextFileW(search, &found)) {
        if (WideCharToMultiByte(CP_UTF8, 0, found.cFileName, -1, name, sizeof name, NULL, NULL) > 0) {
            each(user, name);
        }
    }
    if (search != INVALID_HANDLE_VALUE) {
        FindClose(search);
    }
}

bool file_exists(const char *path)
{
    wchar_t wide[GRAFT_WIDE_PATH];
    return to_wide(path, wide) && GetFileAttributesW(wide) != INVALID_FILE_ATTRIBUTES;
}

bool system_writable(const char *path)
{
    wchar_t wide[GRAFT_WIDE_PATH];
    return to_wide(path, wide) && _waccess(wide, 2) == 0;
}

FILE *system_open(const char *path, const char **why)
{
    wchar_t wide[GRAFT_WIDE_PATH];
    FILE *file = to_wide(path, wide) ? _wfopen(wide, L"rb") : NULL;
    *why = file ? NULL : strerror(errno);
    return file;
}

FILE *system_nameless(const char *beside)
{
    char path[PATH_BYTES];
    wchar_t wide[GRAFT_WIDE_PATH];
    int length = snprintf(path, sizeof path, "%.*s.graft-eval-%08lx", (int)(graft_path_name(beside) - beside), beside,
                          (unsigned long)GetCurrentProcessId());
    return length > 0 && length < PATH_BYTES && to_wide(path, wide) ? _wfopen(wide, L"w+bD") : NULL; // D: deleted when closed
}

bool system_random(uint32_t *out)
{
    unsigned value;
    bool good = rand_s(&value) == 0;
    *out = good ? value : 0;
    return good;
}

bool system_use_processors(int64_t count)
{
    DWORD_PTR own, all, chosen = 0;
    if (!GetProcessAffinityMask(GetCurrentProcess(), &own, &all)) {
        return false;
    }
    for (; own && count > 0; own &= own - 1, count--) {
        chosen |= own & (~own + 1);
    }
    return SetProcessAffinityMask(GetCurrentProcess(), chosen) != 0;
}

void system_name(char *out, size_t bytes)
{
    static const wchar_t key[] = L"SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion";
    wchar_t build[32] = L"?";
    DWORD size = sizeof build;
    RegGetValueW(HKEY_LOCAL_MACHINE, key, L"CurrentBuildNumber", RRF_RT_REG_SZ, NULL, build, &size);
    snprintf(out, bytes, "Windows, build %ls, on x86_64", build);
}

uint64_t system_memory_bytes(void)
{
    MEMORYSTATUSEX memory = {.dwLength = sizeof memory};
    return GlobalMemoryStatusEx(&memory) ? memory.ullTotalPhys : 0;
}

void system_look_at_gpu(void (*say)(void *user, const char *level, const char *text), void *user)
{
    (void)say; // the driver's own files are not looked at
    (void)user;
}

const char *journal_prefix(int priority)
{
    (void)priority;
    return "";
}
