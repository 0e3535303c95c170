// SPDX-License-Identifier: Apache-2.0
// Tool calls: prompts and answers as PyPI's jinja2 renders them (tests/golden/make_tools.py), stored and, where they are there,
// of real templates; grammars; hostile answers.
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/plat.h"
#include "graft/tools.h"
#include "graft/model.h"
#include "runtime/text/jinja.h"
#include "runtime/text/tool_format.h"
#include "support/support.h"

enum { MOST = 16 };

// What the parser told.
struct heard {
    char text[65536], names[MOST][80], ids[MOST][GRAFT_TOOL_ID_BYTES], arguments[MOST][8192];
    uint32_t calls, ends;
    bool enough;
};

static void on_event(void *user, const struct graft_tool_event *event)
{
    struct heard *heard = user;
    switch (event->kind) {
    case GRAFT_TOOL_TEXT:
        strncat(heard->text, event->text, event->length);
        break;
    case GRAFT_TOOL_CALL:
        ck_assert_uint_eq(event->index, heard->calls);
        snprintf(heard->names[heard->calls], 80, "%s", event->name);
        snprintf(heard->ids[heard->calls++], GRAFT_TOOL_ID_BYTES, "%s", event->id);
        break;
    case GRAFT_TOOL_ARGUMENTS:
        ck_assert_uint_eq(event->index + 1, heard->calls);
        strncat(heard->arguments[event->index], event->text, event->length);
        break;
    case GRAFT_TOOL_CALL_END:
        ck_assert_uint_eq(event->index + 1, heard->calls);
        heard->ends++;
    }
}

// The answer in pieces of `step` bytes, characters whole.
static struct heard *hear(const struct graft_tools *tools, const char *answer, size_t step)
{
    static struct heard heard;
    struct graft_tool_parser *parser;
    uint32_t calls;
    memset(&heard, 0, sizeof heard);
    ck_assert_ok(graft_tool_parser_create(tools, &parser, on_event, &heard));
    for (size_t at = 0, length = strlen(answer); at < length;) {
        size_t end = at + step < length ? at + step : length;
        while (end < length && ((uint8_t)answer[end] & 0xc0) == 0x80) {
            end++;
        }
        ck_assert_ok(graft_tool_parser_push(parser, answer + at, end - at, &heard.enough));
        at = end;
    }
    ck_assert_ok(graft_tool_parser_end(parser, &calls));
    ck_assert_uint_eq(calls, heard.calls);
    graft_tool_parser_destroy(&parser);
    ck_assert_ptr_null(parser);
    return &heard;
}

static struct graft_tools *tools_with(const struct graft_tool_format *format, const json_t *list, enum graft_tool_choice choice,
                                      const char *name, bool single)
{
    struct graft_tools *tools;
    char *text = json_dumps(list, 0);
    struct graft_tools_params params = {
        .size = sizeof params, .tools_json = text, .choice = choice, .name = name, .single = single};
    ck_assert_ok(graft_tools_create(format, &tools, &params));
    free(text);
    return tools;
}

static bool grammar_takes(const struct graft_tools *tools, const char *text)
{
    struct graft_grammar_state *state;
    bool allowed = true;
    ck_assert_ptr_nonnull(graft_tools_grammar(tools));
    ck_assert_ok(graft_grammar_state_create(graft_tools_grammar(tools), &state));
    if (tools->format->thinks) { // the prompt ends inside of thoughts
        ck_assert_ok(graft_grammar_accept(state, "so <it> is</think>", 18, &allowed));
    }
    for (const char *p = text; *p && allowed; p++) {
        ck_assert_ok(graft_grammar_accept(state, p, 1, &allowed));
    }
    allowed = allowed && graft_grammar_complete(state);
    graft_grammar_state_destroy(&state);
    return allowed;
}

// ---- native formats ----

