// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/body.h"
#include "tools/serve/process.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <psapi.h>
#include <tlhelp32.h>

// Of Windows: since 1601, in units of 100 ns.
static double seconds(FILETIME time)
{
    return (double)((uint64_t)time.dwHighDateTime << 32 | time.dwLowDateTime) / 1e7;
}

static unsigned count_threads(void)
{
    HANDLE all = CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0);
    THREADENTRY32 entry = {.dwSize = sizeof entry};
    unsigned n = 0;
    for (BOOL more = all != INVALID_HANDLE_VALUE && Thread32First(all, &entry); more; more = Thread32Next(all, &entry)) {
        n += entry.th32OwnerProcessID == GetCurrentProcessId();
    }
    if (all != INVALID_HANDLE_VALUE) {
        CloseHandle(all);
    }
    return n;
}

void process_print(struct out *out)
{
    static const double unix_epoch = 11644473600; // 1970, since 1601
    FILETIME created, ended, kernel, user;
    PROCESS_MEMORY_COUNTERS_EX memory = {.cb = sizeof memory};
    DWORD handles = 0;
    HANDLE self = GetCurrentProcess();
    if (GetProcessTimes(self, &created, &ended, &kernel, &user)) {
        metric_one(out, "process_cpu_seconds_total", "counter", "Processor time, user and system.",
                   seconds(kernel) + seconds(user));
        metric_one(out, "process_start_time_seconds", "gauge", "Since 1970.", seconds(created) - unix_epoch);
    }
    if (GetProcessMemoryInfo(self, (PROCESS_MEMORY_COUNTERS *)&memory, sizeof memory)) {
        metric_one(out, "process_resident_memory_bytes", "gauge", "Resident memory, pages of the model's file included.",
                   (double)memory.WorkingSetSize);
        metric_one(out, "process_virtual_memory_bytes", "gauge", "Memory that the process has committed.",
                   (double)memory.PrivateUsage);
    }
    unsigned threads = count_threads();
    if (threads > 0) {
        metric_one(out, "process_threads", "gauge", "Threads, those of drivers and libraries included.", threads);
    }
    if (GetProcessHandleCount(self, &handles)) {
        metric_one(out, "process_open_fds", "gauge", "Open handles.", handles);
    }
}
