// SPDX-License-Identifier: Apache-2.0
// Q4_K: 256 weights in 144 bytes: f16 d, f16 dmin, 12 bytes of 6-bit scales and minima, 128 bytes of nibbles. Weights 32 j ..
// 32 j + 31 use scale j and minimum j; their nibbles are the low (j even) or high (j odd) halves of bytes 32 (j / 2) .. + 31.
// weight = d scale q - dmin minimum.
#ifndef Q4_K
#define Q4_K
uint q4_k_bits(uint raw[Q_RAW], uint i)
{
    return raw[i];
}
vec4 q4_k_value(uint raw[Q_RAW], uint i)
{
    return q_bytes(q4_k_bits(raw, i));
}
#endif
void Q_LOADER(q4_k)(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
    uint at = (row >> 2) + (sub >> 3) * 36u, j = sub & 7u;
    vec2 d = unpackHalf2x16(W_WORD(at));
    scale[0] = d * q_k_scale(W_WORD(at + 1u), W_WORD(at + 2u), W_WORD(at + 3u), j);
    uint q = at + 4u + (j >> 1) * 8u, nibble = (j & 1u) * 4u;
    [[unroll]] for (uint i = 0u; i < 8u; i++) {
        raw[i] = (W_WORD(q + i) >> nibble) & 0x0f0f0f0fu;
    }
}
