// SPDX-License-Identifier: Apache-2.0
// The plan: the fixed list of steps that compute a batch of rows, independent of the device. Both executors run it: exec_ref in
// scalar C (the definition), exec_vk by recording each step's dispatches once.
//
// Buffers (f32 unless said), n = rows of the plan:
//   X      [n][n_embd]            residual stream
//   XN     [n][n_embd]            X * gain of the next norm, not yet divided by the root mean square
//   SS     [n][parts]             sums of squares of X, in parts; their sum / n_embd + eps = the mean square
//   Q      [n][n_head][head_dim]  rotated queries, already times attention_scale; rotary pairs stand side by side in Q and K
//   KV     per layer: K pages, then V pages, each [page][n_head_kv] units (runtime/quant/kv.h)
//   AO     [n][n_head][head_dim]  attention output
//   SCORES [n][n_expert + n_expert_used] router logits (a mixture of experts); ROUTE, TILES: shaders/params.h
//   Y      [n][n_expert_used][n_embd] experts' outputs, where rows are grouped by expert
//   H      [n][n_ff]              f(gate) * up, f the configuration's activation
//   LOGITS [n_out][n_vocab]
//   TOP    [n_out][chunks][GRAFT_TOP_K] candidates (id, logit bits)
#ifndef GRAFT_RUNTIME_MODEL_PLAN_H
#define GRAFT_RUNTIME_MODEL_PLAN_H

#include "runtime/model/config.h"
#include "runtime/quant/kv.h"
#include "shaders/params.h"

enum graft_step_kind {
    GRAFT_STEP_EMBED,    // X = E[token]; XN = X * gain; SS
    GRAFT_STEP_QKV,      // y = W XN / rms + bias; head norms and rope on q and k; Q, K page, V page
    GRAFT_STEP_ATTENTION,// AO = softmax(Q K^T) V, causal, over the row's pages or the layer's window
    GRAFT_STEP_RESIDUAL, // X += W in (in = AO or H), or with `post` its norm; XN = X * gain; SS
    GRAFT_STEP_GATE_UP,  // H = f(Wg XN / rms) * (Wu XN / rms)
    GRAFT_STEP_ROUTER,   // SCORES = W XN / rms; ROUTE: the largest of them, with weights
    GRAFT_STEP_EXPERTS_UP,   // H[k] = silu(Wg[e_k] XN / rms) * (Wu[e_k] XN / rms) for each expert of the row
    GRAFT_STEP_EXPERTS_DOWN, // X += sum over k of weight_k W[e_k] H[k]; XN = X * gain; SS
    GRAFT_STEP_HEAD,     // LOGITS[o] = W XN[row out[o]] / rms
    GRAFT_STEP_TOP       // TOP
};

struct graft_step {
    enum graft_step_kind kind;
    const char *name;                    // "blk.3.qkv"
    uint32_t layer;                      // of KV
    const struct graft_weight *weight[3];// QKV: q k v; GATE_UP, EXPERTS_UP: gate up; others: one; ATTENTION, TOP: none
    const struct graft_weight *gain;     // EMBED, RESIDUAL, EXPERTS_DOWN: of the norm that reads X next
    const struct graft_weight *post;     // RESIDUAL: gain of the norm of what is added to X; NULL: none
    bool from_ff;                        // RESIDUAL: reads H instead of AO
};

struct graft_plan {
    struct graft_ctx *ctx;
    const struct graft_source *source;
    uint32_t n_body;           // steps up to the last layer
    struct graft_step *body;   // EMBED, then per layer QKV ATTENTION RESIDUAL GATE_UP RESIDUAL,
                               // or QKV ATTENTION RESIDUAL ROUTER EXPERTS_UP EXPERTS_DOWN
    struct graft_step head[2]; // HEAD, TOP
    char *names;               // private
};

GRAFT_MUST_CHECK enum graft_status graft_plan_create(struct graft_ctx *ctx, struct graft_plan **out,
                                                     const struct graft_source *source);
void graft_plan_destroy(struct graft_plan **plan);

