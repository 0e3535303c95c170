// SPDX-License-Identifier: Apache-2.0
// The kernels in scalar C: the definition of what every step computes. One file per kernel, written to be read.
//
// Buffers and their shapes are those of runtime/model/plan.h; what varies per row comes from the state image
// (shaders/params.h). Weights are dequantized row by row with runtime/quant, all sums are f32 in a fixed order: the same input
// gives the same bits, whatever else shares the batch and however the work is divided. Kernels that produce independent outputs
// take a range [first, last) of them. None allocates or fails. Thread-safety: safe on different ranges with different scratch.
#ifndef GRAFT_RUNTIME_REF_H
#define GRAFT_RUNTIME_REF_H

#include "graft/common.h"
#include "runtime/quant/kv.h"
#include "shaders/params.h"

struct graft_ref_lora;

// An expert of a row and the weight of its output.
struct graft_ref_route {
    uint32_t expert;
    float weight;
};

// A matrix of n_out rows of n_in weights in blocks of a weight format, and what adapters add to it.
struct graft_ref_matrix {
    const uint8_t *data;
    uint32_t type; // enum graft_type
    uint32_t n_in, n_out;
    uint64_t row_bytes;
    const struct graft_ref_lora *lora; // NULL: no row has an adapter
    uint32_t target, stage;            // of the adapter table: 0 .. 6, and its place among the targets that share the input
};

// One state image and where its parts are.
struct graft_ref_state {
    const uint32_t *words;
    struct graft_state_layout layout;
    uint32_t n_rows; // rows to compute
};

static inline const uint32_t *graft_ref_row(const struct graft_ref_state *state, uint32_t row)
{
    return state->words + state->layout.rows + row * GRAFT_ROW_WORDS;
}

struct graft_ref_heads {
    uint32_t n_head, n_head_kv, head_dim, rope_dim;
    enum graft_kv_format kv_k, kv_v; // of keys and values in their pages
    bool ring;                       // the layer's pages are those of its window
    bool rope_halves;      // W's rotary pairs are rows (i, i + rope_dim / 2) of a head; Q and K get them as (2i, 2i + 1)
    float attention_scale; // on Q
    float attention_cap;   // scores s become cap * tanh(s / cap); 0: they stay
    // of the layer:
    const float *bias[3];      // of q, k, v; NULL: none
    const float *head_norm[2]; // gains [head_dim] of the norms of each head of q and k; NULL: none
    float eps;                 // of those norms
    uint32_t rope;             // word of the state where cos and sin of the rows begin
    uint32_t window;           // positions a row attends to, itself included; 0: all
};

// The weight row that is output `o` of q or k: where the file has rotary pairs as halves of a head, they are put side by side.
static inline uint32_t graft_ref_rotary_row(const struct graft_ref_heads *heads, uint32_t o)
{
    uint32_t d = o % heads->head_dim;
    return heads->rope_halves && d < heads->rope_dim ? o - d + d / 2 + d % 2 * (heads->rope_dim / 2) : o;
}

// The adapters of a batch: pool of f16 matrices, table, and T = A x as graft_ref_shrink leaves it (layouts: shaders/params.h).
struct graft_ref_lora {
    const struct graft_ref_state *state;
    const uint16_t *pool;
    const uint32_t *table;
    uint32_t n_layer, layer;
    const float *inv_rms; // [n_rows] what the whole sum is multiplied by in the end; NULL: nothing
    float *t; // [n_rows][GRAFT_LORA_PAIRS][GRAFT_LORA_STAGE][GRAFT_LORA_RANK]
    // of a mixture: T of experts [n_rows][n_used][GRAFT_LORA_PAIRS][GRAFT_LORA_EXPERT_STAGE][GRAFT_LORA_RANK]
    float *expert_t;
    uint32_t n_used;
};
// T = weight * A x for targets target .. target + n_targets - 1, which share x [n_rows][n_in].
void graft_ref_shrink(const struct graft_ref_lora *lora, const float *x, uint32_t n_in, uint32_t target, uint32_t n_targets);
// What row r's adapters add to output o of a target: sum over pairs of B[o] . T + weight * (DORA[o] * base + BIAS[o] /
// inv_rms), or, where the entry is dense, of weight * B[o] . x. base = W[o] . x; x [n_in].
float graft_ref_expand(const struct graft_ref_lora *lora, uint32_t target, uint32_t stage, uint32_t o, uint32_t r, float base,
                       const float *x, uint32_t n_in);
