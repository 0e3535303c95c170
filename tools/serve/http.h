// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 for `graft serve`: a guarded server on libmicrohttpd, a route table that denies by default, replies from any thread,
// server-sent events.
//
//     static const struct http_route routes[] = {
//         {HTTP_GET, "/v1/models", HTTP_USER, 0, models}, {HTTP_POST, "/v1/chat/completions", HTTP_USER, 0, chat}};
//     http_server_create(ctx, &server, &config);            // sockets are bound, clients cannot connect yet
//     http_server_start(server, routes, n_routes, user);    // from here on handlers run
//     http_server_run(server);                              // until SIGTERM: signals, drain, end
//     http_server_destroy(&server);
//
// A handler runs on an HTTP thread (two of them, one for long bodies, so handlers run beside each other) and must not block. It
// gets an exchange and finishes it exactly once, before it returns or later, from any thread: with http_reply, http_reply_json,
// http_error, or http_stream_begin ... http_stream_end. The exchange and everything it returned are gone then. All memory is
// bounded by the maxima below; nothing here ends the program.
#ifndef GRAFT_TOOLS_SERVE_HTTP_H
#define GRAFT_TOOLS_SERVE_HTTP_H

#include <jansson.h>

#include "platform/plat.h"

enum {
    HTTP_MAX_HEADERS = 100,         // fields of a request; more: 431
    HTTP_MAX_HEAD_BYTES = 16 << 10, // request line and fields; more: 431
    HTTP_MAX_PATH = 512,            // bytes of a decoded path; more: 414
    HTTP_MAX_BODY = 1 << 20,        // bytes of a body unless the route says otherwise; more: 413
    HTTP_MAX_BODIES = 64 << 20,     // bytes of all bodies at a time; more: 503
    HTTP_MAX_STREAM = 2 << 20,      // bytes of a stream its client has not read yet
    HTTP_MAX_STREAMS = 256,         // streams at a time; more: 503
    HTTP_MAX_CONNECTIONS = 4096,    // upper bound of max_connections
    HTTP_MAX_ROUTES = 128,
    HTTP_MAX_LISTENERS = 4,            // public ones
    HTTP_MAX_REPLY_HEADERS = 16,       // http_reply_header
    HTTP_MAX_REPLY_HEADER_BYTES = 256, // of one value
    HTTP_MAX_NAME = 128,               // {name} in a path, decoded, with its NUL
    HTTP_MAX_TENANT = 64,              // with its NUL
    HTTP_MAX_ALLOWED = 32,             // adapters a key may name
    HTTP_ID_BYTES = 40                 // request id with its NUL
};

struct http_server;
struct http_exchange;

// ---- routes ----

enum http_method { HTTP_GET, HTTP_POST, HTTP_PUT, HTTP_PATCH, HTTP_DELETE, HTTP_METHODS };

// Who may call. Roles are ordered: an operator may do what a user may.
enum http_role {
    HTTP_NOBODY,   // never matches: a route left at zero is closed
    HTTP_OPEN,     // no key: /livez, /readyz, /health
    HTTP_USER,     // a key of either role; without a keys file (loopback only) everybody is a user
    HTTP_OPERATOR, // only on the operator's listener, or with config.operator_routes_public and an operator's key
};

struct http_route {
    enum http_method method; // GET routes answer HEAD as well
    const char *pattern;     // "/v1/adapters/{name}/pin": exact, at most one {name}, which matches one segment of 1 to 127
                             // bytes without '/', control characters, and not "." or ".."
    enum http_role role;
    uint32_t body_limit; // bytes; 0 = HTTP_MAX_BODY for POST, PUT and PATCH, no body for GET and DELETE
    void (*handler)(struct http_exchange *exchange, void *user);
};

// ---- who asks ----

struct http_caller {
    enum http_role role;          // HTTP_OPEN: nobody in particular
    char key[20];                 // public id of the key, for logs and metrics; "" = none was needed
    char tenant[HTTP_MAX_TENANT]; // "" without keys
    char adapter[HTTP_MAX_NAME];  // that the caller's token names: NAME or NAME@VERSION; "" = none
    bool operator_listener;       // came in by the operator's listener
    uint32_t max_concurrent;      // requests of this key at a time; 0 = no limit of its own (enforced by the server)
};
// True if the caller's key or token may use the adapter of this name (its own list; no list = all). Unknown and forbidden names
// should look the same to the client.
bool http_caller_allows(const struct http_exchange *exchange, const char *adapter);
// Charge tokens, prompt and answer, to the caller's bucket. A bucket that is empty refuses the next request, not this one.
void http_charge_tokens(struct http_exchange *exchange, uint64_t tokens);

// ---- the request; valid until the exchange is finished; texts end in NUL ----

