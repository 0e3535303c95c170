// SPDX-License-Identifier: Apache-2.0
// What the files http_*.c share.
//
// Threads. The watch thread has the sockets of the clients: it accepts, speaks TLS, reads heads, keeps the deadlines, sees
// clients go, and moves bytes between a client and libmicrohttpd, which has the other end of a socket pair (http_front.c). One
// MHD thread runs handlers and makes replies; handlers with long bodies run on the worker thread. Anybody may finish an
// exchange. Locks, in this order: server->mutex (connections, free exchanges, counts), exchange->mutex, then what libmicrohttpd
// locks itself.
//
// A connection is suspended in libmicrohttpd while nobody has anything to send on it: it costs no thread and no polling then.
#ifndef GRAFT_TOOLS_SERVE_HTTP_PRIVATE_H
#define GRAFT_TOOLS_SERVE_HTTP_PRIVATE_H

#include <gnutls/gnutls.h>
#include <microhttpd.h>
#include <stdatomic.h>

#include "tools/net.h"
#include "tools/serve/access_log.h"
#include "tools/serve/http_head.h"
#include "tools/serve/http_jwt.h"
#include "tools/serve/http_target.h"
#include "tools/serve/keys.h"
#include "tools/serve/prometheus.h"

enum {
    HTTP_EXCHANGES = 512,   // at a time; more: 503
    HTTP_RAW_TARGET = 2048, // bytes of a request target as it came; more: 414
    HTTP_REPLY_HEADERS_BYTES = 2048,
    HTTP_POOL_BYTES = 32 << 10,   // of libmicrohttpd, per connection: head, its records, what is being sent
    HTTP_SEND_BUFFER = 64 << 10,  // of the kernel, per connection
    HTTP_INNER_BUFFER = 32 << 10, // of the kernel, between libmicrohttpd and us
    HTTP_SCRATCH = 2 * HTTP_MAX_HEAD_BYTES,
    HTTP_MAX_HELD = 16 << 20,      // bytes of all clients that wait: heads that are not complete, requests that came early
    HTTP_BLOCK = 16 << 10,         // of the buffers of streams
    HTTP_STREAM_MEMORY = 16 << 20, // bytes of all of them
    HTTP_LONG_BODY = 16 << 10,     // bytes from which on a handler runs on the worker thread
    HTTP_TICK_MS = 100,            // of the watch thread, while there are connections
    HTTP_LINGER_MS = 1000,         // after a reply that closes, for what the client still sends
    HTTP_LOG_TEXT = 4096,
    HTTP_NONE = -1
};

enum listener_kind { LISTENER_TCP, LISTENER_UNIX };
struct http_listener {
    int fd;
    enum listener_kind kind;
    bool loopback, operator_side, tls;
    uint16_t port;
    char text[128]; // "127.0.0.1:8080"
    char path[108]; // of a Unix socket, to be removed
};

enum connection_state {
    CONNECTION_FREE,
    CONNECTION_HEAD,   // waiting for a complete head, or for the handshake
    CONNECTION_BODY,   // the head was passed on, the body is coming
    CONNECTION_ANSWER, // handled, being answered
    CONNECTION_SENT,   // libmicrohttpd has written the whole reply; the rest of it is on its way to the client
    CONNECTION_LINGER, // the reply was the last one
    CONNECTION_CUT     // closed; libmicrohttpd still has its side
};

