// SPDX-License-Identifier: Apache-2.0
// Weight formats against PyPI gguf: golden blocks from tests/golden/make_quant.py.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/bytes.h"
#include "platform/plat.h"
#include "runtime/quant/quant.h"
#include "support/support.h"

static const struct {
    const char *name;
    enum graft_type type;
    bool reference_quantizes;
} formats[] = {
    {"f32", GRAFT_TYPE_F32, true},        {"f16", GRAFT_TYPE_F16, true},    {"bf16", GRAFT_TYPE_BF16, true},
    {"q4_0", GRAFT_TYPE_Q4_0, true},      {"q4_1", GRAFT_TYPE_Q4_1, true},  {"q5_0", GRAFT_TYPE_Q5_0, true},
    {"q5_1", GRAFT_TYPE_Q5_1, true},      {"q8_0", GRAFT_TYPE_Q8_0, true},  {"mxfp4", GRAFT_TYPE_MXFP4, true},
    {"q2_k", GRAFT_TYPE_Q2_K, false},     {"q3_k", GRAFT_TYPE_Q3_K, false}, {"q4_k", GRAFT_TYPE_Q4_K, false},
    {"q5_k", GRAFT_TYPE_Q5_K, false},     {"q6_k", GRAFT_TYPE_Q6_K, false}, {"iq4_nl", GRAFT_TYPE_IQ4_NL, false},
    {"iq4_xs", GRAFT_TYPE_IQ4_XS, false},
};
enum { FORMATS = sizeof formats / sizeof *formats };

struct golden {
    struct graft_map map;
    const uint8_t *blocks, *values, *inputs, *packed;
    uint32_t n_blocks, n_inputs;
    const struct graft_type_info *info;
};

static void golden_open(struct golden *g, int format)
{
    char path[512];
    snprintf(path, sizeof path, "%s/golden/quant/%s.bin", GRAFT_TEST_SOURCE_DIR, formats[format].name);
    ck_assert_ok(graft_map_open(&g->map, path));
    g->info = graft_type_info(formats[format].type);
    ck_assert_ptr_nonnull(g->info);
    g->n_blocks = graft_load_u32(g->map.data), g->n_inputs = graft_load_u32(g->map.data + 4);
    uint64_t block = g->info->block_bytes, values = 4ull * g->info->block_values;
    ck_assert_uint_eq(g->map.size, 8 + g->n_blocks * (block + values) + g->n_inputs * (block + values));
    g->blocks = g->map.data + 8;
    g->values = g->blocks + g->n_blocks * block;
    g->inputs = g->values + g->n_blocks * values;
    g->packed = g->inputs + g->n_inputs * values;
}

static bool is_nan_bits(uint32_t bits)
{
    return (bits & 0x7fffffff) > 0x7f800000;
}

START_TEST(every_weight_is_bit_exact_to_the_reference)
{
    struct golden g;
    golden_open(&g, _i);
    uint64_t n = (uint64_t)g.n_blocks * g.info->block_values;
    static float y[8192];
    ck_assert_uint_le(n, 8192);
    static uint8_t shifted[16384]; // rows may have any alignment
    memcpy(shifted + 1, g.blocks, (size_t)g.n_blocks * g.info->block_bytes);
    for (int shift = 0; shift < 2; shift++) {
        graft_quant_find(formats[_i].type)->dequantize_row(shift ? shifted + 1 : g.blocks, y, n);
        for (uint64_t i = 0; i < n; i++) {
            uint32_t got, want = graft_load_u32(g.values + 4 * i);
            memcpy(&got, &y[i], 4);
            ck_assert_msg(got == want || (is_nan_bits(got) && is_nan_bits(want)), "%s value %d: %08x, expected %08x",
                          formats[_i].name, (int)i, got, want);
        }
    }
    graft_map_close(&g.map);
}
END_TEST

START_TEST(quantizing_is_bit_exact_where_the_reference_quantizes)
{
    struct golden g;
    golden_open(&g, _i);
    ck_assert((g.n_inputs > 0) == formats[_i].reference_quantizes);
    for (uint32_t b = 0; b < g.n_inputs; b++) {
        float x[256];
        uint8_t out[256];
        memcpy(x, g.inputs + (uint64_t)b * 4 * g.info->block_values, 4ull * g.info->block_values);
        graft_quant_find(formats[_i].type)->quantize_row(x, out, g.info->block_values);
        for (uint32_t k = 0; k < g.info->block_bytes; k++) {
            uint8_t want = g.packed[(uint64_t)b * g.info->block_bytes + k];
            ck_assert_msg(out[k] == want, "%s input block %u byte %u: %02x, expected %02x (x[0] %a)", formats[_i].name, b, k,
                          out[k], want, (double)x[0]);
        }
    }
    graft_map_close(&g.map);
}
END_TEST

