// SPDX-License-Identifier: Apache-2.0
// Watches of net.h with Linux's epoll.
#include "tools/net.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { EVENTS = 64 };
static const uint64_t waker = UINT64_MAX;

struct net_watch {
    struct graft_ctx *ctx;
    int epoll_fd, wake_fd;
};

enum graft_status net_watch_create(struct graft_ctx *ctx, struct net_watch **out, uint32_t most)
{
    *out = NULL;
    (void)most;
    struct net_watch *watch;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &watch, 1, "a watch over sockets"));
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = waker};
    *watch = (struct net_watch){
        .ctx = ctx, .epoll_fd = epoll_create1(EPOLL_CLOEXEC), .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (watch->epoll_fd < 0 || watch->wake_fd < 0 || epoll_ctl(watch->epoll_fd, EPOLL_CTL_ADD, watch->wake_fd, &event) != 0) {
        enum graft_status status = graft_fail(GRAFT_E_INTERNAL, "epoll: %s", strerror(errno));
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
    if (watch->epoll_fd >= 0) {
        close(watch->epoll_fd);
    }
    if (watch->wake_fd >= 0) {
        close(watch->wake_fd);
    }
    GRAFT_FREE(watch->ctx, given);
}

static bool control(struct net_watch *watch, int operation, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = (events & NET_IN ? EPOLLIN : 0u) | (events & NET_OUT ? EPOLLOUT : 0u) |
                                          (events & NET_LEFT ? EPOLLRDHUP : 0u),
                                .data.u64 = data};
    return epoll_ctl(watch->epoll_fd, operation, fd, &event) == 0;
}

bool net_watch_add(struct net_watch *watch, int fd, uint32_t events, uint64_t data)
{
    return control(watch, EPOLL_CTL_ADD, fd, events, data);
}

bool net_watch_change(struct net_watch *watch, int fd, uint32_t events, uint64_t data)
{
    return control(watch, EPOLL_CTL_MOD, fd, events, data);
}

void net_watch_remove(struct net_watch *watch, int fd)
{
    control(watch, EPOLL_CTL_DEL, fd, 0, 0);
}

int net_watch_wait(struct net_watch *watch, struct net_event *out, int room, int milliseconds)
{
    struct epoll_event found[EVENTS];
    int n = epoll_wait(watch->epoll_fd, found, room < EVENTS ? room : EVENTS, milliseconds), kept = 0;
    for (int i = 0; i < n; i++) {
        uint32_t events = found[i].events;
        if (found[i].data.u64 == waker) {
            uint64_t sink;
            ssize_t taken = read(watch->wake_fd, &sink, sizeof sink);
            (void)taken;
            continue;
        }
        out[kept++] = (struct net_event){.data = found[i].data.u64,
                                         .events = (events & EPOLLIN ? NET_IN : 0u) | (events & EPOLLOUT ? NET_OUT : 0u) |
                                                   (events & EPOLLRDHUP ? NET_LEFT : 0u) |
                                                   (events & (EPOLLHUP | EPOLLERR) ? NET_GONE : 0u)};
    }
    return kept;
}

void net_watch_wake(struct net_watch *watch)
{
    uint64_t one = 1;
    ssize_t written = write(watch->wake_fd, &one, sizeof one); // full: it is awake already
    (void)written;
}
