// SPDX-License-Identifier: Apache-2.0
// What the files of runtime/vk share. The only header that includes Vulkan.
#ifndef GRAFT_RUNTIME_VK_INTERNAL_H
#define GRAFT_RUNTIME_VK_INTERNAL_H

#include <stdatomic.h>
#include <volk.h>

#include "platform/bytes.h"
#include "runtime/vk/vk.h"

// Newer than the headers of Debian 12: declared here when they are missing. Values of the Vulkan registry.
#ifndef VK_KHR_cooperative_matrix
typedef struct VkPhysicalDeviceCooperativeMatrixFeaturesKHR {
    VkStructureType sType;
    void *pNext;
    VkBool32 cooperativeMatrix;
    VkBool32 cooperativeMatrixRobustBufferAccess;
} VkPhysicalDeviceCooperativeMatrixFeaturesKHR;
#define VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR ((VkStructureType)1000506000)
#define VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME                          "VK_KHR_cooperative_matrix"
typedef enum VkComponentTypeKHR { VK_COMPONENT_TYPE_FLOAT16_KHR = 0, VK_COMPONENT_TYPE_FLOAT32_KHR = 1 } VkComponentTypeKHR;
typedef enum VkScopeKHR { VK_SCOPE_SUBGROUP_KHR = 3 } VkScopeKHR;
typedef struct VkCooperativeMatrixPropertiesKHR {
    VkStructureType sType;
    void *pNext;
    uint32_t MSize, NSize, KSize;
    VkComponentTypeKHR AType, BType, CType, ResultType;
    VkBool32 saturatingAccumulation;
    VkScopeKHR scope;
} VkCooperativeMatrixPropertiesKHR;
#define VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR ((VkStructureType)1000506001)
typedef VkResult(VKAPI_PTR *PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)(VkPhysicalDevice, uint32_t *,
                                                                                   VkCooperativeMatrixPropertiesKHR *);
#endif
#ifndef VK_NV_cooperative_matrix2
typedef struct VkPhysicalDeviceCooperativeMatrix2FeaturesNV {
    VkStructureType sType;
    void *pNext;
    VkBool32 cooperativeMatrixWorkgroupScope;
    VkBool32 cooperativeMatrixFlexibleDimensions;
    VkBool32 cooperativeMatrixReductions;
    VkBool32 cooperativeMatrixConversions;
    VkBool32 cooperativeMatrixPerElementOperations;
    VkBool32 cooperativeMatrixTensorAddressing;
    VkBool32 cooperativeMatrixBlockLoads;
} VkPhysicalDeviceCooperativeMatrix2FeaturesNV;
#define VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV ((VkStructureType)1000593000)
#define VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME                          "VK_NV_cooperative_matrix2"
#endif

// ---- instance.c ----

// Instance functions are kept per instance, so that two devices with different layers can be open at once.
#define GRAFT_VK_INSTANCE_FUNCTIONS(X)                                                                                         \
    X(DestroyInstance)                                                                                                         \
    X(EnumeratePhysicalDevices)                                                                                                \
    X(EnumerateDeviceExtensionProperties)                                                                                      \
    X(GetPhysicalDeviceProperties)                                                                                             \
    X(GetPhysicalDeviceProperties2)                                                                                            \
    X(GetPhysicalDeviceFeatures2)                                                                                              \
    X(GetPhysicalDeviceMemoryProperties)                                                                                       \
    X(GetPhysicalDeviceQueueFamilyProperties)                                                                                  \
    X(CreateDevice)
struct graft_vk_instance {
    struct graft_ctx *ctx;
    VkInstance handle;
    VkDebugUtilsMessengerEXT messenger;
    PFN_vkCreateDebugUtilsMessengerEXT CreateMessenger; // NULL without validation
    PFN_vkDestroyDebugUtilsMessengerEXT DestroyMessenger;
    PFN_vkSetDebugUtilsObjectNameEXT SetName;
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR GetMatrixShapes; // NULL: no driver has it
    atomic_uint_fast64_t messages;
#define GRAFT_VK_INSTANCE_FIELD(name) PFN_vk##name name;
    GRAFT_VK_INSTANCE_FUNCTIONS(GRAFT_VK_INSTANCE_FIELD)
#undef GRAFT_VK_INSTANCE_FIELD
};

