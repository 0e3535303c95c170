// SPDX-License-Identifier: Apache-2.0
// The methods on whole matrices s B A: their values are made row by row whenever they are needed (elements.h), and the best
// approximation comes from D^T D (combine_svd.c says how).
#include <math.h>
#include <string.h>

#include "platform/bytes.h"
#include "runtime/merge/combine.h"
#include "runtime/merge/lapack.h"

// D is turned so that its rows are the shorter ones: D = s B A, or with n_in > n_out its transpose s A^T B^T.
struct deltas {
    uint64_t rows, cols;
    bool turned;
    float *left[GRAFT_ELEMENTS_TENSORS];  // [rows][rank]
    float *right[GRAFT_ELEMENTS_TENSORS]; // [rank][cols]
    uint32_t rank[GRAFT_ELEMENTS_TENSORS];
    double scale[GRAFT_ELEMENTS_TENSORS];
    double *row; // [cols]
};

static void read_delta(void *user, uint32_t i, uint64_t first, uint64_t count, float *out)
{
    struct deltas *d = user;
    for (uint64_t r = 0; r < count; r++, out += d->cols) {
        const float *left = d->left[i] + (first + r) * d->rank[i];
        double *restrict row = d->row;
        memset(row, 0, d->cols * sizeof *row);
        for (uint32_t k = 0; k < d->rank[i]; k++) {
            const float *restrict right = d->right[i] + k * d->cols;
            double factor = (double)left[k];
            for (uint64_t j = 0; j < d->cols; j++) {
                row[j] += factor * (double)right[j];
            }
        }
        for (uint64_t j = 0; j < d->cols; j++) {
            out[j] = (float)(d->scale[i] * row[j]);
        }
    }
}

static void turn(const float *from, uint64_t rows, uint64_t cols, float *to)
{
    for (uint64_t i = 0; i < rows; i++) {
        for (uint64_t j = 0; j < cols; j++) {
            to[j * rows + i] = from[i * cols + j];
        }
    }
}

static enum graft_status deltas_begin(struct deltas *d, struct graft_combine *combine, const struct graft_combine_part *part)
{
    struct graft_ctx *ctx = combine->ctx;
    d->turned = part->n_in > part->n_out;
    d->rows = d->turned ? part->n_in : part->n_out;
    d->cols = d->turned ? part->n_out : part->n_in;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &d->row, d->cols, "a row of a matrix"));
    for (uint32_t i = 0; i < part->n; i++) {
        const struct graft_combine_source *source = &part->sources[i];
        uint64_t rank = source->pair->rank;
        float *a = NULL, *b = NULL;
        d->rank[i] = source->pair->rank;
        d->scale[i] = (double)source->pair->scale;
        GRAFT_TRY(graft_alloc(ctx, GRAFT_MEM_HOST, (void **)&d->left[i], d->rows * rank, sizeof *a, "A or B of an adapter"));
        GRAFT_TRY(graft_alloc(ctx, GRAFT_MEM_HOST, (void **)&d->right[i], d->cols * rank, sizeof *a, "A or B of an adapter"));
        if (!d->turned) {
            graft_combine_read_a(source, 0, rank, d->right[i]);
            graft_combine_read_b(source, 0, part->n_out, d->left[i]);
            continue;
        }
        enum graft_status status =
            graft_alloc(ctx, GRAFT_MEM_HOST, (void **)&a, part->n_in * rank, sizeof *a, "A of an adapter");
        if (status == GRAFT_OK) {
            graft_combine_read_a(source, 0, rank, a);
            turn(a, rank, part->n_in, d->left[i]);
            status = graft_alloc(ctx, GRAFT_MEM_HOST, (void **)&b, part->n_out * rank, sizeof *b, "B of an adapter");
        }
        if (status == GRAFT_OK) {
            graft_combine_read_b(source, 0, part->n_out, b);
            turn(b, part->n_out, rank, d->right[i]);
        }
        GRAFT_FREE(ctx, &a);
        GRAFT_FREE(ctx, &b);
        GRAFT_TRY(status);
    }
    return GRAFT_OK;
}

static void deltas_end(struct deltas *d, struct graft_ctx *ctx, uint32_t n)
{
    GRAFT_FREE(ctx, &d->row);
    for (uint32_t i = 0; i < n; i++) {
        GRAFT_FREE(ctx, &d->left[i]);
        GRAFT_FREE(ctx, &d->right[i]);
    }
}

