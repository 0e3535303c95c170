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

// out[i] = base^(-2i/rope_dim) / linear_factor / factors[i] (factors NULL: 1) for i < rope_dim / 2. Source: RoFormer, Su et al.
// 2021, eq. 15.
void graft_rope_frequencies(const struct graft_config *config, float base, float linear_factor, const float *factors,
                            float out[GRAFT_MAX_ROPE_PAIRS]);

// ---- decoders (arch_dense.c) ----

// Keys that every decoder may have: shape, tokens, and what changes nothing.
#define GRAFT_ARCH_KNOWN_KEYS                                                                                                  \
    "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",                        \
        "attention.head_count_kv", "attention.layer_norm_rms_epsilon", "attention.key_length", "attention.value_length",       \
        "rope.dimension_count", "rope.freq_base", "vocab_size", "tensor_data_layout"
// Keys of rope that graft_arch_linear_scaling reads, and those beside them that describe the past of the file and change
// nothing.
#define GRAFT_ARCH_LINEAR_ROPE_KEYS                                                                                            \
    "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear", "rope.scaling.original_context_length",                   \
        "rope.scaling.finetuned"
// What graft_arch_scaled_rope reads besides, where rope.scaling.type is yarn.
#define GRAFT_ARCH_YARN_KEYS "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow", "rope.scaling.yarn_attn_factor"
#define GRAFT_ARCH_YARN_NEUTRAL_KEYS                                                                                           \
    {                                                                                                                          \
        "rope.scaling.yarn_ext_factor", 1, "a mixture of YaRN and interpolation"                                               \
    }
// Keys that may stand with the value that asks for nothing.
#define GRAFT_ARCH_NEUTRAL_KEYS                                                                                                \
    {"attention.causal", 1, "attention that is not causal"}, {"attention.clamp_kqv", 0, "clamped attention inputs"},           \
        {"attention.max_alibi_bias", 0, "ALiBi positions"}, {"use_parallel_residual", 0, "parallel residuals"}
#define GRAFT_ARCH_NO_WINDOW                                                                                                   \
    {                                                                                                                          \
        "attention.sliding_window", 0, "sliding-window attention"                                                              \
    }
#define GRAFT_ARCH_NO_ROPE_FACTOR                                                                                              \
    {                                                                                                                          \
        "rope.scaling.attn_factor", 1, "a rotary attention factor"                                                             \
    }
// The same for those that can have no experts.
#define GRAFT_ARCH_DENSE_NEUTRAL_KEYS                                                                                          \
    {"expert_count", 0, "a mixture of experts"}, {"expert_used_count", 0, "a mixture of experts"},                             \
        {"expert_shared_count", 0, "a mixture of experts"}

// What a layer has beside llama's nine tensors.
enum graft_arch_parts {
    GRAFT_ARCH_BIASES = 1,     // of q, k and v
    GRAFT_ARCH_HEAD_NORMS = 2, // of q and k
    GRAFT_ARCH_POST_NORMS = 4, // behind attention and feed-forward
    GRAFT_ARCH_FUSED = 8,      // attn_qkv for q, k and v; ffn_up for gate and up
    GRAFT_ARCH_EXPERTS = 16    // a mixture of experts, if expert_count says so
};

struct graft_arch_rules {
    const char *const *known;                  // ends with NULL
    const struct graft_arch_neutral *neutral;  // ends with {NULL}
    enum graft_rope_pairs rope_pairs;
    uint32_t parts; // of enum graft_arch_parts
    // The rest of the configuration: rope's frequencies, windows of the layers, factors. The shape is known, the layers are
    // there and zero, nothing is missing.
    enum graft_status (*finish)(struct graft_arch_reader *reader);
};

// Read a source by these rules: everything but what finish does. Errors: those of graft_source_open.
GRAFT_MUST_CHECK enum graft_status graft_arch_read_dense(struct graft_source *source, const struct graft_gguf *gguf,
                                                         const char *prefix, const struct graft_arch_rules *rules);
// The factor that stretches positions; older files have it as rope.scale_linear, newer ones as rope.scaling.*. Other kinds of
// scaling: GRAFT_E_UNSUPPORTED.
GRAFT_MUST_CHECK enum graft_status graft_arch_linear_scaling(struct graft_arch_reader *reader, float *out);
// Factors [rope_dim / 2] of a tensor, finite and above 0; *found false if it is absent.
GRAFT_MUST_CHECK enum graft_status graft_arch_factors(struct graft_arch_reader *reader, const char *name,
                                                      float factors[GRAFT_MAX_ROPE_PAIRS], bool *found);
// A cap: finite and above 0, or 0 if the key is absent.
GRAFT_MUST_CHECK enum graft_status graft_arch_cap(struct graft_arch_reader *reader, const char *suffix, float *out);
// What Gemma's versions share: embeddings times sqrt(n_embd), GELU, and attention.scale, which files do not have: models of
// layers_27b layers scale queries by sqrt(n_head / n_embd), the others by 1 / sqrt(head_dim).
GRAFT_MUST_CHECK enum graft_status graft_arch_gemma_scales(struct graft_arch_reader *reader, uint32_t layers_27b);
// attention.sliding_window, or fallback, is the window of every layer whose number `every` divides.
GRAFT_MUST_CHECK enum graft_status graft_arch_windows(struct graft_arch_reader *reader, uint32_t fallback, uint32_t every);
// Frequencies and magnitude of rope with the file's base and scaling, into the configuration: none, linear, or YaRN (Peng et
// al. 2023, sections 3.2 to 3.4): frequencies with fewer than beta_slow turns in the original context are divided by the
// factor, those with more than beta_fast stay, in between in proportion; cos and sin times 0.1 ln(factor) + 1. factors: as in
// graft_rope_frequencies; with YaRN GRAFT_E_UNSUPPORTED.
GRAFT_MUST_CHECK enum graft_status graft_arch_scaled_rope(struct graft_arch_reader *reader, const float *factors);
// A `finish` that reads rope, and nothing else.
GRAFT_MUST_CHECK enum graft_status graft_arch_plain_rope(struct graft_arch_reader *reader);

#endif
