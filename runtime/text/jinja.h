// SPDX-License-Identifier: Apache-2.0
// Inside of the template interpreter: values, syntax tree, the state of one rendering. Only runtime/text/jinja_*.c and
// template.c include this.
//
// Memory: a template's tree lies in the template's arena, everything a rendering makes in the rendering's arena; both are
// chunks from graft_alloc with a limit and are freed as a whole. Nothing is freed in between. Time: every node evaluated and
// every element or 256 bytes handled costs a step (graft_jinja_charge), so that work is bounded by GRAFT_TEMPLATE_MAX_STEPS.
// Recursion is bounded by JINJA_MAX_EVAL_DEPTH and JINJA_MAX_VALUE_DEPTH. Behaviour: Jinja 3.1
// (https://jinja.palletsprojects.com/en/3.1.x/templates/) on Python 3's data model.
#ifndef GRAFT_RUNTIME_TEXT_JINJA_H
#define GRAFT_RUNTIME_TEXT_JINJA_H

#include "platform/bytes.h"
#include "runtime/text/template.h"

enum {
    JINJA_MAX_EVAL_DEPTH = 8 * GRAFT_TEMPLATE_MAX_DEPTH,  // nested nodes over all nested macro calls
    JINJA_MAX_VALUE_DEPTH = 4 * GRAFT_TEMPLATE_MAX_DEPTH, // nesting of lists and dicts when printed, compared or converted
    JINJA_MAX_RANGE = 100000,                             // elements of range(), as in Jinja's sandbox
    JINJA_MAX_PARAMS = 64,                                // parameters of one macro
    JINJA_MAX_BOUND = 8,                                  // parameters of one filter, test, method or function
};

// ---- memory ----

struct jinja_chunk;
struct jinja_arena {
    struct graft_ctx *ctx;
    struct jinja_chunk *chunks;
    char *next;           // first free byte of the newest chunk
    uint64_t left;        // free bytes behind it
    uint64_t used_bytes;  // all chunks together
    uint64_t limit_bytes; // most of them
};
// `bytes` zeroed, aligned to 16. Errors: GRAFT_E_LIMIT, GRAFT_E_MEMORY, GRAFT_E_BUDGET; *out is NULL then.
GRAFT_MUST_CHECK enum graft_status graft_jinja_alloc(struct jinja_arena *arena, void **out, uint64_t bytes);
// Grow a block of the arena from old_bytes to new_bytes, in place if it is the newest one; the old block stays valid.
GRAFT_MUST_CHECK enum graft_status graft_jinja_grow(struct jinja_arena *arena, void **memory, uint64_t old_bytes,
                                                    uint64_t new_bytes);
void graft_jinja_arena_free(struct jinja_arena *arena);
#define JINJA_NEW(arena, pointer, count) graft_jinja_alloc((arena), (void **)(pointer), (uint64_t)(count) * sizeof(**(pointer)))

// ---- values ----

enum jinja_type {
    JINJA_UNSET, // an argument that was not given; never seen by templates
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_ITERATOR, // what Python calls a generator: can be walked once, has no length
    JINJA_VIEW,     // dict.keys(), values(), items()
    JINJA_RANGE,
    JINJA_DICT,
    JINJA_NAMESPACE,
    JINJA_MACRO,
    JINJA_FUNCTION,
    JINJA_METHOD,
    JINJA_LOOP,
    JINJA_CYCLER,
    JINJA_JOINER,
};

struct jinja_value {
    enum jinja_type type;
    union {
        bool boolean;
        int64_t integer;
        double number;
        const struct jinja_string *string; // also the name of an undefined value (may be NULL)
        struct jinja_list *list;           // list, tuple, iterator, view
        struct jinja_range *range;
        struct jinja_dict *dict; // dict, namespace
        struct jinja_macro *macro;
        const struct jinja_function *function;
        struct jinja_method *method;
        struct jinja_loop *loop;
        struct jinja_cycler *cycler; // cycler, joiner
    } as;
};

