// SPDX-License-Identifier: Apache-2.0
// GBNF from JSON schemas: strings, numbers and literals.
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "platform/bytes.h"
#include "runtime/text/schema.h"
#include "runtime/text/vocab_private.h"

enum { DIGITS = 16 };
#define MOST_INTEGER INT64_C(9999999999999999) // of DIGITS digits

void graft_line_add(struct graft_line *line, const char *format, ...)
{
    char part[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(part, sizeof part, format, args);
    va_end(args);
    if (n >= 0) {
        graft_line_add_bytes(line, part, (uint64_t)n < sizeof part ? (uint64_t)n : sizeof part - 1);
    }
}

void graft_line_add_bytes(struct graft_line *line, const char *text, uint64_t bytes)
{
    if (line->status != GRAFT_OK) {
        return;
    }
    if (line->length + bytes + 1 > line->room) {
        uint64_t room = 2 * (line->length + bytes) + 256;
        line->status = room > 4 * (uint64_t)GRAFT_GRAMMAR_MAX_TEXT
                           ? graft_fail(GRAFT_E_LIMIT, "the text has more than %d bytes", GRAFT_GRAMMAR_MAX_TEXT)
                           : GRAFT_GROW(line->ctx, GRAFT_MEM_HOST, &line->text, room, "text that grows");
        if (line->status != GRAFT_OK) {
            return;
        }
        line->room = room;
    }
    memcpy(line->text + line->length, text, (size_t)bytes);
    line->length += bytes;
    line->text[line->length] = 0;
}

void graft_line_add_literal(struct graft_line *line, const char *bytes, uint64_t length)
{
    graft_line_add(line, "\"");
    for (uint64_t i = 0; i < length; i++) {
        uint8_t c = (uint8_t)bytes[i];
        if (c == '"' || c == '\\') {
            graft_line_add(line, "\\%c", c);
        } else if (c < 0x20 || c == 0x7f) {
            graft_line_add(line, "\\x%02x", c);
        } else {
            graft_line_add(line, "%c", c);
        }
    }
    graft_line_add(line, "\"");
}

void graft_line_add_character(struct graft_line *line, uint32_t character)
{
    bool plain =
        (character >= '0' && character <= '9') || ((character | 32) >= 'a' && (character | 32) <= 'z' && character < 0x80);
    graft_line_add(line, plain ? "%c" : character < 0x80 ? "\\x%02x" : "\\U%08" PRIx32, character);
}

enum graft_status graft_schema_fail(const struct graft_schema *schema, enum graft_status status, const char *format, ...)
{
    char what[400];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return graft_fail(status, "schema, at %s: %s", schema->path[0] ? schema->path : "its top", what);
}

enum graft_status graft_schema_literal(struct graft_schema *schema, const json_t *value, struct graft_line *line)
{
    const size_t flags = JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(17);
    size_t length = json_dumpb(value, NULL, 0, flags);
    char *text;
    GRAFT_TRY(GRAFT_NEW(schema->ctx, GRAFT_MEM_HOST, &text, length + 1, "a value of a schema"));
    bool good = length > 0 && json_dumpb(value, text, length, flags) == length;
    if (good) {
        graft_line_add_literal(line, text, length);
    }
    GRAFT_FREE(schema->ctx, &text);
    return good ? line->status : graft_fail(GRAFT_E_MEMORY, "no memory for a value of a schema");
}

enum graft_status graft_schema_count(struct graft_schema *schema, const json_t *node, const char *keyword, uint32_t standard,
                                     uint32_t *out)
{
    const json_t *value = json_object_get(node, keyword);
    *out = standard;
    if (!value) {
        return GRAFT_OK;
    }
    double number = json_is_number(value) ? json_number_value(value) : -1.0;
    if (!(number >= 0.0 && number <= GRAFT_GRAMMAR_MAX_REPEAT) || number != floor(number)) {
        return graft_schema_fail(schema, GRAFT_E_ARGUMENT, "%s must be a whole number from 0 to %d", keyword,
                                 GRAFT_GRAMMAR_MAX_REPEAT);
    }
    *out = (uint32_t)number;
    return GRAFT_OK;
}

// Formats as fixed shapes; dates have days that every month has.
static const char *shape_of_format(const char *format)
{
#define DATE  "[0-9]{4} \"-\" (\"0\" [1-9] | \"1\" [0-2]) \"-\" (\"0\" [1-9] | \"1\" [0-9] | \"2\" [0-8])"
#define CLOCK "([01] [0-9] | \"2\" [0-3]) \":\" [0-5] [0-9] \":\" [0-5] [0-9] (\".\" [0-9]{1,6})?"
#define ZONE  " (\"Z\" | [-+] ([01] [0-9] | \"2\" [0-3]) \":\" [0-5] [0-9])"
#define OCTET "([0-9] | [1-9] [0-9] | \"1\" [0-9] [0-9] | \"2\" [0-4] [0-9] | \"25\" [0-5])"
    static const struct {
        const char *format, *shape;
    } known[] = {
        {"date", DATE},
        {"time", CLOCK ZONE},
        {"date-time", DATE " \"T\" " CLOCK ZONE},
        {"uuid", "[0-9a-f]{8} \"-\" [0-9a-f]{4} \"-\" [0-9a-f]{4} \"-\" [0-9a-f]{4} \"-\" [0-9a-f]{12}"},
        {"ipv4", OCTET " \".\" " OCTET " \".\" " OCTET " \".\" " OCTET},
        {"email", "[a-zA-Z0-9] [a-zA-Z0-9_+-]{0,30} (\".\" [a-zA-Z0-9_+-]{1,30}){0,3} \"@\" ([a-zA-Z0-9]{1,30} \".\"){1,3} "
                  "[a-zA-Z]{2,10}"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].format, format) == 0) {
            return known[i].shape;
        }
    }
    return NULL;
}

