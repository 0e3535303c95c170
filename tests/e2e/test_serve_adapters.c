// SPDX-License-Identifier: Apache-2.0
// Adapters of graft serve: no contamination, life beside requests, pools that are too small, paths, keys.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "e2e/served.h"
#include "support/support.h"

#define PEFT   GRAFT_TEST_SOURCE_DIR "/golden/peft"
#define PROMPT "0123456789 what a long prompt, of more than two pages of the cache, so that something can be reused"

// The answer to PROMPT with these members of the body; to be freed.
static char *answer(const char *members)
{
    char body[1024];
    snprintf(body, sizeof body,
             "{\"messages\": [{\"role\": \"user\", \"content\": \"" PROMPT "\"}], \"max_tokens\": 12, \"temperature\": 0%s%s}",
             *members ? ", " : "", members);
    json_t *r = post_json("/v1/chat/completions", body, 200);
    const json_t *choice = json_array_get(json_object_get(r, "choices"), 0);
    char *text = strdup(json_string_value(json_object_get(json_object_get(choice, "message"), "content")));
    json_decref(r);
    return text;
}

// What graft run says, with these options; to be freed.
static char *alone(const char *options)
{
    json_t *r = command_json(
        command("run -m '" PEFT "/base.gguf' --device ref -c 256 %s -p '" PROMPT "' --temp 0 -n 12 --json", options));
    char *text = strdup(json_string_value(json_object_get(r, "text")));
    json_decref(r);
    return text;
}

#define ck_assert_text(got, want, what)                                                                                        \
    do {                                                                                                                       \
        char *got_ = (got);                                                                                                    \
        ck_assert_msg(strcmp(got_, (want)) == 0, "%s: \"%s\", not \"%s\"", (what), got_, (want));                              \
        free(got_);                                                                                                            \
    } while (0)

static int id_of(const char *name)
{
    json_t *list = json_loads(ask_server("GET", "/lora-adapters", "", NULL)->body, 0, NULL), *item;
    size_t i;
    int id = -1;
    json_array_foreach(list, i, item)
    {
        if (strcmp(json_string_value(json_object_get(item, "path")), name) == 0) {
            id = (int)json_integer_value(json_object_get(item, "id"));
        }
    }
    json_decref(list);
    return id;
}

START_TEST(requests_do_not_touch_each_other)
{
    char *base = alone(""), *a = alone("--adapter '" PEFT "/plain'"), *b = alone("--adapter '" PEFT "/dora'");
    char *half = alone("--adapter '" PEFT "/plain:0.5'"), *minus = alone("--adapter '" PEFT "/plain:-1'");
    char *both = alone("--adapter '" PEFT "/plain:0.5' --adapter '" PEFT "/rslora:0.25'");
    ck_assert(strcmp(base, a) != 0 && strcmp(a, b) != 0 && strcmp(a, half) != 0);
    served_begin("--adapter-dir '" PEFT "' -c 1024 -np %d", _i);
    for (int round = 0; round < 3; round++) {
        ck_assert_text(answer("\"model\": \"plain\""), a, "A");
        ck_assert_text(answer("\"model\": \"dora\""), b, "B");
        ck_assert_text(answer(""), base, "nothing said");
        ck_assert_text(answer("\"lora\": []"), base, "[]");
        ck_assert_text(answer("\"lora\": [{\"name\": \"plain\", \"scale\": 0.5}]"), half, "A at half");
        ck_assert_text(answer("\"adapter\": {\"name\": \"plain\", \"scale\": 0}"), base, "A at 0");
        ck_assert_text(answer("\"adapter\": {\"name\": \"plain\", \"scale\": -1}"), minus, "A at -1");
        ck_assert_text(answer("\"lora\": [{\"name\": \"plain\", \"scale\": 0.5}, {\"name\": \"rslora\", \"scale\": 0.25}]"),
                       both, "a blend");
        ck_assert_text(answer("\"model\": \"base:plain\""), a, "BASE:A");
        ck_assert_text(answer("\"model\": \"plain@1\", \"adapter\": \"plain\""), a, "A twice");
    }
    ck_assert_double_gt(metric("graft_reused_prompt_tokens_total{adapter=\"plain\"}"), 0);
    char body[256]; // the default set
    snprintf(body, sizeof body, "[{\"id\": %d, \"scale\": 0.5}]", id_of("plain"));
    ck_assert_int_eq(ask_operator("POST", "/lora-adapters", body)->status, 200);
    ck_assert_text(answer(""), half, "the default set");
    ck_assert_text(answer("\"lora\": []"), base, "[] is the base");
    static const char *const bad[] = {"{}",
                                      "[{\"id\": 99, \"scale\": 1}]",
                                      "[{\"id\": 0}]",
                                      "[{\"id\": 0, \"scale\": 1}, {\"id\": 0, \"scale\": 1}]",
                                      "[{\"id\": 0, \"scale\": 1e300}]",
                                      "[1]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(ask_operator("POST", "/lora-adapters", bad[i])->status == 400, "%s", bad[i]);
    }
    ck_assert_text(answer(""), half, "the default set is as it was");
    ck_assert_int_eq(ask_operator("POST", "/lora-adapters", "[]")->status, 200);
    ck_assert_text(answer(""), base, "no default set");
    served_end();
    free(base), free(a), free(b), free(half), free(minus), free(both);
}
END_TEST

