// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/ask.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/output.h"

// ---- sampling ----

static bool read_sampling(struct ask *ask, const struct ask_limits *limits, struct api_error *error)
{
    // As `graft run` without options.
    double temperature = 0.8, top_p = 0.95, min_p = 0.05, repeat = 1, presence = 0, frequency = 0;
    int64_t top_k = 40, window = 64, seed = -1;
    const json_t *b = ask->body;
    (void)limits;
    if (!body_number(b, "temperature", 0, 2, &temperature, error) || !body_number(b, "top_p", 0, 1, &top_p, error) ||
        !body_number(b, "min_p", 0, 1, &min_p, error) || !body_integer(b, "top_k", 0, 1000000, &top_k, error) ||
        !body_number(b, "presence_penalty", -2, 2, &presence, error) ||
        !body_number(b, "frequency_penalty", -2, 2, &frequency, error) ||
        !body_number(b, "repeat_penalty", 0.01, 100, &repeat, error) ||
        !body_number(b, "repetition_penalty", 0.01, 100, &repeat, error) ||
        !body_integer(b, "repeat_last_n", 1, 65536, &window, error) ||
        !body_integer(b, "seed", -1, 9007199254740992, &seed, error)) {
        return false;
    }
    ask->sampling = (struct graft_sampling){
        .size = sizeof ask->sampling,
        .temperature = temperature <= 0 ? -1.0f : (float)temperature,
        .top_k = top_k == 0 ? UINT32_MAX : (uint32_t)top_k,
        .top_p = top_p <= 0 ? 1e-6f : (float)top_p,
        .min_p = min_p <= 0 ? -1.0f : (float)min_p,
        .repeat_penalty = (float)repeat,
        .presence_penalty = (float)presence,
        .frequency_penalty = (float)frequency,
        .penalty_window = (uint32_t)window,
        .seed = seed < 0    ? 0
                : seed == 0 ? UINT64_MAX
                            : (uint64_t)seed, // 0 is a seed like any other
    };
    return true;
}

// {"ID": bias, ...}
static bool read_biases(struct ask *ask, const struct ask_limits *limits, struct api_error *error)
{
    const json_t *biases = body_member(ask->body, "logit_bias");
    const char *key;
    json_t *value;
    if (!biases) {
        return true;
    }
    if (!json_is_object(biases) || json_object_size(biases) > ASK_BIASES) {
        return api_bad(error, "logit_bias", "logit_bias must be an object of at most %d token ids with their biases",
                       ASK_BIASES);
    }
    ask->biases = try_memory(json_object_size(biases), sizeof *ask->biases);
    if (!ask->biases) {
        return api_no_memory(error);
    }
    json_object_foreach((json_t *)(uintptr_t)biases, key, value)
    {
        char *end;
        long id = *key >= '0' && *key <= '9' ? strtol(key, &end, 10) : -1;
        double bias = json_number_value(value);
        if (id < 0 || *end || id >= (long)limits->n_vocab) {
            return api_bad(error, "logit_bias", "logit_bias: '%.20s' is no token id; the vocabulary has 0 to %u", key,
                           limits->n_vocab - 1);
        }
        if (!json_is_number(value) || !(bias >= -100 && bias <= 100)) {
            return api_bad(error, "logit_bias", "logit_bias of %ld must be a number from -100 to 100", id);
        }
        struct graft_logit_bias *b = &ask->biases[ask->sampling.n_biases++];
        *b = (struct graft_logit_bias){(int32_t)id, bias <= -100 ? -INFINITY : (float)bias}; // -100 forbids
    }
    ask->sampling.biases = ask->biases;
    return true;
}

// ---- the answer's shape ----

static bool add_stop(struct ask *ask, const json_t *stop, struct api_error *error)
{
    size_t length = json_string_length(stop);
    if (!json_is_string(stop) || length == 0 || length > GRAFT_MAX_STOP_BYTES || ask->n_stops == GRAFT_MAX_STOPS) {
        return api_bad(error, "stop", "stop must be a text, or at most %d texts, each of 1 to %d bytes", GRAFT_MAX_STOPS,
                       GRAFT_MAX_STOP_BYTES);
    }
    ask->stops[ask->n_stops++] = json_string_value(stop);
    return true;
}

static bool read_stops(struct ask *ask, struct api_error *error)
{
    const json_t *stop = body_member(ask->body, "stop");
    size_t i;
    json_t *item;
    if (!stop || !json_is_array(stop)) {
        return !stop || add_stop(ask, stop, error);
    }
    json_array_foreach(stop, i, item)
    {
        if (!add_stop(ask, item, error)) {
            return false;
        }
    }
    return true;
}