// The same for the experts of a route [n_rows][n_used]: T = weight * A[e] x for targets target .. target + n_targets - 1 of
// every (row, expert); x [n_rows][n_in], with `own` [n_rows][n_used][n_in]. And what the adapters of row i / n_used add to
// output o of expert route[i]; x [n_in] is that expert's input.
void graft_ref_shrink_experts(const struct graft_ref_lora *lora, const struct graft_ref_route *route, const float *x, bool own,
                              uint32_t n_in, uint32_t target, uint32_t n_targets);
float graft_ref_expand_expert(const struct graft_ref_lora *lora, const struct graft_ref_route *route, uint32_t target,
                              uint32_t stage, uint32_t o, uint32_t i, float base);
// x[r] += sum over row r's pairs of weight * (B A[token] + DORA * x[r]): LoRA and DoRA on the embedding. x [n_rows][n_embd].
void graft_ref_expand_embed(const struct graft_ref_lora *lora, float *x, uint32_t n_embd);
// What row r's adapters add to a norm's gain at i. target: one of GRAFT_LORA_*_NORM.
float graft_ref_norm_difference(const struct graft_ref_lora *lora, uint32_t target, uint32_t r, uint32_t i);

// y[r * stride] = W[o] . x[r] (+ what adapters add) for all rows r; scratch: n_in floats. n_in is a multiple of 8.
void graft_ref_dot_rows(const struct graft_ref_matrix *w, uint32_t o, const float *x, uint32_t n_rows, float *y,
                        uint64_t stride, float *scratch);
// Rounded activations: q = round(x / d), ties to even, with d = max |x| / LEVELS of every group of 32 values; LEVELS is 127 for
// one plane, 127 * 128 for two (q in 8 or 15 bits). Groups whose values are all below 2^-100 become 0. x finite [n], q [n],
// d [n / 32]; n is a multiple of 32. A product with weights is the sum of W[k] d[k / 32] q[k], as published for q8_1.
void graft_ref_round_values(const float *x, uint32_t n, uint32_t planes, int32_t *q, float *d);
// sum of a[i] * b[i]: eight interleaved partial sums, then a tree. n is a multiple of 8.
float graft_ref_dot(const float *a, const float *b, uint32_t n);
// sum of squares, in the same order.
float graft_ref_sum_squares(const float *x, uint32_t n);
// 1 / sqrt(ss / n + eps)
float graft_ref_inverse_rms(float ss, uint32_t n, float eps);

// XN[r] = X[r] * gain, SS[r] = sum of X[r]^2. X, XN: [n_rows][n]; gain: [n]. Zhang and Sennrich 2019, without the division.
// With lora (NULL: none) the row's adapters change the gain: target, as in graft_ref_norm_difference.
void graft_ref_norm(const float *x, const float *gain, const struct graft_ref_lora *lora, uint32_t target, uint32_t n_rows,
                    uint32_t n, float *xn, float *ss);
// X[r] = E[token[r]].
void graft_ref_embed(const struct graft_ref_matrix *embd, const struct graft_ref_state *state, float *x);
// X[r] = scale * X[r]. X [n_rows][n].
void graft_ref_scale(float *x, float scale, uint32_t n_rows, uint32_t n);
// X[r] += Y[r] * gain / rms(Y[r]): a norm of what a block adds. X, Y [n_rows][n].
void graft_ref_post_norm(const float *y, const float *gain, const struct graft_ref_lora *lora, uint32_t target, float eps,
                         uint32_t n_rows, uint32_t n, float *x);
// cap * tanh(value / cap); the value itself where cap is 0. Gemma 2, Riviere 2024.
float graft_ref_cap(float value, float cap);
// Heads [first, last) of n_head + 2 n_head_kv (queries, then keys, then values). xn [n_rows][n_in], inv_rms [n_rows].
// y = W xn / rms + bias; queries and keys: y * gain / rms(y) where there are head norms, then rope.
// Q [n_rows][n_head][head_dim]; k, v: pages [page][n_head_kv] of units (runtime/quant/kv.h).
// scratch: n_in + n_rows * head_dim floats.
void graft_ref_qkv(const struct graft_ref_heads *heads, const struct graft_ref_matrix *wq, const struct graft_ref_matrix *wk,
                   const struct graft_ref_matrix *wv, const struct graft_ref_state *state, const float *xn,
                   const float *inv_rms, float *q, void *k, void *v, uint32_t first, uint32_t last, float *scratch);
