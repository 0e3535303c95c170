// SPDX-License-Identifier: Apache-2.0
// The server as its users and its operator see it: roles, limits, late replies, streams, clients that leave, draining, logs,
// TLS.
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "serve/http_world.h"
#include "tools/serve/keys.h"

#define HEAD(method, path) method " " path " HTTP/1.1\r\nHost: localhost\r\n"
#define JSON_BODY          "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

static char user_key[KEY_TEXT_BYTES], operator_key[KEY_TEXT_BYTES], limited_key[KEY_TEXT_BYTES], other_key[KEY_TEXT_BYTES];

// A keys file with one of each; `extra` are more entries, with a comma in front.
static const char *keys_file(struct world *world, const char *extra)
{
    static char text[4096];
    char id[20], hash[4][65];
    char *const keys[] = {user_key, operator_key, limited_key, other_key};
    for (int i = 0; i < 4; i++) {
        if (!keys[i][0]) {
            ck_assert_ok(key_make(keys[i], id, hash[i]));
        } else {
            unsigned char digest[crypto_hash_sha256_BYTES];
            crypto_hash_sha256(digest, (const unsigned char *)keys[i], strlen(keys[i]));
            sodium_bin2hex(hash[i], 65, digest, sizeof digest);
        }
    }
    snprintf(text, sizeof text,
             "{\"version\": 1, \"keys\": [{\"id\": \"u\", \"sha256\": \"%s\", \"role\": \"user\", \"tenant\": \"finance\", "
             "\"adapters\": "
             "[\"finance\", \"mail-*\"]}, {\"id\": \"o\", \"sha256\": \"%s\", \"role\": \"operator\", \"tenant\": \"it\"}, "
             "{\"id\": \"l\", "
             "\"sha256\": \"%s\", \"role\": \"user\", \"requests_per_minute\": 3, \"tokens_per_minute\": 1000, \"concurrent\": "
             "1}%s]}",
             hash[0], hash[1], hash[2], extra);
    const char *path = world_file(world, "keys.json", text);
    ck_assert_int_eq(chmod(path, 0600), 0);
    return path;
}

static struct reply call(const struct world *world, const char *method, const char *path, const char *key)
{
    char text[600];
    bool body = strcmp(method, "POST") == 0;
    int n = snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s%s%s%s", method, path,
                     key ? "Authorization: Bearer " : "", key ? key : "", key ? "\r\n" : "", body ? JSON_BODY : "\r\n");
    return ask(world, text, (size_t)n);
}

static int status_of(const struct world *world, const char *method, const char *path, const char *key)
{
    struct reply reply = call(world, method, path, key);
    int status = reply.status;
    ck_reply(&reply, status);
    reply_free(&reply);
    return status;
}

// Every route with no key, an unknown one, a user's and an operator's, on the public listener: what is not meant for a caller
// is not done, whatever the table holds.
START_TEST(every_route_is_closed_to_those_it_is_not_for)
{
    static const char *const methods[HTTP_METHODS] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
    for (int public = 0; public < 2; public ++) {
        struct world world = {.ctx = NULL};
        struct http_config config = {.keys_path = keys_file(&world, ""), .operator_routes_public = public == 1};
        world_open(&world, &config);
        for (uint32_t i = 0; i < world_n_routes; i++) {
            const struct http_route *route = &world_routes[i];
            const char *path = strstr(route->pattern, "{name}")
                                   ? strstr(route->pattern, "/pin") ? "/v1/adapters/finance/pin" : "/v1/adapters/finance"
                                   : route->pattern;
            int unknown = status_of(&world, methods[route->method], path, "graft_no"),
                none = status_of(&world, methods[route->method], path, NULL),
                user = status_of(&world, methods[route->method], path, user_key),
                operator= status_of(&world, methods[route->method], path, operator_key);
            switch (route->role) {
            case HTTP_OPEN:
                ck_assert(none == 200 && unknown == 200 && user == 200 && operator== 200);
                break;
            case HTTP_USER:
                ck_assert_msg(none == 401 && unknown == 401, "%s: %d %d", path, none, unknown);
                ck_assert_msg(user == 200 && operator== 200, "%s: %d %d", path, user, operator);
                break;
            default: // hidden: what a user could find there with another method, or nothing
                if (public) {
                    ck_assert_msg(none == 401 && unknown == 401 && user == 403 && operator== 200, "%s: %d %d %d", path, none,
                                  user, operator);
                } else {
                    bool shared = strcmp(path, "/v1/adapters/finance") == 0;
                    int hidden = shared ? 405 : 404;
                    ck_assert_msg(none == hidden && unknown == hidden && user == hidden && operator== hidden, "%s: %d %d %d",
                                  path, none, user, operator);
                }
            }
        }
        world_close(&world);
    }
}
END_TEST

