// SPDX-License-Identifier: Apache-2.0
// Conversations that outgrow the context: which messages a prompt still has, and what an answer forgets on its way.
#include <string.h>

#include "runtime/session/chat_private.h"

// The system prompt, and the messages behind it from number `from` on.
static json_t *messages_from(const struct graft_chat *chat, size_t from)
{
    json_t *out = json_array();
    for (size_t i = 0; out && i < json_array_size(chat->messages); i++) {
        if (i < chat->n_system || i >= chat->n_system + from) {
            (void)json_array_append(out, json_array_get(chat->messages, i)); // a lack of memory shows in its size
        }
    }
    return out;
}

static enum graft_status prompt_of(const struct graft_chat *chat, json_t *messages, size_t expected, int32_t *ids,
                                   uint32_t *count)
{
    enum graft_status status = messages && json_array_size(messages) == expected
                                   ? graft_prompt_tokens(chat->model, chat->template_, messages, ids, chat->model->n_ctx, count)
                                   : graft_fail(GRAFT_E_MEMORY, "no memory for a prompt's messages");
    json_decref(messages);
    return status;
}

// How many tokens the prompt shares with one that has another first question: the system prompt, or what the template puts
// there by itself.
static enum graft_status find_keep(struct graft_chat *chat, uint32_t count)
{
    int32_t *ids;
    uint32_t n = 0;
    json_t *messages = messages_from(chat, json_array_size(chat->messages));
    if (messages) {
        (void)json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "user", "content", "\x01"));
    }
    enum graft_status status = GRAFT_NEW(chat->ctx, GRAFT_MEM_HOST, &ids, chat->model->n_ctx, "a prompt's tokens");
    if (status != GRAFT_OK) {
        json_decref(messages);
        return status;
    }
    status = prompt_of(chat, messages, chat->n_system + 1u, ids, &n);
    chat->n_keep = 0;
    while (status == GRAFT_OK && chat->n_keep < n && chat->n_keep < count && ids[chat->n_keep] == chat->prompt[chat->n_keep]) {
        chat->n_keep++;
    }
    GRAFT_FREE(chat->ctx, &ids);
    return status;
}

enum graft_status graft_chat_prompt(struct graft_chat *chat, uint32_t *count)
{
    size_t n = json_array_size(chat->messages) - chat->n_system, skip = chat->n_skipped;
    uint32_t most = chat->model->n_ctx;
    if (!chat->context_shift) {
        return graft_prompt_tokens(chat->model, chat->template_, chat->messages, chat->prompt, most, count);
    }
    for (;;) {
        enum graft_status status = prompt_of(chat, messages_from(chat, skip), chat->n_system + n - skip, chat->prompt, count);
        if (status == GRAFT_OK && (*count < most || skip + 1 >= n)) {
            chat->n_skipped = (uint32_t)skip;
            return find_keep(chat, *count);
        }
        if ((status != GRAFT_OK && status != GRAFT_E_CONTEXT_FULL) || skip + 1 >= n) {
            return status;
        }
        most = chat->model->n_ctx / 2; // if it must be less, then at once much less
        const char *role;
        do {
            skip++;
            role = json_string_value(json_object_get(json_array_get(chat->messages, chat->n_system + skip), "role"));
        } while (skip + 1 < n && strcmp(role, "user") != 0);
    }
}

enum graft_status graft_chat_shift(struct graft_chat *chat)
{
    uint32_t length = graft_seq_length(chat->seq), keep = graft_kv_pages(chat->n_keep) * GRAFT_PAGE_TOKENS, dropped;
    if (length < keep + GRAFT_PAGE_TOKENS) {
        return graft_fail(GRAFT_E_CONTEXT_FULL, "the context of %u tokens is full: %u of them are kept", chat->model->n_ctx,
                          chat->n_keep);
    }
    uint32_t end =
        keep + ((length - keep) / 2 < GRAFT_PAGE_TOKENS ? 1 : (length - keep) / 2 / GRAFT_PAGE_TOKENS) * GRAFT_PAGE_TOKENS;
    uint32_t lost = chat->has_answer && chat->answer < end ? end - chat->answer : 0; // of the answer
    GRAFT_TRY(GRAFT_GROW(chat->ctx, GRAFT_MEM_HOST, &chat->lost, (uint64_t)chat->n_lost + lost, "an answer's tokens"));
    GRAFT_TRY(graft_seq_shift(chat->seq, keep, end - keep, &dropped));
    memcpy(chat->lost + chat->n_lost, chat->ids + chat->answer, lost * sizeof *chat->lost);
    chat->n_lost += lost;
    memmove(chat->ids + keep, chat->ids + end, (chat->n_ids - end) * sizeof *chat->ids);
    chat->n_ids -= dropped;
    chat->answer = chat->answer < end ? keep : chat->answer - dropped;
    for (uint32_t i = 0; i < chat->n_turns; i++) {
        struct graft_chat_turn *turn = &chat->turns[i];
        turn->question = turn->question < keep ? turn->question : turn->question < end ? keep : turn->question - dropped;
        turn->answer = turn->answer < keep ? turn->answer : turn->answer < end ? keep : turn->answer - dropped;
    }
    chat->n_exact = chat->n_exact < keep ? chat->n_exact : keep;
    if (chat->draft_tokens) {
        graft_speculation_forget(&chat->speculation);
    }
    return GRAFT_OK;
}
