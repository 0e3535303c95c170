// SPDX-License-Identifier: Apache-2.0
// Expressions of templates: recursive descent with Jinja's precedence, lowest first:
//   x if y else z | or | and | not | comparisons, in | + - | ~ | * / // % | ** | unary - + | postfix, filters, tests.
// Chains of equal precedence become lists, so the tree is as deep as the source is nested.
#include "runtime/text/jinja.h"

// Append `node` to the list that *tail is the end of.
static void link_node(struct jinja_node ***tail, struct jinja_node *node)
{
    **tail = node;
    *tail = &node->next;
}

static enum graft_status constant(struct jinja_parser *parser, const struct jinja_value *value, struct jinja_node **out)
{
    GRAFT_TRY(graft_jinja_node(parser, E_CONST, out));
    (*out)->u.value = *value;
    return GRAFT_OK;
}

static enum graft_status parse_unary(struct jinja_parser *parser, bool with_filter, struct jinja_node **out);

static enum graft_status parse_args(struct jinja_parser *parser, struct jinja_node **out)
{
    GRAFT_TRY(graft_jinja_expect_op(parser, JINJA_OP_LPAREN, "("));
    struct jinja_node **tail = out;
    int stage = 0; // 0 plain, 1 keywords, 2 after *x, 3 after **x
    while (!graft_jinja_at_op(parser, JINJA_OP_RPAREN)) {
        struct jinja_node *arg;
        GRAFT_TRY(graft_jinja_node(parser, P_ARG, &arg));
        int kind = 0;
        if (graft_jinja_at_op(parser, JINJA_OP_MUL) || graft_jinja_at_op(parser, JINJA_OP_POW)) {
            kind = graft_jinja_at_op(parser, JINJA_OP_MUL) ? 2 : 3;
            arg->op = kind == 2 ? JINJA_ARG_STAR : JINJA_ARG_STAR_STAR;
            GRAFT_TRY(graft_jinja_next(parser));
        } else if (parser->now.type == JINJA_TOKEN_NAME && parser->ahead.type == JINJA_TOKEN_OP &&
                   parser->ahead.op == JINJA_OP_ASSIGN) {
            kind = 1;
            arg->op = JINJA_ARG_KEYWORD;
            GRAFT_TRY(graft_jinja_intern(parser, &parser->now, &arg->name));
            GRAFT_TRY(graft_jinja_next(parser));
            GRAFT_TRY(graft_jinja_next(parser));
        }
        if ((kind == 0 && stage > 0) || (kind == 1 && stage == 3) || (kind >= 2 && stage >= kind)) {
            return graft_jinja_unexpected(parser, "arguments in the order plain, named, *list, **dict");
        }
        stage = kind > stage ? kind : stage;
        GRAFT_TRY(graft_jinja_parse_expression(parser, true, &arg->a));
        link_node(&tail, arg);
        if (!graft_jinja_at_op(parser, JINJA_OP_RPAREN)) {
            GRAFT_TRY(graft_jinja_expect_op(parser, JINJA_OP_COMMA, ", or )"));
        }
    }
    return graft_jinja_next(parser);
}

// Why a filter that jinja2 has is not there.
static const char *why_not(const struct jinja_string *name)
{
    static const char *const refused[][2] = {
        {"random", "not supported: the same conversation would not give the same text twice"},
        {"urlize", "not supported: it makes links for web pages"}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (strlen(refused[i][0]) == name->length && memcmp(refused[i][0], name->data, (size_t)name->length) == 0) {
            return refused[i][1];
        }
    }
    return "unknown";
}

// A dotted name of a filter or test into the node; its arguments are read by the caller.
static enum graft_status function_name(struct jinja_parser *parser, struct jinja_node *node, const char *what)
{
    if (parser->now.type != JINJA_TOKEN_NAME) {
        return graft_jinja_unexpected(parser, what);
    }
    GRAFT_TRY(graft_jinja_intern(parser, &parser->now, &node->name));
    const struct jinja_token token = parser->now;
    bool known;
    if (node->kind == P_FILTER) {
        node->u.filter = graft_jinja_find_filter(node->name->data, node->name->length);
        known = node->u.filter != NULL;
    } else {
        node->u.test = graft_jinja_find_test(node->name->data, node->name->length);
        known = node->u.test != NULL;
    }
    if (!known && !parser->soft) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "template line %" PRIu32 ", column %" PRIu32 ": %s '%.*s' is %s", token.line,
                          token.column, what, (int)(node->name->length < 100 ? node->name->length : 100), node->name->data,
                          node->kind == P_FILTER ? why_not(node->name) : "unknown");
    }
    return graft_jinja_next(parser);
}

