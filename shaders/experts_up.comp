// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// The experts' first half: h = silu(g) * u with g = Wg[e] xn / rms, u = Wu[e] xn / rms, for every row and each of its experts.
//   weights, weights2 [experts of the window][n_ff][n_embd] quantized, one format   xn [n][n_embd]   ss [n][parts_in]
//   work: TILES (GROUPED) or ROUTE   h [n][n_used][n_ff]
// LORA: adapters are added (lib/expand.glsl); experts_shrink has left their T. Rows of a tile, PART: as in gate_up.comp. Grid:
// x over the rows of an expert's matrix, y over tiles or pairs; those whose expert is in another window do nothing. Reference:
// runtime/ref/experts.c.
#include "params.h"
#include "lib/io.glsl"
WORDS(0, weights)
VEC4S(1, x)
layout(binding = 2, std430) readonly restrict buffer ss_buffer { float ss[]; };
layout(binding = 3, std430) readonly restrict buffer work_buffer { uint work[]; };
layout(binding = 4, std430) restrict buffer h_buffer { float h[]; };
WORDS(5, weights2)
#ifdef LORA
QUADS(6, lora_pool)
QUADS(7, lora_table)
VEC4S(8, lora_t)
QUADS(9, lora_rows)
const uint LORA_EXTRAS = 1u;
#define EXPAND_EXPERT
#endif
layout(constant_id = 3) const uint PART = 0; // 0: both matrices, 1: Wg, 2: Wu
layout(constant_id = 4) const uint GROUPED = 0;
layout(push_constant) uniform push_block { graft_experts_push push; };
#define SECOND_MATRIX
#define RMS
uint nearest_row(uint c);
#define RMS_ROW(c) nearest_row(c)
#include "lib/matmul.glsl"
#include "lib/experts.glsl"

uint nearest_row(uint c)
{
    return nearest[c] / push.n_used;
}

void main()
{
    uint expert = find_expert();
    if (expert >= push.expert_count) {
        return;
    }
    uint rows = push.rows, half_r = R / 2u, values = PART == 0u ? half_r : R;
    uint first = (gl_WorkGroupID.x * OWNERS + OWNER) * values, own = expert * push.expert_bytes;
    for (uint r = 0u; r < half_r; r++) {
        uint more = PART == 0u ? r : r + half_r;
        row[r] = push.base[0] + own + min(first + r, rows - 1u) * push.row_bytes;
        row[r + half_r] = push.base[1] + own + min(first + more, rows - 1u) * push.row_bytes;
    }
    for (uint c = 0u; c < C; c++) {
        col[c] = nearest_row(c) * push.subs * 8u;
    }
    accumulate(push.subs);
    find_inverse(0u);
#ifdef LORA
    lora_expert = expert + push.expert_first;
    [[unroll]] for (uint r = 0u; r < R; r++) {
        lora_row[r] = min(first + r % values, rows - 1u);
    }
    [[unroll]] for (uint c = 0u; c < C; c++) {
        lora_column[c] = nearest[c];
    }
    if (PART == 0u) {
        expand(0u, 0u, half_r);
        expand(1u, half_r, R);
    } else {
        expand(PART - 1u, 0u, R);
    }
#endif
    reduce();
    for (uint c = 0u; c < C && LEADER; c++) {
        for (uint r = 0u; r < values; r++) {
            if (first + r < rows && assigned[c] != GRAFT_NO_EXPERT) {
                uint at = assigned[c] * rows + first + r;
                float g = acc[r * C + c] * inverse[c];
                if (PART == 0u) {
                    float u = acc[(r + half_r) * C + c] * inverse[c];
                    h[at] = g / (1.0 + exp(-g)) * u;
                } else if (PART == 1u) {
                    h[at] = g;
                } else {
                    float u = g, gate = h[at];
                    h[at] = gate / (1.0 + exp(-gate)) * u;
                }
            }
        }
    }
}