static void check_answer(const char *name, const struct graft_tools *tools, const struct graft_tools *bound,
                         const json_t *answer)
{
    static const size_t steps[] = {1, 2, 3, 7, 1000000};
    const json_t *calls = json_object_get(answer, "calls");
    const char *text = json_string_value(json_object_get(answer, "text"));
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
        struct heard *heard = hear(tools, text, steps[s]);
        ck_assert_msg(heard->calls == json_array_size(calls) && heard->ends == heard->calls, "%s: %u calls, %u ends in %s",
                      name, heard->calls, heard->ends, text);
        ck_assert_msg(!*heard->text, "%s: text \"%s\" beside calls in %s", name, heard->text, text);
        for (uint32_t i = 0; i < heard->calls; i++) {
            const json_t *call = json_array_get(calls, i);
            json_t *arguments = json_loads(heard->arguments[i], 0, NULL);
            ck_assert_str_eq(heard->names[i], json_string_value(json_object_get(call, "name")));
            ck_assert_msg(json_equal(arguments, json_object_get(call, "arguments")), "%s: arguments are %s in %s", name,
                          heard->arguments[i], text);
            json_decref(arguments);
        }
    }
    ck_assert_msg(grammar_takes(bound, text), "%s: the grammar refuses %s\n%.2000s", name, text,
                  strstr(graft_grammar_text(graft_tools_grammar(bound)), "\nr0 "));
}

static void check_native(struct graft_ctx *ctx, const json_t *test, const char *source, const json_t *list)
{
    static const char *const styles[] = {"object", "named", "parameters"};
    const char *name = json_string_value(json_object_get(test, "name"));
    const char *marker = json_string_value(json_object_get(test, "marker"));
    struct graft_tool_format *format;
    struct graft_tool_format_info info;
    // bos_token and eos_token come from a vocabulary, which there is none of.
    char *with_tokens = malloc(strlen(source) + 100);
    sprintf(with_tokens, "{%%- set bos_token = '<s>' -%%}{%%- set eos_token = '</s>' -%%}%s", source);
    ck_assert_ok(graft_tool_format_create(ctx, &format, NULL, with_tokens));
    graft_tool_format_describe(format, &info);
    ck_assert_msg(info.native_calls, "%s: its calls are not understood", name);
    ck_assert_msg(strcmp(styles[info.style], json_string_value(json_object_get(test, "style"))) == 0, "%s: style %s", name,
                  styles[info.style]);
    ck_assert_msg(info.parallel == json_is_true(json_object_get(test, "parallel")), "%s: parallel %d", name, info.parallel);
    ck_assert_msg(!marker || strcmp(info.begin, marker) == 0, "%s: begins with \"%s\"", name, info.begin);
    struct graft_tools *tools = tools_with(format, list, GRAFT_TOOL_AUTO, NULL, false),
                       *bound = tools_with(format, list, GRAFT_TOOL_REQUIRED, NULL, false);
    ck_assert_ptr_null(graft_tools_grammar(tools));
    if (info.native_tools) { // the prompt is the template's own
        char *variables = json_dumps(json_object_get(test, "variables"), 0), *prompt, *text;
        size_t length;
        ck_assert_ok(graft_tool_prompt(format, tools, variables, &prompt));
        ck_assert_ok(graft_vocabulary_render(ctx, NULL, with_tokens, prompt, &text, &length));
        const char *expected = json_string_value(json_object_get(test, "expected"));
        size_t same = 0;
        while (text[same] && text[same] == expected[same]) {
            same++;
        }
        ck_assert_msg(text[same] == expected[same], "%s: the prompt has at %zu: %.200s\nnot: %.200s", name, same, text + same,
                      expected + same);
        graft_ctx_text_free(ctx, &text);
        graft_ctx_text_free(ctx, &prompt);
        free(variables);
    }
    size_t i;
    json_t *answer;
    json_array_foreach(json_object_get(test, "answers"), i, answer)
    {
        check_answer(name, tools, bound, answer);
        // An unknown function and a number that is none are refused, and so is half an answer.
        char *text = strdup(json_string_value(json_object_get(answer, "text")));
        char *cut = strdup(text), *at = strstr(text, i == 2 ? "add-note" : i == 4 ? "add-note" : "get_weather");
        cut[strlen(cut) - 1] = 0;
        ck_assert_msg(!grammar_takes(bound, cut), "%s: the grammar takes %s", name, cut);
        at[1] = 'X';
        ck_assert_msg(!grammar_takes(bound, text), "%s: the grammar takes %s", name, text);
        if (i != 4) {
            struct heard *heard = hear(tools, text, 5);
            // Where one mark stands in front of all calls, the first one decides.
            ck_assert_msg(heard->calls == 0 || (heard->calls == 1 && i == 3), "%s: %u calls in %s", name, heard->calls, text);
            ck_assert_msg(heard->calls || strcmp(heard->text, text) == 0, "%s: the text is %s, not %s", name, heard->text,
                          text);
        }
        at[1] = i == 2 || i == 4 ? 'd' : 'e';
        free(cut);
        free(text);
    }
    graft_tools_destroy(&bound);
    graft_tools_destroy(&tools);
    graft_tool_format_destroy(&format);
    free(with_tokens);
}

