// SPDX-License-Identifier: Apache-2.0
// The rarer filters of jinja2 (slice, urlencode, xmlattr, filesizeformat), and what Python's str tells about its characters and
// how it pads itself.
#include <inttypes.h>
#include <stdio.h>
#include <utf8proc.h>

#include "runtime/text/jinja.h"

#define FILTER(name)                                                                                                           \
    static enum graft_status name(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *argv,         \
                                  const struct jinja_args *args, struct jinja_value *out)

// As many lists as asked for, the first ones longer by one; with a value, the others are filled up with it.
FILTER(do_slice)
{
    (void)args;
    struct jinja_list *items;
    struct jinja_value result, line;
    int64_t n;
    if (!jinja_as_int(&argv[0], &n) || n < 1 || n > JINJA_MAX_RANGE) {
        return graft_fail(GRAFT_E_ARGUMENT, "slice: the number must be an integer from 1 to %d", JINJA_MAX_RANGE);
    }
    GRAFT_TRY(graft_jinja_elements(run, in, &items));
    GRAFT_TRY(graft_jinja_list(run, JINJA_ITERATOR, 0, &result));
    uint64_t each = items->count / (uint64_t)n, longer = items->count % (uint64_t)n, at = 0;
    for (uint64_t i = 0; i < (uint64_t)n; i++) {
        uint64_t end = at + each + (i < longer);
        GRAFT_TRY(graft_jinja_list(run, JINJA_LIST, 0, &line));
        GRAFT_TRY(graft_jinja_charge(run, 1 + end - at));
        for (; at < end; at++) {
            GRAFT_TRY(graft_jinja_push(run, line.as.list, &items->items[at]));
        }
        if (argv[1].type > JINJA_NONE && i >= longer) {
            GRAFT_TRY(graft_jinja_push(run, line.as.list, &argv[1]));
        }
        GRAFT_TRY(graft_jinja_push(run, result.as.list, &line));
    }
    *out = result;
    return GRAFT_OK;
}

// Python's urllib.parse.quote: everything but letters, digits and _.-~ as %XX; in a query a blank is + and / is not plain.
static enum graft_status put_quoted(struct jinja_run *run, struct jinja_buffer *buffer, const struct jinja_value *value,
                                    bool query)
{
    struct jinja_value text;
    GRAFT_TRY(graft_jinja_str(run, value, &text));
    GRAFT_TRY(graft_jinja_charge(run, 1 + text.as.string->length / 16));
    for (uint64_t i = 0; i < text.as.string->length; i++) {
        uint8_t c = (uint8_t)text.as.string->data[i];
        bool plain = (c >= '0' && c <= '9') || (c < 0x80 && (c | 32) >= 'a' && (c | 32) <= 'z') || c == '_' || c == '.' ||
                     c == '-' || c == '~' || (c == '/' && !query);
        char code[4] = {(char)c, 0};
        if (c == ' ' && query) {
            code[0] = '+';
        } else if (!plain) {
            snprintf(code, sizeof code, "%%%02X", c);
        }
        GRAFT_TRY(graft_jinja_puts(run, buffer, code));
    }
    return GRAFT_OK;
}

static enum graft_status put_pair(struct jinja_run *run, struct jinja_buffer *buffer, const struct jinja_value *key,
                                  const struct jinja_value *value)
{
    GRAFT_TRY(buffer->length ? graft_jinja_puts(run, buffer, "&") : GRAFT_OK);
    GRAFT_TRY(put_quoted(run, buffer, key, true));
    GRAFT_TRY(graft_jinja_puts(run, buffer, "="));
    return put_quoted(run, buffer, value, true);
}

