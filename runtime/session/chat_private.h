// SPDX-License-Identifier: Apache-2.0
// A conversation's inside, shared by chat.c (messages) and answer.c (tokens).
//
// ids[0 .. n_ids) are the tokens of the conversation; the first graft_seq_length(seq) of them are in the KV cache. Between two
// calls at most one token, the last one shown, is not: it is computed when the next one is asked for. Behind ids the cache may
// hold the rest of a draft.
#ifndef GRAFT_RUNTIME_SESSION_CHAT_PRIVATE_H
#define GRAFT_RUNTIME_SESSION_CHAT_PRIVATE_H

#include <stdatomic.h>

#include "graft/grammar.h"
#include "runtime/session/choose.h"
#include "runtime/session/speculate.h"
#include "runtime/session/stream.h"

struct graft_chat {
    struct graft_ctx *ctx;
    struct graft_model *model;
    struct graft_seq *seq;
    struct graft_sampler *sampler;
    struct graft_template *template_; // NULL: raw
    bool raw;
    uint32_t max_tokens;
    json_t *messages;  // array of {role, content}; without an answer that is not committed yet
    uint32_t n_system; // messages that graft_chat_clear keeps: 0 or 1
    char *history;     // text of graft_chat_history
    struct graft_chat_turn {
        uint32_t question, answer; // where their tokens start in ids
    } * turns;                     // raw: [n_turns]
    uint32_t n_turns;

    int32_t *ids;    // [n_ctx + 1]
    int32_t *prompt; // [n_ctx + 1] being put together
    uint32_t n_ids;
    uint32_t answer; // where the answer's tokens start in ids
    bool has_answer; // an answer (perhaps of no tokens yet) follows the last message
    bool answering;  // and it goes on
    bool ready;      // candidates of the last row are there
    uint64_t batch;  // in this batch's results

    // Context shift (chat_shift.c).
    bool context_shift;
    uint32_t n_keep;    // tokens of the prompt that stay: those of the system prompt
    uint32_t n_exact;   // leading ids whose KV does not depend on forgotten tokens; UINT32_MAX: all
    uint32_t n_skipped; // messages behind the system prompt that no prompt has any more
    int32_t *lost;      // [n_lost] tokens of the answer that were forgotten, or stand in front of those
    uint32_t n_lost;

    struct graft_row *rows;             // [n_batch]
    uint32_t last_row;                  // of the last batch
    struct graft_candidate *candidates; // [n_candidates]
    uint32_t n_candidates;
    struct graft_sampler *next_sampler; // takes over, with its candidates, when the next answer begins; NULL = no change
    struct graft_candidate *next_candidates;
    uint32_t n_next_candidates;

    struct graft_grammar_state *place, *next_place; // in the grammar of the answer, of the next one; NULL = none
    bool new_place;                                 // next_place takes over when the next answer begins
    struct graft_candidate *allowed;                // [n_vocab] with a grammar

    struct graft_stream *stream; // its tokens as text

    uint32_t draft_tokens; // most guesses at a time; 0: none
    uint32_t draft_held;   // how many of the draft came true
    uint32_t draft_pause;  // tokens for which there is none
    uint32_t draft_kind;   // of the step, for the meter
    struct graft_speculation speculation;
    struct graft_draft_meter meter;

    uint32_t forgotten; // tokens that the cache held until the adapters were changed

    atomic_bool cancelled;
    struct graft_chat_stats stats;
    uint64_t sent_ns;
};

// answer.c: compute ids = prompt[0 .. count), reusing what is in the cache, and begin an answer. On failure ids is what the
// cache holds.
GRAFT_MUST_CHECK enum graft_status graft_chat_compute(struct graft_chat *chat, uint32_t count);

// answer.c: a draft that is there counts no more; the token behind it is computed again.
void graft_chat_drop_draft(struct graft_chat *chat);

// chat.c: turn the answer's tokens into a message. Afterwards there is no answer that could go on.
GRAFT_MUST_CHECK enum graft_status graft_chat_commit(struct graft_chat *chat);

// chat_shift.c: the whole conversation's tokens into chat->prompt by the template. With context_shift, old messages are skipped
// until they fit.
GRAFT_MUST_CHECK enum graft_status graft_chat_prompt(struct graft_chat *chat, uint32_t *count);
// Forget half of the tokens behind n_keep, in the cache and in ids. GRAFT_E_CONTEXT_FULL: there are too few.
GRAFT_MUST_CHECK enum graft_status graft_chat_shift(struct graft_chat *chat);

// grammar.c: the grammar of the answer that begins; its end with the conversation.
GRAFT_MUST_CHECK enum graft_status graft_chat_begin_grammar(struct graft_chat *chat);
void graft_chat_destroy_grammar(struct graft_chat *chat);

// The answer so far as text from graft_alloc, NUL-terminated.
GRAFT_MUST_CHECK enum graft_status graft_chat_answer_text(struct graft_chat *chat, char **text, uint64_t *length);

#endif
