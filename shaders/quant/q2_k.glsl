// SPDX-License-Identifier: Apache-2.0
// Q2_K: 256 weights in 84 bytes: 16 bytes, each a 4-bit scale and, above it, a 4-bit minimum of 16 weights, 64 bytes of bit
// pairs, f16 d, f16 dmin. In each half of 128 weights, quarter p (32 weights) is the pairs 2 p of bytes 0 .. 31 of the half.
// weight = d scale q - dmin minimum.
#ifndef Q2_K
#define Q2_K
uint q2_k_bits(uint raw[Q_RAW], uint i)
{
    return raw[i];
}
vec4 q2_k_value(uint raw[Q_RAW], uint i)
{
    return q_bytes(q2_k_bits(raw, i));
}
#endif
void Q_LOADER(q2_k)(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
    uint at = (row >> 2) + (sub >> 3) * 21u, half_ = (sub >> 2) & 1u, p = sub & 3u;
    uint q = at + 4u + half_ * 8u, shift = p * 2u;
    [[unroll]] for (uint i = 0u; i < 8u; i++) {
        raw[i] = (W_WORD(q + i) >> shift) & 0x03030303u;
    }
    vec2 d = unpackHalf2x16(W_WORD(at + 20u));
    uint two = W_WORD(at + half_ * 2u + (p >> 1)) >> ((p & 1u) * 16u);
    scale[0] = vec2(d.x * float(two & 15u), -d.y * float((two >> 4) & 15u));
    scale[1] = vec2(d.x * float((two >> 8) & 15u), -d.y * float((two >> 12) & 15u));
}
