// SPDX-License-Identifier: Apache-2.0
// The thread of the table of adapters: it loads, makes room, and gives back, while the engine goes on generating.
//
// One load at a time: the file is read and packed on a thread of the library, its bytes are placed piece by piece between the
// engine's steps, and this thread only asks now and then whether that is done. Requests that wait are served in order, but
// those whose adapters are there already pass. When a request finds no room for its adapters for a while, the adapter that was
// used longest ago takes no more requests until the first in line has been served.
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "platform/plat.h"
#include "tools/serve/adapters.h"

enum { POLL_NS = 1000000, PATIENCE_NS = 200000000, LOOK_MS = 20 };
static const uint64_t change_wait_ns = 10000000000u; // so long a change waits for room

// ---- calls on the engine's thread ----

struct load_call {
    const char *path;
    struct graft_adapter_load *load;
    struct graft_adapter *handle;
    struct graft_adapter_info info;
    bool ready;
};

static enum graft_status call_begin(struct graft_model *model, void *user)
{
    struct load_call *call = user;
    return graft_adapter_load_begin(model, &call->load, call->path);
}

static enum graft_status call_ready(struct graft_model *model, void *user)
{
    struct load_call *call = user;
    (void)model;
    call->ready = graft_adapter_load_ready(call->load);
    return GRAFT_OK;
}

static enum graft_status call_end(struct graft_model *model, void *user)
{
    struct load_call *call = user;
    (void)model;
    enum graft_status status = graft_adapter_load_end(&call->load, &call->handle);
    if (status == GRAFT_OK) {
        graft_adapter_describe(call->handle, &call->info);
    }
    return status;
}

static enum graft_status call_release(struct graft_model *model, void *user)
{
    struct graft_adapter **handle = user;
    (void)model;
    graft_adapter_release(handle);
    return GRAFT_OK;
}

static enum graft_status call_expire(struct graft_model *model, void *user)
{
    (void)user;
    graft_adapter_expire(model, 0);
    return GRAFT_OK;
}

static void release(struct adapters *table, struct graft_adapter **handle)
{
    if (*handle && graft_engine_run(table->engine, call_release, handle) != GRAFT_OK) {
        note("an adapter was not given back: %s", graft_last_error());
    }
}

// Read, check, pack and place, without stopping what runs.
static enum graft_status load_file(struct adapters *table, struct load_call *call)
{
    enum graft_status status = graft_engine_run(table->engine, call_begin, call);
    while (status == GRAFT_OK && !call->ready) {
        nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
        status = graft_engine_run(table->engine, call_ready, call);
    }
    return status == GRAFT_OK ? graft_engine_run(table->engine, call_end, call) : status;
}

// ---- room ----

// Under the lock, which is given up: one adapter that nothing runs with gives up its room. False: there is none.
static bool evict(struct adapters *table)
{
    struct adapter_version *oldest = adapters_oldest(table, false);
    if (!oldest) {
        return false;
    }
    struct graft_adapter *handle = oldest->handle;
    oldest->handle = NULL;
    oldest->draining = false;
    oldest->entry->evictions++;
    pthread_mutex_unlock(&table->mutex);
    release(table, &handle);
    pthread_mutex_lock(&table->mutex);
    return true;
}

// Under the lock: room for what a version is known to need.
static bool make_room(struct adapters *table, const struct adapter_version *version)
{
    uint32_t count;
    uint64_t bytes = adapters_resident(table, &count);
    while (count >= table->pool_slots || bytes + version->info.bytes > table->pool_bytes) {
        if (!evict(table)) {
            return false;
        }
        bytes = adapters_resident(table, &count);
    }
    return true;
}

static void explain(enum graft_status status, const char *path, struct api_error *error)
{
    const char *detail = graft_last_error();
    switch (status) {
    case GRAFT_E_IO:
        if (!file_exists(path)) {
            api_fail(error, 404, "adapter_file_not_found", "lora_path", "the adapter's files are not there");
        } else {
            api_fail(error, 503, "lora_storage_unavailable", "lora_path", "%.600s", detail);
        }
        break;
    case GRAFT_E_FORMAT:
    case GRAFT_E_UNSUPPORTED:
        api_fail(error, 422, "invalid_lora_adapter", "lora_path", "%.600s", detail);
        break;
    case GRAFT_E_SIGNATURE:
        api_fail(error, 403, "adapter_signature_invalid", "lora_path", "%.600s", detail);
        break;
    case GRAFT_E_LIMIT:
        api_fail(error, 413, "lora_adapter_file_too_large", "lora_path", "%.600s", detail);
        break;
    case GRAFT_E_BUDGET:
        api_fail(error, 409, "lora_byte_limit_exceeded", "lora_path", "%.600s", detail);
        break;
    case GRAFT_E_ARGUMENT:
        api_fail(error, 409, "lora_runtime_unavailable", NULL, "%.600s", detail);
        break;
    case GRAFT_E_DEVICE:
    case GRAFT_E_DEVICE_LOST:
        api_fail(error, 503, "lora_device_load_failed", NULL, "%.600s", detail);
        break;
    default:
        api_fail(error, 500, "lora_load_failed", NULL, "%.600s", detail);
    }
}

