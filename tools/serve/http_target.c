// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/http_target.h"

#include <string.h>

int http_hex_digit(char c)
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
    bool whole = *at + 2 < length;
    int high = whole ? http_hex_digit(text[*at + 1]) : -1, low = whole ? http_hex_digit(text[*at + 2]) : -1;
    *at += 3;
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

bool http_target_plain(const char *target, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (target[i] <= ' ' || target[i] > '~' || target[i] == '#') {
            return false;
        }
    }
    return true;
}

struct http_verdict http_target_split(const char *target, size_t length, char path[HTTP_MAX_PATH], const char **query)
{
    *query = NULL;
    path[0] = '\0';
    if (length == 0 || target[0] != '/') {
        return HTTP_REFUSED(400, "malformed_request", "the request target must begin with a slash");
    }
    if (!http_target_plain(target, length)) {
        return HTTP_REFUSED(400, "malformed_request", "the request target has a character that must be escaped");
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
