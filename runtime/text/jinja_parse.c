// SPDX-License-Identifier: Apache-2.0
// Statements of templates, and what both halves of the parser share: tokens, nodes, interned names, the bound on nesting.
#include "runtime/text/jinja.h"

static enum graft_status parse_body(struct jinja_parser *parser, const char *const *ends, struct jinja_node **out);

enum graft_status graft_jinja_next(struct jinja_parser *parser)
{
    parser->now = parser->ahead;
    if (parser->now.type == JINJA_TOKEN_EOF) {
        return GRAFT_OK;
    }
    return graft_jinja_lex(&parser->lexer, &parser->ahead);
}

enum graft_status graft_jinja_unexpected(struct jinja_parser *parser, const char *wanted)
{
    static const char *const names[] = {[JINJA_TOKEN_EOF] = "the end of the template",
                                        [JINJA_TOKEN_DATA] = "text",
                                        [JINJA_TOKEN_VARIABLE_BEGIN] = "'{{'",
                                        [JINJA_TOKEN_VARIABLE_END] = "'}}'",
                                        [JINJA_TOKEN_BLOCK_BEGIN] = "'{%'",
                                        [JINJA_TOKEN_BLOCK_END] = "'%}'",
                                        [JINJA_TOKEN_NAME] = "a name",
                                        [JINJA_TOKEN_STRING] = "a string",
                                        [JINJA_TOKEN_NUMBER] = "a number",
                                        [JINJA_TOKEN_OP] = "an operator"};
    const struct jinja_token *now = &parser->now;
    uint64_t length = now->type == JINJA_TOKEN_NAME ? now->length : now->type == JINJA_TOKEN_OP ? 1 : 0;
    return graft_fail(GRAFT_E_FORMAT, "template line %" PRIu32 ", column %" PRIu32 ": %s%s%.*s found where %s is expected",
                      now->line, now->column, names[now->type], length ? " " : "", (int)(length < 60 ? length : 60),
                      parser->lexer.source + now->start, wanted);
}

bool graft_jinja_at_op(const struct jinja_parser *parser, enum jinja_op op)
{
    return parser->now.type == JINJA_TOKEN_OP && parser->now.op == op;
}

bool graft_jinja_token_is(const struct jinja_parser *parser, const struct jinja_token *token, const char *name)
{
    return token->type == JINJA_TOKEN_NAME && token->length == strlen(name) &&
           memcmp(parser->lexer.source + token->start, name, (size_t)token->length) == 0;
}

bool graft_jinja_at_name(const struct jinja_parser *parser, const char *name)
{
    return graft_jinja_token_is(parser, &parser->now, name);
}

enum graft_status graft_jinja_expect_op(struct jinja_parser *parser, enum jinja_op op, const char *wanted)
{
    return graft_jinja_at_op(parser, op) ? graft_jinja_next(parser) : graft_jinja_unexpected(parser, wanted);
}

enum graft_status graft_jinja_node(struct jinja_parser *parser, enum jinja_kind kind, struct jinja_node **out)
{
    GRAFT_TRY(JINJA_NEW(parser->lexer.arena, out, 1));
    (*out)->kind = (uint8_t)kind;
    (*out)->line = parser->now.line;
    return GRAFT_OK;
}

enum graft_status graft_jinja_enter(struct jinja_parser *parser)
{
    if (++parser->depth > GRAFT_TEMPLATE_MAX_DEPTH) {
        return graft_fail(GRAFT_E_LIMIT, "template line %" PRIu32 ": nested deeper than %d levels", parser->now.line,
                          GRAFT_TEMPLATE_MAX_DEPTH);
    }
    return GRAFT_OK;
}

// FNV-1a, 64 bit (http://www.isthe.com/chongo/tech/comp/fnv/), folded so that the low bits depend on all.
static uint64_t hash_name(const char *data, uint64_t length)
{
    uint64_t hash = 14695981039346656037u;
    for (uint64_t i = 0; i < length; i++) {
        hash = (hash ^ (uint8_t)data[i]) * 1099511628211u;
    }
    return hash ^ hash >> 29;
}

