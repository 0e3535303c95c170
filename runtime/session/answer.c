// SPDX-License-Identifier: Apache-2.0
// Generation: the prompt in chunks, then token by token. graft_chat_next allocates nothing.
#include <string.h>

#include "platform/plat.h"
#include "runtime/session/chat_private.h"

enum { PAUSE = 16 }; // tokens without a draft

static enum graft_want want_of(const struct graft_chat *chat)
{
    return graft_choice_wants_logits(chat->sampler, chat->place) ? GRAFT_WANT_LOGITS : GRAFT_WANT_CANDIDATES;
}

// Compute ids [from, to) of `ids`, wanting the next token after the last of the whole prompt only.
static enum graft_status decode(struct graft_chat *chat, const int32_t *ids, uint32_t count, bool want)
{
    for (uint32_t i = 0; i < count; i++) {
        chat->rows[i] = (struct graft_row){.seq = chat->seq, .token = ids[i], .want = want && i + 1 == count};
    }
    GRAFT_TRY(graft_decode(chat->model, chat->rows, count, want_of(chat)));
    chat->last_row = count - 1;
    chat->ready = want;
    chat->batch = chat->model->n_batches;
    return GRAFT_OK;
}

// Tokens of the answer so far.
static uint32_t said(const struct graft_chat *chat)
{
    return chat->n_lost + chat->n_ids - chat->answer;
}

// A draft for the token that is due: not more than the context, the answer, the batch and the free pages have room for, and
// nothing behind what ends an answer.
static void find_draft(struct graft_chat *chat)
{
    struct graft_speculation *s = &chat->speculation;
    const struct graft_model *model = chat->model;
    uint32_t most = chat->draft_tokens, length = graft_seq_length(chat->seq) + 1, n_ctx = model->n_ctx;
    uint32_t rows = model->limits.n_out < model->limits.n_batch ? model->limits.n_out : model->limits.n_batch;
    uint32_t end = graft_kv_pages(length) * GRAFT_PAGE_TOKENS; // of the pages that are there
    uint32_t room = n_ctx > chat->n_ids ? n_ctx - chat->n_ids : 0;
    most = room < most ? room : most;
    most = model->kv->pages.n_free <= 1 && end - length < most ? end - length : most;
    if (chat->max_tokens) {
        uint32_t left = chat->max_tokens - said(chat) - 1;
        most = left < most ? left : most;
    }
    graft_speculation_find(s, &chat->meter, chat->ids, chat->n_ids, most);
    for (uint32_t i = 0; i < s->n_tokens; i++) {
        s->n_tokens = graft_vocab_is_end(model->vocabulary->vocab, s->tokens[i]) ? i : s->n_tokens;
    }
    chat->draft_kind =
        (chat->seq->n_uses ? GRAFT_STEP_ADAPTERS : 0u) + (want_of(chat) == GRAFT_WANT_LOGITS ? GRAFT_STEP_LOGITS : 0u);
    graft_draft_choose(&chat->meter, chat->draft_kind, 1, rows - 1, &s, 1);
}

// The last token, and a draft behind it.
static enum graft_status decode_next(struct graft_chat *chat)
{
    struct graft_speculation *s = &chat->speculation;
    s->n_tokens = chat->draft_held = 0;
    if (chat->draft_tokens && chat->draft_pause == 0) {
        find_draft(chat);
    }
    chat->draft_pause -= chat->draft_pause > 0;
    chat->rows[0] = (struct graft_row){.seq = chat->seq, .token = chat->ids[chat->n_ids - 1], .want = true};
    for (uint32_t i = 0; i < s->n_tokens; i++) {
        chat->rows[1 + i] = (struct graft_row){.seq = chat->seq, .token = s->tokens[i], .want = true};
    }
    GRAFT_TRY(graft_decode(chat->model, chat->rows, 1 + s->n_tokens, want_of(chat)));
    graft_step_costs_add(&chat->meter.costs, chat->draft_kind, 1 + s->n_tokens, chat->model->run_ns);
    chat->stats.draft_tokens += s->n_tokens;
    chat->last_row = 0;
    chat->ready = true;
    chat->batch = chat->model->n_batches;
    return GRAFT_OK;
}

// ids has one token more: if it is what the draft says, the next row is there already; otherwise the rest is taken back.
static void go_on(struct graft_chat *chat)
{
    struct graft_speculation *s = &chat->speculation;
    chat->ready = false;
    if (s->n_tokens == 0) {
        return;
    }
    uint32_t held = chat->draft_held;
    if (held < s->n_tokens && s->tokens[held] == chat->ids[chat->n_ids - 1]) {
        chat->draft_held++;
        chat->stats.accepted_tokens++;
        chat->last_row++;
        chat->ready = true;
        return;
    }
    graft_draft_learn(&chat->meter, s, held, held < s->n_tokens ? held + 1 : held);
    graft_seq_truncate(chat->seq, chat->n_ids - 1);
    s->n_tokens = 0;
}

