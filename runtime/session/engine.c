// SPDX-License-Identifier: Apache-2.0
// The engine's thread, its queue, and the calls that come from other threads.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "loaders/sha256.h"
#include "platform/bytes.h"
#include "platform/plat.h"
#include "runtime/session/engine_private.h"
#include "runtime/text/grammar.h"

enum { DEFAULT_WAITING = 64, MAX_WAITING = 4096, DEFAULT_PREFILL = 32, DEFAULT_GRAMMARS = 4, MAX_GRAMMARS = 1024 };

static void clear_page(void *user, uint32_t page)
{
    struct graft_model *model = user; // a lost one gets new pages, which are empty
    model->lost = model->lost || model->exec->functions->clear_page(model->exec, page, false) != GRAFT_OK;
}

static void clear_ring_page(void *user, uint32_t page)
{
    struct graft_model *model = user;
    model->lost = model->lost || model->exec->functions->clear_page(model->exec, page, true) != GRAFT_OK;
}

// ---- the thread ----

// Under the lock, which is given up while a command runs.
static void run_commands(struct graft_engine *engine)
{
    while (engine->commands) {
        struct graft_engine_command *command = engine->commands;
        engine->commands = command->next;
        graft_mutex_unlock(engine->mutex);
        command->status = command->fn(engine->model, command->user);
        if (command->status != GRAFT_OK) {
            snprintf(command->detail, sizeof command->detail, "%s", graft_last_error());
        }
        graft_mutex_lock(engine->mutex);
        command->done = true;
        graft_cond_broadcast(engine->done);
    }
}

static void thread_main(void *user)
{
    struct graft_engine *engine = user;
    graft_mutex_lock(engine->mutex);
    while (!engine->quit) {
        run_commands(engine);
        if (engine->model->lost && !engine->given_up) {
            graft_engine_try_again(engine);
            continue;
        }
        if (!engine->n_running && !engine->n_waiting) {
            graft_cond_wait(engine->wake, engine->mutex);
            continue;
        }
        graft_mutex_unlock(engine->mutex);
        graft_engine_step(engine);
        graft_mutex_lock(engine->mutex);
    }
    graft_mutex_unlock(engine->mutex);
    graft_engine_end_running(engine, GRAFT_OK, "");
    graft_engine_end_waiting(engine, GRAFT_OK, "");
    graft_mutex_lock(engine->mutex);
    run_commands(engine);
    graft_mutex_unlock(engine->mutex);
}

// ---- creating and destroying ----

static enum graft_status copy_params(const struct graft_engine_params *given, struct graft_engine_params *out)
{
    *out = (struct graft_engine_params){.size = sizeof *out};
    if (given) {
        if (given->size == 0 || given->size > sizeof *out) {
            return graft_fail(GRAFT_E_ARGUMENT, "graft_engine_params.size is %zu, this library knows %zu", given->size,
                              sizeof *out);
        }
        memcpy(out, given, given->size);
    }
    out->max_waiting = out->max_waiting ? out->max_waiting : DEFAULT_WAITING;
    out->prefill_rows = out->prefill_rows ? out->prefill_rows : DEFAULT_PREFILL;
    out->draft_tokens = out->draft_tokens ? out->draft_tokens : GRAFT_DRAFT_DEFAULT;
    if (out->grammars > MAX_GRAMMARS) {
        return graft_fail(GRAFT_E_ARGUMENT, "grammars is %u, allowed are up to %d", out->grammars, MAX_GRAMMARS);
    }
    if (out->draft_tokens > GRAFT_DRAFT_MOST) {
        return graft_fail(GRAFT_E_ARGUMENT, "draft_tokens is %u, allowed are up to %d", out->draft_tokens, GRAFT_DRAFT_MOST);
    }
    return out->max_waiting <= MAX_WAITING
               ? GRAFT_OK
               : graft_fail(GRAFT_E_ARGUMENT, "max_waiting is %u, allowed are up to %d", out->max_waiting, MAX_WAITING);
}