struct http_connection {
    enum connection_state state;
    int fd; // of the client
    uint32_t generation;
    const struct http_listener *listener;
    struct sockaddr_storage address;
    char peer[64];
    bool peer_is_us;             // a Unix socket's other end runs as this user or root
    uint64_t deadline_ns;        // of HEAD, BODY and LINGER
    uint64_t progress_ns;        // in ANSWER and SENT: when the client last took something, or nothing was waiting
    int unsent;                  // bytes in the kernel then, or a count of those that it took
    bool again;                  // not its first request
    bool left;                   // the client has closed its side
    struct http_verdict verdict; // of the head that was passed on: refused
    struct http_exchange *exchange;
    // libmicrohttpd's side
    int mhd_fd;
    bool mhd_side, mhd_started;
    int cut_status;     // what the client is to be told when libmicrohttpd has closed without a reply
    atomic_bool broken; // what comes from libmicrohttpd is no whole stream: cut
    bool turned;        // in the list of those that the watch thread must look at
    uint32_t next_turned;
    // The rest is the watch thread's alone: http_front.c.
    int inner; // our end of the pair, -1: none yet
    gnutls_session_t tls;
    bool handshaken, half_sent;           // half_sent: GnuTLS holds a record that the socket did not take
    bool full, blocked;                   // the client takes no more now; libmicrohttpd takes no more now
    bool in_request, finished_body;       // a head was passed on and its reply not; nothing of its body is to come
    bool input_done, incomplete, skipped; // no more is read; what is held is no whole head; an empty line was passed over
    bool lingering;                       // what still comes is read and dropped
    char *held;                           // what came and could not be passed on yet
    uint32_t held_begin, held_end, held_room;
    size_t scanned;
    bool chunked;
    uint64_t body_left;
    struct http_chunks chunks;
    uint64_t replied; // bytes of the reply that the client was sent
    uint32_t client_events, inner_events;
};

struct http_exchange {
    struct http_server *server;
    struct graft_mutex *mutex;
    int32_t next_free;
    bool owner_done, mhd_done; // both: free again

    // the request; written on the MHD thread before the handler runs
    struct MHD_Connection *mhd;
    struct http_connection *connection;
    char target[HTTP_RAW_TARGET];
    size_t target_length;
    bool target_long;
    bool admitted; // guard, route, caller and limits were passed
    bool dispatched;
    enum http_method method;
    char method_text[12];
    char path[HTTP_MAX_PATH], name[HTTP_MAX_NAME];
    const char *query; // into target, or NULL
    char query_value[HTTP_RAW_TARGET];
    const struct http_route *route;
    struct http_exchange *next_work;
    char *body;
    size_t body_length, body_room, body_limit;
    struct http_caller caller;
    struct key_use key; // of the keys file, held
    bool by_token;      // else by a key, or nobody asked
    struct jwt_claims claims;
    char peer[64], id[HTTP_ID_BYTES], traceparent[56];
    uint64_t started_ns;
    int64_t started_wall_ms;

    // the reply; under the mutex
    struct MHD_Response *response;
    int status;
    bool finished, suspended, gone, stalled, gone_called;
    bool close_after;
    bool completed; // sent whole; written by libmicrohttpd's side alone
    void (*on_gone)(void *user);
    void *on_gone_user;
    char headers[HTTP_REPLY_HEADERS_BYTES]; // "name\0value\0" ...
    size_t headers_length;
    uint32_t n_headers;

    // the stream; under the mutex
    bool streaming, ended;
    bool has_blocks, overrun; // overrun: there was no block for what came
    bool cut_short;           // ended in front of its end, since the client is gone
    int32_t first_block, last_block;
    size_t begin, waiting; // in the first block; bytes that the client was not sent yet

    uint64_t bytes_out;
    struct http_log_entry log;
    char *log_texts; // HTTP_LOG_TEXT of each, prompt and answer, NULs behind; NULL unless wanted
};

// Blocks of HTTP_BLOCK bytes for all streams. The mutex is the innermost of all.
struct http_blocks {
    struct graft_mutex *mutex;
    char *bytes;
    int32_t *next; // [HTTP_STREAM_MEMORY / HTTP_BLOCK] behind it in its stream, or of the free ones
    int32_t first_free;
    uint32_t n_free, n_streams, n_empty; // streams that are open; those of them that have no block
};

// Exchanges whose handlers take long: http_worker.c.
struct http_worker {
    struct graft_mutex *mutex;
    struct graft_cond *wake;
    struct graft_thread *thread;
    struct http_exchange *first, *last;
    bool quit;
};

