// SPDX-License-Identifier: Apache-2.0
// Exchanges: taken from a fixed array, shared by libmicrohttpd's side and the owner's, freed by the second to be done with it.
#include <stdio.h>
#include <string.h>

#include "tools/serve/http_private.h"

struct http_exchange *http_exchange_take(struct http_server *server)
{
    graft_mutex_lock(server->mutex);
    int32_t i = server->free_exchange;
    struct http_exchange *exchange = i == HTTP_NONE ? NULL : &server->exchanges[i];
    if (exchange) {
        server->free_exchange = exchange->next_free;
        server->busy_exchanges++;
    }
    graft_mutex_unlock(server->mutex);
    if (exchange) {
        struct graft_mutex *mutex = exchange->mutex;
        *exchange = (struct http_exchange){.server = server, .mutex = mutex, .first_block = HTTP_NONE, .last_block = HTTP_NONE};
    }
    return exchange;
}

static const char *outcome_of(const struct http_exchange *exchange)
{
    if (exchange->gone && !exchange->completed) {
        return exchange->stalled ? "slow_reader" : "client_gone";
    }
    if (exchange->log.outcome[0]) {
        return exchange->log.outcome;
    }
    return exchange->status >= 500 ? "error" : exchange->status >= 400 ? "refused" : "ok";
}

static void write_log(struct http_exchange *exchange)
{
    const char *texts = exchange->log_texts;
    const struct access_line line = {.wall_ms = exchange->started_wall_ms,
                                     .id = exchange->id,
                                     .peer = exchange->peer,
                                     .key = exchange->caller.key,
                                     .tenant = exchange->caller.tenant,
                                     .method = exchange->method_text,
                                     .path = exchange->path,
                                     .route = exchange->route ? exchange->route->pattern : "",
                                     .traceparent = exchange->traceparent,
                                     .outcome = outcome_of(exchange),
                                     .status = exchange->status,
                                     .bytes_in = exchange->body_length,
                                     .bytes_out = exchange->bytes_out,
                                     .total_ns = graft_clock_ns() - exchange->started_ns,
                                     .entry = &exchange->log,
                                     .prompt = texts,
                                     .answer = texts ? texts + HTTP_LOG_TEXT + 1 : NULL};
    access_log_write(exchange->server->log, &line);
}

static void recycle(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    if (exchange->started_ns) {
        write_log(exchange);
        http_metrics_count(exchange);
    }
    http_stream_free(exchange);
    if (exchange->response) {
        MHD_destroy_response(exchange->response);
    }
    key_release(&exchange->key);
    graft_mutex_lock(server->mutex);
    server->body_bytes -= exchange->body_room;
    server->stats.bytes_in += exchange->body_length;
    server->stats.bytes_out += exchange->bytes_out;
    graft_mutex_unlock(server->mutex);
    GRAFT_FREE(server->ctx, &exchange->body);
    GRAFT_FREE(server->ctx, &exchange->log_texts);
    graft_mutex_lock(server->mutex);
    exchange->next_free = server->free_exchange;
    server->free_exchange = (int32_t)(exchange - server->exchanges);
    server->busy_exchanges--;
    graft_mutex_unlock(server->mutex);
}

void http_exchange_done(struct http_exchange *exchange, bool owner)
{
    graft_mutex_lock(exchange->mutex);
    exchange->owner_done |= owner;
    exchange->mhd_done |= !owner;
    bool both = exchange->owner_done && exchange->mhd_done;
    graft_mutex_unlock(exchange->mutex);
    if (both) {
        recycle(exchange);
    }
}

void http_exchange_gone(struct http_exchange *exchange, bool stalled)
{
    graft_mutex_lock(exchange->mutex);
    if (!exchange->gone && !exchange->mhd_done) {
        exchange->gone = true;
        exchange->stalled = stalled;
        if (!exchange->finished && exchange->on_gone) {
            exchange->on_gone(exchange->on_gone_user);
        }
        if (exchange->suspended && exchange->streaming) { // its reader ends the reply with an error
            exchange->suspended = false;
            MHD_resume_connection(exchange->mhd);
        }
    }
    graft_mutex_unlock(exchange->mutex);
}

void http_on_gone(struct http_exchange *exchange, void (*fn)(void *user), void *user)
{
    graft_mutex_lock(exchange->mutex);
    exchange->on_gone = fn;
    exchange->on_gone_user = user;
    if (exchange->gone && !exchange->finished && fn) {
        fn(user);
    }
    graft_mutex_unlock(exchange->mutex);
}

bool http_caller_allows(const struct http_exchange *exchange, const char *adapter)
{
    return exchange->by_token ? jwt_claims_allow(&exchange->claims, adapter) : key_allows(&exchange->key, adapter);
}

void http_charge_tokens(struct http_exchange *exchange, uint64_t tokens)
{
    key_charge(&exchange->key, tokens, graft_clock_ns());
}

enum http_method http_method(const struct http_exchange *exchange)
{
    return exchange->method;
}

const char *http_path(const struct http_exchange *exchange)
{
    return exchange->path;
}

const char *http_name(const struct http_exchange *exchange)
{
    return exchange->name;
}

const char *http_query(struct http_exchange *exchange, const char *name)
{
    return http_query_value(exchange->query, name, exchange->query_value, sizeof exchange->query_value) ? exchange->query_value
                                                                                                        : NULL;
}

const char *http_header(struct http_exchange *exchange, const char *name)
{
    return MHD_lookup_connection_value(exchange->mhd, MHD_HEADER_KIND, name);
}

const char *http_body(const struct http_exchange *exchange, size_t *length)
{
    if (length) {
        *length = exchange->body_length;
    }
    return exchange->body ? exchange->body : "";
}

const struct http_caller *http_caller(const struct http_exchange *exchange)
{
    return &exchange->caller;
}

const char *http_peer(const struct http_exchange *exchange)
{
    return exchange->peer;
}

const char *http_request_id(const struct http_exchange *exchange)
{
    return exchange->id;
}

const char *http_traceparent(const struct http_exchange *exchange)
{
    return exchange->traceparent;
}

struct http_log_entry *http_log(struct http_exchange *exchange)
{
    return &exchange->log;
}

void http_log_text(struct http_exchange *exchange, const char *prompt, size_t prompt_bytes, const char *answer,
                   size_t answer_bytes)
{
    struct http_server *server = exchange->server;
    if (!server->config.log_text) {
        return;
    }
    if (!exchange->log_texts && GRAFT_NEW(server->ctx, GRAFT_MEM_HOST, &exchange->log_texts, (HTTP_LOG_TEXT + 1) * 2,
                                          "texts of the access log") != GRAFT_OK) {
        return; // the line goes without them
    }
    const char *from[2] = {prompt, answer};
    size_t lengths[2] = {prompt_bytes, answer_bytes};
    for (int i = 0; i < 2; i++) {
        if (from[i]) {
            char *to = exchange->log_texts + i * (HTTP_LOG_TEXT + 1);
            size_t n = lengths[i] < HTTP_LOG_TEXT ? lengths[i] : HTTP_LOG_TEXT;
            memcpy(to, from[i], n);
            to[n] = '\0';
        }
    }
}
