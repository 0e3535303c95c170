// SPDX-License-Identifier: Apache-2.0
// Q5_K: 256 weights in 176 bytes: f16 d, f16 dmin, 12 bytes of 6-bit scales and minima as in Q4_K, 32 bytes with the fifth
// bits, 128 bytes of nibbles. Weights 32 j .. 32 j + 31 use scale j and minimum j and bit j of bytes 0 .. 31 of the fifth bits;
// their nibbles are the low (j even) or high (j odd) halves of bytes 32 (j / 2) .. + 31. weight = d scale q - dmin minimum.
#ifndef Q5_K
#define Q5_K
uint q5_k_bits(uint raw[Q_RAW], uint i)
{
    return raw[i];
}
vec4 q5_k_value(uint raw[Q_RAW], uint i)
{
    return q_bytes(q5_k_bits(raw, i));
}
#endif
void Q_LOADER(q5_k)(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
    uint at = (row >> 2) + (sub >> 3) * 44u, j = sub & 7u;
    vec2 d = unpackHalf2x16(W_WORD(at));
    scale[0] = d * q_k_scale(W_WORD(at + 1u), W_WORD(at + 2u), W_WORD(at + 3u), j);
    uint q = at + 12u + (j >> 1) * 8u, nibble = (j & 1u) * 4u;
    [[unroll]] for (uint i = 0u; i < 8u; i++) {
        raw[i] = ((W_WORD(q + i) >> nibble) & 0x0f0f0f0fu) | ((W_WORD(at + 4u + i) >> j) & 0x01010101u) << 4;
    }
}
