// SPDX-License-Identifier: Apache-2.0
// A projection added to the residual stream.
#include "runtime/ref/ref.h"

void graft_ref_residual(const struct graft_ref_matrix *w, const float *in, uint32_t n_rows, float *x, bool set,
                        uint32_t first, uint32_t last, float *scratch)
{
    float *y = scratch + w->n_in; // [n_rows]
    for (uint32_t o = first; o < last; o++) {
        graft_ref_dot_rows(w, o, in, n_rows, y, 1, scratch);
        for (uint32_t r = 0; r < n_rows; r++) {
            float *to = &x[(uint64_t)r * w->n_out + o];
            *to = set ? y[r] : *to + y[r];
        }
    }
}
