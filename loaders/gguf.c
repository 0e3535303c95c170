// SPDX-License-Identifier: Apache-2.0
// GGUF container: parsing and validation. One pass over the header, linear time, nothing allocated by a count that the bytes in
// the file do not bear out. The rules are listed in docs/loading.md.
#include <stdarg.h>
#include <stdio.h>

#include "loaders/gguf_private.h"
#include "loaders/magic.h"
#include "platform/bytes.h"

enum {
    FIXED_BYTES = 24,      // magic, version, number of tensors, number of keys
    MIN_KEY_BYTES = 14,    // name length, 1 byte of name, type, 1 byte of value
    MIN_TENSOR_BYTES = 33, // name length, 1 byte of name, number of dims, 1 dim, type, offset
    DEFAULT_ALIGNMENT = 32,
    MIN_ALIGNMENT = 8,
    MAX_ALIGNMENT = 65536,
    NAME_ROOM = GRAFT_GGUF_MAX_KEY_BYTES + 64
};

struct parser {
    struct graft_gguf *gguf;
    struct graft_gguf_index *index;
    struct graft_reader reader;
    const char *kind;       // of the entry being read: "key", "tensor"
    uint64_t number;        // of it, from 0
    struct graft_text name; // of it; length 0 as long as it is not known and checked
    uint64_t entry_offset;  // of it in the file
    bool allow_unknown_types;
};

static const char *entry_text(const struct parser *p, char room[NAME_ROOM])
{
    if (p->name.length) {
        snprintf(room, NAME_ROOM, "%s %.*s", p->kind, (int)p->name.length, p->name.data);
    } else {
        snprintf(room, NAME_ROOM, "%s number %" PRIu64, p->kind, p->number);
    }
    return room;
}

// An error about the entry being read.
GRAFT_PRINTF(4, 5)
static enum graft_status bad(const struct parser *p, enum graft_status status, uint64_t offset, const char *format, ...)
{
    char text[512], room[NAME_ROOM];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return graft_fail(status, "%s: %s at offset %" PRIu64 ": %s", p->reader.file, entry_text(p, room), offset, text);
}

// The next `bytes` of the header, inside the file and inside the cap.
static enum graft_status take(struct parser *p, uint64_t bytes, const uint8_t **out, const char *what)
{
    struct graft_reader *reader = &p->reader;
    uint64_t left = reader->size - reader->position;
    if (bytes > left) {
        return bad(p, GRAFT_E_FORMAT, reader->position, "%s needs %" PRIu64 " bytes, the file has %" PRIu64 " left", what,
                   bytes, left);
    }
    if (bytes > GRAFT_GGUF_MAX_HEADER_BYTES - reader->position) {
        return bad(p, GRAFT_E_LIMIT, reader->position, "%s ends behind the first %d bytes, the most allowed for a header", what,
                   GRAFT_GGUF_MAX_HEADER_BYTES);
    }
    *out = reader->data + reader->position;
    reader->position += bytes;
    return GRAFT_OK;
}

static enum graft_status take_u32(struct parser *p, uint32_t *out, const char *what)
{
    const uint8_t *data;
    GRAFT_TRY(take(p, 4, &data, what));
    *out = graft_load_u32(data);
    return GRAFT_OK;
}

static enum graft_status take_u64(struct parser *p, uint64_t *out, const char *what)
{
    const uint8_t *data;
    GRAFT_TRY(take(p, 8, &data, what));
    *out = graft_load_u64(data);
    return GRAFT_OK;
}

// A name of 1 to `most` bytes.
static enum graft_status take_name(struct parser *p, uint64_t most, struct graft_text *out)
{
    uint64_t offset = p->reader.position, length;
    const uint8_t *data;
    GRAFT_TRY(take_u64(p, &length, "the name's length"));
    if (length == 0 || length > most) {
        return bad(p, length > most && length <= p->reader.size ? GRAFT_E_LIMIT : GRAFT_E_FORMAT, offset,
                   "the name has %" PRIu64 " bytes, allowed are 1 to %" PRIu64, length, most);
    }
    GRAFT_TRY(take(p, length, &data, "the name"));
    out->data = (const char *)data;
    out->length = length;
    return GRAFT_OK;
}