START_TEST(a_route_left_at_zero_and_unsound_tables_are_refused)
{
    struct world world = {.ctx = graft_test_ctx(NULL, 0)};
    static const struct http_route good = {HTTP_GET, "/a/{name}", HTTP_USER, 0, NULL};
    struct http_config config = {.listen = {"127.0.0.1:0"}, .n_listen = 1};
    ck_assert_ok(http_server_create(world.ctx, &world.server, &config));
    for (int i = 0; i < 6; i++) {
        struct http_route routes[2] = {good, good};
        routes[0].handler = world_routes[0].handler;
        routes[1].handler = i == 0 ? NULL : world_routes[0].handler;
        routes[1].pattern = i == 1 ? "/a/{name}" : i == 2 ? "/a{name}" : i == 3 ? "/{other}" : i == 4 ? "a" : "/b";
        routes[1].role = i == 5 ? HTTP_NOBODY : HTTP_USER;
        ck_assert_status(http_server_start(world.server, routes, 2, NULL), GRAFT_E_ARGUMENT);
        ck_assert_error_has("route 1");
    }
    http_server_destroy(&world.server);
    graft_ctx_destroy(&world.ctx);
}
END_TEST

START_TEST(adapters_of_a_key_and_its_limits)
{
    struct world world = {.ctx = NULL};
    struct http_config config = {.keys_path = keys_file(&world, "")};
    world_open(&world, &config);
    ck_assert_int_eq(status_of(&world, "GET", "/v1/adapters/finance", user_key), 200);
    ck_assert_int_eq(status_of(&world, "GET", "/v1/adapters/mail-short", user_key), 200);
    struct reply reply = call(&world, "GET", "/v1/adapters/legal", user_key);
    ck_assert_int_eq(reply.status, 404);
    reply_free(&reply);
    ck_assert_int_eq(status_of(&world, "GET", "/v1/adapters/legal", operator_key), 200);
    reply = call(&world, "POST", "/echo", user_key);
    ck_assert_ptr_nonnull(strstr(reply.body, "\"tenant\":\"finance\""));
    reply_free(&reply);
    // One at a time.
    char text[300];
    int n = snprintf(text, sizeof text, HEAD("POST", "/later?ms=500") "Authorization: bearer %s\r\n" JSON_BODY, limited_key);
    int fd = client(&world);
    send_all(fd, text, (size_t)n);
    wait_ms(100);
    reply = call(&world, "POST", "/echo", limited_key);
    ck_reply(&reply, 429);
    ck_assert_ptr_nonnull(strstr(reply.body, "too_many_concurrent_requests"));
    reply_free(&reply);
    reply = receive(fd, 3000);
    ck_reply(&reply, 200);
    reply_free(&reply);
    net_close(fd);
    // Three a minute: the one above, two more, and then none for 20 seconds.
    ck_assert_int_eq(status_of(&world, "POST", "/echo", limited_key), 200);
    ck_assert_int_eq(status_of(&world, "POST", "/echo", limited_key), 200);
    reply = call(&world, "POST", "/echo", limited_key);
    ck_reply(&reply, 429);
    int seconds = atoi(header_of(&reply, "retry-after"));
    ck_assert_msg(seconds >= 17 && seconds <= 20, "retry-after %d", seconds);
    ck_assert_ptr_nonnull(strstr(reply.body, "rate_limit_exceeded"));
    reply_free(&reply);
    world_close(&world);
}
END_TEST

