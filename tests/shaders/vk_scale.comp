// SPDX-License-Identifier: Apache-2.0
// to[i] = from[i] * factor + 1
#version 450
layout(local_size_x = 64) in;
layout(set = 0, binding = 0, std430) readonly buffer From { uint from[]; };
layout(set = 0, binding = 1, std430) writeonly buffer To { uint to[]; };
layout(push_constant) uniform Push { uint count, factor; };

void main()
{
    uint i = gl_GlobalInvocationID.x;
    if (i < count) {
        to[i] = from[i] * factor + 1u;
    }
}
