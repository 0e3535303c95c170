// SPDX-License-Identifier: Apache-2.0
// Streams: units of data that take turns in slots, copied by a thread of their own while the device computes.
//
// Two timeline semaphores. `used` counts units that have been computed with: load k may write its slot when the load that had
// the slot before has been used, k' < used. `filled` counts pieces that have been copied: the submission that uses a load waits
// for its last piece. Every wait is for something already submitted, so that two queues may be one, and nothing can wait for
// itself. The thread waits for `used` and for pieces on the host, so that a copy queue is never held up by computing.
#include <stdio.h>

#include "runtime/vk/vk_internal.h"

enum { REGIONS = 3, MAX_PIECE_BYTES = 8 << 20, PIECE_UNIT = 64 << 10, ERROR_BYTES = 512 };
static const uint64_t SLICE_NS = UINT64_C(100000000); // how soon a waiting thread sees that it should end

struct unit {
    uint32_t first_part, n_parts, first_piece, n_pieces;
};

struct graft_vk_stream {
    struct graft_vk *vk;
    struct graft_vk_stream *next;
    uint32_t n_units, n_slots, n_pieces;
    struct graft_vk_buffer **slots;
    struct unit *units;
    struct graft_vk_stream_part *parts;
    struct graft_map map;
    // Staged: pieces of piece_bytes take turns in the regions of `staging`, piece p in region p % REGIONS.
    struct graft_vk_buffer *staging; // NULL: slots are mapped
    uint64_t piece_bytes;
    VkCommandPool pool;
    VkCommandBuffer *copies;     // [n_pieces]
    uint64_t read_when[REGIONS]; // value of `filled` when the device has read a region. The thread's own.
    uint64_t n_filled;           // value of `filled` when all submitted copies are done. The thread's own while it is busy.
    VkSemaphore used, filled;
    uint64_t used_base; // value of `used` for load 0
    struct graft_thread *thread;
    struct graft_mutex *mutex; // guards what follows
    struct graft_cond *changed;
    uint64_t n_loaded, n_used; // loads that are in their slots or submitted; that were submitted with what uses them
    uint64_t *filled_when;     // [n_slots] value of `filled` when the slot is full
    bool busy, halt, stop;     // the thread is copying; shall not begin another copy; shall end
    enum graft_status status;  // of a copy that failed: none is begun until the stream begins anew
    char error[ERROR_BYTES];
};

uint64_t graft_vk_stream_staging(uint64_t bytes)
{
    uint64_t piece = (bytes / 2 + PIECE_UNIT) / PIECE_UNIT * PIECE_UNIT; // the largest unit is two pieces or more
    return REGIONS * (piece < MAX_PIECE_BYTES ? piece : MAX_PIECE_BYTES);
}

// ---- the thread ----

// Wait for a semaphore on the host. Not counted as a call that may fail on purpose: the stream's owner has those.
static enum graft_status await(struct graft_vk_stream *s, VkSemaphore semaphore, uint64_t value)
{
    struct graft_vk *vk = s->vk;
    VkSemaphoreWaitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO, .semaphoreCount = 1, .pSemaphores = &semaphore, .pValues = &value};
    for (;;) {
        VkResult result = vk->fn.vkWaitSemaphores(vk->device, &info, SLICE_NS);
        if (result == VK_SUCCESS) {
            return GRAFT_OK;
        }
        if (result != VK_TIMEOUT) {
            return graft_vk_fail(vk, result, "waiting for a streamed layer's slot");
        }
        GRAFT_TRY(graft_vk_alive(vk)); // who computes keeps the time-out
        graft_mutex_lock(s->mutex);
        bool stop = s->stop;
        graft_mutex_unlock(s->mutex);
        if (stop) {
            return graft_fail(GRAFT_E_CANCELLED, "the stream ends");
        }
    }
}

// The load that had the slot of load k before; false if none had it since the stream began.
static bool load_before(const struct graft_vk_stream *s, uint64_t k, uint64_t *before)
{
    uint32_t unit = (uint32_t)(k % s->n_units), back = s->n_slots;
    if (unit < s->n_slots) { // the last unit in this slot, a turn before
        uint32_t last = (s->n_units - 1 - unit) / s->n_slots * s->n_slots + unit;
        back = unit + s->n_units - last;
    }
    *before = k - back;
    return k >= back;
}