// Every request has its lists of biases and breakers; a ring of tokens it has already. What is written anew for every choice
// they share.
static enum graft_status take_sampler_room(struct graft_engine *engine)
{
    struct graft_ctx *ctx = engine->ctx;
    struct graft_sampler_room *room = &engine->room;
    uint32_t n_vocab = engine->model->source->config.n_vocab, n_tokens = engine->model->n_ctx + 1;
    uint64_t n = engine->n_requests;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &engine->biases, n * GRAFT_MAX_REQUEST_BIASES, "the requests' biases"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &engine->breakers, n * GRAFT_MAX_REQUEST_BREAKERS, "the requests' breakers"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &room->counts, n_vocab, "token counts"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &room->shifts, n_vocab, "logit biases"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &room->overlaps, n_tokens, "repetitions"));
    room->n_recent = room->most_window = n_tokens;
    room->most_biases = GRAFT_MAX_REQUEST_BIASES;
    room->most_breakers = GRAFT_MAX_REQUEST_BREAKERS;
    for (uint32_t i = 0; i < engine->n_requests; i++) {
        struct graft_request *r = &engine->requests[i];
        r->sampler.room = *room;
        r->sampler.room.recent = r->ids;
        r->sampler.room.biases = engine->biases + (size_t)i * GRAFT_MAX_REQUEST_BIASES;
        r->sampler.room.breakers = engine->breakers + (size_t)i * GRAFT_MAX_REQUEST_BREAKERS;
    }
    return GRAFT_OK;
}

static enum graft_status take_places(struct graft_engine *engine)
{
    uint32_t n = engine->params.grammars;
    GRAFT_TRY(GRAFT_NEW(engine->ctx, GRAFT_MEM_HOST, &engine->places, n, "places in grammars"));
    for (; engine->n_places < n; engine->n_places++) {
        GRAFT_TRY(graft_grammar_state_reserve(engine->ctx, &engine->places[engine->n_places]));
        engine->n_free_places++;
    }
    return GRAFT_OK;
}

static enum graft_status take_memory(struct graft_engine *engine)
{
    struct graft_ctx *ctx = engine->ctx;
    struct graft_model *model = engine->model;
    uint32_t n_seq = model->limits.n_seq;
    uint64_t room = (uint64_t)model->n_ctx + 1;
    engine->n_requests = engine->params.max_waiting + n_seq;
    engine->params.grammars = engine->params.grammars    ? engine->params.grammars
                              : n_seq < DEFAULT_GRAMMARS ? n_seq
                                                         : DEFAULT_GRAMMARS;
    GRAFT_TRY(graft_mutex_create(ctx, &engine->mutex));
    GRAFT_TRY(graft_cond_create(ctx, &engine->wake));
    GRAFT_TRY(graft_cond_create(ctx, &engine->done));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &engine->requests, engine->n_requests, "requests"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &engine->tenants, engine->n_requests, "tenants"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &engine->ids, engine->n_requests * room, "the requests' tokens"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &engine->running, n_seq, "running requests"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &engine->rows, model->limits.n_batch, "a batch"));
    if (!engine->params.no_speculation && !model->kv->rings) { // what a window has left cannot be taken back
        GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &engine->speculations, n_seq, "speculation"));
        GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &engine->drafts, n_seq, "speculation"));
        for (uint32_t i = 0; i < n_seq; i++) {
            GRAFT_TRY(graft_speculation_take(ctx, &engine->speculations[i], model->n_ctx));
        }
        graft_draft_meter_begin(&engine->meter);
    }
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &engine->candidates, model->source->config.n_vocab, "candidates"));
    const struct graft_vocab *vocab = model->vocabulary ? model->vocabulary->vocab : NULL;
    uint64_t longest = 0;
    bool drops_space = false;
    GRAFT_TRY(vocab ? graft_stream_vocabulary(vocab, &longest, &drops_space) : GRAFT_OK);
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &engine->allowed, model->source->config.n_vocab, "allowed tokens"));
    for (uint32_t i = 0; i < engine->n_requests; i++) {
        engine->requests[i].engine = engine;
        engine->requests[i].ids = engine->ids + i * room;
        GRAFT_TRY(graft_stream_create(ctx, &engine->requests[i].stream, vocab, longest, drops_space));
    }
    GRAFT_TRY(take_sampler_room(engine));
    GRAFT_TRY(vocab ? take_places(engine) : GRAFT_OK);
    return engine->params.no_prefix_reuse ? GRAFT_OK : graft_prefix_create(ctx, &engine->prefix, model->kv);
}

