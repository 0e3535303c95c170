// SPDX-License-Identifier: Apache-2.0
// The gated feed-forward's first half: SwiGLU, or GeGLU (Shazeer 2020; GELU's approximation: Hendrycks 2016).
// (1 + tanh(z)) / 2 is 1 / (1 + exp(-2 z)), so that both are g / (1 + exp(-of something)).
#include <math.h>

#include "runtime/ref/ref.h"

void graft_ref_gate_up(const struct graft_ref_matrix *gate, const struct graft_ref_matrix *up, const float *xn,
                       const float *inv_rms, uint32_t n_rows, bool gelu, float *h, uint32_t first, uint32_t last,
                       float *scratch)
{
    float *g = scratch + gate->n_in; // [n_rows]
    float *u = g + n_rows;           // [n_rows]
    for (uint32_t o = first; o < last; o++) {
        graft_ref_dot_rows(gate, o, xn, n_rows, g, 1, scratch);
        graft_ref_dot_rows(up, o, xn, n_rows, u, 1, scratch);
        for (uint32_t r = 0; r < n_rows; r++) {
            float a = g[r] * inv_rms[r], b = u[r] * inv_rms[r];
            float z = gelu ? 1.5957691216f * (a + 0.044715f * a * a * a) : a; // 2 sqrt(2 / pi)
            h[(uint64_t)r * gate->n_out + o] = a / (1.0f + expf(-z)) * b;
        }
    }
}
