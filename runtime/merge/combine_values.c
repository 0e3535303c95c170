// SPDX-License-Identifier: Apache-2.0
// Values of adapters in, values of the result out, and how far the result is from the weighted sum.
#include <math.h>
#include <string.h>

#include "platform/bytes.h"
#include "runtime/merge/combine.h"
#include "runtime/merge/lapack.h"
#include "runtime/quant/quant.h"

enum { LINE_BYTES = 64, CHUNK = 1024, F16_INF = 0x7c00, BF16_INF = 0x7f80 };

static void read_row(const struct graft_adapter_view *view, uint64_t row, float *out)
{
    graft_quant_find(view->type)
        ->dequantize_row(view->data + row * view->cols * graft_adapter_value_bytes(view->type), out, view->cols);
}

void graft_combine_read_a(const struct graft_combine_source *source, uint64_t first, uint64_t count, float *out)
{
    const struct graft_adapter_view *a = &source->pair->a;
    for (uint64_t i = 0; i < count; i++) {
        read_row(a, first + i, out + i * a->cols);
    }
}

void graft_combine_read_b(const struct graft_combine_source *source, uint64_t first, uint64_t count, float *out)
{
    const struct graft_adapter_view *b = &source->pair->b;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t row = first + i;
        read_row(b, source->head_dim ? graft_adapter_permuted_row(row, source->head_dim) : row, out + i * b->cols);
    }
}

uint64_t graft_combine_bytes(const struct graft_combine *combine, uint64_t rows, uint64_t cols)
{
    return (rows * cols * graft_adapter_value_bytes(combine->type) + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
}

struct graft_adapter_view graft_combine_take(struct graft_combine *combine, uint64_t rows, uint64_t cols)
{
    struct graft_adapter_view view = {
        .data = combine->out->bytes + combine->at, .type = combine->type, .rows = rows, .cols = cols};
    combine->at += graft_combine_bytes(combine, rows, cols);
    return view;
}

enum graft_status graft_combine_put(const struct graft_adapter_view *view, uint64_t first, const double *values, uint64_t count,
                                    double scale, const char *what)
{
    // The view lies in the result's own bytes (graft_combine_take).
    uint8_t *out = (uint8_t *)(uintptr_t)view->data + first * graft_adapter_value_bytes(view->type);
    float chunk[CHUNK];
    for (uint64_t at = 0; at < count; at += CHUNK) {
        uint64_t n = count - at < CHUNK ? count - at : CHUNK;
        for (uint64_t i = 0; i < n; i++) {
            chunk[i] = (float)(values[at + i] * scale);
        }
        graft_quant_find(view->type)->quantize_row(chunk, out + at * graft_adapter_value_bytes(view->type), n);
        bool finite = true;
        uint16_t infinity = view->type == GRAFT_TYPE_F16 ? F16_INF : BF16_INF;
        for (uint64_t i = 0; i < n; i++) {
            finite &= isfinite(chunk[i]) &&
                      (view->type == GRAFT_TYPE_F32 || (graft_load_u16(out + 2 * (at + i)) & infinity) != infinity);
        }
        if (!finite) {
            return graft_fail(GRAFT_E_UNSUPPORTED, "%s of the result has values beyond the largest %s", what,
                              graft_type_info(view->type)->name);
        }
    }
    return GRAFT_OK;
}

void graft_combine_elements(const struct graft_combine *combine, const struct graft_combine_part *part, const char *tensor,
                            struct graft_elements *out)
{
    *out = (struct graft_elements){.n = part->n, .prune = combine->rules->prune, .elect = combine->elect};
    for (uint32_t i = 0; i < part->n; i++) {
        const struct graft_combine_source *source = &part->sources[i];
        double half = sqrt(fabs(source->scaled));
        // PEFT puts the sign on A alone, for on both it would cancel out; a matrix has its scale in it already.
        out->weights[i] = strcmp(tensor, "delta") == 0    ? source->weight
                          : strcmp(tensor, "lora_B") == 0 ? half
                                                          : (source->scaled < 0 ? -half : half);
        out->density[i] = combine->density[source->adapter];
        out->keys[i] = combine->rules->prune == GRAFT_PRUNE_RANDOM
                           ? graft_combine_key(combine->params->seed, source->adapter, part, tensor)
                           : 0;
    }
}

// ||sum of factors||: with all B's columns side by side as x and all A's rows below each other as y, the squared norm of x y is
// the sum of (x^T x) * (y y^T), element by element.
struct factors {
    uint64_t total;
    double *a, *b;           // [total][n_in], [total][n_out]
    double *gram_a, *gram_b; // [total][total], lower triangles
};

static double squared(const struct factors *f, uint64_t first)
{
    double sum = 0;
    for (uint64_t j = first; j < f->total; j++) {
        for (uint64_t i = j; i < f->total; i++) {
            double product = f->gram_a[j * f->total + i] * f->gram_b[j * f->total + i];
            sum += i == j ? product : 2 * product;
        }
    }
    return sum > 0 ? sum : 0;
}

// Columns of B and rows of A of one adapter, or of the result, from factor `at` on; B times `scale`.
static enum graft_status add_factors(struct graft_ctx *ctx, struct factors *f, uint64_t at,
                                     const struct graft_combine_source *source, double scale)
{
    uint64_t n_in = source->pair->a.cols, n_out = source->pair->b.rows, rank = source->pair->rank;
    float *row;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &row, n_in > rank ? n_in : rank, "a row of an adapter"));
    for (uint64_t k = 0; k < rank; k++) {
        graft_combine_read_a(source, k, 1, row);
        for (uint64_t i = 0; i < n_in; i++) {
            f->a[(at + k) * n_in + i] = (double)row[i];
        }
    }
    for (uint64_t i = 0; i < n_out; i++) {
        graft_combine_read_b(source, i, 1, row);
        for (uint64_t k = 0; k < rank; k++) {
            f->b[(at + k) * n_out + i] = scale * (double)row[k];
        }
    }
    GRAFT_FREE(ctx, &row);
    return GRAFT_OK;
}

