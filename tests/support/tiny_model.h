// SPDX-License-Identifier: Apache-2.0
// A tiny llama model with random weights and a byte-level vocabulary, as a GGUF file: small enough to compute in microseconds,
// whole enough to chat with.
#ifndef GRAFT_TESTS_TINY_MODEL_H
#define GRAFT_TESTS_TINY_MODEL_H

#include "loaders/types.h"
#include "support/gguf_builder.h"

enum { GRAFT_TINY_VOCAB = 290, GRAFT_TINY_IM_START = 256, GRAFT_TINY_IM_END = 257, GRAFT_TINY_PATH_BYTES = 256 };

// Zero means default. The rows of formats with blocks of 256 need widths that are multiples of it: the defaults are larger
// then.
struct graft_tiny_model {
    uint32_t type;      // of the matrices: enum graft_type
    uint32_t n_layer;   // 2
    uint32_t n_embd;    // 64 (256)
    uint32_t n_ff;      // 96 (256)
    uint32_t n_head;    // 4
    uint32_t n_head_kv; // 2
    uint32_t head_dim;  // 16 (64); heads * head_dim need not be n_embd
    uint32_t n_ctx;     // 512
    bool untied;        // with an output matrix of its own
    bool rope_factors;  // with rope_freqs.weight
    bool no_template;
    uint64_t seed;
    // For damaged models:
    const char *leave_out[8]; // keys and tensors that are not written
    const char *wrong_shape;  // this tensor gets one row more (a vector: one value more)
};

// Keys and tensors into a builder that is not finished: more may be added.
void graft_tiny_model_build(struct graft_test_gguf *b, const struct graft_tiny_model *model);
// Finished, in a new file of the temporary folder; remove it after use. NULL = all defaults.
void graft_tiny_model_file(const struct graft_tiny_model *model, char path[GRAFT_TINY_PATH_BYTES]);
// The same for a builder.
void graft_tiny_save(struct graft_test_gguf *b, char path[GRAFT_TINY_PATH_BYTES]);

#endif
