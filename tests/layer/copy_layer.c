// SPDX-License-Identifier: Apache-2.0
// A Vulkan layer for tests: it adds a queue family for transfers alone to a device that has none, as copy engines of GPUs are.
// Beneath, what is submitted to it goes to the device's first queue. Beneath the validation layer, which then sees a device
// with two families.
#include <pthread.h>
#include <string.h>

#include "layer/layer.h"

enum { MAX_FAMILIES = 8 };

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

static void families_below(VkPhysicalDevice physical, uint32_t *count, VkQueueFamilyProperties *out)
{
    PFN_vkGetPhysicalDeviceQueueFamilyProperties get = (PFN_vkGetPhysicalDeviceQueueFamilyProperties)layer_below.instance_proc(
        layer_below.instance, "vkGetPhysicalDeviceQueueFamilyProperties");
    get(physical, count, out);
}

static VKAPI_ATTR void VKAPI_CALL families(VkPhysicalDevice physical, uint32_t *count, VkQueueFamilyProperties *out)
{
    uint32_t had = 0, room = *count;
    families_below(physical, &had, NULL);
    if (!out) {
        *count = had + 1;
        return;
    }
    families_below(physical, count, out);
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

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                                                    const VkAllocationCallbacks *allocator, VkDevice *out)
{
    VkDeviceQueueCreateInfo queues[MAX_FAMILIES];
    VkDeviceCreateInfo own = *info;
    own_family = 0;
    families_below(physical, &own_family, NULL);
    own.queueCreateInfoCount = 0;
    own.pQueueCreateInfos = queues;
    for (uint32_t i = 0; i < info->queueCreateInfoCount && i < MAX_FAMILIES; i++) {
        if (info->pQueueCreateInfos[i].queueFamilyIndex != own_family) {
            queues[own.queueCreateInfoCount++] = info->pQueueCreateInfos[i];
        }
    }
    VkResult result = layer_create_device(physical, &own, allocator, out);
    if (result == VK_SUCCESS) {
        next.queue = (PFN_vkGetDeviceQueue)layer_below.device_proc(*out, "vkGetDeviceQueue");
        next.submit = (PFN_vkQueueSubmit)layer_below.device_proc(*out, "vkQueueSubmit");
        next.pool = (PFN_vkCreateCommandPool)layer_below.device_proc(*out, "vkCreateCommandPool");
        next.buffer = (PFN_vkCreateBuffer)layer_below.device_proc(*out, "vkCreateBuffer");
        next.queue(*out, 0, 0, &real);
        memcpy(&own_queue, *out, sizeof own_queue);
    }
    return result;
}

const struct layer_function layer_functions[] = {
    {"vkCreateDevice", (PFN_vkVoidFunction)create_device},
    {"vkGetPhysicalDeviceQueueFamilyProperties", (PFN_vkVoidFunction)families},
    {"vkGetPhysicalDeviceQueueFamilyProperties2", (PFN_vkVoidFunction)families2},
    {"vkGetPhysicalDeviceQueueFamilyProperties2KHR", (PFN_vkVoidFunction)families2},
    {"vkGetDeviceQueue", (PFN_vkVoidFunction)get_queue},
    {"vkQueueSubmit", (PFN_vkVoidFunction)submit},
    {"vkCreateCommandPool", (PFN_vkVoidFunction)create_pool},
    {"vkCreateBuffer", (PFN_vkVoidFunction)create_buffer},
    {NULL, NULL},
};
