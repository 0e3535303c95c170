// SPDX-License-Identifier: Apache-2.0
// Template source to tokens, with Jinja's whitespace rules for trim_blocks and lstrip_blocks:
//   "-" at a tag strips all whitespace on that side; "+" at the start keeps it, "+" at the end keeps the newline;
//   without a sign a block or comment drops one newline behind it and the blanks in front of it if they begin its line.
#include "runtime/text/jinja.h"

static void count_lines(struct jinja_lexer *lexer, uint64_t offset)
{
    for (; lexer->counted < offset; lexer->counted++) {
        if (lexer->source[lexer->counted] == '\n') {
            lexer->line++;
            lexer->line_start = lexer->counted + 1;
        }
    }
}

static enum graft_status lex_fail(struct jinja_lexer *lexer, uint64_t offset, const char *what)
{
    count_lines(lexer, offset);
    uint64_t column = offset >= lexer->line_start ? offset - lexer->line_start + 1 : 1;
    return graft_fail(GRAFT_E_FORMAT, "template line %" PRIu32 ", column %" PRIu64 ": %s", lexer->line, column, what);
}

static bool at(const struct jinja_lexer *lexer, uint64_t offset, const char *text)
{
    uint64_t length = strlen(text);
    return lexer->length - offset >= length && offset <= lexer->length && memcmp(lexer->source + offset, text, length) == 0;
}

static uint64_t skip_space(const struct jinja_lexer *lexer, uint64_t offset)
{
    while (offset < lexer->length) {
        uint64_t next = offset;
        if (!graft_jinja_is_space(graft_jinja_decode(lexer->source, lexer->length, &next))) {
            break;
        }
        offset = next;
    }
    return offset;
}

static uint64_t strip_right(const struct jinja_lexer *lexer, uint64_t start, uint64_t end)
{
    while (end > start) {
        uint64_t last = end - 1;
        while (last > start && (lexer->source[last] & 0xc0) == 0x80) {
            last--;
        }
        uint64_t next = last;
        if (!graft_jinja_is_space(graft_jinja_decode(lexer->source, lexer->length, &next))) {
            break;
        }
        end = last;
    }
    return end;
}

// End of the text [start, end) in front of a tag whose sign is `sign` ('-', '+' or 0).
static uint64_t trim_text(const struct jinja_lexer *lexer, uint64_t start, uint64_t end, char sign, bool variable)
{
    if (sign == '-') {
        return strip_right(lexer, start, end);
    }
    if (sign == '+' || variable) {
        return end;
    }
    uint64_t line = end;
    while (line > start && lexer->source[line - 1] != '\n') {
        line--;
    }
    bool begins_line = line > start || start == 0 || lexer->source[start - 1] == '\n';
    return begins_line && strip_right(lexer, line, end) == line ? line : end;
}

// If the end of a block or comment ("%}", "#}", with signs) is at `offset`: the offset behind it and what it swallows; else 0.
static uint64_t block_end(const struct jinja_lexer *lexer, uint64_t offset, const char *end)
{
    if (at(lexer, offset, end)) {
        return offset + 2 + at(lexer, offset + 2, "\n");
    }
    if (at(lexer, offset, "+") && at(lexer, offset + 1, end)) {
        return offset + 3;
    }
    if (at(lexer, offset, "-") && at(lexer, offset + 1, end)) {
        return skip_space(lexer, offset + 3);
    }
    return 0;
}

// "{% raw %}" or "{% endraw %}" at `offset`: the offset behind it, else 0. The sign in front goes to *sign.
static uint64_t raw_tag(const struct jinja_lexer *lexer, uint64_t offset, const char *name, char *sign)
{
    if (!at(lexer, offset, "{%")) {
        return 0;
    }
    uint64_t p = offset + 2;
    *sign = 0;
    if (at(lexer, p, "-") || at(lexer, p, "+")) {
        *sign = lexer->source[p++];
    }
    p = skip_space(lexer, p);
    if (!at(lexer, p, name)) {
        return 0;
    }
    p = skip_space(lexer, p + strlen(name));
    if (name[0] == 'e') {
        return block_end(lexer, p, "%}");
    }
    return at(lexer, p, "-%}") ? skip_space(lexer, p + 3) : at(lexer, p, "%}") ? p + 2 : 0;
}

static enum graft_status lex_raw(struct jinja_lexer *lexer, uint64_t start)
{
    char sign;
    for (uint64_t p = start; p < lexer->length; p++) {
        const char *brace = memchr(lexer->source + p, '{', (size_t)(lexer->length - p));
        if (!brace) {
            break;
        }
        p = (uint64_t)(brace - lexer->source);
        uint64_t end = raw_tag(lexer, p, "endraw", &sign);
        if (end) {
            lexer->raw_start = start;
            lexer->raw_end = trim_text(lexer, start, p, sign, false);
            lexer->position = end;
            return GRAFT_OK;
        }
    }
    return lex_fail(lexer, start, "{% raw %} has no {% endraw %}");
}

