// SPDX-License-Identifier: Apache-2.0
// What the Vulkan layers of tests share: their place in the loader's chain, negotiation, and who finds which function. A layer
// is a module of layer.c and a file of its own. Source: Vulkan-Loader, docs/LoaderLayerInterface.md.
#ifndef GRAFT_TESTS_LAYER_H
#define GRAFT_TESTS_LAYER_H

#include <vulkan/vulkan.h>

// The functions that the layer puts in place of those beneath; the last one has no name. vkCreateDevice is one of them and
// calls layer_create_device.
extern const struct layer_function {
    const char *name;
    PFN_vkVoidFunction function;
} layer_functions[];

// What is beneath the layer; one instance and one device at a time.
extern struct layer_below {
    VkInstance instance;
    PFN_vkGetInstanceProcAddr instance_proc;
    PFN_vkGetDeviceProcAddr device_proc;
} layer_below;

// Create the device beneath. `info` may be another one than was given, but with the given pNext.
VkResult layer_create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info, const VkAllocationCallbacks *allocator,
                             VkDevice *out);

#endif
