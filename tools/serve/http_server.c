// SPDX-License-Identifier: Apache-2.0
// The server as a whole: made, started, drained, ended.
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tools/serve/http_private.h"

enum { OPERATOR_CONNECTIONS = 16, SPARE_FILES = 256 };

static void defaults(struct http_config *config)
{
    config->max_connections = config->max_connections ? config->max_connections : 1200;
    config->head_ms = config->head_ms ? config->head_ms : 10000;
    config->body_ms = config->body_ms ? config->body_ms : 30000;
    config->idle_ms = config->idle_ms ? config->idle_ms : 75000;
    config->stall_ms = config->stall_ms ? config->stall_ms : 30000;
    config->drain_ms = config->drain_ms ? config->drain_ms : 30000;
    config->log_bytes = config->log_bytes ? config->log_bytes : 64u << 20;
    config->log_files = config->log_files ? config->log_files : 5;
}

static enum graft_status check(const struct http_config *config)
{
    if (config->max_connections > HTTP_MAX_CONNECTIONS) {
        return graft_fail(GRAFT_E_ARGUMENT, "%u connections, at most %d are allowed", config->max_connections,
                          HTTP_MAX_CONNECTIONS);
    }
    if (!config->tls_cert != !config->tls_key) {
        return graft_fail(GRAFT_E_ARGUMENT, "TLS needs both a certificate and a key; only the %s was given",
                          config->tls_cert ? "certificate" : "key");
    }
    if (config->n_listen > HTTP_MAX_LISTENERS) {
        return graft_fail(GRAFT_E_ARGUMENT, "%u addresses to listen on, at most %d are allowed", config->n_listen,
                          HTTP_MAX_LISTENERS);
    }
    if (config->log == HTTP_LOG_FILE && !config->log_path) {
        return graft_fail(GRAFT_E_ARGUMENT, "the access log is to go to a file, and none was named");
    }
    return GRAFT_OK;
}

// Connections, exchanges and buffers of streams: everything that serving needs, now.
static enum graft_status take_memory(struct http_server *server)
{
    server->n_connections = server->config.max_connections + OPERATOR_CONNECTIONS;
    GRAFT_TRY(GRAFT_NEW(server->ctx, GRAFT_MEM_HOST, &server->connections, server->n_connections, "connections"));
    for (uint32_t i = 0; i < server->n_connections; i++) {
        server->connections[i].fd = server->connections[i].inner = -1;
    }
    server->turned = UINT32_MAX;
    GRAFT_TRY(GRAFT_NEW(server->ctx, GRAFT_MEM_HOST, &server->scratch, HTTP_SCRATCH, "what comes and goes"));
    GRAFT_TRY(GRAFT_NEW(server->ctx, GRAFT_MEM_HOST, &server->exchanges, HTTP_EXCHANGES, "requests of the HTTP server"));
    server->free_exchange = HTTP_NONE;
    for (int32_t i = HTTP_EXCHANGES - 1; i >= 0; i--) {
        GRAFT_TRY(graft_mutex_create(server->ctx, &server->exchanges[i].mutex));
        server->exchanges[i].next_free = server->free_exchange;
        server->free_exchange = i;
    }
    return http_streams_create(server);
}

// An MHD daemon without a listening socket: connections are handed to it.
static enum graft_status daemon_start(struct http_server *server)
{
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME |
                     (MHD_is_feature_supported(MHD_FEATURE_EPOLL) == MHD_YES  ? MHD_USE_EPOLL
                      : MHD_is_feature_supported(MHD_FEATURE_POLL) == MHD_YES ? MHD_USE_POLL
                                                                              : 0u);
    server->daemon = MHD_start_daemon(flags, 0, NULL, NULL, http_on_request, server,                //
                                      MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, server,       //
                                      MHD_OPTION_NOTIFY_CONNECTION, http_on_connection, server,     //
                                      MHD_OPTION_URI_LOG_CALLBACK, http_on_target, server,          //
                                      MHD_OPTION_CONNECTION_LIMIT, (unsigned)server->n_connections, //
                                      MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_POOL_BYTES,  //
                                      MHD_OPTION_CONNECTION_TIMEOUT, 0u,                            // the watch thread's work
                                      MHD_OPTION_END);
    return server->daemon ? GRAFT_OK : graft_fail(GRAFT_E_INTERNAL, "libmicrohttpd could not be started: %s", strerror(errno));
}

