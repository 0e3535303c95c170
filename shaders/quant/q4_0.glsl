// SPDX-License-Identifier: Apache-2.0
// Q4_0: 32 weights in 18 bytes: f16 d, 16 bytes; low nibbles are weights 0 .. 15, high ones 16 .. 31. weight = d (q - 8).
// Every second block starts in the middle of a word: five words are read and shifted together.
#ifndef Q4_0
#define Q4_0
uint q4_0_bits(uint raw[Q_RAW], uint i)
{
    return (raw[i & 3u] >> (i & 4u)) & 0x0f0f0f0fu;
}
vec4 q4_0_value(uint raw[Q_RAW], uint i)
{
    return q_bytes(q4_0_bits(raw, i));
}
#endif
void Q_LOADER(q4_0)(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
    uint byte = row + sub * 18u;
    uint at = byte >> 2;
    uint w0 = W_WORD(at), w1 = W_WORD(at + 1u), w2 = W_WORD(at + 2u), w3 = W_WORD(at + 3u), w4 = W_WORD(at + 4u);
    bool odd = (byte & 2u) != 0u;
    float d = unpackHalf2x16(odd ? w0 >> 16 : w0).x;
    scale[0] = vec2(d, -8.0 * d);
    raw[0] = odd ? w1 : w0 >> 16 | w1 << 16;
    raw[1] = odd ? w2 : w1 >> 16 | w2 << 16;
    raw[2] = odd ? w3 : w2 >> 16 | w3 << 16;
    raw[3] = odd ? w4 : w3 >> 16 | w4 << 16;
}