START_TEST(late_replies_keep_alive_ids_and_traces)
{
    struct world world = {.ctx = NULL};
    world_open(&world, NULL);
    int fd = client(&world);
    for (int i = 0; i < 20; i++) { // all on one connection
        SEND(fd, HEAD("POST", "/later?ms=5") "X-Request-Id: my-id_1.2\r\n" JSON_BODY);
        struct reply reply = receive(fd, 3000);
        ck_reply(&reply, 200);
        ck_assert_str_eq(reply.body, "{\"when\":\"later\"}");
        ck_assert_str_eq(header_of(&reply, "x-request-id"), "my-id_1.2");
        ck_assert_str_eq(header_of(&reply, "access-control-allow-origin"), "");
        reply_free(&reply);
        SEND(fd, HEAD("POST", "/echo") "X-Request-Id: <script>\r\nTraceparent: "
                                       "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n" JSON_BODY);
        reply = receive(fd, 3000);
        ck_reply(&reply, 200);
        ck_assert_int_eq(strncmp(header_of(&reply, "x-request-id"), "req-", 4), 0);
        ck_assert_ptr_nonnull(strstr(reply.body, "\"trace\":\"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\""));
        reply_free(&reply);
    }
    SEND(fd, HEAD("POST", "/echo") "Traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01\r\n" JSON_BODY);
    struct reply reply = receive(fd, 3000);
    ck_assert_ptr_nonnull(strstr(reply.body, "\"trace\":\"\""));
    reply_free(&reply);
    SEND(fd, "HEAD /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_ms(100);
    SEND(fd, HEAD("GET", "/livez") "\r\n");
    reply = receive(fd, 200); // of HEAD: a length and no body, so this one reads into the next; its status is enough
    ck_assert_int_eq(reply.status, 200);
    reply_free(&reply);
    net_close(fd);
    world_close(&world);
}
END_TEST

START_TEST(a_stream_comes_whole_and_in_order)
{
    struct world world = {.ctx = NULL};
    world_open(&world, NULL);
    int fds[8];
    for (int i = 0; i < 8; i++) {
        fds[i] = client(&world);
        SEND(fds[i], HEAD("POST", "/stream?n=2000&bytes=11&ms=0") JSON_BODY); // 40 kB at once: all that a ring holds
    }
    for (int i = 0; i < 8; i++) {
        struct reply reply = receive(fds[i], 10000);
        ck_reply(&reply, 200);
        ck_assert_str_eq(header_of(&reply, "content-type"), "text/event-stream; charset=utf-8");
        ck_assert_str_eq(header_of(&reply, "cache-control"), "no-store");
        ck_assert(reply.complete);
        char *at = reply.body;
        for (int k = 0; k < 2000; k++) {
            char line[64];
            int n = snprintf(line, sizeof line, "data: %d xxxxxxxxxxx\n\n", k);
            ck_assert_msg(strncmp(at, line, (size_t)n) == 0, "event %d: %.40s", k, at);
            at += n;
        }
        ck_assert_str_eq(at, "data: [DONE]\n\n");
        reply_free(&reply);
        SEND(fds[i], HEAD("GET", "/livez") "\r\n"); // and the connection goes on
        reply = receive(fds[i], 3000);
        ck_reply(&reply, 200);
        reply_free(&reply);
        net_close(fds[i]);
    }
    ck_assert_uint_eq(atomic_load(&world.gone), 0);
    // More than the ring holds, so that it goes round a few times.
    int long_one = client(&world);
    SEND(long_one, HEAD("POST", "/stream?n=150&bytes=1000&ms=4") JSON_BODY);
    struct reply whole = receive(long_one, 20000);
    ck_assert(whole.complete);
    const char *from = whole.body;
    for (int k = 0; k < 150; k++) {
        char begin[32];
        size_t n = (size_t)snprintf(begin, sizeof begin, "data: %d ", k);
        ck_assert_msg(strncmp(from, begin, n) == 0 && strspn(from + n, "x") == 1000, "event %d: %.40s", k, from);
        from += n + 1002;
    }
    ck_assert_str_eq(from, "data: [DONE]\n\n");
    reply_free(&whole);
    net_close(long_one);
    // HTTP/1.0 has no chunks: the end of the connection is the end of the stream.
    struct reply reply = ASK(&world, "POST /stream?n=3&bytes=1&ms=1 HTTP/1.0\r\n" JSON_BODY);
    ck_assert_int_eq(reply.status, 200);
    reply_free(&reply);
    world_close(&world);
}
END_TEST

// While a request with a long body is being read by its handler, others are served, and a stream goes on.
START_TEST(long_bodies_hold_nobody_up)
{
    struct world world = {.ctx = NULL};
    world_open(&world, NULL);
    enum { BODY = 100000 };
    char *text = malloc(BODY + 200);
    int n =
        snprintf(text, 200, HEAD("POST", "/busy?ms=1500") "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n", BODY);
    memset(text + n, ' ', BODY);
    int two[2] = {client(&world), client(&world)}, stream_fd = client(&world);
    SEND(stream_fd, HEAD("POST", "/stream?n=20&bytes=10&ms=10") JSON_BODY);
    uint64_t begin = graft_clock_ns();
    for (int i = 0; i < 2; i++) {
        send_all(two[i], text, (size_t)n + BODY);
    }
    wait_ms(100);
    ck_assert_int_eq(status_of(&world, "GET", "/livez", NULL), 200);
    struct reply reply = receive(stream_fd, 5000);
    ck_assert(reply.complete);
    reply_free(&reply);
    ck_assert_msg(graft_clock_ns() - begin < 1400000000u, "others waited");
    net_close(two[1]); // it leaves while it waits for its turn
    reply = receive(two[0], 5000);
    ck_reply(&reply, 200);
    reply_free(&reply);
    free(text);
    net_close(two[0]);
    net_close(stream_fd);
    world_close(&world);
}
END_TEST

// A client that leaves is noticed at once, whether a reply or a stream is awaited, and even if nothing is being sent.
START_TEST(clients_that_leave_are_noticed_within_a_token)
{
    struct world world = {.ctx = NULL};
    world_open(&world, NULL);
    static const char *const requests[] = {HEAD("POST", "/later?ms=8000") JSON_BODY,
                                           HEAD("POST", "/stream?n=100000&bytes=10&ms=20") JSON_BODY,
                                           HEAD("POST", "/stream?n=2&bytes=10&ms=2000") JSON_BODY};
    for (unsigned i = 0; i < 3; i++) {
        int fd = client(&world);
        send_all(fd, requests[i], strlen(requests[i]));
        wait_ms(150);
        ck_assert_uint_eq(atomic_load(&world.gone), i);
        uint64_t left = graft_clock_ns();
        net_close(fd);
        for (int k = 0; k < 1000 && atomic_load(&world.gone) == i; k++) {
            wait_ms(1);
        }
        ck_assert_uint_eq(atomic_load(&world.gone), i + 1);
        double ms = (double)(atomic_load(&world.gone_ns) - left) * 1e-6;
        ck_assert_msg(ms < 100, "noticed after %.1f ms", ms);
    }
    struct http_stats stats;
    for (int i = 0; i < 400; i++) {
        wait_ms(10);
        http_server_describe(world.server, &stats);
        if (stats.exchanges == 0 && stats.connections == 0 && stats.streams == 0) {
            break;
        }
    }
    ck_assert(stats.exchanges == 0 && stats.connections == 0 && stats.streams == 0);
    ck_assert_uint_ge(stats.gone, 2);
    world_close(&world);
}
END_TEST

// Clients that leave when the last event has come and the reply has not ended: no connection is forgotten.
START_TEST(clients_that_leave_at_the_end_leave_nothing)
{
    struct world world = {.ctx = NULL};
    world_open(&world, NULL);
    struct http_stats stats;
    for (int i = 0; i < 300; i++) {
        char bytes[512];
        size_t n = 0;
        int fd = client(&world);
        SEND(fd, HEAD("POST", "/stream?n=4&bytes=1&ms=2") JSON_BODY);
        for (ssize_t got = 1; got > 0 && n < sizeof bytes && (i % 2 || !memmem(bytes, n, "[DONE]", 6)); n += (size_t)got) {
            got = receive_some(fd, bytes + n, sizeof bytes - n);
            if (i % 2) { // the first bytes are enough
                break;
            }
        }
        net_close(fd);
    }
    for (int i = 0; i < 300; i++) {
        http_server_describe(world.server, &stats);
        if (stats.connections + stats.exchanges + stats.streams == 0) {
            break;
        }
        wait_ms(10);
    }
    ck_assert_msg(stats.connections + stats.exchanges + stats.streams == 0, "left: %u connections, %u exchanges, %u streams",
                  stats.connections, stats.exchanges, stats.streams);
    world_close(&world);
}
END_TEST

START_TEST(a_server_that_ends_tells_everybody)
{
    struct world world = {.ctx = NULL};
    world_open(&world, NULL);
    int fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = client(&world);
    }
    SEND(fds[0], HEAD("POST", "/later?ms=60000") JSON_BODY);
    SEND(fds[1], HEAD("POST", "/stream?n=100000&bytes=10&ms=10") JSON_BODY);
    SEND(fds[2], "GET /livez HT"); // a head that never ends
    wait_ms(100);
    uint64_t begin = graft_clock_ns();
    world_close(&world);
    ck_assert(graft_clock_ns() - begin < 3000000000u);
    ck_assert_uint_eq(atomic_load(&world.finished), 2);
    for (int i = 0; i < 3; i++) {
        net_close(fds[i]);
    }
}
END_TEST

