// SPDX-License-Identifier: Apache-2.0
// MXFP4: 32 weights in 17 bytes: exponent e, 16 bytes of E2M1 codes; low nibbles are weights 0 .. 15, high ones 16 .. 31.
// weight = 2^(e - 128) v, v twice the element: 0 1 2 3 4 6 8 12, negative with bit 3. Values are 12 + v, which has no sign.
// Blocks start at any byte: five words are read and shifted together. Scales of e = 0 and 1 are subnormal: 0 where the device
// says so.
#ifndef MXFP4
#define MXFP4
uint mxfp4_bits(uint raw[Q_RAW], uint i)
{
    uint q = (raw[i & 3u] >> (i & 4u)) & 0x0f0f0f0fu;
    uint b0 = q & 0x01010101u, b1 = (q >> 1) & 0x01010101u, b2 = (q >> 2) & 0x01010101u, sign = (q >> 3) & 0x01010101u;
    // Codes 0 .. 3 stand for themselves; from 4 on, the bits 1 b0 are shifted to the left by 1 + b1.
    uint small = q & 0x03030303u, large = 4u * 0x01010101u + 2u * b0, doubled = large + b1 * 4u + (b0 & b1) * 2u;
    uint v = (small & (0x01010101u - b2) * 255u) | (doubled & b2 * 255u);
    return 0x0c0c0c0cu + v - 2u * (v & sign * 255u);
}
vec4 mxfp4_value(uint raw[Q_RAW], uint i)
{
    return q_bytes(mxfp4_bits(raw, i));
}
#endif
void Q_LOADER(mxfp4)(uint row, uint sub, out uint raw[Q_RAW], out vec2 scale[2])
{
    uint byte = row + sub * 17u;
    uint at = byte >> 2, down = (byte & 3u) * 8u;
    uint w0 = W_WORD(at), w1 = W_WORD(at + 1u), w2 = W_WORD(at + 2u), w3 = W_WORD(at + 3u), w4 = W_WORD(at + 4u);
    uint e = (w0 >> down) & 255u, up = 24u - down; // codes begin `down` + 8 bits into the first word
    float d = uintBitsToFloat(e < 2u ? 0x00200000u << e : (e - 1u) << 23);
    scale[0] = vec2(d, -12.0 * d);
    raw[0] = (w0 >> down) >> 8 | w1 << up;
    raw[1] = (w1 >> down) >> 8 | w2 << up;
    raw[2] = (w2 >> down) >> 8 | w3 << up;
    raw[3] = (w3 >> down) >> 8 | w4 << up;
}
