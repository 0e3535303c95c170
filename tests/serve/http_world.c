// SPDX-License-Identifier: Apache-2.0
#include "serve/http_world.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#ifdef _WIN32
#define poll WSAPoll
#else
#include <errno.h>
#include <poll.h>
#include <sys/un.h>
#endif

void wait_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000}, NULL);
}

// ---- routes ----

static void livez(struct http_exchange *exchange, void *user)
{
    (void)user;
    http_reply_json(exchange, 200, json_pack("{s:s}", "status", "ok"));
}

static void echo(struct http_exchange *exchange, void *user)
{
    (void)user;
    size_t length;
    const char *body = http_body(exchange, &length);
    const char *q = http_query(exchange, "q");
    json_t *json = json_pack("{s:I,s:s%,s:s,s:s,s:s,s:s,s:s}", "length", (json_int_t)length, "body", body,
                             length < 100 ? length : 100, "path", http_path(exchange), "tenant", http_caller(exchange)->tenant,
                             "q", q ? q : "", "trace", http_traceparent(exchange), "peer", http_peer(exchange));
    http_charge_tokens(exchange, 10);
    http_reply_json(exchange, 200, json);
}

struct late {
    struct world *world;
    struct http_exchange *exchange;
    unsigned ms, n, bytes;
    atomic_bool gone;
};

static void on_gone(void *user)
{
    struct late *late = user;
    atomic_fetch_add(&late->world->gone, 1);
    atomic_store(&late->world->gone_ns, graft_clock_ns());
    atomic_store(&late->gone, true);
}

static unsigned number(struct http_exchange *exchange, const char *name)
{
    const char *text = http_query(exchange, name);
    return text ? (unsigned)atoi(text) : 0;
}

static void *reply_late(void *user)
{
    struct late *late = user;
    for (unsigned i = 0; i < late->ms && !atomic_load(&late->gone); i++) {
        wait_ms(1);
    }
    http_reply_json(late->exchange, 200, json_pack("{s:s}", "when", "later"));
    atomic_fetch_add(&late->world->finished, 1);
    atomic_fetch_sub(&late->world->running, 1);
    free(late);
    return NULL;
}

static void *stream(void *user)
{
    struct late *late = user;
    char *text = malloc(late->bytes + 16);
    for (unsigned i = 0; i < late->n; i++) {
        int n = snprintf(text, 16, "%u ", i);
        memset(text + n, 'x', late->bytes);
        if (!http_stream_data(late->exchange, text, (size_t)n + late->bytes)) {
            break;
        }
        if (late->ms) {
            wait_ms(late->ms);
        }
    }
    http_stream_data(late->exchange, "[DONE]", 6);
    snprintf(http_log(late->exchange)->outcome, 32, "stop");
    http_log(late->exchange)->answer_tokens = late->n;
    http_stream_end(late->exchange);
    free(text);
    atomic_fetch_add(&late->world->finished, 1);
    atomic_fetch_sub(&late->world->running, 1);
    free(late);
    return NULL;
}

static void begin(struct http_exchange *exchange, void *user, void *(*run)(void *user))
{
    struct late *late = calloc(1, sizeof *late);
    late->world = user;
    late->exchange = exchange;
    late->ms = number(exchange, "ms");
    late->n = number(exchange, "n");
    late->bytes = number(exchange, "bytes");
    atomic_fetch_add(&late->world->running, 1);
    http_on_gone(exchange, on_gone, late);
    if (run == stream && !http_stream_begin(exchange)) {
        atomic_fetch_sub(&late->world->running, 1);
        http_error(exchange, 503, NULL, "too_many_streams", NULL, "too many streams");
        free(late);
        return;
    }
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, run, late), 0);
    pthread_detach(thread);
}

static void later_route(struct http_exchange *exchange, void *user)
{
    begin(exchange, user, reply_late);
}

static void stream_route(struct http_exchange *exchange, void *user)
{
    begin(exchange, user, stream);
}

// A handler that takes its time.
static void busy(struct http_exchange *exchange, void *user)
{
    (void)user;
    wait_ms(number(exchange, "ms"));
    http_reply_json(exchange, 200, json_pack("{s:s}", "was", "busy"));
}

static void adapter(struct http_exchange *exchange, void *user)
{
    (void)user;
    http_reply_json(exchange, http_caller_allows(exchange, http_name(exchange)) ? 200 : 404,
                    json_pack("{s:s}", "name", http_name(exchange)));
}

