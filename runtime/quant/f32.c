// SPDX-License-Identifier: Apache-2.0
// F32: block of one weight, 4 bytes, little-endian binary32.
#include "runtime/quant/block.h"

static void dequantize_row(const uint8_t *row, float *y, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        y[i] = graft_quant_load_f32(row + 4 * i);
    }
}

static void quantize_row(const float *x, uint8_t *row, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        graft_quant_store_u16(row + 4 * i, (uint16_t)bits);
        graft_quant_store_u16(row + 4 * i + 2, (uint16_t)(bits >> 16));
    }
}

const struct graft_quant graft_quant_f32 = {GRAFT_TYPE_F32, dequantize_row, quantize_row};
