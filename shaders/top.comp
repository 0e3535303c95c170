// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
// Candidates: the GRAFT_TOP_K largest logits of every chunk of WORKGROUP x VALUES, so that the best GRAFT_TOP_K of the whole
// row are among them. The k-th largest value is found bit by bit on order-preserving integers; ties at that value are kept in
// order of id.
//   logits [n_out][n_vocab]   top [n_out][chunks][GRAFT_TOP_K] (id, logit bits); unused entries have id 0xffffffff
// Grid: x = chunk, y = output row. Reference: runtime/ref/top.c.
#include "params.h"
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 8;
layout(constant_id = 1) const uint VALUES = 48;
layout(binding = 0, std430) readonly restrict buffer logits_buffer { float logits[]; };
layout(binding = 1, std430) writeonly restrict buffer top_buffer { uvec2 top[]; };
layout(push_constant) uniform push_block { graft_top_push push; };
#include "lib/reduce.glsl"
#ifndef ONE_SUBGROUP
shared uint counts[WORKGROUP];
#endif

void main()
{
    uint lane = gl_LocalInvocationIndex, chunk = gl_WorkGroupID.x;
    uint first = chunk * WORKGROUP * VALUES + lane * VALUES;
    uint key[VALUES];
    [[unroll]] for (uint i = 0u; i < VALUES; i++) {
        uint id = first + i;
        key[i] = 0u;
        if (id < push.n_vocab) {
            uint bits = floatBitsToUint(logits[gl_WorkGroupID.y * push.n_vocab + id]);
            key[i] = (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
            // NaN of either sign comes first, so that it shows.
            key[i] = (bits & 0x7fffffffu) > 0x7f800000u ? 0xffffffffu : key[i];
        }
    }
    uint threshold = 0u;
    for (int bit = 31; bit >= 0; bit--) {
        uint candidate = threshold | (1u << uint(bit));
        uint count = 0u;
        [[unroll]] for (uint i = 0u; i < VALUES; i++) {
            count += key[i] >= candidate ? 1u : 0u;
        }
        uint all = uint(workgroup_sum(float(count)));
        if (all >= GRAFT_TOP_K) {
            threshold = candidate;
            if (all == GRAFT_TOP_K) {
                break;
            }
        }
    }
    // Entries above the threshold come first, in order of invocation; then those equal to it, until the list is full.
    uint out_at = (gl_WorkGroupID.y * gl_NumWorkGroups.x + chunk) * GRAFT_TOP_K;
    uint taken = 0u;
    for (uint pass = 0u; pass < 2u; pass++) {
        uint mine = 0u;
        [[unroll]] for (uint i = 0u; i < VALUES; i++) {
            bool wanted = pass == 0u ? key[i] > threshold : key[i] == threshold && threshold != 0u;
            mine += wanted ? 1u : 0u;
        }
        uint before = taken;
#ifdef ONE_SUBGROUP
        before += subgroupExclusiveAdd(mine);
        taken += subgroupAdd(mine);
#else
        counts[lane] = mine;
        barrier();
        for (uint i = 0u; i < WORKGROUP; i++) {
            before += i < lane ? counts[i] : 0u;
            taken += counts[i];
        }
        barrier();
#endif
        [[unroll]] for (uint i = 0u; i < VALUES; i++) {
            bool wanted = pass == 0u ? key[i] > threshold : key[i] == threshold && threshold != 0u;
            if (wanted && before < GRAFT_TOP_K) {
                uint bits = (key[i] & 0x80000000u) != 0u ? key[i] ^ 0x80000000u : ~key[i];
                top[out_at + before] = uvec2(first + i, bits);
                before++;
            }
        }
    }
    for (uint i = taken + lane; i < GRAFT_TOP_K; i += WORKGROUP) {
        top[out_at + i] = uvec2(0xffffffffu, 0u);
    }
}
