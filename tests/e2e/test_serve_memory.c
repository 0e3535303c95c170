// SPDX-License-Identifier: Apache-2.0
// The server without memory: every allocation of every kind of request fails once, and it costs that request alone.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "e2e/served.h"
#include "support/support.h"

static const struct {
    const char *method, *path, *body;
    bool operators;
} kinds[] = {
    {"POST", "/v1/chat/completions", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"max_tokens\": 2}", false},
    {"POST", "/v1/chat/completions",
     "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"max_tokens\": 2, \"stream\": true, \"logprobs\": true}",
     false},
    {"POST", "/v1/completions",
     "{\"prompt\": \"a\", \"max_tokens\": 2, \"model\": \"plain\", \"logit_bias\": {\"3\": 1}, \"stop\": [\"x\"]}", false},
    {"POST", "/v1/completions", "{\"prompt\": \"a\", \"max_tokens\": 2, \"response_format\": {\"type\": \"json_object\"}}",
     false},
    {"POST", "/v1/completions", "{\"prompt\": \"a\", \"model\": \"none\"}", false},
    {"POST", "/tokenize", "{\"content\": \"a few words\", \"with_pieces\": true}", false},
    {"POST", "/apply-template", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}", false},
    {"GET", "/metrics", NULL, false},
    {"GET", "/v1/models", NULL, false},
    {"GET", "/props", NULL, false},
    {"POST", "/v1/adapters", "{\"name\": \"more\", \"path\": \"rslora\", \"replace\": true}", true},
    {"DELETE", "/v1/adapters/more", NULL, true},
    {"POST", "/v1/scan-adapters", "{}", true},
};

static void arm(int k, int n)
{
    char text[32];
    snprintf(text, sizeof text, "%d %d", k, n);
    command_file("fail_at", text);
    unlink("failed");
    ck_assert_msg(kill(served_pid(), SIGUSR2) == 0 && waitpid(served_pid(), NULL, WNOHANG) == 0, "the server has ended");
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

static const struct reply *request(size_t kind)
{
    return kinds[kind].operators ? ask_operator(kinds[kind].method, kinds[kind].path, kinds[kind].body)
                                 : ask_server(kinds[kind].method, kinds[kind].path, "", kinds[kind].body);
}

START_TEST(memory_that_is_missing_costs_one_request)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    printf("skipped: a sanitizer has malloc\n");
    return;
#endif
    setenv("LD_PRELOAD", GRAFT_TEST_FAIL_MALLOC, 1);
    served_begin("--adapter-dir '%s/golden/peft' -c 256", GRAFT_TEST_SOURCE_DIR);
    unsetenv("LD_PRELOAD");
    unsigned points = 0, refused = 0, silent = 0;
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        for (int n = 1; n <= 3; n += 2) {                // one allocation, or three in a row
            for (int k = 1; k < 1500; k += 1 + k / 16) { // all of the first, and every 16th part further on
                arm(k, n);
                const struct reply *r = request(kind);
                bool fired = access("failed", F_OK) == 0;
                bool good = r->status < 500 || r->status == 500 || r->status == 503;
                points += fired;
                refused += r->status >= 500;
                silent += r->status == 0;
                ck_assert_msg(good, "%s, allocation %d: %d\n%s", kinds[kind].path, k, r->status, r->body);
                if (r->status >= 500) {
                    json_t *error = json_loads(r->body, 0, NULL);
                    ck_assert_msg(error != NULL, "%s, allocation %d: %d without JSON:\n%s", kinds[kind].path, k, r->status,
                                  r->body);
                    json_decref(error);
                }
                ck_assert_msg(kill(served_pid(), 0) == 0, "the server has ended");
                if (!fired && r->status < 500) { // libmicrohttpd may close one connection more
                    break;
                }
            }
        }
        arm(0, 0);
        ck_assert_int_eq(ask_server("GET", "/livez", "", NULL)->status, 200);
    }
    json_t *answer = post_json("/v1/completions", "{\"prompt\": \"a\", \"max_tokens\": 2}", 200);
    json_decref(answer);
    printf("%u failing allocations: %u requests refused, %u connections closed without a word\n", points, refused, silent);
    ck_assert_uint_gt(points, 300);
    served_end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serve_memory");
    TCase *tests = tcase_create("serve_memory");
    tcase_set_timeout(tests, 300);
    tcase_add_checked_fixture(tests, command_begin, command_end);
    tcase_add_test(tests, memory_that_is_missing_costs_one_request);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
