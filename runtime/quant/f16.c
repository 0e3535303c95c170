// SPDX-License-Identifier: Apache-2.0
// F16: block of one weight, 2 bytes, little-endian binary16.
//
// The rows are converted without branches, so that compilers vectorize the loops; the scalar functions of convert.c say what
// the result is.
#include "runtime/quant/block.h"

// A subnormal is fraction * 2^-24. No operand or result here is a subnormal f32, so flush-to-zero changes nothing.
static inline uint32_t wide(uint32_t h)
{
    uint32_t exponent = h >> 10 & 0x1f, fraction = h & 0x3ff, small;
    float value = (float)(int32_t)fraction * 0x1p-24f;
    memcpy(&small, &value, sizeof small);
    uint32_t rebased = exponent == 0x1f ? 0x7f800000u : (exponent + 112) << 23;
    return (h & 0x8000) << 16 | (exponent == 0 ? small : rebased | fraction << 13);
}

// Below 2^-14: 0.5 has the unit 2^-24 of f16's subnormals in its last place, so that the addition rounds to it.
static inline uint32_t narrow(uint32_t bits)
{
    uint32_t magnitude = bits & 0x7fffffff, small;
    float sum;
    memcpy(&sum, &magnitude, sizeof sum);
    sum = magnitude < 0x38800000u ? sum + 0.5f : 0.5f;
    memcpy(&small, &sum, sizeof small);
    uint32_t normal = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
    uint32_t large = magnitude > 0x7f800000u ? 0x7e00u | (magnitude >> 13 & 0x3ff) : 0x7c00u;
    uint32_t half = magnitude >= 0x47800000u ? large : magnitude < 0x38800000u ? small - 0x3f000000u : normal;
    return (bits >> 16 & 0x8000) | half;
}

static void dequantize_row(const uint8_t *row, float *y, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        uint32_t bits = wide(graft_load_u16(row + 2 * i));
        memcpy(&y[i], &bits, sizeof bits);
    }
}

static void quantize_row(const float *x, uint8_t *row, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        graft_quant_store_u16(row + 2 * i, (uint16_t)narrow(bits));
    }
}

const struct graft_quant graft_quant_f16 = {GRAFT_TYPE_F16, dequantize_row, quantize_row};