const struct http_route world_routes[] = {
    {HTTP_GET, "/livez", HTTP_OPEN, 0, livez},
    {HTTP_POST, "/echo", HTTP_USER, 0, echo},
    {HTTP_GET, "/echo", HTTP_USER, 0, echo},
    {HTTP_POST, "/later", HTTP_USER, 0, later_route},
    {HTTP_POST, "/stream", HTTP_USER, 0, stream_route},
    {HTTP_POST, "/busy", HTTP_USER, 0, busy},
    {HTTP_POST, "/small", HTTP_USER, 64, echo},
    {HTTP_GET, "/v1/adapters/{name}", HTTP_USER, 0, adapter},
    {HTTP_DELETE, "/v1/adapters/{name}", HTTP_OPERATOR, 0, adapter},
    {HTTP_POST, "/v1/adapters/{name}/pin", HTTP_OPERATOR, 0, adapter},
};
const uint32_t world_n_routes = sizeof world_routes / sizeof *world_routes;

// ---- the server ----

void world_open(struct world *world, struct http_config *config)
{
    struct http_config standard = {.n_listen = 0};
    config = config ? config : &standard;
    if (!world->ctx) {
        world->ctx = graft_test_ctx(NULL, 0);
    }
    if (!world->folder[0]) {
        snprintf(world->folder, sizeof world->folder, "/tmp/graft-http-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(world->folder));
    }
    char cert[96], key[96];
    snprintf(cert, sizeof cert, "%s/world-cert.pem", world->folder);
    snprintf(key, sizeof key, "%s/world-key.pem", world->folder);
    if (world->tls) {
        make_certificate(world, "world", "world-cert.pem", "world-key.pem");
        config->tls_cert = cert;
        config->tls_key = key;
    }
    if (config->n_listen == 0) {
        config->listen[config->n_listen++] = "127.0.0.1:0";
    }
    ck_assert_ok(http_server_create(world->ctx, &world->server, config));
    ck_assert_ok(http_server_start(world->server, world_routes, world_n_routes, world));
    world->port = http_server_port(world->server, 0);
}

void world_close(struct world *world)
{
    http_server_destroy(&world->server);
    for (int i = 0; i < 2000 && atomic_load(&world->running) > 0; i++) { // the last line of a detached thread
        wait_ms(1);
    }
    graft_ctx_destroy(&world->ctx);
    if (world->folder[0]) {
        graft_test_remove_all(world->folder);
    }
}

const char *world_file(struct world *world, const char *name, const char *text)
{
    static char path[128];
    if (!world->folder[0]) {
        snprintf(world->folder, sizeof world->folder, "/tmp/graft-http-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(world->folder));
    }
    snprintf(path, sizeof path, "%s/%s", world->folder, name);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    return path;
}

char *world_read(struct world *world, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", world->folder, name);
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 1 << 20);
    if (file) {
        size_t n = fread(text, 1, (1 << 20) - 1, file);
        text[n] = '\0';
        fclose(file);
    }
    return text;
}

// ---- the client ----

bool readable(int fd, int ms)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    return poll(&wait, 1, ms) == 1;
}

ssize_t receive_some(int fd, void *out, size_t room)
{
    return readable(fd, 10000) ? net_receive(fd, out, room) : NET_LATER;
}

int client_to(uint16_t port)
{
    char number[8], why[200];
    snprintf(number, sizeof number, "%u", port);
    ck_assert(net_begin());
    int fd = net_connect("127.0.0.1", number, why, sizeof why);
    ck_assert_msg(fd >= 0, "connect: %s", why);
    return fd;
}

int client(const struct world *world)
{
    return world->tls ? tls_client(world->port) : client_to(world->port);
}

int client_unix(const char *path)
{
    char why[200];
    int fd = net_connect_local(path, why, sizeof why);
    ck_assert_msg(fd >= 0, "connect: %s", why);
    return fd;
}

void send_all(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t n = net_send(fd, bytes, length);
        if (n == NET_LATER) { // one end of a pair
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            poll(&wait, 1, 100);
            continue;
        }
        if (n <= 0) {
            return; // the server has closed: what it said before is judged
        }
        bytes += n;
        length -= (size_t)n;
    }
}

const char *header_of(const struct reply *reply, const char *name)
{
    static _Thread_local char value[512];
    value[0] = '\0';
    size_t n = strlen(name);
    for (const char *line = strchr(reply->head, '\n'); line; line = strchr(line, '\n')) {
        line++;
        if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
            const char *from = line + n + 1 + strspn(line + n + 1, " ");
            snprintf(value, sizeof value, "%.*s", (int)strcspn(from, "\r\n"), from);
        }
    }
    return value;
}

