// SPDX-License-Identifier: Apache-2.0
// GBNF from JSON schemas: what schema.c (keywords), schema_grammar.c (a grammar), schema_values.c (strings, numbers, literals)
// and schema_pattern.c (regular expressions) share.
#ifndef GRAFT_RUNTIME_TEXT_SCHEMA_H
#define GRAFT_RUNTIME_TEXT_SCHEMA_H

#include <jansson.h>

#include "runtime/text/grammar.h"

enum { GRAFT_SCHEMA_DEPTH = 64, GRAFT_SCHEMA_REFS = 4096, GRAFT_SCHEMA_PATH = 256 };

// Text that grows. The first failure is kept and makes all later calls do nothing.
struct graft_line {
    struct graft_ctx *ctx;
    char *text;
    uint64_t length, room;
    enum graft_status status;
};
// At most 511 bytes are added.
GRAFT_PRINTF(2, 3) void graft_line_add(struct graft_line *line, const char *format, ...);
void graft_line_add_bytes(struct graft_line *line, const char *text, uint64_t bytes);
// "..." with escapes, so that the grammar reads back these bytes of UTF-8.
void graft_line_add_literal(struct graft_line *line, const char *bytes, uint64_t length);
// A character inside of a class [...].
void graft_line_add_character(struct graft_line *line, uint32_t character);

struct graft_schema {
    struct graft_ctx *ctx;
    const json_t *root;
    struct graft_line out;
    uint32_t n_rules, depth, n_refs;
    struct graft_schema_ref {
        const json_t *target;
        uint32_t rule;
    } * refs;
    char path[GRAFT_SCHEMA_PATH]; // where in the schema, as a JSON pointer
};

// An error at schema->path.
GRAFT_PRINTF(3, 4)
enum graft_status graft_schema_fail(const struct graft_schema *schema, enum graft_status status, const char *format, ...);
// schema.c: rules for the schemas that are given to graft_schema_rule one after the other. graft_schema_begin writes the rules
// that all of them use, without a root; graft_schema_end frees everything.
GRAFT_MUST_CHECK enum graft_status graft_schema_begin(struct graft_schema *schema, struct graft_ctx *ctx);
// *rule: the number of the rule (r%u) of root, which must live until graft_schema_end. Errors as graft_grammar_from_schema;
// what was written for it then stays, and nothing refers to it.
GRAFT_MUST_CHECK enum graft_status graft_schema_rule(struct graft_schema *schema, const json_t *root, uint32_t *rule);
void graft_schema_end(struct graft_schema *schema);
// schema_values.c: what may stand for a string or a number under these keywords, as an expression behind line.
GRAFT_MUST_CHECK enum graft_status graft_schema_string(struct graft_schema *schema, const json_t *node,
                                                       struct graft_line *line);
GRAFT_MUST_CHECK enum graft_status graft_schema_number(struct graft_schema *schema, const json_t *node, bool integer,
                                                       struct graft_line *line);
// The value as a literal.
GRAFT_MUST_CHECK enum graft_status graft_schema_literal(struct graft_schema *schema, const json_t *value,
                                                        struct graft_line *line);
// A whole number from 0 to GRAFT_GRAMMAR_MAX_REPEAT; `standard` if the keyword is absent.
GRAFT_MUST_CHECK enum graft_status graft_schema_count(struct graft_schema *schema, const json_t *node, const char *keyword,
                                                      uint32_t standard, uint32_t *out);
// schema_pattern.c: the inside of a JSON string that the regular expression accepts (ECMA 262, without lookaround and
// references).
GRAFT_MUST_CHECK enum graft_status graft_schema_pattern(struct graft_schema *schema, const char *pattern, uint64_t length,
                                                        struct graft_line *line);

#endif
