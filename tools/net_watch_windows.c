// SPDX-License-Identifier: Apache-2.0
// Watches of net.h with WSAPoll, which is given all sockets at every call: a thousand of them cost some ten microseconds.
//
// WSAPoll tells unasked, and again and again, that the other side has ended its stream (POLLHUP). So that a socket of which
// nothing more is wanted does not keep the thread awake, one that was told of this and waits for nothing else is left out
// until something is wanted of it.
#include "tools/net.h"

#include <stdatomic.h>
#include <string.h>

struct entry {
    int fd;
    uint32_t wanted;
    bool told; // that the other side has ended its stream
    uint64_t data;
};

struct net_watch {
    struct graft_ctx *ctx;
    uint32_t n, most;
    struct entry *entries; // [most], the first is the waker's
    WSAPOLLFD *polled;     // [most] what WSAPoll is given, and whose entries they are
    uint32_t *places;
    uint32_t at; // the next call begins here
    int wake[2]; // what is sent to the second wakes the first
    atomic_bool woken;
};

enum graft_status net_watch_create(struct graft_ctx *ctx, struct net_watch **out, uint32_t most)
{
    *out = NULL;
    struct net_watch *watch;
    if (!net_begin()) {
        return graft_fail(GRAFT_E_INTERNAL, "Winsock: %s", net_error());
    }
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &watch, 1, "a watch over sockets"));
    *watch = (struct net_watch){.ctx = ctx, .most = most + 1, .wake = {-1, -1}};
    enum graft_status status = GRAFT_NEW(ctx, GRAFT_MEM_HOST, &watch->entries, watch->most, "sockets that are watched");
    if (status == GRAFT_OK) {
        status = GRAFT_NEW(ctx, GRAFT_MEM_HOST, &watch->polled, watch->most, "sockets that are watched");
    }
    if (status == GRAFT_OK) {
        status = GRAFT_NEW(ctx, GRAFT_MEM_HOST, &watch->places, watch->most, "sockets that are watched");
    }
    if (status == GRAFT_OK && !net_pair(watch->wake)) {
        status = graft_fail(GRAFT_E_INTERNAL, "a pair of sockets: %s", net_error());
    }
    if (status != GRAFT_OK || !net_watch_add(watch, watch->wake[0], NET_IN, 0)) {
        net_watch_destroy(&watch);
        return status;
    }
    *out = watch;
    return GRAFT_OK;
}

void net_watch_destroy(struct net_watch **given)
{
    struct net_watch *watch = *given;
    if (!watch) {
        return;
    }
    net_close(watch->wake[0]);
    net_close(watch->wake[1]);
    struct graft_ctx *ctx = watch->ctx;
    GRAFT_FREE(ctx, &watch->entries);
    GRAFT_FREE(ctx, &watch->polled);
    GRAFT_FREE(ctx, &watch->places);
    GRAFT_FREE(ctx, given);
}

// Its place, or watch->n.
static uint32_t find(const struct net_watch *watch, int fd)
{
    uint32_t i = 0;
    while (i < watch->n && watch->entries[i].fd != fd) {
        i++;
    }
    return i;
}

bool net_watch_add(struct net_watch *watch, int fd, uint32_t events, uint64_t data)
{
    if (watch->n == watch->most) {
        WSASetLastError(WSAEMFILE);
        return false;
    }
    watch->entries[watch->n++] = (struct entry){.fd = fd, .wanted = events, .data = data};
    return true;
}

bool net_watch_change(struct net_watch *watch, int fd, uint32_t events, uint64_t data)
{
    uint32_t i = find(watch, fd);
    if (i == watch->n) {
        return false;
    }
    watch->entries[i].wanted = events;
    watch->entries[i].data = data;
    return true;
}

void net_watch_remove(struct net_watch *watch, int fd)
{
    uint32_t i = find(watch, fd);
    if (i < watch->n) {
        watch->n--;
        watch->entries[i] = watch->entries[watch->n];
    }
}

// How many sockets WSAPoll is given. They begin with another one each time, so that all have their turn.
static uint32_t prepare(struct net_watch *watch)
{
    uint32_t n = 0;
    for (uint32_t k = 0; k < watch->n; k++) {
        uint32_t i = (watch->at + k) % watch->n;
        const struct entry *entry = &watch->entries[i];
        if (!entry->told || entry->wanted & (NET_IN | NET_OUT)) {
            watch->places[n] = i;
            watch->polled[n++] = (WSAPOLLFD){
                .fd = (SOCKET)entry->fd,
                .events = (SHORT)((entry->wanted & NET_IN ? POLLRDNORM : 0) | (entry->wanted & NET_OUT ? POLLWRNORM : 0))};
        }
    }
    return n;
}

// What a socket's flags of WSAPoll say in terms of net.h.
static uint32_t tell(struct entry *entry, SHORT flags)
{
    uint32_t events = (flags & POLLRDNORM ? NET_IN : 0u) | (flags & POLLWRNORM ? NET_OUT : 0u) |
                      (flags & (POLLERR | POLLNVAL) ? NET_GONE : 0u);
    if (flags & POLLHUP) {
        events |= entry->wanted & NET_IN; // receiving shows what is left, then the end
        events |= entry->told ? 0 : entry->wanted & NET_LEFT;
        entry->told = true;
    }
    return events;
}

int net_watch_wait(struct net_watch *watch, struct net_event *out, int room, int milliseconds)
{
    char sink[64];
    uint32_t count = prepare(watch);
    int left = WSAPoll(watch->polled, count, milliseconds), n = 0;
    if (left < 0) {
        Sleep(1); // a socket that was closed before it was taken out: never here
        return 0;
    }
    for (uint32_t k = 0; k < count && left > 0 && n < room; k++) {
        uint32_t i = watch->places[k];
        if (!watch->polled[k].revents) {
            continue;
        }
        left--;
        watch->at = i + 1;
        if (i == 0) {
            while (net_receive(watch->wake[0], sink, sizeof sink) > 0) {
            }
            atomic_store(&watch->woken, false); // behind that, or a byte that came in between would never be sent again
            continue;
        }
        uint32_t events = tell(&watch->entries[i], watch->polled[k].revents);
        if (events) {
            out[n++] = (struct net_event){.data = watch->entries[i].data, .events = events};
        }
    }
    return n;
}

void net_watch_wake(struct net_watch *watch)
{
    if (!atomic_exchange(&watch->woken, true)) {
        net_send(watch->wake[1], "", 1);
    }
}
