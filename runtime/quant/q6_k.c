// SPDX-License-Identifier: Apache-2.0
// Q6_K: block of 256 weights in 16 groups of 16, 210 bytes.
//   bytes 0..127    low four bits: for each half of 128 weights 64 bytes; byte j holds weight j in its low and weight j + 64 in
//                   its high four bits
//   bytes 128..191  high two bits: for each half 32 bytes; byte j holds weights j, j + 32, j + 64, j + 96, lowest bits first
//   bytes 192..207  16 signed scales s, one a group
//   bytes 208..209  d, f16
//   weight = (d * s) * (q - 32), q in 0..63; both products rounded to f32
#include "runtime/quant/block.h"

enum { VALUES = 256, BYTES = 210, GROUPS = 16, GROUP = 16, HIGH_BITS = 128, SCALES = 192, D = 208, TRIES = 19 };

static void dequantize_row(const uint8_t *row, float *y, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, y += VALUES) {
        float d = graft_f16_to_f32(graft_load_u16(row + D));
        for (int i = 0; i < VALUES; i++) {
            int half = i / 128, place = i % 128;
            int low = row[half * 64 + place % 64] >> (place / 64 * 4) & 15;
            int high = row[HIGH_BITS + half * 32 + place % 32] >> (place / 32 * 2) & 3;
            float step = d * (float)(int8_t)row[SCALES + i / GROUP];
            y[i] = step * (float)((low | high << 4) - 32);
        }
    }
}

// Signed code of v in -32..31, rounded half away from zero.
static int code_of(float v)
{
    return graft_quant_code(roundf(v), -32, 31);
}

// The step of a group (either sign) with the smallest squared error for weight = step * q: several steps that map the weight of
// largest magnitude to about -32, each replaced by the least-squares step of its codes, sum(x q) / sum(q q). For that
// step the error is sum(x x) - sum(x q)^2 / sum(q q), so the largest such quotient wins.
static float search_group(const float *x)
{
    float extreme = 0.0f;
    for (int j = 0; j < GROUP; j++) {
        if (fabsf(x[j]) > fabsf(extreme)) {
            extreme = x[j];
        }
    }
    float best_step = extreme / -32.0f, best = -1.0f;
    for (int k = 0; k < TRIES; k++) {
        float inverse = graft_quant_inverse(extreme / (-32.9f + 0.2f * (float)k));
        double sum_xq = 0.0, sum_qq = 0.0;
        for (int j = 0; j < GROUP; j++) {
            double q = code_of(x[j] * inverse);
            sum_xq += (double)x[j] * q;
            sum_qq += q * q;
        }
        if (sum_qq > 0.0 && (float)(sum_xq * sum_xq / sum_qq) > best) {
            best = (float)(sum_xq * sum_xq / sum_qq);
            best_step = (float)(sum_xq / sum_qq);
        }
    }
    return best_step;
}

// Own method (the reference package offers none): least-squares step per group, d so that the step of largest magnitude becomes
// scale -128, scales rounded to eight bits, codes rounded with the rounded d and scales. Inputs beyond what an f16 d can
// hold saturate.
static void quantize_row(const float *x, uint8_t *row, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, x += VALUES) {
        float steps[GROUPS], extreme = 0.0f;
        for (int g = 0; g < GROUPS; g++) {
            steps[g] = search_group(x + g * GROUP);
            if (fabsf(steps[g]) > fabsf(extreme)) {
                extreme = steps[g];
            }
        }
        uint16_t d_bits = graft_f32_to_f16(fmaxf(-65504.0f, fminf(65504.0f, extreme / -128.0f)));
        float d = graft_f16_to_f32(d_bits);
        memset(row, 0, BYTES);
        graft_quant_store_u16(row + D, d_bits);
        for (int g = 0; g < GROUPS; g++) {
            int scale = graft_quant_code(roundf(steps[g] * graft_quant_inverse(d)), -128, 127);
            row[SCALES + g] = (uint8_t)scale;
            float inverse = graft_quant_inverse(d * (float)scale);
            for (int j = 0; j < GROUP; j++) {
                int i = g * GROUP + j, half = i / 128, place = i % 128;
                int q = code_of(x[i] * inverse) + 32;
                uint8_t *low = &row[half * 64 + place % 64], *high = &row[HIGH_BITS + half * 32 + place % 32];
                *low = (uint8_t)(*low | (q & 15) << (place / 64 * 4));
                *high = (uint8_t)(*high | (q >> 4) << (place / 32 * 2));
            }
        }
    }
}

const struct graft_quant graft_quant_q6_k = {GRAFT_TYPE_Q6_K, dequantize_row, quantize_row};
