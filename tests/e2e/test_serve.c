// SPDX-License-Identifier: Apache-2.0
// graft serve over plain sockets: answers, streams, refusals, cancels; and PyPI's openai client.
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "e2e/served.h"
#include "support/support.h"

static const char *text_of(const json_t *answer)
{
    const json_t *choice = json_array_get(json_object_get(answer, "choices"), 0);
    const json_t *message = json_object_get(choice, "message");
    return json_string_value(message ? json_object_get(message, "content") : json_object_get(choice, "text"));
}

static const char *finish_of(const json_t *answer)
{
    return json_string_value(json_object_get(json_array_get(json_object_get(answer, "choices"), 0), "finish_reason"));
}

START_TEST(answers_are_those_of_graft_run)
{
    static const char *const adapters[] = {"", "plain", "rslora", "dora", "bias", "embed-head"};
    static const char *const prompts[] = {"Hello", "What is it", "a b c d e f g h i j k l m n o p"};
    served_begin("--adapter-dir '%s/golden/peft' -c 256 -np 3", GRAFT_TEST_SOURCE_DIR);
    for (size_t a = 0; a < sizeof adapters / sizeof *adapters; a++) {
        for (size_t p = 0; p < sizeof prompts / sizeof *prompts; p++) {
            char body[512], use[512] = "";
            if (*adapters[a]) {
                snprintf(use, sizeof use, "--adapter '%s/golden/peft/%s'", GRAFT_TEST_SOURCE_DIR, adapters[a]);
            }
            json_t *run =
                command_json(command("run -m '%s/golden/peft/base.gguf' --device ref -c 256 %s -p '%s' --temp 0 -n 10 --json",
                                     GRAFT_TEST_SOURCE_DIR, use, prompts[p]));
            snprintf(body, sizeof body,
                     "{\"model\": \"%s\", \"messages\": [{\"role\": \"user\", \"content\": \"%s\"}], \"max_tokens\": 10, "
                     "\"temperature\": 0}",
                     *adapters[a] ? adapters[a] : "base", prompts[p]);
            json_t *answer = post_json("/v1/chat/completions", body, 200);
            ck_assert_msg(strcmp(text_of(answer), json_string_value(json_object_get(run, "text"))) == 0,
                          "%s, %s: \"%s\", not \"%s\"", adapters[a], prompts[p], text_of(answer),
                          json_string_value(json_object_get(run, "text")));
            json_decref(answer);
            json_decref(run);
        }
    }
    served_end();
}
END_TEST

START_TEST(streams_are_as_clients_expect_them)
{
    served_begin("--adapter-dir '%s/golden/peft' -c 256", GRAFT_TEST_SOURCE_DIR);
    json_t *whole =
        post_json("/v1/chat/completions",
                  "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"max_tokens\": 20, \"temperature\": 0, "
                  "\"model\": \"plain\"}",
                  200);
    const struct reply *r = ask_server("POST", "/v1/chat/completions", "",
                                       "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"max_tokens\": 20, "
                                       "\"temperature\": 0, \"model\": \"plain\", \"stream\": true, "
                                       "\"stream_options\": {\"include_usage\": true}}");
    ck_assert_int_eq(r->status, 200);
    ck_assert_ptr_nonnull(strstr(reply_header(r, "content-type"), "text/event-stream"));
    ck_assert_ptr_nonnull(strstr(r->head, "no-cache"));
    ck_assert_str_eq(reply_header(r, "x-accel-buffering"), "no");
    ck_assert_str_eq(reply_header(r, "x-adapter-id"), "plain");
    ck_assert_uint_eq(strlen(reply_header(r, "x-adapter-digest")), 64);
    ck_assert_ptr_nonnull(reply_header(r, "x-request-id"));
    char text[4096] = "", *id = NULL;
    int chunks = 0, finishes = 0, usages = 0;
    const char *line = r->body;
    for (; *line; line = strstr(line, "\n\n") + 2) {
        ck_assert_msg(strncmp(line, "data: ", 6) == 0, "no event: %.80s", line);
        if (strncmp(line + 6, "[DONE]", 6) == 0) {
            break;
        }
        json_error_t error;
        json_t *chunk = json_loads(line + 6, JSON_DISABLE_EOF_CHECK, &error);
        ck_assert_msg(chunk != NULL, "%s: %.300s", error.text, line); // a character that was cut would be no JSON
        const char *own = json_string_value(json_object_get(chunk, "id"));
        ck_assert_msg(!id || strcmp(id, own) == 0, "another id: %s", own);
        id = id ? id : strdup(own);
        ck_assert_str_eq(json_string_value(json_object_get(chunk, "object")), "chat.completion.chunk");
        ck_assert_str_eq(json_string_value(json_object_get(chunk, "model")), "plain");
        ck_assert_uint_eq(strlen(json_string_value(json_object_get(chunk, "adapter_generation"))), 16);
        const json_t *choice = json_array_get(json_object_get(chunk, "choices"), 0), *delta = json_object_get(choice, "delta");
        const char *role = json_string_value(json_object_get(delta, "role"));
        ck_assert((chunks == 0) == (role != NULL));
        finishes += json_is_string(json_object_get(choice, "finish_reason"));
        usages += json_is_object(json_object_get(chunk, "usage"));
        ck_assert(!json_is_object(json_object_get(chunk, "usage")) || json_array_size(json_object_get(chunk, "choices")) == 0);
        const char *content = json_string_value(json_object_get(delta, "content"));
        strcat(text, content ? content : "");
        chunks++;
        json_decref(chunk);
    }
    ck_assert_str_eq(line, "data: [DONE]\n\n");
    ck_assert_str_eq(text, text_of(whole));
    ck_assert(finishes == 1 && usages == 1);
    free(id);
    json_decref(whole);
    served_end();
}
END_TEST

