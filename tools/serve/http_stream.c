// SPDX-License-Identifier: Apache-2.0
// Event streams: a queue of blocks per stream between the thread that writes and the MHD thread, which sends.
//
// The MHD thread asks for bytes when the socket has room. When there are none the connection is suspended; the next write
// resumes it. Whoever writes never waits: bytes that the client does not take wait in blocks. All blocks are taken at the
// start. One of them is kept back for every stream there may be; the others are for the streams that are behind, up to
// HTTP_MAX_STREAM each. So a slow reader has the whole stall_ms, in which its answer goes on, for as long as all slow readers
// together are not further behind than HTTP_STREAM_MEMORY; then the one that wants more is cut.
#include <string.h>

#include "tools/serve/http_private.h"

enum { BLOCKS = HTTP_STREAM_MEMORY / HTTP_BLOCK };

enum graft_status http_streams_create(struct http_server *server)
{
    struct http_blocks *blocks = &server->blocks;
    GRAFT_TRY(graft_mutex_create(server->ctx, &blocks->mutex));
    GRAFT_TRY(GRAFT_NEW(server->ctx, GRAFT_MEM_HOST, &blocks->next, BLOCKS, "buffers of event streams"));
    GRAFT_TRY(graft_alloc_unset(server->ctx, GRAFT_MEM_HOST, (void **)&blocks->bytes, BLOCKS, HTTP_BLOCK,
                                "buffers of event streams"));
    for (int32_t i = 0; i < BLOCKS; i++) {
        blocks->next[i] = i + 1 < BLOCKS ? i + 1 : HTTP_NONE;
    }
    blocks->n_free = BLOCKS;
    return GRAFT_OK;
}

void http_streams_destroy(struct http_server *server)
{
    graft_mutex_destroy(&server->blocks.mutex);
    GRAFT_FREE(server->ctx, &server->blocks.next);
    GRAFT_FREE(server->ctx, &server->blocks.bytes);
}

// n blocks behind the stream's last one; false: the others need them.
static bool blocks_take(struct http_exchange *exchange, uint32_t n)
{
    struct http_blocks *blocks = &exchange->server->blocks;
    graft_mutex_lock(blocks->mutex);
    uint32_t kept = HTTP_MAX_STREAMS - blocks->n_streams; // for streams that are still to come, and are empty
    bool good = n + kept + blocks->n_empty <= blocks->n_free + (exchange->last_block == HTTP_NONE);
    for (uint32_t i = 0; i < n && good; i++) {
        int32_t block = blocks->first_free;
        blocks->first_free = blocks->next[block];
        blocks->next[block] = HTTP_NONE;
        blocks->n_free--;
        if (exchange->last_block == HTTP_NONE) {
            exchange->first_block = block;
            blocks->n_empty--;
        } else {
            blocks->next[exchange->last_block] = block;
        }
        exchange->last_block = block;
    }
    graft_mutex_unlock(blocks->mutex);
    return good;
}

// The stream's first block goes back.
static void block_return(struct http_exchange *exchange)
{
    struct http_blocks *blocks = &exchange->server->blocks;
    graft_mutex_lock(blocks->mutex);
    int32_t block = exchange->first_block;
    exchange->first_block = blocks->next[block];
    if (exchange->first_block == HTTP_NONE) {
        exchange->last_block = HTTP_NONE;
        blocks->n_empty++;
    }
    blocks->next[block] = blocks->first_free;
    blocks->first_free = block;
    blocks->n_free++;
    graft_mutex_unlock(blocks->mutex);
}

static bool stream_take(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    graft_mutex_lock(server->mutex);
    bool good = server->busy_streams < HTTP_MAX_STREAMS;
    server->busy_streams += good;
    graft_mutex_unlock(server->mutex);
    if (good) {
        graft_mutex_lock(server->blocks.mutex);
        server->blocks.n_streams++;
        server->blocks.n_empty++;
        graft_mutex_unlock(server->blocks.mutex);
        exchange->has_blocks = true;
    }
    return good;
}

