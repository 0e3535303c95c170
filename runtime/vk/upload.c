// SPDX-License-Identifier: Apache-2.0
// Bytes from the host to device memory and back: directly where the buffer is mapped, else through a ring of two halves.
//
// While the device copies one half, the host fills the other. The ring exists from the first staged upload to
// graft_vk_upload_end; it grows with the uploads, to 2 x 16 MiB, and is halved until it fits into what is left of the budget.
#include "runtime/vk/vk_internal.h"

enum { HALF_BYTES = 16 << 20, FIRST_HALF_BYTES = 1 << 20, MIN_HALF_BYTES = 64 << 10, COPY_ALIGNMENT = 16 };

struct half {
    struct graft_vk_buffer *buffer;
    VkCommandBuffer commands;
    struct graft_vk_fence fence;
    uint64_t used;  // bytes that recorded copies read
    bool recording; // commands is begun
};

struct graft_vk_ring {
    struct half halves[2];
    uint32_t current;
    uint64_t half_bytes;
    bool limited;                    // the budget or the driver refused larger halves
    struct graft_vk_hazards hazards; // of the current half
};

struct graft_vk_fence *graft_vk_ring_fence(struct graft_vk *vk, uint32_t half)
{
    return vk->ring ? &vk->ring->halves[half].fence : NULL;
}

void graft_vk_ring_destroy(struct graft_vk *vk)
{
    struct graft_vk_ring *ring = vk->ring;
    if (!ring) {
        return;
    }
    graft_vk_quiesce(vk);
    for (int i = 0; i < 2; i++) {
        struct half *half = &ring->halves[i];
        if (!vk->abandoned) {
            if (half->fence.handle) {
                vk->fn.vkDestroyFence(vk->device, half->fence.handle, NULL);
            }
            if (half->commands) {
                vk->fn.vkFreeCommandBuffers(vk->device, vk->pool, 1, &half->commands);
            }
        }
        half->fence.pending = false;
        graft_vk_buffer_destroy(&half->buffer);
    }
    graft_vk_hazards_free(&ring->hazards);
    GRAFT_FREE(vk->ctx, &vk->ring);
}

static enum graft_status create_half(struct graft_vk *vk, struct half *half)
{
    VkCommandBufferAllocateInfo commands = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = vk->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    VkResult result =
        GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkAllocateCommandBuffers(vk->device, &commands, &half->commands));
    if (result != VK_SUCCESS) {
        half->commands = VK_NULL_HANDLE;
        return graft_vk_fail(vk, result, "the staging ring");
    }
    VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkCreateFence(vk->device, &fence, NULL, &half->fence.handle));
    if (result != VK_SUCCESS) {
        half->fence.handle = VK_NULL_HANDLE;
        return graft_vk_fail(vk, result, "the staging ring");
    }
    return GRAFT_OK;
}

// Both buffers of `bytes` each; none is left on failure.
static enum graft_status create_buffers(struct graft_vk *vk, uint64_t bytes)
{
    struct graft_vk_ring *ring = vk->ring;
    for (int i = 0; i < 2; i++) {
        enum graft_status status =
            graft_vk_buffer_create(vk, &ring->halves[i].buffer, bytes, GRAFT_VK_STAGING, GRAFT_MEM_STAGING, "the staging ring");
        if (status != GRAFT_OK) {
            graft_vk_buffer_destroy(&ring->halves[0].buffer);
            return status;
        }
    }
    ring->half_bytes = bytes;
    return GRAFT_OK;
}

// Make the ring, or make it larger, so that a half holds `bytes` if that is not more than the maximum.
static enum graft_status need_ring(struct graft_vk *vk, uint64_t bytes)
{
    uint64_t half = FIRST_HALF_BYTES;
    while (half < bytes && half < HALF_BYTES) {
        half *= 2;
    }
    if (vk->ring) {
        if (vk->ring->half_bytes >= half || vk->ring->limited) {
            return GRAFT_OK;
        }
        GRAFT_TRY(graft_vk_upload_end(vk));
    }
    GRAFT_TRY(GRAFT_NEW(vk->ctx, GRAFT_MEM_STAGING, &vk->ring, 1, "the staging ring"));
    vk->ring->hazards.ctx = vk->ctx;
    enum graft_status status = create_buffers(vk, half);
    while ((status == GRAFT_E_BUDGET || status == GRAFT_E_MEMORY) && half > MIN_HALF_BYTES) {
        half /= 2;
        vk->ring->limited = true;
        status = create_buffers(vk, half);
    }
    for (int i = 0; i < 2 && status == GRAFT_OK; i++) {
        status = create_half(vk, &vk->ring->halves[i]);
    }
    if (status != GRAFT_OK) {
        graft_vk_ring_destroy(vk);
    }
    return status;
}