#define F "{\"type\": \"function\", \"function\": {\"name\": \"f\"}}"
#define M "\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]"
struct refusal {
    const char *path, *body, *param; // param NULL: null in the reply
    int status;
};

static const struct refusal case_67[] = {
    {"/v1/chat/completions", "", NULL, 400},
    {"/v1/chat/completions", "{", NULL, 400},
    {"/v1/chat/completions", "[]", NULL, 400},
    {"/v1/chat/completions", "{" M "} x", NULL, 400},
    {"/v1/chat/completions", "{" M ", \"temperature\": NaN}", NULL, 400},
    {"/v1/chat/completions", "{" M ", \"temperature\": 1e999}", NULL, 400},
    {"/v1/chat/completions", "{" M ", \"seed\": 1, \"seed\": 2}", NULL, 400},
    {"/v1/chat/completions", "{" M ", \"user\": \"\\ud800\"}", NULL, 400},
    {"/v1/chat/completions", "{" M ", \"user\": \"\xff\"}", NULL, 400},
    {"/v1/chat/completions", "{" M ", \"a\": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}", NULL,
     400},
};

static const struct refusal case_68[] = {
    {"/v1/chat/completions", "{" M ", \"model\": \"nothing\"}", "model", 404},
    {"/v1/chat/completions", "{" M ", \"model\": \"base:nothing\"}", "model", 404},
    {"/v1/chat/completions", "{" M ", \"model\": \"plain@7\"}", "model", 404},
    {"/v1/chat/completions", "{" M ", \"model\": \"plain@\"}", "model", 404},
    {"/v1/chat/completions", "{" M ", \"model\": 5}", "model", 400},
    {"/v1/chat/completions", "{" M ", \"adapter\": 5}", "adapter", 400},
    {"/v1/chat/completions", "{" M ", \"adapter\": {\"scale\": 1}}", "adapter.name", 400},
    {"/v1/chat/completions", "{" M ", \"adapter\": {\"name\": \"plain\", \"scale\": 1e9}}", "adapter.scale", 400},
    {"/v1/chat/completions", "{" M ", \"adapter\": \"plain\", \"lora\": []}", "adapter", 400},
    {"/v1/chat/completions", "{" M ", \"adapter\": \"plain\", \"model\": \"dora\"}", "model", 400},
    {"/v1/chat/completions", "{" M ", \"lora\": [], \"model\": \"dora\"}", "model", 400},
    {"/v1/chat/completions", "{" M ", \"lora\": {}}", "lora", 400},
    {"/v1/chat/completions", "{" M ", \"lora\": [{\"scale\": 1}]}", "lora", 400},
    {"/v1/chat/completions", "{" M ", \"lora\": [{\"id\": 99}]}", "lora", 404},
    {"/v1/chat/completions", "{" M ", \"lora\": [{\"name\": \"plain\"}, {\"name\": \"plain\"}]}", "lora", 400},
    {"/v1/dora/chat/completions", "{" M ", \"model\": \"plain\"}", "model", 400},
    {"/v1/nothing/chat/completions", "{" M "}", "route", 404},
};

