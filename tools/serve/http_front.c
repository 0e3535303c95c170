// SPDX-License-Identifier: Apache-2.0
// Between a client and libmicrohttpd: TLS, heads, the framing of bodies.
//
// Every byte of a client is read here first. A head is judged when it is whole (http_head.c) and passed on rewritten, so that
// libmicrohttpd meets only heads that need no repair; what is refused becomes a request of our own that carries the verdict, so
// that there is one way for replies, log lines and counts. Bytes behind a body are kept until the reply is on its way: requests
// that a client sends early are judged and answered one after the other.
//
// libmicrohttpd gets its end of a socket pair with the first head of a connection, so one that never says anything sound costs
// no more than its entry. Nothing is read from libmicrohttpd that the client's socket does not take: what a slow client leaves
// waits in the kernel's two buffers and in the stream's.
#include <stdio.h>
#include <string.h>

#include "tools/serve/http_private.h"

enum { ROUNDS = 16, LINGER_BYTES = 4 << 20, FIRST_HELD = 1024 };
static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";

// ---- the end of a connection ----

void http_connection_release(struct http_server *server, struct http_connection *c)
{
    c->state = CONNECTION_FREE;
    c->generation++;
    server->busy_connections--;
}

static void let_held_go(struct http_server *server, struct http_connection *c)
{
    server->held -= c->held_room;
    GRAFT_FREE(server->ctx, &c->held);
    c->held_begin = c->held_end = c->held_room = 0;
}

static void close_inner(struct http_server *server, struct http_connection *c)
{
    if (c->inner >= 0) {
        net_watch_remove(server->sockets, c->inner);
        net_close(c->inner);
        c->inner = -1;
        c->inner_events = 0;
    }
}

void http_front_close(struct http_server *server, struct http_connection *c)
{
    close_inner(server, c);
    let_held_go(server, c);
    if (c->tls) {
        gnutls_deinit(c->tls);
        c->tls = NULL;
    }
    net_watch_remove(server->sockets, c->fd);
    net_close(c->fd);
    graft_mutex_lock(server->mutex);
    c->fd = -1;
    c->state = CONNECTION_CUT;
    if (!c->mhd_side) {
        http_connection_release(server, c);
    }
    graft_mutex_unlock(server->mutex);
}

// No more is said; what the client still sends is read for a while, so that closing does not reset the connection before it
// has read the reply.
static void linger(struct http_server *server, struct http_connection *c)
{
    close_inner(server, c);
    if (c->tls && c->handshaken && !c->half_sent) {
        gnutls_bye(c->tls, GNUTLS_SHUT_WR); // one try
    }
    net_end_sending(c->fd);
    let_held_go(server, c);
    c->body_left = LINGER_BYTES;
    c->lingering = true;
    c->blocked = c->input_done = false;
    graft_mutex_lock(server->mutex);
    c->state = CONNECTION_LINGER;
    c->deadline_ns = graft_clock_ns() + HTTP_LINGER_MS * 1000000ull;
    graft_mutex_unlock(server->mutex);
}

static int reply_text(char *out, size_t bytes, int status, const char *id)
{
    static const struct {
        int status;
        const char *reason, *type, *code, *message;
    } replies[] = {
        {400, "Bad Request", "invalid_request_error", "malformed_request", "the chunks of the body are malformed"},
        {408, "Request Timeout", "invalid_request_error", "request_timeout", "the request came too slowly"},
        {413, "Content Too Large", "invalid_request_error", "body_too_large", "the body is longer than this call takes"},
        {503, "Service Unavailable", "server_error", "overloaded", "too many connections or requests at a time"},
        {500, "Internal Server Error", "server_error", "out_of_memory", "out of memory"},
    };
    size_t i = 0;
    while (i + 1 < sizeof replies / sizeof *replies && replies[i].status != status) {
        i++;
    }
    char body[256];
    int length = snprintf(body, sizeof body, "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}",
                          replies[i].message, replies[i].type, replies[i].code);
    return snprintf(out, bytes,
                    "HTTP/1.1 %d %s\r\nconnection: close\r\ncontent-type: application/json\r\ncache-control: no-store\r\n"
                    "x-request-id: %s\r\n%scontent-length: %d\r\n\r\n%s",
                    replies[i].status, replies[i].reason, id, status == 503 ? "retry-after: 1\r\n" : "", length, body);
}