static json_t *stored(void)
{
    json_error_t error;
    json_t *all = json_load_file(GRAFT_TEST_SOURCE_DIR "/golden/tools.json", 0, &error);
    ck_assert_msg(all != NULL, "%s", error.text);
    return all;
}

START_TEST(calls_are_those_of_the_template)
{
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    json_t *all = stored(), *test;
    size_t i;
    json_array_foreach(json_object_get(all, "native"), i, test)
    {
        check_native(ctx, test, json_string_value(json_object_get(test, "template")), json_object_get(all, "tools"));
    }
    ck_assert_uint_ge(i, 13);
    json_decref(all);
    graft_ctx_destroy(&ctx);
    ck_assert_uint_eq(alloc.live, 0);
}
END_TEST

START_TEST(real_templates_call_as_they_do_in_jinja2)
{
    const char *shared = getenv("GRAFT_TEST_SHARED_DIR"), *python = getenv("GRAFT_TEST_PYTHON");
    char dir[512], command[1600];
    python = python ? python : "python3";
    snprintf(dir, sizeof dir, "%s/data/templates", shared ? shared : GRAFT_TEST_SHARED_DIR);
    snprintf(command, sizeof command, "'%s' -c 'import jinja2' 2>/dev/null", python);
    if (access(dir, R_OK) != 0 || system(command) != 0) {
        printf("skipped: no real templates in %s, or no python3 with jinja2\n", dir);
        return;
    }
    snprintf(command, sizeof command, "'%s' '%s/golden/make_tools.py' --real '%s'", python, GRAFT_TEST_SOURCE_DIR, dir);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    json_error_t error;
    json_t *all = json_loadf(pipe, 0, &error), *test;
    pclose(pipe);
    ck_assert_msg(all != NULL, "%s", error.text);
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    size_t i;
    json_array_foreach(json_object_get(all, "native"), i, test)
    {
        char path[1024], *source;
        uint64_t length;
        snprintf(path, sizeof path, "%s/%s", dir, json_string_value(json_object_get(test, "file")));
        ck_assert_ok(graft_file_read(ctx, path, 1 << 20, &source, &length));
        check_native(ctx, test, source, json_object_get(all, "tools"));
        GRAFT_FREE(ctx, &source);
    }
    printf("%zu real templates call as in jinja2\n", i);
    ck_assert_uint_ge(i, 20);
    json_decref(all);
    graft_ctx_destroy(&ctx);
}
END_TEST

// ---- what has no format of its own ----

static struct graft_tool_format *format_of(struct graft_ctx *ctx, const json_t *all, const char *kind, const char *name)
{
    size_t i;
    json_t *test;
    struct graft_tool_format *format = NULL;
    json_array_foreach(json_object_get(all, kind), i, test)
    {
        if (strcmp(json_string_value(json_object_get(test, "name")), name) == 0) {
            ck_assert_ok(graft_tool_format_create(ctx, &format, NULL, json_string_value(json_object_get(test, "template"))));
        }
    }
    ck_assert_ptr_nonnull(format);
    return format;
}

static const char *prompt_of(const struct graft_tool_format *format, const struct graft_tools *tools, const char *messages)
{
    static char text[65536];
    char *out;
    snprintf(text, sizeof text, "{\"messages\": %s}", messages);
    ck_assert_ok(graft_tool_prompt(format, tools, text, &out));
    snprintf(text, sizeof text, "%s", out);
    graft_ctx_text_free(format->ctx, &out);
    return text;
}