static const struct refusal case_69[] = {
    // ranges
    {"/v1/chat/completions", "{" M ", \"max_tokens\": 0}", "max_tokens", 400},
    {"/v1/chat/completions", "{" M ", \"max_tokens\": -1}", "max_tokens", 400},
    {"/v1/chat/completions", "{" M ", \"max_tokens\": 1.5}", "max_tokens", 400},
    {"/v1/chat/completions", "{" M ", \"max_tokens\": \"7\"}", "max_tokens", 400},
    {"/v1/chat/completions", "{" M ", \"max_tokens\": 99999}", "max_tokens", 400},
    {"/v1/chat/completions", "{" M ", \"max_tokens\": 256}", "max_tokens", 400},
    {"/v1/chat/completions", "{" M ", \"max_tokens\": 5, \"max_completion_tokens\": 6}", "max_tokens", 400},
    {"/v1/chat/completions", "{" M ", \"n\": 0}", "n", 400},
    {"/v1/chat/completions", "{" M ", \"n\": 2}", "n", 400},
    {"/v1/chat/completions", "{" M ", \"temperature\": -0.1}", "temperature", 400},
    {"/v1/chat/completions", "{" M ", \"temperature\": 2.1}", "temperature", 400},
    {"/v1/chat/completions", "{" M ", \"temperature\": \"hot\"}", "temperature", 400},
    {"/v1/chat/completions", "{" M ", \"top_p\": 1.1}", "top_p", 400},
    {"/v1/chat/completions", "{" M ", \"presence_penalty\": 3}", "presence_penalty", 400},
    {"/v1/chat/completions", "{" M ", \"frequency_penalty\": -3}", "frequency_penalty", 400},
    {"/v1/chat/completions", "{" M ", \"seed\": -2}", "seed", 400},
    {"/v1/chat/completions", "{" M ", \"seed\": 9223372036854775807}", "seed", 400},
    {"/v1/chat/completions", "{" M ", \"stop\": [\"a\",\"b\",\"c\",\"d\",\"e\"]}", "stop", 400},
    {"/v1/chat/completions", "{" M ", \"stop\": \"\"}", "stop", 400},
    {"/v1/chat/completions", "{" M ", \"stop\": [1]}", "stop", 400},
    {"/v1/chat/completions", "{" M ", \"stop\": \"1234567890123456789012345678901234567890123456789012345678901234x\"}", "stop",
     400},
    {"/v1/chat/completions", "{" M ", \"logit_bias\": {\"288\": 1}}", "logit_bias", 400},
    {"/v1/chat/completions", "{" M ", \"logit_bias\": {\"x\": 1}}", "logit_bias", 400},
    {"/v1/chat/completions", "{" M ", \"logit_bias\": {\"1\": 101}}", "logit_bias", 400},
    {"/v1/chat/completions", "{" M ", \"stream\": \"yes\"}", "stream", 400},
    {"/v1/chat/completions", "{" M ", \"stream_options\": {\"include_usage\": true}}", "stream_options", 400},
    {"/v1/chat/completions", "{" M ", \"top_logprobs\": 2}", "top_logprobs", 400},
    {"/v1/chat/completions", "{" M ", \"logprobs\": true, \"top_logprobs\": 21}", "top_logprobs", 400},
    {"/v1/chat/completions", "{" M ", \"priority\": \"high\"}", "priority", 400},
    // messages
    {"/v1/chat/completions", "{}", "messages", 400},
    {"/v1/chat/completions", "{\"messages\": []}", "messages", 400},
    {"/v1/chat/completions", "{\"messages\": {}}", "messages", 400},
    {"/v1/chat/completions", "{\"messages\": [1]}", "messages[0]", 400},
    {"/v1/chat/completions", "{\"messages\": [{\"role\": \"king\", \"content\": \"x\"}]}", "messages[0].role", 400},
    {"/v1/chat/completions", "{\"messages\": [{\"content\": \"x\"}]}", "messages[0].role", 400},
    {"/v1/chat/completions", "{\"messages\": [{\"role\": \"user\"}]}", "messages[0].content", 400},
    {"/v1/chat/completions", "{\"messages\": [{\"role\": \"user\", \"content\": null}]}", "messages[0].content", 400},
    {"/v1/chat/completions", "{\"messages\": [{\"role\": \"user\", \"content\": 5}]}", "messages[0].content", 400},
    {"/v1/chat/completions",
     "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"x\"}, {\"type\": \"image_url\"}]}]}",
     "messages[0].content[1].type", 400},
};