void http_front_say(struct http_server *server, int fd, int status)
{
    char id[HTTP_ID_BYTES], text[768];
    http_make_id(server, id);
    int length = reply_text(text, sizeof text, status, id);
    ssize_t sent = net_send(fd, text, (size_t)length);
    (void)sent;
}

void http_front_cut(struct http_server *server, struct http_connection *c, int status, bool stalled)
{
    char id[HTTP_ID_BYTES], text[768];
    http_make_id(server, id);
    status = c->replied || (c->tls && !c->handshaken) ? 0 : status;
    graft_mutex_lock(server->mutex);
    bool awaited = c->state == CONNECTION_ANSWER || c->state == CONNECTION_SENT;
    c->state = CONNECTION_CUT;
    if (c->exchange && status) {
        graft_mutex_lock(c->exchange->mutex);
        c->exchange->status = status;
        memcpy(id, c->exchange->id, sizeof id);
        graft_mutex_unlock(c->exchange->mutex);
    }
    if (c->exchange && awaited) {
        http_exchange_gone(c->exchange, stalled);
    }
    graft_mutex_unlock(server->mutex);
    if (!status) {
        http_front_close(server, c);
        return;
    }
    http_wire_send(c, text, (size_t)reply_text(text, sizeof text, status, id));
    linger(server, c);
}

// ---- from the client ----

// Bytes to libmicrohttpd; fewer than there are: it has no room now, or wants no more.
static size_t pass(struct http_connection *c, const char *bytes, size_t length)
{
    ssize_t n = net_send(c->inner, bytes, length);
    if (n == NET_BROKEN) { // closed; its reply may still have to be read
        c->input_done = true;
    }
    c->blocked = !c->input_done && (n < 0 || (size_t)n < length);
    return n > 0 ? (size_t)n : 0;
}

static bool open_inner(struct http_server *server, struct http_connection *c)
{
    int pair[2];
    if (!net_pair(pair)) {
        return false;
    }
    net_send_room(pair[1], HTTP_INNER_BUFFER);
    graft_mutex_lock(server->mutex);
    c->mhd_fd = pair[1];
    c->mhd_side = true;
    c->mhd_started = false;
    graft_mutex_unlock(server->mutex);
    const struct sockaddr none = {.sa_family = AF_UNIX};
    c->inner = pair[0];
    c->inner_events = NET_IN;
    bool good = net_watch_add(server->sockets, c->inner, NET_IN,
                              http_event_data(HTTP_EVENT_INNER, c->generation, (uint32_t)(c - server->connections)));
    if (!good) {
        net_close(pair[1]);
    }
    if (!good || MHD_add_connection(server->daemon, pair[1], &none, sizeof none.sa_family) != MHD_YES) { // it has closed it
        graft_mutex_lock(server->mutex);
        c->mhd_side = c->mhd_started;
        graft_mutex_unlock(server->mutex);
        return false;
    }
    return true;
}

// A head to libmicrohttpd: the client's rewritten, or ours with a verdict.
static void pass_head(struct http_server *server, struct http_connection *c, const char *text, size_t length,
                      struct http_verdict verdict)
{
    if (c->inner < 0 && !open_inner(server, c)) {
        http_front_cut(server, c, 503, false);
        return;
    }
    graft_mutex_lock(server->mutex);
    c->state = CONNECTION_BODY;
    c->deadline_ns = graft_clock_ns() + server->config.body_ms * 1000000ull;
    c->verdict = verdict;
    graft_mutex_unlock(server->mutex);
    c->in_request = true;
    c->replied = 0;
    if (pass(c, text, length) < length) { // it has taken all of the request before, so there was room
        http_front_cut(server, c, 503, false);
    }
}

static void refuse(struct http_server *server, struct http_connection *c, struct http_verdict verdict, struct http_text id)
{
    char text[256];
    bool own = id.length > 0 && id.length < HTTP_ID_BYTES;
    int length = snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost:localhost\r\n%s%.*s%sConnection:close\r\n\r\n",
                          own ? "X-Request-Id:" : "", own ? (int)id.length : 0, own ? id.at : "", own ? "\r\n" : "");
    pass_head(server, c, text, (size_t)length, verdict);
    if (c->fd >= 0 && c->in_request) {
        c->finished_body = c->input_done = true;
    }
}

