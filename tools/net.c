// SPDX-License-Identifier: Apache-2.0
// What of net.h is the same on every system.
#include <stdio.h>

#include "tools/net_private.h"

int net_connect(const char *host, const char *port, char *why, size_t why_bytes)
{
    int fd = -1;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    int code = getaddrinfo(host, port, &hints, &found);
    snprintf(why, why_bytes, "%s:%s: %s", host, port, code ? net_name_error(code) : "no address");
    for (struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
        fd = net_open(a->ai_family);
        if (fd >= 0 && !net_reach(fd, a->ai_addr, (socklen_t)a->ai_addrlen)) {
            snprintf(why, why_bytes, "%s:%s: %s", host, port, net_error());
            net_close(fd);
            fd = -1;
        }
    }
    if (found) {
        freeaddrinfo(found);
    }
    if (fd >= 0) {
        net_no_delay(fd);
    }
    return fd;
}

void net_no_delay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, (const void *)&on, sizeof on);
}

int net_bind(const struct sockaddr *address, socklen_t length)
{
    int on = 1, fd = net_open(address->sa_family);
    if (fd < 0) {
        return -1;
    }
    if (address->sa_family == AF_INET || address->sa_family == AF_INET6) {
        net_claim(fd);
    }
    if (address->sa_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, (const void *)&on, sizeof on);
    }
    net_nonblocking(fd);
    if (!net_take_address(fd, address, length)) {
        net_close(fd);
        return -1;
    }
    return fd;
}