static const struct refusal unsupported[] = {
    // what is not supported
    {"/v1/chat/completions", "{" M ", \"functions\": [{\"name\": \"f\"}]}", "functions", 400},
    {"/v1/completions", "{\"prompt\": \"a\", \"tools\": [" F "]}", "tools", 400},
    {"/v1/chat/completions", "{" M ", \"tools\": [" F "], \"response_format\": {\"type\": \"json_object\"}}", "response_format",
     400},
    // functions
    {"/v1/chat/completions", "{" M ", \"tools\": {}}", "tools", 400},
    {"/v1/chat/completions", "{" M ", \"tools\": [1]}", "tools[0].type", 400},
    {"/v1/chat/completions", "{" M ", \"tools\": [{\"type\": \"web_search\"}]}", "tools[0].type", 400},
    {"/v1/chat/completions", "{" M ", \"tools\": [{\"type\": \"function\"}]}", "tools[0].function", 400},
    {"/v1/chat/completions", "{" M ", \"tools\": [" F ", " F "]}", "tools[1].function.name", 400},
    {"/v1/chat/completions", "{" M ", \"tool_choice\": \"required\"}", "tool_choice", 400},
    {"/v1/chat/completions", "{" M ", \"tools\": [" F "], \"tool_choice\": \"maybe\"}", "tool_choice", 400},
    {"/v1/chat/completions",
     "{" M ", \"tools\": [" F "], \"tool_choice\": {\"type\": \"function\", \"function\": {\"name\": \"g\"}}}", "tool_choice",
     400},
    {"/v1/chat/completions", "{" M ", \"tools\": [" F "], \"parallel_tool_calls\": 1}", "parallel_tool_calls", 400},
    {"/v1/chat/completions", "{\"messages\": [{\"role\": \"user\", \"content\": \"x\", \"tool_calls\": [1]}]}",
     "messages[0].tool_calls", 400},
    {"/v1/chat/completions",
     "{\"messages\": [{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"function\": {\"name\": \"f\", "
     "\"arguments\": \"5\"}}]}]}",
     "messages[0].tool_calls[0].function.arguments", 400},
    {"/v1/chat/completions", "{\"messages\": [{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{}]}]}",
     "messages[0].tool_calls[0].function.name", 400},
    {"/v1/chat/completions", "{\"messages\": [{\"role\": \"tool\", \"content\": \"x\"}]}", "messages[0].tool_call_id", 400},
    {"/v1/chat/completions", "{" M ", \"grammar\": \"root ::= \\\"a\\\"\"}", "grammar", 400},
    {"/v1/chat/completions", "{" M ", \"response_format\": {\"type\": \"xml\"}}", "response_format", 400},
    {"/v1/chat/completions",
     "{" M ", \"response_format\": {\"type\": \"json_schema\", \"json_schema\": {\"schema\": {\"not\": {}}}}}",
     "response_format", 400},
    {"/v1/completions", "{\"prompt\": \"a\", \"max_tokens\": 0}", "max_tokens", 400},
    {"/v1/completions", "{\"prompt\": \"a\", \"logprobs\": 21}", "logprobs", 400},
    {"/v1/completions", "{\"prompt\": \"a\", \"suffix\": \"b\"}", "suffix", 400},
    {"/v1/completions", "{\"prompt\": \"a\", \"best_of\": 3}", "best_of", 400},
    {"/v1/completions", "{}", "prompt", 400},
    {"/v1/completions", "{\"prompt\": []}", "prompt", 400},
    {"/v1/completions", "{\"prompt\": [300]}", "prompt", 400},
    {"/v1/completions", "{\"prompt\": [1, \"a\"]}", "prompt", 400},
    {"/v1/completions", "{\"prompt\": [\"a\", \"b\"]}", "prompt", 400},
    {"/v1/embeddings", "{\"input\": \"a\"}", NULL, 501},
};

