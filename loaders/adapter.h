// SPDX-License-Identifier: Apache-2.0
// An adapter as read from any of its file formats: one plain description, no model knowledge beyond target names.
//   y = W x + scale * B (A x)          LoRA: Hu 2021; scale = alpha / r, rsLoRA (Kalajdzievski 2023): alpha / sqrt(r)
//   DoRA (Liu 2024) adds one magnitude per output: y = m / ||W + scale B A|| * (W x + scale B A x)
#ifndef GRAFT_LOADERS_ADAPTER_H
#define GRAFT_LOADERS_ADAPTER_H

#include "loaders/types.h"
#include "platform/plat.h"

// What an adapter changes, in the order of a layer's pool slot. In a mixture of experts GATE, UP and DOWN are an expert's.
enum graft_target {
    GRAFT_TARGET_Q, GRAFT_TARGET_K, GRAFT_TARGET_V, GRAFT_TARGET_O, GRAFT_TARGET_GATE, GRAFT_TARGET_UP, GRAFT_TARGET_DOWN,
    GRAFT_TARGET_ROUTER,
    GRAFT_LAYER_TARGETS,
    GRAFT_TARGET_EMBED = GRAFT_LAYER_TARGETS, GRAFT_TARGET_HEAD,
    GRAFT_TARGET_ATTN_NORM, GRAFT_TARGET_FFN_NORM, GRAFT_TARGET_OUTPUT_NORM, GRAFT_TARGET_Q_NORM, GRAFT_TARGET_K_NORM,
    GRAFT_TARGET_POST_ATTN_NORM, GRAFT_TARGET_POST_FFN_NORM,
    GRAFT_TARGETS,
    // Several of the above as one module: of a base whose file has them as one tensor (Phi 3).
    GRAFT_TARGET_QKV = GRAFT_TARGETS, GRAFT_TARGET_GATE_UP,
    // PEFT's pre_feedforward_layernorm, until graft_adapter_fit has made FFN_NORM of it (Gemma).
    GRAFT_TARGET_PRE_FFN_NORM,
    GRAFT_ALL_TARGETS
};

// A tensor of the adapter's bytes. type: enum graft_type (F32, F16 or BF16).
struct graft_adapter_view {
    const uint8_t *data; // NULL if absent
    uint32_t type;
    uint64_t rows, cols; // row-major; a vector has rows 1
};
// Bytes of one value of such a tensor.
static inline uint64_t graft_adapter_value_bytes(uint32_t type)
{
    return type == GRAFT_TYPE_F32 ? 4 : 2;
}

struct graft_adapter_pair {
    enum graft_target target;
    uint32_t layer;                      // 0 for EMBED and HEAD; EMBED: a [rank][n_vocab], b [n_embd][rank]
    uint32_t expert;                     // 1 + number of the expert whose matrix it is; 0: it is not of an expert
    uint32_t rank;
    float scale;                         // alpha / r or alpha / sqrt(r), patterns applied
    struct graft_adapter_view a;         // [rank][n_in]
    struct graft_adapter_view b;         // [n_out][rank]
    struct graft_adapter_view magnitude; // DoRA: [n_out]; data NULL for plain LoRA
    struct graft_adapter_view bias;      // lora_bias: [n_out], added to B's output before scaling; data NULL if none
};

// A whole tensor that replaces the base's (modules_to_save): a norm's gain, the head or a router. Or a copy of the base's
// embedding or head that PEFT saved with an adapter on it (save_embedding_layers).
struct graft_adapter_whole {
    enum graft_target target;
    uint32_t layer; // 0 for HEAD, EMBED and OUTPUT_NORM
    bool base_copy;
    const char *name; // of the tensor, for errors
    struct graft_adapter_view view;
};

enum { GRAFT_ADAPTER_MAX_RANK = 256, GRAFT_ADAPTER_MAX_ALORA = 64, GRAFT_ADAPTER_MAX_EXPERTS = 512 };

