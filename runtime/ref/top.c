// SPDX-License-Identifier: Apache-2.0
// The best k of a row of logits, with a heap of the k best so far whose root is the worst of them: n log k.
#include <math.h>

#include "runtime/ref/ref.h"

// True if a belongs before b: larger value, or the same value and the smaller id; NaN before all.
static bool before(float a, int32_t id_a, float b, int32_t id_b)
{
    if (isnan(a) || isnan(b)) {
        return isnan(a) && (!isnan(b) || id_a < id_b);
    }
    return a > b || (a == b && id_a < id_b);
}

// Restore the heap below `at`: a parent never comes before its children.
static void sift_down(int32_t *ids, float *values, uint32_t k, uint32_t at)
{
    for (;;) {
        uint32_t worst = at;
        for (uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < k; child++) {
            if (before(values[worst], ids[worst], values[child], ids[child])) {
                worst = child;
            }
        }
        if (worst == at) {
            return;
        }
        int32_t id = ids[at];
        float value = values[at];
        ids[at] = ids[worst], values[at] = values[worst];
        ids[worst] = id, values[worst] = value;
        at = worst;
    }
}

void graft_ref_top(const float *logits, uint32_t n, uint32_t k, int32_t *ids, float *values)
{
    if (k == 0) {
        return;
    }
    for (uint32_t i = 0; i < k; i++) {
        ids[i] = (int32_t)i;
        values[i] = logits[i];
    }
    for (uint32_t i = k / 2; i-- > 0;) {
        sift_down(ids, values, k, i);
    }
    for (uint32_t i = k; i < n; i++) {
        if (before(logits[i], (int32_t)i, values[0], ids[0])) {
            ids[0] = (int32_t)i;
            values[0] = logits[i];
            sift_down(ids, values, k, 0);
        }
    }
}
