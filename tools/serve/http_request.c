// SPDX-License-Identifier: Apache-2.0
// What libmicrohttpd calls: a target came, a head is complete, body bytes came, the request is over.
//
// The head decides everything that can be decided: the guard, the route, the caller, the limits. What is refused is refused
// before a byte of the body is read, and the connection is closed, since nobody knows what follows.
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "tools/serve/http_private.h"

void *http_on_target(void *user, const char *target, struct MHD_Connection *mhd)
{
    struct http_server *server = user;
    struct http_exchange *exchange = http_exchange_take(server);
    if (!exchange) {
        return NULL; // 503 when the head is complete
    }
    exchange->mhd = mhd;
    exchange->target_length = strlen(target);
    exchange->target_long = exchange->target_length >= sizeof exchange->target;
    memcpy(exchange->target, target, exchange->target_long ? sizeof exchange->target - 1 : exchange->target_length);
    exchange->owner_done = true; // until a handler owns it
    return exchange;
}

// The fields of a head that was judged before it came here.
struct fields {
    struct {
        const char *name, *value;
    } list[HTTP_MAX_HEADERS];
    uint32_t count;
};

static enum MHD_Result collect(void *user, enum MHD_ValueKind kind, const char *name, const char *value)
{
    (void)kind;
    struct fields *fields = user;
    if (fields->count == HTTP_MAX_HEADERS) {
        return MHD_NO;
    }
    fields->list[fields->count].name = name;
    fields->list[fields->count++].value = value ? value : "";
    return MHD_YES;
}

static const char *field(const struct fields *fields, const char *name)
{
    for (uint32_t i = 0; i < fields->count; i++) {
        if (strcasecmp(fields->list[i].name, name) == 0) {
            return fields->list[i].value;
        }
    }
    return NULL;
}

// An own id is kept if it is harmless in logs and headers.
static void choose_id(struct http_exchange *exchange, const char *given)
{
    static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    if (given && given[0] && strlen(given) < sizeof exchange->id && strspn(given, good) == strlen(given)) {
        memcpy(exchange->id, given, strlen(given) + 1);
        return;
    }
    http_make_id(exchange->server, exchange->id);
}

// Refuse in the head: the reply closes the connection.
static void refuse(struct http_exchange *exchange, int status, const char *code, const char *message)
{
    exchange->close_after = true;
    exchange->owner_done = false;
    http_error(exchange, status, NULL, code, NULL, "%s", message);
}

static void count(struct http_server *server, uint64_t *counter)
{
    graft_mutex_lock(server->mutex);
    (*counter)++;
    graft_mutex_unlock(server->mutex);
}

static void retry_after(struct http_exchange *exchange, uint64_t ns)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)(ns / 1000000000u) + 1);
    http_reply_header(exchange, "retry-after", text);
}

static void unauthorized(struct http_exchange *exchange, const char *message)
{
    count(exchange->server, &exchange->server->stats.refused_auth);
    http_reply_header(exchange, "www-authenticate", "Bearer");
    refuse(exchange, 401, "invalid_api_key", message);
}

// A token of the identity provider. Why one is not good stands in the access log alone. False: refused.
static bool by_token(struct http_exchange *exchange, const char *token)
{
    struct http_caller *caller = &exchange->caller;
    const char *why = jwt_rules_check(exchange->server->jwt, token, strlen(token), time(NULL), &exchange->claims);
    if (why) {
        snprintf(exchange->log.outcome, sizeof exchange->log.outcome, "%s", why);
        unauthorized(exchange, "the token is not valid here");
        return false;
    }
    exchange->by_token = true;
    caller->role = HTTP_USER;
    snprintf(caller->key, sizeof caller->key, "jwt:%.15s", exchange->claims.kid);
    memcpy(caller->tenant, exchange->claims.tenant, sizeof caller->tenant);
    memcpy(caller->adapter, exchange->claims.adapter, sizeof caller->adapter);
    return true;
}

