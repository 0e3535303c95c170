// SPDX-License-Identifier: Apache-2.0
// Conversations: the list of messages, and what is done to it.
#include <string.h>

#include "platform/bytes.h"
#include "platform/plat.h"
#include "runtime/session/chat_private.h"
static enum graft_status no_memory(void)
{
    return graft_fail(GRAFT_E_MEMORY, "no memory for a message");
}

// Append a message; what is not UTF-8 in it becomes U+FFFD.
static enum graft_status add_message(struct graft_chat *chat, const char *role, const char *text, uint64_t length)
{
    uint64_t room;
    if (!graft_mul_u64(length, 3, &room)) {
        return graft_fail(GRAFT_E_ARGUMENT, "a message of %" PRIu64 " bytes was given", length);
    }
    char *clean;
    GRAFT_TRY(graft_alloc(chat->ctx, GRAFT_MEM_HOST, (void **)&clean, room, 1, "a message"));
    uint64_t bytes = graft_utf8_clean((const uint8_t *)text, length, clean, NULL);
    json_t *message = json_object();
    bool ok = json_object_set_new(message, "role", json_string(role)) == 0;
    ok = json_object_set_new(message, "content", json_stringn(clean, (size_t)bytes)) == 0 && ok;
    GRAFT_FREE(chat->ctx, &clean);
    if (!ok) {
        json_decref(message);
        return no_memory();
    }
    return json_array_append_new(chat->messages, message) == 0 ? GRAFT_OK : no_memory();
}

static void drop_last_message(struct graft_chat *chat)
{
    size_t n = json_array_size(chat->messages);
    if (n > chat->n_system) {
        (void)json_array_remove(chat->messages, n - 1);
    }
}

static bool last_is(const struct graft_chat *chat, const char *role)
{
    size_t n = json_array_size(chat->messages);
    return n > chat->n_system &&
           strcmp(json_string_value(json_object_get(json_array_get(chat->messages, n - 1), "role")), role) == 0;
}

enum graft_status graft_chat_commit(struct graft_chat *chat)
{
    if (!chat->has_answer) {
        return GRAFT_OK;
    }
    char *text;
    uint64_t length;
    if (chat->speculation.n_tokens) { // the rest of a draft
        graft_seq_truncate(chat->seq, chat->n_ids);
        chat->speculation.n_tokens = 0;
    }
    GRAFT_TRY(graft_chat_answer_text(chat, &text, &length));
    enum graft_status status = add_message(chat, "assistant", text, length);
    GRAFT_FREE(chat->ctx, &text);
    if (status == GRAFT_OK) {
        chat->has_answer = chat->answering = chat->ready = false;
    }
    return status;
}

// Tokens that no repetition goes across, unless others are named: those of line ends, colons, quotes and asterisks (the
// published default of DRY). *out is to be freed.
static enum graft_status find_breakers(const struct graft_chat *chat, int32_t **out, uint32_t *count)
{
    const struct graft_vocab *vocab = chat->model->vocabulary->vocab;
    *count = 0;
    GRAFT_TRY(GRAFT_NEW(chat->ctx, GRAFT_MEM_HOST, out, graft_vocab_size(vocab), "tokens that end repetitions"));
    for (uint32_t id = 0; id < graft_vocab_size(vocab); id++) {
        const char *text;
        uint64_t length, i = 0;
        enum graft_status status = graft_vocab_piece(vocab, (int32_t)id, false, &text, &length);
        if (status != GRAFT_OK) {
            GRAFT_FREE(chat->ctx, out);
            return status;
        }
        while (i < length && text[i] != '\n' && text[i] != ':' && text[i] != '"' && text[i] != '*') {
            i++;
        }
        if (i < length) {
            (*out)[(*count)++] = (int32_t)id;
        }
    }
    return GRAFT_OK;
}