void graft_chat_drop_draft(struct graft_chat *chat)
{
    if (chat->speculation.n_tokens && graft_seq_length(chat->seq) >= chat->n_ids) {
        graft_seq_truncate(chat->seq, chat->n_ids - 1);
        chat->ready = false;
    }
    chat->speculation.n_tokens = 0;
}

// Tokens of the prompt that are in the cache already. The last one is computed again: its logits are needed.
static uint32_t common_prefix(const struct graft_chat *chat, uint32_t count)
{
    uint32_t cached = graft_seq_length(chat->seq), n = 0;
    cached = cached < chat->n_ids ? cached : chat->n_ids; // behind ids there may be the rest of a draft
    uint32_t most = cached < count - 1 ? cached : count - 1;
    most = !chat->raw && chat->n_exact < most ? chat->n_exact : most;
    while (n < most && chat->ids[n] == chat->prompt[n]) {
        n++;
    }
    return n;
}

static enum graft_status compute_chunks(struct graft_chat *chat, uint32_t at, uint32_t count)
{
    uint32_t n_batch = chat->model->limits.n_batch;
    while (at < count) {
        if (atomic_load(&chat->cancelled)) {
            return graft_fail(GRAFT_E_CANCELLED, "cancelled after %u of %u prompt tokens", at, count);
        }
        uint32_t n = count - at < n_batch ? count - at : n_batch;
        GRAFT_TRY(decode(chat, chat->prompt + at, n, at + n == count));
        memcpy(chat->ids + at, chat->prompt + at, n * sizeof *chat->ids);
        at += n;
        chat->n_ids = at;
    }
    return GRAFT_OK;
}

static void take_next_sampler(struct graft_chat *chat)
{
    if (chat->next_sampler) {
        graft_sampler_destroy(&chat->sampler);
        GRAFT_FREE(chat->ctx, &chat->candidates);
        chat->sampler = chat->next_sampler;
        chat->candidates = chat->next_candidates;
        chat->n_candidates = chat->n_next_candidates;
        chat->next_sampler = NULL;
        chat->next_candidates = NULL;
    }
}

enum graft_status graft_chat_compute(struct graft_chat *chat, uint32_t count)
{
    take_next_sampler(chat);
    GRAFT_TRY(graft_chat_begin_grammar(chat));
    chat->has_answer = chat->answering = chat->ready = false;
    chat->speculation.n_tokens = 0;
    if (count == 0) {
        return graft_fail(GRAFT_E_ARGUMENT, "the prompt has no tokens");
    }
    if (count > chat->model->n_ctx) {
        return graft_fail(GRAFT_E_CONTEXT_FULL, "the conversation has %u tokens, the context has room for %u", count,
                          chat->model->n_ctx);
    }
    uint64_t start = graft_clock_ns();
    chat->forgotten += graft_seq_invoke(chat->seq, chat->prompt, count);
    uint32_t reused = common_prefix(chat, count), forgotten = chat->forgotten;
    graft_seq_truncate(chat->seq, reused);
    reused = graft_seq_length(chat->seq); // fewer where a window's keys are overwritten
    chat->n_ids = reused;
    GRAFT_TRY(compute_chunks(chat, reused, count));
    graft_sampler_forget(chat->sampler);
    for (uint32_t i = 0; i < count; i++) {
        graft_sampler_accept(chat->sampler, chat->ids[i]);
    }
    chat->answer = count;
    if (chat->draft_tokens) {
        graft_speculation_begin(&chat->speculation, &chat->meter);
    }
    chat->n_lost = 0;
    chat->n_exact = chat->raw ? chat->n_exact : UINT32_MAX;
    chat->has_answer = chat->answering = true;
    graft_stream_begin(chat->stream, NULL, 0);
    chat->stats = (struct graft_chat_stats){.prompt_tokens = count - reused,
                                            .reused_tokens = reused,
                                            .prompt_ns = graft_clock_ns() - start,
                                            .seed = graft_sampler_seed(chat->sampler),
                                            .recomputed_tokens = forgotten < count - reused ? forgotten : count - reused};
    chat->forgotten = 0;
    return GRAFT_OK;
}

// The next token from the last row's logits; *end: none can follow.
static enum graft_status choose(struct graft_chat *chat, int32_t *out, bool *end)
{
    struct graft_choice choice = {.model = chat->model,
                                  .row = chat->last_row,
                                  .sampler = chat->sampler,
                                  .place = chat->place,
                                  .no_space = chat->stream->drops_space && said(chat) == 0,
                                  .candidates = chat->candidates,
                                  .n_candidates = chat->n_candidates,
                                  .allowed = chat->allowed};
    return graft_choose(&choice, out, end);
}

// Bytes of token i of the answer as it shows them.
static enum graft_status token_bytes(const struct graft_chat *chat, uint32_t i, const char **text, uint64_t *length)
{
    int32_t id = i < chat->n_lost ? chat->lost[i] : chat->ids[chat->answer + i - chat->n_lost];
    return graft_token_text(chat->model, NULL, id, chat->stream->drops_space && i == 0, text, length);
}

