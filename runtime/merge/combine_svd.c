// SPDX-License-Identifier: Apache-2.0
// The best approximation of a given rank (Eckart and Young 1936), without an SVD of n_out x n_in:
// - of a sum of low-rank matrices: with B's columns beside each other = Q1 R1 and A's rows below each other = (Q2 R2)^T, the
// sum
//   is Q1 (R1 R2^T) Q2^T, and the SVD is that of the small matrix between;
// - of a matrix D that the rules of elements.h make row by row: the eigenvectors V of D^T D, which is summed up over blocks of
//   rows, are its right singular vectors, and U S = D V comes from the same rows once more. D is never held.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "platform/bytes.h"
#include "runtime/merge/combine.h"
#include "runtime/merge/lapack.h"

static enum graft_status matrix(struct graft_ctx *ctx, double **out, uint64_t m, uint64_t n)
{
    uint64_t values;
    if (!graft_mul_u64(m, n, &values)) {
        return graft_fail(GRAFT_E_MEMORY, "a matrix of %" PRIu64 " x %" PRIu64 " is too large", m, n);
    }
    return graft_alloc(ctx, GRAFT_MEM_HOST, (void **)out, values, sizeof **out, "a matrix of an SVD");
}

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

// Cut all values off at +-q, q their quantile at svd_clamp (linear between the two nearest, as torch.quantile).
static enum graft_status clamp(struct graft_combine *combine, double *a, uint64_t count_a, double *b, uint64_t count_b)
{
    double *all;
    GRAFT_TRY(matrix(combine->ctx, &all, 1, count_a + count_b));
    memcpy(all, a, count_a * sizeof *a);
    memcpy(all + count_a, b, count_b * sizeof *b);
    qsort(all, (size_t)(count_a + count_b), sizeof *all, by_value);
    double place = combine->params->svd_clamp * (double)(count_a + count_b - 1);
    uint64_t low = (uint64_t)place, high = low + 1 < count_a + count_b ? low + 1 : low;
    double limit = all[low] + (place - (double)low) * (all[high] - all[low]);
    for (uint64_t i = 0; i < count_a; i++) { // a limit below 0 swaps the bounds: everything becomes the upper one, as in torch
        a[i] = fmin(fmax(a[i], -limit), limit);
    }
    for (uint64_t i = 0; i < count_b; i++) {
        b[i] = fmin(fmax(b[i], -limit), limit);
    }
    GRAFT_FREE(combine->ctx, &all);
    return GRAFT_OK;
}

enum graft_status graft_combine_finish_svd(struct graft_combine *combine, const struct graft_combine_part *part, double *a,
                                           double *b, struct graft_adapter_pair *pair)
{
    double column[GRAFT_ADAPTER_MAX_RANK];
    for (uint64_t k = 0; k < part->rank; k++) { // an SVD leaves each pair's sign open: A's largest value is positive
        double *row = a + k * part->n_in, largest = 0;
        for (uint64_t i = 0; i < part->n_in; i++) {
            largest = fabs(row[i]) > fabs(largest) ? row[i] : largest;
        }
        for (uint64_t i = 0; i < part->n_in && largest < 0; i++) {
            row[i] = -row[i];
        }
        for (uint64_t i = 0; i < part->n_out && largest < 0; i++) {
            b[k * part->n_out + i] = -b[k * part->n_out + i];
        }
    }
    if (combine->params->svd_clamp > 0) {
        GRAFT_TRY(clamp(combine, a, part->rank * part->n_in, b, part->rank * part->n_out));
    }
    pair->a = graft_combine_take(combine, part->rank, part->n_in);
    pair->b = graft_combine_take(combine, part->n_out, part->rank);
    GRAFT_TRY(graft_combine_put(&pair->a, 0, a, part->rank * part->n_in, 1, "A"));
    for (uint64_t i = 0; i < part->n_out; i++) {
        for (uint64_t k = 0; k < part->rank; k++) {
            column[k] = b[k * part->n_out + i];
        }
        GRAFT_TRY(graft_combine_put(&pair->b, i * part->rank, column, part->rank, part->to_scale, "B"));
    }
    return GRAFT_OK;
}