// Each is refused with its status and the member that is at fault.
static void refuse(const struct refusal *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        json_t *reply = post_json(cases[i].path, cases[i].body, cases[i].status);
        const json_t *error = json_object_get(reply, "error");
        const char *param = json_string_value(json_object_get(error, "param"));
        ck_assert_msg(cases[i].param ? param && strcmp(param, cases[i].param) == 0 : !param, "%s: param is %s, expected %s",
                      cases[i].body, param ? param : "null", cases[i].param ? cases[i].param : "null");
        ck_assert(json_string_length(json_object_get(error, "message")) > 0 && json_is_string(json_object_get(error, "code")) &&
                  json_is_string(json_object_get(error, "type")));
        json_decref(reply);
    }
}
#define REFUSE(cases) refuse(cases, sizeof(cases) / sizeof *(cases))

// JSON that is none, is too deep, or means nothing: the byte is named.
START_TEST(case_67_json_is_refused_with_its_byte)
{
    served_begin("-c 256");
    REFUSE(case_67);
    static const struct {
        const char *body;
        int low, high; // of the byte that is named: what is wrong, or its end
    } bytes[] = {{"{\"messages\": nope}", 13, 17}, {"{\"a\": 1, \"a\": 2}", 9, 12}, {"{\"a\": 1} x", 9, 10},
                 {"{\"a\": \"\\ud800\"}", 6, 14},  {"{\"a\": 1e999}", 6, 11},       {"{\"a\": NaN}", 6, 9}};
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
        json_t *reply = post_json("/v1/chat/completions", bytes[i].body, 400);
        const char *message = json_string_value(json_object_get(json_object_get(reply, "error"), "message"));
        const char *byte = strstr(message, "(byte ");
        int at = byte ? atoi(byte + 6) : -1;
        ck_assert_msg(at >= bytes[i].low && at <= bytes[i].high, "%s: %s", bytes[i].body, message);
        json_decref(reply);
    }
    static const size_t lengths[] = {300000, 1 << 20}; // a key; then the body is more than a mebibyte
    for (int i = 0; i < 2; i++) {
        char *body = calloc(1, lengths[i] + 100);
        strcpy(body, "{\"");
        memset(body + 2, 'k', lengths[i]);
        strcat(body, "\": 1}");
        json_decref(post_json("/v1/chat/completions", body, i ? 413 : 400));
        free(body);
    }
    ck_assert_double_ge(metric("graft_errors_total{code=\"400\"}"), 10);
    served_end();
}
END_TEST

START_TEST(case_68_unknown_models_are_not_found)
{
    served_begin("--adapter-dir '%s/golden/peft' -c 256", GRAFT_TEST_SOURCE_DIR);
    REFUSE(case_68);
    served_end();
}
END_TEST

START_TEST(case_69_members_out_of_range_are_named)
{
    served_begin("-c 256");
    REFUSE(case_69);
    served_end();
}
END_TEST

START_TEST(case_70_unknown_members_are_ignored_and_counted)
{
    served_begin("-c 256");
    json_decref(post_json("/v1/chat/completions", "{" M ", \"max_tokens\": 2, \"nobody_knows\": 1}", 200));
    ck_assert_double_eq(metric("graft_unknown_fields_total"), 1);
    // What clients send beside: all of it null, or without a meaning here.
    json_decref(post_json(
        "/v1/chat/completions",
        "{" M ", \"max_tokens\": 2, \"stop\": null, \"tools\": null, \"tool_choice\": null, \"response_format\": null, "
        "\"logit_bias\": null, \"stream_options\": null, \"seed\": null, \"n\": null, \"user\": \"me\", \"top_p\": null, "
        "\"parallel_tool_calls\": null, \"metadata\": {}, \"store\": false, \"service_tier\": \"auto\", "
        "\"reasoning_effort\": \"low\", \"modalities\": [\"text\"]}",
        200));
    ck_assert_double_eq(metric("graft_unknown_fields_total"), 5);
    served_end();
}
END_TEST

