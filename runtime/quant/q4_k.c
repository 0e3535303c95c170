// SPDX-License-Identifier: Apache-2.0
// Q4_K: block of 256 weights in 8 groups of 32, 144 bytes.
//   bytes 0..1     d, f16
//   bytes 2..3     dmin, f16
//   bytes 4..15    8 six-bit scales s and 8 six-bit minima m, interleaved (see scale_and_min)
//   bytes 16..143  for each pair of groups 32 bytes: byte j holds weight j of the even group in its low and of the odd group in
//                  its high four bits
//   weight = (d * s) * q - (dmin * m), q in 0..15; every product rounded to f32
#include "runtime/quant/block.h"

enum { VALUES = 256, BYTES = 144, GROUPS = 8, GROUP = 32, TRIES = 17, ROUNDS = 3 };

// Groups 0..3: six bits each in bytes 0..3 (scales) and 4..7 (minima). Groups 4..7: the low four bits in the halves of bytes
// 8..11, the high two bits in the top of bytes 0..3 (scales) and 4..7 (minima).
static void scale_and_min(const uint8_t *packed, int group, int *scale, int *min)
{
    if (group < 4) {
        *scale = packed[group] & 63;
        *min = packed[group + 4] & 63;
    } else {
        *scale = (packed[group + 4] & 15) | (packed[group - 4] >> 6) << 4;
        *min = (packed[group + 4] >> 4) | (packed[group] >> 6) << 4;
    }
}

static void pack_scale_and_min(uint8_t *packed, int group, int scale, int min)
{
    if (group < 4) {
        packed[group] = (uint8_t)(packed[group] | scale);
        packed[group + 4] = (uint8_t)(packed[group + 4] | min);
    } else {
        packed[group + 4] = (uint8_t)((scale & 15) | (min & 15) << 4);
        packed[group - 4] = (uint8_t)(packed[group - 4] | (scale >> 4) << 6);
        packed[group] = (uint8_t)(packed[group] | (min >> 4) << 6);
    }
}

static void dequantize_row(const uint8_t *row, float *y, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, y += VALUES) {
        float d = graft_f16_to_f32(graft_load_u16(row)), dmin = graft_f16_to_f32(graft_load_u16(row + 2));
        for (int g = 0; g < GROUPS; g++) {
            int scale, min;
            scale_and_min(row + 4, g, &scale, &min);
            float ds = d * (float)scale, dm = dmin * (float)min;
            const uint8_t *codes = row + 16 + g / 2 * GROUP;
            int shift = g % 2 * 4;
            for (int j = 0; j < GROUP; j++) {
                float product = ds * (float)((codes[j] >> shift) & 15); // never fused with the difference
                y[g * GROUP + j] = product - dm;
            }
        }
    }
}

// Codes of a group for weight = step * q - min, and their sum of squared errors.
static float encode_group(const float *x, float step, float min, uint8_t *q)
{
    float inverse = graft_quant_inverse(step), error = 0.0f;
    for (int j = 0; j < GROUP; j++) {
        q[j] = (uint8_t)graft_quant_code((x[j] + min) * inverse + 0.5f, 0, 15);
        float difference = step * (float)q[j] - min - x[j];
        error += difference * difference;
    }
    return error;
}

// Least squares of step and min for given codes; min is kept >= 0, as the format has no sign for it.
static void fit_group(const float *x, const uint8_t *q, float *step, float *min)
{
    float sum_q = 0.0f, sum_qq = 0.0f, sum_x = 0.0f, sum_xq = 0.0f;
    for (int j = 0; j < GROUP; j++) {
        float c = (float)q[j];
        sum_q += c, sum_qq += c * c, sum_x += x[j], sum_xq += x[j] * c;
    }
    float determinant = (float)GROUP * sum_qq - sum_q * sum_q;
    if (determinant <= 0.0f) {
        return;
    }
    *step = ((float)GROUP * sum_xq - sum_q * sum_x) / determinant;
    *min = (sum_q * sum_xq - sum_qq * sum_x) / determinant;
    if (*min < 0.0f) {
        *min = 0.0f;
        *step = sum_xq / sum_qq;
    }
}

// Best step and min of a group: several steps around the span / 15, each followed by one least-squares fit to its codes.
static void search_group(const float *x, float *best_step, float *best_min)
{
    float low = 0.0f, high = 0.0f; // min >= 0 means that zero is always inside
    for (int j = 0; j < GROUP; j++) {
        low = fminf(low, x[j]);
        high = fmaxf(high, x[j]);
    }
    uint8_t q[GROUP];
    *best_step = (high - low) / 15.0f;
    *best_min = -low;
    float best = encode_group(x, *best_step, *best_min, q);
    for (int k = 0; k < TRIES; k++) {
        float step = (high - low) / (13.0f + 0.25f * (float)k), min = -low;
        (void)encode_group(x, step, min, q);
        fit_group(x, q, &step, &min);
        float error = step > 0.0f ? encode_group(x, step, min, q) : INFINITY;
        if (error < best) {
            best = error, *best_step = step, *best_min = min;
        }
    }
}

