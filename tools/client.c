// SPDX-License-Identifier: Apache-2.0
#include "tools/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tools/client_tls.h"
#include "tools/net.h"

bool client_place(const char *text, const char *authorities, struct client_place *out)
{
    *out = (struct client_place){.path = "", .authorities = authorities, .tls = strncmp(text, "https://", 8) == 0};
    if (strncmp(text, "unix:", 5) == 0) {
        return snprintf(out->path, sizeof out->path, "%s", text + 5) < (int)sizeof out->path && out->path[0];
    }
    text += out->tls ? 8 : strncmp(text, "http://", 7) == 0 ? 7 : 0;
    size_t length = strcspn(text, "/");
    const char *colon = NULL;
    for (size_t i = 0; i < length; i++) {
        colon = text[i] == ':' && (text[0] != '[' || (i && text[i - 1] == ']')) ? text + i : colon;
    }
    size_t host = colon ? (size_t)(colon - text) : length;
    bool brackets = host > 2 && text[0] == '[' && text[host - 1] == ']';
    snprintf(out->host, sizeof out->host, "%.*s", (int)host - 2 * brackets, text + brackets);
    snprintf(out->port, sizeof out->port, "%.*s", colon ? (int)(length - host - 1) : 4, colon ? colon + 1 : "8080");
    return out->host[0] && strspn(out->port, "0123456789") == strlen(out->port) && out->port[0];
}

int client_connect(const struct client_place *place, char *why, size_t why_bytes)
{
    if (!net_begin()) {
        snprintf(why, why_bytes, "no sockets: %s", net_error());
        return -1;
    }
    return place->path[0] ? net_connect_local(place->path, why, why_bytes)
                          : net_connect(place->host, place->port, why, why_bytes);
}

// A connection, and the reply, read piece by piece.
struct reader {
    int fd;
    struct client_tls *tls; // NULL: none
    char data[16384];
    size_t at, end;
    ssize_t moved; // what the last call that moves bytes has returned
};

static int next_byte(struct reader *r)
{
    if (r->at == r->end) {
        r->moved = r->tls ? client_tls_receive(r->tls, r->data, sizeof r->data) : net_receive(r->fd, r->data, sizeof r->data);
        if (r->moved <= 0) {
            return -1;
        }
        r->at = 0;
        r->end = (size_t)r->moved;
    }
    return (unsigned char)r->data[r->at++];
}

// A line without CR LF; false at the end.
static bool read_head_line(struct reader *r, char *line, size_t room)
{
    size_t n = 0;
    for (int c = next_byte(r); c != '\n'; c = next_byte(r)) {
        if (c < 0 || n + 1 >= room) {
            return false;
        }
        line[n++] = (char)c;
    }
    n -= n > 0 && line[n - 1] == '\r';
    line[n] = 0;
    return true;
}

// Lines of a body that comes in pieces.
struct lines {
    const struct client_request *request;
    char *line; // [CLIENT_LINE]
    size_t length;
    bool stopped;
};

static void add_byte(struct lines *lines, int c)
{
    if (c == '\n' || lines->length + 1 >= CLIENT_LINE) {
        lines->length -= lines->length && lines->line[lines->length - 1] == '\r';
        lines->line[lines->length] = 0;
        if (lines->request->on_line && !lines->stopped) {
            lines->stopped = !lines->request->on_line(lines->request->user, lines->line, lines->length);
        }
        lines->length = 0;
    }
    if (c != '\n') {
        lines->line[lines->length++] = (char)c;
    }
}

static bool read_bytes(struct reader *r, struct lines *lines, unsigned long long count)
{
    for (; count && !lines->stopped; count--) {
        int c = next_byte(r);
        if (c < 0) {
            return false;
        }
        add_byte(lines, c);
    }
    return true;
}

static bool read_chunks(struct reader *r, struct lines *lines)
{
    char head[64];
    while (!lines->stopped && read_head_line(r, head, sizeof head)) {
        char *end;
        unsigned long long count = strtoull(head, &end, 16);
        if (end == head) {
            return false;
        }
        if (count == 0) {
            return true;
        }
        if (!read_bytes(r, lines, count) || (!lines->stopped && !read_head_line(r, head, sizeof head))) {
            return false;
        }
    }
    return lines->stopped;
}

