// SPDX-License-Identifier: Apache-2.0
#include "runtime/adapter/dora.h"

#include <math.h>

#include "platform/bytes.h"
#include "runtime/quant/quant.h"

static uint64_t item_bytes(const struct graft_adapter_view *view)
{
    return view->type == GRAFT_TYPE_F32 ? 4 : 2;
}

enum graft_status graft_dora_begin(struct graft_dora *dora, struct graft_ctx *ctx, const struct graft_adapter_pair *pair,
                                   const struct graft_weight *weight)
{
    *dora = (struct graft_dora){.pair = pair, .weight = weight};
    uint64_t values = pair->a.rows * pair->a.cols;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &dora->a, values, "A of a DoRA adapter"));
    enum graft_status status = GRAFT_NEW(ctx, GRAFT_MEM_HOST, &dora->row, weight->n_in, "a row of the base");
    if (status != GRAFT_OK) {
        graft_dora_end(dora, ctx);
        return status;
    }
    graft_quant_find(pair->a.type)->dequantize_row(pair->a.data, dora->a, values);
    return GRAFT_OK;
}

enum graft_status graft_dora_of_squares(const struct graft_adapter_pair *pair, uint64_t row, double squares, float *out)
{
    float magnitude;
    graft_quant_find(pair->magnitude.type)
        ->dequantize_row(pair->magnitude.data + row * item_bytes(&pair->magnitude), &magnitude, 1);
    *out = (float)((double)magnitude / sqrt(squares));
    if (!isfinite(*out)) {
        return graft_fail(GRAFT_E_FORMAT,
                          "the adapter's layer %u %s is DoRA with magnitude %g and norm %g at output %" PRIu64, pair->layer,
                          graft_target_name(pair->target), (double)magnitude, sqrt(squares), row);
    }
    return GRAFT_OK;
}

enum graft_status graft_dora_multiplier(struct graft_dora *dora, uint64_t row, uint64_t base_row, float *out)
{
    const struct graft_adapter_pair *pair = dora->pair;
    uint64_t n = dora->weight->n_in;
    float *w = dora->row, b[GRAFT_ADAPTER_MAX_RANK];
    graft_quant_find(dora->weight->type)->dequantize_row(dora->weight->data + base_row * dora->weight->row_bytes, w, n);
    graft_quant_find(pair->b.type)->dequantize_row(pair->b.data + row * pair->rank * item_bytes(&pair->b), b, pair->rank);
    for (uint32_t k = 0; k < pair->rank; k++) {
        const float *a = dora->a + k * n;
        float factor = pair->scale * b[k];
        for (uint64_t i = 0; i < n; i++) {
            w[i] += factor * a[i];
        }
    }
    double squares = 0;
    for (uint64_t i = 0; i < n; i++) {
        squares += (double)w[i] * (double)w[i];
    }
    return graft_dora_of_squares(pair, row, squares, out);
}

void graft_dora_end(struct graft_dora *dora, struct graft_ctx *ctx)
{
    GRAFT_FREE(ctx, &dora->a);
    GRAFT_FREE(ctx, &dora->row);
}
