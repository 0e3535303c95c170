// SPDX-License-Identifier: Apache-2.0
// Filters on one value: text, numbers, defaults. The look-up of all filters.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/text/jinja.h"

#define FILTER(name)                                                                                                           \
    static enum graft_status name(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *argv,         \
                                  const struct jinja_args *args, struct jinja_value *out)
#define UNUSED (void)run, (void)argv, (void)args

FILTER(do_string)
{
    UNUSED;
    return graft_jinja_str(run, in, out);
}

static enum graft_status change_case(struct jinja_run *run, const struct jinja_value *in, enum jinja_case how,
                                     struct jinja_value *out)
{
    struct jinja_value text;
    GRAFT_TRY(graft_jinja_str(run, in, &text));
    return graft_jinja_case(run, text.as.string, how, out);
}
FILTER(do_upper)
{
    UNUSED;
    return change_case(run, in, JINJA_UPPER, out);
}
FILTER(do_lower)
{
    UNUSED;
    return change_case(run, in, JINJA_LOWER, out);
}
FILTER(do_capitalize)
{
    UNUSED;
    return change_case(run, in, JINJA_CAPITALIZE, out);
}
FILTER(do_title)
{
    UNUSED;
    return change_case(run, in, JINJA_FILTER_TITLE, out);
}

FILTER(do_trim)
{
    (void)args;
    struct jinja_value text;
    GRAFT_TRY(graft_jinja_str(run, in, &text));
    const struct jinja_string *chars = argv[0].type == JINJA_STRING ? argv[0].as.string : NULL;
    return graft_jinja_strip(run, text.as.string, chars, true, true, out);
}

FILTER(do_replace)
{
    (void)args;
    struct jinja_value text, old, new_text;
    int64_t times = -1;
    GRAFT_TRY(graft_jinja_str(run, in, &text));
    GRAFT_TRY(graft_jinja_str(run, &argv[0], &old));
    GRAFT_TRY(graft_jinja_str(run, &argv[1], &new_text));
    jinja_as_int(&argv[2], &times);
    return graft_jinja_replace(run, text.as.string, old.as.string, new_text.as.string, times, out);
}

FILTER(do_default)
{
    (void)args;
    bool missing = in->type == JINJA_UNDEFINED || (graft_jinja_truth(&argv[1]) && !graft_jinja_truth(in));
    if (missing && argv[0].type == JINJA_UNSET) {
        return graft_jinja_string(&run->arena, "", 0, out);
    }
    *out = missing ? argv[0] : *in;
    return GRAFT_OK;
}

FILTER(do_indent)
{
    (void)args;
    struct jinja_value text, lines, pad, times = jinja_int(4), blank;
    GRAFT_TRY(graft_jinja_str(run, in, &text));
    if (argv[0].type == JINJA_STRING) {
        pad = argv[0];
    } else {
        if (argv[0].type != JINJA_UNSET && !jinja_as_int(&argv[0], &times.as.integer)) {
            return graft_fail(GRAFT_E_ARGUMENT, "indent: width must be an integer or a string");
        }
        GRAFT_TRY(graft_jinja_string(&run->arena, " ", 1, &blank));
        GRAFT_TRY(graft_jinja_arith(run, JINJA_OP_MUL, &blank, &times, &pad));
    }
    bool first = graft_jinja_truth(&argv[1]), blanks = graft_jinja_truth(&argv[2]);
    static const struct jinja_string newline = {.data = "\n", .length = 1, .chars = 1};
    GRAFT_TRY(graft_jinja_append(run, text.as.string, &newline, &text)); // so that a newline at the end counts as a line
    GRAFT_TRY(graft_jinja_splitlines(run, text.as.string, false, &lines));
    struct jinja_buffer buffer = {0};
    for (uint64_t i = 0; i < lines.as.list->count; i++) {
        const struct jinja_string *line = lines.as.list->items[i].as.string;
        bool padded = i == 0 ? first : blanks || line->length > 0;
        GRAFT_TRY(graft_jinja_puts(run, &buffer, i ? "\n" : ""));
        if (padded) {
            GRAFT_TRY(graft_jinja_put(run, &buffer, pad.as.string->data, pad.as.string->length));
        }
        GRAFT_TRY(graft_jinja_put(run, &buffer, line->data, line->length));
    }
    return graft_jinja_finish(run, &buffer, out);
}

