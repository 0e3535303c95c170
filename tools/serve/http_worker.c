// SPDX-License-Identifier: Apache-2.0
// Requests with a long body: read, tokenized and checked on a thread of their own, one after the other.
//
// The MHD thread makes all replies and sends all streams. A body of a mebibyte takes a tenth of a second and more to tokenize;
// on the MHD thread every stream would stand still for so long.
#include "tools/serve/http_private.h"

static struct http_exchange *next(struct http_server *server)
{
    struct http_worker *worker = &server->worker;
    graft_mutex_lock(worker->mutex);
    while (!worker->first && !worker->quit) {
        graft_cond_wait(worker->wake, worker->mutex);
    }
    struct http_exchange *exchange = worker->first;
    if (exchange) {
        worker->first = exchange->next_work;
        worker->last = worker->first ? worker->last : NULL;
    }
    graft_mutex_unlock(worker->mutex);
    return exchange;
}

static void run(void *user)
{
    struct http_server *server = user;
    for (struct http_exchange *exchange = next(server); exchange; exchange = next(server)) {
        exchange->route->handler(exchange, server->user);
    }
}

void http_worker_add(struct http_exchange *exchange)
{
    struct http_worker *worker = &exchange->server->worker;
    graft_mutex_lock(worker->mutex);
    exchange->next_work = NULL;
    if (worker->last) {
        worker->last->next_work = exchange;
    } else {
        worker->first = exchange;
    }
    worker->last = exchange;
    graft_cond_broadcast(worker->wake);
    graft_mutex_unlock(worker->mutex);
}

enum graft_status http_worker_start(struct http_server *server)
{
    GRAFT_TRY(graft_mutex_create(server->ctx, &server->worker.mutex));
    GRAFT_TRY(graft_cond_create(server->ctx, &server->worker.wake));
    return graft_thread_start(server->ctx, &server->worker.thread, run, server);
}

void http_worker_end(struct http_server *server)
{
    struct http_worker *worker = &server->worker;
    if (worker->thread) {
        graft_mutex_lock(worker->mutex);
        worker->quit = true;
        graft_cond_broadcast(worker->wake);
        graft_mutex_unlock(worker->mutex);
        graft_thread_join(&worker->thread);
    }
    graft_cond_destroy(&worker->wake);
    graft_mutex_destroy(&worker->mutex);
}
