// SPDX-License-Identifier: Apache-2.0
// Which rows a step of the engine has: one for every answer, and either drafts behind them or a chunk of the prompts.
#include <string.h>

#include "runtime/session/engine_private.h"

uint32_t graft_request_left(const struct graft_request *r)
{
    return r->n_ids - graft_seq_length(r->seq);
}

bool graft_request_scores(const struct graft_request *r)
{
    return r->prompt_logprobs && r->n_scored < r->n_prompt;
}

uint32_t graft_request_said(const struct graft_request *r)
{
    return r->n_ids + r->n_forgotten - r->n_prompt;
}

static uint32_t draft_of(const struct graft_request *r)
{
    return r->speculation ? r->speculation->n_tokens : 0;
}

// Rows of a request, and its draft; all of them want logits where a prompt is scored: *spare is how many more may, beside one
// of every running request. Returns how many there are, without the draft.
static uint32_t add_rows(struct graft_request *r, uint32_t count, uint32_t *spare, uint32_t *n)
{
    bool scores = graft_request_scores(r);
    if (scores) {
        count = count - 1 < *spare ? count : *spare + 1;
        *spare -= count - 1;
    }
    struct graft_engine *engine = r->engine;
    uint32_t length = graft_seq_length(r->seq);
    for (uint32_t i = 0; i < count; i++) {
        bool want = scores || length + i + 1 == r->n_ids;
        engine->rows[(*n)++] = (struct graft_row){.seq = r->seq, .token = r->ids[length + i], .want = want};
    }
    r->n_rows = count;
    r->row = *n - 1;
    for (uint32_t i = 0; i < draft_of(r); i++) {
        engine->rows[(*n)++] = (struct graft_row){.seq = r->seq, .token = r->speculation->tokens[i], .want = true};
    }
    return count;
}

// Pages that the rows of the step need.
static uint32_t pages_of(const struct graft_engine *engine)
{
    uint32_t pages = 0;
    for (uint32_t i = 0; i < engine->n_running; i++) {
        const struct graft_request *r = engine->running[i];
        uint32_t length = graft_seq_length(r->seq);
        pages += graft_kv_pages(length + r->n_rows + draft_of(r)) - graft_kv_pages(length);
    }
    return pages;
}

static void drop_drafts(struct graft_engine *engine)
{
    for (uint32_t i = 0; i < engine->n_running; i++) {
        if (engine->running[i]->speculation) {
            engine->running[i]->speculation->n_tokens = 0;
        }
    }
}

// ---- drafts ----

// What ends an answer is not computed: nothing comes behind it.
static void find_draft(struct graft_request *r)
{
    const struct graft_model *model = r->engine->model;
    uint32_t room = model->n_ctx - r->n_ids, said = graft_request_said(r);
    room = r->max_tokens && r->max_tokens - said - 1 < room ? r->max_tokens - said - 1 : room;
    room = r->draft_tokens < room ? r->draft_tokens : room;
    graft_speculation_find(r->speculation, &r->engine->meter, r->ids, r->n_ids, room);
    for (uint32_t i = 0; model->vocabulary && i < r->speculation->n_tokens; i++) {
        if (graft_vocab_is_end(model->vocabulary->vocab, r->speculation->tokens[i])) {
            r->speculation->n_tokens = i;
        }
    }
}

// Drafts for answers that have n rows, as many tokens as pay.
static void draft(struct graft_engine *engine, uint32_t n)
{
    const struct graft_limits *limits = &engine->model->limits;
    uint32_t n_drafts = 0, room = limits->n_out < limits->n_batch ? limits->n_out : limits->n_batch;
    for (uint32_t i = 0; i < engine->n_running; i++) {
        struct graft_request *r = engine->running[i];
        if (r->speculation && !r->no_answer && !graft_request_scores(r)) {
            find_draft(r);
            engine->drafts[n_drafts++] = r->speculation;
        }
    }
    graft_draft_choose(&engine->meter, engine->kind, n, room - n, engine->drafts, n_drafts);
}

// ---- prompts ----

// The prompt that has least to be computed and no rows of this step yet; not `but`.
static struct graft_request *shortest_prompt(const struct graft_engine *engine, const struct graft_request *but)
{
    struct graft_request *shortest = NULL;
    for (uint32_t i = 0; i < engine->n_running; i++) {
        struct graft_request *r = engine->running[i];
        uint32_t left = graft_request_left(r);
        if (r != but && r->n_rows == 0 && left > 1 && (!shortest || left < graft_request_left(shortest))) {
            shortest = r;
        }
    }
    return shortest;
}

