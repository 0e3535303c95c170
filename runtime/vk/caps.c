// SPDX-License-Identifier: Apache-2.0
// What a physical device can do, whether graft can use it, and which device is chosen.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "platform/plat.h"
#include "runtime/vk/vk_internal.h"

enum { MIN_SHARED_BYTES = 16384, MIN_INVOCATIONS = 128, MAX_DEVICES = 64, MAX_FAMILIES = 32 };

// Append a structure to a pNext chain.
static void chain(void **tail_owner, void *structure)
{
    VkBaseOutStructure *last = (VkBaseOutStructure *)tail_owner;
    while (last->pNext) {
        last = last->pNext;
    }
    last->pNext = structure;
}

// Which extensions, of those that graft knows, the device has.
struct extensions {
    bool host_memory, subgroup_size, integer_dot, texel_alignment, coopmat, coopmat2, fault, portability;
};

static enum graft_status read_extensions(struct graft_vk_instance *instance, VkPhysicalDevice device, struct extensions *out)
{
    memset(out, 0, sizeof *out);
    uint32_t count = 0;
    VkResult result = instance->EnumerateDeviceExtensionProperties(device, NULL, &count, NULL);
    if (result != VK_SUCCESS || count == 0) {
        return GRAFT_OK;
    }
    VkExtensionProperties *list;
    GRAFT_TRY(GRAFT_NEW(instance->ctx, GRAFT_MEM_HOST, &list, count, "the list of device extensions"));
    result = instance->EnumerateDeviceExtensionProperties(device, NULL, &count, list);
    if (result != VK_SUCCESS && result != VK_INCOMPLETE) {
        count = 0;
    }
    const struct {
        const char *name;
        bool *flag;
    } known[] = {
        {VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME, &out->host_memory},
        {VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME, &out->subgroup_size},
        {VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME, &out->integer_dot},
        {VK_EXT_TEXEL_BUFFER_ALIGNMENT_EXTENSION_NAME, &out->texel_alignment},
        {VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME, &out->coopmat},
        {VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME, &out->coopmat2},
        {VK_EXT_DEVICE_FAULT_EXTENSION_NAME, &out->fault},
        {"VK_KHR_portability_subset", &out->portability},
    };
    for (uint32_t i = 0; i < count; i++) {
        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++) {
            if (strcmp(list[i].extensionName, known[k].name) == 0) {
                *known[k].flag = true;
            }
        }
    }
    GRAFT_FREE(instance->ctx, &list);
    return GRAFT_OK;
}

// Chain the feature structures that this device understands, all zero.
static void chain_features(struct graft_vk_features *f, uint32_t api, const struct extensions *ext)
{
    memset(f, 0, sizeof *f);
    f->core.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
    f->v11.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES;
    f->v12.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES;
    f->v13.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES;
    f->subgroup_size.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES;
    f->integer_dot.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES;
    f->texel_alignment.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TEXEL_BUFFER_ALIGNMENT_FEATURES_EXT;
    f->fault.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FAULT_FEATURES_EXT;
    f->coopmat.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR;
    f->coopmat2.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV;
    void **head = (void **)&f->core;
    chain(head, &f->v11);
    chain(head, &f->v12);
    if (api >= VK_API_VERSION_1_3) {
        chain(head, &f->v13);
    } else {
        if (ext->subgroup_size) {
            chain(head, &f->subgroup_size);
        }
        if (ext->integer_dot) {
            chain(head, &f->integer_dot);
        }
    }
    if (ext->texel_alignment) {
        chain(head, &f->texel_alignment);
    }
    if (ext->fault) {
        chain(head, &f->fault);
    }
    if (ext->coopmat) {
        chain(head, &f->coopmat);
    }
    if (ext->coopmat2) {
        chain(head, &f->coopmat2);
    }
}

