// SPDX-License-Identifier: Apache-2.0
// Compute pipelines: one per set of parameters, shared by reference count.
#include <sodium.h>
#include <stdio.h>

#include "runtime/vk/vk_internal.h"

VkDescriptorType graft_vk_descriptor_type(enum graft_vk_bind_kind kind)
{
    switch (kind) {
    case GRAFT_VK_STORAGE:
        return VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
    case GRAFT_VK_UNIFORM:
        return VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER;
    case GRAFT_VK_TEXEL_U32X4:
    case GRAFT_VK_TEXEL_U32:
    case GRAFT_VK_TEXEL_F32X4:
        break;
    }
    return VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER;
}

// SHA-256 of all that makes a pipeline what it is. Modules that never change are known by their address.
static void make_key(const struct graft_vk_pipeline_params *p, uint8_t key[32])
{
    uint32_t numbers[6 + 2 * GRAFT_VK_MAX_BINDINGS + GRAFT_VK_MAX_CONSTANTS] = {p->n_bindings, p->push_bytes, p->n_constants,
                                                                                p->required_subgroup_size, p->full_subgroups};
    uint32_t n = 6;
    for (uint32_t i = 0; i < p->n_bindings; i++) {
        numbers[n++] = (uint32_t)p->kinds[i];
        numbers[n++] = (uint32_t)p->access[i];
    }
    memcpy(numbers + n, p->constants, p->n_constants * sizeof *p->constants);
    crypto_hash_sha256_state state;
    crypto_hash_sha256_init(&state);
    crypto_hash_sha256_update(&state, (const uint8_t *)numbers, sizeof numbers);
    if (p->spirv_constant) {
        crypto_hash_sha256_update(&state, (const uint8_t *)&p->spirv, sizeof p->spirv);
    } else {
        crypto_hash_sha256_update(&state, (const uint8_t *)p->spirv, p->spirv_bytes);
    }
    crypto_hash_sha256_final(&state, key);
}

static enum graft_status check_params(const struct graft_vk *vk, const struct graft_vk_pipeline_params *p)
{
    if (p->n_bindings > GRAFT_VK_MAX_BINDINGS || p->n_constants > GRAFT_VK_MAX_CONSTANTS ||
        p->push_bytes > GRAFT_VK_MAX_PUSH_BYTES || p->push_bytes % 4 != 0) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "pipeline %s: %u bindings, %u constants, %u push bytes; allowed are %d, %d, %d (a multiple of 4)",
                          p->name, p->n_bindings, p->n_constants, p->push_bytes, GRAFT_VK_MAX_BINDINGS, GRAFT_VK_MAX_CONSTANTS,
                          GRAFT_VK_MAX_PUSH_BYTES);
    }
    if (!p->spirv || p->spirv_bytes < 20 || p->spirv_bytes % 4 != 0 || p->spirv[0] != 0x07230203u) {
        return graft_fail(GRAFT_E_ARGUMENT, "pipeline %s: not a SPIR-V module (%" PRIu64 " bytes)", p->name, p->spirv_bytes);
    }
    const struct graft_vk_caps *caps = &vk->caps;
    uint32_t size = p->required_subgroup_size;
    bool fixed = size == 0 || size == caps->subgroup_size;
    if (!caps->subgroup_size_control && (!fixed || p->full_subgroups)) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "pipeline %s: %s has no subgroup size control (size %u%s was asked for)",
                          p->name, caps->name, size, p->full_subgroups ? ", full subgroups" : "");
    }
    if (caps->subgroup_size_control && size &&
        (size < caps->subgroup_min || size > caps->subgroup_max || (size & (size - 1)))) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "pipeline %s: subgroups of %u, %s has powers of two from %u to %u", p->name,
                          size, caps->name, caps->subgroup_min, caps->subgroup_max);
    }
    for (uint32_t i = 0; i < p->n_bindings; i++) {
        if (p->access[i] < GRAFT_VK_READ || p->access[i] > GRAFT_VK_READ_WRITE ||
            (p->kinds[i] != GRAFT_VK_STORAGE && p->access[i] != GRAFT_VK_READ)) {
            return graft_fail(GRAFT_E_ARGUMENT,
                              "pipeline %s: binding %u has access %d; uniform and texel buffers are read only", p->name, i,
                              (int)p->access[i]);
        }
    }
    return GRAFT_OK;
}