enum graft_status graft_schema_string(struct graft_schema *schema, const json_t *node, struct graft_line *line)
{
    uint32_t low, high;
    GRAFT_TRY(graft_schema_count(schema, node, "minLength", 0, &low));
    GRAFT_TRY(graft_schema_count(schema, node, "maxLength", GRAFT_GRAMMAR_NONE, &high));
    const json_t *pattern = json_object_get(node, "pattern"), *format = json_object_get(node, "format");
    bool bounded = low > 0 || high != GRAFT_GRAMMAR_NONE;
    if (high < low) {
        return graft_schema_fail(schema, GRAFT_E_ARGUMENT, "minLength is above maxLength");
    }
    if ((pattern && !json_is_string(pattern)) || (format && !json_is_string(format))) {
        return graft_schema_fail(schema, GRAFT_E_ARGUMENT, "pattern and format must be strings");
    }
    if ((pattern != NULL) + (format != NULL) + bounded > 1) {
        return graft_schema_fail(schema, GRAFT_E_UNSUPPORTED, "only one of pattern, format and the lengths is supported");
    }
    graft_line_add(line, "\"\\\"\" ");
    if (pattern) {
        GRAFT_TRY(graft_schema_pattern(schema, json_string_value(pattern), json_string_length(pattern), line));
    } else if (format) {
        const char *shape = shape_of_format(json_string_value(format));
        if (!shape) {
            return graft_schema_fail(schema, GRAFT_E_UNSUPPORTED,
                                     "format %.60s is not supported; supported are date, time, date-time, uuid, ipv4 and email",
                                     json_string_value(format));
        }
        // The shapes are longer than one call of graft_line_add takes.
        for (size_t i = 0; shape[i]; i++) {
            graft_line_add(line, "%c", shape[i]);
        }
    } else if (high == GRAFT_GRAMMAR_NONE) {
        graft_line_add(line, "char{%" PRIu32 ",}", low);
    } else {
        graft_line_add(line, "char{%" PRIu32 ",%" PRIu32 "}", low, high);
    }
    graft_line_add(line, " \"\\\"\"");
    return line->status;
}

// ---- numbers ----

static void add_digits(struct graft_line *line, char low, char high, size_t more)
{
    if (low == high) {
        graft_line_add(line, "\"%c\"", low);
    } else {
        graft_line_add(line, "[%c-%c]", low, high);
    }
    if (more > 0) {
        graft_line_add(line, " [0-9]{%zu}", more);
    }
}

// Digits at least `from` (up == true) or at most `from`, as many as it has.
static void add_side(struct graft_line *line, const char *from, bool up)
{
    if (*from == 0) {
        graft_line_add(line, "\"\"");
        return;
    }
    graft_line_add(line, "(\"%c\" ", *from);
    add_side(line, from + 1, up);
    if (*from != (up ? '9' : '0')) {
        graft_line_add(line, " | ");
        add_digits(line, up ? (char)(*from + 1) : '0', up ? '9' : (char)(*from - 1), strlen(from + 1));
    }
    graft_line_add(line, ")");
}

// Numbers low to high of equally many digits.
static void add_between(struct graft_line *line, const char *low, const char *high)
{
    if (*low == 0) {
        graft_line_add(line, "\"\"");
        return;
    }
    if (*low == *high) {
        graft_line_add(line, "\"%c\" ", *low);
        add_between(line, low + 1, high + 1);
        return;
    }
    graft_line_add(line, "(\"%c\" ", *low);
    add_side(line, low + 1, true);
    graft_line_add(line, " | \"%c\" ", *high);
    add_side(line, high + 1, false);
    if (*low + 1 < *high) {
        graft_line_add(line, " | ");
        add_digits(line, (char)(*low + 1), (char)(*high - 1), strlen(low + 1));
    }
    graft_line_add(line, ")");
}

