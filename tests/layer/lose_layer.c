// SPDX-License-Identifier: Apache-2.0
// A Vulkan layer for tests: when the file $GRAFT_TEST_LOSE is there, the next submission removes it and loses the device.
// Source: Vulkan-Loader, docs/LoaderLayerInterface.md.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#define EXPORTED __attribute__((visibility("default")))

static PFN_vkGetInstanceProcAddr next_instance;
static PFN_vkGetDeviceProcAddr next_device;
static PFN_vkQueueSubmit next_submit;

static VKAPI_ATTR VkResult VKAPI_CALL submit(VkQueue queue, uint32_t count, const VkSubmitInfo *infos, VkFence fence)
{
    const char *path = getenv("GRAFT_TEST_LOSE");
    return path && unlink(path) == 0 ? VK_ERROR_DEVICE_LOST : next_submit(queue, count, infos, fence);
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
    PFN_vkCreateInstance next = (PFN_vkCreateInstance)next_instance(NULL, "vkCreateInstance");
    return next(info, allocator, out);
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
    PFN_vkCreateDevice next = (PFN_vkCreateDevice)instance(NULL, "vkCreateDevice");
    VkResult result = next(physical, info, allocator, out);
    if (result == VK_SUCCESS) {
        next_submit = (PFN_vkQueueSubmit)next_device(*out, "vkQueueSubmit");
    }
    return result;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_proc(VkDevice device, const char *name)
{
    return strcmp(name, "vkGetDeviceProcAddr") == 0 ? (PFN_vkVoidFunction)device_proc
           : strcmp(name, "vkQueueSubmit") == 0     ? (PFN_vkVoidFunction)submit
                                                    : next_device(device, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_proc(VkInstance instance, const char *name)
{
    return strcmp(name, "vkGetInstanceProcAddr") == 0 ? (PFN_vkVoidFunction)instance_proc
           : strcmp(name, "vkGetDeviceProcAddr") == 0 ? (PFN_vkVoidFunction)device_proc
           : strcmp(name, "vkCreateInstance") == 0    ? (PFN_vkVoidFunction)create_instance
           : strcmp(name, "vkCreateDevice") == 0      ? (PFN_vkVoidFunction)create_device
           : strcmp(name, "vkQueueSubmit") == 0       ? (PFN_vkVoidFunction)submit
                                                      : next_instance(instance, name);
}

EXPORTED VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *given)
{
    given->loaderLayerInterfaceVersion = 2;
    given->pfnGetInstanceProcAddr = instance_proc;
    given->pfnGetDeviceProcAddr = device_proc;
    given->pfnGetPhysicalDeviceProcAddr = NULL;
    return VK_SUCCESS;
}
