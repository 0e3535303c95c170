// SPDX-License-Identifier: Apache-2.0
// Requests for answers, from the exchange through the adapters and the engine back to the exchange.
//
//     handler -> ask_read, adapters_select -> adapters_lease_begin -> ready: graft_engine_submit -> on_event ... -> finished
//
// A job belongs to its exchange and its request alone and frees itself when both have ended. The client's going away sets a
// flag and cancels, whatever stage it is in; every stage looks at the flag.
#include "tools/serve/jobs.h"

#include <stdlib.h>
#include <string.h>

enum { TICK_MS = 250 };
static const uint64_t ping_after_ns = 1500000000u, ping_every_ns = 5000000000u;

// ---- the list of jobs ----

static void list_add(struct job *job)
{
    struct server *server = job->server;
    pthread_mutex_lock(&server->jobs_mutex);
    job->next = server->jobs;
    job->before = &server->jobs;
    if (job->next) {
        job->next->before = &job->next;
    }
    server->jobs = job;
    server->n_jobs++;
    pthread_mutex_unlock(&server->jobs_mutex);
}

static void list_remove(struct job *job)
{
    struct server *server = job->server;
    pthread_mutex_lock(&server->jobs_mutex);
    *job->before = job->next;
    if (job->next) {
        job->next->before = job->before;
    }
    server->n_jobs--;
    pthread_cond_broadcast(&server->ticker_wake);
    pthread_mutex_unlock(&server->jobs_mutex);
}

// ---- the end ----

static struct adapter_usage *usage_of(struct job *job)
{
    return job->selected.lease.n ? &job->selected.lease.versions[0]->entry->usage : &job->server->adapters.base_usage;
}

// status: of the error that the client got, or 0.
static void count(struct job *job, enum graft_finish finish, int status, const struct graft_request_stats *stats)
{
    struct counts *counts = &job->server->counts;
    static const int places[] = {[GRAFT_FINISH_STOP] = 0,
                                 [GRAFT_FINISH_LENGTH] = 1,
                                 [GRAFT_FINISH_CANCELLED] = 2,
                                 [GRAFT_FINISH_DEADLINE] = 3,
                                 [GRAFT_FINISH_ERROR] = 4};
    pthread_mutex_lock(&job->server->adapters.mutex);
    struct adapter_usage *usage = usage_of(job);
    usage->running--;
    usage->prompt_tokens += stats->prompt_tokens;
    usage->reused_tokens += stats->reused_tokens;
    usage->answer_tokens += stats->answer_tokens;
    if (stats->answer_tokens) {
        histogram_add(&usage->first_token, job->first_ns - job->begun_ns);
        histogram_add(&usage->queue, stats->queue_ns);
    }
    histogram_merge(&usage->between_tokens, &job->between);
    usage->judged_tokens += job->judged_tokens;
    usage->judged_nats += job->judged_nats;
    if (status) {
        usage->errors[usage_status_place(status)]++;
    } else {
        usage->answers++;
        usage->refusals += usage_is_refusal(job->opening, job->opening_length);
        histogram_add_tokens(&usage->answer_length, stats->answer_tokens);
    }
    counts->finishes[places[finish]]++;
    pthread_mutex_unlock(&job->server->adapters.mutex);
}

static void log_end(struct job *job, enum graft_finish finish, const struct graft_request_stats *stats)
{
    static const char *const words[] = {"", "stop", "length", "cancelled", "deadline", "error"};
    struct http_log_entry *entry = http_log(job->exchange);
    snprintf(entry->adapter, sizeof entry->adapter, "%.127s", job->selected.label);
    snprintf(entry->digest, sizeof entry->digest, "%s", job->digest);
    snprintf(entry->outcome, sizeof entry->outcome, "%s", words[finish]);
    entry->prompt_tokens = stats->prompt_tokens;
    entry->reused_tokens = stats->reused_tokens;
    entry->answer_tokens = stats->answer_tokens;
    entry->queue_ns = stats->queue_ns;
    entry->first_token_ns = job->first_ns ? job->first_ns - job->begun_ns : 0;
    http_charge_tokens(job->exchange, (uint64_t)stats->prompt_tokens - stats->reused_tokens + stats->answer_tokens);
}