static enum graft_status intern_grow(struct jinja_parser *parser)
{
    uint64_t size = parser->name_size ? parser->name_size * 2 : 128;
    const struct jinja_string **names;
    GRAFT_TRY(JINJA_NEW(parser->lexer.arena, &names, size));
    for (uint64_t i = 0; i < parser->name_size; i++) {
        const struct jinja_string *name = parser->names[i];
        if (name) {
            uint64_t slot = hash_name(name->data, name->length) & (size - 1);
            while (names[slot]) {
                slot = (slot + 1) & (size - 1);
            }
            names[slot] = name;
        }
    }
    parser->names = names;
    parser->name_size = size;
    return GRAFT_OK;
}

enum graft_status graft_jinja_intern(struct jinja_parser *parser, const struct jinja_token *token,
                                     const struct jinja_string **out)
{
    if (parser->name_count * 2 >= parser->name_size) {
        GRAFT_TRY(intern_grow(parser));
    }
    const char *data = parser->lexer.source + token->start;
    uint64_t slot = hash_name(data, token->length) & (parser->name_size - 1);
    for (; parser->names[slot]; slot = (slot + 1) & (parser->name_size - 1)) {
        const struct jinja_string *name = parser->names[slot];
        if (name->length == token->length && memcmp(name->data, data, (size_t)token->length) == 0) {
            *out = name;
            return GRAFT_OK;
        }
    }
    struct jinja_value value;
    GRAFT_TRY(graft_jinja_string(parser->lexer.arena, data, token->length, &value));
    parser->names[slot] = value.as.string;
    parser->name_count++;
    *out = value.as.string;
    return GRAFT_OK;
}

static enum graft_status expect_name(struct jinja_parser *parser, const struct jinja_string **out)
{
    if (parser->now.type != JINJA_TOKEN_NAME) {
        return graft_jinja_unexpected(parser, "a name");
    }
    GRAFT_TRY(graft_jinja_intern(parser, &parser->now, out));
    return graft_jinja_next(parser);
}

// "%}" behind a tag, the body, and the end tag's name (left as parser->now).
static enum graft_status tag_body(struct jinja_parser *parser, const char *const *ends, struct jinja_node **out)
{
    if (graft_jinja_at_op(parser, JINJA_OP_COLON)) {
        GRAFT_TRY(graft_jinja_next(parser));
    }
    if (parser->now.type != JINJA_TOKEN_BLOCK_END) {
        return graft_jinja_unexpected(parser, "'%}'");
    }
    GRAFT_TRY(graft_jinja_next(parser));
    return parse_body(parser, ends, out);
}

// The same with one possible end, whose name is consumed, in a scope in which branches do not count.
static enum graft_status scope_body(struct jinja_parser *parser, const char *end, bool keep_loops, struct jinja_node **out)
{
    const char *const ends[] = {end, NULL};
    bool soft = parser->soft;
    uint32_t loops = parser->loops;
    parser->soft = false;
    parser->loops = keep_loops ? loops : 0;
    GRAFT_TRY(tag_body(parser, ends, out));
    parser->soft = soft;
    parser->loops = loops;
    return graft_jinja_next(parser);
}