static enum graft_status lex_comment(struct jinja_lexer *lexer, uint64_t start)
{
    for (uint64_t p = start; p < lexer->length; p++) {
        uint64_t end = block_end(lexer, p, "#}");
        if (end) {
            lexer->position = end;
            return GRAFT_OK;
        }
    }
    return lex_fail(lexer, start - 2, "the comment {# has no #}");
}

// Text up to the next tag; enters the tag. *got is false if there was no text.
static enum graft_status lex_text(struct jinja_lexer *lexer, struct jinja_token *out, bool *got)
{
    uint64_t start = lexer->position;
    uint64_t p = start;
    char kind = 0;
    for (; p < lexer->length; p++) {
        const char *brace = memchr(lexer->source + p, '{', (size_t)(lexer->length - p));
        p = brace ? (uint64_t)(brace - lexer->source) : lexer->length;
        kind = p + 1 < lexer->length ? lexer->source[p + 1] : 0;
        if (kind == '{' || kind == '%' || kind == '#') {
            break;
        }
    }
    p = p > lexer->length ? lexer->length : p;
    uint64_t end = p;
    if (p < lexer->length) {
        char sign = p + 2 < lexer->length ? lexer->source[p + 2] : 0;
        sign = sign == '-' || sign == '+' ? sign : 0;
        end = trim_text(lexer, start, p, sign, kind == '{');
    }
    count_lines(lexer, start);
    *got = end > start;
    *out = (struct jinja_token){.type = JINJA_TOKEN_DATA, .start = start, .length = end - start, .line = lexer->line};
    if (p >= lexer->length) {
        lexer->position = lexer->length;
        return GRAFT_OK;
    }
    char sign;
    uint64_t raw = raw_tag(lexer, p, "raw", &sign);
    if (raw) {
        return lex_raw(lexer, raw);
    }
    uint64_t inside = p + 2;
    if (at(lexer, inside, "-") || at(lexer, inside, "+")) {
        inside++;
    }
    if (kind == '#') {
        return lex_comment(lexer, inside);
    }
    lexer->position = p;
    lexer->state = kind == '{' ? JINJA_TOKEN_VARIABLE_BEGIN : JINJA_TOKEN_BLOCK_BEGIN;
    lexer->open = 0;
    lexer->entered = false;
    return GRAFT_OK;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// One escape of Python's unicode_escape at s[*at] (behind the backslash); false if it is damaged.
static bool unescape(const char *s, uint64_t length, uint64_t *at_, char *out, uint64_t *used)
{
    static const char plain[] = "n\nt\tr\r\\\\'\'\"\"a\ab\bf\fv\v";
    char c = s[(*at_)++];
    for (const char *p = plain; *p; p += 2) {
        if (*p == c) {
            out[(*used)++] = p[1];
            return true;
        }
    }
    if (c == '\n') {
        return true;
    }
    uint32_t code = 0;
    uint32_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits) {
        for (uint32_t i = 0; i < digits; i++) {
            int digit = *at_ < length ? hex_digit(s[(*at_)++]) : -1;
            if (digit < 0) {
                return false;
            }
            code = code << 4 | (uint32_t)digit;
        }
        if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
            return false;
        }
        *used += graft_jinja_encode(code, out + *used);
        return true;
    }
    if (c >= '0' && c <= '7') {
        code = (uint32_t)(c - '0');
        for (uint32_t i = 1; i < 3 && *at_ < length && s[*at_] >= '0' && s[*at_] <= '7'; i++) {
            code = code << 3 | (uint32_t)(s[(*at_)++] - '0');
        }
        *used += graft_jinja_encode(code, out + *used);
        return true;
    }
    if (c == 'N') {
        return false;
    }
    out[(*used)++] = '\\';
    out[(*used)++] = c;
    return true;
}

