// SPDX-License-Identifier: Apache-2.0
// Looking into a GGUF file: tensors by number, keys as JSON.
#include <math.h>
#include <stdio.h>

#include "platform/bytes.h"
#include "runtime/session/session.h"

struct graft_file {
    struct graft_ctx *ctx;
    struct graft_gguf *gguf;
    char name[GRAFT_GGUF_MAX_KEY_BYTES + 1];
    char type[48];
    char *json; // of the last key
};

enum graft_status graft_file_open(struct graft_ctx *ctx, struct graft_file **out, const char *path)
{
    *out = NULL;
    struct graft_file *file;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &file, 1, "a file"));
    file->ctx = ctx;
    enum graft_status status = graft_gguf_open(ctx, &file->gguf, path, true);
    if (status != GRAFT_OK) {
        GRAFT_FREE(ctx, &file);
        return status;
    }
    *out = file;
    return GRAFT_OK;
}

void graft_file_close(struct graft_file **file)
{
    if (!file || !*file) {
        return;
    }
    struct graft_ctx *ctx = (*file)->ctx;
    graft_gguf_close(&(*file)->gguf);
    GRAFT_FREE(ctx, &(*file)->json);
    GRAFT_FREE(ctx, file);
}

uint64_t graft_file_tensor_count(const struct graft_file *file)
{
    return file->gguf->n_tensors;
}

uint64_t graft_file_key_count(const struct graft_file *file)
{
    return file->gguf->n_keys;
}

uint64_t graft_file_bytes(const struct graft_file *file)
{
    return graft_gguf_bytes(file->gguf);
}

uint32_t graft_file_part_count(const struct graft_file *file)
{
    return file->gguf->n_parts;
}

enum graft_status graft_file_part(const struct graft_file *file, uint32_t index, const char **path, uint64_t *bytes)
{
    if (index >= file->gguf->n_parts) {
        return graft_fail(GRAFT_E_ARGUMENT, "part %u was asked for, the model has %u", index, file->gguf->n_parts);
    }
    *path = file->gguf->parts[index].path;
    *bytes = file->gguf->parts[index].bytes;
    return GRAFT_OK;
}

uint32_t graft_file_version(const struct graft_file *file)
{
    return file->gguf->version;
}

static void copy_name(struct graft_file *file, struct graft_text name)
{
    size_t length = name.length < sizeof file->name ? (size_t)name.length : sizeof file->name - 1;
    memcpy(file->name, name.data, length);
    file->name[length] = '\0';
}

enum graft_status graft_file_tensor(struct graft_file *file, uint64_t index, struct graft_file_tensor *out)
{
    if (index >= file->gguf->n_tensors) {
        return graft_fail(GRAFT_E_ARGUMENT, "tensor %" PRIu64 " was asked for, the file has %" PRIu64, index,
                          file->gguf->n_tensors);
    }
    const struct graft_gguf_tensor *tensor = &file->gguf->tensors[index];
    copy_name(file, tensor->name);
    const char *type = graft_type_gguf_name(tensor->type);
    uint32_t part = graft_gguf_part_of(file->gguf, tensor);
    *out = (struct graft_file_tensor){.name = file->name,
                                      .type = type ? type : "?",
                                      .n_dims = tensor->n_dims,
                                      .offset = tensor->offset - file->gguf->parts[part].start,
                                      .part = part,
                                      .bytes = tensor->bytes,
                                      .supported = graft_type_info(tensor->type) != NULL};
    memcpy(out->dims, tensor->dims, sizeof out->dims);
    return GRAFT_OK;
}

enum graft_status graft_file_tensor_values(struct graft_file *file, uint64_t index, struct graft_tensor_values *out)
{
    if (index >= file->gguf->n_tensors) {
        return graft_fail(GRAFT_E_ARGUMENT, "tensor %" PRIu64 " was asked for, the file has %" PRIu64, index,
                          file->gguf->n_tensors);
    }
    return graft_gguf_tensor_values(file->gguf, &file->gguf->tensors[index], out);
}

