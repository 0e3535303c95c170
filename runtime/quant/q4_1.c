// SPDX-License-Identifier: Apache-2.0
// Q4_1: block of 32 weights, 20 bytes.
//   bytes 0..1   d, f16
//   bytes 2..3   m, f16
//   bytes 4..19  byte j holds weight j in its low and weight j + 16 in its high four bits
//   weight = d * q + m, q in 0..15, the product rounded before the sum
#include "runtime/quant/block.h"

enum { VALUES = 32, BYTES = 20 };

static void dequantize_row(const uint8_t *row, float *y, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, y += VALUES) {
        float d = graft_f16_to_f32(graft_load_u16(row)), m = graft_f16_to_f32(graft_load_u16(row + 2));
        for (int j = 0; j < VALUES / 2; j++) {
            float low = d * (float)(row[4 + j] & 15); // statements of their own: never fused into one rounding
            float high = d * (float)(row[4 + j] >> 4);
            y[j] = low + m;
            y[j + VALUES / 2] = high + m;
        }
    }
}

// m = smallest weight, d = (largest - smallest) / 15; codes are rounded with the f32 values of both.
static void quantize_row(const float *x, uint8_t *row, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, x += VALUES) {
        float least, most;
        graft_quant_range(x, VALUES, &least, &most);
        float d = (most - least) / 15.0f;
        float inverse = graft_quant_inverse(d);
        graft_quant_store_u16(row, graft_f32_to_f16(d));
        graft_quant_store_u16(row + 2, graft_f32_to_f16(least));
        for (int j = 0; j < VALUES / 2; j++) {
            float low = (x[j] - least) * inverse;
            float high = (x[j + VALUES / 2] - least) * inverse;
            int q_low = graft_quant_code(low + 0.5f, 0, 15), q_high = graft_quant_code(high + 0.5f, 0, 15);
            row[4 + j] = (uint8_t)(q_low | q_high << 4);
        }
    }
}

const struct graft_quant graft_quant_q4_1 = {GRAFT_TYPE_Q4_1, dequantize_row, quantize_row};
