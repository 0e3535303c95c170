// SPDX-License-Identifier: Apache-2.0
// Push constants and the state buffer's layout, for C and GLSL from one file. Everything is made of 32-bit words.
//
// State buffer (one small write per step, words):
//   [0 .. GRAFT_STATE_HEADER)        n_rows, n_out, 0 ...
//   [rows .. + n_rows * ROW_WORDS)   per row: the GRAFT_ROW_* words below
//   [out .. + n_out)                 rows whose logits are wanted
//   [rope .. + n_rows * rope_dim)    per row: cos, sin of each rotary pair (f32)
//   [tables .. + (n_seq + 1) * table_pages)  page table of each sequence: KV page numbers; then a spare table of zeros
// Rows beyond n_rows (a recorded plan has a fixed row count) use the spare table, write to the spare page 0 and compute without effect.
#ifndef GRAFT_SHADERS_PARAMS_H
#define GRAFT_SHADERS_PARAMS_H

#ifndef GL_core_profile
#include <stdint.h>
#define GRAFT_UINT uint32_t
#define GRAFT_FLOAT float
#else
#define GRAFT_UINT uint
#define GRAFT_FLOAT float
#endif

#define GRAFT_STATE_HEADER 4u
#define GRAFT_STATE_N_ROWS 0u
#define GRAFT_STATE_N_OUT 1u

#define GRAFT_ROW_WORDS 16u
#define GRAFT_ROW_TOKEN 0u  // id to embed
#define GRAFT_ROW_POS 1u    // position in its sequence = number of tokens before it
#define GRAFT_ROW_TABLE 2u  // word offset of its sequence's page table, counted from `tables`
#define GRAFT_ROW_SLOT 3u   // KV slot this row writes: page * GRAFT_PAGE_TOKENS + pos % GRAFT_PAGE_TOKENS
#define GRAFT_ROW_LORA 4u   // 4 pairs (adapter slot, weight as f32 bits); slot 0xffffffff = none
#define GRAFT_NO_SLOT 0xffffffffu

#define GRAFT_PAGE_TOKENS 32u // tokens in one KV page

// Candidates: the logits of a row are cut into chunks; each gives its best GRAFT_TOP_K, unordered.
#define GRAFT_TOP_K 64u

// Word offsets into the state buffer.
struct graft_state_layout {
    GRAFT_UINT rows, out, rope, tables;
};

#endif