FILTER(do_urlencode)
{
    (void)argv;
    (void)args;
    struct jinja_buffer buffer = {0};
    struct jinja_list *pairs;
    uint64_t length;
    if (in->type == JINJA_DICT) {
        for (uint64_t i = 0; i < in->as.dict->count; i++) {
            GRAFT_TRY(put_pair(run, &buffer, &in->as.dict->entries[i].key, &in->as.dict->entries[i].value));
        }
    } else if (in->type == JINJA_STRING || !graft_jinja_length(in, &length)) {
        GRAFT_TRY(put_quoted(run, &buffer, in, false));
    } else {
        GRAFT_TRY(graft_jinja_elements(run, in, &pairs));
        for (uint64_t i = 0; i < pairs->count; i++) {
            struct jinja_list *pair;
            GRAFT_TRY(graft_jinja_elements(run, &pairs->items[i], &pair));
            if (pair->count != 2) {
                return graft_fail(GRAFT_E_ARGUMENT, "urlencode: needs pairs");
            }
            GRAFT_TRY(put_pair(run, &buffer, &pair->items[0], &pair->items[1]));
        }
    }
    return graft_jinja_finish(run, &buffer, out);
}

// ' key="value"' for every entry that is neither none nor undefined, escaped.
FILTER(do_xmlattr)
{
    (void)args;
    struct jinja_buffer buffer = {0};
    bool space = argv[0].type == JINJA_UNSET || graft_jinja_truth(&argv[0]);
    if (in->type != JINJA_DICT) {
        return graft_fail(GRAFT_E_ARGUMENT, "xmlattr: needs a dict, not %s", graft_jinja_type_name(in));
    }
    for (uint64_t i = 0; i < in->as.dict->count; i++) {
        const struct jinja_entry *entry = &in->as.dict->entries[i];
        struct jinja_value key, value;
        if (entry->value.type == JINJA_NONE || entry->value.type == JINJA_UNDEFINED) {
            continue;
        }
        GRAFT_TRY(graft_jinja_str(run, &entry->key, &key));
        for (uint64_t k = 0; k < key.as.string->length; k++) {
            char c = key.as.string->data[k];
            if ((c >= 9 && c <= 13) || c == ' ' || c == '/' || c == '>' || c == '=') {
                return graft_fail(GRAFT_E_ARGUMENT, "xmlattr: a key has an invalid character");
            }
        }
        const struct jinja_filter_def *escape = graft_jinja_find_filter("escape", 6);
        GRAFT_TRY(escape->run(run, &entry->key, argv, args, &key));
        GRAFT_TRY(escape->run(run, &entry->value, argv, args, &value));
        GRAFT_TRY(space || buffer.length ? graft_jinja_puts(run, &buffer, " ") : GRAFT_OK);
        GRAFT_TRY(graft_jinja_put(run, &buffer, key.as.string->data, key.as.string->length));
        GRAFT_TRY(graft_jinja_puts(run, &buffer, "=\""));
        GRAFT_TRY(graft_jinja_put(run, &buffer, value.as.string->data, value.as.string->length));
        GRAFT_TRY(graft_jinja_puts(run, &buffer, "\""));
    }
    return graft_jinja_finish(run, &buffer, out);
}

