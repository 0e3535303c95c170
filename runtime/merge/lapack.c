// SPDX-License-Identifier: Apache-2.0
#include "runtime/merge/lapack.h"

#include "platform/bytes.h"
#include "runtime/merge/lapack_library.h"

// g += x x^T or x^T x, its lower triangle: where there is no OpenBLAS.
static void gram_in_c(bool transposed, uint64_t n, uint64_t k, const double *x, double *g)
{
    uint64_t column = transposed ? k : 1, step = transposed ? 1 : n;
    for (uint64_t j = 0; j < n; j++) {
        for (uint64_t i = j; i < n; i++) {
            double sum = 0;
            for (uint64_t l = 0; l < k; l++) {
                sum += x[i * column + l * step] * x[j * column + l * step];
            }
            g[j * n + i] += sum;
        }
    }
}

#if GRAFT_HAVE_LAPACK

#include <cblas.h>
#include <lapacke.h>
#include <pthread.h>
#include <string.h>

// What is used of the two libraries. They are opened when they are needed: OpenBLAS starts threads when it is loaded, which a
// program that only runs models should not have.
#define LAPACK_FUNCTIONS(X) X(LAPACKE_dgeqrf_work) X(LAPACKE_dorgqr_work) X(LAPACKE_dgesvd_work) X(LAPACKE_dsyevr_work)
#define BLAS_FUNCTIONS(X)   X(cblas_dsyrk) X(cblas_dgemm) X(openblas_get_num_threads) X(openblas_set_num_threads)
#define FIELD(name)         __typeof__(&name) name;
static struct {
    bool there;
    LAPACK_FUNCTIONS(FIELD) BLAS_FUNCTIONS(FIELD)
} lib;
#undef FIELD

static bool find(const char *name, void *out)
{
    void *found = graft_lapack_find(name);
    memcpy(out, &found, sizeof found); // ISO C has no cast for it
    return found != NULL;
}

static void open_libraries(void)
{
#define FIND(name) &&find(#name, &lib.name)
    lib.there = true LAPACK_FUNCTIONS(FIND) BLAS_FUNCTIONS(FIND);
#undef FIND
}

static bool is_there(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, open_libraries);
    return lib.there;
}

enum graft_status graft_lapack_require(const char *what)
{
    return is_there() ? GRAFT_OK
                      : graft_fail(GRAFT_E_UNSUPPORTED,
                                   "%s needs LAPACKE and OpenBLAS: %s, not found on this machine; cat is exact and needs none",
                                   what, graft_lapack_libraries);
}

void graft_lapack_begin(struct graft_lapack *lapack)
{
    lapack->threads = is_there() ? lib.openblas_get_num_threads() : 0;
    if (lib.there) {
        lib.openblas_set_num_threads(1);
    }
}

void graft_lapack_end(const struct graft_lapack *lapack)
{
    if (lib.there) {
        lib.openblas_set_num_threads(lapack->threads);
    }
}

static enum graft_status fits(uint64_t m, uint64_t n)
{
    if (m > INT32_MAX || n > INT32_MAX) {
        return graft_fail(GRAFT_E_LIMIT, "a matrix of %" PRIu64 " x %" PRIu64 ", linear algebra allows 2^31", m, n);
    }
    return GRAFT_OK;
}

static enum graft_status worked(const char *function, lapack_int info)
{
    return info == 0 ? GRAFT_OK : graft_fail(GRAFT_E_INTERNAL, "LAPACK's %s ended with %d", function, (int)info);
}

// Scratch of the size that a routine asked for.
static enum graft_status scratch(struct graft_ctx *ctx, double **out, double asked)
{
    return graft_alloc(ctx, GRAFT_MEM_HOST, (void **)out, (uint64_t)asked, sizeof **out, "scratch of linear algebra");
}

