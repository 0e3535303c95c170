// SPDX-License-Identifier: Apache-2.0
// The target of a request: path and query. Pure functions.
#ifndef GRAFT_TOOLS_SERVE_HTTP_TARGET_H
#define GRAFT_TOOLS_SERVE_HTTP_TARGET_H

#include "tools/serve/http_head.h"

// The value of a hexadecimal digit of either case; -1: it is none.
int http_hex_digit(char c);
// True if every character may stand in a target as it is: visible ASCII but '#'.
bool http_target_plain(const char *target, size_t length);
// Split a request target (NUL behind it) into decoded path and raw query (NULL if none; it points into target). The path begins
// with a slash and holds no control character, no slash that was escaped and no NUL but its last byte. Verdicts: 400, 414; path
// is empty then.
struct http_verdict http_target_split(const char *target, size_t length, char path[HTTP_MAX_PATH], const char **query);
// A value from a raw query (NULL: there is none), decoded, with its NUL; false if absent, malformed or longer than bytes - 1.
bool http_query_value(const char *query, const char *name, char *out, size_t bytes);

#endif
