// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/http_head.h"

#include <string.h>
#include <strings.h>

#include "tools/serve/http_target.h"

// Fields of which a second one would be read differently by somebody else.
enum { ONE_LENGTH, ONE_ENCODING, ONE_HOST, ONE_AUTHORIZATION, ONE_TYPE, ONE_CODING, ONE_ORIGIN, ONE_EXPECT, ONES };
static const char *const single[ONES] = {"content-length", "transfer-encoding", "host",   "authorization",
                                         "content-type",   "content-encoding",  "origin", "expect"};

enum http_scan http_head_scan(const char *bytes, size_t length, size_t *scanned)
{
    size_t i = *scanned;
    for (; i < length; i++) {
        unsigned char c = (unsigned char)bytes[i];
        bool behind_cr = i > 0 && bytes[i - 1] == '\r';
        if (behind_cr != (c == '\n') || (c < ' ' && c != '\t' && c != '\r' && c != '\n') || c == 0x7f) {
            return HTTP_SCAN_BAD;
        }
        if (c == '\n' && i >= 3 && bytes[i - 2] == '\n') {
            *scanned = i + 1;
            return HTTP_SCAN_WHOLE;
        }
    }
    *scanned = i;
    return HTTP_SCAN_MORE;
}

static bool is_token(struct http_text text)
{
    static const char good[] = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for (size_t i = 0; i < text.length; i++) {
        if (!memchr(good, text.at[i], sizeof good - 1)) {
            return false;
        }
    }
    return text.length > 0;
}

static bool is(struct http_text text, const char *word)
{
    return strlen(word) == text.length && strncasecmp(text.at, word, text.length) == 0;
}

// The bounded reader: what stands in front of the next `stop`, which is passed over; false: there is none, *rest is as it was.
static bool take_until(struct http_text *rest, char stop, struct http_text *out)
{
    const char *at = memchr(rest->at, stop, rest->length);
    if (!at) {
        return false;
    }
    *out = (struct http_text){rest->at, (size_t)(at - rest->at)};
    *rest = (struct http_text){at + 1, rest->length - out->length - 1};
    return true;
}

// The next line without its CRLF.
static bool read_line(struct http_text *rest, struct http_text *line)
{
    if (!take_until(rest, '\n', line) || line->length == 0 || line->at[line->length - 1] != '\r') {
        return false;
    }
    line->length--;
    return true;
}

static struct http_text trim(struct http_text text)
{
    while (text.length > 0 && (text.at[0] == ' ' || text.at[0] == '\t')) {
        text.at++;
        text.length--;
    }
    while (text.length > 0 && (text.at[text.length - 1] == ' ' || text.at[text.length - 1] == '\t')) {
        text.length--;
    }
    return text;
}

static struct http_verdict read_request_line(struct http_text *rest, struct http_head *out)
{
    struct http_text line;
    if (!read_line(rest, &line) || !take_until(&line, ' ', &out->method) || !is_token(out->method)) {
        return HTTP_REFUSED(400, "malformed_request", "the method is no token");
    }
    if (!take_until(&line, ' ', &out->target) || out->target.length == 0 || memchr(line.at, ' ', line.length)) {
        return HTTP_REFUSED(400, "malformed_request", "a request line is METHOD, TARGET and HTTP/1.1 with one blank between");
    }
    if (!http_target_plain(out->target.at, out->target.length)) { // a tab, say, which some take for a blank
        return HTTP_REFUSED(400, "malformed_request", "the request target has a character that must be escaped");
    }
    out->version = line;
    if (line.length != 8 || memcmp(line.at, "HTTP/", 5) != 0) {
        return HTTP_REFUSED(400, "malformed_request", "a request line is METHOD, TARGET and HTTP/1.1 with one blank between");
    }
    if (memcmp(line.at, "HTTP/1.1", 8) != 0 && memcmp(line.at, "HTTP/1.0", 8) != 0) {
        return HTTP_REFUSED(505, "unsupported_http_version", "HTTP/1.1 is spoken here");
    }
    return (struct http_verdict){0, NULL, NULL};
}

static struct http_verdict read_fields(struct http_text *rest, struct http_head *out, struct http_text found[ONES])
{
    struct http_verdict verdict = {0, NULL, NULL}; // the first complaint; the rest is read for x-request-id
    struct http_text line;
    while (read_line(rest, &line)) {
        if (line.length == 0) {
            return verdict;
        }
        if (out->n_fields == HTTP_MAX_HEADERS) {
            return HTTP_REFUSED(431, "too_many_headers", "the request has too many header fields");
        }
        struct http_field_text *field = &out->fields[out->n_fields];
        if (line.at[0] == ' ' || line.at[0] == '\t') {
            return HTTP_REFUSED(400, "malformed_request", "a header field must stand on one line");
        }
        if (!take_until(&line, ':', &field->name) || !is_token(field->name)) {
            return HTTP_REFUSED(400, "malformed_request", "a header field's name is no token");
        }
        field->value = trim(line);
        out->n_fields++;
        if (out->id.length == 0 && is(field->name, "x-request-id")) {
            out->id = field->value;
        }
        for (int k = 0; k < ONES; k++) {
            if (is(field->name, single[k])) {
                if (found[k].at && verdict.status == 0) {
                    verdict = HTTP_REFUSED(400, "malformed_request", "a header field that may come once came twice");
                }
                found[k] = field->value;
            }
        }
    }
    return HTTP_REFUSED(400, "malformed_request", "the head has no end");
}

