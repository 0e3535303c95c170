// SPDX-License-Identifier: Apache-2.0
// A server with test routes, and a client that sends exactly the bytes it is told to.
#ifndef GRAFT_TESTS_HTTP_WORLD_H
#define GRAFT_TESTS_HTTP_WORLD_H

#include <check.h>
#include <jansson.h>
#include <stdatomic.h>
#include <string.h>

#include "support/support.h"
#include "tools/net.h"
#include "tools/serve/http.h"

// Routes (world_routes): GET /livez (open); POST /echo; POST /later?ms=N, answered by another thread; POST
// /busy?ms=N, whose handler takes so long; POST
// /stream?n=N&bytes=B&ms=M, N events of B bytes, M ms apart, from another thread; GET /v1/adapters/{name}; POST
// /v1/adapters/{name}/pin (operator).
extern const struct http_route world_routes[];
extern const uint32_t world_n_routes;

struct world {
    struct graft_ctx *ctx;
    struct http_server *server;
    uint16_t port;
    char folder[64];                     // of its own, removed at the end
    bool tls;                            // set before world_open: a certificate of its own, and client() speaks TLS
    atomic_uint gone, finished, running; // of deferred exchanges
    atomic_ullong gone_ns;
};

// config may be NULL; port 0 of 127.0.0.1 unless it says otherwise. Fails the test if it does not start.
void world_open(struct world *world, struct http_config *config);
void world_close(struct world *world);
// Write a file in the folder; returns its path, valid until the next call.
const char *world_file(struct world *world, const char *name, const char *text);
char *world_read(struct world *world, const char *name); // free it
void wait_ms(unsigned ms);

struct reply {
    int status; // 0: none came
    char head[8192];
    char *body; // without chunks; NUL behind; free with reply_free
    size_t body_length;
    bool complete; // as long as the head said, or properly ended
    bool closed;   // by the server, after this reply (waits up to 300 ms for it)
};

// A connection; with world.tls what is written to it goes over TLS, by a thread of its own.
int client(const struct world *world);
int client_to(uint16_t port);
int client_unix(const char *path);
void send_all(int fd, const char *bytes, size_t length);
#define SEND(fd, text) send_all((fd), (text), sizeof(text) - 1)
// Read one reply; at most this long.
struct reply receive(int fd, unsigned timeout_ms);
void reply_free(struct reply *reply);
// Value of a header of a reply, into a static buffer; "" if absent.
const char *header_of(const struct reply *reply, const char *name);
// Send, receive, close the socket.
struct reply ask(const struct world *world, const char *bytes, size_t length);
#define ASK(world, text) ask((world), (text), sizeof(text) - 1)
// Something has come, or the end, within so many ms.
bool readable(int fd, int ms);
// As net_receive, waited for.
ssize_t receive_some(int fd, void *out, size_t room);
// True if the server closes within this time; what comes before is dropped.
bool closes(int fd, unsigned timeout_ms);

// The reply has this status and x-request-id, from 400 on an error object.
void ck_reply(const struct reply *reply, int status);

// tls_client.c: a certificate with this name and its key, written into the folder.
void make_certificate(struct world *world, const char *name, const char *cert_name, const char *key_name);
// The end of a socket pair behind which a thread speaks TLS with this port. Closing it ends both.
int tls_client(uint16_t port);

#endif