FILTER(do_escape)
{
    UNUSED;
    struct jinja_value text;
    struct jinja_buffer buffer = {0};
    GRAFT_TRY(graft_jinja_str(run, in, &text));
    for (uint64_t i = 0; i < text.as.string->length; i++) {
        char c = text.as.string->data[i];
        const char *name = c == '&'    ? "&amp;"
                           : c == '<'  ? "&lt;"
                           : c == '>'  ? "&gt;"
                           : c == '\'' ? "&#39;"
                           : c == '"'  ? "&#34;"
                                       : NULL;
        GRAFT_TRY(name ? graft_jinja_puts(run, &buffer, name) : graft_jinja_put(run, &buffer, &c, 1));
    }
    return graft_jinja_finish(run, &buffer, out);
}

// A number written as text, as Python's int() and float() read it: blanks around, a sign, digits with single _ between.
static bool read_number(const struct jinja_string *string, int64_t base, bool real, struct jinja_value *out)
{
    const char *s = string->data;
    uint64_t i = 0, end = string->length;
    while (i < end && graft_jinja_is_space((uint8_t)s[i])) {
        i++;
    }
    while (end > i && graft_jinja_is_space((uint8_t)s[end - 1])) {
        end--;
    }
    bool negative = i < end && s[i] == '-';
    i += i < end && (s[i] == '-' || s[i] == '+');
    if (end == i || end - i > 300) {
        return false;
    }
    if (real) {
        static const char *const names[] = {"inf", "infinity", "nan"};
        for (int n = 0; n < 3; n++) {
            size_t length = strlen(names[n]), same = 0;
            while (end - i == length && same < length && (s[i + same] | 0x20) == names[n][same]) {
                same++;
            }
            if (same == length) {
                double special = n == 2 ? (double)NAN : (double)INFINITY;
                *out = jinja_float(negative ? -special : special);
                return true;
            }
        }
        bool dot = false, digit = false, e = false;
        for (uint64_t k = i; k < end; k++) {
            bool is_digit = s[k] >= '0' && s[k] <= '9';
            bool sign = (s[k] == '+' || s[k] == '-') && (s[k - 1] | 0x20) == 'e' && k > i;
            if (s[k] == '.' && !dot && !e) {
                dot = true;
            } else if ((s[k] | 0x20) == 'e' && digit && !e && k + 1 < end) {
                e = true;
            } else if (s[k] == '_' ? !(digit && k + 1 < end && s[k - 1] != '_') : !is_digit && !sign) {
                return false;
            }
            digit |= is_digit;
        }
        double value;
        if (!digit || !graft_jinja_parse_float(s + i, end - i, &value)) {
            return false;
        }
        *out = jinja_float(negative ? -value : value);
        return true;
    }
    if (end - i > 2 && s[i] == '0' &&
        ((base == 16 && (s[i + 1] | 0x20) == 'x') || (base == 8 && (s[i + 1] | 0x20) == 'o') ||
         (base == 2 && (s[i + 1] | 0x20) == 'b'))) {
        i += 2;
    }
    int64_t value = 0;
    bool after_digit = false;
    for (; i < end; i++) {
        int digit = s[i] >= '0' && s[i] <= '9'                     ? s[i] - '0'
                    : (s[i] | 0x20) >= 'a' && (s[i] | 0x20) <= 'z' ? (s[i] | 0x20) - 'a' + 10
                                                                   : 99;
        if (s[i] == '_' && after_digit && i + 1 < end) {
            after_digit = false;
            continue;
        }
        if (digit >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_sub_overflow(value, (int64_t)digit, &value)) {
            return false;
        }
        after_digit = true;
    }
    if (!negative && value == INT64_MIN) {
        return false;
    }
    *out = jinja_int(negative ? value : -value);
    return true;
}