// A key of the keys file. False: refused.
static bool by_key(struct http_exchange *exchange, const struct http_listener *listener, bool given, const char *text)
{
    struct http_server *server = exchange->server;
    uint64_t retry_ns = 0;
    enum key_verdict verdict = server->keys ? keys_take(server->keys, text, strlen(text), exchange->started_ns, &exchange->key,
                                                        &exchange->caller, &retry_ns)
                                            : KEY_UNKNOWN;
    exchange->caller.operator_listener = listener->operator_side;
    if (verdict == KEY_UNKNOWN) {
        unauthorized(exchange, given ? "the API key is not valid here" : "an API key is needed: Authorization: Bearer KEY");
        return false;
    }
    if (verdict != KEY_GOOD) {
        count(server, &server->stats.refused_rate);
        retry_after(exchange, retry_ns);
        refuse(exchange, 429, verdict == KEY_RATE ? "rate_limit_exceeded" : "too_many_concurrent_requests",
               verdict == KEY_RATE ? "the key has used up its requests or tokens for now"
                                   : "the key has as many requests running as it may have");
        return false;
    }
    return true;
}

// Who asks? False: refused.
static bool identify(struct http_exchange *exchange, const struct http_listener *listener, const struct fields *fields)
{
    struct http_server *server = exchange->server;
    struct http_caller *caller = &exchange->caller;
    caller->role = HTTP_OPEN;
    caller->operator_listener = listener->operator_side;
    if (exchange->route->role == HTTP_OPEN) {
        return true;
    }
    // Who may open the operator's Unix socket (0600) is the operator.
    if (listener->kind == LISTENER_UNIX && listener->operator_side && exchange->connection->peer_is_us) {
        caller->role = HTTP_OPERATOR;
        return true;
    }
    const char *authorization = field(fields, "authorization");
    static const char scheme[] = "Bearer ";
    bool bearer = authorization && strncasecmp(authorization, scheme, sizeof scheme - 1) == 0;
    const char *text = bearer ? authorization + sizeof scheme - 1 : "";
    while (*text == ' ') {
        text++;
    }
    if (!server->keys && !server->jwt && !listener->operator_side) {
        caller->role = HTTP_USER;
    } else if (server->jwt && !listener->operator_side && strchr(text, '.')) { // keys have no dot
        if (!by_token(exchange, text)) {
            return false;
        }
    } else if (!by_key(exchange, listener, authorization != NULL, text)) {
        return false;
    }
    if (caller->role < exchange->route->role) {
        count(server, &server->stats.refused_auth);
        refuse(exchange, 403, "insufficient_role", "this call is for operators");
        return false;
    }
    return true;
}

// The path names a route of this side. False: refused.
static bool find_route(struct http_exchange *exchange, const struct http_listener *listener)
{
    struct http_server *server = exchange->server;
    bool operator_routes = listener->operator_side || server->config.operator_routes_public;
    struct http_match match =
        http_route_find(server->routes, server->n_routes, operator_routes, exchange->method, exchange->path, exchange->name);
    if (match.other_method || (match.route && exchange->method == HTTP_METHODS)) {
        http_reply_header(exchange, "allow", match.allow);
        refuse(exchange, 405, "method_not_allowed", "this path does not know this method");
        return false;
    }
    if (!match.route) {
        refuse(exchange, 404, "unknown_route", "there is no such path here");
        return false;
    }
    exchange->route = match.route;
    return true;
}

// The type of a body is JSON, and it is not compressed.
static bool body_acceptable(struct http_exchange *exchange, const struct fields *fields)
{
    const char *encoding = field(fields, "content-encoding");
    if (encoding && encoding[0] && strcasecmp(encoding, "identity") != 0) {
        refuse(exchange, 415, "unsupported_content_encoding", "bodies are taken as they are: no Content-Encoding");
        return false;
    }
    const char *type = field(fields, "content-type");
    static const char json[] = "application/json";
    bool good = type && strncasecmp(type, json, sizeof json - 1) == 0 &&
                (type[sizeof json - 1] == '\0' || type[sizeof json - 1] == ';' || type[sizeof json - 1] == ' ');
    if (!good) {
        refuse(exchange, 415, "unsupported_content_type", "a body must come as Content-Type: application/json");
        return false;
    }
    return true;
}

