// SPDX-License-Identifier: Apache-2.0
// What AMD's compiler makes of compute shaders, without AMD hardware: Mesa's radv opens a device that cannot run anything when
// RADV_FORCE_FAMILY names a chip, pipelines compile for it, and VK_KHR_pipeline_executable_properties reports on them.
//
//   VK_ICD_FILENAMES=.../radeon_icd.x86_64.json RADV_FORCE_FAMILY=NAVI21 radv_stats < JOBS
//
// A job is a line: LABEL MODULE.spv BINDINGS PUSH SUBGROUPS CONSTANT ...
//   BINDINGS   storage buffers at bindings 0 .. BINDINGS - 1
//   PUSH       matmul, experts, attention or top: whose push constants of shaders/params.h
//   SUBGROUPS  1: full subgroups of the device's own size are required, as runtime/kernels does for that variant; 0: not
//   CONSTANT   specialization constants 0, 1 ..., or ID=VALUE; a trailing w multiplies by the device's subgroup size (4w)
// Output: a line per job. Exit: 0; 1 a kernel spills or a job failed; 77 there is no such device.
#define VOLK_IMPLEMENTATION
#include <volk.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shaders/params.h"

enum { MAX_BINDINGS = 16, MAX_CONSTANTS = 20, MAX_STATISTICS = 64, LINE_BYTES = 1024, EXIT_NO_DEVICE = 77 };

struct job {
    char label[64], module[512];
    uint32_t n_bindings, push_bytes, n_constants, ids[MAX_CONSTANTS], constants[MAX_CONSTANTS];
    bool subgroups;
};

static const char *const columns[] = {"VGPRs",    "SGPRs",   "Spilled VGPRs",      "Spilled SGPRs", "Scratch size",
                                      "LDS size", "Latency", "Subgroups per SIMD", "Code size"};
enum { VGPRS, SGPRS, SPILLED_VGPRS, SPILLED_SGPRS, SCRATCH, LDS, LATENCY, OCCUPANCY, CODE, N_COLUMNS };

// The device and its subgroup size. NULL: none, or not one that reports statistics.
static VkDevice open_device(char name[VK_MAX_PHYSICAL_DEVICE_NAME_SIZE], uint32_t *subgroup_size)
{
    if (volkInitialize() != VK_SUCCESS) {
        return NULL;
    }
    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_3};
    VkInstanceCreateInfo create = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
    VkInstance instance;
    if (vkCreateInstance(&create, NULL, &instance) != VK_SUCCESS) {
        return NULL;
    }
    volkLoadInstance(instance);
    uint32_t n = 1;
    VkPhysicalDevice physical;
    if (vkEnumeratePhysicalDevices(instance, &n, &physical) < VK_SUCCESS || n == 0) {
        return NULL;
    }
    VkPhysicalDeviceSubgroupProperties subgroups = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES};
    VkPhysicalDeviceProperties2 properties = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &subgroups};
    vkGetPhysicalDeviceProperties2(physical, &properties);
    memcpy(name, properties.properties.deviceName, VK_MAX_PHYSICAL_DEVICE_NAME_SIZE);
    *subgroup_size = subgroups.subgroupSize;

    float priority = 1;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, .queueCount = 1, .pQueuePriorities = &priority};
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR report = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR,
        .pipelineExecutableInfo = VK_TRUE,
    };
    VkPhysicalDeviceVulkan13Features wanted = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES,
        .pNext = &report,
        .subgroupSizeControl = VK_TRUE,
        .computeFullSubgroups = VK_TRUE,
        .maintenance4 = VK_TRUE,
    };
    const char *extension = VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME;
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &wanted,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
        .enabledExtensionCount = 1,
        .ppEnabledExtensionNames = &extension,
    };
    VkDevice device;
    if (vkCreateDevice(physical, &info, NULL, &device) != VK_SUCCESS) {
        return NULL;
    }
    volkLoadDevice(device);
    return device;
}