enum http_method http_method(const struct http_exchange *exchange);
const char *http_path(const struct http_exchange *exchange);               // decoded, without the query
const char *http_name(const struct http_exchange *exchange);               // what {name} matched; "" if the pattern has none
const char *http_query(struct http_exchange *exchange, const char *name);  // decoded; NULL if absent. Handler's thread only
const char *http_header(struct http_exchange *exchange, const char *name); // NULL if absent. Handler's thread only, before the
                                                                           // handler returns: copy what is needed later
const char *http_body(const struct http_exchange *exchange, size_t *length); // a NUL stands behind it
const struct http_caller *http_caller(const struct http_exchange *exchange);
const char *http_peer(const struct http_exchange *exchange);        // "127.0.0.1:51234", "unix:1000" (a uid)
const char *http_request_id(const struct http_exchange *exchange);  // also in x-request-id of the reply: the client's own if it
                                                                    // is 1 to 39 of [A-Za-z0-9._-], else a random one
const char *http_traceparent(const struct http_exchange *exchange); // W3C, checked; "" if none came

// ---- the client goes away ----

// Call fn(user) once when the client is gone, is cut for not reading, or the server ends the request at the end of a drain; at
// once if that has happened already. fn runs on another thread with the exchange locked: it may only set a flag or cancel
// (graft_request_cancel). It is not running any more, and never will, when finishing the exchange has returned. The exchange
// must be finished all the same; what is written from then on goes nowhere.
void http_on_gone(struct http_exchange *exchange, void (*fn)(void *user), void *user);

// ---- replies ----

// A header of the reply to come, after http_reply_header's name and value were copied; NUL-free ASCII without CR and LF, else
// it is dropped. Also for streams, before http_stream_begin. content-type, x-request-id, cache-control: no-store and
// x-content-type-options: nosniff are set by the server.
void http_reply_header(struct http_exchange *exchange, const char *name, const char *value);
// Finish with these bytes (copied). Any thread.
void http_reply(struct http_exchange *exchange, int status, const char *type, const void *data, size_t length);
// Finish with a JSON value; takes the reference. NULL (no memory) becomes a 500.
void http_reply_json(struct http_exchange *exchange, int status, json_t *value);
// Finish with {"error": {"message", "type", "param", "code"}}. type NULL: from the status (invalid_request_error,
// authentication_error, permission_error, not_found_error, rate_limit_error, server_error); param and code may be NULL (null in
// the JSON). The message is cut at 1000 bytes and made UTF-8.
GRAFT_PRINTF(6, 7)
void http_error(struct http_exchange *exchange, int status, const char *type, const char *code, const char *param,
                const char *format, ...);
// The error object alone, for an error inside a stream. NULL: no memory.
json_t *http_error_json(int status, const char *type, const char *code, const char *param, const char *message);

// ---- streams ----

// Send status 200 and the headers of an event stream. False: too many streams; the exchange is not finished then, reply 503.
bool http_stream_begin(struct http_exchange *exchange);
// Raw bytes. Any thread, one at a time. False: the client is gone, or HTTP_MAX_STREAM bytes or all the memory of slow readers
// wait to be read, which cuts it; the caller goes on to http_stream_end. Never blocks.
bool http_stream_write(struct http_exchange *exchange, const void *data, size_t length);
// "data: TEXT\n\n"; text is one line. As http_stream_write.
bool http_stream_data(struct http_exchange *exchange, const char *text, size_t length);
// The same with a JSON value in its compact form; takes the reference.
bool http_stream_json(struct http_exchange *exchange, json_t *value);
// Only the stream's last words follow: its key may run another request from now on, as the client may send one as soon as it
// has read them.
void http_stream_answered(struct http_exchange *exchange);
// Finish: what is buffered is still sent, then the reply ends.
void http_stream_end(struct http_exchange *exchange);

// ---- the access log: what the server cannot know itself ----

struct http_log_entry {
    char adapter[HTTP_MAX_NAME]; // "" = base
    char digest[72];             // of the adapter, hex
    char outcome[32];            // "stop", "length", "cancelled" ...; "" = from the status
    uint32_t prompt_tokens, reused_tokens, answer_tokens;
    uint64_t queue_ns, first_token_ns;
};
// Fill what is written when the exchange ends. Before it is finished; one thread at a time.
struct http_log_entry *http_log(struct http_exchange *exchange);
// True if texts are to be logged (config.log_text); http_log_text copies at most 4096 bytes of each then, else nothing.
void http_log_text(struct http_exchange *exchange, const char *prompt, size_t prompt_bytes, const char *answer,
                   size_t answer_bytes);

// ---- the server ----

enum http_log_target { HTTP_LOG_NONE, HTTP_LOG_STDERR, HTTP_LOG_SYSLOG, HTTP_LOG_JOURNAL, HTTP_LOG_FILE };

