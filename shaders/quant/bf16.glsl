// SPDX-License-Identifier: Apache-2.0
// BF16: the upper half of a binary32.
#ifndef Q_RAW
#define Q_RAW 16
#define Q_PARTS 1
#define Q_MIN 0
vec4 q_value(uint raw[Q_RAW], uint i)
{
    uint a = raw[2u * i], b = raw[2u * i + 1u];
    return vec4(uintBitsToFloat(a << 16), uintBitsToFloat(a & 0xffff0000u), uintBitsToFloat(b << 16),
                uintBitsToFloat(b & 0xffff0000u));
}
#endif
void Q_LOAD(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[Q_PARTS])
{
    uint at = (row >> 2) + sub * 16u;
    scale[0] = vec2(1.0, 0.0);
    [[unroll]] for (uint i = 0u; i < 16u; i++) {
        raw[i] = W_WORD(at + i);
    }
}
