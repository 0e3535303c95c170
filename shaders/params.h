// SPDX-License-Identifier: Apache-2.0
// Push constants and the state buffer's layout, for C and GLSL from one file. Everything is made of 32-bit words.
//
// State buffer (one small write per step, words):
//   [0 .. GRAFT_STATE_HEADER)        n_rows, n_out, 0 ...
//   [rows .. + n_rows * ROW_WORDS)   per row: the GRAFT_ROW_* words below
//   [out .. + n_out)                 rows whose logits are wanted
//   [rope .. + n_rows * rope_dim)    per row: cos, sin of each rotary pair (f32); twice where layers differ in their angles
//   [tables .. + (n_seq + 1) * table_pages)  page table of each sequence: KV page numbers; then a spare table of zeros
//   [rings .. + (n_seq + 1) * table_pages)   the same for layers that keep only the pages of their window, if there are any
// Rows beyond n_rows (a recorded plan has a fixed row count) use the spare table, write to the spare page 0 and compute without
// effect.
#ifndef GRAFT_SHADERS_PARAMS_H
#define GRAFT_SHADERS_PARAMS_H

#ifdef GRAFT_GLSL
#define GRAFT_UINT uint
#define GRAFT_FLOAT float
#else
#include <stdint.h>
#define GRAFT_UINT uint32_t
#define GRAFT_FLOAT float
typedef struct graft_lora_push graft_lora_push; // GLSL has no struct keyword in declarations of members
#endif

// Id of the specialization constant that holds a weight format (GGUF's number of the type), in every kernel that reads weights.
#define GRAFT_FORMAT_CONSTANT 6
// Those of the integer dot products (shaders/lib/dot.glsl).
#define GRAFT_PLANES_CONSTANT 15
#define GRAFT_CHUNK_CONSTANT  16
// Those of cooperative matrices (shaders/lib/matrix.glsl). PART_ROWS: rows of a part of the sums of squares.
#define GRAFT_TILE_ROWS_CONSTANT 17
#define GRAFT_MATRIX_M_CONSTANT  18
#define GRAFT_MATRIX_N_CONSTANT  19
#define GRAFT_MATRIX_K_CONSTANT  20
#define GRAFT_KSUBS_CONSTANT     21
#define GRAFT_PART_ROWS_CONSTANT 22

#define GRAFT_STATE_HEADER 4u
#define GRAFT_STATE_N_ROWS 0u
#define GRAFT_STATE_N_OUT 1u

#define GRAFT_ROW_WORDS 16u
#define GRAFT_ROW_TOKEN 0u  // id to embed
#define GRAFT_ROW_POS 1u    // position in its sequence = number of tokens before it
#define GRAFT_ROW_TABLE 2u  // word offset of its sequence's page table, counted from `tables`
#define GRAFT_ROW_SLOT 3u   // KV slot this row writes: page * GRAFT_PAGE_TOKENS + pos % GRAFT_PAGE_TOKENS
#define GRAFT_ROW_RING_SLOT 12u // as SLOT, in layers with rings
#define GRAFT_ROW_LORA 4u   // 4 pairs (adapter slot, weight as f32 bits); slot 0xffffffff = none
#define GRAFT_NO_SLOT 0xffffffffu
#define GRAFT_LORA_PAIRS 4u