static enum graft_status parse_filter(struct jinja_parser *parser, struct jinja_node **out)
{
    GRAFT_TRY(graft_jinja_node(parser, P_FILTER, out));
    GRAFT_TRY(function_name(parser, *out, "filter"));
    if (graft_jinja_at_op(parser, JINJA_OP_LPAREN)) {
        GRAFT_TRY(parse_args(parser, &(*out)->a));
    }
    return GRAFT_OK;
}

enum graft_status graft_jinja_parse_filters(struct jinja_parser *parser, bool first, struct jinja_node **out)
{
    *out = NULL;
    if (!first && !graft_jinja_at_op(parser, JINJA_OP_PIPE)) {
        return GRAFT_OK;
    }
    GRAFT_TRY(graft_jinja_node(parser, E_CHAIN, out));
    struct jinja_node **tail = &(*out)->b;
    while (first || graft_jinja_at_op(parser, JINJA_OP_PIPE)) {
        if (!first) {
            GRAFT_TRY(graft_jinja_next(parser));
        }
        first = false;
        struct jinja_node *filter;
        GRAFT_TRY(parse_filter(parser, &filter));
        link_node(&tail, filter);
    }
    return GRAFT_OK;
}

// Inside [ ]: one index or slice.
static enum graft_status parse_subscript(struct jinja_parser *parser, struct jinja_node **out)
{
    GRAFT_TRY(graft_jinja_node(parser, P_ITEM, out));
    GRAFT_TRY(graft_jinja_next(parser));
    struct jinja_node **parts[] = {&(*out)->a, &(*out)->b, &(*out)->c};
    int part = 0;
    while (!graft_jinja_at_op(parser, JINJA_OP_RBRACKET)) {
        if (graft_jinja_at_op(parser, JINJA_OP_COLON)) {
            if (++part > 2) {
                return graft_jinja_unexpected(parser, "]");
            }
            (*out)->kind = P_SLICE;
            GRAFT_TRY(graft_jinja_next(parser));
            continue;
        }
        if (*parts[part]) {
            return graft_jinja_unexpected(parser, "]");
        }
        GRAFT_TRY(graft_jinja_parse_expression(parser, true, parts[part]));
    }
    if (part == 0 && !(*out)->a) {
        return graft_jinja_unexpected(parser, "an index");
    }
    return graft_jinja_next(parser);
}

static enum graft_status parse_test(struct jinja_parser *parser, struct jinja_node **out)
{
    GRAFT_TRY(graft_jinja_node(parser, P_TEST, out));
    GRAFT_TRY(graft_jinja_next(parser));
    if (graft_jinja_at_name(parser, "not")) {
        (*out)->op = 1;
        GRAFT_TRY(graft_jinja_next(parser));
    }
    GRAFT_TRY(function_name(parser, *out, "test"));
    if (graft_jinja_at_op(parser, JINJA_OP_LPAREN)) {
        return parse_args(parser, &(*out)->a);
    }
    bool value = parser->now.type == JINJA_TOKEN_STRING || parser->now.type == JINJA_TOKEN_NUMBER ||
                 graft_jinja_at_op(parser, JINJA_OP_LBRACKET) || graft_jinja_at_op(parser, JINJA_OP_LBRACE) ||
                 (parser->now.type == JINJA_TOKEN_NAME && !graft_jinja_at_name(parser, "else") &&
                  !graft_jinja_at_name(parser, "or") && !graft_jinja_at_name(parser, "and"));
    if (!value) {
        return GRAFT_OK;
    }
    if (graft_jinja_at_name(parser, "is")) {
        return graft_jinja_unexpected(parser, "no second test with 'is'");
    }
    GRAFT_TRY(graft_jinja_node(parser, P_ARG, &(*out)->a));
    return parse_unary(parser, false, &(*out)->a->a);
}

