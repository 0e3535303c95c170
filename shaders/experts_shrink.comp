// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// Shrink for the experts of a mixture, which are known only when the router has chosen: t = weight * A[e] x for every batch
// row, each of its experts and every (adapter, weight) pair of the row, for one or two targets that share the input
// (lib/shrink.glsl).
//   pool f16   x [n / sharing][n_in]   route [n] (expert, weight), n = rows * n_used   table   state
//   t [n][pair][GRAFT_LORA_EXPERT_STAGE][GRAFT_LORA_RANK]
// Grid: x as shrink_own has it, y = (row, expert) pair. Reference: runtime/ref/lora.c.
#include "params.h"
#include "lib/io.glsl"
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 8;
QUADS(0, lora_pool)
VEC4S(1, x)
layout(binding = 2, std430) readonly restrict buffer route_buffer { uvec2 route[]; };
QUADS(3, lora_table)
layout(binding = 4, std430) writeonly restrict buffer t_buffer { float lora_t_out[]; };
QUADS(5, lora_rows)
layout(push_constant) uniform push_block { graft_experts_push push; };
#include "lib/reduce.glsl"
#define SHRINK_X(i) VEC4(x, i)
#include "lib/lora.glsl"
#define SHRINK_EXPERT
#include "lib/shrink.glsl"

void main()
{
    uint n = gl_WorkGroupID.y, fours = push.subs * 8u;
    lora_expert = route[n].x;
    shrink_own(n, n / push.n_used, n / push.sharing * fours, fours);
}