static void give_memory_back(struct graft_engine *engine)
{
    struct graft_ctx *ctx = engine->ctx;
    while (engine->prefix && graft_prefix_evict(engine->prefix)) {
    }
    graft_prefix_destroy(&engine->prefix);
    for (uint32_t i = 0; engine->requests && i < engine->n_requests; i++) {
        graft_stream_destroy(&engine->requests[i].stream);
    }
    for (uint32_t i = 0; engine->speculations && i < engine->model->limits.n_seq; i++) {
        graft_speculation_give_back(ctx, &engine->speculations[i]);
    }
    while (engine->n_free_places) {
        graft_grammar_state_destroy(&engine->places[--engine->n_free_places]);
    }
    GRAFT_FREE(ctx, &engine->places);
    GRAFT_FREE(ctx, &engine->room.overlaps);
    GRAFT_FREE(ctx, &engine->room.shifts);
    GRAFT_FREE(ctx, &engine->room.counts);
    GRAFT_FREE(ctx, &engine->breakers);
    GRAFT_FREE(ctx, &engine->biases);
    GRAFT_FREE(ctx, &engine->drafts);
    GRAFT_FREE(ctx, &engine->speculations);
    GRAFT_FREE(ctx, &engine->allowed);
    GRAFT_FREE(ctx, &engine->candidates);
    GRAFT_FREE(ctx, &engine->rows);
    GRAFT_FREE(ctx, &engine->running);
    GRAFT_FREE(ctx, &engine->ids);
    GRAFT_FREE(ctx, &engine->tenants);
    GRAFT_FREE(ctx, &engine->requests);
    graft_cond_destroy(&engine->done);
    graft_cond_destroy(&engine->wake);
    graft_mutex_destroy(&engine->mutex);
}

enum graft_status graft_engine_create(struct graft_model *model, struct graft_engine **out,
                                      const struct graft_engine_params *params)
{
    struct graft_engine_params given;
    struct graft_engine *engine;
    *out = NULL;
    GRAFT_TRY(copy_params(params, &given));
    if (model->limits.n_batch < model->limits.n_seq) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "the model was opened with n_batch %u, the engine needs a row for each of %u sequences",
                          model->limits.n_batch, model->limits.n_seq);
    }
    for (uint32_t i = 0; i < model->limits.n_seq; i++) {
        if (model->seqs[i].alive) {
            return graft_fail(GRAFT_E_ARGUMENT, "the model has sequences: destroy them before an engine takes it");
        }
    }
    GRAFT_TRY(GRAFT_NEW(model->ctx, GRAFT_MEM_HOST, &engine, 1, "an engine"));
    engine->ctx = model->ctx;
    engine->model = model;
    engine->params = given;
    enum graft_status status = take_memory(engine);
    if (status == GRAFT_OK) {
        model->kv->pages.on_free = clear_page;
        model->kv->ring_pages.on_free = clear_ring_page;
        model->kv->pages.user = model->kv->ring_pages.user = model;
        status = graft_thread_start(engine->ctx, &engine->thread, thread_main, engine);
    }
    if (status != GRAFT_OK) {
        graft_engine_destroy(&engine);
        return status;
    }
    *out = engine;
    return GRAFT_OK;
}

void graft_engine_destroy(struct graft_engine **given)
{
    if (!given || !*given) {
        return;
    }
    struct graft_engine *engine = *given;
    struct graft_ctx *ctx = engine->ctx;
    if (engine->thread) {
        graft_mutex_lock(engine->mutex);
        engine->quit = true;
        graft_cond_broadcast(engine->wake);
        graft_mutex_unlock(engine->mutex);
        graft_thread_join(&engine->thread);
    }
    give_memory_back(engine);
    engine->model->kv->pages.on_free = engine->model->kv->ring_pages.on_free = NULL;
    GRAFT_FREE(ctx, given);
}

enum graft_status graft_engine_run(struct graft_engine *engine, enum graft_status (*fn)(struct graft_model *model, void *user),
                                   void *user)
{
    struct graft_engine_command command = {.fn = fn, .user = user}, **last = &engine->commands;
    graft_mutex_lock(engine->mutex);
    while (*last) {
        last = &(*last)->next;
    }
    *last = &command;
    graft_cond_broadcast(engine->wake);
    while (!command.done) {
        graft_cond_wait(engine->done, engine->mutex);
    }
    graft_mutex_unlock(engine->mutex);
    return command.status == GRAFT_OK ? GRAFT_OK : graft_fail(command.status, "%s", command.detail);
}