// What may be assigned to: a name, x.y (namespaces), or several with commas. `nested`: inside parentheses.
static enum graft_status parse_target(struct jinja_parser *parser, bool attributes, struct jinja_node **out)
{
    GRAFT_TRY(graft_jinja_enter(parser));
    struct jinja_node *tuple = NULL;
    struct jinja_node **tail = NULL;
    for (;;) {
        struct jinja_node *item;
        if (graft_jinja_at_op(parser, JINJA_OP_LPAREN)) {
            GRAFT_TRY(graft_jinja_next(parser));
            GRAFT_TRY(parse_target(parser, attributes, &item));
            GRAFT_TRY(graft_jinja_expect_op(parser, JINJA_OP_RPAREN, ")"));
        } else {
            GRAFT_TRY(graft_jinja_node(parser, E_NAME, &item));
            for (const char *const *word = (const char *const[]){"true", "True", "false", "False", "none", "None", NULL}; *word;
                 word++) {
                if (graft_jinja_at_name(parser, *word)) {
                    return graft_jinja_unexpected(parser, "a name that can be assigned to");
                }
            }
            GRAFT_TRY(expect_name(parser, &item->name));
            if (attributes && graft_jinja_at_op(parser, JINJA_OP_DOT)) {
                GRAFT_TRY(graft_jinja_next(parser));
                item->kind = E_NSREF;
                GRAFT_TRY(expect_name(parser, &item->u.text));
            }
        }
        bool comma = graft_jinja_at_op(parser, JINJA_OP_COMMA);
        if (!tuple && !comma) {
            *out = item;
            break;
        }
        if (!tuple) {
            GRAFT_TRY(graft_jinja_node(parser, E_TUPLE, &tuple));
            tail = &tuple->a;
            *out = tuple;
        }
        struct jinja_node *holder;
        GRAFT_TRY(graft_jinja_node(parser, E_OPERAND, &holder));
        holder->a = item;
        *tail = holder;
        tail = &holder->next;
        if (!comma) {
            break;
        }
        GRAFT_TRY(graft_jinja_next(parser));
        if (parser->now.type != JINJA_TOKEN_NAME && !graft_jinja_at_op(parser, JINJA_OP_LPAREN)) {
            break;
        }
        if (graft_jinja_at_name(parser, "in")) {
            break;
        }
    }
    parser->depth--;
    return GRAFT_OK;
}

static enum graft_status parse_if(struct jinja_parser *parser, struct jinja_node **out)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    GRAFT_TRY(graft_jinja_node(parser, S_IF, out));
    struct jinja_node **tail = &(*out)->a;
    bool soft = parser->soft;
    parser->soft = true;
    for (;;) {
        struct jinja_node *branch;
        GRAFT_TRY(graft_jinja_node(parser, S_BRANCH, &branch));
        *tail = branch;
        tail = &branch->next;
        bool other = graft_jinja_at_name(parser, "else");
        GRAFT_TRY(graft_jinja_next(parser));
        if (!other) {
            GRAFT_TRY(graft_jinja_parse_tuple(parser, false, false, &branch->a));
        }
        GRAFT_TRY(tag_body(parser, other ? last : ends, &branch->b));
        if (graft_jinja_at_name(parser, "endif")) {
            break;
        }
    }
    parser->soft = soft;
    return graft_jinja_next(parser);
}

static enum graft_status parse_for(struct jinja_parser *parser, struct jinja_node **out)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    GRAFT_TRY(graft_jinja_node(parser, S_FOR, out));
    GRAFT_TRY(graft_jinja_next(parser));
    GRAFT_TRY(parse_target(parser, false, &(*out)->a));
    if (!graft_jinja_at_name(parser, "in")) {
        return graft_jinja_unexpected(parser, "'in'");
    }
    GRAFT_TRY(graft_jinja_next(parser));
    GRAFT_TRY(graft_jinja_parse_tuple(parser, false, false, &(*out)->b));
    if (graft_jinja_at_name(parser, "if")) {
        GRAFT_TRY(graft_jinja_next(parser));
        GRAFT_TRY(graft_jinja_parse_expression(parser, true, &(*out)->c));
    }
    if (graft_jinja_at_name(parser, "recursive")) {
        (*out)->op = 1;
        GRAFT_TRY(graft_jinja_next(parser));
    }
    bool soft = parser->soft;
    parser->soft = false;
    parser->loops++;
    GRAFT_TRY(tag_body(parser, ends, &(*out)->d));
    parser->loops--;
    bool other = graft_jinja_at_name(parser, "else");
    GRAFT_TRY(graft_jinja_next(parser));
    if (other) {
        GRAFT_TRY(scope_body(parser, "endfor", true, &(*out)->e));
    }
    parser->soft = soft;
    return GRAFT_OK;
}

