// SPDX-License-Identifier: Apache-2.0
// A Vulkan layer for tests: when the file $GRAFT_TEST_LOSE is there, the next submission removes it and loses the device.
#include <stdlib.h>
#include <unistd.h>

#include "layer/layer.h"

static PFN_vkQueueSubmit next_submit;

static VKAPI_ATTR VkResult VKAPI_CALL submit(VkQueue queue, uint32_t count, const VkSubmitInfo *infos, VkFence fence)
{
    const char *path = getenv("GRAFT_TEST_LOSE");
    return path && unlink(path) == 0 ? VK_ERROR_DEVICE_LOST : next_submit(queue, count, infos, fence);
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                                                    const VkAllocationCallbacks *allocator, VkDevice *out)
{
    VkResult result = layer_create_device(physical, info, allocator, out);
    if (result == VK_SUCCESS) {
        next_submit = (PFN_vkQueueSubmit)layer_below.device_proc(*out, "vkQueueSubmit");
    }
    return result;
}

const struct layer_function layer_functions[] = {
    {"vkCreateDevice", (PFN_vkVoidFunction)create_device},
    {"vkQueueSubmit", (PFN_vkVoidFunction)submit},
    {NULL, NULL},
};