// Name of a Vulkan result ("VK_ERROR_DEVICE_LOST").
const char *graft_vk_result_name(VkResult result);
// Create the instance; *instance is at its final address (the messenger points to it). vk may be NULL: no faults then.
// Errors: GRAFT_E_DEVICE with what to install. On failure *instance is closed.
GRAFT_MUST_CHECK enum graft_status graft_vk_instance_open(struct graft_vk_instance *instance, struct graft_ctx *ctx,
                                                          bool validation, struct graft_vk *vk);
void graft_vk_instance_close(struct graft_vk_instance *instance);

// ---- caps.c ----

enum { GRAFT_VK_MAX_EXTENSIONS = 16 };
// One physical device with all that opening it needs to know.
struct graft_vk_physical {
    struct graft_vk_found found;
    VkPhysicalDevice handle;
    uint32_t family;         // queue family with compute
    uint32_t copy_family, copy_queue; // family and number of the queue that copies: the one that computes if there is no other
    uint32_t timestamp_bits; // of that family
    double timestamp_period; // nanoseconds of one tick
    VkPhysicalDeviceMemoryProperties memory;
    uint32_t api; // usable version: of device and instance, the lower
    bool ext_fault, ext_texel_alignment, ext_subgroup_size, ext_integer_dot, ext_portability;
};
// The feature structures to ask for or to enable, chained. Must not be moved once chained.
struct graft_vk_features {
    VkPhysicalDeviceFeatures2 core;
    VkPhysicalDeviceVulkan11Features v11;
    VkPhysicalDeviceVulkan12Features v12;
    VkPhysicalDeviceVulkan13Features v13;
    VkPhysicalDeviceSubgroupSizeControlFeatures subgroup_size;
    VkPhysicalDeviceShaderIntegerDotProductFeatures integer_dot;
    VkPhysicalDeviceTexelBufferAlignmentFeaturesEXT texel_alignment;
    VkPhysicalDeviceFaultFeaturesEXT fault;
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR coopmat;
    VkPhysicalDeviceCooperativeMatrix2FeaturesNV coopmat2;
};
// Every device of the instance, in graft_vk_list's order. *out from graft_alloc.
GRAFT_MUST_CHECK enum graft_status graft_vk_physical_list(struct graft_vk_instance *instance, struct graft_vk_physical **out,
                                                          uint32_t *count);
// Fill features with what the device has of what graft uses, ready for vkCreateDevice, and the extensions to enable with it.
void graft_vk_features_wanted(const struct graft_vk_instance *instance, const struct graft_vk_physical *physical,
                              struct graft_vk_features *features, const char *extensions[GRAFT_VK_MAX_EXTENSIONS],
                              uint32_t *n_extensions);
// True if a comes before b in the list. A pure function.
bool graft_vk_found_before(const struct graft_vk_found *a, const struct graft_vk_found *b);
// Index of the device that `select` means among `count`. A pure function. Errors: GRAFT_E_DEVICE with names or reasons.
GRAFT_MUST_CHECK enum graft_status graft_vk_select(const struct graft_vk_found *const *found, uint32_t count,
                                                   const char *select, uint32_t *index);

// ---- device ----

struct graft_vk_fence {
    VkFence handle;
    bool pending; // submitted and not yet seen finished
};

struct graft_vk_ring;
struct graft_vk_stream;

struct graft_vk {
    struct graft_ctx *ctx;
    struct graft_vk_instance instance;
    struct VolkDeviceTable fn;
    struct graft_vk_physical physical;
    struct graft_vk_caps caps; // physical's, less what the options switch off
    VkDevice device;
    VkQueue queue, copy_queue; // the same if the device has but one
    uint32_t copy_family;
    struct graft_mutex *submit_lock; // of the queues, once streams' threads submit, too
    struct graft_vk_stream *streams; // list
    VkCommandPool pool;
    VkCommandBuffer once;                    // short commands of this layer itself
    struct graft_vk_fence once_fence, fence; // of once and of graft_vk_submit
    bool mapped_device;                      // device-local buffers are mapped where possible
    _Atomic bool lost;                       // every further call fails
    bool abandoned;                          // the device never answered: its objects are left to the driver
    uint64_t timeout_ns;
    struct graft_vk_ring *ring;
    struct graft_vk_pipeline *pipelines; // list
    bool hold_pipelines;
    const char *spoil; // NULL, or a part of the names of pipelines whose dispatches are not recorded
    VkPipelineCache cache;
    char *cache_path; // NULL: nothing is stored
    uint8_t cache_key[32];
    uint8_t cache_digest[32]; // of the content last read or written
    uint64_t live_buffers, live_commands;
    struct graft_vk_buffer_impl *readbacks; // buffers whose host caches need invalidating
    struct graft_vk_counters counters;
    atomic_uint_fast64_t stream_submissions; // those of streams' threads, not in counters
    atomic_uint_fast64_t fault_left[GRAFT_VK_FAULT_WAIT + 1];
};

