// SPDX-License-Identifier: Apache-2.0
// One step of the engine: who is let in, which rows are computed, what is said.
//
// Order of admission: requests that lost their pages to others, then normal before low priority, then the tenant with the
// fewest running requests, then the one that was served the fewest tokens, then the oldest. A request is let in when the pages
// for its prompt and the next token are there, pages of the prefix cache that nobody has included.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "platform/plat.h"
#include "runtime/session/engine_private.h"

// ---- the end of a request ----

// It has no sequence any more and is none of the running ones.
static void stop_running(struct graft_request *r)
{
    struct graft_engine *engine = r->engine;
    uint32_t i = 0;
    graft_seq_destroy(&r->seq);
    while (engine->running[i] != r) {
        i++;
    }
    engine->n_running--;
    memmove(engine->running + i, engine->running + i + 1, (engine->n_running - i) * sizeof *engine->running);
}

void graft_engine_finish(struct graft_request *r, enum graft_finish finish, enum graft_status status)
{
    struct graft_engine *engine = r->engine;
    struct graft_event event = {.token = -1, .text = "", .finish = finish, .status = status, .detail = ""};
    bool ran = r->seq != NULL;
    if (finish == GRAFT_FINISH_ERROR) {
        event.detail = graft_last_error();
    } else {
        graft_stream_end(r->stream, &event.text, &event.text_length);
    }
    r->on_event(r->user, &event);
    if (ran) {
        stop_running(r);
    }
    graft_sampler_destroy(&r->sampler);
    graft_grammar_state_destroy(&r->place);
    graft_mutex_lock(engine->mutex);
    struct graft_tenant *tenant = &engine->tenants[r->tenant];
    tenant->n_running -= ran;
    tenant->n_waiting -= !ran;
    engine->n_waiting -= !ran;
    r->stats.total_ns = graft_clock_ns() - r->submitted_ns;
    r->state = r->released ? GRAFT_REQUEST_FREE : GRAFT_REQUEST_ENDED;
    graft_mutex_unlock(engine->mutex);
}

static enum graft_finish why_ended(const struct graft_request *r, uint64_t now)
{
    return atomic_load(&r->cancelled)                ? GRAFT_FINISH_CANCELLED
           : r->deadline_ns && now >= r->deadline_ns ? GRAFT_FINISH_DEADLINE
                                                     : GRAFT_FINISH_NONE;
}

// End what was cancelled or is too late, running or waiting.
static void sweep(struct graft_engine *engine)
{
    uint64_t now = graft_clock_ns();
    for (uint32_t i = 0; i < engine->n_requests; i++) {
        struct graft_request *r = &engine->requests[i];
        graft_mutex_lock(engine->mutex);
        bool alive = r->state == GRAFT_REQUEST_WAITING || r->state == GRAFT_REQUEST_RUNNING;
        graft_mutex_unlock(engine->mutex);
        enum graft_finish finish = alive ? why_ended(r, now) : GRAFT_FINISH_NONE;
        if (finish != GRAFT_FINISH_NONE) {
            graft_engine_finish(r, finish, GRAFT_OK);
        }
    }
}

// ---- letting in ----

static bool goes_first(const struct graft_engine *engine, const struct graft_request *a, const struct graft_request *b)
{
    const struct graft_tenant *ta = &engine->tenants[a->tenant], *tb = &engine->tenants[b->tenant];
    if (a->preempted != b->preempted) {
        return a->preempted;
    }
    if (a->low_priority != b->low_priority) {
        return b->low_priority;
    }
    if (ta->n_running != tb->n_running) {
        return ta->n_running < tb->n_running;
    }
    return ta->served != tb->served ? ta->served < tb->served : a->arrival < b->arrival;
}

static struct graft_request *next_waiting(struct graft_engine *engine)
{
    struct graft_request *first = NULL;
    graft_mutex_lock(engine->mutex);
    for (uint32_t i = 0; i < engine->n_requests; i++) {
        struct graft_request *r = &engine->requests[i];
        if (r->state == GRAFT_REQUEST_WAITING && (!first || goes_first(engine, r, first))) {
            first = r;
        }
    }
    graft_mutex_unlock(engine->mutex);
    return first;
}