#define TWO_CALLS                                                                                                              \
    "[{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": "      \
    "\"call_1\", "                                                                                                             \
    "\"type\": \"function\", \"function\": {\"name\": \"get_weather\", \"arguments\": \"{\\\"place\\\": \\\"Bern\\\"}\"}}, "   \
    "{\"id\": \"call_2\", "                                                                                                    \
    "\"type\": \"function\", \"function\": {\"name\": \"add-note\", \"arguments\": \"\"}}]}, {\"role\": \"tool\", "            \
    "\"tool_call_id\": "                                                                                                       \
    "\"call_1\", \"content\": \"rain\"}, {\"role\": \"tool\", \"tool_call_id\": \"call_2\", \"content\": \"kept\"}]"

START_TEST(templates_without_calls_are_asked_in_a_system_message)
{
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    json_t *all = stored();
    static const char *const names[] = {"none", "no system", "tools only"};
    for (int i = 0; i < 3; i++) {
        struct graft_tool_format_info info;
        struct graft_tool_format *format = format_of(ctx, all, "plain", names[i]);
        graft_tool_format_describe(format, &info);
        ck_assert(!info.native_calls && !info.native_tools && info.parallel);
        struct graft_tools *tools = tools_with(format, json_object_get(all, "tools"), GRAFT_TOOL_AUTO, NULL, false);
        json_t *out = json_loads(prompt_of(format, tools, TWO_CALLS), 0, NULL), *messages = json_object_get(out, "messages");
        bool system = i != 1;
        ck_assert_uint_eq(json_array_size(messages), 3u + system);
        ck_assert_ptr_null(json_object_get(out, "tools"));
        const json_t *first = json_array_get(messages, 0), *answer = json_array_get(messages, 1u + system),
                     *results = json_array_get(messages, 2u + system);
        const char *text = json_string_value(json_object_get(first, "content"));
        ck_assert_str_eq(json_string_value(json_object_get(first, "role")), system ? "system" : "user");
        ck_assert(strstr(text, "\"name\": \"get_weather\"") && strstr(text, "\"required\": [\"text\", \"tags\"]") &&
                  strstr(text, "<tool_call>\n{\"name\": \"NAME\", \"arguments\": {\"ARGUMENT\": \"VALUE\"}}\n</tool_call>"));
        ck_assert(system || strcmp(text + strlen(text) - 3, "\nHi") == 0);
        ck_assert_str_eq(json_string_value(json_object_get(answer, "content")),
                         "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Bern\"}}\n</tool_call>\n"
                         "<tool_call>\n{\"name\": \"add-note\", \"arguments\": {}}\n</tool_call>");
        ck_assert_ptr_null(json_object_get(answer, "tool_calls"));
        ck_assert_str_eq(json_string_value(json_object_get(results, "role")), "user");
        ck_assert_str_eq(json_string_value(json_object_get(results, "content")),
                         "<tool_response>\nrain\n</tool_response>\n<tool_response>\nkept\n</tool_response>");
        json_decref(out);
        graft_tools_destroy(&tools);
        // Without functions nothing is said of them.
        tools = tools_with(format, json_object_get(all, "tools"), GRAFT_TOOL_NONE, NULL, false);
        ck_assert_str_eq(prompt_of(format, tools, "[{\"role\":\"user\",\"content\":\"a\"}]"),
                         "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}");
        ck_assert_uint_eq(hear(tools, "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {}}\n</tool_call>", 4)->calls,
                          0);
        graft_tools_destroy(&tools);
        graft_tool_format_destroy(&format);
    }
    json_decref(all);
    graft_ctx_destroy(&ctx);
    ck_assert_uint_eq(alloc.live, 0);
}
END_TEST

