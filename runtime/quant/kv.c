// SPDX-License-Identifier: Apache-2.0
#include "runtime/quant/kv.h"

#include <string.h>

#include "runtime/quant/quant.h"
#include "shaders/params.h"

enum { BLOCK = 32, MAX_BLOCK_BYTES = 34 };

const char *graft_kv_format_name(enum graft_kv_format format)
{
    static const char *const names[] = {"f16", "f32", "q8_0", "q4_0"};
    return names[format];
}

static uint32_t code_bytes(enum graft_kv_format format) // of a block
{
    return format == GRAFT_KV_FORMAT_Q8_0 ? BLOCK : BLOCK / 2;
}

uint64_t graft_kv_unit_bytes(enum graft_kv_format format, uint32_t head_dim)
{
    uint64_t blocks = head_dim / BLOCK, values = (uint64_t)GRAFT_PAGE_TOKENS * head_dim;
    if (format == GRAFT_KV_FORMAT_F16 || format == GRAFT_KV_FORMAT_F32) {
        return values * (format == GRAFT_KV_FORMAT_F32 ? 4 : 2);
    }
    return GRAFT_PAGE_TOKENS * (blocks * code_bytes(format) + (blocks + 1) / 2 * 4);
}

static const struct graft_quant *quant_of(enum graft_kv_format format)
{
    return graft_quant_find(format == GRAFT_KV_FORMAT_Q8_0 ? GRAFT_TYPE_Q8_0 : GRAFT_TYPE_Q4_0);
}

// Where codes and scale of block b of a token are in its unit.
static uint8_t *codes_of(enum graft_kv_format format, uint32_t blocks, void *unit, uint32_t offset, uint32_t b)
{
    return (uint8_t *)unit + ((uint64_t)offset * blocks + b) * code_bytes(format);
}

static uint8_t *scale_of(enum graft_kv_format format, uint32_t blocks, void *unit, uint32_t offset, uint32_t b)
{
    uint64_t codes = (uint64_t)GRAFT_PAGE_TOKENS * blocks * code_bytes(format);
    return (uint8_t *)unit + codes + offset * ((blocks + 1) / 2 * 4) + b * 2;
}

void graft_kv_store(enum graft_kv_format format, uint32_t head_dim, void *unit, uint32_t offset, const float *values)
{
    uint64_t at = (uint64_t)offset * head_dim;
    if (format == GRAFT_KV_FORMAT_F32) {
        memcpy((float *)unit + at, values, head_dim * sizeof *values);
        return;
    }
    if (format == GRAFT_KV_FORMAT_F16) {
        for (uint32_t d = 0; d < head_dim; d++) {
            ((uint16_t *)unit)[at + d] = graft_f32_to_f16(values[d]);
        }
        return;
    }
    uint8_t block[MAX_BLOCK_BYTES]; // scale, codes
    for (uint32_t b = 0; b < head_dim / BLOCK; b++) {
        quant_of(format)->quantize_row(values + b * BLOCK, block, BLOCK);
        memcpy(scale_of(format, head_dim / BLOCK, unit, offset, b), block, 2);
        memcpy(codes_of(format, head_dim / BLOCK, unit, offset, b), block + 2, code_bytes(format));
    }
}

void graft_kv_load(enum graft_kv_format format, uint32_t head_dim, const void *unit, uint32_t offset, float *values)
{
    uint64_t at = (uint64_t)offset * head_dim;
    if (format == GRAFT_KV_FORMAT_F32) {
        memcpy(values, (const float *)unit + at, head_dim * sizeof *values);
        return;
    }
    if (format == GRAFT_KV_FORMAT_F16) {
        for (uint32_t d = 0; d < head_dim; d++) {
            values[d] = graft_f16_to_f32(((const uint16_t *)unit)[at + d]);
        }
        return;
    }
    uint8_t block[MAX_BLOCK_BYTES];
    for (uint32_t b = 0; b < head_dim / BLOCK; b++) {
        memcpy(block, scale_of(format, head_dim / BLOCK, (void *)(uintptr_t)unit, offset, b), 2);
        memcpy(block + 2, codes_of(format, head_dim / BLOCK, (void *)(uintptr_t)unit, offset, b), code_bytes(format));
        quant_of(format)->dequantize_row(block, values + b * BLOCK, BLOCK);
    }
}
