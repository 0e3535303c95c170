// SPDX-License-Identifier: Apache-2.0
// Q8_0: 32 weights in 34 bytes: f16 d, 32 signed bytes. weight = d q. Every second block starts in the middle of a word.
#ifndef Q8_0
#define Q8_0
uint q8_0_bits(uint raw[Q_RAW], uint i)
{
    return raw[i];
}
vec4 q8_0_value(uint raw[Q_RAW], uint i)
{
    int b = int(raw[i]);
    return vec4(bitfieldExtract(b, 0, 8), bitfieldExtract(b, 8, 8), bitfieldExtract(b, 16, 8), b >> 24);
}
#endif
void Q_LOADER(q8_0)(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
    uint byte = row + sub * 34u;
    uint at = byte >> 2;
    bool odd = (byte & 2u) != 0u;
    uint w = W_WORD(at);
    scale[0] = vec2(unpackHalf2x16(odd ? w >> 16 : w).x, 0.0);
    [[unroll]] for (uint i = 0u; i < 8u; i++) {
        uint next = W_WORD(at + 1u + i);
        raw[i] = odd ? next : w >> 16 | next << 16;
        w = next;
    }
}