static enum graft_vk_kind kind_of(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return GRAFT_VK_DISCRETE;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return GRAFT_VK_INTEGRATED;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return GRAFT_VK_VIRTUAL;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return GRAFT_VK_SOFTWARE;
    default:
        return GRAFT_VK_OTHER;
    }
}

// Largest device-local heap, and whether every device-local heap is plain RAM that the host maps.
static void read_heaps(const VkPhysicalDeviceMemoryProperties *memory, struct graft_vk_caps *caps)
{
    caps->unified = caps->kind == GRAFT_VK_INTEGRATED || caps->kind == GRAFT_VK_SOFTWARE;
    for (uint32_t heap = 0; heap < memory->memoryHeapCount; heap++) {
        if (!(memory->memoryHeaps[heap].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT)) {
            continue;
        }
        if (memory->memoryHeaps[heap].size > caps->heap_bytes) {
            caps->heap_bytes = memory->memoryHeaps[heap].size;
        }
        bool mapped = false;
        for (uint32_t i = 0; i < memory->memoryTypeCount; i++) {
            mapped = mapped || (memory->memoryTypes[i].heapIndex == heap &&
                                (memory->memoryTypes[i].propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT));
        }
        caps->unified = caps->unified && mapped;
    }
}

// A queue that copies beside the one that computes: of a family for transfers alone (a copy engine) if there is one, else a
// second one of the same family, else the same queue.
static void pick_copy_family(struct graft_vk_physical *physical, const VkQueueFamilyProperties *families, uint32_t count)
{
    const VkQueueFlags others = VK_QUEUE_GRAPHICS_BIT | VK_QUEUE_COMPUTE_BIT;
    physical->copy_family = physical->family;
    physical->copy_queue = families[physical->family].queueCount > 1;
    for (uint32_t i = 0; i < count; i++) {
        if (families[i].queueCount > 0 && (families[i].queueFlags & VK_QUEUE_TRANSFER_BIT) &&
            !(families[i].queueFlags & others)) {
            physical->copy_family = i;
            physical->copy_queue = 0;
            return;
        }
    }
}

// A queue family with compute: one without graphics if there is one, so that a desktop on the same device does not wait.
static bool pick_family(struct graft_vk_instance *instance, struct graft_vk_physical *physical)
{
    VkQueueFamilyProperties families[MAX_FAMILIES];
    uint32_t count = MAX_FAMILIES;
    instance->GetPhysicalDeviceQueueFamilyProperties(physical->handle, &count, families);
    bool found = false;
    for (uint32_t i = 0; i < count; i++) {
        bool compute = families[i].queueCount > 0 && (families[i].queueFlags & VK_QUEUE_COMPUTE_BIT);
        bool graphics = families[i].queueFlags & VK_QUEUE_GRAPHICS_BIT;
        if (compute && (!found || (!graphics && (families[physical->family].queueFlags & VK_QUEUE_GRAPHICS_BIT)))) {
            physical->family = i;
            physical->timestamp_bits = families[i].timestampValidBits;
            found = true;
        }
    }
    if (found) {
        pick_copy_family(physical, families, count);
    }
    return found;
}

