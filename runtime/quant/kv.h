// SPDX-License-Identifier: Apache-2.0
// How keys and values lie in their pages, the same in both executors. A unit is one KV head of one page: GRAFT_PAGE_TOKENS
// tokens of head_dim values.
//   f16, f32    [token][head_dim]
//   q8_0        codes [token][head_dim] bytes, then scales [token][blocks] f16
//   q4_0        codes [token][blocks][16] bytes, then scales [token][blocks] f16
// A block is 32 values of a head; codes and scales are those of the weight formats of the same names (q8_0.c, q4_0.c), apart so
// that both can be read in whole words. Blocks of a token are padded to an even number among the scales.
#ifndef GRAFT_RUNTIME_QUANT_KV_H
#define GRAFT_RUNTIME_QUANT_KV_H

#include "graft/common.h"

// Numbers are those of the shaders' constants KV_K and KV_V.
enum graft_kv_format { GRAFT_KV_FORMAT_F16, GRAFT_KV_FORMAT_F32, GRAFT_KV_FORMAT_Q8_0, GRAFT_KV_FORMAT_Q4_0 };

static inline bool graft_kv_is_quantized(enum graft_kv_format format)
{
    return format >= GRAFT_KV_FORMAT_Q8_0;
}
// "f16", "q8_0".
const char *graft_kv_format_name(enum graft_kv_format format);
// Bytes of a unit; a multiple of 16 if head_dim is one of 8.
uint64_t graft_kv_unit_bytes(enum graft_kv_format format, uint32_t head_dim);
// Write token `offset` (< GRAFT_PAGE_TOKENS) of a unit, or read it back as f32: head_dim values, with q8_0 and q4_0 a multiple
// of 32 of them.
void graft_kv_store(enum graft_kv_format format, uint32_t head_dim, void *unit, uint32_t offset, const float *values);
void graft_kv_load(enum graft_kv_format format, uint32_t head_dim, const void *unit, uint32_t offset, float *values);

#endif
