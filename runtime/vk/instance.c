// SPDX-License-Identifier: Apache-2.0
// The Vulkan loader, the instance and the validation messages.
#include "platform/plat.h"
#include "runtime/vk/vk_internal.h"

static const char *const VALIDATION_LAYER = "VK_LAYER_KHRONOS_validation";

const char *graft_vk_result_name(VkResult result)
{
    switch (result) {
    case VK_SUCCESS:
        return "VK_SUCCESS";
    case VK_NOT_READY:
        return "VK_NOT_READY";
    case VK_TIMEOUT:
        return "VK_TIMEOUT";
    case VK_INCOMPLETE:
        return "VK_INCOMPLETE";
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        return "VK_ERROR_OUT_OF_HOST_MEMORY";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
        return "VK_ERROR_OUT_OF_DEVICE_MEMORY";
    case VK_ERROR_INITIALIZATION_FAILED:
        return "VK_ERROR_INITIALIZATION_FAILED";
    case VK_ERROR_DEVICE_LOST:
        return "VK_ERROR_DEVICE_LOST";
    case VK_ERROR_MEMORY_MAP_FAILED:
        return "VK_ERROR_MEMORY_MAP_FAILED";
    case VK_ERROR_LAYER_NOT_PRESENT:
        return "VK_ERROR_LAYER_NOT_PRESENT";
    case VK_ERROR_EXTENSION_NOT_PRESENT:
        return "VK_ERROR_EXTENSION_NOT_PRESENT";
    case VK_ERROR_FEATURE_NOT_PRESENT:
        return "VK_ERROR_FEATURE_NOT_PRESENT";
    case VK_ERROR_INCOMPATIBLE_DRIVER:
        return "VK_ERROR_INCOMPATIBLE_DRIVER";
    case VK_ERROR_TOO_MANY_OBJECTS:
        return "VK_ERROR_TOO_MANY_OBJECTS";
    case VK_ERROR_FRAGMENTED_POOL:
        return "VK_ERROR_FRAGMENTED_POOL";
    case VK_ERROR_OUT_OF_POOL_MEMORY:
        return "VK_ERROR_OUT_OF_POOL_MEMORY";
    case VK_ERROR_INVALID_EXTERNAL_HANDLE:
        return "VK_ERROR_INVALID_EXTERNAL_HANDLE";
    default:
        return "an unnamed Vulkan error";
    }
}

// Messages of the validation layer, from any thread of the driver.
static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT types,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data, void *user)
{
    (void)types;
    struct graft_vk_instance *instance = user;
    atomic_fetch_add(&instance->messages, 1);
    graft_log(instance->ctx, severity >= VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT ? GRAFT_LOG_ERROR : GRAFT_LOG_WARN,
              "validation: %s", data->pMessage ? data->pMessage : "(no text)");
    return VK_FALSE;
}

// The validation layer with its synchronization checks, or a sentence that says what to install.
static enum graft_status find_validation(void)
{
    VkLayerProperties layers[64];
    uint32_t count = 64;
    VkResult result = vkEnumerateInstanceLayerProperties(&count, layers);
    if (result != VK_SUCCESS && result != VK_INCOMPLETE) {
        count = 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(layers[i].layerName, VALIDATION_LAYER) == 0) {
            return GRAFT_OK;
        }
    }
    return graft_fail(GRAFT_E_DEVICE, "validation was asked for, but %s is not installed (Debian: vulkan-validationlayers)",
                      VALIDATION_LAYER);
}

