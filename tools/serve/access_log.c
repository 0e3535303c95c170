// SPDX-License-Identifier: Apache-2.0
// The access log: formats lines without allocating, rotates by renaming FILE to FILE.1 ... FILE.N.
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/journal.h"
#include "tools/serve/access_log.h"
#include "tools/serve/log_socket.h"
#include "tools/serve/server_files.h"

enum { PATH_ROOM = 4096, DIGITS_ROOM = 16, MAX_FILES = 1000 };

struct access_log {
    struct graft_ctx *ctx;
    struct graft_mutex *mutex;
    enum http_log_target target;
    char path[PATH_ROOM];
    uint64_t max_bytes, bytes, lost;
    uint32_t max_files;
    int fd;
    struct log_socket socket;
    char line[ACCESS_LOG_LINE]; // under the mutex
};

// ---- a line ----

struct writer {
    char *out;
    size_t room, used;
    bool full;
};

static void put(struct writer *w, const char *bytes, size_t length)
{
    if (w->full || length >= w->room - w->used) {
        w->full = true;
        return;
    }
    memcpy(w->out + w->used, bytes, length);
    w->used += length;
    w->out[w->used] = '\0';
}

GRAFT_PRINTF(2, 3) static void put_format(struct writer *w, const char *format, ...)
{
    char text[128];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    put(w, text, n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

// Bytes of the well-formed UTF-8 character at text, or 0 (RFC 3629: no surrogates, nothing overlong).
static size_t character(const unsigned char *text)
{
    unsigned char a = text[0];
    size_t n = a < 0x80 ? 1 : a >= 0xc2 && a < 0xe0 ? 2 : a >= 0xe0 && a < 0xf0 ? 3 : a >= 0xf0 && a < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80) { // a NUL ends here as well
            return 0;
        }
    }
    if ((a == 0xe0 && text[1] < 0xa0) || (a == 0xed && text[1] > 0x9f) || (a == 0xf0 && text[1] < 0x90) ||
        (a == 0xf4 && text[1] > 0x8f)) {
        return 0;
    }
    return n;
}

// ,"name":"value" with everything escaped that could end a line, a string or a terminal's patience.
static void put_text(struct writer *w, const char *name, const char *value)
{
    put_format(w, ",\"%s\":\"", name);
    for (const unsigned char *c = (const unsigned char *)value; *c;) {
        size_t n = character(c);
        if (n == 0) {
            put(w, "\\ufffd", 6);
            c++;
        } else if (*c == '"' || *c == '\\') {
            put(w, (char[]){'\\', (char)*c}, 2);
            c++;
        } else if (*c < ' ' || *c == 0x7f) {
            put_format(w, "\\u%04x", *c);
            c++;
        } else {
            put(w, (const char *)c, n);
            c += n;
        }
    }
    put(w, "\"", 1);
}

static void put_some(struct writer *w, const char *name, const char *value)
{
    if (value && value[0]) {
        put_text(w, name, value);
    }
}

static void put_milliseconds(struct writer *w, const char *name, uint64_t ns)
{
    put_format(w, ",\"%s\":%" PRIu64 ".%03u", name, ns / 1000000u, (unsigned)(ns / 1000u % 1000u));
}

