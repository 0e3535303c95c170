// SPDX-License-Identifier: Apache-2.0
// Q4_0: block of 32 weights, 18 bytes.
//   bytes 0..1   d, f16
//   bytes 2..17  byte j holds weight j in its low and weight j + 16 in its high four bits
//   weight = d * (q - 8), q in 0..15
#include "runtime/quant/block.h"

enum { VALUES = 32, BYTES = 18 };

static void dequantize_row(const uint8_t *row, float *y, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, y += VALUES) {
        float d = graft_f16_to_f32(graft_load_u16(row));
        for (int j = 0; j < VALUES / 2; j++) {
            y[j] = d * (float)((row[2 + j] & 15) - 8);
            y[j + VALUES / 2] = d * (float)((row[2 + j] >> 4) - 8);
        }
    }
}

// d = (weight of largest magnitude, the first of equals) / -8, so that this weight is met exactly by q = 0; the others are
// rounded with the f32 d, before it is rounded to f16.
static void quantize_row(const float *x, uint8_t *row, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, x += VALUES) {
        float extreme = graft_quant_extreme(x, VALUES);
        float d = extreme / -8.0f;
        float inverse = graft_quant_inverse(d);
        graft_quant_store_u16(row, graft_f32_to_f16(d));
        for (int j = 0; j < VALUES / 2; j++) {
            float low = x[j] * inverse; // statements of their own: never fused into one rounding
            float high = x[j + VALUES / 2] * inverse;
            int q_low = graft_quant_code(low + 8.5f, 0, 15), q_high = graft_quant_code(high + 8.5f, 0, 15);
            row[2 + j] = (uint8_t)(q_low | q_high << 4);
        }
    }
}

const struct graft_quant graft_quant_q4_0 = {GRAFT_TYPE_Q4_0, dequantize_row, quantize_row};
