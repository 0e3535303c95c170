// SPDX-License-Identifier: Apache-2.0
#include "layer/layer.h"

#include <string.h>
#include <vulkan/vk_layer.h>

#define EXPORTED __attribute__((visibility("default")))

struct layer_below layer_below;

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info, const VkAllocationCallbacks *allocator,
                                                      VkInstance *out)
{
    VkLayerInstanceCreateInfo *link = (void *)(uintptr_t)info->pNext;
    while (link->sType != VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO || link->function != VK_LAYER_LINK_INFO) {
        link = (void *)(uintptr_t)link->pNext;
    }
    layer_below.instance_proc = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    PFN_vkCreateInstance next = (PFN_vkCreateInstance)layer_below.instance_proc(NULL, "vkCreateInstance");
    VkResult result = next(info, allocator, out);
    layer_below.instance = *out;
    return result;
}

VkResult layer_create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info, const VkAllocationCallbacks *allocator,
                             VkDevice *out)
{
    VkLayerDeviceCreateInfo *link = (void *)(uintptr_t)info->pNext;
    while (link->sType != VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO || link->function != VK_LAYER_LINK_INFO) {
        link = (void *)(uintptr_t)link->pNext;
    }
    PFN_vkGetInstanceProcAddr instance_proc = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    layer_below.device_proc = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    return ((PFN_vkCreateDevice)instance_proc(NULL, "vkCreateDevice"))(physical, info, allocator, out);
}

static PFN_vkVoidFunction own_function(const char *name)
{
    for (const struct layer_function *own = layer_functions; own->name; own++) {
        if (strcmp(own->name, name) == 0) {
            return own->function;
        }
    }
    return NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_proc(VkDevice device, const char *name)
{
    PFN_vkVoidFunction own = strcmp(name, "vkGetDeviceProcAddr") == 0 ? (PFN_vkVoidFunction)device_proc : own_function(name);
    return own ? own : layer_below.device_proc(device, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_proc(VkInstance instance, const char *name)
{
    PFN_vkVoidFunction own = strcmp(name, "vkGetInstanceProcAddr") == 0 ? (PFN_vkVoidFunction)instance_proc
                             : strcmp(name, "vkGetDeviceProcAddr") == 0 ? (PFN_vkVoidFunction)device_proc
                             : strcmp(name, "vkCreateInstance") == 0    ? (PFN_vkVoidFunction)create_instance
                                                                        : own_function(name);
    return own ? own : layer_below.instance_proc(instance, name);
}

EXPORTED VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *given)
{
    given->loaderLayerInterfaceVersion = 2;
    given->pfnGetInstanceProcAddr = instance_proc;
    given->pfnGetDeviceProcAddr = device_proc;
    given->pfnGetPhysicalDeviceProcAddr = NULL;
    return VK_SUCCESS;
}
