// SPDX-License-Identifier: Apache-2.0
// IQ4_XS: 256 weights in 136 bytes: f16 d, 16 bits with the high bit pairs of 8 scales, 4 bytes with their low nibbles, 128
// bytes. Weights 32 j .. 32 j + 31 have scale j and bytes 16 j .. 16 j + 15: low nibbles are the first 16. weight = d (scale -
// 32) level(q).
#ifndef IQ4_XS
#define IQ4_XS
vec4 iq4_xs_value(uint raw[Q_RAW], uint i)
{
    return q_iq4_levels((raw[i & 3u] >> (i & 4u)) & 0x0f0f0f0fu);
}
uint iq4_xs_bits(uint raw[Q_RAW], uint i)
{
    return q_to_bytes(ivec4(iq4_xs_value(raw, i)));
}
#endif
void Q_LOADER(iq4_xs)(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
    uint at = (row >> 2) + (sub >> 3) * 34u, j = sub & 7u;
    uint head = W_WORD(at), both = ((W_WORD(at + 1u) >> (4u * j)) & 15u) | ((head >> (16u + 2u * j)) & 3u) << 4;
    scale[0] = vec2(unpackHalf2x16(head).x * (float(both) - 32.0), 0.0);
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
        raw[i] = W_WORD(at + 2u + j * 4u + i);
    }
}
