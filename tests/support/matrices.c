// SPDX-License-Identifier: Apache-2.0
#include "support/matrices.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/quant/quant.h"
#include "runtime/ref/ref.h"

const uint32_t graft_test_types[GRAFT_TEST_TYPES] = {
    GRAFT_TYPE_F32,  GRAFT_TYPE_F16,    GRAFT_TYPE_BF16,   GRAFT_TYPE_Q4_0,  GRAFT_TYPE_Q4_1, GRAFT_TYPE_Q8_0,
    GRAFT_TYPE_Q4_K, GRAFT_TYPE_Q6_K,   GRAFT_TYPE_Q5_0,   GRAFT_TYPE_Q5_1,  GRAFT_TYPE_Q2_K, GRAFT_TYPE_Q3_K,
    GRAFT_TYPE_Q5_K, GRAFT_TYPE_IQ4_NL, GRAFT_TYPE_IQ4_XS, GRAFT_TYPE_MXFP4,
};

void graft_test_fill(float *out, uint64_t count, float low, float high, uint64_t seed)
{
    struct graft_test_random random = {.state = seed * 2 + 1};
    for (uint64_t i = 0; i < count; i++) {
        out[i] = graft_test_random_f32(&random, low, high);
    }
}

static uint16_t get_half(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static void put_half(uint8_t *at, uint16_t half)
{
    at[0] = (uint8_t)half;
    at[1] = (uint8_t)(half >> 8);
}

enum { NONE = 0xff };

// Byte offsets of the f16 scales in a block. MXFP4 has none.
static void scale_offsets(uint32_t type, uint8_t out[2])
{
    out[0] = type == GRAFT_TYPE_Q6_K ? 208 : type == GRAFT_TYPE_Q3_K ? 108 : type == GRAFT_TYPE_Q2_K ? 80 : 0;
    bool two = type == GRAFT_TYPE_Q4_1 || type == GRAFT_TYPE_Q5_1 || type == GRAFT_TYPE_Q4_K || type == GRAFT_TYPE_Q5_K ||
               type == GRAFT_TYPE_Q2_K;
    out[1] = two ? (uint8_t)(out[0] + 2) : NONE;
    out[0] = type == GRAFT_TYPE_MXFP4 ? NONE : out[0];
}

// 0, the smallest subnormal, the largest subnormal, the smallest normal, ordinary ones, a large one, the largest; both signs.
static uint16_t extreme_half(struct graft_test_random *random)
{
    static const uint16_t halves[] = {0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400,
                                      0x2c00, 0xae66, 0x3c00, 0x6400, 0x7bff, 0xfbff};
    return halves[graft_test_random_u64(random) % (sizeof halves / sizeof *halves)];
}

static void fill_extreme_row(struct graft_test_matrix *m, uint8_t *row, struct graft_test_random *random)
{
    const struct graft_type_info *info = graft_type_info(m->type);
    if (info->block_values == 1) {
        for (uint32_t i = 0; i < m->n_in; i++) {
            uint16_t half = extreme_half(random);
            float value = graft_f16_to_f32(half);
            if (m->type == GRAFT_TYPE_F32) {
                memcpy(row + 4 * i, &value, 4);
            } else {
                put_half(row + 2 * i, m->type == GRAFT_TYPE_F16 ? half : graft_f32_to_bf16(value));
            }
        }
        return;
    }
    uint8_t offsets[2];
    scale_offsets(m->type, offsets);
    for (uint64_t at = 0; at < m->row_bytes; at += info->block_bytes) {
        for (uint32_t i = 0; i < info->block_bytes; i++) {
            row[at + i] = (uint8_t)(graft_test_random_u64(random) >> 32);
        }
        if (m->type == GRAFT_TYPE_MXFP4) { // 2^-127 and 2^-126 as half scales are subnormal; 2^16 is beyond f16
            static const uint8_t exponents[] = {0, 1, 2, 3, 64, 112, 120, 126, 127, 128, 143};
            row[at] = exponents[graft_test_random_u64(random) % sizeof exponents];
        }
        if (offsets[0] != NONE) {
            put_half(row + at + offsets[0], extreme_half(random));
        }
        if (offsets[1] != NONE) {
            put_half(row + at + offsets[1], extreme_half(random));
        }
    }
}

// 6-bit scale and minimum j of a Q4_K or Q5_K block: gguf's layout.
static void k_scales(const uint8_t *block, uint32_t j, double *scale, double *minimum)
{
    const uint8_t *s = block + 4;
    uint32_t sc = j < 4 ? s[j] & 63u : (s[j + 4] & 15u) | (uint32_t)(s[j - 4] >> 6) << 4;
    uint32_t mn = j < 4 ? s[j + 4] & 63u : (uint32_t)(s[j + 4] >> 4) | (uint32_t)(s[j] >> 6) << 4;
    *scale = sc;
    *minimum = mn;
}

// Magnitude of scale * code + offset for weight i of a block, code taken at its largest.
static double span_of(uint32_t type, const uint8_t *block, uint32_t i)
{
    uint8_t offsets[2];
    scale_offsets(type, offsets);
    double d = offsets[0] == NONE ? 0 : fabs((double)graft_f16_to_f32(get_half(block + offsets[0]))), scale, minimum;
    double m = offsets[1] == NONE ? 0 : fabs((double)graft_f16_to_f32(get_half(block + offsets[1])));
    switch (type) {
    case GRAFT_TYPE_Q4_0:
        return d * (15 + 8);
    case GRAFT_TYPE_Q4_1:
        return d * 15 + m;
    case GRAFT_TYPE_Q5_0:
        return d * (31 + 16);
    case GRAFT_TYPE_Q5_1:
        return d * 31 + m;
    case GRAFT_TYPE_Q8_0:
        return d * (255 + 128);
    case GRAFT_TYPE_Q2_K:
        return d * (block[i / 16] & 15) * 3 + m * (block[i / 16] >> 4);
    case GRAFT_TYPE_Q3_K:
        return d * 32 * (7 + 4);
    case GRAFT_TYPE_Q4_K:
    case GRAFT_TYPE_Q5_K:
        k_scales(block, i / 32, &scale, &minimum);
        return d * scale * (type == GRAFT_TYPE_Q4_K ? 15 : 31) + m * minimum;
    case GRAFT_TYPE_Q6_K:
        return d * fabs((double)(int8_t)block[192 + i / 16]) * (63 + 32);
    case GRAFT_TYPE_MXFP4:
        return ldexp(24 + 12, block[0] - 128);
    default:
        return 0;
    }
}

static void fill_rows(struct graft_test_matrix *m, enum graft_test_data data, uint64_t seed)
{
    const struct graft_quant *quant = graft_quant_find(m->type);
    const struct graft_type_info *info = graft_type_info(m->type);
    struct graft_test_random random = {.state = seed * 2 + 1};
    float *x = calloc(m->n_in, sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (uint32_t o = 0; o < m->n_out; o++) {
        uint8_t *row = m->data + o * m->row_bytes;
        if (data == GRAFT_TEST_EXTREME) {
            fill_extreme_row(m, row, &random);
        } else {
            for (uint32_t i = 0; i < m->n_in; i++) {
                x[i] = data == GRAFT_TEST_ZEROS ? 0.0f : graft_test_random_f32(&random, -0.2f, 0.25f);
            }
            quant->quantize_row(x, row, m->n_in);
        }
        quant->dequantize_row(row, x, m->n_in);
        for (uint32_t i = 0; i < m->n_in; i++) {
            const uint8_t *block = row + i / info->block_values * info->block_bytes;
            double value = (double)x[i], span = span_of(m->type, block, i % info->block_values);
            m->values[(uint64_t)o * m->n_in + i] = value;
            m->spans[(uint64_t)o * m->n_in + i] = span > fabs(value) ? span : fabs(value);
        }
    }
    free(x);
}

bool graft_test_matrix(struct graft_test_matrix *out, uint32_t type, uint32_t n_in, uint32_t n_out, enum graft_test_data data,
                       uint64_t seed)
{
    *out = (struct graft_test_matrix){.type = type, .n_in = n_in, .n_out = n_out};
    if (!graft_type_row_bytes(type, n_in, &out->row_bytes)) {
        return false;
    }
    out->bytes = out->row_bytes * n_out;
    out->data = calloc(out->bytes, 1);
    out->values = calloc((uint64_t)n_in * n_out, sizeof *out->values);
    out->spans = calloc((uint64_t)n_in * n_out, sizeof *out->spans);
    ck_assert(out->data && out->values && out->spans);
    fill_rows(out, data, seed);
    return true;
}

void graft_test_matrix_free(struct graft_test_matrix *matrix)
{
    free(matrix->data);
    free(matrix->values);
    free(matrix->spans);
    *matrix = (struct graft_test_matrix){0};
}

void graft_test_matrix_put(const struct graft_test_matrix *matrix, struct graft_test_buffer *buffer, uint64_t byte)
{
    ck_assert_uint_le(byte + matrix->bytes, buffer->words * 4);
    memcpy(buffer->b + byte, matrix->data, matrix->bytes);
}

double graft_test_product(const struct graft_test_matrix *matrix, uint32_t o, const float *x, double *bound)
{
    const double *values = matrix->values + (uint64_t)o * matrix->n_in, *spans = matrix->spans + (uint64_t)o * matrix->n_in;
    double sum = 0, span = 0;
    for (uint32_t k = 0; k < matrix->n_in; k++) {
        sum += values[k] * (double)x[k];
        span += spans[k] * fabs((double)x[k]);
    }
    *bound = ldexp(span, -24) * (matrix->n_in / 16 + 64) + 1e-37;
    return sum;
}

double graft_test_product_as(const struct graft_test_matrix *matrix, uint32_t o, const float *x,
                             const struct graft_test_gpu *gpu, double *bound)
{
    enum { MOST = 1024 };
    static float rounded[MOST], d[MOST / 32];
    static int32_t q[MOST];
    uint32_t n = matrix->n_in;
    bool blocks = graft_type_info(matrix->type)->block_values > 1;
    if (gpu->matrix_cores && blocks) {
        double sum = graft_test_product(matrix, o, x, bound);
        for (uint32_t k = 0; k < n; k++) { // 2^-11 of each, 2^-25 where it is subnormal
            double w = fabs(matrix->values[(uint64_t)o * n + k]), v = fabs((double)x[k]);
            *bound += 1.01 * ((w * 0x1p-11 + 0x1p-25) * v + (v * 0x1p-11 + 0x1p-25) * w);
        }
        return sum;
    }
    if (gpu->activations == GRAFT_ACTIVATIONS_F32 || !blocks) {
        return graft_test_product(matrix, o, x, bound);
    }
    ck_assert_uint_le(n, MOST);
    graft_ref_round_values(x, n, gpu->activations == GRAFT_ACTIVATIONS_INT8 ? 1 : 2, q, d);
    double flips = 0, half = 0; // half a step of every value, as it counts in the sum
    for (uint32_t k = 0; k < n; k++) {
        double scale = (double)d[k / 32], ratio = scale > 0 ? fabs((double)x[k]) / scale : 0;
        rounded[k] = (float)(scale * q[k]);
        half += fabs(matrix->values[(uint64_t)o * n + k]) * scale / 2;
        if (fabs(ratio - floor(ratio) - 0.5) <= ratio * 0x1p-21) {
            flips += fabs(matrix->values[(uint64_t)o * n + k]) * scale;
        }
    }
    double exact = graft_test_product(matrix, o, x, bound), sum = graft_test_product(matrix, o, rounded, bound);
    ck_assert_msg(fabs(sum - exact) <= half * (1 + 0x1p-20) + *bound, "rounding moved a sum by %g, at most %g is allowed",
                  fabs(sum - exact), half);
    *bound = *bound * 1.01 + flips; // `rounded` itself was rounded once
    return sum;
}

void graft_test_each_matrix(struct graft_test_gpu *gpu, graft_test_matrix_case *one)
{
    static const uint32_t batches[] = {1, 2, 3, 4, 5, 8, 12, 32};
    static const uint32_t narrow[] = {32, 96, 576}, wide[] = {256, 768};
    for (uint32_t t = 0; t < GRAFT_TEST_TYPES; t++) {
        uint32_t type = graft_test_types[t];
        bool every = type == GRAFT_TYPE_Q4_1 || type == GRAFT_TYPE_Q6_K,
             blocks_of_256 = graft_type_info(type)->block_values == 256;
        for (uint32_t i = 0; i < sizeof batches / sizeof *batches; i++) {
            uint32_t rows = batches[i];
            if (gpu->matrix_cores) { // from 16 rows on; weights that f16 cannot hold are not for them
                rows = rows == 32 ? 32 : !every ? 0 : rows == 12 ? 64 : rows == 8 ? 16 : 0;
                if (rows && graft_type_info(type)->block_values > 1) {
                    one(gpu, type, blocks_of_256 ? wide[i % 2] : narrow[(i + t) % 3], rows, GRAFT_TEST_ORDINARY);
                }
                continue;
            }
            if (((rows == 2 || rows == 3) && (!every || gpu->few)) || (gpu->few && !every && rows != 1)) {
                continue;
            }
            uint32_t n_in = blocks_of_256 ? wide[i % 2] : narrow[(i + t) % 3];
            one(gpu, type, n_in, rows, GRAFT_TEST_ORDINARY);
            if (rows == 1 || rows == 5) {
                one(gpu, type, n_in, rows, GRAFT_TEST_EXTREME);
                one(gpu, type, n_in, rows, GRAFT_TEST_ZEROS);
            }
        }
    }
}
