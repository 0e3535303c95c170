// SPDX-License-Identifier: Apache-2.0
// What the formats with a scale and a minimum in every group share (Q2_K, Q4_K, Q5_K): how Q4_K and Q5_K pack theirs, and the
// search for the representation of least squared error of a block of 256 weights:
//   weight = (d * scale) * q - (dmin * min), q in 0..levels, scale and min in 0..scale_most, d and dmin f16 and >= 0
// The search is a chain of weighted least squares with all weights 1, as ggml's quantizers do without an importance matrix.
#ifndef GRAFT_RUNTIME_QUANT_K_BLOCK_H
#define GRAFT_RUNTIME_QUANT_K_BLOCK_H

#include "runtime/quant/block.h"

enum { GRAFT_K_VALUES = 256, GRAFT_K_MAX_GROUPS = 16 };

// Groups 0..3: six bits each in bytes 0..3 (scales) and 4..7 (minima). Groups 4..7: the low four bits in the halves of bytes
// 8..11, the high two bits in the top of bytes 0..3 (scales) and 4..7 (minima).
static inline void graft_k_scale_and_min(const uint8_t *packed, int group, int *scale, int *min)
{
    if (group < 4) {
        *scale = packed[group] & 63;
        *min = packed[group + 4] & 63;
    } else {
        *scale = (packed[group + 4] & 15) | (packed[group - 4] >> 6) << 4;
        *min = (packed[group + 4] >> 4) | (packed[group] >> 6) << 4;
    }
}

static inline void graft_k_pack_scale_and_min(uint8_t *packed, int group, int scale, int min)
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

// Constants of a format; every function below is inlined where they are known.
struct graft_k_shape {
    int groups, group; // groups in a block, weights in a group
    int levels;        // largest q
    int scale_most;    // largest scale and min
    int tries;         // steps tried for a group: span / (first + k * stride)
    float first, stride;
    int rounds;      // times d and dmin are fitted again
    bool neighbours; // scales and minima one off are tried too: where they are coarse
};

struct graft_k_block {
    float d, dmin; // exact in f16
    int scale[GRAFT_K_MAX_GROUPS], min[GRAFT_K_MAX_GROUPS];
    uint8_t q[GRAFT_K_VALUES];
};

// Codes of a group for weight = step * q - min, and their sum of squared errors.
static inline float graft_k_encode(const struct graft_k_shape *k, const float *x, float step, float min, uint8_t *q)
{
    float inverse = graft_quant_inverse(step), error = 0.0f;
    for (int j = 0; j < k->group; j++) {
        q[j] = (uint8_t)graft_quant_code((x[j] + min) * inverse + 0.5f, 0, k->levels);
        float difference = step * (float)q[j] - min - x[j];
        error += difference * difference;
    }
    return error;
}

// Least squares of step and min for given codes; min is kept >= 0, as the format has no sign for it.
static inline void graft_k_fit_group(const struct graft_k_shape *k, const float *x, const uint8_t *q, float *step, float *min)
{
    float sum_q = 0.0f, sum_qq = 0.0f, sum_x = 0.0f, sum_xq = 0.0f;
    for (int j = 0; j < k->group; j++) {
        float c = (float)q[j];
        sum_q += c, sum_qq += c * c, sum_x += x[j], sum_xq += x[j] * c;
    }
    float determinant = (float)k->group * sum_qq - sum_q * sum_q;
    if (determinant <= 0.0f) {
        return;
    }
    *step = ((float)k->group * sum_xq - sum_q * sum_x) / determinant;
    *min = (sum_q * sum_xq - sum_qq * sum_x) / determinant;
    if (*min < 0.0f) {
        *min = 0.0f;
        *step = sum_xq / sum_qq;
    }
}

// Best step and min of a group: several steps around the span / levels, each followed by one least-squares fit to its codes.
static inline void graft_k_search_group(const struct graft_k_shape *k, const float *x, float *best_step, float *best_min)
{
    float low = 0.0f, high = 0.0f; // min >= 0 means that zero is always inside
    for (int j = 0; j < k->group; j++) {
        low = fminf(low, x[j]);
        high = fmaxf(high, x[j]);
    }
    uint8_t q[GRAFT_K_VALUES];
    *best_step = (high - low) / (float)k->levels;
    *best_min = -low;
    float best = graft_k_encode(k, x, *best_step, *best_min, q);
    for (int t = 0; t < k->tries; t++) {
        float step = (high - low) / (k->first + k->stride * (float)t), min = -low;
        (void)graft_k_encode(k, x, step, min, q);
        graft_k_fit_group(k, x, q, &step, &min);
        float error = step > 0.0f ? graft_k_encode(k, x, step, min, q) : INFINITY;
        if (error < best) {
            best = error, *best_step = step, *best_min = min;
        }
    }
}