START_TEST(ids_are_those_the_template_takes)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    json_t *all = stored();
    struct graft_tool_format *format = format_of(ctx, all, "native", "mistral");
    json_t *out = json_loads(prompt_of(format, NULL, TWO_CALLS), 0, NULL), *messages = json_object_get(out, "messages");
    const json_t *calls = json_object_get(json_array_get(messages, 1), "tool_calls");
    for (size_t i = 0; i < 2; i++) {
        const char *id = json_string_value(json_object_get(json_array_get(calls, i), "id"));
        ck_assert_uint_eq(strlen(id), 9);
        ck_assert_str_eq(id, json_string_value(json_object_get(json_array_get(messages, 2 + i), "tool_call_id")));
        ck_assert_str_eq(json_string_value(json_object_get(json_array_get(messages, 2 + i), "name")),
                         i ? "add-note" : "get_weather");
    }
    ck_assert_str_ne(json_string_value(json_object_get(json_array_get(calls, 0), "id")),
                     json_string_value(json_object_get(json_array_get(calls, 1), "id")));
    json_decref(out);
    graft_tool_format_destroy(&format);
    format = format_of(ctx, all, "native", "ids are names");
    ck_assert_ptr_nonnull(strstr(prompt_of(format, NULL, TWO_CALLS), "functions.add-note:1"));
    graft_tool_format_destroy(&format);
    json_decref(all);
    graft_ctx_destroy(&ctx);
}
END_TEST

// ---- choices ----

START_TEST(choices_bind_answers)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    json_t *all = stored(), *list = json_object_get(all, "tools");
    struct graft_tool_format *format = format_of(ctx, all, "native", "hermes");
    static const char one[] = "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"place\": \"a\"}}\n</tool_call>",
                      other[] =
                          "<tool_call>\n{\"name\": \"add-note\", \"arguments\": {\"text\": \"a\", \"tags\": []}}\n</tool_call>";
    char both[512];
    snprintf(both, sizeof both, "%s%s", one, other);
    struct graft_tools *tools = tools_with(format, list, GRAFT_TOOL_REQUIRED, NULL, true);
    ck_assert(grammar_takes(tools, one) && grammar_takes(tools, other) && !grammar_takes(tools, both) &&
              !grammar_takes(tools, "Hi"));
    ck_assert(!grammar_takes(tools, "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"place\": 5}}\n</tool_call>"));
    ck_assert(!grammar_takes(tools, "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {}}\n</tool_call>"));
    struct heard *heard = hear(tools, both, 3);
    ck_assert(heard->calls == 1 && heard->enough && !*heard->text);
    graft_tools_destroy(&tools);
    tools = tools_with(format, list, GRAFT_TOOL_NAMED_ONE, "add-note", false);
    ck_assert(!grammar_takes(tools, one) && grammar_takes(tools, other) && !grammar_takes(tools, both));
    graft_tools_destroy(&tools);
    // A strict function binds what begins like a call, and nothing else.
    json_t *strict = json_deep_copy(list);
    json_object_set_new(json_object_get(json_array_get(strict, 0), "function"), "strict", json_true());
    tools = tools_with(format, strict, GRAFT_TOOL_AUTO, NULL, false);
    ck_assert(grammar_takes(tools, "") && grammar_takes(tools, "Any < text <tool_ call> <tool_call") &&
              grammar_takes(tools, both));
    snprintf(both, sizeof both, "Let me see.\n%s", one);
    ck_assert(grammar_takes(tools, both) && !grammar_takes(tools, "<tool_call>") && !grammar_takes(tools, "a <tool_call> b"));
    ck_assert(!grammar_takes(tools, "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"place\": 5}}\n</tool_call>"));
    heard = hear(tools, both, 2);
    ck_assert(heard->calls == 1 && strcmp(heard->text, "Let me see.") == 0);
    graft_tools_destroy(&tools);
    // A schema that is not understood: any object, but not if it is strict.
    json_t *parameters = json_object_get(json_object_get(json_array_get(strict, 0), "function"), "parameters");
    json_object_set_new(parameters, "not", json_object());
    struct graft_tools_params params = {.size = sizeof params, .choice = GRAFT_TOOL_REQUIRED};
    char *text = json_dumps(strict, 0);
    params.tools_json = text;
    ck_assert_status(graft_tools_create(format, &tools, &params), GRAFT_E_UNSUPPORTED);
    ck_assert_error_has("tools[0].function.parameters");
    free(text);
    json_object_del(json_object_get(json_array_get(strict, 0), "function"), "strict");
    tools = tools_with(format, strict, GRAFT_TOOL_REQUIRED, NULL, false);
    ck_assert(grammar_takes(tools, "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"x\": [5]}}\n</tool_call>"));
    graft_tools_destroy(&tools);
    json_decref(strict);
    graft_tool_format_destroy(&format);
    format = format_of(ctx, all, "native", "llama");
    strict = json_deep_copy(list);
    json_object_set_new(json_object_get(json_array_get(strict, 0), "function"), "strict", json_true());
    tools = tools_with(format, strict, GRAFT_TOOL_AUTO, NULL, false);
    ck_assert(grammar_takes(tools, "{\"name\": \"get_weather\", \"parameters\": {\"place\": \"a\"}}") &&
              grammar_takes(tools, "Hi {"));
    ck_assert(!grammar_takes(tools, "{\"a\": 1}"));
    graft_tools_destroy(&tools);
    json_decref(strict);
    graft_tool_format_destroy(&format);
    json_decref(all);
    graft_ctx_destroy(&ctx);
}
END_TEST

