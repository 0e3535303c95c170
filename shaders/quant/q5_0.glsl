// SPDX-License-Identifier: Apache-2.0
// Q5_0: 32 weights in 22 bytes: f16 d, 4 bytes with the fifth bit of each weight, 16 bytes; low nibbles are weights 0 .. 15,
// high ones 16 .. 31. weight = d (q - 16). Every second block starts in the middle of a word: six words are read and shifted
// together.
#ifndef Q5_0
#define Q5_0
uint q5_0_bits(uint raw[Q_RAW], uint i)
{
    uint high = ((raw[4] >> (4u * i)) & 15u) * 0x00204081u & 0x01010101u; // bit k of the four to bit 8 k
    return ((raw[i & 3u] >> (i & 4u)) & 0x0f0f0f0fu) | high << 4;
}
vec4 q5_0_value(uint raw[Q_RAW], uint i)
{
    return q_bytes(q5_0_bits(raw, i));
}
#endif
void Q_LOADER(q5_0)(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
    uint byte = row + sub * 22u;
    uint at = byte >> 2;
    uint w0 = W_WORD(at), w1 = W_WORD(at + 1u), w2 = W_WORD(at + 2u), w3 = W_WORD(at + 3u), w4 = W_WORD(at + 4u);
    uint w5 = W_WORD(at + 5u);
    bool odd = (byte & 2u) != 0u;
    float d = unpackHalf2x16(odd ? w0 >> 16 : w0).x;
    scale[0] = vec2(d, -16.0 * d);
    raw[4] = odd ? w1 : w0 >> 16 | w1 << 16;
    raw[0] = odd ? w2 : w1 >> 16 | w2 << 16;
    raw[1] = odd ? w3 : w2 >> 16 | w3 << 16;
    raw[2] = odd ? w4 : w3 >> 16 | w4 << 16;
    raw[3] = odd ? w5 : w4 >> 16 | w5 << 16;
}