// ---- faults and errors: device.c ----

// True if an armed fault of this kind strikes now.
bool graft_vk_faulted(struct graft_vk *vk, enum graft_vk_fault kind);
VkResult graft_vk_fault_result(enum graft_vk_fault kind);
#define GRAFT_VK_CALL(vk, kind, call) (graft_vk_faulted((vk), (kind)) ? graft_vk_fault_result(kind) : (call))
// Turn a failed result into a status with a sentence; VK_ERROR_DEVICE_LOST marks the device as lost.
enum graft_status graft_vk_fail(struct graft_vk *vk, VkResult result, const char *what);
// GRAFT_E_DEVICE_LOST once the device was lost.
GRAFT_MUST_CHECK enum graft_status graft_vk_alive(const struct graft_vk *vk);
// Give an object a name in validation messages.
void graft_vk_name(struct graft_vk *vk, VkObjectType type, uint64_t handle, const char *name);

// ---- memory.c ----

#define GRAFT_VK_STAGING ((enum graft_vk_memory)(GRAFT_VK_SLOT + 1)) // coherent host memory, not in the device's own

struct graft_vk_buffer_impl {
    struct graft_vk_buffer pub; // first
    VkBuffer handle;
    VkDeviceMemory memory;
    uint64_t reserved; // in the ledger
    bool coherent;
    struct graft_vk_buffer_impl *next, *previous; // in vk->readbacks
};
static inline struct graft_vk_buffer_impl *graft_vk_impl(const struct graft_vk_buffer *buffer)
{
    return buffer->native;
}
// Memory types fit for `where`, best first, at most 32; a pure function.
uint32_t graft_vk_memory_types(const VkPhysicalDeviceMemoryProperties *memory, uint32_t allowed_bits,
                               enum graft_vk_memory where, bool prefer_mapped, uint32_t out[32]);
// Before the host reads: throw away stale host caches of readback buffers that are not coherent.
GRAFT_MUST_CHECK enum graft_status graft_vk_invalidate(struct graft_vk *vk);

// ---- upload.c ----

// Free the staging ring; its copies must have finished.
void graft_vk_ring_destroy(struct graft_vk *vk);
// The ring's two fences, for graft_vk_quiesce; NULL without a ring.
struct graft_vk_fence *graft_vk_ring_fence(struct graft_vk *vk, uint32_t half);

// ---- queue.c ----

// What a submission waits for and what it signals: a timeline semaphore and its value each; VK_NULL_HANDLE = nothing.
struct graft_vk_sync {
    VkSemaphore wait, signal;
    uint64_t wait_value, signal_value;
};
// Submit command buffers with a fence that is not pending.
GRAFT_MUST_CHECK enum graft_status graft_vk_queue_submit(struct graft_vk *vk, struct graft_vk_fence *fence,
                                                         const VkCommandBuffer *buffers, uint32_t count);
// Submit to any queue of the device, with semaphores instead of a fence. The caller counts. Thread-safety: safe once
// vk->submit_lock is there.
GRAFT_MUST_CHECK enum graft_status graft_vk_queue_submit_sync(struct graft_vk *vk, VkQueue queue,
                                                              const VkCommandBuffer *buffers, uint32_t count,
                                                              const struct graft_vk_sync *sync);