// The last token's row; with context shift there is always room for it.
static enum graft_status decode_last(struct graft_chat *chat)
{
    enum graft_status status = decode_next(chat);
    if (status == GRAFT_E_CONTEXT_FULL && chat->context_shift) {
        GRAFT_TRY(graft_chat_shift(chat));
        status = decode_next(chat);
    }
    return status;
}

static void finish(struct graft_chat *chat)
{
    chat->answering = false;
    chat->ready = false;
    chat->speculation.n_tokens = 0;
    graft_seq_truncate(chat->seq, chat->n_ids); // the rest of a draft
}

// One more token: *text gets what can be shown now, perhaps nothing; *end says that the answer is over.
static enum graft_status step(struct graft_chat *chat, const char **text, size_t *length, bool *end)
{
    *length = 0;
    *end = false;
    if (chat->max_tokens && said(chat) >= chat->max_tokens) {
        *end = true;
        return GRAFT_OK;
    }
    if (chat->ready && chat->batch != chat->model->n_batches) { // someone else's results are there now
        graft_seq_truncate(chat->seq, chat->n_ids - 1);
        chat->ready = false;
        chat->draft_pause = PAUSE; // conversations in turns: what is computed ahead is lost
    }
    if (!chat->ready) {
        GRAFT_TRY(decode_last(chat));
    }
    int32_t id;
    GRAFT_TRY(choose(chat, &id, end));
    if (*end) {
        return GRAFT_OK;
    }
    if (said(chat) == 0) {
        chat->stats.first_token_ns = graft_clock_ns() - chat->sent_ns;
    }
    if (graft_vocab_is_end(chat->model->vocabulary->vocab, id)) {
        *end = true;
        return GRAFT_OK;
    }
    chat->ids[chat->n_ids++] = id; // room: the cache holds n_ids - 1 <= n_ctx tokens
    go_on(chat);
    chat->stats.answer_tokens++;
    graft_sampler_accept(chat->sampler, id);
    if (chat->place) {
        const char *bytes;
        uint64_t n;
        bool accepted;
        GRAFT_TRY(token_bytes(chat, said(chat) - 1, &bytes, &n));
        GRAFT_TRY(graft_grammar_accept(chat->place, bytes, (size_t)n, &accepted)); // it was allowed
    }
    bool stopped; // never: there are no stop texts
    return graft_stream_push(chat->stream, id, text, length, &stopped);
}

enum graft_status graft_chat_next(struct graft_chat *chat, const char **piece, size_t *length, bool *done)
{
    *piece = "";
    *length = 0;
    *done = !chat->answering;
    uint64_t start = graft_clock_ns();
    bool end = false;
    enum graft_status status = GRAFT_OK;
    while (chat->answering && *length == 0 && !end && status == GRAFT_OK) {
        status = atomic_load(&chat->cancelled) ? graft_fail(GRAFT_E_CANCELLED, "the answer was cancelled")
                                               : step(chat, piece, length, &end);
    }
    chat->stats.answer_ns += graft_clock_ns() - start;
    if (status != GRAFT_OK) {
        finish(chat);
        return status;
    }
    if (end) {
        finish(chat);
        graft_stream_end(chat->stream, piece, length);
        *done = *length == 0; // otherwise the next call says so
    }
    return GRAFT_OK;
}

void graft_chat_cancel(struct graft_chat *chat)
{
    atomic_store(&chat->cancelled, true);
}

enum graft_status graft_chat_answer_text(struct graft_chat *chat, char **text, uint64_t *length)
{
    uint64_t total = 0;
    const char *piece;
    uint64_t bytes;
    for (uint32_t i = 0; i < said(chat); i++) {
        GRAFT_TRY(token_bytes(chat, i, &piece, &bytes));
        total += bytes;
    }
    uint8_t *joined;
    GRAFT_TRY(GRAFT_NEW(chat->ctx, GRAFT_MEM_HOST, &joined, total, "an answer"));
    uint64_t at = 0;
    for (uint32_t i = 0; i < said(chat); i++) {
        GRAFT_TRY(token_bytes(chat, i, &piece, &bytes)); // cannot fail: it did not above
        memcpy(joined + at, piece, (size_t)bytes);
        at += bytes;
    }
    enum graft_status status = graft_alloc(chat->ctx, GRAFT_MEM_HOST, (void **)text, 3 * total + 1, 1, "an answer");
    if (status == GRAFT_OK) {
        *length = graft_utf8_clean(joined, total, *text, NULL);
    }
    GRAFT_FREE(chat->ctx, &joined);
    return status;
}

void graft_chat_last_stats(const struct graft_chat *chat, struct graft_chat_stats *out)
{
    *out = chat->stats;
    uint32_t used = graft_seq_length(chat->seq);
    out->context_used = used < chat->n_ids ? used : chat->n_ids; // without the rest of a draft
    out->context_size = chat->model->n_ctx;
}