static enum http_method method_of(const char *text)
{
    static const char *const names[HTTP_METHODS] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
    for (int i = 0; i < HTTP_METHODS; i++) {
        if (strcmp(text, names[i]) == 0) {
            return (enum http_method)i;
        }
    }
    return strcmp(text, "HEAD") == 0 ? HTTP_GET : HTTP_METHODS;
}

static size_t default_limit(const struct http_route *route)
{
    if (route->body_limit) {
        return route->body_limit;
    }
    return route->method == HTTP_GET || route->method == HTTP_DELETE ? 0 : HTTP_MAX_BODY;
}

// Host and Origin. On loopback and behind a Unix socket a page of another site must not reach us by a name of its own.
static bool site_allowed(struct http_exchange *exchange, const struct http_listener *listener, const struct fields *fields)
{
    const char *host = field(fields, "host"), *origin = field(fields, "origin");
    if (host && !http_guard_host(exchange->server, listener, host)) {
        refuse(exchange, 403, "host_not_allowed", "Host names none of the addresses that are served (--allow-host adds one)");
        return false;
    }
    if (origin && !http_guard_origin(exchange->server, listener, origin, host)) {
        refuse(exchange, 403, "origin_not_allowed", "calls from pages of other sites are not allowed");
        return false;
    }
    return true;
}

static void judge_head(struct http_exchange *exchange, struct MHD_Connection *mhd, const char *method)
{
    struct http_server *server = exchange->server;
    const struct http_listener *listener = exchange->connection->listener;
    struct fields fields = {.count = 0};
    MHD_get_connection_values(mhd, MHD_HEADER_KIND, collect, &fields);
    graft_mutex_lock(server->mutex);
    struct http_verdict verdict = exchange->connection->verdict;
    graft_mutex_unlock(server->mutex);
    bool whole = verdict.status == 0; // else the head is ours, with the verdict on the client's
    snprintf(exchange->method_text, sizeof exchange->method_text, "%s", whole ? method : "");
    choose_id(exchange, field(&fields, "x-request-id"));
    const char *trace = field(&fields, "traceparent");
    if (trace && http_guard_traceparent(trace)) {
        memcpy(exchange->traceparent, trace, 56);
    }
    if (verdict.status == 0 && exchange->target_long) {
        verdict = HTTP_REFUSED(414, "target_too_long", "the request target is too long");
    }
    if (verdict.status == 0) {
        verdict = http_target_split(exchange->target, exchange->target_length, exchange->path, &exchange->query);
    }
    if (verdict.status) {
        count(server, &server->stats.refused_guard);
        refuse(exchange, verdict.status, verdict.code, verdict.message);
        return;
    }
    exchange->method = method_of(method);
    if (!site_allowed(exchange, listener, &fields) || !find_route(exchange, listener)) {
        return;
    }
    if (!identify(exchange, listener, &fields)) {
        return;
    }
    if (atomic_load(&server->draining) && exchange->route->role != HTTP_OPEN) {
        http_reply_header(exchange, "retry-after", "30");
        refuse(exchange, 503, "shutting_down", "the server is ending; it takes no more requests");
        return;
    }
    exchange->body_limit = default_limit(exchange->route);
    const char *length = field(&fields, "content-length");
    bool chunked = field(&fields, "transfer-encoding") != NULL;
    unsigned long long announced = length ? strtoull(length, NULL, 10) : 0;
    if (announced > exchange->body_limit || (chunked && exchange->body_limit == 0)) {
        refuse(exchange, 413, "body_too_large", "the body is longer than this call takes");
        return;
    }
    if ((announced > 0 || chunked) && !body_acceptable(exchange, &fields)) {
        return;
    }
    exchange->admitted = true;
}

