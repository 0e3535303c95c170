// SPDX-License-Identifier: Apache-2.0
// Opening and closing a device, errors and injected faults.
#include "runtime/vk/vk_internal.h"

bool graft_vk_faulted(struct graft_vk *vk, enum graft_vk_fault kind)
{
    uint_fast64_t left = atomic_load(&vk->fault_left[kind]);
    while (left != 0 && !atomic_compare_exchange_weak(&vk->fault_left[kind], &left, left - 1)) {
    }
    return left == 1;
}

VkResult graft_vk_fault_result(enum graft_vk_fault kind)
{
    switch (kind) {
    case GRAFT_VK_FAULT_ALLOCATE:
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    case GRAFT_VK_FAULT_SUBMIT:
        return VK_ERROR_DEVICE_LOST;
    case GRAFT_VK_FAULT_WAIT:
        return VK_TIMEOUT;
    case GRAFT_VK_FAULT_CREATE:
    case GRAFT_VK_FAULT_RECORD:
        break;
    }
    return VK_ERROR_OUT_OF_HOST_MEMORY;
}

void graft_vk_fault(struct graft_vk *vk, enum graft_vk_fault fault, uint64_t n)
{
    vk->fault_left[fault] = n;
}

// What the driver knows about the loss of a device (VK_EXT_device_fault), to the log.
static void log_fault(struct graft_vk *vk)
{
    if (!vk->physical.ext_fault || !vk->fn.vkGetDeviceFaultInfoEXT) {
        return;
    }
    VkDeviceFaultCountsEXT counts = {.sType = VK_STRUCTURE_TYPE_DEVICE_FAULT_COUNTS_EXT};
    VkDeviceFaultInfoEXT info = {.sType = VK_STRUCTURE_TYPE_DEVICE_FAULT_INFO_EXT};
    VkResult result = vk->fn.vkGetDeviceFaultInfoEXT(vk->device, &counts, &info); // counts 0: the description alone
    if (result == VK_SUCCESS || result == VK_INCOMPLETE) {
        info.description[sizeof info.description - 1] = 0;
        graft_log(vk->ctx, GRAFT_LOG_ERROR, "device %s was lost: %s", vk->caps.name, info.description);
    }
}

enum graft_status graft_vk_fail(struct graft_vk *vk, VkResult result, const char *what)
{
    if (result == VK_ERROR_DEVICE_LOST) {
        if (!atomic_exchange(&vk->lost, true)) {
            log_fault(vk);
        }
        return graft_fail(GRAFT_E_DEVICE_LOST,
                          "%s: the device %s was lost (driver reset or removed); close it and open it again", what,
                          vk->caps.name);
    }
    bool memory = result == VK_ERROR_OUT_OF_HOST_MEMORY || result == VK_ERROR_OUT_OF_DEVICE_MEMORY ||
                  result == VK_ERROR_OUT_OF_POOL_MEMORY || result == VK_ERROR_FRAGMENTED_POOL;
    return graft_fail(memory ? GRAFT_E_MEMORY : GRAFT_E_DEVICE, "%s: the driver of %s refused with %s", what,
                      vk->caps.name[0] ? vk->caps.name : "the device", graft_vk_result_name(result));
}

enum graft_status graft_vk_alive(const struct graft_vk *vk)
{
    if (vk->lost) {
        return graft_fail(GRAFT_E_DEVICE_LOST, "the device %s was lost before; close it and open it again", vk->caps.name);
    }
    return GRAFT_OK;
}

void graft_vk_name(struct graft_vk *vk, VkObjectType type, uint64_t handle, const char *name)
{
    if (vk->instance.SetName) {
        VkDebugUtilsObjectNameInfoEXT info = {
            .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_OBJECT_NAME_INFO_EXT,
            .objectType = type,
            .objectHandle = handle,
            .pObjectName = name,
        };
        (void)vk->instance.SetName(vk->device, &info);
    }
}

const struct graft_vk_caps *graft_vk_caps(const struct graft_vk *vk)
{
    return &vk->caps;
}

uint64_t graft_vk_validation_messages(const struct graft_vk *vk)
{
    return atomic_load(&vk->instance.messages);
}

void graft_vk_counters(const struct graft_vk *vk, struct graft_vk_counters *out)
{
    *out = vk->counters;
    out->submissions += atomic_load(&vk->stream_submissions);
}

void graft_vk_spoil(struct graft_vk *vk, const char *name)
{
    vk->spoil = name;
}

void graft_vk_identity(const struct graft_vk *vk, uint8_t out[32])
{
    memcpy(out, vk->cache_key, sizeof vk->cache_key);
}

