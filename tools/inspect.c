// SPDX-License-Identifier: Apache-2.0
// graft inspect: what is in a GGUF file.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/tool.h"

// Tensors of one type, for the summary.
struct type_sum {
    char type[24];
    uint64_t tensors, bytes;
    bool supported;
};
enum { MOST_TYPES = 64 };

static enum graft_status sum_types(struct graft_file *file, struct type_sum sums[MOST_TYPES], size_t *count)
{
    *count = 0;
    for (uint64_t i = 0; i < graft_file_tensor_count(file); i++) {
        struct graft_file_tensor tensor;
        enum graft_status status = graft_file_tensor(file, i, &tensor);
        if (status != GRAFT_OK) {
            return status;
        }
        size_t k = 0;
        while (k < *count && strcmp(sums[k].type, tensor.type) != 0) {
            k++;
        }
        if (k == MOST_TYPES) {
            k--;
        } else if (k == *count) {
            sums[k] = (struct type_sum){.supported = tensor.supported};
            snprintf(sums[k].type, sizeof sums[k].type, "%s", tensor.type);
            (*count)++;
        }
        sums[k].tensors++;
        sums[k].bytes += tensor.bytes;
    }
    return GRAFT_OK;
}

static json_t *tensor_json(const struct graft_file_tensor *tensor)
{
    json_t *dims = json_array();
    for (uint32_t d = 0; d < tensor->n_dims && d < 4; d++) {
        json_array_append_new(dims, json_integer((json_int_t)tensor->dims[d]));
    }
    json_t *out = json_object();
    json_object_set_new(out, "name", json_text(tensor->name, strlen(tensor->name)));
    json_object_set_new(out, "type", json_string(tensor->type));
    json_object_set_new(out, "shape", dims);
    json_object_set_new(out, "offset", json_integer((json_int_t)tensor->offset));
    json_object_set_new(out, "bytes", json_integer((json_int_t)tensor->bytes));
    json_object_set_new(out, "part", json_integer((json_int_t)tensor->part));
    json_object_set_new(out, "supported", json_boolean(tensor->supported));
    return out;
}

static enum graft_status inspect_json(struct graft_file *file, uint32_t items, json_t **out)
{
    json_t *keys = json_object(), *tensors = json_array();
    *out = json_pack("{s:I, s:I, s:o, s:o}", "version", (json_int_t)graft_file_version(file), "bytes",
                     (json_int_t)graft_file_bytes(file), "keys", keys, "tensors", tensors);
    json_t *parts = json_array();
    json_object_set_new(*out, "parts", parts);
    for (uint32_t i = 0; i < graft_file_part_count(file); i++) {
        const char *path;
        uint64_t bytes;
        enum graft_status status = graft_file_part(file, i, &path, &bytes);
        if (status != GRAFT_OK) {
            return status;
        }
        json_array_append_new(parts,
                              json_pack("{s:o, s:I}", "path", json_text(path, strlen(path)), "bytes", (json_int_t)bytes));
    }
    for (uint64_t i = 0; i < graft_file_key_count(file); i++) {
        const char *name, *type, *text;
        bool cut;
        enum graft_status status = graft_file_key(file, i, items, &name, &type, &text, &cut);
        if (status != GRAFT_OK) {
            return status;
        }
        json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        json_t *entry = json_pack("{s:s, s:o}", "type", type, "value", value ? value : json_text(text, strlen(text)));
        if (cut) {
            json_object_set_new(entry, "cut", json_true());
        }
        json_object_set_new_nocheck(keys, name, entry);
    }
    for (uint64_t i = 0; i < graft_file_tensor_count(file); i++) {
        struct graft_file_tensor tensor;
        enum graft_status status = graft_file_tensor(file, i, &tensor);
        if (status != GRAFT_OK) {
            return status;
        }
        json_array_append_new(tensors, tensor_json(&tensor));
    }
    return GRAFT_OK;
}

static enum graft_status print_keys(struct graft_file *file, bool all)
{
    enum { WIDTH = 160 };
    for (uint64_t i = 0; i < graft_file_key_count(file); i++) {
        const char *name, *type, *text;
        bool cut;
        enum graft_status status = graft_file_key(file, i, all ? 64 : 6, &name, &type, &text, &cut);
        if (status != GRAFT_OK) {
            return status;
        }
        size_t length = strlen(text);
        bool shortened = !all && length > WIDTH;
        size_t shown = shortened ? WIDTH : length;
        while (shortened && shown > 0 && ((unsigned char)text[shown] & 0xc0) == 0x80) {
            shown--; // not inside a character
        }
        printf("  %-42s %-8s %.*s%s\n", name, type, (int)shown, text, cut || shortened ? " ..." : "");
    }
    return GRAFT_OK;
}

