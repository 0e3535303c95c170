// SPDX-License-Identifier: Apache-2.0
// A Vulkan layer for tests: it adds a queue family for transfers alone to a device that has none, as copy engines of GPUs are.
// Beneath, what is submitted to it goes to the device's first queue. Beneath the validation layer, which then sees a device
// with two families. Source: Vulkan-Loader, docs/LoaderLayerInterface.md.
#include <pthread.h>
#include <string.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#define EXPORTED __attribute__((visibility("default")))

enum { MAX_FAMILIES = 8 };

static PFN_vkGetInstanceProcAddr next_instance;
static PFN_vkGetDeviceProcAddr next_device;
static VkInstance the_instance;
static struct {
    PFN_vkGetDeviceQueue queue;
    PFN_vkQueueSubmit submit;
    PFN_vkCreateCommandPool pool;
    PFN_vkCreateBuffer buffer;
} next;
static uint32_t own_family; // the added one: behind the device's own
static VkQueue real;        // family 0, queue 0
static struct queue {
    void *dispatch;
} own_queue; // a dispatchable object begins with the loader's table
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint32_t count_families(VkPhysicalDevice physical)
{
    uint32_t count = 0;
    PFN_vkGetPhysicalDeviceQueueFamilyProperties get =
        (PFN_vkGetPhysicalDeviceQueueFamilyProperties)next_instance(the_instance, "vkGetPhysicalDeviceQueueFamilyProperties");
    get(physical, &count, NULL);
    return count;
}

static VKAPI_ATTR void VKAPI_CALL families(VkPhysicalDevice physical, uint32_t *count, VkQueueFamilyProperties *out)
{
    uint32_t had = count_families(physical);
    if (!out) {
        *count = had + 1;
        return;
    }
    uint32_t room = *count;
    PFN_vkGetPhysicalDeviceQueueFamilyProperties get =
        (PFN_vkGetPhysicalDeviceQueueFamilyProperties)next_instance(the_instance, "vkGetPhysicalDeviceQueueFamilyProperties");
    get(physical, count, out);
    if (room > had) {
        out[had] = (VkQueueFamilyProperties){
            .queueFlags = VK_QUEUE_TRANSFER_BIT, .queueCount = 1, .minImageTransferGranularity = {1, 1, 1}};
        *count = had + 1;
    }
}

static VKAPI_ATTR void VKAPI_CALL families2(VkPhysicalDevice physical, uint32_t *count, VkQueueFamilyProperties2 *out)
{
    VkQueueFamilyProperties plain[MAX_FAMILIES];
    uint32_t room = out && *count < MAX_FAMILIES ? *count : MAX_FAMILIES;
    families(physical, &room, out ? plain : NULL);
    *count = room;
    for (uint32_t i = 0; out && i < room; i++) {
        out[i].queueFamilyProperties = plain[i];
    }
}

static VKAPI_ATTR void VKAPI_CALL get_queue(VkDevice device, uint32_t family, uint32_t index, VkQueue *out)
{
    if (family == own_family) {
        *out = (VkQueue)&own_queue;
    } else {
        next.queue(device, family, index, out);
    }
}

