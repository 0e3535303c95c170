// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// Shrink as a dispatch of its own, where the kernel that wrote the input did not do it (lib/shrink.glsl): t = weight * A x for
// every batch row, every (adapter, weight) pair of the row, for the targets that share an input.
//   pool f16   x [n][n_in]   state   table   t [row][pair][GRAFT_LORA_STAGE][GRAFT_LORA_RANK]
// Grid: x as shrink_own has it, y = batch row, or entry of the state's list of rows.
// Reference: runtime/ref/lora.c.
#include "params.h"
#include "lib/io.glsl"
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 8;
QUADS(0, lora_pool)
VEC4S(1, x)
layout(binding = 2, std430) readonly restrict buffer state_buffer { uint state[]; };
QUADS(3, lora_table)
layout(binding = 4, std430) writeonly restrict buffer t_buffer { float lora_t_out[]; };
QUADS(5, lora_rows)
layout(push_constant) uniform push_block { graft_shrink_push push; };
#include "lib/reduce.glsl"
#define SHRINK_X(i) VEC4(x, i)
#include "lib/lora.glsl"
#include "lib/shrink.glsl"

void main()
{
    uint n = gl_WorkGroupID.y;
    if (push.state_out != 0u) {
        n = state[push.state_out + n];
    }
    shrink_own(n, n, n * push.fours, push.fours);
}