// Schemas that would take long, or much: each is compiled or refused soon, and the server goes on.
START_TEST(case_71_schemas_are_bounded)
{
    static const char *const schemas[] = {
        "{\"type\": \"string\", \"pattern\": \"((((a{1000}){1000}){1000}){1000})\"}",
        "{\"type\": \"string\", \"pattern\": \"(a|b|c|d|e|f|g)*(a|b|c|d|e|f|g)*(a|b|c|d|e|f|g)*x\"}",
        "{\"type\": \"string\", \"maxLength\": 65535, \"minLength\": 65535}",
        "{\"type\": \"string\", \"maxLength\": 4294967296}",
        "{\"type\": \"array\", \"items\": {\"type\": \"array\", \"items\": {\"type\": \"array\", \"maxItems\": 65535}, "
        "\"maxItems\": 65535}, "
        "\"maxItems\": 65535}",
        "{\"$ref\": \"#\"}",
        "{\"$defs\": {\"a\": {\"anyOf\": [{\"$ref\": \"#/$defs/a\"}, {\"$ref\": \"#/$defs/a\"}]}}, \"$ref\": \"#/$defs/a\"}",
        "{\"type\": \"integer\", \"minimum\": -9007199254740991, \"maximum\": 9007199254740991}"};
    served_begin("-c 256");
    for (size_t i = 0; i <= sizeof schemas / sizeof *schemas; i++) {
        char *body = calloc(1, 1 << 20);
        const char *schema = i < sizeof schemas / sizeof *schemas ? schemas[i] : "{\"enum\": [";
        int used = snprintf(body, 1 << 20,
                            "{" M ", \"max_tokens\": 1, \"response_format\": {\"type\": \"json_schema\", \"json_schema\": "
                            "{\"name\": \"x\", \"schema\": %s",
                            schema);
        for (int k = 0; i == sizeof schemas / sizeof *schemas && k < 20000; k++) { // twenty thousand choices
            used += snprintf(body + used, (size_t)((1 << 20) - used), "%s\"choice %d\"", k ? "," : "", k);
        }
        snprintf(body + used, (size_t)((1 << 20) - used), "%s}}}", i < sizeof schemas / sizeof *schemas ? "" : "]}");
        struct timespec begin, end;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        int status = ask_server("POST", "/v1/chat/completions", "Content-Type: application/json\r\n", body)->status;
        clock_gettime(CLOCK_MONOTONIC, &end);
        double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) * 1e-9;
        printf("case 71, schema %zu: %d after %.3f s\n", i, status, seconds);
        ck_assert_msg(status == 200 || status == 400, "schema %zu: %d", i, status);
        ck_assert_double_lt(seconds, 5); // aimed at 0.1, on a machine that is not shared
        free(body);
    }
    served_end();
}
END_TEST

START_TEST(what_is_not_supported_is_refused_by_name)
{
    served_begin("-c 256");
    REFUSE(unsupported);
    served_end();
}
END_TEST

START_TEST(schemas_bind_answers)
{
    served_begin("-c 256");
    static const char *const formats[] = {
        "{\"type\": \"json_schema\", \"json_schema\": {\"name\": \"x\", \"schema\": {\"type\": \"object\", \"properties\": "
        "{\"ok\": "
        "{\"type\": \"boolean\"}, \"n\": {\"enum\": [1, 2]}}, \"required\": [\"ok\", \"n\"]}}}",
        "{\"type\": \"json_schema\", \"json_schema\": {\"name\": \"y\", \"schema\": {\"enum\": [\"red\", \"blue\"]}}}"};
    for (int i = 0; i < 10; i++) {
        char body[1024];
        snprintf(body, sizeof body, "{" M ", \"seed\": %d, \"response_format\": %s}", i, formats[i % 2]);
        json_t *answer = post_json("/v1/chat/completions", body, 200);
        ck_assert_str_eq(finish_of(answer), "stop");
        json_t *value = json_loads(text_of(answer), JSON_DECODE_ANY, NULL);
        ck_assert_msg(value != NULL, "no JSON: %s", text_of(answer));
        ck_assert(i % 2 ? json_is_string(value) : json_is_boolean(json_object_get(value, "ok")) && json_object_get(value, "n"));
        json_decref(value);
        json_decref(answer);
    }
    json_t *answer =
        post_json("/v1/chat/completions",
                  "{" M ", \"seed\": 3, \"max_tokens\": 200, \"response_format\": {\"type\": \"json_object\"}}", 200);
    ck_assert_int_eq(text_of(answer)[strspn(text_of(answer), " \n")], '{');
    json_decref(answer);
    served_end();
}
END_TEST

