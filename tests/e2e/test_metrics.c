// SPDX-License-Identifier: Apache-2.0
// /metrics of a server that has worked: sound text, bounded labels, right numbers; the dashboard and the alerts that read it.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "e2e/served.h"
#include "support/support.h"

enum { NAMES = 130, MOST_SERIES = 460 };

static void save_metrics(const char *path, const char *file)
{
    const struct reply *r = ask_server("GET", path, "", NULL);
    ck_assert_int_eq(r->status, 200);
    command_file(file, r->body);
}

// One of the scripts in tests/serve, with the interpreter of the tests if there is one.
static void check_with(const char *script, const char *arguments)
{
    const char *python = getenv("GRAFT_TEST_PYTHON");
    char line[700];
    snprintf(line, sizeof line, "'%s' '%s/serve/%s' %s", python && *python ? python : "python3", GRAFT_TEST_SOURCE_DIR, script,
             arguments);
    ck_assert_msg(system(line) == 0, "%s", line);
}

// A request that the server answers, fails, and one whose client leaves.
static void work_a_little(void)
{
    json_decref(post_json("/v1/completions", "{\"prompt\": \"a b\", \"max_tokens\": 9, \"temperature\": 0}", 200));
    json_decref(post_json("/v1/completions", "{\"model\": \"plain\", \"prompt\": \"a b\", \"max_tokens\": 9}", 200));
    json_decref(post_json("/v1/completions", "{\"model\": \"nobody\", \"prompt\": \"a\"}", 404));
    json_decref(post_json("/v1/completions",
                          "{\"model\": \"plain\", \"prompt\": \"a\", \"timeout_ms\": 1, \"max_tokens\": 3000, " NO_END "}",
                          504));
    json_decref(post_json("/v1/completions", "{\"prompt\": 5}", 400));
    int fd = open_request("/v1/completions",
                          "{\"model\": \"dora\", \"prompt\": \"a\", \"max_tokens\": 3000, \"stream\": true, " NO_END "}");
    ck_assert(metric_becomes("graft_requests_running{adapter=\"dora\"}", 1));
    close(fd);
    ck_assert(metric_becomes("graft_requests_running{adapter=\"dora\"}", 0));
}

START_TEST(metrics_are_sound_and_the_dashboard_reads_them)
{
    served_begin("--adapter-dir '%s/golden/peft' -c 4096 --memory 1G", GRAFT_TEST_SOURCE_DIR);
    work_a_little();
    save_metrics("/metrics", "metrics.txt");
    check_with("check_exposition.py", "metrics.txt");
    check_with("check_monitoring.py", "metrics.txt '" GRAFT_TEST_SOURCE_DIR "/../packaging'");
    ck_assert(metric("graft_request_errors_total{adapter=\"plain\",code=\"504\"}") == 1);
    ck_assert(metric("graft_request_errors_total{adapter=\"dora\",code=\"499\"}") == 1);
    ck_assert(metric("graft_request_errors_total{adapter=\"\",code=\"504\"}") == 0);
    ck_assert(metric("graft_answers_total{adapter=\"plain\"}") == 1 && metric("graft_answers_total{adapter=\"dora\"}") == 0);
    ck_assert(metric("graft_answer_length_tokens_count{adapter=\"\"}") == 1);
    ck_assert(metric("graft_answer_length_tokens_sum{adapter=\"\"}") == metric("graft_answer_tokens_total{adapter=\"\"}"));
    ck_assert(metric("graft_adapter_resident{adapter=\"plain\",level=\"device\",pinned=\"false\"}") == 1);
    ck_assert(metric("process_resident_memory_bytes") > 1e6 && metric("process_open_fds") > 5);
    ck_assert(fabs(metric("process_start_time_seconds") - (double)time(NULL)) < 600);
    ck_assert(metric("vllm:lora_requests_info{max_lora=\"16\",running_lora_adapters=\"\",waiting_lora_adapters=\"\"}") == -1);
    ck_assert(strstr(ask_server("GET", "/metrics?vllm=1", "", NULL)->body, "\nvllm:lora_requests_info{max_lora=\"16\""));
    served_end();
}
END_TEST

