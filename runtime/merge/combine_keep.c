// SPDX-License-Identifier: Apache-2.0
// What is kept or added up beside A and B: a module of one adapter, biases, tensors that replace the base's.
#include <string.h>

#include "platform/bytes.h"
#include "runtime/merge/combine.h"
#include "runtime/quant/quant.h"

static bool as_read(const struct graft_combine *combine, const struct graft_combine_part *part)
{
    return part->way == GRAFT_COMBINE_KEEP && part->to_scale == 1 && part->sources[0].weight >= 0 &&
           !part->sources[0].head_dim && !combine->params->dtype;
}

bool graft_combine_same_whole(const struct graft_adapter_whole *a, const struct graft_adapter_whole *b)
{
    return a->target == b->target && a->layer == b->layer && a->base_copy == b->base_copy;
}

uint32_t graft_combine_holders(const struct graft_combine *combine, const struct graft_adapter_whole *whole)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < combine->n_adapters; i++) {
        for (uint32_t j = 0; j < combine->adapters[i]->n_whole; j++) {
            n += graft_combine_same_whole(&combine->adapters[i]->whole[j], whole);
        }
    }
    return n;
}

// How many adapters have this tensor of adapter `adapter`; 0 if an earlier one has it too.
static uint32_t first_of(const struct graft_combine *combine, uint32_t adapter, const struct graft_adapter_whole *whole)
{
    for (uint32_t i = 0; i < adapter; i++) {
        for (uint32_t j = 0; j < combine->adapters[i]->n_whole; j++) {
            if (graft_combine_same_whole(&combine->adapters[i]->whole[j], whole)) {
                return 0;
            }
        }
    }
    return graft_combine_holders(combine, whole);
}

// Room for everything that is computed, in one piece.
enum graft_status graft_combine_room(struct graft_combine *combine)
{
    struct graft_adapter_desc *out = combine->out;
    uint64_t bytes = 0, wholes = 0;
    for (uint32_t i = 0; i < combine->n_parts; i++) {
        const struct graft_combine_part *part = &combine->parts[i];
        if (!as_read(combine, part)) {
            bytes +=
                graft_combine_bytes(combine, part->rank, part->n_in) + graft_combine_bytes(combine, part->n_out, part->rank);
        }
        bytes += part->bias ? graft_combine_bytes(combine, 1, part->n_out) : 0;
    }
    for (uint32_t i = 0; i < combine->n_adapters; i++) {
        for (uint32_t j = 0; j < combine->adapters[i]->n_whole; j++) {
            const struct graft_adapter_whole *whole = &combine->adapters[i]->whole[j];
            bytes += !whole->base_copy && first_of(combine, i, whole) > 1
                         ? graft_combine_bytes(combine, whole->view.rows, whole->view.cols)
                         : 0;
            wholes++;
        }
    }
    out->n_bytes = bytes; // of at most 16 files of 2 GiB: no overflow
    GRAFT_TRY(graft_alloc(combine->ctx, GRAFT_MEM_HOST, (void **)&out->bytes, bytes, 1, "the combined adapter"));
    GRAFT_TRY(GRAFT_NEW(combine->ctx, GRAFT_MEM_HOST, &out->pairs, combine->n_parts, "the combined adapter"));
    return GRAFT_NEW(combine->ctx, GRAFT_MEM_HOST, &out->whole, wholes, "the combined adapter");
}

// The only adapter's matrices: as they are, or with the sign of its weight or another scale in B.
enum graft_status graft_combine_keep(struct graft_combine *combine, const struct graft_combine_part *part,
                                     struct graft_adapter_pair *pair)
{
    const struct graft_combine_source *source = &part->sources[0];
    uint64_t longest = part->n_in > part->rank ? part->n_in : part->rank;
    double *values = NULL, factor = source->weight < 0 ? -part->to_scale : part->to_scale;
    float *row = NULL;
    enum graft_status status;
    pair->magnitude = source->pair->magnitude;
    if (as_read(combine, part)) {
        pair->a = source->pair->a;
        pair->b = source->pair->b;
        pair->bias = source->pair->bias;
        return GRAFT_OK;
    }
    pair->a = graft_combine_take(combine, part->rank, part->n_in);
    pair->b = graft_combine_take(combine, part->n_out, part->rank);
    GRAFT_TRY_OUT(GRAFT_NEW(combine->ctx, GRAFT_MEM_HOST, &row, longest, "a row of an adapter"), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(combine->ctx, GRAFT_MEM_HOST, &values, longest, "a row of an adapter"), status, out);
    for (uint64_t i = 0; i < part->rank + part->n_out; i++) {
        bool is_a = i < part->rank;
        const struct graft_adapter_view *view = is_a ? &pair->a : &pair->b;
        uint64_t at = is_a ? i : i - part->rank;
        if (is_a) {
            graft_combine_read_a(source, at, 1, row);
        } else {
            graft_combine_read_b(source, at, 1, row);
        }
        for (uint64_t j = 0; j < view->cols; j++) {
            values[j] = (double)row[j];
        }
        GRAFT_TRY_OUT(graft_combine_put(view, at * view->cols, values, view->cols, is_a ? 1 : factor, is_a ? "A" : "B"), status,
                      out);
    }
out:
    GRAFT_FREE(combine->ctx, &values);
    GRAFT_FREE(combine->ctx, &row);
    return status;
}

