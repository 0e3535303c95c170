// SPDX-License-Identifier: Apache-2.0
// MXFP4 (OCP Microscaling Formats v1.0; GGUF's order of bytes): block of 32 weights, 17 bytes.
//   byte 0       e: the scale 2^(e - 127)
//   bytes 1..16  byte j holds the code of weight j in its low and of weight j + 16 in its high four bits
//   weight = 2^(e - 127) * element[code], elements of E2M1: 0 .5 1 1.5 2 3 4 6 and their negatives; computed as 2^(e - 128)
//   times twice the element, so that e = 255 is 2^127, no NaN
#include "runtime/quant/block.h"

enum { VALUES = 32, BYTES = 17, CODES = 16 };

static const float twice[CODES] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// 2^(e - 128); subnormal for e of 0 and 1.
static float half_scale(uint8_t e)
{
    return ldexpf(1.0f, (int)e - 128);
}

static void dequantize_row(const uint8_t *row, float *y, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, y += VALUES) {
        float d = half_scale(row[0]);
        for (int j = 0; j < VALUES / 2; j++) {
            y[j] = d * twice[row[1 + j] & 15];
            y[j + VALUES / 2] = d * twice[row[1 + j] >> 4];
        }
    }
}

// The exponent is that of the weight of largest magnitude, less 2 (the exponent of the largest element); then the nearest
// element, the one of the smallest code where two are equally near. The exponent is exact where the reference takes it from a
// rounded logarithm: they differ for magnitudes within 2^-20 below a power of two.
static void quantize_row(const float *x, uint8_t *row, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, x += VALUES) {
        float most = 0.0f;
        for (int j = 0; j < VALUES; j++) {
            most = fmaxf(most, fabsf(x[j]));
        }
        int exponent = 0;
        if (most > 0.0f && isfinite(most)) {
            (void)frexpf(most, &exponent); // most = m * 2^exponent, m in 0.5 .. 1
            exponent = exponent - 1 - 2 + 127;
        } else if (most > 0.0f) {
            exponent = 254;
        }
        row[0] = (uint8_t)(exponent < 0 ? 0 : exponent);
        float d = half_scale(row[0]), error[VALUES];
        uint8_t code[VALUES] = {0};
        for (int j = 0; j < VALUES; j++) {
            error[j] = fabsf(x[j]);
        }
        for (int k = 1; k < CODES; k++) {
            float weight = d * twice[k];
            for (int j = 0; j < VALUES; j++) {
                float other = fabsf(weight - x[j]);
                code[j] = other < error[j] ? (uint8_t)k : code[j];
                error[j] = other < error[j] ? other : error[j];
            }
        }
        for (int j = 0; j < VALUES / 2; j++) {
            row[1 + j] = (uint8_t)(code[j] | code[j + VALUES / 2] << 4);
        }
    }
}

const struct graft_quant graft_quant_mxfp4 = {GRAFT_TYPE_MXFP4, dequantize_row, quantize_row};
