// SPDX-License-Identifier: Apache-2.0
// Prompt lookup: the next tokens are guessed from the sequence's own text, and computed together with the token that is due.
//
// The last tokens are looked for further up; what followed them there is the draft. Each draft token is one more row of the
// batch. The sampler then draws from row after row as it would have done without; as long as it draws what the draft says, the
// next row is already there. So a draft never changes an answer: not its tokens, not its random numbers, not what grammar,
// penalties or mirostat see. (A draft of certainty q = 1 is accepted with probability p(draft) and otherwise the token is drawn
// from the rest: the rule of Leviathan, with the draw itself as the coin.)
// Sources: Saxena 2023, "Prompt Lookup Decoding"; Leviathan et al. 2023, "Fast Inference from Transformers via Speculative
// Decoding", section 2.3.
//
// How many tokens are guessed follows from measuring: from how often drafts behind a match of that length held, and from what a
// step of that many rows costs on this device. A step of R rows yields E(R) = sum over sequences of 1 + p1 + p1 p2 + ...
// tokens; the R with the highest E(R) / T(R) is computed, R = no draft included. p is held / tried behind a match of that
// length, times what share of the expected tokens held in this sequence (at most 1).
#ifndef GRAFT_RUNTIME_SESSION_SPECULATE_H
#define GRAFT_RUNTIME_SESSION_SPECULATE_H

#include "runtime/session/step_costs.h"

enum {
    GRAFT_DRAFT_MOST = 16,    // tokens of a draft
    GRAFT_DRAFT_DEFAULT = 10, // where nothing else is asked for
    GRAFT_DRAFT_CLASSES = 5   // lengths of matches: 2, 3, 4 to 5, 6 to 11, 12 and more
};

// How often draft tokens held, by the length of the match before them. Old ones count less and less.
struct graft_draft_rates {
    float held[GRAFT_DRAFT_CLASSES], tried[GRAFT_DRAFT_CLASSES];
};

// What speculation knows of one sequence. Memory: 4 to 8 bytes for its pairs and 4 for its places, a token of the context.
struct graft_speculation {
    uint32_t *last;   // [n_slots] place behind the last occurrence of a pair of tokens, by its hash; 0 = none
    uint32_t *before; // [n_ctx + 1] the place behind the occurrence before that; 0 = none
    uint32_t n_slots, n_indexed;
    struct graft_draft_rates rates;
    float held, expected;             // draft tokens that held, and how many should have by these rates: what this text is like
    int32_t tokens[GRAFT_DRAFT_MOST]; // the draft
    uint32_t n_tokens, match;         // how many; how many tokens before them agree with the place they are from
};

// What it knows of the model on its device.
struct graft_draft_meter {
    struct graft_draft_rates rates;
    struct graft_step_costs costs;
    uint32_t declined[GRAFT_STEP_KINDS]; // steps in a row in which a draft was there and not worth its cost
    // Tests: drafts from here instead, and computed whatever they cost. NULL: none.
    void (*propose)(void *user, struct graft_speculation *speculation, const int32_t *ids, uint32_t n_ids, uint32_t most);
    void *user;
};

// Room for sequences of n_ctx tokens. Errors: GRAFT_E_MEMORY, GRAFT_E_BUDGET; give it back all the same.
GRAFT_MUST_CHECK enum graft_status graft_speculation_take(struct graft_ctx *ctx, struct graft_speculation *out, uint32_t n_ctx);
void graft_speculation_give_back(struct graft_ctx *ctx, struct graft_speculation *speculation);
// Another sequence begins; its rates are the meter's at first.
void graft_speculation_begin(struct graft_speculation *speculation, const struct graft_draft_meter *meter);
// The tokens so far are others than they were.
void graft_speculation_forget(struct graft_speculation *speculation);
// Find a draft of at most `most` tokens (and GRAFT_DRAFT_MOST) behind ids[0 .. n_ids), of which ids[n_ids - 1] is not computed
// yet. ids of earlier calls must be the same. Constant time for each new token and each call: at most 16 places are compared,
// 16 tokens each. The longest match counts, of equal ones the last; a match has two tokens at least.
void graft_speculation_find(struct graft_speculation *speculation, const struct graft_draft_meter *meter, const int32_t *ids,
                            uint32_t n_ids, uint32_t most);

void graft_draft_meter_begin(struct graft_draft_meter *meter);
// Shorten the drafts of n sequences to what pays in a step that has n_rows without them, and at most `room` more; less
// than 1.15 times the tokens per second is not worth the risk. When none has paid for 64 steps (8 behind matches of 6 tokens
// and more) one is tried, since costs and texts change.
void graft_draft_choose(struct graft_draft_meter *meter, uint32_t kind, uint32_t n_rows, uint32_t room,
                        struct graft_speculation *const *sequences, uint32_t n);
// The first `held` of the draft were what came, and (if held < n_tokens and the answer went on) the next one was not: tried.
void graft_draft_learn(struct graft_draft_meter *meter, struct graft_speculation *speculation, uint32_t held, uint32_t tried);

#endif