static struct graft_text entry_name(const struct graft_gguf *gguf, bool tensor, uint64_t i)
{
    return tensor ? gguf->tensors[i].name : gguf->keys[i].name;
}

uint32_t *graft_gguf_slot(const struct graft_gguf *gguf, bool tensor, const char *name, uint64_t length)
{
    const struct graft_gguf_index *index = gguf->index;
    const struct graft_gguf_table *table = tensor ? &index->tensors : &index->keys;
    uint8_t hash[crypto_shorthash_BYTES];
    crypto_shorthash(hash, (const unsigned char *)name, length, index->seed);
    for (uint64_t at = graft_load_u64(hash) & table->mask;; at = (at + 1) & table->mask) {
        uint32_t held = table->slots[at];
        if (held == 0) {
            return &table->slots[at];
        }
        struct graft_text other = entry_name(gguf, tensor, held - 1);
        if (other.length == length && memcmp(other.data, name, (size_t)length) == 0) {
            return &table->slots[at];
        }
    }
}

enum graft_status graft_gguf_make_table(struct graft_ctx *ctx, struct graft_gguf_table *table, uint64_t entries)
{
    uint64_t slots = 4;
    while (slots < 2 * entries) {
        slots *= 2;
    }
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &table->slots, slots, "index of a GGUF file"));
    table->mask = slots - 1;
    return GRAFT_OK;
}

// Enter p->name as entry p->number; refuse a name that was there before.
static enum graft_status enter(struct parser *p, bool tensor)
{
    uint32_t *slot = graft_gguf_slot(p->gguf, tensor, p->name.data, p->name.length);
    if (*slot) {
        return bad(p, GRAFT_E_FORMAT, p->entry_offset, "the name appears twice, first as %s number %u", p->kind, *slot - 1);
    }
    *slot = (uint32_t)p->number + 1;
    return GRAFT_OK;
}

static enum graft_status skip_string(struct parser *p, const char *what)
{
    uint64_t offset = p->reader.position, length;
    const uint8_t *data;
    GRAFT_TRY(take_u64(p, &length, what));
    if (length > GRAFT_GGUF_MAX_STRING_BYTES && length <= p->reader.size - p->reader.position) {
        return bad(p, GRAFT_E_LIMIT, offset, "%s has %" PRIu64 " bytes, allowed are %d", what, length,
                   GRAFT_GGUF_MAX_STRING_BYTES);
    }
    return take(p, length, &data, what);
}

// `count` values of a type that is no array.
static enum graft_status skip_values(struct parser *p, enum graft_gguf_value_type type, uint64_t count)
{
    if (type == GRAFT_GGUF_STRING) {
        for (uint64_t i = 0; i < count; i++) {
            GRAFT_TRY(skip_string(p, "the string"));
        }
        return GRAFT_OK;
    }
    uint64_t bytes, offset = p->reader.position;
    const uint8_t *data;
    if (!graft_mul_u64(count, graft_gguf_value_bytes(type), &bytes)) {
        return bad(p, GRAFT_E_FORMAT, offset, "%" PRIu64 " items overflow", count);
    }
    GRAFT_TRY(take(p, bytes, &data, "the value"));
    if (type == GRAFT_GGUF_BOOL) {
        for (uint64_t i = 0; i < count; i++) {
            if (data[i] > 1) {
                return bad(p, GRAFT_E_FORMAT, offset + i, "a bool is %u, allowed are 0 and 1", data[i]);
            }
        }
    }
    return GRAFT_OK;
}