// Begin the current half, waiting until the device has read what it held.
static enum graft_status begin_half(struct graft_vk *vk)
{
    struct half *half = &vk->ring->halves[vk->ring->current];
    if (half->recording) {
        return GRAFT_OK;
    }
    GRAFT_TRY(graft_vk_fence_wait(vk, &half->fence, "an upload"));
    VkCommandBufferBeginInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
    };
    VkResult result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_RECORD, vk->fn.vkBeginCommandBuffer(half->commands, &info));
    if (result != VK_SUCCESS) {
        return graft_vk_fail(vk, result, "recording an upload");
    }
    vk->counters.recordings++;
    half->recording = true;
    half->used = 0;
    graft_vk_hazards_reset(&vk->ring->hazards);
    graft_vk_hazards_record(vk, half->commands,
                            GRAFT_VK_BARRIER_FULL); // the destination may be in use by what was submitted before
    return GRAFT_OK;
}

// Submit the current half and go on to the other one.
static enum graft_status flush_half(struct graft_vk *vk)
{
    struct half *half = &vk->ring->halves[vk->ring->current];
    if (!half->recording) {
        return GRAFT_OK;
    }
    graft_vk_hazards_record(vk, half->commands, GRAFT_VK_BARRIER_FULL);
    VkResult result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_RECORD, vk->fn.vkEndCommandBuffer(half->commands));
    if (result != VK_SUCCESS) {
        return graft_vk_fail(vk, result, "recording an upload");
    }
    half->recording = false;
    GRAFT_TRY(graft_vk_queue_submit(vk, &half->fence, &half->commands, 1));
    vk->ring->current ^= 1;
    return GRAFT_OK;
}

static enum graft_status check_range(const struct graft_vk_buffer *buffer, uint64_t offset, uint64_t bytes, const char *what)
{
    uint64_t end;
    if (!graft_add_u64(offset, bytes, &end) || end > buffer->bytes) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "%s of bytes %" PRIu64 " to %" PRIu64 " + %" PRIu64 " of a buffer of %" PRIu64 " bytes", what, offset,
                          offset, bytes, buffer->bytes);
    }
    return GRAFT_OK;
}

static enum graft_status stage(struct graft_vk *vk, struct graft_vk_buffer *to, uint64_t offset, const uint8_t *data,
                               uint64_t bytes)
{
    GRAFT_TRY(need_ring(vk, bytes));
    struct graft_vk_ring *ring = vk->ring;
    while (bytes > 0) {
        GRAFT_TRY(begin_half(vk));
        struct half *half = &ring->halves[ring->current];
        uint64_t room = ring->half_bytes - half->used;
        uint64_t part = bytes < room ? bytes : room;
        struct graft_vk_touch touch = {.buffer = to, .begin = offset, .end = offset + part, .write = true};
        enum graft_vk_barrier_kind barrier;
        GRAFT_TRY(graft_vk_hazards_step(&ring->hazards, &touch, 1, true, &barrier));
        graft_vk_hazards_record(vk, half->commands, barrier);
        memcpy((uint8_t *)half->buffer->mapped + half->used, data, (size_t)part);
        VkBufferCopy region = {.srcOffset = half->used, .dstOffset = offset, .size = part};
        vk->fn.vkCmdCopyBuffer(half->commands, graft_vk_impl(half->buffer)->handle, graft_vk_impl(to)->handle, 1, &region);
        uint64_t used;
        half->used =
            graft_align_u64(half->used + part, COPY_ALIGNMENT, &used) && used < ring->half_bytes ? used : ring->half_bytes;
        offset += part;
        data += part;
        bytes -= part;
        if (half->used == ring->half_bytes) {
            GRAFT_TRY(flush_half(vk));
        }
    }
    return GRAFT_OK;
}

