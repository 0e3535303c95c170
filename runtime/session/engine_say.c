// SPDX-License-Identifier: Apache-2.0
// What a step of the engine means for its requests: tokens are chosen and told, and drafts are kept or taken back.
#include <math.h>

#include "platform/plat.h"
#include "runtime/session/engine_private.h"

bool graft_request_wants_logits(const struct graft_request *r)
{
    return r->logprobs || graft_choice_wants_logits(&r->sampler, r->place);
}

// Natural logarithm of the sum of exp(logits).
static double log_sum_exp(const float *logits, uint32_t n)
{
    double most = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        most = (double)logits[i] > most ? (double)logits[i] : most;
    }
    for (uint32_t i = 0; i < n; i++) {
        sum += exp((double)logits[i] - most);
    }
    return most + log(sum);
}

// The model's own most likely tokens behind a row and the logarithm of the sum that norms them.
static enum graft_status read_logprobs(const struct graft_request *r, uint32_t row, const float *logits,
                                       struct graft_token_logprob *top, uint32_t *n_top, double *norm)
{
    struct graft_model *model = r->engine->model;
    struct graft_candidate best[GRAFT_MAX_LOGPROBS];
    *n_top = r->n_logprobs;
    *norm = log_sum_exp(logits, model->source->config.n_vocab);
    if (!isfinite(*norm)) {
        return graft_fail(GRAFT_E_NOT_FINITE,
                          "not all logits are numbers: the model's weights, an adapter or what computes them are damaged");
    }
    GRAFT_TRY(graft_model_candidates(model, row, best, n_top));
    for (uint32_t i = 0; i < *n_top; i++) {
        top[i] = (struct graft_token_logprob){best[i].id, (float)((double)best[i].logit - *norm)};
    }
    return GRAFT_OK;
}

static enum graft_status choose(struct graft_request *r, int32_t *out, bool *end)
{
    struct graft_engine *engine = r->engine;
    uint32_t n_vocab = engine->model->source->config.n_vocab;
    struct graft_choice choice = {.model = engine->model,
                                  .row = r->row,
                                  .sampler = &r->sampler,
                                  .place = r->place,
                                  .stream = r->stream,
                                  .no_space = r->stream->drops_space && graft_request_said(r) == 0,
                                  .candidates = engine->candidates,
                                  .n_candidates = GRAFT_CHOICE_CANDIDATES < n_vocab ? GRAFT_CHOICE_CANDIDATES : n_vocab,
                                  .allowed = engine->allowed};
    return graft_choose(&choice, out, end);
}

// The grammar goes on, too; the token was allowed.
static enum graft_status accept_in_grammar(struct graft_request *r, int32_t token)
{
    const char *text;
    uint64_t length;
    bool accepted;
    bool no_space = r->stream->drops_space && graft_request_said(r) == 0;
    GRAFT_TRY(graft_token_text(r->engine->model, r->stream, token, no_space, &text, &length));
    return graft_grammar_accept(r->place, text, (size_t)length, &accepted);
}

// Choose and tell the next token. *finish: what it means for the request.
static enum graft_status say(struct graft_request *r, enum graft_finish *finish)
{
    struct graft_engine *engine = r->engine;
    struct graft_model *model = engine->model;
    struct graft_token_logprob top[GRAFT_MAX_LOGPROBS];
    struct graft_event event = {.top = top, .detail = ""};
    const float *logits = NULL;
    double norm = 0;
    bool end;
    if (r->logprobs) {
        GRAFT_TRY(graft_model_logits(model, r->row, &logits));
        GRAFT_TRY(read_logprobs(r, r->row, logits, top, &event.n_top, &norm));
    }
    GRAFT_TRY(choose(r, &event.token, &end));
    if (end || (model->vocabulary && graft_vocab_is_end(model->vocabulary->vocab, event.token))) {
        *finish = GRAFT_FINISH_STOP;
        return GRAFT_OK;
    }
    GRAFT_TRY(r->place ? accept_in_grammar(r, event.token) : GRAFT_OK);
    bool stopped;
    graft_sampler_accept(&r->sampler, event.token);
    GRAFT_TRY(graft_stream_push(r->stream, event.token, &event.text, &event.text_length, &stopped));
    event.logprob = logits ? (float)((double)logits[event.token] - norm) : 0;
    r->ids[r->n_ids++] = event.token; // room: at most n_ctx tokens are computed
    uint32_t said = graft_request_said(r);
    graft_mutex_lock(engine->mutex);
    r->stats.answer_tokens = said;
    r->stats.first_token_ns = said == 1 ? graft_clock_ns() - r->submitted_ns : r->stats.first_token_ns;
    engine->stats.answer_tokens++;
    graft_mutex_unlock(engine->mutex);
    r->on_event(r->user, &event);
    *finish = stopped ? GRAFT_FINISH_STOP
              : (r->max_tokens && said >= r->max_tokens) || (r->n_ids > model->n_ctx && !graft_request_shift(r))
                  ? GRAFT_FINISH_LENGTH
                  : GRAFT_FINISH_NONE;
    return GRAFT_OK;
}

