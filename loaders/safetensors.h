// SPDX-License-Identifier: Apache-2.0
// safetensors images: 8 bytes header length, a JSON header, the data. Nothing of the data is read or copied.
// Source: the safetensors format description (huggingface/safetensors, README).
#ifndef GRAFT_LOADERS_SAFETENSORS_H
#define GRAFT_LOADERS_SAFETENSORS_H

#include <jansson.h>

#include "loaders/types.h"
#include "platform/ctx.h"

enum {
    GRAFT_SAFETENSORS_MAX_HEADER = 16 << 20, // bytes
    GRAFT_SAFETENSORS_MAX_TENSORS = 65536,
    GRAFT_SAFETENSORS_MAX_NAME = 255,     // bytes
    GRAFT_SAFETENSORS_MAX_ITEMS = 1 << 20 // commas and opening brackets of the header: what bounds the memory of its parse
};

struct graft_safetensor {
    const char *name;    // UTF-8 without control characters
    uint32_t type;       // GRAFT_TYPE_F32, _F16 or _BF16
    uint32_t n_dims;     // 1 or 2
    uint64_t rows, cols; // row-major; a vector has rows 1
    const uint8_t *data; // into the image, any alignment
    uint64_t bytes;
};

struct graft_safetensors {
    struct graft_ctx *ctx;
    uint64_t n_tensors;
    struct graft_safetensor *tensors; // by place in the file
    json_t *header;                   // private: backing of the names
};

// Check `image` (borrowed until graft_safetensors_close; `file` names it in errors) and list its tensors: every tensor of a
// known type, of 1 or 2 dimensions and of the size its shape says; together they cover the data without overlap or hole.
// Errors: GRAFT_E_FORMAT, GRAFT_E_UNSUPPORTED (type, dimensions), GRAFT_E_LIMIT, GRAFT_E_MEMORY, GRAFT_E_BUDGET. On failure
// *out is NULL. Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status graft_safetensors_open(struct graft_ctx *ctx, struct graft_safetensors **out,
                                                          const uint8_t *image, uint64_t size, const char *file);
// Close; *st becomes NULL. NULL is accepted.
void graft_safetensors_close(struct graft_safetensors **st);

// JSON text of a file, duplicate keys refused; the error names the file and the offset. `what` says which text of the file it
// is.
GRAFT_MUST_CHECK enum graft_status graft_json_load(json_t **out, const char *text, uint64_t size, const char *file,
                                                   const char *what);

#endif
