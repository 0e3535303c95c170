// SPDX-License-Identifier: Apache-2.0
#include "runtime/adapter/delta.h"

#include <math.h>

#include "platform/bytes.h"
#include "runtime/quant/quant.h"

enum { CHUNK = 64 };

static void read_values(const struct graft_adapter_view *view, uint64_t first, uint64_t count, float *out)
{
    uint64_t item = graft_adapter_value_bytes(view->type);
    graft_quant_find(view->type)->dequantize_row(view->data + first * item, out, count);
}

// Two factors of rank n each in pieces: columns of A's and rows of B's as vectors of 2 n values.
struct work {
    uint32_t n, m;           // ranks of a and b
    double *gram_a, *gram_b; // [n + m][n + m]
    double *vectors;         // [CHUNK][n + m]
    float *row;              // [max(CHUNK, n, m)]
};

// gram += sum of the outer products of `count` vectors of `size` values, four at a time; the upper half. Vectors behind the
// last up to a multiple of 4 are zero.
static void add_outer(double *gram, const double *vectors, uint64_t count, uint32_t size)
{
    for (uint64_t v = 0; v < count; v += 4) {
        const double *restrict p = vectors + v * size, *restrict q = p + size, *restrict r = q + size, *restrict s = r + size;
        for (uint32_t i = 0; i < size; i++) {
            double *restrict line = gram + (uint64_t)i * size;
            for (uint32_t j = i; j < size; j++) {
                line[j] += p[i] * p[j] + q[i] * q[j] + r[i] * r[j] + s[i] * s[j];
            }
        }
    }
}

// trace(P Q) of two symmetric matrices, of each the upper half.
static double trace(const double *p, const double *q, uint32_t size)
{
    double sum = 0;
    for (uint32_t i = 0; i < size; i++) {
        sum += p[(uint64_t)i * size + i] * q[(uint64_t)i * size + i];
        for (uint32_t j = i + 1; j < size; j++) {
            sum += 2 * p[(uint64_t)i * size + j] * q[(uint64_t)i * size + j];
        }
    }
    return sum > 0 ? sum : 0;
}

// vectors[k][place + i] = factor * A[i][first + k] + more * what is there
static void put_columns(struct work *w, const struct graft_adapter_view *a, uint64_t first, uint64_t count, uint32_t place,
                        double factor, double more)
{
    uint32_t size = w->n + w->m;
    for (uint32_t i = 0; i < a->rows; i++) {
        read_values(a, i * a->cols + first, count, w->row);
        for (uint64_t k = 0; k < count; k++) {
            double *x = &w->vectors[k * size + place + i];
            *x = factor * (double)w->row[k] + (more != 0 ? more * *x : 0);
        }
    }
}

static void put_rows(struct work *w, const struct graft_adapter_view *b, uint64_t first, uint64_t count, uint32_t place,
                     double factor, double more, uint64_t head_dim)
{
    uint32_t size = w->n + w->m;
    for (uint64_t k = 0; k < count; k++) {
        uint64_t row = head_dim ? graft_adapter_permuted_row(first + k, head_dim) : first + k;
        read_values(b, row * b->cols, b->cols, w->row);
        for (uint32_t i = 0; i < b->cols; i++) {
            double *x = &w->vectors[k * size + place + i];
            *x = factor * (double)w->row[i] + (more != 0 ? more * *x : 0);
        }
    }
}

static uint64_t start(struct work *w, uint64_t at, uint64_t end)
{
    uint32_t size = w->n + w->m;
    uint64_t count = end - at < CHUNK ? end - at : CHUNK;
    for (uint64_t k = count; k < (count + 3) / 4 * 4; k++) {
        memset(w->vectors + k * size, 0, size * sizeof *w->vectors);
    }
    return count;
}

// Gram matrices of [B, C] and [A; E] with their scales in B and C, or, `close`, of the form for equal ranks. b NULL: of B, A.
static void fill(struct work *w, const struct graft_adapter_pair *a, const struct graft_adapter_pair *b, uint64_t head_dim,
                 bool close)
{
    uint32_t size = w->n + w->m;
    uint64_t bytes = (uint64_t)size * size * sizeof *w->gram_a;
    double s = (double)a->scale, t = b ? (double)b->scale : 0;
    memset(w->gram_a, 0, (size_t)bytes);
    memset(w->gram_b, 0, (size_t)bytes);
    for (uint64_t at = 0, count; at < a->a.cols; at += count) {
        count = start(w, at, a->a.cols);
        put_columns(w, &a->a, at, count, 0, 1, 0);
        if (close) {
            put_columns(w, &a->a, at, count, w->n, s, 0);
            put_columns(w, &b->a, at, count, w->n, -t, 1);
        } else if (b) {
            put_columns(w, &b->a, at, count, w->n, 1, 0);
        }
        add_outer(w->gram_a, w->vectors, count, size);
    }
    for (uint64_t at = 0, count; at < a->b.rows; at += count) {
        count = start(w, at, a->b.rows);
        put_rows(w, &a->b, at, count, 0, s, 0, 0);
        if (b) {
            put_rows(w, &b->b, at, count, w->n, close ? 1 : -t, 0, head_dim);
        }
        if (close) {
            put_rows(w, &b->b, at, count, 0, -s, 1, head_dim);
        }
        add_outer(w->gram_b, w->vectors, count, size);
    }
}

static double norm(struct work *w, const struct graft_adapter_pair *a, const struct graft_adapter_pair *b, uint64_t head_dim,
                   bool close)
{
    w->n = a->rank;
    w->m = b ? b->rank : 0;
    fill(w, a, b, head_dim, close);
    return sqrt(trace(w->gram_a, w->gram_b, w->n + w->m));
}

enum graft_status graft_delta_compare(struct graft_ctx *ctx, const struct graft_adapter_pair *a,
                                      const struct graft_adapter_pair *b, uint64_t b_head_dim, struct graft_delta_norms *out)
{
    struct work w = {0};
    uint32_t size = a->rank + (b ? b->rank : 0);
    uint64_t square = (uint64_t)size * size;
    enum graft_status status;
    *out = (struct graft_delta_norms){0};
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &w.gram_a, square, "a comparison"), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &w.gram_b, square, "a comparison"), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &w.vectors, (uint64_t)CHUNK * size, "a comparison"), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &w.row, size > CHUNK ? size : CHUNK, "a comparison"), status, out);
    out->a = norm(&w, a, NULL, 0, false);
    if (b) {
        out->b = norm(&w, b, NULL, 0, false);
        out->difference = norm(&w, a, b, b_head_dim, a->rank == b->rank);
    }
out:
    GRAFT_FREE(ctx, &w.gram_a);
    GRAFT_FREE(ctx, &w.gram_b);
    GRAFT_FREE(ctx, &w.vectors);
    GRAFT_FREE(ctx, &w.row);
    return status;
}

void graft_delta_compare_values(const struct graft_adapter_view *a, const struct graft_adapter_view *b, uint64_t b_head_dim,
                                struct graft_delta_norms *out)
{
    double difference = 0, norm_a = 0, norm_b = 0;
    for (uint64_t i = 0; i < a->rows * a->cols; i++) {
        float x, y;
        read_values(a, i, 1, &x);
        read_values(b, b_head_dim ? graft_adapter_permuted_row(i, b_head_dim) : i, 1, &y);
        difference += ((double)x - (double)y) * ((double)x - (double)y);
        norm_a += (double)x * (double)x;
        norm_b += (double)y * (double)y;
    }
    *out = (struct graft_delta_norms){.a = sqrt(norm_a), .b = sqrt(norm_b), .difference = sqrt(difference)};
}