// The prompt counts for penalties, once.
static void accept_prompt(struct graft_request *r)
{
    for (uint32_t i = 0; i < r->n_prompt && graft_request_said(r) == 0; i++) {
        graft_sampler_accept(&r->sampler, r->ids[i]);
    }
}

// Tell the log-probabilities of the prompt's tokens that this step's rows stand in front of.
static enum graft_status score_prompt(struct graft_request *r)
{
    struct graft_model *model = r->engine->model;
    struct graft_token_logprob top[GRAFT_MAX_LOGPROBS];
    uint32_t first = graft_seq_length(r->seq) - r->n_rows;
    for (uint32_t i = 0; i <= r->n_rows && graft_request_scores(r); i++) {
        struct graft_event event = {.token = r->ids[r->n_scored], .text = "", .top = top, .detail = "", .prompt = true};
        if (r->n_scored) {
            uint32_t row = r->row + 1 - r->n_rows + (r->n_scored - 1 - first);
            const float *logits;
            double norm;
            if (r->n_scored - 1 < first || r->n_scored - 1 >= first + r->n_rows) {
                break;
            }
            GRAFT_TRY(graft_model_logits(model, row, &logits));
            GRAFT_TRY(read_logprobs(r, row, logits, top, &event.n_top, &norm));
            event.logprob = (float)((double)logits[event.token] - norm);
        }
        r->n_scored++;
        r->on_event(r->user, &event);
    }
    return GRAFT_OK;
}

// Tokens from the row that was due, and from those of the draft as long as it holds. *held: how much of it did.
static enum graft_status say_all(struct graft_request *r, enum graft_finish *finish, uint32_t *held)
{
    struct graft_speculation *s = r->speculation;
    uint32_t n_draft = s ? s->n_tokens : 0, tried = 0;
    enum graft_status status = GRAFT_OK;
    *held = 0;
    // A cancelled one says nothing more.
    while (*finish == GRAFT_FINISH_NONE && status == GRAFT_OK && !graft_request_why_ended(r, graft_clock_ns())) {
        status = say(r, finish);
        if (status != GRAFT_OK || tried == n_draft) {
            break;
        }
        bool ended = *finish == GRAFT_FINISH_STOP && r->n_ids == r->n_before + *held; // by a token that is not one of ids
        bool holds = !ended && r->ids[r->n_ids - 1] == s->tokens[tried];
        tried++;
        *held += holds;
        r->row++;
        if (!holds) {
            break;
        }
    }
    if (n_draft) {
        graft_draft_learn(&r->engine->meter, s, *held, tried);
    }
    return status;
}

bool graft_request_take(struct graft_request *r)
{
    struct graft_engine *engine = r->engine;
    enum graft_finish finish = GRAFT_FINISH_NONE;
    enum graft_status status = GRAFT_OK;
    uint32_t n_draft = r->n_rows && r->speculation ? r->speculation->n_tokens : 0, held = 0;
    uint32_t certain = graft_seq_length(r->seq) - n_draft;
    bool prompt = certain + r->n_forgotten <= r->n_prompt;
    if (r->n_rows && graft_request_scores(r) && !graft_request_why_ended(r, graft_clock_ns())) { // then there is no draft
        status = score_prompt(r);
    }
    if (status == GRAFT_OK && r->n_rows && certain == r->n_ids && r->no_answer) {
        finish = graft_request_why_ended(r, graft_clock_ns()) ? GRAFT_FINISH_NONE : GRAFT_FINISH_LENGTH;
    } else if (status == GRAFT_OK && r->n_rows && certain == r->n_ids) {
        accept_prompt(r);
        r->n_before = r->n_ids;
        status = say_all(r, &finish, &held);
        graft_seq_truncate(r->seq, certain + held);
    }
    if (r->n_rows) {
        graft_mutex_lock(engine->mutex);
        engine->tenants[r->tenant].served += r->n_rows + held;
        engine->stats.prompt_tokens += prompt ? r->n_rows : 0;
        engine->stats.draft_tokens += n_draft;
        engine->stats.accepted_tokens += held;
        r->stats.draft_tokens += n_draft;
        r->stats.accepted_tokens += held;
        graft_mutex_unlock(engine->mutex);
        if (status == GRAFT_E_NOT_FINITE) {
            graft_engine_forget_pages(r);
        } else {
            graft_engine_keep_pages(r);
        }
    }
    if (status == GRAFT_OK && finish == GRAFT_FINISH_NONE) {
        return true;
    }
    graft_engine_finish(r, status != GRAFT_OK ? GRAFT_FINISH_ERROR : finish, status);
    return false;
}