static enum graft_status create_sampler(struct graft_chat *chat, struct graft_sampler **out,
                                        const struct graft_sampling *sampling)
{
    uint32_t n_vocab = chat->model->source->config.n_vocab;
    struct graft_sampling set = {.size = sizeof set};
    if (!sampling || sampling->size != sizeof set || sampling->dry_multiplier == 0.0f || sampling->dry_breakers) {
        return graft_sampler_create(chat->ctx, out, sampling, n_vocab);
    }
    set = *sampling;
    int32_t *breakers;
    GRAFT_TRY(find_breakers(chat, &breakers, &set.n_dry_breakers));
    set.dry_breakers = breakers;
    enum graft_status status = graft_sampler_create(chat->ctx, out, &set, n_vocab);
    GRAFT_FREE(chat->ctx, &breakers);
    return status;
}

// The sampler of the next answer. Room for the whole vocabulary only when the settings need it.
static enum graft_status make_sampler(struct graft_chat *chat, const struct graft_sampling *sampling)
{
    uint32_t n_vocab = chat->model->source->config.n_vocab;
    struct graft_sampler *sampler;
    GRAFT_TRY(create_sampler(chat, &sampler, sampling));
    uint32_t n = graft_sampler_wants_logits(sampler) || n_vocab < GRAFT_CHOICE_CANDIDATES ? n_vocab : GRAFT_CHOICE_CANDIDATES;
    struct graft_candidate *candidates;
    enum graft_status status = GRAFT_NEW(chat->ctx, GRAFT_MEM_HOST, &candidates, n, "candidates");
    if (status != GRAFT_OK) {
        graft_sampler_destroy(&sampler);
        return status;
    }
    graft_sampler_destroy(&chat->next_sampler);
    GRAFT_FREE(chat->ctx, &chat->next_candidates);
    chat->next_sampler = sampler;
    chat->next_candidates = candidates;
    chat->n_next_candidates = n;
    return GRAFT_OK;
}

static enum graft_status set_up(struct graft_chat *chat, const struct graft_chat_params *params)
{
    const struct graft_vocabulary *vocabulary = chat->model->vocabulary;
    struct graft_ctx *ctx = chat->ctx;
    uint32_t n_ctx = chat->model->n_ctx;
    uint64_t longest;
    bool drops_space;
    if (!chat->raw) {
        const char *source = params->template_text ? params->template_text : vocabulary->chat_template;
        if (!source) {
            return graft_fail(GRAFT_E_UNSUPPORTED,
                              "%s has no chat template (tokenizer.chat_template); give one, or use the model raw",
                              chat->model->source->config.name);
        }
        GRAFT_TRY(graft_template_create(ctx, &chat->template_, source, strlen(source)));
    } else if (params->system) {
        return graft_fail(GRAFT_E_ARGUMENT, "a raw conversation has no system prompt: put it into the text");
    }
    GRAFT_TRY(graft_stream_vocabulary(vocabulary->vocab, &longest, &drops_space));
    GRAFT_TRY(graft_stream_create(ctx, &chat->stream, vocabulary->vocab, longest, drops_space && !chat->raw));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &chat->ids, (uint64_t)n_ctx + 1, "a conversation's tokens"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &chat->prompt, (uint64_t)n_ctx + 1, "a conversation's tokens"));
    chat->draft_tokens = chat->model->kv->rings ? 0 : chat->draft_tokens; // what a window has left cannot be taken back
    if (chat->draft_tokens) {
        GRAFT_TRY(graft_speculation_take(ctx, &chat->speculation, n_ctx));
        graft_draft_meter_begin(&chat->meter);
    }
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &chat->rows, chat->model->limits.n_batch, "a batch"));
    struct graft_sampling sampling = params->sampling;
    sampling.size = sampling.size ? sampling.size : sizeof sampling; // a part of params, whose size was checked
    GRAFT_TRY(make_sampler(chat, &sampling));
    chat->messages = json_array();
    if (!chat->messages) {
        return no_memory();
    }
    if (params->system) {
        GRAFT_TRY(add_message(chat, "system", params->system, strlen(params->system)));
        chat->n_system = 1;
    }
    return graft_seq_create(chat->model, &chat->seq);
}

