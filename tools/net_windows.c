// SPDX-License-Identifier: Apache-2.0
// net.h on Windows (Winsock 2), but for watches. There are no Unix sockets.
#include "tools/net_private.h"

#include <mstcpip.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "platform/wide_windows.h"

static _Thread_local int last_error; // the next call of Windows that does well may clear its own

// Keep why a call failed; returns -1.
static int failed(void)
{
    last_error = WSAGetLastError();
    return -1;
}

bool net_begin(void)
{
    static atomic_bool begun;
    WSADATA data;
    if (!atomic_load(&begun)) {
        last_error = WSAStartup(MAKEWORD(2, 2), &data);
        atomic_store(&begun, last_error == 0);
    }
    return atomic_load(&begun);
}

const char *net_error(void)
{
    static _Thread_local struct graft_why why;
    static const struct {
        int error;
        const char *text;
    } common[] = {
        {WSAEADDRINUSE, "Address already in use"},
        {WSAEACCES, "Address already in use, or not allowed"},
        {WSAEADDRNOTAVAIL, "Cannot assign requested address"},
        {WSAECONNREFUSED, "Connection refused"},
        {WSAECONNRESET, "Connection reset by peer"},
        {WSAECONNABORTED, "Connection aborted"},
        {WSAETIMEDOUT, "Connection timed out"},
        {WSAENETUNREACH, "Network is unreachable"},
        {WSAEHOSTUNREACH, "No route to host"},
        {WSAHOST_NOT_FOUND, "Name or service not known"},
        {WSAEMFILE, "Too many open sockets"},
    };
    for (size_t i = 0; i < sizeof common / sizeof *common; i++) {
        if (common[i].error == last_error) {
            return common[i].text;
        }
    }
    why = graft_why((DWORD)last_error);
    return why.text;
}

void net_allow(uint64_t files)
{
    (void)files; // there is no limit but memory
}

// ---- connections ----

int net_open(int family)
{
    SOCKET made = WSASocketW(family, SOCK_STREAM, IPPROTO_TCP, NULL, 0, WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
    return made == INVALID_SOCKET ? failed() : (int)made;
}

int net_connect_local(const char *path, char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, "%s: graft has no Unix sockets on Windows", path);
    return -1;
}

bool net_reach(int fd, const struct sockaddr *address, socklen_t length)
{
    return connect((SOCKET)fd, address, length) == 0 || failed() == 0;
}

const char *net_name_error(int code)
{
    last_error = code; // one of Winsock's
    return net_error();
}

// A call's result as net.h has it. The end of a socket's time (SO_RCVTIMEO) comes as WSAETIMEDOUT.
static ssize_t moved(int n)
{
    if (n >= 0) {
        return n;
    }
    failed();
    return last_error == WSAEWOULDBLOCK || last_error == WSAEINTR || last_error == WSAETIMEDOUT ? NET_LATER : NET_BROKEN;
}

static int piece(size_t length)
{
    return length < 1u << 30 ? (int)length : 1 << 30;
}

ssize_t net_receive(int fd, void *out, size_t room)
{
    return moved(recv((SOCKET)fd, out, piece(room), 0));
}

ssize_t net_peek(int fd, void *out, size_t room)
{
    return moved(recv((SOCKET)fd, out, piece(room), MSG_PEEK));
}

ssize_t net_send(int fd, const void *bytes, size_t length)
{
    return moved(send((SOCKET)fd, bytes, piece(length), 0));
}

void net_end_sending(int fd)
{
    shutdown((SOCKET)fd, SD_SEND);
}

void net_close(int fd)
{
    if (fd >= 0) {
        closesocket((SOCKET)fd);
    }
}

void net_nonblocking(int fd)
{
    u_long on = 1;
    ioctlsocket((SOCKET)fd, (long)FIONBIO, &on);
}

void net_time_limit(int fd, unsigned seconds)
{
    DWORD limit = seconds < 1000000 ? seconds * 1000 : 1000000000;
    setsockopt((SOCKET)fd, SOL_SOCKET, SO_RCVTIMEO, (const char *)&limit, sizeof limit);
    setsockopt((SOCKET)fd, SOL_SOCKET, SO_SNDTIMEO, (const char *)&limit, sizeof limit);
}

void net_send_room(int fd, int bytes)
{
    setsockopt((SOCKET)fd, SOL_SOCKET, SO_SNDBUF, (const char *)&bytes, sizeof bytes);
}

bool net_unsent(int fd, int *bytes)
{
    (void)fd;
    *bytes = 0;
    return false;
}

// ---- listening ----

// Not SO_REUSEADDR, which lets others bind the same port beside us (Microsoft, "Using SO_REUSEADDR and SO_EXCLUSIVEADDRUSE").
void net_claim(int fd)
{
    BOOL on = TRUE;
    setsockopt((SOCKET)fd, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, (const char *)&on, sizeof on);
}

bool net_take_address(int fd, const struct sockaddr *address, socklen_t length)
{
    return bind((SOCKET)fd, address, length) == 0 || failed() == 0;
}

bool net_listen(int fd, int backlog)
{
    return listen((SOCKET)fd, backlog) == 0 || failed() == 0;
}

int net_accept(int fd, struct sockaddr_storage *address)
{
    for (;;) {
        int length = sizeof *address;
        memset(address, 0, sizeof *address);
        SOCKET client = accept((SOCKET)fd, (struct sockaddr *)address, &length);
        if (client != INVALID_SOCKET) {
            SetHandleInformation((HANDLE)client, HANDLE_FLAG_INHERIT, 0);
            net_nonblocking((int)client);
            return (int)client;
        }
        failed();
        if (last_error != WSAECONNRESET && last_error != WSAEINTR) {
            return last_error == WSAEMFILE || last_error == WSAENOBUFS ? NET_BROKEN : NET_LATER;
        }
    }
}

// Over the loopback. Whoever else connects to the port meanwhile is turned away: its own port is another one. Closing the first
// one resets the connection, so that no port waits for minutes for each pair that was (TIME_WAIT; RFC 9293, 3.3.2); what the
// second has sent must be read before.
bool net_pair(int pair[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, ours, theirs;
    int length = sizeof at, listener = net_bind((const struct sockaddr *)&at, sizeof at), near_fd = -1, far_fd = -1;
    u_long off = 0;
    bool good = listener >= 0 && net_listen(listener, 4) && ioctlsocket((SOCKET)listener, (long)FIONBIO, &off) == 0 &&
                getsockname((SOCKET)listener, (struct sockaddr *)&at, &length) == 0 && (near_fd = net_open(AF_INET)) >= 0 &&
                net_reach(near_fd, (const struct sockaddr *)&at, sizeof at) &&
                getsockname((SOCKET)near_fd, (struct sockaddr *)&ours, &length) == 0;
    for (int tries = 0; good && far_fd < 0 && tries < 16; tries++) {
        struct sockaddr_storage address;
        far_fd = net_accept(listener, &address);
        memcpy(&theirs, &address, sizeof theirs);
        if (far_fd >= 0 && theirs.sin_port != ours.sin_port) {
            net_close(far_fd);
            far_fd = -1;
        }
    }
    net_close(listener);
    if (!good || far_fd < 0) {
        net_close(near_fd);
        return false;
    }
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt((SOCKET)near_fd, SOL_SOCKET, SO_LINGER, (const char *)&at_once, sizeof at_once);
    net_nonblocking(near_fd);
    net_no_delay(near_fd);
    net_no_delay(far_fd);
    pair[0] = near_fd;
    pair[1] = far_fd;
    return true;
}