FILTER(do_filesizeformat)
{
    (void)args;
    static const char *const units[2][8] = {{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"},
                                            {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}};
    bool binary = graft_jinja_truth(&argv[0]);
    double bytes, base = binary ? 1024 : 1000;
    int64_t whole;
    char text[64];
    if (jinja_as_int(in, &whole)) {
        bytes = (double)whole;
    } else if (in->type == JINJA_FLOAT) {
        bytes = in->as.number;
    } else if (in->type != JINJA_STRING || !graft_jinja_parse_float(in->as.string->data, in->as.string->length, &bytes)) {
        return graft_fail(GRAFT_E_ARGUMENT, "filesizeformat: needs a number, not %s", graft_jinja_type_name(in));
    }
    if (bytes == 1.0) {
        snprintf(text, sizeof text, "1 Byte");
    } else if (bytes < base) {
        snprintf(text, sizeof text, "%.0f Bytes",
                 bytes < -1e15 ? -1e15
                 : bytes < 0   ? -(double)(int64_t)-bytes
                               : (double)(int64_t)bytes);
    } else {
        int i = 0;
        double unit = base * base;
        for (; i < 7 && bytes >= unit; i++) {
            unit *= base;
        }
        snprintf(text, sizeof text, "%.1f %s", base * bytes / unit, units[binary][i]);
    }
    return graft_jinja_string(&run->arena, text, strlen(text), out);
}

const struct jinja_filter_def graft_jinja_more_filters[] = {
    {"slice", "slices! fill_with", do_slice},
    {"urlencode", "", do_urlencode},
    {"xmlattr", "autospace", do_xmlattr},
    {"filesizeformat", "binary", do_filesizeformat},
    {NULL, NULL, NULL},
};

// ---- methods ----

enum side { PAD_LEFT = 1, PAD_RIGHT = 2 };

static enum graft_status pad(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *argv, int sides,
                             struct jinja_value *out)
{
    static const struct jinja_string blank = {.data = " ", .length = 1, .chars = 1};
    const struct jinja_string *with = argv[1].type == JINJA_STRING ? argv[1].as.string : &blank, *s = in->as.string;
    struct jinja_buffer buffer = {0};
    int64_t width;
    if (!jinja_as_int(&argv[0], &width) || width > INT32_MAX || with->chars != 1) {
        return graft_fail(GRAFT_E_ARGUMENT, "padding: needs a width, and one character");
    }
    int64_t missing = width > (int64_t)s->chars ? width - (int64_t)s->chars : 0;
    int64_t left = sides == PAD_LEFT ? missing : sides == PAD_RIGHT ? 0 : missing / 2 + (missing & width & 1);
    GRAFT_TRY(graft_jinja_charge(run, (uint64_t)missing));
    for (int64_t i = 0; i < missing; i++) {
        if (i == left) {
            GRAFT_TRY(graft_jinja_put(run, &buffer, s->data, s->length));
        }
        GRAFT_TRY(graft_jinja_put(run, &buffer, with->data, with->length));
    }
    if (left >= missing) {
        GRAFT_TRY(graft_jinja_put(run, &buffer, s->data, s->length));
    }
    return graft_jinja_finish(run, &buffer, out);
}
FILTER(str_ljust)
{
    (void)args;
    return pad(run, in, argv, PAD_RIGHT, out);
}
FILTER(str_rjust)
{
    (void)args;
    return pad(run, in, argv, PAD_LEFT, out);
}
FILTER(str_center)
{
    (void)args;
    return pad(run, in, argv, PAD_LEFT | PAD_RIGHT, out);
}
// Zeros in front, but behind a sign.
FILTER(str_zfill)
{
    (void)args;
    const struct jinja_string *s = in->as.string;
    bool sign = s->length > 0 && (s->data[0] == '+' || s->data[0] == '-');
    struct jinja_buffer buffer = {0};
    int64_t width = 0;
    if (!jinja_as_int(&argv[0], &width) || width > INT32_MAX) {
        return graft_fail(GRAFT_E_ARGUMENT, "zfill: needs a width");
    }
    GRAFT_TRY(graft_jinja_charge(run, width > 0 ? (uint64_t)width : 0));
    GRAFT_TRY(graft_jinja_put(run, &buffer, s->data, sign));
    for (int64_t i = (int64_t)s->chars; i < width; i++) {
        GRAFT_TRY(graft_jinja_puts(run, &buffer, "0"));
    }
    GRAFT_TRY(graft_jinja_put(run, &buffer, s->data + sign, s->length - sign));
    return graft_jinja_finish(run, &buffer, out);
}
FILTER(str_swapcase)
{
    (void)argv;
    (void)args;
    struct jinja_buffer buffer = {0};
    GRAFT_TRY(graft_jinja_charge(run, in->as.string->length / 16));
    for (uint64_t at = 0; at < in->as.string->length;) {
        uint64_t start = at;
        uint32_t code = graft_jinja_decode(in->as.string->data, in->as.string->length, &at);
        struct jinja_value one, swapped;
        bool upper = utf8proc_category((utf8proc_int32_t)code) == UTF8PROC_CATEGORY_LU;
        GRAFT_TRY(graft_jinja_share(&run->arena, in->as.string, start, at - start, &one));
        GRAFT_TRY(graft_jinja_case(run, one.as.string, upper ? JINJA_LOWER : JINJA_UPPER, &swapped));
        GRAFT_TRY(graft_jinja_put(run, &buffer, swapped.as.string->data, swapped.as.string->length));
    }
    return graft_jinja_finish(run, &buffer, out);
}

enum kind { KIND_LETTER = 1, KIND_DECIMAL = 2, KIND_NUMBER = 4, KIND_UPPER = 8, KIND_LOWER = 16, KIND_WIDE = 32 };

static unsigned kind_of(uint32_t code)
{
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);
    unsigned kind = code < 0x80 ? 0 : KIND_WIDE;
    kind |= c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO ? KIND_LETTER : 0;
    kind |= c == UTF8PROC_CATEGORY_ND ? KIND_DECIMAL | KIND_NUMBER : 0;
    kind |= c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO ? KIND_NUMBER : 0;
    kind |= c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LT ? KIND_UPPER : 0;
    kind |= c == UTF8PROC_CATEGORY_LL ? KIND_LOWER : 0;
    return kind;
}

