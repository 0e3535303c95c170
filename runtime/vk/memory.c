// SPDX-License-Identifier: Apache-2.0
// Buffers: which memory type, how many bytes in the ledger, import of mapped files.
#include "runtime/vk/vk_internal.h"

static const VkBufferUsageFlags USAGE = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_UNIFORM_BUFFER_BIT |
                                        VK_BUFFER_USAGE_UNIFORM_TEXEL_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                                        VK_BUFFER_USAGE_TRANSFER_DST_BIT;

enum {
    LOCAL = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
    VISIBLE = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT,
    COHERENT = VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
    CACHED = VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
    // Needs features that are not enabled, or behaves differently (AMD's uncached kinds, protected, lazily backed).
    ODD = VK_MEMORY_PROPERTY_PROTECTED_BIT | VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT |
          VK_MEMORY_PROPERTY_DEVICE_COHERENT_BIT_AMD | VK_MEMORY_PROPERTY_DEVICE_UNCACHED_BIT_AMD
};

// Preferences: a type fits if it has all of `want` and none of `avoid`; earlier rows first.
struct preference {
    VkMemoryPropertyFlags want, avoid;
};

uint32_t graft_vk_memory_types(const VkPhysicalDeviceMemoryProperties *memory, uint32_t allowed_bits,
                               enum graft_vk_memory where, bool prefer_mapped, uint32_t out[32])
{
    static const struct preference mapped[] = {{LOCAL | VISIBLE | COHERENT, 0}, {LOCAL, 0}};
    static const struct preference device[] = {{LOCAL, VISIBLE}, {LOCAL, 0}};
    static const struct preference seen[] = {{LOCAL | VISIBLE | COHERENT, 0}, {VISIBLE | COHERENT, 0}};
    static const struct preference readback[] = {
        {VISIBLE | COHERENT | CACHED, 0}, {VISIBLE | CACHED, 0}, {VISIBLE | COHERENT, 0}};
    static const struct preference staging[] = {{VISIBLE | COHERENT, LOCAL}, {VISIBLE | COHERENT, 0}};
    const struct preference *rows = where == GRAFT_VK_STAGING     ? staging
                                    : where == GRAFT_VK_HOST_SEEN ? seen
                                    : where == GRAFT_VK_READBACK  ? readback
                                    : prefer_mapped               ? mapped
                                                                  : device;
    uint32_t n_rows = where == GRAFT_VK_READBACK ? 3 : 2, count = 0, taken = 0;
    for (uint32_t row = 0; row < n_rows; row++) {
        for (uint32_t i = 0; i < memory->memoryTypeCount && i < 32; i++) {
            VkMemoryPropertyFlags flags = memory->memoryTypes[i].propertyFlags;
            bool fits = (allowed_bits >> i & 1u) && (flags & rows[row].want) == rows[row].want && !(flags & rows[row].avoid) &&
                        !(flags & ODD) && !(taken >> i & 1u);
            if (fits) {
                out[count++] = i;
                taken |= 1u << i;
            }
        }
    }
    return count;
}

static void unlink_readback(struct graft_vk *vk, struct graft_vk_buffer_impl *buffer)
{
    if (buffer->previous) {
        buffer->previous->next = buffer->next;
    } else if (vk->readbacks == buffer) {
        vk->readbacks = buffer->next;
    }
    if (buffer->next) {
        buffer->next->previous = buffer->previous;
    }
}

void graft_vk_buffer_destroy(struct graft_vk_buffer **given)
{
    if (!given || !*given) {
        return;
    }
    struct graft_vk_buffer_impl *buffer = graft_vk_impl(*given);
    struct graft_vk *vk = buffer->pub.vk;
    *given = NULL;
    graft_vk_quiesce(vk);
    unlink_readback(vk, buffer);
    if (!vk->abandoned) {
        if (buffer->handle) {
            vk->fn.vkDestroyBuffer(vk->device, buffer->handle, NULL);
        }
        if (buffer->memory) { // unmaps, too
            vk->fn.vkFreeMemory(vk->device, buffer->memory, NULL);
        }
    }
    if (buffer->reserved) {
        graft_ledger_release(vk->ctx, buffer->pub.mem_class, buffer->reserved);
    }
    vk->live_buffers--;
    GRAFT_FREE(vk->ctx, &buffer);
}

