// SPDX-License-Identifier: Apache-2.0
// Q4_1: 32 weights in 20 bytes: f16 d, f16 m, 16 bytes; low nibbles are weights 0 .. 15, high ones 16 .. 31. weight = d q + m.
#ifndef Q4_1
#define Q4_1
uint q4_1_bits(uint raw[Q_RAW], uint i)
{
    return (raw[i & 3u] >> (i & 4u)) & 0x0f0f0f0fu;
}
vec4 q4_1_value(uint raw[Q_RAW], uint i)
{
    return q_bytes(q4_1_bits(raw, i));
}
#endif
void Q_LOADER(q4_1)(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
    uint at = (row >> 2) + sub * 5u;
    vec2 dm = unpackHalf2x16(W_WORD(at));
    scale[0] = vec2(dm.x, dm.y);
    raw[0] = W_WORD(at + 1u);
    raw[1] = W_WORD(at + 2u);
    raw[2] = W_WORD(at + 3u);
    raw[3] = W_WORD(at + 4u);
}
