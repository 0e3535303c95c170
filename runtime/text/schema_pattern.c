// SPDX-License-Identifier: Apache-2.0
// GBNF from regular expressions (ECMA 262, chapter 22.2): the inside of a JSON string that matches. A character that JSON
// escapes is written with its short escape; other control characters never come.
#include <string.h>

#include "runtime/text/schema.h"
#include "runtime/text/vocab_private.h"

enum { MAX_RANGES = 256, MAX_CHARACTER = 0x10ffff };

struct pattern {
    struct graft_schema *schema;
    struct graft_line *line;
    const char *text;
    uint64_t length, at;
    uint32_t depth;
    struct graft_range ranges[MAX_RANGES];
    uint32_t n_ranges;
};

static enum graft_status fail_here(const struct pattern *pattern, const char *what)
{
    return graft_schema_fail(pattern->schema, GRAFT_E_UNSUPPORTED, "pattern, at byte %llu: %s", (unsigned long long)pattern->at,
                             what);
}

static char peek(const struct pattern *pattern)
{
    return pattern->at < pattern->length ? pattern->text[pattern->at] : 0;
}

static enum graft_status add_range(struct pattern *pattern, uint32_t low, uint32_t high)
{
    if (pattern->n_ranges == MAX_RANGES) {
        return fail_here(pattern, "a class has too many ranges");
    }
    pattern->ranges[pattern->n_ranges++] = (struct graft_range){low, high};
    return GRAFT_OK;
}

// The class of \d, \w, \s or their opposites.
static enum graft_status add_shorthand(struct pattern *pattern, char letter)
{
    static const struct graft_range digit[] = {{'0', '9'}}, word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                                    space[] = {{9, 13}, {32, 32}};
    char kind = (char)(letter | 32);
    const struct graft_range *ranges = kind == 'd' ? digit : kind == 'w' ? word : space;
    uint32_t count = kind == 'd' ? 1 : kind == 'w' ? 4 : 2, next = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (letter == kind) {
            GRAFT_TRY(add_range(pattern, ranges[i].low, ranges[i].high));
        } else {
            GRAFT_TRY(add_range(pattern, next, ranges[i].low - 1)); // none of them begins at 0
            next = ranges[i].high + 1;
        }
    }
    return letter == kind ? GRAFT_OK : add_range(pattern, next, MAX_CHARACTER);
}