struct graft_adapter_desc {
    struct graft_ctx *ctx;
    uint8_t digest[32];        // SHA-256 of the tensor file's bytes followed by the configuration's: the adapter's identity
    char base_name[256];       // what the file says it was made for; "" if nothing
    char architecture[32];     // of the base it was made for, where the file says it (GGUF); "" if not
    char signer[17];           // id of the key it is signed with; "" where the context asks for no signature
    uint32_t n_pairs, n_whole;
    struct graft_adapter_pair *pairs; // in the order of graft_adapter_pair_order
    struct graft_adapter_whole *whole;
    uint32_t max_rank;
    bool rows_permuted;        // rows of q's and k's B are in the order of the base's GGUF file already; false for PEFT
    bool norms_placed;         // names of norms that depend on the architecture are resolved (graft_adapter_fit)
    bool mixtral_names;        // experts were named block_sparse_moe.experts.N.w1, w2, w3
    uint32_t n_expert;         // experts of the base, as far as is known: at least the largest that a pair is of
    bool use_rslora;           // the scales were written as alpha / sqrt(r); they are in `scale` already
    int32_t alora[GRAFT_ADAPTER_MAX_ALORA]; // invocation tokens; n_alora = 0: active from the first token
    uint32_t n_alora;
    uint64_t n_parameters;
    uint8_t *bytes;            // the file as read, once; owned
    uint64_t n_bytes;
    char *names;               // backing of the whole tensors' names; owned
};

// Read a PEFT folder, an adapter_model.safetensors beside its adapter_config.json, or a GGUF adapter: read once into memory
// (class ADAPTERS is the pool's, this is HOST), hashed, checked, never mapped. On failure *out is NULL. Errors name file, key
// or tensor, found and allowed:
// GRAFT_E_SIGNATURE (the context asks for signatures, checked before anything is parsed),
// GRAFT_E_IO, GRAFT_E_FORMAT, GRAFT_E_UNSUPPORTED (pickle files are refused unread; a configuration key that is not understood
// and not at its default), GRAFT_E_LIMIT, GRAFT_E_MEMORY, GRAFT_E_BUDGET. Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status graft_adapter_read(struct graft_ctx *ctx, struct graft_adapter_desc **out, const char *path);
// Free; *desc becomes NULL. NULL is accepted.
void graft_adapter_free(struct graft_adapter_desc **desc);

// Where llama.cpp's converter puts row `row` of q and k (convert_hf_to_gguf.py, permute): the halves of a head are interleaved,
// so that row j * half + i of a head becomes row 2 * i + j. head_dim is even.
static inline uint64_t graft_adapter_permuted_row(uint64_t row, uint64_t head_dim)
{
    uint64_t half = head_dim / 2, in_head = row % head_dim;
    return row - in_head + 2 * (in_head % half) + in_head / half;
}

// "q_proj": the name of a target as PEFT has it, "?" outside the enum.
const char *graft_target_name(enum graft_target target);
// "layer 3 q_proj", "layer 3 expert 5 up_proj": for errors. Returns `out`.
enum { GRAFT_PAIR_NAME_BYTES = 64 };
const char *graft_adapter_pair_name(enum graft_target target, uint32_t layer, uint32_t expert, char out[GRAFT_PAIR_NAME_BYTES]);
// By layer, then expert, then target: below 0, 0 or above 0 for two struct graft_adapter_pair, as qsort and bsearch ask for it.
int graft_adapter_pair_order(const void *left, const void *right);
// Is it the gain of a norm?
static inline bool graft_target_is_norm(enum graft_target target)
{
    return (target >= GRAFT_TARGET_ATTN_NORM && target < GRAFT_TARGETS) || target == GRAFT_TARGET_PRE_FFN_NORM;
}
// Does every layer have one?
static inline bool graft_target_of_layer(enum graft_target target)
{
    return target != GRAFT_TARGET_EMBED && target != GRAFT_TARGET_HEAD && target != GRAFT_TARGET_OUTPUT_NORM;
}

#endif