// Codes of all groups for the block's d, dmin, scales and minima; the sum of squared errors. With neighbours, scales and minima
// move by one where that is better.
static inline float graft_k_encode_block(const struct graft_k_shape *k, const float *x, struct graft_k_block *b)
{
    float error = 0.0f;
    for (int g = 0; g < k->groups; g++) {
        const float *from = x + g * k->group;
        uint8_t *q = b->q + g * k->group, tried[GRAFT_K_VALUES];
        float best = graft_k_encode(k, from, b->d * (float)b->scale[g], b->dmin * (float)b->min[g], q);
        int scale = b->scale[g], min = b->min[g];
        for (int i = 0; k->neighbours && i < 9; i++) {
            int s = scale + i / 3 - 1, m = min + i % 3 - 1;
            if (i == 4 || s < 0 || s > k->scale_most || m < 0 || m > k->scale_most) {
                continue;
            }
            float other = graft_k_encode(k, from, b->d * (float)s, b->dmin * (float)m, tried);
            if (other < best) {
                best = other, b->scale[g] = s, b->min[g] = m;
                memcpy(q, tried, (size_t)k->group);
            }
        }
        error += best;
    }
    return error;
}

static inline float graft_k_through_f16(float v)
{
    return graft_f16_to_f32(graft_f32_to_f16(fminf(v, 65504.0f)));
}

// d and dmin of smallest squared error for weight = d * u - dmin * v with u = scale * q, v = min; false if not determined.
static inline bool graft_k_fit_block(const struct graft_k_shape *k, const float *x, struct graft_k_block *b)
{
    double uu = 0, uv = 0, vv = 0, xu = 0, xv = 0, d, dmin = 0;
    for (int g = 0; g < k->groups; g++) {
        for (int j = 0; j < k->group; j++) {
            int i = g * k->group + j;
            double u = (double)b->scale[g] * b->q[i], v = b->min[g], w = (double)x[i];
            uu += u * u, uv += u * v, vv += v * v, xu += w * u, xv += w * v;
        }
    }
    double determinant = uu * vv - uv * uv;
    if (vv == 0.0 && uu > 0.0) {
        d = xu / uu;
    } else if (determinant > 1e-9 * uu * vv) {
        d = (xu * vv - xv * uv) / determinant;
        dmin = (xu * uv - xv * uu) / determinant;
        if (!((float)d >= 0.0f && (float)dmin >= 0.0f)) {
            return false;
        }
    } else {
        return false;
    }
    b->d = graft_k_through_f16((float)d), b->dmin = graft_k_through_f16((float)dmin);
    return true;
}

// The whole search: least-squares step and min per group; both rounded to the block's largest; codes rounded with those; then
// the block's d and dmin are fitted again to codes, scales and minima by least squares, as long as the error falls. Inputs
// beyond the f16 range saturate.
static inline void graft_k_search(const struct graft_k_shape *k, const float *x, struct graft_k_block *out)
{
    float steps[GRAFT_K_MAX_GROUPS], mins[GRAFT_K_MAX_GROUPS], step_most = 0.0f, min_most = 0.0f;
    for (int g = 0; g < k->groups; g++) {
        graft_k_search_group(k, x + g * k->group, &steps[g], &mins[g]);
        step_most = fmaxf(step_most, steps[g]);
        min_most = fmaxf(min_most, mins[g]);
    }
    out->d = graft_k_through_f16(step_most / (float)k->scale_most);
    out->dmin = graft_k_through_f16(min_most / (float)k->scale_most);
    for (int g = 0; g < k->groups; g++) {
        out->scale[g] = graft_quant_code(steps[g] * graft_quant_inverse(out->d) + 0.5f, 0, k->scale_most);
        out->min[g] = graft_quant_code(mins[g] * graft_quant_inverse(out->dmin) + 0.5f, 0, k->scale_most);
    }
    float error = graft_k_encode_block(k, x, out);
    for (int round = 0; round < k->rounds; round++) {
        struct graft_k_block next = *out;
        if (!graft_k_fit_block(k, x, &next)) {
            break;
        }
        float next_error = graft_k_encode_block(k, x, &next);
        if (!(next_error < error)) {
            break;
        }
        *out = next;
        error = next_error;
    }
}

#endif