static size_t take_head(struct http_server *server, struct http_connection *c, const char *bytes, size_t length)
{
    static const struct http_text no_id = {"", 0};
    if (c->scanned == 0 && !c->skipped && bytes[0] == '\r' && (length < 2 || bytes[1] == '\n')) {
        c->incomplete = length < 2; // one empty line in front of a request belongs to none (RFC 9112, 2.2)
        c->skipped = length >= 2;
        return length < 2 ? 0 : 2;
    }
    switch (http_head_scan(bytes, length, &c->scanned)) {
    case HTTP_SCAN_MORE:
        c->incomplete = length < HTTP_MAX_HEAD_BYTES;
        if (!c->incomplete) {
            refuse(server, c, HTTP_REFUSED(431, "head_too_large", "request line and header fields are too long"), no_id);
        }
        return c->incomplete ? 0 : length;
    case HTTP_SCAN_BAD:
        refuse(server, c,
               HTTP_REFUSED(400, "malformed_request", "lines must end in CRLF, and a head has no other control characters"),
               no_id);
        return length;
    case HTTP_SCAN_WHOLE:
        break;
    }
    struct http_head *head = &server->head;
    size_t bytes_of_head = c->scanned;
    struct http_verdict verdict = http_head_read(bytes, bytes_of_head, head);
    c->scanned = 0;
    c->skipped = false;
    if (verdict.status) {
        refuse(server, c, verdict, head->id);
        return length;
    }
    c->chunked = head->chunked;
    c->chunks = (struct http_chunks){0};
    c->body_left = head->content_length;
    c->finished_body = !c->chunked && c->body_left == 0;
    char *out = server->scratch + HTTP_MAX_HEAD_BYTES;
    pass_head(server, c, out, http_head_write(head, out), verdict);
    return bytes_of_head;
}

static size_t take_body(struct http_server *server, struct http_connection *c, const char *bytes, size_t length)
{
    bool bad = false;
    struct http_chunks before = c->chunks;
    size_t n = c->chunked              ? http_chunks_take(&c->chunks, bytes, length, &bad)
               : length < c->body_left ? length
                                       : (size_t)c->body_left;
    size_t passed = n ? pass(c, bytes, n) : 0;
    if (c->input_done) {
        return length;
    }
    if (c->chunked && passed < n) {
        c->chunks = before;
        http_chunks_take(&c->chunks, bytes, passed, &bad);
    } else if (bad) {
        graft_mutex_lock(server->mutex);
        server->stats.refused_guard++;
        graft_mutex_unlock(server->mutex);
        http_front_cut(server, c, 400, false);
        return length;
    }
    c->body_left -= c->chunked ? 0 : passed;
    c->finished_body = c->chunked ? c->chunks.done : c->body_left == 0;
    return passed;
}

static bool wants_input(const struct http_connection *c)
{
    return !c->blocked && !c->input_done && !(c->in_request && c->finished_body);
}

// How many of the bytes were used. The rest is of a request to come, or waits for libmicrohttpd, or is no whole head yet.
static size_t consume(struct http_server *server, struct http_connection *c, const char *bytes, size_t length)
{
    size_t used = 0, n = 1;
    c->incomplete = false;
    while (used < length && n > 0 && c->fd >= 0 && !c->lingering && wants_input(c)) {
        n = c->in_request ? take_body(server, c, bytes + used, length - used)
                          : take_head(server, c, bytes + used, length - used);
        used += n;
    }
    return used;
}

// Keep bytes for later; false: no room, and the connection was cut.
static bool hold(struct http_server *server, struct http_connection *c, const char *bytes, size_t length)
{
    size_t have = c->held_end - c->held_begin, need = have + length;
    if (c->held_begin) {
        memmove(c->held, c->held + c->held_begin, have);
        c->held_begin = 0;
        c->held_end = (uint32_t)have;
    }
    if (need > c->held_room) {
        size_t room = c->held_room ? 2 * c->held_room : FIRST_HELD;
        room = room < need ? need : room > HTTP_MAX_HEAD_BYTES ? HTTP_MAX_HEAD_BYTES : room;
        enum graft_status status = server->held + room - c->held_room > HTTP_MAX_HELD ? GRAFT_E_BUDGET
                                   : c->held ? GRAFT_GROW(server->ctx, GRAFT_MEM_HOST, &c->held, room, "a request's head")
                                             : GRAFT_NEW(server->ctx, GRAFT_MEM_HOST, &c->held, room, "a request's head");
        if (status != GRAFT_OK) {
            http_front_cut(server, c, 503, false);
            return false;
        }
        server->held += room - c->held_room;
        c->held_room = (uint32_t)room;
    }
    memcpy(c->held + have, bytes, length);
    c->held_end = (uint32_t)need;
    return true;
}

