// SPDX-License-Identifier: Apache-2.0
// An executor runs the plan: one table of functions, two implementations (exec_ref.c: scalar C; exec_vk.c: Vulkan).
#ifndef GRAFT_RUNTIME_MODEL_EXEC_H
#define GRAFT_RUNTIME_MODEL_EXEC_H

#include "graft/model.h"
#include "runtime/model/plan.h"

// One row of a batch as the executor sees it.
struct graft_exec_row {
    uint32_t token, pos, seq, slot; // seq < n_seq: which page table; slot: page * GRAFT_PAGE_TOKENS + offset
    uint32_t n_pairs;               // adapters of this row
    struct {
        uint32_t slot; // of the pool's table
        float weight;
    } pairs[GRAFT_LORA_PAIRS];
};

struct graft_exec_batch {
    const struct graft_exec_row *rows;
    uint32_t n_rows;              // 1 .. n_batch
    const uint32_t *out;          // rows whose logits are wanted
    uint32_t n_out;               // 0 .. n_rows
    const uint32_t *tables;       // [n_seq][table_pages]
    const uint32_t *rings;        // the same for layers with rings; NULL: there are none
    bool logits;                  // the whole rows are wanted, not only candidates
};

// Plan buffers that can be looked at.
enum graft_exec_buffer { GRAFT_BUFFER_X, GRAFT_BUFFER_XN, GRAFT_BUFFER_SS, GRAFT_BUFFER_Q, GRAFT_BUFFER_AO, GRAFT_BUFFER_H };

struct graft_exec;
struct graft_exec_functions {
    // Compute a batch; blocks. Errors: GRAFT_E_DEVICE_LOST. Allocates nothing.
    enum graft_status (*run)(struct graft_exec *exec, const struct graft_exec_batch *batch);
    // After run: candidates of the o-th wanted row, unsorted; *count in: capacity, out: number (all that the device kept, or
    // capacity of the best).
    enum graft_status (*candidates)(struct graft_exec *exec, uint32_t o, struct graft_candidate *out, uint32_t *count);
    // After run with logits: the o-th wanted row's logits, valid until the next run.
    enum graft_status (*logits)(struct graft_exec *exec, uint32_t o, const float **out);
    // Stages of the plan for n_rows, as graft_model_stages; may be NULL.
    enum graft_status (*stages)(struct graft_exec *exec, uint32_t n_rows, struct graft_stage *out, uint32_t *count);
    // Run a batch only up to body step `n_steps` (exclusive) and copy one buffer out (first n_rows rows): for tests that
    // compare executors
    // step by step. KV: this layer's K and V of the rows' slots are not offered; SS is summed to one value per row.
    enum graft_status (*peek)(struct graft_exec *exec, const struct graft_exec_batch *batch, uint32_t n_steps,
                              enum graft_exec_buffer buffer, float *out, uint64_t capacity);
    // Write packed adapter bytes into the pool, or move them to a lower place (offsets and bytes multiples of 16, inside
    // limits.pool_bytes), and an adapter's table entries [n_layer][GRAFT_LORA_TARGETS][GRAFT_LORA_ENTRY] (see
    // shaders/params.h). Between two batches; visible from the next one on. The first adapter with more than A and B makes the
    // device record its buckets for such adapters.
    enum graft_status (*adapter_write)(struct graft_exec *exec, uint64_t offset, const void *data, uint64_t bytes);
    enum graft_status (*adapter_move)(struct graft_exec *exec, uint64_t from, uint64_t to, uint64_t bytes);
    enum graft_status (*adapter_table)(struct graft_exec *exec, uint32_t slot, const uint32_t *entries);
    // The keys, or the values, of a page in one layer: n_head_kv units (runtime/quant/kv.h), graft_kv_page_bytes of them.
    // Between two batches. What is written may be on its way until pages_written has returned.
    enum graft_status (*page_read)(struct graft_exec *exec, uint32_t layer, uint32_t page, bool values, void *out);
    enum graft_status (*page_write)(struct graft_exec *exec, uint32_t layer, uint32_t page, bool values, const void *data);
    enum graft_status (*pages_written)(struct graft_exec *exec);
    // Fill a KV page of every layer that has no ring, or of every one that has, with zeros. Between two batches.
    enum graft_status (*clear_page)(struct graft_exec *exec, uint32_t page, bool ring);
    // As graft_model_stream_times, with a batch of one wanted row that hurts nobody; NULL: nothing is ever streamed.
    enum graft_status (*stream_times)(struct graft_exec *exec, const struct graft_exec_batch *batch,
                                      struct graft_stream_times *out);
    void (*destroy)(struct graft_exec **exec);
};

// First member of every executor.
struct graft_exec {
    const struct graft_exec_functions *functions;
    bool imported; // the weights are used where they are
    enum graft_activations activations;
    bool matrix_cores; // in use
};

// Most candidates of one row that `candidates` may return.
enum { GRAFT_MAX_CANDIDATES = 1024 };

struct graft_exec_params {
    struct graft_ctx *ctx;
    const struct graft_plan *plan;
    struct graft_limits limits;
    bool timed;
    enum graft_activations activations; // F32 in exec_ref, whatever is asked for
    bool matrix_cores;                  // not in exec_ref
    enum graft_weights_mode weights;
    bool (*progress)(void *user, uint64_t done, uint64_t total);
    void *progress_user;
};

// Scalar C. Memory: KV and scratch from the ledger; weights are read in place.
GRAFT_MUST_CHECK enum graft_status graft_exec_ref_create(struct graft_exec **out, const struct graft_exec_params *params);

struct graft_vk;
// Vulkan. Uploads or imports the weights, takes KV and scratch, records every row bucket.
GRAFT_MUST_CHECK enum graft_status graft_exec_vk_create(struct graft_exec **out, struct graft_vk *vk,
                                                        const struct graft_exec_params *params);

// What the two would take, by ledger class (added to bytes), from metadata alone. caps NULL: an unknown discrete device.
struct graft_vk_caps;
void graft_exec_ref_estimate(const struct graft_plan *plan, const struct graft_limits *limits,
                             uint64_t bytes[GRAFT_MEM_CLASSES]);
void graft_exec_vk_estimate(const struct graft_plan *plan, const struct graft_limits *limits, const struct graft_vk_caps *caps,
                            enum graft_weights_mode weights, uint64_t bytes[GRAFT_MEM_CLASSES], uint64_t *mapped_bytes);

#endif