START_TEST(all_f16_values_equal_numpys)
{
    uint64_t digest = 0xcbf29ce484222325u; // FNV-1a 64
    for (uint32_t h = 0; h < 65536; h++) {
        float f = graft_f16_to_f32((uint16_t)h);
        if ((h & 0x7fff) > 0x7c00) {
            ck_assert(isnan(f));
            ck_assert_uint_eq(graft_f32_to_f16(f), h | 0x200);
            continue;
        }
        uint32_t bits;
        memcpy(&bits, &f, 4);
        for (int k = 0; k < 4; k++) {
            digest = (digest ^ ((bits >> 8 * k) & 0xff)) * 0x100000001b3u;
        }
        ck_assert_uint_eq(graft_f32_to_f16(f), h);
    }
    ck_assert_uint_eq(digest, 0xa7a575fd4882f925u); // printed by make_quant.py
}
END_TEST

// Rows are converted by other code than single values: all halves, and every 4093rd of all floats from both sides of 0.
START_TEST(rows_of_f16_are_converted_as_single_values_are)
{
    enum { COUNT = 65536, STRIDE = 4093 };
    static uint8_t halves[2 * COUNT];
    static float floats[COUNT];
    const struct graft_quant *f16 = graft_quant_find(GRAFT_TYPE_F16);
    for (uint32_t h = 0; h < COUNT; h++) {
        halves[2 * h] = (uint8_t)h;
        halves[2 * h + 1] = (uint8_t)(h >> 8);
    }
    f16->dequantize_row(halves, floats, COUNT);
    for (uint32_t h = 0; h < COUNT; h++) {
        float want = graft_f16_to_f32((uint16_t)h);
        ck_assert_msg(memcmp(&want, &floats[h], sizeof want) == 0, "half %x", h);
    }
    for (uint64_t first = 0; first < UINT64_C(1) << 32; first += (uint64_t)COUNT * STRIDE) {
        for (uint32_t i = 0; i < COUNT; i++) {
            uint32_t bits = (uint32_t)(first + (uint64_t)i * STRIDE);
            memcpy(&floats[i], &bits, sizeof bits);
        }
        f16->quantize_row(floats, halves, COUNT);
        for (uint32_t i = 0; i < COUNT; i++) {
            ck_assert_msg(graft_load_u16(halves + 2 * i) == graft_f32_to_f16(floats[i]), "float %g", (double)floats[i]);
        }
    }
}
END_TEST

START_TEST(all_bf16_values_are_upper_halves)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float f = graft_bf16_to_f32((uint16_t)h);
        uint32_t bits;
        memcpy(&bits, &f, 4);
        ck_assert_uint_eq(bits, h << 16);
        ck_assert_uint_eq(graft_f32_to_bf16(f), is_nan_bits(bits) ? (h | 0x40) : h);
    }
}
END_TEST

// Root mean square error of a round trip, relative to the root mean square of x.
static double round_trip(enum graft_type type, const float *x, uint64_t n)
{
    static uint8_t packed[8 << 10];
    static float y[4096];
    graft_quant_find(type)->quantize_row(x, packed, n);
    graft_quant_find(type)->dequantize_row(packed, y, n);
    double error = 0, power = 0;
    for (uint64_t i = 0; i < n; i++) {
        error += ((double)y[i] - (double)x[i]) * ((double)y[i] - (double)x[i]);
        power += (double)x[i] * (double)x[i];
    }
    return sqrt(error / power);
}

// Relative errors of ggml's own quantizers on a million normal weights (PyPI ggml-python 0.0.45: ggml_quantize_chunk without an
// importance matrix), for the formats that PyPI gguf does not quantize to.
static const struct {
    enum graft_type type;
    double ggml;
} own_methods[] = {
    {GRAFT_TYPE_Q2_K, 0.29672}, {GRAFT_TYPE_Q3_K, 0.15098},   {GRAFT_TYPE_Q4_K, 0.07137},   {GRAFT_TYPE_Q5_K, 0.03613},
    {GRAFT_TYPE_Q6_K, 0.01775}, {GRAFT_TYPE_IQ4_NL, 0.07618}, {GRAFT_TYPE_IQ4_XS, 0.07677},
};
enum { OWN_METHODS = sizeof own_methods / sizeof *own_methods };