static enum graft_status doubles(struct graft_ctx *ctx, double **out, uint64_t m, uint64_t n)
{
    return graft_alloc(ctx, GRAFT_MEM_HOST, (void **)out, m, n * sizeof **out, "a matrix of an SVD");
}

// v [cols][rank] column-major: D's right singular vectors.
static enum graft_status right_vectors(struct graft_ctx *ctx, struct graft_elements *elements, double *rows, uint64_t rank,
                                       double *v)
{
    uint64_t cols = elements->cols;
    double *gram = NULL, *values = NULL;
    enum graft_status status;
    GRAFT_TRY_OUT(doubles(ctx, &gram, cols, cols), status, out);
    GRAFT_TRY_OUT(doubles(ctx, &values, rank, 1), status, out);
    for (uint64_t count; (count = graft_elements_next(elements, rows)) > 0;) {
        GRAFT_TRY_OUT(graft_lapack_gram(false, cols, count, rows, gram), status, out);
    }
    status = graft_lapack_eigen(ctx, cols, gram, rank, values, v);
out:
    GRAFT_FREE(ctx, &values);
    GRAFT_FREE(ctx, &gram);
    return status;
}

// p [rows][rank] column-major = D v.
static enum graft_status project(struct graft_ctx *ctx, struct graft_elements *elements, double *rows, uint64_t rank,
                                 const double *v, double *p)
{
    double *block;
    enum graft_status status = GRAFT_OK;
    GRAFT_TRY(doubles(ctx, &block, elements->block, rank));
    graft_elements_rewind(elements);
    for (uint64_t row = 0, count; status == GRAFT_OK && (count = graft_elements_next(elements, rows)) > 0; row += count) {
        status = graft_lapack_multiply(true, count, rank, elements->cols, rows, v, block);
        for (uint64_t k = 0; k < rank; k++) {
            memcpy(p + k * elements->rows + row, block + k * count, count * sizeof *block);
        }
    }
    GRAFT_FREE(ctx, &block);
    return status;
}

// D^T = p v^T, so D = v p^T: the singular values move from p, which becomes A, to v, which becomes B.
static void move_values(uint64_t rank, uint64_t n_in, double *p, uint64_t n_out, double *v)
{
    for (uint64_t k = 0; k < rank; k++) {
        double *a = p + k * n_in, *b = v + k * n_out, squares = 0;
        for (uint64_t i = 0; i < n_in; i++) {
            squares += a[i] * a[i];
        }
        double value = sqrt(squares);
        for (uint64_t i = 0; i < n_in && value > 0; i++) {
            a[i] /= value;
        }
        for (uint64_t i = 0; i < n_out; i++) {
            b[i] *= value;
        }
    }
}

enum graft_status graft_combine_by_dense(struct graft_combine *combine, const struct graft_combine_part *part,
                                         struct graft_adapter_pair *pair)
{
    struct graft_ctx *ctx = combine->ctx;
    struct deltas deltas = {0};
    struct graft_elements elements;
    double *rows = NULL, *v = NULL, *p = NULL;
    enum graft_status status;
    graft_combine_elements(combine, part, "delta", &elements);
    GRAFT_TRY_OUT(deltas_begin(&deltas, combine, part), status, out);
    elements.rows = deltas.rows;
    elements.cols = deltas.cols;
    elements.read = read_delta;
    elements.user = &deltas;
    GRAFT_TRY_OUT(graft_elements_begin(&elements, ctx), status, out);
    GRAFT_TRY_OUT(doubles(ctx, &rows, elements.block, elements.cols), status, out);
    GRAFT_TRY_OUT(doubles(ctx, &v, part->rank, deltas.cols), status, out);
    GRAFT_TRY_OUT(doubles(ctx, &p, part->rank, deltas.rows), status, out);
    GRAFT_TRY_OUT(right_vectors(ctx, &elements, rows, part->rank, v), status, out);
    GRAFT_TRY_OUT(project(ctx, &elements, rows, part->rank, v, p), status, out);
    if (deltas.turned) {
        move_values(part->rank, part->n_in, p, part->n_out, v);
    }
    status = graft_combine_finish_svd(combine, part, deltas.turned ? p : v, deltas.turned ? v : p, pair);
out:
    GRAFT_FREE(ctx, &p);
    GRAFT_FREE(ctx, &v);
    GRAFT_FREE(ctx, &rows);
    graft_elements_end(&elements, ctx);
    deltas_end(&deltas, ctx, part->n);
    return status;
}
