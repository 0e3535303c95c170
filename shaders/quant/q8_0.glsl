// SPDX-License-Identifier: Apache-2.0
// Q8_0: 32 weights in 34 bytes: f16 d, 32 signed bytes. weight = d q. Bytes are read as unsigned q + 128 and the offset goes into the
// scale's second part. Every second block starts in the middle of a word.
#ifndef Q_RAW
#define Q_RAW 8
#define Q_PARTS 1
#define Q_MIN 1
vec4 q_value(uint raw[Q_RAW], uint i)
{
    return q_bytes(raw[i]);
}
#endif
void Q_LOAD(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[Q_PARTS])
{
    uint byte = row + sub * 34u;
    uint at = byte >> 2;
    bool odd = (byte & 2u) != 0u;
    uint w = W_WORD(at);
    float d = unpackHalf2x16(odd ? w >> 16 : w).x;
    scale[0] = vec2(d * Q_UNIT, -128.0 * d);
    [[unroll]] for (uint i = 0u; i < 8u; i++) {
        uint next = W_WORD(at + 1u + i);
        raw[i] = (odd ? next : w >> 16 | next << 16) ^ 0x80808080u;
        w = next;
    }
}