// What stands behind a backslash: *shorthand, or a character.
static enum graft_status read_escape(struct pattern *pattern, bool *shorthand, uint32_t *out)
{
    char c = peek(pattern);
    static const char from[] = "tnvfr0", to[] = "\t\n\v\f\r";
    *shorthand = c && strchr("dDwWsS", c);
    *out = (uint8_t)c;
    if (*shorthand) {
        pattern->at++;
        return GRAFT_OK;
    }
    uint32_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 0;
    const char *control = c ? strchr(from, c) : NULL;
    if (control) {
        *out = (uint8_t)to[control - from];
    } else if (digits) {
        *out = 0;
        for (uint32_t i = 0; i < digits; i++) {
            pattern->at++;
            c = peek(pattern);
            uint32_t digit = c >= '0' && c <= '9'                 ? (uint32_t)(c - '0')
                             : (c | 32) >= 'a' && (c | 32) <= 'f' ? (uint32_t)((c | 32) - 'a' + 10)
                                                                  : 16;
            if (digit == 16) {
                return fail_here(pattern, "this escape needs more hexadecimal digits");
            }
            *out = *out << 4 | digit;
        }
    } else if (c == 0 || (c >= '1' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z')) {
        return fail_here(pattern, "this escape is not supported");
    } else if ((uint8_t)c >= 0x80) {
        return fail_here(pattern, "this escape is not supported");
    }
    pattern->at++;
    return GRAFT_OK;
}

static bool has(const struct pattern *pattern, bool inverted, uint32_t character)
{
    for (uint32_t i = 0; i < pattern->n_ranges; i++) {
        if (pattern->ranges[i].low <= character && character <= pattern->ranges[i].high) {
            return !inverted;
        }
    }
    return inverted;
}

// The ranges, sorted, as characters of a JSON string.
static enum graft_status write_class(struct pattern *pattern, bool inverted)
{
    static const struct {
        uint32_t character;
        const char *text;
    } escapes[] = {{'"', "\"\\\\\\\"\""}, {'\\', "\"\\\\\\\\\""}, {'\n', "\"\\\\n\""},
                   {'\t', "\"\\\\t\""},   {'\r', "\"\\\\r\""},    {'\f', "\"\\\\f\""}};
    struct graft_line *line = pattern->line;
    for (uint32_t i = 1; i < pattern->n_ranges; i++) { // few ranges: by insertion
        struct graft_range range = pattern->ranges[i];
        uint32_t k = i;
        for (; k > 0 && pattern->ranges[k - 1].low > range.low; k--) {
            pattern->ranges[k] = pattern->ranges[k - 1];
        }
        pattern->ranges[k] = range;
    }
    // Stretches of characters that are in the class, without those that JSON does not have plain.
    static const struct graft_range plain[] = {
        {0x20, 0x21}, {0x23, 0x5b}, {0x5d, 0x7e}, {0x80, 0xd7ff}, {0xe000, MAX_CHARACTER}};
    const char *bar = "(", *open = "[";
    for (size_t p = 0; p < sizeof plain / sizeof *plain; p++) {
        uint32_t next = plain[p].low;
        for (uint32_t i = 0; i <= pattern->n_ranges; i++) {
            bool last = i == pattern->n_ranges;
            uint32_t low = last ? plain[p].high + 1 : pattern->ranges[i].low,
                     high = last ? plain[p].high : pattern->ranges[i].high;
            uint32_t from = inverted ? next : low > next ? low : next;
            uint32_t to = inverted ? low : high + 1; // behind the stretch
            to = to > plain[p].high + 1 ? plain[p].high + 1 : to;
            if ((inverted || !last) && from < to) {
                graft_line_add(line, "%s%s", bar, open);
                graft_line_add_character(line, from);
                graft_line_add(line, "-");
                graft_line_add_character(line, to - 1);
                bar = open = "";
            }
            next = high + 1 > next ? high + 1 : next;
        }
    }
    if (*open == 0) {
        graft_line_add(line, "]");
        bar = " | ";
    }
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        if (has(pattern, inverted, escapes[i].character)) {
            graft_line_add(line, "%s%s", bar, escapes[i].text);
            bar = " | ";
        }
    }
    if (*bar == '(') {
        return fail_here(pattern, "no character of a JSON string is in this class");
    }
    graft_line_add(line, ")");
    return line->status;
}

static enum graft_status read_class(struct pattern *pattern)
{
    pattern->at++;
    bool inverted = peek(pattern) == '^';
    pattern->at += inverted;
    pattern->n_ranges = 0;
    while (peek(pattern) != ']') {
        uint32_t ends[2] = {0, 0};
        bool shorthand = false;
        for (int end = 0; end < 2 && !shorthand; end++) {
            if (pattern->at >= pattern->length) {
                return fail_here(pattern, "a class is not closed");
            }
            if (peek(pattern) == '\\') {
                char letter = pattern->at + 1 < pattern->length ? pattern->text[pattern->at + 1] : 0;
                pattern->at++;
                if (letter == 'b') {
                    return fail_here(pattern, "this escape is not supported");
                }
                GRAFT_TRY(read_escape(pattern, &shorthand, &ends[end]));
                if (shorthand && end == 1) {
                    return fail_here(pattern, "a range ends with a class");
                }
                if (shorthand) {
                    GRAFT_TRY(add_shorthand(pattern, letter));
                }
            } else {
                pattern->at += graft_utf8_decode(pattern->text + pattern->at, &ends[end]);
            }
            if (end == 0 && !shorthand) {
                ends[1] = ends[0];
                bool range = peek(pattern) == '-' && pattern->at + 1 < pattern->length && pattern->text[pattern->at + 1] != ']';
                if (!range) {
                    break;
                }
                pattern->at++;
            }
        }
        if (!shorthand && ends[1] < ends[0]) {
            return fail_here(pattern, "a range ends before it begins");
        }
        if (!shorthand) {
            GRAFT_TRY(add_range(pattern, ends[0], ends[1]));
        }
    }
    pattern->at++;
    return write_class(pattern, inverted);
}

static enum graft_status read_alternatives(struct pattern *pattern);

