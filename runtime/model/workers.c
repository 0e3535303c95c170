// SPDX-License-Identifier: Apache-2.0
// Worker threads that sleep between two ranges.
#include "runtime/model/workers.h"

struct worker {
    struct graft_workers *pool;
    struct graft_thread *thread;
    uint32_t index;
};

struct graft_workers {
    struct graft_ctx *ctx;
    struct graft_mutex *mutex; // guards everything below
    struct graft_cond *start, *done;
    void (*work)(void *user, uint32_t thread, uint32_t first, uint32_t last);
    void *user;
    uint32_t n;          // size of the range
    uint64_t generation; // of the range; workers wait for the next one
    uint32_t pending;    // workers that have not finished it
    bool quit;
    uint32_t n_threads;
    struct worker workers[GRAFT_MAX_WORKERS];
};

static void part(const struct graft_workers *pool, uint32_t index, uint32_t *first, uint32_t *last)
{
    *first = (uint32_t)((uint64_t)pool->n * index / pool->n_threads);
    *last = (uint32_t)((uint64_t)pool->n * (index + 1) / pool->n_threads);
}

static void worker_main(void *user)
{
    struct worker *self = user;
    struct graft_workers *pool = self->pool;
    uint64_t seen = 0;
    graft_mutex_lock(pool->mutex);
    for (;;) {
        while (!pool->quit && pool->generation == seen) {
            graft_cond_wait(pool->start, pool->mutex);
        }
        if (pool->quit) {
            break;
        }
        seen = pool->generation;
        uint32_t first, last;
        part(pool, self->index, &first, &last);
        graft_mutex_unlock(pool->mutex);
        pool->work(pool->user, self->index, first, last);
        graft_mutex_lock(pool->mutex);
        if (--pool->pending == 0) {
            graft_cond_broadcast(pool->done);
        }
    }
    graft_mutex_unlock(pool->mutex);
}

enum graft_status graft_workers_create(struct graft_ctx *ctx, struct graft_workers **out, uint32_t n_threads)
{
    *out = NULL;
    if (n_threads < 1 || n_threads > GRAFT_MAX_WORKERS) {
        return graft_fail(GRAFT_E_ARGUMENT, "%u threads were asked for, allowed are 1 to %d", n_threads, GRAFT_MAX_WORKERS);
    }
    struct graft_workers *pool;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &pool, 1, "worker threads"));
    pool->ctx = ctx;
    pool->n_threads = n_threads;
    enum graft_status status;
    GRAFT_TRY_OUT(graft_mutex_create(ctx, &pool->mutex), status, failed);
    GRAFT_TRY_OUT(graft_cond_create(ctx, &pool->start), status, failed);
    GRAFT_TRY_OUT(graft_cond_create(ctx, &pool->done), status, failed);
    for (uint32_t i = 1; i < n_threads; i++) {
        pool->workers[i] = (struct worker){.pool = pool, .index = i};
        GRAFT_TRY_OUT(graft_thread_start(ctx, &pool->workers[i].thread, worker_main, &pool->workers[i]), status, failed);
    }
    *out = pool;
    return GRAFT_OK;
failed:
    graft_workers_destroy(&pool);
    return status;
}

void graft_workers_destroy(struct graft_workers **workers)
{
    if (!workers || !*workers) {
        return;
    }
    struct graft_workers *pool = *workers;
    struct graft_ctx *ctx = pool->ctx;
    if (pool->mutex && pool->start) {
        graft_mutex_lock(pool->mutex);
        pool->quit = true;
        graft_cond_broadcast(pool->start);
        graft_mutex_unlock(pool->mutex);
    }
    for (uint32_t i = 1; i < pool->n_threads; i++) {
        if (pool->workers[i].thread) {
            graft_thread_join(&pool->workers[i].thread);
        }
    }
    graft_cond_destroy(&pool->done);
    graft_cond_destroy(&pool->start);
    graft_mutex_destroy(&pool->mutex);
    GRAFT_FREE(ctx, workers);
}

void graft_workers_run(struct graft_workers *pool, uint32_t n, bool serial,
                       void (*work)(void *user, uint32_t thread, uint32_t first, uint32_t last), void *user)
{
    if (serial || pool->n_threads == 1) {
        work(user, 0, 0, n);
        return;
    }
    graft_mutex_lock(pool->mutex);
    pool->work = work;
    pool->user = user;
    pool->n = n;
    pool->pending = pool->n_threads - 1;
    pool->generation++;
    graft_cond_broadcast(pool->start);
    graft_mutex_unlock(pool->mutex);
    uint32_t first, last;
    part(pool, 0, &first, &last);
    work(user, 0, first, last);
    graft_mutex_lock(pool->mutex);
    while (pool->pending) {
        graft_cond_wait(pool->done, pool->mutex);
    }
    graft_mutex_unlock(pool->mutex);
}