void graft_vk_restrict(struct graft_vk *vk, bool no_texel, bool no_subgroups, bool no_dot8)
{
    struct graft_vk_caps *caps = &vk->caps;
    if (no_subgroups) {
        caps->subgroup_arithmetic = caps->subgroup_shuffle = caps->subgroup_size_control = false;
        caps->subgroup_min = caps->subgroup_max = caps->subgroup_size;
    }
    if (no_texel) {
        caps->max_texel_elements = 0;
    }
    if (no_dot8) {
        caps->dot8 = caps->dot8_accelerated = false;
    }
}

// caps as the rest of the program sees them: what the options switch off is absent.
static enum graft_status apply_options(struct graft_vk *vk, const struct graft_vk_options *options)
{
    struct graft_vk_caps *caps = &vk->caps;
    uint32_t size = options->subgroup_size;
    if (size && size != caps->subgroup_size) {
        if (!caps->subgroup_size_control || size < caps->subgroup_min || size > caps->subgroup_max) {
            return graft_fail(GRAFT_E_UNSUPPORTED, "subgroups of %u were asked for, device %s has %u to %u", size, caps->name,
                              caps->subgroup_min, caps->subgroup_max);
        }
        caps->subgroup_size = size;
    }
    if (options->no_size_control) {
        caps->subgroup_size_control = false;
        caps->subgroup_min = caps->subgroup_max = caps->subgroup_size;
    }
    graft_vk_restrict(vk, options->no_texel, options->no_subgroups, options->no_dot8);
    caps->shader_f16 = caps->shader_f16 && !options->no_f16;
    caps->storage_8bit = caps->storage_8bit && !options->no_storage_8bit;
    caps->storage_16bit = caps->storage_16bit && !options->no_storage_16bit;
    caps->host_import = caps->host_import && !options->no_import;
    caps->coopmat_khr = caps->coopmat_khr && !options->no_coopmat;
    caps->coopmat_nv2 = caps->coopmat_nv2 && !options->no_coopmat;
    if (!caps->coopmat_khr || !caps->shader_f16) {
        caps->matrix_m = caps->matrix_n = caps->matrix_k = 0;
    }
    if (options->max_shared_bytes && options->max_shared_bytes < caps->max_shared_bytes) {
        caps->max_shared_bytes = options->max_shared_bytes;
    }
    if (options->max_invocations && options->max_invocations < caps->max_invocations) {
        caps->max_invocations = options->max_invocations;
    }
    caps->unified = caps->unified && !options->no_mapped_device; // the layers above must act as on a discrete device, too
    vk->mapped_device = caps->unified;
    vk->timeout_ns = options->timeout_ns ? options->timeout_ns : UINT64_C(60000000000);
    return GRAFT_OK;
}

static enum graft_status pick(struct graft_vk *vk, const char *select, bool no_copy_queue)
{
    struct graft_vk_physical *list;
    uint32_t count, index = 0;
    GRAFT_TRY(graft_vk_physical_list(&vk->instance, &list, &count));
    const struct graft_vk_found **found = NULL;
    enum graft_status status = GRAFT_NEW(vk->ctx, GRAFT_MEM_HOST, &found, count, "the list of devices");
    if (status == GRAFT_OK) {
        for (uint32_t i = 0; i < count; i++) {
            found[i] = &list[i].found;
        }
        status = graft_vk_select(found, count, select, &index);
    }
    if (status == GRAFT_OK) {
        vk->physical = list[index];
        vk->caps = vk->physical.found.caps;
        if (no_copy_queue) {
            vk->physical.copy_family = vk->physical.family;
            vk->physical.copy_queue = 0;
        }
    }
    GRAFT_FREE(vk->ctx, &found);
    GRAFT_FREE(vk->ctx, &list);
    return status;
}

static enum graft_status create_device(struct graft_vk *vk)
{
    struct graft_vk_features *features;
    GRAFT_TRY(GRAFT_NEW(vk->ctx, GRAFT_MEM_HOST, &features, 1, "device features"));
    const char *extensions[GRAFT_VK_MAX_EXTENSIONS];
    uint32_t n_extensions;
    graft_vk_features_wanted(&vk->instance, &vk->physical, features, extensions, &n_extensions);
    float priorities[2] = {1.0f, 1.0f};
    bool own_family = vk->physical.copy_family != vk->physical.family;
    VkDeviceQueueCreateInfo queues[2] = {
        {
            .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
            .queueFamilyIndex = vk->physical.family,
            .queueCount = own_family ? 1 : 1 + vk->physical.copy_queue,
            .pQueuePriorities = priorities,
        },
        {
            .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
            .queueFamilyIndex = vk->physical.copy_family,
            .queueCount = 1,
            .pQueuePriorities = priorities,
        },
    };
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &features->core,
        .queueCreateInfoCount = own_family ? 2 : 1,
        .pQueueCreateInfos = queues,
        .enabledExtensionCount = n_extensions,
        .ppEnabledExtensionNames = extensions,
    };
    VkResult result =
        GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->instance.CreateDevice(vk->physical.handle, &info, NULL, &vk->device));
    GRAFT_FREE(vk->ctx, &features);
    if (result != VK_SUCCESS) {
        vk->device = VK_NULL_HANDLE;
        return graft_vk_fail(vk, result, "opening the device");
    }
    volkLoadDeviceTable(&vk->fn, vk->device);
    vk->fn.vkGetDeviceQueue(vk->device, vk->physical.family, 0, &vk->queue);
    vk->copy_family = vk->physical.copy_family;
    vk->fn.vkGetDeviceQueue(vk->device, vk->copy_family, vk->physical.copy_queue, &vk->copy_queue);
    return GRAFT_OK;
}