// What the rows of a page run with, for its key: digest, weight and begin within the page of every adapter that is active in
// it.
struct page_use {
    char digest[64];
    float weight;
    uint32_t from;
};

static uint64_t page_uses(const struct graft_seq *seq, uint32_t page, struct page_use out[GRAFT_MAX_BLEND])
{
    uint32_t begin = page * GRAFT_PAGE_TOKENS, n = 0;
    for (uint32_t i = 0; i < seq->n_uses; i++) {
        const struct graft_seq_use *use = &seq->uses[i];
        if (use->from < begin + GRAFT_PAGE_TOKENS) {
            out[n] = (struct page_use){.weight = use->weight, .from = use->from > begin ? use->from - begin : 0};
            memcpy(out[n++].digest, seq->model->infos[use->slot].digest, sizeof out->digest);
        }
    }
    return n * sizeof *out;
}

static void next_key(const struct graft_request *r, uint8_t key[GRAFT_PREFIX_KEY_BYTES])
{
    struct page_use uses[GRAFT_MAX_BLEND];
    uint64_t bytes = page_uses(r->seq, r->n_kept, uses);
    graft_prefix_next(key, uses, bytes, r->ids + r->n_kept * GRAFT_PAGE_TOKENS);
}

// Has it to tell log-probabilities of its prompt still?
static bool scores(const struct graft_request *r)
{
    return r->prompt_logprobs && r->n_scored < r->n_prompt;
}

// Share the pages of the prompt that are there already; its last token is always computed.
static void find_prefix(struct graft_request *r)
{
    struct graft_engine *engine = r->engine;
    memcpy(r->key, engine->tenants[r->tenant].key, sizeof r->key);
    r->n_kept = 0;
    r->shifted = false;
    while (engine->prefix && !scores(r) && (r->n_kept + 1) * GRAFT_PAGE_TOKENS < r->n_ids) {
        uint8_t key[GRAFT_PREFIX_KEY_BYTES];
        memcpy(key, r->key, sizeof key);
        next_key(r, key);
        uint32_t page = graft_prefix_find(engine->prefix, key);
        if (!page || !graft_kv_share(engine->model->kv, r->seq->index, page)) {
            break;
        }
        memcpy(r->key, key, sizeof key);
        r->n_kept++;
    }
}

// Keep the pages that are full now.
static void keep_pages(struct graft_request *r)
{
    while (r->engine->prefix && !r->shifted && (r->n_kept + 1) * GRAFT_PAGE_TOKENS <= graft_seq_length(r->seq)) {
        const struct graft_kv *kv = r->engine->model->kv;
        next_key(r, r->key);
        graft_prefix_keep(r->engine->prefix, r->key, kv->tables[r->seq->index * kv->limits.table_pages + r->n_kept]);
        r->n_kept++;
    }
}

// A sequence with its adapters and what is computed of its prompt.
static enum graft_status begin_sequence(struct graft_request *r)
{
    struct graft_adapter_use uses[GRAFT_MAX_BLEND];
    GRAFT_TRY(graft_seq_create(r->engine->model, &r->seq));
    for (uint32_t i = 0; i < r->n_uses; i++) {
        uint32_t n = r->n_prompt < r->n_ids ? r->n_prompt : r->n_ids; // what context shift has left of it
        uint32_t from = graft_adapter_invoked(r->uses[i].adapter, r->ids, n);
        uses[i] = r->uses[i];
        uses[i].from = from == n ? UINT32_MAX : from;
    }
    enum graft_status status = graft_seq_set_adapters(r->seq, uses, r->n_uses);
    if (status != GRAFT_OK) {
        graft_seq_destroy(&r->seq);
        return status;
    }
    find_prefix(r);
    return GRAFT_OK;
}

static bool has_pages(const struct graft_request *r)
{
    const struct graft_engine *engine = r->engine;
    uint32_t left = engine->model->kv->n_free + (engine->prefix ? graft_prefix_idle(engine->prefix) : 0);
    uint32_t end = r->n_ids + 1 < engine->model->n_ctx ? r->n_ids + 1 : engine->model->n_ctx;
    return left >= graft_kv_pages(end) - r->n_kept;
}