// What follows a value: .x [x] (x), and with filters also | and is. Wraps *node in a chain if there is any.
static enum graft_status parse_postfix(struct jinja_parser *parser, bool with_filter, struct jinja_node **node)
{
    struct jinja_node *chain = NULL;
    struct jinja_node **tail = NULL;
    bool filtered = false;
    for (;;) {
        struct jinja_node *op = NULL;
        if (!filtered && graft_jinja_at_op(parser, JINJA_OP_DOT)) {
            GRAFT_TRY(graft_jinja_next(parser));
            if (parser->now.type == JINJA_TOKEN_NAME) {
                GRAFT_TRY(graft_jinja_node(parser, P_ATTR, &op));
                GRAFT_TRY(graft_jinja_intern(parser, &parser->now, &op->name));
            } else if (parser->now.type == JINJA_TOKEN_NUMBER && parser->now.value.type == JINJA_INT) {
                GRAFT_TRY(graft_jinja_node(parser, P_ITEM, &op));
                GRAFT_TRY(constant(parser, &parser->now.value, &op->a));
            } else {
                return graft_jinja_unexpected(parser, "a name or number behind '.'");
            }
            GRAFT_TRY(graft_jinja_next(parser));
        } else if (!filtered && graft_jinja_at_op(parser, JINJA_OP_LBRACKET)) {
            GRAFT_TRY(parse_subscript(parser, &op));
        } else if (graft_jinja_at_op(parser, JINJA_OP_LPAREN)) {
            GRAFT_TRY(graft_jinja_node(parser, P_CALL, &op));
            GRAFT_TRY(parse_args(parser, &op->a));
        } else if (with_filter && graft_jinja_at_op(parser, JINJA_OP_PIPE)) {
            GRAFT_TRY(graft_jinja_next(parser));
            GRAFT_TRY(parse_filter(parser, &op));
            filtered = true;
        } else if (with_filter && graft_jinja_at_name(parser, "is")) {
            GRAFT_TRY(parse_test(parser, &op));
            filtered = true;
        } else {
            return GRAFT_OK;
        }
        if (!chain) {
            GRAFT_TRY(graft_jinja_node(parser, E_CHAIN, &chain));
            chain->a = *node;
            tail = &chain->b;
            *node = chain;
        }
        link_node(&tail, op);
    }
}

static enum graft_status parse_items(struct jinja_parser *parser, bool dict, struct jinja_node **out)
{
    GRAFT_TRY(graft_jinja_node(parser, dict ? E_DICT : E_LIST, out));
    enum jinja_op close = dict ? JINJA_OP_RBRACE : JINJA_OP_RBRACKET;
    struct jinja_node **tail = &(*out)->a;
    GRAFT_TRY(graft_jinja_next(parser));
    while (!graft_jinja_at_op(parser, close)) {
        for (int i = 0; i < (dict ? 2 : 1); i++) {
            if (i == 1) {
                GRAFT_TRY(graft_jinja_expect_op(parser, JINJA_OP_COLON, ":"));
            }
            struct jinja_node *item, *holder;
            GRAFT_TRY(graft_jinja_parse_expression(parser, true, &item));
            GRAFT_TRY(graft_jinja_node(parser, E_OPERAND, &holder));
            holder->a = item;
            link_node(&tail, holder);
        }
        if (!graft_jinja_at_op(parser, close)) {
            GRAFT_TRY(graft_jinja_expect_op(parser, JINJA_OP_COMMA, dict ? ", or }" : ", or ]"));
        }
    }
    return graft_jinja_next(parser);
}

static enum graft_status parse_name(struct jinja_parser *parser, struct jinja_node **out)
{
    static const struct {
        const char *name;
        int value; // 0 false, 1 true, 2 none
    } words[] = {{"true", 1}, {"True", 1}, {"false", 0}, {"False", 0}, {"none", 2}, {"None", 2}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (graft_jinja_at_name(parser, words[i].name)) {
            struct jinja_value value = words[i].value == 2 ? jinja_none() : jinja_bool(words[i].value == 1);
            GRAFT_TRY(constant(parser, &value, out));
            return graft_jinja_next(parser);
        }
    }
    parser->uses |= graft_jinja_at_name(parser, "caller") ? JINJA_USES_CALLER : 0;
    parser->uses |= graft_jinja_at_name(parser, "varargs") ? JINJA_USES_VARARGS : 0;
    parser->uses |= graft_jinja_at_name(parser, "kwargs") ? JINJA_USES_KWARGS : 0;
    GRAFT_TRY(graft_jinja_node(parser, E_NAME, out));
    GRAFT_TRY(graft_jinja_intern(parser, &parser->now, &(*out)->name));
    return graft_jinja_next(parser);
}

