// SPDX-License-Identifier: Apache-2.0
// One vector through every kind of binding: to[i] = a[i] + b[4 i ..] + uint(c[i]) + bias.
#version 450
layout(local_size_x = 1) in;
layout(set = 0, binding = 0) uniform utextureBuffer a;
layout(set = 0, binding = 1) uniform utextureBuffer b;
layout(set = 0, binding = 2) uniform textureBuffer c;
layout(set = 0, binding = 3, std140) uniform Bias { uvec4 bias; };
layout(set = 0, binding = 4, std430) writeonly buffer Result { uvec4 to[]; };

void main()
{
    int i = int(gl_WorkGroupID.x);
    uvec4 single = uvec4(texelFetch(b, 4 * i).x, texelFetch(b, 4 * i + 1).x,
                         texelFetch(b, 4 * i + 2).x, texelFetch(b, 4 * i + 3).x);
    to[i] = texelFetch(a, i) + single + uvec4(texelFetch(c, i)) + bias;
}
