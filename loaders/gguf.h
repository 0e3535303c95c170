// SPDX-License-Identifier: Apache-2.0
// GGUF v2 and v3 files: a validated view of metadata and tensors. Nothing of the tensor data is read or copied.
// Source: the GGUF specification (ggml, docs/gguf.md). Caps and refusals: every count and length is checked against the
// bytes that exist before it is believed.
#ifndef GRAFT_LOADERS_GGUF_H
#define GRAFT_LOADERS_GGUF_H

#include <string.h>

#include "loaders/types.h"
#include "platform/plat.h"

enum {
    GRAFT_GGUF_MAX_HEADER_BYTES = 64 << 20, // metadata and tensor table together
    GRAFT_GGUF_MAX_KEYS = 65536,
    GRAFT_GGUF_MAX_TENSORS = 65536,
    GRAFT_GGUF_MAX_KEY_BYTES = 255,
    GRAFT_GGUF_MAX_NAME_BYTES = 63,
    GRAFT_GGUF_MAX_STRING_BYTES = 1 << 20,
    GRAFT_GGUF_MAX_ARRAY = 1 << 24,
    GRAFT_GGUF_MAX_DIMS = 4,
    GRAFT_GGUF_MAX_PARTS = 1024 // files of a split model
};

enum graft_gguf_value_type {
    GRAFT_GGUF_U8, GRAFT_GGUF_I8, GRAFT_GGUF_U16, GRAFT_GGUF_I16, GRAFT_GGUF_U32, GRAFT_GGUF_I32, GRAFT_GGUF_F32,
    GRAFT_GGUF_BOOL, GRAFT_GGUF_STRING, GRAFT_GGUF_ARRAY, GRAFT_GGUF_U64, GRAFT_GGUF_I64, GRAFT_GGUF_F64
};

// A view into the mapping: not NUL-terminated, checked to be UTF-8.
struct graft_text {
    const char *data;
    uint64_t length;
};
static inline bool graft_text_is(struct graft_text text, const char *other)
{
    return text.length == strlen(other) && memcmp(text.data, other, (size_t)text.length) == 0;
}

struct graft_gguf_key {
    struct graft_text name;
    enum graft_gguf_value_type type;
    enum graft_gguf_value_type item_type; // of an array's items
    uint64_t count;                       // items of an array, 1 otherwise
    const uint8_t *data;                  // raw little-endian value, first item of an array (strings: length then bytes)
    uint64_t bytes;                       // of data
    uint64_t offset;                      // of the value in the file, for errors
};

struct graft_gguf_tensor {
    struct graft_text name;
    uint32_t type;                      // enum graft_type
    uint32_t n_dims;                    // 1 to GRAFT_GGUF_MAX_DIMS
    uint64_t dims[GRAFT_GGUF_MAX_DIMS]; // dims[0] varies fastest (length of a row); unused ones are 1
    uint64_t offset;                    // from the start of the mapping (of the file, unless it is split)
    uint64_t bytes;
};

// One file of the model. The files of a split model lie one behind the other in one mapping, each at the start of a page.
struct graft_gguf_part {
    char *path;
    uint64_t start, bytes; // in the mapping
};

struct graft_gguf {
    struct graft_ctx *ctx;
    struct graft_map map;
    char *path; // of the file that was opened: the first part
    struct graft_gguf_part *parts;
    uint32_t n_parts; // 1: not split
    uint32_t version;
    uint64_t alignment;
    uint64_t data_offset; // of the (first) tensor data section
    uint64_t data_bytes;  // end of the last tensor minus data_offset
    uint64_t n_keys;
    struct graft_gguf_key *keys;
    uint64_t n_tensors;
    struct graft_gguf_tensor *tensors; // in file order
    void *index;                       // hash tables: private
};

// Map and validate a file, or a split model (NAME-00001-of-0000N.gguf with the keys split.*, as llama.cpp's gguf-split writes
// them) with all its files: keys are those of the first file, tensors those of all, in order. Refuses everything of the list in
// docs/loading.md with GRAFT_E_FORMAT / GRAFT_E_UNSUPPORTED / GRAFT_E_LIMIT / GRAFT_E_IO, naming file, key or tensor, offset,
// found and allowed value. On failure *out is NULL and nothing stays open. A split model is opened by its first file; every
// other file must be there and belong to it. Tensor types that are not supported are an error only when `allow_unknown_types`
// is false. Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status graft_gguf_open(struct graft_ctx *ctx, struct graft_gguf **out, const char *path,
                                                   bool allow_unknown_types);
