// SPDX-License-Identifier: Apache-2.0
// Recordings: dispatches and copies with their descriptor sets and barriers, made once and submitted many times.
#include "runtime/vk/vk_internal.h"

enum { SETS_PER_POOL = 64, MAX_SUBMITTED = 32 };

struct graft_vk_commands {
    struct graft_vk *vk;
    VkCommandBuffer native;
    VkDescriptorPool *pools; // the last one is in use
    uint32_t n_pools, pool_capacity;
    uint32_t sets_left, storage_left, uniform_left, texel_left; // in the last pool
    struct view {
        VkBufferView native;
        VkBuffer buffer;
        uint64_t offset, bytes;
        VkFormat format;
    } * views;
    uint32_t n_views, view_capacity;
    struct graft_vk_pipeline **pipelines; // one reference each, max_dispatches entries
    struct graft_vk_pipeline *bound;
    uint32_t *query_of; // timed: the query after dispatch i; the one before it is query_of[i] - 1
    VkQueryPool queries;
    uint32_t n_operations, n_dispatches, max_dispatches;
    uint32_t barriers;
    struct graft_vk_hazards hazards;
    bool timed, ended, failed, submitted;
};

void graft_vk_commands_destroy(struct graft_vk_commands **given)
{
    if (!given || !*given) {
        return;
    }
    struct graft_vk_commands *commands = *given;
    struct graft_vk *vk = commands->vk;
    *given = NULL;
    graft_vk_quiesce(vk);
    if (!vk->abandoned) {
        if (commands->native) {
            vk->fn.vkFreeCommandBuffers(vk->device, vk->pool, 1, &commands->native);
        }
        for (uint32_t i = 0; i < commands->n_pools; i++) {
            vk->fn.vkDestroyDescriptorPool(vk->device, commands->pools[i], NULL);
        }
        for (uint32_t i = 0; i < commands->n_views; i++) {
            vk->fn.vkDestroyBufferView(vk->device, commands->views[i].native, NULL);
        }
        if (commands->queries) {
            vk->fn.vkDestroyQueryPool(vk->device, commands->queries, NULL);
        }
    }
    for (uint32_t i = 0; commands->pipelines && i < commands->max_dispatches; i++) {
        graft_vk_pipeline_put(vk, &commands->pipelines[i]);
    }
    GRAFT_FREE(vk->ctx, &commands->pools);
    GRAFT_FREE(vk->ctx, &commands->views);
    GRAFT_FREE(vk->ctx, &commands->pipelines);
    GRAFT_FREE(vk->ctx, &commands->query_of);
    graft_vk_hazards_free(&commands->hazards);
    vk->live_commands--;
    GRAFT_FREE(vk->ctx, &commands);
}

static enum graft_status create_natives(struct graft_vk *vk, struct graft_vk_commands *commands)
{
    VkCommandBufferAllocateInfo allocate = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = vk->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    VkResult result =
        GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkAllocateCommandBuffers(vk->device, &allocate, &commands->native));
    if (result != VK_SUCCESS) {
        commands->native = VK_NULL_HANDLE;
        return graft_vk_fail(vk, result, "creating a command buffer");
    }
    if (commands->timed) {
        VkQueryPoolCreateInfo queries = {
            .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
            .queryType = VK_QUERY_TYPE_TIMESTAMP,
            .queryCount = commands->max_dispatches + 1,
        };
        result =
            GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkCreateQueryPool(vk->device, &queries, NULL, &commands->queries));
        if (result != VK_SUCCESS) {
            commands->queries = VK_NULL_HANDLE;
            return graft_vk_fail(vk, result, "creating timestamps");
        }
    }
    VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_RECORD, vk->fn.vkBeginCommandBuffer(commands->native, &begin));
    if (result != VK_SUCCESS) {
        return graft_vk_fail(vk, result, "beginning a recording");
    }
    return GRAFT_OK;
}

