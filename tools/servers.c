// SPDX-License-Identifier: Apache-2.0
// The servers of this machine: the processes that are `graft serve`, and where they can be asked.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/output.h"
#include "tools/processes.h"
#include "tools/status.h"

enum { PATH_ROOM = 4096, ADDRESS_ROOM = 200 };

struct server {
    int64_t pid;
    json_t *addresses;
};
struct servers {
    struct server *list;
    size_t count, room;
};

// ---- arguments ----

static const char *next_argument(const char *argument, const char *end)
{
    const char *next = argument + strlen(argument) + 1;
    return next < end ? next : NULL;
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

// ---- addresses ----

// Add an address unless it is there; a relative path of a socket is one below the process's folder.
static void add_address(void *user, const char *address)
{
    struct server *server = user;
    char place[PATH_ROOM], folder[PATH_ROOM / 2];
    snprintf(place, sizeof place, "%s", address);
    if (strncmp(address, "unix:", 5) == 0 && address[5] != '/') {
        if (!process_folder(server->pid, folder, sizeof folder)) {
            return;
        }
        snprintf(place, sizeof place, "unix:%s/%.1000s", folder, address + 5);
    }
    size_t i;
    json_t *old;
    json_array_foreach(server->addresses, i, old)
    {
        if (strcmp(json_string_value(old), place) == 0) {
            return;
        }
    }
    size_t length = strlen(place);
    bool any_port =
        length > 2 && strncmp(place, "unix:", 5) != 0 && strcmp(place + length - 2, ":0") == 0; // which, is not known
    if (length < ADDRESS_ROOM && !any_port) {
        json_array_append_new(server->addresses, json_string(place));
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

static void find_addresses(struct server *server, const char *arguments, size_t length)
{
    const char *end = arguments + length, *value;
    for (const char *a = arguments; a; a = next_argument(a, end)) {
        if ((value = value_of(a, end, "--operator-listen")) != NULL) {
            add_address(server, value);
        }
    }
    size_t operators = json_array_size(server->addresses);
    process_listens(server->pid, add_address, server);
    bool seen = json_array_size(server->addresses) > operators; // else its sockets are not ours to see
    for (const char *a = arguments; a && !seen; a = next_argument(a, end)) {
        if ((value = value_of(a, end, "--listen")) != NULL) {
            add_address(server, value);
        }
    }
    if (length && !json_array_size(server->addresses)) {
        add_address(server, "127.0.0.1:8080");
    }
    for (const char *a = arguments; a; a = next_argument(a, end)) {
        if (value_of(a, end, "--tls-cert")) {
            add_scheme(server->addresses);
            break;
        }
    }
}

// ---- processes ----

static void look_at(void *user, int64_t pid, const char *arguments, size_t length)
{
    struct servers *servers = user;
    const char *verb = length ? next_argument(arguments, arguments + length) : NULL;
    if (length && (!verb || strcmp(verb, "serve") != 0)) {
        return;
    }
    struct server found = {.pid = pid, .addresses = json_array()};
    find_addresses(&found, arguments, length);
    if (!length && !json_array_size(found.addresses)) { // another verb, as far as can be seen: only a server listens
        json_decref(found.addresses);
        return;
    }
    if (servers->count == servers->room) {
        servers->room = 2 * servers->room + 16;
        servers->list = grow_memory(servers->list, servers->room, sizeof *servers->list);
    }
    servers->list[servers->count++] = found;
}

static int by_number(const void *a, const void *b)
{
    const struct server *x = a, *y = b;
    return (x->pid > y->pid) - (x->pid < y->pid);
}

json_t *servers_find(void)
{
    json_t *out = json_array();
    struct servers servers = {0};
    process_each("graft", look_at, &servers);
    if (servers.count > 1) {
        qsort(servers.list, servers.count, sizeof *servers.list, by_number);
    }
    for (size_t i = 0; i < servers.count; i++) {
        json_array_append_new(
            out, json_pack("{s:I, s:o}", "pid", (json_int_t)servers.list[i].pid, "addresses", servers.list[i].addresses));
    }
    free(servers.list);
    return out;
}