static void *run(void *user)
{
    struct world *world = user;
    http_server_run(world->server, NULL, NULL);
    return NULL;
}

START_TEST(sigterm_drains_and_sighup_reloads_without_dropping_a_stream)
{
    struct world world = {.ctx = NULL};
    char log_path[128];
    snprintf(log_path, sizeof log_path, "%s", world_file(&world, "access.log", ""));
    char keys_path[128];
    snprintf(keys_path, sizeof keys_path, "%s", keys_file(&world, ""));
    // The stream takes 1.2 s on a quiet machine, and the drain ends with it.
    struct http_config config = {.keys_path = keys_path, .log = HTTP_LOG_FILE, .log_path = log_path, .drain_ms = 20000};
    world_open(&world, &config);
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, run, &world), 0);
    char text[400];
    int n = snprintf(text, sizeof text, HEAD("POST", "/stream?n=120&bytes=10&ms=10") "Authorization: Bearer %s\r\n" JSON_BODY,
                     user_key);
    int stream = client(&world);
    send_all(stream, text, (size_t)n);
    wait_ms(100);
    // The log was moved away, one key was taken out, another put in.
    char moved[160];
    snprintf(moved, sizeof moved, "%s.moved", log_path);
    ck_assert_int_eq(rename(log_path, moved), 0);
    char hash[65];
    unsigned char digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(digest, (const unsigned char *)other_key, strlen(other_key));
    sodium_bin2hex(hash, 65, digest, sizeof digest);
    snprintf(text, sizeof text, "{\"version\": 1, \"keys\": [{\"id\": \"n\", \"sha256\": \"%s\", \"role\": \"user\"}]}", hash);
    ck_assert_int_eq(chmod(world_file(&world, "keys.json", text), 0600), 0);
    ck_assert_int_eq(status_of(&world, "POST", "/echo", user_key), 200);
    wait_ms(100); // its line is written when the reply has been sent
    kill(getpid(), SIGHUP);
    wait_ms(300);
    ck_assert_int_eq(status_of(&world, "POST", "/echo", user_key), 401);
    ck_assert_int_eq(status_of(&world, "POST", "/echo", other_key), 200);
    // A file that cannot be read leaves the keys as they are.
    world_file(&world, "keys.json", "{\"version\": 1, \"keys\": [{]}");
    kill(getpid(), SIGHUP);
    wait_ms(300);
    ck_assert_int_eq(status_of(&world, "POST", "/echo", other_key), 200);
    // Draining: no new requests, probes and the stream go on.
    kill(getpid(), SIGTERM);
    wait_ms(200);
    ck_assert(http_server_draining(world.server));
    ck_assert_int_eq(status_of(&world, "POST", "/echo", other_key), 503);
    ck_assert_int_eq(status_of(&world, "GET", "/livez", NULL), 200);
    struct reply reply = receive(stream, 20000);
    ck_reply(&reply, 200);
    ck_assert(reply.complete);
    ck_assert_ptr_nonnull(strstr(reply.body, "data: 119 xxxxxxxxxx\n\ndata: [DONE]\n\n"));
    reply_free(&reply);
    net_close(stream);
    pthread_join(thread, NULL);
    char *old = world_read(&world, "access.log.moved"), *new = world_read(&world, "access.log");
    ck_assert_ptr_null(strstr(old, "/stream"));
    ck_assert_ptr_nonnull(strstr(old, "\"path\":\"/echo\""));
    ck_assert_msg(strstr(new, "\"path\":\"/stream\",\"route\":\"/stream\",\"status\":200,\"outcome\":\"stop\"") != NULL, "%s",
                  new);
    ck_assert_ptr_nonnull(strstr(new, "\"key\":\"u\",\"tenant\":\"finance\""));
    free(old);
    free(new);
    world_close(&world);
}
END_TEST