static enum graft_status take_value_type(struct parser *p, enum graft_gguf_value_type *out, const char *what)
{
    uint64_t offset = p->reader.position;
    uint32_t type;
    GRAFT_TRY(take_u32(p, &type, what));
    if (type > GRAFT_GGUF_F64) {
        return bad(p, GRAFT_E_FORMAT, offset, "%s is %u, allowed are 0 to 12", what, type);
    }
    *out = (enum graft_gguf_value_type)type;
    return GRAFT_OK;
}

static enum graft_status read_key(struct parser *p, struct graft_gguf_key *key)
{
    struct graft_text name;
    GRAFT_TRY(take_name(p, GRAFT_GGUF_MAX_KEY_BYTES, &name));
    for (uint64_t i = 0; i < name.length; i++) {
        uint8_t c = (uint8_t)name.data[i];
        if (c < 0x20 || c == 0x7f) {
            return bad(p, GRAFT_E_FORMAT, p->entry_offset, "byte %" PRIu64 " of the name is the control character 0x%02x", i,
                       c);
        }
    }
    if (!graft_utf8_valid((const uint8_t *)name.data, name.length)) {
        return bad(p, GRAFT_E_FORMAT, p->entry_offset, "the name is not UTF-8");
    }
    p->name = key->name = name;
    GRAFT_TRY(enter(p, false));

    GRAFT_TRY(take_value_type(p, &key->type, "the value type"));
    key->item_type = key->type;
    key->count = 1;
    if (key->type == GRAFT_GGUF_ARRAY) {
        uint64_t offset = p->reader.position;
        GRAFT_TRY(take_value_type(p, &key->item_type, "the item type"));
        if (key->item_type == GRAFT_GGUF_ARRAY) {
            return bad(p, GRAFT_E_UNSUPPORTED, offset, "an array of arrays, allowed are arrays of numbers, bools and strings");
        }
        GRAFT_TRY(take_u64(p, &key->count, "the number of items"));
        uint32_t item = graft_gguf_value_bytes(key->item_type);
        uint64_t left = p->reader.size - p->reader.position, fit = left / (item ? item : 8); // a string has at least its length
        if (key->count > fit) {
            return bad(p, GRAFT_E_FORMAT, offset + 4, "the array has %" PRIu64 " items of type %s, the file's last %" PRIu64
                       " bytes hold at most %" PRIu64, key->count, graft_gguf_value_name(key->item_type), left, fit);
        }
        if (key->count > GRAFT_GGUF_MAX_ARRAY) {
            return bad(p, GRAFT_E_LIMIT, offset + 4, "the array has %" PRIu64 " items, allowed are %d", key->count,
                       GRAFT_GGUF_MAX_ARRAY);
        }
    }
    key->offset = p->reader.position;
    key->data = p->reader.data + p->reader.position;
    GRAFT_TRY(skip_values(p, key->item_type, key->count));
    key->bytes = p->reader.position - key->offset;
    return GRAFT_OK;
}

static enum graft_status check_type(struct parser *p, const struct graft_gguf_tensor *tensor, uint64_t offset)
{
    const char *type_name = graft_type_gguf_name(tensor->type);
    if (!type_name) {
        return bad(p, GRAFT_E_FORMAT, offset, "type %u is unknown or was removed from GGUF, supported: %s", tensor->type,
                   GRAFT_TYPE_NAMES);
    }
    uint32_t block_values, block_bytes;
    if (!graft_type_gguf_block(tensor->type, &block_values, &block_bytes) ||
        (!p->allow_unknown_types && !graft_type_info(tensor->type))) {
        return bad(p, GRAFT_E_UNSUPPORTED, offset, "type %s (%u) is not supported, supported: %s", type_name, tensor->type,
                   GRAFT_TYPE_NAMES);
    }
    return GRAFT_OK;
}

static enum graft_status read_tensor(struct parser *p, struct graft_gguf_tensor *tensor)
{
    struct graft_text name;
    GRAFT_TRY(take_name(p, GRAFT_GGUF_MAX_NAME_BYTES, &name));
    for (uint64_t i = 0; i < name.length; i++) {
        uint8_t c = (uint8_t)name.data[i];
        if (c < 0x20 || c > 0x7e) {
            return bad(p, GRAFT_E_FORMAT, p->entry_offset, "byte %" PRIu64 " of the name is 0x%02x, allowed is printable ASCII",
                       i, c);
        }
    }
    p->name = tensor->name = name;
    GRAFT_TRY(enter(p, true));