enum graft_status graft_vk_commands_create(struct graft_vk *vk, struct graft_vk_commands **out, uint32_t max_dispatches,
                                           bool timed)
{
    *out = NULL;
    GRAFT_TRY(graft_vk_alive(vk));
    if (max_dispatches == 0 || max_dispatches > 1u << 20) {
        return graft_fail(GRAFT_E_ARGUMENT, "a recording of %u dispatches; allowed are 1 to %u", max_dispatches, 1u << 20);
    }
    if (timed && !vk->caps.timestamps) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "the device %s has no timestamps", vk->caps.name);
    }
    struct graft_vk_commands *commands;
    GRAFT_TRY(GRAFT_NEW(vk->ctx, GRAFT_MEM_HOST, &commands, 1, "a recording"));
    vk->live_commands++;
    commands->vk = vk;
    commands->hazards.ctx = vk->ctx;
    commands->max_dispatches = max_dispatches;
    commands->timed = timed;
    enum graft_status status;
    GRAFT_TRY_OUT(GRAFT_NEW(vk->ctx, GRAFT_MEM_HOST, &commands->pipelines, max_dispatches, "a recording"), status, fail);
    GRAFT_TRY_OUT(GRAFT_NEW(vk->ctx, GRAFT_MEM_HOST, &commands->query_of, timed ? max_dispatches : 0, "a recording"), status,
                  fail);
    GRAFT_TRY_OUT(create_natives(vk, commands), status, fail);
    vk->counters.recordings++;
    // Everything submitted before this recording, and what it left behind itself the last time, comes first.
    commands->barriers += graft_vk_hazards_record(vk, commands->native, GRAFT_VK_BARRIER_FULL);
    if (timed) {
        vk->fn.vkCmdResetQueryPool(commands->native, commands->queries, 0, max_dispatches + 1);
        vk->fn.vkCmdWriteTimestamp(commands->native, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, commands->queries, 0);
    }
    *out = commands;
    return GRAFT_OK;
fail:
    graft_vk_commands_destroy(&commands);
    return status;
}

// A pool with room for one set of the pipeline: the last one, or a new one.
static enum graft_status need_pool(struct graft_vk_commands *commands, const struct graft_vk_pipeline *pipeline)
{
    struct graft_vk *vk = commands->vk;
    uint32_t storage = 0, uniform = 0, texel = 0;
    for (uint32_t i = 0; i < pipeline->n_bindings; i++) {
        VkDescriptorType type = graft_vk_descriptor_type(pipeline->kinds[i]);
        storage += type == VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
        uniform += type == VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER;
        texel += type == VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER;
    }
    if (commands->sets_left < 1 || commands->storage_left < storage || commands->uniform_left < uniform ||
        commands->texel_left < texel) {
        if (commands->n_pools == commands->pool_capacity) {
            uint32_t capacity = commands->pool_capacity * 2 + 4;
            GRAFT_TRY(GRAFT_GROW(vk->ctx, GRAFT_MEM_HOST, &commands->pools, capacity, "descriptor pools"));
            commands->pool_capacity = capacity;
        }
        uint32_t left = commands->max_dispatches - commands->n_operations;
        uint32_t sets = left < SETS_PER_POOL ? left : SETS_PER_POOL;
        VkDescriptorPoolSize sizes[] = {
            {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, sets * 8 + GRAFT_VK_MAX_BINDINGS},
            {VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, sets * 2 + GRAFT_VK_MAX_BINDINGS},
            {VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER, sets * 4 + GRAFT_VK_MAX_BINDINGS},
        };
        VkDescriptorPoolCreateInfo info = {
            .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
            .maxSets = sets,
            .poolSizeCount = 3,
            .pPoolSizes = sizes,
        };
        VkResult result =
            GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE,
                          vk->fn.vkCreateDescriptorPool(vk->device, &info, NULL, &commands->pools[commands->n_pools]));
        if (result != VK_SUCCESS) {
            return graft_vk_fail(vk, result, "creating a descriptor pool");
        }
        commands->n_pools++;
        commands->sets_left = sets;
        commands->storage_left = sizes[0].descriptorCount;
        commands->uniform_left = sizes[1].descriptorCount;
        commands->texel_left = sizes[2].descriptorCount;
    }
    commands->sets_left--;
    commands->storage_left -= storage;
    commands->uniform_left -= uniform;
    commands->texel_left -= texel;
    return GRAFT_OK;
}