void http_stream_free(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    if (!exchange->has_blocks) {
        return;
    }
    while (exchange->first_block != HTTP_NONE) {
        block_return(exchange);
    }
    graft_mutex_lock(server->blocks.mutex);
    server->blocks.n_streams--;
    server->blocks.n_empty--;
    graft_mutex_unlock(server->blocks.mutex);
    exchange->has_blocks = false;
    graft_mutex_lock(server->mutex);
    server->busy_streams--;
    graft_mutex_unlock(server->mutex);
}

static char *block_bytes(const struct http_exchange *exchange, int32_t block)
{
    return exchange->server->blocks.bytes + (size_t)block * HTTP_BLOCK;
}

// MHD_ContentReaderCallback, on the MHD thread.
static ssize_t stream_read(void *user, uint64_t position, char *out, size_t room)
{
    (void)position;
    struct http_exchange *exchange = user;
    graft_mutex_lock(exchange->mutex);
    ssize_t result = 0;
    if (exchange->gone) {
        // Not MHD_CONTENT_READER_END_WITH_ERROR: libmicrohttpd 0.9.75 then forgets the connection (it leaves its loop in front
        // of the state in which connections are freed, and with epoll nothing calls it again). The watch thread cuts it.
        exchange->cut_short = true;
        atomic_store(&exchange->connection->broken, true);
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else if (exchange->waiting > 0) {
        size_t n = HTTP_BLOCK - exchange->begin; // up to the block's end; the rest comes with the next call
        n = n < exchange->waiting ? n : exchange->waiting;
        n = n < room ? n : room;
        memcpy(out, block_bytes(exchange, exchange->first_block) + exchange->begin, n);
        exchange->begin += n;
        exchange->waiting -= n;
        if (exchange->begin == HTTP_BLOCK || exchange->waiting == 0) {
            exchange->begin = 0;
            block_return(exchange);
        }
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
    if (!stream_take(exchange)) {
        return false;
    }
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, HTTP_BLOCK, stream_read, exchange, NULL);
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

// With the mutex held, and blocks for it there.
static void put(struct http_exchange *exchange, const char *bytes, size_t length)
{
    const int32_t *next = exchange->server->blocks.next; // of the stream's own blocks: only it changes them
    while (length > 0) {
        size_t end = exchange->begin + exchange->waiting; // from the beginning of the first block
        int32_t block = exchange->first_block;
        for (; end >= HTTP_BLOCK; end -= HTTP_BLOCK) {
            block = next[block];
        }
        size_t n = HTTP_BLOCK - end < length ? HTTP_BLOCK - end : length;
        memcpy(block_bytes(exchange, block) + end, bytes, n);
        exchange->waiting += n;
        bytes += n;
        length -= n;
    }
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
    bool full = good && total > HTTP_MAX_STREAM - exchange->waiting;
    if (good && !full) {
        size_t have = exchange->waiting ? (exchange->begin + exchange->waiting - 1) / HTTP_BLOCK + 1 : 0;
        size_t need = total ? (exchange->begin + exchange->waiting + total - 1) / HTTP_BLOCK + 1 : have;
        full = need > have && !blocks_take(exchange, (uint32_t)(need - have));
    }
    if (good && !full) {
        for (int i = 0; i < n; i++) {
            put(exchange, pieces[i], lengths[i]);
        }
        resume(exchange);
    } else if (full) {
        exchange->gone = exchange->stalled = exchange->overrun = true; // the watch thread cuts it
        resume(exchange);
    }
    graft_mutex_unlock(exchange->mutex);
    if (full) {
        graft_mutex_lock(exchange->server->mutex);
        exchange->server->stats.cut_stall++;
        graft_mutex_unlock(exchange->server->mutex);
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

void http_stream_answered(struct http_exchange *exchange)
{
    key_answered(&exchange->key);
}

void http_stream_end(struct http_exchange *exchange)
{
    key_answered(&exchange->key);
    graft_mutex_lock(exchange->mutex);
    exchange->ended = true;
    exchange->finished = true;
    resume(exchange);
    graft_mutex_unlock(exchange->mutex);
    http_exchange_done(exchange, true);
}