static double pool_used(void)
{
    json_t *r = json_loads(ask_operator("GET", "/v1/memory", NULL)->body, 0, NULL);
    double used = json_number_value(json_object_get(json_object_get(r, "adapter_pool"), "used"));
    json_decref(r);
    return used;
}

START_TEST(names_come_change_and_go_beside_requests)
{
    char *a = alone("--adapter '" PEFT "/plain'"), *b = alone("--adapter '" PEFT "/rslora'");
    ck_assert_int_eq(system("mkdir dir && cp -r '" PEFT "/plain' dir/one && cp -r '" PEFT
                            "/rslora' dir/two && ln -s /etc dir/out && "
                            "mkdir dir/bad && cp '" PEFT
                            "/plain/adapter_config.json' dir/bad && echo junk > dir/bad/adapter_model.safetensors"),
                     0);
    served_begin("--adapter-dir dir -c 256 -np 2");
    ck_assert_int_eq(id_of("out"), -1);
    double before = pool_used();
    // vLLM's calls
    const struct reply *r = ask_operator("POST", "/v1/load_lora_adapter", "{\"lora_name\": \"n\", \"lora_path\": \"one\"}");
    ck_assert_str_eq(r->body, "Success: LoRA adapter 'n' added successfully.");
    ck_assert_text(answer("\"model\": \"n\""), a, "loaded");
    ck_assert_double_gt(pool_used(), before);
    static const struct {
        const char *body;
        int status;
        const char *says;
    } cases[] = {{"{\"lora_name\": \"n\"}", 400, "Both 'lora_name' and 'lora_path' must be provided."},
                 {"{\"lora_name\": \"n\", \"lora_path\": \"two\"}", 400, "load_inplace"},
                 {"{\"lora_name\": \"m\", \"lora_path\": \"none\"}", 404, "adapter_file_not_found"},
                 {"{\"lora_name\": \"m\", \"lora_path\": \"../dir/one\"}", 403, "adapter_path_forbidden"},
                 {"{\"lora_name\": \"m\", \"lora_path\": \"out\"}", 403, "adapter_path_forbidden"},
                 {"{\"lora_name\": \"m\", \"lora_path\": \"out/ssl\"}", 403, "adapter_path_forbidden"},
                 {"{\"lora_name\": \"m\", \"lora_path\": \"/etc\"}", 403, "adapter_path_forbidden"},
                 {"{\"lora_name\": \"a/b\", \"lora_path\": \"one\"}", 400, "invalid_lora_name"},
                 {"{\"lora_name\": \"m\", \"lora_path\": \"bad\"}", 400, "invalid_lora_adapter"},
                 {"{\"lora_name\": \"n\", \"lora_path\": \"bad\", \"load_inplace\": true}", 400, "invalid_lora_adapter"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        r = ask_operator("POST", "/v1/load_lora_adapter", cases[i].body);
        ck_assert_msg(r->status == cases[i].status && strstr(r->body, cases[i].says), "%s: %d %s", cases[i].body, r->status,
                      r->body);
    }
    ck_assert_text(answer("\"model\": \"n\""), a, "nothing was changed");
    // one that runs while its name is unloaded ends as it would have
    const char *slow =
        "{\"model\": \"n\", \"prompt\": \"abc\", \"max_tokens\": 200, \"temperature\": 0, " NO_END "}";
    json_t *whole = post_json("/v1/completions", slow, 200);
    int fd = open_request("/v1/completions", slow);
    ck_assert(metric_becomes("graft_requests_running{adapter=\"n\"}", 1) || true);
    r = ask_operator("POST", "/v1/unload_lora_adapter", "{\"lora_name\": \"n\"}");
    ck_assert_str_eq(r->body, "Success: LoRA adapter 'n' removed successfully.");
    ck_assert_int_eq(ask_operator("POST", "/v1/unload_lora_adapter", "{\"lora_name\": \"n\"}")->status, 404);
    char said[16384] = "";
    for (size_t n = 0, k = 1; k > 0 && n + 1 < sizeof said; n += k) {
        ssize_t got = recv(fd, said + n, sizeof said - 1 - n, 0);
        k = got > 0 ? (size_t)got : 0;
    }
    close(fd);
    char *text = json_dumps(json_object_get(json_array_get(json_object_get(whole, "choices"), 0), "text"), JSON_ENCODE_ANY);
    ck_assert_msg(strstr(said, "200 OK") && strstr(said, "\"length\""), "%s", said);
    free(text);
    json_decref(whole);
    json_decref(post_json("/v1/completions", slow, 404));
    for (int i = 0; i < 100 && pool_used() != before; i++) {
        usleep(20000);
    }
    ck_assert_double_eq(pool_used(), before); // its bytes are back
    // generations
    r = ask_operator("POST", "/v1/adapters", "{\"name\": \"g\", \"path\": \"one\"}");
    ck_assert_int_eq(r->status, 200);
    json_t *first = json_loads(r->body, 0, NULL);
    char generation[32], body[256];
    snprintf(generation, sizeof generation, "%s", json_string_value(json_object_get(first, "generation")));
    json_decref(first);
    ck_assert_int_eq(ask_operator("POST", "/v1/adapters", "{\"name\": \"g\", \"path\": \"one\"}")->status, 409);
    ck_assert_int_eq(
        ask_operator("POST", "/v1/adapters", "{\"name\": \"h\", \"path\": \"one\", \"load_inpalce\": true}")->status, 422);
    r = ask_operator("PUT", "/v1/adapters/g", "{\"path\": \"two\", \"expected_generation\": \"0123456789abcdef\"}");
    ck_assert(r->status == 409 && strstr(r->body, "lora_generation_mismatch"));
    ck_assert_text(answer("\"model\": \"g\""), a, "compare and set: nothing was changed");
    snprintf(body, sizeof body, "{\"path\": \"two\", \"expected_generation\": \"%s\"}", generation);
    r = ask_operator("PUT", "/v1/adapters/g", body);
    ck_assert(r->status == 200 && strstr(r->body, "\"version\": 2") != strstr(r->body, "\"version\":2"));
    ck_assert_text(answer("\"model\": \"g\""), b, "replaced");
    ck_assert_text(answer("\"model\": \"g@2\""), b, "version 2");
    snprintf(
        body, sizeof body,
        "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"adapter\": {\"name\": \"g\", \"generation\": \"%s\"}}",
        generation);
    json_decref(post_json("/v1/chat/completions", body, 404)); // pinned, but gone
    r = ask_operator("PUT", "/v1/adapters/g", "{\"path\": \"two\"}");
    ck_assert_msg(strstr(r->body, "\"version\":2"), "the same content is the same version: %s", r->body);
    // the same name and path, other bytes
    ck_assert_int_eq(system("cp dir/two/* dir/one/"), 0);
    ck_assert_int_eq(ask_operator("PUT", "/v1/adapters/one", "{}")->status, 200);
    ck_assert_text(answer("\"model\": \"one\""), b, "other bytes under the same name");
    ck_assert_int_eq(ask_operator("DELETE", "/v1/adapters/g", NULL)->status, 200);
    ck_assert_int_eq(ask_operator("DELETE", "/v1/adapters/g", NULL)->status, 404);
    r = ask_server("POST", "/v1/adapters", "", "{\"name\": \"h\", \"path\": \"one\"}");
    ck_assert_msg(r->status == 404 || r->status == 405 || r->status == 403, "changes are the operators': %d", r->status);
    served_end();
    free(a), free(b);
}
END_TEST

// Every value of a file of f32 tensors becomes this one.
static void fill_adapter(const char *path, float value)
{
    uint64_t head = 0;
    FILE *file = fopen(path, "r+b");
    ck_assert(file && fread(&head, sizeof head, 1, file) == 1 && fseek(file, 0, SEEK_END) == 0);
    long size = ftell(file);
    ck_assert_int_eq(fseek(file, (long)(sizeof head + head), SEEK_SET), 0);
    for (long at = (long)(sizeof head + head); at < size; at += (long)sizeof value) {
        ck_assert_uint_eq(fwrite(&value, sizeof value, 1, file), 1);
    }
    ck_assert_int_eq(fclose(file), 0);
}

// F14: an adapter whose results are no numbers is set aside after three requests, and serves again when it is sound.
START_TEST(an_adapter_that_gives_no_numbers_is_set_aside)
{
    char *base = alone(""), *plain = alone("--adapter '" PEFT "/plain'");
    ck_assert_int_eq(system("mkdir dir && cp -r '" PEFT "/plain' dir/wild && cp -r '" PEFT "/plain' dir/good"), 0);
    fill_adapter("dir/wild/adapter_model.safetensors", 45000.0f);
    static const char *const verbs[] = {"run -p x -n 2", "eval -f dir/good/adapter_config.json"};
    for (int i = 0; i < 2; i++) {
        const struct ran *ran = command("%s -m '" PEFT "/base.gguf' --device ref -c 256 --adapter dir/wild", verbs[i]);
        ck_assert_code(ran, 1);
        ck_assert_three_parts(ran, "number");
    }
    served_begin("--adapter-dir dir -c 256 -np 2");
    static const char wild[] = "{\"model\": \"wild\", \"prompt\": \"" PROMPT "\", \"max_tokens\": 4}";
    for (int i = 0; i < 4; i++) {
        json_t *r = post_json("/v1/completions", wild, i < 3 ? 500 : 503);
        ck_assert_str_eq(json_string_value(json_object_get(json_object_get(r, "error"), "code")),
                         i < 3 ? "not_finite" : "adapter_quarantined");
        json_decref(r);
        ck_assert_text(answer("\"model\": \"base\""), base, "beside it");
        ck_assert_text(answer("\"model\": \"good\""), plain, "at scale 1");
    }
    ck_assert(metric("graft_faults_total{adapter=\"wild\"}") == 3 && metric("graft_faults_total{adapter=\"good\"}") == 0);
    ck_assert(metric("graft_adapter_quarantined{adapter=\"wild\"}") == 1 &&
              metric("graft_adapter_quarantined{adapter=\"good\"}") == 0);
    ck_assert(metric("graft_reused_prompt_tokens_total{adapter=\"wild\"}") == 0); // what it left behind is not found again
    ck_assert(strstr(command("ps --all \"unix:$PWD/op.sock\"")->out, "refused"));
    // the same bytes have another three chances; sound ones serve
    ck_assert_int_eq(ask_operator("PUT", "/v1/adapters/wild", "{}")->status, 200);
    json_decref(post_json("/v1/completions", wild, 500));
    ck_assert_int_eq(ask_operator("PUT", "/v1/adapters/wild", "{\"path\": \"good\"}")->status, 200);
    ck_assert_text(answer("\"model\": \"wild\""), plain, "mended");
    served_end();
    free(base), free(plain);
}
END_TEST

START_TEST(more_adapters_than_room)
{
    static const char *const names[] = {"plain", "rslora", "dora", "bias", "norms", "rank1"};
    char *texts[6], member[64];
    for (int i = 0; i < 6; i++) {
        char options[512];
        snprintf(options, sizeof options, "--adapter '" PEFT "/%s'", names[i]);
        texts[i] = alone(options);
    }
    served_begin("--adapter-dir '" PEFT "' -c 1024 -np 4 --adapter-slots 2");
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 6; i++) {
            snprintf(member, sizeof member, "\"model\": \"%s\"", names[i]);
            ck_assert_text(answer(member), texts[i], names[i]);
        }
    }
    ck_assert_double_gt(metric("graft_adapter_evictions_total{adapter=\"plain\"}"), 0);
    ck_assert_double_gt(metric("graft_adapter_loads_total{adapter=\"plain\"}"), 1);
    const struct ran *ran =
        command("load-test --url 127.0.0.1:%u --streams 8 --requests 60 --mix plain,rslora,dora,bias,norms,none -n 8 "
                "--prompt-words 8",
                served_port());
    ck_assert_code(ran, 0);
    json_decref(post_json(
        "/v1/chat/completions", // three adapters never fit
        "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"lora\": [{\"name\": \"plain\"}, {\"name\": \"dora\"}, "
        "{\"name\": \"bias\"}]}",
        503));
    ck_assert_int_eq(ask_operator("POST", "/v1/adapters/plain/pin", "{}")->status, 200);
    ck_assert_int_eq(ask_operator("POST", "/v1/adapters/dora/pin", "{}")->status, 409); // one slot stays free
    ck_assert_int_eq(ask_operator("POST", "/v1/adapters/plain/warm", "{}")->status, 200);
    double loads = metric("graft_adapter_loads_total{adapter=\"plain\"}");
    for (int i = 0; i < 6; i++) {
        snprintf(member, sizeof member, "\"model\": \"%s\"", names[i]);
        ck_assert_text(answer(member), texts[i], names[i]);
    }
    ck_assert_double_eq(metric("graft_adapter_loads_total{adapter=\"plain\"}"), loads);
    ck_assert_double_eq(metric("graft_adapter_resident{adapter=\"plain\",level=\"device\",pinned=\"true\"}"), 1);
    served_end();
    for (int i = 0; i < 6; i++) {
        free(texts[i]);
    }
}
END_TEST