enum graft_status graft_lapack_qr(struct graft_ctx *ctx, uint64_t m, uint64_t n, double *a, double *r)
{
    uint64_t k = m < n ? m : n;
    double *tau, *work = NULL, asked[2];
    lapack_int rows = (lapack_int)m, cols = (lapack_int)n, least = (lapack_int)k;
    enum graft_status status;
    GRAFT_TRY(fits(m, n));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &tau, k, "scratch of linear algebra"));
    GRAFT_TRY_OUT(worked("dgeqrf", lib.LAPACKE_dgeqrf_work(LAPACK_COL_MAJOR, rows, cols, a, rows, tau, &asked[0], -1)), status,
                  out);
    GRAFT_TRY_OUT(worked("dorgqr", lib.LAPACKE_dorgqr_work(LAPACK_COL_MAJOR, rows, least, least, a, rows, tau, &asked[1], -1)),
                  status, out);
    double size = asked[0] > asked[1] ? asked[0] : asked[1];
    GRAFT_TRY_OUT(scratch(ctx, &work, size), status, out);
    GRAFT_TRY_OUT(worked("dgeqrf", lib.LAPACKE_dgeqrf_work(LAPACK_COL_MAJOR, rows, cols, a, rows, tau, work, (lapack_int)size)),
                  status, out);
    for (uint64_t j = 0; j < n; j++) {
        for (uint64_t i = 0; i < k; i++) {
            r[j * k + i] = i <= j ? a[j * m + i] : 0;
        }
    }
    status =
        worked("dorgqr", lib.LAPACKE_dorgqr_work(LAPACK_COL_MAJOR, rows, least, least, a, rows, tau, work, (lapack_int)size));
out:
    GRAFT_FREE(ctx, &work);
    GRAFT_FREE(ctx, &tau);
    return status;
}

enum graft_status graft_lapack_svd(struct graft_ctx *ctx, uint64_t m, uint64_t n, double *a, double *u, double *s, double *vt)
{
    lapack_int rows = (lapack_int)m, cols = (lapack_int)n, least = rows < cols ? rows : cols;
    double *work = NULL, asked;
    GRAFT_TRY(fits(m, n));
    GRAFT_TRY(worked(
        "dgesvd", lib.LAPACKE_dgesvd_work(LAPACK_COL_MAJOR, 'S', 'S', rows, cols, a, rows, s, u, rows, vt, least, &asked, -1)));
    GRAFT_TRY(scratch(ctx, &work, asked));
    enum graft_status status = worked("dgesvd", lib.LAPACKE_dgesvd_work(LAPACK_COL_MAJOR, 'S', 'S', rows, cols, a, rows, s, u,
                                                                        rows, vt, least, work, (lapack_int)asked));
    GRAFT_FREE(ctx, &work);
    return status;
}

enum graft_status graft_lapack_eigen(struct graft_ctx *ctx, uint64_t n, double *g, uint64_t k, double *values, double *z)
{
    lapack_int size = (lapack_int)n, found = 0, integers_asked;
    lapack_int first = (lapack_int)(n - k + 1), *support = NULL, *integers = NULL;
    double *work = NULL, *all = NULL, asked;
    enum graft_status status;
    GRAFT_TRY(fits(n, k));
    GRAFT_TRY(worked("dsyevr", lib.LAPACKE_dsyevr_work(LAPACK_COL_MAJOR, 'V', 'I', 'L', size, g, size, 0, 0, first, size, 0,
                                                       &found, values, z, size, support, &asked, -1, &integers_asked, -1)));
    GRAFT_TRY_OUT(scratch(ctx, &work, asked), status, out);
    GRAFT_TRY_OUT(scratch(ctx, &all, (double)n), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &integers, (uint64_t)integers_asked, "scratch of linear algebra"), status,
                  out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &support, 2 * n, "scratch of linear algebra"), status, out);
    GRAFT_TRY_OUT(
        worked("dsyevr", lib.LAPACKE_dsyevr_work(LAPACK_COL_MAJOR, 'V', 'I', 'L', size, g, size, 0, 0, first, size, 0, &found,
                                                 all, z, size, support, work, (lapack_int)asked, integers, integers_asked)),
        status, out);
    if ((uint64_t)found != k) {
        status = graft_fail(GRAFT_E_INTERNAL, "LAPACK's dsyevr found %d eigenvalues of %" PRIu64, (int)found, k);
        goto out;
    }
    for (uint64_t j = 0; j < k; j++) { // rising -> falling
        values[j] = all[k - 1 - j];
    }
    for (uint64_t j = 0; j < k / 2; j++) {
        double *left = z + j * n, *right = z + (k - 1 - j) * n;
        for (uint64_t i = 0; i < n; i++) {
            double other = left[i];
            left[i] = right[i];
            right[i] = other;
        }
    }
