// SPDX-License-Identifier: Apache-2.0
#include "runtime/adapter/dora.h"

#include <math.h>

#include "platform/bytes.h"
#include "runtime/quant/quant.h"

// ||E[:, d] + s (B A)[d, :]||^2 of every dimension d, a token at a time: the base's rows are tokens.
static enum graft_status embedding_norms(struct graft_dora *dora, struct graft_ctx *ctx)
{
    const struct graft_adapter_pair *pair = dora->pair;
    const struct graft_weight *weight = dora->weight;
    uint64_t n = weight->n_in, tokens = weight->n_out;
    float *b = NULL, *w = dora->row; // b: [rank][n_embd], scaled
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &dora->squares, n, "norms of a DoRA adapter"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &b, n * pair->rank, "B of a DoRA adapter"));
    for (uint64_t d = 0; d < n; d++) {
        float row[GRAFT_ADAPTER_MAX_RANK];
        graft_quant_find(pair->b.type)
            ->dequantize_row(pair->b.data + d * pair->rank * graft_adapter_value_bytes(pair->b.type), row, pair->rank);
        for (uint32_t k = 0; k < pair->rank; k++) {
            b[k * n + d] = pair->scale * row[k];
        }
    }
    for (uint64_t t = 0; t < tokens; t++) {
        graft_quant_find(weight->type)->dequantize_row(weight->data + t * weight->row_bytes, w, n);
        for (uint32_t k = 0; k < pair->rank; k++) {
            float a = dora->a[k * tokens + t];
            for (uint64_t d = 0; d < n; d++) {
                w[d] += a * b[k * n + d];
            }
        }
        for (uint64_t d = 0; d < n; d++) {
            dora->squares[d] += (double)w[d] * (double)w[d];
        }
    }
    GRAFT_FREE(ctx, &b);
    return GRAFT_OK;
}

enum graft_status graft_dora_of_squares(const struct graft_adapter_pair *pair, uint64_t row, double squares, float *out)
{
    float magnitude;
    graft_quant_find(pair->magnitude.type)
        ->dequantize_row(pair->magnitude.data + row * graft_adapter_value_bytes(pair->magnitude.type), &magnitude, 1);
    *out = (float)((double)magnitude / sqrt(squares));
    if (!isfinite(*out)) {
        char name[GRAFT_PAIR_NAME_BYTES];
        return graft_fail(GRAFT_E_FORMAT, "the adapter's %s is DoRA with magnitude %g and norm %g at output %" PRIu64,
                          graft_adapter_pair_name(pair->target, pair->layer, pair->expert, name), (double)magnitude,
                          sqrt(squares), row);
    }
    return GRAFT_OK;
}

// || W + s B A ||^2 of one row of a matrix.
static double row_norm(struct graft_dora *dora, uint64_t row, uint64_t base_row)
{
    const struct graft_adapter_pair *pair = dora->pair;
    uint64_t n = dora->weight->n_in;
    float *w = dora->row, b[GRAFT_ADAPTER_MAX_RANK];
    graft_quant_find(dora->weight->type)->dequantize_row(dora->weight->data + base_row * dora->weight->row_bytes, w, n);
    graft_quant_find(pair->b.type)
        ->dequantize_row(pair->b.data + row * pair->rank * graft_adapter_value_bytes(pair->b.type), b, pair->rank);
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
    return squares;
}

enum graft_status graft_dora_begin(struct graft_dora *dora, struct graft_ctx *ctx, const struct graft_adapter_pair *pair,
                                   const struct graft_weight *weight)
{
    *dora = (struct graft_dora){.pair = pair, .weight = weight};
    uint64_t values = pair->a.rows * pair->a.cols;
    enum graft_status status = GRAFT_NEW(ctx, GRAFT_MEM_HOST, &dora->a, values, "A of a DoRA adapter");
    status = status != GRAFT_OK ? status : GRAFT_NEW(ctx, GRAFT_MEM_HOST, &dora->row, weight->n_in, "a row of the base");
    if (status == GRAFT_OK) {
        graft_quant_find(pair->a.type)->dequantize_row(pair->a.data, dora->a, values);
        status = pair->target == GRAFT_TARGET_EMBED ? embedding_norms(dora, ctx) : GRAFT_OK;
    }
    if (status != GRAFT_OK) {
        graft_dora_end(dora, ctx);
    }
    return status;
}

enum graft_status graft_dora_multiplier(struct graft_dora *dora, uint64_t row, uint64_t base_row, float *out)
{
    return graft_dora_of_squares(dora->pair, row, dora->squares ? dora->squares[row] : row_norm(dora, row, base_row), out);
}

void graft_dora_end(struct graft_dora *dora, struct graft_ctx *ctx)
{
    GRAFT_FREE(ctx, &dora->a);
    GRAFT_FREE(ctx, &dora->row);
    GRAFT_FREE(ctx, &dora->squares);
}
