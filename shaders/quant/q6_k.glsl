// SPDX-License-Identifier: Apache-2.0
// Q6_K: 256 weights in 210 bytes: 128 bytes of low nibbles, 64 of high bit pairs, 16 signed scales, f16 d. In each half of 128
// weights, quarter p (32 weights) has its low nibbles in bytes 32 (p & 1) .. (shifted by 4 for p >= 2) and its high bits in the
// pair 2 p of bytes 0 .. 31; 16 weights share a scale. weight = d scale (q - 32). Blocks are 2-byte aligned.
#ifndef Q6_K
#define Q6_K
uint q6_k_bits(uint raw[Q_RAW], uint i)
{
    return raw[i];
}
vec4 q6_k_value(uint raw[Q_RAW], uint i)
{
    return q_bytes(q6_k_bits(raw, i));
}
#endif
void Q_LOADER(q6_k)(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
    uint block = row + (sub >> 3) * 210u, half_ = (sub >> 2) & 1u, p = sub & 3u;
    uint ql = block + half_ * 64u + (p & 1u) * 32u, qh = block + 128u + half_ * 32u;
    uint low_shift = (p >> 1) * 4u, high_shift = p * 2u;
    bool odd = (block & 2u) != 0u;
    uint l = W_WORD(ql >> 2), h = W_WORD(qh >> 2);
    [[unroll]] for (uint i = 0u; i < 8u; i++) { // selects, not a branch: loads of all words can be in flight together
        uint next_l = W_WORD((ql >> 2) + i + 1u), next_h = W_WORD((qh >> 2) + i + 1u);
        uint low = odd ? l >> 16 | next_l << 16 : l, high = odd ? h >> 16 | next_h << 16 : h;
        raw[i] = ((low >> low_shift) & 0x0f0f0f0fu) | ((high >> high_shift) & 0x03030303u) << 4;
        l = next_l;
        h = next_h;
    }
    float d = unpackHalf2x16(W_HALF(block + 208u)).x;
    uint scales = W_HALF(block + 192u + half_ * 8u + p * 2u);
    float s0 = d * float(bitfieldExtract(int(scales), 0, 8)), s1 = d * float(bitfieldExtract(int(scales), 8, 8));
    scale[0] = vec2(s0, -32.0 * s0);
    scale[1] = vec2(s1, -32.0 * s1);
}
