// SPDX-License-Identifier: Apache-2.0
// Addresses: parsed, judged (loopback? keys? TLS?), bound.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/serve/http_private.h"

enum { BACKLOG = 1024 };

union any_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
    struct sockaddr_storage storage;
};

// "ADDRESS:PORT", "[ADDRESS]:PORT" with numbers only, or "unix:PATH". Names are not looked up: what is bound must be what was
// judged.
static enum graft_status parse(const char *text, union any_address *out, socklen_t *length)
{
    memset(out, 0, sizeof *out);
    if (strncmp(text, "unix:", 5) == 0) {
        const char *path = text + 5;
        if (path[0] != '/' || strlen(path) >= sizeof out->local.sun_path) {
            return graft_fail(GRAFT_E_ARGUMENT,
                              "the address \"%.200s\": a Unix socket needs an absolute path of at most %zu bytes", text,
                              sizeof out->local.sun_path - 1);
        }
        out->local.sun_family = AF_UNIX;
        memcpy(out->local.sun_path, path, strlen(path) + 1);
        *length = sizeof out->local;
        return GRAFT_OK;
    }
    const char *colon = strrchr(text, ':');
    char host[64];
    size_t host_length = colon ? (size_t)(colon - text) : 0;
    bool brackets = host_length > 2 && text[0] == '[' && text[host_length - 1] == ']';
    const char *from = brackets ? text + 1 : text;
    host_length -= brackets ? 2 : 0;
    unsigned port = 0;
    size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;
    bool good = colon && host_length > 0 && host_length < sizeof host && digits > 0 && digits < 6 && colon[1 + digits] == '\0';
    for (size_t i = 0; good && i < digits; i++) {
        port = port * 10 + (unsigned)(colon[1 + i] - '0');
    }
    good = good && port <= 65535;
    if (good) {
        memcpy(host, from, host_length);
        host[host_length] = '\0';
        if (strcmp(host, "localhost") == 0) {
            snprintf(host, sizeof host, "127.0.0.1");
        }
        if (brackets) {
            out->v6.sin6_family = AF_INET6;
            out->v6.sin6_port = htons((uint16_t)port);
            good = inet_pton(AF_INET6, host, &out->v6.sin6_addr) == 1;
            *length = sizeof out->v6;
        } else {
            out->v4.sin_family = AF_INET;
            out->v4.sin_port = htons((uint16_t)port);
            good = inet_pton(AF_INET, host, &out->v4.sin_addr) == 1;
            *length = sizeof out->v4;
        }
    }
    if (!good) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "the address \"%.200s\" is not of the form 127.0.0.1:8080, [::1]:8080 or unix:/run/graft.sock", text);
    }
    return GRAFT_OK;
}

static bool is_loopback(const union any_address *address)
{
    if (address->any.sa_family == AF_INET) {
        return ntohl(address->v4.sin_addr.s_addr) >> 24 == 127;
    }
    return address->any.sa_family == AF_UNIX || IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
}

