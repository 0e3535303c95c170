// SPDX-License-Identifier: Apache-2.0
// Functions of a request: tools, tool_choice, parallel_tool_calls.
#include <stdlib.h>
#include <string.h>

#include "tools/serve/ask.h"

// What the library says begins with the member that is wrong: tools[2].function.name, messages[1].tool_calls[0].
bool ask_library_error(enum graft_status status, const char *param, struct api_error *error)
{
    const char *detail = graft_last_error();
    char member[72];
    size_t n = strcspn(detail, " :");
    bool named =
        (strncmp(detail, "tools", 5) == 0 || strncmp(detail, "tool_choice", 11) == 0 || strncmp(detail, "messages[", 9) == 0) &&
        n < sizeof member;
    snprintf(member, sizeof member, "%.*s", (int)(named ? n : 0), detail);
    if (status == GRAFT_E_MEMORY || status == GRAFT_E_BUDGET) {
        return api_fail(error, 503, "over_budget", NULL, "%.600s", detail);
    }
    return api_fail(error, 400, status == GRAFT_E_UNSUPPORTED ? "unsupported_schema" : "invalid_value", named ? member : param,
                    "%.600s", detail);
}

// "none", "auto", "required", or {"type": "function", "function": {"name"}}.
static bool read_choice(const struct ask *ask, struct graft_tools_params *params, struct api_error *error)
{
    const json_t *choice = body_member(ask->body, "tool_choice");
    const char *word = json_string_value(choice), *type = json_string_value(json_object_get(choice, "type"));
    static const char *const words[] = {"auto", "none", "required"};
    static const enum graft_tool_choice choices[] = {GRAFT_TOOL_AUTO, GRAFT_TOOL_NONE, GRAFT_TOOL_REQUIRED};
    for (int i = 0; i < 3 && word; i++) {
        if (strcmp(word, words[i]) == 0) {
            params->choice = choices[i];
            return true;
        }
    }
    params->name = json_string_value(json_object_get(json_object_get(choice, "function"), "name"));
    if (choice && (!type || strcmp(type, "function") != 0 || !params->name)) {
        return api_bad(error, "tool_choice",
                       "tool_choice is \"none\", \"auto\", \"required\" or {\"type\": \"function\", \"function\": {\"name\"}}");
    }
    params->choice = choice ? GRAFT_TOOL_NAMED_ONE : GRAFT_TOOL_AUTO;
    return true;
}

bool ask_tools(struct ask *ask, const struct ask_limits *limits, struct api_error *error)
{
    const json_t *list = body_member(ask->body, "tools");
    struct graft_tools_params params = {.size = sizeof params};
    bool parallel = true;
    if (list && !json_is_array(list)) {
        return api_bad(error, "tools", "tools must be an array");
    }
    if (!body_bool(ask->body, "parallel_tool_calls", &parallel, error) || !read_choice(ask, &params, error)) {
        return false;
    }
    bool calls = params.choice == GRAFT_TOOL_REQUIRED || params.choice == GRAFT_TOOL_NAMED_ONE;
    if (!ask->chat && (json_array_size(list) > 0 || calls)) {
        return api_fail(error, 400, "unsupported_parameter", "tools", "tools are for /v1/chat/completions");
    }
    if (calls && json_array_size(list) == 0) {
        return api_bad(error, "tool_choice", "tool_choice needs tools");
    }
    if (json_array_size(list) == 0 || !limits->format) {
        return true; // without a chat template the messages are refused
    }
    char *text = json_dumps(list, JSON_COMPACT);
    params.tools_json = text;
    params.single = !parallel;
    enum graft_status status = text ? graft_tools_create(limits->format, &ask->tools, &params) : GRAFT_E_MEMORY;
    free(text);
    if (status != GRAFT_OK) {
        return ask_library_error(status, "tools", error);
    }
    if (params.choice != GRAFT_TOOL_NONE) {
        graft_tools_controls(ask->tools, ask->shown, GRAFT_MAX_SHOWN, &ask->n_shown);
        ask->calls = true;
    }
    return true;
}

bool ask_variables(const struct ask *ask, const struct ask_limits *limits, char **text, struct api_error *error)
{
    json_t *variables;
    *text = NULL;
    if (!ask_messages(ask->body, &variables, error)) {
        return false;
    }
    char *given = json_dumps(variables, JSON_COMPACT);
    json_decref(variables);
    enum graft_status status = given ? graft_tool_prompt(limits->format, ask->tools, given, text) : GRAFT_E_MEMORY;
    free(given);
    return status == GRAFT_OK || ask_library_error(status, "messages", error);
}