// Adapter table: [slot][layer][target] entries of GRAFT_LORA_ENTRY words. Offsets count uvec4 in the pool; 0 means absent (the
// first 16 bytes of an adapter are not used). Targets that belong to no layer have their entry in layer 0.
//   linear (Q .. ROUTER, HEAD) A [rank][n_in] f16, B [n_out][rank] f16 with scale (and DoRA's multiplier) folded in, DORA and
//                              BIAS [n_out] f32; HEAD may be dense instead: B [n_out][n_in] f16, a difference, A absent
//   EMBED                      A [n_vocab][rank] f16 (transposed), B [n_embd][rank] f16
//   *_NORM                     A [n_embd or head_dim] f32, the difference to the base's gain
//   GATE, UP, DOWN of experts  A is the place of a table [n_expert] of entries of the linear kind, whose places count from the
//                              table on (0: absent; differences in 32 bits, the matrices may lie before it)
// y = W x + sum over pairs of weight * (DORA * (W x) + B (A x) + BIAS). rank is padded to a multiple of 8, so that rows are
// whole uvec4. T, what shrink leaves: [row][pair][target of the stage][GRAFT_LORA_RANK] f32; of experts
// [row * n_used + place in ROUTE][pair][gate, up or down alone][GRAFT_LORA_RANK].
#define GRAFT_LORA_TARGETS 17u // q k v o gate up down router, embed head, the norms
#define GRAFT_LORA_ROUTER 7u
#define GRAFT_LORA_EMBED 8u
#define GRAFT_LORA_HEAD 9u
#define GRAFT_LORA_ATTN_NORM 10u
#define GRAFT_LORA_FFN_NORM 11u
#define GRAFT_LORA_OUTPUT_NORM 12u
#define GRAFT_LORA_Q_NORM 13u // k's follows
#define GRAFT_LORA_POST_ATTN_NORM 15u
#define GRAFT_LORA_POST_FFN_NORM 16u
#define GRAFT_LORA_ENTRY 8u // words:
#define GRAFT_LORA_A 0u
#define GRAFT_LORA_B 1u
#define GRAFT_LORA_ENTRY_RANK 2u // 0: there is no A and B
#define GRAFT_LORA_DORA 3u       // multiplier less 1
#define GRAFT_LORA_BIAS 4u
#define GRAFT_LORA_DENSE 5u      // 1: B is dense
#define GRAFT_LORA_RANK 256u     // most, and the stride of T
#define GRAFT_LORA_STAGE 3u      // most targets that share an input
#define GRAFT_LORA_EXPERT_STAGE 2u // the same of an expert

#define GRAFT_PAGE_TOKENS 32u // tokens in one KV page

// Candidates: the logits of a row are cut into chunks; each gives its best GRAFT_TOP_K, unordered.
#define GRAFT_TOP_K 64u

// Word offsets into the state buffer.
struct graft_state_layout {
    GRAFT_UINT rows, outs, rope, tables, rings;
};

// Adapters, in the push constants of every kernel that knows them. Entries are counted inside a slot: layer *
// GRAFT_LORA_TARGETS + target.
struct graft_lora_push {
    GRAFT_UINT stride; // entries of a slot: n_layer * GRAFT_LORA_TARGETS
    GRAFT_UINT entry;  // of the kernel's first target
    GRAFT_UINT norm;   // of the gain that the kernel multiplies by; qkv: of q's head norm, k's follows
    GRAFT_UINT next;   // of the first target that reads what the kernel writes, and << GRAFT_LORA_NEXT_SHIFT how many of
                       // them the kernel's last workgroup shrinks for (0: none); shrink, experts_shrink: how many targets
                       // it is for
};
#define GRAFT_LORA_NEXT_SHIFT 24u

// Push constants of the matrix kernels (qkv, residual, gate_up, head). Weights are seen through one or two bindings; a segment
// is a matrix inside a binding.
struct graft_matmul_push {
    GRAFT_UINT subs;         // n_in / 32
    GRAFT_UINT row_bytes;    // of a weight row
    GRAFT_UINT rows[3];      // output rows of each segment
    GRAFT_UINT base[3];      // byte offset of each segment in its binding
    GRAFT_UINT groups[2];    // workgroups before segment 1 and before segment 2
    GRAFT_UINT first[3];     // output index of each segment's first row
    GRAFT_UINT out_stride;   // output values of one batch row
    GRAFT_UINT parts_in;     // parts of SS to add up
    GRAFT_UINT parts_out;    // workgroups of a tile of batch rows in all: parts of SS, where it is written
    GRAFT_UINT part_first;   // part of workgroup 0
    GRAFT_FLOAT inv_n;       // 1 / n_embd
    GRAFT_FLOAT eps;
    GRAFT_FLOAT scale;       // qkv: attention_scale, on queries
    GRAFT_UINT kinds;        // qkv: what segment i is, 2 bits each: 0 query, 1 key, 2 value; residual: adapters' entry of the
                             // norm of what is added
    GRAFT_UINT v_words;      // qkv: word offset of the value half of the layer's KV binding
    GRAFT_UINT vector;       // word among the vectors: residual: gain of the next norm; qkv: bias of q, then k's and v's
    GRAFT_UINT norm;         // likewise; residual: gain of the norm of what is added; qkv: of q's head norm, then k's
    GRAFT_UINT state_rows, state_out, state_rope;
    graft_lora_push lora;
};

