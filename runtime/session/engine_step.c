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
#include "runtime/text/grammar.h"

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
    if (r->place) {
        engine->places[engine->n_free_places++] = r->place;
        r->place = NULL;
    }
    graft_mutex_lock(engine->mutex);
    struct graft_tenant *tenant = &engine->tenants[r->tenant];
    tenant->n_running -= ran;
    tenant->n_waiting -= !ran;
    engine->n_waiting -= !ran;
    r->stats.total_ns = graft_clock_ns() - r->submitted_ns;
    r->state = r->released ? GRAFT_REQUEST_FREE : GRAFT_REQUEST_ENDED;
    graft_mutex_unlock(engine->mutex);
}

enum graft_finish graft_request_why_ended(const struct graft_request *r, uint64_t now)
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
        enum graft_finish finish = alive ? graft_request_why_ended(r, now) : GRAFT_FINISH_NONE;
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
        bool may = !r->grammar || r->place || engine->n_free_places;
        if (r->state == GRAFT_REQUEST_WAITING && may && (!first || goes_first(engine, r, first))) {
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

// The key of page `page` of a request, from that of the page before it.
static void next_key(const struct graft_request *r, uint32_t page, uint8_t key[GRAFT_PREFIX_KEY_BYTES])
{
    struct page_use uses[GRAFT_MAX_BLEND];
    uint64_t bytes = page_uses(r->seq, page, uses);
    graft_prefix_next(key, uses, bytes, r->ids + page * GRAFT_PAGE_TOKENS);
}

// Pages of the prompt that are there already, as far as it can go on behind them: in layers with a window, too, all must be
// there that its next token attends to.
static uint32_t known_pages(const struct graft_request *r)
{
    const struct graft_engine *engine = r->engine;
    const struct graft_kv *kv = engine->model->kv;
    uint8_t key[GRAFT_PREFIX_KEY_BYTES];
    uint32_t known = 0, with_ring = 0; // of the pages so far; of them, the last ones that have a page of the rings
    memcpy(key, r->key, sizeof key);
    for (uint32_t i = 0; (i + 1) * GRAFT_PAGE_TOKENS < r->n_ids && i < kv->limits.table_pages; i++) {
        next_key(r, i, key);
        uint32_t page = graft_prefix_find(engine->prefix, key);
        if (!page) {
            break;
        }
        with_ring = graft_prefix_ring(engine->prefix, page) ? with_ring + 1 : 0;
        uint32_t needed = kv->rings ? i + 1 - graft_kv_window_begin(kv, (i + 1) * GRAFT_PAGE_TOKENS) : 0;
        known = with_ring >= needed ? i + 1 : known;
    }
    return known;
}

// Share the pages of the prompt that are there already; its last token is always computed.
static void find_prefix(struct graft_request *r)
{
    struct graft_engine *engine = r->engine;
    struct graft_kv *kv = engine->model->kv;
    memcpy(r->key, engine->tenants[r->tenant].key, sizeof r->key);
    r->n_kept = 0;
    r->shifted = false;
    uint32_t known = engine->prefix && !graft_request_scores(r) ? known_pages(r) : 0;
    uint32_t window = graft_kv_window_begin(kv, known * GRAFT_PAGE_TOKENS);
    for (; r->n_kept < known; r->n_kept++) {
        next_key(r, r->n_kept, r->key);
        uint32_t page = graft_prefix_find(engine->prefix, r->key);
        uint32_t ring = r->n_kept >= window ? graft_prefix_ring(engine->prefix, page) : 0;
        (void)graft_kv_share(kv, r->seq->index, page, ring); // its table has room
    }
}

void graft_engine_keep_pages(struct graft_request *r)
{
    while (r->engine->prefix && !r->shifted && (r->n_kept + 1) * GRAFT_PAGE_TOKENS <= graft_seq_length(r->seq)) {
        const struct graft_kv *kv = r->engine->model->kv;
        const uint32_t *table = graft_kv_table(kv, r->seq->index), *ring = graft_kv_ring(kv, r->seq->index);
        next_key(r, r->n_kept, r->key);
        graft_prefix_keep(r->engine->prefix, r->key, table[r->n_kept], ring ? ring[r->n_kept] : 0);
        r->n_kept++;
    }
}

void graft_engine_forget_pages(struct graft_request *r)
{
    const uint32_t *table = graft_kv_table(r->engine->model->kv, r->seq->index);
    for (uint32_t i = 0; r->engine->prefix && i < graft_kv_pages(graft_seq_length(r->seq)); i++) {
        graft_prefix_forget(r->engine->prefix, table[i]);
    }
}

// A sequence with its adapters and what is computed of its prompt.
static enum graft_status begin_sequence(struct graft_request *r)
{
    struct graft_adapter_use uses[GRAFT_MAX_BLEND];
    struct graft_engine *engine = r->engine;
    if (r->grammar && !r->place) { // one is free: next_waiting saw to it
        r->place = engine->places[--engine->n_free_places];
        GRAFT_TRY(graft_grammar_state_begin(r->place, r->grammar));
    }
    GRAFT_TRY(graft_seq_create(engine->model, &r->seq));
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
    r->speculation = NULL;
    if (r->speculates && engine->speculations) {
        r->speculation = &engine->speculations[r->seq->index];
        graft_speculation_begin(r->speculation, &engine->meter);
    }
    return GRAFT_OK;
}

static bool has_pages(const struct graft_request *r)
{
    const struct graft_engine *engine = r->engine;
    uint32_t left = engine->model->kv->pages.n_free + (engine->prefix ? graft_prefix_idle(engine->prefix) : 0);
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

// ---- giving way ----

void graft_engine_preempt(struct graft_request *r)
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

bool graft_request_shift(struct graft_request *r)
{
    struct graft_engine *engine = r->engine;
    uint32_t length = graft_seq_length(r->seq), keep = graft_kv_pages(r->n_keep ? r->n_keep : 1) * GRAFT_PAGE_TOKENS, dropped;
    if (!engine->params.context_shift || length < keep + GRAFT_PAGE_TOKENS) {
        return false;
    }
    const struct graft_kv *kv = engine->model->kv;
    const uint32_t *table = graft_kv_table(kv, r->seq->index), *ring = graft_kv_ring(kv, r->seq->index);
    for (uint32_t i = keep / GRAFT_PAGE_TOKENS; engine->prefix && i < graft_kv_pages(length); i++) {
        if (kv->pages.refs[table[i]] == 2) { // the request and the cache have it: it is going to change
            graft_prefix_forget(engine->prefix, table[i]);
        }
        if (ring && ring[i] && kv->ring_pages.refs[ring[i]] == 2) {
            graft_prefix_forget_ring(engine->prefix, ring[i]);
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
    r->sampler.accepted -= r->sampler.accepted < dropped ? r->sampler.accepted : dropped; // its ring is ids
    if (r->speculation) {
        graft_speculation_forget(r->speculation);
    }
    return true;
}

// ---- a step ----

// answers: requests that had rows.
static void update_stats(struct graft_engine *engine, uint32_t rows, uint32_t answers)
{
    const struct graft_kv *kv = engine->model->kv;
    graft_mutex_lock(engine->mutex);
    engine->stats.running = engine->n_running;
    engine->stats.steps += rows > 0;
    engine->stats.rows += rows;
    engine->stats.draft_steps += engine->only_answers && rows > answers;
    engine->stats.pages = kv->limits.n_pages - 1;
    engine->stats.free_pages = kv->pages.n_free;
    engine->stats.cached_pages = engine->prefix ? graft_prefix_idle(engine->prefix) : 0;
    graft_mutex_unlock(engine->mutex);
}

void graft_engine_step(struct graft_engine *engine)
{
    sweep(engine);
    while (admit(engine)) {
    }
    uint32_t n = graft_engine_gather(engine), answers = engine->n_running;
    if (n) {
        enum graft_want want = GRAFT_WANT_CANDIDATES;
        for (uint32_t i = 0; i < engine->n_running; i++) {
            const struct graft_request *r = engine->running[i];
            bool says = r->n_rows && graft_request_left(r) == r->n_rows;
            want = (says && graft_request_wants_logits(r)) || (r->n_rows && graft_request_scores(r)) ? GRAFT_WANT_LOGITS : want;
        }
        enum graft_status status = graft_decode(engine->model, engine->rows, n, want);
        if (status != GRAFT_OK) {
            graft_engine_lose(engine, status);
        } else {
            graft_step_costs_add(&engine->meter.costs, engine->kind, n, engine->model->run_ns);
        }
        for (uint32_t i = 0; i < engine->n_running;) {
            i += graft_request_take(engine->running[i]); // the next one stands at this place if it ended
        }
    }
    update_stats(engine, n, answers);
}
