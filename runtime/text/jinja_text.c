// SPDX-License-Identifier: Apache-2.0
// UTF-8, text building, and Python's str() and repr() of values.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "runtime/text/jinja.h"

uint32_t graft_jinja_decode(const char *data, uint64_t length, uint64_t *at)
{
    const uint8_t *p = (const uint8_t *)data + *at;
    uint64_t left = length - *at;
    uint32_t extra = p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 1 : p[0] < 0xf0 ? 2 : 3;
    uint32_t code = extra == 0 ? p[0] : p[0] & (0x3fu >> extra);
    if (left <= extra) {
        *at += 1;
        return p[0];
    }
    for (uint32_t i = 1; i <= extra; i++) {
        code = code << 6 | (p[i] & 0x3fu);
    }
    *at += extra + 1;
    return code;
}

uint32_t graft_jinja_encode(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    uint32_t extra = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    for (uint32_t i = extra; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    out[0] = (char)((0xf80 >> extra & 0xff) | code);
    return extra + 1;
}

// Python's str.isspace.
bool graft_jinja_is_space(uint32_t code)
{
    return (code >= 9 && code <= 13) || (code >= 0x1c && code <= 0x20) || code == 0x85 || code == 0xa0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f ||
           code == 0x3000;
}

uint64_t graft_jinja_count(const char *data, uint64_t length)
{
    uint64_t chars = 0;
    for (uint64_t i = 0; i < length; i++) {
        chars += (data[i] & 0xc0) != 0x80;
    }
    return chars;
}

uint64_t graft_jinja_offset(const struct jinja_string *string, uint64_t chars)
{
    if (string->chars == string->length) {
        return chars;
    }
    uint64_t at = 0;
    for (uint64_t i = 0; i < chars && at < string->length; i++) {
        graft_jinja_decode(string->data, string->length, &at);
    }
    return at;
}

enum graft_status graft_jinja_put(struct jinja_run *run, struct jinja_buffer *buffer, const char *data, uint64_t length)
{
    if (length > GRAFT_TEMPLATE_MAX_OUTPUT_BYTES || buffer->length + length > GRAFT_TEMPLATE_MAX_OUTPUT_BYTES) {
        return graft_fail(GRAFT_E_LIMIT, "template: the text is longer than %d bytes", GRAFT_TEMPLATE_MAX_OUTPUT_BYTES);
    }
    GRAFT_TRY(graft_jinja_charge(run, length / 256));
    uint64_t need = buffer->length + length + 1;
    if (need > buffer->capacity) {
        uint64_t capacity = buffer->capacity * 2 > need ? buffer->capacity * 2 : need + 112;
        if (buffer->outermost) {
            GRAFT_TRY(GRAFT_GROW(run->arena.ctx, GRAFT_MEM_HOST, &buffer->data, capacity, "a chat template's text"));
        } else {
            GRAFT_TRY(graft_jinja_grow(&run->arena, (void **)&buffer->data, buffer->capacity, capacity));
        }
        buffer->capacity = capacity;
    }
    if (length) {
        memcpy(buffer->data + buffer->length, data, (size_t)length);
    }
    buffer->length += length;
    return GRAFT_OK;
}

enum graft_status graft_jinja_puts(struct jinja_run *run, struct jinja_buffer *buffer, const char *text)
{
    return graft_jinja_put(run, buffer, text, strlen(text));
}

// The text as a value; what the buffer has left serves a later append.
enum graft_status graft_jinja_finish(struct jinja_run *run, struct jinja_buffer *buffer, struct jinja_value *out)
{
    struct jinja_string *string;
    struct jinja_spare *spare = NULL;
    if (buffer->capacity) {
        GRAFT_TRY(JINJA_NEW(&run->arena, &spare, 1));
        *spare = (struct jinja_spare){.base = buffer->data, .used = buffer->length, .capacity = buffer->capacity};
    }
    GRAFT_TRY(JINJA_NEW(&run->arena, &string, 1));
    *string = (struct jinja_string){.data = buffer->data ? buffer->data : "",
                                    .length = buffer->length,
                                    .spare = spare,
                                    .chars = graft_jinja_count(buffer->data, buffer->length)};
    *out = (struct jinja_value){.type = JINJA_STRING, .as.string = string};
    *buffer = (struct jinja_buffer){0};
    return GRAFT_OK;
}

// Digits and exponent without a decimal point, so that the C locale's point does not matter.
bool graft_jinja_parse_float(const char *data, uint64_t length, double *out)
{
    char text[360];
    size_t used = 0;
    long scale = 0;
    bool fraction = false;
    uint64_t i = 0;
    for (; i < length && data[i] != 'e' && data[i] != 'E'; i++) {
        if (data[i] == '.') {
            fraction = true;
        } else if (data[i] != '_') {
            if (used > 300) {
                return false;
            }
            text[used++] = data[i];
            scale -= fraction;
        }
    }
    long exponent = 0;
    bool negative = false;
    for (i++; i < length; i++) {
        negative |= data[i] == '-';
        if (data[i] >= '0' && data[i] <= '9' && exponent < 100000) {
            exponent = exponent * 10 + (data[i] - '0');
        }
    }
    snprintf(text + used, sizeof text - used, "e%ld", (negative ? -exponent : exponent) + scale);
    *out = strtod(text, NULL);
    return true;
}

uint32_t graft_jinja_float(double value, char out[32])
{
    if (isnan(value) || isinf(value)) {
        return (uint32_t)snprintf(out, 32, "%s", isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
    }
    // The shortest digits that read back as the same value.
    char digits[20], text[40];
    int count = 0;
    long exponent = 0;
    for (int precision = 0; precision < 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, value);
        count = 0;
        const char *p = text;
        for (; *p && *p != 'e'; p++) {
            if (*p >= '0' && *p <= '9') {
                digits[count++] = *p;
            }
        }
        exponent = strtol(p + 1, NULL, 10);
        char plain[48];
        snprintf(plain, sizeof plain, "%s%.*se%ld", value < 0 ? "-" : "", count, digits, exponent - (count - 1));
        if (strtod(plain, NULL) == value) {
            break;
        }
    }
    while (count > 1 && digits[count - 1] == '0') {
        count--;
    }
    uint32_t n = 0;
    if (signbit(value)) {
        out[n++] = '-';
    }
    if (exponent >= -4 && exponent < 16) {
        for (long place = exponent < 0 ? 0 : exponent; place >= 0 || exponent - place < count; place--) {
            long at = exponent - place;
            if (place == -1) {
                out[n++] = '.';
            }
            out[n++] = at >= 0 && at < count ? digits[at] : '0';
        }
        if (count <= exponent + 1) {
            out[n++] = '.';
            out[n++] = '0';
        }
        out[n] = 0;
        return n;
    }
    out[n++] = digits[0];
    if (count > 1) {
        out[n++] = '.';
        memcpy(out + n, digits + 1, (size_t)count - 1);
        n += (uint32_t)count - 1;
    }
    return n + (uint32_t)snprintf(out + n, 32 - n, "e%c%02ld", exponent < 0 ? '-' : '+', labs(exponent));
}

// Python's str.isprintable for one character.
static bool printable(uint32_t code)
{
    if (code < 0x7f) {
        return code >= 0x20;
    }
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

static enum graft_status repr_string(struct jinja_run *run, struct jinja_buffer *buffer, const struct jinja_string *string)
{
    bool single = string->length && memchr(string->data, '\'', (size_t)string->length);
    bool both = single && memchr(string->data, '"', (size_t)string->length);
    char quote = single && !both ? '"' : '\'';
    GRAFT_TRY(graft_jinja_put(run, buffer, &quote, 1));
    for (uint64_t at = 0; at < string->length;) {
        uint64_t start = at;
        uint32_t code = graft_jinja_decode(string->data, string->length, &at);
        char text[16];
        if (code == '\\' || code == (uint8_t)quote) {
            snprintf(text, sizeof text, "\\%c", (char)code);
        } else if (code == '\n' || code == '\r' || code == '\t') {
            snprintf(text, sizeof text, "\\%c", code == '\n' ? 'n' : code == '\r' ? 'r' : 't');
        } else if (printable(code)) {
            GRAFT_TRY(graft_jinja_put(run, buffer, string->data + start, at - start));
            continue;
        } else {
            snprintf(text, sizeof text,
                     code < 0x100     ? "\\x%02" PRIx32
                     : code < 0x10000 ? "\\u%04" PRIx32
                                      : "\\U%08" PRIx32,
                     code);
        }
        GRAFT_TRY(graft_jinja_puts(run, buffer, text));
    }
    return graft_jinja_put(run, buffer, &quote, 1);
}

static enum graft_status repr_list(struct jinja_run *run, struct jinja_buffer *buffer, const struct jinja_value *value,
                                   uint32_t depth)
{
    const struct jinja_list *list = value->as.list;
    bool tuple = value->type == JINJA_TUPLE;
    if (value->type == JINJA_VIEW) {
        GRAFT_TRY(graft_jinja_puts(run, buffer, list->kind));
        GRAFT_TRY(graft_jinja_puts(run, buffer, "("));
    }
    GRAFT_TRY(graft_jinja_puts(run, buffer, tuple ? "(" : "["));
    for (uint64_t i = 0; i < list->count; i++) {
        GRAFT_TRY(graft_jinja_puts(run, buffer, i ? ", " : ""));
        GRAFT_TRY(graft_jinja_repr(run, buffer, &list->items[i], depth + 1));
    }
    return graft_jinja_puts(run, buffer, tuple ? (list->count == 1 ? ",)" : ")") : value->type == JINJA_VIEW ? "])" : "]");
}

enum graft_status graft_jinja_repr(struct jinja_run *run, struct jinja_buffer *buffer, const struct jinja_value *value,
                                   uint32_t depth)
{
    GRAFT_TRY(graft_jinja_charge(run, 1));
    if (depth > JINJA_MAX_VALUE_DEPTH) {
        return graft_fail(GRAFT_E_LIMIT, "template: a value printed is nested deeper than %d levels", JINJA_MAX_VALUE_DEPTH);
    }
    char text[96];
    switch (value->type) {
    case JINJA_STRING:
        return repr_string(run, buffer, value->as.string);
    case JINJA_UNDEFINED:
        return graft_jinja_puts(run, buffer, "Undefined");
    case JINJA_NONE:
        return graft_jinja_puts(run, buffer, "None");
    case JINJA_BOOL:
        return graft_jinja_puts(run, buffer, value->as.boolean ? "True" : "False");
    case JINJA_INT:
        snprintf(text, sizeof text, "%" PRId64, value->as.integer);
        return graft_jinja_puts(run, buffer, text);
    case JINJA_FLOAT:
        graft_jinja_float(value->as.number, text);
        return graft_jinja_puts(run, buffer, text);
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
        return repr_list(run, buffer, value, depth);
    case JINJA_NAMESPACE:
        GRAFT_TRY(graft_jinja_puts(run, buffer, "<Namespace "));
        // fall through
    case JINJA_DICT:
        GRAFT_TRY(graft_jinja_puts(run, buffer, "{"));
        for (uint64_t i = 0; i < value->as.dict->count; i++) {
            GRAFT_TRY(graft_jinja_puts(run, buffer, i ? ", " : ""));
            GRAFT_TRY(graft_jinja_repr(run, buffer, &value->as.dict->entries[i].key, depth + 1));
            GRAFT_TRY(graft_jinja_puts(run, buffer, ": "));
            GRAFT_TRY(graft_jinja_repr(run, buffer, &value->as.dict->entries[i].value, depth + 1));
        }
        return graft_jinja_puts(run, buffer, value->type == JINJA_DICT ? "}" : "}>");
    case JINJA_RANGE: {
        const struct jinja_range *range = value->as.range;
        int64_t stop = range->start + (int64_t)range->count * range->step;
        snprintf(text, sizeof text,
                 range->step == 1 ? "range(%" PRId64 ", %" PRId64 ")" : "range(%" PRId64 ", %" PRId64 ", %" PRId64 ")",
                 range->start, stop, range->step);
        return graft_jinja_puts(run, buffer, text);
    }
    default:
        snprintf(text, sizeof text, "<%s>", graft_jinja_type_name(value));
        return graft_jinja_puts(run, buffer, text);
    }
}

enum graft_status graft_jinja_put_value(struct jinja_run *run, struct jinja_buffer *buffer, const struct jinja_value *value)
{
    if (value->type == JINJA_STRING) {
        return graft_jinja_put(run, buffer, value->as.string->data, value->as.string->length);
    }
    return value->type == JINJA_UNDEFINED ? GRAFT_OK : graft_jinja_repr(run, buffer, value, 0);
}

enum graft_status graft_jinja_str(struct jinja_run *run, const struct jinja_value *value, struct jinja_value *out)
{
    if (value->type == JINJA_STRING) {
        *out = *value;
        return GRAFT_OK;
    }
    struct jinja_buffer buffer = {0};
    GRAFT_TRY(graft_jinja_put_value(run, &buffer, value));
    return graft_jinja_finish(run, &buffer, out);
}