static enum graft_status create_commands(struct graft_vk *vk)
{
    VkCommandPoolCreateInfo pool = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
        .queueFamilyIndex = vk->physical.family,
    };
    VkResult result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkCreateCommandPool(vk->device, &pool, NULL, &vk->pool));
    if (result != VK_SUCCESS) {
        vk->pool = VK_NULL_HANDLE;
        return graft_vk_fail(vk, result, "creating a command pool");
    }
    VkCommandBufferAllocateInfo commands = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = vk->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkAllocateCommandBuffers(vk->device, &commands, &vk->once));
    if (result != VK_SUCCESS) {
        vk->once = VK_NULL_HANDLE;
        return graft_vk_fail(vk, result, "creating a command buffer");
    }
    VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    struct graft_vk_fence *fences[] = {&vk->once_fence, &vk->fence};
    for (int i = 0; i < 2; i++) {
        result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkCreateFence(vk->device, &fence, NULL, &fences[i]->handle));
        if (result != VK_SUCCESS) {
            fences[i]->handle = VK_NULL_HANDLE;
            return graft_vk_fail(vk, result, "creating a fence");
        }
    }
    return GRAFT_OK;
}

enum graft_status graft_vk_open(struct graft_ctx *ctx, struct graft_vk **out, const struct graft_vk_options *options)
{
    static const struct graft_vk_options defaults = {.select = NULL};
    const struct graft_vk_options *given = options ? options : &defaults;
    *out = NULL;
    struct graft_vk *vk;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &vk, 1, "a device"));
    vk->ctx = ctx;
    if (given->fault_at) {
        graft_vk_fault(vk, given->fault, given->fault_at);
    }
    enum graft_status status;
    GRAFT_TRY_OUT(graft_vk_instance_open(&vk->instance, ctx, given->validation, vk), status, fail);
    GRAFT_TRY_OUT(pick(vk, given->select, given->no_copy_queue), status, fail);
    GRAFT_TRY_OUT(apply_options(vk, given), status, fail);
    GRAFT_TRY_OUT(create_device(vk), status, fail);
    GRAFT_TRY_OUT(create_commands(vk), status, fail);
    GRAFT_TRY_OUT(graft_vk_cache_open(vk, given->cache_key ? given->cache_key : ""), status, fail);
    *out = vk;
    return GRAFT_OK;
fail:
    graft_vk_close(&vk);
    return status;
}

void graft_vk_close(struct graft_vk **device)
{
    if (!device || !*device) {
        return;
    }
    struct graft_vk *vk = *device;
    *device = NULL;
    if (vk->device) {
        graft_vk_quiesce(vk);
        if (vk->live_buffers || vk->live_commands) {
            graft_log(vk->ctx, GRAFT_LOG_ERROR, "device %s is closed with %" PRIu64 " buffers and %" PRIu64 " recordings alive",
                      vk->caps.name, vk->live_buffers, vk->live_commands);
        }
        graft_vk_ring_destroy(vk);
        while (vk->pipelines) {
            struct graft_vk_pipeline *pipeline = vk->pipelines;
            pipeline->references = 1;
            graft_vk_pipeline_put(vk, &pipeline);
        }
        graft_vk_cache_close(vk);
        if (!vk->abandoned) {
            if (vk->fence.handle) {
                vk->fn.vkDestroyFence(vk->device, vk->fence.handle, NULL);
            }
            if (vk->once_fence.handle) {
                vk->fn.vkDestroyFence(vk->device, vk->once_fence.handle, NULL);
            }
            if (vk->pool) {
                vk->fn.vkDestroyCommandPool(vk->device, vk->pool, NULL);
            }
            vk->fn.vkDestroyDevice(vk->device, NULL);
        }
    }
    if (vk->abandoned) { // the instance stays, but must not call back into what is freed below
        if (vk->instance.messenger) {
            vk->instance.DestroyMessenger(vk->instance.handle, vk->instance.messenger, NULL);
        }
    } else {
        graft_vk_instance_close(&vk->instance);
    }
    graft_mutex_destroy(&vk->submit_lock);
    GRAFT_FREE(vk->ctx, &vk);
}