out:
    GRAFT_FREE(ctx, &support);
    GRAFT_FREE(ctx, &integers);
    GRAFT_FREE(ctx, &all);
    GRAFT_FREE(ctx, &work);
    return status;
}

enum graft_status graft_lapack_gram(bool transposed, uint64_t n, uint64_t k, const double *x, double *g)
{
    GRAFT_TRY(fits(n, k));
    if (!is_there()) {
        gram_in_c(transposed, n, k, x, g);
        return GRAFT_OK;
    }
    lib.cblas_dsyrk(CblasColMajor, CblasLower, transposed ? CblasTrans : CblasNoTrans, (blasint)n, (blasint)k, 1, x,
                    (blasint)(transposed ? k : n), 1, g, (blasint)n);
    return GRAFT_OK;
}

enum graft_status graft_lapack_multiply(bool transposed, uint64_t m, uint64_t n, uint64_t k, const double *a, const double *b,
                                        double *c)
{
    GRAFT_TRY(fits(m, n));
    GRAFT_TRY(fits(k, 0));
    GRAFT_TRY(graft_lapack_require("this"));
    lib.cblas_dgemm(CblasColMajor, transposed ? CblasTrans : CblasNoTrans, CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, 1,
                    a, (blasint)(transposed ? k : m), b, (blasint)k, 0, c, (blasint)m);
    return GRAFT_OK;
}

#else

enum graft_status graft_lapack_require(const char *what)
{
    return graft_fail(GRAFT_E_UNSUPPORTED,
                      "%s needs LAPACKE and OpenBLAS, which this build is without (GRAFT_LAPACK); cat is exact and needs none",
                      what);
}

void graft_lapack_begin(struct graft_lapack *lapack)
{
    lapack->threads = 0;
}

void graft_lapack_end(const struct graft_lapack *lapack)
{
    (void)lapack;
}

enum graft_status graft_lapack_qr(struct graft_ctx *ctx, uint64_t m, uint64_t n, double *a, double *r)
{
    (void)ctx, (void)m, (void)n, (void)a, (void)r;
    return graft_lapack_require("this");
}

enum graft_status graft_lapack_svd(struct graft_ctx *ctx, uint64_t m, uint64_t n, double *a, double *u, double *s, double *vt)
{
    (void)ctx, (void)m, (void)n, (void)a, (void)u, (void)s, (void)vt;
    return graft_lapack_require("this");
}

enum graft_status graft_lapack_eigen(struct graft_ctx *ctx, uint64_t n, double *g, uint64_t k, double *values, double *z)
{
    (void)ctx, (void)n, (void)g, (void)k, (void)values, (void)z;
    return graft_lapack_require("this");
}

enum graft_status graft_lapack_gram(bool transposed, uint64_t n, uint64_t k, const double *x, double *g)
{
    gram_in_c(transposed, n, k, x, g);
    return GRAFT_OK;
}

enum graft_status graft_lapack_multiply(bool transposed, uint64_t m, uint64_t n, uint64_t k, const double *a, const double *b,
                                        double *c)
{
    (void)transposed, (void)m, (void)n, (void)k, (void)a, (void)b, (void)c;
    return graft_lapack_require("this");
}

#endif