struct http_server {
    struct graft_ctx *ctx;
    struct http_config config;
    struct graft_mutex *mutex;
    struct http_listener listeners[HTTP_MAX_LISTENERS + 1];
    uint32_t n_listeners, n_public;
    struct MHD_Daemon *daemon;
    gnutls_certificate_credentials_t credentials; // with TLS
    gnutls_priority_t priorities;
    struct keys *keys;     // NULL: none
    struct jwt_rules *jwt; // NULL: no tokens are taken
    struct access_log *log;
    struct metrics *metrics;
    const struct http_route *routes;
    uint32_t n_routes;
    void *user;

    struct http_connection *connections;
    uint32_t n_connections; // length
    uint32_t busy_connections;
    struct http_exchange *exchanges;
    int32_t free_exchange;
    uint32_t busy_exchanges, busy_streams;
    struct http_blocks blocks;
    uint64_t body_bytes; // of all exchanges

    struct http_worker worker;
    struct net_watch *sockets;
    struct graft_thread *watch;
    char *scratch;         // [HTTP_SCRATCH] the watch thread's
    struct http_head head; // the watch thread's, too large for its stack
    uint64_t held;         // bytes of all connections, the watch thread's
    uint32_t turned;       // first of the list, UINT32_MAX: none
    atomic_bool draining, stopping;
    atomic_ullong drain_deadline_ns;
    struct http_stats stats;
    uint64_t id_seed[2];
    atomic_ullong id_count;
};

// Exchanges that are not free.
uint32_t http_busy(struct http_server *server);

// ---- http_listen.c ----

// Bind what config says. Errors: GRAFT_E_ARGUMENT (the form of an address; keys or TLS missing), GRAFT_E_IO.
GRAFT_MUST_CHECK enum graft_status http_listen_all(struct http_server *server);
// Let clients connect; until then they are refused by the kernel. Errors: GRAFT_E_IO.
GRAFT_MUST_CHECK enum graft_status http_listen_begin(struct http_server *server);
void http_listen_close(struct http_server *server);
// "127.0.0.1:51234", "unix:1000" (uid).
void http_peer_text(const struct sockaddr_storage *address, int fd, char *out, size_t bytes);

// ---- http_guard.c: pure functions on what came ----

// Host and Origin name what we listen on (loopback only), so that no page of another site reaches us by a name of its own.
bool http_guard_host(const struct http_server *server, const struct http_listener *listener, const char *host);
bool http_guard_origin(const struct http_server *server, const struct http_listener *listener, const char *origin,
                       const char *host);
// A W3C traceparent of version 00.
bool http_guard_traceparent(const char *text);
// ---- http_route.c ----

struct http_match {
    const struct http_route *route; // NULL: none
    bool other_method;              // the path exists, the method does not
    char allow[48];                 // then: "GET, POST"
};
// Which route a path is, for callers on this side; name gets what {name} matched.
struct http_match http_route_find(const struct http_route *routes, uint32_t n_routes, bool operator_routes,
                                  enum http_method method, const char *path, char name[HTTP_MAX_NAME]);
// True if the table can be served: patterns well-formed, no two alike, roles and handlers given.
GRAFT_MUST_CHECK enum graft_status http_routes_check(const struct http_route *routes, uint32_t n_routes);

// ---- http_request.c: what libmicrohttpd calls ----

void *http_on_target(void *server, const char *target, struct MHD_Connection *mhd);
enum MHD_Result http_on_request(void *server, struct MHD_Connection *mhd, const char *url, const char *method,
                                const char *version, const char *data, size_t *length, void **context);
void http_on_completed(void *server, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode code);
void http_on_connection(void *server, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode code);

// ---- http_exchange.c ----

// A free exchange, cleared; NULL if all are taken.
struct http_exchange *http_exchange_take(struct http_server *server);
// One side is done with it; the second one writes the log line and frees it.
void http_exchange_done(struct http_exchange *exchange, bool owner);
// Tell the owner, once, that nobody waits any more. With server->mutex held, or from libmicrohttpd's side.
void http_exchange_gone(struct http_exchange *exchange, bool stalled);