static enum graft_status new_buffer(struct graft_vk *vk, struct graft_vk_buffer_impl **out, uint64_t bytes)
{
    struct graft_vk_buffer_impl *buffer;
    GRAFT_TRY(GRAFT_NEW(vk->ctx, GRAFT_MEM_HOST, &buffer, 1, "a buffer"));
    buffer->pub.vk = vk;
    buffer->pub.native = buffer;
    buffer->pub.bytes = bytes;
    buffer->coherent = true;
    vk->live_buffers++;
    *out = buffer;
    return GRAFT_OK;
}

// Take memory of the first type that the driver grants. Only buffers for the host to write may leave device-local memory.
static enum graft_status take_memory(struct graft_vk *vk, struct graft_vk_buffer_impl *buffer,
                                     const VkMemoryRequirements *needs, enum graft_vk_memory where, const char *what)
{
    uint32_t types[32];
    uint32_t count = graft_vk_memory_types(&vk->physical.memory, needs->memoryTypeBits, where, vk->mapped_device, types);
    if (count == 0) {
        return graft_fail(GRAFT_E_MEMORY, "%s: the device %s has no memory type for it", what, vk->caps.name);
    }
    const VkPhysicalDeviceMemoryProperties *memory = &vk->physical.memory;
    VkResult result = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    uint32_t heap = memory->memoryTypes[types[0]].heapIndex;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t own = memory->memoryTypes[types[i]].heapIndex;
        if (needs->size > memory->memoryHeaps[own].size) {
            continue;
        }
        VkMemoryAllocateInfo info = {
            .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
            .allocationSize = needs->size,
            .memoryTypeIndex = types[i],
        };
        result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_ALLOCATE, vk->fn.vkAllocateMemory(vk->device, &info, NULL, &buffer->memory));
        if (result == VK_SUCCESS) {
            vk->counters.allocations++;
            VkMemoryPropertyFlags flags = memory->memoryTypes[types[i]].propertyFlags;
            buffer->coherent = flags & COHERENT;
            bool map = (flags & VISIBLE) && (where != GRAFT_VK_DEVICE || (vk->mapped_device && buffer->coherent));
            if (map) {
                result =
                    GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_ALLOCATE,
                                  vk->fn.vkMapMemory(vk->device, buffer->memory, 0, VK_WHOLE_SIZE, 0, &buffer->pub.mapped));
                if (result != VK_SUCCESS) {
                    buffer->pub.mapped = NULL;
                    return graft_vk_fail(vk, result, what);
                }
            }
            return GRAFT_OK;
        }
        buffer->memory = VK_NULL_HANDLE;
        if (result != VK_ERROR_OUT_OF_DEVICE_MEMORY) {
            break;
        }
    }
    if (result == VK_ERROR_OUT_OF_DEVICE_MEMORY || result == VK_ERROR_OUT_OF_HOST_MEMORY) {
        return graft_fail(GRAFT_E_MEMORY, "%s: heap %u of %s (%" PRIu64 " bytes in all) has no %" PRIu64 " bytes free (%s)",
                          what, heap, vk->caps.name, (uint64_t)memory->memoryHeaps[heap].size, (uint64_t)needs->size,
                          graft_vk_result_name(result));
    }
    return graft_vk_fail(vk, result, what);
}

// Fill with zeros, by the host where it can see the buffer.
static enum graft_status clear(struct graft_vk *vk, struct graft_vk_buffer_impl *buffer, const char *what)
{
    if (buffer->pub.mapped && buffer->coherent) {
        memset(buffer->pub.mapped, 0, (size_t)buffer->pub.bytes);
        return GRAFT_OK;
    }
    GRAFT_TRY(graft_vk_once_begin(vk));
    vk->fn.vkCmdFillBuffer(vk->once, buffer->handle, 0, VK_WHOLE_SIZE, 0);
    GRAFT_TRY(graft_vk_once_finish(vk, what));
    return graft_vk_invalidate(vk);
}