static enum graft_status parse_primary(struct jinja_parser *parser, struct jinja_node **out)
{
    switch (parser->now.type) {
    case JINJA_TOKEN_NAME:
        return parse_name(parser, out);
    case JINJA_TOKEN_NUMBER:
        GRAFT_TRY(constant(parser, &parser->now.value, out));
        return graft_jinja_next(parser);
    case JINJA_TOKEN_STRING: {
        // "a" "b" is "ab", as one list of pieces: joined when evaluated
        struct jinja_node *node;
        GRAFT_TRY(constant(parser, &parser->now.value, &node));
        *out = node;
        GRAFT_TRY(graft_jinja_next(parser));
        if (parser->now.type != JINJA_TOKEN_STRING) {
            return GRAFT_OK;
        }
        GRAFT_TRY(graft_jinja_node(parser, E_CONCAT, out));
        struct jinja_node **tail = &(*out)->a;
        for (;;) {
            struct jinja_node *holder;
            GRAFT_TRY(graft_jinja_node(parser, E_OPERAND, &holder));
            holder->a = node;
            link_node(&tail, holder);
            if (parser->now.type != JINJA_TOKEN_STRING) {
                return GRAFT_OK;
            }
            GRAFT_TRY(constant(parser, &parser->now.value, &node));
            GRAFT_TRY(graft_jinja_next(parser));
        }
    }
    default:
        break;
    }
    if (graft_jinja_at_op(parser, JINJA_OP_LPAREN)) {
        GRAFT_TRY(graft_jinja_next(parser));
        GRAFT_TRY(graft_jinja_parse_tuple(parser, true, true, out));
        return graft_jinja_expect_op(parser, JINJA_OP_RPAREN, ")");
    }
    if (graft_jinja_at_op(parser, JINJA_OP_LBRACKET) || graft_jinja_at_op(parser, JINJA_OP_LBRACE)) {
        return parse_items(parser, graft_jinja_at_op(parser, JINJA_OP_LBRACE), out);
    }
    return graft_jinja_unexpected(parser, "an expression");
}

static enum graft_status parse_unary(struct jinja_parser *parser, bool with_filter, struct jinja_node **out)
{
    if (graft_jinja_at_op(parser, JINJA_OP_SUB) || graft_jinja_at_op(parser, JINJA_OP_ADD)) {
        GRAFT_TRY(graft_jinja_enter(parser));
        GRAFT_TRY(graft_jinja_node(parser, graft_jinja_at_op(parser, JINJA_OP_SUB) ? E_NEG : E_POS, out));
        GRAFT_TRY(graft_jinja_next(parser));
        GRAFT_TRY(parse_unary(parser, false, &(*out)->a));
        parser->depth--;
    } else {
        GRAFT_TRY(parse_primary(parser, out));
    }
    return parse_postfix(parser, with_filter, out);
}

// Operators of one level, left to right: level 0 comparisons, 1 + -, 2 ~, 3 * / // %, 4 **.
static enum graft_status parse_level(struct jinja_parser *parser, int level, struct jinja_node **out)
{
    if (level > 4) {
        return parse_unary(parser, true, out);
    }
    GRAFT_TRY(parse_level(parser, level + 1, out));
    struct jinja_node *all = NULL;
    struct jinja_node **tail = NULL;
    for (;;) {
        enum jinja_op op = parser->now.type == JINJA_TOKEN_OP ? parser->now.op : JINJA_OP_NONE;
        bool ours = false;
        if (level == 0 && graft_jinja_at_name(parser, "in")) {
            op = JINJA_OP_IN;
            ours = true;
        } else if (level == 0 && graft_jinja_at_name(parser, "not") && graft_jinja_token_is(parser, &parser->ahead, "in")) {
            GRAFT_TRY(graft_jinja_next(parser));
            op = JINJA_OP_NOT_IN;
            ours = true;
        } else {
            ours = level == 0   ? op >= JINJA_OP_EQ && op <= JINJA_OP_GE
                   : level == 1 ? op == JINJA_OP_ADD || op == JINJA_OP_SUB
                   : level == 2 ? op == JINJA_OP_TILDE
                   : level == 3 ? op >= JINJA_OP_MUL && op <= JINJA_OP_MOD
                                : op == JINJA_OP_POW;
        }
        if (!ours) {
            return GRAFT_OK;
        }
        struct jinja_node *operand;
        if (!all) {
            GRAFT_TRY(graft_jinja_node(parser, level == 0 ? E_COMPARE : level == 2 ? E_CONCAT : E_ARITH, &all));
            if (level == 2) {
                GRAFT_TRY(graft_jinja_node(parser, E_OPERAND, &all->a));
                all->a->a = *out;
                tail = &all->a->next;
            } else {
                all->a = *out;
                tail = &all->b;
            }
            *out = all;
        }
        GRAFT_TRY(graft_jinja_node(parser, E_OPERAND, &operand));
        operand->op = (uint8_t)op;
        GRAFT_TRY(graft_jinja_next(parser));
        GRAFT_TRY(parse_level(parser, level + 1, &operand->a));
        link_node(&tail, operand);
    }
}