// Properties beyond the limits: subgroups, driver, identifiers, alignments.
static void read_properties(struct graft_vk_instance *instance, struct graft_vk_physical *physical,
                            const struct extensions *ext)
{
    struct graft_vk_caps *caps = &physical->found.caps;
    VkPhysicalDeviceVulkan11Properties v11 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES};
    VkPhysicalDeviceVulkan12Properties v12 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES};
    VkPhysicalDeviceSubgroupSizeControlProperties size = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES};
    VkPhysicalDeviceShaderIntegerDotProductProperties dot = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES};
    VkPhysicalDeviceTexelBufferAlignmentProperties texel = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TEXEL_BUFFER_ALIGNMENT_PROPERTIES};
    VkPhysicalDeviceExternalMemoryHostPropertiesEXT host = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT};
    VkPhysicalDeviceProperties2 core = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
    void **head = (void **)&core;
    bool v13 = physical->api >= VK_API_VERSION_1_3;
    chain(head, &v11);
    chain(head, &v12);
    if (v13 || ext->subgroup_size) {
        chain(head, &size);
    }
    if (v13 || ext->integer_dot) {
        chain(head, &dot);
    }
    if (v13 || ext->texel_alignment) {
        chain(head, &texel);
    }
    if (ext->host_memory) {
        chain(head, &host);
    }
    instance->GetPhysicalDeviceProperties2(physical->handle, &core);

    bool compute = v11.subgroupSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT;
    caps->subgroup_size = caps->subgroup_min = caps->subgroup_max = v11.subgroupSize;
    caps->subgroup_arithmetic = compute && (v11.subgroupSupportedOperations & VK_SUBGROUP_FEATURE_ARITHMETIC_BIT);
    caps->subgroup_shuffle = compute && (v11.subgroupSupportedOperations & VK_SUBGROUP_FEATURE_SHUFFLE_BIT);
    // Set to its final value by read_features, which knows whether the feature is there.
    caps->subgroup_size_control = size.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT;
    if (caps->subgroup_size_control) {
        caps->subgroup_min = size.minSubgroupSize;
        caps->subgroup_max = size.maxSubgroupSize;
    }
    caps->dot8_accelerated = dot.integerDotProduct4x8BitPackedSignedAccelerated;
    caps->max_allocation_bytes = v11.maxMemoryAllocationSize;
    memcpy(caps->device_uuid, v11.deviceUUID, sizeof caps->device_uuid);
    memcpy(caps->driver_uuid, v11.driverUUID, sizeof caps->driver_uuid);
    snprintf(caps->driver, sizeof caps->driver, "%.120s%s%.120s", v12.driverName, v12.driverInfo[0] ? " " : "", v12.driverInfo);
    if (ext->texel_alignment) { // with the extension's feature enabled
        uint64_t align = texel.uniformTexelBufferOffsetAlignmentBytes;
        caps->texel_alignment = texel.uniformTexelBufferOffsetSingleTexelAlignment && align > 16 ? 16 : align;
    }
    caps->import_alignment = host.minImportedHostPointerAlignment;
    caps->host_import = ext->host_memory && host.minImportedHostPointerAlignment > 0;
}

static void read_features(struct graft_vk_instance *instance, struct graft_vk_physical *physical, const struct extensions *ext)
{
    struct graft_vk_caps *caps = &physical->found.caps;
    struct graft_vk_features f;
    chain_features(&f, physical->api, ext);
    instance->GetPhysicalDeviceFeatures2(physical->handle, &f.core);
    bool v13 = physical->api >= VK_API_VERSION_1_3;
    bool size_control = v13 ? f.v13.subgroupSizeControl && f.v13.computeFullSubgroups
                            : f.subgroup_size.subgroupSizeControl && f.subgroup_size.computeFullSubgroups;
    if (!size_control) {
        caps->subgroup_size_control = false;
        caps->subgroup_min = caps->subgroup_max = caps->subgroup_size;
    }
    caps->dot8 = v13 ? f.v13.shaderIntegerDotProduct : f.integer_dot.shaderIntegerDotProduct;
    caps->dot8_accelerated = caps->dot8_accelerated && caps->dot8;
    caps->storage_16bit = f.v11.storageBuffer16BitAccess;
    caps->storage_8bit = f.v12.storageBuffer8BitAccess;
    caps->shader_f16 = f.v12.shaderFloat16;
    caps->shader_i16 = f.core.features.shaderInt16;
    caps->shader_i8 = f.v12.shaderInt8;
    caps->buffer_array_indexing = f.core.features.shaderStorageBufferArrayDynamicIndexing;
    caps->coopmat_khr = f.coopmat.cooperativeMatrix && f.v12.vulkanMemoryModel && f.v12.vulkanMemoryModelDeviceScope;
    caps->coopmat_nv2 = caps->coopmat_khr && f.coopmat2.cooperativeMatrixWorkgroupScope &&
                        f.coopmat2.cooperativeMatrixFlexibleDimensions && f.coopmat2.cooperativeMatrixConversions &&
                        f.coopmat2.cooperativeMatrixTensorAddressing && f.coopmat2.cooperativeMatrixBlockLoads;
    physical->ext_texel_alignment = ext->texel_alignment && f.texel_alignment.texelBufferAlignment;
    physical->ext_fault = ext->fault && f.fault.deviceFault;
    physical->ext_subgroup_size = !v13 && ext->subgroup_size;
    physical->ext_integer_dot = !v13 && ext->integer_dot;
    physical->ext_portability = ext->portability;
}

