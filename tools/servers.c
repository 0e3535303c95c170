// SPDX-License-Identifier: Apache-2.0
// The servers of this machine, as /proc shows them (Linux; proc(5)).
#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/output.h"
#include "tools/status.h"

enum { LINE_BYTES = 16384, PATH_ROOM = 4096, MOST_SOCKETS = 64, ADDRESS_ROOM = 200 };

// The arguments of a process, one behind the other with a NUL behind each; 0 if they cannot be read.
static size_t read_arguments(int pid, char out[LINE_BYTES])
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    FILE *file = fopen(path, "rb");
    size_t n = file ? fread(out, 1, LINE_BYTES - 1, file) : 0;
    if (file) {
        fclose(file);
    }
    out[n] = 0;
    return n;
}

static const char *next_argument(const char *argument, const char *end)
{
    const char *next = argument + strlen(argument) + 1;
    return next < end ? next : NULL;
}

static bool is_server(const char *arguments, size_t length)
{
    const char *verb = length ? next_argument(arguments, arguments + length) : NULL, *slash = strrchr(arguments, '/');
    return verb && strcmp(slash ? slash + 1 : arguments, "graft") == 0 && strcmp(verb, "serve") == 0;
}

// The value of --NAME VALUE or --NAME=VALUE at an argument, else NULL.
static const char *value_of(const char *argument, const char *end, const char *name)
{
    size_t n = strlen(name);
    if (strncmp(argument, name, n) != 0) {
        return NULL;
    }
    return argument[n] == '=' ? argument + n + 1 : argument[n] ? NULL : next_argument(argument, end);
}

// ---- sockets ----

static uint32_t read_inodes(int pid, uint64_t inodes[MOST_SOCKETS])
{
    char path[64], target[64];
    uint32_t n = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
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

// Add an address unless it is there; a relative path of a socket is one below the process's folder.
static void add_address(json_t *addresses, int pid, const char *address)
{
    char place[PATH_ROOM], link[64], folder[PATH_ROOM / 2];
    snprintf(place, sizeof place, "%s", address);
    if (strncmp(address, "unix:", 5) == 0 && address[5] != '/') {
        snprintf(link, sizeof link, "/proc/%d/cwd", pid);
        ssize_t n = readlink(link, folder, sizeof folder - 1);
        if (n <= 0) {
            return;
        }
        snprintf(place, sizeof place, "unix:%.*s/%.1000s", (int)n, folder, address + 5);
    }
    size_t i;
    json_t *old;
    json_array_foreach(addresses, i, old)
    {
        if (strcmp(json_string_value(old), place) == 0) {
            return;
        }
    }
    size_t length = strlen(place);
    bool any_port =
        length > 2 && strncmp(place, "unix:", 5) != 0 && strcmp(place + length - 2, ":0") == 0; // which, is not known
    if (length < ADDRESS_ROOM && !any_port) {
        json_array_append_new(addresses, json_string(place));
    }
}

// proc_net(5): Num RefCount Protocol Flags Type St Inode Path; flag 0x10000: it listens.
static void add_unix(json_t *addresses, int pid, const uint64_t *inodes, uint32_t n)
{
    FILE *file = fopen("/proc/net/unix", "rb");
    char line[512], path[256];
    while (file && fgets(line, sizeof line, file)) {
        unsigned flags;
        uint64_t inode;
        if (sscanf(line, "%*s %*s %*s %x %*s %*s %" SCNu64 " %200s", &flags, &inode, path) == 3 && (flags & 0x10000) &&
            has(inodes, n, inode)) {
            char address[ADDRESS_ROOM + 64];
            snprintf(address, sizeof address, "unix:%.200s", path);
            add_address(addresses, pid, address);
        }
    }
    if (file) {
        fclose(file);
    }
}

// sl local_address rem_address st ...: hexadecimal words in the machine's order; state 0A: it listens. What listens on all
// addresses is asked on the loopback.
static void add_inet(json_t *addresses, int pid, const uint64_t *inodes, uint32_t n, bool six)
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
        add_address(addresses, pid, address);
    }
    if (file) {
        fclose(file);
    }
}

// A server with a certificate speaks TLS wherever it listens but at Unix sockets.
static void add_scheme(json_t *addresses)
{
    for (size_t i = 0; i < json_array_size(addresses); i++) {
        const char *address = json_string_value(json_array_get(addresses, i));
        char text[ADDRESS_ROOM + 8];
        if (strncmp(address, "unix:", 5) != 0) {
            snprintf(text, sizeof text, "https://%s", address);
            json_array_set_new(addresses, i, json_string(text));
        }
    }
}

static json_t *addresses_of(int pid, const char *arguments, size_t length)
{
    json_t *out = json_array();
    uint64_t inodes[MOST_SOCKETS];
    const char *end = arguments + length, *value;
    for (const char *a = arguments; a; a = next_argument(a, end)) {
        if ((value = value_of(a, end, "--operator-listen")) != NULL) {
            add_address(out, pid, value);
        }
    }
    size_t operators = json_array_size(out);
    uint32_t n = read_inodes(pid, inodes);
    add_unix(out, pid, inodes, n);
    add_inet(out, pid, inodes, n, false);
    add_inet(out, pid, inodes, n, true);
    bool seen = json_array_size(out) > operators; // else its files are not ours to see
    for (const char *a = arguments; a && !seen; a = next_argument(a, end)) {
        if ((value = value_of(a, end, "--listen")) != NULL) {
            add_address(out, pid, value);
        }
    }
    if (!json_array_size(out)) {
        add_address(out, pid, "127.0.0.1:8080");
    }
    for (const char *a = arguments; a; a = next_argument(a, end)) {
        if (value_of(a, end, "--tls-cert")) {
            add_scheme(out);
            break;
        }
    }
    return out;
}

static int by_number(const void *a, const void *b)
{
    const int *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

json_t *servers_find(void)
{
    json_t *out = json_array();
    char *arguments = get_memory(LINE_BYTES, 1);
    int *pids = NULL;
    size_t n = 0, room = 0;
    DIR *folder = opendir("/proc");
    for (const struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        int pid = isdigit((unsigned char)entry->d_name[0]) ? atoi(entry->d_name) : 0;
        if (pid > 0 && is_server(arguments, read_arguments(pid, arguments))) {
            if (n == room) {
                room = 2 * room + 16;
                pids = grow_memory(pids, room, sizeof *pids);
            }
            pids[n++] = pid;
        }
    }
    if (folder) {
        closedir(folder);
    }
    if (n > 1) {
        qsort(pids, n, sizeof *pids, by_number);
    }
    for (size_t i = 0; i < n; i++) {
        size_t length = read_arguments(pids[i], arguments);
        if (length) {
            json_array_append_new(
                out, json_pack("{s:i, s:o}", "pid", pids[i], "addresses", addresses_of(pids[i], arguments, length)));
        }
    }
    free(pids);
    free(arguments);
    return out;
}
