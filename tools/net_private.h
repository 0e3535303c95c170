// SPDX-License-Identifier: Apache-2.0
// What net.c needs of each system: net_posix.c, net_windows.c. A call that fails keeps why for net_error.
#ifndef GRAFT_TOOLS_NET_PRIVATE_H
#define GRAFT_TOOLS_NET_PRIVATE_H

#include "tools/net.h"

// A stream socket that blocks and that no program inherits which this one starts; -1.
int net_open(int family);
// connect(2) and bind(2). False: net_error.
bool net_reach(int fd, const struct sockaddr *address, socklen_t length);
bool net_take_address(int fd, const struct sockaddr *address, socklen_t length);
// In front of the latter, on a TCP socket: the address may be taken though connections of a server that is no more linger, and
// nobody else takes it meanwhile.
void net_claim(int fd);
// What getaddrinfo(3) has returned, in words.
const char *net_name_error(int code);

#endif