static void destroy(struct graft_vk *vk, struct graft_vk_pipeline *pipeline)
{
    if (!vk->abandoned) {
        if (pipeline->handle) {
            vk->fn.vkDestroyPipeline(vk->device, pipeline->handle, NULL);
        }
        if (pipeline->layout) {
            vk->fn.vkDestroyPipelineLayout(vk->device, pipeline->layout, NULL);
        }
        if (pipeline->set_layout) {
            vk->fn.vkDestroyDescriptorSetLayout(vk->device, pipeline->set_layout, NULL);
        }
        if (pipeline->module) {
            vk->fn.vkDestroyShaderModule(vk->device, pipeline->module, NULL);
        }
    }
    GRAFT_FREE(vk->ctx, &pipeline);
}

static VkResult create_layouts(struct graft_vk *vk, struct graft_vk_pipeline *pipeline)
{
    VkDescriptorSetLayoutBinding bindings[GRAFT_VK_MAX_BINDINGS] = {{0}};
    for (uint32_t i = 0; i < pipeline->n_bindings; i++) {
        bindings[i].binding = i;
        bindings[i].descriptorType = graft_vk_descriptor_type(pipeline->kinds[i]);
        bindings[i].descriptorCount = 1;
        bindings[i].stageFlags = VK_SHADER_STAGE_COMPUTE_BIT;
    }
    VkDescriptorSetLayoutCreateInfo set = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = pipeline->n_bindings,
        .pBindings = bindings,
    };
    VkResult result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE,
                                    vk->fn.vkCreateDescriptorSetLayout(vk->device, &set, NULL, &pipeline->set_layout));
    if (result != VK_SUCCESS) {
        pipeline->set_layout = VK_NULL_HANDLE;
        return result;
    }
    VkPushConstantRange push = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = pipeline->push_bytes};
    VkPipelineLayoutCreateInfo layout = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1,
        .pSetLayouts = &pipeline->set_layout,
        .pushConstantRangeCount = pipeline->push_bytes ? 1 : 0,
        .pPushConstantRanges = &push,
    };
    result =
        GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkCreatePipelineLayout(vk->device, &layout, NULL, &pipeline->layout));
    if (result != VK_SUCCESS) {
        pipeline->layout = VK_NULL_HANDLE;
    }
    return result;
}

static VkResult create_pipeline(struct graft_vk *vk, struct graft_vk_pipeline *pipeline,
                                const struct graft_vk_pipeline_params *p)
{
    VkShaderModuleCreateInfo module = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = (size_t)p->spirv_bytes,
        .pCode = p->spirv,
    };
    VkResult result =
        GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkCreateShaderModule(vk->device, &module, NULL, &pipeline->module));
    if (result != VK_SUCCESS) {
        pipeline->module = VK_NULL_HANDLE;
        return result;
    }
    VkSpecializationMapEntry entries[GRAFT_VK_MAX_CONSTANTS];
    for (uint32_t i = 0; i < p->n_constants; i++) {
        entries[i] = (VkSpecializationMapEntry){.constantID = i, .offset = i * 4u, .size = 4};
    }
    VkSpecializationInfo constants = {
        .mapEntryCount = p->n_constants,
        .pMapEntries = entries,
        .dataSize = p->n_constants * 4u,
        .pData = p->constants,
    };
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo size = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = p->required_subgroup_size,
    };
    bool sized = p->required_subgroup_size && vk->caps.subgroup_size_control;
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage =
            {
                .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                .pNext = sized ? &size : NULL,
                .flags = p->full_subgroups ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT : 0u,
                .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                .module = pipeline->module,
                .pName = "main",
                .pSpecializationInfo = p->n_constants ? &constants : NULL,
            },
        .layout = pipeline->layout,
    };
    result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE,
                           vk->fn.vkCreateComputePipelines(vk->device, vk->cache, 1, &info, NULL, &pipeline->handle));
    if (result != VK_SUCCESS) {
        pipeline->handle = VK_NULL_HANDLE;
        return result;
    }
    vk->fn.vkDestroyShaderModule(vk->device, pipeline->module, NULL); // no longer needed once compiled
    pipeline->module = VK_NULL_HANDLE;
    graft_vk_name(vk, VK_OBJECT_TYPE_PIPELINE, (uint64_t)pipeline->handle, pipeline->name);
    return result;
}