static void advise(const struct graft_vk_stream *s, const struct unit *unit)
{
    for (uint32_t i = 0; s->map.data && i < unit->n_parts; i++) {
        const struct graft_vk_stream_part *part = &s->parts[unit->first_part + i];
        graft_map_advise(&s->map, (uint64_t)(part->data - s->map.data), part->bytes, GRAFT_ADVICE_WILL_NEED);
    }
}

// What lies in bytes [from, to) of a unit's slot.
static void fill(const struct graft_vk_stream *s, const struct unit *unit, uint8_t *out, uint64_t from, uint64_t to)
{
    for (uint32_t i = 0; i < unit->n_parts; i++) {
        const struct graft_vk_stream_part *part = &s->parts[unit->first_part + i];
        uint64_t begin = part->offset > from ? part->offset : from, end = part->offset + part->bytes;
        end = end < to ? end : to;
        if (begin < end) {
            memcpy(out + (begin - from), part->data + (begin - part->offset), (size_t)(end - begin));
        }
    }
}

static enum graft_status load(struct graft_vk_stream *s, uint64_t k)
{
    const struct unit *unit = &s->units[k % s->n_units];
    uint64_t before;
    bool waits = load_before(s, k, &before);
    advise(s, &s->units[(k + 1) % s->n_units]);
    if (!s->staging) {
        GRAFT_TRY(waits ? await(s, s->used, s->used_base + before + 1) : GRAFT_OK);
        fill(s, unit, s->slots[k % s->n_units % s->n_slots]->mapped, 0, UINT64_MAX);
        return GRAFT_OK;
    }
    for (uint32_t i = 0; i < unit->n_pieces; i++) {
        uint32_t piece = unit->first_piece + i, region = piece % REGIONS;
        GRAFT_TRY(await(s, s->filled, s->read_when[region]));
        fill(s, unit, (uint8_t *)s->staging->mapped + region * s->piece_bytes, i * s->piece_bytes, (i + 1) * s->piece_bytes);
        GRAFT_TRY(i == 0 && waits ? await(s, s->used, s->used_base + before + 1) : GRAFT_OK);
        struct graft_vk_sync sync = {.signal = s->filled, .signal_value = s->n_filled + 1};
        GRAFT_TRY(graft_vk_queue_submit_sync(s->vk, s->vk->copy_queue, &s->copies[piece], 1, &sync));
        s->read_when[region] = ++s->n_filled;
        atomic_fetch_add(&s->vk->stream_submissions, 1);
    }
    return GRAFT_OK;
}

static void thread_main(void *user)
{
    struct graft_vk_stream *s = user;
    graft_mutex_lock(s->mutex);
    while (!s->stop) {
        uint64_t k = s->n_loaded, before;
        bool waits = load_before(s, k, &before);
        if (s->halt || s->status != GRAFT_OK || (waits && s->n_used <= before)) {
            graft_cond_wait(s->changed, s->mutex);
            continue;
        }
        s->busy = true;
        graft_mutex_unlock(s->mutex);
        enum graft_status status = load(s, k);
        graft_mutex_lock(s->mutex);
        s->busy = false;
        if (status == GRAFT_OK) {
            s->filled_when[k % s->n_units % s->n_slots] = s->n_filled;
            s->n_loaded++;
        } else {
            s->status = status;
            snprintf(s->error, sizeof s->error, "%s", graft_last_error());
        }
        graft_cond_broadcast(s->changed);
    }
    graft_mutex_unlock(s->mutex);
}

// ---- the owner ----

enum graft_status graft_vk_stream_submit(struct graft_vk_stream *s, struct graft_vk_commands *const *commands, uint32_t count)
{
    graft_mutex_lock(s->mutex);
    while (s->n_loaded <= s->n_used && s->status == GRAFT_OK) {
        graft_cond_wait(s->changed, s->mutex);
    }
    uint64_t k = s->n_used;
    enum graft_status status = s->n_loaded > k ? GRAFT_OK : graft_fail(s->status, "%s", s->error);
    struct graft_vk_sync sync = {.signal = s->used, .signal_value = s->used_base + k + 1};
    if (s->staging) {
        sync.wait = s->filled;
        sync.wait_value = s->filled_when[k % s->n_units % s->n_slots];
    }
    graft_mutex_unlock(s->mutex);
    GRAFT_TRY(status);
    GRAFT_TRY(graft_vk_submit_sync(s->vk, commands, count, &sync));
    graft_mutex_lock(s->mutex);
    s->n_used++;
    graft_cond_broadcast(s->changed);
    graft_mutex_unlock(s->mutex);
    return GRAFT_OK;
}

