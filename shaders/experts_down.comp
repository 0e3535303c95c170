// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// The experts' second half for batches: y = Wd[e] h for every row and each of its experts; experts_residual adds them up.
//   weights [experts of the window][n_embd][n_ff] quantized   h [n][n_used][n_ff]   work: TILES (GROUPED) or ROUTE
//   y [n][n_used][n_embd]
// LORA: adapters are added (lib/expand.glsl); experts_shrink has left their T.
// Grid: as experts_up. Reference: runtime/ref/experts.c.
#include "params.h"
#include "lib/io.glsl"
WORDS(0, weights)
VEC4S(1, x)
layout(binding = 2, std430) readonly restrict buffer work_buffer { uint work[]; };
layout(binding = 3, std430) writeonly restrict buffer y_buffer { float y[]; };
#ifdef LORA
QUADS(4, lora_pool)
QUADS(5, lora_table)
VEC4S(6, lora_t)
QUADS(7, lora_rows)
const uint LORA_EXTRAS = 1u;
#define EXPAND_EXPERT
#endif
layout(constant_id = 4) const uint GROUPED = 0;
layout(push_constant) uniform push_block { graft_experts_push push; };
#include "lib/matmul.glsl"
#include "lib/experts.glsl"

void main()
{
    uint expert = find_expert();
    if (expert >= push.expert_count) {
        return;
    }
    uint rows = push.rows, first = (gl_WorkGroupID.x * OWNERS + OWNER) * R;
    for (uint r = 0u; r < R; r++) {
        row[r] = push.base[0] + expert * push.expert_bytes + min(first + r, rows - 1u) * push.row_bytes;
    }
    for (uint c = 0u; c < C; c++) {
        col[c] = nearest[c] * push.subs * 8u;
    }
    accumulate(push.subs);
#ifdef LORA
    lora_expert = expert + push.expert_first;
    [[unroll]] for (uint r = 0u; r < R; r++) {
        lora_row[r] = min(first + r, rows - 1u);
    }
    [[unroll]] for (uint c = 0u; c < C; c++) {
        lora_column[c] = nearest[c];
    }
    expand(0u, 0u, R);
#endif
    reduce();
    for (uint c = 0u; c < C && LEADER; c++) {
        for (uint r = 0u; r < R; r++) {
            if (first + r < rows && assigned[c] != GRAFT_NO_EXPERT) {
                y[assigned[c] * rows + first + r] = acc[r * C + c];
            }
        }
    }
}
