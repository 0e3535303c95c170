// SPDX-License-Identifier: Apache-2.0
// GBNF to rules: a parser by recursive descent, as deep as parentheses are nested.
#include <inttypes.h>
#include <string.h>

#include "platform/bytes.h"
#include "runtime/text/grammar.h"
#include "runtime/text/vocab_private.h"

// A rule's name: where in the text.
struct name {
    uint32_t at, length, rule, first_use;
    bool defined;
};

struct parser {
    struct graft_grammar *grammar;
    const char *text;
    uint64_t length, at;
    uint32_t depth;
    // Symbols of the alternatives that are being read; those of inner groups stand behind those of outer ones.
    uint32_t *symbols;
    uint64_t n_symbols, room;
    struct name *names;
    uint32_t *slots; // open addressing: number of the name + 1
    uint64_t slot_mask;
    uint64_t n_names, names_room;
    struct graft_range *ranges; // of the class that is being read
};

// An error at a place: line and column, counted from 1, in characters.
static enum graft_status fail_at(const struct parser *parser, uint64_t at, const char *what)
{
    uint32_t line = 1, column = 1;
    for (uint64_t i = 0; i < at && i < parser->length; i++) {
        column += ((uint8_t)parser->text[i] & 0xc0) != 0x80;
        if (parser->text[i] == '\n') {
            line++;
            column = 1;
        }
    }
    return graft_fail(GRAFT_E_ARGUMENT, "grammar, line %u column %u: %s", line, column, what);
}

