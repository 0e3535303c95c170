// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// Batch rows by expert: every (row, expert) pair of ROUTE goes into a tile of up to C pairs of one expert, so that a fetched
// weight serves all rows of a tile. Which rows share a tile changes no row's bits.
//   route [n][n_used] (expert, weight)   tiles [n_tiles][1 + C]: params.h
// Grid: one workgroup. At most GRAFT_MAX_EXPERTS experts. Reference: tests/kernels/test_kernel_experts.c (every pair once).
#include "params.h"
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 8;
layout(constant_id = 2) const uint C = 1;
layout(binding = 0, std430) readonly restrict buffer route_buffer { uvec2 route[]; };
layout(binding = 1, std430) writeonly restrict buffer tiles_buffer { uint tiles[]; };
layout(push_constant) uniform push_block { graft_experts_push push; };
#include "lib/reduce.glsl"
shared uint count[GRAFT_MAX_EXPERTS];      // pairs of each expert, later those placed
shared uint first_tile[GRAFT_MAX_EXPERTS];

void sync()
{
    memoryBarrierShared();
    memoryBarrierBuffer();
    WORKGROUP_BARRIER();
}

void main()
{
    uint lane = gl_LocalInvocationIndex;
    for (uint i = lane; i < push.n_tiles * (1u + C); i += WORKGROUP) {
        tiles[i] = GRAFT_NO_EXPERT;
    }
    for (uint e = lane; e < push.expert_count; e += WORKGROUP) {
        count[e] = 0u;
    }
    sync();
    for (uint a = lane; a < push.n_assigned; a += WORKGROUP) {
        atomicAdd(count[route[a].x], 1u);
    }
    sync();
    uint before = 0u;
    for (uint e = 0u; e < push.expert_count; e++) {
        if (e % WORKGROUP == lane) {
            first_tile[e] = before;
        }
        before += (count[e] + C - 1u) / C;
    }
    sync();
    for (uint e = lane; e < push.expert_count; e += WORKGROUP) {
        count[e] = 0u;
    }
    sync();
    for (uint a = lane; a < push.n_assigned; a += WORKGROUP) {
        uint expert = route[a].x, place = atomicAdd(count[expert], 1u);
        uint tile = (first_tile[expert] + place / C) * (1u + C);
        tiles[tile + 1u + place % C] = a;
        if (place % C == 0u) {
            tiles[tile] = expert;
        }
    }
}
