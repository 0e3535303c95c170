// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// Shrink: t = weight * A x, for every batch row, every (adapter, weight) pair of the row and every target that shares the
// input x. Nothing is
// divided by the root mean square here: the consumer does that to the whole sum.
//   pool f16   x [n][n_in]   state   table   t [row][pair][target of the stage][GRAFT_LORA_RANK]
// Grid: x = target * GRAFT_LORA_PAIRS + pair, y = batch row. LANE: an invocation owns a row of A; otherwise a subgroup or the
// workgroup does.
// Reference: runtime/ref/lora.c.
#include "params.h"
#include "lib/io.glsl"
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 8;
QUADS(0, pool)
VEC4S(1, x)
layout(binding = 2, std430) readonly restrict buffer state_buffer { uint state[]; };
layout(binding = 3, std430) readonly restrict buffer table_buffer { uint table[]; };
layout(binding = 4, std430) writeonly restrict buffer t_buffer { float t[]; };
layout(push_constant) uniform push_block { graft_shrink_push push; };
#include "lib/reduce.glsl"

float dot_quad(uint quad, uint at)
{
    uvec4 w = QUAD(pool, quad);
    vec4 low = vec4(unpackHalf2x16(w.x), unpackHalf2x16(w.y)), high = vec4(unpackHalf2x16(w.z), unpackHalf2x16(w.w));
    return dot(low, VEC4(x, at)) + dot(high, VEC4(x, at + 1u));
}

void main()
{
    uint n = gl_WorkGroupID.y, target = gl_WorkGroupID.x / GRAFT_LORA_PAIRS, pair = gl_WorkGroupID.x % GRAFT_LORA_PAIRS;
    uint pairs = push.state_rows + n * GRAFT_ROW_WORDS + GRAFT_ROW_LORA + pair * 2u;
    uint slot = state[pairs];
    if (slot == GRAFT_NO_SLOT) {
        return;
    }
    uint entry = ((slot * push.lora_n_layer + push.lora_layer) * GRAFT_LORA_TARGETS + push.lora_target + target) *
                 GRAFT_LORA_ENTRY;
    uint a = table[entry], rank = table[entry + 2u];
    float weight = uintBitsToFloat(state[pairs + 1u]);
    uint t_at = ((n * GRAFT_LORA_PAIRS + pair) * GRAFT_LORA_STAGE + target) * GRAFT_LORA_RANK, x_at = n * push.quads * 2u;
#ifndef TEAM
    for (uint k = gl_LocalInvocationIndex; k < rank; k += WORKGROUP) {
        float sum = 0.0;
        for (uint i = 0u; i < push.quads; i++) {
            sum += dot_quad(a + k * push.quads + i, x_at + i * 2u);
        }
        t[t_at + k] = sum * weight;
    }
#elif defined(SUBGROUPS)
    for (uint k = gl_SubgroupID; k < rank; k += gl_NumSubgroups) {
        float sum = 0.0;
        for (uint i = gl_SubgroupInvocationID; i < push.quads; i += gl_SubgroupSize) {
            sum += dot_quad(a + k * push.quads + i, x_at + i * 2u);
        }
        sum = subgroupAdd(sum);
        if (gl_SubgroupInvocationID == 0u) {
            t[t_at + k] = sum * weight;
        }
    }
#else
    for (uint k = 0u; k < rank; k++) {
        float sum = 0.0;
        for (uint i = gl_LocalInvocationIndex; i < push.quads; i += WORKGROUP) {
            sum += dot_quad(a + k * push.quads + i, x_at + i * 2u);
        }
        sum = workgroup_sum(sum);
        if (gl_LocalInvocationIndex == 0u) {
            t[t_at + k] = sum * weight;
        }
    }
#endif
}