    uint64_t offset = p->reader.position;
    GRAFT_TRY(take_u32(p, &tensor->n_dims, "the number of dimensions"));
    if (tensor->n_dims < 1 || tensor->n_dims > GRAFT_GGUF_MAX_DIMS) {
        return bad(p, GRAFT_E_FORMAT, offset, "%u dimensions, allowed are 1 to %d", tensor->n_dims, GRAFT_GGUF_MAX_DIMS);
    }
    for (uint32_t k = 0; k < GRAFT_GGUF_MAX_DIMS; k++) {
        tensor->dims[k] = 1;
        if (k < tensor->n_dims) {
            offset = p->reader.position;
            GRAFT_TRY(take_u64(p, &tensor->dims[k], "a dimension"));
            if (tensor->dims[k] == 0 || tensor->dims[k] > INT64_MAX) {
                return bad(p, GRAFT_E_FORMAT, offset, "dimension %u is %" PRIu64 ", allowed are 1 to 2^63 - 1", k,
                           tensor->dims[k]);
            }
        }
    }
    offset = p->reader.position;
    GRAFT_TRY(take_u32(p, &tensor->type, "the type"));
    GRAFT_TRY(check_type(p, tensor, offset));
    uint32_t block_values, block_bytes;
    (void)graft_type_gguf_block(tensor->type, &block_values, &block_bytes);
    if (tensor->dims[0] % block_values) {
        return bad(p, GRAFT_E_FORMAT, offset, "a row has %" PRIu64 " values, type %s needs a multiple of %u", tensor->dims[0],
                   graft_type_gguf_name(tensor->type), block_values);
    }
    uint64_t bytes;
    bool fits = graft_mul_u64(tensor->dims[0] / block_values, block_bytes, &bytes);
    for (uint32_t k = 1; k < GRAFT_GGUF_MAX_DIMS; k++) {
        fits = fits && graft_mul_u64(bytes, tensor->dims[k], &bytes);
    }
    if (!fits) {
        return bad(p, GRAFT_E_FORMAT, p->entry_offset, "the product of the dimensions %" PRIu64 " x %" PRIu64 " x %" PRIu64
                   " x %" PRIu64 " overflows", tensor->dims[0], tensor->dims[1], tensor->dims[2], tensor->dims[3]);
    }
    tensor->bytes = bytes;
    return take_u64(p, &tensor->offset, "the data offset"); // still relative to the data section
}

// Tensor data must lie one after the other in table order, each at the next multiple of the alignment: then nothing overlaps
// and nothing is hidden between them. Makes the offsets absolute.
static enum graft_status place_tensors(struct parser *p)
{
    struct graft_gguf *gguf = p->gguf;
    uint64_t size = p->reader.size, expected = 0;
    p->kind = "tensor";
    for (uint64_t i = 0; i < gguf->n_tensors; i++) {
        struct graft_gguf_tensor *tensor = &gguf->tensors[i];
        uint64_t begin, end;
        p->number = i;
        p->name = tensor->name;
        if (tensor->offset % gguf->alignment) {
            return bad(p, GRAFT_E_FORMAT, tensor->offset,
                       "the offset in the data section is no multiple of the alignment %" PRIu64, gguf->alignment);
        }
        if (!graft_add_u64(gguf->data_offset, tensor->offset, &begin) || !graft_add_u64(begin, tensor->bytes, &end) ||
            end > size) {
            return bad(p, GRAFT_E_FORMAT, tensor->offset, "%" PRIu64 " bytes in the data section (which starts at %" PRIu64
                       ") end behind the file's %" PRIu64 " bytes: the file is cut short or damaged",
                       tensor->bytes, gguf->data_offset, size);
        }
        if (tensor->offset < expected) {
            return bad(p, GRAFT_E_FORMAT, tensor->offset,
                       "overlaps the tensor before it in the data section, expected offset %" PRIu64, expected);
        }
        if (tensor->offset > expected) {
            return bad(p, GRAFT_E_FORMAT, tensor->offset, "leaves a hole of %" PRIu64
                       " bytes in the data section, expected offset %" PRIu64, tensor->offset - expected, expected);
        }
        gguf->data_bytes = tensor->offset + tensor->bytes;
        if (!graft_align_u64(gguf->data_bytes, gguf->alignment, &expected)) {
            return bad(p, GRAFT_E_FORMAT, tensor->offset, "its end overflows");
        }
        tensor->offset = begin;
    }
    uint64_t file_end = gguf->data_offset + expected;
    if (size > file_end) {
        p->index->trailing_bytes = size - file_end;
        graft_log(gguf->ctx, GRAFT_LOG_WARN, "%s: %" PRIu64 " bytes behind the last tensor are ignored", p->reader.file,
                  size - file_end);
    }
    return GRAFT_OK;
}