// Only if it was asked for.
static void log_texts(struct job *job)
{
    const json_t *asked = json_object_get(job->ask.body, job->ask.chat ? "messages" : "prompt");
    char *prompt = job->server->options->log_text && asked ? json_dumps(asked, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    if (prompt) {
        http_log_text(job->exchange, prompt, strlen(prompt), job->text.data ? job->text.data : "", job->text.length);
        free(prompt);
    }
}

static void free_job(struct job *job)
{
    out_free(&job->head);
    out_free(&job->text);
    out_free(&job->probs);
    out_free(&job->probs_tokens);
    out_free(&job->probs_values);
    out_free(&job->probs_offsets);
    out_free(&job->chunk);
    out_free(&job->calls);
    out_free(&job->arguments);
    graft_tool_parser_destroy(&job->parser);
    ask_free(&job->ask);
    pthread_mutex_destroy(&job->mutex);
    free(job);
}

// The exchange is finished with an error before the engine had anything to do with it.
static void fail_early(struct job *job, const struct api_error *error)
{
    pthread_mutex_lock(&job->mutex);
    job->done = true;
    bool streaming = job->streaming;
    pthread_mutex_lock(&job->server->adapters.mutex);
    usage_of(job)->errors[usage_status_place(error->status)]++;
    pthread_mutex_unlock(&job->server->adapters.mutex);
    if (streaming) {
        http_stream_json(job->exchange, http_error_json(error->status, api_error_type(error), error->code,
                                                        *error->param ? error->param : NULL, error->message));
        http_stream_end(job->exchange);
        count_error(job->server, error->status);
    } else {
        serve_refuse(job->server, job->exchange, error);
    }
    pthread_mutex_unlock(&job->mutex);
    list_remove(job);
    free_job(job);
}

// ---- streaming ----

static bool begin_stream(struct job *job)
{
    http_reply_header(job->exchange, "Cache-Control", "no-cache");
    http_reply_header(job->exchange, "X-Accel-Buffering", "no");
    job->streaming = http_stream_begin(job->exchange);
    job->written_ns = graft_clock_ns();
    return job->streaming;
}

void job_write(struct job *job)
{
    if (!job->streaming) {
        return; // there are too many: it ends
    }
    if (job->chunk.failed || !http_stream_data(job->exchange, job->chunk.data, job->chunk.length)) {
        graft_request_cancel(job->request);
    }
    job->written_ns = graft_clock_ns();
}

// The role, or the prompt that was to be echoed.
static void write_beginning(struct job *job)
{
    if (!job->streaming && !begin_stream(job)) {
        job->too_many = true;
        graft_request_cancel(job->request);
        return;
    }
    if (job->ask.chat) {
        chunk_role(job);
        job_write(job);
    } else if (job->ask.echo) {
        chunk_text(job, job->text.data, job->text.length); // with the log-probabilities that were told before
        job_write(job);
    }
}

// ---- the engine's events ----

// What the metrics want to know of an answer: how it begins, and how sure the model was.
static void look_at_token(struct job *job, const struct graft_event *event)
{
    for (size_t i = 0; i < event->text_length && job->opening_length < sizeof job->opening; i++) {
        job->opening[job->opening_length++] = event->text[i];
    }
    if (job->judged) {
        job->judged_tokens++;
        job->judged_nats -= (double)event->logprob;
    }
}

static void on_token(struct job *job, const struct graft_event *event)
{
    uint64_t now = graft_clock_ns();
    if (event->prompt) {
        add_logprob(job, event);
        return;
    }
    if (job->first_ns) {
        histogram_add(&job->between, now - job->last_ns);
    }
    job->first_ns = job->first_ns ? job->first_ns : now;
    job->last_ns = now;
    job->n_said++;
    look_at_token(job, event);
    if (job->ask.stream && job->n_said == 1) {
        write_beginning(job);
    }
    if (job->ask.logprobs) {
        add_logprob(job, event);
    }
    if (job->parser) {
        job->deaf = job->deaf || !tools_hear(job, event->text, event->text_length);
        if (job->enough || job->deaf) { // nothing else would be heard
            graft_request_cancel(job->request);
        }
    } else if (!job->ask.stream) {
        out_bytes(&job->text, event->text, event->text_length);
    } else if (job->streaming && (event->text_length || job->ask.logprobs)) {
        chunk_text(job, event->text, event->text_length);
        job_write(job);
    }
    if (!job->ask.stream) {
        return;
    }
    if (job->server->options->log_text) {
        out_bytes(&job->text, event->text, event->text_length);
    }
}

// What the end means as an error; false: it is an answer.
static bool end_error(const struct job *job, const struct graft_event *event, struct api_error *error)
{
    *error = (struct api_error){0};
    switch (event->finish) {
    case GRAFT_FINISH_DEADLINE:
        return !api_fail(error, 504, "deadline_exceeded", NULL, "the request took longer than it may");
    case GRAFT_FINISH_CANCELLED:
        if (job->enough) {
            return false;
        }
        if (job->deaf) {
            return !api_fail(error, 500, "generation_failed", NULL,
                             "a tool call of the answer is too long, or there is no memory");
        }
        if (job->too_many) {
            api_fail(error, 503, "too_many_streams", NULL, "too many answers are streamed at a time");
            error->retry_after = 1;
            return true;
        }
        return !api_fail(error, 499, "cancelled", NULL, "the request was cancelled");
    case GRAFT_FINISH_ERROR:
        if (event->status == GRAFT_E_DEVICE_LOST) {
            api_fail(error, 503, "device_lost", NULL, "the device was lost while this was computed; it is being set up again");
            error->retry_after = 5;
            return true;
        }
        if (event->status == GRAFT_E_IO && graft_model_damaged(job->server->session.model)) {
            serve_file_lost(job->server, event->detail);
            return !api_fail(error, 503, "model_file_damaged", NULL, "%.600s", event->detail);
        }
        if (event->status == GRAFT_E_IO) { // its adapter did not come back with the device
            api_fail(error, 503, "lora_storage_unavailable", NULL, "%.600s", event->detail);
            error->retry_after = 5;
            return true;
        }
        if (event->status == GRAFT_E_NOT_FINITE) {
            adapters_blame(&job->server->adapters, &job->selected.lease);
            return !api_fail(error, 500, "not_finite", NULL, "%.600s", event->detail);
        }
        if (event->status == GRAFT_E_LIMIT) { // a grammar that is in too many places at once
            return !api_fail(error, 400, "unsupported_schema", job->ask.calls ? "tools" : "response_format", "%.600s",
                             event->detail);
        }
        return !api_fail(error, event->status == GRAFT_E_UNSUPPORTED ? 400 : 500, "generation_failed", NULL, "%.600s",
                         event->detail);
    default:
        return false;
    }
}

static void on_end(struct job *job, const struct graft_event *event)
{
    struct api_error error;
    struct graft_request_stats stats;
    enum graft_finish finish = event->finish == GRAFT_FINISH_CANCELLED && job->enough ? GRAFT_FINISH_STOP : event->finish;
    graft_request_describe(job->request, &stats);
    job->done = true;
    log_end(job, finish, &stats);
    log_texts(job);
    bool failed = end_error(job, event, &error);
    if (!failed && job->ask.stream && !job->n_said) {
        write_beginning(job); // an answer without a token
        failed = job->too_many && !api_fail(&error, 503, "too_many_streams", NULL, "too many answers are streamed at a time");
    }
    if (!failed && job->parser && !tools_end(job, event->text, event->text_length)) {
        failed = !api_fail(&error, 503, "over_budget", NULL, "%.600s", graft_last_error());
    }
    if (job->streaming) {
        http_stream_answered(job->exchange);
    }
    const char *reason = finish == GRAFT_FINISH_LENGTH ? "length" : job->n_calls ? "tool_calls" : "stop";
    if (job->streaming && failed) {
        http_stream_json(job->exchange, http_error_json(error.status, api_error_type(&error), error.code, NULL, error.message));
        count_error(job->server, error.status);
    } else if (failed) {
        serve_refuse(job->server, job->exchange, &error);
    } else if (job->streaming) {
        size_t rest = job->parser ? 0 : event->text_length;
        if (rest || job->n_probs) {
            chunk_text(job, event->text, rest);
            job_write(job);
        }
        chunk_end(job, reason, &stats);
        job_write(job);
        if (job->ask.include_usage) {
            chunk_usage(job, &stats);
            job_write(job);
        }
        http_stream_data(job->exchange, "[DONE]", 6);
    } else {
        out_bytes(&job->text, event->text, job->parser ? 0 : event->text_length);
        answer_whole(job, reason, &stats);
        if (job->chunk.failed) {
            api_fail(&error, 503, "over_budget", NULL, "no memory for the answer");
            serve_refuse(job->server, job->exchange, &error);
        } else {
            http_reply(job->exchange, 200, "application/json", job->chunk.data, job->chunk.length);
        }
    }
    if (job->streaming) {
        http_stream_end(job->exchange);
    }
    count(job, finish, failed ? error.status : 0, &stats);
}

static void on_event(void *user, const struct graft_event *event)
{
    struct job *job = user;
    pthread_mutex_lock(&job->mutex);
    if (event->finish == GRAFT_FINISH_NONE) {
        on_token(job, event);
        pthread_mutex_unlock(&job->mutex);
        return;
    }
    on_end(job, event);
    pthread_mutex_unlock(&job->mutex);
    graft_request_release(&job->request);
    adapters_lease_end(&job->server->adapters, &job->selected.lease);
    list_remove(job);
    free_job(job);
}

// ---- from the handler to the engine ----

static void on_gone(void *user)
{
    struct job *job = user;
    atomic_store(&job->gone, true);
    atomic_store(&job->selected.lease.cancelled, true);
    struct graft_request *request = atomic_load(&job->to_cancel);
    if (request) {
        graft_request_cancel(request);
    }
}

// Its adapters are there: into the engine's queue.
static void on_ready(void *user, const struct api_error *given)
{
    struct job *job = user;
    struct server *server = job->server;
    struct graft_adapter_use uses[GRAFT_MAX_BLEND];
    if (given->status) {
        fail_early(job, given);
        return;
    }
    struct adapter_lease *lease = &job->selected.lease;
    pthread_mutex_lock(&server->adapters.mutex);
    name_adapters(job);
    if (graft_clock_ns() - lease->begun_ns > 1000000) {
        histogram_add(&server->counts.load_wait, graft_clock_ns() - lease->begun_ns);
    }
    job->judged = job->ask.logprobs || usage_is_judged(usage_of(job));
    usage_of(job)->running++;
    usage_of(job)->requests++;
    pthread_mutex_unlock(&server->adapters.mutex);
    uint64_t passed = graft_clock_ns() - job->begun_ns;
    uint64_t most =
        job->ask.deadline_ns && job->ask.deadline_ns < server->request_ns ? job->ask.deadline_ns : server->request_ns;
    struct graft_request_params params = {
        .size = sizeof params,
        .tokens = job->ask.tokens,
        .n_tokens = job->ask.n_tokens,
        .max_tokens = job->ask.max_tokens,
        .sampling = job->ask.sampling,
        .uses = uses,
        .n_uses = adapters_lease_uses(lease, uses),
        .tenant = job->tenant,
        .low_priority = job->ask.low_priority,
        .no_speculation = job->ask.no_speculation,
        .draft_tokens = job->ask.draft_tokens,
        .deadline_ns = passed < most ? most - passed : 1,
        .stops = job->ask.stops,
        .n_stops = job->ask.n_stops,
        .n_logprobs = job->ask.n_logprobs,
        .logprobs = job->ask.logprobs || job->judged,
        .grammar = job->ask.calls ? graft_tools_grammar(job->ask.tools) : job->ask.grammar,
        .shown = job->ask.shown,
        .n_shown = job->ask.n_shown,
        .prompt_logprobs = job->ask.echo && job->ask.logprobs,
        .no_answer = job->ask.no_answer,
        .on_event = on_event,
        .user = job,
    };
    pthread_mutex_lock(&job->mutex); // so that the first event finds the request
    head_build(job);
    enum graft_status status = graft_engine_submit(server->engine, &job->request, &params);
    if (status == GRAFT_OK) {
        atomic_store(&job->to_cancel, job->request);
        if (atomic_load(&job->gone)) {
            graft_request_cancel(job->request);
        }
        pthread_mutex_unlock(&job->mutex);
        return;
    }
    struct api_error error = {0};
    job_submit_error(status, &error);
    pthread_mutex_unlock(&job->mutex);
    pthread_mutex_lock(&server->adapters.mutex);
    usage_of(job)->running--;
    pthread_mutex_unlock(&server->adapters.mutex);
    adapters_lease_end(&server->adapters, lease);
    fail_early(job, &error);
}

static void begin(struct http_exchange *exchange, struct server *server, bool chat)
{
    struct api_error error = {0};
    json_t *body = serve_body(server, exchange);
    if (!body) {
        return;
    }
    struct job *job = try_memory(1, sizeof *job);
    if (!job) {
        json_decref(body);
        api_no_memory(&error);
        serve_refuse(server, exchange, &error);
        return;
    }
    job->server = server;
    job->exchange = exchange;
    job->begun_ns = graft_clock_ns();
    pthread_mutex_init(&job->mutex, NULL);
    bool ok = ask_read(&job->ask, body, chat, &server->limits, &error);
    const char *route = http_name(exchange);
    const char *claim = http_caller(exchange)->adapter;
    struct selection selection = {.claim = *claim ? claim : NULL,
                                  .route = *route ? route : NULL,
                                  .header = http_header(exchange, "X-Adapter-ID"),
                                  .model = job->ask.model,
                                  .fallback = server->fallback,
                                  .adapter = job->ask.adapter,
                                  .lora = job->ask.lora,
                                  .allows = serve_allows,
                                  .user = exchange};
    ok = ok && adapters_select(&server->adapters, &selection, &job->selected, &error);
    if (ok && !tools_begin(job)) {
        selected_drop(&server->adapters, &job->selected);
        ok = api_fail(&error, 503, "over_budget", NULL, "%.600s", graft_last_error());
    }
    if (!ok) {
        serve_refuse(server, exchange, &error);
        free_job(job);
        return;
    }
    if (job->selected.fell_back) {
        http_reply_header(exchange, "X-Model-Fallback", "base");
    }
    snprintf(job->tenant, sizeof job->tenant, "%s", http_caller(exchange)->tenant);
    snprintf(job->id, sizeof job->id, "%s-%.40s", chat ? "chatcmpl" : "cmpl", http_request_id(exchange));
    job->created = time(NULL);
    if (job->ask.echo) {
        echo_prompt(job);
    }
    pthread_mutex_lock(&server->adapters.mutex);
    server->counts.unknown_fields += job->ask.n_unknown;
    server->counts.fallbacks += job->selected.fell_back;
    pthread_mutex_unlock(&server->adapters.mutex);
    job->selected.lease.ready = on_ready;
    job->selected.lease.user = job;
    list_add(job);
    http_on_gone(exchange, on_gone, job);
    adapters_lease_begin(&server->adapters, &job->selected.lease);
}

void serve_chat(struct http_exchange *exchange, void *server)
{
    begin(exchange, server, true);
}

void serve_completions(struct http_exchange *exchange, void *server)
{
    begin(exchange, server, false);
}

// ---- pings ----

// Streams of which nothing was heard for a while begin, and say that they are alive.
static void ping(struct job *job, uint64_t now)
{
    pthread_mutex_lock(&job->mutex);
    bool may = job->ask.stream && !job->done && !job->too_many && job->request;
    if (may && !job->streaming && now - job->begun_ns > ping_after_ns) {
        job->too_many = !begin_stream(job);
        job->written_ns = 0; // the first ping at once
    }
    if (may && job->streaming && job->written_ns + ping_every_ns < now) {
        static const char comment[] = ": ping\n\n";
        if (!http_stream_write(job->exchange, comment, sizeof comment - 1)) {
            graft_request_cancel(job->request);
        }
        job->written_ns = now;
    }
    pthread_mutex_unlock(&job->mutex);
}

static void *tick(void *user)
{
    struct server *server = user;
    pthread_mutex_lock(&server->jobs_mutex);
    while (!server->ending || server->n_jobs) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += TICK_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&server->ticker_wake, &server->jobs_mutex, &until);
        uint64_t now = graft_clock_ns();
        for (struct job *job = server->jobs; job; job = job->next) {
            ping(job, now);
        }
    }
    pthread_mutex_unlock(&server->jobs_mutex);
    return NULL;
}

int jobs_start(struct server *server)
{
    pthread_mutex_init(&server->jobs_mutex, NULL);
    pthread_cond_init(&server->ticker_wake, NULL);
    if (pthread_create(&server->ticker, NULL, tick, server) != 0) {
        error3("the server cannot start", "the system refuses a thread", "close other programs");
        return EXIT_FAILED;
    }
    server->ticking = true;
    return EXIT_GOOD;
}

void jobs_end(struct server *server)
{
    if (!server->ticking) {
        return;
    }
    pthread_mutex_lock(&server->jobs_mutex);
    server->ending = true;
    pthread_cond_broadcast(&server->ticker_wake);
    pthread_mutex_unlock(&server->jobs_mutex);
    pthread_join(server->ticker, NULL);
    server->ticking = false;
    pthread_cond_destroy(&server->ticker_wake);
    pthread_mutex_destroy(&server->jobs_mutex);
}