// Grow the body to hold what came; never by more than came, doubled. False: no room.
static bool body_append(struct http_exchange *exchange, const char *data, size_t length)
{
    struct http_server *server = exchange->server;
    size_t need = exchange->body_length + length + 1; // both at most a few MiB
    if (need > exchange->body_room) {
        size_t room = need < 4096 ? 4096 : need + need / 2;
        room = room > exchange->body_limit + 1 ? exchange->body_limit + 1 : room;
        graft_mutex_lock(server->mutex);
        bool fits = server->body_bytes - exchange->body_room + room <= HTTP_MAX_BODIES;
        if (fits) {
            server->body_bytes += room - exchange->body_room;
        }
        graft_mutex_unlock(server->mutex);
        if (!fits) {
            return false;
        }
        size_t before = exchange->body_room;
        exchange->body_room = room;
        enum graft_status status = exchange->body
                                       ? GRAFT_GROW(server->ctx, GRAFT_MEM_HOST, &exchange->body, room, "a request's body")
                                       : GRAFT_NEW(server->ctx, GRAFT_MEM_HOST, &exchange->body, room, "a request's body");
        if (status != GRAFT_OK) {
            graft_mutex_lock(server->mutex);
            server->body_bytes -= room - before;
            graft_mutex_unlock(server->mutex);
            exchange->body_room = before;
            return false;
        }
    }
    memcpy(exchange->body + exchange->body_length, data, length);
    exchange->body_length += length;
    exchange->body[exchange->body_length] = '\0';
    return true;
}

// Move the connection on unless it was cut; false if it was.
static bool enter(struct http_exchange *exchange, enum connection_state state)
{
    struct http_server *server = exchange->server;
    struct http_connection *connection = exchange->connection;
    graft_mutex_lock(server->mutex);
    bool good = connection->state == CONNECTION_BODY || connection->state == CONNECTION_ANSWER;
    if (good) {
        connection->state = state;
        connection->progress_ns = graft_clock_ns();
        connection->unsent = 0;
    }
    graft_mutex_unlock(server->mutex);
    return good;
}

// The watch thread ends the connection when libmicrohttpd has closed its side, which cannot reply while a body comes.
static enum MHD_Result cut(struct http_exchange *exchange, int status)
{
    struct http_server *server = exchange->server;
    graft_mutex_lock(server->mutex);
    exchange->connection->cut_status = status;
    graft_mutex_unlock(server->mutex);
    graft_mutex_lock(exchange->mutex);
    exchange->status = status;
    graft_mutex_unlock(exchange->mutex);
    return MHD_NO;
}

// Queue the reply if there is one, else suspend until there is.
static enum MHD_Result answer(struct http_exchange *exchange)
{
    graft_mutex_lock(exchange->mutex);
    enum MHD_Result result = MHD_YES;
    struct MHD_Response *response = exchange->response;
    unsigned status = (unsigned)exchange->status;
    exchange->response = NULL;
    if (!response && (exchange->finished || exchange->gone)) {
        result = MHD_NO;
    } else if (!response) {
        MHD_suspend_connection(exchange->mhd);
        exchange->suspended = true;
    }
    graft_mutex_unlock(exchange->mutex);
    if (response) { // not under the mutex: libmicrohttpd locks the response, and holds that lock when it calls stream_read
        result = MHD_queue_response(exchange->mhd, status, response);
        MHD_destroy_response(response); // libmicrohttpd holds its own reference
    }
    return result;
}

// A client that closed its side behind its request gets a reply that is there at once, and waits for no other.
static void look_whether_left(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    graft_mutex_lock(server->mutex);
    if (exchange->connection->left) {
        http_exchange_gone(exchange, false);
    }
    graft_mutex_unlock(server->mutex);
}

static enum MHD_Result busy(struct http_server *server, struct MHD_Connection *mhd)
{
    static char text[] = "{\"error\":{\"message\":\"too many requests at a time\",\"type\":\"server_error\",\"param\":null,"
                         "\"code\":\"overloaded\"}}";
    struct MHD_Response *response = MHD_create_response_from_buffer(sizeof text - 1, text, MHD_RESPMEM_PERSISTENT);
    if (!response) {
        return MHD_NO;
    }
    MHD_add_response_header(response, "content-type", "application/json");
    char id[HTTP_ID_BYTES];
    http_make_id(server, id);
    MHD_add_response_header(response, "x-request-id", id);
    MHD_add_response_header(response, "retry-after", "1");
    MHD_add_response_header(response, "connection", "close");
    enum MHD_Result result = MHD_queue_response(mhd, 503, response);
    MHD_destroy_response(response);
    return result;
}