// Wait as the owner of the device does: with its time-out, and as a call that may fail on purpose.
static enum graft_status finish(struct graft_vk_stream *s, VkSemaphore semaphore, uint64_t value)
{
    struct graft_vk *vk = s->vk;
    GRAFT_TRY(graft_vk_alive(vk));
    VkSemaphoreWaitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO, .semaphoreCount = 1, .pSemaphores = &semaphore, .pValues = &value};
    VkResult result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_WAIT, vk->fn.vkWaitSemaphores(vk->device, &info, vk->timeout_ns));
    return result == VK_TIMEOUT   ? graft_vk_timed_out(vk, "a streamed submission")
           : result != VK_SUCCESS ? graft_vk_fail(vk, result, "a streamed submission")
                                  : GRAFT_OK;
}

enum graft_status graft_vk_stream_wait(struct graft_vk_stream *s)
{
    GRAFT_TRY(finish(s, s->used, s->used_base + s->n_used)); // the owner alone writes n_used
    return graft_vk_invalidate(s->vk);
}

enum graft_status graft_vk_stream_settle(struct graft_vk_stream *s)
{
    GRAFT_TRY(graft_vk_stream_wait(s));
    graft_mutex_lock(s->mutex);
    uint64_t before;
    while (s->status == GRAFT_OK && (s->busy || !load_before(s, s->n_loaded, &before) || s->n_used > before)) {
        graft_cond_wait(s->changed, s->mutex);
    }
    uint64_t filled = s->n_filled;
    enum graft_status status = s->status == GRAFT_OK ? GRAFT_OK : graft_fail(s->status, "%s", s->error);
    graft_mutex_unlock(s->mutex);
    GRAFT_TRY(status);
    return s->staging ? finish(s, s->filled, filled) : GRAFT_OK;
}

enum graft_status graft_vk_stream_begin(struct graft_vk_stream *s)
{
    graft_mutex_lock(s->mutex);
    bool sound = s->n_used % s->n_units == 0 && s->status == GRAFT_OK;
    s->halt = !sound;
    while (s->halt && s->busy) {
        graft_cond_wait(s->changed, s->mutex);
    }
    graft_mutex_unlock(s->mutex);
    if (sound) {
        return GRAFT_OK;
    }
    GRAFT_TRY(graft_vk_stream_wait(s));
    GRAFT_TRY(s->staging ? finish(s, s->filled, s->n_filled) : GRAFT_OK);
    graft_mutex_lock(s->mutex);
    s->used_base += s->n_used;
    s->n_used = s->n_loaded = 0;
    s->status = GRAFT_OK;
    s->halt = false;
    graft_cond_broadcast(s->changed);
    graft_mutex_unlock(s->mutex);
    return GRAFT_OK;
}

// Wait for all submitted work that signals one of the semaphores, at most `patience_ns`.
static VkResult finish_patiently(struct graft_vk_stream *s, bool copies, uint64_t patience_ns)
{
    uint64_t values[2] = {s->used_base + s->n_used, s->n_filled};
    VkSemaphore semaphores[2] = {s->used, s->filled};
    VkSemaphoreWaitInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                                .semaphoreCount = copies ? 2 : 1,
                                .pSemaphores = semaphores,
                                .pValues = values};
    bool there = s->used && s->filled;
    return there ? s->vk->fn.vkWaitSemaphores(s->vk->device, &info, patience_ns) : VK_SUCCESS;
}

VkResult graft_vk_streams_finish(struct graft_vk *vk, uint64_t patience_ns)
{
    VkResult worst = VK_SUCCESS;
    for (struct graft_vk_stream *s = vk->streams; s && worst != VK_TIMEOUT; s = s->next) {
        VkResult result = finish_patiently(s, false, patience_ns);
        worst = result != VK_SUCCESS ? result : worst;
    }
    return worst;
}

// ---- making and ending ----

