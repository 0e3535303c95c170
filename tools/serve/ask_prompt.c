// SPDX-License-Identifier: Apache-2.0
// The prompt of a request: messages through the model's template, text, or token ids.
#include <stdlib.h>
#include <string.h>

#include "tools/output.h"
#include "tools/serve/ask.h"

// Content as one text: a text, or parts of type text. *out stays NULL for null.
static bool read_content(const json_t *content, size_t i, bool may_be_null, json_t **out, struct api_error *error)
{
    char param[72];
    size_t k;
    json_t *part;
    snprintf(param, sizeof param, "messages[%zu].content", i);
    if (json_is_string(content)) {
        *out = json_incref((json_t *)(uintptr_t)content);
        return true;
    }
    if ((!content || json_is_null(content)) && may_be_null) {
        return true;
    }
    if (!json_is_array(content)) {
        return api_bad(error, param, "%s must be a text or an array of parts", param);
    }
    struct out text = {0};
    json_array_foreach(content, k, part)
    {
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *words = json_object_get(part, "text");
        if (!type || strcmp(type, "text") != 0) {
            out_free(&text);
            snprintf(param, sizeof param, "messages[%zu].content[%zu].type", i, k);
            return api_fail(error, 400, "unsupported_content", param, "%s is '%.40s': only text is understood", param,
                            type ? type : "missing");
        }
        if (!json_is_string(words)) {
            out_free(&text);
            snprintf(param, sizeof param, "messages[%zu].content[%zu].text", i, k);
            return api_bad(error, param, "%s must be a text", param);
        }
        out_bytes(&text, json_string_value(words), json_string_length(words));
    }
    *out = json_stringn(text.data ? text.data : "", text.length);
    bool failed = text.failed || !*out;
    out_free(&text);
    return failed ? api_no_memory(error) : true;
}

static bool read_message(const json_t *message, size_t i, json_t *out, struct api_error *error)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
    static const char *const others[] = {"name", "tool_calls", "tool_call_id"};
    char param[72];
    snprintf(param, sizeof param, "messages[%zu]", i);
    if (!json_is_object(message)) {
        return api_bad(error, param, "%s must be an object", param);
    }
    const char *role = json_string_value(json_object_get(message, "role"));
    size_t known = 0;
    while (role && known < 5 && strcmp(roles[known], role) != 0) {
        known++;
    }
    if (!role || known == 5) {
        snprintf(param, sizeof param, "messages[%zu].role", i);
        return api_bad(error, param, "%s is '%.40s', allowed are system, developer, user, assistant and tool", param,
                       role ? role : "missing");
    }
    json_t *content = NULL;
    const json_t *made = body_member(message, "tool_calls");
    bool calls = json_array_size(made) > 0;
    if (made && (!json_is_array(made) || strcmp(role, "assistant") != 0)) {
        snprintf(param, sizeof param, "messages[%zu].tool_calls", i);
        return api_bad(error, param, "%s must be an array, in a message of the assistant", param);
    }
    if (strcmp(role, "tool") == 0 && !json_string_length(json_object_get(message, "tool_call_id"))) {
        snprintf(param, sizeof param, "messages[%zu].tool_call_id", i);
        return api_bad(error, param, "%s must name the call whose result this is", param);
    }
    if (!read_content(json_object_get(message, "content"), i, strcmp(role, "assistant") == 0 && calls, &content, error)) {
        return false;
    }
    bool whole = json_object_set_new(out, "role", json_string(strcmp(role, "developer") == 0 ? "system" : role)) == 0;
    whole &= json_object_set_new(out, "content", content ? content : json_string("")) == 0;
    for (int k = 0; k < 3; k++) {
        json_t *value = body_member(message, others[k]);
        whole &= !value || json_object_set(out, others[k], value) == 0;
    }
    return whole || api_no_memory(error);
}

bool ask_messages(const json_t *body, json_t **variables, struct api_error *error)
{
    const json_t *messages = body_member(body, "messages");
    size_t i;
    json_t *message;
    bool begin_answer = true;
    *variables = NULL;
    if (!json_is_array(messages) || json_array_size(messages) == 0 || json_array_size(messages) > ASK_MESSAGES) {
        return api_bad(error, "messages", "messages must be an array of 1 to %d messages", ASK_MESSAGES);
    }
    if (!body_bool(body, "add_generation_prompt", &begin_answer, error)) {
        return false;
    }
    json_t *copies = json_array();
    bool ok = true;
    json_array_foreach(messages, i, message)
    {
        json_t *copy = json_object();
        ok = ok && read_message(message, i, copy, error);
        ok = json_array_append_new(copies, copy) == 0 ? ok : ok && api_no_memory(error);
    }
    if (!ok) {
        json_decref(copies);
        return false;
    }
    *variables = json_pack("{s:o, s:b}", "messages", copies, "add_generation_prompt", (int)begin_answer);
    return *variables || api_no_memory(error);
}