// The largest shape of f16 matrices with sums in f32 that a subgroup multiplies.
static void read_matrix_shapes(struct graft_vk_instance *instance, struct graft_vk_physical *physical)
{
    enum { MAX_SHAPES = 128 };
    struct graft_vk_caps *caps = &physical->found.caps;
    VkCooperativeMatrixPropertiesKHR list[MAX_SHAPES];
    uint32_t count = MAX_SHAPES;
    if (!caps->coopmat_khr || !instance->GetMatrixShapes) {
        return;
    }
    for (uint32_t i = 0; i < MAX_SHAPES; i++) {
        list[i] = (VkCooperativeMatrixPropertiesKHR){.sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR};
    }
    if (instance->GetMatrixShapes(physical->handle, &count, list) < VK_SUCCESS) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        const VkCooperativeMatrixPropertiesKHR *s = &list[i];
        bool wanted = s->AType == VK_COMPONENT_TYPE_FLOAT16_KHR && s->BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
                      s->CType == VK_COMPONENT_TYPE_FLOAT32_KHR && s->ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
                      s->scope == VK_SCOPE_SUBGROUP_KHR && !s->saturatingAccumulation;
        uint64_t size = (uint64_t)s->MSize * s->NSize * s->KSize;
        if (wanted && size > (uint64_t)caps->matrix_m * caps->matrix_n * caps->matrix_k) {
            caps->matrix_m = s->MSize;
            caps->matrix_n = s->NSize;
            caps->matrix_k = s->KSize;
        }
    }
}

// Fill everything about one device; found.usable and found.reason say whether graft can run on it.
static enum graft_status read_physical(struct graft_vk_instance *instance, VkPhysicalDevice handle,
                                       struct graft_vk_physical *out)
{
    struct graft_vk_caps *caps = &out->found.caps;
    out->handle = handle;
    VkPhysicalDeviceProperties core;
    instance->GetPhysicalDeviceProperties(handle, &core);
    uint32_t loader = volkGetInstanceVersion();
    out->api = core.apiVersion < loader ? core.apiVersion : loader;
    out->timestamp_period = (double)core.limits.timestampPeriod;
    caps->kind = kind_of(core.deviceType);
    caps->max_shared_bytes = core.limits.maxComputeSharedMemorySize;
    caps->max_invocations = core.limits.maxComputeWorkGroupInvocations;
    memcpy(caps->max_group_count, core.limits.maxComputeWorkGroupCount, sizeof caps->max_group_count);
    caps->max_texel_elements = core.limits.maxTexelBufferElements;
    caps->max_uniform_bytes = core.limits.maxUniformBufferRange;
    caps->max_storage_bytes = core.limits.maxStorageBufferRange;
    caps->storage_alignment = core.limits.minStorageBufferOffsetAlignment;
    caps->uniform_alignment = core.limits.minUniformBufferOffsetAlignment;
    caps->vendor_id = core.vendorID;
    caps->device_id = core.deviceID;
    caps->driver_version = core.driverVersion;
    memcpy(caps->pipeline_cache_uuid, core.pipelineCacheUUID, sizeof caps->pipeline_cache_uuid);
    snprintf(caps->name, sizeof caps->name, "%s", core.deviceName);
    snprintf(caps->api_version, sizeof caps->api_version, "%u.%u.%u", VK_API_VERSION_MAJOR(core.apiVersion) % 100,
             VK_API_VERSION_MINOR(core.apiVersion), VK_API_VERSION_PATCH(core.apiVersion));
    instance->GetPhysicalDeviceMemoryProperties(handle, &out->memory);
    read_heaps(&out->memory, caps);
    bool family = pick_family(instance, out);
    caps->timestamps = out->timestamp_bits > 0 && core.limits.timestampPeriod > 0;