enum outcome { LOADED, NO_ROOM, FAILED };

// Under the lock, which is given up meanwhile: bytes of version->path into the pool. What came is in *call.
static enum outcome load_version(struct adapters *table, struct adapter_version *version, struct load_call *call,
                                 struct api_error *error)
{
    uint64_t begin = graft_clock_ns();
    bool room = make_room(table, version);
    version->loading = room;
    while (room) {
        *call = (struct load_call){.path = version->path};
        pthread_mutex_unlock(&table->mutex);
        enum graft_status status = load_file(table, call);
        if (status != GRAFT_OK && status != GRAFT_E_BUDGET) {
            explain(status, version->path, error);
        }
        char detail[512];
        snprintf(detail, sizeof detail, "%s", graft_last_error());
        pthread_mutex_lock(&table->mutex);
        version->entry->loads += status == GRAFT_OK;
        version->entry->load_ns += status == GRAFT_OK ? graft_clock_ns() - begin : 0;
        version->entry->failures += status != GRAFT_OK && status != GRAFT_E_BUDGET;
        if (status != GRAFT_E_BUDGET) {
            version->loading = false;
            return status == GRAFT_OK ? LOADED : FAILED;
        }
        api_fail(error, 409, "lora_byte_limit_exceeded", NULL, "%.600s", detail);
        room = evict(table);
    }
    version->loading = false;
    if (!error->status) {
        uint32_t count;
        uint64_t bytes = adapters_resident(table, &count);
        char needs[64] = "";
        if (version->info.bytes) {
            snprintf(needs, sizeof needs, "the adapter takes %llu bytes; ", (unsigned long long)version->info.bytes);
        }
        api_fail(error, 409, "lora_byte_limit_exceeded", NULL,
                 "%s%u adapters with %llu bytes are in use or pinned, the pool has %llu bytes and %u slots", needs, count,
                 (unsigned long long)bytes, (unsigned long long)table->pool_bytes, table->pool_slots);
    }
    return NO_ROOM;
}

// Under the lock: the bytes are those of a version. A file that was changed while its adapter was cold is the name's next
// version, if it still is what the name means.
static bool take(struct adapters *table, struct adapter_version **version, struct load_call *call, struct api_error *error)
{
    struct adapter_version *v = *version;
    if (!*v->info.digest || strcmp(v->info.digest, call->info.digest) == 0) {
        v->info = call->info;
        v->handle = call->handle;
        table->changes++;
        return true;
    }
    if (v != v->entry->current) {
        pthread_mutex_unlock(&table->mutex);
        release(table, &call->handle);
        pthread_mutex_lock(&table->mutex);
        return api_fail(error, 409, "lora_generation_gone", "model",
                        "this version of '%s' was dropped from memory and its file has been changed since", v->entry->name);
    }
    struct adapter_version *next = adapter_version_new(v->path);
    if (!next) {
        pthread_mutex_unlock(&table->mutex);
        release(table, &call->handle);
        pthread_mutex_lock(&table->mutex);
        return api_no_memory(error);
    }
    next->info = call->info;
    next->handle = call->handle;
    note("warning: the file of adapter %s has changed: %.12s is now %.12s", v->entry->name, v->info.digest, call->info.digest);
    adapter_publish(v->entry, next, table);
    *version = next;
    return true;
}

// ---- requests in line ----

static void leave_line(struct adapters *table, struct adapter_lease *lease)
{
    struct adapter_lease **at = &table->leases;
    while (*at != lease) {
        at = &(*at)->next;
    }
    *at = lease->next;
    table->leases_end = lease->next ? table->leases_end : at;
    table->n_leases--;
}

