// SPDX-License-Identifier: Apache-2.0
#include "e2e/served.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pid_t server;
static uint16_t port;
static struct reply last;

static void a_moment(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

static void begin(const char *under, const char *format, va_list args)
{
    char line[4096], said[4096] = "";
    int used = snprintf(line, sizeof line,
                        "exec %s '%s' serve -m '%s/golden/peft/base.gguf' --device ref --listen 127.0.0.1:0 --operator-listen "
                        "unix:\"$PWD\"/op.sock --access-log access.log ",
                        under, GRAFT_TEST_COMMAND, GRAFT_TEST_SOURCE_DIR);
    vsnprintf(line + used, sizeof line - (size_t)used, format, args);
    unlink("op.sock");
    unlink("served.err");
    server = fork();
    ck_assert_int_ge(server, 0);
    if (server == 0) {
        int out = open("served.err", O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(out, 1);
        dup2(out, 2);
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    port = 0;
    for (int i = 0; i < 1000 && !port; i++) {
        FILE *file = fopen("served.err", "rb");
        size_t n = file ? fread(said, 1, sizeof said - 1, file) : 0;
        said[n] = 0;
        if (file) {
            fclose(file);
        }
        const char *at = strstr(said, "listening on 127.0.0.1:");
        port = at && strchr(at, '\n') ? (uint16_t)atoi(at + 23) : 0;
        ck_assert_msg(port || waitpid(server, NULL, WNOHANG) == 0, "the server has ended:\n%s", said);
        a_moment();
    }
    ck_assert_msg(port, "the server does not listen:\n%s", said);
}

void served_begin(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    begin("", format, args);
    va_end(args);
}

void served_begin_under(const char *under, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    begin(under, format, args);
    va_end(args);
}

void served_end(void)
{
    int status = -1;
    kill(server, SIGTERM);
    for (int i = 0; i < 2000 && waitpid(server, &status, WNOHANG) == 0; i++) {
        a_moment();
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        kill(server, SIGKILL);
        ck_abort_msg("the server did not end well: %d", status);
    }
}

int served_wait(void)
{
    int status = -1;
    for (int i = 0; i < 2000 && waitpid(server, &status, WNOHANG) == 0; i++) {
        a_moment();
    }
    ck_assert_msg(WIFEXITED(status), "the server did not end: %d", status);
    return WEXITSTATUS(status);
}

uint16_t served_port(void)
{
    return port;
}

pid_t served_pid(void)
{
    return server;
}

static int connect_to(bool operators)
{
    struct sockaddr_in inet = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "op.sock"};
    int fd = socket(operators ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    const void *address = operators ? (const void *)&local : (const void *)&inet;
    ck_assert_int_eq(connect(fd, address, operators ? sizeof local : sizeof inet), 0);
    struct timeval limit = {.tv_sec = 60};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

static void send_request(int fd, const char *method, const char *path, const char *headers, const char *body)
{
    char head[2048];
    size_t length = body ? strlen(body) : 0;
    int n = snprintf(head, sizeof head,
                     "%s %s HTTP/1.1\r\nHost: localhost:%u\r\nConnection: close\r\n%s%sContent-Length: %zu\r\n\r\n", method,
                     path, port, headers,
                     body && !strcasestr(headers, "content-type") ? "Content-Type: application/json\r\n" : "", length);
    ck_assert_int_eq(send(fd, head, (size_t)n, MSG_NOSIGNAL), n);
    for (size_t sent = 0; sent < length;) {
        ssize_t k = send(fd, body + sent, length - sent, MSG_NOSIGNAL);
        if (k <= 0) {
            break; // it may be refused before all was read
        }
        sent += (size_t)k;
    }
}

// Chunks become what they hold.
static void dechunk(struct reply *reply)
{
    char *from = reply->body, *to = reply->body;
    for (;;) {
        char *end;
        unsigned long n = strtoul(from, &end, 16);
        if (end == from || n == 0 || end + 2 + n > reply->body + reply->length) {
            break;
        }
        memmove(to, end + 2, n);
        to += n;
        from = end + 2 + n + 2;
    }
    reply->length = (size_t)(to - reply->body);
    *to = 0;
}

static const struct reply *read_reply(int fd)
{
    static char raw[SERVED_BODY];
    size_t n = 0;
    memset(&last, 0, sizeof last);
    for (ssize_t k = 1; k > 0 && n + 1 < sizeof raw; n += k > 0 ? (size_t)k : 0) {
        k = recv(fd, raw + n, sizeof raw - 1 - n, 0);
    }
    raw[n] = 0;
    close(fd);
    char *body = strstr(raw, "\r\n\r\n");
    if (!body || sscanf(raw, "HTTP/1.1 %d", &last.status) != 1) {
        return &last;
    }
    body[2] = 0;
    snprintf(last.head, sizeof last.head, "%.8000s", raw);
    last.length = n - (size_t)(body + 4 - raw);
    memcpy(last.body, body + 4, last.length + 1);
    if (strcasestr(last.head, "transfer-encoding: chunked")) {
        dechunk(&last);
    }
    return &last;
}

const struct reply *ask_server(const char *method, const char *path, const char *headers, const char *body)
{
    int fd = connect_to(false);
    send_request(fd, method, path, headers, body);
    return read_reply(fd);
}

const struct reply *ask_operator(const char *method, const char *path, const char *body)
{
    int fd = connect_to(true);
    send_request(fd, method, path, "", body);
    return read_reply(fd);
}

int open_request_with(const char *path, const char *headers, const char *body)
{
    int fd = connect_to(false);
    send_request(fd, "POST", path, headers, body);
    return fd;
}

int open_request(const char *path, const char *body)
{
    return open_request_with(path, "", body);
}

json_t *post_json(const char *path, const char *body, int status)
{
    const struct reply *r = ask_server("POST", path, "", body);
    ck_assert_msg(r->status == status, "%s %s: %d, expected %d\n%s", path, body, r->status, status, r->body);
    json_t *value = json_loadb(r->body, r->length, 0, NULL);
    ck_assert_msg(value != NULL, "no JSON: %s", r->body);
    return value;
}

const char *reply_header(const struct reply *reply, const char *name)
{
    static char value[512];
    size_t n = strlen(name);
    for (const char *line = strchr(reply->head, '\n'); line; line = strchr(line + 1, '\n')) {
        if (strncasecmp(line + 1, name, n) == 0 && line[1 + n] == ':') {
            snprintf(value, sizeof value, "%.*s", (int)strcspn(line + n + 3, "\r\n"), line + n + 3);
            return value;
        }
    }
    return NULL;
}

double metric(const char *series)
{
    const struct reply *r = ask_server("GET", "/metrics", "", NULL);
    size_t n = strlen(series);
    for (const char *line = r->body; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, series, n) == 0 && line[n] == ' ') {
            return atof(line + n + 1);
        }
    }
    return -1;
}

bool metric_becomes(const char *series, double value)
{
    for (int i = 0; i < 250; i++) {
        if (metric(series) == value) {
            return true;
        }
        a_moment();
    }
    return false;
}
