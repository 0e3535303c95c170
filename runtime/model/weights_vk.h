// SPDX-License-Identifier: Apache-2.0
// Where the weights are on a device: used in place (the mapping imported as one buffer) or copied, one buffer a layer.
#ifndef GRAFT_RUNTIME_MODEL_WEIGHTS_VK_H
#define GRAFT_RUNTIME_MODEL_WEIGHTS_VK_H

#include "runtime/model/exec.h"
#include "runtime/vk/vk.h"

struct graft_place {
    const struct graft_vk_buffer *buffer;
    uint64_t offset; // of the first row
};

enum { GRAFT_SLOTS = 2 };

struct graft_weights_vk {
    struct graft_vk *vk;
    const struct graft_source *source;
    struct graft_vk_buffer *mapping;   // NULL if copied
    uint64_t mapping_skip;             // from the buffer's start to the mapping's
    struct graft_vk_buffer **layers;   // copied: per layer, then embeddings, then output unless tied
    struct graft_vk_buffer *vectors;   // all norm gains and biases as f32, layer by layer, then the output's norm
    struct graft_place *places;        // per matrix: private order
    uint32_t n_streamed;               // layers (graft_streamed_layer) that take turns in the slots; 0: none
    struct graft_vk_buffer *slots[GRAFT_SLOTS];
    struct graft_vk_stream *stream; // fills them; NULL: nothing is streamed
};

// Import or copy as `mode` says; a failing import, or one whose checksum differs, falls back to copying under
// GRAFT_WEIGHTS_AUTO and is an error under GRAFT_WEIGHTS_MAP. Errors as graft_model_open. On failure everything is given back.
GRAFT_MUST_CHECK enum graft_status graft_weights_vk_create(struct graft_weights_vk *out, struct graft_vk *vk,
                                                           const struct graft_exec_params *params);
void graft_weights_vk_destroy(struct graft_weights_vk *weights, struct graft_ctx *ctx);
// Where a matrix of the source is.
struct graft_place graft_weights_vk_find(const struct graft_weights_vk *weights, const struct graft_weight *weight);
// Word of `vectors` where a vector of the source begins.
uint32_t graft_weights_vk_vector(const struct graft_weights_vk *weights, const struct graft_weight *vector);
// True if the mapping would be imported on such a device.
bool graft_weights_vk_would_map(const struct graft_vk_caps *caps, enum graft_weights_mode mode, uint64_t base_bytes);
// Bytes of all copied buffers (0 if mapped; streamed layers share two slots) and of the vectors.
void graft_weights_vk_bytes(const struct graft_source *source, bool mapped, uint32_t n_streamed, uint64_t *matrices,
                            uint64_t *vectors);
// Bytes that streaming n_streamed layers copies for every batch, and the staging it keeps where memory is not mapped.
uint64_t graft_weights_vk_stream_bytes(const struct graft_source *source, uint32_t n_streamed);
uint64_t graft_weights_vk_stream_staging(const struct graft_source *source, uint32_t n_streamed);

#endif