FILTER(do_int)
{
    (void)args;
    int64_t base = 10, integer;
    jinja_as_int(&argv[1], &base);
    struct jinja_value number = *in;
    if (in->type == JINJA_UNDEFINED) {
        return graft_jinja_undefined_error(in);
    }
    if (base < 2 || base > 36) {
        return graft_fail(GRAFT_E_ARGUMENT, "int: base must be 2 to 36, not %" PRId64, base);
    }
    if (jinja_as_int(in, &integer)) {
        *out = jinja_int(integer);
        return GRAFT_OK;
    }
    if (in->type == JINJA_STRING && read_number(in->as.string, base, false, out)) {
        return GRAFT_OK;
    }
    bool real = in->type == JINJA_STRING ? read_number(in->as.string, 10, true, &number) : in->type == JINJA_FLOAT;
    (void)run;
    if (real && number.as.number > -9.2e18 && number.as.number < 9.2e18) {
        *out = jinja_int((int64_t)number.as.number);
        return GRAFT_OK;
    }
    *out = argv[0].type == JINJA_UNSET ? jinja_int(0) : argv[0];
    return GRAFT_OK;
}

FILTER(do_float)
{
    (void)args, (void)run;
    double number;
    if (in->type == JINJA_UNDEFINED) {
        return graft_jinja_undefined_error(in);
    }
    if (jinja_as_number(in, &number)) {
        *out = jinja_float(number);
    } else if (in->type != JINJA_STRING || !read_number(in->as.string, 10, true, out)) {
        *out = argv[0].type == JINJA_UNSET ? jinja_float(0) : argv[0];
    }
    return GRAFT_OK;
}

FILTER(do_abs)
{
    UNUSED;
    double number;
    int64_t integer;
    if (in->type == JINJA_FLOAT) {
        *out = jinja_float(fabs(in->as.number));
        return GRAFT_OK;
    }
    if (!jinja_as_number(in, &number) || !jinja_as_int(in, &integer)) {
        return in->type == JINJA_UNDEFINED
                   ? graft_jinja_undefined_error(in)
                   : graft_fail(GRAFT_E_ARGUMENT, "abs: needs a number, not %s", graft_jinja_type_name(in));
    }
    struct jinja_value value = jinja_int(integer);
    return graft_jinja_negate(run, &value, integer < 0, out);
}

// common: half to even at the decimal place, as Python's round(); ceil and floor scale first.
FILTER(do_round)
{
    (void)args, (void)run;
    int64_t precision = 0;
    double number;
    jinja_as_int(&argv[0], &precision);
    if (!jinja_as_number(in, &number)) {
        return in->type == JINJA_UNDEFINED
                   ? graft_jinja_undefined_error(in)
                   : graft_fail(GRAFT_E_ARGUMENT, "round: needs a number, not %s", graft_jinja_type_name(in));
    }
    bool ceiling = argv[1].type == JINJA_STRING && jinja_name_is(argv[1].as.string, "ceil");
    bool flooring = argv[1].type == JINJA_STRING && jinja_name_is(argv[1].as.string, "floor");
    if (argv[1].type != JINJA_UNSET && !ceiling && !flooring &&
        !(argv[1].type == JINJA_STRING && jinja_name_is(argv[1].as.string, "common"))) {
        return graft_fail(GRAFT_E_ARGUMENT, "method must be common, ceil or floor");
    }
    precision = precision < -300 ? -300 : precision > 300 ? 300 : precision;
    char power[8]; // correctly rounded, which pow() of some C libraries is not
    snprintf(power, sizeof power, "1e%d", (int)precision);
    double scale = strtod(power, NULL);
    if (ceiling || flooring) {
        *out = jinja_float((ceiling ? ceil(number * scale) : floor(number * scale)) / scale);
        return GRAFT_OK;
    }
    if (in->type != JINJA_FLOAT && precision >= 0) {
        *out = jinja_int(in->type == JINJA_INT ? in->as.integer : in->as.boolean);
        return GRAFT_OK;
    }
    if (precision <= 0) {
        double rounded = nearbyint(number * scale) / scale;
        *out = in->type == JINJA_FLOAT ? jinja_float(rounded) : jinja_int((int64_t)rounded);
        return GRAFT_OK;
    }
    // Correct decimal rounding is what printing does.
    char text[700];
    int length = precision < 30 && fabs(number) < 1e300 ? snprintf(text, sizeof text, "%.*f", (int)precision, fabs(number)) : 0;
    for (int i = 0; i < length; i++) {
        text[i] = text[i] >= '0' && text[i] <= '9' ? text[i] : '.';
    }
    double rounded = number;
    if (length && graft_jinja_parse_float(text, (uint64_t)length, &rounded)) {
        rounded = number < 0 ? -rounded : rounded;
    }
    *out = jinja_float(rounded);
    return GRAFT_OK;
}

