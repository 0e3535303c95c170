// SPDX-License-Identifier: Apache-2.0
// Q5_0: block of 32 weights, 22 bytes.
//   bytes 0..1   d, f16
//   bytes 2..5   fifth bits: bit i belongs to weight i
//   bytes 6..21  byte j holds the low four bits of weight j in its low and of weight j + 16 in its high four bits
//   weight = d * (q - 16), q in 0..31
#include "runtime/quant/block.h"

enum { VALUES = 32, BYTES = 22, HIGH_BITS = 2, LOW_BITS = 6 };

static void dequantize_row(const uint8_t *row, float *y, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, y += VALUES) {
        float d = graft_f16_to_f32(graft_load_u16(row));
        uint32_t high = graft_load_u32(row + HIGH_BITS);
        for (int j = 0; j < VALUES / 2; j++) {
            int q_low = (row[LOW_BITS + j] & 15) | (int)(high >> j & 1) << 4;
            int q_high = row[LOW_BITS + j] >> 4 | (int)(high >> (j + 16) & 1) << 4;
            y[j] = d * (float)(q_low - 16);
            y[j + VALUES / 2] = d * (float)(q_high - 16);
        }
    }
}

// d = (weight of largest magnitude, the first of equals) / -16, so that this weight is met exactly by q = 0; the others are
// rounded with the f32 d, before it is rounded to f16.
static void quantize_row(const float *x, uint8_t *row, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, x += VALUES) {
        float extreme = graft_quant_extreme(x, VALUES);
        float d = extreme / -16.0f;
        float inverse = graft_quant_inverse(d);
        memset(row, 0, BYTES);
        graft_quant_store_u16(row, graft_f32_to_f16(d));
        for (int j = 0; j < VALUES; j++) {
            float scaled = x[j] * inverse; // a statement of its own: never fused into one rounding
            int q = graft_quant_code(scaled + 16.5f, 0, 31);
            graft_quant_put_5_bits(row + HIGH_BITS, j, q);
        }
    }
}

const struct graft_quant graft_quant_q5_0 = {GRAFT_TYPE_Q5_0, dequantize_row, quantize_row};
