// SPDX-License-Identifier: Apache-2.0
// Event streams: a ring per stream between the thread that writes and the MHD thread, which sends.
//
// The MHD thread asks for bytes when the socket has room. When there are none the connection is suspended; the next write
// resumes it. Bytes that the client does not take wait in the ring; a ring that is full cuts the stream.
#include <string.h>

#include "tools/serve/http_private.h"

static bool ring_take(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    graft_mutex_lock(server->mutex);
    bool good = server->n_free_rings > 0;
    if (good) {
        exchange->ring_index = server->free_rings[--server->n_free_rings];
        exchange->ring = server->rings + (size_t)exchange->ring_index * HTTP_MAX_STREAM;
        server->busy_streams++;
    }
    graft_mutex_unlock(server->mutex);
    return good;
}

void http_stream_free(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    if (exchange->ring_index == HTTP_NONE) {
        return;
    }
    graft_mutex_lock(server->mutex);
    server->free_rings[server->n_free_rings++] = exchange->ring_index;
    server->busy_streams--;
    graft_mutex_unlock(server->mutex);
    exchange->ring_index = HTTP_NONE;
    exchange->ring = NULL;
}

// MHD_ContentReaderCallback, on the MHD thread.
static ssize_t stream_read(void *user, uint64_t position, char *out, size_t room)
{
    (void)position;
    struct http_exchange *exchange = user;
    graft_mutex_lock(exchange->mutex);
    ssize_t result = 0;
    if (exchange->gone) {
        result = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (exchange->ring_length > 0) {
        size_t n = HTTP_MAX_STREAM - exchange->ring_begin; // up to the ring's end; the rest comes with the next call
        n = n < exchange->ring_length ? n : exchange->ring_length;
        n = n < room ? n : room;
        memcpy(out, exchange->ring + exchange->ring_begin, n);
        exchange->ring_begin = (exchange->ring_begin + n) % HTTP_MAX_STREAM;
        exchange->ring_length -= n;
        exchange->bytes_out += n;
        result = (ssize_t)n;
    } else if (exchange->ended) {
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        MHD_suspend_connection(exchange->mhd);
        exchange->suspended = true;
    }
    graft_mutex_unlock(exchange->mutex);
    return result;
}

// With the mutex held.
static void resume(struct http_exchange *exchange)
{
    if (exchange->suspended) {
        exchange->suspended = false;
        MHD_resume_connection(exchange->mhd);
    }
}

bool http_stream_begin(struct http_exchange *exchange)
{
    if (!ring_take(exchange)) {
        return false;
    }
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, HTTP_MAX_STREAM / 4, stream_read, exchange, NULL);
    if (!response) {
        http_stream_free(exchange);
        return false;
    }
    http_response_headers(response, exchange);
    MHD_add_response_header(response, "content-type", "text/event-stream; charset=utf-8");
    MHD_add_response_header(response, "x-accel-buffering", "no"); // proxies pass every event on at once
    graft_mutex_lock(exchange->mutex);
    exchange->response = response;
    exchange->status = 200;
    exchange->streaming = true;
    resume(exchange);
    graft_mutex_unlock(exchange->mutex);
    return true;
}

// Append pieces as one: all or nothing.
static bool append(struct http_exchange *exchange, const char *const pieces[], const size_t lengths[], int n)
{
    size_t total = 0;
    for (int i = 0; i < n; i++) {
        if (lengths[i] > HTTP_MAX_STREAM - total) {
            total = HTTP_MAX_STREAM + 1;
            break;
        }
        total += lengths[i];
    }
    graft_mutex_lock(exchange->mutex);
    bool good = exchange->streaming && !exchange->ended && !exchange->gone;
    bool full = good && total > HTTP_MAX_STREAM - exchange->ring_length;
    if (good && !full) {
        for (int i = 0; i < n; i++) {
            size_t done = 0;
            while (done < lengths[i]) {
                size_t at = (exchange->ring_begin + exchange->ring_length) % HTTP_MAX_STREAM;
                size_t part = HTTP_MAX_STREAM - at < lengths[i] - done ? HTTP_MAX_STREAM - at : lengths[i] - done;
                memcpy(exchange->ring + at, pieces[i] + done, part);
                exchange->ring_length += part;
                done += part;
            }
        }
        resume(exchange);
    } else if (full) {
        exchange->gone = exchange->stalled = true; // the reader ends the reply when the socket has room, the watch before
        resume(exchange);
    }
    graft_mutex_unlock(exchange->mutex);
    if (full) {
        http_watch_wake(exchange->server);
    }
    return good && !full;
}

bool http_stream_write(struct http_exchange *exchange, const void *data, size_t length)
{
    return append(exchange, (const char *[]){data}, (size_t[]){length}, 1);
}

bool http_stream_data(struct http_exchange *exchange, const char *text, size_t length)
{
    return append(exchange, (const char *[]){"data: ", text, "\n\n"}, (size_t[]){6, length, 2}, 3);
}

bool http_stream_json(struct http_exchange *exchange, json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    if (!text) {
        return http_stream_data(exchange,
                                "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\","
                                "\"param\":null,\"code\":\"out_of_memory\"}}",
                                97);
    }
    bool good = http_stream_data(exchange, text, strlen(text));
    free(text);
    return good;
}

void http_stream_end(struct http_exchange *exchange)
{
    graft_mutex_lock(exchange->mutex);
    exchange->ended = true;
    exchange->finished = true;
    resume(exchange);
    graft_mutex_unlock(exchange->mutex);
    http_exchange_done(exchange, true);
}
