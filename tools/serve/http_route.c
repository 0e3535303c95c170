// SPDX-License-Identifier: Apache-2.0
// The route table: exact paths with at most one {name}. What is not in the table does not exist.
#include <stdio.h>
#include <string.h>

#include "tools/serve/http_private.h"

static const char placeholder[] = "{name}";

// True if the pattern matches the whole path; name gets the segment.
static bool matches(const char *pattern, const char *path, char name[HTTP_MAX_NAME])
{
    const char *hole = strstr(pattern, placeholder);
    name[0] = '\0';
    if (!hole) {
        return strcmp(pattern, path) == 0;
    }
    size_t before = (size_t)(hole - pattern);
    if (strncmp(pattern, path, before) != 0) {
        return false;
    }
    const char *from = path + before;
    size_t length = strcspn(from, "/");
    if (length == 0 || length >= HTTP_MAX_NAME || strcmp(hole + sizeof placeholder - 1, from + length) != 0 ||
        (length == 1 && from[0] == '.') || (length == 2 && from[0] == '.' && from[1] == '.')) {
        return false;
    }
    memcpy(name, from, length);
    name[length] = '\0';
    return true;
}

struct http_match http_route_find(const struct http_route *routes, uint32_t n_routes, bool operator_routes,
                                  enum http_method method, const char *path, char name[HTTP_MAX_NAME])
{
    static const char *const names[HTTP_METHODS] = {"GET, HEAD", "POST", "PUT", "PATCH", "DELETE"};
    struct http_match match = {.route = NULL};
    char other[HTTP_MAX_NAME];
    const struct http_route *best = NULL;
    name[0] = '\0';
    for (uint32_t i = 0; i < n_routes; i++) {
        const struct http_route *route = &routes[i];
        bool visible =
            route->role == HTTP_OPEN || route->role == HTTP_USER || (route->role == HTTP_OPERATOR && operator_routes);
        if (!visible || !matches(route->pattern, path, other)) {
            continue;
        }
        // A path that is spelled out comes before one that a {name} matches: /v1/chat/completions before
        // /v1/{name}/completions.
        if (route->method == method && (!best || !strchr(route->pattern, '{'))) {
            best = route;
            memcpy(name, other, HTTP_MAX_NAME);
        } else if (route->method != method && !strstr(match.allow, names[route->method])) {
            size_t used = strlen(match.allow);
            snprintf(match.allow + used, sizeof match.allow - used, "%s%s", used ? ", " : "", names[route->method]);
        }
    }
    match.route = best;
    match.other_method = !best && match.allow[0];
    return match;
}

enum graft_status http_routes_check(const struct http_route *routes, uint32_t n_routes)
{
    if (n_routes > HTTP_MAX_ROUTES) {
        return graft_fail(GRAFT_E_LIMIT, "%u routes, at most %d are allowed", n_routes, HTTP_MAX_ROUTES);
    }
    for (uint32_t i = 0; i < n_routes; i++) {
        const struct http_route *route = &routes[i];
        const char *brace = route->pattern ? strpbrk(route->pattern, "{}") : NULL;
        bool good = route->pattern && route->pattern[0] == '/' && strlen(route->pattern) < HTTP_MAX_PATH && route->handler &&
                    route->method < HTTP_METHODS && route->role > HTTP_NOBODY && route->role <= HTTP_OPERATOR;
        if (good && brace) {
            const char *behind = brace + sizeof placeholder - 1;
            good = strncmp(brace, placeholder, sizeof placeholder - 1) == 0 && brace[-1] == '/' &&
                   (*behind == '\0' || *behind == '/') && !strpbrk(behind, "{}");
        }
        for (uint32_t k = 0; good && k < i; k++) {
            good = routes[k].method != route->method || strcmp(routes[k].pattern, route->pattern) != 0;
        }
        if (!good) {
            return graft_fail(GRAFT_E_ARGUMENT,
                              "route %u (%s) is unsound: pattern, method, role or handler, or it is there twice", i,
                              route->pattern ? route->pattern : "no pattern");
        }
    }
    return GRAFT_OK;
}