static enum graft_status parse_set(struct jinja_parser *parser, struct jinja_node **out)
{
    GRAFT_TRY(graft_jinja_node(parser, S_SET, out));
    GRAFT_TRY(graft_jinja_next(parser));
    GRAFT_TRY(parse_target(parser, true, &(*out)->a));
    if (graft_jinja_at_op(parser, JINJA_OP_ASSIGN)) {
        GRAFT_TRY(graft_jinja_next(parser));
        return graft_jinja_parse_tuple(parser, true, false, &(*out)->b);
    }
    (*out)->kind = S_SETBLOCK;
    GRAFT_TRY(graft_jinja_parse_filters(parser, false, &(*out)->b));
    return scope_body(parser, "endset", true, &(*out)->c);
}

static enum graft_status parse_signature(struct jinja_parser *parser, struct jinja_node **out)
{
    GRAFT_TRY(graft_jinja_expect_op(parser, JINJA_OP_LPAREN, "("));
    struct jinja_node **tail = out;
    bool defaults = false;
    int count = 0;
    while (!graft_jinja_at_op(parser, JINJA_OP_RPAREN)) {
        struct jinja_node *param;
        GRAFT_TRY(graft_jinja_node(parser, S_PARAM, &param));
        GRAFT_TRY(expect_name(parser, &param->name));
        if (++count > JINJA_MAX_PARAMS) {
            return graft_fail(GRAFT_E_LIMIT, "template line %" PRIu32 ": more than %d parameters", parser->now.line,
                              JINJA_MAX_PARAMS);
        }
        for (const struct jinja_node *other = *out; other; other = other->next) {
            if (other->name == param->name) {
                return graft_jinja_unexpected(parser, "no second parameter of that name");
            }
        }
        if (graft_jinja_at_op(parser, JINJA_OP_ASSIGN)) {
            GRAFT_TRY(graft_jinja_next(parser));
            GRAFT_TRY(graft_jinja_parse_expression(parser, true, &param->a));
            defaults = true;
        } else if (defaults) {
            return graft_jinja_unexpected(parser, "a default, as the parameter before has one,");
        }
        *tail = param;
        tail = &param->next;
        if (!graft_jinja_at_op(parser, JINJA_OP_RPAREN)) {
            GRAFT_TRY(graft_jinja_expect_op(parser, JINJA_OP_COMMA, ", or )"));
            if (graft_jinja_at_op(parser, JINJA_OP_RPAREN)) {
                return graft_jinja_unexpected(parser, "a name");
            }
        }
    }
    return graft_jinja_next(parser);
}

static enum graft_status parse_macro(struct jinja_parser *parser, bool call, struct jinja_node **out)
{
    GRAFT_TRY(graft_jinja_node(parser, call ? S_CALL : S_MACRO, out));
    GRAFT_TRY(graft_jinja_next(parser));
    uint32_t uses = parser->uses;
    parser->uses = 0;
    if (!call) {
        GRAFT_TRY(expect_name(parser, &(*out)->name));
    }
    if (!call || graft_jinja_at_op(parser, JINJA_OP_LPAREN)) {
        GRAFT_TRY(parse_signature(parser, &(*out)->a));
    }
    if (call) {
        GRAFT_TRY(graft_jinja_parse_expression(parser, true, &(*out)->b));
        const struct jinja_node *last = (*out)->b->kind == E_CHAIN ? (*out)->b->b : NULL;
        while (last && last->next) {
            last = last->next;
        }
        if (!last || last->kind != P_CALL) {
            return graft_jinja_unexpected(parser, "a call, as {% call x() %},");
        }
        uses |= parser->uses;
        parser->uses = 0;
    }
    GRAFT_TRY(scope_body(parser, call ? "endcall" : "endmacro", false, &(*out)->c));
    (*out)->op = (uint8_t)parser->uses;
    parser->uses = uses;
    return GRAFT_OK;
}