// What is wrong with addresses, keys and certificates is said before the model is opened: here there is not even one.
START_TEST(doors_are_checked_before_the_model)
{
    static const char *const cases[][2] = {
        {"--listen 0.0.0.0:0", "there are no API keys"},
        {"--listen nowhere:1", "not of the form"},
        {"--keys none.json", "none.json"},
        {"--tls-cert none.pem --tls-key none.pem", "none.pem"},
        {"--listen unix:\"$PWD\"/file", "no socket"},
        {"--access-log nowhere/log", "nowhere/log"},
        {"", "nothing.gguf"},
    };
    command_file("file", "");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct ran *ran = command("serve -m nothing.gguf --device ref --listen 127.0.0.1:0 %s", cases[i][0]);
        ck_assert_int_ne(ran->code, 0);
        ck_assert_three_parts(ran, cases[i][1]);
    }
}
END_TEST

START_TEST(who_hangs_up_is_forgotten)
{
    served_begin("-c 256 -np 2");
    for (int i = 0; i < 4; i++) {
        int fd = open_request("/v1/completions",
                              "{\"prompt\": \"a\", \"max_tokens\": 200, \"stream\": true, \"temperature\": 1, " NO_END "}");
        char piece[64];
        ck_assert_int_gt(recv(fd, piece, sizeof piece, 0), 0); // it has begun
        close(fd);
    }
    ck_assert(metric_becomes("graft_engine_running", 0));
    ck_assert(metric_becomes("graft_requests_running{adapter=\"\"}", 0));
    ck_assert_double_gt(metric("graft_finished_total{reason=\"cancelled\"}"), 0);
    ck_assert_double_lt(metric("graft_answer_tokens_total{adapter=\"\"}"), 800);
    // Without a stream there is nothing to be read until all is said: the client's leaving ends it all the same, at once. The
    // tiny model says 200 tokens in a tenth of a second, so some may be through before they are left.
    double before = metric("graft_finished_total{reason=\"cancelled\"}"), tokens = metric("graft_engine_answer_tokens_total");
    for (int i = 0; i < 12; i++) {
        int fd = open_request("/v1/completions", "{\"prompt\": \"a\", \"max_tokens\": 240, \"temperature\": 1, " NO_END "}");
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        close(fd);
    }
    ck_assert(metric_becomes("graft_engine_running", 0));
    ck_assert_double_ge(metric("graft_finished_total{reason=\"cancelled\"}") - before, 4);
    ck_assert_double_lt(metric("graft_engine_answer_tokens_total") - tokens, 12 * 120);
    json_t *answer = post_json("/v1/completions", "{\"prompt\": \"a\", \"timeout_ms\": 1, \"max_tokens\": 200}", 504);
    json_decref(answer);
    served_end();
}
END_TEST

START_TEST(a_full_queue_says_come_later)
{
    enum { N = 24 };
    int fds[N], busy = 0, answered = 0;
    served_begin("-c 256 -np 1 --max-waiting 2");
    for (int i = 0; i < N; i++) {
        fds[i] = open_request("/v1/completions", "{\"prompt\": \"a\", \"max_tokens\": 250, \"temperature\": 0}");
    }
    for (int i = 0; i < N; i++) {
        char reply[4096] = "";
        size_t n = 0;
        for (ssize_t k = 1; k > 0 && n + 1 < sizeof reply; n += k > 0 ? (size_t)k : 0) {
            k = recv(fds[i], reply + n, sizeof reply - 1 - n, 0);
        }
        busy += strncmp(reply, "HTTP/1.1 429", 12) == 0 && strcasestr(reply, "\r\nretry-after: 1\r\n") &&
                strstr(reply, "queue_full");
        answered += strncmp(reply, "HTTP/1.1 200", 12) == 0;
        close(fds[i]);
    }
    // The two that wait, and one that runs unless all came before the engine looked.
    ck_assert_msg(busy > 0 && answered >= 2 && busy + answered == N, "%d told to wait, %d answered", busy, answered);
    served_end();
}
END_TEST