enum graft_status graft_vk_pipeline_get(struct graft_vk *vk, struct graft_vk_pipeline **out,
                                        const struct graft_vk_pipeline_params *params)
{
    *out = NULL;
    GRAFT_TRY(graft_vk_alive(vk));
    GRAFT_TRY(check_params(vk, params));
    uint8_t key[32];
    make_key(params, key);
    for (struct graft_vk_pipeline *known = vk->pipelines; known; known = known->next) {
        if (memcmp(known->key, key, sizeof key) == 0) {
            known->references++;
            *out = known;
            return GRAFT_OK;
        }
    }
    struct graft_vk_pipeline *pipeline;
    GRAFT_TRY(GRAFT_NEW(vk->ctx, GRAFT_MEM_HOST, &pipeline, 1, "a pipeline"));
    pipeline->references = 1;
    memcpy(pipeline->key, key, sizeof key);
    pipeline->n_bindings = params->n_bindings;
    pipeline->push_bytes = params->push_bytes;
    memcpy(pipeline->kinds, params->kinds, sizeof pipeline->kinds);
    memcpy(pipeline->access, params->access, sizeof pipeline->access);
    snprintf(pipeline->name, sizeof pipeline->name, "%s", params->name ? params->name : "pipeline");
    VkResult result = create_layouts(vk, pipeline);
    if (result == VK_SUCCESS) {
        result = create_pipeline(vk, pipeline, params);
    }
    if (result != VK_SUCCESS) {
        char what[96];
        snprintf(what, sizeof what, "pipeline %s", pipeline->name);
        destroy(vk, pipeline);
        return graft_vk_fail(vk, result, what);
    }
    vk->counters.pipelines++;
    pipeline->next = vk->pipelines;
    vk->pipelines = pipeline;
    *out = pipeline;
    return GRAFT_OK;
}

void graft_vk_pipeline_put(struct graft_vk *vk, struct graft_vk_pipeline **given)
{
    if (!given || !*given) {
        return;
    }
    struct graft_vk_pipeline *pipeline = *given;
    *given = NULL;
    if (--pipeline->references > 0 || vk->hold_pipelines) {
        return;
    }
    graft_vk_quiesce(vk);
    for (struct graft_vk_pipeline **link = &vk->pipelines; *link; link = &(*link)->next) {
        if (*link == pipeline) {
            *link = pipeline->next;
            break;
        }
    }
    destroy(vk, pipeline);
}

void graft_vk_pipelines_hold(struct graft_vk *vk, bool hold)
{
    vk->hold_pipelines = hold;
    struct graft_vk_pipeline **link = &vk->pipelines;
    while (!hold && *link) {
        struct graft_vk_pipeline *pipeline = *link;
        if (pipeline->references > 0) {
            link = &pipeline->next;
            continue;
        }
        graft_vk_quiesce(vk);
        *link = pipeline->next;
        destroy(vk, pipeline);
    }
}