// 0 <= low <= high: one alternative for every number of digits.
static void add_naturals(struct graft_line *line, int64_t low, int64_t high)
{
    graft_line_add(line, "(");
    const char *bar = "";
    for (int64_t first = 0, last = 9; first <= high && last <= MOST_INTEGER; first = last + 1, last = 10 * last + 9) {
        int64_t from = low > first ? low : first, to = high < last ? high : last;
        if (from <= to) {
            char a[32], b[32];
            snprintf(a, sizeof a, "%" PRId64, from);
            snprintf(b, sizeof b, "%" PRId64, to);
            graft_line_add(line, "%s", bar);
            add_between(line, a, b);
            bar = " | ";
        }
    }
    graft_line_add(line, ")");
}

// Whole numbers low to high; `tail` behind each. *bar is put in front of what is added.
static void add_integers(struct graft_line *line, int64_t low, int64_t high, const char *tail, const char **bar)
{
    if (low < 0 && low <= high) {
        graft_line_add(line, "%s\"-\" ", *bar);
        add_naturals(line, high < 0 ? -high : 1, -low);
        graft_line_add(line, "%s", tail);
        *bar = " | ";
    }
    if (high >= 0 && low <= high) {
        graft_line_add(line, "%s", *bar);
        add_naturals(line, low > 0 ? low : 0, high);
        graft_line_add(line, "%s", tail);
        *bar = " | ";
    }
}

// A bound as a whole number rounded inwards; *strict: the bound itself is whole and left out.
static enum graft_status read_bound(struct graft_schema *schema, const json_t *node, const char *keyword, bool exclusive,
                                    bool lower, int64_t *bound, bool *strict, bool *any)
{
    const json_t *value = json_object_get(node, keyword);
    if (!value) {
        return GRAFT_OK;
    }
    if (!json_is_number(value)) {
        return graft_schema_fail(schema, GRAFT_E_ARGUMENT, "%s must be a number", keyword);
    }
    double number = json_number_value(value), whole = lower ? ceil(number) : floor(number);
    bool open = exclusive && whole == number;
    whole = whole < -(double)MOST_INTEGER ? -(double)MOST_INTEGER : whole > (double)MOST_INTEGER ? (double)MOST_INTEGER : whole;
    int64_t inner = (int64_t)whole + (open ? (lower ? 1 : -1) : 0);
    if (lower ? inner > *bound : inner < *bound) {
        *bound = inner;
        *strict = open;
    }
    *any = true;
    return GRAFT_OK;
}

enum graft_status graft_schema_number(struct graft_schema *schema, const json_t *node, bool integer, struct graft_line *line)
{
    int64_t low = -MOST_INTEGER, high = MOST_INTEGER;
    bool above = false, below = false, any = false;
    GRAFT_TRY(read_bound(schema, node, "minimum", false, true, &low, &above, &any));
    GRAFT_TRY(read_bound(schema, node, "exclusiveMinimum", true, true, &low, &above, &any));
    GRAFT_TRY(read_bound(schema, node, "maximum", false, false, &high, &below, &any));
    GRAFT_TRY(read_bound(schema, node, "exclusiveMaximum", true, false, &high, &below, &any));
    if (!any) {
        graft_line_add(line, integer ? "integer" : "number");
        return line->status;
    }
    const char *bar = "";
    graft_line_add(line, "(");
    add_integers(line, low, high, "", &bar);
    if (!integer) {
        // With a fraction, which is never 0, a number lies strictly between its whole part and the next one away from 0.
        static const char fraction[] = " \".\" [0-9]{0,15} [1-9]";
        int64_t from = low - above, to = high + below; // the bounds themselves, now as ends of open stretches
        if (from < 0) {
            int64_t nearest = to < 0 ? -to : 0; // -n.f with nearest <= n < -from
            if (nearest < -from) {
                graft_line_add(line, "%s\"-\" ", bar);
                add_naturals(line, nearest, -from - 1);
                graft_line_add(line, "%s", fraction);
                bar = " | ";
            }
        }
        if (to > 0) {
            int64_t nearest = from > 0 ? from : 0;
            if (nearest < to) {
                graft_line_add(line, "%s", bar);
                add_naturals(line, nearest, to - 1);
                graft_line_add(line, "%s", fraction);
                bar = " | ";
            }
        }
    }
    graft_line_add(line, ")");
    return *bar ? line->status
                : graft_schema_fail(schema, GRAFT_E_ARGUMENT, "no %s of at most %d digits is within the bounds",
                                    integer ? "whole number" : "number", DIGITS);
}