// ---- requests ----

static enum graft_status check_request(const struct graft_engine *engine, const struct graft_request_params *p)
{
    const struct graft_model *model = engine->model;
    if (p->n_tokens == 0 || !p->tokens || !p->on_event) {
        return graft_fail(GRAFT_E_ARGUMENT, "a request needs at least one token and on_event");
    }
    if (p->n_tokens > model->n_ctx) {
        return graft_fail(GRAFT_E_CONTEXT_FULL, "the prompt has %u tokens, the context has room for %u", p->n_tokens,
                          model->n_ctx);
    }
    for (uint32_t i = 0; i < p->n_tokens; i++) {
        if (p->tokens[i] < 0 || (uint32_t)p->tokens[i] >= model->source->config.n_vocab) {
            return graft_fail(GRAFT_E_ARGUMENT, "token %u of the prompt is %d, the vocabulary has 0 to %u", i, p->tokens[i],
                              model->source->config.n_vocab - 1);
        }
    }
    if (p->n_uses > GRAFT_MAX_BLEND || p->n_logprobs > GRAFT_MAX_LOGPROBS) {
        return graft_fail(GRAFT_E_ARGUMENT, "%u adapters (at most %d), %u alternatives (at most %d)", p->n_uses,
                          GRAFT_MAX_BLEND, p->n_logprobs, GRAFT_MAX_LOGPROBS);
    }
    for (uint32_t i = 0; i < p->n_uses; i++) {
        if (!p->uses[i].adapter || p->uses[i].adapter->model != model || !isfinite(p->uses[i].weight)) {
            return graft_fail(GRAFT_E_ARGUMENT, "adapter %u of %u is not one of this model, or its weight is not finite", i + 1,
                              p->n_uses);
        }
    }
    if (p->grammar && !model->vocabulary) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "a grammar needs a vocabulary, which a synthetic model does not have");
    }
    if (p->n_shown > GRAFT_MAX_SHOWN) {
        return graft_fail(GRAFT_E_ARGUMENT, "%u control tokens are to be shown, at most %d may", p->n_shown, GRAFT_MAX_SHOWN);
    }
    return graft_stream_check(p->stops, p->n_stops);
}

// The tenant's entry, new ones with the least that an active one was served, so that nobody gains by being new. Under the lock;
// there are as many entries as requests, so one is always free or idle.
static uint32_t tenant_of(struct graft_engine *engine, const char *name)
{
    uint8_t key[32];
    struct graft_sha256 hash;
    uint32_t oldest = UINT32_MAX;
    uint64_t least = UINT64_MAX;
    graft_sha256_begin(&hash);
    graft_sha256_add(&hash, name, strlen(name));
    graft_sha256_end(&hash, key);
    for (uint32_t i = 0; i < engine->n_requests; i++) {
        struct graft_tenant *t = &engine->tenants[i];
        bool active = t->n_waiting || t->n_running;
        if (t->used && memcmp(t->key, key, sizeof key) == 0) {
            return i;
        }
        least = active && t->served < least ? t->served : least;
        oldest = !active && (oldest == UINT32_MAX || t->used < engine->tenants[oldest].used) ? i : oldest;
    }
    engine->tenants[oldest] = (struct graft_tenant){.served = least == UINT64_MAX ? 0 : least};
    memcpy(engine->tenants[oldest].key, key, sizeof key);
    return oldest;
}