// Rows of prompts beside n rows of answers: so many that the answers do not pause for long, but at least so many that the
// prompts that can end in this step do.
static uint32_t room_of(struct graft_engine *engine, uint32_t n)
{
    uint32_t n_batch = engine->model->limits.n_batch, most = n_batch - n, ending = 0, count = 0;
    most = n && engine->params.prefill_rows < most ? engine->params.prefill_rows : most;
    uint32_t room = graft_step_costs_rows(&engine->meter.costs, engine->kind, n, n + most) - n, bucket = 1;
    for (uint32_t i = 0; i < engine->n_running; i++) {
        uint32_t left = graft_request_left(engine->running[i]);
        bool ends = left > 1 && ending + left <= most - most / 4;
        ending += ends ? left : 0;
        count += ends;
    }
    if (ending <= room - room / 4 || count == 0) {
        return room;
    }
    while (bucket < n + ending + room / 4) { // rows up to the next bucket cost no more
        bucket *= 2;
    }
    return bucket - n < most ? bucket - n : most;
}

// As much of the prompts as the step may have: a quarter of it is the oldest one's, the rest goes to the shortest ones, so that
// a short prompt does not wait for a long one.
static void add_prompts(struct graft_engine *engine, uint32_t *spare, uint32_t *n)
{
    uint32_t room = room_of(engine, *n);
    struct graft_request *oldest = NULL;
    for (uint32_t i = 0; i < engine->n_running && !oldest; i++) {
        oldest = graft_request_left(engine->running[i]) > 1 ? engine->running[i] : NULL;
    }
    uint32_t left = oldest ? graft_request_left(oldest) : 0, kept = left < room / 4 ? left : room / 4; // its own, in any case
    for (struct graft_request *r = shortest_prompt(engine, oldest); r && room > kept; r = shortest_prompt(engine, oldest)) {
        uint32_t count = graft_request_left(r) < room - kept ? graft_request_left(r) : room - kept;
        room -= add_rows(r, count, spare, n);
    }
    if (oldest && room) {
        add_rows(oldest, left < room ? left : room, spare, n);
    }
}

// ---- both ----

static uint32_t kind_of(const struct graft_engine *engine)
{
    uint32_t kind = 0;
    for (uint32_t i = 0; i < engine->n_running; i++) {
        const struct graft_request *r = engine->running[i];
        kind |= r->n_uses ? GRAFT_STEP_ADAPTERS : 0;
        kind |= graft_request_wants_logits(r) || graft_request_scores(r) ? GRAFT_STEP_LOGITS : 0;
        kind |= graft_request_left(r) > 1 ? GRAFT_STEP_PROMPTS : 0;
    }
    return kind;
}

// A row for every answer, then drafts if there are no prompts. Whether drafts are allowed: may_draft.
static uint32_t gather(struct graft_engine *engine, bool may_draft)
{
    uint32_t n = 0, answers = 0, spare = engine->model->limits.n_out - engine->n_running; // n_out: n_seq at least
    for (uint32_t i = 0; i < engine->n_running; i++) {
        engine->running[i]->n_rows = 0;
        answers += graft_request_left(engine->running[i]) == 1;
    }
    drop_drafts(engine);
    engine->kind = kind_of(engine);
    engine->only_answers = answers == engine->n_running;
    if (may_draft && engine->only_answers && engine->speculations) {
        draft(engine, answers);
    }
    for (uint32_t i = 0; i < engine->n_running; i++) {
        if (graft_request_left(engine->running[i]) == 1) {
            add_rows(engine->running[i], 1, &spare, &n);
        }
    }
    if (!engine->only_answers) {
        add_prompts(engine, &spare, &n);
    }
    return n;
}

uint32_t graft_engine_gather(struct graft_engine *engine)
{
    struct graft_kv *kv = engine->model->kv;
    uint32_t n = gather(engine, true);
    while (n && pages_of(engine) > kv->pages.n_free) {
        bool drafted = n > engine->n_running && engine->only_answers;
        if (!drafted && engine->prefix && graft_prefix_evict(engine->prefix)) {
            continue;
        }
        if (!drafted && engine->n_running > 1) {
            graft_engine_preempt(engine->running[engine->n_running - 1]);
        } else if (!drafted && !graft_request_shift(engine->running[0])) {
            graft_engine_finish(engine->running[0], GRAFT_FINISH_LENGTH, GRAFT_OK);
        }
        n = gather(engine, false);
    }
    return n;
}