// Limits of one opened model; the same for every bucket.
struct graft_limits {
    uint32_t n_batch;  // most rows in a step
    uint32_t n_seq;    // most sequences
    uint32_t n_out;    // most rows of a batch whose logits are wanted
    uint32_t n_pages;  // KV pages incl. spare page 0; each holds GRAFT_PAGE_TOKENS tokens
    uint32_t table_pages; // most pages of one sequence
    uint32_t n_slots;     // adapters resident at a time; 0 = none, nothing is taken for them
    uint64_t pool_bytes;  // of their packed matrices
    enum graft_kv_format kv_k, kv_v; // of keys and values in their pages
    uint32_t window;                 // of the layers that have one: the widest
    uint32_t ring_pages;             // of a sequence in those layers; 0: they have pages like all others
    uint32_t n_streamed;             // layers, spread evenly, whose weights take turns in two slots of the device; 0 = none
};

// window and ring_pages for a source's layers: rings where they are smaller than the pages of the whole context. A batch writes
// all its rows before any attends, and a page more is for tokens that are taken back.
void graft_limits_set_rings(struct graft_limits *limits, const struct graft_source *source);
// Does the layer keep only the pages of its window?
static inline bool graft_layer_has_ring(const struct graft_source *source, const struct graft_limits *limits, uint32_t layer)
{
    return limits->ring_pages && source->layers[layer].window;
}
// Layers whose weights are streamed: unit 0, 1 ... of n_streamed is layer 0, n_layer / n_streamed, 2 n_layer / n_streamed ...
// Spread like that, the link copies while resident layers compute.
static inline uint32_t graft_streamed_layer(uint32_t n_layer, uint32_t n_streamed, uint32_t unit)
{
    return (uint32_t)((uint64_t)unit * n_layer / n_streamed);
}
// Is the layer one of them?
static inline bool graft_layer_streamed(uint32_t n_layer, uint32_t n_streamed, uint32_t layer)
{
    uint64_t unit = ((uint64_t)layer * n_streamed + n_layer - 1) / n_layer; // the first one that is not in front of the layer
    return unit < n_streamed && graft_streamed_layer(n_layer, n_streamed, (uint32_t)unit) == layer;
}
// Pages of a layer: all, or all rings and a spare one.
static inline uint32_t graft_layer_pages(const struct graft_limits *limits, bool ring)
{
    return ring ? 1 + limits->n_seq * limits->ring_pages : limits->n_pages;
}
// Bytes of a layer's key pages, which come first, and of its value pages; false on overflow.
bool graft_kv_layer_bytes(const struct graft_config *config, const struct graft_limits *limits, bool ring, uint64_t *keys,
                          uint64_t *values);
// Bytes of all layers' pages.
bool graft_kv_bytes(const struct graft_source *source, const struct graft_limits *limits, uint64_t *bytes);

// Bytes of a page of a layer: its keys, or its values.
static inline uint64_t graft_kv_page_bytes(const struct graft_config *config, const struct graft_limits *limits, bool values)
{
    return config->n_head_kv * graft_kv_unit_bytes(values ? limits->kv_v : limits->kv_k, config->head_dim);
}

// Words of a state buffer for `rows` rows and where its parts start.
uint32_t graft_state_words(const struct graft_config *config, const struct graft_limits *limits, uint32_t rows,
                           struct graft_state_layout *out);
// Word of a state buffer where cos and sin of the rows begin, for layers with or without rope_local.
uint32_t graft_state_rope(const struct graft_config *config, const struct graft_state_layout *layout, bool local);
// Write the state of a batch into an image of graft_state_words words; rows >= batch->n_rows, the rows behind the batch's are
// spare ones. n_out <= rows. Allocates nothing. Thread-safety: safe on different images.
struct graft_exec_batch;
void graft_state_fill(const struct graft_config *config, const struct graft_limits *limits,
                      const struct graft_state_layout *layout, uint32_t rows, const struct graft_exec_batch *batch,
                      uint32_t *image);

#endif
