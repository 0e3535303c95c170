// SPDX-License-Identifier: Apache-2.0
// Q3_K: 256 weights in 110 bytes: 32 bytes with the third bits, 64 bytes of low bit pairs, 12 bytes of 6-bit scales of 16
// weights each, f16 d. Weights 32 j .. 32 j + 31 have their third bits in bit j of bytes 0 .. 31; their pairs lie as those of
// Q2_K. weight = d (scale - 32) (q - 4). Blocks are 2-byte aligned.
#ifndef Q3_K
#define Q3_K
uint q3_k_bits(uint raw[Q_RAW], uint i)
{
    return raw[i];
}
vec4 q3_k_value(uint raw[Q_RAW], uint i)
{
    return q_bytes(q3_k_bits(raw, i));
}
#endif
void Q_LOADER(q3_k)(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
    uint block = row + (sub >> 3) * 110u, j = sub & 7u, half_ = j >> 2;
    uint ql = (block >> 2) + 8u + half_ * 8u, qh = block >> 2, low_shift = (j & 3u) * 2u;
    bool odd = (block & 2u) != 0u;
    uint l = W_WORD(ql), h = W_WORD(qh);
    [[unroll]] for (uint i = 0u; i < 8u; i++) { // selects, not a branch: loads of all words can be in flight together
        uint next_l = W_WORD(ql + i + 1u), next_h = W_WORD(qh + i + 1u);
        uint low = odd ? l >> 16 | next_l << 16 : l, high = odd ? h >> 16 | next_h << 16 : h;
        raw[i] = ((low >> low_shift) & 0x03030303u) | ((high >> j) & 0x01010101u) << 2;
        l = next_l;
        h = next_h;
    }
    // Scales 2 j and 2 j + 1: low nibbles in bytes (2 j) & 7 and the next, high pairs in bytes 8 + ((2 j) & 3) and the next.
    uint low = W_HALF(block + 96u + ((j * 2u) & 7u)) >> (half_ * 4u);
    uint high = W_HALF(block + 104u + ((j * 2u) & 3u)) >> ((j >> 1) * 2u);
    uint both = (low & 0x0f0fu) | (high & 0x0303u) << 4;
    float d = unpackHalf2x16(W_HALF(block + 108u)).x;
    float s0 = d * (float(both & 63u) - 32.0), s1 = d * (float(both >> 8) - 32.0);
    scale[0] = vec2(s0, -4.0 * s0);
    scale[1] = vec2(s1, -4.0 * s1);
}
