// SPDX-License-Identifier: Apache-2.0
// A crowd beside the measured requests: connections that say nothing, and some that send a byte of a head now and then, as slow
// and hostile clients do. What the server closes is opened again.
#include "tools/load_crowd.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "tools/net.h"
#include "tools/tool.h"

enum { TICK_MS = 250, SPARE_FILES = 600 };

struct crowd {
    struct client_place place;
    uint32_t n_idle, n; // the first n_idle say nothing
    int *fds;           // [n], -1: not open
    size_t *sent;       // [n] bytes of the head
    pthread_t thread;
    atomic_bool ending;
    struct crowd_counts counts;
};

static void one(struct crowd *crowd, uint32_t i)
{
    static const char head[] = "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
    char sink[1024], why[128];
    if (crowd->fds[i] < 0) {
        crowd->fds[i] = client_connect(&crowd->place, why, sizeof why);
        crowd->sent[i] = 0;
        crowd->counts.opened += crowd->fds[i] >= 0;
        crowd->counts.refused += crowd->fds[i] < 0;
        if (crowd->fds[i] >= 0) {
            net_nonblocking(crowd->fds[i]);
        }
        return;
    }
    ssize_t n = net_receive(crowd->fds[i], sink, sizeof sink); // a refusal, or the end
    bool over = n == 0 || n == NET_BROKEN;
    if (!over && i >= crowd->n_idle) {
        char byte = crowd->sent[i] < sizeof head - 1 ? head[crowd->sent[i]] : 'x';
        over = net_send(crowd->fds[i], &byte, 1) == NET_BROKEN;
        crowd->sent[i]++;
    }
    if (over) {
        net_close(crowd->fds[i]);
        crowd->fds[i] = -1;
        crowd->counts.closed++;
    }
}

static void *run(void *user)
{
    struct crowd *crowd = user;
    while (!atomic_load(&crowd->ending)) {
        for (uint32_t i = 0; i < crowd->n && !atomic_load(&crowd->ending); i++) {
            one(crowd, i);
        }
        nanosleep(&(struct timespec){.tv_nsec = TICK_MS * 1000000L}, NULL);
    }
    return NULL;
}

struct crowd *crowd_begin(const struct client_place *place, uint32_t idle, uint32_t trickling)
{
    struct crowd *crowd = get_memory(1, sizeof *crowd);
    *crowd = (struct crowd){.place = *place, .n_idle = idle, .n = idle + trickling};
    net_allow((uint64_t)crowd->n + SPARE_FILES);
    crowd->fds = get_memory(crowd->n, sizeof *crowd->fds);
    crowd->sent = get_memory(crowd->n, sizeof *crowd->sent);
    for (uint32_t i = 0; i < crowd->n; i++) {
        crowd->fds[i] = -1;
    }
    for (uint32_t i = 0; i < crowd->n; i++) { // all are there when the measurement begins
        one(crowd, i);
    }
    if (pthread_create(&crowd->thread, NULL, run, crowd) != 0) {
        atomic_store(&crowd->ending, true); // they stay as they are
        crowd->thread = pthread_self();
    }
    return crowd;
}

struct crowd_counts crowd_end(struct crowd **given)
{
    struct crowd *crowd = *given;
    if (!atomic_exchange(&crowd->ending, true)) {
        pthread_join(crowd->thread, NULL);
    }
    for (uint32_t i = 0; i < crowd->n; i++) {
        crowd->counts.open += crowd->fds[i] >= 0;
        net_close(crowd->fds[i]);
    }
    struct crowd_counts counts = crowd->counts;
    free(crowd->fds);
    free(crowd->sent);
    free(crowd);
    *given = NULL;
    return counts;
}
