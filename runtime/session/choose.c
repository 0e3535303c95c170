// SPDX-License-Identifier: Apache-2.0
// With a grammar the best candidates are tried first: if as many of them are allowed as top-k leaves, nothing else could be
// drawn. Otherwise every token of the vocabulary is tried; most are refused at their first byte, and the moves of the grammar
// are kept.
#include "runtime/session/choose.h"

bool graft_choice_wants_logits(const struct graft_sampler *sampler, const struct graft_grammar_state *place)
{
    return place || graft_sampler_wants_logits(sampler);
}

enum graft_status graft_token_text(const struct graft_model *model, const struct graft_stream *stream, int32_t id,
                                   bool no_space, const char **text, uint64_t *length)
{
    GRAFT_TRY(graft_vocab_piece(model->vocabulary->vocab, id, stream && graft_stream_shows(stream, id), text, length));
    if (no_space && *length && **text == ' ') {
        (*text)++;
        (*length)--;
    }
    return GRAFT_OK;
}

// An end where the grammar may end; otherwise text, and all of it fits.
static enum graft_status is_allowed(const struct graft_choice *c, int32_t id, bool *out)
{
    const char *text;
    uint64_t length;
    if (graft_vocab_is_end(c->model->vocabulary->vocab, id)) {
        *out = graft_grammar_complete(c->place);
        return GRAFT_OK;
    }
    GRAFT_TRY(graft_token_text(c->model, c->stream, id, c->no_space, &text, &length));
    *out = false;
    return length ? graft_grammar_allows(c->place, text, (size_t)length, out) : GRAFT_OK;
}

// The allowed ones of the best candidates.
static enum graft_status try_candidates(const struct graft_choice *c, uint32_t *count)
{
    uint32_t n = c->n_candidates;
    *count = 0;
    GRAFT_TRY(graft_model_candidates(c->model, c->row, c->candidates, &n));
    for (uint32_t i = 0; i < n; i++) {
        bool allowed;
        GRAFT_TRY(is_allowed(c, c->candidates[i].id, &allowed));
        if (allowed) {
            c->allowed[(*count)++] = c->candidates[i];
        }
    }
    return GRAFT_OK;
}

static enum graft_status try_all(const struct graft_choice *c, uint32_t *count)
{
    const float *logits;
    // Ids behind the vocabulary (rows that pad the head) spell nothing.
    uint32_t n = graft_vocab_size(c->model->vocabulary->vocab), rows = c->model->source->config.n_vocab;
    *count = 0;
    GRAFT_TRY(graft_model_logits(c->model, c->row, &logits));
    for (uint32_t id = 0; id < n && id < rows; id++) {
        bool allowed;
        GRAFT_TRY(is_allowed(c, (int32_t)id, &allowed));
        if (allowed) {
            c->allowed[(*count)++] = (struct graft_candidate){(int32_t)id, logits[id]};
        }
    }
    graft_candidates_sort(c->allowed, *count);
    return GRAFT_OK;
}

static enum graft_status choose_allowed(const struct graft_choice *c, int32_t *out, bool *end)
{
    uint32_t count = 0;
    if (!graft_sampler_wants_logits(c->sampler)) {
        GRAFT_TRY(try_candidates(c, &count));
    }
    if (count == 0 || count < graft_sampler_enough(c->sampler)) {
        GRAFT_TRY(try_all(c, &count));
    }
    if (count == 0) {
        *end = graft_grammar_complete(c->place); // a vocabulary without an end token
        return *end ? GRAFT_OK
                    : graft_fail(GRAFT_E_UNSUPPORTED, "no token of the vocabulary goes on in the grammar where the answer is");
    }
    return graft_sampler_choose(c->sampler, c->allowed, count, out);
}

enum graft_status graft_choose(const struct graft_choice *c, int32_t *out, bool *end)
{
    *end = false;
    if (c->place) {
        return choose_allowed(c, out, end);
    }
    uint32_t count = c->n_candidates;
    if (graft_sampler_wants_logits(c->sampler)) {
        const float *logits;
        GRAFT_TRY(graft_model_logits(c->model, c->row, &logits));
        count = c->model->source->config.n_vocab;
        for (uint32_t i = 0; i < count; i++) {
            c->candidates[i] = (struct graft_candidate){(int32_t)i, logits[i]};
        }
        graft_candidates_sort(c->candidates, count);
    } else {
        GRAFT_TRY(graft_model_candidates(c->model, c->row, c->candidates, &count));
    }
    return graft_sampler_choose(c->sampler, c->candidates, count, out);
}