FILTER(do_length)
{
    UNUSED;
    uint64_t length;
    if (!graft_jinja_length(in, &length)) {
        return graft_fail(GRAFT_E_ARGUMENT, "object of type '%s' has no len()", graft_jinja_type_name(in));
    }
    *out = jinja_int((int64_t)length);
    return GRAFT_OK;
}

FILTER(do_format)
{
    (void)argv;
    struct jinja_value text, values;
    GRAFT_TRY(graft_jinja_str(run, in, &text));
    GRAFT_TRY(graft_jinja_list(run, JINJA_TUPLE, args->count, &values));
    for (uint64_t i = 0; i < args->count; i++) {
        GRAFT_TRY(graft_jinja_push(run, values.as.list, &args->plain[i]));
    }
    if (args->keywords) {
        values = (struct jinja_value){.type = JINJA_DICT, .as.dict = args->keywords};
    }
    return graft_jinja_percent(run, text.as.string, &values, out);
}

FILTER(do_wordcount)
{
    UNUSED;
    struct jinja_value text;
    int64_t words = 0;
    bool inside = false;
    GRAFT_TRY(graft_jinja_str(run, in, &text));
    GRAFT_TRY(graft_jinja_charge(run, text.as.string->length / 64));
    for (uint64_t i = 0; i < text.as.string->length; i++) {
        char c = text.as.string->data[i];
        bool word = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_' || (c & 0x80);
        words += word && !inside;
        inside = word;
    }
    *out = jinja_int(words);
    return GRAFT_OK;
}

FILTER(do_attr)
{
    (void)args;
    *out = jinja_undefined(NULL);
    if (in->type == JINJA_DICT) { // attributes only, no items
        struct jinja_value empty = {.type = JINJA_DICT};
        GRAFT_TRY(graft_jinja_dict(run, &empty.as.dict));
        return argv[0].type == JINJA_STRING ? graft_jinja_attr(run, &empty, argv[0].as.string, out) : GRAFT_OK;
    }
    return argv[0].type == JINJA_STRING ? graft_jinja_attr(run, in, argv[0].as.string, out) : GRAFT_OK;
}

