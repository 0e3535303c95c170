// SPDX-License-Identifier: Apache-2.0
// processes.h on Windows.
#include "tools/processes.h"

#define WIN32_LEAN_AND_MEAN
#include <winsock2.h>
#include <ws2tcpip.h>

#include <iphlpapi.h>
#include <shellapi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tlhelp32.h>
#include <winternl.h>

#include "tools/output.h"

enum { LINE_UNITS = 32768, TRIES = 4 }; // a UNICODE_STRING has fewer, its length being a USHORT in bytes

static bool read_from(HANDLE process, const void *address, void *out, size_t bytes)
{
    SIZE_T got = 0;
    return ReadProcessMemory(process, address, out, bytes, &got) && got == bytes;
}

// The command line of another process, as its own memory has it. "" if that may not be read.
static void read_command_line(DWORD pid, wchar_t out[LINE_UNITS])
{
    PEB peb;
    RTL_USER_PROCESS_PARAMETERS parameters;
    PROCESS_BASIC_INFORMATION info;
    HANDLE process = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_VM_READ, FALSE, pid);
    bool good = process && NT_SUCCESS(NtQueryInformationProcess(process, ProcessBasicInformation, &info, sizeof info, NULL)) &&
                read_from(process, info.PebBaseAddress, &peb, sizeof peb) &&
                read_from(process, peb.ProcessParameters, &parameters, sizeof parameters) &&
                read_from(process, parameters.CommandLine.Buffer, out, parameters.CommandLine.Length);
    out[good ? parameters.CommandLine.Length / sizeof *out : 0] = 0;
    if (process) {
        CloseHandle(process);
    }
}

// The arguments of a process as processes.h has them, to be freed.
static char *read_arguments(DWORD pid, size_t *length)
{
    int count = 0, room = 3 * LINE_UNITS; // a unit is at most three bytes
    wchar_t *line = get_memory(LINE_UNITS, sizeof *line), **wide = NULL;
    char *out = get_memory((size_t)room, 1);
    read_command_line(pid, line);
    if (line[0]) { // of nothing, CommandLineToArgvW makes the path of this program
        wide = CommandLineToArgvW(line, &count);
    }
    *length = 0;
    for (int i = 0; i < count && wide; i++) {
        int n = WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, out + *length, room - (int)*length, NULL, NULL);
        *length += n > 0 ? (size_t)n : 0;
    }
    LocalFree(wide);
    free(line);
    return out;
}

static bool is_program(const wchar_t *file, const char *program)
{
    size_t n = strlen(program);
    wchar_t name[MAX_PATH];
    return MultiByteToWideChar(CP_UTF8, 0, program, -1, name, MAX_PATH) > 0 && _wcsnicmp(file, name, n) == 0 &&
           (file[n] == 0 || _wcsicmp(file + n, L".exe") == 0);
}

void process_each(const char *program, process_fn *each, void *user)
{
    PROCESSENTRY32W entry = {.dwSize = sizeof entry};
    HANDLE all = CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0);
    if (all == INVALID_HANDLE_VALUE) {
        return;
    }
    for (BOOL more = Process32FirstW(all, &entry); more; more = Process32NextW(all, &entry)) {
        if (is_program(entry.szExeFile, program)) {
            size_t length;
            char *arguments = read_arguments(entry.th32ProcessID, &length);
            each(user, entry.th32ProcessID, arguments, length);
            free(arguments);
        }
    }
    CloseHandle(all);
}

bool process_folder(int64_t pid, char *out, size_t room)
{
    (void)pid; // for the paths of Unix sockets, which graft has none of here
    (void)room;
    out[0] = 0;
    return false;
}

// ---- sockets ----

// The table of the sockets that listen, to be freed; NULL: the system does not tell.
static void *read_table(ULONG family)
{
    DWORD bytes = 16384;
    for (int i = 0; i < TRIES; i++) { // it may grow in between
        void *table = get_memory(bytes, 1);
        DWORD code = GetExtendedTcpTable(table, &bytes, FALSE, family, TCP_TABLE_OWNER_PID_LISTENER, 0);
        if (code == NO_ERROR) {
            return table;
        }
        free(table);
        if (code != ERROR_INSUFFICIENT_BUFFER) {
            break;
        }
    }
    return NULL;
}

static void add_inet(DWORD pid, process_address_fn *add, void *user)
{
    MIB_TCPTABLE_OWNER_PID *table = read_table(AF_INET);
    for (DWORD i = 0; table && i < table->dwNumEntries; i++) {
        const MIB_TCPROW_OWNER_PID *row = &table->table[i];
        unsigned a = ntohl(row->dwLocalAddr ? row->dwLocalAddr : htonl(INADDR_LOOPBACK));
        char address[PROCESS_ADDRESS];
        snprintf(address, sizeof address, "%u.%u.%u.%u:%u", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255,
                 ntohs((u_short)row->dwLocalPort));
        if (row->dwOwningPid == pid) {
            add(user, address);
        }
    }
    free(table);
}

static void add_inet6(DWORD pid, process_address_fn *add, void *user)
{
    MIB_TCP6TABLE_OWNER_PID *table = read_table(AF_INET6);
    for (DWORD i = 0; table && i < table->dwNumEntries; i++) {
        char address[PROCESS_ADDRESS];
        snprintf(address, sizeof address, "[::1]:%u", ntohs((u_short)table->table[i].dwLocalPort));
        if (table->table[i].dwOwningPid == pid) {
            add(user, address);
        }
    }
    free(table);
}

void process_listens(int64_t pid, process_address_fn *add, void *user)
{
    add_inet((DWORD)pid, add, user);
    add_inet6((DWORD)pid, add, user);
}
