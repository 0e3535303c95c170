// SPDX-License-Identifier: Apache-2.0
// The safetensors reader: header JSON -> checked list of tensors.
#include "loaders/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "loaders/magic.h"
#include "platform/bytes.h"

enum { LENGTH_BYTES = 8 };

enum graft_status graft_json_load(json_t **out, const char *text, uint64_t size, const char *file, const char *what)
{
    json_error_t error;
    *out = json_loadb(text, (size_t)size, JSON_REJECT_DUPLICATES, &error);
    if (*out) {
        return GRAFT_OK;
    }
    if (json_error_code(&error) == json_error_out_of_memory) {
        return graft_fail(GRAFT_E_MEMORY, "%s: no memory for %s", file, what);
    }
    // jansson quotes the file behind " near ": bytes that nobody has checked.
    char *quote = strstr(error.text, " near ");
    if (quote) {
        *quote = '\0';
    }
    return graft_fail(GRAFT_E_FORMAT, "%s: %s is not valid JSON at byte %d: %s", file, what, error.position, error.text);
}

// Names are shown in errors and logs: no control characters.
static bool plain_name(const char *name)
{
    for (const char *p = name; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            return false;
        }
    }
    return true;
}

static enum graft_status read_type(struct graft_safetensor *t, const json_t *value, const char *file, uint64_t *item_bytes)
{
    static const struct {
        const char *name;
        enum graft_type type;
        uint64_t bytes;
    } types[] = {{"F32", GRAFT_TYPE_F32, 4}, {"F16", GRAFT_TYPE_F16, 2}, {"BF16", GRAFT_TYPE_BF16, 2}};
    const char *name = json_string_value(value);
    if (!name) {
        return graft_fail(GRAFT_E_FORMAT, "%s: tensor %s has no dtype text", file, t->name);
    }
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i].name, name) == 0) {
            t->type = types[i].type;
            *item_bytes = types[i].bytes;
            return GRAFT_OK;
        }
    }
    return graft_fail(GRAFT_E_UNSUPPORTED, "%s: tensor %s has dtype %.16s, allowed are F32, F16 and BF16", file, t->name,
                      plain_name(name) ? name : "(unprintable)");
}

// A whole number >= 0 at [index] of a list.
static bool list_u64(const json_t *list, size_t index, uint64_t *out)
{
    const json_t *item = json_array_get(list, index);
    json_int_t value = json_integer_value(item);
    if (!json_is_integer(item) || value < 0) {
        return false;
    }
    *out = (uint64_t)value;
    return true;
}

// One entry of the header; data_bytes: what stands behind the header.
static enum graft_status read_tensor(struct graft_safetensor *t, const json_t *entry, const uint8_t *data, uint64_t data_bytes,
                                     const char *file)
{
    const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    uint64_t item_bytes, begin, end, values, bytes;
    if (!json_is_object(entry)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: tensor %s is no JSON object", file, t->name);
    }
    GRAFT_TRY(read_type(t, json_object_get(entry, "dtype"), file, &item_bytes));
    if (json_object_size(entry) != 3) {
        return graft_fail(GRAFT_E_FORMAT, "%s: tensor %s has %zu fields, allowed are dtype, shape and data_offsets", file,
                          t->name, json_object_size(entry));
    }
    if (!json_is_array(shape)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: tensor %s has no shape list", file, t->name);
    }
    if (json_array_size(shape) < 1 || json_array_size(shape) > 2) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s: tensor %s has %zu dimensions, allowed are 1 and 2", file, t->name,
                          json_array_size(shape));
    }
    t->n_dims = (uint32_t)json_array_size(shape);
    t->rows = 1;
    if (!list_u64(shape, t->n_dims - 1, &t->cols) || (t->n_dims == 2 && !list_u64(shape, 0, &t->rows)) || !t->cols ||
        !t->rows) {
        return graft_fail(GRAFT_E_FORMAT, "%s: tensor %s has a shape with something else than whole numbers above 0", file,
                          t->name);
    }
    if (json_array_size(offsets) != 2 || !list_u64(offsets, 0, &begin) || !list_u64(offsets, 1, &end)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: tensor %s has no data_offsets of two whole numbers", file, t->name);
    }
    if (begin > end || end > data_bytes) {
        return graft_fail(GRAFT_E_FORMAT,
                          "%s: tensor %s has data_offsets %" PRIu64 " to %" PRIu64 ", the file has %" PRIu64 " bytes of data",
                          file, t->name, begin, end, data_bytes);
    }
    if (!graft_mul_u64(t->rows, t->cols, &values) || !graft_mul_u64(values, item_bytes, &bytes) || bytes != end - begin) {
        return graft_fail(GRAFT_E_FORMAT,
                          "%s: tensor %s has %" PRIu64 " bytes of data, its shape %" PRIu64 " x %" PRIu64
                          " needs another number",
                          file, t->name, end - begin, t->rows, t->cols);
    }
    t->data = data + begin;
    t->bytes = bytes;
    return GRAFT_OK;
}

static enum graft_status check_metadata(const json_t *metadata, const char *file)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: __metadata__ is no JSON object", file);
    }
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value)
    {
        if (!json_is_string(value)) {
            return graft_fail(GRAFT_E_FORMAT, "%s: a value of __metadata__ is no text", file);
        }
    }
    return GRAFT_OK;
}