// Magic, version and the two counts.
static enum graft_status read_fixed(struct parser *p)
{
    struct graft_gguf *gguf = p->gguf;
    const uint8_t *data = p->reader.data;
    uint64_t size = p->reader.size;
    const char *file = p->reader.file;
    if (size < 4 || memcmp(data, "GGUF", 4) != 0) {
        const char *guess = graft_magic_guess(data, size);
        if (guess) {
            return graft_fail(GRAFT_E_FORMAT, "%s: is not a GGUF file, it looks like %s", file, guess);
        }
        if (size < FIXED_BYTES) {
            return graft_fail(GRAFT_E_FORMAT, "%s: is not a GGUF file: too short, %" PRIu64 " bytes, at least %d are needed",
                              file, size, FIXED_BYTES);
        }
        return graft_fail(GRAFT_E_FORMAT,
                          "%s: is not a GGUF file: it starts with %02x %02x %02x %02x at offset 0, not with \"GGUF\"", file,
                          data[0], data[1], data[2], data[3]);
    }
    if (size < FIXED_BYTES) {
        return graft_fail(GRAFT_E_FORMAT, "%s: is too short for a GGUF file: %" PRIu64 " bytes, at least %d are needed", file,
                          size, FIXED_BYTES);
    }
    gguf->version = graft_load_u32(data + 4);
    if (gguf->version != 2 && gguf->version != 3) {
        if ((gguf->version & 0xffff) == 0 && gguf->version != 0) {
            return graft_fail(GRAFT_E_UNSUPPORTED,
                              "%s: is a big-endian GGUF file (version 0x%08x at offset 4), only little-endian ones "
                              "are supported",
                              file, gguf->version);
        }
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s: GGUF version %u at offset 4, supported are 2 and 3", file, gguf->version);
    }
    gguf->n_tensors = graft_load_u64(data + 8);
    gguf->n_keys = graft_load_u64(data + 16);
    p->reader.position = FIXED_BYTES;
    uint64_t left = size - FIXED_BYTES, key_bytes, tensor_bytes, least;
    if (!graft_mul_u64(gguf->n_keys, MIN_KEY_BYTES, &key_bytes) || key_bytes > left) {
        return graft_fail(GRAFT_E_FORMAT, "%s: the number of keys %" PRIu64 " at offset 16 exceeds the file: its %" PRIu64
                          " bytes hold at most %" PRIu64, file, gguf->n_keys, size, left / MIN_KEY_BYTES);
    }
    if (!graft_mul_u64(gguf->n_tensors, MIN_TENSOR_BYTES, &tensor_bytes) || !graft_add_u64(key_bytes, tensor_bytes, &least) ||
        least > left) {
        return graft_fail(GRAFT_E_FORMAT, "%s: the number of tensors %" PRIu64 " at offset 8 exceeds the file: its %" PRIu64
                          " bytes hold at most %" PRIu64 " besides the keys", file, gguf->n_tensors, size,
                          (left - key_bytes) / MIN_TENSOR_BYTES);
    }
    if (gguf->n_keys > GRAFT_GGUF_MAX_KEYS) {
        return graft_fail(GRAFT_E_LIMIT, "%s: %" PRIu64 " keys at offset 16, allowed are %d", file, gguf->n_keys,
                          GRAFT_GGUF_MAX_KEYS);
    }
    if (gguf->n_tensors > GRAFT_GGUF_MAX_TENSORS) {
        return graft_fail(GRAFT_E_LIMIT, "%s: %" PRIu64 " tensors at offset 8, allowed are %d", file, gguf->n_tensors,
                          GRAFT_GGUF_MAX_TENSORS);
    }
    return GRAFT_OK;
}