// A free request takes what was asked for. Under the lock.
static void fill(struct graft_engine *engine, struct graft_request *r, const struct graft_request_params *p)
{
    r->released = r->preempted = false;
    r->arrival = ++engine->arrivals;
    r->stats = (struct graft_request_stats){.prompt_tokens = p->n_tokens};
    atomic_store(&r->cancelled, false);
    r->low_priority = p->low_priority;
    r->speculates = !p->no_speculation;
    r->draft_tokens =
        p->draft_tokens && p->draft_tokens < engine->params.draft_tokens ? p->draft_tokens : engine->params.draft_tokens;
    r->logprobs = p->logprobs || p->n_logprobs;
    r->n_logprobs = p->n_logprobs;
    r->max_tokens = p->max_tokens;
    r->submitted_ns = graft_clock_ns();
    r->deadline_ns = p->deadline_ns ? r->submitted_ns + p->deadline_ns : 0;
    r->grammar = p->grammar;
    r->place = NULL;
    r->n_uses = p->n_uses;
    memcpy(r->uses, p->uses ? p->uses : r->uses, p->n_uses * sizeof *r->uses);
    graft_stream_begin(r->stream, p->stops, p->n_stops);
    graft_stream_show(r->stream, p->shown, p->n_shown);
    r->prompt_logprobs = p->prompt_logprobs;
    r->no_answer = p->no_answer;
    r->n_scored = 0;
    r->on_event = p->on_event;
    r->user = p->user;
    r->n_prompt = r->n_ids = p->n_tokens;
    r->n_keep = p->n_keep < p->n_tokens ? p->n_keep : p->n_tokens;
    r->n_forgotten = 0;
    memcpy(r->ids, p->tokens, p->n_tokens * sizeof *r->ids);
    r->tenant = tenant_of(engine, p->tenant ? p->tenant : "");
    engine->tenants[r->tenant].n_waiting++;
    engine->tenants[r->tenant].used = engine->arrivals;
    r->state = GRAFT_REQUEST_WAITING;
    engine->n_waiting++;
    engine->stats.requests++;
}

enum graft_status graft_engine_submit(struct graft_engine *engine, struct graft_request **out,
                                      const struct graft_request_params *params)
{
    struct graft_request_params p = {0};
    *out = NULL;
    if (params->size == 0 || params->size > sizeof p) {
        return graft_fail(GRAFT_E_ARGUMENT, "graft_request_params.size is %zu, this library knows %zu", params->size, sizeof p);
    }
    memcpy(&p, params, params->size);
    GRAFT_TRY(check_request(engine, &p));
    p.sampling.size = p.sampling.size ? p.sampling.size : sizeof p.sampling;
    graft_mutex_lock(engine->mutex);
    struct graft_request *r = NULL;
    for (uint32_t i = 0; i < engine->n_requests && !r && engine->n_waiting < engine->params.max_waiting; i++) {
        r = engine->requests[i].state == GRAFT_REQUEST_FREE ? &engine->requests[i] : NULL;
    }
    enum graft_status status = engine->stats.lost ? graft_fail(GRAFT_E_DEVICE_LOST, "the device was lost")
                               : engine->quit     ? graft_fail(GRAFT_E_CANCELLED, "the engine is ending")
                               : r ? graft_sampler_begin(&r->sampler, &p.sampling, engine->model->source->config.n_vocab)
                                   : graft_fail(GRAFT_E_LIMIT, "%u requests are waiting, at most %u may", engine->n_waiting,
                                                engine->params.max_waiting);
    if (status == GRAFT_OK) {
        fill(engine, r, &p);
        *out = r;
        graft_cond_broadcast(engine->wake);
    }
    graft_mutex_unlock(engine->mutex);
    return status;
}

void graft_request_cancel(struct graft_request *request)
{
    atomic_store(&request->cancelled, true);
}

void graft_request_describe(struct graft_request *request, struct graft_request_stats *out)
{
    graft_mutex_lock(request->engine->mutex);
    *out = request->stats;
    if (request->state != GRAFT_REQUEST_ENDED) {
        out->total_ns = graft_clock_ns() - request->submitted_ns;
    }
    graft_mutex_unlock(request->engine->mutex);
}

void graft_request_release(struct graft_request **request)
{
    if (!request || !*request) {
        return;
    }
    struct graft_engine *engine = (*request)->engine;
    graft_mutex_lock(engine->mutex);
    (*request)->released = true;
    if ((*request)->state == GRAFT_REQUEST_ENDED) {
        (*request)->state = GRAFT_REQUEST_FREE;
    }
    graft_mutex_unlock(engine->mutex);
    *request = NULL;
}

void graft_engine_describe(struct graft_engine *engine, struct graft_engine_stats *out)
{
    graft_mutex_lock(engine->mutex);
    *out = engine->stats;
    out->waiting = engine->n_waiting;
    graft_mutex_unlock(engine->mutex);
}
