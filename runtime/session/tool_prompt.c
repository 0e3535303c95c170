// SPDX-License-Identifier: Apache-2.0
// Messages with functions, calls and results, as OpenAI's clients write them, into what a chat template takes.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/session/session.h"
#include "runtime/text/tool_format.h"

// What is kept while the messages are gone through.
struct prompt {
    const struct graft_tool_format *format;
    const struct graft_tools *tools;
    json_t *calls;    // id as given -> {"id": as the template has it, "name"}
    json_t *messages; // so far
    uint32_t n_calls;
    bool in_results; // the last message holds results of calls
};

static enum graft_status no_memory(void)
{
    return graft_fail(GRAFT_E_MEMORY, "no memory for messages");
}

// ---- ids ----

static bool is_short_id(const char *id)
{
    size_t n = 0;
    while ((id[n] >= '0' && id[n] <= '9') || ((id[n] | 32) >= 'a' && (id[n] | 32) <= 'z')) {
        n++;
    }
    return n == GRAFT_TOOL_SHORT_ID && !id[n];
}

// The id as the template takes it: of the same id always the same.
static json_t *id_of(const struct prompt *prompt, const char *id, const char *name)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    char text[GRAFT_TOOL_ID_BYTES];
    uint64_t hash = 0xcbf29ce484222325u; // FNV-1a
    switch (prompt->format->ids) {
    case GRAFT_TOOL_IDS_NINE:
        for (const char *p = id; *p; p++) {
            hash = (hash ^ (uint8_t)*p) * 0x100000001b3u;
        }
        for (int i = 0; i < GRAFT_TOOL_SHORT_ID; i++, hash /= 62) {
            text[i] = digits[hash % 62];
        }
        text[GRAFT_TOOL_SHORT_ID] = 0;
        return json_string(is_short_id(id) ? id : text);
    case GRAFT_TOOL_IDS_NAME:
        snprintf(text, sizeof text, "functions.%.*s:%" PRIu32, GRAFT_MAX_TOOL_NAME_BYTES, name, prompt->n_calls);
        return json_string(strncmp(id, "functions.", 10) == 0 ? id : text);
    default:
        return json_string(id);
    }
}

// ---- calls ----

// Arguments as an object; a new reference.
static enum graft_status read_arguments(const json_t *given, size_t message, size_t call, json_t **out)
{
    const char *text = json_string_value(given);
    bool none = !given || json_is_null(given) || (text && text[strspn(text, " \n\r\t")] == 0);
    *out = none                    ? json_object()
           : text                  ? json_loadb(text, json_string_length(given), JSON_REJECT_DUPLICATES, NULL)
           : json_is_object(given) ? json_incref((json_t *)(uintptr_t)given)
                                   : NULL;
    if (!json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        return graft_fail(GRAFT_E_ARGUMENT, "messages[%zu].tool_calls[%zu].function.arguments is no JSON object", message,
                          call);
    }
    return GRAFT_OK;
}

// {"id", "type", "function": {"name", "arguments"}} with an object; a new reference.
static enum graft_status read_call(struct prompt *prompt, const json_t *given, size_t message, size_t i, json_t **out)
{
    const json_t *function = json_object_get(given, "function");
    const char *name = json_string_value(json_object_get(function, "name")),
               *id = json_string_value(json_object_get(given, "id"));
    json_t *arguments;
    if (!name || !*name) {
        return graft_fail(GRAFT_E_ARGUMENT, "messages[%zu].tool_calls[%zu].function.name is missing", message, i);
    }
    GRAFT_TRY(read_arguments(json_object_get(function, "arguments"), message, i, &arguments));
    json_t *own = id_of(prompt, id ? id : "", name);
    prompt->n_calls++;
    if (id) {
        json_object_set_new(prompt->calls, id, json_pack("{s:O, s:s}", "id", own, "name", name));
    }
    *out =
        json_pack("{s:o, s:s, s:{s:s, s:o}}", "id", own, "type", "function", "function", "name", name, "arguments", arguments);
    return *out ? GRAFT_OK : no_memory();
}

static enum graft_status read_calls(struct prompt *prompt, const json_t *given, size_t message, json_t **out)
{
    size_t i;
    json_t *item, *call;
    *out = json_array();
    json_array_foreach(given, i, item)
    {
        enum graft_status status = read_call(prompt, item, message, i, &call);
        if (status != GRAFT_OK || json_array_append_new(*out, call) != 0) {
            json_decref(*out);
            *out = NULL;
            return status != GRAFT_OK ? status : no_memory();
        }
    }
    return GRAFT_OK;
}

