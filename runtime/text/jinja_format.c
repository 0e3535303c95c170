// SPDX-License-Identifier: Apache-2.0
// str.format (https://docs.python.org/3/library/string.html#format-specification-mini-language) and the % operator, for
// strings, integers and floats.
#include <math.h>
#include <stdio.h>

#include "runtime/text/jinja.h"

struct spec {
    char fill[4];
    uint32_t fill_bytes;
    char align, sign, type; // 0: none given
    bool alternate, grouped;
    int64_t width, precision; // -1: none
};
enum { MAX_WIDTH = 100000, MAX_PRECISION = 60 };

static uint64_t read_count(const char *s, uint64_t length, uint64_t *at, int64_t *out)
{
    uint64_t start = *at;
    int64_t value = 0;
    while (*at < length && s[*at] >= '0' && s[*at] <= '9') {
        value = value > MAX_WIDTH ? value : value * 10 + (s[*at] - '0');
        ++*at;
    }
    if (*at > start) {
        *out = value;
    }
    return *at - start;
}

static enum graft_status parse_spec(const char *s, uint64_t length, struct spec *spec)
{
    *spec = (struct spec){.fill = " ", .fill_bytes = 1, .width = 0, .precision = -1};
    uint64_t at = 0, first = 0;
    if (length) {
        graft_jinja_decode(s, length, &first);
    }
    if (length > first && s[first] && strchr("<>^=", s[first])) {
        memcpy(spec->fill, s, (size_t)first);
        spec->fill_bytes = (uint32_t)first;
        spec->align = s[first];
        at = first + 1;
    } else if (length && s[0] && strchr("<>^=", s[0])) {
        spec->align = s[0];
        at = 1;
    }
    if (at < length && (s[at] == '+' || s[at] == '-' || s[at] == ' ')) {
        spec->sign = s[at++];
    }
    if (at < length && s[at] == '#') {
        spec->alternate = true;
        at++;
    }
    if (at < length && s[at] == '0') {
        if (!spec->align) {
            spec->align = '=';
            spec->fill[0] = '0';
        }
        at++;
    }
    read_count(s, length, &at, &spec->width);
    if (at < length && s[at] == ',') {
        spec->grouped = true;
        at++;
    }
    if (at < length && s[at] == '.') {
        at++;
        if (read_count(s, length, &at, &spec->precision) == 0) {
            return graft_fail(GRAFT_E_ARGUMENT, "format: '.' without a precision");
        }
    }
    if (at < length && s[at] && strchr("sdfFeEgGxXobc%", s[at])) {
        spec->type = s[at++];
    }
    if (at < length || spec->width > MAX_WIDTH || spec->precision > MAX_WIDTH) {
        return graft_fail(GRAFT_E_ARGUMENT, "format: '%.*s' is no known format", (int)(length < 60 ? length : 60), s);
    }
    return GRAFT_OK;
}

// `sign` (may be empty) and `body`, padded to the width.
static enum graft_status pad(struct jinja_run *run, struct jinja_buffer *buffer, const struct spec *spec, const char *sign,
                             const char *body, uint64_t length, char default_align)
{
    char align = spec->align ? spec->align : default_align;
    uint64_t chars = graft_jinja_count(body, length) + strlen(sign);
    uint64_t total = (uint64_t)spec->width > chars ? (uint64_t)spec->width - chars : 0;
    uint64_t left = align == '<' ? 0 : align == '^' ? total / 2 : total;
    GRAFT_TRY(graft_jinja_charge(run, total / 8));
    if (align == '=') {
        GRAFT_TRY(graft_jinja_puts(run, buffer, sign));
    }
    for (uint64_t i = 0; i < left; i++) {
        GRAFT_TRY(graft_jinja_put(run, buffer, spec->fill, spec->fill_bytes));
    }
    if (align != '=') {
        GRAFT_TRY(graft_jinja_puts(run, buffer, sign));
    }
    GRAFT_TRY(graft_jinja_put(run, buffer, body, length));
    for (uint64_t i = left; i < total; i++) {
        GRAFT_TRY(graft_jinja_put(run, buffer, spec->fill, spec->fill_bytes));
    }
    return GRAFT_OK;
}

// Put commas into the integer digits at the start of `text`.
static uint32_t group(char *text, uint32_t length, uint32_t room)
{
    uint32_t digits = 0;
    while (digits < length && text[digits] >= '0' && text[digits] <= '9') {
        digits++;
    }
    for (uint32_t at = digits; at > 3 && length + 1 < room;) {
        at -= 3;
        memmove(text + at + 1, text + at, length - at);
        text[at] = ',';
        length++;
    }
    return length;
}

