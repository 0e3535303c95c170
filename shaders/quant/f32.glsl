// SPDX-License-Identifier: Apache-2.0
// F32: plain numbers.
#ifndef F32
#define F32
vec4 f32_value(uint raw[Q_RAW], uint i)
{
    return vec4(uintBitsToFloat(raw[4u * i]), uintBitsToFloat(raw[4u * i + 1u]), uintBitsToFloat(raw[4u * i + 2u]),
                uintBitsToFloat(raw[4u * i + 3u]));
}
#endif
void Q_LOADER(f32)(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
    uint at = (row >> 2) + sub * 32u;
    scale[0] = vec2(1.0, 0.0);
    [[unroll]] for (uint i = 0u; i < 32u; i++) {
        raw[i] = W_WORD(at + i);
    }
}
