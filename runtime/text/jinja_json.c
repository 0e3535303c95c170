// SPDX-License-Identifier: Apache-2.0
// Variables from jansson, tojson and from_json. tojson writes as Python's json.dumps with the defaults of transformers:
// ensure_ascii off, nothing escaped for HTML (RFC 8259).
#include <math.h>
#include <stdio.h>

#include "runtime/text/jinja.h"

enum graft_status graft_jinja_from_json(struct jinja_run *run, const json_t *json, uint32_t depth, struct jinja_value *out)
{
    if (depth > JINJA_MAX_VALUE_DEPTH) {
        return graft_fail(GRAFT_E_LIMIT, "template variables: nested deeper than %d levels", JINJA_MAX_VALUE_DEPTH);
    }
    switch (json_typeof(json)) {
    case JSON_NULL:
        *out = jinja_none();
        return GRAFT_OK;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = jinja_bool(json_is_true(json));
        return GRAFT_OK;
    case JSON_INTEGER:
        *out = jinja_int((int64_t)json_integer_value(json));
        return GRAFT_OK;
    case JSON_REAL:
        *out = jinja_float(json_real_value(json));
        return GRAFT_OK;
    case JSON_STRING: {
        const char *data = json_string_value(json);
        uint64_t length = json_string_length(json);
        if (!graft_utf8_valid((const uint8_t *)data, length)) {
            return graft_fail(GRAFT_E_ARGUMENT, "template variables: a string of %" PRIu64 " bytes is not UTF-8", length);
        }
        return graft_jinja_string(&run->arena, data, length, out);
    }
    case JSON_ARRAY:
        GRAFT_TRY(graft_jinja_list(run, JINJA_LIST, json_array_size(json), out));
        for (size_t i = 0; i < json_array_size(json); i++) {
            struct jinja_value item;
            GRAFT_TRY(graft_jinja_from_json(run, json_array_get(json, i), depth + 1, &item));
            GRAFT_TRY(graft_jinja_push(run, out->as.list, &item));
        }
        return GRAFT_OK;
    case JSON_OBJECT: {
        struct jinja_dict *dict;
        GRAFT_TRY(graft_jinja_dict(run, &dict));
        *out = (struct jinja_value){.type = JINJA_DICT, .as.dict = dict};
        // jansson's iteration needs a non-const object but does not change it
        json_t *object = (json_t *)(uintptr_t)json;
        for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
            struct jinja_value key, item;
            const char *name = json_object_iter_key(at);
            GRAFT_TRY(graft_jinja_string(&run->arena, name, strlen(name), &key));
            GRAFT_TRY(graft_jinja_from_json(run, json_object_iter_value(at), depth + 1, &item));
            GRAFT_TRY(graft_jinja_dict_set(run, dict, &key, &item));
        }
        return GRAFT_OK;
    }
    }
    return graft_fail(GRAFT_E_INTERNAL, "template variables: a JSON value of unknown type");
}

struct writer {
    struct jinja_run *run;
    struct jinja_buffer buffer;
    bool ascii, sort, pretty;
    const struct jinja_string *comma, *colon, *indent; // indent: one level, may be empty
};

static enum graft_status write_string(struct writer *writer, const struct jinja_string *string)
{
    static const char named[] = "\"\"\\\\\nn\rr\tt\ff\bb";
    GRAFT_TRY(graft_jinja_put(writer->run, &writer->buffer, "\"", 1));
    uint64_t plain = 0; // start of what needs no escape
    for (uint64_t at = 0; at < string->length;) {
        uint64_t start = at;
        uint32_t code = graft_jinja_decode(string->data, string->length, &at);
        if (code >= 0x20 && code != '"' && code != '\\' && (code < 0x7f || !writer->ascii || code == 0x7f)) {
            continue;
        }
        GRAFT_TRY(graft_jinja_put(writer->run, &writer->buffer, string->data + plain, start - plain));
        plain = at;
        char text[16];
        const char *name = named;
        while (*name && (uint8_t)*name != code) {
            name += 2;
        }
        if (*name) {
            snprintf(text, sizeof text, "\\%c", name[1]);
        } else if (code < 0x10000) {
            snprintf(text, sizeof text, "\\u%04" PRIx32, code);
        } else {
            snprintf(text, sizeof text, "\\u%04" PRIx32 "\\u%04" PRIx32, 0xd800 + ((code - 0x10000) >> 10),
                     0xdc00 + (code & 0x3ff));
        }
        GRAFT_TRY(graft_jinja_puts(writer->run, &writer->buffer, text));
    }
    GRAFT_TRY(graft_jinja_put(writer->run, &writer->buffer, string->data + plain, string->length - plain));
    return graft_jinja_put(writer->run, &writer->buffer, "\"", 1);
}

