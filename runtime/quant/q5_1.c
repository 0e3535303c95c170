// SPDX-License-Identifier: Apache-2.0
// Q5_1: block of 32 weights, 24 bytes.
//   bytes 0..1   d, f16
//   bytes 2..3   m, f16
//   bytes 4..7   fifth bits: bit i belongs to weight i
//   bytes 8..23  byte j holds the low four bits of weight j in its low and of weight j + 16 in its high four bits
//   weight = d * q + m, q in 0..31; the product is rounded to f32 before the sum
#include "runtime/quant/block.h"

enum { VALUES = 32, BYTES = 24, HIGH_BITS = 4, LOW_BITS = 8 };

static void dequantize_row(const uint8_t *row, float *y, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, y += VALUES) {
        float d = graft_f16_to_f32(graft_load_u16(row)), m = graft_f16_to_f32(graft_load_u16(row + 2));
        uint32_t high_bits = graft_load_u32(row + HIGH_BITS);
        for (int j = 0; j < VALUES / 2; j++) {
            int q_low = (row[LOW_BITS + j] & 15) | (int)(high_bits >> j & 1) << 4;
            int q_high = row[LOW_BITS + j] >> 4 | (int)(high_bits >> (j + 16) & 1) << 4;
            float low = d * (float)q_low, high = d * (float)q_high; // never fused with the sum
            y[j] = low + m;
            y[j + VALUES / 2] = high + m;
        }
    }
}

// m = smallest weight, d = (largest - smallest) / 31; codes are rounded with the f32 values of both.
static void quantize_row(const float *x, uint8_t *row, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, x += VALUES) {
        float least, most;
        graft_quant_range(x, VALUES, &least, &most);
        float d = (most - least) / 31.0f;
        float inverse = graft_quant_inverse(d);
        memset(row, 0, BYTES);
        graft_quant_store_u16(row, graft_f32_to_f16(d));
        graft_quant_store_u16(row + 2, graft_f32_to_f16(least));
        for (int j = 0; j < VALUES; j++) {
            float scaled = (x[j] - least) * inverse;
            int q = graft_quant_code(scaled + 0.5f, 0, 31);
            graft_quant_put_5_bits(row + HIGH_BITS, j, q);
        }
    }
}

const struct graft_quant graft_quant_q5_1 = {GRAFT_TYPE_Q5_1, dequantize_row, quantize_row};