// ---- answers as models give them, not as templates write them ----

static const struct {
    const char *format, *answer, *text, *name, *arguments; // name NULL: no call
} answers[] = {
    {"hermes", "Hello <tool", "Hello <tool", NULL, NULL},
    {"hermes", "  \n", "  \n", NULL, NULL},
    {"hermes", "<tool_call>", "<tool_call>", NULL, NULL},
    {"hermes", "<tool_call>{\"name\": \"get_weather\"", "<tool_call>{\"name\": \"get_weather\"", NULL, NULL},
    {"hermes", "<tool_call>{\"name\": \"get_weather\"}</tool_call>", "", "get_weather", "{}"},
    {"hermes", "<tool_call>{\"arguments\":{\"place\":\"a\"},\"name\":\"get_weather\"}</tool_call>", "", "get_weather",
     "{\"place\":\"a\"}"},
    {"hermes", "<tool_call>{\"name\":\"get_weather\",\"arguments\":\"{\\\"place\\\": 1}\"}</tool_call>", "", "get_weather",
     "{\"place\": 1}"},
    {"hermes", "<tool_call>{\"name\":\"get_weather\",\"parameters\":{}}", "", "get_weather", "{}"},
    {"hermes", "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Be", "", "get_weather",
     "{\"place\": \"Be"},
    {"hermes", "<tool_call>[]</tool_call> x", "<tool_call>[]</tool_call> x", NULL, NULL},
    {"hermes", "Text\n\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {}}\n</tool_call>\nMore", "TextMore",
     "get_weather", "{}"},
    {"llama", "{\"a\": 1, \"name\": \"get_weather\"}", "{\"a\": 1, \"name\": \"get_weather\"}", NULL, NULL},
    {"llama", "{\"name\": \"nobody\", \"parameters\": {}}", "{\"name\": \"nobody\", \"parameters\": {}}", NULL, NULL},
    {"llama", " {\"type\": \"function\", \"name\": \"get_weather\", \"parameters\": {\"place\": \"}\"}}", "", "get_weather",
     "{\"place\": \"}\"}"},
    {"llama", "Here: {\"name\": \"get_weather\", \"parameters\": {}}", "Here: {\"name\": \"get_weather\", \"parameters\": {}}",
     NULL, NULL},
    {"llama", "{", "{", NULL, NULL},
    {"mistral", "[TOOL_CALLS] [ {\"name\": \"get_weather\", \"arguments\": {}}]", "", "get_weather", "{}"},
    {"call ids", "[TOOL_CALLS]get_weather[ARGS]{}", "", "get_weather", "{}"},
    {"arguments", "[TOOL_CALLS]get_weather", "[TOOL_CALLS]get_weather", NULL, NULL},
    {"arguments", "[TOOL_CALLS]get_weather[ARGS]5", "[TOOL_CALLS]get_weather[ARGS]5", NULL, NULL},
    {"parameters", "<tool_call>\n<function=get_weather>\n</function>\n</tool_call>", "", "get_weather", "{}"},
    {"parameters",
     "<tool_call>\n<function=get_weather>\n<parameter=place>\n\"5\"\n</parameter>\n<parameter=other>\nx "
     "y\n</parameter>\n</function>",
     "", "get_weather", "{\"place\": \"\\\"5\\\"\", \"other\": \"x y\"}"},
};