START_TEST(what_runs_after_the_drain_is_cancelled_and_a_second_signal_does_not_wait)
{
    for (int twice = 0; twice < 2; twice++) {
        struct world world = {.ctx = NULL};
        struct http_config config = {.drain_ms = twice ? 60000 : 400};
        world_open(&world, &config);
        pthread_t thread;
        ck_assert_int_eq(pthread_create(&thread, NULL, run, &world), 0);
        int fd = client(&world);
        SEND(fd, HEAD("POST", "/stream?n=100000&bytes=10&ms=5") JSON_BODY);
        wait_ms(100);
        uint64_t begin = graft_clock_ns();
        kill(getpid(), SIGTERM);
        wait_ms(150);
        if (twice) {
            kill(getpid(), SIGTERM);
        }
        pthread_join(thread, NULL);
        double seconds = (double)(graft_clock_ns() - begin) * 1e-9;
        ck_assert_msg(twice ? seconds < 0.6 : seconds > 0.35 && seconds < 2, "%.2f s", seconds);
        world_close(&world);
        ck_assert_uint_eq(atomic_load(&world.finished), 1);
        ck_assert_uint_eq(atomic_load(&world.gone), 1);
        net_close(fd);
    }
}
END_TEST

START_TEST(addresses_that_need_keys_or_tls_are_refused_without)
{
    struct world world = {.ctx = graft_test_ctx(NULL, 0)};
    struct http_server *server = NULL;
    const char *keys = keys_file(&world, "");
    static const struct {
        const char *listen, *operator_listen;
        bool keys, insecure;
        const char *says;
    } cases[] = {
        {"0.0.0.0:0", NULL, false, false, "there are no API keys"},
        {"[::]:0", NULL, false, true, "there are no API keys"},
        {"0.0.0.0:0", NULL, true, false, "unencrypted"},
        {"127.0.0.1:0", "127.0.0.1:0", false, false, "operator"},
        {"localhost", NULL, false, false, "not of the form"},
        {"example.org:80", NULL, false, false, "not of the form"},
        {"127.0.0.1:70000", NULL, false, false, "not of the form"},
        {"127.0.0.1:80x", NULL, false, false, "not of the form"},
        {"::1:80", NULL, false, false, "not of the form"},
        {"unix:relative", NULL, false, false, "absolute path"},
        {"192.0.2.1:1", NULL, true, true, "cannot be listened on"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct http_config config = {.listen = {cases[i].listen},
                                     .n_listen = 1,
                                     .operator_listen = cases[i].operator_listen,
                                     .keys_path = cases[i].keys ? keys : NULL,
                                     .insecure_plain_http = cases[i].insecure};
        ck_assert_int_ne(http_server_create(world.ctx, &server, &config), GRAFT_OK);
        ck_assert_error_has(cases[i].says);
        ck_assert_ptr_null(server);
    }
    struct http_config good = {.listen = {"0.0.0.0:0"}, .n_listen = 1, .keys_path = keys, .insecure_plain_http = true};
    ck_assert_ok(http_server_create(world.ctx, &server, &good));
    http_server_destroy(&server);
    world_close(&world);
}
END_TEST

START_TEST(operators_call_on_their_own_socket)
{
    struct world world = {.ctx = NULL};
    char path[160];
    snprintf(path, sizeof path, "unix:%s", world_file(&world, "x", ""));
    strcpy(strrchr(path, '/') + 1, "op.sock");
    struct http_config config = {.operator_listen = path};
    world_open(&world, &config);
    struct stat found;
    ck_assert_int_eq(stat(path + 5, &found), 0);
    ck_assert_uint_eq(found.st_mode & 0777, 0600);
    int fd = client_unix(path + 5);
    SEND(fd, HEAD("POST", "/v1/adapters/finance/pin") JSON_BODY);
    struct reply reply = receive(fd, 3000);
    ck_reply(&reply, 200);
    reply_free(&reply);
    SEND(fd, HEAD("POST", "/echo") JSON_BODY); // an operator may do what a user may
    reply = receive(fd, 3000);
    ck_reply(&reply, 200);
    char peer[40];
    snprintf(peer, sizeof peer, "\"peer\":\"unix:%u\"", geteuid());
    ck_assert_ptr_nonnull(strstr(reply.body, peer));
    reply_free(&reply);
    net_close(fd);
    ck_assert_int_eq(status_of(&world, "POST", "/v1/adapters/finance/pin", NULL), 404);
    // A second server does not take the socket away, and a file of that name is no socket.
    struct http_server *second;
    struct http_config again = {.listen = {path}, .n_listen = 1};
    ck_assert_status(http_server_create(world.ctx, &second, &again), GRAFT_E_IO);
    ck_assert_error_has("another server");
    world_close(&world);
    ck_assert_int_ne(stat(path + 5, &found), 0);
}
END_TEST

static atomic_bool trickle_on;

static void *trickle(void *user)
{
    const int *fds = user;
    while (atomic_load(&trickle_on)) {
        for (int i = 0; i < 50; i++) {
            send_all(fds[i], "x", 1);
        }
        wait_ms(100);
    }
    return NULL;
}

// Milliseconds that a stream of 100 events, 10 ms apart, takes at most between two of them.
static double worst_gap_ms(const struct world *world)
{
    char bytes[256];
    int fd = client(world);
    uint64_t last = 0, worst = 0;
    SEND(fd, HEAD("POST", "/stream?n=100&bytes=1&ms=10") JSON_BODY);
    for (ssize_t n = 1; n > 0 && !memmem(bytes, (size_t)n, "[DONE]", 6);) {
        n = receive_some(fd, bytes, sizeof bytes);
        uint64_t now = graft_clock_ns();
        worst = last && now - last > worst ? now - last : worst;
        last = now;
    }
    net_close(fd);
    return (double)worst * 1e-6;
}

// 1,000 connections that do nothing and 50 that send a byte now and then: no processor time to speak of, others are served as
// before, and each is closed when its time is over.
START_TEST(a_thousand_idle_connections_cost_nothing)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 8192 ? limit.rlim_max : 8192;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < 4600) {
        printf("skipped: only %llu files may be open\n", (unsigned long long)limit.rlim_cur);
        return;
    }
    struct world world = {.ctx = NULL};
    struct http_config config = {.idle_ms = 12000, .head_ms = 4000};
    world_open(&world, &config);
    double alone = worst_gap_ms(&world);
    static int fds[1000];
    for (int i = 0; i < 1000; i++) {
        fds[i] = client(&world);
        SEND(fds[i], HEAD("GET", "/livez") "\r\n");
        struct reply reply = receive(fds[i], 5000);
        ck_assert_int_eq(reply.status, 200);
        reply_free(&reply);
    }
    wait_ms(100);
    struct http_stats stats;
    http_server_describe(world.server, &stats);
    ck_assert_uint_eq(stats.connections, 1000);
    ck_assert_uint_eq(stats.exchanges, 0);
    struct timespec a, b;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    wait_ms(2000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    double cpu = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
    printf("1000 idle connections: %.2f %% of a processor\n", 50 * cpu);
    ck_assert_msg(cpu < 0.1, "%.3f s of 2", cpu);
    int slow[50];
    for (int i = 0; i < 50; i++) {
        slow[i] = client(&world);
        SEND(slow[i], "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    }
    atomic_store(&trickle_on, true);
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, trickle, slow), 0);
    double beside = worst_gap_ms(&world);
    printf("worst gap of a stream: %.1f ms alone, %.1f ms beside 1000 idle and 50 trickling connections\n", alone, beside);
    ck_assert_double_lt(beside, alone + 200); // the machine is shared
    ck_assert_int_eq(status_of(&world, "GET", "/livez", NULL), 200);
    for (int i = 0; i < 50; i++) { // a byte now and then keeps none of them
        struct reply reply = receive(slow[i], 20000);
        ck_reply(&reply, 408);
        reply_free(&reply);
        ck_assert(closes(slow[i], 2000));
    }
    atomic_store(&trickle_on, false);
    pthread_join(thread, NULL);
    for (int i = 0; i < 1000; i++) {
        ck_assert_msg(closes(fds[i], 30000), "connection %d stays open", i);
        net_close(fds[i]);
    }
    for (int i = 0; i < 50; i++) {
        net_close(slow[i]);
    }
    for (int i = 0; i < 500; i++) {
        http_server_describe(world.server, &stats);
        if (stats.connections == 0) {
            break;
        }
        wait_ms(10);
    }
    ck_assert_uint_eq(stats.connections, 0);
    ck_assert_uint_eq(stats.cut_head, 50);
    world_close(&world);
}
END_TEST

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

