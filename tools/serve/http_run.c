// SPDX-License-Identifier: Apache-2.0
// Serving until a signal says otherwise: SIGTERM and SIGINT drain, SIGHUP reads again.
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

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

// Threads that were there before the signals were blocked (libraries start some when they are loaded) may still take one: then
// the handler keeps it for the loop below.
static atomic_int taken[3];
static const int taken_numbers[3] = {SIGTERM, SIGINT, SIGHUP};

static void on_signal(int number)
{
    for (int i = 0; i < 3; i++) {
        if (taken_numbers[i] == number) {
            atomic_fetch_add(&taken[i], 1);
        }
    }
}

// The next signal, 0 if none comes for a while.
static int next_signal(const sigset_t *set)
{
    const struct timespec wait = {.tv_nsec = POLL_MS * 1000000};
    for (int i = 0; i < 3; i++) {
        if (atomic_load(&taken[i]) > 0) {
            atomic_fetch_sub(&taken[i], 1);
            return taken_numbers[i];
        }
    }
    int number = sigtimedwait(set, NULL, &wait);
    return number > 0 ? number : 0;
}

void http_server_run(struct http_server *server, void (*on_hangup)(void *user), void *user)
{
    sigset_t set;
    http_signals(&set);
    for (;;) {
        int signal_number = next_signal(&set);
        bool draining = http_server_draining(server);
        if (signal_number == SIGHUP) {
            hang_up(server, on_hangup, user);
        } else if (signal_number == SIGTERM || signal_number == SIGINT) {
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

void http_block_signals(void)
{
    sigset_t set;
    http_signals(&set);
    signal(SIGXFSZ, SIG_IGN); // a file that may not grow, a reader of our errors that has ended: write says so
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL); // fails only for a wrong first argument
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    for (int i = 0; i < 3; i++) {
        sigaction(taken_numbers[i], &action, NULL);
    }
}

void http_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
}
