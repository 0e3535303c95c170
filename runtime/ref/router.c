// SPDX-License-Identifier: Apache-2.0
// Which experts a row goes to, and with what weights.
#include <math.h>

#include "runtime/ref/ref.h"

void graft_ref_router(const struct graft_ref_matrix *w, const float *xn, const float *inv_rms, uint32_t n_rows, float *scores,
                      uint32_t first, uint32_t last, float *scratch)
{
    float *y = scratch + w->n_in; // [n_rows]
    for (uint32_t e = first; e < last; e++) {
        graft_ref_dot_rows(w, e, xn, n_rows, y, 1, scratch);
        for (uint32_t r = 0; r < n_rows; r++) {
            scores[(uint64_t)r * w->n_out + e] = y[r] * inv_rms[r];
        }
    }
}

// True if expert a's score comes before b's: larger, or equal and of the smaller number; NaN before all.
static bool before(const float *scores, uint32_t a, uint32_t b)
{
    if (isnan(scores[a]) || isnan(scores[b])) {
        return isnan(scores[a]) && (!isnan(scores[b]) || a < b);
    }
    return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
}

void graft_ref_choose_experts(const float *scores, uint32_t n_expert, uint32_t n_used, bool normalize,
                              struct graft_ref_route *route)
{
    for (uint32_t k = 0; k < n_used; k++) {
        uint32_t best = n_expert;
        for (uint32_t e = 0; e < n_expert; e++) {
            bool taken = k > 0 && !before(scores, route[k - 1].expert, e);
            if (!taken && (best == n_expert || before(scores, e, best))) {
                best = e;
            }
        }
        route[k].expert = best;
    }
    float top = scores[route[0].expert], sum = 0.0f;
    for (uint32_t k = 0; k < n_used; k++) {
        route[k].weight = expf(scores[route[k].expert] - top);
        sum += normalize ? route[k].weight : 0.0f;
    }
    for (uint32_t e = 0; e < n_expert && !normalize; e++) {
        sum += expf(scores[e] - top);
    }
    for (uint32_t k = 0; k < n_used; k++) {
        route[k].weight /= sum;
    }
}