enum graft_status graft_combine_measure(struct graft_combine *combine, struct graft_combine_part *part,
                                        const struct graft_adapter_pair *pair)
{
    struct graft_ctx *ctx = combine->ctx;
    const struct graft_combine_source result = {.pair = pair};
    struct factors f = {.total = pair->rank};
    uint64_t at = pair->rank;
    enum graft_status status;
    for (uint32_t i = 0; i < part->n; i++) {
        f.total += part->sources[i].pair->rank;
    }
    GRAFT_TRY_OUT(graft_alloc(ctx, GRAFT_MEM_HOST, (void **)&f.a, f.total, part->n_in * sizeof *f.a, "rows of A"), status, out);
    GRAFT_TRY_OUT(graft_alloc(ctx, GRAFT_MEM_HOST, (void **)&f.b, f.total, part->n_out * sizeof *f.b, "columns of B"), status,
                  out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &f.gram_a, f.total * f.total, "products of A"), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &f.gram_b, f.total * f.total, "products of B"), status, out);
    GRAFT_TRY_OUT(add_factors(ctx, &f, 0, &result, -(double)pair->scale), status, out);
    for (uint32_t i = 0; i < part->n; i++) {
        GRAFT_TRY_OUT(add_factors(ctx, &f, at, &part->sources[i], part->sources[i].scaled), status, out);
        at += part->sources[i].pair->rank;
    }
    GRAFT_TRY_OUT(graft_lapack_gram(true, f.total, part->n_in, f.a, f.gram_a), status, out);
    GRAFT_TRY_OUT(graft_lapack_gram(true, f.total, part->n_out, f.b, f.gram_b), status, out);
    part->norm = squared(&f, pair->rank);
    part->difference = squared(&f, 0);
out:
    GRAFT_FREE(ctx, &f.gram_b);
    GRAFT_FREE(ctx, &f.gram_a);
    GRAFT_FREE(ctx, &f.b);
    GRAFT_FREE(ctx, &f.a);
    return status;
}