// UTF-8. Strings never change, but a longer one may share the memory of its beginning: `spare` is the block that `data` lies
// in.
struct jinja_spare {
    char *base;
    uint64_t used, capacity; // bytes
};
struct jinja_string {
    const char *data;
    uint64_t length; // bytes
    uint64_t chars;  // code points
    struct jinja_spare *spare;
};
struct jinja_list {
    struct jinja_value *items;
    uint64_t count, capacity;
    uint64_t start;   // iterator: elements already taken
    const char *kind; // view: "dict_keys" ...; iterator: "generator" ...
};
struct jinja_range {
    int64_t start, step;
    uint64_t count;
};
struct jinja_entry {
    struct jinja_value key, value;
    uint64_t hash;
};
struct jinja_dict {
    struct jinja_entry *entries; // in order of insertion
    uint64_t count, capacity;
    uint32_t *index; // open addressing, entry number + 1; size is a power of two
    uint64_t index_size;
};
struct jinja_macro {
    const struct jinja_node *node; // S_MACRO or S_CALL
    struct jinja_frame *frame;     // where it was defined
};
struct jinja_method {
    struct jinja_value self;
    const struct jinja_method_def *def;
};
struct jinja_loop {
    struct jinja_list *items;
    uint64_t at;                   // index of the current element
    uint32_t depth0;               // nesting of recursive loops
    const struct jinja_node *node; // S_FOR
    struct jinja_frame *frame;     // around the loop
    struct jinja_value last_changed;
};
struct jinja_cycler {
    struct jinja_list *items; // joiner: the separator
    uint64_t at;
};

// ---- syntax tree ----

enum jinja_kind {
    // expressions
    E_CONST,
    E_NAME,
    E_LIST,    // a: items
    E_TUPLE,   // a: items
    E_DICT,    // a: key, value, key, value ...
    E_COND,    // a if b else c; c may be NULL
    E_AND,     // a: operands
    E_OR,      // a: operands
    E_NOT,     // a
    E_COMPARE, // a, then b: E_OPERAND with op
    E_ARITH,   // a, then b: E_OPERAND with op
    E_CONCAT,  // a: operands
    E_NEG,     // a
    E_POS,     // a
    E_CHAIN,   // a (NULL in filter blocks), then b: P_...
    E_OPERAND, // op, a
    E_NSREF,   // name.text, only as a target
    // what may follow a value
    P_ATTR,   // name
    P_ITEM,   // a
    P_SLICE,  // a, b, c; each may be NULL
    P_CALL,   // a: P_ARG
    P_FILTER, // name, def, a: P_ARG
    P_TEST,   // name, def, a: P_ARG, op: negated
    P_ARG,    // a; op: enum jinja_arg, name for a keyword
    // statements
    S_DATA,     // text
    S_PRINT,    // a
    S_IF,       // a: S_BRANCH
    S_BRANCH,   // a: condition or NULL, b: body
    S_FOR,      // a: target, b: iterable, c: filter or NULL, d: body, e: else; op: recursive
    S_SET,      // a: target, b: value
    S_SETBLOCK, // a: target, b: E_CHAIN or NULL, c: body
    S_MACRO,    // name, a: S_PARAM, c: body; op: which of caller, varargs, kwargs are used
    S_CALL,     // a: S_PARAM, b: call, c: body; op as S_MACRO
    S_PARAM,    // name, a: default or NULL
    S_FILTER,   // b: E_CHAIN, c: body
    S_SCOPE,    // c: body (generation, block)
    S_WITH,     // a: S_SET, c: body
    S_BREAK,
    S_CONTINUE,
    S_DO, // a
};
enum jinja_arg { JINJA_ARG_PLAIN, JINJA_ARG_KEYWORD, JINJA_ARG_STAR, JINJA_ARG_STAR_STAR };
enum { JINJA_USES_CALLER = 1, JINJA_USES_VARARGS = 2, JINJA_USES_KWARGS = 4 };

