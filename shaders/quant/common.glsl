// SPDX-License-Identifier: Apache-2.0
// Weight formats in shaders. Each quant/<format>.glsl offers the same interface over a word buffer, seen through the macro
// W_WORD(i), which the including kernel defines:
// Including a file again with another W_WORD and Q_LOAD gives a second loader (kernels that read two matrices).
//   Q_RAW                  registers that hold 32 weights as stored
//   Q_PARTS                scale groups in 32 weights: 1 or 2
//   Q_MIN                  1 if weights have an offset, 0 if scale alone
//   Q_LOAD(row, sub, raw, scale)  load weights sub * 32 .. + 31 of the row that starts at byte `row` (a multiple of 2)
//   q_value(raw, i)        weights 4 i .. 4 i + 3 of the 32 (i = 0 .. 7), unscaled
// weight = scale[part].x * value + scale[part].y, part = (4 i) / 16 when Q_PARTS is 2.
vec4 q_bytes(uint b)
{
    return vec4(b & 255u, (b >> 8) & 255u, (b >> 16) & 255u, b >> 24);
}
// The 16 bits at a byte offset that is a multiple of 2.
#define W_HALF(byte) ((W_WORD((byte) >> 2) >> (((byte) & 2u) * 8u)) & 0xffffu)