static bool too_long(const char *param, struct api_error *error)
{
    return api_fail(error, 400, "context_length_exceeded", param, "%s", graft_last_error());
}

static bool chat_tokens(struct ask *ask, const struct ask_limits *limits, struct api_error *error)
{
    if (!limits->format) {
        return api_fail(error, 400, "no_chat_template", "messages",
                        "the model has no chat template that can be used; /v1/completions takes text as it is");
    }
    char *text;
    if (!ask_variables(ask, limits, &text, error)) {
        return false;
    }
    enum graft_status status = graft_prompt(limits->model, text, ask->tokens, limits->n_ctx, &ask->n_tokens);
    graft_ctx_text_free(limits->ctx, &text);
    switch (status) {
    case GRAFT_OK:
        return true;
    case GRAFT_E_CONTEXT_FULL:
        return too_long("messages", error);
    case GRAFT_E_MEMORY:
    case GRAFT_E_BUDGET:
        return api_fail(error, 503, "over_budget", NULL, "%.500s", graft_last_error());
    default:
        return api_bad(error, "messages", "the chat template refuses the messages: %.500s", graft_last_error());
    }
}

static bool text_tokens(struct ask *ask, const struct ask_limits *limits, const json_t *text, struct api_error *error)
{
    size_t count = 0;
    enum graft_status status = graft_tokenize(limits->model, json_string_value(text), json_string_length(text), true, true,
                                              ask->tokens, limits->n_ctx, &count);
    ask->n_tokens = (uint32_t)count;
    if (status == GRAFT_E_LIMIT) {
        return api_fail(error, 400, "context_length_exceeded", "prompt",
                        "the prompt has %zu tokens or more, the context has room for %u", count, limits->n_ctx);
    }
    return status == GRAFT_OK || api_bad(error, "prompt", "%.500s", graft_last_error());
}

static bool id_tokens(struct ask *ask, const struct ask_limits *limits, const json_t *ids, struct api_error *error)
{
    size_t i;
    json_t *id;
    if (json_array_size(ids) > limits->n_ctx) {
        return api_fail(error, 400, "context_length_exceeded", "prompt",
                        "the prompt has %zu tokens, the context has room for %u", json_array_size(ids), limits->n_ctx);
    }
    json_array_foreach(ids, i, id)
    {
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= limits->n_vocab) {
            return api_bad(error, "prompt", "prompt[%zu] is no token id; the vocabulary has 0 to %u", i, limits->n_vocab - 1);
        }
        ask->tokens[ask->n_tokens++] = (int32_t)json_integer_value(id);
    }
    return true;
}

static bool prompt_tokens(struct ask *ask, const struct ask_limits *limits, struct api_error *error)
{
    const json_t *prompt = body_member(ask->body, "prompt"), *first = json_array_get(prompt, 0);
    if (json_is_array(prompt) && (json_is_string(first) || json_is_array(first))) {
        if (json_array_size(prompt) != 1) {
            return api_bad(error, "prompt", "one prompt is answered at a time, %zu were given", json_array_size(prompt));
        }
        prompt = first;
    }
    bool ok = json_is_string(prompt)  ? text_tokens(ask, limits, prompt, error)
              : json_is_array(prompt) ? id_tokens(ask, limits, prompt, error)
                                      : api_bad(error, "prompt", "prompt must be a text or an array of token ids");
    return ok && (ask->n_tokens || api_bad(error, "prompt", "the prompt is empty"));
}

bool ask_prompt(struct ask *ask, const struct ask_limits *limits, struct api_error *error)
{
    ask->tokens = try_memory(limits->n_ctx + 1, sizeof *ask->tokens);
    if (!ask->tokens) {
        return api_no_memory(error);
    }
    bool ok = ask->chat ? chat_tokens(ask, limits, error) : prompt_tokens(ask, limits, error);
    const char *param = json_object_get(ask->body, "max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
    if (ok && (uint64_t)ask->n_tokens + ask->max_tokens > (uint64_t)limits->n_ctx + 1) {
        return api_fail(error, 400, "context_length_exceeded",
                        ask->max_tokens ? param
                        : ask->chat     ? "messages"
                                        : "prompt",
                        "the prompt has %u tokens and %u were asked for, the context has room for %u", ask->n_tokens,
                        ask->max_tokens, limits->n_ctx);
    }
    return ok;
}