START_TEST(texts_and_state_are_told)
{
    served_begin("--adapter-dir '%s/golden/peft' -c 256 -np 3", GRAFT_TEST_SOURCE_DIR);
    json_t *r = post_json("/tokenize", "{\"content\": \"Hello\"}", 200);
    ck_assert_uint_eq(json_array_size(json_object_get(r, "tokens")), 5); // a vocabulary of bytes
    json_t *back = json_pack("{s:O}", "tokens", json_object_get(r, "tokens"));
    char *text = json_dumps(back, 0);
    json_decref(back);
    json_decref(r);
    r = post_json("/detokenize", text, 200);
    ck_assert_str_eq(json_string_value(json_object_get(r, "content")), "Hello");
    json_decref(r);
    free(text);
    r = post_json("/apply-template", "{" M "}", 200);
    ck_assert_ptr_nonnull(strstr(json_string_value(json_object_get(r, "prompt")), "Hi"));
    json_decref(r);
    static const char *const gets[] = {"/health",          "/v1/health",      "/livez",       "/readyz",
                                       "/props",           "/slots",          "/v1/models",   "/models",
                                       "/v1/models/plain", "/v1/models/base", "/v1/adapters", "/v1/adapters/plain",
                                       "/lora-adapters",   "/metrics"};
    for (size_t i = 0; i < sizeof gets / sizeof *gets; i++) {
        ck_assert_msg(ask_server("GET", gets[i], "", NULL)->status == 200, "%s", gets[i]);
    }
    ck_assert_int_eq(ask_server("GET", "/v1/models/nothing", "", NULL)->status, 404);
    ck_assert_int_eq(ask_server("GET", "/v1/adapters/nothing", "", NULL)->status, 404);
    ck_assert_int_ne(ask_server("GET", "/v1/memory", "", NULL)->status, 200); // operators' only
    ck_assert_int_eq(ask_operator("GET", "/v1/memory", NULL)->status, 200);
    served_end();
}
END_TEST

START_TEST(the_openai_client_is_content)
{
    const char *python = getenv("GRAFT_TEST_PYTHON");
    char line[1024];
    served_begin("--adapter-dir '%s/golden/peft' -c 2048", GRAFT_TEST_SOURCE_DIR);
    snprintf(line, sizeof line, "'%s' '%s/e2e/openai_client.py' http://127.0.0.1:%u/v1 >client.out 2>&1",
             python ? python : "python3", GRAFT_TEST_SOURCE_DIR, served_port());
    int status = system(line);
    served_end();
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        puts("skipped: PyPI's openai is not installed; its client was not tried");
        return;
    }
    char said[8192] = "";
    FILE *file = fopen("client.out", "rb");
    size_t n = file ? fread(said, 1, sizeof said - 1, file) : 0;
    said[n] = 0;
    if (file) {
        fclose(file);
    }
    ck_assert_msg(status == 0, "%s", said);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serve");
    TCase *tests = tcase_create("serve");
    tcase_set_timeout(tests, 240);
    tcase_add_checked_fixture(tests, command_begin, command_end);
    tcase_add_test(tests, answers_are_those_of_graft_run);
    tcase_add_test(tests, streams_are_as_clients_expect_them);
    tcase_add_test(tests, case_67_json_is_refused_with_its_byte);
    tcase_add_test(tests, case_68_unknown_models_are_not_found);
    tcase_add_test(tests, case_69_members_out_of_range_are_named);
    tcase_add_test(tests, case_70_unknown_members_are_ignored_and_counted);
    tcase_add_test(tests, case_71_schemas_are_bounded);
    tcase_add_test(tests, what_is_not_supported_is_refused_by_name);
    tcase_add_test(tests, schemas_bind_answers);
    tcase_add_test(tests, doors_are_checked_before_the_model);
    tcase_add_test(tests, who_hangs_up_is_forgotten);
    tcase_add_test(tests, a_full_queue_says_come_later);
    tcase_add_test(tests, texts_and_state_are_told);
    tcase_add_test(tests, the_openai_client_is_content);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
