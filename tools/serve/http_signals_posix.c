// SPDX-License-Identifier: Apache-2.0
// SIGTERM and SIGINT drain, SIGHUP reads again.
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "tools/serve/http_private.h"

// Threads that were there before the signals were blocked (libraries start some when they are loaded) may still take one: then
// the handler keeps it for http_next_signal.
static atomic_int taken[3];
static const int numbers[3] = {SIGTERM, SIGINT, SIGHUP};

static void on_signal(int number)
{
    for (int i = 0; i < 3; i++) {
        if (numbers[i] == number) {
            atomic_fetch_add(&taken[i], 1);
        }
    }
}

static void fill(sigset_t *set)
{
    sigemptyset(set);
    for (int i = 0; i < 3; i++) {
        sigaddset(set, numbers[i]);
    }
}

void http_block_signals(void)
{
    sigset_t set;
    fill(&set);
    signal(SIGXFSZ, SIG_IGN); // a file that may not grow, a reader of our errors that has ended: write says so
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL); // fails only for a wrong first argument
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    for (int i = 0; i < 3; i++) {
        sigaction(numbers[i], &action, NULL);
    }
}

enum http_signal http_next_signal(unsigned wait_ms)
{
    const struct timespec wait = {.tv_sec = wait_ms / 1000, .tv_nsec = wait_ms % 1000 * 1000000L};
    sigset_t set;
    fill(&set);
    int number = 0;
    for (int i = 0; i < 3 && !number; i++) {
        if (atomic_load(&taken[i]) > 0) {
            atomic_fetch_sub(&taken[i], 1);
            number = numbers[i];
        }
    }
    number = number ? number : sigtimedwait(&set, NULL, &wait);
    return number == SIGHUP                        ? HTTP_SIGNAL_READ_AGAIN
           : number == SIGTERM || number == SIGINT ? HTTP_SIGNAL_END
                                                   : HTTP_SIGNAL_NONE;
}

void http_ask_to_end(void)
{
    kill(getpid(), SIGTERM); // to the process: every thread blocks it, the one that waits takes it
}
