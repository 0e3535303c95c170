// SPDX-License-Identifier: Apache-2.0
// Tool calls in public: the format of a template, the functions of a request.
#include <inttypes.h>

#include "platform/bytes.h"
#include "runtime/session/session.h"
#include "runtime/text/tool_format.h"

enum { MAX_CONTROLS = 16 };

// ---- formats ----

static enum graft_status find_format(struct graft_tool_format *format, const struct graft_vocabulary *vocabulary,
                                     const char *source)
{
    format->tokens = json_object();
    if (!format->tokens) {
        return graft_fail(GRAFT_E_MEMORY, "no memory for the template's variables");
    }
    GRAFT_TRY(graft_vocabulary_add_tokens(vocabulary, format->tokens));
    GRAFT_TRY(graft_template_create(format->ctx, &format->template_, source, strlen(source)));
    enum graft_status status = graft_tool_probe(format);
    graft_template_destroy(&format->template_);
    return status;
}

enum graft_status graft_tool_format_create(struct graft_ctx *ctx, struct graft_tool_format **out,
                                           const struct graft_vocabulary *vocabulary, const char *template_text)
{
    *out = NULL;
    const char *source = template_text ? template_text : vocabulary ? vocabulary->chat_template : NULL;
    if (!source) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "the file has no chat template (tokenizer.chat_template)");
    }
    struct graft_tool_format *format;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &format, 1, "a format of tool calls"));
    format->ctx = ctx;
    format->vocab = vocabulary ? vocabulary->vocab : NULL;
    enum graft_status status = find_format(format, vocabulary, source);
    if (status != GRAFT_OK) {
        graft_tool_format_destroy(&format);
        return status;
    }
    *out = format;
    return GRAFT_OK;
}

enum graft_status graft_model_tool_format(const struct graft_model *model, struct graft_tool_format **out)
{
    const struct graft_vocabulary *vocabulary;
    *out = NULL;
    GRAFT_TRY(graft_model_vocabulary(model, &vocabulary));
    return graft_tool_format_create(model->ctx, out, vocabulary, NULL);
}

void graft_tool_format_destroy(struct graft_tool_format **format)
{
    if (!format || !*format) {
        return;
    }
    struct graft_ctx *ctx = (*format)->ctx;
    graft_template_destroy(&(*format)->template_);
    json_decref((*format)->tokens);
    for (int i = 0; i < GRAFT_TOOL_TEXTS; i++) {
        GRAFT_FREE(ctx, &(*format)->texts[i]);
    }
    GRAFT_FREE(ctx, format);
}

void graft_tool_format_describe(const struct graft_tool_format *format, struct graft_tool_format_info *out)
{
    *out = (struct graft_tool_format_info){.style = format->style,
                                           .native_calls = format->native_calls,
                                           .native_tools = format->native_tools,
                                           .parallel = format->parallel,
                                           .begin = format->texts[GRAFT_TOOL_T_MARKER]};
}

// ---- the functions of a request ----

static const json_t *function_of(const struct graft_tools *tools, uint32_t index)
{
    return json_object_get(json_array_get(tools->list, index), "function");
}

const char *graft_tool_name(const struct graft_tools *tools, uint32_t index)
{
    return json_string_value(json_object_get(function_of(tools, index), "name"));
}

const json_t *graft_tool_parameters(const struct graft_tools *tools, uint32_t index)
{
    const json_t *parameters = json_object_get(function_of(tools, index), "parameters");
    return json_is_object(parameters) ? parameters : NULL;
}

uint32_t graft_tool_find(const struct graft_tools *tools, const char *name, size_t length)
{
    for (uint32_t i = 0; i < tools->count; i++) {
        const char *own = graft_tool_name(tools, i);
        if (strlen(own) == length && memcmp(own, name, length) == 0) {
            return i;
        }
    }
    return GRAFT_MAX_TOOLS;
}

static bool is_name(const char *name)
{
    size_t n = name ? strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.") : 0;
    return n > 0 && n <= GRAFT_MAX_TOOL_NAME_BYTES && !name[n];
}

static enum graft_status check_tool(struct graft_tools *tools, uint32_t i)
{
    const json_t *tool = json_array_get(tools->list, i), *function = json_object_get(tool, "function");
    const char *type = json_string_value(json_object_get(tool, "type")), *name = graft_tool_name(tools, i);
    const json_t *parameters = json_object_get(function, "parameters"), *strict = json_object_get(function, "strict"),
                 *description = json_object_get(function, "description");
    if (!type || strcmp(type, "function") != 0) {
        return graft_fail(GRAFT_E_ARGUMENT, "tools[%" PRIu32 "].type must be \"function\"", i);
    }
    if (!json_is_object(function)) {
        return graft_fail(GRAFT_E_ARGUMENT, "tools[%" PRIu32 "].function must be an object", i);
    }
    if (!is_name(name)) {
        return graft_fail(GRAFT_E_ARGUMENT, "tools[%" PRIu32 "].function.name must have 1 to %d of A-Z a-z 0-9 _ - .", i,
                          GRAFT_MAX_TOOL_NAME_BYTES);
    }
    if (description && !json_is_string(description) && !json_is_null(description)) {
        return graft_fail(GRAFT_E_ARGUMENT, "tools[%" PRIu32 "].function.description must be a text", i);
    }
    if (parameters && !json_is_object(parameters) && !json_is_null(parameters)) {
        return graft_fail(GRAFT_E_ARGUMENT, "tools[%" PRIu32 "].function.parameters must be a JSON schema, an object", i);
    }
    if (strict && !json_is_boolean(strict) && !json_is_null(strict)) {
        return graft_fail(GRAFT_E_ARGUMENT, "tools[%" PRIu32 "].function.strict must be true or false", i);
    }
    tools->count = i; // those in front
    if (graft_tool_find(tools, name, strlen(name)) < i) {
        return graft_fail(GRAFT_E_ARGUMENT, "tools[%" PRIu32 "].function.name: there are two functions %s", i, name);
    }
    tools->count = i + 1;
    return GRAFT_OK;
}