// The same for a file that is in memory already (`data` is borrowed until graft_gguf_close; `name` stands for the path in
// errors).
GRAFT_MUST_CHECK enum graft_status graft_gguf_open_memory(struct graft_ctx *ctx, struct graft_gguf **out, const uint8_t *data,
                                                          uint64_t size, const char *name, bool allow_unknown_types);
// Close; *gguf becomes NULL. All views become invalid.
void graft_gguf_close(struct graft_gguf **gguf);

// GRAFT_E_IO, with the path, once some of the file could not be read while it was mapped (graft_map_damaged): what was computed
// from it is worth nothing. To be asked after reading, before a result is given out.
GRAFT_MUST_CHECK enum graft_status graft_gguf_check_intact(const struct graft_gguf *gguf);

// Name of a value type ("u32", "string"), "?" outside the enum; bytes of one value, 0 for strings and arrays.
const char *graft_gguf_value_name(enum graft_gguf_value_type type);
uint32_t graft_gguf_value_bytes(enum graft_gguf_value_type type);
// Bytes of the file behind the last tensor's padding: 0 in a file as it should be. Base models may have some (a warning is
// logged).
uint64_t graft_gguf_trailing_bytes(const struct graft_gguf *gguf);

// Find by exact name; NULL if absent. O(1).
const struct graft_gguf_key *graft_gguf_find(const struct graft_gguf *gguf, const char *name);
const struct graft_gguf_tensor *graft_gguf_tensor(const struct graft_gguf *gguf, const char *name);

// Typed reads. Any integer type that holds the value is accepted for _u32 and _u64, F32 or F64 or an integer for _f32. *out is
// written only on success. The _or forms take `fallback` when the key is absent; a wrong type or a value out of range is an
// error always.
GRAFT_MUST_CHECK enum graft_status graft_gguf_u32(const struct graft_gguf *gguf, const char *name, uint32_t *out);
GRAFT_MUST_CHECK enum graft_status graft_gguf_u32_or(const struct graft_gguf *gguf, const char *name, uint32_t fallback,
                                                     uint32_t *out);
GRAFT_MUST_CHECK enum graft_status graft_gguf_f32(const struct graft_gguf *gguf, const char *name, float *out);
GRAFT_MUST_CHECK enum graft_status graft_gguf_f32_or(const struct graft_gguf *gguf, const char *name, float fallback,
                                                     float *out);
GRAFT_MUST_CHECK enum graft_status graft_gguf_bool_or(const struct graft_gguf *gguf, const char *name, bool fallback,
                                                      bool *out);
GRAFT_MUST_CHECK enum graft_status graft_gguf_text(const struct graft_gguf *gguf, const char *name, struct graft_text *out);
// Absent: *out = {NULL, 0}.
GRAFT_MUST_CHECK enum graft_status graft_gguf_text_or_none(const struct graft_gguf *gguf, const char *name,
                                                           struct graft_text *out);

// Walk an array key of strings: start with *cursor = 0, call key->count times.
GRAFT_MUST_CHECK enum graft_status graft_gguf_next_text(const struct graft_gguf *gguf, const struct graft_gguf_key *key,
                                                        uint64_t *cursor, struct graft_text *out);
// Item i of an array of numbers as double / i64 (bounds: i < key->count; the item type must be a number).
GRAFT_MUST_CHECK enum graft_status graft_gguf_item_f64(const struct graft_gguf *gguf, const struct graft_gguf_key *key,
                                                       uint64_t i, double *out);
GRAFT_MUST_CHECK enum graft_status graft_gguf_item_i64(const struct graft_gguf *gguf, const struct graft_gguf_key *key,
                                                       uint64_t i, int64_t *out);

// Which part a tensor lies in.
uint32_t graft_gguf_part_of(const struct graft_gguf *gguf, const struct graft_gguf_tensor *tensor);
// Bytes of all files.
uint64_t graft_gguf_bytes(const struct graft_gguf *gguf);

// The bytes of a tensor in the mapping.
static inline const uint8_t *graft_gguf_data(const struct graft_gguf *gguf, const struct graft_gguf_tensor *tensor)
{
    return gguf->map.data + tensor->offset;
}

#endif