START_TEST(own_quantizers_are_no_worse_than_ggmls)
{
    struct graft_test_random random = {3};
    static float x[4096];
    double sum = 0;
    for (int round = 0; round < 16; round++) {
        for (int i = 0; i < 4096; i += 2) { // Box and Muller
            float u = graft_test_random_f32(&random, 0.0f, 1.0f) + 1e-9f, v = graft_test_random_f32(&random, 0.0f, 6.2831853f);
            x[i] = 0.02f * sqrtf(-2.0f * logf(u)) * cosf(v);
            x[i + 1] = 0.02f * sqrtf(-2.0f * logf(u)) * sinf(v);
        }
        double error = round_trip(own_methods[_i].type, x, 4096);
        sum += error * error;
    }
    double error = sqrt(sum / 16);
    ck_assert_msg(error <= own_methods[_i].ggml, "%s: %g, ggml %g", graft_type_info(own_methods[_i].type)->name, error,
                  own_methods[_i].ggml);
}
END_TEST

START_TEST(k_quantizers_beat_the_simple_formats_on_normal_weights)
{
    struct graft_test_random random = {7};
    static float x[4096];
    for (int i = 0; i < 4096; i++) { // Irwin-Hall: nearly normal
        x[i] = 0.0f;
        for (int k = 0; k < 12; k++) {
            x[i] += graft_test_random_f32(&random, -0.5f, 0.5f);
        }
        x[i] *= 0.02f;
    }
    double q4_0 = round_trip(GRAFT_TYPE_Q4_0, x, 4096), q4_k = round_trip(GRAFT_TYPE_Q4_K, x, 4096);
    double q8_0 = round_trip(GRAFT_TYPE_Q8_0, x, 4096), q6_k = round_trip(GRAFT_TYPE_Q6_K, x, 4096);
    ck_assert_msg(q4_k < 0.075 && q4_k < q4_0, "Q4_K %g, Q4_0 %g", q4_k, q4_0);
    ck_assert_msg(q6_k < 0.02 && q6_k < q4_k / 3 && q6_k > q8_0, "Q6_K %g, Q8_0 %g", q6_k, q8_0);
    for (int i = 0; i < 4096; i++) { // all above zero, with an offset: the minimum cannot be used
        x[i] = fabsf(x[i]) + 0.05f;
    }
    ck_assert_double_lt(round_trip(GRAFT_TYPE_Q4_K, x, 4096), 0.05);
    ck_assert_double_lt(round_trip(GRAFT_TYPE_Q6_K, x, 4096), 0.02);
}
END_TEST

START_TEST(k_quantizers_return_representable_weights_nearly_unchanged)
{
    static const int all = 1024;
    static float x[1024];
    for (int i = 0; i < all; i++) {
        x[i] = 0.5f * (float)(i * 7 % 16) - 2.0f;
    }
    ck_assert_double_lt(round_trip(GRAFT_TYPE_Q4_K, x, (uint64_t)all), 0.01);
    for (int i = 0; i < all; i++) {
        x[i] = 0.25f * (float)(i * 29 % 64 - 32);
    }
    ck_assert_double_lt(round_trip(GRAFT_TYPE_Q6_K, x, (uint64_t)all), 0.01);
}
END_TEST

START_TEST(quantizers_accept_any_input)
{
    const struct graft_quant *quant = graft_quant_find(formats[_i].type);
    struct graft_test_random random = {99};
    static const float special[] = {0.0f,    -0.0f,   INFINITY, -INFINITY, NAN,      1e-45f,
                                    -1e-45f, 3.4e38f, -3.4e38f, 1e-38f,    65504.0f, 1.0f};
    for (int round = 0; round < 300; round++) {
        float x[256], y[256];
        uint8_t packed[1024 + 1];
        memset(packed, 0x5a, sizeof packed);
        for (int i = 0; i < 256; i++) {
            x[i] = round < 12 ? special[round] : special[graft_test_random_u64(&random) % 12];
        }
        quant->quantize_row(x, packed, 256);
        uint64_t bytes;
        ck_assert(graft_type_row_bytes(quant->type, 256, &bytes));
        ck_assert_uint_eq(packed[bytes], 0x5a);
        quant->dequantize_row(packed, y, 256);
    }
    float zeros[256] = {0}, y[256];
    uint8_t packed[1024];
    quant->quantize_row(zeros, packed, 256);
    quant->dequantize_row(packed, y, 256);
    for (int i = 0; i < 256; i++) {
        ck_assert(y[i] == 0.0f);
    }
}
END_TEST