enum graft_status graft_vk_upload(struct graft_vk *vk, struct graft_vk_buffer *to, uint64_t offset, const void *data,
                                  uint64_t bytes)
{
    GRAFT_TRY(graft_vk_alive(vk));
    GRAFT_TRY(check_range(to, offset, bytes, "an upload"));
    if (to->imported) {
        return graft_fail(GRAFT_E_ARGUMENT, "an upload into an imported mapping, which is read-only");
    }
    if (to->mapped && graft_vk_impl(to)->coherent) {
        memcpy((uint8_t *)to->mapped + offset, data, (size_t)bytes);
        return GRAFT_OK;
    }
    enum graft_status status = stage(vk, to, offset, data, bytes);
    if (status != GRAFT_OK) { // what was staged is in an unknown state
        graft_vk_upload_drop(vk);
    }
    return status;
}

void graft_vk_upload_drop(struct graft_vk *vk)
{
    if (vk->ring) {
        graft_vk_ring_destroy(vk);
    }
}

enum graft_status graft_vk_upload_flush(struct graft_vk *vk)
{
    return vk->ring ? flush_half(vk) : graft_vk_alive(vk);
}

enum graft_status graft_vk_upload_end(struct graft_vk *vk)
{
    if (!vk->ring) {
        return graft_vk_alive(vk);
    }
    enum graft_status status = flush_half(vk);
    for (uint32_t i = 0; i < 2 && status == GRAFT_OK; i++) {
        status = graft_vk_fence_wait(vk, &vk->ring->halves[i].fence, "an upload");
    }
    graft_vk_ring_destroy(vk);
    return status;
}

enum graft_status graft_vk_download(struct graft_vk *vk, const struct graft_vk_buffer *from, uint64_t offset, void *data,
                                    uint64_t bytes)
{
    GRAFT_TRY(graft_vk_alive(vk));
    GRAFT_TRY(check_range(from, offset, bytes, "a download"));
    GRAFT_TRY(graft_vk_wait(vk));
    if (vk->ring) { // staged uploads come first
        GRAFT_TRY(graft_vk_upload_end(vk));
    }
    if (from->mapped) {
        GRAFT_TRY(graft_vk_invalidate(vk));
        memcpy(data, (const uint8_t *)from->mapped + offset, (size_t)bytes);
        return GRAFT_OK;
    }
    uint64_t step = bytes < HALF_BYTES ? bytes : HALF_BYTES;
    if (step == 0) {
        return GRAFT_OK;
    }
    struct graft_vk_buffer *window;
    GRAFT_TRY(graft_vk_buffer_create(vk, &window, step, GRAFT_VK_READBACK, GRAFT_MEM_STAGING, "a download"));
    enum graft_status status = GRAFT_OK;
    uint8_t *to = data;
    while (bytes > 0 && status == GRAFT_OK) {
        uint64_t part = bytes < step ? bytes : step;
        GRAFT_TRY_OUT(graft_vk_once_begin(vk), status, out);
        VkBufferCopy region = {.srcOffset = offset, .size = part};
        vk->fn.vkCmdCopyBuffer(vk->once, graft_vk_impl(from)->handle, graft_vk_impl(window)->handle, 1, &region);
        GRAFT_TRY_OUT(graft_vk_once_finish(vk, "a download"), status, out);
        GRAFT_TRY_OUT(graft_vk_invalidate(vk), status, out);
        memcpy(to, window->mapped, (size_t)part);
        offset += part;
        to += part;
        bytes -= part;
    }
out:
    graft_vk_buffer_destroy(&window);
    return status;
}

enum graft_status graft_vk_window_create(struct graft_vk *vk, struct graft_vk_buffer **out, uint64_t bytes, const char *what)
{
    return graft_vk_buffer_create(vk, out, bytes, GRAFT_VK_STAGING, GRAFT_MEM_STAGING, what);
}