size_t access_line_format(const struct access_line *line, char *out, size_t bytes)
{
    struct writer w = {.out = out, .room = bytes};
    time_t seconds = (time_t)(line->wall_ms / 1000);
    struct tm utc;
    if (!gmtime_r(&seconds, &utc)) {
        memset(&utc, 0, sizeof utc);
    }
    put_format(&w, "{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\"", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
               utc.tm_hour, utc.tm_min, utc.tm_sec, (int)(line->wall_ms % 1000));
    put_text(&w, "id", line->id);
    put_text(&w, "peer", line->peer);
    put_some(&w, "key", line->key);
    put_some(&w, "tenant", line->tenant);
    put_text(&w, "method", line->method);
    put_text(&w, "path", line->path);
    put_some(&w, "route", line->route);
    put_format(&w, ",\"status\":%d", line->status);
    put_text(&w, "outcome", line->outcome);
    put_some(&w, "adapter", line->entry->adapter);
    put_some(&w, "digest", line->entry->digest);
    if (line->entry->prompt_tokens || line->entry->answer_tokens) {
        put_format(&w, ",\"prompt_tokens\":%u,\"reused_tokens\":%u,\"answer_tokens\":%u", line->entry->prompt_tokens,
                   line->entry->reused_tokens, line->entry->answer_tokens);
        put_milliseconds(&w, "queue_ms", line->entry->queue_ns);
        put_milliseconds(&w, "first_token_ms", line->entry->first_token_ns);
    }
    put_milliseconds(&w, "total_ms", line->total_ns);
    put_format(&w, ",\"bytes_in\":%" PRIu64 ",\"bytes_out\":%" PRIu64, line->bytes_in, line->bytes_out);
    put_some(&w, "traceparent", line->traceparent);
    put_some(&w, "prompt", line->prompt);
    put_some(&w, "answer", line->answer);
    put(&w, "}\n", 2);
    return w.full ? 0 : w.used;
}

// ---- where it goes ----

enum graft_status access_log_open(struct graft_ctx *ctx, struct access_log **out, enum http_log_target target, const char *path,
                                  uint64_t max_bytes, uint32_t max_files)
{
    *out = NULL;
    struct access_log *log;
    if (target == HTTP_LOG_FILE && strlen(path) >= PATH_ROOM - DIGITS_ROOM) {
        return graft_fail(GRAFT_E_ARGUMENT, "the access log's path is longer than %d bytes", PATH_ROOM - DIGITS_ROOM);
    }
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &log, 1, "the access log"));
    log->ctx = ctx;
    log->target = target;
    log->max_bytes = max_bytes;
    log->max_files = max_files < MAX_FILES ? max_files : MAX_FILES;
    log->fd = log->socket.fd = -1;
    const char *why;
    enum graft_status status = graft_mutex_create(ctx, &log->mutex);
    if (status == GRAFT_OK && target == HTTP_LOG_FILE) {
        memcpy(log->path, path, strlen(path) + 1);
        log->fd = log_file_open(path, &log->bytes, &why);
        if (log->fd < 0) {
            status = graft_fail(GRAFT_E_IO, "the access log %s cannot be opened: %s", path, why);
        }
    }
    bool journal = target == HTTP_LOG_JOURNAL;
    if (status == GRAFT_OK && (target == HTTP_LOG_SYSLOG || journal) &&
        !log_socket_open(&log->socket, journal ? LOG_SOCKET_JOURNAL : LOG_SOCKET_SYSLOG, path)) {
        status = graft_fail(GRAFT_E_IO, "the access log cannot go to %s (%s): %s", journal ? "journald" : "syslog",
                            log->socket.path, strerror(errno));
    }
    if (status != GRAFT_OK) {
        access_log_close(&log);
        return status;
    }
    *out = log;
    return GRAFT_OK;
}

void access_log_close(struct access_log **log)
{
    if (!log || !*log) {
        return;
    }
    if ((*log)->fd >= 0) {
        close((*log)->fd);
    }
    log_socket_close(&(*log)->socket);
    graft_mutex_destroy(&(*log)->mutex);
    GRAFT_FREE((*log)->ctx, log);
}

// With the mutex held.
static bool open_again(struct access_log *log, const char **why)
{
    uint64_t bytes;
    int fd = log_file_open(log->path, &bytes, why);
    if (fd < 0) {
        return false;
    }
    close(log->fd);
    log->fd = fd;
    log->bytes = bytes;
    return true;
}