// Whatever a file holds: NaN, infinite and subnormal scales, every code. Nothing outside the row is read (sanitizers see it,
// the room ends with the row) and every weight is written.
START_TEST(any_bytes_are_weights)
{
    const struct graft_type_info *info = graft_type_info(formats[_i].type);
    struct graft_test_random random = {17};
    for (int round = 0; round < 300; round++) {
        uint32_t n = info->block_values == 1 ? 32 : 2 * info->block_values;
        uint64_t bytes;
        ck_assert(graft_type_row_bytes(info->type, n, &bytes));
        uint8_t *row = malloc(bytes);
        float y[512 + 1];
        ck_assert_ptr_nonnull(row);
        for (uint64_t i = 0; i < bytes; i++) {
            row[i] = round < 3 ? (uint8_t[]){0xff, 0x7c, 0x7f}[round] : (uint8_t)(graft_test_random_u64(&random) >> 32);
        }
        for (uint32_t i = 0; i <= n; i++) {
            y[i] = 12345.0f;
        }
        graft_quant_find(info->type)->dequantize_row(row, y, n);
        ck_assert(y[n] == 12345.0f);
        for (uint32_t i = 0; i < n; i++) {
            ck_assert(y[i] != 12345.0f);
        }
        free(row);
    }
}
END_TEST

START_TEST(types_outside_the_list_are_named_and_refused)
{
    ck_assert_ptr_null(graft_quant_find(17));
    ck_assert_ptr_null(graft_type_info(17));
    ck_assert_str_eq(graft_type_gguf_name(17), "IQ2_XS");
    ck_assert_ptr_null(graft_type_gguf_name(4)); // Q4_2: removed
    ck_assert_ptr_null(graft_type_gguf_name(31));
    ck_assert_ptr_null(graft_type_gguf_name(42));
    ck_assert_ptr_null(graft_type_gguf_name(UINT32_MAX));
    uint64_t bytes = 77;
    ck_assert(!graft_type_row_bytes(GRAFT_TYPE_Q4_0, 33, &bytes));
    ck_assert(!graft_type_row_bytes(GRAFT_TYPE_F32, UINT64_MAX / 2, &bytes));
    ck_assert(!graft_type_row_bytes(17, 256, &bytes));
    ck_assert_uint_eq(bytes, 77);
    ck_assert(graft_type_row_bytes(GRAFT_TYPE_Q6_K, 512, &bytes));
    ck_assert_uint_eq(bytes, 420);
    for (int i = 0; i < FORMATS; i++) {
        uint32_t values, size;
        const struct graft_type_info *info = graft_type_info(formats[i].type);
        ck_assert(graft_type_gguf_block(formats[i].type, &values, &size));
        ck_assert(values == info->block_values && size == info->block_bytes);
        ck_assert_str_eq(graft_type_gguf_name(formats[i].type), info->name);
        ck_assert_ptr_nonnull(graft_quant_find(formats[i].type));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quant");
    TCase *tests = tcase_create("quant");
    tcase_add_loop_test(tests, every_weight_is_bit_exact_to_the_reference, 0, FORMATS);
    tcase_add_loop_test(tests, quantizing_is_bit_exact_where_the_reference_quantizes, 0, FORMATS);
    tcase_add_loop_test(tests, any_bytes_are_weights, 0, FORMATS);
    tcase_add_test(tests, all_f16_values_equal_numpys);
    tcase_add_test(tests, rows_of_f16_are_converted_as_single_values_are);
    tcase_add_test(tests, all_bf16_values_are_upper_halves);
    tcase_add_loop_test(tests, own_quantizers_are_no_worse_than_ggmls, 0, OWN_METHODS);
    tcase_add_test(tests, k_quantizers_beat_the_simple_formats_on_normal_weights);
    tcase_add_test(tests, k_quantizers_return_representable_weights_nearly_unchanged);
    tcase_add_loop_test(tests, quantizers_accept_any_input, 0, FORMATS);
    tcase_add_test(tests, types_outside_the_list_are_named_and_refused);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
