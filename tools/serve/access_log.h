// SPDX-License-Identifier: Apache-2.0
// The access log: one JSON object per line and request, to a file that is rotated by size, to standard error, to syslog or
// to journald.
#ifndef GRAFT_TOOLS_SERVE_ACCESS_LOG_H
#define GRAFT_TOOLS_SERVE_ACCESS_LOG_H

#include "tools/serve/http.h"

enum { ACCESS_LOG_LINE = 16 << 10 }; // bytes of the longest line; what is longer loses its texts

struct access_log;

// One finished request.
struct access_line {
    int64_t wall_ms; // start, since 1970
    const char *id, *peer, *key, *tenant, *method, *path, *route, *traceparent, *outcome;
    int status;
    uint64_t bytes_in, bytes_out, total_ns;
    const struct http_log_entry *entry;
    const char *prompt, *answer; // NULL unless texts are logged
};

// path: of the file, or of the socket (NULL: the usual one). Errors: GRAFT_E_IO (the file; nobody listens at the socket),
// GRAFT_E_MEMORY, GRAFT_E_BUDGET. On failure *out is NULL.
GRAFT_MUST_CHECK enum graft_status access_log_open(struct graft_ctx *ctx, struct access_log **out, enum http_log_target target,
                                                   const char *path, uint64_t max_bytes, uint32_t max_files);
void access_log_close(struct access_log **log);
// Open the file again under its name, after somebody has moved it. The old one stays open if that fails. Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status access_log_reopen(struct access_log *log);
// Write a line; one that cannot be written is counted and dropped, the request is served all the same. Thread-safety: safe.
void access_log_write(struct access_log *log, const struct access_line *line);
uint64_t access_log_lost(struct access_log *log);

// The line as text, with a line break and a NUL behind; returns its length without the NUL, or 0 if it does not fit.
size_t access_line_format(const struct access_line *line, char *out, size_t bytes);

#endif