static enum graft_status read_atom(struct pattern *pattern)
{
    char c = peek(pattern);
    uint32_t character;
    bool shorthand = false;
    pattern->n_ranges = 0;
    if (c == '[') {
        return read_class(pattern);
    }
    if (c == '(') {
        if (++pattern->depth > GRAFT_GRAMMAR_MAX_NESTING / 2) {
            return fail_here(pattern, "groups are nested too deeply");
        }
        pattern->at++;
        if (peek(pattern) == '?') {
            if (pattern->at + 1 >= pattern->length || pattern->text[pattern->at + 1] != ':') {
                return fail_here(pattern, "of the groups with (? only (?: is supported");
            }
            pattern->at += 2;
        }
        graft_line_add(pattern->line, "(");
        GRAFT_TRY(read_alternatives(pattern));
        graft_line_add(pattern->line, ")");
        pattern->depth--;
        if (peek(pattern) != ')') {
            return fail_here(pattern, "a group is not closed");
        }
        pattern->at++;
        return pattern->line->status;
    }
    if (c == '.') {
        static const struct graft_range ends[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
        memcpy(pattern->ranges, ends, sizeof ends);
        pattern->n_ranges = 3;
        pattern->at++;
        return write_class(pattern, true);
    }
    if (c == '^' || c == '$') {
        return fail_here(pattern, "^ and $ are supported at the ends of the pattern only");
    }
    if (c == '*' || c == '+' || c == '?' || c == '{') {
        return fail_here(pattern, "there is nothing to repeat here");
    }
    if (c == '\\') {
        char letter = pattern->at + 1 < pattern->length ? pattern->text[pattern->at + 1] : 0;
        pattern->at++;
        GRAFT_TRY(read_escape(pattern, &shorthand, &character));
        if (shorthand) {
            GRAFT_TRY(add_shorthand(pattern, letter));
            return write_class(pattern, false);
        }
    } else {
        pattern->at += graft_utf8_decode(pattern->text + pattern->at, &character);
    }
    GRAFT_TRY(add_range(pattern, character, character));
    return write_class(pattern, false);
}

static enum graft_status read_repetition(struct pattern *pattern)
{
    char c = peek(pattern);
    if (c == '*' || c == '+' || c == '?') {
        graft_line_add(pattern->line, "%c", c);
        pattern->at++;
    } else if (c == '{') {
        uint64_t end = pattern->at;
        while (end < pattern->length && pattern->text[end] != '}') {
            end++;
        }
        uint64_t length = end - pattern->at;
        if (end == pattern->length || length > 16 || strspn(pattern->text + pattern->at + 1, "0123456789,") != length - 1) {
            return fail_here(pattern, "this repetition is not {m}, {m,} or {m,n}");
        }
        graft_line_add(pattern->line, "%.*s}", (int)length, pattern->text + pattern->at);
        pattern->at = end + 1;
    } else {
        return GRAFT_OK;
    }
    pattern->at += peek(pattern) == '?'; // lazy: the same texts
    return pattern->line->status;
}

// What a search finds anywhere: at the top, an alternative without ^ or $ has any text before or behind it.
static enum graft_status read_alternatives(struct pattern *pattern)
{
    for (;;) {
        bool top = pattern->depth == 0, ended = false, empty = true;
        if (top && peek(pattern) == '^') {
            pattern->at++;
        } else if (top) {
            graft_line_add(pattern->line, "char* ");
        }
        while (pattern->at < pattern->length && peek(pattern) != '|' && peek(pattern) != ')') {
            if (top && peek(pattern) == '$' && (pattern->at + 1 == pattern->length || pattern->text[pattern->at + 1] == '|')) {
                pattern->at++;
                ended = true;
                break;
            }
            GRAFT_TRY(read_atom(pattern));
            GRAFT_TRY(read_repetition(pattern));
            graft_line_add(pattern->line, " ");
            empty = false;
        }
        if (empty) {
            graft_line_add(pattern->line, "\"\"");
        }
        if (top && !ended) {
            graft_line_add(pattern->line, " char*");
        }
        if (peek(pattern) != '|') {
            return pattern->line->status;
        }
        graft_line_add(pattern->line, " | ");
        pattern->at++;
    }
}

enum graft_status graft_schema_pattern(struct graft_schema *schema, const char *text, uint64_t length, struct graft_line *line)
{
    struct pattern pattern = {.schema = schema, .line = line, .text = text, .length = length};
    graft_line_add(line, "(");
    GRAFT_TRY(read_alternatives(&pattern));
    graft_line_add(line, ")");
    return pattern.at < length ? fail_here(&pattern, "this parenthesis closes nothing") : line->status;
}
