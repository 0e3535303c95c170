// SPDX-License-Identifier: Apache-2.0
// The linear algebra that merging needs, by LAPACKE and CBLAS (OpenBLAS). All matrices are f64 and column-major: element (i, j)
// of an m x n matrix is at [j * m + i]. All scratch comes from the ledger; what OpenBLAS keeps for itself does not.
// The libraries are opened at the first call. Where they are not there, or built without them (GRAFT_LAPACK), all but
// graft_lapack_gram fail with GRAFT_E_UNSUPPORTED.
#ifndef GRAFT_RUNTIME_MERGE_LAPACK_H
#define GRAFT_RUNTIME_MERGE_LAPACK_H

#include "platform/ctx.h"

// GRAFT_OK if there is linear algebra; else GRAFT_E_UNSUPPORTED with a sentence that names `what`.
GRAFT_MUST_CHECK enum graft_status graft_lapack_require(const char *what);

// OpenBLAS divides sums differently for different numbers of threads: one thread, so that bits do not depend on the machine's
// load and number of processors. The setting is the process's; end gives it back. One begin at a time in a process.
struct graft_lapack {
    int threads; // before
};
void graft_lapack_begin(struct graft_lapack *lapack);
void graft_lapack_end(const struct graft_lapack *lapack);

// a [m x n] -> its first k = min(m, n) columns hold Q, r [k x n] the upper triangle R: a = Q R.
// Errors of all of these: GRAFT_E_MEMORY, GRAFT_E_BUDGET, GRAFT_E_LIMIT (a dimension beyond 2^31), GRAFT_E_INTERNAL.
GRAFT_MUST_CHECK enum graft_status graft_lapack_qr(struct graft_ctx *ctx, uint64_t m, uint64_t n, double *a, double *r);
// a [m x n] = u diag(s) vt with k = min(m, n): u [m x k], s falling [k], vt [k x n]; a is overwritten.
GRAFT_MUST_CHECK enum graft_status graft_lapack_svd(struct graft_ctx *ctx, uint64_t m, uint64_t n, double *a, double *u,
                                                    double *s, double *vt);
// The k largest eigenvalues of the symmetric g [n x n] (lower triangle, overwritten), falling, with their eigenvectors z
// [n x k].
GRAFT_MUST_CHECK enum graft_status graft_lapack_eigen(struct graft_ctx *ctx, uint64_t n, double *g, uint64_t k, double *values,
                                                      double *z);
// g (lower triangle, [n x n]) += x x^T, x [n x k]; or with `transposed` x^T x, x [k x n]. Works without LAPACK too, slowly.
GRAFT_MUST_CHECK enum graft_status graft_lapack_gram(bool transposed, uint64_t n, uint64_t k, const double *x, double *g);
// c [m x n] = op(a) b, b [k x n]; op(a) is a [m x k], or with `transposed` the transpose of a [k x m].
GRAFT_MUST_CHECK enum graft_status graft_lapack_multiply(bool transposed, uint64_t m, uint64_t n, uint64_t k, const double *a,
                                                         const double *b, double *c);

#endif