enum graft_status graft_chat_create(struct graft_model *model, struct graft_chat **out, const struct graft_chat_params *params)
{
    *out = NULL;
    struct graft_chat_params given = {.size = sizeof given};
    if (params) {
        if (params->size == 0 || params->size > sizeof given) {
            return graft_fail(GRAFT_E_ARGUMENT, "graft_chat_params.size is %zu, this library knows %zu", params->size,
                              sizeof given);
        }
        memcpy(&given, params, params->size);
    }
    if (given.draft_tokens > GRAFT_DRAFT_MOST) {
        return graft_fail(GRAFT_E_ARGUMENT, "draft_tokens is %u, allowed are up to %d", given.draft_tokens, GRAFT_DRAFT_MOST);
    }
    const struct graft_vocabulary *vocabulary;
    GRAFT_TRY(graft_model_vocabulary(model, &vocabulary));
    struct graft_chat *chat;
    GRAFT_TRY(GRAFT_NEW(model->ctx, GRAFT_MEM_HOST, &chat, 1, "a conversation"));
    chat->ctx = model->ctx;
    chat->model = model;
    chat->raw = given.raw;
    chat->max_tokens = given.max_tokens;
    chat->draft_tokens = given.no_speculation ? 0 : given.draft_tokens ? given.draft_tokens : GRAFT_DRAFT_DEFAULT;
    chat->context_shift = given.context_shift;
    chat->n_keep = 1; // raw
    chat->n_exact = UINT32_MAX;
    atomic_init(&chat->cancelled, false);
    enum graft_status status = set_up(chat, &given);
    if (status != GRAFT_OK) {
        graft_chat_destroy(&chat);
        return status;
    }
    *out = chat;
    return GRAFT_OK;
}

void graft_chat_destroy(struct graft_chat **chat)
{
    if (!chat || !*chat) {
        return;
    }
    struct graft_chat *c = *chat;
    struct graft_ctx *ctx = c->ctx;
    graft_seq_destroy(&c->seq);
    graft_sampler_destroy(&c->sampler);
    graft_sampler_destroy(&c->next_sampler);
    graft_chat_destroy_grammar(c);
    graft_template_destroy(&c->template_);
    json_decref(c->messages);
    graft_speculation_give_back(ctx, &c->speculation);
    GRAFT_FREE(ctx, &c->candidates);
    GRAFT_FREE(ctx, &c->next_candidates);
    GRAFT_FREE(ctx, &c->rows);
    GRAFT_FREE(ctx, &c->prompt);
    GRAFT_FREE(ctx, &c->lost);
    GRAFT_FREE(ctx, &c->ids);
    graft_stream_destroy(&c->stream);
    GRAFT_FREE(ctx, &c->turns);
    GRAFT_FREE(ctx, &c->history);
    GRAFT_FREE(ctx, chat);
}

// The whole conversation's tokens into chat->prompt, with the question that was just added.
static enum graft_status build_prompt(struct graft_chat *chat, const char *text, size_t length, uint32_t *count)
{
    uint32_t capacity = chat->model->n_ctx;
    if (!chat->raw) {
        return graft_chat_prompt(chat, count);
    }
    uint64_t n = 0;
    memcpy(chat->prompt, chat->ids, chat->n_ids * sizeof *chat->ids);
    struct graft_tokenize_options options = {.special = true, .bos = chat->n_ids == 0};
    uint32_t room = capacity > chat->n_ids ? capacity - chat->n_ids : 0;
    enum graft_status status =
        graft_vocab_tokenize(chat->model->vocabulary->vocab, text, length, options, chat->prompt + chat->n_ids, room, &n);
    if (status == GRAFT_E_LIMIT && chat->context_shift && graft_chat_shift(chat) == GRAFT_OK) {
        return build_prompt(chat, text, length, count); // with half the tokens before it
    }
    if (status == GRAFT_E_LIMIT) {
        return graft_fail(GRAFT_E_CONTEXT_FULL, "the text has %" PRIu64 " tokens, the context has room for %u more", n, room);
    }
    *count = chat->n_ids + (uint32_t)n;
    return status;
}

// Restores what the sequence of a raw conversation held when a question failed: its tokens count as said, whatever is cached.
static enum graft_status send(struct graft_chat *chat, const char *text, size_t length)
{
    uint32_t count;
    GRAFT_TRY(build_prompt(chat, text, length, &count));
    uint32_t before = chat->n_ids;
    if (chat->raw) {
        chat->turns[chat->n_turns].question = before;
    }
    enum graft_status status = graft_chat_compute(chat, count);
    if (status != GRAFT_OK && chat->raw) {
        // prompt starts with the old tokens; those that are not cached any more are computed with the next question
        memcpy(chat->ids, chat->prompt, before * sizeof *chat->ids);
        chat->n_ids = before;
        if (graft_seq_length(chat->seq) > before) {
            graft_seq_truncate(chat->seq, before);
        }
    }
    return status;
}