static enum graft_status print_tensors(struct graft_file *file, bool all)
{
    struct type_sum *sums = get_memory(MOST_TYPES, sizeof *sums);
    size_t count;
    enum graft_status status = sum_types(file, sums, &count);
    for (size_t k = 0; k < count; k++) {
        printf("  %-8s %6" PRIu64 " tensors %14s%s\n", sums[k].type, sums[k].tensors, bytes_text(sums[k].bytes).text,
               sums[k].supported ? "" : "   not supported");
    }
    free(sums);
    for (uint64_t i = 0; all && status == GRAFT_OK && i < graft_file_tensor_count(file); i++) {
        struct graft_file_tensor tensor;
        status = graft_file_tensor(file, i, &tensor);
        if (status == GRAFT_OK) {
            char shape[96] = "";
            size_t used = 0;
            for (uint32_t d = 0; d < tensor.n_dims && d < 4; d++) {
                used += (size_t)snprintf(shape + used, sizeof shape - used, "%s%" PRIu64, d ? " x " : "", tensor.dims[d]);
            }
            printf("  %-36s %-8s %-20s %12" PRIu64 " bytes at %" PRIu64, tensor.name, tensor.type, shape, tensor.bytes,
                   tensor.offset);
            printf(graft_file_part_count(file) > 1 ? " of file %u\n" : "\n", tensor.part + 1);
        }
    }
    return status;
}

// All values of all tensors. *code: EXIT_BAD_FILE if one is not finite. json: gets "values", or NULL: text is printed.
static enum graft_status look_deep(struct graft_file *file, json_t *json, int *code)
{
    uint64_t looked_at = 0, bad = 0, skipped = 0;
    json_t *list = json ? json_array() : NULL;
    enum graft_status status = GRAFT_OK;
    for (uint64_t i = 0; i < graft_file_tensor_count(file) && status == GRAFT_OK; i++) {
        struct graft_tensor_values values;
        struct graft_file_tensor tensor;
        status = graft_file_tensor_values(file, i, &values);
        if (status == GRAFT_OK) {
            status = graft_file_tensor(file, i, &tensor);
        }
        if (status != GRAFT_OK) {
            break;
        }
        looked_at += values.looked_at;
        bad += values.bad;
        skipped += values.looked_at == 0;
        if (values.bad && json) {
            json_t *one = json_pack("{s:I, s:I}", "bad", (json_int_t)values.bad, "first", (json_int_t)values.first);
            json_object_set_new(one, "name", json_text(tensor.name, strlen(tensor.name)));
            json_array_append_new(list, one);
        } else if (values.bad) {
            printf("  %s: %" PRIu64 " values are not finite, the first at index %" PRIu64 "\n", tensor.name, values.bad,
                   values.first);
        }
    }
    if (json) {
        json_object_set_new(json, "values",
                            json_pack("{s:I, s:I, s:I, s:o}", "looked_at", (json_int_t)looked_at, "bad", (json_int_t)bad,
                                      "tensors_skipped", (json_int_t)skipped, "tensors", list));
    } else if (status == GRAFT_OK) {
        printf("  %" PRIu64 " values, %" PRIu64 " of them not finite", looked_at, bad);
        printf(skipped ? "; %" PRIu64 " tensors of types that graft does not run were not read\n" : "\n", skipped);
    }
    *code = bad ? EXIT_BAD_FILE : EXIT_GOOD;
    return status;
}

int verb_INSPECT(const struct options *options)
{
    if (options->n_operands > 1 || (options->n_operands && options->model)) {
        return error_usage("there is more than one file", "one is looked into at a time", "graft inspect FILE");
    }
    struct session session = {0};
    struct graft_file *file = NULL;
    int code = model_find(options->n_operands ? options->operands[0] : options->model, session.path);
    if (code == EXIT_GOOD) {
        code = session_context(&session, options);
    }
    enum graft_status status = GRAFT_OK;
    if (code == EXIT_GOOD) {
        status = graft_file_open(session.ctx, &file, session.path);
    }
    json_t *json = NULL;
    if (code == EXIT_GOOD && status == GRAFT_OK && options->json) {
        status = inspect_json(file, options->all ? UINT32_MAX : 256, &json);
    } else if (code == EXIT_GOOD && status == GRAFT_OK) {
        printf("%s\n  GGUF version %" PRIu32 ", %s, %" PRIu64 " keys, %" PRIu64 " tensors\n\nMetadata\n", session.path,
               graft_file_version(file), bytes_text(graft_file_bytes(file)).text, graft_file_key_count(file),
               graft_file_tensor_count(file));
        if (graft_file_part_count(file) > 1) {
            printf("  the first of %u files of a split model\n", graft_file_part_count(file));
        }
        status = print_keys(file, options->all);
        if (status == GRAFT_OK) {
            printf("\nTensors\n");
            status = print_tensors(file, options->all);
        }
    }
    int deep = EXIT_GOOD;
    if (code == EXIT_GOOD && status == GRAFT_OK && options->deep) {
        printf("%s", json ? "" : "\nValues\n");
        status = look_deep(file, json, &deep);
    }
    if (status != GRAFT_OK) {
        char what[PATH_BYTES + 64];
        snprintf(what, sizeof what, "%s cannot be read as a GGUF file", session.path);
        code = error_status(status, what);
        json_decref(json);
    } else if (json) {
        code = print_json(json);
    }
    code = code == EXIT_GOOD ? deep : code;
    if (file) {
        graft_file_close(&file);
    }
    session_close(&session);
    return code;
}