static bool load_functions(struct graft_vk_instance *instance, bool validation)
{
    bool good = true;
#define LOAD(name)                                                                                                             \
    instance->name = (PFN_vk##name)vkGetInstanceProcAddr(instance->handle, "vk" #name);                                        \
    good = good && instance->name;
    GRAFT_VK_INSTANCE_FUNCTIONS(LOAD)
#undef LOAD
    instance->GetMatrixShapes = (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)vkGetInstanceProcAddr(
        instance->handle, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    if (validation) {
        instance->CreateMessenger =
            (PFN_vkCreateDebugUtilsMessengerEXT)vkGetInstanceProcAddr(instance->handle, "vkCreateDebugUtilsMessengerEXT");
        instance->DestroyMessenger =
            (PFN_vkDestroyDebugUtilsMessengerEXT)vkGetInstanceProcAddr(instance->handle, "vkDestroyDebugUtilsMessengerEXT");
        instance->SetName =
            (PFN_vkSetDebugUtilsObjectNameEXT)vkGetInstanceProcAddr(instance->handle, "vkSetDebugUtilsObjectNameEXT");
        good = good && instance->CreateMessenger && instance->DestroyMessenger && instance->SetName;
    }
    return good;
}

enum graft_status graft_vk_instance_open(struct graft_vk_instance *instance, struct graft_ctx *ctx, bool validation,
                                         struct graft_vk *vk)
{
    memset(instance, 0, sizeof *instance);
    instance->ctx = ctx;
    if (volkGetInstanceVersion() == 0 && volkInitialize() != VK_SUCCESS) {
        return graft_fail(GRAFT_E_DEVICE, "the Vulkan loader is not installed; %s", graft_driver_advice);
    }
    uint32_t version = volkGetInstanceVersion();
    if (version < VK_API_VERSION_1_2) {
        return graft_fail(GRAFT_E_DEVICE, "the Vulkan loader has version %u.%u, 1.2 or newer is needed; %s",
                          VK_API_VERSION_MAJOR(version), VK_API_VERSION_MINOR(version), graft_driver_advice);
    }
    if (validation) {
        GRAFT_TRY(find_validation());
    }
    VkDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
        .pfnUserCallback = on_message,
        .pUserData = instance,
    };
    VkValidationFeatureEnableEXT enable = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT;
    VkValidationFeaturesEXT features = {
        .sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
        .pNext = &messenger,
        .enabledValidationFeatureCount = 1,
        .pEnabledValidationFeatures = &enable,
    };
    VkApplicationInfo application = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pApplicationName = "graft",
        .pEngineName = "graft",
        .apiVersion = version < VK_API_VERSION_1_3 ? VK_API_VERSION_1_2 : VK_API_VERSION_1_3,
    };
    const char *extensions[] = {VK_EXT_DEBUG_UTILS_EXTENSION_NAME, VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME};
    VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pNext = validation ? &features : NULL,
        .pApplicationInfo = &application,
        .enabledLayerCount = validation ? 1 : 0,
        .ppEnabledLayerNames = &VALIDATION_LAYER,
        .enabledExtensionCount = validation ? 2 : 0,
        .ppEnabledExtensionNames = extensions,
    };
    VkResult result = vk && graft_vk_faulted(vk, GRAFT_VK_FAULT_CREATE) ? graft_vk_fault_result(GRAFT_VK_FAULT_CREATE)
                                                                        : vkCreateInstance(&info, NULL, &instance->handle);
    if (result != VK_SUCCESS) {
        instance->handle = VK_NULL_HANDLE;
        if (result == VK_ERROR_INCOMPATIBLE_DRIVER) {
            return graft_fail(GRAFT_E_DEVICE, "no Vulkan driver is installed; %s", graft_driver_advice);
        }
        return graft_fail(result == VK_ERROR_OUT_OF_HOST_MEMORY ? GRAFT_E_MEMORY : GRAFT_E_DEVICE,
                          "a Vulkan instance could not be created: %s", graft_vk_result_name(result));
    }
    // volk's own table is global, but holds the loader's trampolines, the same for every instance; only vkGetDeviceProcAddr is
    // used.
    volkLoadInstanceOnly(instance->handle);
    if (!load_functions(instance, validation)) {
        graft_vk_instance_close(instance);
        return graft_fail(GRAFT_E_DEVICE, "the Vulkan loader lacks a function of Vulkan 1.2; %s", graft_driver_advice);
    }
    if (validation) {
        result = vk && graft_vk_faulted(vk, GRAFT_VK_FAULT_CREATE)
                     ? graft_vk_fault_result(GRAFT_VK_FAULT_CREATE)
                     : instance->CreateMessenger(instance->handle, &messenger, NULL, &instance->messenger);
        if (result != VK_SUCCESS) {
            instance->messenger = VK_NULL_HANDLE;
            graft_vk_instance_close(instance);
            return graft_fail(GRAFT_E_DEVICE, "validation messages could not be received: %s", graft_vk_result_name(result));
        }
    }
    return GRAFT_OK;
}

void graft_vk_instance_close(struct graft_vk_instance *instance)
{
    if (instance->messenger) {
        instance->DestroyMessenger(instance->handle, instance->messenger, NULL);
        instance->messenger = VK_NULL_HANDLE;
    }
    if (instance->handle) {
        PFN_vkDestroyInstance destroy = instance->DestroyInstance;
        if (!destroy) {
            destroy = (PFN_vkDestroyInstance)vkGetInstanceProcAddr(instance->handle, "vkDestroyInstance");
        }
        destroy(instance->handle, NULL);
        instance->handle = VK_NULL_HANDLE;
    }
}
