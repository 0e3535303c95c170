// SPDX-License-Identifier: Apache-2.0
// The part of a norm that is computed where X is written; the division by the root mean square is left to the step that reads
// XN.
#include "runtime/ref/ref.h"

void graft_ref_norm(const float *x, const float *gain, const struct graft_ref_lora *lora, uint32_t target, uint32_t n_rows,
                    uint32_t n, float *xn, float *ss)
{
    for (uint32_t r = 0; r < n_rows; r++) {
        const float *row = x + (uint64_t)r * n;
        for (uint32_t i = 0; i < n; i++) {
            xn[(uint64_t)r * n + i] = row[i] * (gain[i] + (lora ? graft_ref_norm_difference(lora, target, r, i) : 0.0f));
        }
        ss[r] = graft_ref_sum_squares(row, n);
    }
}

void graft_ref_scale(float *x, float scale, uint32_t n_rows, uint32_t n)
{
    for (uint64_t i = 0; i < (uint64_t)n_rows * n; i++) {
        x[i] *= scale;
    }
}

void graft_ref_post_norm(const float *y, const float *gain, const struct graft_ref_lora *lora, uint32_t target, float eps,
                         uint32_t n_rows, uint32_t n, float *x)
{
    for (uint32_t r = 0; r < n_rows; r++) {
        const float *row = y + (uint64_t)r * n;
        float inverse = graft_ref_inverse_rms(graft_ref_sum_squares(row, n), n, eps);
        for (uint32_t i = 0; i < n; i++) {
            float gain_i = gain[i] + (lora ? graft_ref_norm_difference(lora, target, r, i) : 0.0f);
            x[(uint64_t)r * n + i] += row[i] * inverse * gain_i;
        }
    }
}
