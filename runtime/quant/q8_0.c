// SPDX-License-Identifier: Apache-2.0
// Q8_0: block of 32 weights, 34 bytes.
//   bytes 0..1   d, f16
//   bytes 2..33  q, one signed byte a weight
//   weight = d * q
#include "runtime/quant/block.h"

enum { VALUES = 32, BYTES = 34 };

static void dequantize_row(const uint8_t *row, float *y, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, y += VALUES) {
        float d = graft_f16_to_f32(graft_load_u16(row));
        for (int j = 0; j < VALUES; j++) {
            y[j] = d * (float)(int8_t)row[2 + j];
        }
    }
}

// d = largest magnitude / 127; codes are rounded half away from zero, with the f32 d.
static void quantize_row(const float *x, uint8_t *row, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, x += VALUES) {
        float most = 0.0f;
        for (int j = 0; j < VALUES; j++) {
            most = fmaxf(most, fabsf(x[j]));
        }
        float d = most / 127.0f;
        float inverse = graft_quant_inverse(d);
        graft_quant_store_u16(row, graft_f32_to_f16(d));
        for (int j = 0; j < VALUES; j++) {
            row[2 + j] = (uint8_t)graft_quant_code(roundf(x[j] * inverse), -127, 127);
        }
    }
}

const struct graft_quant graft_quant_q8_0 = {GRAFT_TYPE_Q8_0, dequantize_row, quantize_row};