static enum graft_status parse_not(struct jinja_parser *parser, struct jinja_node **out)
{
    if (!graft_jinja_at_name(parser, "not")) {
        return parse_level(parser, 0, out);
    }
    GRAFT_TRY(graft_jinja_enter(parser));
    GRAFT_TRY(graft_jinja_node(parser, E_NOT, out));
    GRAFT_TRY(graft_jinja_next(parser));
    GRAFT_TRY(parse_not(parser, &(*out)->a));
    parser->depth--;
    return GRAFT_OK;
}

// "or" (kind E_OR) or "and" (kind E_AND).
static enum graft_status parse_logic(struct jinja_parser *parser, enum jinja_kind kind, struct jinja_node **out)
{
    const char *word = kind == E_OR ? "or" : "and";
    struct jinja_node *all = NULL;
    struct jinja_node **tail = NULL;
    for (;;) {
        struct jinja_node *operand;
        GRAFT_TRY(kind == E_OR ? parse_logic(parser, E_AND, &operand) : parse_not(parser, &operand));
        bool more = graft_jinja_at_name(parser, word);
        if (!all && !more) {
            *out = operand;
            return GRAFT_OK;
        }
        if (!all) {
            GRAFT_TRY(graft_jinja_node(parser, kind, &all));
            tail = &all->a;
        }
        struct jinja_node *holder;
        GRAFT_TRY(graft_jinja_node(parser, E_OPERAND, &holder));
        holder->a = operand;
        link_node(&tail, holder);
        if (!more) {
            *out = all;
            return GRAFT_OK;
        }
        GRAFT_TRY(graft_jinja_next(parser));
    }
}

enum graft_status graft_jinja_parse_expression(struct jinja_parser *parser, bool with_cond, struct jinja_node **out)
{
    GRAFT_TRY(graft_jinja_enter(parser));
    uint32_t levels = 1;
    GRAFT_TRY(parse_logic(parser, E_OR, out));
    while (with_cond && graft_jinja_at_name(parser, "if")) {
        struct jinja_node *cond;
        GRAFT_TRY(graft_jinja_node(parser, E_COND, &cond));
        cond->b = *out;
        *out = cond;
        GRAFT_TRY(graft_jinja_next(parser));
        GRAFT_TRY(parse_logic(parser, E_OR, &cond->a));
        if (graft_jinja_at_name(parser, "else")) {
            GRAFT_TRY(graft_jinja_next(parser));
            GRAFT_TRY(graft_jinja_parse_expression(parser, true, &cond->c));
        }
        GRAFT_TRY(graft_jinja_enter(parser)); // "a if b if c ...": each one is a level of the tree
        levels++;
    }
    parser->depth -= levels;
    return GRAFT_OK;
}

enum graft_status graft_jinja_parse_tuple(struct jinja_parser *parser, bool with_cond, bool parentheses,
                                          struct jinja_node **out)
{
    struct jinja_node *all = NULL;
    struct jinja_node **tail = NULL;
    for (;;) {
        bool end = parser->now.type == JINJA_TOKEN_VARIABLE_END || parser->now.type == JINJA_TOKEN_BLOCK_END ||
                   graft_jinja_at_op(parser, JINJA_OP_RPAREN) || (!with_cond && graft_jinja_at_name(parser, "recursive"));
        if (end) {
            if (!all && !parentheses) {
                return graft_jinja_unexpected(parser, "an expression");
            }
            return all ? (*out = all, GRAFT_OK) : graft_jinja_node(parser, E_TUPLE, out);
        }
        struct jinja_node *item, *holder;
        GRAFT_TRY(graft_jinja_parse_expression(parser, with_cond, &item));
        bool comma = graft_jinja_at_op(parser, JINJA_OP_COMMA);
        if (!all && !comma) {
            *out = item;
            return GRAFT_OK;
        }
        if (!all) {
            GRAFT_TRY(graft_jinja_node(parser, E_TUPLE, &all));
            tail = &all->a;
        }
        GRAFT_TRY(graft_jinja_node(parser, E_OPERAND, &holder));
        holder->a = item;
        link_node(&tail, holder);
        if (!comma) {
            *out = all;
            return GRAFT_OK;
        }
        GRAFT_TRY(graft_jinja_next(parser));
    }
}
