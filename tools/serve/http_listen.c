// SPDX-License-Identifier: Apache-2.0
// Addresses: parsed, judged (loopback? keys? TLS?), bound.
#include <stdio.h>
#include <string.h>

#include "tools/serve/http_local.h"
#include "tools/serve/http_private.h"

enum { BACKLOG = 1024 };

union any_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_storage storage;
};

// "ADDRESS:PORT", "[ADDRESS]:PORT" with numbers only. Names are not looked up: what is bound must be what was judged.
static enum graft_status parse(const char *text, union any_address *out, socklen_t *length)
{
    memset(out, 0, sizeof *out);
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
    return IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
}

// What must be there before anybody may reach this address.
static enum graft_status judge(const struct http_server *server, const struct http_listener *listener, const char *text)
{
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
    if (listener->operator_side && !keys) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "%s: an operator's port needs --keys FILE with an operator's key; a Unix socket "
                          "(unix:/PATH) needs none",
                          text);
    }
    return GRAFT_OK;
}

static enum graft_status bind_tcp(struct http_server *server, struct http_listener *listener, const char *text)
{
    union any_address address;
    socklen_t length;
    GRAFT_TRY(parse(text, &address, &length));
    listener->loopback = is_loopback(&address);
    listener->tls = server->config.tls_cert != NULL;
    GRAFT_TRY(judge(server, listener, text));
    listener->fd = net_bind(&address.any, length);
    if (listener->fd < 0) {
        return graft_fail(GRAFT_E_IO, "%s cannot be listened on: %s", text, net_error());
    }
    socklen_t size = sizeof address;
    getsockname(listener->fd, &address.any, &size);
    listener->port = ntohs(address.any.sa_family == AF_INET ? address.v4.sin_port : address.v6.sin6_port);
    http_peer_text(&address.storage, -1, listener->text, sizeof listener->text);
    return GRAFT_OK;
}

static enum graft_status bind_one(struct http_server *server, const char *text, bool operator_side)
{
    struct http_listener *listener = &server->listeners[server->n_listeners];
    bool local = strncmp(text, "unix:", 5) == 0;
    *listener = (struct http_listener){
        .fd = -1, .kind = local ? LISTENER_UNIX : LISTENER_TCP, .loopback = local, .operator_side = operator_side};
    if (local) {
        GRAFT_TRY(http_local_bind(text, operator_side, &listener->fd));
        snprintf(listener->path, sizeof listener->path, "%s", text + 5);
        snprintf(listener->text, sizeof listener->text, "%.120s", text);
    } else {
        GRAFT_TRY(bind_tcp(server, listener, text));
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
        if (!net_listen(server->listeners[i].fd, BACKLOG)) {
            return graft_fail(GRAFT_E_IO, "%s cannot be listened on: %s", server->listeners[i].text, net_error());
        }
    }
    return GRAFT_OK;
}

void http_listen_close(struct http_server *server)
{
    for (uint32_t i = 0; i < server->n_listeners; i++) {
        struct http_listener *listener = &server->listeners[i];
        if (listener->fd >= 0) {
            net_close(listener->fd);
            listener->fd = -1;
            if (listener->kind == LISTENER_UNIX) {
                http_local_remove(listener->path);
            }
        }
    }
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
        if (http_local_peer(fd, &uid)) {
            snprintf(out, bytes, "unix:%u", uid);
        } else {
            snprintf(out, bytes, "unix");
        }
    }
}