FILTER(do_truncate)
{
    (void)args;
    struct jinja_value text, end, start = jinja_none(), none = jinja_none();
    int64_t length = 255, leeway = 5;
    GRAFT_TRY(graft_jinja_str(run, in, &text));
    jinja_as_int(&argv[0], &length);
    jinja_as_int(&argv[3], &leeway);
    GRAFT_TRY(argv[2].type == JINJA_STRING ? (end = argv[2], GRAFT_OK) : graft_jinja_string(&run->arena, "...", 3, &end));
    if (length < (int64_t)end.as.string->chars || leeway < 0 || length > INT32_MAX || leeway > INT32_MAX) {
        return graft_fail(GRAFT_E_ARGUMENT, "truncate: length %" PRId64 " is shorter than the end mark", length);
    }
    if ((int64_t)text.as.string->chars <= length + leeway) {
        *out = text;
        return GRAFT_OK;
    }
    struct jinja_value stop = jinja_int(length - (int64_t)end.as.string->chars), cut;
    GRAFT_TRY(graft_jinja_slice(run, &text, &start, &stop, &none, &cut));
    static const struct jinja_string blank = {.data = " ", .length = 1, .chars = 1};
    uint64_t at = UINT64_MAX;
    if (!graft_jinja_truth(&argv[1])) {
        GRAFT_TRY(graft_jinja_find(run, cut.as.string, &blank, 0, cut.as.string->length, true, &at));
    }
    if (at != UINT64_MAX) {
        GRAFT_TRY(graft_jinja_share(&run->arena, cut.as.string, 0, at, &cut));
    }
    return graft_jinja_append(run, cut.as.string, end.as.string, out);
}

FILTER(do_center)
{
    (void)args;
    struct jinja_value text;
    struct jinja_buffer buffer = {0};
    int64_t width = 80;
    GRAFT_TRY(graft_jinja_str(run, in, &text));
    jinja_as_int(&argv[0], &width);
    int64_t pad = width > (int64_t)text.as.string->chars ? width - (int64_t)text.as.string->chars : 0;
    int64_t left = pad / 2 + (pad & width & 1);
    GRAFT_TRY(graft_jinja_charge(run, (uint64_t)pad));
    for (int64_t i = 0; i < left; i++) {
        GRAFT_TRY(graft_jinja_put(run, &buffer, " ", 1));
    }
    GRAFT_TRY(graft_jinja_put(run, &buffer, text.as.string->data, text.as.string->length));
    for (int64_t i = left; i < pad; i++) {
        GRAFT_TRY(graft_jinja_put(run, &buffer, " ", 1));
    }
    return graft_jinja_finish(run, &buffer, out);
}

static const struct jinja_filter_def filters[] = {
    {"string", "", do_string},
    {"safe", "", do_string},
    {"upper", "", do_upper},
    {"lower", "", do_lower},
    {"capitalize", "", do_capitalize},
    {"title", "", do_title},
    {"trim", "chars", do_trim},
    {"replace", "old! new! count", do_replace},
    {"default", "default_value boolean", do_default},
    {"d", "default_value boolean", do_default},
    {"indent", "width first blank", do_indent},
    {"escape", "", do_escape},
    {"e", "", do_escape},
    {"forceescape", "", do_escape},
    {"int", "default base", do_int},
    {"float", "default", do_float},
    {"abs", "", do_abs},
    {"round", "precision method", do_round},
    {"length", "", do_length},
    {"count", "", do_length},
    {"format", NULL, do_format},
    {"wordcount", "", do_wordcount},
    {"attr", "name!", do_attr},
    {"truncate", "length killwords end leeway", do_truncate},
    {"center", "width", do_center},
    {"tojson", "ensure_ascii indent separators sort_keys", graft_jinja_tojson},
    {"from_json", "", graft_jinja_fromjson},
    {"fromjson", "", graft_jinja_fromjson},
};

const struct jinja_filter_def *graft_jinja_find_filter(const char *name, uint64_t length)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        if (strlen(filters[i].name) == length && memcmp(filters[i].name, name, (size_t)length) == 0) {
            return &filters[i];
        }
    }
    const struct jinja_filter_def *const tables[] = {graft_jinja_sequence_filters, graft_jinja_more_filters,
                                                       graft_jinja_layout_filters};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        for (const struct jinja_filter_def *def = tables[t]; def->name; def++) {
            if (strlen(def->name) == length && memcmp(def->name, name, (size_t)length) == 0) {
                return def;
            }
        }
    }
    return NULL;
}
