// SPDX-License-Identifier: Apache-2.0
// Q5_K: block of 256 weights in 8 groups of 32, 176 bytes.
//   bytes 0..1     d, f16
//   bytes 2..3     dmin, f16
//   bytes 4..15    8 six-bit scales s and 8 six-bit minima m, interleaved (see k_block.h)
//   bytes 16..47   fifth bits: bit g of byte j belongs to weight j of group g
//   bytes 48..175  for each pair of groups 32 bytes: byte j holds the low four bits of weight j of the even group in its low
//   and
//                  of the odd group in its high four bits
//   weight = (d * s) * q - (dmin * m), q in 0..31; every product rounded to f32
#include "runtime/quant/k_block.h"

enum { VALUES = 256, BYTES = 176, GROUPS = 8, GROUP = 32, HIGH_BITS = 16, LOW_BITS = 48 };

static void dequantize_row(const uint8_t *row, float *y, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, y += VALUES) {
        float d = graft_f16_to_f32(graft_load_u16(row)), dmin = graft_f16_to_f32(graft_load_u16(row + 2));
        for (int g = 0; g < GROUPS; g++) {
            int scale, min;
            graft_k_scale_and_min(row + 4, g, &scale, &min);
            float ds = d * (float)scale, dm = dmin * (float)min;
            const uint8_t *codes = row + LOW_BITS + g / 2 * GROUP;
            int shift = g % 2 * 4;
            for (int j = 0; j < GROUP; j++) {
                int q = ((codes[j] >> shift) & 15) | ((row[HIGH_BITS + j] >> g) & 1) << 4;
                float product = ds * (float)q; // never fused with the difference
                y[g * GROUP + j] = product - dm;
            }
        }
    }
}

static const struct graft_k_shape shape = {
    .groups = GROUPS, .group = GROUP, .levels = 31, .scale_most = 63, .tries = 17, .first = 28.0f, .stride = 0.3f, .rounds = 3};

// Own method (the reference package offers none): k_block.h.
static void quantize_row(const float *x, uint8_t *row, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, x += VALUES) {
        struct graft_k_block block;
        graft_k_search(&shape, x, &block);
        memset(row, 0, BYTES);
        graft_quant_store_u16(row, graft_f32_to_f16(block.d));
        graft_quant_store_u16(row + 2, graft_f32_to_f16(block.dmin));
        for (int g = 0; g < GROUPS; g++) {
            graft_k_pack_scale_and_min(row + 4, g, block.scale[g], block.min[g]);
            uint8_t *codes = row + LOW_BITS + g / 2 * GROUP;
            for (int j = 0; j < GROUP; j++) {
                int q = block.q[g * GROUP + j];
                codes[j] = (uint8_t)(codes[j] | (q & 15) << (g % 2 * 4));
                row[HIGH_BITS + j] = (uint8_t)(row[HIGH_BITS + j] | (q >> 4) << g);
            }
        }
    }
}

const struct graft_quant graft_quant_q5_k = {GRAFT_TYPE_Q5_K, dequantize_row, quantize_row};