// A number or bool at data as JSON; what JSON cannot hold becomes null.
static json_t *scalar(enum graft_gguf_value_type type, const uint8_t *p)
{
    float f;
    double d;
    uint64_t u;
    switch (type) {
    case GRAFT_GGUF_U8:
        return json_integer(p[0]);
    case GRAFT_GGUF_I8:
        return json_integer((int8_t)p[0]);
    case GRAFT_GGUF_U16:
        return json_integer(graft_load_u16(p));
    case GRAFT_GGUF_I16:
        return json_integer((int16_t)graft_load_u16(p));
    case GRAFT_GGUF_U32:
        return json_integer(graft_load_u32(p));
    case GRAFT_GGUF_I32:
        return json_integer((int32_t)graft_load_u32(p));
    case GRAFT_GGUF_BOOL:
        return json_boolean(p[0] != 0);
    case GRAFT_GGUF_I64:
        return json_integer((json_int_t)graft_load_u64(p));
    case GRAFT_GGUF_U64:
        u = graft_load_u64(p);
        return u <= INT64_MAX ? json_integer((json_int_t)u) : json_real((double)u);
    case GRAFT_GGUF_F32:
        memcpy(&f, p, sizeof f);
        return isfinite(f) ? json_real((double)f) : json_null();
    case GRAFT_GGUF_F64:
        memcpy(&d, p, sizeof d);
        return isfinite(d) ? json_real(d) : json_null();
    case GRAFT_GGUF_STRING:
    case GRAFT_GGUF_ARRAY:
        break;
    }
    return json_null();
}

// On failure *out may hold a part.
static enum graft_status build(const struct graft_file *file, const struct graft_gguf_key *key, uint64_t items, json_t **out)
{
    struct graft_text text;
    *out = NULL;
    if (key->type == GRAFT_GGUF_STRING) {
        uint64_t length = graft_load_u64(key->data);
        *out = json_stringn((const char *)key->data + 8, (size_t)length);
    } else if (key->type == GRAFT_GGUF_ARRAY) {
        *out = json_array();
        uint64_t cursor = 0;
        uint32_t stride = graft_gguf_value_bytes(key->item_type);
        for (uint64_t i = 0; i < items; i++) {
            json_t *item;
            if (key->item_type == GRAFT_GGUF_STRING) {
                GRAFT_TRY(graft_gguf_next_text(file->gguf, key, &cursor, &text));
                item = json_stringn(text.data, (size_t)text.length);
            } else {
                item = scalar(key->item_type, key->data + i * stride);
            }
            if (json_array_append_new(*out, item) != 0) {
                return graft_fail(GRAFT_E_MEMORY, "no memory for the value of key %s", file->name);
            }
        }
    } else {
        *out = scalar(key->type, key->data);
    }
    return *out ? GRAFT_OK : graft_fail(GRAFT_E_MEMORY, "no memory for the value of key %s", file->name);
}

enum graft_status graft_file_key(struct graft_file *file, uint64_t index, uint32_t max_items, const char **name,
                                 const char **type, const char **json, bool *cut)
{
    if (index >= file->gguf->n_keys) {
        return graft_fail(GRAFT_E_ARGUMENT, "key %" PRIu64 " was asked for, the file has %" PRIu64, index, file->gguf->n_keys);
    }
    const struct graft_gguf_key *key = &file->gguf->keys[index];
    copy_name(file, key->name);
    bool array = key->type == GRAFT_GGUF_ARRAY;
    snprintf(file->type, sizeof file->type, "%s%s%s", graft_gguf_value_name(key->type), array ? " of " : "",
             array ? graft_gguf_value_name(key->item_type) : "");
    uint64_t items = array && key->count > max_items ? max_items : key->count;
    *cut = array && items < key->count;
    json_t *value;
    enum graft_status status = build(file, key, items, &value);
    GRAFT_FREE(file->ctx, &file->json);
    if (status == GRAFT_OK) {
        status = graft_json_text(file->ctx, value, &file->json);
    }
    json_decref(value);
    GRAFT_TRY(status);
    *name = file->name;
    *type = file->type;
    *json = file->json;
    return GRAFT_OK;
}
