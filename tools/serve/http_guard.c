// SPDX-License-Identifier: Apache-2.0
// What a request names: Host and Origin, traceparent. Pure functions; the head itself is http_head.c's, its target
// http_target.c's.
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "tools/serve/http_private.h"

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
