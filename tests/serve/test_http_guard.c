// SPDX-License-Identifier: Apache-2.0
// Malformed, hostile and slow HTTP, by the numbers of the threat list (52 to 66): each with the exact status, over raw sockets.
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/http_world.h"

static struct world world;

static void setup(void)
{
    memset(&world, 0, sizeof world);
    struct http_config config = {.head_ms = 600, .body_ms = 500, .stall_ms = 700, .idle_ms = 1500};
    world_open(&world, &config);
}

static void teardown(void)
{
    world_close(&world);
}

// Refused with this status by ourselves, and the connection is closed.
static void refused(const char *what, const char *bytes, size_t length, int status)
{
    int fd = client(&world);
    send_all(fd, bytes, length);
    struct reply reply = receive(fd, 3000);
    ck_assert_msg(reply.status == status, "%s: status %d, expected %d", what, reply.status, status);
    ck_reply(&reply, status, true);
    ck_assert_msg(reply.closed, "%s: the connection stays open", what);
    reply_free(&reply);
    close(fd);
}
#define REFUSED(what, status, text) refused(what, text, sizeof(text) - 1, status)

// The status alone: libmicrohttpd refuses some heads itself, with a text of its own.
static void status_of(const char *bytes, size_t length, int status)
{
    int fd = client(&world);
    send_all(fd, bytes, length);
    struct reply reply = receive(fd, 3000);
    ck_assert_msg(reply.status == status, "status %d, expected %d: %.300s", reply.status, status, bytes);
    reply_free(&reply);
    close(fd);
}
#define STATUS(status, text) status_of(text, sizeof(text) - 1, status)

#define POST "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

