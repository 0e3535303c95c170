// SPDX-License-Identifier: Apache-2.0
// Loading adapters into the pool, at once or beside generation.
//
// A load has two halves. Preparing (read, hash, check against the model, pack) uses nothing of the model that ever changes and
// runs on any thread. Placing (take room, move others together, write, publish the table) belongs to the thread that owns the
// device; it goes in pieces between two batches, for one load at a time, and after each piece every adapter that is in use is
// whole: moves are of whole adapters, and a slot can be chosen only when its table is written, last.
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "graft/adapter.h"
#include "loaders/adapter.h"
#include "loaders/sha256.h"
#include "platform/bytes.h"
#include "platform/plat.h"
#include "runtime/adapter/fit.h"
#include "runtime/session/session.h"

enum { PIECE_BYTES = 1 << 20, SHARE = 32, DETAIL_BYTES = 1024 };

enum stage { PREPARED, MOVING, WRITING, FINISHED };

struct graft_adapter_load {
    struct graft_model *model;
    struct graft_adapter_load *next; // of model->loads
    struct graft_thread *thread;     // NULL: the caller prepares
    char *path;
    atomic_bool prepared; // set last by the thread; everything below is the device thread's from then on
    enum graft_status status;
    char detail[DETAIL_BYTES]; // of a failure
    struct graft_adapter_desc *desc;
    struct graft_adapter *adapter; // the handle to be
    struct graft_adapter_info info;
    uint8_t digest[32];
    uint8_t *packed;
    uint32_t *entries, *scratch; // table as packed; with the pool's offsets
    uint64_t bytes, written;
    uint32_t n_moved;
    enum stage stage;
};

static uint64_t entry_words(const struct graft_model *model)
{
    return (uint64_t)model->source->config.n_layer * GRAFT_LORA_TARGETS * GRAFT_LORA_ENTRY;
}

static void fill_info(struct graft_adapter_info *info, const struct graft_adapter_desc *desc)
{
    *info = (struct graft_adapter_info){
        .rank = desc->max_rank, .n_targets = desc->n_pairs, .n_parameters = desc->n_parameters, .n_invocation = desc->n_alora};
    for (uint32_t i = 0; i < desc->n_whole; i++) {
        info->n_targets += !desc->whole[i].base_copy;
    }
    graft_sha256_hex(desc->digest, info->digest);
    memcpy(info->base_name, desc->base_name, sizeof info->base_name);
    memcpy(info->signer, desc->signer, sizeof info->signer);
    memcpy(info->invocation, desc->alora, desc->n_alora * sizeof *desc->alora);
}

// Preparing, first part: the file, checked.
static enum graft_status read_file(struct graft_adapter_load *load)
{
    struct graft_model *model = load->model;
    GRAFT_TRY(graft_adapter_read(model->ctx, &load->desc, load->path));
    GRAFT_TRY(graft_adapter_fit(load->desc, model->source));
    fill_info(&load->info, load->desc);
    GRAFT_TRY(graft_adapter_split(load->desc, model->source));
    memcpy(load->digest, load->desc->digest, sizeof load->digest);
    GRAFT_TRY(GRAFT_NEW(model->ctx, GRAFT_MEM_HOST, &load->adapter, 1, "an adapter"));
    load->adapter->model = model;
    return GRAFT_OK;
}

// Second part: the bytes as kernels read them. The file's own are not needed any more.
static enum graft_status pack(struct graft_adapter_load *load)
{
    struct graft_model *model = load->model;
    uint64_t words = entry_words(model);
    load->bytes = graft_adapter_packed_bytes(load->desc);
    GRAFT_TRY(graft_alloc_unset(model->ctx, GRAFT_MEM_HOST, (void **)&load->packed, load->bytes, 1, "a packed adapter"));
    GRAFT_TRY(GRAFT_NEW(model->ctx, GRAFT_MEM_HOST, &load->entries, words, "an adapter's table"));
    GRAFT_TRY(GRAFT_NEW(model->ctx, GRAFT_MEM_HOST, &load->scratch, words, "an adapter's table"));
    GRAFT_TRY(graft_adapter_pack(load->desc, model->source, load->packed, load->entries));
    graft_adapter_free(&load->desc);
    return GRAFT_OK;
}

