// SPDX-License-Identifier: Apache-2.0
// The watch thread: accepts within the limits, ends what is too slow, notices clients that leave.
//
// Deadlines are absolute, so that a byte now and then keeps nothing open. A client that does not read shows in the kernel's
// send queue: bytes wait there and their number does not change.
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tools/serve/http_private.h"

enum { EVENTS = 64, ACCEPTS = 64, WAKE = 1, LISTENER = 2, CLIENT = 3 };

static uint64_t event_data(uint64_t kind, uint32_t generation, uint32_t index)
{
    return kind << 60 | (uint64_t)(generation & 0xfffffffu) << 32 | index;
}

void http_watch_wake(struct http_server *server)
{
    uint64_t one = 1;
    ssize_t written = write(server->wake_fd, &one, sizeof one); // full: it is awake already
    (void)written;
}

void http_watch_connection(struct http_server *server, struct http_connection *connection)
{
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLONESHOT,
                                .data.u64 =
                                    event_data(CLIENT, connection->generation, (uint32_t)(connection - server->connections))};
    // On failure the client's leaving shows with the next byte that is sent, or at a deadline.
    connection->watched =
        epoll_ctl(server->epoll_fd, connection->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, connection->fd, &event) == 0;
}

void http_unwatch_connection(struct http_server *server, struct http_connection *connection)
{
    if (connection->watched) {
        epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, connection->fd, NULL);
        connection->watched = false;
    }
}

// A reply past libmicrohttpd, for connections on which it cannot send one. Under TLS nothing can be said past the session: the
// connection just ends.
static void say(int fd, bool tls, int status, const char *id)
{
    static const struct {
        int status;
        const char *reason, *type, *code, *message;
    } replies[] = {
        {408, "Request Timeout", "invalid_request_error", "request_timeout", "the request came too slowly"},
        {413, "Content Too Large", "invalid_request_error", "body_too_large", "the body is longer than this call takes"},
        {503, "Service Unavailable", "server_error", "overloaded", "too many connections or requests at a time"},
    };
    for (size_t i = 0; !tls && i < sizeof replies / sizeof *replies; i++) {
        if (replies[i].status != status) {
            continue;
        }
        char body[256], text[768];
        int length =
            snprintf(body, sizeof body, "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}",
                     replies[i].message, replies[i].type, replies[i].code);
        int bytes =
            snprintf(text, sizeof text,
                     "HTTP/1.1 %d %s\r\nconnection: close\r\ncontent-type: application/json\r\ncache-control: no-store\r\n"
                     "x-request-id: %s\r\n%scontent-length: %d\r\n\r\n%s",
                     status, replies[i].reason, id, status == 503 ? "retry-after: 1\r\n" : "", length, body);
        ssize_t sent = send(fd, text, (size_t)bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)sent;
    }
}

void http_cut(struct http_server *server, struct http_connection *connection, int status)
{
    if (connection->state == CONNECTION_CUT || connection->state == CONNECTION_FREE) {
        return;
    }
    connection->state = CONNECTION_CUT;
    char id[HTTP_ID_BYTES];
    http_make_id(server, id);
    if (connection->exchange && status) {
        graft_mutex_lock(connection->exchange->mutex);
        connection->exchange->status = status;
        memcpy(id, connection->exchange->id, sizeof id);
        graft_mutex_unlock(connection->exchange->mutex);
    }
    say(connection->fd, connection->listener->tls, status, id);
    shutdown(connection->fd, SHUT_RDWR); // libmicrohttpd sees the end and closes
}

// IPv4 addresses whole, IPv6 by /64, which is what one customer has.
static bool same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    if (a->ss_family != b->ss_family) {
        return false;
    }
    if (a->ss_family == AF_INET) {
        return ((const struct sockaddr_in *)a)->sin_addr.s_addr == ((const struct sockaddr_in *)b)->sin_addr.s_addr;
    }
    return a->ss_family == AF_INET6 &&
           memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr, &((const struct sockaddr_in6 *)b)->sin6_addr, 8) == 0;
}

