// SPDX-License-Identifier: Apache-2.0
#include "support/gguf_builder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loaders/gguf.h"

static void die(const char *why)
{
    fprintf(stderr, "gguf builder: %s\n", why);
    abort();
}

static void add(struct graft_test_bytes *bytes, const void *data, size_t count)
{
    if (count == 0) {
        return;
    }
    if (bytes->size + count > bytes->room) {
        bytes->room = 2 * (bytes->size + count) + 256;
        bytes->data = realloc(bytes->data, bytes->room);
        if (!bytes->data) {
            die("no memory");
        }
    }
    if (data) {
        memcpy(bytes->data + bytes->size, data, count);
    } else {
        memset(bytes->data + bytes->size, 0, count);
    }
    bytes->size += count;
}

// Little-endian, whatever the machine.
static void add_u(struct graft_test_bytes *bytes, uint64_t value, size_t count)
{
    uint8_t raw[8];
    for (size_t i = 0; i < count; i++) {
        raw[i] = (uint8_t)(value >> 8 * i);
    }
    add(bytes, raw, count);
}

static void add_text(struct graft_test_bytes *bytes, const char *text)
{
    add_u(bytes, strlen(text), 8);
    add(bytes, text, strlen(text));
}

void graft_test_gguf_key(struct graft_test_gguf *b, const char *name, uint32_t type, const void *value, size_t bytes)
{
    if (b->n_keys < GRAFT_TEST_GGUF_MARKS) {
        b->key_at[b->n_keys] = 24 + b->keys.size;
    }
    b->n_keys++;
    add_text(&b->keys, name);
    add_u(&b->keys, type, 4);
    add(&b->keys, value, bytes);
}

void graft_test_gguf_array(struct graft_test_gguf *b, const char *name, uint32_t item_type, uint64_t count, const void *items,
                           size_t bytes)
{
    graft_test_gguf_key(b, name, 9, NULL, 0);
    add_u(&b->keys, item_type, 4);
    add_u(&b->keys, count, 8);
    add(&b->keys, items, bytes);
}

void graft_test_gguf_u32(struct graft_test_gguf *b, const char *name, uint32_t value)
{
    graft_test_gguf_key(b, name, 4, NULL, 0);
    add_u(&b->keys, value, 4);
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

void graft_test_gguf_f32(struct graft_test_gguf *b, const char *name, float value)
{
    graft_test_gguf_key(b, name, 6, NULL, 0);
    add_u(&b->keys, bits_of(value), 4);
}

void graft_test_gguf_bool(struct graft_test_gguf *b, const char *name, bool value)
{
    graft_test_gguf_key(b, name, 7, NULL, 0);
    add_u(&b->keys, value, 1);
}

void graft_test_gguf_text(struct graft_test_gguf *b, const char *name, const char *value)
{
    graft_test_gguf_key(b, name, 8, NULL, 0);
    add_text(&b->keys, value);
}

void graft_test_gguf_texts(struct graft_test_gguf *b, const char *name, const char *const *items, uint64_t count)
{
    graft_test_gguf_array(b, name, 8, count, NULL, 0);
    for (uint64_t i = 0; i < count; i++) {
        add_text(&b->keys, items[i]);
    }
}

void graft_test_gguf_f32s(struct graft_test_gguf *b, const char *name, const float *items, uint64_t count)
{
    graft_test_gguf_array(b, name, 6, count, NULL, 0);
    for (uint64_t i = 0; i < count; i++) {
        add_u(&b->keys, bits_of(items[i]), 4);
    }
}

void graft_test_gguf_i32s(struct graft_test_gguf *b, const char *name, const int32_t *items, uint64_t count)
{
    graft_test_gguf_array(b, name, 5, count, NULL, 0);
    for (uint64_t i = 0; i < count; i++) {
        add_u(&b->keys, (uint32_t)items[i], 4);
    }
}

static void pad(struct graft_test_bytes *bytes, size_t alignment)
{
    add(bytes, NULL, (alignment - bytes->size % alignment) % alignment);
}

void graft_test_gguf_tensor(struct graft_test_gguf *b, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *dims,
                            const void *data, size_t bytes)
{
    if (b->n_tensors < GRAFT_TEST_GGUF_MARKS) {
        b->tensor_at[b->n_tensors] = b->tensors.size; // made absolute by finish
    }
    b->n_tensors++;
    add_text(&b->tensors, name);
    add_u(&b->tensors, n_dims, 4);
    for (uint32_t i = 0; i < n_dims; i++) {
        add_u(&b->tensors, dims[i], 8);
    }
    pad(&b->data, b->alignment ? b->alignment : 32);
    add_u(&b->tensors, type, 4);
    add_u(&b->tensors, b->data.size, 8);
    add(&b->data, data, bytes);
}

void graft_test_gguf_finish(struct graft_test_gguf *b)
{
    if (b->file) {
        die("finished twice");
    }
    struct graft_test_bytes file = {0};
    size_t alignment = b->alignment ? b->alignment : 32;
    add(&file, "GGUF", 4);
    add_u(&file, b->version ? b->version : 3, 4);
    add_u(&file, b->n_tensors, 8);
    add_u(&file, b->n_keys, 8);
    add(&file, b->keys.data, b->keys.size);
    for (size_t i = 0; i < b->n_tensors && i < GRAFT_TEST_GGUF_MARKS; i++) {
        b->tensor_at[i] += file.size;
    }
    add(&file, b->tensors.data, b->tensors.size);
    if (b->data.size) {
        pad(&file, alignment);
    }
    b->data_offset = file.size;
    add(&file, b->data.data, b->data.size);
    b->file = file.data;
    b->file_size = file.size;
}

void graft_test_gguf_patch(struct graft_test_gguf *b, size_t offset, const void *bytes, size_t count)
{
    if (!b->file || offset > b->file_size || count > b->file_size - offset) {
        die("patch outside the file");
    }
    memcpy(b->file + offset, bytes, count);
}

void graft_test_gguf_patch_u32(struct graft_test_gguf *b, size_t offset, uint32_t value)
{
    struct graft_test_bytes raw = {0};
    add_u(&raw, value, 4);
    graft_test_gguf_patch(b, offset, raw.data, 4);
    free(raw.data);
}

void graft_test_gguf_patch_u64(struct graft_test_gguf *b, size_t offset, uint64_t value)
{
    struct graft_test_bytes raw = {0};
    add_u(&raw, value, 8);
    graft_test_gguf_patch(b, offset, raw.data, 8);
    free(raw.data);
}

void graft_test_gguf_save(const struct graft_test_gguf *b, const char *path)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(b->file, 1, b->file_size, file) != b->file_size || fclose(file) != 0) {
        die("the file cannot be written");
    }
}