struct http_config {
    const char *listen[HTTP_MAX_LISTENERS]; // "127.0.0.1:8080", "[::1]:8080", "unix:/run/graft.sock"; none = 127.0.0.1:8080
    uint32_t n_listen;
    const char *operator_listen;    // the same form; NULL = none. A Unix socket (0600) needs no key, anything else does
    bool operator_routes_public;    // operator routes also on the public listeners, with an operator's key
    const char *keys_path;          // keys file (tools/serve/keys.h); NULL = none, which only loopback and Unix sockets allow
    const char *jwt_path;           // rules for tokens of an identity provider (tools/serve/http_jwt.h); NULL = none are taken
    const char *tls_cert, *tls_key; // PEM files; both or none; for all TCP listeners
    bool insecure_plain_http;       // keys, but no TLS, on other addresses than loopback
    const char *const *hosts;       // more names that Host and Origin may have, besides the addresses listened on
    uint32_t n_hosts;
    uint32_t max_connections;  // 0 = 1200
    uint32_t max_per_address;  // 0 = 1100 on loopback, 64 elsewhere
    uint32_t head_ms, body_ms; // absolute deadlines of a head (10 s) and of a body (30 s); 0 = these
    uint32_t idle_ms;          // between two requests of a connection; 0 = 75 s
    uint32_t stall_ms;         // a client that reads nothing for so long is cut; 0 = 30 s
    uint32_t drain_ms;         // requests may go on for so long after SIGTERM; 0 = 30 s
    enum http_log_target log;
    const char *log_path; // HTTP_LOG_FILE; of syslog and journald: another socket than the usual one, or NULL
    uint64_t log_bytes;   // rotated when larger; 0 = 64 MiB
    uint32_t log_files;   // rotated files that are kept; 0 = 5
    bool log_text;        // prompts and answers too
};

// Block SIGTERM, SIGINT and SIGHUP in this thread and in those it starts from now on: http_server_run waits for them. Call
// before the first thread is started (the engine, a Vulkan driver), else one of those may get the signal.
void http_block_signals(void);
// As if somebody had sent SIGTERM. Thread-safety: safe.
void http_ask_to_end(void);
// Bind the listeners and read keys and certificate. On failure *out is NULL and graft_last_error says what was found and what
// is allowed. Errors: GRAFT_E_ARGUMENT (an address that needs keys or TLS, an unsound option), GRAFT_E_IO, GRAFT_E_FORMAT (keys
// file, certificate), GRAFT_E_MEMORY, GRAFT_E_BUDGET, GRAFT_E_INTERNAL.
GRAFT_MUST_CHECK enum graft_status http_server_create(struct graft_ctx *ctx, struct http_server **out,
                                                      const struct http_config *config);
// Let clients connect. The routes must outlive the server; user is given to every handler.
GRAFT_MUST_CHECK enum graft_status http_server_start(struct http_server *server, const struct http_route *routes,
                                                     uint32_t n_routes, void *user);
// Block until the server has ended because of SIGTERM, SIGINT (drain, a second one at once) or http_server_drain. SIGHUP
// reopens the log and reads keys, rules for tokens and certificate again. on_hangup, if not NULL, is called then too. Call from
// the main thread only; the signals are blocked in all threads that the server starts.
void http_server_run(struct http_server *server, void (*on_hangup)(void *user), void *user);
// Stop taking requests: readiness off, other routes than HTTP_OPEN ones get 503; after drain_ms every exchange is told that its
// client is gone. Any thread.
void http_server_drain(struct http_server *server);
bool http_server_draining(const struct http_server *server);
// Ends what runs (as after a drain), waits until every exchange is finished, frees. *server becomes NULL.
void http_server_destroy(struct http_server **server);
// Port of public listener i, for port 0; 0 for Unix sockets.
uint16_t http_server_port(const struct http_server *server, uint32_t i);

struct http_stats {
    uint32_t connections, exchanges, streams; // now
    uint64_t requests;                        // since the start
    uint64_t refused_connections;             // 503 because of the connection limits
    uint64_t refused_guard;                   // malformed heads
    uint64_t refused_auth, refused_rate;      // 401 and 403; 429
    uint64_t cut_head, cut_body, cut_stall;   // deadlines
    uint64_t gone;                            // clients that left before their reply was complete
    uint64_t bytes_in, bytes_out;             // bodies
    uint64_t log_lost;                        // lines of the access log that could not be written
};
void http_server_describe(struct http_server *server, struct http_stats *out);
// What http_stats has not, as Prometheus text to append to /metrics: replies by route and status, their times, draining.
// Returns the length without the NUL behind it, 0 if it does not fit (http_server_metrics_bytes is enough). Any thread.
size_t http_server_metrics(struct http_server *server, char *out, size_t bytes);
size_t http_server_metrics_bytes(struct http_server *server);

#endif
