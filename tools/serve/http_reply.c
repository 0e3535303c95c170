// SPDX-License-Identifier: Apache-2.0
// Replies: bytes, JSON, errors in the shape that OpenAI's clients read.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/serve/http_private.h"

void http_make_id(struct http_server *server, char out[HTTP_ID_BYTES])
{
    uint64_t count = atomic_fetch_add(&server->id_count, 1);
    uint64_t mixed = (server->id_seed[1] + count) * 0x9e3779b97f4a7c15u; // a bijection: no id comes twice
    snprintf(out, HTTP_ID_BYTES, "req-%08llx%016llx", (unsigned long long)(server->id_seed[0] & 0xffffffffu),
             (unsigned long long)mixed);
}

void http_reply_header(struct http_exchange *exchange, const char *name, const char *value)
{
    size_t n = strlen(name) + 1, v = strlen(value) + 1;
    if (exchange->n_headers == HTTP_MAX_REPLY_HEADERS || v > HTTP_MAX_REPLY_HEADER_BYTES || n > HTTP_MAX_REPLY_HEADER_BYTES ||
        n + v > sizeof exchange->headers - exchange->headers_length) {
        return;
    }
    for (const char *c = value; *c; c++) {
        if (*c < ' ' || *c > '~') {
            return;
        }
    }
    char *to = exchange->headers + exchange->headers_length;
    memcpy(to, name, n);
    memcpy(to + n, value, v);
    exchange->headers_length += n + v;
    exchange->n_headers++;
}

void http_response_headers(struct MHD_Response *response, const struct http_exchange *exchange)
{
    MHD_add_response_header(response, "x-request-id", exchange->id);
    MHD_add_response_header(response, "cache-control", "no-store");
    MHD_add_response_header(response, "x-content-type-options", "nosniff");
    if (exchange->close_after || atomic_load(&exchange->server->draining)) {
        MHD_add_response_header(response, "connection", "close");
    }
    size_t at = 0;
    for (uint32_t i = 0; i < exchange->n_headers; i++) {
        const char *name = exchange->headers + at, *value = name + strlen(name) + 1;
        MHD_add_response_header(response, name, value);
        at += strlen(name) + strlen(value) + 2;
    }
}

// The one place where an exchange without a stream is finished.
static void finish(struct http_exchange *exchange, int status, struct MHD_Response *response)
{
    key_answered(&exchange->key);
    graft_mutex_lock(exchange->mutex);
    exchange->response = response; // NULL: no memory; the connection is closed then
    exchange->status = response ? status : 500;
    exchange->finished = true;
    if (exchange->suspended) {
        exchange->suspended = false;
        MHD_resume_connection(exchange->mhd);
    }
    graft_mutex_unlock(exchange->mutex);
    http_exchange_done(exchange, true);
}

void http_reply(struct http_exchange *exchange, int status, const char *type, const void *data, size_t length)
{
    union {
        const void *from;
        void *to;
    } bytes = {.from = data}; // copied, so never written to
    struct MHD_Response *response = MHD_create_response_from_buffer(length, bytes.to, MHD_RESPMEM_MUST_COPY);
    if (response) {
        http_response_headers(response, exchange);
        MHD_add_response_header(response, "content-type", type);
        exchange->bytes_out = length;
    }
    finish(exchange, status, response);
}

void http_reply_json(struct http_exchange *exchange, int status, json_t *value)
{
    static const char none[] = "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\",\"param\":null,"
                               "\"code\":\"out_of_memory\"}}";
    char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    if (text) {
        http_reply(exchange, status, "application/json", text, strlen(text));
    } else {
        http_reply(exchange, 500, "application/json", none, sizeof none - 1);
    }
    free(text);
}

static const char *type_of(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

// A message may quote what a client sent; what is not UTF-8 is shown as '?'.
static json_t *message_json(const char *message)
{
    json_t *json = json_string(message);
    if (json) {
        return json;
    }
    char clean[1001];
    size_t n = strlen(message) < sizeof clean - 1 ? strlen(message) : sizeof clean - 1;
    for (size_t i = 0; i < n; i++) {
        clean[i] = (unsigned char)message[i] < 0x80 ? message[i] : '?';
    }
    clean[n] = '\0';
    return json_string(clean);
}

json_t *http_error_json(int status, const char *type, const char *code, const char *param, const char *message)
{
    return json_pack("{s:{s:o,s:s,s:s?,s:s?}}", "error", "message", message_json(message), "type",
                     type ? type : type_of(status), "param", param, "code", code);
}

void http_error(struct http_exchange *exchange, int status, const char *type, const char *code, const char *param,
                const char *format, ...)
{
    char message[1001];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    http_reply_json(exchange, status, http_error_json(status, type, code, param, message));
}