// The keys that say how the container itself is to be read.
static enum graft_status read_container_keys(struct parser *p)
{
    struct graft_gguf *gguf = p->gguf;
    gguf->alignment = DEFAULT_ALIGNMENT;
    const struct graft_gguf_key *key = graft_gguf_find(gguf, "general.alignment");
    if (key) {
        p->name = key->name;
        if (key->type != GRAFT_GGUF_U32) {
            return bad(p, GRAFT_E_FORMAT, key->offset, "the type is %s, it must be u32", graft_gguf_value_name(key->type));
        }
        gguf->alignment = graft_load_u32(key->data);
        if (gguf->alignment < MIN_ALIGNMENT || gguf->alignment > MAX_ALIGNMENT || (gguf->alignment & (gguf->alignment - 1))) {
            return bad(p, GRAFT_E_FORMAT, key->offset, "the alignment is %" PRIu64 ", allowed are powers of 2 from %d to %d",
                       gguf->alignment, MIN_ALIGNMENT, MAX_ALIGNMENT);
        }
    }
    GRAFT_TRY(graft_gguf_u32_or(gguf, "split.count", 0, &p->index->split_count));
    return GRAFT_OK;
}

static enum graft_status parse(struct parser *p)
{
    struct graft_gguf *gguf = p->gguf;
    struct graft_ctx *ctx = gguf->ctx;
    if (sodium_init() < 0) {
        return graft_fail(GRAFT_E_INTERNAL, "libsodium cannot be initialized");
    }
    GRAFT_TRY(read_fixed(p));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &gguf->keys, gguf->n_keys, "keys of a GGUF file"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &gguf->tensors, gguf->n_tensors, "tensor table of a GGUF file"));
    GRAFT_TRY(graft_gguf_make_table(ctx, &p->index->keys, gguf->n_keys));
    GRAFT_TRY(graft_gguf_make_table(ctx, &p->index->tensors, gguf->n_tensors));
    randombytes_buf(p->index->seed, sizeof p->index->seed);

    p->kind = "key";
    for (p->number = 0; p->number < gguf->n_keys; p->number++) {
        p->entry_offset = p->reader.position;
        p->name = (struct graft_text){NULL, 0};
        GRAFT_TRY(read_key(p, &gguf->keys[p->number]));
    }
    GRAFT_TRY(read_container_keys(p));
    p->kind = "tensor";
    for (p->number = 0; p->number < gguf->n_tensors; p->number++) {
        p->entry_offset = p->reader.position;
        p->name = (struct graft_text){NULL, 0};
        GRAFT_TRY(read_tensor(p, &gguf->tensors[p->number]));
    }
    if (!graft_align_u64(p->reader.position, gguf->alignment, &gguf->data_offset)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: the start of the data section overflows", p->reader.file);
    }
    return place_tensors(p);
}