struct buffer {
    int fd;
    uint64_t deadline_ns;
    bool eof;
};

// Up to `count` more bytes; 0 at the end, and when time is over.
static size_t take(struct buffer *b, void *out, size_t count)
{
    uint64_t now = graft_clock_ns();
    if (now >= b->deadline_ns || !readable(b->fd, (int)((b->deadline_ns - now) / 1000000) + 1)) {
        return 0;
    }
    ssize_t n = net_receive(b->fd, out, count);
    b->eof |= n <= 0;
    return n > 0 ? (size_t)n : 0;
}

// One more byte, or -1.
static int next(struct buffer *b)
{
    unsigned char c;
    return take(b, &c, 1) ? c : -1;
}

// `count` more bytes of the body; false if they do not come.
static bool add_body(struct buffer *b, struct reply *reply, size_t count)
{
    reply->body = realloc(reply->body, reply->body_length + count + 1);
    ck_assert_ptr_nonnull(reply->body);
    for (size_t n = 1; count && n; count -= n) {
        n = take(b, reply->body + reply->body_length, count);
        reply->body_length += n;
    }
    reply->body[reply->body_length] = '\0';
    return count == 0;
}

struct reply receive(int fd, unsigned timeout_ms)
{
    struct reply reply = {.status = 0};
    struct buffer b = {.fd = fd, .deadline_ns = graft_clock_ns() + timeout_ms * 1000000ull};
    size_t used = 0;
    int c = 0;
    while (used + 1 < sizeof reply.head && (used < 4 || memcmp(reply.head + used - 4, "\r\n\r\n", 4) != 0) &&
           (c = next(&b)) >= 0) {
        reply.head[used++] = (char)c;
    }
    if (used >= 12 && strncmp(reply.head, "HTTP/1.", 7) == 0 && c >= 0) {
        reply.status = atoi(reply.head + 9);
        bool chunked = strcasecmp(header_of(&reply, "transfer-encoding"), "chunked") == 0;
        const char *length = header_of(&reply, "content-length");
        if (chunked) {
            for (;;) {
                char line[32];
                size_t n = 0;
                while ((c = next(&b)) >= 0 && c != '\n' && n + 1 < sizeof line) {
                    line[n++] = (char)c;
                }
                line[n] = '\0';
                unsigned long chunk = strtoul(line, NULL, 16);
                if (c < 0 || !add_body(&b, &reply, chunk) || next(&b) < 0 || next(&b) < 0) {
                    break;
                }
                if (chunk == 0) {
                    reply.complete = true;
                    break;
                }
            }
        } else if (length[0]) {
            size_t wanted = strtoul(length, NULL, 10);
            reply.complete = add_body(&b, &reply, wanted);
        }
    }
    if (!reply.body) {
        reply.body = calloc(1, 1);
    }
    reply.closed = b.eof || (strcasecmp(header_of(&reply, "connection"), "close") == 0 && closes(fd, 1000));
    return reply;
}

void reply_free(struct reply *reply)
{
    free(reply->body);
    reply->body = NULL;
}

struct reply ask(const struct world *world, const char *bytes, size_t length)
{
    int fd = client(world);
    send_all(fd, bytes, length);
    struct reply reply = receive(fd, 10000);
    net_close(fd);
    return reply;
}

bool closes(int fd, unsigned timeout_ms)
{
    uint64_t deadline = graft_clock_ns() + timeout_ms * 1000000ull;
    for (;;) {
        uint64_t now = graft_clock_ns();
        if (now >= deadline || !readable(fd, (int)((deadline - now) / 1000000) + 1)) {
            return false;
        }
        char sink[4096];
        if (net_receive(fd, sink, sizeof sink) <= 0) {
            return true;
        }
    }
}

void ck_reply(const struct reply *reply, int status)
{
    ck_assert_msg(reply->status == status, "status %d, expected %d\n%s%s", reply->status, status, reply->head, reply->body);
    ck_assert_msg(header_of(reply, "x-request-id")[0] != '\0', "no x-request-id:\n%s", reply->head);
    if (status >= 400) {
        json_error_t error;
        json_t *json = json_loads(reply->body, JSON_REJECT_DUPLICATES, &error);
        const char *message, *type, *code;
        json_t *param;
        ck_assert_msg(json && json_unpack(json, "{s:{s:s,s:s,s:o,s:s !}!}", "error", "message", &message, "type", &type,
                                          "param", &param, "code", &code) == 0,
                      "no error object: %s", reply->body);
        json_decref(json);
    }
}