// The texel view of a range, shared within the recording.
static enum graft_status need_view(struct graft_vk_commands *commands, const struct graft_vk_bind *bind, VkFormat format,
                                   VkBufferView *out)
{
    struct graft_vk *vk = commands->vk;
    VkBuffer buffer = graft_vk_impl(bind->buffer)->handle;
    for (uint32_t i = 0; i < commands->n_views; i++) {
        const struct view *view = &commands->views[i];
        if (view->buffer == buffer && view->offset == bind->offset && view->bytes == bind->bytes && view->format == format) {
            *out = view->native;
            return GRAFT_OK;
        }
    }
    if (commands->n_views == commands->view_capacity) {
        uint32_t capacity = commands->view_capacity * 2 + 16;
        GRAFT_TRY(GRAFT_GROW(vk->ctx, GRAFT_MEM_HOST, &commands->views, capacity, "texel views"));
        commands->view_capacity = capacity;
    }
    VkBufferViewCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_VIEW_CREATE_INFO,
        .buffer = buffer,
        .format = format,
        .offset = bind->offset,
        .range = bind->bytes,
    };
    struct view *view = &commands->views[commands->n_views];
    VkResult result =
        GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_CREATE, vk->fn.vkCreateBufferView(vk->device, &info, NULL, &view->native));
    if (result != VK_SUCCESS) {
        return graft_vk_fail(vk, result, "creating a texel view");
    }
    view->buffer = buffer;
    view->offset = bind->offset;
    view->bytes = bind->bytes;
    view->format = format;
    commands->n_views++;
    *out = view->native;
    return GRAFT_OK;
}

static VkFormat format_of(enum graft_vk_bind_kind kind)
{
    return kind == GRAFT_VK_TEXEL_U32X4 ? VK_FORMAT_R32G32B32A32_UINT
           : kind == GRAFT_VK_TEXEL_U32 ? VK_FORMAT_R32_UINT
                                        : VK_FORMAT_R32G32B32A32_SFLOAT;
}

// One binding against the buffer and the device's limits.
static enum graft_status check_bind(const struct graft_vk *vk, const struct graft_vk_pipeline *pipeline, uint32_t index,
                                    const struct graft_vk_bind *bind)
{
    enum graft_vk_bind_kind kind = pipeline->kinds[index];
    const struct graft_vk_caps *caps = &vk->caps;
    uint64_t end, unit = kind == GRAFT_VK_STORAGE || kind == GRAFT_VK_UNIFORM ? 1 : kind == GRAFT_VK_TEXEL_U32 ? 4 : 16;
    uint64_t alignment = kind == GRAFT_VK_STORAGE   ? caps->storage_alignment
                         : kind == GRAFT_VK_UNIFORM ? caps->uniform_alignment
                                                    : caps->texel_alignment;
    uint64_t most = kind == GRAFT_VK_STORAGE   ? caps->max_storage_bytes
                    : kind == GRAFT_VK_UNIFORM ? caps->max_uniform_bytes
                                               : caps->max_texel_elements * unit;
    if (!bind->buffer || bind->buffer->vk != vk || bind->bytes == 0 || !graft_add_u64(bind->offset, bind->bytes, &end) ||
        end > bind->buffer->bytes) {
        return graft_fail(GRAFT_E_ARGUMENT, "pipeline %s, binding %u: bytes %" PRIu64 " + %" PRIu64 " of a buffer of %" PRIu64,
                          pipeline->name, index, bind->offset, bind->bytes, bind->buffer ? bind->buffer->bytes : 0);
    }
    if (bind->offset % alignment != 0 || bind->bytes > most || bind->bytes % unit != 0) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "pipeline %s, binding %u: offset %" PRIu64 " and %" PRIu64 " bytes; allowed are multiples of %" PRIu64
                          " and %" PRIu64 ", at most %" PRIu64 " bytes",
                          pipeline->name, index, bind->offset, bind->bytes, alignment, unit, most);
    }
    if (bind->buffer->imported && (pipeline->access[index] & GRAFT_VK_WRITE)) {
        return graft_fail(GRAFT_E_ARGUMENT, "pipeline %s, binding %u writes to an imported mapping, which is read-only",
                          pipeline->name, index);
    }
    return GRAFT_OK;
}

