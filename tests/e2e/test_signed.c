// SPDX-License-Identifier: Apache-2.0
// --require-signed of serve, run and adapter: signed adapters work, others are refused by name, and nothing changes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "e2e/served.h"
#include "support/support.h"

#define GOLDEN GRAFT_TEST_SOURCE_DIR "/golden"
#define TRUST  "--require-signed '" GOLDEN "/minisign/trusted.pub'"

static void lay_out(void)
{
    ck_assert_int_eq(system("mkdir dir && cp -r '" GOLDEN "/peft/plain' dir/legal && cp '" GOLDEN
                            "/minisign/plain/'* dir/legal && "
                            "cp -r '" GOLDEN "/peft/rslora' dir/bare && cp -r dir/legal dir/changed && cp '" GOLDEN
                            "/peft/rslora/adapter_model.safetensors' dir/changed"),
                     0);
}

START_TEST(unsigned_adapters_are_not_served)
{
    static const char ask[] =
        "{\"model\": \"%s\", \"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"max_tokens\": 5}";
    char body[256];
    lay_out();
    served_begin("--adapter-dir dir -c 256 " TRUST);
    snprintf(body, sizeof body, ask, "legal");
    json_decref(post_json("/v1/chat/completions", body, 200));
    const struct reply *r = ask_server("GET", "/v1/adapters/legal", "", NULL);
    ck_assert_ptr_nonnull(strstr(r->body, "\"signed_by\":\"CE5160760C024947\""));
    static const char *const bad[] = {"bare", "changed"};
    for (int i = 0; i < 2; i++) {
        snprintf(body, sizeof body, ask, bad[i]);
        json_t *reply = post_json("/v1/chat/completions", body, 503); // it is known, but cannot be used
        ck_assert_str_eq(json_string_value(json_object_get(json_object_get(reply, "error"), "code")),
                         "adapter_signature_invalid");
        json_decref(reply);
        snprintf(body, sizeof body, "{\"path\": \"%s\"}", bad[i]);
        r = ask_operator("PUT", "/v1/adapters/legal", body);
        ck_assert_msg(r->status == 403 && strstr(r->body, "adapter_signature_invalid"), "%d %s", r->status, r->body);
        snprintf(body, sizeof body, "{\"lora_name\": \"new\", \"lora_path\": \"%s\"}", bad[i]);
        ck_assert_int_eq(ask_operator("POST", "/v1/load_lora_adapter", body)->status, 403);
    }
    snprintf(body, sizeof body, ask, "legal@1");
    json_decref(post_json("/v1/chat/completions", body, 200)); // as it was
    ck_assert_int_eq(ask_server("GET", "/v1/adapters/new", "", NULL)->status, 404);
    served_end();
}
END_TEST

START_TEST(the_command_refuses_them_too)
{
    lay_out();
    const struct ran *ran = command("adapter verify dir/legal " TRUST " --json");
    ck_assert_code(ran, 0);
    ck_assert_ptr_nonnull(strstr(ran->out, "CE5160760C024947"));
    ran = command("adapter inspect dir/legal " TRUST);
    ck_assert_code(ran, 0);
    ck_assert_ptr_nonnull(strstr(ran->out, "signed by    CE5160760C024947"));
    ran = command("adapter verify dir/bare " TRUST);
    ck_assert_code(ran, 6);
    ck_assert_three_parts(ran, "SHA256SUMS");
    ran = command("adapter verify dir/bare");
    ck_assert_code(ran, 0);
    ran = command("run -m '" GOLDEN "/peft/base.gguf' --device ref -p Hi -n 2 --adapter dir/changed " TRUST);
    ck_assert_code(ran, 6);
    ran = command("run -m '" GOLDEN "/peft/base.gguf' --device ref -p Hi -n 2 --adapter dir/legal " TRUST);
    ck_assert_code(ran, 0);
    ran = command("adapter verify dir/legal --require-signed '" GOLDEN "/minisign/other.pub'");
    ck_assert_code(ran, 6);
    ck_assert_three_parts(ran, "not trusted");
    ran = command("adapter verify dir/legal --require-signed '" GOLDEN "/minisign/data'");
    ck_assert_code(ran, 3);
    ck_assert_three_parts(ran, "is no minisign public key");
    ran = command("adapter verify dir/legal --require-signed none.pub");
    ck_assert_code(ran, 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("signed");
    TCase *tests = tcase_create("signed");
    tcase_set_timeout(tests, 240);
    tcase_add_checked_fixture(tests, command_begin, command_end);
    tcase_add_test(tests, unsigned_adapters_are_not_served);
    tcase_add_test(tests, the_command_refuses_them_too);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
