// SPDX-License-Identifier: Apache-2.0
// A model's shape and weights as read from a file: metadata -> numbers, tensor names -> slots. One file per architecture.
#ifndef GRAFT_RUNTIME_MODEL_CONFIG_H
#define GRAFT_RUNTIME_MODEL_CONFIG_H

#include "loaders/gguf.h"

enum { GRAFT_MAX_LAYERS = 512, GRAFT_MAX_ROPE_PAIRS = 512 };

enum graft_rope_pairs {
    GRAFT_ROPE_ADJACENT, // (2i, 2i + 1): llama files, whose q and k rows are permuted for it
    GRAFT_ROPE_HALVES    // (i, i + rope_dim / 2): NeoX; q's and k's rows are read in the order that puts pairs side by side
};

enum graft_activation {
    GRAFT_ACTIVATION_SILU, // g / (1 + exp(-g)): SwiGLU, Shazeer 2020
    GRAFT_ACTIVATION_GELU  // g (1 + tanh(sqrt(2 / pi) (g + 0.044715 g^3))) / 2: GeGLU with Hendrycks 2016's approximation
};

struct graft_config {
    char architecture[32];
    char name[128];
    uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab, n_ctx_train;
    // A mixture of experts: n_expert 0 in a dense model. Each row goes to n_expert_used experts of n_ff_expert values each,
    // whose weights add up to 1 (expert_norm) or to their share of all experts'.
    uint32_t n_expert, n_expert_used, n_ff_expert;
    bool expert_norm;
    float rms_eps;
    enum graft_rope_pairs rope_pairs;
    uint32_t rope_dim;                               // rotated values of a head, <= head_dim, even
    float rope_inv_freq[GRAFT_MAX_ROPE_PAIRS];       // rope_dim / 2 values: angle = position * inv_freq (scaling applied)
    float rope_inv_freq_local[GRAFT_MAX_ROPE_PAIRS]; // of the layers with rope_local, where there are any
    bool two_ropes;                                  // some layers have rope_local
    float rope_magnitude;                            // factor on cos and sin; 1 for plain rope
    float attention_scale;                           // on queries: 1 / sqrt(head_dim) in most
    float attention_cap;                             // scores become cap * tanh(score / cap); 0: they stay as they are
    float logit_cap;                                 // logits likewise
    float embedding_scale;                           // on rows of the embedding; 1 in most
    enum graft_activation activation;                // of the gate
    bool norms_plus_one;                             // gains in the file are 1 + what the model was trained with (Gemma)
    // Long rope: a context longer than this takes rope_inv_freq_long (graft_config_set_context); 0: there is one set only.
    uint32_t n_ctx_short;
    float rope_inv_freq_long[GRAFT_MAX_ROPE_PAIRS];
};

// A matrix y = W x: n_out rows of n_in weights; or a vector (n_out = 1). data points into the file's mapping (or synthetic
// memory).
struct graft_weight {
    const char *label;   // "blk.0.attn_q.weight", for errors and stages
    const uint8_t *data; // row-major in the type's blocks
    uint32_t type;       // enum graft_type
    uint32_t n_in, n_out;
    uint64_t row_bytes;
    uint32_t n_expert;   // such matrices, one after the other; 0: one
    uint64_t offset;     // from the start of the file
};

// Bytes of a matrix, or of all experts' matrices.
static inline uint64_t graft_weight_bytes(const struct graft_weight *weight)
{
    return weight->row_bytes * weight->n_out * (weight->n_expert ? weight->n_expert : 1);
}

struct graft_layer {
    struct graft_weight attn_norm, q, k, v, o, ffn_norm, gate, up, down; // gate, up, down: the experts' in a mixture
    struct graft_weight router;                                          // [n_expert][n_embd]; data NULL: dense
    // Vectors that not every architecture has; data NULL: none.
    struct graft_weight q_bias, k_bias, v_bias;
    struct graft_weight q_norm, k_norm;                // [head_dim], of each head before rope
    struct graft_weight post_attn_norm, post_ffn_norm; // of what is added to the residual stream
    uint32_t window;                                   // positions a token attends to, itself included; 0: all before it
    bool rope_local;                                   // rotated by rope_inv_freq_local
};

// Values of a row between the two halves of the feed-forward: of all its experts.
static inline uint64_t graft_config_hidden(const struct graft_config *config)
{
    return config->n_expert ? (uint64_t)config->n_expert_used * config->n_ff_expert : config->n_ff;
}

// A model in memory on the host: shape and weights, device-independent.
struct graft_source {
    struct graft_ctx *ctx;
    struct graft_config config;
    struct graft_weight embd;        // token embeddings [n_vocab rows][n_embd]
    struct graft_weight output_norm;
    struct graft_weight output;      // = embd when tied
    bool tied;
    bool fused;                      // the file has one tensor for q, k, v and one for gate, up: those are rows of them
    struct graft_layer *layers;      // [n_layer]
    const uint8_t *base;             // start of the mapping, size below: what could be imported
    uint64_t base_bytes;
    char *labels;                    // private: backing of the labels
    uint8_t *memory;                 // private: weights of a synthetic model; NULL when they lie in a file
};

// Read shape and weights. All missing keys and tensors are listed at once; every shape is checked against the hyperparameters;
// every value out of its range is an error with both values. Errors: GRAFT_E_UNSUPPORTED (architecture, with the list of those
// supported; tensor type), GRAFT_E_FORMAT, GRAFT_E_LIMIT. The gguf must stay open while the source lives. On failure *out is
// NULL.
GRAFT_MUST_CHECK enum graft_status graft_source_open(struct graft_ctx *ctx, struct graft_source **out,
                                                     const struct graft_gguf *gguf);
void graft_source_close(struct graft_source **source);

// A model of a real shape with random weights, made in place: "NAME:TYPE", NAME one of llama-8b, llama-1b, llama-135m, moe-7b
// (a mixture of experts), TYPE any supported format, in any case. Matrices have that type (135m: blocks of 256 do not divide
// its rows and are refused), vectors are F32.
// Memory: class WEIGHTS. Errors: GRAFT_E_ARGUMENT (name or type, with what is offered), GRAFT_E_MEMORY, GRAFT_E_BUDGET.
GRAFT_MUST_CHECK enum graft_status graft_source_synthetic(struct graft_ctx *ctx, struct graft_source **out, const char *shape);

// An architecture: name in general.architecture and the function that fills config and weights.
struct graft_arch {
    const char *name;
    enum graft_status (*read)(struct graft_source *source, const struct graft_gguf *gguf);
};
extern const struct graft_arch graft_arch_llama, graft_arch_qwen2, graft_arch_qwen3, graft_arch_qwen3moe, graft_arch_phi3,
    graft_arch_gemma2, graft_arch_gemma3;

// Choose between the two sets of frequencies of long rope, for sequences of up to n_ctx tokens. Once, before the plan is made.
void graft_config_set_context(struct graft_config *config, uint32_t n_ctx);

#endif