// Allocate and write the descriptor set of one dispatch.
static enum graft_status make_set(struct graft_vk_commands *commands, const struct graft_vk_pipeline *pipeline,
                                  const struct graft_vk_bind *binds, VkDescriptorSet *set)
{
    struct graft_vk *vk = commands->vk;
    GRAFT_TRY(need_pool(commands, pipeline));
    VkDescriptorSetAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
        .descriptorPool = commands->pools[commands->n_pools - 1],
        .descriptorSetCount = 1,
        .pSetLayouts = &pipeline->set_layout,
    };
    VkResult result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_RECORD, vk->fn.vkAllocateDescriptorSets(vk->device, &info, set));
    if (result != VK_SUCCESS) {
        return graft_vk_fail(vk, result, "allocating a descriptor set");
    }
    VkWriteDescriptorSet writes[GRAFT_VK_MAX_BINDINGS];
    VkDescriptorBufferInfo buffers[GRAFT_VK_MAX_BINDINGS];
    VkBufferView views[GRAFT_VK_MAX_BINDINGS];
    for (uint32_t i = 0; i < pipeline->n_bindings; i++) {
        VkDescriptorType type = graft_vk_descriptor_type(pipeline->kinds[i]);
        bool texel = type == VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER;
        if (texel) {
            GRAFT_TRY(need_view(commands, &binds[i], format_of(pipeline->kinds[i]), &views[i]));
        }
        buffers[i] = (VkDescriptorBufferInfo){graft_vk_impl(binds[i].buffer)->handle, binds[i].offset, binds[i].bytes};
        writes[i] = (VkWriteDescriptorSet){
            .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
            .dstSet = *set,
            .dstBinding = i,
            .descriptorCount = 1,
            .descriptorType = type,
            .pBufferInfo = texel ? NULL : &buffers[i],
            .pTexelBufferView = texel ? &views[i] : NULL,
        };
    }
    if (pipeline->n_bindings > 0) {
        vk->fn.vkUpdateDescriptorSets(vk->device, pipeline->n_bindings, writes, 0, NULL);
        vk->counters.descriptor_updates++;
    }
    return GRAFT_OK;
}

// The recording is open and has room for one more operation.
static enum graft_status check_open(const struct graft_vk_commands *commands)
{
    GRAFT_TRY(graft_vk_alive(commands->vk));
    if (commands->ended || commands->failed) {
        return graft_fail(GRAFT_E_ARGUMENT, "the recording %s", commands->ended ? "has ended" : "failed before");
    }
    if (commands->n_operations == commands->max_dispatches) {
        return graft_fail(GRAFT_E_LIMIT, "the recording was made for %u dispatches", commands->max_dispatches);
    }
    return GRAFT_OK;
}

static void stamp(struct graft_vk_commands *commands)
{
    commands->n_operations++;
    if (commands->timed) {
        commands->vk->fn.vkCmdWriteTimestamp(commands->native, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, commands->queries,
                                             commands->n_operations);
    }
}

static enum graft_status dispatch(struct graft_vk_commands *commands, struct graft_vk_pipeline *pipeline,
                                  const struct graft_vk_bind *binds, const void *push, const uint32_t groups[3])
{
    struct graft_vk *vk = commands->vk;
    struct graft_vk_touch touches[GRAFT_VK_MAX_BINDINGS];
    for (uint32_t i = 0; i < pipeline->n_bindings; i++) {
        GRAFT_TRY(check_bind(vk, pipeline, i, &binds[i]));
        touches[i] = (struct graft_vk_touch){.buffer = binds[i].buffer,
                                             .begin = binds[i].offset,
                                             .end = binds[i].offset + binds[i].bytes,
                                             .write = pipeline->access[i] & GRAFT_VK_WRITE};
    }
    VkDescriptorSet set;
    enum graft_vk_barrier_kind barrier;
    GRAFT_TRY(make_set(commands, pipeline, binds, &set));
    GRAFT_TRY(graft_vk_hazards_step(&commands->hazards, touches, pipeline->n_bindings, false, &barrier));
    commands->barriers += graft_vk_hazards_record(vk, commands->native, barrier);
    if (commands->bound != pipeline) {
        vk->fn.vkCmdBindPipeline(commands->native, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline->handle);
        commands->bound = pipeline;
    }
    vk->fn.vkCmdBindDescriptorSets(commands->native, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline->layout, 0, 1, &set, 0, NULL);
    if (pipeline->push_bytes) {
        vk->fn.vkCmdPushConstants(commands->native, pipeline->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, pipeline->push_bytes,
                                  push);
    }
    vk->fn.vkCmdDispatch(commands->native, groups[0], groups[1], groups[2]);
    pipeline->references++;
    commands->pipelines[commands->n_dispatches] = pipeline;
    if (commands->timed) {
        commands->query_of[commands->n_dispatches] = commands->n_operations + 1;
    }
    commands->n_dispatches++;
    stamp(commands);
    return GRAFT_OK;
}