static int by_place(const void *left, const void *right)
{
    const struct graft_safetensor *a = left, *b = right;
    return (a->data > b->data) - (a->data < b->data);
}

static enum graft_status read_header(struct graft_safetensors *st, const uint8_t *data, uint64_t data_bytes, const char *file)
{
    if (json_object_size(st->header) > GRAFT_SAFETENSORS_MAX_TENSORS) {
        return graft_fail(GRAFT_E_LIMIT, "%s: has %zu tensors, allowed are %d", file, json_object_size(st->header),
                          GRAFT_SAFETENSORS_MAX_TENSORS);
    }
    GRAFT_TRY(
        GRAFT_NEW(st->ctx, GRAFT_MEM_HOST, &st->tensors, json_object_size(st->header), "a safetensors file's tensor list"));
    const char *name;
    json_t *entry;
    json_object_foreach(st->header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0) {
            GRAFT_TRY(check_metadata(entry, file));
            continue;
        }
        if (!*name || strlen(name) > GRAFT_SAFETENSORS_MAX_NAME || !plain_name(name)) {
            return graft_fail(GRAFT_E_FORMAT,
                              "%s: tensor %" PRIu64 " has a name of %zu bytes, allowed are 1 to %d, without control characters",
                              file, st->n_tensors, strlen(name), GRAFT_SAFETENSORS_MAX_NAME);
        }
        struct graft_safetensor *t = &st->tensors[st->n_tensors++];
        t->name = name;
        GRAFT_TRY(read_tensor(t, entry, data, data_bytes, file));
    }
    if (st->n_tensors > 1) {
        qsort(st->tensors, (size_t)st->n_tensors, sizeof *st->tensors, by_place);
    }
    uint64_t place = 0;
    for (uint64_t i = 0; i < st->n_tensors; i++) {
        const struct graft_safetensor *t = &st->tensors[i];
        uint64_t begin = (uint64_t)(t->data - data);
        if (begin != place) {
            return graft_fail(GRAFT_E_FORMAT,
                              "%s: tensor %s begins at byte %" PRIu64 " of the data, the tensors before it end at %" PRIu64,
                              file, t->name, begin, place);
        }
        place += t->bytes; // <= data_bytes: checked for each tensor
    }
    if (place != data_bytes) {
        return graft_fail(GRAFT_E_FORMAT, "%s: has %" PRIu64 " bytes of data, the tensors end at %" PRIu64, file, data_bytes,
                          place);
    }
    return GRAFT_OK;
}

enum graft_status graft_safetensors_open(struct graft_ctx *ctx, struct graft_safetensors **out, const uint8_t *image,
                                         uint64_t size, const char *file)
{
    *out = NULL;
    if (size < LENGTH_BYTES + 2) {
        return graft_fail(GRAFT_E_FORMAT, "%s: has %" PRIu64 " bytes, too short for a safetensors file", file, size);
    }
    uint64_t header = graft_load_u64(image);
    if (image[LENGTH_BYTES] != '{') {
        const char *guess = graft_magic_guess(image, size);
        return graft_fail(GRAFT_E_FORMAT, "%s: is no safetensors file: byte 8 does not open a JSON object%s%s", file,
                          guess ? "; it seems to be " : "", guess ? guess : "");
    }
    if (header > GRAFT_SAFETENSORS_MAX_HEADER) {
        return graft_fail(GRAFT_E_LIMIT, "%s: the header's length is given as %" PRIu64 " bytes, allowed are %d", file, header,
                          GRAFT_SAFETENSORS_MAX_HEADER);
    }
    if (header > size - LENGTH_BYTES) {
        return graft_fail(GRAFT_E_FORMAT,
                          "%s: the header's length is given as %" PRIu64 " bytes, the file has %" PRIu64 " behind it", file,
                          header, size - LENGTH_BYTES);
    }
    uint64_t items = 0;
    for (uint64_t i = 0; i < header; i++) {
        uint8_t c = image[LENGTH_BYTES + i];
        items += c == ',' || c == '{' || c == '[';
    }
    if (items > GRAFT_SAFETENSORS_MAX_ITEMS) {
        return graft_fail(GRAFT_E_LIMIT, "%s: the header has %" PRIu64 " items, allowed are %d", file, items,
                          GRAFT_SAFETENSORS_MAX_ITEMS);
    }
    struct graft_safetensors *st;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &st, 1, "a safetensors file"));
    st->ctx = ctx;
    enum graft_status status;
    GRAFT_TRY_OUT(graft_json_load(&st->header, (const char *)image + LENGTH_BYTES, header, file, "the header"), status, out);
    status = read_header(st, image + LENGTH_BYTES + header, size - LENGTH_BYTES - header, file);
out:
    if (status != GRAFT_OK) {
        graft_safetensors_close(&st);
    }
    *out = st;
    return status;
}

void graft_safetensors_close(struct graft_safetensors **st)
{
    if (!st || !*st) {
        return;
    }
    struct graft_ctx *ctx = (*st)->ctx;
    json_decref((*st)->header);
    GRAFT_FREE(ctx, &(*st)->tensors);
    GRAFT_FREE(ctx, st);
}