static enum graft_status write_scalar(struct writer *writer, const struct jinja_value *value)
{
    char text[32];
    switch (value->type) {
    case JINJA_NONE:
        return graft_jinja_puts(writer->run, &writer->buffer, "null");
    case JINJA_BOOL:
        return graft_jinja_puts(writer->run, &writer->buffer, value->as.boolean ? "true" : "false");
    case JINJA_INT:
        snprintf(text, sizeof text, "%" PRId64, value->as.integer);
        return graft_jinja_puts(writer->run, &writer->buffer, text);
    case JINJA_FLOAT:
        if (isnan(value->as.number) || isinf(value->as.number)) {
            return graft_jinja_puts(writer->run, &writer->buffer,
                                    isnan(value->as.number) ? "NaN"
                                    : value->as.number > 0  ? "Infinity"
                                                            : "-Infinity");
        }
        graft_jinja_float(value->as.number, text);
        return graft_jinja_puts(writer->run, &writer->buffer, text);
    default:
        return graft_fail(GRAFT_E_ARGUMENT, "Object of type %s is not JSON serializable", graft_jinja_type_name(value));
    }
}

static enum graft_status new_line(struct writer *writer, uint32_t depth)
{
    if (!writer->pretty) {
        return GRAFT_OK;
    }
    GRAFT_TRY(graft_jinja_puts(writer->run, &writer->buffer, "\n"));
    for (uint32_t i = 0; i < depth; i++) {
        GRAFT_TRY(graft_jinja_put(writer->run, &writer->buffer, writer->indent->data, writer->indent->length));
    }
    return GRAFT_OK;
}

static enum graft_status write_key(struct writer *writer, const struct jinja_value *key)
{
    if (key->type == JINJA_STRING) {
        return write_string(writer, key->as.string);
    }
    if (key->type > JINJA_FLOAT || key->type < JINJA_NONE) {
        return graft_fail(GRAFT_E_ARGUMENT, "keys must be str, int, float, bool or None, not %s", graft_jinja_type_name(key));
    }
    GRAFT_TRY(graft_jinja_puts(writer->run, &writer->buffer, "\""));
    GRAFT_TRY(write_scalar(writer, key));
    return graft_jinja_puts(writer->run, &writer->buffer, "\"");
}

static enum graft_status sorted_entries(struct writer *writer, const struct jinja_dict *dict, struct jinja_entry **out)
{
    *out = dict->entries;
    if (!writer->sort || dict->count < 2) {
        return GRAFT_OK;
    }
    struct jinja_entry *from, *to;
    GRAFT_TRY(JINJA_NEW(&writer->run->arena, &from, dict->count));
    GRAFT_TRY(JINJA_NEW(&writer->run->arena, &to, dict->count));
    memcpy(from, dict->entries, (size_t)dict->count * sizeof *from);
    for (uint64_t width = 1; width < dict->count; width *= 2) { // merge sort, bottom up
        for (uint64_t low = 0; low < dict->count; low += 2 * width) {
            uint64_t mid = low + width < dict->count ? low + width : dict->count;
            uint64_t high = mid + width < dict->count ? mid + width : dict->count;
            for (uint64_t i = low, j = mid, k = low; k < high; k++) {
                int order = 0;
                if (i < mid && j < high) {
                    GRAFT_TRY(graft_jinja_compare(writer->run, &from[j].key, &from[i].key, "<", 0, &order));
                }
                bool right = i == mid || (j < high && order == -1);
                to[k] = right ? from[j++] : from[i++];
            }
        }
        struct jinja_entry *swap = from;
        from = to;
        to = swap;
    }
    *out = from;
    return GRAFT_OK;
}

static enum graft_status write_value(struct writer *writer, const struct jinja_value *value, uint32_t depth)
{
    GRAFT_TRY(graft_jinja_charge(writer->run, 1));
    if (depth > JINJA_MAX_VALUE_DEPTH) {
        return graft_fail(GRAFT_E_LIMIT, "template: tojson of a value nested deeper than %d levels", JINJA_MAX_VALUE_DEPTH);
    }
    if (value->type == JINJA_STRING) {
        return write_string(writer, value->as.string);
    }
    bool dict = value->type == JINJA_DICT;
    if (!dict && value->type != JINJA_LIST && value->type != JINJA_TUPLE) {
        return write_scalar(writer, value);
    }
    uint64_t count = dict ? value->as.dict->count : value->as.list->count;
    GRAFT_TRY(graft_jinja_puts(writer->run, &writer->buffer, dict ? "{" : "["));
    struct jinja_entry *entries = NULL;
    if (dict) {
        GRAFT_TRY(sorted_entries(writer, value->as.dict, &entries));
    }
    for (uint64_t i = 0; i < count; i++) {
        if (i) {
            GRAFT_TRY(graft_jinja_put(writer->run, &writer->buffer, writer->comma->data, writer->comma->length));
        }
        GRAFT_TRY(new_line(writer, depth + 1));
        if (dict) {
            GRAFT_TRY(write_key(writer, &entries[i].key));
            GRAFT_TRY(graft_jinja_put(writer->run, &writer->buffer, writer->colon->data, writer->colon->length));
        }
        GRAFT_TRY(write_value(writer, dict ? &entries[i].value : &value->as.list->items[i], depth + 1));
    }
    if (count) {
        GRAFT_TRY(new_line(writer, depth));
    }
    return graft_jinja_puts(writer->run, &writer->buffer, dict ? "}" : "]");
}

