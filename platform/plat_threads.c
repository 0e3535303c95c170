// SPDX-License-Identifier: Apache-2.0
// Threads, mutexes and conditions of plat.h with POSIX threads, which mingw-w64 has on Windows, too.
#include <pthread.h>
#include <string.h>

#include "platform/plat.h"

struct graft_thread {
    struct graft_ctx *ctx;
    pthread_t id;
    void (*run)(void *user);
    void *user;
};

static void *thread_main(void *thread)
{
    struct graft_thread *self = thread;
    self->run(self->user);
    return NULL;
}

enum graft_status graft_thread_start(struct graft_ctx *ctx, struct graft_thread **out, void (*run)(void *user), void *user)
{
    struct graft_thread *thread;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &thread, 1, "a thread"));
    thread->ctx = ctx;
    thread->run = run;
    thread->user = user;
    int error = pthread_create(&thread->id, NULL, thread_main, thread);
    if (error) {
        GRAFT_FREE(ctx, &thread);
        return graft_fail(GRAFT_E_INTERNAL, "a thread could not be started: %s", strerror(error));
    }
    *out = thread;
    return GRAFT_OK;
}

void graft_thread_join(struct graft_thread **thread)
{
    if (!thread || !*thread) {
        return;
    }
    pthread_join((*thread)->id, NULL);
    GRAFT_FREE((*thread)->ctx, thread);
}

struct graft_mutex {
    struct graft_ctx *ctx;
    pthread_mutex_t native;
};

enum graft_status graft_mutex_create(struct graft_ctx *ctx, struct graft_mutex **out)
{
    struct graft_mutex *mutex;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &mutex, 1, "a mutex"));
    mutex->ctx = ctx;
    pthread_mutex_init(&mutex->native, NULL);
    *out = mutex;
    return GRAFT_OK;
}

void graft_mutex_destroy(struct graft_mutex **mutex)
{
    if (!mutex || !*mutex) {
        return;
    }
    pthread_mutex_destroy(&(*mutex)->native);
    GRAFT_FREE((*mutex)->ctx, mutex);
}

void graft_mutex_lock(struct graft_mutex *mutex)
{
    pthread_mutex_lock(&mutex->native);
}

void graft_mutex_unlock(struct graft_mutex *mutex)
{
    pthread_mutex_unlock(&mutex->native);
}

struct graft_cond {
    struct graft_ctx *ctx;
    pthread_cond_t native;
};

enum graft_status graft_cond_create(struct graft_ctx *ctx, struct graft_cond **out)
{
    struct graft_cond *cond;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &cond, 1, "a condition"));
    cond->ctx = ctx;
    pthread_cond_init(&cond->native, NULL);
    *out = cond;
    return GRAFT_OK;
}

void graft_cond_destroy(struct graft_cond **cond)
{
    if (!cond || !*cond) {
        return;
    }
    pthread_cond_destroy(&(*cond)->native);
    GRAFT_FREE((*cond)->ctx, cond);
}

void graft_cond_wait(struct graft_cond *cond, struct graft_mutex *mutex)
{
    pthread_cond_wait(&cond->native, &mutex->native);
}

void graft_cond_broadcast(struct graft_cond *cond)
{
    pthread_cond_broadcast(&cond->native);
}