enum graft_status graft_gguf_open_map(struct graft_ctx *ctx, struct graft_gguf **out, struct graft_map map, const char *path,
                                      bool allow_unknown_types, bool borrowed)
{
    struct graft_gguf *gguf = NULL;
    struct graft_gguf_index *index = NULL;
    enum graft_status status;
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &gguf, 1, "a GGUF file"), status, failed);
    gguf->ctx = ctx;
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &index, 1, "index of a GGUF file"), status, failed);
    gguf->index = index;
    gguf->map = map;
    index->borrowed = borrowed;
    GRAFT_TRY_OUT(graft_strdup(ctx, &gguf->path, path, strlen(path)), status, failed);
    struct parser parser = {
        .gguf = gguf, .index = index, .allow_unknown_types = allow_unknown_types, .kind = "file",
        .reader = {.data = map.data, .size = map.size, .file = gguf->path},
    };
    index->only = (struct graft_gguf_part){.path = gguf->path, .bytes = map.size};
    gguf->parts = &index->only;
    gguf->n_parts = 1;
    status = parse(&parser);
    if (graft_map_damaged(&map)) { // whatever the parser thought of the zeros
        status = graft_gguf_check_intact(gguf);
    }
    if (status != GRAFT_OK) {
        goto failed;
    }
    *out = gguf;
    return GRAFT_OK;
failed:
    if (index) {
        graft_gguf_close(&gguf);
    } else {
        GRAFT_FREE(ctx, &gguf);
        if (!borrowed) {
            graft_map_close(&map);
        }
    }
    return status;
}

enum graft_status graft_gguf_open_memory(struct graft_ctx *ctx, struct graft_gguf **out, const uint8_t *data, uint64_t size,
                                         const char *name, bool allow_unknown_types)
{
    *out = NULL;
    struct graft_map map = {.data = data, .size = size};
    GRAFT_TRY(graft_gguf_open_map(ctx, out, map, name, allow_unknown_types, true));
    uint32_t parts = ((struct graft_gguf_index *)(*out)->index)->split_count;
    if (parts > 1) {
        graft_gguf_close(out);
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s: split.count is %u: one part of a split model in memory is not a model",
                          name, parts);
    }
    return GRAFT_OK;
}

enum graft_status graft_gguf_check_intact(const struct graft_gguf *gguf)
{
    return !graft_map_damaged(&gguf->map)
               ? GRAFT_OK
               : graft_fail(GRAFT_E_IO, "%s: was cut short or could not be read while it was in use", gguf->path);
}

void graft_gguf_close(struct graft_gguf **gguf)
{
    if (!gguf || !*gguf) {
        return;
    }
    struct graft_gguf *g = *gguf;
    struct graft_ctx *ctx = g->ctx;
    struct graft_gguf_index *index = g->index;
    if (!index->borrowed) {
        graft_map_close(&g->map);
    }
    for (uint32_t i = 0; g->parts != &index->only && i < g->n_parts; i++) {
        GRAFT_FREE(ctx, &g->parts[i].path);
    }
    if (g->parts != &index->only) {
        GRAFT_FREE(ctx, &g->parts);
    }
    GRAFT_FREE(ctx, &index->keys.slots);
    GRAFT_FREE(ctx, &index->tensors.slots);
    GRAFT_FREE(ctx, &index);
    GRAFT_FREE(ctx, &g->keys);
    GRAFT_FREE(ctx, &g->tensors);
    GRAFT_FREE(ctx, &g->path);
    GRAFT_FREE(ctx, gguf);
}

const struct graft_gguf_key *graft_gguf_find(const struct graft_gguf *gguf, const char *name)
{
    uint32_t held = *graft_gguf_slot(gguf, false, name, strlen(name));
    return held ? &gguf->keys[held - 1] : NULL;
}

const struct graft_gguf_tensor *graft_gguf_tensor(const struct graft_gguf *gguf, const char *name)
{
    uint32_t held = *graft_gguf_slot(gguf, true, name, strlen(name));
    return held ? &gguf->tensors[held - 1] : NULL;
}

uint64_t graft_gguf_trailing_bytes(const struct graft_gguf *gguf)
{
    return ((const struct graft_gguf_index *)gguf->index)->trailing_bytes;
}