    char *reason = out->found.reason;
    size_t room = sizeof out->found.reason;
    if (out->api < VK_API_VERSION_1_2) {
        snprintf(reason, room, "has Vulkan %s, 1.2 or newer is needed", caps->api_version);
        return GRAFT_OK;
    }
    struct extensions ext;
    GRAFT_TRY(read_extensions(instance, handle, &ext));
    read_properties(instance, out, &ext);
    read_features(instance, out, &ext);
    read_matrix_shapes(instance, out);
    if (!out->ext_texel_alignment) {
        caps->texel_alignment = core.limits.minTexelBufferOffsetAlignment;
    }
    if (!family) {
        snprintf(reason, room, "has no queue for compute");
    } else if (caps->max_shared_bytes < MIN_SHARED_BYTES || caps->max_invocations < MIN_INVOCATIONS) {
        snprintf(reason, room, "workgroups have %u bytes of shared memory and %u invocations, %d and %d are needed",
                 caps->max_shared_bytes, caps->max_invocations, MIN_SHARED_BYTES, MIN_INVOCATIONS);
    } else {
        out->found.usable = true;
        if (caps->kind == GRAFT_VK_SOFTWARE) {
            snprintf(reason, room, "runs on the CPU");
        }
    }
    return GRAFT_OK;
}

bool graft_vk_found_before(const struct graft_vk_found *a, const struct graft_vk_found *b)
{
    if (a->usable != b->usable) {
        return a->usable;
    }
    if (a->caps.kind != b->caps.kind) {
        return a->caps.kind < b->caps.kind;
    }
    return a->caps.heap_bytes > b->caps.heap_bytes;
}

enum graft_status graft_vk_physical_list(struct graft_vk_instance *instance, struct graft_vk_physical **out, uint32_t *count)
{
    VkPhysicalDevice handles[MAX_DEVICES];
    uint32_t found = MAX_DEVICES;
    *out = NULL;
    *count = 0;
    VkResult result = instance->EnumeratePhysicalDevices(instance->handle, &found, handles);
    if (result != VK_SUCCESS && result != VK_INCOMPLETE) {
        found = 0;
    }
    if (found == 0) {
        return graft_fail(GRAFT_E_DEVICE, "%s (%s)", graft_no_vulkan_device, graft_vk_result_name(result));
    }
    struct graft_vk_physical *list;
    GRAFT_TRY(GRAFT_NEW(instance->ctx, GRAFT_MEM_HOST, &list, found, "the list of devices"));
    for (uint32_t i = 0; i < found; i++) {
        struct graft_vk_physical next = {.handle = VK_NULL_HANDLE};
        enum graft_status status = read_physical(instance, handles[i], &next);
        if (status != GRAFT_OK) {
            GRAFT_FREE(instance->ctx, &list);
            return status;
        }
        uint32_t at = i;
        while (at > 0 && graft_vk_found_before(&next.found, &list[at - 1].found)) {
            list[at] = list[at - 1];
            at--;
        }
        list[at] = next;
    }
    *out = list;
    *count = found;
    return GRAFT_OK;
}

