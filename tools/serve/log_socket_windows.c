// SPDX-License-Identifier: Apache-2.0
// There is neither syslog nor journald on Windows.
#include "tools/serve/log_socket.h"

#include <errno.h>
#include <stdio.h>

bool log_socket_open(struct log_socket *log, enum log_socket_kind kind, const char *path)
{
    (void)path;
    *log = (struct log_socket){.kind = kind, .fd = -1};
    snprintf(log->path, sizeof log->path, "on Windows");
    errno = ENOSYS;
    return false;
}

void log_socket_close(struct log_socket *log)
{
    log->fd = -1;
}

bool log_socket_send(struct log_socket *log, int priority, const char *line, size_t length, const struct log_field *fields,
                     size_t n_fields)
{
    (void)log, (void)priority, (void)line, (void)length, (void)fields, (void)n_fields;
    return false;
}