static const char *last_error(const struct reader *r)
{
    return r->tls ? client_tls_error(r->tls) : r->moved == NET_LATER ? "nothing came in time" : net_error();
}

static int read_reply(struct reader *r, struct lines *lines, char *why, size_t why_bytes)
{
    char head[8192];
    int status = 0;
    bool chunked = false, sized = false;
    unsigned long long count = 0;
    if (!read_head_line(r, head, sizeof head) || sscanf(head, "HTTP/1.1 %d", &status) != 1) {
        snprintf(why, why_bytes, "%s", r->moved < 0 ? last_error(r) : "no reply");
        return 0;
    }
    while (read_head_line(r, head, sizeof head) && head[0]) {
        chunked = chunked || strcasecmp(head, "transfer-encoding: chunked") == 0;
        if (strncasecmp(head, "content-length:", 15) == 0) {
            count = strtoull(head + 15, NULL, 10);
            sized = true;
        }
    }
    bool whole = chunked ? read_chunks(r, lines) : read_bytes(r, lines, sized ? count : ~0ull) || !sized;
    if (lines->length && !lines->stopped) {
        add_byte(lines, '\n');
    }
    if (!whole) {
        snprintf(why, why_bytes, "the reply ended too early");
    }
    return whole ? status : 0;
}

static bool send_all(struct reader *r, const char *data, size_t length)
{
    while (length) {
        r->moved = r->tls ? client_tls_send(r->tls, data, length) : net_send(r->fd, data, length);
        if (r->moved <= 0) {
            return false;
        }
        data += r->moved;
        length -= (size_t)r->moved;
    }
    return true;
}

// The request's head, to be freed; NULL without memory.
static char *make_head(const struct client_place *place, const struct client_request *request)
{
    static const char format[] = "%s %s HTTP/1.1\r\nHost: %s%s%s\r\nConnection: close\r\n%s%s%s%sContent-Length: %zu\r\n\r\n";
    size_t room = strlen(request->path) + (request->key ? strlen(request->key) : 0) + 1024;
    char *head = malloc(room);
    if (head) {
        snprintf(head, room, format, request->method, request->path, place->path[0] ? "localhost" : place->host,
                 place->path[0] ? "" : ":", place->port, request->key ? "Authorization: Bearer " : "",
                 request->key ? request->key : "", request->key ? "\r\n" : "",
                 request->body ? "Content-Type: application/json\r\n" : "", request->body ? strlen(request->body) : 0);
    }
    return head;
}

// Send the request and read the reply, over a connection.
static int exchange(struct reader *r, const struct client_place *place, const struct client_request *request, const char *head,
                    char *line, char *why, size_t why_bytes)
{
    if (place->tls && !(r->tls = client_tls_begin(r->fd, place, why, why_bytes))) {
        return 0;
    }
    int status = 0;
    if (!send_all(r, head, strlen(head)) || (request->body && !send_all(r, request->body, strlen(request->body)))) {
        snprintf(why, why_bytes, "%s", last_error(r));
    } else {
        struct lines lines = {.request = request, .line = line};
        status = read_reply(r, &lines, why, why_bytes);
    }
    client_tls_end(&r->tls);
    return status;
}

int client_do(const struct client_place *place, const struct client_request *request, char *why, size_t why_bytes)
{
    int fd = client_connect(place, why, why_bytes), status = 0;
    if (fd < 0) {
        return 0;
    }
    net_time_limit(fd, request->timeout_seconds ? request->timeout_seconds : 300);
    char *line = malloc(CLIENT_LINE), *head = make_head(place, request);
    struct reader *reader = malloc(sizeof *reader);
    if (!line || !head || !reader) {
        snprintf(why, why_bytes, "no memory");
    } else {
        *reader = (struct reader){.fd = fd};
        status = exchange(reader, place, request, head, line, why, why_bytes);
    }
    free(reader);
    free(head);
    free(line);
    net_close(fd);
    return status;
}
