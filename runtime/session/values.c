// SPDX-License-Identifier: Apache-2.0
// Looking at every value of a model's file: a scale or weight that is not finite spoils everything computed from it.
#include "platform/bytes.h"
#include "runtime/quant/quant.h"
#include "runtime/session/session.h"

enum { CHUNK = 16384 }; // values, a multiple of every format's block

// Not finite: all bits of the exponent are set.
static uint64_t count_bad(const float *values, uint64_t n, uint64_t *first)
{
    uint64_t bad = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        if ((bits & 0x7f800000u) == 0x7f800000u) {
            *first = bad ? *first : i;
            bad++;
        }
    }
    return bad;
}

enum graft_status graft_gguf_tensor_values(const struct graft_gguf *gguf, const struct graft_gguf_tensor *tensor,
                                           struct graft_tensor_values *out)
{
    *out = (struct graft_tensor_values){0};
    const struct graft_quant *quant = graft_quant_find(tensor->type);
    if (!quant) {
        return GRAFT_OK;
    }
    uint32_t block_values, block_bytes;
    (void)graft_type_gguf_block(tensor->type, &block_values, &block_bytes); // known: the reader has checked the size with it
    float *values;
    GRAFT_TRY(graft_alloc_unset(gguf->ctx, GRAFT_MEM_SCRATCH, (void **)&values, CHUNK, sizeof *values, "values of a tensor"));
    uint64_t n = tensor->bytes / block_bytes * block_values;
    const uint8_t *data = graft_gguf_data(gguf, tensor);
    for (uint64_t at = 0; at < n; at += CHUNK) {
        uint64_t part = n - at < CHUNK ? n - at : CHUNK, first = 0;
        quant->dequantize_row(data + at / block_values * block_bytes, values, part);
        uint64_t bad = count_bad(values, part, &first);
        out->first = bad && !out->bad ? at + first : out->first;
        out->bad += bad;
    }
    out->looked_at = n;
    GRAFT_FREE(gguf->ctx, &values);
    return graft_gguf_check_intact(gguf);
}

enum graft_status graft_gguf_check_values(const struct graft_gguf *gguf)
{
    for (uint64_t i = 0; i < gguf->n_tensors; i++) {
        const struct graft_gguf_tensor *tensor = &gguf->tensors[i];
        struct graft_tensor_values values;
        GRAFT_TRY(graft_gguf_tensor_values(gguf, tensor, &values));
        if (values.bad) {
            return graft_fail(GRAFT_E_FORMAT,
                              "%s: tensor %.*s: %" PRIu64 " of %" PRIu64 " values are not finite, the first at index %" PRIu64,
                              gguf->path, (int)tensor->name.length, tensor->name.data, values.bad, values.looked_at,
                              values.first);
        }
    }
    return GRAFT_OK;
}
