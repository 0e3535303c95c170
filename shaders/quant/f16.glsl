// SPDX-License-Identifier: Apache-2.0
// F16: IEEE binary16.
#ifndef F16
#define F16
vec4 f16_value(uint raw[Q_RAW], uint i)
{
    return vec4(unpackHalf2x16(raw[2u * i]), unpackHalf2x16(raw[2u * i + 1u]));
}
#endif
void Q_LOADER(f16)(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
    uint at = (row >> 2) + sub * 16u;
    scale[0] = vec2(1.0, 0.0);
    [[unroll]] for (uint i = 0u; i < 16u; i++) {
        raw[i] = W_WORD(at + i);
    }
}