// A place for a new connection, or NULL: too many in all, or of this address. With the mutex held.
static struct http_connection *place_for(struct http_server *server, const struct http_listener *listener,
                                         const struct sockaddr_storage *address)
{
    struct http_connection *found = NULL;
    uint32_t same = 0, limit = server->config.max_per_address ? server->config.max_per_address : listener->loopback ? 1100 : 64;
    if (server->busy_connections >= server->config.max_connections && !listener->operator_side) {
        return NULL; // the last places are the operator's
    }
    for (uint32_t i = 0; i < server->n_connections; i++) {
        struct http_connection *connection = &server->connections[i];
        if (connection->state == CONNECTION_FREE) {
            found = found ? found : connection;
        } else if (!listener->operator_side && listener->kind == LISTENER_TCP) {
            same += same_address(&connection->address, address);
        }
    }
    return same >= limit ? NULL : found;
}

// False: no more now.
static bool accept_one(struct http_server *server, const struct http_listener *listener, bool *exhausted)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    int fd = accept4(listener->fd, (struct sockaddr *)&address, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        *exhausted = errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS;
        return errno == ECONNABORTED || errno == EINTR;
    }
    int on = 1, room = HTTP_SEND_BUFFER / 2; // the kernel doubles it
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (listener->kind == LISTENER_TCP) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    } else {
        address.ss_family = AF_UNIX;
        length = sizeof(sa_family_t);
    }
    graft_mutex_lock(server->mutex);
    struct http_connection *connection = place_for(server, listener, &address);
    if (connection) {
        uint32_t generation = connection->generation;
        *connection = (struct http_connection){.state = CONNECTION_ADDED,
                                               .fd = fd,
                                               .generation = generation,
                                               .listener = listener,
                                               .address = address,
                                               .deadline_ns = graft_clock_ns() + server->config.head_ms * 1000000ull};
        server->busy_connections++;
    } else {
        server->stats.refused_connections++;
    }
    graft_mutex_unlock(server->mutex);
    if (!connection) {
        char id[HTTP_ID_BYTES];
        http_make_id(server, id);
        say(fd, listener->tls, 503, id);
        shutdown(fd, SHUT_WR);
        char sink[4096]; // what has come is taken, so that closing does not reset the connection before the reply is read
        for (int i = 0; i < 4 && recv(fd, sink, sizeof sink, MSG_DONTWAIT) > 0; i++) {
        }
        close(fd);
        return true;
    }
    struct MHD_Daemon *daemon = listener->tls ? server->tls : server->plain;
    if (MHD_add_connection(daemon, fd, (const struct sockaddr *)&address, length) != MHD_YES) { // it has closed fd
        graft_mutex_lock(server->mutex);
        if (connection->state == CONNECTION_ADDED && connection->fd == fd) {
            connection->state = CONNECTION_FREE;
            connection->generation++;
            server->busy_connections--;
        }
        graft_mutex_unlock(server->mutex);
    }
    return true;
}

// The client took bytes since the last look, or none wait for it.
static bool client_reads(struct http_connection *connection)
{
    int unsent = 0;
    if (ioctl(connection->fd, SIOCOUTQ, &unsent) != 0) {
        return true;
    }
    bool moved = unsent == 0 || unsent != connection->unsent;
    connection->unsent = unsent;
    return moved;
}

// With the mutex held.
static void look_at(struct http_server *server, struct http_connection *connection, uint64_t now)
{
    switch (connection->state) {
    case CONNECTION_ADDED:
        if (now > connection->deadline_ns) { // libmicrohttpd dropped it before it began: the socket is not ours to touch
            connection->state = CONNECTION_FREE;
            connection->generation++;
            server->busy_connections--;
        }
        break;
    case CONNECTION_HEAD:
        if (now > connection->deadline_ns) {
            bool quiet = connection->again || connection->left;
            server->stats.cut_head += !quiet;
            http_cut(server, connection, quiet ? 0 : 408);
        }
        break;
    case CONNECTION_BODY:
        if (now > connection->deadline_ns) {
            server->stats.cut_body += !connection->left;
            http_cut(server, connection, connection->left ? 0 : 408);
        }
        break;
    case CONNECTION_ANSWER:
        if (client_reads(connection)) {
            connection->progress_ns = now;
        }
        bool stalled = now - connection->progress_ns > server->config.stall_ms * 1000000ull;
        bool full = connection->exchange && connection->exchange->ring_index != HTTP_NONE && http_gone(connection->exchange);
        if (stalled || full) {
            server->stats.cut_stall += stalled;
            if (connection->exchange) {
                http_exchange_gone(connection->exchange, true);
            }
            http_cut(server, connection, 0);
        }
        break;
    case CONNECTION_CUT:
    case CONNECTION_FREE:
        break;
    }
}