// What the way through the server costs: requests one after the other on one connection. Figures for docs/performance.md.
START_TEST(a_round_trip_is_short)
{
    enum { ROUNDS = 2000 };
    static uint64_t times[ROUNDS];
    for (int tls = 0; tls < 2; tls++) {
        struct world world = {.tls = tls == 1};
        world_open(&world, NULL);
        int fd = client(&world);
        for (int i = 0; i < ROUNDS; i++) {
            char reply[2048];
            size_t n = 0;
            uint64_t begin = graft_clock_ns();
            SEND(fd, HEAD("POST", "/echo") JSON_BODY);
            while (n < 4 || !memmem(reply, n, "\r\n\r\n{", 5) || reply[n - 1] != '}') {
                ssize_t got = receive_some(fd, reply + n, sizeof reply - n);
                ck_assert_int_gt(got, 0);
                n += (size_t)got;
            }
            times[i] = graft_clock_ns() - begin;
        }
        qsort(times, ROUNDS, sizeof *times, by_value);
        printf("round trip%s: p50 %.0f us, p99 %.0f us\n", tls ? " (TLS, through the tests' own relay)" : "",
               (double)times[ROUNDS / 2] * 1e-3, (double)times[ROUNDS * 99 / 100] * 1e-3);
        ck_assert_uint_lt(times[ROUNDS / 2], 20000000); // the machine is shared
        net_close(fd);
        world_close(&world);
    }
}
END_TEST

