// SPDX-License-Identifier: Apache-2.0
// What answers look like: OpenAI's chat completions and completions, whole and in chunks.
#include <stdlib.h>
#include <string.h>

#include "tools/serve/jobs.h"

// ---- whose answer ----

void name_adapters(struct job *job)
{
    const struct adapter_lease *lease = &job->selected.lease;
    size_t used = 0;
    for (uint32_t i = 0; i < lease->n && used < sizeof job->digest; i++) {
        const char *digest = lease->versions[i]->info.digest;
        used += (size_t)snprintf(job->digest + used, sizeof job->digest - used, "%s%.*s", i ? "+" : "", lease->n > 1 ? 16 : 64,
                                 digest);
    }
    if (lease->n == 1) {
        snprintf(job->selected.version, sizeof job->selected.version, "%u", lease->versions[0]->number);
        http_reply_header(job->exchange, "X-Adapter-Version", job->selected.version);
    }
    if (lease->n) {
        http_reply_header(job->exchange, "X-Adapter-ID", job->selected.label);
        http_reply_header(job->exchange, "X-Adapter-Digest", job->digest);
    }
}

void echo_prompt(struct job *job)
{
    const json_t *prompt = json_object_get(job->ask.body, "prompt");
    prompt = json_is_array(prompt) && json_is_string(json_array_get(prompt, 0)) ? json_array_get(prompt, 0) : prompt;
    if (json_is_string(prompt)) {
        out_bytes(&job->text, json_string_value(prompt), json_string_length(prompt));
        return;
    }
    size_t length = 0;
    enum graft_status status =
        graft_detokenize(job->server->session.model, job->ask.tokens, job->ask.n_tokens, true, NULL, 0, &length);
    char *text = try_memory(length + 1, 1);
    if (text && length && status == GRAFT_E_LIMIT) {
        status = graft_detokenize(job->server->session.model, job->ask.tokens, job->ask.n_tokens, true, text, length, &length);
    }
    json_t *clean = text && status == GRAFT_OK ? json_text(text, length) : NULL;
    job->text.failed |= !clean && length > 0;
    out_bytes(&job->text, clean ? json_string_value(clean) : "", json_string_length(clean));
    json_decref(clean);
    free(text);
}

void head_build(struct job *job)
{
    struct out *head = &job->head;
    const struct ask *ask = &job->ask;
    const struct adapter_lease *lease = &job->selected.lease;
    const char *object = !ask->chat ? "text_completion" : ask->stream ? "chat.completion.chunk" : "chat.completion";
    const char *model = ask->model ? ask->model : lease->n == 1 ? job->selected.label : job->server->base;
    out_format(head, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", job->id, object, (long long)job->created);
    out_json(head, model, strlen(model));
    out_bytes(head, ",\"adapter\":", 11);
    if (lease->n) {
        out_json(head, job->selected.label, strlen(job->selected.label));
        out_format(head, ",\"adapter_version\":%s,\"adapter_generation\":\"%.*s\"",
                   lease->n == 1 ? job->selected.version : "null", lease->n == 1 ? 16 : 71, job->digest);
        if (lease->n == 1 && lease->weights[0] != 1) {
            out_format(head, ",\"adapter_scale\":%.9g", (double)lease->weights[0]);
        }
    } else {
        out_bytes(head, "null", 4);
    }
}

// ---- log-probabilities ----

// The bytes of a token, and the same as text.
static size_t token_bytes(const struct job *job, int32_t id, char *bytes, size_t room)
{
    size_t length = 0;
    enum graft_status status = graft_detokenize(job->server->session.model, &id, 1, true, bytes, room, &length);
    return status == GRAFT_OK ? length : 0;
}

static void out_token(struct out *out, const char *bytes, size_t length)
{
    json_t *clean = json_text(bytes, length);
    out_json(out, clean ? json_string_value(clean) : "", json_string_length(clean));
    json_decref(clean);
}

// In /v1/completions tokens are only texts: part of a character is written as bytes:\xe2\x80, as OpenAI does.
static void out_text_token(struct out *out, const char *bytes, size_t length)
{
    json_t *exact = json_stringn(bytes, length); // NULL: no UTF-8
    char text[12 + 4 * 64] = "bytes:";
    size_t used = 6;
    for (size_t i = 0; !exact && i < length && i < 64; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "\\x%02x", (unsigned)(unsigned char)bytes[i]);
    }
    out_json(out, exact ? bytes : text, exact ? length : used);
    json_decref(exact);
}

static double finite_logprob(float value)
{
    return value > -9999 ? (double)value : -9999; // what OpenAI calls practically never
}