static bool read_logprobs(struct ask *ask, struct api_error *error)
{
    int64_t top = -1;
    if (!ask->chat) {
        bool ok = body_integer(ask->body, "logprobs", 0, GRAFT_MAX_LOGPROBS, &top, error);
        ask->logprobs = top >= 0;
        ask->n_logprobs = top > 0 ? (uint32_t)top : 0;
        return ok;
    }
    if (!body_bool(ask->body, "logprobs", &ask->logprobs, error) ||
        !body_integer(ask->body, "top_logprobs", 0, GRAFT_MAX_LOGPROBS, &top, error)) {
        return false;
    }
    if (top >= 0 && !ask->logprobs) {
        return api_bad(error, "top_logprobs", "top_logprobs needs logprobs to be true");
    }
    ask->n_logprobs = top > 0 ? (uint32_t)top : 0;
    return true;
}

static bool read_lengths(struct ask *ask, const struct ask_limits *limits, struct api_error *error)
{
    int64_t most = 0, also = 0, n = 1, best = 1, wait_ms = 0;
    const json_t *b = ask->body;
    most = ask->chat ? 0 : -1;
    if (!body_integer(b, "max_tokens", ask->chat ? 1 : 0, limits->n_ctx, &most, error) ||
        !body_integer(b, "max_completion_tokens", 1, limits->n_ctx, &also, error) || !body_integer(b, "n", 1, 1, &n, error) ||
        !body_integer(b, "best_of", 1, 1, &best, error) || !body_integer(b, "timeout_ms", 1, 86400000, &wait_ms, error)) {
        return false;
    }
    ask->no_answer = !ask->chat && most == 0 && !also; // the prompt alone
    most = most < 0 ? 0 : most;
    if (most && also && most != also) {
        return api_bad(error, "max_tokens", "max_tokens and max_completion_tokens differ");
    }
    ask->max_tokens = (uint32_t)(also ? also : most);
    ask->max_tokens = !ask->max_tokens && !ask->chat && !ask->no_answer ? 16 : ask->max_tokens; // what OpenAI's completions do
    ask->deadline_ns = (uint64_t)wait_ms * 1000000;
    return true;
}

static bool read_stream(struct ask *ask, struct api_error *error)
{
    const json_t *options = body_member(ask->body, "stream_options");
    if (!body_bool(ask->body, "stream", &ask->stream, error)) {
        return false;
    }
    if (options && (!json_is_object(options) || !ask->stream)) {
        return api_bad(error, "stream_options", "stream_options is an object, and needs stream to be true");
    }
    if (options && !body_bool(options, "include_usage", &ask->include_usage, error)) {
        snprintf(error->param, sizeof error->param, "stream_options.include_usage");
        return false;
    }
    const char *priority = NULL;
    if (!body_bool(ask->body, "timings_per_token", &ask->timings, error) ||
        !body_text(ask->body, "priority", 16, &priority, error)) {
        return false;
    }
    if (priority && strcmp(priority, "low") != 0 && strcmp(priority, "normal") != 0) {
        return api_bad(error, "priority", "priority is 'low' or 'normal'");
    }
    int64_t guesses = -1;
    if (!body_integer(ask->body, "speculative.n_max", 0, 1024, &guesses, error)) {
        return false;
    }
    ask->no_speculation = guesses == 0;
    ask->draft_tokens = guesses > 0 ? (uint32_t)guesses : 0;
    ask->low_priority = priority && strcmp(priority, "low") == 0;
    if (!ask->chat && !body_bool(ask->body, "echo", &ask->echo, error)) {
        return false;
    }
    if (ask->no_answer && !ask->echo) {
        return api_bad(error, "max_tokens", "max_tokens is 0: that needs echo");
    }
    return true;
}

// ---- what binds the answer ----

static bool grammar_error(enum graft_status status, struct api_error *error)
{
    bool own = status == GRAFT_E_MEMORY || status == GRAFT_E_BUDGET;
    return api_fail(error, own ? 503 : 400, own ? "over_budget" : "unsupported_schema", "response_format", "%.600s",
                    graft_last_error());
}

