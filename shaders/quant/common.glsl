// SPDX-License-Identifier: Apache-2.0
// Weight formats in shaders. Each quant/<format>.glsl offers the same interface over a word buffer, seen through the macro
// W_WORD(i), which the including kernel defines:
//   Q_LOADER(<format>)(row, sub, raw, scale)  load weights sub * 32 .. + 31 of the row that starts at byte `row`
//   <format>_value(raw, i)                    weights 4 i .. 4 i + 3 of the 32 (i = 0 .. 7), unscaled
//   <format>_bits(raw, i)                     the same as four signed bytes; block formats only
// weight = scale[part].x * value + scale[part].y. raw is up to Q_RAW words, in any order that suits the format; there are one
// or two parts of 32 or 16 weights. Including a file again with another W_WORD and Q_LOADER gives a second loader (kernels that
// read two matrices). quant/format.glsl has the list and chooses by a specialization constant.
vec4 q_bytes(uint b)
{
    return vec4(b & 255u, (b >> 8) & 255u, (b >> 16) & 255u, b >> 24);
}
// Four integers of -128 .. 127 as bytes.
uint q_to_bytes(ivec4 q)
{
    return uint(q.x & 255) | uint(q.y & 255) << 8 | uint(q.z & 255) << 16 | uint(q.w) << 24;
}
// The 16 bits at a byte offset that is a multiple of 2.
#define W_HALF(byte) ((W_WORD((byte) >> 2) >> (((byte) & 2u) * 8u)) & 0xffffu)
// Scale and, negative, minimum j of 8 from the 12 bytes of Q4_K and Q5_K. Both are six bits: 0 .. 3 in one piece in `low` and
// `middle`; 4 .. 7 with four bits in `high` and two in the tops of `low` and `middle`.
vec2 q_k_scale(uint low, uint middle, uint high, uint j)
{
    uint shift = (j & 3u) * 8u, sc, mn;
    if (j < 4u) {
        sc = (low >> shift) & 63u;
        mn = (middle >> shift) & 63u;
    } else {
        uint both = high >> shift;
        sc = (both & 15u) | ((low >> (shift + 6u)) & 3u) << 4;
        mn = ((both >> 4) & 15u) | ((middle >> (shift + 6u)) & 3u) << 4;
    }
    return vec2(sc, -float(mn));
}
// The levels of IQ4_NL and IQ4_XS for four codes in the bytes of a word:
//   -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113
// A polynomial of degree 4 in code - 7.5 comes within 0.434 of each, so that rounding gives it exactly: cheaper than a table.
vec4 q_iq4_levels(uint codes)
{
    vec4 c = q_bytes(codes) - 7.5;
    vec4 v = fma(c, vec4(0.0015860428), vec4(0.078667723));
    v = fma(c, v, vec4(-0.13719271));
    v = fma(c, v, vec4(11.517209));
    return roundEven(fma(c, v, vec4(-4.301249)));
}