// ---- http_reply.c ----

// A new request id.
void http_make_id(struct http_server *server, char out[HTTP_ID_BYTES]);

// The headers of every reply.
void http_response_headers(struct MHD_Response *response, const struct http_exchange *exchange);

// ---- http_stream.c ----

// The blocks. Errors: GRAFT_E_MEMORY, GRAFT_E_BUDGET.
GRAFT_MUST_CHECK enum graft_status http_streams_create(struct http_server *server);
void http_streams_destroy(struct http_server *server);
void http_stream_free(struct http_exchange *exchange);

// ---- http_worker.c ----

// Errors: GRAFT_E_MEMORY, GRAFT_E_BUDGET, GRAFT_E_INTERNAL (no thread).
GRAFT_MUST_CHECK enum graft_status http_worker_start(struct http_server *server);
// When no exchange is left.
void http_worker_end(struct http_server *server);
// Call the exchange's handler on the worker thread, after those that were added before.
void http_worker_add(struct http_exchange *exchange);

// ---- http_metrics.c ----

GRAFT_MUST_CHECK enum graft_status http_metrics_create(struct http_server *server);
// An exchange has ended.
void http_metrics_count(struct http_exchange *exchange);

// ---- http_tls.c ----

// Read certificate and key; handshakes from now on use them. On failure the old ones stay. Errors: GRAFT_E_IO, GRAFT_E_FORMAT,
// GRAFT_E_LIMIT (too many replacements), GRAFT_E_MEMORY.
GRAFT_MUST_CHECK enum graft_status http_tls_read(struct http_server *server);
void http_tls_free(void);
// Credentials and priorities for all sessions. Errors: GRAFT_E_INTERNAL.
GRAFT_MUST_CHECK enum graft_status http_tls_start(struct http_server *server);
void http_tls_stop(struct http_server *server);
// A server's session on this socket, which must not block; NULL: no memory.
gnutls_session_t http_tls_session(struct http_server *server, int fd);
// The client's socket, with or without TLS; on the watch thread. Bytes moved, 0: not now, -1: the end. With TLS all is taken
// when some is: GnuTLS holds the record (half_sent) until the socket has room; bytes NULL: send what it holds, returns 0.
ssize_t http_wire_recv(struct http_connection *connection, char *out, size_t room);
ssize_t http_wire_send(struct http_connection *connection, const char *bytes, size_t length);

// ---- http_signals_*.c ----

enum http_signal { HTTP_SIGNAL_NONE, HTTP_SIGNAL_END, HTTP_SIGNAL_READ_AGAIN };
// The next one, waited for at most so long.
enum http_signal http_next_signal(unsigned wait_ms);

// ---- http_watch.c ----

void http_watch_run(void *server);
void http_watch_wake(struct http_server *server);
// The watch thread is to look at this connection: libmicrohttpd is done with a request. With server->mutex held.
void http_watch_turn(struct http_server *server, struct http_connection *connection);
enum { HTTP_EVENT_LISTENER = 1, HTTP_EVENT_CLIENT, HTTP_EVENT_INNER };
uint64_t http_event_data(uint64_t kind, uint32_t generation, uint32_t index);

// ---- http_front.c: on the watch thread alone ----

// A connection that was just accepted: watched from now on. False: it was closed.
bool http_front_begin(struct http_server *server, struct http_connection *connection);
// Something has happened on it: NET_* events of the client's socket or of the inner one.
void http_front_event(struct http_server *server, struct http_connection *connection, bool inner, uint32_t events);
// End it. status: what the client is told if no reply has begun; 0: nothing. Whoever waits for its exchange is told.
void http_front_cut(struct http_server *server, struct http_connection *connection, int status, bool stalled);
void http_front_close(struct http_server *server, struct http_connection *connection); // without a word
// Both sides have let go of it. With server->mutex held.
void http_connection_release(struct http_server *server, struct http_connection *connection);
// A reply past libmicrohttpd on a socket that nobody has yet.
void http_front_say(struct http_server *server, int fd, int status);

#endif