START_TEST(case_52_two_content_lengths)
{
    REFUSED("5 and 3", 400, POST "Content-Length: 5\r\nContent-Length: 3\r\n\r\n12345");
    REFUSED("equal", 400, POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n12345");
    STATUS(400, POST "Content-Length: 5, 5\r\n\r\n12345");
    REFUSED("another case", 400, POST "content-length: 5\r\nCONTENT-LENGTH: 5\r\n\r\n12345");
}
END_TEST

START_TEST(case_53_length_and_encoding_with_a_second_request_behind)
{
    int fd = client(&world);
    SEND(fd,
         POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    struct reply reply = receive(fd, 3000);
    ck_reply(&reply, 400, true);
    ck_assert(reply.closed); // and nothing but this one came
    reply_free(&reply);
    close(fd);
    REFUSED("the other order", 400, POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n");
}
END_TEST

START_TEST(case_54_odd_transfer_encodings)
{
    REFUSED("xchunked", 400, POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n");
    REFUSED("chunked, identity", 400, POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n");
    REFUSED("gzip, chunked", 400, POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n");
    REFUSED("twice", 400, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    REFUSED("HTTP/1.0", 400,
            "POST /echo HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: "
            "chunked\r\n\r\n0\r\n\r\n");
}
END_TEST

START_TEST(case_55_colons_hosts_and_authorizations)
{
    REFUSED("blank before the colon", 400, POST "Content-Length : 5\r\n\r\n12345");
    REFUSED("two Host", 400, "GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n");
    REFUSED("no Host", 400, "GET /livez HTTP/1.1\r\nA: b\r\n\r\n");
    REFUSED("empty Host", 400, "GET /livez HTTP/1.1\r\nHost:\r\n\r\n");
    REFUSED("odd Host", 400, "GET /livez HTTP/1.1\r\nHost: local host\r\n\r\n");
    REFUSED("two Authorization", 400,
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n");
    REFUSED("two Content-Type", 400, POST "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
}
END_TEST

START_TEST(case_56_bare_lf_folds_and_nul)
{
    REFUSED("bare LF", 400, "GET /livez HTTP/1.1\r\nHost: localhost\nA: b\r\n\r\n");
    REFUSED("bare LF behind the request line", 400, "GET /livez HTTP/1.1\nHost: localhost\r\n\r\n");
    REFUSED("bare LF at the end", 400, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\n");
    REFUSED("only bare LF", 400, "GET /livez HTTP/1.1\nHost: localhost\n\n");
    REFUSED("bare CR", 400, "GET /livez HTTP/1.1\r\nHost: localhost\r\nA: b\rc\r\n\r\n");
    REFUSED("obs-fold", 400, "GET /livez HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c\r\n\r\n");
    REFUSED("obs-fold of the first field", 400, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\tx\r\nA: b\r\n\r\n");
    REFUSED("NUL", 400, "GET /livez HTTP/1.1\r\nHost: localhost\r\nA: b\0c\r\n\r\n");
    REFUSED("NUL in the target", 400, "GET /livez\0 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("control character", 400, "GET /livez HTTP/1.1\r\nHost: localhost\r\nA: b\001\r\n\r\n");
}
END_TEST

// The guard sees every request of a connection, not only its first, and heads that come in pieces.
START_TEST(case_56_in_the_second_request_and_in_pieces)
{
    int fd = client(&world);
    SEND(fd, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    struct reply reply = receive(fd, 3000);
    ck_reply(&reply, 200, true);
    reply_free(&reply);
    SEND(fd, "GET /livez HTTP/1.1\r\nHost: localhost\nA: b\r\n\r\n");
    reply = receive(fd, 3000);
    ck_reply(&reply, 400, true);
    ck_assert(reply.closed);
    reply_free(&reply);
    close(fd);
    // Sound, in pieces of one byte, and two at once.
    static const char sound[] =
        "POST /echo?q=a%20b+c HTTP/1.1\r\nHost: localhost\r\nCookie: a=b; c=\"d\"\r\nEmpty:\r\nContent-Type: "
        "application/json\r\nContent-Length: 2\r\n\r\n{}";
    fd = client(&world);
    for (size_t i = 0; i < sizeof sound - 1; i++) {
        send_all(fd, sound + i, 1);
        if (i % 40 == 0) {
            wait_ms(5);
        }
    }
    reply = receive(fd, 3000);
    ck_reply(&reply, 200, true);
    ck_assert_ptr_nonnull(strstr(reply.body, "\"q\":\"a b c\""));
    reply_free(&reply);
    for (int i = 0; i < 50; i++) { // one after the other, as fast as they can be
        SEND(fd, "GET /livez HTTP/1.1\r\nHost: localhost\r\nA:\tb  \r\n\r\n");
        reply = receive(fd, 3000);
        ck_reply(&reply, 200, true);
        reply_free(&reply);
    }
    close(fd);
}
END_TEST

START_TEST(case_57_lengths_chunks_and_too_much)
{
    STATUS(400, POST "Content-Length: +5\r\n\r\n12345");
    STATUS(400, POST "Content-Length: -1\r\n\r\n12345");
    STATUS(400, POST "Content-Length: 0x5\r\n\r\n12345");
    STATUS(400, POST "Content-Length:\r\n\r\n12345");
    STATUS(413, POST "Content-Length: 18446744073709551621\r\n\r\n12345"); // 2^64 + 5
    STATUS(400, POST "Transfer-Encoding: chunked\r\n\r\nxyz\r\n12345\r\n0\r\n\r\n");
    STATUS(400, POST "Transfer-Encoding: chunked\r\n\r\n-5\r\n12345\r\n0\r\n\r\n");
    STATUS(413, POST "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n12345\r\n0\r\n\r\n");
    STATUS(200, POST "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n");
    static char big[80000];
    int n = snprintf(big, sizeof big, "GET /livez HTTP/1.1\r\nHost: localhost\r\nA: ");
    memset(big + n, 'x', 32768);
    memcpy(big + n + 32768, "\r\n\r\n", 5);
    status_of(big, (size_t)n + 32768 + 4, 431);
    n = snprintf(big, sizeof big, "GET /livez HTTP/1.1\r\nHost: localhost\r\n");
    for (int i = 0; i < 2000; i++) {
        n += snprintf(big + n, sizeof big - (size_t)n, "A%d: b\r\n", i);
    }
    n += snprintf(big + n, sizeof big - (size_t)n, "\r\n");
    status_of(big, (size_t)n, 431);
    n = snprintf(big, sizeof big, "GET /livez HTTP/1.1\r\nHost: localhost\r\n");
    for (int i = 0; i < HTTP_MAX_HEADERS; i++) { // one more than allowed, with Host
        n += snprintf(big + n, sizeof big - (size_t)n, "A%d: b\r\n", i);
    }
    n += snprintf(big + n, sizeof big - (size_t)n, "\r\n");
    refused("101 fields", big, (size_t)n, 431);
    n = snprintf(big, sizeof big, "GET /");
    memset(big + n, 'x', 4096);
    n += 4096;
    n += snprintf(big + n, sizeof big - (size_t)n, " HTTP/1.1\r\nHost: localhost\r\n\r\n");
    refused("a long target", big, (size_t)n, 414);
}
END_TEST

START_TEST(case_57_other_nonsense)
{
    REFUSED("absolute target", 400, "GET http://localhost/livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("authority", 400, "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("asterisk", 400, "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("bad escape", 400, "GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("cut escape", 400, "GET /a%2 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("NUL escaped", 400, "GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("bytes above ASCII", 400, "GET /\xc3\xa4 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("two blanks", 400, "GET  /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("expectation", 417, POST "Expect: 200-maybe\r\nContent-Length: 2\r\n\r\n{}");
    STATUS(400, "GET /livez\r\n\r\n");
    STATUS(505, "GET /livez HTTP/2.0\r\nHost: localhost\r\n\r\n");
    STATUS(400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 x\r\n\r\n");
}
END_TEST

START_TEST(case_58_a_trickled_head_has_an_absolute_deadline)
{
    int fd = client(&world);
    uint64_t begin = graft_clock_ns();
    SEND(fd, "GET /livez HTTP/1.1\r\nHost: localhost\r\nA: ");
    int i = 0;
    for (; i < 100; i++) { // a byte every 25 ms would keep an idle timer alive for ever
        if (send(fd, "x", 1, MSG_NOSIGNAL) != 1) {
            break;
        }
        char byte;
        if (recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) >= 0) {
            break;
        }
        wait_ms(25);
    }
    struct reply reply = receive(fd, 1000);
    double seconds = (double)(graft_clock_ns() - begin) * 1e-9;
    ck_reply(&reply, 408, true);
    ck_assert(reply.closed);
    ck_assert_msg(seconds > 0.55 && seconds < 1.6, "%.2f s, expected 0.6", seconds);
    reply_free(&reply);
    close(fd);
    fd = client(&world); // not even a byte
    ck_assert(closes(fd, 1500));
    close(fd);
    // Between two requests there is more time.
    fd = client(&world);
    SEND(fd, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    reply = receive(fd, 1000);
    reply_free(&reply);
    ck_assert(!closes(fd, 1000));
    SEND(fd, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    reply = receive(fd, 1000);
    ck_reply(&reply, 200, true);
    reply_free(&reply);
    ck_assert(closes(fd, 2500));
    close(fd);
}
END_TEST

START_TEST(case_59_traversal)
{
    REFUSED("dots", 404, "GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("escaped dots", 404, "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("escaped slash", 400, "GET /v1/adapters/..%2f..%2fetc HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("dots as a name", 404, "GET /v1/adapters/.. HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("no name", 404, "GET /v1/adapters/ HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("two names", 404, "GET /v1/adapters/a/b HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("two slashes", 404, "GET //livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("slash behind", 404, "GET /livez/ HTTP/1.1\r\nHost: localhost\r\n\r\n");
    STATUS(200, "GET /v1/adapters/f%C3%BCr..x HTTP/1.1\r\nHost: localhost\r\n\r\n");
}
END_TEST

START_TEST(case_60_a_body_over_its_cap_is_refused_at_the_head)
{
    REFUSED("1 MiB and a byte", 413, POST "Content-Length: 1048577\r\n\r\n"); // none of it was sent
    REFUSED("a small route", 413,
            "POST /small HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 65\r\n\r\n");
    REFUSED("no body is taken", 413, "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n");
    REFUSED("asking first", 413, POST "Expect: 100-continue\r\nContent-Length: 1048577\r\n\r\n");
    // A chunked body says how long it is only as it comes.
    REFUSED("chunked", 413,
            "POST /small HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            "30\r\n123456781234567812345678123456781234567812345678\r\n"
            "30\r\n123456781234567812345678123456781234567812345678\r\n");
    size_t length = (1 << 20);
    char *big = malloc(length + 200);
    int n = snprintf(big, 200, POST "Content-Length: %zu\r\n\r\n", length);
    memset(big + n, 'x', length);
    int fd = client(&world);
    send_all(fd, big, (size_t)n + length);
    struct reply reply = receive(fd, 5000);
    ck_reply(&reply, 200, true);
    ck_assert_ptr_nonnull(strstr(reply.body, "\"length\":1048576"));
    reply_free(&reply);
    close(fd);
    free(big);
}
END_TEST

START_TEST(case_61_a_slow_body)
{
    int fd = client(&world);
    uint64_t begin = graft_clock_ns();
    SEND(fd, POST "Content-Length: 100\r\n\r\n{");
    for (int i = 0; i < 60; i++) {
        if (send(fd, " ", 1, MSG_NOSIGNAL) != 1) {
            break;
        }
        char byte;
        if (recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) >= 0) {
            break;
        }
        wait_ms(25);
    }
    struct reply reply = receive(fd, 1000);
    double seconds = (double)(graft_clock_ns() - begin) * 1e-9;
    ck_reply(&reply, 408, true);
    ck_assert_str_eq(header_of(&reply, "connection"), "close");
    ck_assert_msg(seconds > 0.45 && seconds < 1.5, "%.2f s, expected 0.5", seconds);
    ck_assert(closes(fd, 500));
    reply_free(&reply);
    close(fd);
}
END_TEST

static void ask_stream(int fd, unsigned n, unsigned bytes, unsigned ms)
{
    char text[300];
    int length = snprintf(text, sizeof text,
                          "POST /stream?n=%u&bytes=%u&ms=%u HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                          "Content-Length: 2\r\n\r\n{}",
                          n, bytes, ms);
    send_all(fd, text, (size_t)length);
}

START_TEST(case_62_a_slow_reader_is_cut_and_hurts_nobody)
{
    int slow = client(&world), good = client(&world);
    int little = 4096;
    setsockopt(slow, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    uint64_t begin = graft_clock_ns();
    ask_stream(slow, 100000, 4000, 1); // 4 MB/s into nobody
    ask_stream(good, 100, 100, 10);
    struct reply reply = receive(good, 5000);
    ck_reply(&reply, 200, true);
    ck_assert(reply.complete);
    ck_assert_ptr_nonnull(strstr(reply.body, "99 x"));
    reply_free(&reply);
    while (atomic_load(&world.finished) < 2 && graft_clock_ns() - begin < 5000000000u) {
        wait_ms(5);
    }
    ck_assert_uint_eq(atomic_load(&world.finished), 2);
    close(slow);
    close(good);
    // One whose buffer does not fill is cut when it has read nothing for stall_ms.
    slow = client(&world);
    setsockopt(slow, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    begin = graft_clock_ns();
    ask_stream(slow, 2, 60000, 1);
    ask_stream(slow, 2, 60000, 1);
    struct http_stats stats;
    do { // begins when it has been accepted
        wait_ms(5);
        http_server_describe(world.server, &stats);
    } while (stats.streams == 0 && graft_clock_ns() - begin < 5000000000u);
    begin = graft_clock_ns();
    do {
        wait_ms(5);
        http_server_describe(world.server, &stats);
    } while (stats.connections > 0 && graft_clock_ns() - begin < 5000000000u);
    double seconds = (double)(graft_clock_ns() - begin) * 1e-9;
    ck_assert_msg(stats.cut_stall >= 1 && seconds > 0.6 && seconds < 2.5, "%.2f s, %llu cut", seconds,
                  (unsigned long long)stats.cut_stall);
    close(slow);
}
END_TEST

START_TEST(case_63_wrong_method_path_and_type)
{
    int fd = client(&world);
    SEND(fd, "PUT /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    struct reply reply = receive(fd, 3000);
    ck_reply(&reply, 405, true);
    ck_assert_str_eq(header_of(&reply, "allow"), "POST, GET, HEAD");
    reply_free(&reply);
    close(fd);
    REFUSED("a method of one's own", 405, "BREW /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("OPTIONS", 405, "OPTIONS /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"); // CORS is off
    REFUSED("TRACE", 405, "TRACE /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("unknown path", 404, "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n");
    REFUSED("text", 415, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}");
    REFUSED("a form", 415,
            "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "
            "2\r\n\r\n{}");
    REFUSED("no type", 415, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}");
    REFUSED("another type that begins alike", 415,
            "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/jsonp\r\nContent-Length: 2\r\n\r\n{}");
    STATUS(200, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: Application/JSON; charset=utf-8\r\nContent-Length: "
                "2\r\n\r\n{}");
}
END_TEST

START_TEST(case_64_names_of_other_sites)
{
    REFUSED("Host", 403, "GET /livez HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    REFUSED("Host with a port", 403, "GET /livez HTTP/1.1\r\nHost: evil.example:8080\r\n\r\n");
    REFUSED("Host that begins alike", 403, "GET /livez HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n");
    REFUSED("Origin", 403, "GET /livez HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n");
    REFUSED("Origin null", 403, "GET /livez HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n");
    REFUSED("Origin, user part", 403,
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost@evil.example\r\n\r\n");
    STATUS(200, "GET /livez HTTP/1.1\r\nHost: 127.0.0.1:1234\r\nOrigin: http://localhost:3000\r\n\r\n");
    STATUS(200, "GET /livez HTTP/1.1\r\nHost: [::1]:80\r\n\r\n");
    STATUS(200, "GET /livez HTTP/1.1\r\nHost: LOCALHOST\r\nOrigin: https://127.0.0.1\r\n\r\n");
}
END_TEST

START_TEST(case_66_compressed_bodies)
{
    REFUSED("gzip", 415, POST "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}");
    REFUSED("br", 415, POST "Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}");
    STATUS(200, POST "Content-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}");
}
END_TEST

static void many(struct http_config *config, uint32_t fit)
{
    struct world few = {.ctx = NULL};
    world_open(&few, config);
    int fds[16];
    for (uint32_t i = 0; i < fit; i++) {
        fds[i] = client(&few);
        SEND(fds[i], "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
        struct reply reply = receive(fds[i], 3000);
        ck_reply(&reply, 200, true);
        reply_free(&reply);
    }
    for (int i = 0; i < 3; i++) { // at once, whether the request has come or not
        int fd = client(&few);
        if (i > 0) {
            SEND(fd, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
        struct reply reply = receive(fd, 1000);
        ck_reply(&reply, 503, true);
        ck_assert_str_eq(header_of(&reply, "retry-after"), "1");
        ck_assert(reply.closed);
        reply_free(&reply);
        close(fd);
    }
    close(fds[0]);
    wait_ms(200);
    struct reply reply = ASK(&few, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    ck_reply(&reply, 200, true);
    reply_free(&reply);
    for (uint32_t i = 1; i < fit; i++) {
        close(fds[i]);
    }
    world_close(&few);
}

START_TEST(case_65_too_many_connections_in_all_and_of_one_address)
{
    many(&(struct http_config){.max_connections = 8}, 8);
    many(&(struct http_config){.max_per_address = 5}, 5);
}
END_TEST

// Where the guard cannot see that libmicrohttpd ended a head too early, the rest is not taken for a request.
START_TEST(case_56_nothing_is_smuggled_behind_a_head)
{
    static const char *const texts[] = {
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nA: b\n:\r\nGET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nA: b\r\n:\nGET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int fd = client(&world);
        send_all(fd, texts[i], strlen(texts[i]));
        struct reply reply = receive(fd, 3000);
        ck_reply(&reply, 200, true);
        reply_free(&reply);
        reply = receive(fd, 3000);
        ck_reply(&reply, 400, true);
        ck_assert_ptr_nonnull(strstr(reply.body, "pipelined_request"));
        ck_assert(reply.closed);
        reply_free(&reply);
        close(fd);
    }
}
END_TEST

// ---- heads changed at random, judged by a second parser: RFC 9112 to the letter, written for this test ----

static const char *token(const char *p, const char *end)
{
    const char *begin = p;
    while (p < end && *p && strchr("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", *p)) {
        p++;
    }
    return p > begin ? p : NULL;
}

// True if the bytes begin with one sound request head: no repair is needed anywhere. Empty lines in front are allowed (RFC 9112
// 2.2 asks for that with CRLF; libmicrohttpd takes LF there too, and what stands in front of a request belongs to none).
static bool sound(const char *p, size_t length)
{
    while (length >= 2 && (p[0] == '\n' || (p[0] == '\r' && p[1] == '\n'))) {
        size_t skip = p[0] == '\n' ? 1 : 2;
        p += skip;
        length -= skip;
    }
    const char *end = p + length, *stop = memmem(p, length, "\r\n\r\n", 4);
    if (!stop || !(p = token(p, end)) || *p++ != ' ' || *p != '/') {
        return false;
    }
    while (p<stop && * p> ' ' && *p <= '~') {
        p++;
    }
    if (end - p < 11 || (memcmp(p, " HTTP/1.1\r\n", 11) != 0 && memcmp(p, " HTTP/1.0\r\n", 11) != 0)) {
        return false;
    }
    for (p += 11; p < stop + 2;) {
        const char *colon = token(p, end);
        if (!colon || *colon != ':') {
            return false;
        }
        for (p = colon + 1; *p == '\t' || (unsigned char)*p >= ' '; p++) {
            if (*p == 0x7f) {
                return false;
            }
        }
        if (p[0] != '\r' || p[1] != '\n') {
            return false;
        }
        p += 2;
    }
    return p == stop + 2;
}

// What the guard cannot tell from CRLF CRLF, made that: libmicrohttpd ends a head at a line that begins with NUL or a colon,
// and both become zeros like the line ends. With one bare LF beside it, such a line takes just the place of CRLF CRLF.
static void alike(char *bytes, size_t length)
{
    static const char same[][4] = {
        {'\n', 0, '\r', '\n'}, {'\r', '\n', 0, '\n'}, {'\n', ':', '\r', '\n'}, {'\r', '\n', ':', '\n'}, {0, '\n', '\r', '\n'}};
    for (size_t i = 0; i + 1 < length; i++) {
        for (size_t k = 0; k < sizeof same / sizeof *same && i + 3 < length; k++) {
            if (memcmp(bytes + i, same[k], 4) == 0) {
                memcpy(bytes + i, "\r\n\r\n", 4);
            }
        }
        if (bytes[i] == 0 && bytes[i + 1] == '\n') { // NUL and LF behind a value: as CRLF
            bytes[i] = '\r';
        }
    }
}

START_TEST(case_56_what_is_accepted_needs_no_repair)
{
    static const char head[] =
        "GET /livez?a=b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-A: some value\r\nX-B:\r\n\r\n";
    static const char nasty[] = {'\r', '\n', 0, ' ', '\t', ':', 'x', 1, (char)0x80, '/', ',', '"'};
    struct graft_test_random random = {20260};
    unsigned accepted = 0, refused_ones = 0, damaged = 0;
    ck_assert(sound(head, sizeof head - 1));
    for (int i = 0; i < 4000; i++) {
        char bytes[256];
        size_t length = sizeof head - 1;
        memcpy(bytes, head, length);
        int changes = 1 + (int)(graft_test_random_u64(&random) % 3);
        for (int k = 0; k < changes; k++) {
            uint64_t draw = graft_test_random_u64(&random);
            size_t at = (size_t)(draw % length);
            char byte = nasty[(draw >> 16) % sizeof nasty];
            switch (draw >> 32 & 3) {
            case 0:
                bytes[at] = byte;
                break;
            case 1: // put in
                memmove(bytes + at + 1, bytes + at, length - at);
                bytes[at] = byte;
                length++;
                break;
            case 2: // take out
                memmove(bytes + at, bytes + at + 1, length - at - 1);
                length--;
                break;
            default: // a line end before it
                memmove(bytes + at + 2, bytes + at, length - at);
                memcpy(bytes + at, draw >> 40 & 1 ? "\r\n" : "\n ", 2);
                length += 2;
            }
        }
        memcpy(bytes + length, "\r\n\r\n\r\n\r\n", 8); // whatever it has become, it ends
        length += 8;
        int fd = client(&world);
        send_all(fd, bytes, length);
        shutdown(fd, SHUT_WR);
        struct reply reply = receive(fd, 3000);
        alike(bytes, length);
        bool good = sound(bytes, length);
        bool taken = reply.status == 200 || reply.status == 404 || reply.status == 405 || reply.status == 403;
        for (size_t k = 0; !good && taken && k < length; k++) {
            printf(bytes[k] > ' ' ? "%c" : "\\x%02x", bytes[k]);
        }
        ck_assert_msg(good || !taken, "round %d: status %d", i, reply.status);
        accepted += taken;
        refused_ones += reply.status == 400;
        damaged += !good;
        reply_free(&reply);
        close(fd);
    }
    printf("4000 heads: %u damaged, %u refused, %u accepted\n", damaged, refused_ones, accepted);
    ck_assert_uint_gt(accepted, 500);
    ck_assert_uint_gt(refused_ones, 1000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_guard");
    TCase *tests = tcase_create("cases");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, case_52_two_content_lengths);
    tcase_add_test(tests, case_53_length_and_encoding_with_a_second_request_behind);
    tcase_add_test(tests, case_54_odd_transfer_encodings);
    tcase_add_test(tests, case_55_colons_hosts_and_authorizations);
    tcase_add_test(tests, case_56_bare_lf_folds_and_nul);
    tcase_add_test(tests, case_56_in_the_second_request_and_in_pieces);
    tcase_add_test(tests, case_56_nothing_is_smuggled_behind_a_head);
    tcase_add_test(tests, case_56_what_is_accepted_needs_no_repair);
    tcase_add_test(tests, case_57_lengths_chunks_and_too_much);
    tcase_add_test(tests, case_57_other_nonsense);
    tcase_add_test(tests, case_58_a_trickled_head_has_an_absolute_deadline);
    tcase_add_test(tests, case_59_traversal);
    tcase_add_test(tests, case_60_a_body_over_its_cap_is_refused_at_the_head);
    tcase_add_test(tests, case_61_a_slow_body);
    tcase_add_test(tests, case_62_a_slow_reader_is_cut_and_hurts_nobody);
    tcase_add_test(tests, case_63_wrong_method_path_and_type);
    tcase_add_test(tests, case_64_names_of_other_sites);
    tcase_add_test(tests, case_66_compressed_bodies);
    tcase_add_test(tests, case_65_too_many_connections_in_all_and_of_one_address);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
