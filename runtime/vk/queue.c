// SPDX-License-Identifier: Apache-2.0
// Submitting, waiting with a time-out, and the state after a device was lost.
#include "runtime/vk/vk_internal.h"

// Before anything is freed that the device may still use, it gets at least this long, however short the time-out is.
static const uint64_t GRACE_NS = UINT64_C(10000000000);

static VkResult submit(struct graft_vk *vk, VkQueue queue, const VkSubmitInfo *info, VkFence fence)
{
    if (vk->submit_lock) {
        graft_mutex_lock(vk->submit_lock);
    }
    VkResult result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_SUBMIT, vk->fn.vkQueueSubmit(queue, 1, info, fence));
    if (vk->submit_lock) {
        graft_mutex_unlock(vk->submit_lock);
    }
    return result;
}

enum graft_status graft_vk_queue_submit_sync(struct graft_vk *vk, VkQueue queue, const VkCommandBuffer *buffers, uint32_t count,
                                             const struct graft_vk_sync *sync)
{
    GRAFT_TRY(graft_vk_alive(vk));
    const VkPipelineStageFlags stages = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    VkTimelineSemaphoreSubmitInfo values = {
        .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
        .waitSemaphoreValueCount = sync->wait != VK_NULL_HANDLE,
        .pWaitSemaphoreValues = &sync->wait_value,
        .signalSemaphoreValueCount = sync->signal != VK_NULL_HANDLE,
        .pSignalSemaphoreValues = &sync->signal_value,
    };
    VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .pNext = &values,
        .waitSemaphoreCount = values.waitSemaphoreValueCount,
        .pWaitSemaphores = &sync->wait,
        .pWaitDstStageMask = &stages,
        .commandBufferCount = count,
        .pCommandBuffers = buffers,
        .signalSemaphoreCount = values.signalSemaphoreValueCount,
        .pSignalSemaphores = &sync->signal,
    };
    VkResult result = submit(vk, queue, &info, VK_NULL_HANDLE);
    return result == VK_SUCCESS ? GRAFT_OK : graft_vk_fail(vk, result, "submitting work");
}

enum graft_status graft_vk_queue_submit(struct graft_vk *vk, struct graft_vk_fence *fence, const VkCommandBuffer *buffers,
                                        uint32_t count)
{
    GRAFT_TRY(graft_vk_alive(vk));
    VkResult result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_SUBMIT, vk->fn.vkResetFences(vk->device, 1, &fence->handle));
    if (result != VK_SUCCESS) {
        return graft_vk_fail(vk, result, "resetting a fence");
    }
    VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .commandBufferCount = count,
        .pCommandBuffers = buffers,
    };
    result = submit(vk, vk->queue, &info, fence->handle);
    if (result != VK_SUCCESS) {
        return graft_vk_fail(vk, result, "submitting work");
    }
    fence->pending = true;
    vk->counters.submissions++;
    return GRAFT_OK;
}

enum graft_status graft_vk_timed_out(struct graft_vk *vk, const char *what)
{
    vk->lost = true;
    return graft_fail(GRAFT_E_DEVICE_LOST,
                      "%s: the device %s has not finished after %" PRIu64 " ms and counts as lost; close it and open it again",
                      what, vk->caps.name, vk->timeout_ns / 1000000);
}

enum graft_status graft_vk_fence_wait(struct graft_vk *vk, struct graft_vk_fence *fence, const char *what)
{
    GRAFT_TRY(graft_vk_alive(vk));
    if (!fence->pending) {
        return GRAFT_OK;
    }
    VkResult result =
        GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_WAIT, vk->fn.vkWaitForFences(vk->device, 1, &fence->handle, VK_TRUE, vk->timeout_ns));
    if (result == VK_TIMEOUT) { // still pending: graft_vk_quiesce gives it one more time-out before anything is freed
        return graft_vk_timed_out(vk, what);
    }
    fence->pending = false;
    if (result != VK_SUCCESS) {
        return graft_vk_fail(vk, result, what);
    }
    return GRAFT_OK;
}