// encode_group for all groups of a block.
static float encode_block(const float *x, float d, float dmin, const int *scale, const int *min, uint8_t q[GROUPS][GROUP])
{
    float error = 0.0f;
    for (int g = 0; g < GROUPS; g++) {
        error += encode_group(x + g * GROUP, d * (float)scale[g], dmin * (float)min[g], q[g]);
    }
    return error;
}

// d and dmin of smallest squared error for weight = d * u - dmin * v with u = scale * q, v = min; false if not determined.
static bool fit_block(const float *x, const int *scale, const int *min, uint8_t q[GROUPS][GROUP], float *d, float *dmin)
{
    double uu = 0, uv = 0, vv = 0, xu = 0, xv = 0;
    for (int g = 0; g < GROUPS; g++) {
        for (int j = 0; j < GROUP; j++) {
            double u = (double)scale[g] * q[g][j], v = min[g], w = (double)x[g * GROUP + j];
            uu += u * u, uv += u * v, vv += v * v, xu += w * u, xv += w * v;
        }
    }
    double determinant = uu * vv - uv * uv;
    if (vv == 0.0 && uu > 0.0) {
        *d = (float)(xu / uu), *dmin = 0.0f;
        return true;
    }
    if (!(determinant > 1e-9 * uu * vv)) {
        return false;
    }
    *d = (float)((xu * vv - xv * uv) / determinant);
    *dmin = (float)((xu * uv - xv * uu) / determinant);
    return *d >= 0.0f && *dmin >= 0.0f;
}

static float through_f16(float v)
{
    return graft_f16_to_f32(graft_f32_to_f16(fminf(v, 65504.0f)));
}

// Own method (the reference package offers none): least-squares step and min per group; both rounded to six bits of the
// block's largest; codes rounded with those; then the block's d and dmin are fitted again to codes, scales and minima by least
// squares, as long as the error falls. Inputs beyond the f16 range saturate.
static void quantize_row(const float *x, uint8_t *row, uint64_t n)
{
    for (uint64_t b = 0; b < n / VALUES; b++, row += BYTES, x += VALUES) {
        float steps[GROUPS], mins[GROUPS], step_most = 0.0f, min_most = 0.0f;
        for (int g = 0; g < GROUPS; g++) {
            search_group(x + g * GROUP, &steps[g], &mins[g]);
            step_most = fmaxf(step_most, steps[g]);
            min_most = fmaxf(min_most, mins[g]);
        }
        float d = through_f16(step_most / 63.0f), dmin = through_f16(min_most / 63.0f);
        int scale[GROUPS], min[GROUPS];
        for (int g = 0; g < GROUPS; g++) {
            scale[g] = graft_quant_code(steps[g] * graft_quant_inverse(d) + 0.5f, 0, 63);
            min[g] = graft_quant_code(mins[g] * graft_quant_inverse(dmin) + 0.5f, 0, 63);
        }
        uint8_t q[GROUPS][GROUP], tried[GROUPS][GROUP];
        float error = encode_block(x, d, dmin, scale, min, q);
        for (int round = 0; round < ROUNDS; round++) {
            float next_d, next_dmin;
            if (!fit_block(x, scale, min, q, &next_d, &next_dmin)) {
                break;
            }
            next_d = through_f16(next_d), next_dmin = through_f16(next_dmin);
            float next_error = encode_block(x, next_d, next_dmin, scale, min, tried);
            if (!(next_error < error)) {
                break;
            }
            d = next_d, dmin = next_dmin, error = next_error;
            memcpy(q, tried, sizeof q);
        }
        memset(row, 0, BYTES);
        graft_quant_store_u16(row, graft_f32_to_f16(d));
        graft_quant_store_u16(row + 2, graft_f32_to_f16(dmin));
        for (int g = 0; g < GROUPS; g++) {
            pack_scale_and_min(row + 4, g, scale[g], min[g]);
            uint8_t *codes = row + 16 + g / 2 * GROUP;
            for (int j = 0; j < GROUP; j++) {
                codes[j] = (uint8_t)(codes[j] | q[g][j] << (g % 2 * 4));
            }
        }
    }
}

const struct graft_quant graft_quant_q4_k = {GRAFT_TYPE_Q4_K, dequantize_row, quantize_row};