enum jinja_op {
    JINJA_OP_NONE,
    JINJA_OP_EQ,
    JINJA_OP_NE,
    JINJA_OP_LT,
    JINJA_OP_LE,
    JINJA_OP_GT,
    JINJA_OP_GE,
    JINJA_OP_IN,
    JINJA_OP_NOT_IN,
    JINJA_OP_ADD,
    JINJA_OP_SUB,
    JINJA_OP_MUL,
    JINJA_OP_DIV,
    JINJA_OP_FLOORDIV,
    JINJA_OP_MOD,
    JINJA_OP_POW,
    JINJA_OP_TILDE,
    JINJA_OP_ASSIGN,
    JINJA_OP_DOT,
    JINJA_OP_COMMA,
    JINJA_OP_COLON,
    JINJA_OP_PIPE,
    JINJA_OP_SEMICOLON,
    JINJA_OP_LPAREN,
    JINJA_OP_RPAREN,
    JINJA_OP_LBRACKET,
    JINJA_OP_RBRACKET,
    JINJA_OP_LBRACE,
    JINJA_OP_RBRACE,
};

// Siblings hang on `next`. Chains of operators are lists, so that the depth of the tree is the nesting of the source.
struct jinja_node {
    uint8_t kind, op;
    uint32_t line;
    struct jinja_node *next, *a, *b, *c, *d, *e;
    const struct jinja_string *name; // names are interned: one pointer per name and template
    union {
        struct jinja_value value;
        const struct jinja_filter_def *filter; // NULL: unknown, an error when reached
        const struct jinja_test_def *test;
        const struct jinja_string *text;
    } u;
};

// ---- lexer and parser ----

enum jinja_token_type {
    JINJA_TOKEN_EOF,
    JINJA_TOKEN_DATA,
    JINJA_TOKEN_VARIABLE_BEGIN,
    JINJA_TOKEN_VARIABLE_END,
    JINJA_TOKEN_BLOCK_BEGIN,
    JINJA_TOKEN_BLOCK_END,
    JINJA_TOKEN_NAME,
    JINJA_TOKEN_STRING, // u.value
    JINJA_TOKEN_NUMBER, // u.value
    JINJA_TOKEN_OP,
};
struct jinja_token {
    enum jinja_token_type type;
    enum jinja_op op;
    uint64_t start, length; // bytes of the source: data, names
    uint32_t line, column;  // from 1
    struct jinja_value value;
};
struct jinja_lexer {
    struct jinja_arena *arena;
    const char *source; // newlines are "\n"
    uint64_t length, position;
    uint32_t line;               // of position
    uint64_t line_start;         // offset of that line
    uint64_t counted;            // line and line_start are right for this offset
    enum jinja_token_type state; // DATA, or the BEGIN token we are in
    bool entered;                // the BEGIN token has been handed out
    uint32_t open;               // brackets open in this tag
    char brackets[GRAFT_TEMPLATE_MAX_DEPTH];
    uint64_t raw_start, raw_end; // text of a raw block waiting to be handed out
};
GRAFT_MUST_CHECK enum graft_status graft_jinja_lex(struct jinja_lexer *lexer, struct jinja_token *out);

struct jinja_parser {
    struct jinja_lexer lexer;
    struct jinja_token now, ahead;
    const struct jinja_string **names; // interned
    uint64_t name_count, name_size;
    uint32_t depth, loops;
    uint32_t uses; // JINJA_USES_...: names seen since the innermost macro began
    bool soft;     // inside a branch: an unknown filter is an error only when reached
};
// A parsed template. The names that the interpreter itself binds are NULL if the template never mentions them.
struct jinja_tree {
    struct jinja_node *root;
    const struct jinja_string *loop, *caller, *varargs, *kwargs;
};
GRAFT_MUST_CHECK enum graft_status graft_jinja_parse(struct jinja_arena *arena, const char *source, uint64_t length,
                                                     struct jinja_tree *out);