void graft_vk_features_wanted(const struct graft_vk_instance *instance, const struct graft_vk_physical *physical,
                              struct graft_vk_features *features, const char *extensions[GRAFT_VK_MAX_EXTENSIONS],
                              uint32_t *n_extensions)
{
    const struct graft_vk_caps *caps = &physical->found.caps;
    struct extensions ext = {
        .host_memory = caps->host_import,
        .subgroup_size = physical->ext_subgroup_size,
        .integer_dot = physical->ext_integer_dot,
        .texel_alignment = physical->ext_texel_alignment,
        .coopmat = caps->coopmat_khr,
        .coopmat2 = caps->coopmat_nv2,
        .fault = physical->ext_fault,
        .portability = physical->ext_portability,
    };
    const struct {
        const char *name;
        bool wanted;
    } names[] = {
        {VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME, ext.host_memory},
        {VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME, ext.subgroup_size},
        {VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME, ext.integer_dot},
        {VK_EXT_TEXEL_BUFFER_ALIGNMENT_EXTENSION_NAME, ext.texel_alignment},
        {VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME, ext.coopmat},
        {VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME, ext.coopmat2},
        {VK_EXT_DEVICE_FAULT_EXTENSION_NAME, ext.fault},
        {"VK_KHR_portability_subset", ext.portability},
    };
    *n_extensions = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].wanted) {
            extensions[(*n_extensions)++] = names[i].name;
        }
    }
    struct graft_vk_features has;
    chain_features(&has, physical->api, &ext);
    instance->GetPhysicalDeviceFeatures2(physical->handle, &has.core);
    chain_features(features, physical->api, &ext);
    features->core.features.shaderInt16 = has.core.features.shaderInt16;
    features->core.features.shaderInt64 = has.core.features.shaderInt64;
    features->core.features.shaderStorageBufferArrayDynamicIndexing = has.core.features.shaderStorageBufferArrayDynamicIndexing;
    features->v11.storageBuffer16BitAccess = has.v11.storageBuffer16BitAccess;
    features->v11.uniformAndStorageBuffer16BitAccess = has.v11.uniformAndStorageBuffer16BitAccess;
    features->v12.storageBuffer8BitAccess = has.v12.storageBuffer8BitAccess;
    features->v12.uniformAndStorageBuffer8BitAccess = has.v12.uniformAndStorageBuffer8BitAccess;
    features->v12.shaderFloat16 = has.v12.shaderFloat16;
    features->v12.shaderInt8 = has.v12.shaderInt8;
    features->v12.scalarBlockLayout = has.v12.scalarBlockLayout;
    features->v12.uniformBufferStandardLayout = has.v12.uniformBufferStandardLayout;
    // With the memory model on, device scope (attention's atomics) must be on as well.
    features->v12.vulkanMemoryModel = has.v12.vulkanMemoryModel && has.v12.vulkanMemoryModelDeviceScope;
    features->v12.vulkanMemoryModelDeviceScope = features->v12.vulkanMemoryModel;
    features->v12.timelineSemaphore = VK_TRUE; // every device of Vulkan 1.2 has them
    features->v12.shaderSubgroupExtendedTypes = has.v12.shaderSubgroupExtendedTypes;
    features->v13.subgroupSizeControl = has.v13.subgroupSizeControl;
    features->v13.computeFullSubgroups = has.v13.computeFullSubgroups;
    features->v13.shaderIntegerDotProduct = has.v13.shaderIntegerDotProduct;
    features->v13.maintenance4 = has.v13.maintenance4;
    features->subgroup_size.subgroupSizeControl = has.subgroup_size.subgroupSizeControl;
    features->subgroup_size.computeFullSubgroups = has.subgroup_size.computeFullSubgroups;
    features->integer_dot.shaderIntegerDotProduct = has.integer_dot.shaderIntegerDotProduct;
    features->texel_alignment.texelBufferAlignment = has.texel_alignment.texelBufferAlignment;
    features->fault.deviceFault = has.fault.deviceFault;
    features->coopmat.cooperativeMatrix = has.coopmat.cooperativeMatrix;
    VkPhysicalDeviceCooperativeMatrix2FeaturesNV *to = &features->coopmat2;
    to->cooperativeMatrixWorkgroupScope = has.coopmat2.cooperativeMatrixWorkgroupScope;
    to->cooperativeMatrixFlexibleDimensions = has.coopmat2.cooperativeMatrixFlexibleDimensions;
    to->cooperativeMatrixReductions = has.coopmat2.cooperativeMatrixReductions;
    to->cooperativeMatrixConversions = has.coopmat2.cooperativeMatrixConversions;
    to->cooperativeMatrixPerElementOperations = has.coopmat2.cooperativeMatrixPerElementOperations;
    to->cooperativeMatrixTensorAddressing = has.coopmat2.cooperativeMatrixTensorAddressing;
    to->cooperativeMatrixBlockLoads = has.coopmat2.cooperativeMatrixBlockLoads;
}