// Under the lock, which is given up: it has its adapters, or the error.
static void answer(struct adapters *table, struct adapter_lease *lease, const struct api_error *error)
{
    leave_line(table, lease);
    for (uint32_t i = 0; i < lease->n && error->status; i++) {
        lease->versions[i]->holds -= i < lease->n_held;
        adapter_version_drop(table, lease->versions[i]);
    }
    lease->n = error->status ? 0 : lease->n;
    lease->n_held = error->status ? 0 : lease->n_held;
    pthread_mutex_unlock(&table->mutex);
    lease->ready(lease->user, error);
    pthread_mutex_lock(&table->mutex);
}

static void end_draining(struct adapters *table)
{
    for (uint32_t i = 0; i < table->n_entries; i++) {
        for (struct adapter_version *v = table->entries[i]->versions; v; v = v->next) {
            v->draining = false;
        }
    }
}

// Under the lock: those that were cancelled, or waited too long, or whose adapters are there (the first excepted, which holds
// some of its own already).
static void pass(struct adapters *table)
{
    for (struct adapter_lease *lease = table->leases; lease;) {
        uint64_t now = graft_clock_ns(); // not before: requests may have come while the lock was given up
        struct api_error error = {0};
        bool there = true;
        if (atomic_load(&lease->cancelled)) {
            api_fail(&error, 499, "cancelled", NULL, "the client is gone");
        } else if (now - lease->begun_ns > (uint64_t)ADAPTER_WAIT_SECONDS * 1000000000u) {
            api_fail(&error, 503, "over_budget", NULL, "no room for the adapter came free within %d seconds",
                     ADAPTER_WAIT_SECONDS);
            error.retry_after = 5;
        }
        for (uint32_t i = 0; i < lease->n; i++) {
            const struct adapter_version *v = lease->versions[i];
            there = there && v->handle && !v->gone && (!v->draining || lease == table->leases);
        }
        if (!there && !error.status) {
            lease = lease->next;
            continue;
        }
        for (uint32_t i = lease->n_held; i < lease->n && !error.status; i++) {
            lease->versions[i]->holds++;
            lease->n_held++;
        }
        if (lease == table->leases) {
            end_draining(table);
        }
        answer(table, lease, &error);
        lease = table->leases; // the lock was given up
    }
}

// Under the lock, which is given up: something for the first in line. False: it has to wait for others to end.
static bool serve_first(struct adapters *table)
{
    struct adapter_lease *lease = table->leases;
    while (lease->n_held < lease->n) {
        struct adapter_version **v = &lease->versions[lease->n_held];
        struct api_error error = {0};
        struct load_call call;
        if ((*v)->gone) {
            return false; // others hold it still
        }
        if (!(*v)->handle) {
            enum outcome outcome = load_version(table, *v, &call, &error);
            if (outcome == NO_ROOM && graft_clock_ns() - lease->begun_ns > PATIENCE_NS) {
                for (uint32_t i = 0; i < lease->n_held; i++) {
                    lease->versions[i]->used = ++table->clock;
                }
                struct adapter_version *oldest = adapters_oldest(table, true);
                bool own = !oldest;
                for (uint32_t i = 0; i < lease->n_held; i++) {
                    own = own || oldest == lease->versions[i];
                }
                if (own) { // nobody else has what is missing
                    error.status = 503;
                    error.retry_after = 5;
                    answer(table, lease, &error);
                    return true;
                }
                oldest->draining = true;
            }
            if (outcome == NO_ROOM) {
                return false;
            }
            struct adapter_version *was = *v;
            if (outcome == FAILED || !take(table, v, &call, &error)) {
                bool here = error.status == 404 || error.status == 422 || error.status == 403;
                error.status = here ? 503 : error.status; // known, but not usable now
                answer(table, lease, &error);
                return true;
            }
            if (*v != was) { // the request runs with what the name means now
                (*v)->refs++;
                adapter_version_drop(table, was);
            }
        }
        (*v)->holds++;
        lease->n_held++;
    }
    return true;
}

// ---- changes ----

// Under the lock: it found no room; may it wait until what is used now is used no more?
static bool wait_for_room(struct adapters *table, struct adapter_task *task)
{
    uint64_t waited = graft_clock_ns() - task->begun_ns;
    struct adapter_version *oldest = adapters_oldest(table, true);
    if (!oldest || waited > change_wait_ns || table->quit) {
        return false;
    }
    oldest->draining = oldest->draining || waited > PATIENCE_NS;
    adapters_add_task(table, task);
    return true;
}

