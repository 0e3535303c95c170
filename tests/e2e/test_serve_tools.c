// SPDX-License-Identifier: Apache-2.0
// graft serve with chat templates that have tool calls of their own: prompts as PyPI's jinja2 renders them, calls in the
// template's form.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "e2e/served.h"
#include "support/support.h"
#include "support/tiny_model.h"

static json_t *all;
static char model[GRAFT_TINY_PATH_BYTES];

// A server on a tiny model with this template of tests/golden/tools.json; returns the case.
// control: calls begin with a control token of it.
static const json_t *begin(const char *name, bool control)
{
    size_t i;
    json_t *test;
    const json_t *found = NULL;
    all = json_load_file(GRAFT_TEST_SOURCE_DIR "/golden/tools.json", 0, NULL);
    json_array_foreach(json_object_get(all, "native"), i, test)
    {
        found = strcmp(json_string_value(json_object_get(test, "name")), name) == 0 ? test : found;
    }
    ck_assert_ptr_nonnull(found);
    struct graft_tiny_model tiny = {.no_template = true, .n_ctx = 4096};
    struct graft_test_gguf b = {0};
    char *source = strdup(json_string_value(json_object_get(found, "template")));
    for (char *mark = control ? strstr(source, "[TOOL_CALLS]") : NULL; mark; mark = strstr(source, "[TOOL_CALLS]")) {
        memcpy(mark, "<|im_start|>", 12);
    }
    graft_tiny_model_build(&b, &tiny);
    graft_test_gguf_text(&b, "tokenizer.chat_template", source);
    graft_tiny_save(&b, model);
    graft_test_gguf_free(&b);
    free(source);
    served_begin("-m '%s' -c 4096", model);
    return found;
}

static void finish(void)
{
    served_end();
    remove(model);
    json_decref(all);
}

static json_t *ask(const char *path, json_t *body)
{
    char *text = json_dumps(body, 0);
    json_t *reply = post_json(path, text, 200);
    free(text);
    json_decref(body);
    return reply;
}

START_TEST(prompts_with_tools_are_those_of_the_template)
{
    static const char *const names[] = {"hermes", "arguments", "parameters", "typed"};
    const json_t *test = begin(names[_i], false);
    json_t *body = json_deep_copy(json_object_get(test, "variables"));
    json_object_set(body, "tools", json_object_get(all, "tools"));
    json_t *reply = ask("/apply-template", body);
    ck_assert_str_eq(json_string_value(json_object_get(reply, "prompt")), json_string_value(json_object_get(test, "expected")));
    json_decref(reply);
    finish();
}
END_TEST

START_TEST(calls_come_in_the_form_of_the_template)
{
    static const char *const names[] = {"mistral", "call ids", "typed", "ids are names", "llama", "arguments"};
    begin(names[_i], _i == 5);
    for (int i = 0; i < 4; i++) {
        json_t *body = json_pack("{s:[{s:s, s:s}], s:O, s:s, s:i, s:i, s:b}", "messages", "role", "user", "content", "Do it.",
                                 "tools", json_object_get(all, "tools"), "tool_choice", "required", "seed", i + 1, "max_tokens",
                                 300, "parallel_tool_calls", i % 2);
        json_t *reply = ask("/v1/chat/completions", body);
        const json_t *choice = json_array_get(json_object_get(reply, "choices"), 0);
        const char *reason = json_string_value(json_object_get(choice, "finish_reason"));
        const json_t *message = json_object_get(choice, "message"), *calls = json_object_get(message, "tool_calls");
        if (strcmp(reason, "length") == 0) { // a random model likes long strings
            json_decref(reply);
            continue;
        }
        ck_assert_str_eq(reason, "tool_calls");
        ck_assert(json_is_null(json_object_get(message, "content")));
        ck_assert(json_array_size(calls) >= 1 && (i % 2 || json_array_size(calls) == 1));
        for (size_t k = 0; k < json_array_size(calls); k++) {
            const json_t *call = json_array_get(calls, k), *function = json_object_get(call, "function");
            const char *name = json_string_value(json_object_get(function, "name"));
            json_t *arguments = json_loads(json_string_value(json_object_get(function, "arguments")), 0, NULL);
            ck_assert_msg(json_is_object(arguments), "%s", json_string_value(json_object_get(function, "arguments")));
            bool weather = strcmp(name, "get_weather") == 0;
            ck_assert(weather ? json_is_string(json_object_get(arguments, "place"))
                              : strcmp(name, "add-note") == 0 && json_is_array(json_object_get(arguments, "tags")));
            const char *id = json_string_value(json_object_get(call, "id"));
            ck_assert(_i == 1 ? strlen(id) == 9 : _i == 3 ? strncmp(id, "functions.", 10) == 0 : strncmp(id, "call_", 5) == 0);
            json_decref(arguments);
        }
        json_decref(reply);
    }
    finish();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serve tools");
    TCase *tests = tcase_create("serve tools");
    tcase_set_timeout(tests, 240);
    tcase_add_checked_fixture(tests, command_begin, command_end);
    tcase_add_loop_test(tests, prompts_with_tools_are_those_of_the_template, 0, 4);
    tcase_add_loop_test(tests, calls_come_in_the_form_of_the_template, 0, 6);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