// True if `part` occurs in `text`, ASCII letters compared without case.
static bool contains(const char *text, const char *part)
{
    size_t length = strlen(part);
    for (; *text; text++) {
        size_t i = 0;
        while (i < length && text[i] && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i])) {
            i++;
        }
        if (i == length) {
            return true;
        }
    }
    return length == 0;
}

// "0: NAME (why not); 1: NAME"
static void describe(const struct graft_vk_found *const *found, uint32_t count, char *text, size_t room)
{
    size_t used = 0;
    text[0] = 0;
    for (uint32_t i = 0; i < count && used + 1 < room; i++) {
        bool bad = !found[i]->usable;
        int wrote = snprintf(text + used, room - used, "%s%u: %s%s%s%s", i ? "; " : "", i, found[i]->caps.name, bad ? " (" : "",
                             bad ? found[i]->reason : "", bad ? ")" : "");
        used += wrote > 0 ? (size_t)wrote : 0;
    }
}

enum graft_status graft_vk_select(const struct graft_vk_found *const *found, uint32_t count, const char *select,
                                  uint32_t *index)
{
    char list[768];
    describe(found, count, list, sizeof list);
    if (!select || !select[0] || strcmp(select, "auto") == 0) {
        if (count == 0 || !found[0]->usable) {
            return graft_fail(GRAFT_E_DEVICE, "no usable Vulkan device: %s", list);
        }
        *index = 0;
        return GRAFT_OK;
    }
    uint32_t at = count;
    if (strspn(select, "0123456789") == strlen(select)) {
        unsigned long long number = strlen(select) < 6 ? strtoull(select, NULL, 10) : UINT32_MAX;
        if (number >= count) {
            return graft_fail(GRAFT_E_DEVICE, "there is no Vulkan device %.32s; there are: %s", select, list);
        }
        at = (uint32_t)number;
    } else {
        for (uint32_t i = 0; i < count; i++) { // a usable one first: the list has them in front
            if (contains(found[i]->caps.name, select)) {
                at = i;
                break;
            }
        }
        if (at == count) {
            return graft_fail(GRAFT_E_DEVICE, "no Vulkan device has \"%.64s\" in its name; there are: %s", select, list);
        }
    }
    if (!found[at]->usable) {
        return graft_fail(GRAFT_E_DEVICE, "the Vulkan device %s %s", found[at]->caps.name, found[at]->reason);
    }
    *index = at;
    return GRAFT_OK;
}

enum graft_status graft_vk_list(struct graft_ctx *ctx, struct graft_vk_found **out, uint32_t *count)
{
    *out = NULL;
    *count = 0;
    struct graft_vk_instance instance;
    GRAFT_TRY(graft_vk_instance_open(&instance, ctx, false, NULL));
    struct graft_vk_physical *list = NULL;
    uint32_t n;
    enum graft_status status;
    struct graft_vk_found *found = NULL;
    GRAFT_TRY_OUT(graft_vk_physical_list(&instance, &list, &n), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &found, n, "the list of devices"), status, out);
    for (uint32_t i = 0; i < n; i++) {
        found[i] = list[i].found;
    }
    *out = found;
    *count = n;
out:
    GRAFT_FREE(ctx, &list);
    graft_vk_instance_close(&instance);
    return status;
}
