// SPDX-License-Identifier: Apache-2.0
// The engine when a batch fails, or the device is lost: answers end, the model is rebuilt, those that wait go on.
#include <stdio.h>

#include "platform/plat.h"
#include "runtime/session/engine_private.h"

enum { DETAIL_BYTES = 512 };

static void tell(struct graft_engine *engine, enum graft_device_state state, const char *detail)
{
    if (engine->params.on_device) {
        engine->params.on_device(engine->params.user, state, detail);
    }
}

static void set_lost(struct graft_engine *engine, bool lost)
{
    graft_mutex_lock(engine->mutex);
    engine->stats.lost = lost;
    engine->stats.rebuilds += !lost;
    graft_mutex_unlock(engine->mutex);
}

static void end(struct graft_request *r, enum graft_status status, const char *detail)
{
    if (status == GRAFT_OK) {
        graft_engine_finish(r, GRAFT_FINISH_CANCELLED, status);
    } else {
        status = graft_fail(status, "%s", detail); // what the last event tells
        graft_engine_finish(r, GRAFT_FINISH_ERROR, status);
    }
}

void graft_engine_end_running(struct graft_engine *engine, enum graft_status status, const char *detail)
{
    while (engine->n_running) {
        end(engine->running[0], status, detail);
    }
}

void graft_engine_end_waiting(struct graft_engine *engine, enum graft_status status, const char *detail)
{
    for (uint32_t i = 0; i < engine->n_requests; i++) {
        graft_mutex_lock(engine->mutex);
        bool waiting = engine->requests[i].state == GRAFT_REQUEST_WAITING;
        graft_mutex_unlock(engine->mutex);
        if (waiting) {
            end(&engine->requests[i], status, detail);
        }
    }
}

void graft_engine_lose(struct graft_engine *engine, enum graft_status status)
{
    char detail[DETAIL_BYTES];
    snprintf(detail, sizeof detail, "%s", graft_last_error());
    if (status == GRAFT_E_DEVICE_LOST) {
        set_lost(engine, true);
    }
    graft_engine_end_running(engine, status, detail);
}

// A place for one more rebuild among those of the last minutes; NULL: there were too many.
static uint64_t *free_try(struct graft_engine *engine, uint64_t now)
{
    for (uint32_t i = 0; i < GRAFT_MAX_REBUILDS && !engine->params.no_rebuild; i++) {
        uint64_t *at = &engine->rebuilt_ns[i];
        if (*at == 0 || now - *at > GRAFT_REBUILD_MINUTES * UINT64_C(60000000000)) {
            return at;
        }
    }
    return NULL;
}

// Rebuild as often as may be. *detail: why it did not work.
static bool rebuild(struct graft_engine *engine, char detail[DETAIL_BYTES])
{
    uint64_t *at;
    while ((at = free_try(engine, graft_clock_ns())) != NULL) {
        *at = graft_clock_ns();
        if (graft_model_rebuild(engine->model) == GRAFT_OK) {
            return true;
        }
        snprintf(detail, DETAIL_BYTES, "%s", graft_last_error());
        graft_log(engine->ctx, GRAFT_LOG_ERROR, "the model could not be rebuilt: %s", detail);
    }
    return false;
}

void graft_engine_try_again(struct graft_engine *engine)
{
    char detail[DETAIL_BYTES];
    graft_mutex_unlock(engine->mutex);
    snprintf(detail, sizeof detail, "%s", graft_last_error());
    set_lost(engine, true);
    graft_engine_end_running(engine, GRAFT_E_DEVICE_LOST, detail); // it was lost between two batches
    tell(engine, GRAFT_DEVICE_LOST, detail);
    while (engine->prefix && graft_prefix_evict(engine->prefix)) {
    }
    bool works = rebuild(engine, detail);
    if (works) {
        set_lost(engine, false);
    } else {
        engine->given_up = true;
        graft_engine_end_waiting(engine, GRAFT_E_DEVICE_LOST, detail);
    }
    tell(engine, works ? GRAFT_DEVICE_WORKS : GRAFT_DEVICE_GIVEN_UP, works ? "" : detail);
    graft_mutex_lock(engine->mutex);
}