static enum graft_status lex_string(struct jinja_lexer *lexer, struct jinja_token *out)
{
    uint64_t start = lexer->position;
    char quote = lexer->source[start];
    uint64_t end = start + 1;
    bool escapes = false;
    while (end < lexer->length && lexer->source[end] != quote) {
        escapes |= lexer->source[end] == '\\';
        end += lexer->source[end] == '\\' ? 2 : 1;
    }
    if (end >= lexer->length) {
        return lex_fail(lexer, start, "a string is not closed");
    }
    const char *s = lexer->source + start + 1;
    uint64_t length = end - start - 1;
    out->type = JINJA_TOKEN_STRING;
    lexer->position = end + 1;
    if (!escapes) {
        return graft_jinja_string(lexer->arena, s, length, &out->value);
    }
    char *text; // no escape gets longer
    GRAFT_TRY(graft_jinja_alloc(lexer->arena, (void **)&text, length + 4));
    uint64_t used = 0;
    for (uint64_t i = 0; i < length;) {
        if (s[i] != '\\') {
            text[used++] = s[i++];
            continue;
        }
        uint64_t begin = i++;
        if (!unescape(s, length, &i, text, &used)) {
            return lex_fail(lexer, start + 1 + begin,
                            "an escape in a string is not one of \\n \\t \\r \\\\ \\' \\\" \\xHH \\uHHHH \\UHHHHHHHH");
        }
    }
    return graft_jinja_string(lexer->arena, text, used, &out->value);
}

static uint64_t digits(const struct jinja_lexer *lexer, uint64_t p)
{
    uint64_t start = p;
    while (p < lexer->length && ((lexer->source[p] >= '0' && lexer->source[p] <= '9') ||
                                 (lexer->source[p] == '_' && p > start && p + 1 < lexer->length &&
                                  lexer->source[p + 1] >= '0' && lexer->source[p + 1] <= '9'))) {
        p++;
    }
    return p;
}

static enum graft_status lex_number(struct jinja_lexer *lexer, struct jinja_token *out)
{
    const char *s = lexer->source;
    uint64_t start = lexer->position;
    uint32_t base = 10;
    uint64_t end = digits(lexer, start);
    out->type = JINJA_TOKEN_NUMBER;
    bool after_dot = start > 0 && s[start - 1] == '.';
    uint64_t fraction = end < lexer->length && s[end] == '.' && !after_dot ? digits(lexer, end + 1) : 0;
    fraction = fraction > end + 1 ? fraction : 0;
    uint64_t exponent = fraction ? fraction : end;
    if (!after_dot && exponent < lexer->length && (s[exponent] == 'e' || s[exponent] == 'E')) {
        uint64_t sign = exponent + 1 < lexer->length && (s[exponent + 1] == '+' || s[exponent + 1] == '-');
        uint64_t stop = digits(lexer, exponent + 1 + sign);
        exponent = stop > exponent + 1 + sign ? stop : exponent;
    }
    if (exponent > end) {
        double value;
        if (!graft_jinja_parse_float(s + start, exponent - start, &value)) {
            return lex_fail(lexer, start, "a number has more than 300 digits");
        }
        out->value = jinja_float(value);
        lexer->position = exponent;
        return GRAFT_OK;
    }
    uint64_t p = start;
    if (s[start] == '0' && start + 1 < lexer->length) {
        char x = (char)(s[start + 1] | 0x20);
        base = x == 'x' ? 16 : x == 'o' ? 8 : x == 'b' ? 2 : 10;
        p += base == 10 ? 0 : 2;
    }
    int64_t value = 0;
    uint64_t first = p;
    for (; p < lexer->length; p++) {
        int digit = hex_digit(s[p]);
        if (s[p] == '_' && p > first && p + 1 < lexer->length && hex_digit(s[p + 1]) >= 0 && hex_digit(s[p + 1]) < (int)base) {
            continue;
        }
        if (digit < 0 || digit >= (int)base) {
            break;
        }
        if (value > (INT64_MAX - digit) / (int64_t)base) {
            return lex_fail(lexer, start, "an integer is larger than 64 bits");
        }
        value = value * (int64_t)base + digit;
    }
    if (p == first) {
        return lex_fail(lexer, start, "a number has no digits");
    }
    out->value = jinja_int(value);
    lexer->position = p;
    return GRAFT_OK;
}

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || (c & 0x80);
}

