// SPDX-License-Identifier: Apache-2.0
// Lowering: one step of the plan, for a row count, as dispatches of kernels on buffers.
#ifndef GRAFT_RUNTIME_MODEL_LOWER_H
#define GRAFT_RUNTIME_MODEL_LOWER_H

#include "runtime/kernels/kernel.h"
#include "runtime/model/weights_vk.h"

// All buffers of the executor; their shapes are those of plan.h.
struct graft_buffers_vk {
    struct graft_vk_buffer *x, *xn, *ss, *q, *ao, *h, *scores, *route, *tiles, *y, *part, *counter, *logits, *top;
    struct graft_vk_buffer **kv;               // per layer: keys, then values
    struct graft_vk_buffer *kv_new, *kv_count; // keys and values on their way into quantized pages; a word per head written
    struct graft_vk_buffer *pool, *table;          // adapters; NULL without
    struct graft_vk_buffer *lora_t[2],
        *lora_count; // T of what reads XN, T of what reads AO or H; the last workgroup's counters
    struct graft_vk_buffer *expert_t; // T of a mixture's experts
    struct graft_vk_buffer *state[2];
};

struct graft_stage_vk {
    const char *step; // of the plan
    char kernel[48];
    uint32_t workgroups;
    uint64_t weight_bytes;
};

struct graft_lowering {
    struct graft_vk *vk;
    const struct graft_vk_caps *caps;
    const struct graft_plan *plan;
    const struct graft_limits *limits;
    const struct graft_weights_vk *weights;
    const struct graft_buffers_vk *buffers;
    struct graft_vk_commands *commands;     // being recorded
    struct graft_vk_pipeline **pipelines;   // every pipeline taken, to be put back; grows to pipelines_capacity
    uint32_t n_pipelines, pipelines_capacity;
    struct graft_stage_vk *stages;          // may be NULL
    uint32_t n_stages, stages_capacity;
    enum graft_activations activations;     // of matrix kernels, as resolved
    bool matrix_cores;                      // cooperative matrices for rows that are whole tiles
    enum graft_lora_kind lora;              // adapters of the rows: shrink before, expand in every matrix kernel
    uint32_t rows;                          // of this recording: batch rows (body) or wanted rows (head)
    uint32_t state;                         // which state buffer
    struct graft_state_layout layout;       // of the state buffer for the body's rows
    uint32_t ss_parts;                      // parts of SS as the last writer left them
};

// Record the dispatches of one step. Errors: GRAFT_E_UNSUPPORTED (a mixture of types no kernel takes), GRAFT_E_LIMIT, those of
// the device.
GRAFT_MUST_CHECK enum graft_status graft_lower_step(struct graft_lowering *lowering, const struct graft_step *step);
// Bytes of TILES and of Y for batches of up to limits->n_batch rows; 0 where a device never takes the way that needs them. Only
// for a mixture of experts.
void graft_lower_experts_bytes(const struct graft_plan *plan, const struct graft_limits *limits,
                               const struct graft_vk_caps *caps, uint64_t *tiles, uint64_t *y);
// Bytes of a layer's keys, which come first in its KV buffer.
uint64_t graft_lower_keys_bytes(const struct graft_plan *plan, const struct graft_limits *limits, uint32_t layer);
// Most dispatches that steps may become on the device: all of a plan, or some.
uint32_t graft_lower_max_dispatches(const struct graft_plan *plan, const struct graft_vk_caps *caps);
uint32_t graft_lower_dispatches(const struct graft_step *steps, uint32_t n_steps, const struct graft_vk_caps *caps);
// Parts of SS that RESIDUAL steps leave.
uint32_t graft_lower_residual_parts(const struct graft_plan *plan, const struct graft_vk_caps *caps);
// Parts of SS, chunks of TOP, floats of `part` and counters for `rows` batch rows: buffer sizes.
uint32_t graft_lower_max_parts(const struct graft_plan *plan, const struct graft_vk_caps *caps);
uint32_t graft_lower_top_chunks(const struct graft_plan *plan, const struct graft_vk_caps *caps);

#endif
