// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// Output projection or FFN down projection, residual, and what the next norm needs: X += W in; XN = X * gain; SS = parts of sum
// of X^2.
//   weights [n_embd][n_in] quantized   x [n][n_in]   X [n][n_embd] in place   gain [n_embd]   xn [n][n_embd]
//   ss_out [n][parts_out]
// Each workgroup writes its own part of SS, so their sum has a fixed order (RMSNorm: Zhang 2019). Reference:
// runtime/ref/residual.c.
#include "params.h"
#include "lib/io.glsl"
WORDS(0, weights)
VEC4S(1, x)
layout(binding = 2, std430) restrict buffer residual_buffer { float residual[]; };
layout(binding = 3, std430) readonly restrict buffer gain_buffer { float gain[]; };
layout(binding = 4, std430) writeonly restrict buffer xn_buffer { float xn[]; };
layout(binding = 5, std430) writeonly restrict buffer ss_buffer { float ss_out[]; };
#ifdef LORA
QUADS(6, lora_pool)
layout(binding = 7, std430) readonly restrict buffer table_buffer { uint lora_table[]; };
VEC4S(8, lora_t)
layout(binding = 9, std430) readonly restrict buffer state_buffer { uint state[]; };
#endif
layout(push_constant) uniform push_block { graft_matmul_push push; };
#include "lib/matmul.glsl"

void main()
{
    uint rows = push.rows[0], first = (gl_WorkGroupID.x * OWNERS + OWNER) * R;
    for (uint r = 0u; r < R; r++) {
        row[r] = push.base[0] + min(first + r, rows - 1u) * push.row_bytes;
    }
    for (uint c = 0u; c < C; c++) {
        col[c] = (gl_WorkGroupID.y * C + c) * push.subs * 8u;
    }
    accumulate(push.subs);
#ifdef LORA
    [[unroll]] for (uint r = 0u; r < R; r++) {
        lora_row[r] = push.first[0] + min(first + r, rows - 1u);
    }
    [[unroll]] for (uint c = 0u; c < C; c++) {
        lora_column[c] = gl_WorkGroupID.y * C + c;
    }
    expand(0u, 0u, R);
#endif
    reduce();
    for (uint c = 0u; c < C; c++) {
        uint n = gl_WorkGroupID.y * C + c;
        float squares = 0.0;
        if (LEADER) {
            for (uint r = 0u; r < R; r++) {
                if (first + r < rows) {
                    uint i = push.first[0] + first + r;
                    float value = residual[n * push.out_stride + i] + acc[r * C + c];
                    residual[n * push.out_stride + i] = value;
                    xn[n * push.out_stride + i] = value * gain[i];
                    squares = fma(value, value, squares);
                }
            }
        }
        squares = workgroup_sum(squares);
        if (gl_LocalInvocationIndex == 0u) {
            ss_out[n * push.parts_out + push.part_first + gl_WorkGroupID.x] = squares;
        }
    }
}
