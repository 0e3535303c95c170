// SPDX-License-Identifier: Apache-2.0
// Names of graft serve: aliases of the base, of adapters and of versions, by option, file and call; what happens to names that
// nobody has.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "e2e/served.h"
#include "support/support.h"

#define PEFT GRAFT_TEST_SOURCE_DIR "/golden/peft"

// The answer of a model, greedy; *adapter and *version get what the reply says.
static char *answer(const char *model, char adapter[80], int *version)
{
    char body[512];
    snprintf(body, sizeof body,
             "{\"model\": \"%s\", \"messages\": [{\"role\": \"user\", \"content\": \"What is it?\"}], \"max_tokens\": 12, "
             "\"temperature\": 0}",
             model);
    json_t *r = post_json("/v1/chat/completions", body, 200);
    const json_t *message = json_object_get(json_array_get(json_object_get(r, "choices"), 0), "message");
    const char *name = json_string_value(json_object_get(r, "adapter"));
    ck_assert_str_eq(json_string_value(json_object_get(r, "model")), model);
    snprintf(adapter, 80, "%s", name ? name : "");
    *version = (int)json_integer_value(json_object_get(r, "adapter_version"));
    char *text = strdup(json_string_value(json_object_get(message, "content")));
    json_decref(r);
    return text;
}

static void expect(const char *model, const char *text, const char *adapter, int version)
{
    char name[80];
    int number;
    char *got = answer(model, name, &number);
    ck_assert_msg(strcmp(got, text) == 0 && strcmp(name, adapter) == 0 && number == version, "%s: %s %d \"%s\", not \"%s\"",
                  model, name, number, got, text);
    free(got);
}

static int put(const char *alias, const char *body)
{
    char path[256];
    snprintf(path, sizeof path, "/v1/aliases/%s", alias);
    return ask_operator("PUT", path, body)->status;
}

// The card of a model, or NULL.
static json_t *card_of(const char *id)
{
    json_t *list = json_loads(ask_server("GET", "/v1/models", "", NULL)->body, 0, NULL), *item, *found = NULL;
    size_t i;
    json_array_foreach(json_object_get(list, "data"), i, item)
    {
        found = strcmp(json_string_value(json_object_get(item, "id")), id) == 0 ? json_incref(item) : found;
    }
    json_decref(list);
    return found;
}

