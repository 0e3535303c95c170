// SPDX-License-Identifier: Apache-2.0
// The one table of tensor types: GGUF type id -> name, block shape. Formats outside it are refused by name or number.
#ifndef GRAFT_LOADERS_TYPES_H
#define GRAFT_LOADERS_TYPES_H

#include <stdbool.h>
#include <stdint.h>

// Numbers are those of the GGUF specification.
enum graft_type {
    GRAFT_TYPE_F32 = 0,
    GRAFT_TYPE_F16 = 1,
    GRAFT_TYPE_Q4_0 = 2,
    GRAFT_TYPE_Q4_1 = 3,
    GRAFT_TYPE_Q5_0 = 6,
    GRAFT_TYPE_Q5_1 = 7,
    GRAFT_TYPE_Q8_0 = 8,
    GRAFT_TYPE_Q2_K = 10,
    GRAFT_TYPE_Q3_K = 11,
    GRAFT_TYPE_Q4_K = 12,
    GRAFT_TYPE_Q5_K = 13,
    GRAFT_TYPE_Q6_K = 14,
    GRAFT_TYPE_IQ4_NL = 20,
    GRAFT_TYPE_IQ4_XS = 23,
    GRAFT_TYPE_BF16 = 30,
    GRAFT_TYPE_MXFP4 = 39
};

// The types that are supported, for messages; types.c has the table.
#define GRAFT_TYPE_NAMES "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS and MXFP4"

struct graft_type_info {
    enum graft_type type;
    const char *name;      // "Q4_0"
    uint32_t block_values; // weights in a block; a row is a whole number of blocks
    uint32_t block_bytes;
};

// Facts of a type by its GGUF number; NULL if it is not supported.
const struct graft_type_info *graft_type_info(uint32_t gguf_number);
// Name of any number the GGUF specification knows, supported or not ("IQ2_XS"); NULL for unknown or removed numbers.
const char *graft_type_gguf_name(uint32_t gguf_number);
// Block shape of any type the specification knows and files may hold, supported or not; false for others.
bool graft_type_gguf_block(uint32_t gguf_number, uint32_t *block_values, uint32_t *block_bytes);
// Bytes of a row of `values` weights; false if the type is unknown, values is no multiple of the block, or it overflows.
bool graft_type_row_bytes(uint32_t gguf_number, uint64_t values, uint64_t *out);

#endif
