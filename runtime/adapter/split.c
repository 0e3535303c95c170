// SPDX-License-Identifier: Apache-2.0
// Adapters of fused projections as adapters of their parts, which is what the kernels know.
#include <stdlib.h>

#include "runtime/adapter/fit.h"

// Rows [first, first + n) of a matrix, or values of a vector.
static struct graft_adapter_view cut(const struct graft_adapter_view *view, bool vector, uint64_t first, uint64_t n)
{
    struct graft_adapter_view part = *view;
    uint64_t item = graft_adapter_value_bytes(view->type);
    if (view->data) {
        part.data += first * item * (vector ? 1 : view->cols);
        *(vector ? &part.cols : &part.rows) = n;
    }
    return part;
}

enum graft_status graft_adapter_split(struct graft_adapter_desc *desc, const struct graft_source *source)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < desc->n_pairs; i++) {
        uint32_t parts = graft_adapter_fused(desc->pairs[i].target);
        n += parts ? parts : 1;
    }
    if (n == desc->n_pairs) {
        return GRAFT_OK;
    }
    struct graft_adapter_pair *pairs;
    GRAFT_TRY(GRAFT_NEW(desc->ctx, GRAFT_MEM_HOST, &pairs, n, "an adapter's matrices"));
    n = 0;
    for (uint32_t i = 0; i < desc->n_pairs; i++) {
        const struct graft_adapter_pair *whole = &desc->pairs[i];
        uint32_t parts = graft_adapter_fused(whole->target);
        uint64_t first = 0;
        pairs[n] = *whole;
        n += parts ? 0 : 1;
        for (uint32_t k = 0; k < parts; k++) {
            struct graft_adapter_pair *pair = &pairs[n++];
            *pair = *whole;
            pair->target = (enum graft_target)(graft_adapter_fused_first(whole->target) + k);
            uint64_t rows = graft_adapter_base_weight(source, pair->target, pair->layer)->n_out;
            pair->b = cut(&whole->b, false, first, rows);
            pair->magnitude = cut(&whole->magnitude, true, first, rows);
            pair->bias = cut(&whole->bias, true, first, rows);
            first += rows;
        }
    }
    qsort(pairs, n, sizeof *pairs, graft_adapter_pair_order);
    for (uint32_t i = 1; i < n; i++) {
        if (graft_adapter_pair_order(&pairs[i - 1], &pairs[i]) == 0) {
            char name[GRAFT_PAIR_NAME_BYTES];
            enum graft_status status =
                graft_fail(GRAFT_E_FORMAT, "the adapter changes %s twice",
                           graft_adapter_pair_name(pairs[i].target, pairs[i].layer, pairs[i].expert, name));
            GRAFT_FREE(desc->ctx, &pairs);
            return status;
        }
    }
    GRAFT_FREE(desc->ctx, &desc->pairs);
    desc->pairs = pairs;
    desc->n_pairs = n;
    return GRAFT_OK;
}