// Tell every owner that nobody waits any more.
static void end_all(struct http_server *server, bool cut)
{
    graft_mutex_lock(server->mutex);
    for (uint32_t i = 0; i < server->n_connections; i++) {
        struct http_connection *connection = &server->connections[i];
        if (connection->state == CONNECTION_ANSWER && connection->exchange) {
            http_exchange_gone(connection->exchange, false);
        }
        if (cut && connection->state != CONNECTION_ADDED) {
            http_cut(server, connection, 0);
        }
    }
    graft_mutex_unlock(server->mutex);
}

// The client has closed its side. Whoever waits for a reply is told; a request that is not complete has a moment left, since
// its last bytes may not have been read. (libmicrohttpd does not notice a close that comes together with them.)
static void client_event(struct http_server *server, uint64_t data)
{
    graft_mutex_lock(server->mutex);
    uint32_t index = (uint32_t)data;
    struct http_connection *connection = &server->connections[index];
    if (data == event_data(CLIENT, connection->generation, index)) {
        uint64_t soon = graft_clock_ns() + HTTP_LEFT_MS * 1000000ull;
        connection->left = true;
        if (connection->state == CONNECTION_ANSWER && connection->exchange) {
            http_exchange_gone(connection->exchange, false);
        } else if (connection->state == CONNECTION_HEAD || connection->state == CONNECTION_BODY) {
            connection->deadline_ns = connection->deadline_ns < soon ? connection->deadline_ns : soon;
        }
    }
    graft_mutex_unlock(server->mutex);
}

static void listen_on(struct http_server *server, bool on)
{
    for (uint32_t i = 0; i < server->n_listeners; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = event_data(LISTENER, 0, i)};
        epoll_ctl(server->epoll_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, server->listeners[i].fd, &event);
    }
}

void http_watch_run(void *user)
{
    struct http_server *server = user;
    bool listening = true, told = false;
    uint64_t ticked = 0;
    listen_on(server, true);
    while (!atomic_load(&server->stopping)) {
        struct epoll_event events[EVENTS];
        graft_mutex_lock(server->mutex);
        bool busy = server->busy_connections > 0;
        graft_mutex_unlock(server->mutex);
        int n = epoll_wait(server->epoll_fd, events, EVENTS,
                           busy || !listening || atomic_load(&server->draining) ? HTTP_TICK_MS : -1);
        bool exhausted = false;
        for (int i = 0; i < n; i++) {
            uint64_t data = events[i].data.u64, sink;
            if (data >> 60 == WAKE) {
                ssize_t taken = read(server->wake_fd, &sink, sizeof sink);
                (void)taken;
            } else if (data >> 60 == LISTENER) {
                for (int k = 0; k < ACCEPTS && accept_one(server, &server->listeners[(uint32_t)data], &exhausted); k++) {
                }
            } else {
                client_event(server, data);
            }
        }
        uint64_t now = graft_clock_ns();
        if (exhausted && listening) { // no file descriptors: a pause, then again
            listen_on(server, false);
            listening = false;
        }
        if (now - ticked >= HTTP_TICK_MS * 900000ull) {
            ticked = now;
            if (!listening && !exhausted) {
                listen_on(server, true);
                listening = true;
            }
            graft_mutex_lock(server->mutex);
            for (uint32_t i = 0; i < server->n_connections; i++) {
                look_at(server, &server->connections[i], now);
            }
            graft_mutex_unlock(server->mutex);
        }
        if (!told && atomic_load(&server->draining) && now > atomic_load(&server->drain_deadline_ns)) {
            told = true;
            end_all(server, false);
        }
    }
    end_all(server, true);
}