static enum graft_status parse_with(struct jinja_parser *parser, struct jinja_node **out)
{
    GRAFT_TRY(graft_jinja_node(parser, S_WITH, out));
    GRAFT_TRY(graft_jinja_next(parser));
    struct jinja_node **tail = &(*out)->a;
    while (parser->now.type != JINJA_TOKEN_BLOCK_END) {
        if ((*out)->a) {
            GRAFT_TRY(graft_jinja_expect_op(parser, JINJA_OP_COMMA, ","));
        }
        struct jinja_node *set;
        GRAFT_TRY(graft_jinja_node(parser, S_SET, &set));
        GRAFT_TRY(graft_jinja_node(parser, E_NAME, &set->a));
        GRAFT_TRY(expect_name(parser, &set->a->name));
        GRAFT_TRY(graft_jinja_expect_op(parser, JINJA_OP_ASSIGN, "="));
        GRAFT_TRY(graft_jinja_parse_expression(parser, true, &set->b));
        *tail = set;
        tail = &set->next;
    }
    return scope_body(parser, "endwith", true, &(*out)->c);
}

static enum graft_status parse_statement(struct jinja_parser *parser, struct jinja_node **out)
{
    if (graft_jinja_at_name(parser, "if")) {
        return parse_if(parser, out);
    }
    if (graft_jinja_at_name(parser, "for")) {
        return parse_for(parser, out);
    }
    if (graft_jinja_at_name(parser, "set")) {
        return parse_set(parser, out);
    }
    if (graft_jinja_at_name(parser, "macro") || graft_jinja_at_name(parser, "call")) {
        return parse_macro(parser, graft_jinja_at_name(parser, "call"), out);
    }
    if (graft_jinja_at_name(parser, "with")) {
        return parse_with(parser, out);
    }
    if (graft_jinja_at_name(parser, "filter")) {
        GRAFT_TRY(graft_jinja_node(parser, S_FILTER, out));
        GRAFT_TRY(graft_jinja_next(parser));
        GRAFT_TRY(graft_jinja_parse_filters(parser, true, &(*out)->b));
        return scope_body(parser, "endfilter", true, &(*out)->c);
    }
    if (graft_jinja_at_name(parser, "generation")) {
        GRAFT_TRY(graft_jinja_node(parser, S_SCOPE, out));
        GRAFT_TRY(graft_jinja_next(parser));
        return scope_body(parser, "endgeneration", false, &(*out)->c);
    }
    if (graft_jinja_at_name(parser, "break") || graft_jinja_at_name(parser, "continue")) {
        if (parser->loops == 0) {
            return graft_jinja_unexpected(parser, "a loop around it");
        }
        GRAFT_TRY(graft_jinja_node(parser, graft_jinja_at_name(parser, "break") ? S_BREAK : S_CONTINUE, out));
        return graft_jinja_next(parser);
    }
    if (graft_jinja_at_name(parser, "print") || graft_jinja_at_name(parser, "do")) {
        GRAFT_TRY(graft_jinja_node(parser, graft_jinja_at_name(parser, "do") ? S_DO : S_PRINT, out));
        GRAFT_TRY(graft_jinja_next(parser));
        return graft_jinja_parse_tuple(parser, true, false, &(*out)->a);
    }
    static const char *const ends[] = {"elif",    "else",    "endif",     "endfor",        "endset", "endmacro",
                                       "endcall", "endwith", "endfilter", "endgeneration", "endraw", NULL};
    for (const char *const *end = ends; *end; end++) {
        if (graft_jinja_at_name(parser, *end)) {
            return graft_jinja_unexpected(parser, "the end of another statement, or a statement,");
        }
    }
    if (parser->now.type != JINJA_TOKEN_NAME) {
        return graft_jinja_unexpected(parser, "a statement");
    }
    return graft_fail(GRAFT_E_UNSUPPORTED, "template line %" PRIu32 ", column %" PRIu32 ": statement '%.*s' is unknown",
                      parser->now.line, parser->now.column, (int)(parser->now.length < 100 ? parser->now.length : 100),
                      parser->lexer.source + parser->now.start);
}