// Of all characters: what every one and what any one of them is.
static enum graft_status kinds(struct jinja_run *run, const struct jinja_value *in, unsigned of_all, struct jinja_value *out,
                               unsigned *any)
{
    const struct jinja_string *s = in->as.string;
    bool all = s->length > 0;
    *any = 0;
    for (uint64_t at = 0; at < s->length;) {
        unsigned kind = kind_of(graft_jinja_decode(s->data, s->length, &at));
        all = all && (kind & of_all);
        *any |= kind;
    }
    *out = jinja_bool(all);
    return graft_jinja_charge(run, s->length / 64);
}
#define IS_KIND(name, of_all)                                                                                                  \
    FILTER(name)                                                                                                               \
    {                                                                                                                          \
        (void)argv;                                                                                                            \
        (void)args;                                                                                                            \
        unsigned any;                                                                                                          \
        return kinds(run, in, (of_all), out, &any);                                                                            \
    }
IS_KIND(str_isalpha, KIND_LETTER)
IS_KIND(str_isalnum, KIND_LETTER | KIND_NUMBER)
IS_KIND(str_isdecimal, KIND_DECIMAL)
IS_KIND(str_isnumeric, KIND_NUMBER)
FILTER(str_isupper)
{
    (void)argv;
    (void)args;
    unsigned any;
    GRAFT_TRY(kinds(run, in, 0, out, &any));
    *out = jinja_bool((any & KIND_UPPER) && !(any & KIND_LOWER));
    return GRAFT_OK;
}
FILTER(str_islower)
{
    (void)argv;
    (void)args;
    unsigned any;
    GRAFT_TRY(kinds(run, in, 0, out, &any));
    *out = jinja_bool((any & KIND_LOWER) && !(any & KIND_UPPER));
    return GRAFT_OK;
}
FILTER(str_isascii)
{
    (void)argv;
    (void)args;
    unsigned any;
    GRAFT_TRY(kinds(run, in, 0, out, &any));
    *out = jinja_bool(!(any & KIND_WIDE));
    return GRAFT_OK;
}

const struct jinja_method_def graft_jinja_more_methods[] = {
    {JINJA_STRING, "ljust", "width! fillchar", str_ljust},
    {JINJA_STRING, "rjust", "width! fillchar", str_rjust},
    {JINJA_STRING, "center", "width! fillchar", str_center},
    {JINJA_STRING, "zfill", "width!", str_zfill},
    {JINJA_STRING, "swapcase", "", str_swapcase},
    {JINJA_STRING, "isalpha", "", str_isalpha},
    {JINJA_STRING, "isalnum", "", str_isalnum},
    {JINJA_STRING, "isdecimal", "", str_isdecimal},
    {JINJA_STRING, "isnumeric", "", str_isnumeric},
    {JINJA_STRING, "isupper", "", str_isupper},
    {JINJA_STRING, "islower", "", str_islower},
    {JINJA_STRING, "isascii", "", str_isascii},
    {JINJA_UNSET, NULL, NULL, NULL},
};
