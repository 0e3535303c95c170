// SPDX-License-Identifier: Apache-2.0
// Order among candidates: heapsort, which needs no memory beside the array and has no bad inputs.
#include <math.h>

#include "runtime/session/session.h"

static bool before(struct graft_candidate a, struct graft_candidate b)
{
    if (isnan(a.logit) || isnan(b.logit)) {
        return isnan(a.logit) && (!isnan(b.logit) || a.id < b.id);
    }
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

// Heap whose root comes last in the order.
static void sift_down(struct graft_candidate *heap, uint32_t count, uint32_t at)
{
    struct graft_candidate moving = heap[at];
    for (;;) {
        uint64_t child = 2 * (uint64_t)at + 1;
        if (child >= count) {
            break;
        }
        if (child + 1 < count && before(heap[child], heap[child + 1])) {
            child++;
        }
        if (!before(moving, heap[child])) {
            break;
        }
        heap[at] = heap[child];
        at = (uint32_t)child;
    }
    heap[at] = moving;
}

void graft_candidates_sort(struct graft_candidate *candidates, uint32_t count)
{
    for (uint32_t i = count / 2; i-- > 0;) {
        sift_down(candidates, count, i);
    }
    for (uint32_t end = count; end > 1; end--) {
        struct graft_candidate last = candidates[0];
        candidates[0] = candidates[end - 1];
        candidates[end - 1] = last;
        sift_down(candidates, end - 1, 0);
    }
}
