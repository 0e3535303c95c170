// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// Output head: logits of the batch rows that want them: LOGITS[o] = W XN[out[o]] / rms (with CAP:
// CAP tanh(that / CAP)).
//   weights [n_vocab][n_embd] quantized (a window of rows: first)   xn [n][n_embd]   ss [n][parts_in]   state (out)
//   logits [n_out][n_vocab]
// The column of tile c is row out[c] of the batch; entries beyond n_out repeat row 0 of the list's memory, which is harmless.
// Reference: runtime/ref/head.c.
#include "params.h"
#include "lib/io.glsl"
WORDS(0, weights)
VEC4S(1, x)
layout(binding = 2, std430) readonly restrict buffer ss_buffer { float ss[]; };
layout(binding = 3, std430) readonly restrict buffer state_buffer { uint state[]; };
layout(binding = 4, std430) writeonly restrict buffer logits_buffer { float logits[]; };
#ifdef LORA
QUADS(5, lora_pool)
QUADS(6, lora_table)
VEC4S(7, lora_t)
QUADS(8, lora_rows)
layout(constant_id = 4) const uint LORA_EXTRAS = 0;
#define LORA_DENSE
#endif
layout(constant_id = 7) const float CAP = 0.0;
layout(push_constant) uniform push_block { graft_matmul_push push; };
#define RMS
#define RMS_ROW(c) state[push.state_out + (c)]
#include "lib/matmul.glsl"

void main()
{
    uint rows = push.rows[0], first = (gl_WorkGroupID.x * OWNERS + OWNER) * R;
    for (uint r = 0u; r < R; r++) {
        row[r] = push.base[0] + min(first + r, rows - 1u) * push.row_bytes;
    }
    for (uint c = 0u; c < C; c++) {
        col[c] = state[push.state_out + FIRST_COLUMN + c] * push.subs * 8u;
    }
    accumulate(push.subs);
    find_inverse(FIRST_COLUMN);
#ifdef LORA
    [[unroll]] for (uint r = 0u; r < R; r++) {
        lora_row[r] = push.first[0] + min(first + r, rows - 1u);
    }
    [[unroll]] for (uint c = 0u; c < C; c++) {
        lora_column[c] = state[push.state_out + FIRST_COLUMN + c];
    }
    expand(0u, 0u, R);
#endif
    reduce();
    if (!LEADER) {
        return;
    }
    for (uint c = 0u; c < C; c++) {
        uint o = FIRST_COLUMN + c;
        for (uint r = 0u; r < R; r++) {
            if (first + r < rows) {
                float logit = acc[r * C + c] * inverse[c];
                if (CAP != 0.0) {
                    logit = CAP - 2.0 * CAP / (exp(logit * (2.0 / CAP)) + 1.0);
                }
                logits[o * push.out_stride + push.first[0] + first + r] = logit;
            }
        }
    }
}