static enum graft_status lex_operator(struct jinja_lexer *lexer, struct jinja_token *out)
{
    static const struct {
        const char *text;
        enum jinja_op op;
    } table[] = {{"==", JINJA_OP_EQ},       {"!=", JINJA_OP_NE},    {"<=", JINJA_OP_LE},      {">=", JINJA_OP_GE},
                 {"//", JINJA_OP_FLOORDIV}, {"**", JINJA_OP_POW},   {"<", JINJA_OP_LT},       {">", JINJA_OP_GT},
                 {"+", JINJA_OP_ADD},       {"-", JINJA_OP_SUB},    {"*", JINJA_OP_MUL},      {"/", JINJA_OP_DIV},
                 {"%", JINJA_OP_MOD},       {"~", JINJA_OP_TILDE},  {"=", JINJA_OP_ASSIGN},   {".", JINJA_OP_DOT},
                 {",", JINJA_OP_COMMA},     {":", JINJA_OP_COLON},  {"|", JINJA_OP_PIPE},     {";", JINJA_OP_SEMICOLON},
                 {"(", JINJA_OP_LPAREN},    {")", JINJA_OP_RPAREN}, {"[", JINJA_OP_LBRACKET}, {"]", JINJA_OP_RBRACKET},
                 {"{", JINJA_OP_LBRACE},    {"}", JINJA_OP_RBRACE}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (!at(lexer, lexer->position, table[i].text)) {
            continue;
        }
        char c = table[i].text[0];
        if (c == '(' || c == '[' || c == '{') {
            if (lexer->open == sizeof lexer->brackets) {
                return graft_fail(GRAFT_E_LIMIT, "template line %" PRIu32 ": more than %d brackets are open", out->line,
                                  GRAFT_TEMPLATE_MAX_DEPTH);
            }
            lexer->brackets[lexer->open++] = (char)(c == '(' ? ')' : c == '[' ? ']' : '}');
        } else if (c == ')' || c == ']' || c == '}') {
            if (lexer->open == 0 || lexer->brackets[lexer->open - 1] != c) {
                return lex_fail(lexer, lexer->position, "a closing bracket does not match the one that is open");
            }
            lexer->open--;
        }
        out->type = JINJA_TOKEN_OP;
        out->op = table[i].op;
        lexer->position += strlen(table[i].text);
        return GRAFT_OK;
    }
    return lex_fail(lexer, lexer->position, "a character that no expression has");
}

static enum graft_status lex_tag(struct jinja_lexer *lexer, struct jinja_token *out)
{
    bool block = lexer->state == JINJA_TOKEN_BLOCK_BEGIN;
    lexer->position = skip_space(lexer, lexer->position);
    uint64_t p = lexer->position;
    count_lines(lexer, p);
    *out = (struct jinja_token){.line = lexer->line, .column = (uint32_t)(p - lexer->line_start + 1), .start = p};
    if (p >= lexer->length) {
        return lex_fail(lexer, p, block ? "the template ends inside {% %}" : "the template ends inside {{ }}");
    }
    if (lexer->open == 0) {
        uint64_t end = block                 ? block_end(lexer, p, "%}")
                       : at(lexer, p, "-}}") ? skip_space(lexer, p + 3)
                       : at(lexer, p, "}}")  ? p + 2
                                             : 0;
        if (end) {
            out->type = block ? JINJA_TOKEN_BLOCK_END : JINJA_TOKEN_VARIABLE_END;
            lexer->state = JINJA_TOKEN_DATA;
            lexer->position = end;
            return GRAFT_OK;
        }
    }
    char c = lexer->source[p];
    if (c == '\'' || c == '"') {
        return lex_string(lexer, out);
    }
    if (c >= '0' && c <= '9') {
        return lex_number(lexer, out);
    }
    if (name_char(c)) {
        while (p < lexer->length && name_char(lexer->source[p])) {
            p++;
        }
        out->type = JINJA_TOKEN_NAME;
        out->length = p - out->start;
        lexer->position = p;
        return GRAFT_OK;
    }
    return lex_operator(lexer, out);
}

enum graft_status graft_jinja_lex(struct jinja_lexer *lexer, struct jinja_token *out)
{
    if (lexer->state == JINJA_TOKEN_DATA) {
        while (lexer->position < lexer->length || lexer->raw_end > lexer->raw_start) {
            if (lexer->raw_end > lexer->raw_start) {
                *out = (struct jinja_token){.type = JINJA_TOKEN_DATA,
                                            .start = lexer->raw_start,
                                            .line = lexer->line,
                                            .length = lexer->raw_end - lexer->raw_start};
                lexer->raw_end = lexer->raw_start;
                return GRAFT_OK;
            }
            bool got;
            GRAFT_TRY(lex_text(lexer, out, &got));
            if (got) {
                return GRAFT_OK;
            }
            if (lexer->state != JINJA_TOKEN_DATA) {
                break;
            }
        }
    }
    if (lexer->state == JINJA_TOKEN_DATA) {
        count_lines(lexer, lexer->position);
        *out = (struct jinja_token){
            .type = JINJA_TOKEN_EOF, .line = lexer->line, .column = (uint32_t)(lexer->position - lexer->line_start + 1)};
        return GRAFT_OK;
    }
    if (!lexer->entered) {
        uint64_t p = lexer->position;
        count_lines(lexer, p);
        *out = (struct jinja_token){.type = lexer->state, .line = lexer->line, .column = (uint32_t)(p - lexer->line_start + 1)};
        lexer->position = p + 2 + (at(lexer, p + 2, "-") || at(lexer, p + 2, "+"));
        lexer->entered = true;
        return GRAFT_OK;
    }
    return lex_tag(lexer, out);
}
