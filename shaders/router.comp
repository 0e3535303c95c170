// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// The router of a mixture of experts: logits l = W xn / rms over all experts, and of the n_used largest (of equal ones the
// smaller number; NaN before all, so that it shows) the weights exp(l - max) / sum, where the sum is over the chosen ones
// (normalize) or over all. (Shazeer 2017; softmax before the choice: Fedus 2021.)
//   weights [n_expert][n_embd] quantized   xn [n][n_embd]   ss [n][parts_in]   scores [n][n_expert + n_used]: logits, and the
//   numerators of the chosen   counter [n]   route [n][n_used] (expert, weight)
// LORA: adapters are added (lib/expand.glsl), so that the choice sees them.
// Grid: x over the experts, y over tiles of batch rows. The last workgroup of a tile chooses for its rows: an expert's place
// is the number of experts that come before it, so nothing is sorted. Reference: runtime/ref/router.c.
#include "params.h"
#include "lib/io.glsl"
WORDS(0, weights)
VEC4S(1, x)
layout(binding = 2, std430) readonly restrict buffer ss_buffer { float ss[]; };
layout(binding = 3, std430) coherent restrict buffer scores_buffer { float scores[]; };
layout(binding = 4, std430) coherent restrict buffer counter_buffer { uint counter[]; };
layout(binding = 5, std430) writeonly restrict buffer route_buffer { uvec2 route[]; };
#ifdef LORA
QUADS(6, lora_pool)
QUADS(7, lora_table)
VEC4S(8, lora_t)
QUADS(9, lora_rows)
const uint LORA_EXTRAS = 1u;
#endif
layout(push_constant) uniform push_block { graft_experts_push push; };
#define RMS
#define RMS_ROW(c) (c)
#include "lib/matmul.glsl"
#define ARRIVE_COUNTER counter
#define ARRIVE last_to_arrive
#include "lib/arrive.glsl"

// Larger numbers come first; -0 is 0.
uint order_of(float score)
{
    uint bits = floatBitsToUint(score);
    bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    bits = bits == 0x80000000u ? 0u : bits;
    return nan ? 0xffffffffu : (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
}

// Experts whose places an invocation finds at a time. (More than one also because software Vulkan ends loops after 65535 rounds
// of all of an invocation's loops together.)
const uint OWN = 8u;

void choose(uint n)
{
    uint n_expert = push.rows, from = n * (n_expert + push.n_used), chosen = from + n_expert;
    float top = scores[from];
    for (uint i = 1u; i < n_expert; i++) {
        top = order_of(scores[from + i]) > order_of(top) ? scores[from + i] : top;
    }
    float all = 0.0;
    for (uint base = gl_LocalInvocationIndex; base < n_expert; base += WORKGROUP * OWN) {
        uint own[OWN], place[OWN];
        [[unroll]] for (uint j = 0u; j < OWN; j++) {
            own[j] = order_of(scores[from + min(base + j * WORKGROUP, n_expert - 1u)]);
            place[j] = 0u;
        }
        for (uint i = 0u; i < n_expert; i++) {
            uint other = order_of(scores[from + i]);
            [[unroll]] for (uint j = 0u; j < OWN; j++) {
                place[j] += other > own[j] || (other == own[j] && i < base + j * WORKGROUP) ? 1u : 0u;
            }
        }
        [[unroll]] for (uint j = 0u; j < OWN; j++) {
            uint e = base + j * WORKGROUP;
            if (e < n_expert && place[j] < push.n_used) {
                route[n * push.n_used + place[j]].x = e;
                scores[chosen + place[j]] = exp(scores[from + e] - top);
            }
        }
    }
    if (push.normalize == 0u) {
        for (uint i = 0u; i < n_expert; i++) {
            all += exp(scores[from + i] - top);
        }
    }
    memoryBarrierBuffer();
    WORKGROUP_BARRIER();
    if (push.normalize != 0u) {
        for (uint k = 0u; k < push.n_used; k++) {
            all += scores[chosen + k];
        }
    }
    for (uint k = gl_LocalInvocationIndex; k < push.n_used; k += WORKGROUP) {
        route[n * push.n_used + k].y = floatBitsToUint(scores[chosen + k] / all);
    }
}

void main()
{
    uint rows = push.rows, first = (gl_WorkGroupID.x * OWNERS + OWNER) * R;
    for (uint r = 0u; r < R; r++) {
        row[r] = push.base[0] + min(first + r, rows - 1u) * push.row_bytes;
    }
    for (uint c = 0u; c < C; c++) {
        col[c] = (gl_WorkGroupID.y * C + c) * push.subs * 8u;
    }
    accumulate(push.subs);
    find_inverse(gl_WorkGroupID.y * C);
#ifdef LORA
    [[unroll]] for (uint r = 0u; r < R; r++) {
        lora_row[r] = min(first + r, rows - 1u);
    }
    [[unroll]] for (uint c = 0u; c < C; c++) {
        lora_column[c] = gl_WorkGroupID.y * C + c;
    }
    expand(0u, 0u, R);
#endif
    reduce();
    for (uint c = 0u; c < C && LEADER; c++) {
        uint at = (gl_WorkGroupID.y * C + c) * (rows + push.n_used);
        for (uint r = 0u; r < R; r++) {
            if (first + r < rows) {
                scores[at + first + r] = acc[r * C + c] * inverse[c];
            }
        }
    }
    if (last_to_arrive(gl_WorkGroupID.y, push.parts_out)) {
        for (uint c = 0u; c < C; c++) {
            choose(gl_WorkGroupID.y * C + c);
        }
    }
}