void graft_vk_abandon(struct graft_vk *vk)
{
    graft_log(vk->ctx, GRAFT_LOG_ERROR, "device %s does not answer; its objects are left to the driver", vk->caps.name);
    vk->lost = vk->abandoned = true;
}

void graft_vk_quiesce(struct graft_vk *vk)
{
    uint64_t patience = vk->timeout_ns > GRACE_NS ? vk->timeout_ns : GRACE_NS;
    struct graft_vk_fence *fences[] = {&vk->fence, &vk->once_fence, graft_vk_ring_fence(vk, 0), graft_vk_ring_fence(vk, 1)};
    for (int i = 0; i < 4 && !vk->abandoned; i++) {
        if (!fences[i] || !fences[i]->pending) {
            continue;
        }
        VkResult result = vk->fn.vkWaitForFences(vk->device, 1, &fences[i]->handle, VK_TRUE, patience);
        if (result == VK_TIMEOUT) {
            graft_vk_abandon(vk);
        } else {
            vk->lost = vk->lost || result != VK_SUCCESS;
            fences[i]->pending = false;
        }
    }
    VkResult result = vk->abandoned ? VK_SUCCESS : graft_vk_streams_finish(vk, patience);
    vk->lost = vk->lost || result != VK_SUCCESS;
    if (result == VK_TIMEOUT) {
        graft_vk_abandon(vk);
    }
}

enum graft_status graft_vk_once_begin(struct graft_vk *vk)
{
    GRAFT_TRY(graft_vk_alive(vk));
    VkCommandBufferBeginInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
    };
    // Reset by hand: after a failure in the middle it is still recording.
    VkResult result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_RECORD, vk->fn.vkResetCommandBuffer(vk->once, 0));
    if (result == VK_SUCCESS) {
        result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_RECORD, vk->fn.vkBeginCommandBuffer(vk->once, &info));
    }
    if (result != VK_SUCCESS) {
        return graft_vk_fail(vk, result, "recording a transfer");
    }
    vk->counters.recordings++;
    VkPipelineStageFlags all = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    graft_vk_barrier(vk, vk->once, all, all);
    return GRAFT_OK;
}

enum graft_status graft_vk_once_finish(struct graft_vk *vk, const char *what)
{
    VkPipelineStageFlags all = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    graft_vk_barrier(vk, vk->once, VK_PIPELINE_STAGE_TRANSFER_BIT, all | VK_PIPELINE_STAGE_HOST_BIT);
    VkResult result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_RECORD, vk->fn.vkEndCommandBuffer(vk->once));
    if (result != VK_SUCCESS) {
        return graft_vk_fail(vk, result, what);
    }
    GRAFT_TRY(graft_vk_queue_submit(vk, &vk->once_fence, &vk->once, 1));
    return graft_vk_fence_wait(vk, &vk->once_fence, what);
}

// Accesses of all that graft does in a stage, as writer and as reader.
static VkAccessFlags writes_of(VkPipelineStageFlags stages)
{
    return ((stages & VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT) ? VK_ACCESS_SHADER_WRITE_BIT : 0u) |
           ((stages & VK_PIPELINE_STAGE_TRANSFER_BIT) ? VK_ACCESS_TRANSFER_WRITE_BIT : 0u);
}

static VkAccessFlags uses_of(VkPipelineStageFlags stages)
{
    VkAccessFlags access = 0;
    if (stages & VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT) {
        access |= VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_UNIFORM_READ_BIT;
    }
    if (stages & VK_PIPELINE_STAGE_TRANSFER_BIT) {
        access |= VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
    }
    if (stages & VK_PIPELINE_STAGE_HOST_BIT) {
        access |= VK_ACCESS_HOST_READ_BIT | VK_ACCESS_HOST_WRITE_BIT;
    }
    return access;
}

void graft_vk_barrier(struct graft_vk *vk, VkCommandBuffer commands, VkPipelineStageFlags from, VkPipelineStageFlags to)
{
    VkMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = writes_of(from),
        .dstAccessMask = uses_of(to),
    };
    vk->fn.vkCmdPipelineBarrier(commands, from, to, 0, 1, &barrier, 0, NULL, 0, NULL);
}
