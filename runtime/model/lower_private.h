// SPDX-License-Identifier: Apache-2.0
// What the files of the lowering share: lower.c (dense steps), lower_experts.c (a mixture of experts).
#ifndef GRAFT_RUNTIME_MODEL_LOWER_PRIVATE_H
#define GRAFT_RUNTIME_MODEL_LOWER_PRIVATE_H

#include <stdio.h>
#include <string.h>

#include "loaders/adapter.h"
#include "platform/bytes.h"
#include "runtime/model/lower.h"

// Largest range of weights a binding can show, less what alignment may cost.
static inline uint64_t window_bytes(const struct graft_vk_caps *caps, bool texel)
{
    uint64_t most = texel ? (uint64_t)caps->max_texel_elements * 4 : caps->max_storage_bytes;
    if (most > UINT32_MAX) {
        most = UINT32_MAX; // byte offsets in kernels are 32-bit
    }
    return most - 4096;
}

// Bind bytes [offset, offset + bytes) of a buffer: the binding starts at the alignment below; *delta is what it starts too
// early.
static inline struct graft_vk_bind window(const struct graft_lowering *lo, const struct graft_vk_buffer *buffer,
                                          uint64_t offset, uint64_t bytes, uint32_t *delta)
{
    uint64_t alignment =
        lo->caps->storage_alignment > lo->caps->texel_alignment ? lo->caps->storage_alignment : lo->caps->texel_alignment;
    uint64_t begin = offset & ~(alignment - 1), end = (offset + bytes + 15) & ~(uint64_t)15;
    if (end > buffer->bytes) {
        end = buffer->bytes;
    }
    *delta = (uint32_t)(offset - begin);
    return (struct graft_vk_bind){buffer, begin, end - begin};
}

static inline struct graft_vk_bind whole(const struct graft_vk_buffer *buffer)
{
    return (struct graft_vk_bind){buffer, 0, buffer->bytes};
}

static inline enum graft_status record(struct graft_lowering *lo, struct graft_kernel *kernel,
                                       const struct graft_vk_bind *binds, const char *step, uint64_t weight_bytes)
{
    if (lo->n_pipelines == lo->pipelines_capacity || (lo->stages && lo->n_stages == lo->stages_capacity)) {
        return graft_fail(GRAFT_E_INTERNAL, "more dispatches than planned at %s", step);
    }
    kernel->pipeline.name = kernel->name;
    GRAFT_TRY(graft_vk_pipeline_get(lo->vk, &lo->pipelines[lo->n_pipelines], &kernel->pipeline));
    struct graft_vk_pipeline *pipeline = lo->pipelines[lo->n_pipelines++];
    GRAFT_TRY(graft_vk_dispatch(lo->commands, pipeline, binds, &kernel->push, kernel->groups));
    if (lo->stages) {
        struct graft_stage_vk *stage = &lo->stages[lo->n_stages++];
        stage->step = step;
        memcpy(stage->kernel, kernel->name, sizeof stage->kernel);
        stage->workgroups = kernel->groups[0] * kernel->groups[1];
        stage->weight_bytes = weight_bytes;
    }
    return GRAFT_OK;
}

// Adapters. T goes to and fro between two buffers: lora_t[0] is for what reads XN, lora_t[1] for what reads AO or H, so that a
// step may write the next one's while it reads its own. That of a mixture's experts has a buffer of its own.
enum { T_OF_XN, T_OF_OTHERS, T_OF_EXPERTS };

static inline uint32_t entry_of(uint32_t layer, uint32_t target)
{
    return layer * GRAFT_LORA_TARGETS + target;
}

static inline struct graft_lora_push lora_push(const struct graft_lowering *lo, uint32_t entry)
{
    return (struct graft_lora_push){.stride = lo->plan->source->config.n_layer * GRAFT_LORA_TARGETS, .entry = entry};
}

// Do kernels shrink for the step that reads what they write?
static inline bool folds(const struct graft_lowering *lo)
{
    return graft_variant_choose(lo->caps, lo->rows).fold;
}

// The kernel's last workgroup shrinks for n targets from `entry` on, if kernels do that.
static inline void fold(struct graft_lora_push *push, uint32_t entry, uint32_t n)
{
    push->next = entry | n << GRAFT_LORA_NEXT_SHIFT;
}

// Bindings behind a kernel's own: pool and table; in: T to read (which, -1: none) and the state; out: T to write, the counters,
// and the state if it is not there yet.
static inline void bind_lora(const struct graft_lowering *lo, struct graft_vk_bind *binds, int in, int out)
{
    const struct graft_buffers_vk *b = lo->buffers;
    uint32_t n = 0;
    if (!lo->lora) {
        return;
    }
    binds[n++] = whole(b->pool);
    binds[n++] = whole(b->table);
    if (in >= 0) {
        binds[n++] = whole(in == T_OF_EXPERTS ? b->expert_t : b->lora_t[in]);
        binds[n++] = whole(b->state[lo->state]);
    }
    if (out >= 0) {
        binds[n++] = whole(b->lora_t[out]);
        binds[n++] = whole(b->lora_count);
    }
    if (in < 0) {
        binds[n++] = whole(b->state[lo->state]);
    }
}

// For the last step of a layer: the norm whose gain adapters may change, and the shrink of the targets that read it next.
static inline void next_layer(const struct graft_lowering *lo, struct graft_lora_push *push, uint32_t layer)
{
    if (layer + 1 < lo->plan->source->config.n_layer) {
        push->norm = entry_of(layer + 1, GRAFT_LORA_ATTN_NORM);
        fold(push, entry_of(layer + 1, GRAFT_TARGET_Q), 3);
    } else {
        push->norm = entry_of(0, GRAFT_LORA_OUTPUT_NORM);
    }
}

static inline enum graft_status too_wide(const struct graft_weight *weight)
{
    return graft_fail(GRAFT_E_UNSUPPORTED, "tensor %s: rows of %" PRIu64 " bytes exceed what the device can bind",
                      weight->label, weight->row_bytes);
}

// The shrink of n_targets targets from `entry` on as a dispatch of its own, in front of the step that reads `input`; nothing
// where the step before has done it. t: where T goes.
GRAFT_MUST_CHECK enum graft_status graft_lower_shrink(struct graft_lowering *lo, const struct graft_step *step,
                                                      const struct graft_vk_buffer *input, uint32_t n_in, uint32_t entry,
                                                      uint32_t n_targets, int t);

// The steps of a mixture of experts.
GRAFT_MUST_CHECK enum graft_status graft_lower_experts(struct graft_lowering *lo, const struct graft_step *step);

#endif