void graft_vk_stream_destroy(struct graft_vk_stream **given)
{
    if (!given || !*given) {
        return;
    }
    struct graft_vk_stream *s = *given;
    struct graft_vk *vk = s->vk;
    *given = NULL;
    if (s->thread) {
        graft_mutex_lock(s->mutex);
        s->stop = true;
        graft_cond_broadcast(s->changed);
        graft_mutex_unlock(s->mutex);
        graft_thread_join(&s->thread);
    }
    graft_vk_quiesce(vk);
    if (!vk->abandoned && finish_patiently(s, true, vk->timeout_ns) == VK_TIMEOUT) {
        graft_vk_abandon(vk);
    }
    if (!vk->abandoned) { // software Vulkan touches a semaphore once more behind those who waited for it
        if (vk->submit_lock) {
            graft_mutex_lock(vk->submit_lock);
        }
        (void)vk->fn.vkDeviceWaitIdle(vk->device); // everything is finished
        if (vk->submit_lock) {
            graft_mutex_unlock(vk->submit_lock);
        }
    }
    for (struct graft_vk_stream **link = &vk->streams; *link; link = &(*link)->next) {
        if (*link == s) {
            *link = s->next;
            break;
        }
    }
    if (!vk->abandoned) {
        if (s->pool) { // with its command buffers
            vk->fn.vkDestroyCommandPool(vk->device, s->pool, NULL);
        }
        if (s->used) {
            vk->fn.vkDestroySemaphore(vk->device, s->used, NULL);
        }
        if (s->filled) {
            vk->fn.vkDestroySemaphore(vk->device, s->filled, NULL);
        }
    }
    graft_vk_buffer_destroy(&s->staging);
    graft_cond_destroy(&s->changed);
    graft_mutex_destroy(&s->mutex);
    GRAFT_FREE(vk->ctx, &s->filled_when);
    GRAFT_FREE(vk->ctx, &s->copies);
    GRAFT_FREE(vk->ctx, &s->parts);
    GRAFT_FREE(vk->ctx, &s->units);
    GRAFT_FREE(vk->ctx, &s->slots);
    GRAFT_FREE(vk->ctx, &s);
}

static enum graft_status create_semaphore(struct graft_vk *vk, VkSemaphore *out)
{
    VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                      .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    VkSemaphoreCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
    VkResult result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkCreateSemaphore(vk->device, &info, NULL, out));
    if (result != VK_SUCCESS) {
        *out = VK_NULL_HANDLE;
        return graft_vk_fail(vk, result, "creating a semaphore");
    }
    return GRAFT_OK;
}

static uint64_t unit_bytes(const struct graft_vk_stream *s, const struct unit *unit)
{
    const struct graft_vk_stream_part *last = &s->parts[unit->first_part + unit->n_parts - 1];
    return last->offset + last->bytes;
}

// Piece i of a unit: bytes [i * piece_bytes ..) of its slot.
static enum graft_status record_piece(struct graft_vk_stream *s, const struct unit *unit, uint32_t slot, uint32_t i)
{
    struct graft_vk *vk = s->vk;
    uint32_t piece = unit->first_piece + i;
    VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    VkResult result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_RECORD, vk->fn.vkBeginCommandBuffer(s->copies[piece], &begin));
    if (result == VK_SUCCESS) {
        uint64_t left = unit_bytes(s, unit) - i * s->piece_bytes;
        VkBufferCopy region = {.srcOffset = piece % REGIONS * s->piece_bytes,
                               .dstOffset = i * s->piece_bytes,
                               .size = left < s->piece_bytes ? left : s->piece_bytes};
        vk->counters.recordings++;
        vk->fn.vkCmdCopyBuffer(s->copies[piece], graft_vk_impl(s->staging)->handle, graft_vk_impl(s->slots[slot])->handle, 1,
                               &region);
        result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_RECORD, vk->fn.vkEndCommandBuffer(s->copies[piece]));
    }
    return result == VK_SUCCESS ? GRAFT_OK : graft_vk_fail(vk, result, "recording a stream's copies");
}