// A host as it may stand in Host: a name or number, perhaps a port.
static bool is_host(struct http_text text)
{
    static const char good[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.-_:[]";
    for (size_t i = 0; i < text.length; i++) {
        if (!memchr(good, text.at[i], sizeof good - 1)) {
            return false;
        }
    }
    return text.length > 0 && text.length < 256;
}

// Digits alone; more of them than any body is long are UINT64_MAX.
static bool read_length(struct http_text text, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] < '0' || text.at[i] > '9') {
            return false;
        }
        *out = text.length > 18 ? UINT64_MAX : *out * 10 + (uint64_t)(text.at[i] - '0');
    }
    return text.length > 0;
}

struct http_verdict http_head_read(const char *bytes, size_t length, struct http_head *out)
{
    struct http_text rest = {bytes, length};
    struct http_text found[ONES] = {{NULL, 0}};
    out->n_fields = 0;
    out->chunked = false;
    out->content_length = 0;
    out->id = out->method = out->target = out->version = (struct http_text){"", 0};
    struct http_verdict verdict = read_request_line(&rest, out);
    struct http_verdict fields = verdict.status == 0 || verdict.status == 505 ? read_fields(&rest, out, found) : verdict;
    if (verdict.status || fields.status) {
        return verdict.status ? verdict : fields;
    }
    bool recent = out->version.at[7] == '1';
    struct http_text size = found[ONE_LENGTH], encoding = found[ONE_ENCODING], host = found[ONE_HOST];
    if (size.at && encoding.at) {
        return HTTP_REFUSED(400, "malformed_request", "Content-Length and Transfer-Encoding exclude each other");
    }
    if (size.at && !read_length(size, &out->content_length)) {
        return HTTP_REFUSED(400, "malformed_request", "Content-Length is no number of bytes");
    }
    if (out->content_length > INT64_MAX) {
        return HTTP_REFUSED(413, "body_too_large", "the body is longer than this call takes");
    }
    if (encoding.at && (!recent || !is(encoding, "chunked"))) {
        return HTTP_REFUSED(400, "malformed_request", "of transfer encodings only chunked is known");
    }
    out->chunked = encoding.at != NULL;
    if ((recent && !host.at) || (host.at && !is_host(host))) {
        return HTTP_REFUSED(400, "malformed_request", "Host is missing or malformed");
    }
    if (found[ONE_EXPECT].at && !is(found[ONE_EXPECT], "100-continue")) {
        return HTTP_REFUSED(417, "unsupported_expectation", "of expectations only 100-continue is known");
    }
    return (struct http_verdict){0, NULL, NULL};
}

static char *put(char *to, struct http_text text, const char *behind)
{
    size_t n = strlen(behind);
    memcpy(to, text.at, text.length);
    memcpy(to + text.length, behind, n);
    return to + text.length + n;
}

size_t http_head_write(const struct http_head *head, char *out)
{
    char *to = put(put(put(out, head->method, " "), head->target, " "), head->version, "\r\n");
    for (uint32_t i = 0; i < head->n_fields; i++) {
        if (!is(head->fields[i].name, "cookie")) {
            to = put(put(to, head->fields[i].name, ":"), head->fields[i].value, "\r\n");
        }
    }
    return (size_t)(put(to, (struct http_text){"", 0}, "\r\n") - out);
}

// ---- chunks ----

enum { SIZE, SIZE_LF, DATA, DATA_CR, DATA_LF, END_CR, END_LF };

size_t http_chunks_take(struct http_chunks *chunks, const char *bytes, size_t length, bool *bad)
{
    static const struct {
        char wanted;
        uint8_t next;
    } ends[] = {[SIZE_LF] = {'\n', DATA},
                [DATA_CR] = {'\r', DATA_LF},
                [DATA_LF] = {'\n', SIZE},
                [END_CR] = {'\r', END_LF},
                [END_LF] = {'\n', END_LF}};
    size_t at = 0;
    *bad = false;
    while (at < length && !chunks->done && !*bad) {
        char c = bytes[at];
        int digit = http_hex_digit(c);
        if (chunks->state == DATA) {
            size_t n = length - at < chunks->left ? length - at : chunks->left;
            at += n;
            chunks->left -= (uint32_t)n;
            chunks->state = chunks->left ? DATA : DATA_CR;
        } else if (chunks->state == SIZE && digit >= 0 && chunks->digits < 7) { // up to 256 MiB: far more than any body
            chunks->left = chunks->left * 16 + (uint32_t)digit;
            chunks->digits++;
            at++;
        } else if (chunks->state == SIZE) {
            *bad = c != '\r' || chunks->digits == 0;
            chunks->state = SIZE_LF;
            at += !*bad;
        } else {
            *bad = c != ends[chunks->state].wanted;
            chunks->done = chunks->state == END_LF && !*bad;
            chunks->state = chunks->state == SIZE_LF && chunks->left == 0 ? END_CR : ends[chunks->state].next;
            chunks->digits = 0;
            at += !*bad;
        }
    }
    return at;
}
