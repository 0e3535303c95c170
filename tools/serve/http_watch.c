// SPDX-License-Identifier: Apache-2.0
// The watch thread: accepts within the limits, gives events to http_front.c, ends what is too slow.
//
// Deadlines are absolute, so that a byte now and then keeps nothing open. A client that does not read shows in the kernel's
// send queue: bytes wait there and their number does not change.
#include <stdio.h>
#include <string.h>

#include "tools/serve/http_local.h"
#include "tools/serve/http_private.h"

enum { EVENTS = 64, ACCEPTS = 64 };

uint64_t http_event_data(uint64_t kind, uint32_t generation, uint32_t index)
{
    return kind << 60 | (uint64_t)(generation & 0xfffffffu) << 32 | index;
}

void http_watch_wake(struct http_server *server)
{
    net_watch_wake(server->sockets);
}

void http_watch_turn(struct http_server *server, struct http_connection *connection)
{
    if (!connection->turned) {
        connection->turned = true;
        connection->next_turned = server->turned;
        server->turned = (uint32_t)(connection - server->connections);
        http_watch_wake(server);
    }
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
    struct sockaddr_storage address;
    int fd = net_accept(listener->fd, &address);
    if (fd < 0) {
        *exhausted = fd == NET_BROKEN;
        return false;
    }
    net_send_room(fd, HTTP_SEND_BUFFER);
    if (listener->kind == LISTENER_TCP) {
        net_no_delay(fd);
    } else {
        address.ss_family = AF_UNIX;
    }
    graft_mutex_lock(server->mutex);
    struct http_connection *connection = place_for(server, listener, &address);
    if (connection) {
        uint32_t generation = connection->generation;
        bool turned = connection->turned; // it is still in that list
        uint32_t next = connection->next_turned;
        *connection = (struct http_connection){.state = CONNECTION_HEAD,
                                               .fd = fd,
                                               .inner = -1,
                                               .generation = generation,
                                               .turned = turned,
                                               .next_turned = next,
                                               .listener = listener,
                                               .address = address,
                                               .peer_is_us = listener->kind == LISTENER_UNIX && http_peer_is_us(fd),
                                               .deadline_ns = graft_clock_ns() + server->config.head_ms * 1000000ull};
        http_peer_text(&address, fd, connection->peer, sizeof connection->peer);
        server->busy_connections++;
    } else {
        server->stats.refused_connections++;
    }
    graft_mutex_unlock(server->mutex);
    if (connection) {
        http_front_begin(server, connection);
        return true;
    }
    if (!listener->tls) {
        http_front_say(server, fd, 503);
        net_end_sending(fd);
    }
    char sink[4096]; // what has come is taken, so that closing does not reset the connection before the reply is read
    for (int i = 0; i < 4 && net_receive(fd, sink, sizeof sink) > 0; i++) {
    }
    net_close(fd);
    return true;
}

// The client took bytes since the last look, or none wait for it. *unknown: the system does not tell, and what counts is what
// the system itself took.
static bool client_reads(struct http_connection *connection, bool *unknown)
{
    int unsent = 0;
    *unknown = !net_unsent(connection->fd, &unsent);
    if (*unknown && connection->full) {
        unsent = 1 + (int)(connection->replied & 0xffffff);
    }
    bool moved = unsent == 0 || unsent != connection->unsent;
    connection->unsent = unsent;
    return moved;
}

static bool overrun(struct http_exchange *exchange)
{
    if (!exchange) {
        return false;
    }
    graft_mutex_lock(exchange->mutex);
    bool yes = exchange->overrun;
    graft_mutex_unlock(exchange->mutex);
    return yes;
}