// JSON text instead of objects, for templates that want it.
static enum graft_status arguments_to_text(json_t *calls)
{
    size_t i;
    json_t *call;
    json_array_foreach(calls, i, call)
    {
        json_t *function = json_object_get(call, "function");
        char *text = json_dumps(json_object_get(function, "arguments"), 0);
        bool ok = text && json_object_set_new(function, "arguments", json_string(text)) == 0;
        free(text);
        if (!ok) {
            return no_memory();
        }
    }
    return GRAFT_OK;
}

// content, and behind it what a line holds, as a text of its own line.
static json_t *joined(const json_t *content, const struct graft_line *line)
{
    size_t n = json_string_length(content);
    struct graft_line all = {.ctx = line->ctx};
    if (n) {
        graft_line_add_bytes(&all, json_string_value(content), n);
        graft_line_add(&all, "\n");
    }
    graft_line_add_bytes(&all, line->text ? line->text : "", line->length);
    json_t *out =
        all.status == GRAFT_OK && line->status == GRAFT_OK ? json_stringn(all.text ? all.text : "", all.length) : NULL;
    GRAFT_FREE(all.ctx, &all.text);
    return out;
}

static enum graft_status add_answer(struct prompt *prompt, const json_t *message, size_t i)
{
    const struct graft_tool_format *format = prompt->format;
    const json_t *content = json_object_get(message, "content");
    json_t *copy = json_copy((json_t *)(uintptr_t)message), *calls;
    enum graft_status status = read_calls(prompt, json_object_get(message, "tool_calls"), i, &calls);
    if (status == GRAFT_OK && format->native_calls) {
        status = format->text_arguments ? arguments_to_text(calls) : GRAFT_OK;
        bool empty = json_string_length(content) == 0 && !json_is_array(content);
        json_object_set(copy, "tool_calls", calls);
        if (empty) {
            json_object_set_new(copy, "content", format->null_content ? json_null() : json_string(""));
        }
    } else if (status == GRAFT_OK) {
        struct graft_line line = {.ctx = format->ctx};
        graft_tool_write(format, calls, &line);
        json_object_del(copy, "tool_calls");
        status = json_object_set_new(copy, "content", joined(content, &line)) == 0 ? GRAFT_OK : no_memory();
        GRAFT_FREE(line.ctx, &line.text);
    }
    json_decref(calls);
    if (status != GRAFT_OK) {
        json_decref(copy);
        return status;
    }
    return json_array_append_new(prompt->messages, copy) == 0 ? GRAFT_OK : no_memory();
}

// ---- results ----

static enum graft_status add_result(struct prompt *prompt, const json_t *message)
{
    const char *id = json_string_value(json_object_get(message, "tool_call_id"));
    const json_t *call = id ? json_object_get(prompt->calls, id) : NULL, *content = json_object_get(message, "content");
    if (prompt->format->native_calls) {
        json_t *copy = json_copy((json_t *)(uintptr_t)message);
        if (call) {
            json_object_set(copy, "tool_call_id", json_object_get(call, "id"));
        }
        if (call && !json_object_get(copy, "name")) {
            json_object_set(copy, "name", json_object_get(call, "name"));
        }
        return json_array_append_new(prompt->messages, copy) == 0 ? GRAFT_OK : no_memory();
    }
    struct graft_line line = {.ctx = prompt->format->ctx};
    graft_line_add(&line, "<tool_response>\n");
    graft_line_add_bytes(&line, json_string_length(content) ? json_string_value(content) : "", json_string_length(content));
    graft_line_add(&line, "\n</tool_response>");
    json_t *last = prompt->in_results ? json_array_get(prompt->messages, json_array_size(prompt->messages) - 1) : NULL;
    json_t *text = joined(json_object_get(last, "content"), &line);
    bool ok =
        text && (last ? json_object_set_new(last, "content", text) == 0
                      : json_array_append_new(prompt->messages, json_pack("{s:s, s:o}", "role", "user", "content", text)) == 0);
    GRAFT_FREE(line.ctx, &line.text);
    return ok ? GRAFT_OK : no_memory();
}

// ---- functions ----

static void describe_tools(const struct prompt *prompt, struct graft_line *line)
{
    size_t i;
    json_t *tool;
    json_t *example =
        json_pack("[{s:s, s:{s:s, s:{s:s}}}]", "id", "123456789", "function", "name", "NAME", "arguments", "ARGUMENT", "VALUE");
    graft_line_add(line,
                   "You can call functions. These are the functions, each a JSON object with a name, what it does and the "
                   "JSON schema of its arguments:\n<tools>\n");
    json_array_foreach(prompt->tools->list, i, tool)
    {
        graft_tool_write_json(json_object_get(tool, "function"), line);
        graft_line_add(line, "\n");
    }
    graft_line_add(line, "</tools>\nTo call one, write its name and its arguments in exactly this form%s:\n",
                   prompt->format->parallel ? ", once for every call" : "");
    graft_tool_write(prompt->format, example, line);
    graft_line_add(line,
                   "\nand end your answer. The result comes in the next message%s. Answer in plain text where no function "
                   "is needed.",
                   prompt->format->native_calls ? "" : ", between <tool_response> and </tool_response>");
    json_decref(example);
}