// What is needed only until the adapter is in the pool.
static void drop_memory(struct graft_adapter_load *load)
{
    struct graft_ctx *ctx = load->model->ctx;
    graft_adapter_free(&load->desc);
    GRAFT_FREE(ctx, &load->packed);
    GRAFT_FREE(ctx, &load->entries);
    GRAFT_FREE(ctx, &load->scratch);
}

static void fail(struct graft_adapter_load *load, enum graft_status status)
{
    load->status = status;
    load->stage = FINISHED;
    snprintf(load->detail, sizeof load->detail, "%s", graft_last_error());
}

static void thread_main(void *user)
{
    struct graft_adapter_load *load = user;
    graft_thread_give_way();
    enum graft_status status = read_file(load);
    status = status != GRAFT_OK ? status : pack(load);
    if (status != GRAFT_OK) {
        fail(load, status);
        drop_memory(load);
    }
    atomic_store(&load->prepared, true);
}

// The table of a slot, with the pool's offsets: from here on it can be chosen, or is where it was moved to.
static enum graft_status write_table(struct graft_model *model, uint32_t slot, uint32_t *scratch)
{
    static const uint32_t offsets[] = {GRAFT_LORA_A, GRAFT_LORA_B, GRAFT_LORA_DORA, GRAFT_LORA_BIAS};
    uint64_t words = entry_words(model);
    uint32_t base = (uint32_t)(model->pool->slots[slot].offset / 16);
    memcpy(scratch, model->entries + slot * words, (size_t)words * sizeof *scratch);
    for (uint64_t i = 0; i < words; i += GRAFT_LORA_ENTRY) {
        for (uint32_t k = 0; k < sizeof offsets / sizeof *offsets; k++) {
            scratch[i + offsets[k]] += scratch[i + offsets[k]] ? base : 0;
        }
    }
    return model->exec->functions->adapter_table(model->exec, slot, scratch);
}

// The next move that graft_pool_take asked for; lowest first, so that a range is read before anything is written over it. An
// adapter that was dropped since needs none.
static enum graft_status move_one(struct graft_adapter_load *load)
{
    struct graft_model *model = load->model;
    const struct graft_pool_move *move = &model->pool->moves[load->n_moved++];
    if (!model->pool->slots[move->slot].used) {
        return GRAFT_OK;
    }
    GRAFT_TRY(model->exec->functions->adapter_move(model->exec, move->from, move->to, move->bytes));
    return write_table(model, move->slot, load->scratch);
}

// Where the slot's bytes can be read again.
static void keep_path(const struct graft_adapter_load *load)
{
    char *path = load->model->paths[load->adapter->slot];
    if (snprintf(path, GRAFT_ADAPTER_PATH_BYTES, "%s", load->path) >= GRAFT_ADAPTER_PATH_BYTES) {
        *path = 0;
    }
}

// One piece of placing. Afterwards load->stage says what is next.
static enum graft_status place(struct graft_adapter_load *load)
{
    struct graft_model *model = load->model;
    struct graft_pool *pool = model->pool;
    uint32_t *slot = &load->adapter->slot;
    switch (load->stage) {
    case PREPARED:
        *slot = graft_pool_find(pool, load->digest);
        if (*slot < pool->n_slots) {
            graft_pool_acquire(pool, *slot);
            pool->slots[*slot].hits++;
            keep_path(load);
            load->stage = FINISHED;
            return GRAFT_OK;
        }
        GRAFT_TRY(load->packed ? GRAFT_OK : pack(load)); // it was there when the load began
        GRAFT_TRY(graft_pool_take(pool, load->digest, load->bytes, slot));
        memcpy(model->entries + *slot * entry_words(model), load->entries, (size_t)entry_words(model) * sizeof *load->entries);
        model->placing = load;
        load->stage = MOVING;
        return GRAFT_OK;
    case MOVING:
        if (load->n_moved == pool->n_moves) {
            load->stage = WRITING;
            return GRAFT_OK;
        }
        return move_one(load);
    case WRITING:
        if (load->written < load->bytes) {
            uint64_t left = load->bytes - load->written, part = left < PIECE_BYTES ? left : PIECE_BYTES;
            GRAFT_TRY(model->exec->functions->adapter_write(model->exec, pool->slots[*slot].offset + load->written,
                                                            load->packed + load->written, part));
            load->written += part;
            return GRAFT_OK;
        }
        GRAFT_TRY(write_table(model, *slot, load->scratch));
        model->infos[*slot] = load->info;
        keep_path(load);
        load->stage = FINISHED;
        return GRAFT_OK;
    case FINISHED:
        break;
    }
    return GRAFT_OK;
}

