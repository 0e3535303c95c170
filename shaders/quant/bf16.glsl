// SPDX-License-Identifier: Apache-2.0
// BF16: the upper half of a binary32.
#ifndef BF16
#define BF16
vec4 bf16_value(uint raw[Q_RAW], uint i)
{
    uint a = raw[2u * i], b = raw[2u * i + 1u];
    return vec4(uintBitsToFloat(a << 16), uintBitsToFloat(a & 0xffff0000u), uintBitsToFloat(b << 16),
                uintBitsToFloat(b & 0xffff0000u));
}
#endif
void Q_LOADER(bf16)(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
    uint at = (row >> 2) + sub * 16u;
    scale[0] = vec2(1.0, 0.0);
    [[unroll]] for (uint i = 0u; i < 16u; i++) {
        raw[i] = W_WORD(at + i);
    }
}