enum graft_status graft_chat_send(struct graft_chat *chat, const char *text, size_t length)
{
    atomic_store(&chat->cancelled, false);
    chat->sent_ns = graft_clock_ns();
    GRAFT_TRY(graft_chat_commit(chat));
    if (chat->raw) {
        GRAFT_TRY(GRAFT_GROW(chat->ctx, GRAFT_MEM_HOST, &chat->turns, (uint64_t)chat->n_turns + 1, "the questions' starts"));
    }
    uint32_t skipped = chat->n_skipped;
    GRAFT_TRY(add_message(chat, "user", text, length));
    enum graft_status status = send(chat, text, length);
    if (status != GRAFT_OK) {
        drop_last_message(chat);
        chat->n_skipped = skipped;
        return status;
    }
    if (chat->raw) {
        chat->turns[chat->n_turns++].answer = chat->answer;
    }
    return GRAFT_OK;
}

void graft_chat_clear(struct graft_chat *chat)
{
    while (json_array_size(chat->messages) > chat->n_system) {
        drop_last_message(chat);
    }
    chat->has_answer = chat->answering = chat->ready = false;
    chat->n_turns = 0;
    chat->n_skipped = 0;
    if (chat->raw) {
        chat->n_ids = 0; // with a template the next prompt is compared with what is cached
        graft_seq_truncate(chat->seq, 0);
    }
}

enum graft_status graft_chat_undo(struct graft_chat *chat)
{
    GRAFT_TRY(graft_chat_commit(chat));
    if (last_is(chat, "assistant")) {
        drop_last_message(chat);
    }
    if (!last_is(chat, "user")) {
        return graft_fail(GRAFT_E_ARGUMENT, "there is no question to take back");
    }
    drop_last_message(chat);
    chat->n_skipped = 0;
    if (chat->raw) {
        chat->n_ids = chat->turns[--chat->n_turns].question;
        graft_seq_truncate(chat->seq, chat->n_ids);
    }
    return GRAFT_OK;
}

enum graft_status graft_chat_retry(struct graft_chat *chat)
{
    atomic_store(&chat->cancelled, false);
    chat->sent_ns = graft_clock_ns();
    GRAFT_TRY(graft_chat_commit(chat));
    if (last_is(chat, "assistant")) {
        drop_last_message(chat);
    }
    if (!last_is(chat, "user")) {
        return graft_fail(GRAFT_E_ARGUMENT, "there is no question to answer again");
    }
    uint32_t count;
    if (chat->raw) {
        count = chat->turns[chat->n_turns - 1].answer;
        memcpy(chat->prompt, chat->ids, count * sizeof *chat->ids);
    } else {
        GRAFT_TRY(graft_chat_prompt(chat, &count));
    }
    return graft_chat_compute(chat, count);
}

enum graft_status graft_chat_set_sampling(struct graft_chat *chat, const struct graft_sampling *sampling)
{
    return make_sampler(chat, sampling);
}

enum graft_status graft_chat_history(struct graft_chat *chat, const char **json)
{
    json_t *all = json_copy(chat->messages);
    if (!all) {
        return no_memory();
    }
    enum graft_status status = GRAFT_OK;
    if (chat->has_answer) {
        char *text;
        uint64_t length;
        status = graft_chat_answer_text(chat, &text, &length);
        if (status == GRAFT_OK) {
            json_t *message = json_pack("{s:s, s:s%}", "role", "assistant", "content", text, (size_t)length);
            status = message && json_array_append_new(all, message) == 0 ? GRAFT_OK : no_memory();
            GRAFT_FREE(chat->ctx, &text);
        }
    }
    if (status == GRAFT_OK) {
        GRAFT_FREE(chat->ctx, &chat->history);
        status = graft_json_text(chat->ctx, all, &chat->history);
    }
    json_decref(all);
    *json = chat->history;
    return status;
}