// Under the lock, which is given up. False: it is in the line again, for want of room.
static bool run_task(struct adapters *table, struct adapter_task *task)
{
    struct api_error error = {0};
    struct adapter_entry *entry = task->entry;
    struct adapter_version *version = entry->current, *made = NULL;
    struct load_call call = {0};
    if (!task->warm) {
        made = adapter_version_new(task->change.path);
        version = made;
        if (made) {
            made->entry = entry;
        } else {
            api_no_memory(&error);
        }
    }
    if (!error.status && !version->handle) {
        version->refs++;
        enum outcome outcome = load_version(table, version, &call, &error);
        version->refs--;
        if (outcome == NO_ROOM && wait_for_room(table, task)) {
            if (made) {
                free(made->path);
                free(made);
            }
            return false;
        }
        if (outcome == LOADED && made && entry->current && strcmp(entry->current->info.digest, call.info.digest) == 0 &&
            !adapter_quarantined(entry->current)) {
            struct graft_adapter *spare = entry->current->handle ? call.handle : NULL; // the same content: the same version
            entry->current->handle = entry->current->handle ? entry->current->handle : call.handle;
            pthread_mutex_unlock(&table->mutex);
            release(table, &spare);
            pthread_mutex_lock(&table->mutex);
            free(entry->current->path);
            entry->current->path = made->path;
            free(made);
            version = entry->current;
            made = NULL;
        } else if (outcome == LOADED && made) {
            made->info = call.info;
            made->handle = call.handle;
            entry->known = true;
            adapter_publish(entry, made, table);
            made = NULL;
        } else if (outcome == LOADED) {
            take(table, &version, &call, &error);
        }
    }
    if (made) {
        free(made->path);
        free(made);
    }
    entry->busy = false;
    end_draining(table);
    entry->pinned = !error.status && task->change.pin ? true : entry->pinned;
    if (!error.status) {
        version->used = ++table->clock;
    }
    task->done(task->user, error.status ? NULL : version, &error);
    free(task);
    return true;
}

// ---- the thread ----

// Under the lock, which is given up: adapters that were lost with the device and that nobody holds any more are cold.
static void forget_gone(struct adapters *table)
{
    struct adapter_version *gone;
    do {
        gone = NULL;
        for (uint32_t i = 0; i < table->n_entries && !gone; i++) {
            gone = table->entries[i]->versions;
            while (gone && !(gone->gone && !gone->holds)) {
                gone = gone->next;
            }
        }
        if (gone) {
            struct graft_adapter *handle = gone->handle;
            gone->handle = NULL;
            gone->gone = false;
            pthread_mutex_unlock(&table->mutex);
            release(table, &handle);
            pthread_mutex_lock(&table->mutex);
        }
    } while (gone);
}

// Under the lock, which is given up: versions that nobody wants any more.
static void bury(struct adapters *table)
{
    bool any = table->dead != NULL;
    while (table->dead) {
        struct adapter_version *v = table->dead;
        table->dead = v->next;
        pthread_mutex_unlock(&table->mutex);
        release(table, &v->handle);
        free(v->path);
        free(v);
        pthread_mutex_lock(&table->mutex);
    }
    if (any) {
        pthread_mutex_unlock(&table->mutex);
        if (graft_engine_run(table->engine, call_expire, NULL) != GRAFT_OK) {
            note("the pool of adapters was not tidied: %s", graft_last_error());
        }
        pthread_mutex_lock(&table->mutex);
    }
}

static void wait_a_moment(struct adapters *table)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += LOOK_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&table->wake, &table->mutex, &until);
}

void *adapters_thread(void *user)
{
    struct adapters *table = user;
    pthread_mutex_lock(&table->mutex);
    while (!table->quit) {
        bury(table);
        forget_gone(table);
        pass(table);
        bool any = table->tasks || table->leases, moved = false;
        if (table->tasks) {
            struct adapter_task *task = table->tasks;
            table->tasks = task->next;
            moved = run_task(table, task);
        }
        if (table->leases) {
            moved = serve_first(table) || moved;
        }
        if (any && !moved) {
            wait_a_moment(table);
        } else if (!any && !table->dead) {
            pthread_cond_wait(&table->wake, &table->mutex);
        }
    }
    struct api_error ended;
    api_fail(&ended, 503, "shutting_down", NULL, "the server is ending");
    while (table->leases) {
        answer(table, table->leases, &ended);
    }
    while (table->tasks) {
        struct adapter_task *task = table->tasks;
        table->tasks = task->next;
        task->done(task->user, NULL, &ended);
        free(task);
    }
    bury(table);
    pthread_mutex_unlock(&table->mutex);
    return NULL;
}
