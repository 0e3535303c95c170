// SPDX-License-Identifier: Apache-2.0
// The next token of one row: by a sampler, among what a grammar allows. Conversations and the engine choose alike.
#ifndef GRAFT_RUNTIME_SESSION_CHOOSE_H
#define GRAFT_RUNTIME_SESSION_CHOOSE_H

#include "graft/grammar.h"
#include "runtime/session/session.h"
#include "runtime/session/stream.h"

// Candidates that are enough where the sampler does not want logits; what the device keeps of a row at least.
enum { GRAFT_CHOICE_CANDIDATES = 64 };

struct graft_choice {
    struct graft_model *model;
    uint32_t row; // of the last batch, which wanted its next token
    struct graft_sampler *sampler;
    struct graft_grammar_state *place;  // NULL: any text
    const struct graft_stream *stream;  // of the answer: which control tokens are text; NULL: none
    bool no_space;                      // a leading space of the token is not part of the text
    struct graft_candidate *candidates; // [n_candidates] scratch: n_vocab where the sampler wants logits
    uint32_t n_candidates;
    struct graft_candidate *allowed; // [n_vocab] scratch, with a grammar
};

// *end: none can follow. Errors: GRAFT_E_NOT_FINITE (a logit that is no number), GRAFT_E_UNSUPPORTED (no token goes on in the
// grammar), those of the grammar. Allocates nothing.
GRAFT_MUST_CHECK enum graft_status graft_choose(const struct graft_choice *choice, int32_t *out, bool *end);
// Whether the batch must have whole logits for it.
bool graft_choice_wants_logits(const struct graft_sampler *sampler, const struct graft_grammar_state *place);
// Text of a token as it stands in an answer; valid as long as the vocabulary. stream: as in graft_choice.
GRAFT_MUST_CHECK enum graft_status graft_token_text(const struct graft_model *model, const struct graft_stream *stream,
                                                    int32_t id, bool no_space, const char **text, uint64_t *length);

#endif