// An old socket file of a server that is no more is removed; anything else under that name is left alone.
static enum graft_status clear_path(const char *text, const union any_address *address, socklen_t length)
{
    struct stat found;
    if (lstat(address->local.sun_path, &found) != 0) {
        return GRAFT_OK;
    }
    if (!S_ISSOCK(found.st_mode)) {
        return graft_fail(GRAFT_E_IO, "%s: there is a file of this name that is no socket", text);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool alive = fd >= 0 && (connect(fd, &address->any, length) == 0 || errno == EAGAIN);
    if (fd >= 0) {
        close(fd);
    }
    if (alive) {
        return graft_fail(GRAFT_E_IO, "%s: another server listens there", text);
    }
    unlink(address->local.sun_path);
    return GRAFT_OK;
}

static enum graft_status bind_one(struct http_server *server, const char *text, bool operator_side)
{
    struct http_listener *listener = &server->listeners[server->n_listeners];
    *listener = (struct http_listener){.fd = -1, .operator_side = operator_side};
    union any_address address;
    socklen_t length;
    GRAFT_TRY(parse(text, &address, &length));
    listener->loopback = is_loopback(&address);
    listener->kind = address.any.sa_family == AF_UNIX ? LISTENER_UNIX : LISTENER_TCP;
    listener->tls = server->config.tls_cert && listener->kind == LISTENER_TCP;
    bool keys = server->config.keys_path != NULL;
    if (!listener->loopback && !keys && !server->config.jwt_path) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "%s can be reached from other machines, and there are no API keys: give --keys FILE "
                          "(graft key makes them), --jwt FILE for tokens, or listen on 127.0.0.1",
                          text);
    }
    if (!listener->loopback && !listener->tls && !server->config.insecure_plain_http) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "%s can be reached from other machines, and keys and texts would cross the network "
                          "unencrypted: give --tls-cert and --tls-key, or --insecure-plain-http",
                          text);
    }
    if (operator_side && listener->kind == LISTENER_TCP && !keys) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "%s: an operator's port needs --keys FILE with an operator's key; a Unix socket "
                          "(unix:/PATH) needs none",
                          text);
    }
    if (listener->kind == LISTENER_UNIX) {
        GRAFT_TRY(clear_path(text, &address, length));
    }
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return graft_fail(GRAFT_E_IO, "%s: socket: %s", text, strerror(errno));
    }
    int on = 1;
    if (listener->kind == LISTENER_TCP) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    }
    if (address.any.sa_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on); // what was judged, not IPv4 as well
    }
    mode_t mask = umask(operator_side ? 0177 : 0117); // the socket file is never wider than it ends up
    bool bound = bind(fd, &address.any, length) == 0;
    int why = errno;
    umask(mask);
    if (!bound) {
        close(fd);
        return graft_fail(GRAFT_E_IO, "%s cannot be listened on: %s", text, strerror(why));
    }
    listener->fd = fd;
    if (listener->kind == LISTENER_UNIX) {
        snprintf(listener->path, sizeof listener->path, "%s", address.local.sun_path);
        snprintf(listener->text, sizeof listener->text, "%.120s", text);
    } else {
        socklen_t size = sizeof address;
        getsockname(fd, &address.any, &size);
        listener->port = ntohs(address.any.sa_family == AF_INET ? address.v4.sin_port : address.v6.sin6_port);
        http_peer_text(&address.storage, -1, listener->text, sizeof listener->text);
    }
    server->n_listeners++;
    return GRAFT_OK;
}

enum graft_status http_listen_all(struct http_server *server)
{
    const struct http_config *config = &server->config;
    if (config->n_listen == 0) {
        GRAFT_TRY(bind_one(server, "127.0.0.1:8080", false));
    }
    for (uint32_t i = 0; i < config->n_listen; i++) {
        GRAFT_TRY(bind_one(server, config->listen[i], false));
    }
    server->n_public = server->n_listeners;
    if (config->operator_listen) {
        GRAFT_TRY(bind_one(server, config->operator_listen, true));
    }
    return GRAFT_OK;
}

enum graft_status http_listen_begin(struct http_server *server)
{
    for (uint32_t i = 0; i < server->n_listeners; i++) {
        if (listen(server->listeners[i].fd, BACKLOG) != 0) {
            return graft_fail(GRAFT_E_IO, "%s cannot be listened on: %s", server->listeners[i].text, strerror(errno));
        }
    }
    return GRAFT_OK;
}

void http_listen_close(struct http_server *server)
{
    for (uint32_t i = 0; i < server->n_listeners; i++) {
        struct http_listener *listener = &server->listeners[i];
        if (listener->fd >= 0) {
            close(listener->fd);
            listener->fd = -1;
            if (listener->kind == LISTENER_UNIX) {
                unlink(listener->path);
            }
        }
    }
}

static bool peer_user(int fd, unsigned *uid)
{
    struct ucred who;
    socklen_t length = sizeof who;
    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) != 0) {
        return false;
    }
    *uid = who.uid;
    return true;
}

bool http_peer_is_us(int fd)
{
    unsigned uid;
    return peer_user(fd, &uid) && (uid == geteuid() || uid == 0);
}

void http_peer_text(const struct sockaddr_storage *address, int fd, char *out, size_t bytes)
{
    union any_address any = {.storage = *address};
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned uid = 0;
    switch (address->ss_family) {
    case AF_INET:
        inet_ntop(AF_INET, &any.v4.sin_addr, host, sizeof host);
        snprintf(out, bytes, "%s:%u", host, ntohs(any.v4.sin_port));
        break;
    case AF_INET6:
        inet_ntop(AF_INET6, &any.v6.sin6_addr, host, sizeof host);
        snprintf(out, bytes, "[%s]:%u", host, ntohs(any.v6.sin6_port));
        break;
    default:
        if (peer_user(fd, &uid)) {
            snprintf(out, bytes, "unix:%u", uid);
        } else {
            snprintf(out, bytes, "unix");
        }
    }
}