enum graft_status graft_vk_buffer_create(struct graft_vk *vk, struct graft_vk_buffer **out, uint64_t bytes,
                                         enum graft_vk_memory where, enum graft_mem_class mem_class, const char *what)
{
    *out = NULL;
    GRAFT_TRY(graft_vk_alive(vk));
    uint64_t whole; // a multiple of 4, for vkCmdFillBuffer
    if (bytes == 0 || !graft_align_u64(bytes, 4, &whole)) {
        return graft_fail(GRAFT_E_ARGUMENT, "%s: a buffer of %" PRIu64 " bytes", what, bytes);
    }
    if (whole > vk->caps.max_allocation_bytes) {
        return graft_fail(GRAFT_E_MEMORY, "%s: needs %" PRIu64 " bytes in one piece, %s allows %" PRIu64, what, bytes,
                          vk->caps.name, vk->caps.max_allocation_bytes);
    }
    struct graft_vk_buffer_impl *buffer;
    GRAFT_TRY(new_buffer(vk, &buffer, bytes));
    buffer->pub.mem_class = mem_class;
    enum graft_status status;
    uint32_t families[2] = {vk->physical.family, vk->copy_family};
    bool shared = where == GRAFT_VK_SLOT && families[0] != families[1];
    where = where == GRAFT_VK_SLOT ? GRAFT_VK_DEVICE : where;
    VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = whole,
        .usage = USAGE,
        .sharingMode = shared ? VK_SHARING_MODE_CONCURRENT : VK_SHARING_MODE_EXCLUSIVE,
        .queueFamilyIndexCount = shared ? 2 : 0,
        .pQueueFamilyIndices = families,
    };
    VkResult result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkCreateBuffer(vk->device, &info, NULL, &buffer->handle));
    if (result != VK_SUCCESS) {
        buffer->handle = VK_NULL_HANDLE;
        status = graft_vk_fail(vk, result, what);
        goto fail;
    }
    graft_vk_name(vk, VK_OBJECT_TYPE_BUFFER, (uint64_t)buffer->handle, what);
    VkMemoryRequirements needs;
    vk->fn.vkGetBufferMemoryRequirements(vk->device, buffer->handle, &needs);
    GRAFT_TRY_OUT(graft_ledger_reserve(vk->ctx, mem_class, needs.size, what), status, fail);
    buffer->reserved = needs.size;
    GRAFT_TRY_OUT(take_memory(vk, buffer, &needs, where, what), status, fail);
    result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkBindBufferMemory(vk->device, buffer->handle, buffer->memory, 0));
    if (result != VK_SUCCESS) {
        status = graft_vk_fail(vk, result, what);
        goto fail;
    }
    if (!buffer->coherent && buffer->pub.mapped) {
        buffer->next = vk->readbacks;
        if (vk->readbacks) {
            vk->readbacks->previous = buffer;
        }
        vk->readbacks = buffer;
    }
    GRAFT_TRY_OUT(clear(vk, buffer, what), status, fail);
    *out = &buffer->pub;
    return GRAFT_OK;
fail:;
    struct graft_vk_buffer *failed = &buffer->pub;
    graft_vk_buffer_destroy(&failed);
    return status;
}