// A deadline has passed, or the client reads nothing.
static void look_at(struct http_server *server, struct http_connection *connection, uint64_t now)
{
    int status = 0;
    bool late = false, stalled = false, unknown = false;
    graft_mutex_lock(server->mutex);
    switch (connection->state) {
    case CONNECTION_HEAD:
        late = now > connection->deadline_ns;
        status = connection->again || connection->left ? 0 : 408;
        server->stats.cut_head += late && status;
        break;
    case CONNECTION_BODY:
        late = now > connection->deadline_ns;
        status = connection->left ? 0 : 408;
        server->stats.cut_body += late && status;
        break;
    case CONNECTION_LINGER:
        late = now > connection->deadline_ns;
        break;
    case CONNECTION_ANSWER:
    case CONNECTION_SENT:
        if (client_reads(connection, &unknown)) {
            connection->progress_ns = now;
        }
        stalled = now - connection->progress_ns > server->config.stall_ms * 1000000ull;
        server->stats.cut_stall += stalled;
        stalled |= overrun(connection->exchange);
        break;
    case CONNECTION_CUT:
    case CONNECTION_FREE:
        break;
    }
    graft_mutex_unlock(server->mutex);
    if (late || stalled) {
        http_front_cut(server, connection, status, stalled);
    } else if (unknown && connection->full) { // a socket counts as free only when a good part of its buffer is: try anyway
        http_front_event(server, connection, false, 0);
    }
}

// Tell every owner that nobody waits any more.
static void end_all(struct http_server *server, bool close)
{
    for (uint32_t i = 0; i < server->n_connections; i++) {
        struct http_connection *connection = &server->connections[i];
        graft_mutex_lock(server->mutex);
        if (connection->state == CONNECTION_ANSWER && connection->exchange) {
            http_exchange_gone(connection->exchange, false);
        }
        graft_mutex_unlock(server->mutex);
        if (close && connection->fd >= 0) {
            http_front_close(server, connection);
        }
    }
}

static void client_event(struct http_server *server, uint64_t data, uint32_t events)
{
    uint32_t index = (uint32_t)data;
    struct http_connection *connection = &server->connections[index];
    graft_mutex_lock(server->mutex);
    bool same = data == http_event_data(data >> 60, connection->generation, index);
    graft_mutex_unlock(server->mutex);
    if (same) {
        http_front_event(server, connection, data >> 60 == HTTP_EVENT_INNER, events);
    }
}

// Those that another thread has something to say about.
static void look_at_turned(struct http_server *server)
{
    graft_mutex_lock(server->mutex);
    uint32_t i = server->turned;
    server->turned = UINT32_MAX;
    while (i != UINT32_MAX) {
        struct http_connection *connection = &server->connections[i];
        i = connection->next_turned;
        connection->turned = false;
        bool open = connection->state != CONNECTION_FREE && connection->fd >= 0;
        graft_mutex_unlock(server->mutex);
        if (open) {
            http_front_event(server, connection, true, 0);
        }
        graft_mutex_lock(server->mutex);
    }
    graft_mutex_unlock(server->mutex);
}

static void listen_on(struct http_server *server, bool on)
{
    for (uint32_t i = 0; i < server->n_listeners; i++) {
        if (on) {
            net_watch_add(server->sockets, server->listeners[i].fd, NET_IN, http_event_data(HTTP_EVENT_LISTENER, 0, i));
        } else {
            net_watch_remove(server->sockets, server->listeners[i].fd);
        }
    }
}

void http_watch_run(void *user)
{
    struct http_server *server = user;
    bool listening = true, told = false;
    uint64_t ticked = 0;
    listen_on(server, true);
    while (!atomic_load(&server->stopping)) {
        struct net_event events[EVENTS];
        graft_mutex_lock(server->mutex);
        bool busy = server->busy_connections > 0;
        graft_mutex_unlock(server->mutex);
        int n = net_watch_wait(server->sockets, events, EVENTS,
                               busy || !listening || atomic_load(&server->draining) ? HTTP_TICK_MS : -1);
        bool exhausted = false;
        for (int i = 0; i < n; i++) {
            uint64_t data = events[i].data;
            if (data >> 60 == HTTP_EVENT_LISTENER) {
                for (int k = 0; k < ACCEPTS && accept_one(server, &server->listeners[(uint32_t)data], &exhausted); k++) {
                }
            } else {
                client_event(server, data, events[i].events);
            }
        }
        look_at_turned(server);
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
            for (uint32_t i = 0; i < server->n_connections; i++) {
                look_at(server, &server->connections[i], now);
            }
        }
        if (!told && atomic_load(&server->draining) && now > atomic_load(&server->drain_deadline_ns)) {
            told = true;
            end_all(server, false);
        }
    }
    end_all(server, true);
}