static bool parse(char *line, uint32_t subgroup_size, struct job *out)
{
    static const struct {
        const char *name;
        uint32_t bytes;
    } pushes[] = {
        {"matmul", sizeof(struct graft_matmul_push)},
        {"experts", sizeof(struct graft_experts_push)},
        {"attention", sizeof(struct graft_attention_push)},
        {"top", sizeof(struct graft_top_push)},
    };
    char push[16];
    unsigned bindings, subgroups;
    int used = 0;
    *out = (struct job){0};
    if (sscanf(line, "%63s %511s %u %15s %u%n", out->label, out->module, &bindings, push, &subgroups, &used) != 5 ||
        bindings > MAX_BINDINGS) {
        return false;
    }
    out->n_bindings = bindings;
    out->subgroups = subgroups != 0;
    for (size_t i = 0; i < sizeof pushes / sizeof *pushes; i++) {
        if (strcmp(push, pushes[i].name) == 0) {
            out->push_bytes = pushes[i].bytes;
        }
    }
    for (char *token = strtok(line + used, " \n"); token; token = strtok(NULL, " \n")) {
        char *end;
        uint32_t value = (uint32_t)strtoul(token, &end, 10), id = out->n_constants;
        if (*end == '=') {
            id = value;
            token = end + 1;
            value = (uint32_t)strtoul(token, &end, 10);
        }
        if (end == token || out->n_constants == MAX_CONSTANTS) {
            return false;
        }
        out->ids[out->n_constants] = id;
        out->constants[out->n_constants++] = *end == 'w' ? value * subgroup_size : value;
    }
    return out->push_bytes != 0;
}

static VkShaderModule load_module(VkDevice device, const char *path)
{
    enum { MAX_WORDS = 1 << 18 };
    static uint32_t words[MAX_WORDS];
    FILE *file = fopen(path, "rb");
    if (!file) {
        return VK_NULL_HANDLE;
    }
    size_t n = fread(words, sizeof *words, MAX_WORDS, file);
    fclose(file);
    VkShaderModuleCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = n * sizeof *words,
        .pCode = words,
    };
    VkShaderModule module;
    return n > 0 && n < MAX_WORDS && vkCreateShaderModule(device, &info, NULL, &module) == VK_SUCCESS ? module : VK_NULL_HANDLE;
}

static VkPipeline compile(VkDevice device, const struct job *job, uint32_t subgroup_size)
{
    VkShaderModule module = load_module(device, job->module);
    if (!module) {
        return VK_NULL_HANDLE;
    }
    VkDescriptorSetLayoutBinding bindings[MAX_BINDINGS] = {{0}};
    for (uint32_t i = 0; i < job->n_bindings; i++) {
        bindings[i] = (VkDescriptorSetLayoutBinding){
            .binding = i,
            .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            .descriptorCount = 1,
            .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
        };
    }
    VkDescriptorSetLayoutCreateInfo set_info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = job->n_bindings,
        .pBindings = bindings,
    };
    VkDescriptorSetLayout set;
    VkPushConstantRange range = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = job->push_bytes};
    VkPipelineLayoutCreateInfo layout_info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1,
        .pSetLayouts = &set,
        .pushConstantRangeCount = 1,
        .pPushConstantRanges = &range,
    };
    VkPipelineLayout layout;
    if (vkCreateDescriptorSetLayout(device, &set_info, NULL, &set) != VK_SUCCESS ||
        vkCreatePipelineLayout(device, &layout_info, NULL, &layout) != VK_SUCCESS) {
        return VK_NULL_HANDLE;
    }
    VkSpecializationMapEntry entries[MAX_CONSTANTS];
    for (uint32_t i = 0; i < job->n_constants; i++) {
        entries[i] = (VkSpecializationMapEntry){.constantID = job->ids[i], .offset = i * 4u, .size = 4};
    }
    VkSpecializationInfo constants = {
        .mapEntryCount = job->n_constants,
        .pMapEntries = entries,
        .dataSize = job->n_constants * 4u,
        .pData = job->constants,
    };
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo size = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = subgroup_size,
    };
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .flags = VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR,
        .stage =
            {
                .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                .pNext = job->subgroups ? &size : NULL,
                .flags = job->subgroups ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT : 0u,
                .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                .module = module,
                .pName = "main",
                .pSpecializationInfo = &constants,
            },
        .layout = layout,
    };
    VkPipeline pipeline;
    VkResult result = vkCreateComputePipelines(device, VK_NULL_HANDLE, 1, &info, NULL, &pipeline);
    vkDestroyPipelineLayout(device, layout, NULL);
    vkDestroyDescriptorSetLayout(device, set, NULL);
    vkDestroyShaderModule(device, module, NULL);
    return result == VK_SUCCESS ? pipeline : VK_NULL_HANDLE;
}

