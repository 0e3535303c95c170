// SPDX-License-Identifier: Apache-2.0
// Shared by the files of this folder only: the formats' descriptions and the few steps all quantizers have in common.
#ifndef GRAFT_RUNTIME_QUANT_BLOCK_H
#define GRAFT_RUNTIME_QUANT_BLOCK_H

#include <math.h>
#include <string.h>

#include "platform/bytes.h"
#include "runtime/quant/quant.h"

// One per format file; quant.c lists them.
extern const struct graft_quant graft_quant_f32, graft_quant_f16, graft_quant_bf16, graft_quant_q4_0, graft_quant_q4_1,
    graft_quant_q5_0, graft_quant_q5_1, graft_quant_q8_0, graft_quant_q2_k, graft_quant_q3_k, graft_quant_q4_k,
    graft_quant_q5_k, graft_quant_q6_k, graft_quant_iq4_nl, graft_quant_iq4_xs, graft_quant_mxfp4;

static inline float graft_quant_load_f32(const uint8_t *p)
{
    uint32_t bits = graft_load_u32(p);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline void graft_quant_store_u16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}

// 1 / d, or 0 where that is no finite number: a block of such a small scale is stored as zeros (its f16 scale is 0 anyway).
static inline float graft_quant_inverse(float d)
{
    float inverse = d == 0.0f ? 0.0f : 1.0f / d;
    return isfinite(inverse) ? inverse : 0.0f;
}

// The smallest and the largest of n weights.
static inline void graft_quant_range(const float *x, int n, float *least, float *most)
{
    *least = *most = x[0];
    for (int j = 1; j < n; j++) {
        *least = x[j] < *least ? x[j] : *least;
        *most = x[j] > *most ? x[j] : *most;
    }
}

// The one of largest magnitude, the first of equals.
static inline float graft_quant_extreme(const float *x, int n)
{
    float extreme = x[0];
    for (int j = 1; j < n; j++) {
        if (fabsf(x[j]) > fabsf(extreme)) {
            extreme = x[j];
        }
    }
    return extreme;
}

// v without its fraction, kept within [low, high]; NaN becomes low (a conversion out of range is undefined in C).
static inline int graft_quant_code(float v, int low, int high)
{
    if (!(v > (float)low)) {
        return low;
    }
    return v >= (float)high ? high : (int)v;
}

// Q5_0 and Q5_1: code q of weight j of 32, into four bytes of fifth bits and the 16 bytes of nibbles behind them, all 0 before.
static inline void graft_quant_put_5_bits(uint8_t *bits, int j, int q)
{
    bits[j / 8] = (uint8_t)(bits[j / 8] | (q >> 4) << (j % 8));
    bits[4 + j % 16] = (uint8_t)(bits[4 + j % 16] | (q & 15) << (j / 16 * 4));
}

#endif