// The first byte of a request behind another one: from now on it has as long as a first one.
static void begins(struct http_server *server, struct http_connection *c)
{
    graft_mutex_lock(server->mutex);
    if (c->again && c->state == CONNECTION_HEAD) {
        c->again = false;
        c->deadline_ns = graft_clock_ns() + server->config.head_ms * 1000000ull;
    }
    graft_mutex_unlock(server->mutex);
}

static bool drain(struct http_server *server, struct http_connection *c)
{
    ssize_t n = http_wire_recv(c, server->scratch, HTTP_SCRATCH);
    c->body_left -= n > 0 && (uint64_t)n < c->body_left ? (uint64_t)n : n > 0 ? c->body_left : 0;
    if (n < 0 || c->body_left == 0) {
        http_front_close(server, c);
    }
    return n > 0;
}

// True: something was moved.
static bool pump_in(struct http_server *server, struct http_connection *c)
{
    if (c->lingering) {
        return drain(server, c);
    }
    size_t have = c->held_end - c->held_begin;
    if (!wants_input(c)) {
        return false;
    }
    if (!c->in_request && have) {
        begins(server, c);
    }
    if (have && !c->incomplete) {
        size_t used = consume(server, c, c->held + c->held_begin, have);
        if (c->fd >= 0 && c->held) {
            c->held_begin += (uint32_t)used;
            if (c->held_begin == c->held_end) {
                let_held_go(server, c);
            }
        }
        return used > 0 || c->incomplete;
    }
    size_t room = HTTP_MAX_HEAD_BYTES - have;
    room = c->in_request && !c->chunked && c->body_left < room ? (size_t)c->body_left : room;
    ssize_t n = http_wire_recv(c, server->scratch, room);
    if (n < 0) { // between two requests, or in the middle of one: nobody waits for a reply any more
        http_front_cut(server, c, 0, false);
    }
    if (n <= 0) {
        return false;
    }
    if (!c->in_request) {
        begins(server, c);
    }
    if (have) {
        c->incomplete = false;
        return hold(server, c, server->scratch, (size_t)n);
    }
    size_t used = consume(server, c, server->scratch, (size_t)n);
    return c->fd < 0 || c->lingering || used == (size_t)n || hold(server, c, server->scratch + used, (size_t)n - used);
}

// ---- from libmicrohttpd ----

// The reply was sent whole, and the connection goes on.
static void next_request(struct http_server *server, struct http_connection *c)
{
    if (!c->finished_body) { // a reply in front of the end of its request
        linger(server, c);
        return;
    }
    c->in_request = false;
    c->replied = 0;
    graft_mutex_lock(server->mutex);
    c->state = CONNECTION_HEAD;
    c->again = true;
    c->deadline_ns = graft_clock_ns() + server->config.idle_ms * 1000000ull;
    graft_mutex_unlock(server->mutex);
}

// libmicrohttpd has closed its side.
static void reply_ended(struct http_server *server, struct http_connection *c)
{
    graft_mutex_lock(server->mutex);
    int status = c->cut_status;
    c->mhd_side = c->mhd_side && c->mhd_started;
    graft_mutex_unlock(server->mutex);
    if (c->in_request && !c->replied) {
        http_front_cut(server, c, status ? status : 500, false);
    } else {
        linger(server, c);
    }
}