static enum graft_status put_number(struct jinja_run *run, struct jinja_buffer *buffer, const struct spec *spec,
                                    const struct jinja_value *value)
{
    char text[512];
    int64_t integer = 0;
    double number = 0;
    bool is_int = jinja_as_int(value, &integer);
    char type = spec->type ? spec->type : is_int ? 'd' : 0;
    jinja_as_number(value, &number);
    bool negative = is_int ? integer < 0 : signbit(number) && !isnan(number);
    uint64_t magnitude = integer < 0 ? 0 - (uint64_t)integer : (uint64_t)integer;
    uint32_t length = 0;
    const char *prefix = "";
    if (type == 's' || (!is_int && type && strchr("dxXobc", type))) {
        return graft_fail(GRAFT_E_ARGUMENT, "format: code '%c' does not fit a value of type '%s'", type,
                          graft_jinja_type_name(value));
    }
    if (type == 'c') {
        if (integer < 0 || integer > 0x10ffff || (integer >= 0xd800 && integer <= 0xdfff)) {
            return graft_fail(GRAFT_E_ARGUMENT, "format: %" PRId64 " is no character", integer);
        }
        return pad(run, buffer, spec, "", text, graft_jinja_encode((uint32_t)integer, text), '<');
    }
    if (type && strchr("dxXob", type)) {
        uint64_t base = type == 'd' ? 10 : type == 'o' ? 8 : type == 'b' ? 2 : 16;
        char digits[64];
        do {
            digits[length++] = (type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[magnitude % base];
            magnitude /= base;
        } while (magnitude);
        for (uint32_t i = 0; i < length; i++) {
            text[i] = digits[length - 1 - i];
        }
        prefix = !spec->alternate || type == 'd' ? "" : type == 'x' ? "0x" : type == 'X' ? "0X" : type == 'o' ? "0o" : "0b";
    } else if (!isfinite(number)) {
        length = (uint32_t)snprintf(text, sizeof text, "%s", isnan(number) ? "nan" : "inf");
    } else if (!type && spec->precision < 0) {
        length = graft_jinja_float(fabs(number), text);
    } else {
        int precision = spec->precision < 0 ? 6 : (int)spec->precision;
        char format[] = {'%', '.', '*', type == '%' ? 'f' : type ? type : 'g', 0};
        double scaled = fabs(number) * (type == '%' ? 100 : 1);
        if (precision > MAX_PRECISION) {
            return graft_fail(GRAFT_E_ARGUMENT, "format: precision %d is more than %d", precision, MAX_PRECISION);
        }
        switch (format[3]) { // literal formats, so that the compiler checks them
        case 'f':
        case 'F':
            length = (uint32_t)snprintf(text, sizeof text, "%.*f", precision, scaled);
            break;
        case 'e':
            length = (uint32_t)snprintf(text, sizeof text, "%.*e", precision, scaled);
            break;
        case 'E':
            length = (uint32_t)snprintf(text, sizeof text, "%.*E", precision, scaled);
            break;
        default:
            length = (uint32_t)snprintf(text, sizeof text, type == 'G' ? "%.*G" : "%.*g", precision ? precision : 1, scaled);
            break;
        }
        for (uint32_t i = 0; i < length; i++) { // the C locale's decimal point
            bool plain = (text[i] >= '0' && text[i] <= '9') || text[i] == '+' || text[i] == '-' || (text[i] | 0x20) == 'e';
            text[i] = plain ? text[i] : '.';
        }
        if (type == '%') {
            text[length++] = '%';
        }
    }
    length = spec->grouped ? group(text, length, sizeof text) : length;
    char sign[4];
    snprintf(sign, sizeof sign, "%s%s", negative ? "-" : spec->sign == '+' ? "+" : spec->sign == ' ' ? " " : "", prefix);
    return pad(run, buffer, spec, sign, text, length, '>');
}

static enum graft_status put_formatted(struct jinja_run *run, struct jinja_buffer *buffer, const struct spec *spec,
                                       const struct jinja_value *value)
{
    bool number = value->type == JINJA_INT || value->type == JINJA_FLOAT || (value->type == JINJA_BOOL && spec->type);
    if (number) {
        return put_number(run, buffer, spec, value);
    }
    struct jinja_value text;
    if (spec->type && spec->type != 's') {
        return graft_fail(GRAFT_E_ARGUMENT, "format: code '%c' does not fit a value of type '%s'", spec->type,
                          graft_jinja_type_name(value));
    }
    GRAFT_TRY(graft_jinja_str(run, value, &text));
    uint64_t bytes = text.as.string->length;
    if (spec->precision >= 0 && (uint64_t)spec->precision < text.as.string->chars) {
        bytes = graft_jinja_offset(text.as.string, (uint64_t)spec->precision);
    }
    return pad(run, buffer, spec, "", text.as.string->data, bytes, '<');
}

// "0.name[key]" to a value.
static enum graft_status field(struct jinja_run *run, const char *name, uint64_t length, const struct jinja_args *args,
                               int64_t *automatic, struct jinja_value *out)
{
    uint64_t at = 0;
    int64_t index = -1;
    while (at < length && name[at] != '.' && name[at] != '[') {
        at++;
    }
    uint64_t digits = 0;
    if (read_count(name, at, &digits, &index) < at && at > 0) {
        index = -1;
    }
    if (at == 0) {
        index = (*automatic)++;
    }
    if (index >= 0) {
        if ((uint64_t)index >= args->count) {
            return graft_fail(GRAFT_E_ARGUMENT, "format: there is no argument number %" PRId64, index);
        }
        *out = args->plain[index];
    } else {
        struct jinja_value key;
        struct jinja_entry *entry = NULL;
        GRAFT_TRY(graft_jinja_string(&run->arena, name, at, &key));
        if (args->keywords) {
            GRAFT_TRY(graft_jinja_dict_get(run, args->keywords, &key, &entry));
        }
        if (!entry) {
            return graft_fail(GRAFT_E_ARGUMENT, "format: there is no argument '%.*s'", (int)(at < 60 ? at : 60), name);
        }
        *out = entry->value;
    }
    while (at < length) {
        bool item = name[at] == '[';
        uint64_t start = ++at;
        while (at < length && (item ? name[at] != ']' : name[at] != '.' && name[at] != '[')) {
            at++;
        }
        struct jinja_value key;
        int64_t number = 0;
        uint64_t p = start;
        GRAFT_TRY(graft_jinja_string(&run->arena, name + start, at - start, &key));
        if (item && read_count(name, at, &p, &number) == at - start) {
            key = jinja_int(number);
        }
        GRAFT_TRY(item ? graft_jinja_item(run, out, &key, out) : graft_jinja_attr(run, out, key.as.string, out));
        at += item;
    }
    return GRAFT_OK;
}

enum graft_status graft_jinja_format(struct jinja_run *run, const struct jinja_string *pattern, const struct jinja_args *args,
                                     struct jinja_value *out)
{
    struct jinja_buffer buffer = {0};
    const char *s = pattern->data;
    int64_t automatic = 0;
    for (uint64_t at = 0; at < pattern->length;) {
        uint64_t start = at;
        while (at < pattern->length && s[at] != '{' && s[at] != '}') {
            at++;
        }
        GRAFT_TRY(graft_jinja_put(run, &buffer, s + start, at - start));
        GRAFT_TRY(graft_jinja_charge(run, 1));
        if (at >= pattern->length) {
            break;
        }
        if (at + 1 < pattern->length && s[at + 1] == s[at]) {
            GRAFT_TRY(graft_jinja_put(run, &buffer, s + at, 1));
            at += 2;
            continue;
        }
        const char *close = s[at] == '{' ? memchr(s + at, '}', (size_t)(pattern->length - at)) : NULL;
        if (!close) {
            return graft_fail(GRAFT_E_ARGUMENT, "format: single '%c' in the pattern", s[at]);
        }
        const char *name = s + at + 1;
        uint64_t length = (uint64_t)(close - name), end = 0;
        while (end < length && name[end] != '!' && name[end] != ':') {
            end++;
        }
        struct jinja_value value;
        struct spec spec;
        GRAFT_TRY(field(run, name, end, args, &automatic, &value));
        if (end < length && name[end] == '!') {
            if (end + 1 >= length || (name[end + 1] != 'r' && name[end + 1] != 's')) {
                return graft_fail(GRAFT_E_ARGUMENT, "format: only !r and !s are known");
            }
            if (name[end + 1] == 'r') {
                struct jinja_buffer text = {0};
                GRAFT_TRY(graft_jinja_repr(run, &text, &value, 0));
                GRAFT_TRY(graft_jinja_finish(run, &text, &value));
            }
            end += 2;
        }
        end += end < length && name[end] == ':';
        GRAFT_TRY(parse_spec(name + end, length - end, &spec));
        GRAFT_TRY(put_formatted(run, &buffer, &spec, &value));
        at = (uint64_t)(close - s) + 1;
    }
    return graft_jinja_finish(run, &buffer, out);
}

enum graft_status graft_jinja_percent(struct jinja_run *run, const struct jinja_string *pattern,
                                      const struct jinja_value *values, struct jinja_value *out)
{
    struct jinja_buffer buffer = {0};
    const char *s = pattern->data;
    bool tuple = values->type == JINJA_TUPLE;
    uint64_t count = tuple ? values->as.list->count : 1, used = 0, n = pattern->length;
    for (uint64_t at = 0; at < n;) {
        uint64_t start = at;
        while (at < n && s[at] != '%') {
            at++;
        }
        GRAFT_TRY(graft_jinja_put(run, &buffer, s + start, at - start));
        GRAFT_TRY(graft_jinja_charge(run, 1));
        if (at >= n) {
            break;
        }
        struct jinja_value value = {.type = JINJA_UNSET};
        struct spec spec = {.fill = " ", .fill_bytes = 1, .align = '>', .precision = -1};
        if (++at < n && s[at] == '(') {
            const char *close = memchr(s + at, ')', (size_t)(n - at));
            if (!close || values->type != JINJA_DICT) {
                return graft_fail(GRAFT_E_ARGUMENT, "format requires a mapping");
            }
            struct jinja_value key;
            struct jinja_entry *entry;
            GRAFT_TRY(graft_jinja_string(&run->arena, s + at + 1, (uint64_t)(close - s) - at - 1, &key));
            GRAFT_TRY(graft_jinja_dict_get(run, values->as.dict, &key, &entry));
            if (!entry) {
                return graft_fail(GRAFT_E_ARGUMENT, "format: there is no argument '%.60s'", key.as.string->data);
            }
            value = entry->value;
            used = count;
            at = (uint64_t)(close - s) + 1;
        }
        for (; at < n && s[at] && strchr("-+ 0#", s[at]); at++) {
            spec.align = s[at] == '-' ? '<' : s[at] == '0' && spec.align != '<' ? '=' : spec.align;
            spec.sign = s[at] == '+' || s[at] == ' ' ? s[at] : spec.sign;
            spec.alternate |= s[at] == '#';
        }
        spec.fill[0] = spec.align == '=' ? '0' : ' ';
        read_count(s, n, &at, &spec.width);
        if (at < n && s[at] == '.') {
            at++;
            spec.precision = 0;
            read_count(s, n, &at, &spec.precision);
        }
        char type = at < n ? s[at++] : 0;
        if (type == '%') {
            GRAFT_TRY(graft_jinja_put(run, &buffer, "%", 1));
            continue;
        }
        if (!type || !strchr("sridufFeEgGxXoc", type) || spec.width > MAX_WIDTH || spec.precision > MAX_WIDTH) {
            return graft_fail(GRAFT_E_ARGUMENT, "unsupported format character at byte %" PRIu64, at);
        }
        if (value.type == JINJA_UNSET) {
            if (used >= count) {
                return graft_fail(GRAFT_E_ARGUMENT, "not enough arguments for format string");
            }
            value = tuple ? values->as.list->items[used] : *values;
            used++;
        }
        spec.type = type == 'i' || type == 'u' ? 'd' : type;
        if (type == 's' || type == 'r') {
            struct jinja_buffer text = {0};
            GRAFT_TRY(type == 'r' ? graft_jinja_repr(run, &text, &value, 0) : graft_jinja_put_value(run, &text, &value));
            GRAFT_TRY(graft_jinja_finish(run, &text, &value));
            spec.type = 's';
            spec.align = spec.align == '=' ? '>' : spec.align;
            spec.fill[0] = ' ';
        } else if (spec.type == 'd' && value.type == JINJA_FLOAT && fabs(value.as.number) < 9e18) {
            value = jinja_int((int64_t)value.as.number);
        }
        GRAFT_TRY(put_formatted(run, &buffer, &spec, &value));
    }
    if (used < count && values->type != JINJA_DICT) {
        return graft_fail(GRAFT_E_ARGUMENT, "not all arguments converted during string formatting");
    }
    return graft_jinja_finish(run, &buffer, out);
}