static void write_file(const char *text)
{
    FILE *file = fopen("aliases.json", "wb");
    ck_assert(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

START_TEST(aliases_lead_where_they_were_set)
{
    char name[80];
    int number;
    ck_assert_int_eq(system("mkdir dir && cp -r '" PEFT "/plain' dir/legal && cp -r '" PEFT "/rslora' dir/newer"), 0);
    write_file("{\"gpt-4o\": \"base\", \"lawyer\": \"legal@prod\", \"legal@prod\": \"1\"}");
    served_begin("--adapter-dir dir -c 256 --alias-file aliases.json --alias org/model=legal");
    char *base = answer("base", name, &number), *one = answer("legal", name, &number), *two = answer("newer", name, &number);
    ck_assert(strcmp(base, one) != 0 && strcmp(one, two) != 0);
    expect("gpt-4o", base, "", 0);
    expect("lawyer", one, "legal", 1);
    expect("legal@prod", one, "legal", 1);
    expect("base:legal@prod", one, "legal", 1);
    expect("org/model", one, "legal", 1);
    // The name has another content; its label, and what stands for the label, stay with the old one.
    ck_assert_int_eq(ask_operator("PUT", "/v1/adapters/legal", "{\"path\": \"newer\"}")->status, 200);
    expect("legal", two, "legal", 2);
    expect("org/model", two, "legal", 2);
    expect("lawyer", one, "legal", 1);
    expect("legal@1", one, "legal", 1); // a label keeps it
    ck_assert_int_eq(put("legal@next", "{}"), 200);
    expect("legal@next", two, "legal", 2);
    ck_assert_int_eq(put("legal@prod", "{\"version\": 2}"), 200);
    expect("lawyer", two, "legal", 2);
    json_decref(post_json("/v1/chat/completions",
                          "{\"model\": \"legal@1\", \"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}", 404));
    // Cards
    json_t *card = card_of("lawyer");
    ck_assert(card && strcmp(json_string_value(json_object_get(card, "root")), "legal") == 0 &&
              strcmp(json_string_value(json_object_get(card, "parent")), "base") == 0 &&
              json_string_length(json_object_get(json_object_get(card, "meta"), "digest")) == 64);
    json_decref(card);
    card = card_of("gpt-4o");
    ck_assert(card && strcmp(json_string_value(json_object_get(card, "root")), "base") == 0 &&
              json_is_null(json_object_get(card, "parent")));
    json_decref(card);
    card = card_of("legal@prod");
    ck_assert(card && json_integer_value(json_object_get(json_object_get(card, "meta"), "version")) == 2);
    json_decref(card);
    ck_assert_ptr_nonnull(strstr(ask_server("GET", "/v1/models/lawyer", "", NULL)->body, "\"id\":\"lawyer\""));
    ck_assert_ptr_nonnull(strstr(ask_server("GET", "/v1/models/legal@prod", "", NULL)->body, "\"id\":\"legal@prod\""));
    ck_assert_ptr_nonnull(strstr(ask_server("GET", "/v1/adapters/legal", "", NULL)->body, "\"prod\":2"));
    ck_assert_ptr_nonnull(strstr(ask_server("GET", "/v1/aliases", "", NULL)->body, "\"alias\":\"lawyer\""));
    // Calls that cannot be
    ck_assert_int_eq(put("x", "{\"model\": \"nobody\"}"), 404);
    ck_assert_int_eq(put("x", "{\"model\": \"legal@9\"}"), 404);
    ck_assert_int_eq(put("x", "{}"), 400);
    ck_assert_int_eq(put("x", "{\"modle\": \"base\"}"), 422);
    ck_assert_int_eq(put("legal", "{\"model\": \"base\"}"), 409);
    ck_assert_int_eq(put("base", "{\"model\": \"legal\"}"), 409);
    ck_assert_int_eq(put("legal@7", "{}"), 400);
    ck_assert_int_eq(put("legal@x", "{\"version\": 9}"), 404);
    ck_assert_int_eq(put("legal@x", "{\"version\": 1, \"generation\": \"0123456789\"}"), 400);
    ck_assert_int_eq(put("nobody@x", "{}"), 404);
    ck_assert_int_eq(ask_operator("POST", "/v1/adapters", "{\"name\": \"lawyer\", \"path\": \"newer\"}")->status, 409);
    ck_assert_int_eq(ask_operator("DELETE", "/v1/aliases/x", NULL)->status, 404);
    ck_assert_int_ne(ask_server("PUT", "/v1/aliases/y", "Content-Type: application/json\r\n", "{\"model\": \"base\"}")->status,
                     200);
    ck_assert_int_eq(put("y", "{\"model\": \"newer\"}"), 200);
    expect("y", two, "newer", 1);
    ck_assert_int_eq(ask_operator("DELETE", "/v1/aliases/y", NULL)->status, 200);
    json_decref(
        post_json("/v1/chat/completions", "{\"model\": \"y\", \"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}", 404));
    // The file again: what it does not name goes, what a call has set stays; a file that is none changes nothing.
    write_file("{");
    kill(served_pid(), SIGHUP);
    usleep(300000);
    expect("lawyer", two, "legal", 2);
    write_file("{\"counsel\": \"legal\"}");
    kill(served_pid(), SIGHUP);
    for (int i = 0; i < 100 && !strstr(ask_server("GET", "/v1/aliases", "", NULL)->body, "counsel"); i++) {
        usleep(20000);
    }
    expect("counsel", two, "legal", 2);
    expect("legal@next", two, "legal", 2);
    ck_assert_ptr_null(strstr(ask_server("GET", "/v1/aliases", "", NULL)->body, "lawyer"));
    ck_assert_int_eq(ask_operator("DELETE", "/v1/adapters/legal", NULL)->status, 200);
    json_decref(post_json("/v1/chat/completions",
                          "{\"model\": \"counsel\", \"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}", 404));
    served_end();
    free(base), free(one), free(two);
}
END_TEST

START_TEST(a_model_that_is_none_may_be_the_base)
{
    char name[80];
    int number;
    served_begin("--adapter-dir '" PEFT "' -c 256 --model-fallback base");
    char *base = answer("base", name, &number), *plain = answer("plain", name, &number);
    expect("gpt-4o-mini", base, "", 0);
    ck_assert_str_eq(
        reply_header(
            ask_server("POST", "/v1/chat/completions", "Content-Type: application/json\r\n",
                       "{\"model\": \"x\", \"max_tokens\": 1, \"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}"),
            "x-model-fallback"),
        "base");
    expect("plain", plain, "plain", 1);
    ck_assert_ptr_null(reply_header(
        ask_server("POST", "/v1/chat/completions", "Content-Type: application/json\r\n",
                   "{\"model\": \"plain\", \"max_tokens\": 1, \"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}"),
        "x-model-fallback"));
    ck_assert_double_eq(metric("graft_model_fallbacks_total"), 2);
    // Who names an adapter in another way means it.
    json_decref(post_json("/v1/nothing/chat/completions", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}", 404));
    json_decref(post_json("/v1/chat/completions",
                          "{\"adapter\": \"nothing\", \"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}", 404));
    ck_assert_int_eq(ask_server("GET", "/v1/models/nothing", "", NULL)->status, 404);
    served_end();
    free(base), free(plain);
}
END_TEST

// In the cards stands what sha256sum says of the file; the server finds it after it has begun to answer.
START_TEST(the_base_has_the_digest_of_its_file)
{
    char want[65] = "", got[65] = "";
    ck_assert_int_eq(system("sha256sum '" PEFT "/base.gguf' > sum"), 0);
    FILE *file = fopen("sum", "rb");
    ck_assert(file && fscanf(file, "%64[0-9a-f]", want) == 1 && fclose(file) == 0);
    served_begin("-c 64");
    for (int i = 0; i < 500 && !*got; i++) {
        json_t *card = card_of("base");
        const char *text = json_string_value(json_object_get(json_object_get(card, "meta"), "digest"));
        snprintf(got, sizeof got, "%s", text ? text : "");
        json_decref(card);
        usleep(20000);
    }
    ck_assert_str_eq(got, want);
    served_end();
}
END_TEST

START_TEST(bad_aliases_stop_the_start)
{
    const struct ran *ran = command("serve -m '" PEFT "/base.gguf' --device ref --listen 127.0.0.1:0 --alias x");
    ck_assert_three_parts(ran, "x");
    ran = command("serve -m '" PEFT "/base.gguf' --device ref --listen 127.0.0.1:0 --alias-file none.json");
    ck_assert_three_parts(ran, "none.json");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serve names");
    TCase *tests = tcase_create("serve names");
    tcase_set_timeout(tests, 240);
    tcase_add_checked_fixture(tests, command_begin, command_end);
    tcase_add_test(tests, aliases_lead_where_they_were_set);
    tcase_add_test(tests, a_model_that_is_none_may_be_the_base);
    tcase_add_test(tests, the_base_has_the_digest_of_its_file);
    tcase_add_test(tests, bad_aliases_stop_the_start);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