START_TEST(answers_of_models_are_read_with_patience)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    json_t *all = stored();
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct graft_tool_format *format = format_of(ctx, all, "native", answers[i].format);
        struct graft_tools *tools = tools_with(format, json_object_get(all, "tools"), GRAFT_TOOL_AUTO, NULL, false);
        for (size_t step = 1; step < 40; step += 3) {
            struct heard *heard = hear(tools, answers[i].answer, step);
            ck_assert_msg(strcmp(heard->text, answers[i].text) == 0, "%zu at %zu: text \"%s\"", i, step, heard->text);
            ck_assert_msg(heard->calls == (answers[i].name != NULL), "%zu at %zu: %u calls", i, step, heard->calls);
            ck_assert(!answers[i].name || strcmp(heard->names[0], answers[i].name) == 0);
            ck_assert_msg(!answers[i].name || strcmp(heard->arguments[0], answers[i].arguments) == 0, "%zu at %zu: %s", i, step,
                          heard->arguments[0]);
        }
        graft_tools_destroy(&tools);
        graft_tool_format_destroy(&format);
    }
    json_decref(all);
    graft_ctx_destroy(&ctx);
}
END_TEST

// Answers cut, doubled and shuffled at random: nothing is told that is not there, and the pieces make no difference.
START_TEST(damaged_answers_are_told_the_same_in_any_pieces)
{
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    struct graft_test_random random = {42};
    json_t *all = stored(), *test;
    size_t i;
    json_array_foreach(json_object_get(all, "native"), i, test)
    {
        struct graft_tool_format *format = format_of(ctx, all, "native", json_string_value(json_object_get(test, "name")));
        struct graft_tools *tools = tools_with(format, json_object_get(all, "tools"), GRAFT_TOOL_AUTO, NULL, false);
        for (int k = 0; k < 300; k++) {
            const json_t *list = json_object_get(test, "answers");
            const char *from = json_string_value(
                json_object_get(json_array_get(list, graft_test_random_u64(&random) % json_array_size(list)), "text"));
            char text[4096];
            snprintf(text, sizeof text, "%s", from);
            size_t length = strlen(text);
            for (uint64_t n = graft_test_random_u64(&random) % 4; n > 0; n--) {
                size_t at = graft_test_random_u64(&random) % length, to = graft_test_random_u64(&random) % length;
                bool ascii = (signed char)text[at] > 0 && (signed char)text[to] > 0; // characters stay whole
                text[at] = ascii ? text[to] : text[at];
            }
            if (k % 3 == 0) {
                text[graft_test_random_u64(&random) % length] = 0;
            }
            struct heard whole = *hear(tools, text, 1000000);
            struct heard *pieces = hear(tools, text, 1 + graft_test_random_u64(&random) % 5);
            ck_assert_msg(memcmp(&whole, pieces, sizeof whole) == 0, "%s: %s", json_string_value(json_object_get(test, "name")),
                          text);
        }
        graft_tools_destroy(&tools);
        graft_tool_format_destroy(&format);
    }
    json_decref(all);
    graft_ctx_destroy(&ctx);
    ck_assert_uint_eq(alloc.live, 0);
}
END_TEST

static const struct {
    const char *tools, *error;
    enum graft_status status;
} refused[] = {
    {"{}", "tools must be an array", GRAFT_E_ARGUMENT},
    {"[", "tools, line 1", GRAFT_E_ARGUMENT},
    {"[{}]", "tools[0].type", GRAFT_E_ARGUMENT},
    {"[{\"type\":\"function\"}]", "tools[0].function must", GRAFT_E_ARGUMENT},
    {"[{\"type\":\"function\",\"function\":{}}]", "tools[0].function.name", GRAFT_E_ARGUMENT},
    {"[{\"type\":\"function\",\"function\":{\"name\":\"a b\"}}]", "tools[0].function.name", GRAFT_E_ARGUMENT},
    {"[{\"type\":\"function\",\"function\":{\"name\":\"a\",\"parameters\":[]}}]", "tools[0].function.parameters",
     GRAFT_E_ARGUMENT},
    {"[{\"type\":\"function\",\"function\":{\"name\":\"a\",\"strict\":1}}]", "tools[0].function.strict", GRAFT_E_ARGUMENT},
    {"[{\"type\":\"function\",\"function\":{\"name\":\"a\"}},{\"type\":\"function\",\"function\":{\"name\":\"a\"}}]",
     "tools[1].function.name", GRAFT_E_ARGUMENT},
    {"[]", "a call is required", GRAFT_E_ARGUMENT},
};