// Staging buffer and recorded copies, where slots are not mapped.
static enum graft_status create_copies(struct graft_vk_stream *s)
{
    struct graft_vk *vk = s->vk;
    uint64_t most = 0;
    for (uint32_t u = 0; u < s->n_units; u++) {
        uint64_t bytes = unit_bytes(s, &s->units[u]);
        most = bytes > most ? bytes : most;
    }
    uint64_t staging = graft_vk_stream_staging(most);
    s->piece_bytes = staging / REGIONS;
    for (uint32_t u = 0; u < s->n_units; u++) {
        s->units[u].first_piece = s->n_pieces;
        s->units[u].n_pieces = (uint32_t)((unit_bytes(s, &s->units[u]) + s->piece_bytes - 1) / s->piece_bytes);
        s->n_pieces += s->units[u].n_pieces;
    }
    GRAFT_TRY(graft_vk_buffer_create(vk, &s->staging, staging, GRAFT_VK_STAGING, GRAFT_MEM_STAGING, "the stream's staging"));
    GRAFT_TRY(GRAFT_NEW(vk->ctx, GRAFT_MEM_HOST, &s->copies, s->n_pieces, "a stream's copies"));
    VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, .queueFamilyIndex = vk->copy_family};
    VkResult result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkCreateCommandPool(vk->device, &pool, NULL, &s->pool));
    if (result != VK_SUCCESS) {
        s->pool = VK_NULL_HANDLE;
        return graft_vk_fail(vk, result, "creating a command pool");
    }
    VkCommandBufferAllocateInfo commands = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = s->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = s->n_pieces,
    };
    result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkAllocateCommandBuffers(vk->device, &commands, s->copies));
    if (result != VK_SUCCESS) {
        return graft_vk_fail(vk, result, "creating command buffers");
    }
    for (uint32_t u = 0; u < s->n_units; u++) {
        for (uint32_t i = 0; i < s->units[u].n_pieces; i++) {
            GRAFT_TRY(record_piece(s, &s->units[u], u % s->n_slots, i));
        }
    }
    return GRAFT_OK;
}

// Copy what the parameters point to.
static enum graft_status take_lists(struct graft_vk_stream *s, const struct graft_vk_stream_params *params)
{
    struct graft_ctx *ctx = s->vk->ctx;
    uint32_t n_parts = 0;
    s->n_units = params->n_units;
    s->n_slots = params->n_slots;
    s->map = (struct graft_map){.data = params->map, .size = params->map_bytes};
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &s->units, s->n_units, "a stream's units"));
    for (uint32_t u = 0; u < s->n_units; u++) {
        s->units[u].first_part = n_parts;
        s->units[u].n_parts = params->n_parts[u];
        n_parts += params->n_parts[u];
    }
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &s->parts, n_parts, "a stream's units"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &s->slots, s->n_slots, "a stream's slots"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &s->filled_when, s->n_slots, "a stream's slots"));
    memcpy(s->parts, params->parts, n_parts * sizeof *s->parts);
    memcpy(s->slots, params->slots, s->n_slots * sizeof *s->slots);
    for (uint32_t u = 0; u < s->n_units; u++) {
        const struct graft_vk_buffer *slot = s->slots[u % s->n_slots];
        if (s->units[u].n_parts == 0 || unit_bytes(s, &s->units[u]) > slot->bytes) {
            return graft_fail(GRAFT_E_ARGUMENT, "unit %u of a stream has %u parts in a slot of %" PRIu64 " bytes", u,
                              s->units[u].n_parts, slot->bytes);
        }
    }
    return GRAFT_OK;
}

enum graft_status graft_vk_stream_create(struct graft_vk *vk, struct graft_vk_stream **out,
                                         const struct graft_vk_stream_params *params)
{
    *out = NULL;
    GRAFT_TRY(graft_vk_alive(vk));
    if (params->n_slots == 0 || params->n_units <= params->n_slots) {
        return graft_fail(GRAFT_E_ARGUMENT, "a stream of %u units in %u slots", params->n_units, params->n_slots);
    }
    struct graft_vk_stream *s;
    GRAFT_TRY(GRAFT_NEW(vk->ctx, GRAFT_MEM_HOST, &s, 1, "a stream"));
    s->vk = vk;
    s->next = vk->streams;
    vk->streams = s;
    enum graft_status status;
    GRAFT_TRY_OUT(take_lists(s, params), status, fail);
    GRAFT_TRY_OUT(create_semaphore(vk, &s->used), status, fail);
    GRAFT_TRY_OUT(create_semaphore(vk, &s->filled), status, fail);
    bool mapped = s->slots[0]->mapped && graft_vk_impl(s->slots[0])->coherent;
    GRAFT_TRY_OUT(mapped ? GRAFT_OK : create_copies(s), status, fail);
    if (!mapped && !vk->submit_lock) {
        GRAFT_TRY_OUT(graft_mutex_create(vk->ctx, &vk->submit_lock), status, fail);
    }
    GRAFT_TRY_OUT(graft_mutex_create(vk->ctx, &s->mutex), status, fail);
    GRAFT_TRY_OUT(graft_cond_create(vk->ctx, &s->changed), status, fail);
    GRAFT_TRY_OUT(graft_thread_start(vk->ctx, &s->thread, thread_main, s), status, fail);
    *out = s;
    return GRAFT_OK;
fail:
    graft_vk_stream_destroy(&s);
    return status;
}
