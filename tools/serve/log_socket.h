// SPDX-License-Identifier: Apache-2.0
// Lines to the system's log over its datagram socket, without blocking: syslog (RFC 3164, as syslog(3) writes it) and the
// native protocol of journald.
#ifndef GRAFT_TOOLS_SERVE_LOG_SOCKET_H
#define GRAFT_TOOLS_SERVE_LOG_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

enum log_socket_kind { LOG_SOCKET_SYSLOG, LOG_SOCKET_JOURNAL };
enum { LOG_SOCKET_BYTES = 20 << 10 }; // of a datagram

struct log_socket {
    enum log_socket_kind kind;
    char path[108];
    int fd; // -1: not connected
};

// path NULL: /dev/log, /run/systemd/journal/socket. False with errno if nobody listens there.
bool log_socket_open(struct log_socket *log, enum log_socket_kind kind, const char *path);
void log_socket_close(struct log_socket *log);
// A field of the journal beside the line; the name in capitals. Values may hold anything. Ignored for syslog.
struct log_field {
    const char *name, *value; // value NULL or "": left out
};
// One line without its end, at a priority of syslog.h. False: it is lost (nobody listens, or whoever does is slow). Connects
// again when the daemon was started anew.
bool log_socket_send(struct log_socket *log, int priority, const char *line, size_t length, const struct log_field *fields,
                     size_t n_fields);

#endif
