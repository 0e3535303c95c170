// SPDX-License-Identifier: Apache-2.0
// Serving until a signal says otherwise (http_signals_posix.c, http_signals_windows.c).
#include "tools/serve/http_private.h"

enum { POLL_MS = 100, LAST_MS = 5000 };

static void hang_up(struct http_server *server, void (*on_hangup)(void *user), void *user)
{
    if (access_log_reopen(server->log) != GRAFT_OK) {
        graft_log(server->ctx, GRAFT_LOG_ERROR, "%s; the old one is written on", graft_last_error());
    }
    if (server->keys && keys_reload(server->keys) != GRAFT_OK) {
        graft_log(server->ctx, GRAFT_LOG_ERROR, "%s; the keys stay as they were", graft_last_error());
    }
    if (server->jwt && jwt_rules_reload(server->jwt) != GRAFT_OK) {
        graft_log(server->ctx, GRAFT_LOG_ERROR, "%s; the rules for tokens stay as they were", graft_last_error());
    }
    if (server->config.tls_cert && http_tls_read(server) != GRAFT_OK) {
        graft_log(server->ctx, GRAFT_LOG_ERROR, "%s; the certificate stays as it was", graft_last_error());
    }
    if (on_hangup) {
        on_hangup(user);
    }
}

void http_server_run(struct http_server *server, void (*on_hangup)(void *user), void *user)
{
    for (;;) {
        enum http_signal asked = http_next_signal(POLL_MS);
        bool draining = http_server_draining(server);
        if (asked == HTTP_SIGNAL_READ_AGAIN) {
            hang_up(server, on_hangup, user);
        } else if (asked == HTTP_SIGNAL_END) {
            if (draining) {
                return; // a second one: at once
            }
            http_server_drain(server);
        } else if (draining && (http_busy(server) == 0 ||
                                graft_clock_ns() > atomic_load(&server->drain_deadline_ns) + LAST_MS * 1000000ull)) {
            return;
        }
    }
}