// Shared by the two halves of the parser.
GRAFT_MUST_CHECK enum graft_status graft_jinja_next(struct jinja_parser *parser);
GRAFT_MUST_CHECK enum graft_status graft_jinja_unexpected(struct jinja_parser *parser, const char *wanted);
GRAFT_MUST_CHECK enum graft_status graft_jinja_expect_op(struct jinja_parser *parser, enum jinja_op op, const char *wanted);
GRAFT_MUST_CHECK enum graft_status graft_jinja_node(struct jinja_parser *parser, enum jinja_kind kind, struct jinja_node **out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_intern(struct jinja_parser *parser, const struct jinja_token *token,
                                                      const struct jinja_string **out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_enter(struct jinja_parser *parser);
bool graft_jinja_at_op(const struct jinja_parser *parser, enum jinja_op op);
bool graft_jinja_token_is(const struct jinja_parser *parser, const struct jinja_token *token, const char *name);
bool graft_jinja_at_name(const struct jinja_parser *parser, const char *name);
// One expression; with_cond false leaves "x if y" alone.
GRAFT_MUST_CHECK enum graft_status graft_jinja_parse_expression(struct jinja_parser *parser, bool with_cond,
                                                                struct jinja_node **out);
// Expressions with commas: a tuple, or the one expression. stop: a name that ends it after a comma, or NULL.
GRAFT_MUST_CHECK enum graft_status graft_jinja_parse_tuple(struct jinja_parser *parser, bool with_cond, bool parentheses,
                                                           struct jinja_node **out);
// Filters behind nothing, as in {% filter a|b %} (first: no pipe in front) and {% set x | a %}; *out is NULL if there are none.
GRAFT_MUST_CHECK enum graft_status graft_jinja_parse_filters(struct jinja_parser *parser, bool first, struct jinja_node **out);

// ---- one rendering ----

struct jinja_binding {
    const struct jinja_string *name;
    struct jinja_value value;
};
struct jinja_frame {
    struct jinja_frame *parent;
    struct jinja_binding *bindings;
    uint32_t count, capacity;
    bool captured; // a macro refers to it: must not be used again
};

// Text being built. The outermost one of a rendering lies in memory of its own, the others in the arena.
struct jinja_buffer {
    char *data;
    uint64_t length, capacity;
    bool outermost;
};

enum jinja_flow { JINJA_FLOW_ON, JINJA_FLOW_BREAK, JINJA_FLOW_CONTINUE };

struct jinja_run {
    struct jinja_arena arena;
    const struct jinja_tree *tree;
    struct jinja_buffer *out;
    struct jinja_dict *variables;
    struct jinja_frame *frame;
    uint64_t steps;
    uint32_t depth, calls, line;
    enum jinja_flow flow;
};

struct jinja_args {
    struct jinja_value *plain;
    uint64_t count;
    struct jinja_dict *keywords; // NULL if none
};

typedef enum graft_status jinja_filter_fn(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *argv,
                                          const struct jinja_args *args, struct jinja_value *out);
typedef enum graft_status jinja_test_fn(struct jinja_run *run, const struct jinja_value *in, const struct jinja_value *argv,
                                        bool *out);
// `params`: names separated by blanks, those that must be given end in "!"; NULL: args are handed over as they are.
struct jinja_filter_def {
    const char *name, *params;
    jinja_filter_fn *run;
};
struct jinja_test_def {
    const char *name, *params;
    jinja_test_fn *run;
};
struct jinja_method_def {
    enum jinja_type type;
    const char *name, *params;
    jinja_filter_fn *run;
};
struct jinja_function {
    const char *name, *params;
    jinja_filter_fn *run; // in is NULL
};

// jinja_value.c
GRAFT_MUST_CHECK enum graft_status graft_jinja_charge(struct jinja_run *run, uint64_t steps);
GRAFT_MUST_CHECK enum graft_status graft_jinja_string(struct jinja_arena *arena, const char *data, uint64_t length,
                                                      struct jinja_value *out); // copies
GRAFT_MUST_CHECK enum graft_status graft_jinja_share(struct jinja_arena *arena, const struct jinja_string *of, uint64_t start,
                                                     uint64_t length, struct jinja_value *out); // part of a string, no copy
GRAFT_MUST_CHECK enum graft_status graft_jinja_append(struct jinja_run *run, const struct jinja_string *a,
                                                      const struct jinja_string *b, struct jinja_value *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_list(struct jinja_run *run, enum jinja_type type, uint64_t capacity,
                                                    struct jinja_value *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_push(struct jinja_run *run, struct jinja_list *list,
                                                    const struct jinja_value *item);
GRAFT_MUST_CHECK enum graft_status graft_jinja_pair(struct jinja_run *run, const struct jinja_value *a,
                                                    const struct jinja_value *b,
                                                    struct jinja_value *out); // a tuple
GRAFT_MUST_CHECK enum graft_status graft_jinja_dict(struct jinja_run *run, struct jinja_dict **out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_dict_set(struct jinja_run *run, struct jinja_dict *dict,
                                                        const struct jinja_value *key, const struct jinja_value *value);
// *out is NULL if there is none. Errors: GRAFT_E_ARGUMENT (a key that cannot be hashed).
GRAFT_MUST_CHECK enum graft_status graft_jinja_dict_get(struct jinja_run *run, const struct jinja_dict *dict,
                                                        const struct jinja_value *key, struct jinja_entry **out);
struct jinja_value *graft_jinja_dict_find(const struct jinja_dict *dict, const char *name); // by a C string; NULL if none
GRAFT_MUST_CHECK enum graft_status graft_jinja_dict_remove(struct jinja_run *run, struct jinja_dict *dict,
                                                           struct jinja_entry *entry);
GRAFT_MUST_CHECK enum graft_status graft_jinja_equal(struct jinja_run *run, const struct jinja_value *a,
                                                     const struct jinja_value *b, uint32_t depth, bool *out);
// -1, 0, 1. Errors: GRAFT_E_ARGUMENT (types that have no order).
GRAFT_MUST_CHECK enum graft_status graft_jinja_compare(struct jinja_run *run, const struct jinja_value *a,
                                                       const struct jinja_value *b, const char *op, uint32_t depth, int *out);
bool graft_jinja_truth(const struct jinja_value *value);
const char *graft_jinja_type_name(const struct jinja_value *value); // Python's
// Python's len(); false if there is none.
bool graft_jinja_length(const struct jinja_value *value, uint64_t *out);
// Elements of anything iterable, as a list that must not be changed. Takes what is left of an iterator.
GRAFT_MUST_CHECK enum graft_status graft_jinja_elements(struct jinja_run *run, const struct jinja_value *value,
                                                        struct jinja_list **out);

// jinja_text.c
uint32_t graft_jinja_decode(const char *data, uint64_t length, uint64_t *at); // next code point; a stray byte counts as one
uint32_t graft_jinja_encode(uint32_t code, char out[4]);                      // bytes written
bool graft_jinja_is_space(uint32_t code);
uint64_t graft_jinja_count(const char *data, uint64_t length);
uint64_t graft_jinja_offset(const struct jinja_string *string, uint64_t chars); // byte offset of a code point
GRAFT_MUST_CHECK enum graft_status graft_jinja_put(struct jinja_run *run, struct jinja_buffer *buffer, const char *data,
                                                   uint64_t length);
GRAFT_MUST_CHECK enum graft_status graft_jinja_puts(struct jinja_run *run, struct jinja_buffer *buffer, const char *text);
GRAFT_MUST_CHECK enum graft_status graft_jinja_finish(struct jinja_run *run, struct jinja_buffer *buffer,
                                                      struct jinja_value *out);
uint32_t graft_jinja_float(double value, char out[32]); // Python's repr, NUL-terminated; returns its length
bool graft_jinja_parse_float(const char *data, uint64_t length, double *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_repr(struct jinja_run *run, struct jinja_buffer *buffer,
                                                    const struct jinja_value *value, uint32_t depth);
GRAFT_MUST_CHECK enum graft_status graft_jinja_put_value(struct jinja_run *run, struct jinja_buffer *buffer,
                                                         const struct jinja_value *value); // Python's str()
GRAFT_MUST_CHECK enum graft_status graft_jinja_str(struct jinja_run *run, const struct jinja_value *value,
                                                   struct jinja_value *out);

// jinja_case.c
enum jinja_case { JINJA_UPPER, JINJA_LOWER, JINJA_CAPITALIZE, JINJA_TITLE, JINJA_FILTER_TITLE };
GRAFT_MUST_CHECK enum graft_status graft_jinja_case(struct jinja_run *run, const struct jinja_string *string,
                                                    enum jinja_case how, struct jinja_value *out);
// Python's strip, lstrip (left only), rstrip; chars NULL: whitespace.
GRAFT_MUST_CHECK enum graft_status graft_jinja_strip(struct jinja_run *run, const struct jinja_string *string,
                                                     const struct jinja_string *chars, bool left, bool right,
                                                     struct jinja_value *out);
// Byte offset of the first (last: of the last) `part` in string[from, to), or UINT64_MAX.
GRAFT_MUST_CHECK enum graft_status graft_jinja_find(struct jinja_run *run, const struct jinja_string *string,
                                                    const struct jinja_string *part, uint64_t from, uint64_t to, bool last,
                                                    uint64_t *out);
// times < 0: all.
GRAFT_MUST_CHECK enum graft_status graft_jinja_replace(struct jinja_run *run, const struct jinja_string *string,
                                                       const struct jinja_string *old, const struct jinja_string *new_text,
                                                       int64_t times, struct jinja_value *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_splitlines(struct jinja_run *run, const struct jinja_string *string, bool keep,
                                                          struct jinja_value *out);

// jinja_json.c
GRAFT_MUST_CHECK enum graft_status graft_jinja_from_json(struct jinja_run *run, const json_t *json, uint32_t depth,
                                                         struct jinja_value *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_tojson(struct jinja_run *run, const struct jinja_value *in,
                                                      const struct jinja_value *argv, const struct jinja_args *args,
                                                      struct jinja_value *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_fromjson(struct jinja_run *run, const struct jinja_value *in,
                                                        const struct jinja_value *argv, const struct jinja_args *args,
                                                        struct jinja_value *out);

// jinja_eval.c
GRAFT_MUST_CHECK enum graft_status graft_jinja_eval(struct jinja_run *run, const struct jinja_node *node,
                                                    struct jinja_value *out);
// Apply the operations from `ops` up to but without `stop` (NULL: all) to *value.
GRAFT_MUST_CHECK enum graft_status graft_jinja_chain(struct jinja_run *run, const struct jinja_node *ops,
                                                     const struct jinja_node *stop, struct jinja_value *value);
GRAFT_MUST_CHECK enum graft_status graft_jinja_args(struct jinja_run *run, const struct jinja_node *list,
                                                    struct jinja_args *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_bind(struct jinja_run *run, const char *what, const char *params,
                                                    const struct jinja_args *args, struct jinja_value argv[JINJA_MAX_BOUND]);
GRAFT_MUST_CHECK enum graft_status graft_jinja_call(struct jinja_run *run, const struct jinja_value *callee,
                                                    const struct jinja_args *args, struct jinja_value *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_apply_filter(struct jinja_run *run, const struct jinja_filter_def *def,
                                                            const struct jinja_value *in, const struct jinja_args *args,
                                                            struct jinja_value *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_apply_test(struct jinja_run *run, const struct jinja_test_def *def,
                                                          const struct jinja_value *in, const struct jinja_args *args,
                                                          bool *out);
// x.name and x[key] as Jinja looks them up; what is missing is undefined.
GRAFT_MUST_CHECK enum graft_status graft_jinja_attr(struct jinja_run *run, const struct jinja_value *of,
                                                    const struct jinja_string *name, struct jinja_value *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_item(struct jinja_run *run, const struct jinja_value *of,
                                                    const struct jinja_value *key, struct jinja_value *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_lookup(struct jinja_run *run, const struct jinja_string *name,
                                                      struct jinja_value *out);

// jinja_ops.c
GRAFT_MUST_CHECK enum graft_status graft_jinja_arith(struct jinja_run *run, enum jinja_op op, const struct jinja_value *a,
                                                     const struct jinja_value *b, struct jinja_value *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_negate(struct jinja_run *run, const struct jinja_value *a, bool minus,
                                                      struct jinja_value *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_relate(struct jinja_run *run, enum jinja_op op, const struct jinja_value *a,
                                                      const struct jinja_value *b, bool *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_contains(struct jinja_run *run, const struct jinja_value *in,
                                                        const struct jinja_value *item, bool *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_slice(struct jinja_run *run, const struct jinja_value *of,
                                                     const struct jinja_value *start, const struct jinja_value *stop,
                                                     const struct jinja_value *step, struct jinja_value *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_undefined_error(const struct jinja_value *value);

// jinja_exec.c
GRAFT_MUST_CHECK enum graft_status graft_jinja_bind_name(struct jinja_run *run, struct jinja_frame *frame,
                                                         const struct jinja_string *name, const struct jinja_value *value);
GRAFT_MUST_CHECK enum graft_status graft_jinja_exec(struct jinja_run *run, const struct jinja_node *body);
GRAFT_MUST_CHECK enum graft_status graft_jinja_call_macro(struct jinja_run *run, const struct jinja_macro *macro,
                                                          const struct jinja_args *args, struct jinja_value *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_loop_again(struct jinja_run *run, const struct jinja_loop *loop,
                                                          const struct jinja_value *items, struct jinja_value *out);

// jinja_filters.c, jinja_sequence.c, jinja_tests.c, jinja_methods.c, jinja_functions.c: look-up by name; NULL if unknown
extern const struct jinja_filter_def graft_jinja_sequence_filters[];  // ends with a NULL name
extern const struct jinja_filter_def graft_jinja_more_filters[];
extern const struct jinja_filter_def graft_jinja_layout_filters[];
extern const struct jinja_method_def graft_jinja_container_methods[]; // the same
extern const struct jinja_method_def graft_jinja_more_methods[];
const struct jinja_filter_def *graft_jinja_find_filter(const char *name, uint64_t length);
const struct jinja_test_def *graft_jinja_find_test(const char *name, uint64_t length);
const struct jinja_method_def *graft_jinja_find_method(enum jinja_type type, const char *name, uint64_t length);
const struct jinja_function *graft_jinja_find_function(const char *name, uint64_t length);
// Attributes of loop and cycler objects; *out is JINJA_UNSET if there is none of that name.
GRAFT_MUST_CHECK enum graft_status graft_jinja_object_attr(struct jinja_run *run, const struct jinja_value *of,
                                                           const struct jinja_string *name, struct jinja_value *out);
// The clock of strftime_now: seconds since 1970 in UTC, already in local time; INT64_MIN: the system's. For tests; not
// thread-safe.
void graft_jinja_set_clock(int64_t seconds);

// jinja_format.c: str.format and the % operator
GRAFT_MUST_CHECK enum graft_status graft_jinja_format(struct jinja_run *run, const struct jinja_string *pattern,
                                                      const struct jinja_args *args, struct jinja_value *out);
GRAFT_MUST_CHECK enum graft_status graft_jinja_percent(struct jinja_run *run, const struct jinja_string *pattern,
                                                       const struct jinja_value *values, struct jinja_value *out);

// ---- small constructors ----

static inline struct jinja_value jinja_undefined(const struct jinja_string *name)
{
    return (struct jinja_value){.type = JINJA_UNDEFINED, .as.string = name};
}
static inline struct jinja_value jinja_none(void)
{
    return (struct jinja_value){.type = JINJA_NONE};
}
static inline struct jinja_value jinja_bool(bool value)
{
    return (struct jinja_value){.type = JINJA_BOOL, .as.boolean = value};
}
static inline struct jinja_value jinja_int(int64_t value)
{
    return (struct jinja_value){.type = JINJA_INT, .as.integer = value};
}
static inline struct jinja_value jinja_float(double value)
{
    return (struct jinja_value){.type = JINJA_FLOAT, .as.number = value};
}
static inline bool jinja_name_is(const struct jinja_string *string, const char *name)
{
    return string->length == strlen(name) && memcmp(string->data, name, string->length) == 0;
}
// bool and int as Python's int; false for anything else.
static inline bool jinja_as_int(const struct jinja_value *value, int64_t *out)
{
    if (value->type == JINJA_INT) {
        *out = value->as.integer;
    } else if (value->type == JINJA_BOOL) {
        *out = value->as.boolean;
    } else {
        return false;
    }
    return true;
}
static inline bool jinja_as_number(const struct jinja_value *value, double *out)
{
    int64_t integer;
    if (value->type == JINJA_FLOAT) {
        *out = value->as.number;
    } else if (jinja_as_int(value, &integer)) {
        *out = (double)integer;
    } else {
        return false;
    }
    return true;
}

#endif