// Let one waiting request in. False: there is none, or no room for the next one.
static bool admit(struct graft_engine *engine)
{
    struct graft_request *r = engine->n_running < engine->model->limits.n_seq ? next_waiting(engine) : NULL;
    if (!r) {
        return false;
    }
    enum graft_status status = begin_sequence(r);
    if (status == GRAFT_OK && engine->n_running && !has_pages(r)) {
        graft_seq_destroy(&r->seq);
        return false;
    }
    if (status != GRAFT_OK) {
        graft_engine_finish(r, GRAFT_FINISH_ERROR, status);
        return true;
    }
    engine->running[engine->n_running++] = r;
    graft_mutex_lock(engine->mutex);
    r->state = GRAFT_REQUEST_RUNNING;
    engine->n_waiting--;
    engine->tenants[r->tenant].n_waiting--;
    engine->tenants[r->tenant].n_running++;
    if (!r->preempted) {
        r->stats.queue_ns = graft_clock_ns() - r->submitted_ns;
        r->stats.reused_tokens = graft_seq_length(r->seq);
        engine->stats.reused_tokens += graft_seq_length(r->seq);
    }
    graft_mutex_unlock(engine->mutex);
    return true;
}

// ---- rows ----

static uint32_t left_of(const struct graft_request *r)
{
    return r->n_ids - graft_seq_length(r->seq);
}

// Rows of a prompt for one step; all of them want logits where it is scored: *spare is how many more may, beside one of every
// running request. Returns how many there are.
static uint32_t add_rows(struct graft_request *r, uint32_t count, uint32_t *spare, uint32_t *n)
{
    if (scores(r)) {
        count = count - 1 < *spare ? count : *spare + 1;
        *spare -= count - 1;
    }
    struct graft_engine *engine = r->engine;
    uint32_t length = graft_seq_length(r->seq);
    for (uint32_t i = 0; i < count; i++) {
        bool want = scores(r) || length + i + 1 == r->n_ids;
        engine->rows[(*n)++] = (struct graft_row){.seq = r->seq, .token = r->ids[length + i], .want = want};
    }
    r->n_rows = count;
    r->row = *n - 1;
    return count;
}

// The prompt that has least to be computed and no rows of this step yet; not `but`.
static struct graft_request *shortest_prompt(const struct graft_engine *engine, const struct graft_request *but)
{
    struct graft_request *shortest = NULL;
    for (uint32_t i = 0; i < engine->n_running; i++) {
        struct graft_request *r = engine->running[i];
        if (r != but && r->n_rows == 0 && left_of(r) > 1 && (!shortest || left_of(r) < left_of(shortest))) {
            shortest = r;
        }
    }
    return shortest;
}

// A row for every answer, then as much of the prompts as the step may have: a quarter of it is the oldest one's, the rest goes
// to the shortest ones, so that a short prompt does not wait for a long one. *pages: that must be free for it.
static uint32_t gather(struct graft_engine *engine, uint32_t *pages)
{
    uint32_t n = 0, n_batch = engine->model->limits.n_batch, most = engine->params.prefill_rows;
    uint32_t spare = engine->model->limits.n_out - engine->n_running; // n_out is at least the number of sequences
    *pages = 0;
    for (uint32_t i = 0; i < engine->n_running; i++) {
        engine->running[i]->n_rows = 0;
        if (left_of(engine->running[i]) == 1) {
            add_rows(engine->running[i], 1, &spare, &n);
        }
    }
    uint32_t room = n && most < n_batch - n ? most : n_batch - n;
    struct graft_request *oldest = NULL;
    for (uint32_t i = 0; i < engine->n_running && !oldest; i++) {
        oldest = left_of(engine->running[i]) > 1 ? engine->running[i] : NULL;
    }
    uint32_t kept = oldest && left_of(oldest) < room / 4 ? left_of(oldest) : oldest ? room / 4 : 0; // its own, in any case
    for (struct graft_request *r = shortest_prompt(engine, oldest); r && room > kept; r = shortest_prompt(engine, oldest)) {
        uint32_t left = left_of(r), count = left < room - kept ? left : room - kept;
        room -= add_rows(r, count, &spare, &n);
    }
    if (oldest && room) {
        add_rows(oldest, left_of(oldest) < room ? left_of(oldest) : room, &spare, &n);
    }
    for (uint32_t i = 0; i < engine->n_running; i++) {
        const struct graft_request *r = engine->running[i];
        uint32_t length = graft_seq_length(r->seq);
        *pages += graft_kv_pages(length + r->n_rows) - graft_kv_pages(length);
    }
    return n;
}

