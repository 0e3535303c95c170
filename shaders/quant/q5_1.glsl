// SPDX-License-Identifier: Apache-2.0
// Q5_1: 32 weights in 24 bytes: f16 d, f16 m, 4 bytes with the fifth bit of each weight, 16 bytes; low nibbles are weights
// 0 .. 15, high ones 16 .. 31. weight = d q + m.
#ifndef Q5_1
#define Q5_1
uint q5_1_bits(uint raw[Q_RAW], uint i)
{
    uint high = ((raw[4] >> (4u * i)) & 15u) * 0x00204081u & 0x01010101u; // bit k of the four to bit 8 k
    return ((raw[i & 3u] >> (i & 4u)) & 0x0f0f0f0fu) | high << 4;
}
vec4 q5_1_value(uint raw[Q_RAW], uint i)
{
    return q_bytes(q5_1_bits(raw, i));
}
#endif
void Q_LOADER(q5_1)(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
    uint at = (row >> 2) + sub * 6u;
    vec2 dm = unpackHalf2x16(W_WORD(at));
    scale[0] = vec2(dm.x, dm.y);
    raw[4] = W_WORD(at + 1u);
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
        raw[i] = W_WORD(at + 2u + i);
    }
}