// Take back what a load that is not finished has in the pool.
static void unplace(struct graft_adapter_load *load)
{
    struct graft_model *model = load->model;
    if (model->placing != load) {
        return;
    }
    model->placing = NULL;
    model->pool->slots[load->adapter->slot].loads--;
    graft_pool_drop(model->pool, load->adapter->slot);
}

static enum graft_status check_alive(const struct graft_model *model)
{
    return !model->lost
               ? GRAFT_OK
               : graft_fail(GRAFT_E_DEVICE_LOST, "the device was lost: rebuild the model (graft_model_rebuild), or close it");
}

// One piece of the work of a prepared load. A failure between moves leaves adapters half moved: nothing may run with them.
static void go_on(struct graft_adapter_load *load)
{
    struct graft_model *model = load->model;
    bool moving = load->stage == MOVING;
    enum graft_status status = check_alive(model);
    status = status != GRAFT_OK ? status : place(load);
    if (status != GRAFT_OK) {
        model->lost = model->lost || moving || status == GRAFT_E_DEVICE_LOST;
        unplace(load);
        fail(load, status);
    }
    if (load->stage == FINISHED) {
        model->placing = model->placing == load ? NULL : model->placing;
        drop_memory(load);
    }
}

// The load whose turn it is: the one that has its slot, else the oldest prepared one; NULL if there is none.
static struct graft_adapter_load *next_load(const struct graft_model *model)
{
    struct graft_adapter_load *load = model->placing ? model->placing : model->loads;
    while (load && !(atomic_load(&load->prepared) && load->stage != FINISHED)) {
        load = load->next;
    }
    return load;
}

void graft_adapter_loads_go_on(struct graft_model *model)
{
    if (!model->loads) {
        return;
    }
    uint64_t begin = graft_clock_ns();
    do {
        struct graft_adapter_load *load = next_load(model);
        if (!load) {
            break;
        }
        go_on(load);
    } while (!model->lost && graft_clock_ns() - begin < model->run_ns / SHARE);
}

bool graft_adapter_loading(const struct graft_model *model, uint32_t slot)
{
    return model->placing && model->placing->adapter->slot == slot;
}

// ---- after the device was lost ----

// The bytes of a slot, from its file, which must be what it was. *gone: it is not.
static enum graft_status restore(struct graft_model *model, uint32_t slot, bool *gone)
{
    const struct graft_pool_slot *s = &model->pool->slots[slot];
    struct graft_adapter_load load = {.model = model, .path = model->paths[slot]};
    enum graft_status status =
        *load.path ? read_file(&load)
                   : graft_fail(GRAFT_E_IO, "its path had more than %d bytes and was not kept", GRAFT_ADAPTER_PATH_BYTES - 1);
    status = status == GRAFT_OK && memcmp(load.digest, s->digest, sizeof s->digest) != 0
                 ? graft_fail(GRAFT_E_IO, "%s: the file has changed since it was loaded", load.path)
                 : status;
    status = status == GRAFT_OK ? pack(&load) : status;
    *gone = status != GRAFT_OK;
    if (!*gone) {
        status = model->exec->functions->adapter_write(model->exec, s->offset, load.packed, load.bytes);
        status = status == GRAFT_OK ? write_table(model, slot, load.scratch) : status;
    }
    drop_memory(&load);
    GRAFT_FREE(model->ctx, &load.adapter);
    return status;
}

enum graft_status graft_adapters_restore(struct graft_model *model)
{
    if (model->placing) {
        struct graft_adapter_load *load = model->placing;
        unplace(load);
        load->n_moved = 0;
        load->written = 0;
        load->stage = PREPARED;
    }
    for (uint32_t i = 0; model->pool && i < model->pool->n_slots; i++) {
        struct graft_pool_slot *s = &model->pool->slots[i];
        bool gone = false;
        if (s->used && s->references == 0) {
            graft_pool_drop(model->pool, i);
        } else if (s->used && !s->gone) {
            enum graft_status status = restore(model, i, &gone);
            if (status != GRAFT_OK && !gone) {
                return status;
            }
        }
        if (gone) {
            graft_log(model->ctx, GRAFT_LOG_WARN, "an adapter did not come back with the device: %s", graft_last_error());
            s->gone = true;
            memset(s->digest, 0, sizeof s->digest); // the same bytes are another adapter, should they come again
        }
    }
    return GRAFT_OK;
}

