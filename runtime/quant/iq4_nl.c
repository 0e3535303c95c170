// SPDX-License-Identifier: Apache-2.0
// IQ4_NL: block of 32 weights, 18 bytes.
//   bytes 0..1   d, f16
//   bytes 2..17  byte j holds the code of weight j in its low and of weight j + 16 in its high four bits
//   weight = d * level[code]: 16 levels of uneven spacing, levels.h
#include "runtime/quant/levels.h"

enum { VALUES = 32, BYTES = 18, TRIES = 8, ROUNDS = 3 };

static void dequantize_row(const uint8_t *row, float *y, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, y += VALUES) {
        float d = graft_f16_to_f32(graft_load_u16(row));
        for (int j = 0; j < VALUES / 2; j++) {
            y[j] = d * graft_iq4_levels[row[2 + j] & 15];
            y[j + VALUES / 2] = d * graft_iq4_levels[row[2 + j] >> 4];
        }
    }
}

static const struct graft_levels shape = {
    .groups = 1, .group = VALUES, .count = GRAFT_LEVELS_MAX, .level = graft_iq4_levels, .reach = 1.25f, .tries = TRIES};

// Own method (the reference package offers none): least-squares step, rounded to f16; then the step is fitted again to the
// codes that the rounded one gives, as long as the error falls.
static void quantize_row(const float *x, uint8_t *row, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, x += VALUES) {
        uint8_t code[VALUES], tried[VALUES];
        float d = graft_levels_through_f16(graft_levels_search_group(&shape, x));
        float error = graft_levels_encode(&shape, x, d, code);
        for (int round = 0; round < ROUNDS; round++) {
            float next = graft_levels_through_f16(graft_levels_fit(&shape, x, code));
            float next_error = graft_levels_encode(&shape, x, next, tried);
            if (!(next_error < error)) {
                break;
            }
            d = next, error = next_error;
            memcpy(code, tried, sizeof code);
        }
        graft_quant_store_u16(row, graft_f32_to_f16(d));
        for (int j = 0; j < VALUES / 2; j++) {
            row[2 + j] = (uint8_t)(code[j] | code[j + VALUES / 2] << 4);
        }
    }
}

const struct graft_quant graft_quant_iq4_nl = {GRAFT_TYPE_IQ4_NL, dequantize_row, quantize_row};
