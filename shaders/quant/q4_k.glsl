// SPDX-License-Identifier: Apache-2.0
// Q4_K: 256 weights in 144 bytes: f16 d, f16 dmin, 12 bytes of 6-bit scales and minima, 128 bytes of nibbles. Weights 32 j ..
// 32 j + 31 use scale j and minimum j; their nibbles are the low (j even) or high (j odd) halves of bytes 32 (j / 2) .. + 31.
// weight = d scale q - dmin minimum.
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
    uint at = (row >> 2) + (sub >> 3) * 36u, j = sub & 7u;
    vec2 d = unpackHalf2x16(W_WORD(at));
    uint low = W_WORD(at + 1u), middle = W_WORD(at + 2u), high = W_WORD(at + 3u), shift = (j & 3u) * 8u;
    uint sc, mn;
    if (j < 4u) {
        sc = (low >> shift) & 63u;
        mn = (middle >> shift) & 63u;
    } else {
        uint both = high >> shift;
        sc = (both & 15u) | ((low >> (shift + 6u)) & 3u) << 4;
        mn = ((both >> 4) & 15u) | ((middle >> (shift + 6u)) & 3u) << 4;
    }
    scale[0] = vec2(d.x * float(sc), -d.y * float(mn));
    uint q = at + 4u + (j >> 1) * 8u, nibble = (j & 1u) * 4u;
    [[unroll]] for (uint i = 0u; i < 8u; i++) {
        raw[i] = (W_WORD(q + i) >> nibble) & 0x0f0f0f0fu;
    }
}
