// SPDX-License-Identifier: Apache-2.0
// What the formats without a minimum whose codes stand for a few levels share (Q3_K, IQ4_NL, IQ4_XS): the search for the
// representation of least squared error,
//   weight = (d * scale) * level[code], d f16, scale in -32..31
// as a chain of least squares over candidates of a group's step, the pattern of ggml's quantizers with all weights 1.
#ifndef GRAFT_RUNTIME_QUANT_LEVELS_H
#define GRAFT_RUNTIME_QUANT_LEVELS_H

#include "runtime/quant/block.h"

enum { GRAFT_LEVELS_MAX = 16, GRAFT_LEVELS_VALUES = 256, GRAFT_LEVELS_MAX_GROUPS = 16 };

// The levels of IQ4_NL and IQ4_XS, as published with the formats (PyPI gguf: IQ4_NL.kvalues).
static const float graft_iq4_levels[GRAFT_LEVELS_MAX] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                         1,    13,   25,  38,  53,  69,  89,  113};

// Constants of a format; every function below is inlined where they are known.
struct graft_levels {
    int groups, group, count; // groups in a block, weights in a group, levels
    const float *level;       // ascending
    float reach;              // candidates map a group's largest weight to 1 / reach .. reach of the outermost levels
    int tries;                // candidates on either side
    int rounds;               // times d is fitted again
};

struct graft_levels_block {
    float d; // exact in f16
    int scale[GRAFT_LEVELS_MAX_GROUPS];
    uint8_t code[GRAFT_LEVELS_VALUES];
};

// Codes of a group's nearest levels (the lower one where two are equally near), for weight = step * level; their sum of squared
// errors.
static inline float graft_levels_encode(const struct graft_levels *l, const float *x, float step, uint8_t *code)
{
    float scaled[GRAFT_LEVELS_VALUES], inverse = graft_quant_inverse(step), error = 0.0f;
    for (int j = 0; j < l->group; j++) {
        scaled[j] = x[j] * inverse;
        code[j] = 0;
    }
    for (int k = 0; k + 1 < l->count; k++) {
        float middle = 0.5f * (l->level[k] + l->level[k + 1]);
        for (int j = 0; j < l->group; j++) {
            code[j] = (uint8_t)(code[j] + (scaled[j] > middle));
        }
    }
    for (int j = 0; j < l->group; j++) {
        float difference = step * l->level[code[j]] - x[j];
        error += difference * difference;
    }
    return error;
}

// Step of least squared error for given codes; 0 if they are all zero levels.
static inline float graft_levels_fit(const struct graft_levels *l, const float *x, const uint8_t *code)
{
    float sum_xv = 0.0f, sum_vv = 0.0f;
    for (int j = 0; j < l->group; j++) {
        float v = l->level[code[j]];
        sum_xv += x[j] * v, sum_vv += v * v;
    }
    return sum_vv > 0.0f ? sum_xv / sum_vv : 0.0f;
}

// The step of a group, of either sign, with the smallest squared error: steps that map the weight of largest magnitude to about
// the lowest or the highest level, each replaced by the least-squares step of its codes.
static inline float graft_levels_search_group(const struct graft_levels *l, const float *x)
{
    float extreme = 0.0f;
    for (int j = 0; j < l->group; j++) {
        if (fabsf(x[j]) > fabsf(extreme)) {
            extreme = x[j];
        }
    }
    uint8_t code[GRAFT_LEVELS_VALUES];
    float best_step = extreme / l->level[0], best = graft_levels_encode(l, x, best_step, code);
    float stride = (l->reach - 1.0f / l->reach) / (float)(l->tries - 1);
    for (int t = 0; t < 2 * l->tries; t++) {
        float outermost = t < l->tries ? l->level[0] : l->level[l->count - 1];
        (void)graft_levels_encode(l, x, extreme / outermost * (1.0f / l->reach + stride * (float)(t % l->tries)), code);
        float step = graft_levels_fit(l, x, code);
        float error = graft_levels_encode(l, x, step, code);
        if (error < best) {
            best = error, best_step = step;
        }
    }
    return best_step;
}

static inline float graft_levels_through_f16(float v)
{
    return graft_f16_to_f32(graft_f32_to_f16(fmaxf(-65504.0f, fminf(65504.0f, v))));
}

// Codes of all groups for the block's d and scales, which move by one where that is better; the sum of squared errors.
static inline float graft_levels_encode_block(const struct graft_levels *l, const float *x, struct graft_levels_block *b)
{
    float error = 0.0f;
    for (int g = 0; g < l->groups; g++) {
        const float *from = x + g * l->group;
        uint8_t *code = b->code + g * l->group, tried[GRAFT_LEVELS_VALUES];
        int scale = b->scale[g];
        float best = graft_levels_encode(l, from, b->d * (float)scale, code);
        for (int s = scale - 1; s <= scale + 1; s += 2) {
            float other = s < -32 || s > 31 ? INFINITY : graft_levels_encode(l, from, b->d * (float)s, tried);
            if (other < best) {
                best = other, b->scale[g] = s;
                memcpy(code, tried, (size_t)l->group);
            }
        }
        error += best;
    }
    return error;
}

// The whole search: least-squares step per group; d so that the step of largest magnitude becomes scale -32; scales rounded;
// codes rounded with the rounded d and scales; then d is fitted again to codes and scales by least squares, as long as the
// error falls. Inputs beyond what an f16 d can hold saturate.
static inline void graft_levels_search(const struct graft_levels *l, const float *x, struct graft_levels_block *out)
{
    float steps[GRAFT_LEVELS_MAX_GROUPS], extreme = 0.0f;
    for (int g = 0; g < l->groups; g++) {
        steps[g] = graft_levels_search_group(l, x + g * l->group);
        if (fabsf(steps[g]) > fabsf(extreme)) {
            extreme = steps[g];
        }
    }
    out->d = graft_levels_through_f16(extreme / -32.0f);
    for (int g = 0; g < l->groups; g++) {
        out->scale[g] = graft_quant_code(roundf(steps[g] * graft_quant_inverse(out->d)), -32, 31);
    }
    float error = graft_levels_encode_block(l, x, out);
    for (int round = 0; round < l->rounds; round++) {
        double sum_xu = 0.0, sum_uu = 0.0;
        for (int i = 0; i < l->groups * l->group; i++) {
            double u = (double)out->scale[i / l->group] * (double)l->level[out->code[i]];
            sum_xu += (double)x[i] * u, sum_uu += u * u;
        }
        struct graft_levels_block next = *out;
        next.d = graft_levels_through_f16(sum_uu > 0.0 ? (float)(sum_xu / sum_uu) : 0.0f);
        float next_error = graft_levels_encode_block(l, x, &next);
        if (!(next_error < error)) {
            break;
        }
        *out = next;
        error = next_error;
    }
}

#endif