enum graft_status graft_jinja_tojson(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *argv,
                                     const struct jinja_args *args, struct jinja_value *out)
{
    (void)args;
    static const struct jinja_string comma = {.data = ",", .length = 1}, comma_blank = {.data = ", ", .length = 2},
                                     colon = {.data = ": ", .length = 2}, none = {.data = "", .length = 0};
    struct writer writer = {.run = run,
                            .ascii = graft_jinja_truth(&argv[0]),
                            .sort = graft_jinja_truth(&argv[3]),
                            .comma = &comma_blank,
                            .colon = &colon,
                            .indent = &none};
    struct jinja_value indent;
    int64_t width;
    if (argv[1].type == JINJA_STRING) {
        writer.pretty = true;
        writer.indent = argv[1].as.string;
    } else if (jinja_as_int(&argv[1], &width)) {
        struct jinja_value blank, times = jinja_int(width);
        GRAFT_TRY(graft_jinja_string(&run->arena, " ", 1, &blank));
        GRAFT_TRY(graft_jinja_arith(run, JINJA_OP_MUL, &blank, &times, &indent));
        writer.pretty = true;
        writer.indent = indent.as.string;
    } else if (argv[1].type != JINJA_UNSET && argv[1].type != JINJA_NONE) {
        return graft_fail(GRAFT_E_ARGUMENT, "tojson: indent must be an integer or a string, not %s",
                          graft_jinja_type_name(&argv[1]));
    }
    writer.comma = writer.pretty ? &comma : &comma_blank;
    if (argv[2].type == JINJA_LIST || argv[2].type == JINJA_TUPLE) {
        const struct jinja_list *list = argv[2].as.list;
        if (list->count != 2 || list->items[0].type != JINJA_STRING || list->items[1].type != JINJA_STRING) {
            return graft_fail(GRAFT_E_ARGUMENT, "tojson: separators must be two strings");
        }
        writer.comma = list->items[0].as.string;
        writer.colon = list->items[1].as.string;
    }
    GRAFT_TRY(write_value(&writer, in, 0));
    return graft_jinja_finish(run, &writer.buffer, out);
}

// ---- from_json: a filter that transformers lacks but some templates use ----

struct json_reader {
    struct jinja_run *run;
    const char *data;
    uint64_t length, at;
};

static enum graft_status damaged(const struct json_reader *reader)
{
    return graft_fail(GRAFT_E_ARGUMENT, "from_json: no JSON at byte %" PRIu64 " of %" PRIu64, reader->at, reader->length);
}

static bool take(struct json_reader *reader, const char *text)
{
    while (reader->at < reader->length && strchr(" \t\r\n", reader->data[reader->at]) && reader->data[reader->at]) {
        reader->at++;
    }
    uint64_t length = strlen(text);
    if (reader->length - reader->at < length || memcmp(reader->data + reader->at, text, (size_t)length) != 0) {
        return false;
    }
    reader->at += length;
    return true;
}

static bool read_hex(struct json_reader *reader, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF";
        char c = reader->at < reader->length ? reader->data[reader->at++] : 0;
        const char *hit = c ? strchr(digits, c) : NULL;
        if (!hit) {
            return false;
        }
        *out = *out << 4 | ((uint32_t)(hit - digits) & 15);
    }
    return true;
}

