// SPDX-License-Identifier: Apache-2.0
// Answers bound by a grammar: the token is drawn from those that the grammar allows.
//
// The best candidates are tried first: if as many of them are allowed as top-k leaves, nothing else could be drawn. Otherwise
// every token of the vocabulary is tried; most are refused at their first byte, and the moves of the grammar are kept.
#include "graft/grammar.h"

#include "runtime/session/chat_private.h"

enum graft_status graft_chat_set_grammar(struct graft_chat *chat, const struct graft_grammar *grammar)
{
    struct graft_grammar_state *place = NULL;
    if (grammar) {
        if (!chat->allowed) {
            GRAFT_TRY(
                GRAFT_NEW(chat->ctx, GRAFT_MEM_HOST, &chat->allowed, chat->model->source->config.n_vocab, "allowed tokens"));
        }
        GRAFT_TRY(graft_grammar_state_create(grammar, &place));
    }
    graft_grammar_state_destroy(&chat->next_place);
    chat->next_place = place;
    chat->new_place = true;
    return GRAFT_OK;
}

enum graft_status graft_chat_begin_grammar(struct graft_chat *chat)
{
    if (chat->new_place) {
        graft_grammar_state_destroy(&chat->place);
        chat->place = chat->next_place;
        chat->next_place = NULL;
        chat->new_place = false;
    }
    return chat->place ? graft_grammar_state_reset(chat->place) : GRAFT_OK;
}

void graft_chat_destroy_grammar(struct graft_chat *chat)
{
    graft_grammar_state_destroy(&chat->place);
    graft_grammar_state_destroy(&chat->next_place);
    GRAFT_FREE(chat->ctx, &chat->allowed);
}

static enum graft_status shown_text(const struct graft_vocab *vocab, int32_t id, bool skip_space, const char **text,
                                    uint64_t *length)
{
    GRAFT_TRY(graft_vocab_piece(vocab, id, false, text, length));
    if (skip_space && *length && **text == ' ') {
        (*text)++;
        (*length)--;
    }
    return GRAFT_OK;
}

enum graft_status graft_grammar_token(const struct graft_vocab *vocab, struct graft_grammar_state *place, int32_t id,
                                      bool skip_space, bool *out)
{
    const char *text;
    uint64_t length;
    *out = false;
    if ((uint32_t)id >= graft_vocab_size(vocab)) {
        return GRAFT_OK; // rows that pad the head spell nothing
    }
    if (graft_vocab_is_end(vocab, id)) {
        *out = graft_grammar_complete(place);
        return GRAFT_OK;
    }
    GRAFT_TRY(shown_text(vocab, id, skip_space, &text, &length));
    return length ? graft_grammar_allows(place, text, (size_t)length, out) : GRAFT_OK;
}

enum graft_status graft_grammar_token_accept(const struct graft_vocab *vocab, struct graft_grammar_state *place, int32_t id,
                                             bool skip_space)
{
    const char *text;
    uint64_t length;
    bool accepted;
    GRAFT_TRY(shown_text(vocab, id, skip_space, &text, &length));
    return graft_grammar_accept(place, text, (size_t)length, &accepted);
}

static enum graft_status is_allowed(struct graft_chat *chat, int32_t id, bool *out)
{
    bool first = chat->n_ids == chat->answer;
    return graft_grammar_token(chat->model->vocabulary->vocab, chat->place, id, first && chat->skip_space, out);
}

// The allowed ones of the best candidates.
static enum graft_status try_candidates(struct graft_chat *chat, uint32_t *count)
{
    uint32_t n = chat->n_candidates;
    *count = 0;
    GRAFT_TRY(graft_model_candidates(chat->model, chat->last_row, chat->candidates, &n));
    for (uint32_t i = 0; i < n; i++) {
        bool allowed;
        GRAFT_TRY(is_allowed(chat, chat->candidates[i].id, &allowed));
        if (allowed) {
            chat->allowed[(*count)++] = chat->candidates[i];
        }
    }
    return GRAFT_OK;
}

static enum graft_status try_all(struct graft_chat *chat, uint32_t *count)
{
    const float *logits;
    uint32_t n = chat->model->source->config.n_vocab;
    *count = 0;
    GRAFT_TRY(graft_model_logits(chat->model, chat->last_row, &logits));
    for (uint32_t id = 0; id < n; id++) {
        bool allowed;
        GRAFT_TRY(is_allowed(chat, (int32_t)id, &allowed));
        if (allowed) {
            chat->allowed[(*count)++] = (struct graft_candidate){(int32_t)id, logits[id]};
        }
    }
    graft_candidates_sort(chat->allowed, *count);
    return GRAFT_OK;
}

enum graft_status graft_chat_choose_allowed(struct graft_chat *chat, int32_t *out, bool *end)
{
    uint32_t count = 0;
    *end = false;
    if (!graft_sampler_wants_logits(chat->sampler)) {
        GRAFT_TRY(try_candidates(chat, &count));
    }
    if (count == 0 || count < graft_sampler_enough(chat->sampler)) {
        GRAFT_TRY(try_all(chat, &count));
    }
    if (count == 0) {
        *end = graft_grammar_complete(chat->place); // a vocabulary without an end token
        return *end ? GRAFT_OK
                    : graft_fail(GRAFT_E_UNSUPPORTED,
                                 "no token of the vocabulary goes on in the grammar after %u tokens of the answer",
                                 chat->n_ids - chat->answer);
    }
    return graft_sampler_choose(chat->sampler, chat->allowed, count, out);
}