START_TEST(ways_to_choose_agree)
{
    char *a = alone("--adapter '" PEFT "/plain'");
    const char *body =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"" PROMPT "\"}], \"max_tokens\": 12, \"temperature\": 0}";
    served_begin("--adapter legal='" PEFT "/plain' --adapter-dir '" PEFT "' -c 256");
    static const char *const ways[][2] = {{"/v1/legal/chat/completions", ""},
                                          {"/v1/chat/completions", "X-Adapter-ID: legal\r\n"},
                                          {"/v1/legal/chat/completions", "X-Adapter-ID: legal@1\r\n"}};
    for (size_t i = 0; i < 3; i++) {
        json_t *r = json_loads(ask_server("POST", ways[i][0], ways[i][1], body)->body, 0, NULL);
        const json_t *choice = json_array_get(json_object_get(r, "choices"), 0);
        ck_assert_str_eq(json_string_value(json_object_get(json_object_get(choice, "message"), "content")), a);
        json_decref(r);
    }
    ck_assert_int_eq(ask_server("POST", "/v1/legal/chat/completions", "X-Adapter-ID: dora\r\n", body)->status, 400);
    ck_assert_int_eq(ask_server("POST", "/v1/chat/completions", "X-Adapter-ID: nothing\r\n", body)->status, 404);
    served_end();
    free(a);
}
END_TEST

