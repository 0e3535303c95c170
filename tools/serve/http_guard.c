// SPDX-License-Identifier: Apache-2.0
// The guard in front of the handlers: a request is taken only if every HTTP parser on its way must read it alike.
//
// libmicrohttpd 0.9 takes lines that end in a bare LF, joins folded lines and stops at NUL, all before it calls anybody, and
// with TLS nobody else sees the bytes. But it parses in place: names and values that it hands out are pointers into the buffer
// the head was received in, cut out by zeros. In a sound head they stand exactly as far apart as ": " and CRLF put them;
// whatever was repaired stands elsewhere. http_guard measures that (struct http_layout). Only NUL beside a bare LF, where the
// two take the place of CRLF, looks like it: proxies refuse NUL, so nothing can be smuggled past one that way. It depends on
// how the library works inside, so every start tries it on live connections (http_guard_self_test), and a library that works
// otherwise is refused.
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tools/serve/http_private.h"

#define REFUSED(status, code, message) ((struct http_verdict){status, code, message})

static bool is_token(const char *text, size_t length)
{
    static const char good[] = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    return length > 0 && strspn(text, good) == length;
}

static bool is_value(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < ' ' && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

// The parts of the head stand where a sound head has them.
static bool layout_sound(const struct http_layout *layout, const struct http_field *fields, uint32_t n_fields)
{
    const char *at = layout->method + strlen(layout->method) + 1;
    if (layout->target != at || layout->version != at + layout->target_length + 1) {
        return false;
    }
    at = layout->version + strlen(layout->version) + 2;
    for (uint32_t i = 0; i < n_fields; i++) {
        const char *colon = fields[i].name + fields[i].name_length;
        if (fields[i].name != at || fields[i].value <= colon) {
            return false;
        }
        size_t blanks = (size_t)(fields[i].value - colon) - 1;
        if (blanks > HTTP_MAX_HEAD_BYTES || strspn(colon + 1, " \t") < blanks) {
            return false;
        }
        at = fields[i].value + fields[i].value_length + 2;
    }
    return at + 2 == layout->method + layout->head_bytes;
}

// A host as it may stand in Host: a name or number, perhaps a port.
static bool is_host(const char *text, size_t length)
{
    static const char good[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.-_:[]";
    return length > 0 && length < 256 && strspn(text, good) == length;
}

// Fields of which a second one would be read differently by somebody else.
enum { ONE_LENGTH, ONE_ENCODING, ONE_HOST, ONE_AUTHORIZATION, ONE_TYPE, ONE_CODING, ONE_ORIGIN, ONE_EXPECT, ONES };
static const char *const single[ONES] = {"content-length", "transfer-encoding", "host",   "authorization",
                                         "content-type",   "content-encoding",  "origin", "expect"};

struct http_verdict http_guard(const struct http_field *fields, uint32_t n_fields, const struct http_layout *layout,
                               const char *method, const char *version)
{
    bool recent = strcmp(version, "HTTP/1.1") == 0;
    if (!recent && strcmp(version, "HTTP/1.0") != 0) {
        return REFUSED(505, "unsupported_http_version", "HTTP/1.1 is spoken here");
    }
    if (n_fields > HTTP_MAX_HEADERS) {
        return REFUSED(431, "too_many_headers", "the request has too many header fields");
    }
    if (!is_token(method, strlen(method))) {
        return REFUSED(400, "malformed_request", "the method is no token");
    }
    const struct http_field *found[ONES] = {NULL};
    for (uint32_t i = 0; i < n_fields; i++) {
        const struct http_field *field = &fields[i];
        if (!is_token(field->name, field->name_length)) {
            return REFUSED(400, "malformed_request", "a header field's name is no token");
        }
        if (!is_value(field->value, field->value_length)) {
            return REFUSED(400, "malformed_request", "a header field's value has a control character");
        }
        for (int k = 0; k < ONES; k++) {
            if (strcasecmp(field->name, single[k]) == 0) {
                if (found[k]) {
                    return REFUSED(400, "malformed_request", "a header field that may come once came twice");
                }
                found[k] = field;
            }
        }
    }
    if (layout && !layout_sound(layout, fields, n_fields)) {
        return REFUSED(400, "malformed_request", "lines must end in CRLF, and a field must stand on one line without NUL");
    }
    const struct http_field *length = found[ONE_LENGTH], *encoding = found[ONE_ENCODING], *host = found[ONE_HOST];
    if (length && encoding) {
        return REFUSED(400, "malformed_request", "Content-Length and Transfer-Encoding exclude each other");
    }
    if (length && (length->value_length == 0 || length->value_length > 18 ||
                   strspn(length->value, "0123456789") != length->value_length)) {
        return REFUSED(400, "malformed_request", "Content-Length is no number of bytes");
    }
    if (encoding && (!recent || strcasecmp(encoding->value, "chunked") != 0)) {
        return REFUSED(400, "malformed_request", "of transfer encodings only chunked is known");
    }
    if ((recent && !host) || (host && !is_host(host->value, host->value_length))) {
        return REFUSED(400, "malformed_request", "Host is missing or malformed");
    }
    if (found[ONE_EXPECT] && strcasecmp(found[ONE_EXPECT]->value, "100-continue") != 0) {
        return REFUSED(417, "unsupported_expectation", "of expectations only 100-continue is known");
    }
    return (struct http_verdict){0, NULL, NULL};
}

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
        return REFUSED(400, "malformed_request", "the request target must begin with a slash");
    }
    for (size_t i = 0; i < length; i++) {
        if (target[i] <= ' ' || target[i] > '~' || target[i] == '#') {
            return REFUSED(400, "malformed_request", "the request target has a character that must be escaped");
        }
    }
    const char *mark = memchr(target, '?', length);
    size_t end = mark ? (size_t)(mark - target) : length, used = 0;
    for (size_t at = 0; at < end;) {
        bool escaped = target[at] == '%';
        int c = decode(target, end, &at);
        if (c < ' ' || c == 0x7f || (escaped && c == '/')) {
            path[0] = '\0';
            return REFUSED(400, "malformed_request", "the request target has an escape that is malformed or not allowed");
        }
        if (used == HTTP_MAX_PATH - 1) {
            path[0] = '\0';
            return REFUSED(414, "target_too_long", "the path is too long");
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

uint64_t http_received(int fd)
{
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 ? info.tcpi_bytes_received : 0;
}

// Send a head over a connection of its own; the reply's status, or 0.
static int try_head(struct http_server *server, const char *head, size_t length)
{
    static const struct http_listener listener = {.fd = -1, .kind = LISTENER_UNIX, .loopback = true, .text = "unix:self-test"};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        return 0;
    }
    graft_mutex_lock(server->mutex);
    for (uint32_t i = 0; i < server->n_connections; i++) {
        struct http_connection *connection = &server->connections[i];
        if (connection->state == CONNECTION_FREE) {
            *connection = (struct http_connection){
                .state = CONNECTION_ADDED, .fd = pair[1], .generation = connection->generation, .listener = &listener};
            connection->address.ss_family = AF_UNIX;
            server->busy_connections++;
            break;
        }
    }
    graft_mutex_unlock(server->mutex);
    struct sockaddr address = {.sa_family = AF_UNIX};
    int status = 0;
    char reply[512];
    size_t used = 0;
    if (MHD_add_connection(server->plain, pair[1], &address, sizeof address.sa_family) == MHD_YES &&
        send(pair[0], head, length, MSG_NOSIGNAL) == (ssize_t)length) {
        struct pollfd wait = {.fd = pair[0], .events = POLLIN};
        while (used < 12 && poll(&wait, 1, 5000) == 1) {
            ssize_t n = recv(pair[0], reply + used, sizeof reply - 1 - used, 0);
            if (n <= 0 && errno != EAGAIN) {
                break;
            }
            used += n > 0 ? (size_t)n : 0;
        }
        reply[used] = '\0';
        status = used >= 12 && strncmp(reply, "HTTP/1.1 ", 9) == 0
                     ? (reply[9] - '0') * 100 + (reply[10] - '0') * 10 + reply[11] - '0'
                     : 0;
    }
    close(pair[0]);
    return status;
}

enum graft_status http_guard_self_test(struct http_server *server)
{
#define HEAD(fields) "GET /.self-test HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" fields
    static const struct {
        const char *what, *head;
        size_t length;
        int status;
    } cases[] = {
#define CASE(what, text, status) {what, text, sizeof text - 1, status}
        CASE("a sound head", HEAD("A: b\r\nEmpty:\r\nCookie: a=b; c=d\r\nSpaces:   c  \r\n\r\n"), 404),
        CASE("a head without fields", "GET /.self-test?a=%20&b HTTP/1.0\r\n\r\n", 404),
        CASE("a bare LF behind a field", HEAD("A: b\nC: d\r\n\r\n"), 400),
        CASE("a bare LF behind the last field", HEAD("A: b\n\r\n"), 400),
        CASE("a bare LF as the end", HEAD("A: b\r\n\n"), 400),
        CASE("a bare LF behind the request line", "GET /.self-test HTTP/1.1\nHost: localhost\r\n\r\n", 400),
        CASE("a folded field", HEAD("A: b\r\n c\r\n\r\n"), 400),
        CASE("a folded field in between", HEAD("A: b\r\n\tc\r\nD: e\r\n\r\n"), 400),
        CASE("NUL in a value", HEAD("A: b\0c\r\n\r\n"), 400),
        CASE("NUL in the target", "GET /.self-test\0x HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        CASE("a second blank in the request line", "GET  /.self-test HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
#undef CASE
    };
#undef HEAD
    atomic_store(&server->testing, true);
    enum graft_status status = GRAFT_OK;
    for (size_t i = 0; i < sizeof cases / sizeof *cases && status == GRAFT_OK; i++) {
        int found = try_head(server, cases[i].head, cases[i].length);
        if (found != cases[i].status) {
            status = graft_fail(GRAFT_E_INTERNAL,
                                "this libmicrohttpd (%s) answers %s with %d instead of %d: it is not safe to serve "
                                "with it",
                                MHD_get_version(), cases[i].what, found, cases[i].status);
        }
    }
    for (int i = 0; i < 1000 && http_busy(server) > 0; i++) { // the last one's end
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    atomic_store(&server->testing, false);
    graft_mutex_lock(server->mutex);
    server->stats = (struct http_stats){0};
    graft_mutex_unlock(server->mutex);
    return status;
}