// A system message that lists the functions: part of the one that is there, or a new one, or part of the first user's.
static enum graft_status add_description(struct prompt *prompt)
{
    struct graft_line line = {.ctx = prompt->format->ctx};
    json_t *messages = prompt->messages, *first = json_array_get(messages, 0);
    const char *role = json_string_value(json_object_get(first, "role"));
    bool system = role && strcmp(role, "system") == 0;
    describe_tools(prompt, &line);
    bool ok = line.status == GRAFT_OK;
    if (ok && !system && prompt->format->system_role) {
        json_t *text = json_stringn(line.text, line.length);
        ok = text && json_array_insert_new(messages, 0, json_pack("{s:s, s:o}", "role", "system", "content", text)) == 0;
    } else if (ok && system) {
        json_t *text = joined(json_object_get(first, "content"), &line), *copy = json_copy(first);
        ok = text && copy && json_object_set_new(copy, "content", text) == 0 && json_array_set_new(messages, 0, copy) == 0;
    } else if (ok) {
        json_t *copy = json_copy(first);
        graft_line_add(&line, "\n");
        graft_line_add_bytes(
            &line,
            json_string_length(json_object_get(first, "content")) ? json_string_value(json_object_get(first, "content")) : "",
            json_string_length(json_object_get(first, "content")));
        ok = copy && json_object_set_new(copy, "content", joined(NULL, &line)) == 0 &&
             json_array_set_new(messages, 0, copy) == 0;
    }
    GRAFT_FREE(line.ctx, &line.text);
    return ok ? GRAFT_OK : line.status != GRAFT_OK ? line.status : no_memory();
}

// All digits of numbers stay.
static enum graft_status to_text(struct graft_ctx *ctx, const json_t *value, char **out)
{
    size_t length = json_dumpb(value, NULL, 0, JSON_COMPACT);
    GRAFT_TRY(length ? GRAFT_NEW(ctx, GRAFT_MEM_HOST, out, length + 1, "the template's variables") : no_memory());
    if (json_dumpb(value, *out, length, JSON_COMPACT) != length) {
        GRAFT_FREE(ctx, out);
        return no_memory();
    }
    return GRAFT_OK;
}

static enum graft_status add_messages(struct prompt *prompt, const json_t *given)
{
    size_t i;
    json_t *message;
    json_array_foreach(given, i, message)
    {
        const char *role = json_string_value(json_object_get(message, "role"));
        bool calls = role && strcmp(role, "assistant") == 0 && json_array_size(json_object_get(message, "tool_calls")) > 0;
        bool result = role && strcmp(role, "tool") == 0;
        enum graft_status status = calls                                               ? add_answer(prompt, message, i)
                                   : result                                            ? add_result(prompt, message)
                                   : json_array_append(prompt->messages, message) == 0 ? GRAFT_OK
                                                                                       : no_memory();
        GRAFT_TRY(status);
        prompt->in_results = result;
    }
    return GRAFT_OK;
}

enum graft_status graft_tool_prompt(const struct graft_tool_format *format, const struct graft_tools *tools,
                                    const char *variables_json, char **text)
{
    *text = NULL;
    json_t *variables = json_loads(variables_json, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
    const json_t *messages = json_object_get(variables, "messages");
    if (!json_is_object(variables) || !json_is_array(messages)) {
        json_decref(variables);
        return graft_fail(GRAFT_E_ARGUMENT, "the template's variables must be a JSON object with an array of messages");
    }
    struct prompt prompt = {.format = format, .tools = tools, .calls = json_object(), .messages = json_array()};
    bool show = tools && tools->count && tools->choice != GRAFT_TOOL_NONE;
    enum graft_status status = add_messages(&prompt, messages);
    status = status == GRAFT_OK && show && !format->native_tools ? add_description(&prompt) : status;
    json_object_set(variables, "messages", prompt.messages);
    json_object_del(variables, "tools");
    if (show && format->native_tools) {
        json_object_set(variables, "tools", tools->list);
    }
    status = status == GRAFT_OK ? to_text(format->ctx, variables, text) : status;
    json_decref(prompt.calls);
    json_decref(prompt.messages);
    json_decref(variables);
    return status;
}
