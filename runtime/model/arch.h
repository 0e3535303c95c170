// SPDX-License-Identifier: Apache-2.0
// What the architecture files share: reading hyperparameters and tensors so that everything missing is reported at once, every
// number is checked against a range and every tensor against a shape, and nothing in the file is ignored silently.
#ifndef GRAFT_RUNTIME_MODEL_ARCH_H
#define GRAFT_RUNTIME_MODEL_ARCH_H

#include "runtime/model/config.h"

enum { GRAFT_ARCH_KEY_BYTES = 128 };

struct graft_arch_reader {
    struct graft_source *source;
    const struct graft_gguf *gguf;
    const char *prefix;     // "llama"
    char missing[768];      // names of missing keys and tensors, comma-separated; cut when full
    uint32_t missing_bytes; // used of it
    uint32_t n_missing;
    bool *taken;       // [n_tensors]: read by the architecture
    uint32_t n_labels; // used of source->labels
};

// Start reading; room for `max_weights` labels is taken. End with graft_arch_end in any case.
GRAFT_MUST_CHECK enum graft_status graft_arch_begin(struct graft_arch_reader *reader, struct graft_source *source,
                                                    const struct graft_gguf *gguf, const char *prefix);
GRAFT_MUST_CHECK enum graft_status graft_arch_labels(struct graft_arch_reader *reader, uint32_t max_weights);
void graft_arch_end(struct graft_arch_reader *reader);

// Note a missing key or tensor.
void graft_arch_missing(struct graft_arch_reader *reader, const char *name);
// GRAFT_E_FORMAT that lists everything noted so far; GRAFT_OK if nothing was.
GRAFT_MUST_CHECK enum graft_status graft_arch_check_missing(struct graft_arch_reader *reader);

// "PREFIX.SUFFIX" into key.
void graft_arch_key(const struct graft_arch_reader *reader, const char *suffix, char key[GRAFT_ARCH_KEY_BYTES]);
// An integer in least .. most. Absent: noted as missing, *out = least.
GRAFT_MUST_CHECK enum graft_status graft_arch_u32(struct graft_arch_reader *reader, const char *suffix, uint32_t least,
                                                  uint32_t most, uint32_t *out);
// The same, absent: fallback.
GRAFT_MUST_CHECK enum graft_status graft_arch_u32_or(struct graft_arch_reader *reader, const char *suffix, uint32_t fallback,
                                                     uint32_t least, uint32_t most, uint32_t *out);
// A finite number above 0. required and absent: noted as missing; otherwise fallback.
GRAFT_MUST_CHECK enum graft_status graft_arch_positive(struct graft_arch_reader *reader, const char *suffix, bool required,
                                                       float fallback, float *out);
// Keys under PREFIX that are in neither list change the computation in a way this version does not know: GRAFT_E_UNSUPPORTED,
// by name. A key in `neutral` may stand only with the value given there.
struct graft_arch_neutral {
    const char *suffix;
    double value;
    const char *meaning; // "sliding-window attention"
};
GRAFT_MUST_CHECK enum graft_status graft_arch_check_keys(const struct graft_arch_reader *reader, const char *const *known,
                                                         const struct graft_arch_neutral *neutral);

// Find a tensor, check type and shape (n_out 1: a vector), fill *weight. Absent: noted as missing if required, weight->data
// stays NULL.
GRAFT_MUST_CHECK enum graft_status graft_arch_weight(struct graft_arch_reader *reader, struct graft_weight *weight,
                                                     const char *name, bool required, uint32_t n_in, uint32_t n_out);
// The same for n_expert such matrices in one tensor of three dimensions; 0: one matrix, two dimensions.
GRAFT_MUST_CHECK enum graft_status graft_arch_matrices(struct graft_arch_reader *reader, struct graft_weight *weight,
                                                       const char *name, bool required, uint32_t n_in, uint32_t n_out,
                                                       uint32_t n_expert);
// Vectors are read as f32 by every kernel: any other type is refused.
GRAFT_MUST_CHECK enum graft_status graft_arch_vector(struct graft_arch_reader *reader, struct graft_weight *weight,
                                                     const char *name, bool required, uint32_t n);
// Tensors that were not taken: GRAFT_E_UNSUPPORTED, by name.
GRAFT_MUST_CHECK enum graft_status graft_arch_check_tensors(const struct graft_arch_reader *reader);

// ---- mixtures of experts (arch_experts.c) ----

// Keys of a mixture of experts, and those that may stand with the value that asks for nothing.
#define GRAFT_ARCH_EXPERT_KEYS                                                                                                 \
    "expert_count", "expert_used_count", "expert_feed_forward_length", "expert_gating_func", "expert_weights_norm"
#define GRAFT_ARCH_EXPERT_NEUTRAL_KEYS                                                                                         \
    {"expert_shared_count", 0, "experts that all rows share"}, {"expert_weights_scale", 1, "scaled weights of experts"},       \
        {"expert_shared_feed_forward_length", 0, "experts that all rows share"},                                               \
        {"expert_group_count", 0, "groups of experts"}, {"leading_dense_block_count", 0, "dense layers before a mixture"},     \
        {"interleave_moe_layer_step", 1, "dense layers in a mixture"}, {"moe_every_n_layers", 1, "dense layers in a mixture"}

// expert_count and what belongs to it into the configuration, whose n_ff is known; none: n_expert is 0.
GRAFT_MUST_CHECK enum graft_status graft_arch_expert_keys(struct graft_arch_reader *reader);

// config->rope_inv_freq[i] = base^(-2i/rope_dim) / linear_factor / factors[i] (factors NULL: 1). Source: RoFormer, Su et al.
// 2021, eq. 15.
void graft_rope_frequencies(struct graft_config *config, float base, float linear_factor, const float *factors);

#endif
