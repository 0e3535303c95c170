// SPDX-License-Identifier: Apache-2.0
// The table of tensor types. Source: the GGUF specification (ggml, docs/gguf.md, enum ggml_type) and PyPI gguf's
// GGML_QUANT_SIZES.
#include "loaders/types.h"

#include <stddef.h>

#include "platform/bytes.h"

static const struct graft_type_info supported[] = {
    {GRAFT_TYPE_F32, "F32", 1, 4},       {GRAFT_TYPE_F16, "F16", 1, 2},         {GRAFT_TYPE_BF16, "BF16", 1, 2},
    {GRAFT_TYPE_Q4_0, "Q4_0", 32, 18},   {GRAFT_TYPE_Q4_1, "Q4_1", 32, 20},     {GRAFT_TYPE_Q5_0, "Q5_0", 32, 22},
    {GRAFT_TYPE_Q5_1, "Q5_1", 32, 24},   {GRAFT_TYPE_Q8_0, "Q8_0", 32, 34},     {GRAFT_TYPE_Q2_K, "Q2_K", 256, 84},
    {GRAFT_TYPE_Q3_K, "Q3_K", 256, 110}, {GRAFT_TYPE_Q4_K, "Q4_K", 256, 144},   {GRAFT_TYPE_Q5_K, "Q5_K", 256, 176},
    {GRAFT_TYPE_Q6_K, "Q6_K", 256, 210}, {GRAFT_TYPE_IQ4_NL, "IQ4_NL", 32, 18}, {GRAFT_TYPE_IQ4_XS, "IQ4_XS", 256, 136},
    {GRAFT_TYPE_MXFP4, "MXFP4", 32, 17},
};

// Everything the specification knows, by number. NULL: never given or removed. Block 0, 0: never stored in files.
static const struct {
    const char *name;
    uint16_t block_values, block_bytes;
} known[] = {
    [0] = {"F32", 1, 4},         [1] = {"F16", 1, 2},         [2] = {"Q4_0", 32, 18},      [3] = {"Q4_1", 32, 20},
    [6] = {"Q5_0", 32, 22},      [7] = {"Q5_1", 32, 24},      [8] = {"Q8_0", 32, 34},      [9] = {"Q8_1", 0, 0},
    [10] = {"Q2_K", 256, 84},    [11] = {"Q3_K", 256, 110},   [12] = {"Q4_K", 256, 144},   [13] = {"Q5_K", 256, 176},
    [14] = {"Q6_K", 256, 210},   [15] = {"Q8_K", 0, 0},       [16] = {"IQ2_XXS", 256, 66}, [17] = {"IQ2_XS", 256, 74},
    [18] = {"IQ3_XXS", 256, 98}, [19] = {"IQ1_S", 256, 50},   [20] = {"IQ4_NL", 32, 18},   [21] = {"IQ3_S", 256, 110},
    [22] = {"IQ2_S", 256, 82},   [23] = {"IQ4_XS", 256, 136}, [24] = {"I8", 1, 1},         [25] = {"I16", 1, 2},
    [26] = {"I32", 1, 4},        [27] = {"I64", 1, 8},        [28] = {"F64", 1, 8},        [29] = {"IQ1_M", 256, 56},
    [30] = {"BF16", 1, 2},       [34] = {"TQ1_0", 256, 54},   [35] = {"TQ2_0", 256, 66},   [39] = {"MXFP4", 32, 17},
    [40] = {"NVFP4", 64, 36},    [41] = {"Q1_0", 128, 18},
};

const struct graft_type_info *graft_type_info(uint32_t gguf_number)
{
    for (size_t i = 0; i < sizeof supported / sizeof *supported; i++) {
        if ((uint32_t)supported[i].type == gguf_number) {
            return &supported[i];
        }
    }
    return NULL;
}

const char *graft_type_gguf_name(uint32_t gguf_number)
{
    return gguf_number < sizeof known / sizeof *known ? known[gguf_number].name : NULL;
}

bool graft_type_gguf_block(uint32_t gguf_number, uint32_t *block_values, uint32_t *block_bytes)
{
    if (!graft_type_gguf_name(gguf_number) || known[gguf_number].block_values == 0) {
        return false;
    }
    *block_values = known[gguf_number].block_values;
    *block_bytes = known[gguf_number].block_bytes;
    return true;
}

bool graft_type_row_bytes(uint32_t gguf_number, uint64_t values, uint64_t *out)
{
    const struct graft_type_info *info = graft_type_info(gguf_number);
    return info && values % info->block_values == 0 && graft_mul_u64(values / info->block_values, info->block_bytes, out);
}