START_TEST(what_is_not_yours_does_not_exist)
{
    char key[256], header[400], unknown[512], forbidden[512];
    const struct ran *r = command("key --keys keys.json --tenant a --allow-adapter plain");
    ck_assert_code(r, 0);
    snprintf(key, sizeof key, "%.*s", (int)strcspn(r->out, "\n"), r->out);
    snprintf(header, sizeof header, "Authorization: Bearer %s\r\n", key);
    served_begin("--adapter-dir '" PEFT "' -c 256 --keys keys.json");
    ck_assert_int_eq(ask_server("GET", "/v1/models", "", NULL)->status, 401);
    const struct reply *reply = ask_server("GET", "/v1/models", header, NULL);
    ck_assert(strstr(reply->body, "\"plain\"") && !strstr(reply->body, "dora"));
    ck_assert_ptr_null(strstr(ask_server("GET", "/metrics", header, NULL)->body, "dora"));
    ck_assert_ptr_null(strstr(ask_server("GET", "/v1/adapters", header, NULL)->body, "dora"));
    const char *body = "{\"model\": \"%s\", \"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"max_tokens\": 2}";
    char text[256];
    snprintf(text, sizeof text, body, "plain");
    ck_assert_int_eq(ask_server("POST", "/v1/chat/completions", header, text)->status, 200);
    snprintf(text, sizeof text, body, "dora");
    snprintf(forbidden, sizeof forbidden, "%.500s", ask_server("POST", "/v1/chat/completions", header, text)->body);
    snprintf(text, sizeof text, body, "dorb");
    snprintf(unknown, sizeof unknown, "%.500s", ask_server("POST", "/v1/chat/completions", header, text)->body);
    ck_assert_ptr_nonnull(strstr(forbidden, "`dora` does not exist"));
    memcpy(strstr(forbidden, "dora"), "dorb", 4);
    ck_assert_str_eq(forbidden, unknown);
    ck_assert_int_eq(ask_server("GET", "/v1/models/dora", header, NULL)->status, 404);
    ck_assert_int_eq(ask_server("GET", "/v1/adapters/dora", header, NULL)->status, 404);
    served_end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serve adapters");
    TCase *tests = tcase_create("serve adapters");
    tcase_set_timeout(tests, 240);
    tcase_add_checked_fixture(tests, command_begin, command_end);
    tcase_add_loop_test(tests, requests_do_not_touch_each_other, 1, 4);
    tcase_add_test(tests, names_come_change_and_go_beside_requests);
    tcase_add_test(tests, an_adapter_that_gives_no_numbers_is_set_aside);
    tcase_add_test(tests, more_adapters_than_room);
    tcase_add_test(tests, ways_to_choose_agree);
    tcase_add_test(tests, what_is_not_yours_does_not_exist);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
