// SPDX-License-Identifier: Apache-2.0
// A server whose device is lost: streams end with an error, the device is set up again within 10 s, service goes on; one that
// is lost again and again ends the server, for its supervisor.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "e2e/served.h"
#include "graft/graft.h"
#include "support/support.h"

static const char answer_request[] = "{\"prompt\": \"a b c d\", \"max_tokens\": 12, \"temperature\": 0, \"model\": \"%s\"}";

// False, with a line, where there is no Vulkan device.
static bool begin(void)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    const char *note;
    uint32_t count;
    ck_assert_ok(graft_device_list(ctx, NULL, 0, &count, &note));
    graft_ctx_destroy(&ctx);
    if (note) {
        printf("skipped: %s\n", note);
        return false;
    }
    char lose[512];
    char *here = getcwd(NULL, 0);
    snprintf(lose, sizeof lose, "%s/lose", here);
    free(here);
    setenv("GRAFT_TEST_LOSE", lose, 1);
    setenv("VK_LAYER_PATH", GRAFT_TEST_LAYERS, 1);
    setenv("VK_INSTANCE_LAYERS", "VK_LAYER_GRAFT_lose", 1);
    served_begin("--device auto --adapter-dir adapters -c 256 -np 1");
    return true;
}

static char *answer_of(const char *model, int status)
{
    char body[256];
    snprintf(body, sizeof body, answer_request, model);
    json_t *answer = post_json("/v1/completions", body, status);
    const json_t *choice = json_array_get(json_object_get(answer, "choices"), 0);
    const char *text = json_string_value(json_object_get(choice, "text"));
    char *copy = strdup(text ? text : "");
    json_decref(answer);
    return copy;
}

static void copy_adapter(const char *from, const char *to)
{
    char line[1200];
    snprintf(line, sizeof line, "mkdir -p adapters && rm -rf adapters/%s && cp -rL '%s/golden/peft/%s' adapters/%s", to,
             GRAFT_TEST_SOURCE_DIR, from, to);
    ck_assert_int_eq(system(line), 0);
}

// Until the readiness probe has this status; seconds it took.
static double wait_for_readiness(int status)
{
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    double seconds;
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
        seconds = (double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) * 1e-9;
        ck_assert_double_lt(seconds, 60);
    } while (ask_server("GET", "/readyz", "", NULL)->status != status);
    return seconds;
}

START_TEST(streams_end_and_service_returns)
{
    copy_adapter("plain", "one");
    copy_adapter("rslora", "two");
    if (!begin()) {
        return;
    }
    char *base = answer_of("base", 200), *one = answer_of("one", 200), *two = answer_of("two", 200);
    int stream = open_request("/v1/completions",
                              "{\"prompt\": \"a\", \"max_tokens\": 200, \"stream\": true, \"temperature\": 1, \"seed\": 5, "
                              NO_END "}");
    char text[65536];
    size_t n = 0;
    ssize_t k = recv(stream, text, sizeof text - 1, 0);
    ck_assert_int_gt(k, 0);      // it has begun
    copy_adapter("dora", "two"); // its bytes cannot be read again
    command_file("lose", "");
    for (; k > 0; k = recv(stream, text + n, sizeof text - 1 - n, 0)) {
        n += (size_t)k;
    }
    text[n] = 0;
    close(stream);
    ck_assert_msg(strstr(text, "device_lost") && strstr(text, "[DONE]") == NULL, "%s", text);
    double seconds = wait_for_readiness(200);
    printf("the server was ready again after %.2f s\n", seconds);
    ck_assert_double_lt(seconds, 10);
    ck_assert(metric_becomes("graft_device_rebuilds_total", 1));
    char *again = answer_of("base", 200);
    ck_assert_str_eq(again, base);
    free(again);
    again = answer_of("one", 200);
    ck_assert_str_eq(again, one);
    free(again);
    again = answer_of("two", 200); // what the file holds now
    ck_assert_str_ne(again, two);
    ck_assert(metric_becomes("graft_device_lost", 0));
    free(again);
    free(base);
    free(one);
    free(two);
    served_end();
}
END_TEST

START_TEST(a_device_that_is_lost_again_and_again_ends_the_server)
{
    copy_adapter("plain", "one");
    if (!begin()) {
        return;
    }
    for (int i = 0; i < 4; i++) {
        char body[256];
        command_file("lose", "");
        snprintf(body, sizeof body, answer_request, "base");
        const struct reply *reply = ask_server("POST", "/v1/completions", "", body);
        ck_assert_int_eq(reply->status, 503);
        ck_assert_ptr_nonnull(strstr(reply->body, "device_lost"));
        if (i < 3) {
            wait_for_readiness(200);
        }
    }
    ck_assert_int_eq(served_wait(), 5); // EXIT_NO_DEVICE
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serve device");
    TCase *tests = tcase_create("device");
    tcase_set_timeout(tests, 240);
    tcase_add_checked_fixture(tests, command_begin, command_end);
    tcase_add_test(tests, streams_end_and_service_returns);
    tcase_add_test(tests, a_device_that_is_lost_again_and_again_ends_the_server);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
