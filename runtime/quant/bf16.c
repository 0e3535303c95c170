// SPDX-License-Identifier: Apache-2.0
// BF16: block of one weight, 2 bytes, little-endian bfloat16.
#include "runtime/quant/block.h"

static void dequantize_row(const uint8_t *row, float *y, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        y[i] = graft_bf16_to_f32(graft_load_u16(row + 2 * i));
    }
}

static void quantize_row(const float *x, uint8_t *row, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        graft_quant_store_u16(row + 2 * i, graft_f32_to_bf16(x[i]));
    }
}

const struct graft_quant graft_quant_bf16 = {GRAFT_TYPE_BF16, dequantize_row, quantize_row};