enum graft_status access_log_reopen(struct access_log *log)
{
    if (log->target != HTTP_LOG_FILE) {
        return GRAFT_OK;
    }
    graft_mutex_lock(log->mutex);
    const char *why;
    bool good = open_again(log, &why);
    graft_mutex_unlock(log->mutex);
    return good ? GRAFT_OK : graft_fail(GRAFT_E_IO, "the access log %s cannot be opened: %s", log->path, why);
}

// FILE.N-1 becomes FILE.N, ..., FILE becomes FILE.1. Names that are missing are no fault. With the mutex held.
static void rotate(struct access_log *log)
{
    char from[PATH_ROOM], to[PATH_ROOM];
    const char *why;
    for (uint32_t i = log->max_files; i > 0; i--) {
        int n = snprintf(to, sizeof to, "%.*s.%u", PATH_ROOM - DIGITS_ROOM, log->path, i);
        int m = i > 1 ? snprintf(from, sizeof from, "%.*s.%u", PATH_ROOM - DIGITS_ROOM, log->path, i - 1)
                      : snprintf(from, sizeof from, "%s", log->path);
        if (n > 0 && m > 0) {
            file_rename(from, to);
        }
    }
    if (log->max_files == 0) {
        file_remove(log->path);
    }
    if (!open_again(log, &why)) {
        log->bytes = 0; // goes on in the old file; tried again after as many bytes
    }
}

// With the mutex held.
static bool send_out(struct access_log *log, size_t length, const struct access_line *line)
{
    char status[16];
    const struct log_field fields[] = {{"GRAFT_REQUEST", line->id},      {"GRAFT_STATUS", status},
                                       {"GRAFT_OUTCOME", line->outcome}, {"GRAFT_TENANT", line->tenant},
                                       {"GRAFT_KEY", line->key},         {"GRAFT_ADAPTER", line->entry->adapter}};
    snprintf(status, sizeof status, "%d", line->status);
    int priority = line->status >= 500 ? JOURNAL_WARNING : JOURNAL_INFO;
    return log_socket_send(&log->socket, priority, log->line, length - 1, fields, sizeof fields / sizeof *fields);
}

// With the mutex held.
static bool write_out(struct access_log *log, size_t length, const struct access_line *line)
{
    if (log->target == HTTP_LOG_SYSLOG || log->target == HTTP_LOG_JOURNAL) {
        return send_out(log, length, line);
    }
    int fd = log->target == HTTP_LOG_FILE ? log->fd : STDERR_FILENO;
    if (log->target == HTTP_LOG_STDERR) {
        const char *prefix = journal_prefix(line->status >= 500 ? JOURNAL_WARNING : JOURNAL_INFO);
        size_t n = strlen(prefix);
        if (n && length + n < sizeof log->line) {
            memmove(log->line + n, log->line, length + 1);
            memcpy(log->line, prefix, n);
            length += n;
        }
    }
    if (log->target == HTTP_LOG_FILE && log->bytes > 0 && log->bytes + length > log->max_bytes) {
        rotate(log);
        fd = log->fd;
    }
    for (size_t done = 0; done < length;) {
        ssize_t n = write(fd, log->line + done, length - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        done += (size_t)n;
        log->bytes += (uint64_t)n;
    }
    return true;
}

void access_log_write(struct access_log *log, const struct access_line *line)
{
    if (log->target == HTTP_LOG_NONE) {
        return;
    }
    graft_mutex_lock(log->mutex);
    size_t length = access_line_format(line, log->line, sizeof log->line);
    if (length == 0) {
        struct access_line shorter = *line;
        shorter.prompt = shorter.answer = NULL;
        length = access_line_format(&shorter, log->line, sizeof log->line);
    }
    if (length == 0 || !write_out(log, length, line)) {
        log->lost++;
    }
    graft_mutex_unlock(log->mutex);
}

uint64_t access_log_lost(struct access_log *log)
{
    graft_mutex_lock(log->mutex);
    uint64_t lost = log->lost;
    graft_mutex_unlock(log->mutex);
    return lost;
}
