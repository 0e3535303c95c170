// SPDX-License-Identifier: Apache-2.0
// The head of a request and the framing of its body, read from the bytes as they came. Pure functions.
//
// Only what RFC 9112 allows to be sent is taken, and nothing that another HTTP parser on the way could read differently: lines
// end in CRLF, a field stands on one line, no control characters, one Content-Length or chunked, one Host. What is passed on to
// libmicrohttpd is written anew, so that its own leniency (bare LF, obs-fold, NUL, colons) never meets anything to repair.
#ifndef GRAFT_TOOLS_SERVE_HTTP_HEAD_H
#define GRAFT_TOOLS_SERVE_HTTP_HEAD_H

#include "tools/serve/http.h"

struct http_text {
    const char *at; // no NUL behind
    size_t length;
};

struct http_verdict {
    int status; // 0: accepted
    const char *code, *message;
};
#define HTTP_REFUSED(status, code, message) ((struct http_verdict){status, code, message})

enum http_scan { HTTP_SCAN_MORE, HTTP_SCAN_WHOLE, HTTP_SCAN_BAD };
// Look at bytes from `*scanned` on (0 for a new head; it moves to what was seen). WHOLE: *scanned is the head's length with
// its empty line. BAD, at the first byte that no sound head has there: a bare LF or CR, a control character, NUL. One pass over
// every byte, however it is cut into pieces.
enum http_scan http_head_scan(const char *bytes, size_t length, size_t *scanned);

struct http_field_text {
    struct http_text name, value; // value without blanks around it
};

struct http_head {
    struct http_text method, target, version;
    struct http_field_text fields[HTTP_MAX_HEADERS];
    uint32_t n_fields;
    bool chunked;            // else the body has
    uint64_t content_length; // bytes
    struct http_text id;     // x-request-id, also if the head is refused behind it; length 0: none
};
// Read a head that http_head_scan found whole. The texts point into bytes. Verdicts: 400, 413, 417, 431, 505; what was read
// until then is in *out.
struct http_verdict http_head_read(const char *bytes, size_t length, struct http_head *out);
// Write the head anew: one blank in the request line, "Name:value", CRLF, without the fields that nobody reads (Cookie). At
// most as long as what was read. Returns the length.
size_t http_head_write(const struct http_head *head, char *out);

// The framing of a chunked body, without chunk extensions and trailers, which nobody needs and parsers differ in.
struct http_chunks {
    uint8_t state, digits; // zero: in front of the first chunk
    uint32_t left;
    bool done;
};
// How many of the bytes belong to the body; fewer than length when it is done. *bad: the framing is broken there.
size_t http_chunks_take(struct http_chunks *chunks, const char *bytes, size_t length, bool *bad);

#endif
