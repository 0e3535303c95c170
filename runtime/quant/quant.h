// SPDX-License-Identifier: Apache-2.0
// Weight formats on the host: one file per format, each with its block layout, the exact value of every weight, and
// quantization as the format's reference does it. The list is in quant.c.
#ifndef GRAFT_RUNTIME_QUANT_H
#define GRAFT_RUNTIME_QUANT_H

#include "loaders/types.h"
#include "platform/err.h"

struct graft_quant {
    enum graft_type type;
    // y[0..n) = the weights of one row. n is a multiple of the block; row may have any alignment.
    void (*dequantize_row)(const uint8_t *row, float *y, uint64_t n);
    // Inverse: nearest representation as the format's reference implementation (PyPI gguf) computes it, bit for bit where that
    // has one.
    // NULL if quantizing to this format is not offered.
    void (*quantize_row)(const float *x, uint8_t *row, uint64_t n);
};

// The format's functions; NULL if the type is not supported.
const struct graft_quant *graft_quant_find(uint32_t type);

// IEEE 754 binary16 and bfloat16 to and from binary32, round to nearest even; exact for every input incl. subnormals, Inf, NaN.
float graft_f16_to_f32(uint16_t h);
uint16_t graft_f32_to_f16(float f);
float graft_bf16_to_f32(uint16_t h);
uint16_t graft_f32_to_bf16(float f);

#endif
