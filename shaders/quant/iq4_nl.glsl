// SPDX-License-Identifier: Apache-2.0
// IQ4_NL: 32 weights in 18 bytes: f16 d, 16 bytes; low nibbles are weights 0 .. 15, high ones 16 .. 31. weight = d level(q).
// Blocks lie as those of Q4_0.
#ifndef IQ4_NL
#define IQ4_NL
vec4 iq4_nl_value(uint raw[Q_RAW], uint i)
{
    return q_iq4_levels((raw[i & 3u] >> (i & 4u)) & 0x0f0f0f0fu);
}
uint iq4_nl_bits(uint raw[Q_RAW], uint i)
{
    return q_to_bytes(ivec4(iq4_nl_value(raw, i)));
}
#endif
void Q_LOADER(iq4_nl)(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
    uint byte = row + sub * 18u;
    uint at = byte >> 2;
    uint w0 = W_WORD(at), w1 = W_WORD(at + 1u), w2 = W_WORD(at + 2u), w3 = W_WORD(at + 3u), w4 = W_WORD(at + 4u);
    bool odd = (byte & 2u) != 0u;
    scale[0] = vec2(unpackHalf2x16(odd ? w0 >> 16 : w0).x, 0.0);
    raw[0] = odd ? w1 : w0 >> 16 | w1 << 16;
    raw[1] = odd ? w2 : w1 >> 16 | w2 << 16;
    raw[2] = odd ? w3 : w2 >> 16 | w3 << 16;
    raw[3] = odd ? w4 : w3 >> 16 | w4 << 16;
}