static const char *walk_key(const struct graft_gguf *gguf, const struct graft_gguf_key *key)
{
    char name[GRAFT_GGUF_MAX_KEY_BYTES + 1] = {0};
    if (key->name.length == 0 || key->name.length >= sizeof name) {
        return "the length of a key's name";
    }
    memcpy(name, key->name.data, (size_t)key->name.length);
    if (graft_gguf_find(gguf, name) != key) {
        return "a key is not found by its name";
    }
    if (key->data != gguf->map.data + key->offset || key->offset > gguf->map.size ||
        key->bytes > gguf->map.size - key->offset) {
        return "a value outside the file";
    }
    volatile uint8_t sum = 0; // touch every byte: a sanitizer would speak
    for (uint64_t i = 0; i < key->bytes; i++) {
        sum = (uint8_t)(sum + key->data[i]);
    }
    uint64_t cursor = 0;
    for (uint64_t i = 0; i < key->count; i++) {
        struct graft_text text;
        double real;
        int64_t whole;
        if (key->item_type == GRAFT_GGUF_STRING) {
            if (graft_gguf_next_text(gguf, key, &cursor, &text) != GRAFT_OK) {
                break; // not UTF-8
            }
            if (cursor > key->bytes) {
                return "a string outside its value";
            }
        } else if (key->type == GRAFT_GGUF_ARRAY) {
            (void)!graft_gguf_item_f64(gguf, key, i, &real);
            (void)!graft_gguf_item_i64(gguf, key, i, &whole);
        }
    }
    uint32_t u;
    float f;
    bool flag;
    struct graft_text text;
    (void)!graft_gguf_u32(gguf, name, &u);
    (void)!graft_gguf_f32(gguf, name, &f);
    (void)!graft_gguf_bool_or(gguf, name, false, &flag);
    (void)!graft_gguf_text(gguf, name, &text);
    return NULL;
}

const char *graft_test_gguf_walk(const struct graft_gguf *gguf)
{
    for (uint64_t i = 0; i < gguf->n_keys; i++) {
        const char *wrong = walk_key(gguf, &gguf->keys[i]);
        if (wrong) {
            return wrong;
        }
    }
    uint64_t last_end = gguf->data_offset;
    for (uint64_t i = 0; i < gguf->n_tensors; i++) {
        const struct graft_gguf_tensor *tensor = &gguf->tensors[i];
        char name[GRAFT_GGUF_MAX_NAME_BYTES + 1] = {0};
        if (tensor->name.length == 0 || tensor->name.length >= sizeof name) {
            return "the length of a tensor's name";
        }
        memcpy(name, tensor->name.data, (size_t)tensor->name.length);
        if (graft_gguf_tensor(gguf, name) != tensor) {
            return "a tensor is not found by its name";
        }
        if (tensor->bytes == 0 || tensor->offset > gguf->map.size || tensor->bytes > gguf->map.size - tensor->offset) {
            return "a tensor outside the file";
        }
        if (tensor->offset < last_end || tensor->offset % gguf->alignment) {
            return "tensors overlap or are not aligned";
        }
        last_end = tensor->offset + tensor->bytes;
        uint64_t row;
        if (graft_type_info(tensor->type) &&
            (!graft_type_row_bytes(tensor->type, tensor->dims[0], &row) ||
             row * tensor->dims[1] * tensor->dims[2] * tensor->dims[3] != tensor->bytes)) {
            return "a tensor's bytes are not those of its rows";
        }
    }
    return NULL;
}

void graft_test_gguf_free(struct graft_test_gguf *b)
{
    free(b->keys.data);
    free(b->tensors.data);
    free(b->data.data);
    free(b->file);
    memset(b, 0, sizeof *b);
}
