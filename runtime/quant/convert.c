// SPDX-License-Identifier: Apache-2.0
// binary16 (IEEE 754-2008, section 3.6) and bfloat16 (the upper half of a binary32), in integer arithmetic: the result does
// not depend on the machine's rounding mode, on flush-to-zero, or on conversion instructions.
#include "runtime/quant/block.h"

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

float graft_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exponent = (h >> 10) & 0x1f;
    uint32_t fraction = h & 0x3ff;
    if (exponent == 0x1f) { // Inf, NaN: the payload is kept
        return float_of(sign | 0x7f800000 | fraction << 13);
    }
    if (exponent != 0) {
        return float_of(sign | (exponent + 112) << 23 | fraction << 13);
    }
    if (fraction == 0) {
        return float_of(sign);
    }
    // Subnormal, fraction * 2^-24: shift until the leading one is in the implied place.
    exponent = 113;
    while (!(fraction & 0x400)) {
        fraction <<= 1;
        exponent--;
    }
    return float_of(sign | exponent << 23 | (fraction & 0x3ff) << 13);
}

uint16_t graft_f32_to_f16(float f)
{
    uint32_t bits = bits_of(f);
    uint32_t sign = (bits >> 16) & 0x8000;
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) { // NaN: quiet, upper payload kept
        return (uint16_t)(sign | 0x7e00 | ((magnitude >> 13) & 0x3ff));
    }
    if (magnitude >= 0x47800000) { // 65536 and more, Inf
        return (uint16_t)(sign | 0x7c00);
    }
    if (magnitude >= 0x38800000) { // normal in f16; 65520 and more carry into Inf, as they should
        uint32_t rebased = magnitude - (112u << 23);
        return (uint16_t)(sign | (rebased + 0xfff + ((rebased >> 13) & 1)) >> 13);
    }
    if (magnitude < 0x33000000) { // below half of the smallest subnormal
        return (uint16_t)sign;
    }
    uint32_t shift = 126 - (magnitude >> 23); // 14 to 24
    uint32_t fraction = (magnitude & 0x7fffff) | 0x800000;
    uint32_t half_less_one = (1u << (shift - 1)) - 1;
    return (uint16_t)(sign | (fraction + half_less_one + ((fraction >> shift) & 1)) >> shift);
}

float graft_bf16_to_f32(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

uint16_t graft_f32_to_bf16(float f)
{
    uint32_t bits = bits_of(f);
    if ((bits & 0x7fffffff) > 0x7f800000) { // NaN: quiet, not rounded (rounding could carry it into Inf)
        return (uint16_t)(bits >> 16 | 0x40);
    }
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