enum graft_status graft_vk_dispatch(struct graft_vk_commands *commands, struct graft_vk_pipeline *pipeline,
                                    const struct graft_vk_bind *binds, const void *push, const uint32_t groups[3])
{
    GRAFT_TRY(check_open(commands));
    const uint32_t *most = commands->vk->caps.max_group_count;
    for (int i = 0; i < 3; i++) {
        if (groups[i] == 0 || groups[i] > most[i]) {
            return graft_fail(GRAFT_E_ARGUMENT, "pipeline %s: %u x %u x %u workgroups; allowed are 1 to %u x %u x %u",
                              pipeline->name, groups[0], groups[1], groups[2], most[0], most[1], most[2]);
        }
    }
    if (!push != (pipeline->push_bytes == 0)) {
        return graft_fail(GRAFT_E_ARGUMENT, "pipeline %s has %u push bytes, but %s were given", pipeline->name,
                          pipeline->push_bytes, push ? "some" : "none");
    }
    if (commands->vk->spoil && strstr(pipeline->name, commands->vk->spoil)) {
        return GRAFT_OK;
    }
    enum graft_status status = dispatch(commands, pipeline, binds, push, groups);
    commands->failed = status != GRAFT_OK;
    return status;
}

enum graft_status graft_vk_copy(struct graft_vk_commands *commands, const struct graft_vk_buffer *from, uint64_t from_offset,
                                const struct graft_vk_buffer *to, uint64_t to_offset, uint64_t bytes)
{
    GRAFT_TRY(check_open(commands));
    struct graft_vk *vk = commands->vk;
    uint64_t from_end, to_end;
    if (bytes == 0 || !graft_add_u64(from_offset, bytes, &from_end) || from_end > from->bytes ||
        !graft_add_u64(to_offset, bytes, &to_end) || to_end > to->bytes || to->imported ||
        (from == to && from_offset < to_end && to_offset < from_end)) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "a copy of %" PRIu64 " bytes from %" PRIu64 " of %" PRIu64 " to %" PRIu64 " of %" PRIu64 "%s", bytes,
                          from_offset, from->bytes, to_offset, to->bytes, to->imported ? ", an imported mapping" : "");
    }
    struct graft_vk_touch touches[2] = {
        {.buffer = from, .begin = from_offset, .end = from_end},
        {.buffer = to, .begin = to_offset, .end = to_end, .write = true},
    };
    enum graft_vk_barrier_kind barrier;
    enum graft_status status = graft_vk_hazards_step(&commands->hazards, touches, 2, true, &barrier);
    commands->failed = status != GRAFT_OK;
    GRAFT_TRY(status);
    commands->barriers += graft_vk_hazards_record(vk, commands->native, barrier);
    VkBufferCopy region = {.srcOffset = from_offset, .dstOffset = to_offset, .size = bytes};
    vk->fn.vkCmdCopyBuffer(commands->native, graft_vk_impl(from)->handle, graft_vk_impl(to)->handle, 1, &region);
    stamp(commands);
    return GRAFT_OK;
}

enum graft_status graft_vk_commands_end(struct graft_vk_commands *commands)
{
    struct graft_vk *vk = commands->vk;
    GRAFT_TRY(graft_vk_alive(vk));
    if (commands->ended || commands->failed) {
        return graft_fail(GRAFT_E_ARGUMENT, "the recording %s", commands->ended ? "has ended" : "failed before");
    }
    graft_vk_barrier(vk, commands->native, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                     VK_PIPELINE_STAGE_HOST_BIT);
    commands->barriers++;
    VkResult result = GRAFT_VK_CALL(vk, GRAFT_VK_FAULT_RECORD, vk->fn.vkEndCommandBuffer(commands->native));
    if (result != VK_SUCCESS) {
        commands->failed = true;
        return graft_vk_fail(vk, result, "ending a recording");
    }
    commands->ended = true;
    graft_vk_hazards_free(&commands->hazards);
    return GRAFT_OK;
}