static enum graft_status read_tools(struct graft_tools *tools, const struct graft_tools_params *params)
{
    json_error_t error;
    tools->list = json_loads(params->tools_json ? params->tools_json : "[]", JSON_REJECT_DUPLICATES, &error);
    if (!json_is_array(tools->list)) {
        return tools->list ? graft_fail(GRAFT_E_ARGUMENT, "tools must be an array")
                           : graft_fail(GRAFT_E_ARGUMENT, "tools, line %d column %d: %s", error.line, error.column, error.text);
    }
    size_t count = json_array_size(tools->list);
    if (count > GRAFT_MAX_TOOLS) {
        return graft_fail(GRAFT_E_LIMIT, "tools has %zu functions, at most %d are allowed", count, GRAFT_MAX_TOOLS);
    }
    for (uint32_t i = 0; i < count; i++) {
        GRAFT_TRY(check_tool(tools, i));
    }
    tools->choice = params->choice;
    tools->single = params->single || params->choice == GRAFT_TOOL_NAMED_ONE;
    if (params->choice == GRAFT_TOOL_NAMED_ONE) {
        tools->chosen = params->name ? graft_tool_find(tools, params->name, strlen(params->name)) : GRAFT_MAX_TOOLS;
    }
    if (params->choice == GRAFT_TOOL_NAMED_ONE && tools->chosen == GRAFT_MAX_TOOLS) {
        return graft_fail(GRAFT_E_ARGUMENT, "tool_choice: tools has no function '%.64s'", params->name ? params->name : "");
    }
    if (params->choice == GRAFT_TOOL_REQUIRED && !count) {
        return graft_fail(GRAFT_E_ARGUMENT, "tool_choice: a call is required, and tools is empty");
    }
    return graft_tool_bind(tools, &tools->grammar);
}

enum graft_status graft_tools_create(const struct graft_tool_format *format, struct graft_tools **out,
                                     const struct graft_tools_params *params)
{
    struct graft_tools_params given = {0};
    struct graft_tools *tools;
    *out = NULL;
    if (params->size == 0 || params->size > sizeof given) {
        return graft_fail(GRAFT_E_ARGUMENT, "graft_tools_params.size is %zu, this library knows %zu", params->size,
                          sizeof given);
    }
    memcpy(&given, params, params->size);
    GRAFT_TRY(GRAFT_NEW(format->ctx, GRAFT_MEM_HOST, &tools, 1, "the functions of a request"));
    tools->format = format;
    enum graft_status status = read_tools(tools, &given);
    if (status != GRAFT_OK) {
        graft_tools_destroy(&tools);
        return status;
    }
    *out = tools;
    return GRAFT_OK;
}

void graft_tools_destroy(struct graft_tools **tools)
{
    if (tools && *tools) {
        struct graft_ctx *ctx = (*tools)->format->ctx;
        graft_grammar_destroy(&(*tools)->grammar);
        json_decref((*tools)->list);
        GRAFT_FREE(ctx, tools);
    }
}

const struct graft_grammar *graft_tools_grammar(const struct graft_tools *tools)
{
    return tools->grammar;
}

void graft_tools_controls(const struct graft_tools *tools, int32_t *ids, uint32_t capacity, uint32_t *count)
{
    const struct graft_tool_format *format = tools->format;
    uint32_t n = format->vocab && tools->choice != GRAFT_TOOL_NONE ? graft_vocab_size(format->vocab) : 0;
    *count = 0;
    for (uint32_t id = 0; id < n && *count < capacity && *count < MAX_CONTROLS; id++) {
        const char *name;
        uint64_t length;
        if (!graft_vocab_is_control(format->vocab, (int32_t)id) || graft_vocab_is_end(format->vocab, (int32_t)id) ||
            graft_vocab_piece(format->vocab, (int32_t)id, true, &name, &length) != GRAFT_OK || length < 2) {
            continue;
        }
        bool part = false;
        for (int i = 0; i < GRAFT_TOOL_TEXTS && !part; i++) {
            const char *text = format->texts[i] ? format->texts[i] : "";
            for (size_t left = strlen(text); left >= length && !part; left--, text++) {
                part = memcmp(text, name, (size_t)length) == 0;
            }
        }
        if (part) {
            ids[(*count)++] = (int32_t)id;
        }
    }
}