static enum graft_status parse_body(struct jinja_parser *parser, const char *const *ends, struct jinja_node **out)
{
    GRAFT_TRY(graft_jinja_enter(parser));
    struct jinja_node **tail = out;
    *out = NULL;
    for (;;) {
        struct jinja_node *node = NULL;
        if (parser->now.type == JINJA_TOKEN_EOF) {
            if (ends) {
                return graft_jinja_unexpected(parser, ends[0]);
            }
            break;
        }
        if (parser->now.type == JINJA_TOKEN_DATA) {
            struct jinja_value text;
            GRAFT_TRY(graft_jinja_node(parser, S_DATA, &node));
            GRAFT_TRY(
                graft_jinja_string(parser->lexer.arena, parser->lexer.source + parser->now.start, parser->now.length, &text));
            node->u.text = text.as.string;
            GRAFT_TRY(graft_jinja_next(parser));
        } else if (parser->now.type == JINJA_TOKEN_VARIABLE_BEGIN) {
            GRAFT_TRY(graft_jinja_next(parser));
            GRAFT_TRY(graft_jinja_node(parser, S_PRINT, &node));
            GRAFT_TRY(graft_jinja_parse_tuple(parser, true, false, &node->a));
            if (parser->now.type != JINJA_TOKEN_VARIABLE_END) {
                return graft_jinja_unexpected(parser, "'}}'");
            }
            GRAFT_TRY(graft_jinja_next(parser));
        } else {
            GRAFT_TRY(graft_jinja_next(parser));
            bool at_end = false;
            for (const char *const *end = ends; end && *end; end++) {
                at_end |= graft_jinja_at_name(parser, *end);
            }
            if (at_end) {
                break;
            }
            GRAFT_TRY(parse_statement(parser, &node));
            if (parser->now.type != JINJA_TOKEN_BLOCK_END) {
                return graft_jinja_unexpected(parser, "'%}'");
            }
            GRAFT_TRY(graft_jinja_next(parser));
        }
        *tail = node;
        tail = &node->next;
    }
    parser->depth--;
    return GRAFT_OK;
}

static const struct jinja_string *find_name(const struct jinja_parser *parser, const char *name)
{
    uint64_t slot = parser->name_size ? hash_name(name, strlen(name)) & (parser->name_size - 1) : 0;
    for (; parser->name_size && parser->names[slot]; slot = (slot + 1) & (parser->name_size - 1)) {
        if (jinja_name_is(parser->names[slot], name)) {
            return parser->names[slot];
        }
    }
    return NULL;
}

enum graft_status graft_jinja_parse(struct jinja_arena *arena, const char *source, uint64_t length, struct jinja_tree *out)
{
    struct jinja_parser parser = {
        .lexer = {.arena = arena, .source = source, .length = length, .line = 1, .state = JINJA_TOKEN_DATA},
    };
    *out = (struct jinja_tree){0};
    GRAFT_TRY(graft_jinja_lex(&parser.lexer, &parser.now));
    if (parser.now.type != JINJA_TOKEN_EOF) {
        GRAFT_TRY(graft_jinja_lex(&parser.lexer, &parser.ahead));
    }
    GRAFT_TRY(parse_body(&parser, NULL, &out->root));
    out->loop = find_name(&parser, "loop");
    out->caller = find_name(&parser, "caller");
    out->varargs = find_name(&parser, "varargs");
    out->kwargs = find_name(&parser, "kwargs");
    return GRAFT_OK;
}