// What the recordings of a submission are to Vulkan.
static enum graft_status natives_of(struct graft_vk *vk, struct graft_vk_commands *const *commands, uint32_t count,
                                    VkCommandBuffer natives[MAX_SUBMITTED])
{
    if (count > MAX_SUBMITTED) {
        return graft_fail(GRAFT_E_ARGUMENT, "a submission of %u recordings; allowed are 1 to %d", count, MAX_SUBMITTED);
    }
    for (uint32_t i = 0; i < count; i++) {
        bool twice = false;
        for (uint32_t k = 0; k < i; k++) {
            twice = twice || commands[k] == commands[i];
        }
        if (!commands[i]->ended || commands[i]->vk != vk || twice) {
            return graft_fail(GRAFT_E_ARGUMENT, "recording %u of the submission %s", i,
                              twice                   ? "is in it twice"
                              : commands[i]->vk != vk ? "belongs to another device"
                                                      : "has not ended");
        }
        natives[i] = commands[i]->native;
    }
    return GRAFT_OK;
}

static void count_submitted(struct graft_vk *vk, struct graft_vk_commands *const *commands, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        vk->counters.dispatches += commands[i]->n_dispatches;
        vk->counters.barriers += commands[i]->barriers;
        commands[i]->submitted = true;
    }
}

enum graft_status graft_vk_submit(struct graft_vk *vk, struct graft_vk_commands *const *commands, uint32_t count)
{
    VkCommandBuffer natives[MAX_SUBMITTED];
    if (count == 0) {
        return graft_fail(GRAFT_E_ARGUMENT, "a submission of no recordings");
    }
    GRAFT_TRY(natives_of(vk, commands, count, natives));
    GRAFT_TRY(graft_vk_wait(vk));
    GRAFT_TRY(graft_vk_queue_submit(vk, &vk->fence, natives, count));
    count_submitted(vk, commands, count);
    return GRAFT_OK;
}

enum graft_status graft_vk_submit_sync(struct graft_vk *vk, struct graft_vk_commands *const *commands, uint32_t count,
                                       const struct graft_vk_sync *sync)
{
    VkCommandBuffer natives[MAX_SUBMITTED];
    GRAFT_TRY(natives_of(vk, commands, count, natives));
    GRAFT_TRY(graft_vk_queue_submit_sync(vk, vk->queue, natives, count, sync));
    vk->counters.submissions++;
    count_submitted(vk, commands, count);
    return GRAFT_OK;
}

enum graft_status graft_vk_wait(struct graft_vk *vk)
{
    bool pending = vk->fence.pending;
    GRAFT_TRY(graft_vk_fence_wait(vk, &vk->fence, "a submission"));
    return pending ? graft_vk_invalidate(vk) : GRAFT_OK;
}

enum graft_status graft_vk_times(struct graft_vk_commands *commands, uint64_t *ns, uint32_t count)
{
    struct graft_vk *vk = commands->vk;
    if (!commands->timed) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "the recording was made without timestamps");
    }
    if (!commands->submitted || count > commands->n_dispatches) {
        return graft_fail(GRAFT_E_ARGUMENT, "times of %u dispatches of a recording with %u, which was %ssubmitted", count,
                          commands->n_dispatches, commands->submitted ? "" : "never ");
    }
    GRAFT_TRY(graft_vk_wait(vk));
    uint64_t *stamps;
    uint32_t n = commands->n_operations + 1;
    GRAFT_TRY(GRAFT_NEW(vk->ctx, GRAFT_MEM_HOST, &stamps, n, "timestamps"));
    VkResult result = vk->fn.vkGetQueryPoolResults(vk->device, commands->queries, 0, n, n * sizeof *stamps, stamps,
                                                   sizeof *stamps, VK_QUERY_RESULT_64_BIT);
    if (result == VK_SUCCESS) {
        uint32_t bits = vk->physical.timestamp_bits;
        uint64_t mask = bits >= 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
        for (uint32_t i = 0; i < count; i++) {
            uint64_t ticks = (stamps[commands->query_of[i]] - stamps[commands->query_of[i] - 1]) & mask;
            ns[i] = (uint64_t)((double)ticks * vk->physical.timestamp_period);
        }
    }
    GRAFT_FREE(vk->ctx, &stamps);
    return result == VK_SUCCESS ? GRAFT_OK : graft_vk_fail(vk, result, "reading timestamps");
}