static char peek(const struct parser *parser)
{
    return parser->at < parser->length ? parser->text[parser->at] : 0;
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

// Spaces and comments; line ends too if they do not end a rule.
static void skip_space(struct parser *parser, bool lines)
{
    for (;;) {
        char c = peek(parser);
        if (c == '#') {
            while (parser->at < parser->length && peek(parser) != '\n' && peek(parser) != '\r') {
                parser->at++;
            }
        } else if (parser->at < parser->length && (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')))) {
            parser->at++;
        } else {
            return;
        }
    }
}

static enum graft_status put(struct parser *parser, uint32_t symbol)
{
    if (parser->n_symbols == parser->room) {
        if (parser->n_symbols >= GRAFT_GRAMMAR_MAX_SYMBOLS) {
            return graft_fail(GRAFT_E_LIMIT, "the grammar has more than %d symbols", GRAFT_GRAMMAR_MAX_SYMBOLS);
        }
        uint64_t room = 2 * parser->room + 256;
        GRAFT_TRY(GRAFT_GROW(parser->grammar->ctx, GRAFT_MEM_HOST, &parser->symbols, room, "a grammar"));
        parser->room = room;
    }
    parser->symbols[parser->n_symbols++] = symbol;
    return GRAFT_OK;
}

// The entry of the name at the parser's place, which is passed; made on first sight.
static enum graft_status read_name(struct parser *parser, struct name **out)
{
    uint64_t start = parser->at, hash = GRAFT_HASH_START;
    while (parser->at < parser->length && is_name_char(peek(parser))) {
        hash = graft_hash_byte(hash, (uint8_t)parser->text[parser->at++]);
    }
    uint32_t length = (uint32_t)(parser->at - start);
    uint64_t slot = graft_hash_mix(hash) & parser->slot_mask;
    for (; parser->slots[slot]; slot = (slot + 1) & parser->slot_mask) {
        struct name *name = &parser->names[parser->slots[slot] - 1];
        if (name->length == length && memcmp(parser->text + name->at, parser->text + start, length) == 0) {
            *out = name;
            return GRAFT_OK;
        }
    }
    if (parser->n_names == parser->names_room) {
        uint64_t room = 2 * parser->names_room + 64;
        GRAFT_TRY(GRAFT_GROW(parser->grammar->ctx, GRAFT_MEM_HOST, &parser->names, room, "a grammar's names"));
        parser->names_room = room;
    }
    uint32_t rule;
    GRAFT_TRY(graft_grammar_add_rule(parser->grammar, &rule)); // bounds the names, too
    parser->names[parser->n_names] =
        (struct name){.at = (uint32_t)start, .length = length, .rule = rule, .first_use = (uint32_t)start};
    parser->slots[slot] = (uint32_t)++parser->n_names;
    *out = &parser->names[parser->n_names - 1];
    return GRAFT_OK;
}

// One character of a literal or a class, escapes undone.
static enum graft_status read_character(struct parser *parser, uint32_t *out)
{
    uint64_t start = parser->at;
    if (peek(parser) != '\\') {
        parser->at += graft_utf8_decode(parser->text + parser->at, out);
        return GRAFT_OK;
    }
    parser->at++;
    char c = peek(parser);
    static const char from[] = "nrt\\\"[]-'/^", to[] = "\n\r\t\\\"[]-'/^";
    const char *plain = c ? strchr(from, c) : NULL;
    uint32_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (!plain && !digits) {
        return fail_at(parser, start, "unknown escape; known are \\n \\r \\t \\\\ \\\" \\[ \\] \\- \\xHH \\uHHHH \\UHHHHHHHH");
    }
    parser->at++;
    *out = plain ? (uint8_t)to[plain - from] : 0;
    for (uint32_t i = 0; i < digits; i++, parser->at++) {
        c = peek(parser);
        uint32_t digit = c >= '0' && c <= '9'                 ? (uint32_t)(c - '0')
                         : (c | 32) >= 'a' && (c | 32) <= 'f' ? (uint32_t)((c | 32) - 'a' + 10)
                                                              : 16;
        if (digit == 16) {
            return fail_at(parser, start, "this escape needs more hexadecimal digits");
        }
        *out = *out << 4 | digit;
    }
    if (*out > 0x10ffff || (*out >= 0xd800 && *out < 0xe000)) {
        return fail_at(parser, start, "this escape is no character");
    }
    return GRAFT_OK;
}

static enum graft_status read_literal(struct parser *parser)
{
    uint64_t start = parser->at++;
    while (peek(parser) != '"') {
        if (parser->at >= parser->length || peek(parser) == '\n') {
            return fail_at(parser, start, "this text has no closing quote on its line");
        }
        uint32_t character;
        char bytes[4];
        GRAFT_TRY(read_character(parser, &character));
        uint32_t n = graft_utf8_encode(character, bytes);
        for (uint32_t i = 0; i < n; i++) {
            GRAFT_TRY(put(parser, GRAFT_SYMBOL_SET | (uint8_t)bytes[i]));
        }
    }
    parser->at++;
    return GRAFT_OK;
}

static enum graft_status read_class(struct parser *parser)
{
    uint64_t start = parser->at++;
    bool inverted = peek(parser) == '^';
    parser->at += inverted;
    uint32_t count = 0;
    while (peek(parser) != ']') {
        if (parser->at >= parser->length || peek(parser) == '\n') {
            return fail_at(parser, start, "this class has no closing bracket on its line");
        }
        if (count == GRAFT_GRAMMAR_MAX_RANGES) {
            return graft_fail(GRAFT_E_LIMIT, "a class of the grammar has more than %d ranges", GRAFT_GRAMMAR_MAX_RANGES);
        }
        struct graft_range range;
        uint64_t at = parser->at;
        GRAFT_TRY(read_character(parser, &range.low));
        range.high = range.low;
        if (peek(parser) == '-' && parser->at + 1 < parser->length && parser->text[parser->at + 1] != ']') {
            parser->at++;
            GRAFT_TRY(read_character(parser, &range.high));
        }
        if (range.high < range.low) {
            return fail_at(parser, at, "this range ends before it begins");
        }
        parser->ranges[count++] = range;
    }
    parser->at++;
    if (count == 0 && !inverted) {
        return fail_at(parser, start, "this class has no characters");
    }
    uint32_t symbol;
    GRAFT_TRY(graft_grammar_add_class(parser->grammar, parser->ranges, count, inverted, &symbol));
    return put(parser, symbol);
}

static enum graft_status read_number(struct parser *parser, uint32_t *out)
{
    uint64_t start = parser->at;
    *out = 0;
    while (peek(parser) >= '0' && peek(parser) <= '9') {
        *out = *out * 10 + (uint32_t)(parser->text[parser->at++] - '0');
        if (*out > GRAFT_GRAMMAR_MAX_REPEAT) {
            return graft_fail(GRAFT_E_LIMIT, "the grammar repeats something more than %d times", GRAFT_GRAMMAR_MAX_REPEAT);
        }
    }
    return parser->at == start ? fail_at(parser, start, "a number is missing here") : GRAFT_OK;
}

// {m}, {m,}, {m,n}, {,n}
static enum graft_status read_bounds(struct parser *parser, uint32_t *low, uint32_t *high)
{
    uint64_t start = parser->at++;
    *low = 0;
    skip_space(parser, false);
    if (peek(parser) != ',') {
        GRAFT_TRY(read_number(parser, low));
    }
    *high = *low;
    skip_space(parser, false);
    if (peek(parser) == ',') {
        parser->at++;
        skip_space(parser, false);
        *high = GRAFT_GRAMMAR_NONE;
        if (peek(parser) != '}') {
            GRAFT_TRY(read_number(parser, high));
        }
        skip_space(parser, false);
    }
    if (peek(parser) != '}') {
        return fail_at(parser, start, "this repetition is not {m}, {m,} or {m,n}");
    }
    parser->at++;
    return *high < *low ? fail_at(parser, start, "this repetition ends before it begins") : GRAFT_OK;
}

// The symbols from `first` on; NULL while there are none at all, to which nothing may be added.
static const uint32_t *symbols_from(const struct parser *parser, uint64_t first)
{
    return parser->symbols ? parser->symbols + first : NULL;
}

// What stands behind an item, whose symbols begin at `first`.
static enum graft_status read_repetition(struct parser *parser, uint64_t first)
{
    for (;;) {
        uint32_t low = 0, high = GRAFT_GRAMMAR_NONE, symbol;
        skip_space(parser, parser->depth > 0);
        char c = peek(parser);
        if (c == '*' || c == '+' || c == '?') {
            parser->at++;
            low = c == '+';
            high = c == '?' ? 1 : high;
        } else if (c == '{') {
            GRAFT_TRY(read_bounds(parser, &low, &high));
        } else {
            return GRAFT_OK;
        }
        if (parser->n_symbols - first == 1) {
            symbol = parser->symbols[first];
        } else {
            uint32_t rule;
            GRAFT_TRY(graft_grammar_add_rule(parser->grammar, &rule));
            GRAFT_TRY(
                graft_grammar_add_alternative(parser->grammar, rule, symbols_from(parser, first), parser->n_symbols - first));
            symbol = GRAFT_SYMBOL_RULE | rule;
        }
        GRAFT_TRY(graft_grammar_add_repeat(parser->grammar, symbol, low, high, &symbol));
        parser->n_symbols = first;
        GRAFT_TRY(put(parser, symbol));
    }
}

static enum graft_status read_alternatives(struct parser *parser, uint32_t rule);

static enum graft_status read_group(struct parser *parser)
{
    uint64_t start = parser->at++;
    if (parser->depth == GRAFT_GRAMMAR_MAX_NESTING) {
        return graft_fail(GRAFT_E_LIMIT, "the grammar has more than %d parentheses in each other", GRAFT_GRAMMAR_MAX_NESTING);
    }
    uint32_t rule;
    GRAFT_TRY(graft_grammar_add_rule(parser->grammar, &rule));
    parser->depth++;
    GRAFT_TRY(read_alternatives(parser, rule));
    parser->depth--;
    if (peek(parser) != ')') {
        return fail_at(parser, start, "this parenthesis is not closed");
    }
    parser->at++;
    return put(parser, GRAFT_SYMBOL_RULE | rule);
}

static enum graft_status read_item(struct parser *parser, bool *more)
{
    char c = peek(parser);
    *more = true;
    if (c == '"') {
        return read_literal(parser);
    }
    if (c == '[') {
        return read_class(parser);
    }
    if (c == '(') {
        return read_group(parser);
    }
    if (c == '.') {
        uint32_t symbol;
        parser->at++;
        GRAFT_TRY(graft_grammar_add_class(parser->grammar, parser->ranges, 0, true, &symbol));
        return put(parser, symbol);
    }
    if (is_name_char(c)) {
        struct name *name;
        GRAFT_TRY(read_name(parser, &name));
        return put(parser, GRAFT_SYMBOL_RULE | name->rule);
    }
    *more = false;
    return c == '*' || c == '+' || c == '?' || c == '{' ? fail_at(parser, parser->at, "there is nothing to repeat here")
                                                        : GRAFT_OK;
}

// Alternatives up to the end of the rule or the closing parenthesis.
static enum graft_status read_alternatives(struct parser *parser, uint32_t rule)
{
    for (;;) {
        uint64_t base = parser->n_symbols;
        skip_space(parser, true);
        for (bool more = true; more;) {
            uint64_t first = parser->n_symbols;
            GRAFT_TRY(read_item(parser, &more));
            if (more) {
                GRAFT_TRY(read_repetition(parser, first));
            }
        }
        GRAFT_TRY(graft_grammar_add_alternative(parser->grammar, rule, symbols_from(parser, base), parser->n_symbols - base));
        parser->n_symbols = base;
        uint64_t end = parser->at;
        skip_space(parser, true); // the next line may go on with |
        if (peek(parser) != '|') {
            parser->at = parser->depth ? parser->at : end;
            return GRAFT_OK;
        }
        parser->at++;
    }
}

// Does a rule's head, NAME ::=, begin here?
static bool is_head(const struct parser *parser)
{
    struct parser ahead = *parser;
    while (is_name_char(peek(&ahead))) {
        ahead.at++;
    }
    bool named = ahead.at > parser->at;
    skip_space(&ahead, false);
    return named && ahead.length - ahead.at >= 3 && memcmp(ahead.text + ahead.at, "::=", 3) == 0;
}

static enum graft_status read_rule(struct parser *parser)
{
    uint64_t start = parser->at;
    if (!is_head(parser)) {
        return fail_at(parser, start, "a rule is expected here: NAME ::= ...");
    }
    struct name *name;
    GRAFT_TRY(read_name(parser, &name));
    if (name->defined) {
        return fail_at(parser, start, "this rule was defined before");
    }
    name->defined = true;
    name->at = (uint32_t)start;
    uint32_t rule = name->rule; // names may move
    skip_space(parser, false);
    parser->at += 3;
    // An empty right side: the next line begins another rule.
    struct parser ahead = *parser;
    skip_space(&ahead, true);
    if (ahead.at > parser->at && (ahead.at >= ahead.length || is_head(&ahead))) {
        GRAFT_TRY(graft_grammar_add_alternative(parser->grammar, rule, NULL, 0));
        parser->at = ahead.at;
        return GRAFT_OK;
    }
    GRAFT_TRY(read_alternatives(parser, rule));
    skip_space(parser, false);
    if (parser->at < parser->length && peek(parser) != '\n' && peek(parser) != '\r') {
        return fail_at(parser, parser->at, "this character has no meaning here");
    }
    return GRAFT_OK;
}

static enum graft_status finish(struct parser *parser)
{
    struct graft_grammar *grammar = parser->grammar;
    for (uint64_t i = 0; i < parser->n_names; i++) {
        const struct name *name = &parser->names[i];
        if (!name->defined) {
            return fail_at(parser, name->first_use, "this rule is not defined");
        }
        if (name->length == 4 && memcmp(parser->text + name->at, "root", 4) == 0) {
            grammar->root = name->rule;
        }
    }
    if (grammar->root == GRAFT_GRAMMAR_NONE) {
        return graft_fail(GRAFT_E_ARGUMENT, "the grammar has no rule root");
    }
    uint32_t rule;
    enum graft_status status = graft_grammar_check(grammar, &rule);
    for (uint64_t i = 0; i < parser->n_names && status == GRAFT_E_ARGUMENT; i++) {
        if (parser->names[i].rule == rule) {
            char why[200];
            size_t length = strlen(graft_last_error());
            length = length < sizeof why ? length : sizeof why - 1;
            memcpy(why, graft_last_error(), length);
            why[length] = 0;
            return fail_at(parser, parser->names[i].at, why);
        }
    }
    return status == GRAFT_E_ARGUMENT ? graft_fail_prefix(status, "grammar") : status;
}

enum graft_status graft_grammar_create(struct graft_ctx *ctx, struct graft_grammar **out, const char *gbnf, size_t length)
{
    *out = NULL;
    if (!graft_utf8_valid((const uint8_t *)gbnf, length)) {
        return graft_fail(GRAFT_E_ARGUMENT, "the grammar is not UTF-8");
    }
    struct parser parser = {.length = length};
    enum graft_status status = graft_grammar_begin(ctx, &parser.grammar, gbnf, length);
    if (status != GRAFT_OK) {
        return status;
    }
    parser.text = parser.grammar->text;
    uint64_t slots = 64; // two names take three bytes at least: always half of them are free
    while (slots < 2 * length) {
        slots *= 2;
    }
    parser.slot_mask = slots - 1;
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &parser.slots, slots, "a grammar's names"), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &parser.ranges, GRAFT_GRAMMAR_MAX_RANGES, "a class of characters"), status,
                  out);
    for (skip_space(&parser, true); parser.at < parser.length; skip_space(&parser, true)) {
        GRAFT_TRY_OUT(read_rule(&parser), status, out);
    }
    status = finish(&parser);
out:
    GRAFT_FREE(ctx, &parser.ranges);
    GRAFT_FREE(ctx, &parser.slots);
    GRAFT_FREE(ctx, &parser.names);
    GRAFT_FREE(ctx, &parser.symbols);
    if (status != GRAFT_OK) {
        graft_grammar_destroy(&parser.grammar);
        return status;
    }
    *out = parser.grammar;
    return GRAFT_OK;
}
