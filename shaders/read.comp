// SPDX-License-Identifier: Apache-2.0
#version 450
#extension GL_GOOGLE_include_directive : require
// Reads a buffer once and nothing else: the device's own read bandwidth, and (as sums of words) a checksum that shows whether
// an imported mapping is seen as the host sees it.
//   data [n_quads] uvec4   sums [workgroups] uint: sum of all words this workgroup read, modulo 2^32
// Grid: x. Invocation i of workgroup g reads quads g * WORKGROUP + i, + total, ...
#include "params.h"
#include "lib/io.glsl"
layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint WORKGROUP = 64;
QUADS(0, data)
layout(binding = 1, std430) writeonly restrict buffer sums_buffer { uint sums[]; };
layout(push_constant) uniform push_block { uint n_quads; };
#include "lib/reduce.glsl"
#ifndef ONE_SUBGROUP
shared uint part[WORKGROUP];
#endif

void main()
{
    uvec4 sum = uvec4(0u);
    uint step = gl_NumWorkGroups.x * WORKGROUP;
    uint i = gl_GlobalInvocationID.x;
    for (; i + 3u * step < n_quads; i += 4u * step) {
        sum += QUAD(data, i) + QUAD(data, i + step) + QUAD(data, i + 2u * step) + QUAD(data, i + 3u * step);
    }
    for (; i < n_quads; i += step) {
        sum += QUAD(data, i);
    }
    uint mine = sum.x + sum.y + sum.z + sum.w, all = 0u;
#ifdef ONE_SUBGROUP
    all = subgroupAdd(mine);
#else
    part[gl_LocalInvocationIndex] = mine;
    barrier();
    for (uint k = 0u; k < WORKGROUP; k++) {
        all += part[k];
    }
#endif
    if (gl_LocalInvocationIndex == 0u) {
        sums[gl_WorkGroupID.x] = all;
    }
}
