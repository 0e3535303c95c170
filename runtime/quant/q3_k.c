// SPDX-License-Identifier: Apache-2.0
// Q3_K: block of 256 weights in 16 groups of 16, 110 bytes.
//   bytes 0..31     third bits: bit i of byte j belongs to weight 32 i + j
//   bytes 32..95    low two bits: for each half of 128 weights 32 bytes; byte j holds weights j, j + 32, j + 64, j + 96, lowest
//                   bits first
//   bytes 96..107   16 six-bit scales s: the low four bits of groups g and g + 8 in byte g, the high two bits of groups g, g +
//   4,
//                   g + 8 and g + 12 in byte 8 + g, lowest first
//   bytes 108..109  d, f16
//   weight = (d * (s - 32)) * (q - 4), q in 0..7; both products rounded to f32
#include "runtime/quant/levels.h"

enum { VALUES = 256, BYTES = 110, GROUPS = 16, GROUP = 16, LOW_BITS = 32, SCALES = 96, D = 108 };

static void dequantize_row(const uint8_t *row, float *y, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, y += VALUES) {
        float d = graft_f16_to_f32(graft_load_u16(row + D));
        const uint8_t *scales = row + SCALES;
        for (int g = 0; g < GROUPS; g++) {
            int scale = (scales[g % 8] >> (g / 8 * 4) & 15) | (scales[8 + g % 4] >> (g / 4 * 2) & 3) << 4;
            float step = d * (float)(scale - 32);
            for (int j = 0; j < GROUP; j++) {
                int i = g % 2 * GROUP + j; // place among 32
                int q = (row[LOW_BITS + g / 8 * 32 + i] >> (g % 8 / 2 * 2) & 3) | (row[i] >> (g / 2) & 1) << 2;
                y[g * GROUP + j] = step * (float)(q - 4);
            }
        }
    }
}

static const float levels[8] = {-4, -3, -2, -1, 0, 1, 2, 3};
static const struct graft_levels shape = {
    .groups = GROUPS, .group = GROUP, .count = 8, .level = levels, .reach = 1.35f, .tries = 9, .rounds = 4};

// Own method (the reference package offers none): levels.h.
static void quantize_row(const float *x, uint8_t *row, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, x += VALUES) {
        struct graft_levels_block block;
        graft_levels_search(&shape, x, &block);
        memset(row, 0, BYTES);
        graft_quant_store_u16(row + D, graft_f32_to_f16(block.d));
        for (int g = 0; g < GROUPS; g++) {
            int scale = block.scale[g] + 32;
            uint8_t *low = &row[SCALES + g % 8], *high = &row[SCALES + 8 + g % 4];
            *low = (uint8_t)(*low | (scale & 15) << (g / 8 * 4));
            *high = (uint8_t)(*high | (scale >> 4) << (g / 4 * 2));
            for (int j = 0; j < GROUP; j++) {
                int i = g % 2 * GROUP + j, q = block.code[g * GROUP + j];
                uint8_t *codes = &row[LOW_BITS + g / 8 * 32 + i];
                *codes = (uint8_t)(*codes | (q & 3) << (g % 8 / 2 * 2));
                row[i] = (uint8_t)(row[i] | (q >> 2) << (g / 2));
            }
        }
    }
}

const struct graft_quant graft_quant_q3_k = {GRAFT_TYPE_Q3_K, dequantize_row, quantize_row};