START_TEST(bad_tools_are_refused_by_name)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    json_t *all = stored();
    struct graft_tool_format *format = format_of(ctx, all, "native", "hermes");
    struct graft_tools *tools;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct graft_tools_params params = {
            .size = sizeof params, .tools_json = refused[i].tools, .choice = GRAFT_TOOL_REQUIRED};
        ck_assert_status(graft_tools_create(format, &tools, &params), refused[i].status);
        ck_assert_ptr_null(tools);
        ck_assert_error_has(refused[i].error);
    }
    struct graft_tools_params params = {.size = sizeof params, .tools_json = "[]", .choice = GRAFT_TOOL_NAMED_ONE, .name = "x"};
    ck_assert_status(graft_tools_create(format, &tools, &params), GRAFT_E_ARGUMENT);
    char *text;
    static const char bad[] =
        "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"a\",\"arguments\":\"[1]\"}}]}]}";
    ck_assert_status(graft_tool_prompt(format, NULL, bad, &text), GRAFT_E_ARGUMENT);
    ck_assert_error_has("messages[0].tool_calls[0].function.arguments");
    graft_tool_format_destroy(&format);
    ck_assert_status(graft_tool_format_create(ctx, &format, NULL, NULL), GRAFT_E_UNSUPPORTED);
    ck_assert_status(graft_tool_format_create(ctx, &format, NULL, "{% if"), GRAFT_E_FORMAT);
    json_decref(all);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(every_failing_allocation_leaves_nothing)
{
    json_t *all = stored();
    const json_t *test = json_array_get(json_object_get(all, "native"), 2);
    const char *source = json_string_value(json_object_get(test, "template"));
    char *list = json_dumps(json_object_get(all, "tools"), 0);
    bool whole = false;
    for (uint64_t n = 1; !whole; n += n < 400 ? 1 : 97) {
        struct graft_test_alloc alloc = {0};
        struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
        alloc.fail_at = alloc.requests + n;
        struct graft_tool_format *format;
        struct graft_tools *tools = NULL;
        char *prompt = NULL;
        struct graft_tools_params params = {.size = sizeof params, .tools_json = list, .choice = GRAFT_TOOL_REQUIRED};
        enum graft_status status = graft_tool_format_create(ctx, &format, NULL, source);
        status = status == GRAFT_OK ? graft_tools_create(format, &tools, &params) : status;
        status = status == GRAFT_OK ? graft_tool_prompt(format, tools, "{\"messages\": []}", &prompt) : status;
        ck_assert_msg(status == GRAFT_OK || status == GRAFT_E_MEMORY, "%s", graft_last_error());
        whole = status == GRAFT_OK;
        graft_ctx_text_free(ctx, &prompt);
        graft_tools_destroy(&tools);
        graft_tool_format_destroy(&format);
        graft_ctx_destroy(&ctx);
        ck_assert_uint_eq(alloc.live, 0);
    }
    free(list);
    json_decref(all);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tools");
    TCase *tests = tcase_create("tools");
    tcase_set_timeout(tests, 120);
    graft_jinja_set_clock(1700000000);
    tcase_add_test(tests, calls_are_those_of_the_template);
    tcase_add_test(tests, real_templates_call_as_they_do_in_jinja2);
    tcase_add_test(tests, templates_without_calls_are_asked_in_a_system_message);
    tcase_add_test(tests, ids_are_those_the_template_takes);
    tcase_add_test(tests, choices_bind_answers);
    tcase_add_test(tests, answers_of_models_are_read_with_patience);
    tcase_add_test(tests, damaged_answers_are_told_the_same_in_any_pieces);
    tcase_add_test(tests, bad_tools_are_refused_by_name);
    tcase_add_test(tests, every_failing_allocation_leaves_nothing);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