// Behind the opening quote.
static enum graft_status read_string(struct json_reader *reader, struct jinja_value *out)
{
    struct jinja_buffer buffer = {0};
    for (;;) {
        uint64_t start = reader->at;
        while (reader->at < reader->length && reader->data[reader->at] != '"' && reader->data[reader->at] != '\\' &&
               (uint8_t)reader->data[reader->at] >= 0x20) {
            reader->at++;
        }
        GRAFT_TRY(graft_jinja_put(reader->run, &buffer, reader->data + start, reader->at - start));
        char c = reader->at < reader->length ? reader->data[reader->at++] : 0;
        if (c == '"') {
            return graft_jinja_finish(reader->run, &buffer, out);
        }
        char escape = c == '\\' && reader->at < reader->length ? reader->data[reader->at++] : 0;
        static const char named[] = "\"\"\\\\//n\nr\rt\tf\fb\b";
        const char *name = named;
        while (*name && *name != escape) {
            name += 2;
        }
        char text[4];
        uint32_t bytes = 1, code, low;
        if (escape && *name) {
            text[0] = name[1];
        } else if (escape == 'u' && read_hex(reader, &code)) {
            if (code >= 0xd800 && code < 0xdc00 && reader->length - reader->at >= 6 && reader->data[reader->at] == '\\' &&
                reader->data[reader->at + 1] == 'u') {
                reader->at += 2;
                if (!read_hex(reader, &low) || low < 0xdc00 || low > 0xdfff) {
                    return damaged(reader);
                }
                code = 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff);
            }
            if (code >= 0xd800 && code <= 0xdfff) {
                return damaged(reader);
            }
            bytes = graft_jinja_encode(code, text);
        } else {
            return damaged(reader);
        }
        GRAFT_TRY(graft_jinja_put(reader->run, &buffer, text, bytes));
    }
}

static enum graft_status read_number(struct json_reader *reader, struct jinja_value *out)
{
    bool negative = take(reader, "-");
    uint64_t start = reader->at;
    bool real = false;
    int64_t integer = 0;
    while (reader->at < reader->length && reader->data[reader->at] && strchr("0123456789.eE+-", reader->data[reader->at])) {
        char c = reader->data[reader->at++];
        real |= c < '0' || c > '9';
        if (!real && (__builtin_mul_overflow(integer, (int64_t)10, &integer) ||
                      __builtin_sub_overflow(integer, (int64_t)(c - '0'), &integer))) {
            real = true;
        }
    }
    double number;
    if (reader->at == start || !graft_jinja_parse_float(reader->data + start, reader->at - start, &number) ||
        (!real && !negative && integer == INT64_MIN)) {
        return damaged(reader);
    }
    *out = real ? jinja_float(negative ? -number : number) : jinja_int(negative ? integer : -integer);
    return GRAFT_OK;
}

static enum graft_status read_value(struct json_reader *reader, uint32_t depth, struct jinja_value *out)
{
    GRAFT_TRY(graft_jinja_charge(reader->run, 1));
    if (depth > JINJA_MAX_VALUE_DEPTH) {
        return graft_fail(GRAFT_E_LIMIT, "from_json: nested deeper than %d levels", JINJA_MAX_VALUE_DEPTH);
    }
    if (take(reader, "null")) {
        *out = jinja_none();
        return GRAFT_OK;
    }
    if (take(reader, "true") || take(reader, "false")) {
        *out = jinja_bool(reader->data[reader->at - 2] == 'u');
        return GRAFT_OK;
    }
    if (take(reader, "\"")) {
        return read_string(reader, out);
    }
    bool dict = take(reader, "{");
    if (!dict && !take(reader, "[")) {
        return read_number(reader, out);
    }
    struct jinja_value list, key, item;
    struct jinja_dict *object;
    GRAFT_TRY(graft_jinja_list(reader->run, JINJA_LIST, 0, &list));
    GRAFT_TRY(graft_jinja_dict(reader->run, &object));
    *out = dict ? (struct jinja_value){.type = JINJA_DICT, .as.dict = object} : list;
    const char *end = dict ? "}" : "]";
    if (take(reader, end)) {
        return GRAFT_OK;
    }
    do {
        if (dict) {
            if (!take(reader, "\"")) {
                return damaged(reader);
            }
            GRAFT_TRY(read_string(reader, &key));
            if (!take(reader, ":")) {
                return damaged(reader);
            }
        }
        GRAFT_TRY(read_value(reader, depth + 1, &item));
        GRAFT_TRY(dict ? graft_jinja_dict_set(reader->run, object, &key, &item)
                       : graft_jinja_push(reader->run, list.as.list, &item));
    } while (take(reader, ","));
    return take(reader, end) ? GRAFT_OK : damaged(reader);
}

enum graft_status graft_jinja_fromjson(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *argv,
                                       const struct jinja_args *args, struct jinja_value *out)
{
    (void)argv, (void)args;
    if (in->type != JINJA_STRING) {
        return graft_fail(GRAFT_E_ARGUMENT, "from_json: needs a string, not %s", graft_jinja_type_name(in));
    }
    struct json_reader reader = {.run = run, .data = in->as.string->data, .length = in->as.string->length};
    GRAFT_TRY(read_value(&reader, 0, out));
    take(&reader, "");
    return reader.at == reader.length ? GRAFT_OK : damaged(&reader);
}