// False if the driver does not report one of the columns: then no zero can be trusted.
static bool read_statistics(VkDevice device, VkPipeline pipeline, uint64_t out[N_COLUMNS])
{
    VkPipelineExecutableInfoKHR which = {.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, .pipeline = pipeline};
    VkPipelineExecutableStatisticKHR list[MAX_STATISTICS] = {{0}};
    uint32_t n = MAX_STATISTICS, found = 0;
    for (uint32_t i = 0; i < MAX_STATISTICS; i++) {
        list[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR;
    }
    if (vkGetPipelineExecutableStatisticsKHR(device, &which, &n, list) < VK_SUCCESS) {
        return false;
    }
    for (uint32_t c = 0; c < N_COLUMNS; c++) {
        for (uint32_t i = 0; i < n; i++) {
            if (strcmp(list[i].name, columns[c]) == 0) {
                out[c] = list[i].value.u64;
                found++;
                break;
            }
        }
    }
    return found == N_COLUMNS;
}

int main(void)
{
    char name[VK_MAX_PHYSICAL_DEVICE_NAME_SIZE], line[LINE_BYTES];
    uint32_t subgroup_size = 0;
    VkDevice device = open_device(name, &subgroup_size);
    if (!device) {
        return EXIT_NO_DEVICE;
    }
    bool ok = true;
    printf("%s, subgroups of %u\n", name, subgroup_size);
    printf("%-28s %6s %6s %7s %8s %6s %10s %8s %7s\n", "kernel", "vgprs", "sgprs", "spilled", "scratch", "lds", "waves/simd",
           "latency", "code");
    while (fgets(line, sizeof line, stdin)) {
        struct job job;
        uint64_t s[N_COLUMNS] = {0};
        if (!parse(line, subgroup_size, &job)) {
            printf("FAILED: not a job: %s\n", line);
            ok = false;
            continue;
        }
        VkPipeline pipeline = compile(device, &job, subgroup_size);
        if (!pipeline || !read_statistics(device, pipeline, s)) {
            printf("FAILED: %s: %s\n", job.label, pipeline ? "the driver does not report what is needed" : "does not compile");
            ok = false;
        } else {
            uint64_t spilled = s[SPILLED_VGPRS] + s[SPILLED_SGPRS];
            bool spills = spilled > 0 || s[SCRATCH] > 0;
            printf("%-28s %6llu %6llu %7llu %8llu %6llu %10llu %8llu %7llu%s\n", job.label, (unsigned long long)s[VGPRS],
                   (unsigned long long)s[SGPRS], (unsigned long long)spilled, (unsigned long long)s[SCRATCH],
                   (unsigned long long)s[LDS], (unsigned long long)s[OCCUPANCY], (unsigned long long)s[LATENCY],
                   (unsigned long long)s[CODE], spills ? "  SPILLS" : "");
            ok = ok && !spills;
        }
        if (pipeline) {
            vkDestroyPipeline(device, pipeline, NULL);
        }
    }
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