static VKAPI_ATTR VkResult VKAPI_CALL submit(VkQueue queue, uint32_t count, const VkSubmitInfo *infos, VkFence fence)
{
    pthread_mutex_lock(&lock); // two queues above, one beneath
    VkResult result = next.submit(queue == (VkQueue)&own_queue ? real : queue, count, infos, fence);
    pthread_mutex_unlock(&lock);
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_pool(VkDevice device, const VkCommandPoolCreateInfo *info,
                                                  const VkAllocationCallbacks *allocator, VkCommandPool *out)
{
    VkCommandPoolCreateInfo own = *info;
    own.queueFamilyIndex = info->queueFamilyIndex == own_family ? 0 : info->queueFamilyIndex;
    return next.pool(device, &own, allocator, out);
}

static VKAPI_ATTR VkResult VKAPI_CALL create_buffer(VkDevice device, const VkBufferCreateInfo *info,
                                                    const VkAllocationCallbacks *allocator, VkBuffer *out)
{
    VkBufferCreateInfo own = *info;
    own.sharingMode = VK_SHARING_MODE_EXCLUSIVE;
    own.queueFamilyIndexCount = 0;
    return next.buffer(device, &own, allocator, out);
}

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info, const VkAllocationCallbacks *allocator,
                                                      VkInstance *out)
{
    VkLayerInstanceCreateInfo *link = (void *)(uintptr_t)info->pNext;
    while (link->sType != VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO || link->function != VK_LAYER_LINK_INFO) {
        link = (void *)(uintptr_t)link->pNext;
    }
    next_instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    VkResult result = ((PFN_vkCreateInstance)next_instance(NULL, "vkCreateInstance"))(info, allocator, out);
    the_instance = *out;
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                                                    const VkAllocationCallbacks *allocator, VkDevice *out)
{
    VkLayerDeviceCreateInfo *link = (void *)(uintptr_t)info->pNext;
    while (link->sType != VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO || link->function != VK_LAYER_LINK_INFO) {
        link = (void *)(uintptr_t)link->pNext;
    }
    PFN_vkGetInstanceProcAddr instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    next_device = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    VkDeviceQueueCreateInfo queues[MAX_FAMILIES];
    VkDeviceCreateInfo own = *info;
    own_family = count_families(physical);
    own.queueCreateInfoCount = 0;
    own.pQueueCreateInfos = queues;
    for (uint32_t i = 0; i < info->queueCreateInfoCount && i < MAX_FAMILIES; i++) {
        if (info->pQueueCreateInfos[i].queueFamilyIndex != own_family) {
            queues[own.queueCreateInfoCount++] = info->pQueueCreateInfos[i];
        }
    }
    VkResult result = ((PFN_vkCreateDevice)instance(NULL, "vkCreateDevice"))(physical, &own, allocator, out);
    if (result == VK_SUCCESS) {
        next.queue = (PFN_vkGetDeviceQueue)next_device(*out, "vkGetDeviceQueue");
        next.submit = (PFN_vkQueueSubmit)next_device(*out, "vkQueueSubmit");
        next.pool = (PFN_vkCreateCommandPool)next_device(*out, "vkCreateCommandPool");
        next.buffer = (PFN_vkCreateBuffer)next_device(*out, "vkCreateBuffer");
        next.queue(*out, 0, 0, &real);
        memcpy(&own_queue, *out, sizeof own_queue);
    }
    return result;
}

static PFN_vkVoidFunction own_function(const char *name)
{
    static const struct {
        const char *name;
        PFN_vkVoidFunction function;
    } list[] = {
        {"vkCreateInstance", (PFN_vkVoidFunction)create_instance},
        {"vkCreateDevice", (PFN_vkVoidFunction)create_device},
        {"vkGetPhysicalDeviceQueueFamilyProperties", (PFN_vkVoidFunction)families},
        {"vkGetPhysicalDeviceQueueFamilyProperties2", (PFN_vkVoidFunction)families2},
        {"vkGetPhysicalDeviceQueueFamilyProperties2KHR", (PFN_vkVoidFunction)families2},
        {"vkGetDeviceQueue", (PFN_vkVoidFunction)get_queue},
        {"vkQueueSubmit", (PFN_vkVoidFunction)submit},
        {"vkCreateCommandPool", (PFN_vkVoidFunction)create_pool},
        {"vkCreateBuffer", (PFN_vkVoidFunction)create_buffer},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (strcmp(list[i].name, name) == 0) {
            return list[i].function;
        }
    }
    return NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_proc(VkDevice device, const char *name)
{
    PFN_vkVoidFunction own = strcmp(name, "vkGetDeviceProcAddr") == 0 ? (PFN_vkVoidFunction)device_proc : own_function(name);
    return own ? own : next_device(device, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_proc(VkInstance instance, const char *name)
{
    PFN_vkVoidFunction own = strcmp(name, "vkGetInstanceProcAddr") == 0 ? (PFN_vkVoidFunction)instance_proc
                             : strcmp(name, "vkGetDeviceProcAddr") == 0 ? (PFN_vkVoidFunction)device_proc
                                                                        : own_function(name);
    return own ? own : next_instance(instance, name);
}

EXPORTED VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *given)
{
    given->loaderLayerInterfaceVersion = 2;
    given->pfnGetInstanceProcAddr = instance_proc;
    given->pfnGetDeviceProcAddr = device_proc;
    given->pfnGetPhysicalDeviceProcAddr = NULL;
    return VK_SUCCESS;
}
