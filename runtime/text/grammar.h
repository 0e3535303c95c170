// SPDX-License-Identifier: Apache-2.0
// The inside of a grammar, shared by what parses GBNF (grammar_parse.c), builds and checks rules (grammar_build.c), makes GBNF
// from schemas (schema*.c) and matches (grammar_match.c).
//
// Everything is compiled down to bytes: a class of characters becomes a rule of byte sequences, so that a text may stop inside
// a character. A rule is a list of alternatives, an alternative a run of symbols that ends with 0.
#ifndef GRAFT_RUNTIME_TEXT_GRAMMAR_H
#define GRAFT_RUNTIME_TEXT_GRAMMAR_H

#include "graft/grammar.h"
#include "platform/bounds.h"
#include "platform/ctx.h"

enum {
    GRAFT_GRAMMAR_MAX_TEXT = 1 << 20,
    GRAFT_GRAMMAR_MAX_NESTING = 64,
    GRAFT_GRAMMAR_MAX_RULES = GRAFT_BOUND(1 << 17, 1 << 11),
    GRAFT_GRAMMAR_MAX_SYMBOLS = GRAFT_BOUND(1 << 20, 1 << 14),
    GRAFT_GRAMMAR_MAX_SETS = 4096,
    GRAFT_GRAMMAR_MAX_REPEAT = 65535,
    GRAFT_GRAMMAR_MAX_RANGES = 4096 // of one class of characters
};
#define GRAFT_GRAMMAR_NONE UINT32_MAX

// A symbol: 0 ends an alternative, otherwise a set of bytes or a rule.
#define GRAFT_SYMBOL_SET  0x40000000u
#define GRAFT_SYMBOL_RULE 0x80000000u
#define GRAFT_SYMBOL_MASK 0x3fffffffu

struct graft_alternative {
    uint32_t symbol, next; // its first symbol; the next alternative of the rule or GRAFT_GRAMMAR_NONE
};
struct graft_rule {
    uint32_t first, last; // alternatives; GRAFT_GRAMMAR_NONE: none yet
};
struct graft_byte_set {
    uint32_t bits[8];
};
// Characters low to high, both included.
struct graft_range {
    uint32_t low, high;
};

struct graft_grammar {
    struct graft_ctx *ctx;
    char *text;
    uint32_t *symbols;
    struct graft_alternative *alternatives;
    struct graft_rule *rules;
    struct graft_byte_set *sets; // the first 256 hold one byte each
    uint32_t n_symbols, n_alternatives, n_rules, n_sets;
    uint64_t room_symbols, room_alternatives, room_rules, room_sets;
    uint32_t root;
};

static inline bool graft_byte_set_has(const struct graft_byte_set *set, uint8_t byte)
{
    return set->bits[byte / 32] >> byte % 32 & 1;
}

// grammar_build.c. All of these: GRAFT_E_LIMIT, GRAFT_E_MEMORY, GRAFT_E_BUDGET.
GRAFT_MUST_CHECK enum graft_status graft_grammar_begin(struct graft_ctx *ctx, struct graft_grammar **out, const char *text,
                                                       size_t length);
GRAFT_MUST_CHECK enum graft_status graft_grammar_add_rule(struct graft_grammar *grammar, uint32_t *rule);
GRAFT_MUST_CHECK enum graft_status graft_grammar_add_alternative(struct graft_grammar *grammar, uint32_t rule,
                                                                 const uint32_t *symbols, uint64_t count);
// The symbol of a class of characters: sorts and merges the ranges in place; inverted: all others.
GRAFT_MUST_CHECK enum graft_status graft_grammar_add_class(struct graft_grammar *grammar, struct graft_range *ranges,
                                                           uint32_t count, bool inverted, uint32_t *symbol);
// The symbol of `symbol` repeated low to high times; high GRAFT_GRAMMAR_NONE: without end.
GRAFT_MUST_CHECK enum graft_status graft_grammar_add_repeat(struct graft_grammar *grammar, uint32_t symbol, uint32_t low,
                                                            uint32_t high, uint32_t *out);
// Left recursion and a root without texts are refused. *rule gets the rule that is at fault.
GRAFT_MUST_CHECK enum graft_status graft_grammar_check(struct graft_grammar *grammar, uint32_t *rule);

// grammar_match.c: a state without a grammar, all memory taken; then at the beginning of one, as often as wanted. Errors:
// GRAFT_E_MEMORY, GRAFT_E_BUDGET; GRAFT_E_LIMIT as graft_grammar_state_create.
GRAFT_MUST_CHECK enum graft_status graft_grammar_state_reserve(struct graft_ctx *ctx, struct graft_grammar_state **out);
GRAFT_MUST_CHECK enum graft_status graft_grammar_state_begin(struct graft_grammar_state *state,
                                                             const struct graft_grammar *grammar);

#endif
