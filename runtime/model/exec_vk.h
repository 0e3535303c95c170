// SPDX-License-Identifier: Apache-2.0
// What the files of the Vulkan executor share: exec_vk.c (recording, running), exec_vk_memory.c (buffers).
#ifndef GRAFT_RUNTIME_MODEL_EXEC_VK_H
#define GRAFT_RUNTIME_MODEL_EXEC_VK_H

#include "runtime/model/exec.h"
#include "runtime/model/lower.h"

enum { MAX_BUCKETS = 16, STATES = 2, MAX_SEGMENTS = 32, LORA_KINDS = 3, SLOT_HEAD = 1, SLOT_EXTRAS = 2 };

struct bucket {
    uint32_t rows, n_segments;
    struct graft_vk_commands **commands[STATES]; // [n_segments]
    struct graft_stage_vk *stages;               // of all segments
    uint32_t *n_stages;                          // of each segment
};

struct exec_vk {
    struct graft_exec exec; // first
    struct graft_ctx *ctx;
    struct graft_vk *vk;
    const struct graft_plan *plan;
    struct graft_limits limits;
    bool timed;
    struct graft_state_layout layout; // for n_batch rows, the same in every bucket
    struct graft_weights_vk weights;
    struct graft_buffers_vk buffers;
    struct graft_vk_buffer *readback; // of logits, where they are not mapped
    struct graft_vk_commands *copy[MAX_BUCKETS];
    struct bucket body[LORA_KINDS][MAX_BUCKETS], head[LORA_KINDS][MAX_BUCKETS]; // by enum graft_lora_kind
    bool has_extras;     // the buckets of GRAFT_LORA_EXTRAS are recorded
    struct graft_vk_buffer *window; // into the adapter pool, where it is not mapped
    uint8_t *slot_kinds; // [n_slots]: SLOT_ bits of the adapter in a slot
    uint32_t n_body, n_head;
    struct graft_vk_pipeline **pipelines;
    uint32_t n_pipelines, pipelines_capacity, max_dispatches;
    uint32_t chunks;  // of TOP
    uint32_t state;   // to be written next
    uint32_t n_out;   // of the last batch
    bool has_logits;  // of the last batch
    enum graft_lora_kind lora; // of the last batch
};

// Powers of two up to `most`, and `most` itself; how many.
uint32_t graft_exec_vk_buckets(uint32_t most, uint32_t rows[MAX_BUCKETS]);

// Buffers have room for the rows that a column tile may touch beyond the batch.
static inline uint32_t whole_tiles(uint32_t rows)
{
    return (rows + GRAFT_MAX_COLS - 1) / GRAFT_MAX_COLS * GRAFT_MAX_COLS;
}

// exec_vk_stream.c: compute a body whose layers are streamed: each of its segments uses one unit of the stream; the last one is
// first in `last`. Blocks. Errors: GRAFT_E_DEVICE_LOST, those of the copies; nothing is in flight then.
GRAFT_MUST_CHECK enum graft_status graft_exec_vk_run_streamed(struct exec_vk *e, const struct bucket *body, uint32_t state,
                                                              struct graft_vk_commands *const *last, uint32_t n_last);
enum graft_status graft_exec_vk_stream_times(struct graft_exec *exec, const struct graft_exec_batch *batch,
                                             struct graft_stream_times *out);

// Take all buffers but the weights; free them (what is there).
GRAFT_MUST_CHECK enum graft_status graft_exec_vk_take_buffers(struct exec_vk *e);
void graft_exec_vk_free_buffers(struct exec_vk *e);

#endif