// The youngest request gives its pages to the others and waits, to compute them again. What was said is not said again.
static void preempt(struct graft_request *r)
{
    struct graft_engine *engine = r->engine;
    stop_running(r);
    graft_mutex_lock(engine->mutex);
    r->state = GRAFT_REQUEST_WAITING;
    r->preempted = true;
    r->stats.preemptions++;
    engine->n_waiting++;
    engine->tenants[r->tenant].n_waiting++;
    engine->tenants[r->tenant].n_running--;
    engine->stats.preemptions++;
    graft_mutex_unlock(engine->mutex);
}

// The context is full of this one request: forget half of its tokens. False: it must end.
static bool shift(struct graft_request *r)
{
    struct graft_engine *engine = r->engine;
    uint32_t length = graft_seq_length(r->seq), keep = graft_kv_pages(r->n_keep ? r->n_keep : 1) * GRAFT_PAGE_TOKENS, dropped;
    if (!engine->params.context_shift || length < keep + GRAFT_PAGE_TOKENS) {
        return false;
    }
    const struct graft_kv *kv = engine->model->kv;
    for (uint32_t i = keep / GRAFT_PAGE_TOKENS; engine->prefix && i < graft_kv_pages(length); i++) {
        uint32_t page = kv->tables[r->seq->index * kv->limits.table_pages + i];
        if (kv->refs[page] == 2) { // the request and the cache have it: it is going to change
            graft_prefix_forget(engine->prefix, page);
        }
    }
    enum graft_status status = graft_seq_shift(r->seq, keep, (length - keep) / 2, &dropped);
    while (status == GRAFT_E_CONTEXT_FULL && engine->prefix && graft_prefix_evict(engine->prefix)) {
        status = graft_seq_shift(r->seq, keep, (length - keep) / 2, &dropped);
    }
    if (status != GRAFT_OK) {
        return false;
    }
    memmove(r->ids + keep, r->ids + keep + dropped, (r->n_ids - keep - dropped) * sizeof *r->ids);
    r->n_ids -= dropped;
    r->n_forgotten += dropped;
    r->shifted = true;
    return true;
}

// Rows for which there are pages: pages that nobody has are given up first, then the youngest requests; the last one ends when
// it alone fills the context. 0: none is running.
static uint32_t gather_what_fits(struct graft_engine *engine)
{
    struct graft_kv *kv = engine->model->kv;
    uint32_t pages, n = gather(engine, &pages);
    while (n && pages > kv->n_free) {
        if (engine->prefix && graft_prefix_evict(engine->prefix)) {
            continue;
        }
        if (engine->n_running > 1) {
            preempt(engine->running[engine->n_running - 1]);
        } else if (!shift(engine->running[0])) {
            graft_engine_finish(engine->running[0], GRAFT_FINISH_LENGTH, GRAFT_OK);
        }
        n = gather(engine, &pages);
    }
    return n;
}

// ---- tokens ----

// Tokens of the answer so far.
static uint32_t said_by(const struct graft_request *r)
{
    return r->n_ids + r->n_forgotten - r->n_prompt;
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
                                  .sampler = r->sampler,
                                  .place = r->place,
                                  .stream = r->stream,
                                  .no_space = r->stream->drops_space && said_by(r) == 0,
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
    GRAFT_TRY(
        graft_token_text(r->engine->model, r->stream, token, r->stream->drops_space && said_by(r) == 0, &text, &length));
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
    graft_sampler_accept(r->sampler, event.token);
    GRAFT_TRY(graft_stream_push(r->stream, event.token, &event.text, &event.text_length, &stopped));
    event.logprob = r->logprobs ? (float)((double)logits[event.token] - norm) : 0;
    r->ids[r->n_ids++] = event.token; // room: at most n_ctx tokens are computed
    uint32_t said = said_by(r);
    graft_mutex_lock(engine->mutex);
    r->stats.answer_tokens = said;
    r->stats.first_token_ns = said == 1 ? graft_clock_ns() - r->submitted_ns : r->stats.first_token_ns;
    engine->stats.answer_tokens++;
    graft_mutex_unlock(engine->mutex);
    r->on_event(r->user, &event);
    *finish = stopped                                                                              ? GRAFT_FINISH_STOP
              : (r->max_tokens && said >= r->max_tokens) || (r->n_ids > model->n_ctx && !shift(r)) ? GRAFT_FINISH_LENGTH
                                                                                                   : GRAFT_FINISH_NONE;
    return GRAFT_OK;
}