enum graft_status graft_vk_buffer_import(struct graft_vk *vk, struct graft_vk_buffer **out, const void *data, uint64_t bytes,
                                         uint64_t *skip)
{
    *out = NULL;
    *skip = 0;
    GRAFT_TRY(graft_vk_alive(vk));
    uint64_t align = vk->caps.import_alignment;
    if (!vk->caps.host_import) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "the device %s cannot import host memory", vk->caps.name);
    }
    if (align > graft_page_bytes()) { // pages beside the mapping may belong to someone else
        return graft_fail(GRAFT_E_UNSUPPORTED, "the device %s imports multiples of %" PRIu64 " bytes only, pages have %" PRIu64,
                          vk->caps.name, align, graft_page_bytes());
    }
    uint64_t begin = (uint64_t)(uintptr_t)data & ~(align - 1), last, end;
    if (bytes == 0 || !graft_add_u64((uint64_t)(uintptr_t)data, bytes, &last) || !graft_align_u64(last, align, &end)) {
        return graft_fail(GRAFT_E_ARGUMENT, "an import of %" PRIu64 " bytes", bytes);
    }
    uint64_t whole = end - begin;
    if (whole > vk->caps.max_allocation_bytes) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "an import of %" PRIu64 " bytes, %s allows %" PRIu64 " in one piece", whole,
                          vk->caps.name, vk->caps.max_allocation_bytes);
    }
    void *pages = (void *)(uintptr_t)begin;
    const VkExternalMemoryHandleTypeFlagBits type = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT;
    struct graft_vk_buffer_impl *buffer;
    GRAFT_TRY(new_buffer(vk, &buffer, whole));
    buffer->pub.imported = true;
    buffer->pub.mem_class = GRAFT_MEM_WEIGHTS;
    VkExternalMemoryBufferCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
        .handleTypes = type,
    };
    VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .pNext = &external,
        .size = whole,
        .usage = USAGE & ~(VkBufferUsageFlags)VK_BUFFER_USAGE_TRANSFER_DST_BIT,
    };
    const char *step = "vkCreateBuffer";
    VkResult result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkCreateBuffer(vk->device, &info, NULL, &buffer->handle));
    if (result != VK_SUCCESS) {
        buffer->handle = VK_NULL_HANDLE;
        goto fail;
    }
    VkMemoryHostPointerPropertiesEXT host = {.sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
    step = "vkGetMemoryHostPointerPropertiesEXT";
    result =
        GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkGetMemoryHostPointerPropertiesEXT(vk->device, type, pages, &host));
    if (result != VK_SUCCESS) {
        goto fail;
    }
    VkMemoryRequirements needs;
    vk->fn.vkGetBufferMemoryRequirements(vk->device, buffer->handle, &needs);
    uint32_t bits = needs.memoryTypeBits & host.memoryTypeBits, index = 0;
    if (bits == 0 || needs.size > whole) {
        step = "no memory type";
        result = VK_ERROR_INVALID_EXTERNAL_HANDLE;
        goto fail;
    }
    while (!(bits >> index & 1u)) {
        index++;
    }
    VkImportMemoryHostPointerInfoEXT import = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
        .handleType = type,
        .pHostPointer = pages,
    };
    VkMemoryAllocateInfo allocate = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .pNext = &import,
        .allocationSize = whole,
        .memoryTypeIndex = index,
    };
    step = "vkAllocateMemory";
    result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_ALLOCATE, vk->fn.vkAllocateMemory(vk->device, &allocate, NULL, &buffer->memory));
    if (result != VK_SUCCESS) {
        buffer->memory = VK_NULL_HANDLE;
        goto fail;
    }
    vk->counters.allocations++;
    step = "vkBindBufferMemory";
    result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkBindBufferMemory(vk->device, buffer->handle, buffer->memory, 0));
    if (result != VK_SUCCESS) {
        goto fail;
    }
    graft_vk_name(vk, VK_OBJECT_TYPE_BUFFER, (uint64_t)buffer->handle, "imported mapping");
    *skip = (uint64_t)(uintptr_t)data - begin;
    *out = &buffer->pub;
    return GRAFT_OK;
fail:;
    struct graft_vk_buffer *failed = &buffer->pub;
    graft_vk_buffer_destroy(&failed);
    if (result == VK_ERROR_DEVICE_LOST) {
        return graft_vk_fail(vk, result, "importing a mapping");
    }
    return graft_fail(GRAFT_E_UNSUPPORTED, "the device %s refused to import %" PRIu64 " mapped bytes (%s: %s)", vk->caps.name,
                      whole, step, graft_vk_result_name(result));
}

enum graft_status graft_vk_invalidate(struct graft_vk *vk)
{
    for (struct graft_vk_buffer_impl *buffer = vk->readbacks; buffer; buffer = buffer->next) {
        VkMappedMemoryRange range = {
            .sType = VK_STRUCTURE_TYPE_MAPPED_MEMORY_RANGE,
            .memory = buffer->memory,
            .size = VK_WHOLE_SIZE,
        };
        VkResult result = vk->fn.vkInvalidateMappedMemoryRanges(vk->device, 1, &range);
        if (result != VK_SUCCESS) {
            return graft_vk_fail(vk, result, "reading results back");
        }
    }
    return GRAFT_OK;
}
