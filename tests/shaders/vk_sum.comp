// SPDX-License-Identifier: Apache-2.0
// Sum of 32-bit words modulo 2^32: result[group] = sum of the words first + group * per_group ... of the input.
#version 450
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint FACTOR = 1u; // every word is multiplied by it
layout(set = 0, binding = 0, std430) readonly buffer Input { uint words[]; };
layout(set = 0, binding = 1, std430) buffer Result { uint sums[]; };
layout(push_constant) uniform Push { uint first, count, per_group; };

void main()
{
    uint begin = gl_WorkGroupID.x * per_group, end = min(begin + per_group, count);
    uint sum = 0u;
    for (uint i = begin + gl_LocalInvocationID.x; i < end; i += gl_WorkGroupSize.x) {
        sum += words[first + i] * FACTOR;
    }
    atomicAdd(sums[gl_WorkGroupID.x], sum);
}
