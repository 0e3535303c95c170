// SPDX-License-Identifier: Apache-2.0
// IQ4_XS: block of 256 weights in 8 groups of 32, 136 bytes.
//   bytes 0..1    d, f16
//   bytes 2..3    high two bits of the 8 six-bit scales s, group 0 in the lowest
//   bytes 4..7    their low four bits: groups 2 i and 2 i + 1 in the low and high half of byte i
//   bytes 8..135  for each group 16 bytes: byte j holds the code of weight j in its low and of weight j + 16 in its high four
//   bits weight = (d * (s - 32)) * level[code]: 16 levels of uneven spacing, levels.h; both products rounded to f32
#include "runtime/quant/levels.h"

enum { VALUES = 256, BYTES = 136, GROUPS = 8, GROUP = 32, SCALES_HIGH = 2, SCALES_LOW = 4, CODES = 8 };

static void dequantize_row(const uint8_t *row, float *y, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, y += VALUES) {
        float d = graft_f16_to_f32(graft_load_u16(row));
        int high = graft_load_u16(row + SCALES_HIGH);
        for (int g = 0; g < GROUPS; g++) {
            int scale = (row[SCALES_LOW + g / 2] >> (g % 2 * 4) & 15) | (high >> (2 * g) & 3) << 4;
            float step = d * (float)(scale - 32);
            const uint8_t *codes = row + CODES + g * GROUP / 2;
            for (int j = 0; j < GROUP / 2; j++) {
                y[g * GROUP + j] = step * graft_iq4_levels[codes[j] & 15];
                y[g * GROUP + j + GROUP / 2] = step * graft_iq4_levels[codes[j] >> 4];
            }
        }
    }
}

static const struct graft_levels shape = {.groups = GROUPS,
                                          .group = GROUP,
                                          .count = GRAFT_LEVELS_MAX,
                                          .level = graft_iq4_levels,
                                          .reach = 1.25f,
                                          .tries = 8,
                                          .rounds = 3};

// Own method (the reference package offers none): levels.h.
static void quantize_row(const float *x, uint8_t *row, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, x += VALUES) {
        struct graft_levels_block block;
        graft_levels_search(&shape, x, &block);
        memset(row, 0, BYTES);
        graft_quant_store_u16(row, graft_f32_to_f16(block.d));
        int high = 0;
        for (int g = 0; g < GROUPS; g++) {
            int scale = block.scale[g] + 32;
            uint8_t *low = &row[SCALES_LOW + g / 2];
            *low = (uint8_t)(*low | (scale & 15) << (g % 2 * 4));
            high |= (scale >> 4) << (2 * g);
            const uint8_t *code = block.code + g * GROUP;
            for (int j = 0; j < GROUP / 2; j++) {
                row[CODES + g * GROUP / 2 + j] = (uint8_t)(code[j] | code[j + GROUP / 2] << 4);
            }
        }
        graft_quant_store_u16(row + SCALES_HIGH, (uint16_t)high);
    }
}

const struct graft_quant graft_quant_iq4_xs = {GRAFT_TYPE_IQ4_XS, dequantize_row, quantize_row};