static bool read_format(struct ask *ask, const struct ask_limits *limits, struct api_error *error)
{
    static const char any_object[] = "{\"type\": \"object\", \"additionalProperties\": true}";
    const json_t *format = body_member(ask->body, "response_format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (!format || (type && strcmp(type, "text") == 0)) {
        return true;
    }
    if (ask->calls) {
        return api_fail(error, 400, "unsupported_parameter", "response_format",
                        "response_format together with tools is not supported, unless tool_choice is \"none\"");
    }
    if (type && strcmp(type, "json_object") == 0) {
        enum graft_status status = graft_grammar_from_schema(limits->ctx, &ask->grammar, any_object, strlen(any_object));
        return status == GRAFT_OK || grammar_error(status, error);
    }
    const json_t *schema = json_object_get(json_object_get(format, "json_schema"), "schema");
    if (!type || strcmp(type, "json_schema") != 0 || !json_is_object(schema)) {
        return api_bad(error, "response_format",
                       "response_format is {\"type\": \"text\"}, {\"type\": \"json_object\"} or {\"type\": \"json_schema\", "
                       "\"json_schema\": {\"name\", \"schema\"}}");
    }
    char *text = json_dumps(schema, JSON_COMPACT);
    enum graft_status status =
        text ? graft_grammar_from_schema(limits->ctx, &ask->grammar, text, strlen(text)) : GRAFT_E_MEMORY;
    free(text);
    return status == GRAFT_OK || grammar_error(status, error);
}

// What would change the answer if it were understood, and is not.
static bool refuse_unsupported(struct ask *ask, struct api_error *error)
{
    static const char *const names[] = {"functions",      "function_call",      "suffix",         "audio",       "modalities",
                                        "prediction",     "web_search_options", "grammar",        "json_schema", "guided_json",
                                        "guided_regex",   "guided_choice",      "guided_grammar", "typical_p",   "mirostat",
                                        "dry_multiplier", "xtc_probability",    "use_beam_search"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *value = body_member(ask->body, names[i]);
        bool nothing = !value || (json_is_array(value) && json_array_size(value) == 0) || json_is_false(value);
        bool text_only = value && strcmp(names[i], "modalities") == 0 && json_array_size(value) == 1 &&
                         json_is_string(json_array_get(value, 0)) &&
                         strcmp(json_string_value(json_array_get(value, 0)), "text") == 0;
        bool no_text = value && json_is_string(value) && json_string_length(value) == 0;
        if (!nothing && !text_only && !no_text) {
            return api_fail(error, 400, "unsupported_parameter", names[i], "%s is not supported by this server", names[i]);
        }
    }
    return true;
}

static void count_unknown(struct ask *ask)
{
    static const char *const known[] = {"model",
                                        "messages",
                                        "prompt",
                                        "adapter",
                                        "lora",
                                        "temperature",
                                        "top_p",
                                        "min_p",
                                        "top_k",
                                        "presence_penalty",
                                        "frequency_penalty",
                                        "repeat_penalty",
                                        "repetition_penalty",
                                        "repeat_last_n",
                                        "seed",
                                        "logit_bias",
                                        "stop",
                                        "logprobs",
                                        "top_logprobs",
                                        "max_tokens",
                                        "max_completion_tokens",
                                        "n",
                                        "best_of",
                                        "timeout_ms",
                                        "stream",
                                        "stream_options",
                                        "timings_per_token",
                                        "priority",
                                        "speculative.n_max",
                                        "echo",
                                        "response_format",
                                        "tool_choice",
                                        "user",
                                        "cache_prompt",
                                        "add_generation_prompt",
                                        "tools",
                                        "parallel_tool_calls",
                                        "functions",
                                        "function_call",
                                        "suffix",
                                        "modalities"};
    const char *key;
    json_t *value;
    json_object_foreach(ask->body, key, value)
    {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && strcmp(known[i], key) != 0) {
            i++;
        }
        ask->n_unknown += i == sizeof known / sizeof *known;
    }
}

bool ask_read(struct ask *ask, json_t *body, bool chat, const struct ask_limits *limits, struct api_error *error)
{
    *ask = (struct ask){.body = body, .chat = chat};
    count_unknown(ask);
    ask->adapter = json_object_get(body, "adapter");
    ask->lora = json_object_get(body, "lora");
    return body_text(body, "model", 256, &ask->model, error) && refuse_unsupported(ask, error) &&
           read_sampling(ask, limits, error) && read_biases(ask, limits, error) && read_lengths(ask, limits, error) &&
           read_stops(ask, error) && read_logprobs(ask, error) && read_stream(ask, error) && ask_tools(ask, limits, error) &&
           read_format(ask, limits, error) && ask_prompt(ask, limits, error);
}

void ask_free(struct ask *ask)
{
    graft_grammar_destroy(&ask->grammar);
    graft_tools_destroy(&ask->tools);
    free(ask->tokens);
    free(ask->biases);
    json_decref(ask->body);
    *ask = (struct ask){0};
}