// The prompt counts for penalties, once.
static void accept_prompt(struct graft_request *r)
{
    for (uint32_t i = 0; i < r->n_prompt && said_by(r) == 0; i++) {
        graft_sampler_accept(r->sampler, r->ids[i]);
    }
}

// Tell the log-probabilities of the prompt's tokens that this step's rows stand in front of.
static enum graft_status score_prompt(struct graft_request *r)
{
    struct graft_model *model = r->engine->model;
    struct graft_token_logprob top[GRAFT_MAX_LOGPROBS];
    uint32_t first = graft_seq_length(r->seq) - r->n_rows;
    for (uint32_t i = 0; i <= r->n_rows && scores(r); i++) {
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

// What the step means for the request at place *at of the running ones, which goes on to the next.
static void take_results(struct graft_engine *engine, uint32_t *at)
{
    struct graft_request *r = engine->running[*at];
    enum graft_finish finish = GRAFT_FINISH_NONE;
    enum graft_status status = GRAFT_OK;
    if (r->n_rows) {
        graft_mutex_lock(engine->mutex);
        engine->tenants[r->tenant].served += r->n_rows;
        engine->stats.prompt_tokens += graft_seq_length(r->seq) + r->n_forgotten <= r->n_prompt ? r->n_rows : 0;
        graft_mutex_unlock(engine->mutex);
        keep_pages(r);
        status = scores(r) && !why_ended(r, graft_clock_ns()) ? score_prompt(r) : GRAFT_OK;
    }
    if (status == GRAFT_OK && r->n_rows && left_of(r) == 0 && r->no_answer) {
        finish = why_ended(r, graft_clock_ns()) ? GRAFT_FINISH_NONE : GRAFT_FINISH_LENGTH;
    } else if (status == GRAFT_OK && r->n_rows && left_of(r) == 0) {
        accept_prompt(r);
        status = why_ended(r, graft_clock_ns()) ? GRAFT_OK : say(r, &finish); // a cancelled one says nothing more
    }
    if (status != GRAFT_OK || finish != GRAFT_FINISH_NONE) {
        graft_engine_finish(r, status != GRAFT_OK ? GRAFT_FINISH_ERROR : finish, status);
        return; // the next one stands at this place now
    }
    (*at)++;
}

static void update_stats(struct graft_engine *engine, uint32_t rows)
{
    const struct graft_kv *kv = engine->model->kv;
    graft_mutex_lock(engine->mutex);
    engine->stats.running = engine->n_running;
    engine->stats.steps += rows > 0;
    engine->stats.rows += rows;
    engine->stats.pages = kv->limits.n_pages - 1;
    engine->stats.free_pages = kv->n_free;
    engine->stats.cached_pages = engine->prefix ? graft_prefix_idle(engine->prefix) : 0;
    graft_mutex_unlock(engine->mutex);
}

void graft_engine_step(struct graft_engine *engine)
{
    sweep(engine);
    while (admit(engine)) {
    }
    uint32_t n = gather_what_fits(engine);
    if (n) {
        enum graft_want want = GRAFT_WANT_CANDIDATES;
        for (uint32_t i = 0; i < engine->n_running; i++) {
            const struct graft_request *r = engine->running[i];
            bool whole = r->logprobs || graft_choice_wants_logits(r->sampler, r->place);
            want = r->n_rows && ((whole && left_of(r) == r->n_rows) || scores(r)) ? GRAFT_WANT_LOGITS : want;
        }
        enum graft_status status = graft_decode(engine->model, engine->rows, n, want);
        if (status != GRAFT_OK) {
            graft_engine_lose(engine, status);
        }
        for (uint32_t i = 0; i < engine->n_running;) {
            take_results(engine, &i);
        }
    }
    update_stats(engine, n);
}