START_TEST(perplexity_is_that_of_the_logprobs)
{
    static const char body[] = "{\"prompt\": \"a b c\", \"max_tokens\": 12, \"temperature\": 1, \"seed\": 7, \"logprobs\": 0}";
    served_begin("-c 256");
    json_t *answer = post_json("/v1/completions", body, 200), *value;
    const json_t *probs = json_object_get(json_array_get(json_object_get(answer, "choices"), 0), "logprobs");
    double sum = 0;
    size_t i;
    json_array_foreach(json_object_get(probs, "token_logprobs"), i, value)
    {
        sum -= json_number_value(value);
    }
    ck_assert(i > 0 && metric_becomes("graft_answer_judged_tokens_total{adapter=\"\"}", (double)i));
    ck_assert_msg(fabs(metric("graft_answer_judged_nats_total{adapter=\"\"}") - sum) < 1e-3, "%.6f, expected %.6f",
                  metric("graft_answer_judged_nats_total{adapter=\"\"}"), sum);
    json_decref(answer);
    for (int n = 2; n <= 17; n++) { // without log-probabilities: the 17th is the next that is judged; answers are the same
        json_t *plain =
            post_json("/v1/completions", "{\"prompt\": \"a b c\", \"max_tokens\": 12, \"temperature\": 1, \"seed\": 7}", 200);
        json_decref(plain);
        ck_assert(metric_becomes("graft_answers_total{adapter=\"\"}", n));
        ck_assert(metric("graft_answer_judged_tokens_total{adapter=\"\"}") == (double)(n == 17 ? 2 * i : i));
    }
    ck_assert(fabs(metric("graft_answer_judged_nats_total{adapter=\"\"}") - 2 * sum) < 2e-3);
    served_end();
}
END_TEST

// However many names, paths and codes there are, the series of a metric stay below a bound.
START_TEST(labels_are_bounded)
{
    char line[400];
    for (int i = 0; i < NAMES; i++) {
        snprintf(line, sizeof line, "mkdir -p many && cp -r '%s/golden/peft/rank1' many/n%03d", GRAFT_TEST_SOURCE_DIR, i);
        ck_assert_int_eq(system(line), 0);
    }
    served_begin("--adapter-dir many -c 256 --adapter-slots 4");
    for (int i = 0; i < 300; i++) {
        snprintf(line, sizeof line, "/nowhere/%d?x=%d", i, i);
        ck_assert_int_eq(ask_server(i % 2 ? "GET" : "DELETE", line, "", NULL)->status, 404);
    }
    for (int i = 0; i < NAMES; i += 3) {
        snprintf(line, sizeof line, "{\"model\": \"n%03d\", \"prompt\": \"a\", \"max_tokens\": 2}", i);
        json_decref(post_json("/v1/completions", line, 200));
    }
    json_decref(post_json("/v1/completions", "{\"model\": \"n999\\\"}\\n\", \"prompt\": \"a\"}", 404));
    save_metrics("/metrics", "metrics.txt");
    snprintf(line, sizeof line, "metrics.txt %d", MOST_SERIES);
    check_with("check_exposition.py", line);
    ck_assert(metric("graft_requests_total{adapter=\"n000\"}") == 1);
    ck_assert(metric("graft_requests_total{adapter=\"n120\"}") == -1);
    ck_assert(metric("graft_requests_total{adapter=\"other\"}") >= 5);
    ck_assert(metric("graft_http_replies_total{route=\"none\",status=\"404\"}") == 300);
    served_end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("metrics");
    TCase *c = tcase_create("metrics");
    tcase_set_timeout(c, 240);
    tcase_add_checked_fixture(c, command_begin, command_end);
    tcase_add_test(c, metrics_are_sound_and_the_dashboard_reads_them);
    tcase_add_test(c, perplexity_is_that_of_the_logprobs);
    tcase_add_test(c, labels_are_bounded);
    suite_add_tcase(suite, c);
    return graft_test_main(suite);
}
