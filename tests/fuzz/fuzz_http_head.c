// SPDX-License-Identifier: Apache-2.0
// Any bytes as what a client sends: heads, each with its body. The first byte says how they are cut into pieces, which changes
// nothing. A head that is accepted holds nothing that another parser could read differently (cases 52 to 57 of the threat list,
// looked for here by other means); written anew it is the same head, no longer, and stays as it is. A body ends where a decoder
// of whole chunks sees its end. A target splits into a path without control characters, and a query.
#include <strings.h>

#include "fuzz/fuzz.h"
#include "tools/serve/http_target.h"

enum { REQUESTS = 8 };

// ---- what must not be accepted ----

static bool is_one_of(const uint8_t *name, size_t length, const char *word)
{
    return strlen(word) == length && strncasecmp((const char *)name, word, length) == 0;
}

// The bytes up to the next CRLF; only there may CR and LF stand. SIZE_MAX: none, or a control character.
static size_t line_length(const uint8_t *line, const uint8_t *end)
{
    for (const uint8_t *at = line; at + 1 < end; at++) {
        if (at[0] == '\r' && at[1] == '\n') {
            return (size_t)(at - line);
        }
        if (at[0] == 0x7f || (at[0] < 0x20 && at[0] != '\t')) {
            return SIZE_MAX;
        }
    }
    return SIZE_MAX;
}

// What is wrong with a request line: exactly two blanks, a method of letters and signs, a visible target, a known version.
static const char *wrong_request_line(const uint8_t *line, size_t length, bool *old)
{
    const uint8_t *first = memchr(line, ' ', length), *last = length ? line + length - 9 : line;
    if (length < 12 || !first || first == line || last <= first + 1 || *last != ' ') {
        return "a request line without its three parts";
    }
    *old = memcmp(last, " HTTP/1.0", 9) == 0;
    if (!*old && memcmp(last, " HTTP/1.1", 9) != 0) {
        return "another version";
    }
    for (const uint8_t *at = line; at < last; at++) {
        if (at != first && (*at <= ' ' || *at >= 0x7f || (at < first && strchr("\"(),/:;<=>?@[\\]{}", *at)))) {
            return "a character in the request line";
        }
    }
    return NULL;
}

// Every construct of the threat list in a whole head; NULL: none of them.
static const char *forbidden(const uint8_t *head, size_t length)
{
    const uint8_t *at = head, *end = head + length;
    unsigned hosts = 0, lengths = 0, encodings = 0, authorizations = 0, fields = 0;
    bool old = false;
    for (unsigned lines = 0;; lines++) {
        size_t n = line_length(at, end);
        if (n == SIZE_MAX) {
            return "a control character, or no end";
        }
        if (n == 0) {
            const char *wrong = at + 2 != end ? "bytes behind the empty line" : lines == 0 ? "no request line" : NULL;
            wrong = hosts > 1 || lengths > 1 || encodings > 1 || authorizations > 1 ? "a field twice" : wrong;
            wrong = lengths && encodings ? "a length and an encoding" : wrong;
            wrong = !old && !hosts ? "no host" : wrong;
            wrong = old && encodings ? "an encoding in HTTP/1.0" : wrong;
            return fields > HTTP_MAX_HEADERS ? "too many fields" : wrong;
        }
        const uint8_t *colon = memchr(at, ':', n);
        size_t name = colon ? (size_t)(colon - at) : 0, skip = name + 1;
        const char *wrong = lines == 0 ? wrong_request_line(at, n, &old) : !name ? "a line without a name" : NULL;
        if (wrong) {
            return wrong;
        }
        for (size_t i = 0; lines > 0 && i < name; i++) {
            if (at[i] <= ' ' || at[i] >= 0x7f || strchr("\"(),/;<=>?@[\\]{}", at[i])) {
                return "a field's name, a blank in front of its colon, or a fold";
            }
        }
        while (skip < n && (at[skip] == ' ' || at[skip] == '\t')) {
            skip++;
        }
        size_t size = n - (skip < n ? skip : n);
        while (size > 0 && (at[skip + size - 1] == ' ' || at[skip + size - 1] == '\t')) {
            size--;
        }
        if (lines > 0) {
            fields++;
            hosts += is_one_of(at, name, "host");
            authorizations += is_one_of(at, name, "authorization");
            if (is_one_of(at, name, "transfer-encoding") && ++encodings && !is_one_of(at + skip, size, "chunked")) {
                return "another encoding";
            }
            if (is_one_of(at, name, "content-length")) {
                lengths++;
                for (size_t i = 0; i < size; i++) {
                    if (at[skip + i] < '0' || at[skip + i] > '9') {
                        return "a length that is no number";
                    }
                }
                if (size == 0 || size > 18) {
                    return "a length of no or too many digits";
                }
            }
        }
        at += n + 2;
    }
}

// ---- heads ----

static bool same(struct http_text a, struct http_text b)
{
    return a.length == b.length && memcmp(a.at, b.at, a.length) == 0;
}

static bool inside(struct http_text text, const char *bytes, size_t length)
{
    return text.length == 0 || (text.at >= bytes && text.length <= length && text.at <= bytes + length - text.length);
}

static void check_target(struct http_text target)
{
    char path[HTTP_MAX_PATH], value[64], *text = calloc(1, target.length + 1);
    const char *query;
    FUZZ_CHECK(text != NULL, "no memory");
    memcpy(text, target.at, target.length);
    if (http_target_split(text, target.length, path, &query).status == 0) {
        FUZZ_CHECK(path[0] == '/' && (!query || (query > text && query[-1] == '?')), "path or query");
        for (const char *at = path; *at; at++) {
            FUZZ_CHECK((unsigned char)*at >= ' ' && *at != 0x7f, "a control character in the path");
        }
        if (http_query_value(query, "a", value, sizeof value)) {
            FUZZ_CHECK(strlen(value) < sizeof value && (strstr(query, "a=") || query[0] == 'a' || strstr(query, "&a")),
                       "a value");
        }
    } else {
        FUZZ_CHECK(path[0] == '\0' && !query, "a refused target left something");
    }
    free(text);
}