static enum graft_status check_window(const struct graft_vk_buffer *window, const struct graft_vk_buffer *buffer)
{
    return window || buffer->mapped ? GRAFT_OK : graft_fail(GRAFT_E_ARGUMENT, "a buffer that is not mapped needs a window");
}

enum graft_status graft_vk_write(struct graft_vk *vk, struct graft_vk_buffer *window, struct graft_vk_buffer *to,
                                 uint64_t offset, const void *data, uint64_t bytes)
{
    GRAFT_TRY(graft_vk_alive(vk));
    GRAFT_TRY(check_range(to, offset, bytes, "a write"));
    GRAFT_TRY(check_window(window, to));
    if (!window) {
        memcpy((uint8_t *)to->mapped + offset, data, (size_t)bytes);
        return GRAFT_OK;
    }
    for (uint64_t done = 0, part; done < bytes; done += part) {
        part = bytes - done < window->bytes ? bytes - done : window->bytes;
        memcpy(window->mapped, (const uint8_t *)data + done, (size_t)part);
        GRAFT_TRY(graft_vk_once_begin(vk));
        VkBufferCopy region = {.dstOffset = offset + done, .size = part};
        vk->fn.vkCmdCopyBuffer(vk->once, graft_vk_impl(window)->handle, graft_vk_impl(to)->handle, 1, &region);
        GRAFT_TRY(graft_vk_once_finish(vk, "a write"));
    }
    return GRAFT_OK;
}

enum graft_status graft_vk_move_down(struct graft_vk *vk, struct graft_vk_buffer *window, struct graft_vk_buffer *buffer,
                                     uint64_t from, uint64_t to, uint64_t bytes)
{
    GRAFT_TRY(graft_vk_alive(vk));
    GRAFT_TRY(check_range(buffer, from, bytes, "a move"));
    GRAFT_TRY(check_window(window, buffer));
    if (to > from) {
        return graft_fail(GRAFT_E_ARGUMENT, "a move up, from byte %" PRIu64 " to %" PRIu64, from, to);
    }
    if (!window) {
        memmove((uint8_t *)buffer->mapped + to, (const uint8_t *)buffer->mapped + from, (size_t)bytes);
        return GRAFT_OK;
    }
    VkBuffer handle = graft_vk_impl(buffer)->handle, through = graft_vk_impl(window)->handle;
    for (uint64_t done = 0, part; done < bytes; done += part) { // upwards: a piece is read before anything is written over it
        part = bytes - done < window->bytes ? bytes - done : window->bytes;
        VkBufferCopy out = {.srcOffset = from + done, .size = part}, in = {.dstOffset = to + done, .size = part};
        GRAFT_TRY(graft_vk_once_begin(vk));
        vk->fn.vkCmdCopyBuffer(vk->once, handle, through, 1, &out);
        graft_vk_barrier(vk, vk->once, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_TRANSFER_BIT);
        vk->fn.vkCmdCopyBuffer(vk->once, through, handle, 1, &in);
        GRAFT_TRY(graft_vk_once_finish(vk, "a move"));
    }
    return GRAFT_OK;
}

enum graft_status graft_vk_clear(struct graft_vk *vk, struct graft_vk_buffer *const *buffers, uint32_t n_buffers,
                                 const uint64_t *offsets, const uint64_t *sizes, uint32_t n_offsets)
{
    bool recording = false;
    GRAFT_TRY(graft_vk_alive(vk));
    for (uint32_t i = 0; i < n_buffers * n_offsets; i++) {
        struct graft_vk_buffer *buffer = buffers[i / n_offsets];
        uint64_t offset = offsets[i % n_offsets], bytes = sizes[i % n_offsets];
        GRAFT_TRY(check_range(buffer, offset, bytes, "zeros"));
        if (buffer->mapped) {
            memset((uint8_t *)buffer->mapped + offset, 0, (size_t)bytes);
            continue;
        }
        GRAFT_TRY(recording ? GRAFT_OK : graft_vk_once_begin(vk));
        recording = true;
        vk->fn.vkCmdFillBuffer(vk->once, graft_vk_impl(buffer)->handle, offset, bytes, 0);
    }
    return recording ? graft_vk_once_finish(vk, "zeros") : GRAFT_OK;
}