// {"token", "logprob", "bytes"} without the last brace.
static void out_entry(struct out *out, const struct job *job, int32_t id, float logprob)
{
    char bytes[512];
    size_t length = token_bytes(job, id, bytes, sizeof bytes);
    out_bytes(out, "{\"token\":", 9);
    out_token(out, bytes, length);
    out_format(out, ",\"logprob\":%.6g,\"bytes\":[", finite_logprob(logprob));
    for (size_t i = 0; i < length; i++) {
        out_format(out, "%s%u", i ? "," : "", (unsigned)(unsigned char)bytes[i]);
    }
    out_bytes(out, "]", 1);
}

static void out_chat_logprob(struct out *out, const struct job *job, const struct graft_event *event)
{
    out_entry(out, job, event->token, event->logprob);
    out_bytes(out, ",\"top_logprobs\":[", 17);
    for (uint32_t i = 0; i < event->n_top; i++) {
        out_bytes(out, ",", i > 0);
        out_entry(out, job, event->top[i].id, event->top[i].logprob);
        out_bytes(out, "}", 1);
    }
    out_bytes(out, "]}", 2);
}

static void out_alternative(struct job *job, int32_t id, float logprob, bool first)
{
    char bytes[512];
    size_t length = token_bytes(job, id, bytes, sizeof bytes);
    out_bytes(&job->probs, ",", !first);
    out_text_token(&job->probs, bytes, length);
    out_format(&job->probs, ":%.6g", finite_logprob(logprob));
}

// One member for each of the four arrays of /v1/completions. The token itself is always among its alternatives; the first of a
// prompt has no probability.
static void out_text_logprob(struct job *job, const struct graft_event *event)
{
    char bytes[512];
    const char *comma = job->n_probs ? "," : "";
    bool first = event->prompt && !job->n_scored, there = false;
    size_t length = token_bytes(job, event->token, bytes, sizeof bytes);
    job->n_scored += event->prompt;
    out_format(&job->probs_tokens, "%s", comma);
    out_text_token(&job->probs_tokens, bytes, length);
    out_format(&job->probs_values, first ? "%snull" : "%s%.6g", comma, finite_logprob(event->logprob));
    out_format(&job->probs_offsets, "%s%u", comma, job->text_offset);
    for (size_t i = 0; i < length; i++) { // characters
        job->text_offset += ((unsigned char)bytes[i] & 0xc0) != 0x80;
    }
    if (first) {
        out_format(&job->probs, "%snull", comma);
        return;
    }
    out_format(&job->probs, "%s{", comma);
    for (uint32_t i = 0; i < event->n_top; i++) {
        there = there || event->top[i].id == event->token;
        out_alternative(job, event->top[i].id, event->top[i].logprob, i == 0);
    }
    if (!there) {
        out_alternative(job, event->token, event->logprob, event->n_top == 0);
    }
    out_bytes(&job->probs, "}", 1);
}

void add_logprob(struct job *job, const struct graft_event *event)
{
    if (job->ask.chat) {
        out_bytes(&job->probs, ",", job->n_probs > 0);
        out_chat_logprob(&job->probs, job, event);
    } else {
        out_text_logprob(job, event);
    }
    job->n_probs++;
}

static void out_probs(struct job *job)
{
    struct out *out = &job->chunk;
    if (!job->ask.logprobs || !job->n_probs) {
        out_bytes(out, "null", 4);
    } else if (job->ask.chat) {
        out_bytes(out, "{\"content\":[", 12);
        out_bytes(out, job->probs.data, job->probs.length);
        out_bytes(out, "],\"refusal\":null}", 17);
    } else {
        const struct out *parts[] = {&job->probs_tokens, &job->probs_values, &job->probs, &job->probs_offsets};
        static const char *const names[] = {"tokens", "token_logprobs", "top_logprobs", "text_offset"};
        for (int i = 0; i < 4; i++) {
            bool none = i == 2 && !job->ask.n_logprobs; // alternatives that nobody asked for
            out_format(out, none ? "%s\"%s\":null" : "%s\"%s\":[", i ? "," : "{", names[i]);
            out_bytes(out, parts[i]->data, none ? 0 : parts[i]->length);
            out_bytes(out, "]", !none);
        }
        out_bytes(out, "}", 1);
    }
}

static void forget_probs(struct job *job)
{
    job->probs.length = job->probs_tokens.length = job->probs_values.length = job->probs_offsets.length = 0;
    job->n_probs = 0;
}

// ---- chunks ----

static void begin_chunk(struct job *job, const char *choices)
{
    job->chunk.length = 0;
    out_bytes(&job->chunk, job->head.data, job->head.length);
    job->chunk.failed = job->chunk.failed || job->head.failed;
    out_format(&job->chunk, ",\"choices\":[%s", choices);
}

static void end_chunk(struct job *job, const char *reason)
{
    out_format(&job->chunk, reason ? ",\"finish_reason\":\"%s\"}]" : ",\"finish_reason\":null}]", reason);
    if (job->ask.stream && job->ask.include_usage) {
        out_bytes(&job->chunk, ",\"usage\":null", 13);
    }
    out_bytes(&job->chunk, "}", 1);
}