static void check_accepted(const struct http_head *head, const char *bytes, size_t length)
{
    static struct http_head again;
    static char written[HTTP_MAX_HEAD_BYTES], twice[HTTP_MAX_HEAD_BYTES];
    const char *wrong = forbidden((const uint8_t *)bytes, length);
    FUZZ_CHECK(!wrong, wrong ? wrong : "");
    check_target(head->target);
    size_t n = http_head_write(head, written), scanned = 0;
    FUZZ_CHECK(n <= length, "longer than it was");
    FUZZ_CHECK(http_head_scan(written, n, &scanned) == HTTP_SCAN_WHOLE && scanned == n, "what was written is no head");
    FUZZ_CHECK(http_head_read(written, n, &again).status == 0, "what was written is refused");
    FUZZ_CHECK(same(head->method, again.method) && same(head->target, again.target) && same(head->version, again.version),
               "another request line");
    FUZZ_CHECK(head->chunked == again.chunked && head->content_length == again.content_length, "another framing");
    FUZZ_CHECK(same(head->id, again.id), "another request id");
    uint32_t k = 0;
    for (uint32_t i = 0; i < head->n_fields; i++) {
        if (!is_one_of((const uint8_t *)head->fields[i].name.at, head->fields[i].name.length, "cookie")) {
            FUZZ_CHECK(k < again.n_fields && same(head->fields[i].name, again.fields[k].name) &&
                           same(head->fields[i].value, again.fields[k].value),
                       "another field");
            k++;
        }
    }
    FUZZ_CHECK(k == again.n_fields, "a field too many");
    FUZZ_CHECK(http_head_write(&again, twice) == n && memcmp(written, twice, n) == 0, "another text the second time");
}

// The length of the head at the front if it is accepted, 0 if it is refused or has no end.
static size_t take_head(const char *bytes, size_t length, size_t step, struct http_head *head)
{
    size_t whole = 0, scanned = 0, have = 0;
    enum http_scan scan = http_head_scan(bytes, length, &whole), pieces = HTTP_SCAN_MORE;
    while (pieces == HTTP_SCAN_MORE && have < length) {
        have = have + step < length ? have + step : length;
        pieces = http_head_scan(bytes, have, &scanned);
    }
    FUZZ_CHECK(scan == pieces && (scan == HTTP_SCAN_BAD || scanned == whole), "in pieces it is another head");
    if (scan != HTTP_SCAN_WHOLE || whole > HTTP_MAX_HEAD_BYTES) {
        return 0;
    }
    struct http_verdict verdict = http_head_read(bytes, whole, head);
    FUZZ_CHECK(inside(head->id, bytes, whole), "the request id lies elsewhere");
    if (verdict.status) {
        bool known = verdict.status == 400 || verdict.status == 413 || verdict.status == 417 || verdict.status == 431 ||
                     verdict.status == 505;
        FUZZ_CHECK(known && verdict.code && verdict.message, "refused without a word");
        return 0;
    }
    check_accepted(head, bytes, whole);
    return whole;
}

// ---- bodies ----

// The length of a whole chunked body; 0: broken, or not whole.
static size_t chunked_length(const char *bytes, size_t length)
{
    size_t at = 0;
    for (;;) {
        size_t digits = 0, size = 0;
        while (at + digits < length && http_hex_digit(bytes[at + digits]) >= 0 && digits < 8) {
            size = 16 * size + (size_t)http_hex_digit(bytes[at + digits++]);
        }
        at += digits;
        if (digits == 0 || digits > 7 || length - at < size + 4 || memcmp(bytes + at, "\r\n", 2) != 0 ||
            memcmp(bytes + at + 2 + size, "\r\n", 2) != 0) {
            return 0;
        }
        at += size + 4;
        if (size == 0) {
            return at;
        }
    }
}

// The length of the body at the front if it is whole and sound.
static size_t take_chunks(const char *bytes, size_t length, size_t step)
{
    struct http_chunks whole = {0}, pieces = {0};
    bool bad = false, bad_piece = false;
    size_t n = http_chunks_take(&whole, bytes, length, &bad), at = 0;
    while (at < length && !pieces.done && !bad_piece) {
        size_t piece = step < length - at ? step : length - at,
               taken = http_chunks_take(&pieces, bytes + at, piece, &bad_piece);
        FUZZ_CHECK(taken == piece || pieces.done || bad_piece, "a piece was left");
        at += taken;
    }
    FUZZ_CHECK(at == n && bad == bad_piece && whole.done == pieces.done, "in pieces it is another body");
    FUZZ_CHECK((whole.done ? n : 0) == chunked_length(bytes, length), "another end of the chunks");
    FUZZ_CHECK(!(bad && whole.done) && (bad || whole.done || n == length), "neither whole, nor broken, nor to go on");
    return whole.done ? n : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_head head;
    if (size < 2) {
        return 0;
    }
    size_t step = 1 + data[0] % 64, at = 1;
    for (int i = 0; i < REQUESTS && at < size; i++) {
        const char *bytes = (const char *)data + at;
        size_t length = take_head(bytes, size - at, step, &head);
        if (length == 0) {
            return 0;
        }
        at += length;
        uint64_t left = size - at;
        size_t body = head.chunked ? take_chunks(bytes + length, size - at, step) : (size_t)head.content_length;
        if ((head.chunked && body == 0) || body > left) {
            return 0;
        }
        at += body;
    }
    return 0;
}
