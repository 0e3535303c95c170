// SPDX-License-Identifier: Apache-2.0
// net.h on POSIX systems, but for watches.
#include "tools/net_private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

bool net_begin(void)
{
    return true;
}

const char *net_error(void)
{
    return strerror(errno);
}

void net_allow(uint64_t files)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < files) {
        limit.rlim_cur = limit.rlim_max < files ? limit.rlim_max : files;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

// ---- connections ----

int net_open(int family)
{
    return socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

bool net_reach(int fd, const struct sockaddr *address, socklen_t length)
{
    return connect(fd, address, length) == 0;
}

const char *net_name_error(int code)
{
    return gai_strerror(code);
}

int net_connect_local(const char *path, char *why, size_t why_bytes)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = -1;
    if (snprintf(address.sun_path, sizeof address.sun_path, "%s", path) >= (int)sizeof address.sun_path) {
        errno = ENAMETOOLONG;
    } else {
        fd = net_open(AF_UNIX);
    }
    if (fd < 0 || !net_reach(fd, (const struct sockaddr *)(const void *)&address, sizeof address)) {
        snprintf(why, why_bytes, "%s: %s", path, strerror(errno));
        net_close(fd);
        return -1;
    }
    return fd;
}

// A call's result as net.h has it.
static ssize_t moved(ssize_t n)
{
    return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? NET_LATER : NET_BROKEN;
}

ssize_t net_receive(int fd, void *out, size_t room)
{
    return moved(recv(fd, out, room, 0));
}

ssize_t net_peek(int fd, void *out, size_t room)
{
    return moved(recv(fd, out, room, MSG_PEEK));
}

ssize_t net_send(int fd, const void *bytes, size_t length)
{
    return moved(send(fd, bytes, length, MSG_NOSIGNAL));
}

void net_end_sending(int fd)
{
    shutdown(fd, SHUT_WR);
}

void net_close(int fd)
{
    int why = errno;
    if (fd >= 0) {
        close(fd);
    }
    errno = why;
}

void net_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0) {
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    }
}

void net_time_limit(int fd, unsigned seconds)
{
    struct timeval limit = {.tv_sec = (time_t)seconds};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

void net_send_room(int fd, int bytes)
{
    int half = bytes / 2; // Linux doubles it
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &half, sizeof half);
}

bool net_unsent(int fd, int *bytes)
{
    return ioctl(fd, SIOCOUTQ, bytes) == 0;
}

// ---- listening ----

void net_claim(int fd)
{
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
}

bool net_take_address(int fd, const struct sockaddr *address, socklen_t length)
{
    return bind(fd, address, length) == 0;
}

bool net_listen(int fd, int backlog)
{
    return listen(fd, backlog) == 0;
}

int net_accept(int fd, struct sockaddr_storage *address)
{
    for (;;) {
        socklen_t length = sizeof *address;
        memset(address, 0, sizeof *address);
        int client = accept4(fd, (struct sockaddr *)address, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (client >= 0) {
            return client;
        }
        if (errno != ECONNABORTED && errno != EINTR) {
            bool exhausted = errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS;
            return exhausted ? NET_BROKEN : NET_LATER;
        }
    }
}

bool net_pair(int pair[2])
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0;
}