// Clients of all kinds at once, a third of which leave in the middle: whoever stays gets the right reply, nothing is left.
struct soaker {
    struct world *world;
    struct graft_test_random random;
    unsigned wrong, whole;
};

static void *soak(void *user)
{
    struct soaker *soaker = user;
    static const char *const requests[] = {
        HEAD("GET", "/livez") "\r\n",
        HEAD("POST", "/echo") JSON_BODY,
        HEAD("POST", "/later?ms=3") JSON_BODY,
        HEAD("POST", "/stream?n=20&bytes=100&ms=1") JSON_BODY,
        HEAD("POST", "/stream?n=200&bytes=200&ms=0") JSON_BODY,
        HEAD("GET", "/livez") "A: b\nC: d\r\n\r\n",
        HEAD("POST", "/small") "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"};
    static const int statuses[] = {200, 200, 200, 200, 200, 400, 413};
    for (int i = 0; i < 150; i++) {
        uint64_t draw = graft_test_random_u64(&soaker->random);
        unsigned kind = (unsigned)(draw % 7);
        int fd = client(soaker->world);
        size_t length = strlen(requests[kind]);
        bool leaves = draw >> 8 & 1 && draw >> 9 & 1;
        if (leaves && draw >> 10 & 1) { // in the middle of the request
            send_all(fd, requests[kind], (draw >> 16) % length);
        } else {
            send_all(fd, requests[kind], length);
            if (leaves) { // in the middle of the reply
                wait_ms((draw >> 24) % 8);
            } else {
                struct reply reply = receive(fd, 20000);
                bool right = reply.status == statuses[kind] && reply.complete;
                right = right && (kind < 3 || kind > 4 || strstr(reply.body, "[DONE]"));
                soaker->wrong += !right;
                soaker->whole += right;
                reply_free(&reply);
            }
        }
        net_close(fd);
    }
    return NULL;
}

START_TEST(many_clients_that_come_and_go)
{
    struct world world = {.ctx = NULL};
    world_open(&world, NULL);
    pthread_t threads[8];
    struct soaker soakers[8];
    for (unsigned i = 0; i < 8; i++) {
        soakers[i] = (struct soaker){.world = &world, .random = {i + 1}};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, soak, &soakers[i]), 0);
    }
    for (unsigned i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_uint_eq(soakers[i].wrong, 0);
        ck_assert_uint_gt(soakers[i].whole, 50);
    }
    struct http_stats stats = {.exchanges = 1};
    for (int i = 0; i < 500 && (stats.exchanges || stats.connections || stats.streams); i++) {
        wait_ms(10);
        http_server_describe(world.server, &stats);
    }
    ck_assert_msg(stats.exchanges == 0 && stats.connections == 0 && stats.streams == 0,
                  "left: %u exchanges, %u connections, %u streams", stats.exchanges, stats.connections, stats.streams);
    ck_assert_uint_eq(stats.cut_stall, 0);
    size_t bytes = http_server_metrics_bytes(world.server);
    char *text = malloc(bytes);
    ck_assert_uint_gt(http_server_metrics(world.server, text, bytes), 0);
    ck_assert_ptr_nonnull(strstr(text, "graft_http_replies_total{route=\"/stream\",status=\"200\"}"));
    ck_assert_ptr_nonnull(strstr(text, "graft_http_requests_open 0\n"));
    free(text);
    world_close(&world);
}
END_TEST

// ---- TLS ----

// Send these bytes over TLS; the reply's status, and the name in the server's certificate. priority NULL: the usual.
static int tls_ask(const struct world *world, const char *bytes, size_t length, char name[64], const char *priority)
{
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    gnutls_init(&session, GNUTLS_CLIENT);
    gnutls_certificate_allocate_credentials(&credentials);
    gnutls_priority_set_direct(session, priority ? priority : "NORMAL", NULL);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials);
    int fd = client(world), status = 0;
    gnutls_transport_set_int(session, fd);
    gnutls_handshake_set_timeout(session, 5000);
    if (gnutls_handshake(session) == 0) {
        unsigned n = 0;
        const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &n);
        gnutls_x509_crt_t crt;
        size_t name_bytes = 64;
        gnutls_x509_crt_init(&crt);
        gnutls_x509_crt_import(crt, chain, GNUTLS_X509_FMT_DER);
        gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &name_bytes);
        gnutls_x509_crt_deinit(crt);
        gnutls_record_send(session, bytes, length);
        char reply[4096];
        gnutls_record_set_timeout(session, 3000);
        ssize_t got = gnutls_record_recv(session, reply, sizeof reply - 1);
        reply[got > 0 ? got : 0] = '\0';
        status = got > 12 ? atoi(reply + 9) : 0;
    }
    gnutls_deinit(session);
    gnutls_certificate_free_credentials(credentials);
    net_close(fd);
    return status;
}