// Rotate the pairs (2i, 2i + 1) of one head by the row's angles: rope holds cos, sin of each pair. Su et al. 2021.
void graft_ref_rope(const struct graft_ref_heads *heads, const uint32_t *rope, float *head);
// AO for query heads [first, last); positions before the window count for nothing. scratch: longest sequence + head_dim floats.
void graft_ref_attention(const struct graft_ref_heads *heads, const struct graft_ref_state *state, const float *q,
                         const void *k, const void *v, float *ao, uint32_t first, uint32_t last, float *scratch);
// X[r][o] += W[o] . in[r] for outputs o in [first, last); `set`: = instead of +=. in [n_rows][n_in], X [n_rows][n_out].
// scratch: n_in + n_rows floats.
void graft_ref_residual(const struct graft_ref_matrix *w, const float *in, uint32_t n_rows, float *x, bool set,
                        uint32_t first, uint32_t last, float *scratch);
// H[r][o] = f(g) u, g = Wg[o] . xn[r] * inv_rms[r], u likewise; f(g) = g / (1 + exp(-g)) (silu; Shazeer 2020) or, with `gelu`,
// g (1 + tanh(sqrt(2 / pi) (g + 0.044715 g^3))) / 2. scratch: n_in + 2 n_rows.
void graft_ref_gate_up(const struct graft_ref_matrix *gate, const struct graft_ref_matrix *up, const float *xn,
                       const float *inv_rms, uint32_t n_rows, bool gelu, float *h, uint32_t first, uint32_t last,
                       float *scratch);

// Router logits scores[r][e] = W[e] . xn[r] * inv_rms[r] for experts e in [first, last). scores [n_rows][n_out]. scratch:
// n_in + n_rows floats.
void graft_ref_router(const struct graft_ref_matrix *w, const float *xn, const float *inv_rms, uint32_t n_rows, float *scores,
                      uint32_t first, uint32_t last, float *scratch);
// One row's n_used largest of n_expert scores, the largest first, of equal ones the smaller number first, NaN before all;
// weight = exp(score - max) / sum, over the chosen (normalize) or over all. Shazeer 2017; Fedus 2021. route [n_used], n_used
// <= n_expert.
void graft_ref_choose_experts(const float *scores, uint32_t n_expert, uint32_t n_used, bool normalize,
                              struct graft_ref_route *route);
// H[r][k][o] = silu(g) u with the matrices of expert route[r][k], for outputs o in [first, last): gate and up hold one matrix
// [n_out][n_in] per expert, one after the other. H [n_rows][n_used][n_out]. scratch: n_in floats.
void graft_ref_experts_up(const struct graft_ref_matrix *gate, const struct graft_ref_matrix *up,
                          const struct graft_ref_route *route, uint32_t n_used, const float *xn, const float *inv_rms,
                          uint32_t n_rows, float *h, uint32_t first, uint32_t last, float *scratch);
// X[r][o] += sum over k, in order, of weight[r][k] * (W[expert[r][k]][o] . H[r][k]), for outputs o in [first, last). scratch:
// n_in floats.
void graft_ref_experts_down(const struct graft_ref_matrix *down, const struct graft_ref_route *route, uint32_t n_used,
                            const float *h, uint32_t n_rows, float *x, uint32_t first, uint32_t last, float *scratch);
// LOGITS[i][o] = graft_ref_cap(W[o] . xn[out[i]] * inv_rms[out[i]], cap) for the state's n_out rows. scratch: n_in floats.
void graft_ref_head(const struct graft_ref_matrix *w, const struct graft_ref_state *state, const float *xn,
                    const float *inv_rms, float cap, float *logits, uint32_t first, uint32_t last, float *scratch);
// The k largest of n logits (k <= n), unordered; ties: the smaller id. NaN counts as larger than everything, so that it shows.
// ids, values: [k].
void graft_ref_top(const float *logits, uint32_t n, uint32_t k, int32_t *ids, float *values);

#endif
