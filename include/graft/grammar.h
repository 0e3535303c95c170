// SPDX-License-Identifier: Apache-2.0
// graft/grammar.h: grammars that bind what a model says, written in GBNF or made from a JSON schema.
//
// GBNF is the notation of llama.cpp's grammars: NAME ::= alternatives; "text" with escapes \n \r \t \\ \" \[ \] \xHH \uHHHH
// \UHHHHHHHH, [a-z0-9_] [^a-z] and . for characters, (groups), * + ? {m} {m,} {m,n}, | between alternatives, # comments. A
// rule ends with its line, except inside parentheses, after ::= and |, or before a line that begins with |. The rule root
// is where it begins.
#ifndef GRAFT_GRAMMAR_H
#define GRAFT_GRAMMAR_H

#include "graft/chat.h"

#ifdef __cplusplus
extern "C" {
#endif

// Compiled rules; never changed after creation, so that one may serve many chats and threads.
struct graft_grammar;

// Compile GBNF (UTF-8). Errors: GRAFT_E_ARGUMENT with line and column (notation, unknown or missing rule, left recursion, a
// root that no text matches), GRAFT_E_LIMIT (1 MiB of text, 64 parentheses in each other, 131,072 rules, 2^20 symbols,
// repetition by more than 65,535), GRAFT_E_MEMORY, GRAFT_E_BUDGET. On failure *out is NULL. Thread-safety: safe.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_grammar_create(struct graft_ctx *ctx, struct graft_grammar **out,
                                                                  const char *gbnf, size_t length);

// Compile a JSON schema: every text of the grammar is JSON that the schema accepts. The grammar may be narrower than the
// schema: properties stand in the order of the schema, numbers have at most 16 digits before and behind the point, objects
// without additionalProperties have the named properties only, white space is at most one line break with its indentation.
// Keywords: type, properties, required, additionalProperties, enum, const, items, prefixItems, minItems, maxItems, anyOf,
// allOf of one, $ref (within the schema), $defs, definitions, pattern (no lookaround, no references back), minLength,
// maxLength, format (date, time, date-time, uuid, ipv4, email), minimum, maximum, exclusiveMinimum, exclusiveMaximum;
// annotations are ignored. Errors: GRAFT_E_ARGUMENT (no JSON; a schema that contradicts
// itself; with the place in it), GRAFT_E_UNSUPPORTED (any other keyword), GRAFT_E_LIMIT, GRAFT_E_MEMORY, GRAFT_E_BUDGET.
// Thread-safety: safe.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_grammar_from_schema(struct graft_ctx *ctx, struct graft_grammar **out,
                                                                       const char *json, size_t length);

// Its GBNF text, NUL-terminated; valid as long as the grammar.
GRAFT_API const char *graft_grammar_text(const struct graft_grammar *grammar);
// All states and chats that use it must be destroyed before. *grammar becomes NULL; NULL is accepted.
GRAFT_API void graft_grammar_destroy(struct graft_grammar **grammar);

// Where in a grammar a text stands: a set of stacks, each move of which is worked out once and kept. Takes about 3 MiB of
// host memory.
struct graft_grammar_state;

// At the beginning. Errors: GRAFT_E_MEMORY, GRAFT_E_BUDGET, GRAFT_E_LIMIT. Thread-safety: one thread at a time per state.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_grammar_state_create(const struct graft_grammar *grammar,
                                                                        struct graft_grammar_state **out);
GRAFT_API void graft_grammar_state_destroy(struct graft_grammar_state **state);
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_grammar_state_reset(struct graft_grammar_state *state);
// *out: may the text go on with these bytes (perhaps part of a character)? The state stays. What would stand more than 4096
// rules deep is not allowed. GRAFT_E_LIMIT: the grammar is in more than 32,768 places at once, or these bytes lead through
// more than 1024 states. Allocates nothing.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_grammar_allows(struct graft_grammar_state *state, const char *bytes,
                                                                  size_t length, bool *out);
// The same, and the text does go on if it may. If not, or on an error, the state is as before. Allocates nothing.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_grammar_accept(struct graft_grammar_state *state, const char *bytes,
                                                                  size_t length, bool *out);
// May the text end here?
GRAFT_API bool graft_grammar_complete(const struct graft_grammar_state *state);

// Answers of this chat are texts of the grammar, from the next answer on; NULL: any text. A token is drawn from those that
// the grammar allows, whatever sampling says; the answer ends where the grammar is complete and the model wants to end, or
// nothing else is allowed. The grammar must live until another is set or the chat is destroyed. Errors: GRAFT_E_MEMORY,
// GRAFT_E_BUDGET, GRAFT_E_LIMIT; graft_chat_next then returns GRAFT_E_UNSUPPORTED if no token of the vocabulary goes on in
// the grammar.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_chat_set_grammar(struct graft_chat *chat,
                                                                    const struct graft_grammar *grammar);

#ifdef __cplusplus
}
#endif
#endif