// All B's columns [total][n_out] times w s, and all A's rows [total][n_in].
static enum graft_status stack(struct graft_combine *combine, const struct graft_combine_part *part, double *a, double *b)
{
    float *row;
    uint64_t longest = part->n_in > GRAFT_ADAPTER_MAX_RANK ? part->n_in : GRAFT_ADAPTER_MAX_RANK;
    GRAFT_TRY(GRAFT_NEW(combine->ctx, GRAFT_MEM_HOST, &row, longest, "a row of an adapter"));
    for (uint32_t i = 0; i < part->n; i++) {
        const struct graft_combine_source *source = &part->sources[i];
        for (uint64_t k = 0; k < source->pair->rank; k++, a += part->n_in) {
            graft_combine_read_a(source, k, 1, row);
            for (uint64_t j = 0; j < part->n_in; j++) {
                a[j] = (double)row[j];
            }
        }
        for (uint64_t j = 0; j < part->n_out; j++) {
            graft_combine_read_b(source, j, 1, row);
            for (uint64_t k = 0; k < source->pair->rank; k++) {
                b[k * part->n_out + j] = source->scaled * (double)row[k];
            }
        }
        b += source->pair->rank * part->n_out;
    }
    GRAFT_FREE(combine->ctx, &row);
    return GRAFT_OK;
}

enum graft_status graft_combine_by_svd(struct graft_combine *combine, const struct graft_combine_part *part,
                                       struct graft_adapter_pair *pair)
{
    struct graft_ctx *ctx = combine->ctx;
    uint64_t total = 0, n_in = part->n_in, n_out = part->n_out, rank = part->rank;
    double *a = NULL, *b = NULL, *ra = NULL, *rb = NULL, *core = NULL, *u = NULL, *s = NULL, *vt = NULL, *v = NULL;
    enum graft_status status;
    for (uint32_t i = 0; i < part->n; i++) {
        total += part->sources[i].pair->rank;
    }
    uint64_t ka = total < n_in ? total : n_in, kb = total < n_out ? total : n_out, least = ka < kb ? ka : kb;
    GRAFT_TRY_OUT(matrix(ctx, &a, total, n_in), status, out);
    GRAFT_TRY_OUT(matrix(ctx, &b, total, n_out), status, out);
    GRAFT_TRY_OUT(matrix(ctx, &ra, ka, total), status, out);
    GRAFT_TRY_OUT(matrix(ctx, &rb, kb, total), status, out);
    GRAFT_TRY_OUT(matrix(ctx, &core, kb, ka), status, out);
    GRAFT_TRY_OUT(matrix(ctx, &u, kb, least), status, out);
    GRAFT_TRY_OUT(matrix(ctx, &s, 1, least), status, out);
    GRAFT_TRY_OUT(matrix(ctx, &vt, least, ka), status, out);
    GRAFT_TRY_OUT(matrix(ctx, &v, ka, rank), status, out);
    GRAFT_TRY_OUT(stack(combine, part, a, b), status, out);
    GRAFT_TRY_OUT(graft_lapack_qr(ctx, n_in, total, a, ra), status, out);
    GRAFT_TRY_OUT(graft_lapack_qr(ctx, n_out, total, b, rb), status, out);
    for (uint64_t i = 0; i < ka; i++) { // core = R1 R2^T; both are upper triangles
        for (uint64_t k = i; k < total; k++) {
            double factor = ra[k * ka + i];
            for (uint64_t j = 0; j < kb && j <= k; j++) {
                core[i * kb + j] += rb[k * kb + j] * factor;
            }
        }
    }
    GRAFT_TRY_OUT(graft_lapack_svd(ctx, kb, ka, core, u, s, vt), status, out);
    for (uint64_t k = 0; k < rank; k++) {
        for (uint64_t i = 0; i < kb; i++) {
            u[k * kb + i] *= s[k];
        }
        for (uint64_t i = 0; i < ka; i++) {
            v[k * ka + i] = vt[i * least + k];
        }
    }
    GRAFT_FREE(ctx, &ra);
    GRAFT_FREE(ctx, &rb);
    GRAFT_TRY_OUT(matrix(ctx, &ra, n_in, rank), status, out); // rows of A, columns of B
    GRAFT_TRY_OUT(matrix(ctx, &rb, n_out, rank), status, out);
    GRAFT_TRY_OUT(graft_lapack_multiply(false, n_in, rank, ka, a, v, ra), status, out);
    GRAFT_TRY_OUT(graft_lapack_multiply(false, n_out, rank, kb, b, u, rb), status, out);
    status = graft_combine_finish_svd(combine, part, ra, rb, pair);
out:
    GRAFT_FREE(ctx, &v);
    GRAFT_FREE(ctx, &vt);
    GRAFT_FREE(ctx, &s);
    GRAFT_FREE(ctx, &u);
    GRAFT_FREE(ctx, &core);
    GRAFT_FREE(ctx, &rb);
    GRAFT_FREE(ctx, &ra);
    GRAFT_FREE(ctx, &b);
    GRAFT_FREE(ctx, &a);
    return status;
}