// Wait for a pending fence (at once if it is not), at most the time-out. Errors: GRAFT_E_DEVICE_LOST.
GRAFT_MUST_CHECK enum graft_status graft_vk_fence_wait(struct graft_vk *vk, struct graft_vk_fence *fence, const char *what);
// Before objects are destroyed: wait until nothing is in flight, at most the time-out or 10 s; if the device does not answer
// even then it is abandoned: nothing of it is destroyed. Never fails.
void graft_vk_quiesce(struct graft_vk *vk);
// The device does not answer: it counts as lost, and its objects are left to the driver.
void graft_vk_abandon(struct graft_vk *vk);
// GRAFT_E_DEVICE_LOST, and the device counts as lost: a wait reached the time-out.
enum graft_status graft_vk_timed_out(struct graft_vk *vk, const char *what);
// Begin and finish (submit, wait) short work of this layer in vk->once.
GRAFT_MUST_CHECK enum graft_status graft_vk_once_begin(struct graft_vk *vk);
GRAFT_MUST_CHECK enum graft_status graft_vk_once_finish(struct graft_vk *vk, const char *what);
// One global memory barrier.
void graft_vk_barrier(struct graft_vk *vk, VkCommandBuffer commands, VkPipelineStageFlags from, VkPipelineStageFlags to);

// ---- record.c ----

// As graft_vk_submit, behind what is in flight and with semaphores. count may be 0.
GRAFT_MUST_CHECK enum graft_status graft_vk_submit_sync(struct graft_vk *vk, struct graft_vk_commands *const *commands,
                                                        uint32_t count, const struct graft_vk_sync *sync);

// ---- stream.c ----

// For graft_vk_quiesce: wait for all computing that a stream's semaphore stands for. VK_TIMEOUT, VK_ERROR_DEVICE_LOST or
// VK_SUCCESS.
VkResult graft_vk_streams_finish(struct graft_vk *vk, uint64_t patience_ns);

// ---- cache.c ----

// Create vk->cache, from the file if there is a sound one. vk->cache_path and vk->cache_key are set.
GRAFT_MUST_CHECK enum graft_status graft_vk_cache_open(struct graft_vk *vk, const char *cache_key);
// Store what changed; failures are logged only. Frees everything.
void graft_vk_cache_close(struct graft_vk *vk);

// ---- hazard.c ----

// Byte ranges touched since the last barriers. Ranges before `mark` lie behind a compute-only barrier: dispatches need not
// look at them, copies must.
struct graft_vk_touch {
    const void *buffer; // only compared
    uint64_t begin, end;
    bool write;
};
struct graft_vk_hazards {
    struct graft_ctx *ctx;
    struct graft_vk_touch *touches;
    uint32_t count, capacity, mark;
    bool transfer; // a copy stands behind the mark
};
enum graft_vk_barrier_kind {
    GRAFT_VK_BARRIER_NONE,
    GRAFT_VK_BARRIER_COMPUTE,       // compute -> compute
    GRAFT_VK_BARRIER_FROM_TRANSFER, // compute, transfer -> compute
    GRAFT_VK_BARRIER_FULL           // compute, transfer -> compute, transfer
};
// Decide which barrier must stand in front of an operation that touches the given ranges, and note them.
// Errors: GRAFT_E_MEMORY, GRAFT_E_BUDGET; the tracker is unchanged then.
GRAFT_MUST_CHECK enum graft_status graft_vk_hazards_step(struct graft_vk_hazards *hazards, const struct graft_vk_touch *touches,
                                                         uint32_t count, bool transfer, enum graft_vk_barrier_kind *barrier);
// Forget everything (memory is kept).
void graft_vk_hazards_reset(struct graft_vk_hazards *hazards);
void graft_vk_hazards_free(struct graft_vk_hazards *hazards);
// Record the barrier; returns how many were recorded (0 or 1).
uint32_t graft_vk_hazards_record(struct graft_vk *vk, VkCommandBuffer commands, enum graft_vk_barrier_kind barrier);

// ---- pipeline.c ----

struct graft_vk_pipeline {
    struct graft_vk_pipeline *next;
    uint64_t references;
    uint8_t key[32]; // SHA-256 of everything that makes it
    VkShaderModule module;
    VkDescriptorSetLayout set_layout;
    VkPipelineLayout layout;
    VkPipeline handle;
    uint32_t n_bindings, push_bytes;
    enum graft_vk_bind_kind kinds[GRAFT_VK_MAX_BINDINGS];
    enum graft_vk_access access[GRAFT_VK_MAX_BINDINGS];
    char name[64];
};
VkDescriptorType graft_vk_descriptor_type(enum graft_vk_bind_kind kind);

#endif
