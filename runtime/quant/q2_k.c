// SPDX-License-Identifier: Apache-2.0
// Q2_K: block of 256 weights in 16 groups of 16, 84 bytes.
//   bytes 0..15   one a group: scale s in the low and minimum m in the high four bits
//   bytes 16..79  for each half of 128 weights 32 bytes: byte j holds weights j, j + 32, j + 64, j + 96, lowest bits first
//   bytes 80..81  d, f16
//   bytes 82..83  dmin, f16
//   weight = (d * s) * q - (dmin * m), q in 0..3; every product rounded to f32
#include "runtime/quant/k_block.h"

enum { VALUES = 256, BYTES = 84, GROUPS = 16, GROUP = 16, CODES = 16, D = 80 };

static void dequantize_row(const uint8_t *row, float *y, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, y += VALUES) {
        float d = graft_f16_to_f32(graft_load_u16(row + D)), dmin = graft_f16_to_f32(graft_load_u16(row + D + 2));
        for (int g = 0; g < GROUPS; g++) {
            float ds = d * (float)(row[g] & 15), dm = dmin * (float)(row[g] >> 4);
            const uint8_t *codes = row + CODES + g / 8 * 32 + g % 2 * GROUP;
            int shift = g % 8 / 2 * 2;
            for (int j = 0; j < GROUP; j++) {
                float product = ds * (float)((codes[j] >> shift) & 3); // never fused with the difference
                y[g * GROUP + j] = product - dm;
            }
        }
    }
}

static const struct graft_k_shape shape = {.groups = GROUPS,
                                           .group = GROUP,
                                           .levels = 3,
                                           .scale_most = 15,
                                           .tries = 13,
                                           .first = 2.2f,
                                           .stride = 0.15f,
                                           .rounds = 4,
                                           .neighbours = true};

// Own method (the reference package offers none): k_block.h.
static void quantize_row(const float *x, uint8_t *row, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, x += VALUES) {
        struct graft_k_block block;
        graft_k_search(&shape, x, &block);
        memset(row, 0, BYTES);
        graft_quant_store_u16(row + D, graft_f32_to_f16(block.d));
        graft_quant_store_u16(row + D + 2, graft_f32_to_f16(block.dmin));
        for (int g = 0; g < GROUPS; g++) {
            row[g] = (uint8_t)(block.scale[g] | block.min[g] << 4);
            uint8_t *codes = row + CODES + g / 8 * 32 + g % 2 * GROUP;
            for (int j = 0; j < GROUP; j++) {
                codes[j] = (uint8_t)(codes[j] | block.q[g * GROUP + j] << (g % 8 / 2 * 2));
            }
        }
    }
}

const struct graft_quant graft_quant_q2_k = {GRAFT_TYPE_Q2_K, dequantize_row, quantize_row};
