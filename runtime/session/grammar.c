// SPDX-License-Identifier: Apache-2.0
// The grammar of a conversation's answers. What it allows: choose.c.
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
