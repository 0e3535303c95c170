// SPDX-License-Identifier: Apache-2.0
// Sums in a fixed order. Eight interleaved partial sums keep rounding small and let the compiler use vector instructions.
#include <math.h>

#include "runtime/quant/quant.h"
#include "runtime/ref/ref.h"

enum { LANES = 8 };

static float tree(const float s[LANES])
{
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

float graft_ref_dot(const float *a, const float *b, uint32_t n)
{
    float sums[LANES] = {0};
    for (uint32_t i = 0; i < n; i += LANES) {
        for (uint32_t j = 0; j < LANES; j++) {
            sums[j] += a[i + j] * b[i + j];
        }
    }
    return tree(sums);
}

float graft_ref_sum_squares(const float *x, uint32_t n)
{
    return graft_ref_dot(x, x, n);
}

float graft_ref_inverse_rms(float ss, uint32_t n, float eps)
{
    return 1.0f / sqrtf(ss / (float)n + eps);
}

void graft_ref_dot_rows(const struct graft_ref_matrix *w, uint32_t o, const float *x, uint32_t n_rows, float *y,
                        uint64_t stride, float *scratch)
{
    // One dequantization serves all rows of the batch.
    graft_quant_find(w->type)->dequantize_row(w->data + o * w->row_bytes, scratch, w->n_in);
    for (uint32_t r = 0; r < n_rows; r++) {
        y[r * stride] = graft_ref_dot(scratch, x + (uint64_t)r * w->n_in, w->n_in);
        if (w->lora) {
            y[r * stride] +=
                graft_ref_expand(w->lora, w->target, w->stage, o, r, y[r * stride], x + (uint64_t)r * w->n_in, w->n_in);
        }
    }
}
