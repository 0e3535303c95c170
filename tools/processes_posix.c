// SPDX-License-Identifier: Apache-2.0
// processes.h as /proc shows it (Linux; proc(5)). Without /proc there is nothing.
#include "tools/processes.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/plat.h"
#include "tools/output.h"

enum { LINE_BYTES = 16384, MOST_SOCKETS = 64 };

// The arguments of a process, one behind the other with a NUL behind each; 0 if they cannot be read.
static size_t read_arguments(int64_t pid, char out[LINE_BYTES])
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%" PRId64 "/cmdline", pid);
    FILE *file = fopen(path, "rb");
    size_t n = file ? fread(out, 1, LINE_BYTES - 1, file) : 0;
    if (file) {
        fclose(file);
    }
    out[n] = 0;
    return n;
}

void process_each(const char *program, process_fn *each, void *user)
{
    char *arguments = get_memory(LINE_BYTES, 1);
    DIR *folder = opendir("/proc");
    for (const struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        int64_t pid = isdigit((unsigned char)entry->d_name[0]) ? atoi(entry->d_name) : 0;
        size_t length = pid > 0 ? read_arguments(pid, arguments) : 0;
        if (length && strcmp(graft_path_name(arguments), program) == 0) {
            each(user, pid, arguments, length);
        }
    }
    if (folder) {
        closedir(folder);
    }
    free(arguments);
}

bool process_folder(int64_t pid, char *out, size_t room)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/%" PRId64 "/cwd", pid);
    ssize_t n = readlink(link, out, room - 1);
    out[n > 0 ? n : 0] = 0;
    return n > 0;
}

// ---- sockets ----

static uint32_t read_inodes(int64_t pid, uint64_t inodes[MOST_SOCKETS])
{
    char path[64], target[64];
    uint32_t n = 0;
    snprintf(path, sizeof path, "/proc/%" PRId64 "/fd", pid);
    DIR *folder = opendir(path);
    for (const struct dirent *entry; folder && n < MOST_SOCKETS && (entry = readdir(folder)) != NULL;) {
        char link[400];
        snprintf(link, sizeof link, "%s/%.255s", path, entry->d_name);
        ssize_t length = readlink(link, target, sizeof target - 1);
        target[length > 0 ? length : 0] = 0;
        if (sscanf(target, "socket:[%" SCNu64 "]", &inodes[n]) == 1) {
            n++;
        }
    }
    if (folder) {
        closedir(folder);
    }
    return n;
}

static bool has(const uint64_t *inodes, uint32_t n, uint64_t inode)
{
    for (uint32_t i = 0; i < n; i++) {
        if (inodes[i] == inode) {
            return true;
        }
    }
    return false;
}

// proc_net(5): Num RefCount Protocol Flags Type St Inode Path; flag 0x10000: it listens.
static void add_unix(const uint64_t *inodes, uint32_t n, process_address_fn *add, void *user)
{
    FILE *file = fopen("/proc/net/unix", "rb");
    char line[512], path[256];
    while (file && fgets(line, sizeof line, file)) {
        unsigned flags;
        uint64_t inode;
        if (sscanf(line, "%*s %*s %*s %x %*s %*s %" SCNu64 " %200s", &flags, &inode, path) == 3 && (flags & 0x10000) &&
            has(inodes, n, inode)) {
            char address[PROCESS_ADDRESS];
            snprintf(address, sizeof address, "unix:%.200s", path);
            add(user, address);
        }
    }
    if (file) {
        fclose(file);
    }
}

// sl local_address rem_address st ...: hexadecimal words in the machine's order; state 0A: it listens. What listens on all
// addresses is asked on the loopback.
static void add_inet(const uint64_t *inodes, uint32_t n, bool six, process_address_fn *add, void *user)
{
    FILE *file = fopen(six ? "/proc/net/tcp6" : "/proc/net/tcp", "rb");
    char line[512], local[40];
    while (file && fgets(line, sizeof line, file)) {
        unsigned port, state;
        uint64_t inode;
        if (sscanf(line, "%*s %32[0-9A-F]:%x %*s %x %*s %*s %*s %*s %*s %" SCNu64, local, &port, &state, &inode) != 4 ||
            state != 0x0a || !has(inodes, n, inode)) {
            continue;
        }
        char address[64];
        unsigned a = (unsigned)strtoul(local, NULL, 16); // little-endian machines: the first byte is the last pair
        bool any = strspn(local, "0") == strlen(local);
        if (six) {
            snprintf(address, sizeof address, "[::1]:%u", port);
        } else {
            snprintf(address, sizeof address, "%u.%u.%u.%u:%u", any ? 127 : a & 255, any ? 0 : a >> 8 & 255,
                     any ? 0 : a >> 16 & 255, any ? 1 : a >> 24, port);
        }
        add(user, address);
    }
    if (file) {
        fclose(file);
    }
}

void process_listens(int64_t pid, process_address_fn *add, void *user)
{
    uint64_t inodes[MOST_SOCKETS];
    uint32_t n = read_inodes(pid, inodes);
    add_unix(inodes, n, add, user);
    add_inet(inodes, n, false, add, user);
    add_inet(inodes, n, true, add, user);
}