static enum graft_status build(struct http_server *server)
{
    struct http_config *config = &server->config;
    GRAFT_TRY(check(config));
    if (sodium_init() < 0) {
        return graft_fail(GRAFT_E_INTERNAL, "libsodium could not be started");
    }
    randombytes_buf(server->id_seed, sizeof server->id_seed);
    GRAFT_TRY(graft_mutex_create(server->ctx, &server->mutex));
    if (config->keys_path) {
        GRAFT_TRY(keys_open(server->ctx, &server->keys, config->keys_path));
    }
    if (config->jwt_path) {
        GRAFT_TRY(jwt_rules_open(server->ctx, &server->jwt, config->jwt_path));
    }
    if (config->tls_cert) {
        GRAFT_TRY(http_tls_read(server));
        GRAFT_TRY(http_tls_start(server));
    }
    GRAFT_TRY(access_log_open(server->ctx, &server->log, config->log, config->log_path, config->log_bytes, config->log_files));
    GRAFT_TRY(http_metrics_create(server));
    GRAFT_TRY(take_memory(server));
    net_allow(3ull * server->n_connections + SPARE_FILES); // the client's socket and a pair each; the model, drivers' files
    GRAFT_TRY(net_watch_create(server->ctx, &server->sockets, 2 * server->n_connections + HTTP_MAX_LISTENERS + 1));
    return http_listen_all(server);
}

enum graft_status http_server_create(struct graft_ctx *ctx, struct http_server **out, const struct http_config *config)
{
    *out = NULL;
    struct http_server *server;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &server, 1, "the HTTP server"));
    server->ctx = ctx;
    server->config = *config;
    defaults(&server->config);
    enum graft_status status = build(server);
    if (status != GRAFT_OK) {
        http_server_destroy(&server);
        return status;
    }
    *out = server;
    return GRAFT_OK;
}

enum graft_status http_server_start(struct http_server *server, const struct http_route *routes, uint32_t n_routes, void *user)
{
    GRAFT_TRY(http_routes_check(routes, n_routes));
    server->routes = routes;
    server->n_routes = n_routes;
    server->user = user;
    GRAFT_TRY(http_worker_start(server));
    GRAFT_TRY(daemon_start(server));
    GRAFT_TRY(http_listen_begin(server));
    return graft_thread_start(server->ctx, &server->watch, http_watch_run, server);
}

void http_server_drain(struct http_server *server)
{
    unsigned long long none = 0;
    atomic_compare_exchange_strong(&server->drain_deadline_ns, &none, graft_clock_ns() + server->config.drain_ms * 1000000ull);
    atomic_store(&server->draining, true);
    http_watch_wake(server);
}

bool http_server_draining(const struct http_server *server)
{
    return atomic_load(&server->draining);
}

uint32_t http_busy(struct http_server *server)
{
    graft_mutex_lock(server->mutex);
    uint32_t busy = server->busy_exchanges;
    graft_mutex_unlock(server->mutex);
    return busy;
}

void http_server_destroy(struct http_server **out)
{
    struct http_server *server = *out;
    *out = NULL;
    if (!server) {
        return;
    }
    atomic_store(&server->stopping, true);
    if (server->watch) {
        http_watch_wake(server);
        graft_thread_join(&server->watch);
        while (http_busy(server) > 0) { // libmicrohttpd may not be stopped while connections are suspended
            nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        }
    }
    http_worker_end(server);
    if (server->daemon) {
        MHD_stop_daemon(server->daemon);
    }
    if (server->config.tls_cert) {
        http_tls_stop(server);
        http_tls_free();
    }
    metrics_destroy(&server->metrics);
    http_listen_close(server);
    net_watch_destroy(&server->sockets);
    access_log_close(&server->log);
    keys_close(&server->keys);
    jwt_rules_close(&server->jwt);
    for (int32_t i = 0; server->exchanges && i < HTTP_EXCHANGES; i++) {
        graft_mutex_destroy(&server->exchanges[i].mutex);
    }
    struct graft_ctx *ctx = server->ctx;
    graft_mutex_destroy(&server->mutex);
    http_streams_destroy(server);
    GRAFT_FREE(ctx, &server->exchanges);
    GRAFT_FREE(ctx, &server->scratch);
    GRAFT_FREE(ctx, &server->connections);
    GRAFT_FREE(ctx, &server);
}

uint16_t http_server_port(const struct http_server *server, uint32_t i)
{
    return i < server->n_listeners ? server->listeners[i].port : 0;
}

void http_server_describe(struct http_server *server, struct http_stats *out)
{
    graft_mutex_lock(server->mutex);
    *out = server->stats;
    out->connections = server->busy_connections;
    out->exchanges = server->busy_exchanges;
    out->streams = server->busy_streams;
    graft_mutex_unlock(server->mutex);
    out->log_lost = access_log_lost(server->log);
}