START_TEST(tls_is_guarded_alike_and_takes_new_certificates)
{
    struct world world = {.ctx = NULL};
    make_certificate(&world, "first", "c.pem", "k.pem");
    make_certificate(&world, "second", "c2.pem", "k2.pem");
    char cert[96], key[96], other[96];
    snprintf(cert, sizeof cert, "%s/c.pem", world.folder);
    snprintf(key, sizeof key, "%s/k.pem", world.folder);
    snprintf(other, sizeof other, "%s/k2.pem", world.folder);
    struct http_server *server;
    world.ctx = graft_test_ctx(NULL, 0);
    struct http_config wrong = {.listen = {"127.0.0.1:0"}, .n_listen = 1, .tls_cert = cert, .tls_key = other};
    ck_assert_status(http_server_create(world.ctx, &server, &wrong), GRAFT_E_FORMAT);
    ck_assert_error_has("not the one of the certificate");
    wrong.tls_key = cert;
    ck_assert_status(http_server_create(world.ctx, &server, &wrong), GRAFT_E_FORMAT);
    wrong.tls_key = NULL;
    ck_assert_status(http_server_create(world.ctx, &server, &wrong), GRAFT_E_ARGUMENT);
    struct http_config config = {.tls_cert = cert, .tls_key = key, .drain_ms = 100};
    world_open(&world, &config);
    char name[64] = "";
#define TLS_ASK(text, priority) tls_ask(&world, text, sizeof(text) - 1, name, priority)
    ck_assert_int_eq(TLS_ASK(HEAD("GET", "/livez") "\r\n", NULL), 200);
    ck_assert_str_eq(name, "first");
    ck_assert_int_eq(TLS_ASK(HEAD("GET", "/livez") "\r\n", "NORMAL:-VERS-ALL:+VERS-TLS1.2"), 200);
    ck_assert_int_eq(TLS_ASK(HEAD("GET", "/livez") "\r\n", "NORMAL:-VERS-ALL:+VERS-TLS1.1:%COMPAT"), 0); // too old
    ck_assert_int_eq(TLS_ASK(HEAD("GET", "/livez") "A: b\nC: d\r\n\r\n", NULL), 400);                    // case 56
    ck_assert_int_eq(TLS_ASK(HEAD("GET", "/livez") "A: b\r\n c\r\n\r\n", NULL), 400);
    ck_assert_int_eq(TLS_ASK(HEAD("GET", "/livez") "A: b\0c\r\n\r\n", NULL), 400);
    ck_assert_int_eq(TLS_ASK("POST /stream?n=3&bytes=3&ms=5 HTTP/1.1\r\nHost: localhost\r\n" JSON_BODY, NULL), 200);
    struct reply reply = ASK(&world, HEAD("GET", "/livez") "\r\n"); // plain text to a TLS port
    ck_assert_int_eq(reply.status, 0);
    reply_free(&reply);
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, run, &world), 0);
    make_certificate(&world, "third", "c.pem", "k.pem");
    kill(getpid(), SIGHUP);
    wait_ms(300);
    ck_assert_int_eq(TLS_ASK(HEAD("GET", "/livez") "\r\n", NULL), 200);
    ck_assert_str_eq(name, "third");
    world_file(&world, "c.pem", "nothing");
    kill(getpid(), SIGHUP);
    wait_ms(300);
    ck_assert_int_eq(TLS_ASK(HEAD("GET", "/livez") "\r\n", NULL), 200);
    ck_assert_str_eq(name, "third");
    http_server_drain(world.server);
    pthread_join(thread, NULL);
    world_close(&world);
}
END_TEST

int main(void)
{
    http_block_signals(); // before any thread is started
    Suite *suite = suite_create("http");
    TCase *tests = tcase_create("http");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, every_route_is_closed_to_those_it_is_not_for);
    tcase_add_test(tests, a_route_left_at_zero_and_unsound_tables_are_refused);
    tcase_add_test(tests, adapters_of_a_key_and_its_limits);
    tcase_add_test(tests, late_replies_keep_alive_ids_and_traces);
    tcase_add_test(tests, a_stream_comes_whole_and_in_order);
    tcase_add_test(tests, long_bodies_hold_nobody_up);
    tcase_add_test(tests, clients_that_leave_are_noticed_within_a_token);
    tcase_add_test(tests, clients_that_leave_at_the_end_leave_nothing);
    tcase_add_test(tests, a_server_that_ends_tells_everybody);
    tcase_add_test(tests, sigterm_drains_and_sighup_reloads_without_dropping_a_stream);
    tcase_add_test(tests, what_runs_after_the_drain_is_cancelled_and_a_second_signal_does_not_wait);
    tcase_add_test(tests, addresses_that_need_keys_or_tls_are_refused_without);
    tcase_add_test(tests, operators_call_on_their_own_socket);
    tcase_add_test(tests, many_clients_that_come_and_go);
    tcase_add_test(tests, a_round_trip_is_short);
    tcase_add_test(tests, a_thousand_idle_connections_cost_nothing);
    tcase_add_test(tests, tls_is_guarded_alike_and_takes_new_certificates);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
