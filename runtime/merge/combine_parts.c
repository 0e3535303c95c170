// SPDX-License-Identifier: Apache-2.0
// Methods on A and B apart, and cat.
#include "platform/bytes.h"
#include "runtime/merge/combine.h"

static void read_a(void *user, uint32_t i, uint64_t first, uint64_t count, float *out)
{
    const struct graft_combine_part *part = user;
    graft_combine_read_a(&part->sources[i], first, count, out);
}

static void read_b(void *user, uint32_t i, uint64_t first, uint64_t count, float *out)
{
    const struct graft_combine_part *part = user;
    graft_combine_read_b(&part->sources[i], first, count, out);
}

static enum graft_status merge_elements(struct graft_combine *combine, struct graft_elements *elements, double scale,
                                        const char *what, struct graft_adapter_view *out)
{
    struct graft_ctx *ctx = combine->ctx;
    double *rows = NULL;
    *out = graft_combine_take(combine, elements->rows, elements->cols);
    enum graft_status status = graft_elements_begin(elements, ctx);
    if (status == GRAFT_OK) {
        status =
            graft_alloc(ctx, GRAFT_MEM_HOST, (void **)&rows, elements->block * elements->cols, sizeof *rows, "merged rows");
    }
    for (uint64_t row = 0, count; status == GRAFT_OK && (count = graft_elements_next(elements, rows)) > 0; row += count) {
        status = graft_combine_put(out, row * elements->cols, rows, count * elements->cols, scale, what);
    }
    GRAFT_FREE(ctx, &rows);
    graft_elements_end(elements, ctx);
    return status;
}

enum graft_status graft_combine_by_parts(struct graft_combine *combine, const struct graft_combine_part *part,
                                         struct graft_adapter_pair *pair)
{
    struct graft_elements elements;
    graft_combine_elements(combine, part, "lora_A", &elements);
    elements.rows = part->rank;
    elements.cols = part->n_in;
    elements.read = read_a;
    elements.user = (void *)(uintptr_t)part;
    GRAFT_TRY(merge_elements(combine, &elements, 1, "A", &pair->a));
    graft_combine_elements(combine, part, "lora_B", &elements);
    elements.rows = part->n_out;
    elements.cols = part->rank;
    elements.read = read_b;
    elements.user = (void *)(uintptr_t)part;
    return merge_elements(combine, &elements, part->to_scale, "B", &pair->b);
}

enum graft_status graft_combine_by_cat(struct graft_combine *combine, const struct graft_combine_part *part,
                                       struct graft_adapter_pair *pair)
{
    struct graft_ctx *ctx = combine->ctx;
    uint64_t longest = part->n_in > part->rank ? part->n_in : part->rank, at = 0;
    float *row = NULL;
    double *values = NULL;
    enum graft_status status;
    pair->a = graft_combine_take(combine, part->rank, part->n_in);
    pair->b = graft_combine_take(combine, part->n_out, part->rank);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &row, longest, "a row of an adapter"), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &values, longest, "a row of an adapter"), status, out);
    for (uint32_t i = 0; i < part->n; i++) {
        const struct graft_combine_source *source = &part->sources[i];
        for (uint64_t k = 0; k < source->pair->rank; k++, at++) {
            graft_combine_read_a(source, k, 1, row);
            for (uint64_t j = 0; j < part->n_in; j++) {
                values[j] = (double)row[j];
            }
            GRAFT_TRY_OUT(graft_combine_put(&pair->a, at * part->n_in, values, part->n_in, source->scaled, "A"), status, out);
        }
    }
    for (uint64_t i = 0; i < part->n_out; i++) {
        at = 0;
        for (uint32_t j = 0; j < part->n; j++) {
            graft_combine_read_b(&part->sources[j], i, 1, row);
            for (uint64_t k = 0; k < part->sources[j].pair->rank; k++) {
                values[at++] = (double)row[k];
            }
        }
        GRAFT_TRY_OUT(graft_combine_put(&pair->b, i * part->rank, values, part->rank, part->to_scale, "B"), status, out);
    }
out:
    GRAFT_FREE(ctx, &values);
    GRAFT_FREE(ctx, &row);
    return status;
}