// ---- loads ----

static enum graft_status create(struct graft_model *model, struct graft_adapter_load **out, const char *path)
{
    if (!model->pool) {
        return graft_fail(GRAFT_E_ARGUMENT, "the model was opened without an adapter pool (adapter_pool_bytes)");
    }
    GRAFT_TRY(check_alive(model));
    struct graft_adapter_load *load;
    GRAFT_TRY(GRAFT_NEW(model->ctx, GRAFT_MEM_HOST, &load, 1, "a load of an adapter"));
    load->model = model;
    enum graft_status status = graft_strdup(model->ctx, &load->path, path, strlen(path));
    if (status != GRAFT_OK) {
        GRAFT_FREE(model->ctx, &load);
        return status;
    }
    struct graft_adapter_load **last = &model->loads;
    while (*last) {
        last = &(*last)->next;
    }
    *last = load;
    *out = load;
    return GRAFT_OK;
}

// Out of the list and freed. The handle is given back unless it was taken out.
static void destroy(struct graft_adapter_load **given)
{
    struct graft_adapter_load *load = *given, **at = &load->model->loads;
    struct graft_ctx *ctx = load->model->ctx;
    while (*at != load) {
        at = &(*at)->next;
    }
    *at = load->next;
    unplace(load);
    if (load->adapter && load->stage == FINISHED && load->status == GRAFT_OK) {
        graft_adapter_release(&load->adapter);
    }
    drop_memory(load);
    GRAFT_FREE(ctx, &load->adapter);
    GRAFT_FREE(ctx, &load->path);
    GRAFT_FREE(ctx, given);
}

// All of placing at once, and of the loads whose turn is before it.
static enum graft_status finish(struct graft_adapter_load **given, struct graft_adapter **out)
{
    struct graft_adapter_load *load = *given;
    while (load->stage != FINISHED) {
        go_on(load->model->placing ? load->model->placing : load);
    }
    enum graft_status status = load->status;
    if (status == GRAFT_OK) {
        *out = load->adapter;
        load->adapter = NULL;
    } else {
        status = graft_fail(status, "%s", load->detail);
    }
    destroy(given);
    return status;
}

enum graft_status graft_adapter_load(struct graft_model *model, struct graft_adapter **out, const char *path)
{
    struct graft_adapter_load *load;
    *out = NULL;
    GRAFT_TRY(create(model, &load, path));
    enum graft_status status = read_file(load);
    if (status == GRAFT_OK && graft_pool_find(model->pool, load->digest) == model->pool->n_slots) {
        status = pack(load);
    }
    if (status != GRAFT_OK) {
        fail(load, status);
    }
    atomic_store(&load->prepared, true);
    return finish(&load, out);
}

enum graft_status graft_adapter_load_begin(struct graft_model *model, struct graft_adapter_load **out, const char *path)
{
    *out = NULL;
    struct graft_adapter_load *load;
    GRAFT_TRY(create(model, &load, path));
    enum graft_status status = graft_thread_start(model->ctx, &load->thread, thread_main, load);
    if (status != GRAFT_OK) {
        destroy(&load);
        return status;
    }
    *out = load;
    return GRAFT_OK;
}

bool graft_adapter_load_ready(struct graft_adapter_load *load)
{
    graft_adapter_loads_go_on(load->model);
    return atomic_load(&load->prepared) && load->stage == FINISHED;
}

enum graft_status graft_adapter_load_end(struct graft_adapter_load **load, struct graft_adapter **out)
{
    *out = NULL;
    graft_thread_join(&(*load)->thread);
    return finish(load, out);
}

void graft_adapter_load_cancel(struct graft_adapter_load **load)
{
    if (load && *load) {
        graft_thread_join(&(*load)->thread);
        while ((*load)->stage == MOVING) { // others are on their way
            go_on(*load);
        }
        destroy(load);
    }
}
