// SPDX-License-Identifier: Apache-2.0
// What a request names: its target, its query, Host and Origin, traceparent. Pure functions; the head itself is http_head.c's.
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "tools/serve/http_private.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// One decoded byte at text[*at], which moves on; -1: a bad escape.
static int decode(const char *text, size_t length, size_t *at)
{
    if (text[*at] != '%') {
        return (unsigned char)text[(*at)++];
    }
    int high = *at + 2 < length ? hex(text[*at + 1]) : -1, low = *at + 2 < length ? hex(text[*at + 2]) : -1;
    *at += 3;
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

struct http_verdict http_guard_target(const char *target, size_t length, char path[HTTP_MAX_PATH], const char **query)
{
    *query = NULL;
    path[0] = '\0';
    if (length == 0 || target[0] != '/') {
        return HTTP_REFUSED(400, "malformed_request", "the request target must begin with a slash");
    }
    for (size_t i = 0; i < length; i++) {
        if (target[i] <= ' ' || target[i] > '~' || target[i] == '#') {
            return HTTP_REFUSED(400, "malformed_request", "the request target has a character that must be escaped");
        }
    }
    const char *mark = memchr(target, '?', length);
    size_t end = mark ? (size_t)(mark - target) : length, used = 0;
    for (size_t at = 0; at < end;) {
        bool escaped = target[at] == '%';
        int c = decode(target, end, &at);
        if (c < ' ' || c == 0x7f || (escaped && c == '/')) {
            path[0] = '\0';
            return HTTP_REFUSED(400, "malformed_request", "the request target has an escape that is malformed or not allowed");
        }
        if (used == HTTP_MAX_PATH - 1) {
            path[0] = '\0';
            return HTTP_REFUSED(414, "target_too_long", "the path is too long");
        }
        path[used++] = (char)c;
    }
    path[used] = '\0';
    *query = mark ? mark + 1 : NULL;
    return (struct http_verdict){0, NULL, NULL};
}

bool http_query_value(const char *query, const char *name, char *out, size_t bytes)
{
    size_t wanted = strlen(name);
    while (query && *query) {
        size_t length = strcspn(query, "&");
        const char *equals = memchr(query, '=', length);
        size_t name_length = equals ? (size_t)(equals - query) : length;
        if (name_length == wanted && memcmp(query, name, wanted) == 0) {
            const char *value = equals ? equals + 1 : query + length;
            size_t value_length = (size_t)(query + length - value), used = 0;
            for (size_t at = 0; at < value_length;) {
                int c = value[at] == '+' ? (at++, ' ') : decode(value, value_length, &at);
                if (c <= 0 || used + 1 >= bytes) {
                    return false;
                }
                out[used++] = (char)c;
            }
            out[used] = '\0';
            return true;
        }
        query += length + (query[length] == '&');
    }
    return false;
}

// The host of "HOST", "HOST:PORT", "[ADDRESS]:PORT" is this name.
static bool host_is(const char *text, const char *name)
{
    const char *end = text[0] == '[' ? strchr(text, ']') : NULL;
    size_t length = end ? (size_t)(end - text) + 1 : strcspn(text, ":");
    size_t rest = strlen(text + length);
    return length == strlen(name) && strncasecmp(text, name, length) == 0 &&
           (rest == 0 || (text[length] == ':' && strspn(text + length + 1, "0123456789") == rest - 1));
}

static bool is_own_name(const struct http_server *server, const struct http_listener *listener, const char *host)
{
    static const char *const loopback[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; listener->loopback && i < sizeof loopback / sizeof *loopback; i++) {
        if (host_is(host, loopback[i])) {
            return true;
        }
    }
    for (uint32_t i = 0; i < server->config.n_hosts; i++) {
        if (host_is(host, server->config.hosts[i])) {
            return true;
        }
    }
    char own[128];
    snprintf(own, sizeof own, "%s", listener->text);
    char *port = strrchr(own, ':');
    if (port) {
        *port = '\0';
    }
    return host_is(host, own);
}

bool http_guard_host(const struct http_server *server, const struct http_listener *listener, const char *host)
{
    return listener->kind == LISTENER_UNIX || !listener->loopback || is_own_name(server, listener, host);
}

bool http_guard_origin(const struct http_server *server, const struct http_listener *listener, const char *origin,
                       const char *host)
{
    const char *authority = strncasecmp(origin, "http://", 7) == 0    ? origin + 7
                            : strncasecmp(origin, "https://", 8) == 0 ? origin + 8
                                                                      : NULL;
    return authority && ((host && strcasecmp(authority, host) == 0) || is_own_name(server, listener, authority));
}

bool http_guard_traceparent(const char *text)
{
    static const char zeros[] = "00000000000000000000000000000000", digits[] = "0123456789abcdef";
    return strlen(text) == 55 && strncmp(text, "00-", 3) == 0 && strspn(text + 3, digits) == 32 && text[35] == '-' &&
           strspn(text + 36, digits) == 16 && text[52] == '-' && strspn(text + 53, digits) == 2 &&
           strncmp(text + 3, zeros, 32) != 0 && strncmp(text + 36, zeros, 16) != 0;
}