// Push constants of shrink.
struct graft_shrink_push {
    GRAFT_UINT fours; // n_in / 4
    GRAFT_UINT state_rows;
    GRAFT_UINT state_out; // rows are those of the state's list at this word; 0: rows are counted from 0
    graft_lora_push lora;
};

// Push constants of embed.
struct graft_embed_push {
    GRAFT_UINT subs;      // n_embd / 32
    GRAFT_UINT row_bytes;
    GRAFT_UINT base;      // byte offset of the table's row `first` in its binding
    GRAFT_UINT first, count; // token ids in this binding
    GRAFT_UINT parts_out; // parts of SS in all = workgroups in x
    GRAFT_UINT state_rows;
    GRAFT_FLOAT scale;    // on every value
    graft_lora_push lora;
};

// Push constants of attention.
struct graft_attention_push {
    GRAFT_UINT n_head, n_head_kv, head_dim;
    GRAFT_UINT head_groups; // workgroups that share a KV head, each with up to 4 query heads
    GRAFT_UINT v_quads;     // uvec4 offset of the value half
    GRAFT_UINT state_rows, state_tables;
    graft_lora_push lora;
};

// A mixture of experts.
//   ROUTE  [n][n_used] pairs: expert, weight (f32 bits), the largest router logit first
//   TILES  [tile][1 + columns]: an expert, then assignments (row * n_used + place in ROUTE) that it computes;
//          GRAFT_NO_EXPERT in places that are not used
#define GRAFT_MAX_EXPERTS 512u
#define GRAFT_MAX_EXPERTS_USED 32u
#define GRAFT_NO_EXPERT 0xffffffffu

// Push constants of router, experts_group, experts_shrink, experts_up, experts_down and experts_residual.
struct graft_experts_push {
    GRAFT_UINT subs;         // n_in / 32
    GRAFT_UINT row_bytes;    // of a weight row
    GRAFT_UINT rows;         // output rows of one expert's matrix; router: experts
    GRAFT_UINT base[2];      // byte offset of the window's first expert in each binding of weights
    GRAFT_UINT expert_bytes; // of one expert's matrix
    GRAFT_UINT expert_first, expert_count; // experts in the window; experts_group: all of them
    GRAFT_UINT n_used;       // experts of a batch row
    GRAFT_UINT n_assigned;   // experts_group: batch rows * n_used
    GRAFT_UINT n_tiles;      // experts_group: tiles there is room for
    GRAFT_UINT normalize;    // router: weights of the chosen experts add up to 1; otherwise those of all do
    GRAFT_UINT parts_in;     // parts of SS to add up
    GRAFT_UINT parts_out;    // workgroups of a tile of batch rows
    GRAFT_FLOAT inv_n;       // 1 / n_embd
    GRAFT_FLOAT eps;
    GRAFT_UINT vector;       // experts_residual: word among the vectors of the next norm's gain
    GRAFT_UINT sharing;      // experts_shrink: (row, expert) pairs that share an input: n_used or 1
    GRAFT_UINT state_rows;
    graft_lora_push lora;
};

// Push constants of top.
struct graft_top_push {
    GRAFT_UINT n_vocab;
};

#endif