// sum of w s bias, divided by the result's scale.
enum graft_status graft_combine_bias(struct graft_combine *combine, const struct graft_combine_part *part,
                                     struct graft_adapter_pair *pair)
{
    double *sum = NULL;
    float *row = NULL;
    enum graft_status status;
    pair->bias = graft_combine_take(combine, 1, part->n_out);
    GRAFT_TRY_OUT(GRAFT_NEW(combine->ctx, GRAFT_MEM_HOST, &row, part->n_out, "a bias"), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(combine->ctx, GRAFT_MEM_HOST, &sum, part->n_out, "a bias"), status, out);
    for (uint32_t i = 0; i < part->n; i++) {
        const struct graft_adapter_view *bias = &part->sources[i].pair->bias;
        if (bias->data) {
            graft_quant_find(bias->type)->dequantize_row(bias->data, row, part->n_out);
        }
        for (uint64_t j = 0; j < part->n_out && bias->data; j++) {
            sum[j] += part->sources[i].scaled * (double)row[j];
        }
    }
    status = graft_combine_put(&pair->bias, 0, sum, part->n_out, 1 / (double)part->scale, "the bias");
out:
    GRAFT_FREE(combine->ctx, &sum);
    GRAFT_FREE(combine->ctx, &row);
    return status;
}

// Row `row` of sum over the adapters of w T.
static void sum_whole(const struct graft_combine *combine, const struct graft_adapter_whole *whole, uint64_t row, float *values,
                      double *sum)
{
    uint64_t cols = whole->view.cols;
    memset(sum, 0, cols * sizeof *sum);
    for (uint32_t i = 0; i < combine->n_adapters; i++) {
        for (uint32_t j = 0; j < combine->adapters[i]->n_whole; j++) {
            const struct graft_adapter_whole *other = &combine->adapters[i]->whole[j];
            const struct graft_adapter_view *view = &other->view;
            if (!graft_combine_same_whole(other, whole)) {
                continue;
            }
            graft_quant_find(view->type)
                ->dequantize_row(view->data + row * cols * graft_adapter_value_bytes(view->type), values, cols);
            for (uint64_t c = 0; c < cols; c++) {
                sum[c] += combine->params->adapters[i].weight * (double)values[c];
            }
        }
    }
}

enum graft_status graft_combine_wholes(struct graft_combine *combine)
{
    struct graft_adapter_desc *out = combine->out;
    for (uint32_t i = 0; i < combine->n_adapters; i++) {
        for (uint32_t j = 0; j < combine->adapters[i]->n_whole; j++) {
            const struct graft_adapter_whole *whole = &combine->adapters[i]->whole[j];
            uint64_t cols = whole->view.cols;
            uint32_t n = first_of(combine, i, whole);
            float *values = NULL;
            double *sum = NULL;
            enum graft_status status;
            if (n == 0) {
                continue;
            }
            struct graft_adapter_whole *result = &out->whole[out->n_whole++];
            *result = *whole;
            if (n == 1 || whole->base_copy) {
                continue;
            }
            result->view = graft_combine_take(combine, whole->view.rows, cols);
            GRAFT_TRY_OUT(GRAFT_NEW(combine->ctx, GRAFT_MEM_HOST, &values, cols, "a row of an adapter"), status, out);
            GRAFT_TRY_OUT(GRAFT_NEW(combine->ctx, GRAFT_MEM_HOST, &sum, cols, "a row of an adapter"), status, out);
            for (uint64_t row = 0; status == GRAFT_OK && row < whole->view.rows; row++) {
                sum_whole(combine, whole, row, values, sum);
                status = graft_combine_put(&result->view, row * cols, sum, cols, 1, whole->name);
            }
        out:
            GRAFT_FREE(combine->ctx, &sum);
            GRAFT_FREE(combine->ctx, &values);
            GRAFT_TRY(status);
        }
    }
    return GRAFT_OK;
}