static bool pump_out(struct http_server *server, struct http_connection *c)
{
    if (atomic_load(&c->broken) && !c->lingering) {
        http_front_cut(server, c, 0, false);
        return false;
    }
    if (c->half_sent) {
        if (http_wire_send(c, NULL, 0) < 0) {
            http_front_cut(server, c, 0, false);
            return false;
        }
        c->full = c->half_sent;
    }
    if (c->inner < 0 || c->full) {
        return false;
    }
    graft_mutex_lock(server->mutex);
    bool whole = c->state == CONNECTION_SENT;
    graft_mutex_unlock(server->mutex);
    ssize_t n = net_peek(c->inner, server->scratch, HTTP_MAX_HEAD_BYTES);
    if (n == NET_LATER) {
        if (whole) {
            next_request(server, c);
        }
        return whole;
    }
    if (n <= 0) {
        reply_ended(server, c);
        return c->fd >= 0;
    }
    size_t interim = sizeof go_on - 1;
    bool is_interim = !c->replied && (size_t)n >= interim && memcmp(server->scratch, go_on, interim) == 0;
    n = is_interim ? (ssize_t)interim : n;
    ssize_t sent = http_wire_send(c, server->scratch, (size_t)n);
    if (sent < 0) {
        http_front_cut(server, c, 0, false);
        return false;
    }
    c->full = sent < n || c->half_sent;
    c->replied += is_interim ? 0 : (uint64_t)sent;
    if (sent > 0 && net_receive(c->inner, server->scratch, (size_t)sent) != sent) {
        http_front_cut(server, c, 0, false);
        return false;
    }
    return sent > 0;
}

// ---- events ----

static void set_events(struct http_server *server, struct http_connection *c, int fd, uint64_t kind, uint32_t *now,
                       uint32_t wanted)
{
    uint64_t data = http_event_data(kind, c->generation, (uint32_t)(c - server->connections));
    if (fd >= 0 && *now != wanted && net_watch_change(server->sockets, fd, wanted, data)) {
        *now = wanted;
    }
}

static void set_interest(struct http_server *server, struct http_connection *c)
{
    bool shaking = c->tls && !c->handshaken;
    uint32_t client = c->left ? 0 : NET_LEFT;
    client |= shaking ? gnutls_record_get_direction(c->tls) ? NET_OUT : NET_IN : c->full ? NET_OUT : 0;
    client |= !shaking && (c->lingering || wants_input(c)) ? NET_IN : 0;
    set_events(server, c, c->fd, HTTP_EVENT_CLIENT, &c->client_events, client);
    set_events(server, c, c->inner, HTTP_EVENT_INNER, &c->inner_events, (c->full ? 0 : NET_IN) | (c->blocked ? NET_OUT : 0));
}

// False: not yet, or it failed and the connection was closed.
static bool shake_hands(struct http_server *server, struct http_connection *c)
{
    if (!c->tls || c->handshaken) {
        return true;
    }
    int code = gnutls_handshake(c->tls);
    c->handshaken = code == 0;
    if (code != 0 && gnutls_error_is_fatal(code)) {
        http_front_close(server, c);
    } else if (code != 0) {
        set_interest(server, c);
    }
    return code == 0;
}

static void work(struct http_server *server, struct http_connection *c)
{
    c->full = c->blocked = false;
    if (!shake_hands(server, c)) {
        return;
    }
    bool moved = true;
    for (int i = 0; i < ROUNDS && moved; i++) {
        moved = pump_out(server, c);
        moved |= c->fd >= 0 && pump_in(server, c);
        if (c->fd < 0) {
            return;
        }
    }
    set_interest(server, c);
    if (moved) { // there is more, but others have their turn first
        graft_mutex_lock(server->mutex);
        http_watch_turn(server, c);
        graft_mutex_unlock(server->mutex);
    }
}

bool http_front_begin(struct http_server *server, struct http_connection *c)
{
    uint64_t data = http_event_data(HTTP_EVENT_CLIENT, c->generation, (uint32_t)(c - server->connections));
    c->client_events = NET_IN | NET_LEFT;
    c->tls = c->listener->tls ? http_tls_session(server, c->fd) : NULL;
    if ((c->listener->tls && !c->tls) || !net_watch_add(server->sockets, c->fd, c->client_events, data)) {
        http_front_close(server, c);
        return false;
    }
    return true;
}

void http_front_event(struct http_server *server, struct http_connection *c, bool inner, uint32_t events)
{
    if (c->fd < 0) {
        return;
    }
    if (!inner && events & NET_GONE) {
        http_front_cut(server, c, 0, false);
        return;
    }
    if (!inner && events & NET_LEFT) {
        graft_mutex_lock(server->mutex);
        c->left = true; // libmicrohttpd's side asks for it when an answer begins
        if (c->state == CONNECTION_ANSWER && c->exchange) {
            http_exchange_gone(c->exchange, false);
        }
        graft_mutex_unlock(server->mutex);
    }
    work(server, c);
}