void chunk_role(struct job *job)
{
    begin_chunk(job, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null");
    end_chunk(job, NULL);
}

void chunk_begin(struct job *job, const char *choice)
{
    begin_chunk(job, choice);
}

void chunk_finish(struct job *job)
{
    out_bytes(&job->chunk, ",\"logprobs\":", 12);
    out_probs(job);
    forget_probs(job);
    end_chunk(job, NULL);
}

void chunk_text(struct job *job, const char *text, size_t length)
{
    begin_chunk(job, job->ask.chat ? "{\"index\":0,\"delta\":{\"content\":" : "{\"index\":0,\"text\":");
    out_json(&job->chunk, text ? text : "", length);
    out_bytes(&job->chunk, "}", job->ask.chat);
    chunk_finish(job);
}

static void out_usage(struct job *job, const struct graft_request_stats *stats)
{
    out_format(&job->chunk,
               "\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u,\"prompt_tokens_details\":{"
               "\"cached_tokens\":%u}",
               stats->prompt_tokens, stats->answer_tokens, stats->prompt_tokens + stats->answer_tokens, stats->reused_tokens);
    if (stats->draft_tokens) {
        out_format(&job->chunk,
                   ",\"completion_tokens_details\":{\"accepted_prediction_tokens\":%u,\"rejected_prediction_tokens\":%u}",
                   stats->accepted_tokens, stats->draft_tokens - stats->accepted_tokens);
    }
    out_bytes(&job->chunk, "}", 1);
}

static void out_timings(struct job *job, const struct graft_request_stats *stats)
{
    uint64_t first = job->first_ns ? job->first_ns - job->begun_ns : 0;
    uint64_t rest = job->first_ns ? job->last_ns - job->first_ns : 0;
    double rate = rest && stats->answer_tokens > 1 ? (double)(stats->answer_tokens - 1) * 1e9 / (double)rest : 0;
    out_format(&job->chunk,
               ",\"timings\":{\"prompt_n\":%u,\"cache_n\":%u,\"prompt_ms\":%.3f,\"predicted_n\":%u,\"predicted_ms\":%.3f,"
               "\"predicted_per_second\":%.3f,\"queue_ms\":%.3f}",
               stats->prompt_tokens - stats->reused_tokens, stats->reused_tokens, (double)first * 1e-6, stats->answer_tokens,
               (double)rest * 1e-6, rate, (double)stats->queue_ns * 1e-6);
    if (stats->draft_tokens) {
        job->chunk.length--; // the last brace
        out_format(&job->chunk, ",\"draft_n\":%u,\"draft_n_accepted\":%u}", stats->draft_tokens, stats->accepted_tokens);
    }
}

void chunk_end(struct job *job, const char *reason, const struct graft_request_stats *stats)
{
    begin_chunk(job,
                job->ask.chat ? "{\"index\":0,\"delta\":{},\"logprobs\":null" : "{\"index\":0,\"text\":\"\",\"logprobs\":null");
    end_chunk(job, reason);
    if (job->ask.timings && job->chunk.length) {
        job->chunk.length--; // the last brace
        out_timings(job, stats);
        out_bytes(&job->chunk, "}", 1);
    }
}

void chunk_usage(struct job *job, const struct graft_request_stats *stats)
{
    begin_chunk(job, "],");
    out_usage(job, stats);
    out_bytes(&job->chunk, "}", 1);
}

void answer_whole(struct job *job, const char *reason, const struct graft_request_stats *stats)
{
    begin_chunk(job,
                job->ask.chat ? "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":" : "{\"index\":0,\"text\":");
    if (job->n_calls && !job->text.length) {
        out_bytes(&job->chunk, "null", 4);
    } else {
        out_json(&job->chunk, job->text.data ? job->text.data : "", job->text.length);
    }
    if (job->n_calls) {
        out_bytes(&job->chunk, ",\"tool_calls\":[", 15);
        out_bytes(&job->chunk, job->calls.data ? job->calls.data : "", job->calls.length);
        out_bytes(&job->chunk, "]", 1);
    }
    out_bytes(&job->chunk, ",\"refusal\":null}", job->ask.chat ? 16 : 0);
    out_bytes(&job->chunk, ",\"logprobs\":", 12);
    out_probs(job);
    end_chunk(job, reason);
    job->chunk.length -= job->chunk.length > 0;
    out_bytes(&job->chunk, ",", 1);
    out_usage(job, stats);
    if (job->selected.lease.n) {
        out_format(&job->chunk, ",\"adapter_digest\":\"%s\"", job->digest);
    }
    if (job->ask.timings) {
        out_timings(job, stats);
    }
    out_bytes(&job->chunk, "}", 1);
    job->chunk.failed =
        job->chunk.failed || job->text.failed || job->probs.failed || job->calls.failed || job->arguments.failed;
}
