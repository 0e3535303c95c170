// SPDX-License-Identifier: Apache-2.0
// Sockets as the server and its clients use them: TCP on every system, Unix sockets where there are any. A socket is an int on
// every system (Windows' handles have 32 bits that count: Microsoft, "Interprocess Communication Between 32-bit and 64-bit
// Applications"); -1 is none. net.c, net_posix.c, net_windows.c; net_watch_posix.c, net_watch_windows.c.
#ifndef GRAFT_TOOLS_NET_H
#define GRAFT_TOOLS_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "platform/plat.h"

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <winsock2.h>
#include <ws2tcpip.h>
#else
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#endif

struct graft_ctx;

// What net_receive, net_peek, net_send and net_accept return besides a count or a socket.
enum {
    NET_LATER = -1, // nothing can be moved now; of a socket that blocks: its time is over
    NET_BROKEN = -2 // the connection is no more: net_error
};

// Before all others; more than once is no fault. False: the system has no sockets (net_error).
bool net_begin(void);
// What the last call of this thread that failed ran into, in words. Valid until the next call of this thread.
const char *net_error(void);

// Let this process have so many files and sockets open, if the system allows it.
void net_allow(uint64_t files);

// ---- connections ----

// A connected TCP socket to a host (a name or a number) and port, which blocks; -1 with a sentence in `why`.
int net_connect(const char *host, const char *port, char *why, size_t why_bytes);
// The same to a Unix socket. Windows: always -1.
int net_connect_local(const char *path, char *why, size_t why_bytes);
// Bytes that came, 0: the other side has ended its stream; NET_LATER, NET_BROKEN.
ssize_t net_receive(int fd, void *out, size_t room);
ssize_t net_peek(int fd, void *out, size_t room); // leaves them there
// Bytes taken by the system, NET_LATER, NET_BROKEN. Raises no signal.
ssize_t net_send(int fd, const void *bytes, size_t length);
// Nothing more will be sent: the other side sees the end of the stream.
void net_end_sending(int fd);
void net_close(int fd);

void net_nonblocking(int fd);
// How long net_receive and net_send of a socket that blocks wait.
void net_time_limit(int fd, unsigned seconds);
// Send small pieces at once (TCP).
void net_no_delay(int fd);
// Room for bytes on their way out, in the system.
void net_send_room(int fd, int bytes);
// Bytes that the system holds since the other side has not taken them. False: the system does not tell.
bool net_unsent(int fd, int *bytes);

// ---- listening ----

// A TCP socket bound to an address, which does not block; an IPv6 one takes no IPv4. -1: net_error.
int net_bind(const struct sockaddr *address, socklen_t length);
// Let clients connect.
bool net_listen(int fd, int backlog);
// The next client's socket, which does not block; NET_LATER: none, or one that was gone at once. NET_BROKEN: the system has no
// room for sockets now.
int net_accept(int fd, struct sockaddr_storage *address);
// Two sockets, each the other's end, which do not block: bytes of one process. What the second has sent must be read before the
// first is closed. False: net_error.
bool net_pair(int pair[2]);

// ---- many sockets at once ----

enum {
    NET_IN = 1,   // bytes, a client or the end has come
    NET_OUT = 2,  // bytes would be taken
    NET_LEFT = 4, // the other side has ended its stream, though bytes may still wait in front of it
    NET_GONE = 8  // the connection is no more; told unasked
};
struct net_event {
    uint64_t data; // as given for the socket
    uint32_t events;
};

// Level-triggered: what holds is told at every call. One thread uses a watch; net_watch_wake is for the others.
struct net_watch;
// For at most `most` sockets. Errors: GRAFT_E_MEMORY, GRAFT_E_BUDGET, GRAFT_E_INTERNAL (the system refused).
GRAFT_MUST_CHECK enum graft_status net_watch_create(struct graft_ctx *ctx, struct net_watch **out, uint32_t most);
void net_watch_destroy(struct net_watch **watch);
// Add a socket, or tell what is now wanted of one that is there. False: net_error.
bool net_watch_add(struct net_watch *watch, int fd, uint32_t events, uint64_t data);
bool net_watch_change(struct net_watch *watch, int fd, uint32_t events, uint64_t data);
// In front of closing it.
void net_watch_remove(struct net_watch *watch, int fd);
// Wait at most `milliseconds` (-1: for good) for events, or for net_watch_wake; returns how many there are.
int net_watch_wait(struct net_watch *watch, struct net_event *out, int room, int milliseconds);
// Let net_watch_wait return. Thread-safety: safe.
void net_watch_wake(struct net_watch *watch);

#endif
