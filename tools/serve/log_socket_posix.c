// SPDX-License-Identifier: Apache-2.0
// Journal: https://systemd.io/JOURNAL_NATIVE_PROTOCOL: NAME=value lines; a value with a line break is NAME, a line break, its
// length as 64 bits (the lowest byte first), the value, a line break.
#include "tools/serve/log_socket.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

static bool connect_again(struct log_socket *log)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, log->path, sizeof log->path);
    if (log->fd >= 0) {
        close(log->fd);
    }
    log->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (log->fd >= 0 && connect(log->fd, (const struct sockaddr *)(const void *)&address, sizeof address) != 0) {
        int why = errno;
        close(log->fd);
        log->fd = -1;
        errno = why;
    }
    return log->fd >= 0;
}

bool log_socket_open(struct log_socket *log, enum log_socket_kind kind, const char *path)
{
    *log = (struct log_socket){.kind = kind, .fd = -1};
    const char *usual = kind == LOG_SOCKET_JOURNAL ? "/run/systemd/journal/socket" : "/dev/log";
    if (snprintf(log->path, sizeof log->path, "%s", path ? path : usual) >= (int)sizeof log->path) {
        errno = ENAMETOOLONG;
        return false;
    }
    return connect_again(log);
}

void log_socket_close(struct log_socket *log)
{
    if (log->fd >= 0) {
        close(log->fd);
    }
    log->fd = -1;
}

// A datagram that is being written.
struct datagram {
    char bytes[LOG_SOCKET_BYTES];
    size_t used;
    bool full;
};

static void put(struct datagram *d, const char *bytes, size_t length)
{
    if (d->full || length > sizeof d->bytes - d->used) {
        d->full = true;
        return;
    }
    memcpy(d->bytes + d->used, bytes, length);
    d->used += length;
}

static void put_field(struct datagram *d, const char *name, const char *value, size_t length)
{
    put(d, name, strlen(name));
    if (!memchr(value, '\n', length)) {
        put(d, "=", 1);
    } else {
        char size[9] = "\n";
        for (int i = 0; i < 8; i++) {
            size[1 + i] = (char)((uint64_t)length >> 8 * i & 255);
        }
        put(d, size, sizeof size);
    }
    put(d, value, length);
    put(d, "\n", 1);
}

static void build(const struct log_socket *log, int priority, const char *line, size_t length, const struct log_field *fields,
                  size_t n_fields, struct datagram *d)
{
    char head[96];
    if (log->kind == LOG_SOCKET_SYSLOG) {
        char when[32] = "";
        time_t now = time(NULL);
        struct tm local;
        if (localtime_r(&now, &local)) {
            static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec"; // whatever the locale
            snprintf(when, sizeof when, "%.3s %2d %02d:%02d:%02d", months + 3 * (local.tm_mon % 12), local.tm_mday,
                     local.tm_hour, local.tm_min, local.tm_sec);
        }
        int n = snprintf(head, sizeof head, "<%d>%s graft[%ld]: ", LOG_DAEMON | priority, when, (long)getpid());
        put(d, head, (size_t)n);
        put(d, line, length);
        return;
    }
    put_field(d, "MESSAGE", line, length);
    snprintf(head, sizeof head, "%d", priority);
    put_field(d, "PRIORITY", head, strlen(head));
    put_field(d, "SYSLOG_IDENTIFIER", "graft", 5);
    for (size_t i = 0; i < n_fields; i++) {
        if (fields[i].value && *fields[i].value) {
            put_field(d, fields[i].name, fields[i].value, strlen(fields[i].value));
        }
    }
}

bool log_socket_send(struct log_socket *log, int priority, const char *line, size_t length, const struct log_field *fields,
                     size_t n_fields)
{
    struct datagram d = {.used = 0};
    build(log, priority, line, length, fields, n_fields, &d);
    for (int i = 0; i < 2 && !d.full; i++) {
        if (log->fd < 0 && !connect_again(log)) {
            return false;
        }
        ssize_t n = send(log->fd, d.bytes, d.used, MSG_NOSIGNAL);
        if (n >= 0) {
            return true;
        }
        if (errno != ECONNREFUSED && errno != ENOTCONN && errno != ECONNRESET) {
            return false; // full: whoever reads is slow
        }
        log_socket_close(log); // the daemon was started anew
    }
    return false;
}
