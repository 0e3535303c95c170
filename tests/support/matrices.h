// SPDX-License-Identifier: Apache-2.0
// Random and extreme matrices in every weight format, their products in double, and how far a sum in f32 may be from them.
#ifndef GRAFT_TESTS_MATRICES_H
#define GRAFT_TESTS_MATRICES_H

#include "loaders/types.h"
#include "support/gpu.h"

enum { GRAFT_TEST_TYPES = 16 };
extern const uint32_t graft_test_types[GRAFT_TEST_TYPES]; // every weight format with a kernel

enum graft_test_data {
    GRAFT_TEST_ORDINARY, // values around 0.1
    GRAFT_TEST_ZEROS,
    GRAFT_TEST_EXTREME, // f16 scales that are 0, subnormal, the smallest normal, negative and the largest; all codes
    GRAFT_TEST_DATA
};

struct graft_test_matrix {
    uint32_t type, n_in, n_out;
    uint64_t row_bytes, bytes;
    uint8_t *data;  // as stored
    double *values; // [n_out][n_in] dequantized
    double *spans;  // [n_out][n_in]: magnitude of the terms that weight is computed from, >= |value|
};
// False if the format's blocks do not divide n_in.
bool graft_test_matrix(struct graft_test_matrix *out, uint32_t type, uint32_t n_in, uint32_t n_out, enum graft_test_data data,
                       uint64_t seed);
void graft_test_matrix_free(struct graft_test_matrix *matrix);
// Copy into a buffer `byte` bytes from its start.
void graft_test_matrix_put(const struct graft_test_matrix *matrix, struct graft_test_buffer *buffer, uint64_t byte);

// sum of W[o][k] x[k], and *bound: the most a sum in f32 may be off. A kernel adds at most 32 products in a chain of fused
// multiply-adds, then these sums, scaled, one after the other or as a tree: fewer than K / 16 + 64 roundings of 2^-24 of the
// terms' magnitudes (Higham, Accuracy and Stability, chapter 4). Scale and offset of a format are separate terms: hence
// `spans`.
double graft_test_product(const struct graft_test_matrix *matrix, uint32_t o, const float *x, double *bound);

// The same as the gpu's mask says for weights of that format: with weights and x rounded to f16 (the bound allows for that), or
// with x rounded to integers (runtime/ref/rounding.c). Where a value is so near
// to the middle of two integers that the device's division, good to 2.5 units in the last place, may round it to the other one,
// the bound allows for that.
double graft_test_product_as(const struct graft_test_matrix *matrix, uint32_t o, const float *x,
                             const struct graft_test_gpu *gpu, double *bound);

// Call `one` for every weight format with batches of 1 to 32 rows, widths of 1 to 18 groups of 32 weights, and ordinary, zero
// and extreme weights. Rows 2 and 3 (column tiles of their own) are tried with Q4_1 and Q6_K only, since making a pipeline
// takes software Vulkan half a second; small devices, whose kernels differ in little, and runs under the validation layers take
// the other formats with one row only.
typedef void graft_test_matrix_case(struct graft_test_gpu *gpu, uint32_t type, uint32_t n_in, uint32_t rows,
                                    enum graft_test_data data);
void graft_test_each_matrix(struct graft_test_gpu *gpu, graft_test_matrix_case *one);
// Room for a batch: a tile of columns may reach beyond it, as in the executor's buffers.
static inline uint32_t graft_test_padded(uint32_t rows)
{
    return (rows + GRAFT_MAX_COLS - 1) / GRAFT_MAX_COLS * GRAFT_MAX_COLS;
}

// Fill with random values in low .. high.
void graft_test_fill(float *out, uint64_t count, float low, float high, uint64_t seed);

#endif