// The head is complete: judge it, and answer at once what is refused.
static enum MHD_Result begin(struct http_server *server, struct http_exchange *exchange, struct MHD_Connection *mhd,
                             const char *method)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    exchange->started_wall_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    exchange->started_ns = graft_clock_ns();
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    exchange->connection = info ? info->socket_context : NULL;
    if (!exchange->connection) {
        return MHD_NO;
    }
    memcpy(exchange->peer, exchange->connection->peer, sizeof exchange->peer);
    graft_mutex_lock(server->mutex);
    server->stats.requests++;
    exchange->connection->exchange = exchange;
    graft_mutex_unlock(server->mutex);
    judge_head(exchange, mhd, method);
    if (!enter(exchange, exchange->admitted ? CONNECTION_BODY : CONNECTION_ANSWER)) {
        return MHD_NO;
    }
    return exchange->admitted ? MHD_YES : answer(exchange);
}

enum MHD_Result http_on_request(void *user, struct MHD_Connection *mhd, const char *url, const char *method,
                                const char *version, const char *data, size_t *length, void **context)
{
    (void)url;
    (void)version;
    struct http_server *server = user;
    struct http_exchange *exchange = *context;
    if (!exchange) {
        return busy(server, mhd);
    }
    if (atomic_load(&server->stopping)) {
        return MHD_NO; // nothing may be suspended from here on
    }
    if (!exchange->started_ns) {
        return begin(server, exchange, mhd, method);
    }
    if (!exchange->admitted) {
        return MHD_NO;
    }
    if (*length > 0) {
        bool small = *length <= exchange->body_limit - exchange->body_length;
        if (!small || !body_append(exchange, data, *length)) {
            return cut(exchange, small ? 503 : 413);
        }
        *length = 0;
        return MHD_YES;
    }
    if (!exchange->dispatched) {
        exchange->dispatched = true;
        if (!enter(exchange, CONNECTION_ANSWER)) {
            return MHD_NO;
        }
        exchange->owner_done = false;
        if (exchange->body_length > HTTP_LONG_BODY) {
            http_worker_add(exchange);
        } else {
            exchange->route->handler(exchange, server->user);
        }
        look_whether_left(exchange);
    }
    return answer(exchange);
}

void http_on_completed(void *user, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode code)
{
    (void)mhd;
    struct http_server *server = user;
    struct http_exchange *exchange = *context;
    *context = NULL;
    if (!exchange) {
        return;
    }
    struct http_connection *connection = exchange->connection;
    if (connection) {
        graft_mutex_lock(server->mutex);
        connection->exchange = NULL;
        bool open = connection->state == CONNECTION_BODY || connection->state == CONNECTION_ANSWER;
        if (open && code == MHD_REQUEST_TERMINATED_COMPLETED_OK) { // else it closes its side next
            connection->state = CONNECTION_SENT;
            connection->progress_ns = graft_clock_ns();
            http_watch_turn(server, connection);
        }
        graft_mutex_unlock(server->mutex);
    }
    exchange->completed =
        code == MHD_REQUEST_TERMINATED_COMPLETED_OK && !exchange->cut_short; // even if the client left right behind it
    if (!exchange->completed) {
        http_exchange_gone(exchange, false);
        graft_mutex_lock(server->mutex);
        server->stats.gone += exchange->dispatched;
        graft_mutex_unlock(server->mutex);
    }
    http_exchange_done(exchange, false);
}

void http_on_connection(void *user, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode code)
{
    struct http_server *server = user;
    graft_mutex_lock(server->mutex);
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
        for (uint32_t i = 0; info && i < server->n_connections; i++) {
            struct http_connection *connection = &server->connections[i];
            if (connection->mhd_side && !connection->mhd_started && connection->mhd_fd == (int)info->connect_fd) {
                connection->mhd_started = true;
                *context = connection;
                break;
            }
        }
    } else if (*context) {
        struct http_connection *connection = *context;
        connection->mhd_side = connection->mhd_started = false;
        connection->mhd_fd = -1;
        if (connection->fd < 0) {
            http_connection_release(server, connection);
        }
        *context = NULL;
    }
    graft_mutex_unlock(server->mutex);
}
