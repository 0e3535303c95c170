// SPDX-License-Identifier: Apache-2.0
// The parts without a socket: keys files, lines of the access log, metrics, targets and queries.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "serve/http_world.h"
#include "tools/serve/http_private.h"

// ---- keys ----

#define HASH        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define KEY(fields) "{\"version\": 1, \"keys\": [{\"id\": \"a\", \"sha256\": \"" HASH "\", \"role\": \"user\"" fields "}]}"

static enum graft_status open_text(struct world *world, const char *text)
{
    struct keys *keys;
    const char *path = world_file(world, "k.json", text);
    chmod(path, 0600);
    enum graft_status status = keys_open(world->ctx, &keys, path);
    keys_close(&keys);
    return status;
}

START_TEST(keys_files_are_read_strictly)
{
    struct world world = {.ctx = graft_test_ctx(NULL, 0)};
    static const char *const bad[][2] = {
        {"", "line 1"},
        {"[]", "version"},
        {"{\"version\": 2, \"keys\": []}", "version"},
        {"{\"version\": 1}", "version"},
        {"{\"version\": 1, \"keys\": [3]}", "keys[0]"},
        {"{\"version\": 1, \"keys\": [{}]}", "\"id\""},
        {"{\"version\": 1, \"version\": 1, \"keys\": []}", "duplicate"},
        {"{\"version\": 1, \"keys\": [{\"id\": \"a b\", \"sha256\": \"" HASH "\", \"role\": \"user\"}]}", "\"id\""},
        {"{\"version\": 1, \"keys\": [{\"id\": \"a\", \"sha256\": \"0123\", \"role\": \"user\"}]}", "\"sha256\""},
        {"{\"version\": 1, \"keys\": [{\"id\": \"a\", \"sha256\": "
         "\"x123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\", "
         "\"role\": \"user\"}]}",
         "\"sha256\""},
        {"{\"version\": 1, \"keys\": [{\"id\": \"a\", \"sha256\": \"" HASH "\", \"role\": \"root\"}]}", "\"role\""},
        {KEY(", \"roles\": []"), "\"roles\" is not known"},
        {KEY(", \"tenant\": \"\""), "\"tenant\""},
        {KEY(", \"expires\": \"tomorrow\""), "\"expires\""},
        {KEY(", \"expires\": \"2027-1-31x\""), "\"expires\""},
        {KEY(", \"requests_per_minute\": 0"), "whole numbers"},
        {KEY(", \"tokens_per_minute\": 1.5"), "whole numbers"},
        {KEY(", \"concurrent\": -1"), "whole numbers"},
        {KEY(", \"adapters\": \"finance\""), "\"adapters\""},
        {KEY(", \"adapters\": [\"\"]"), "\"adapters\""},
        {"{\"version\": 1, \"keys\": [{\"id\": \"a\", \"sha256\": \"" HASH
         "\", \"role\": \"user\"}, {\"id\": \"b\", \"sha256\": \"" HASH "\", \"role\": \"user\"}]}",
         "keys[1]"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_status(open_text(&world, bad[i][0]), GRAFT_E_FORMAT);
        ck_assert_error_has(bad[i][1]);
        ck_assert_error_has("k.json");
    }
    ck_assert_ok(open_text(&world, KEY(", \"note\": \"of Ada\", \"expires\": \"2027-01-31\", \"adapters\": []")));
    ck_assert_ok(open_text(&world, "{\"version\": 1, \"keys\": []}"));
    struct keys *keys;
#ifndef _WIN32 // modes; lists of access rights: tests/cross_serve.py
    const char *path = world_file(&world, "k.json", KEY(""));
    chmod(path, 0620);
    ck_assert_status(keys_open(world.ctx, &keys, path), GRAFT_E_IO);
    ck_assert_error_has("others than its owner");
#endif
    ck_assert_status(keys_open(world.ctx, &keys, "/nowhere/k.json"), GRAFT_E_IO);
    world_close(&world);
}
END_TEST

START_TEST(buckets_drip_and_keys_in_use_outlive_the_file)
{
    struct world world = {.ctx = graft_test_ctx(NULL, 0)};
    char text[600], key[KEY_TEXT_BYTES], id[20], hash[65];
    ck_assert_ok(key_make(key, id, hash));
    ck_assert_uint_eq(strlen(key), 49);
    snprintf(
        text, sizeof text,
        "{\"version\": 1, \"keys\": [{\"id\": \"%s\", \"sha256\": \"%s\", \"role\": \"operator\", \"tokens_per_minute\": 600, "
        "\"adapters\": [\"a*\"]}]}",
        id, hash);
    struct keys *keys;
    const char *path = world_file(&world, "k.json", text);
    chmod(path, 0600);
    ck_assert_ok(keys_open(world.ctx, &keys, path));
    struct key_use use, more;
    struct http_caller caller;
    uint64_t retry, now = 1000;
    ck_assert_int_eq(keys_take(keys, key, strlen(key), now, &use, &caller, &retry), KEY_GOOD);
    ck_assert_int_eq(caller.role, HTTP_OPERATOR);
    ck_assert_str_eq(caller.key, id);
    ck_assert_int_eq(keys_take(keys, key, strlen(key) - 1, now, &more, &caller, &retry), KEY_UNKNOWN);
    ck_assert_int_eq(keys_take(keys, "", 0, now, &more, &caller, &retry), KEY_UNKNOWN);
    key_charge(&use, 700, now); // a hundred more than there were: ten a second come back
    ck_assert_int_eq(keys_take(keys, key, strlen(key), now, &more, &caller, &retry), KEY_RATE);
    ck_assert_uint_ge(retry, 10100000000u);
    ck_assert_uint_le(retry, 10100000010u);
    // A new limit begins anew; the same limit goes on where it was.
    ck_assert_ok(keys_reload(keys));
    ck_assert_int_eq(keys_take(keys, key, strlen(key), now + 9000000000u, &more, &caller, &retry), KEY_RATE);
    ck_assert_int_eq(keys_take(keys, key, strlen(key), now + 10200000000u, &more, &caller, &retry), KEY_GOOD);
    key_release(&more);
    chmod(world_file(&world, "k.json", "{\"version\": 1, \"keys\": []}"), 0600);
    ck_assert_ok(keys_reload(keys));
    ck_assert_uint_eq(keys_count(keys), 0);
    ck_assert(key_allows(&use, "abc") && key_allows(&use, "a") && !key_allows(&use, "b"));
    key_charge(&use, 1, now);
    ck_assert_int_eq(keys_take(keys, key, strlen(key), now + 60000000000u, &more, &caller, &retry), KEY_UNKNOWN);
    key_release(&use);
    key_release(&use);
    // Expired yesterday.
    snprintf(
        text, sizeof text,
        "{\"version\": 1, \"keys\": [{\"id\": \"e\", \"sha256\": \"%s\", \"role\": \"user\", \"expires\": \"2020-02-29\"}]}",
        hash);
    chmod(world_file(&world, "k.json", text), 0600);
    ck_assert_ok(keys_reload(keys));
    ck_assert_int_eq(keys_take(keys, key, strlen(key), now, &more, &caller, &retry), KEY_UNKNOWN);
    keys_close(&keys);
    world_close(&world);
}
END_TEST

// ---- the access log ----

static struct http_log_entry entry = {.adapter = "finance",
                                      .digest = "ab12",
                                      .prompt_tokens = 12,
                                      .reused_tokens = 4,
                                      .answer_tokens = 7,
                                      .queue_ns = 1500000,
                                      .first_token_ns = 250000000};
static struct access_line line = {.wall_ms = 1700000000123,
                                  .id = "req-1",
                                  .peer = "127.0.0.1:5",
                                  .key = "k-1",
                                  .tenant = "t",
                                  .method = "POST",
                                  .path = "/v1/\xff\"\\\n\xe2\x82\xac\xed\xa0\x80",
                                  .route = "/v1/{name}",
                                  .traceparent = "",
                                  .outcome = "stop",
                                  .status = 200,
                                  .bytes_in = 3,
                                  .bytes_out = 4,
                                  .total_ns = 1234567,
                                  .entry = &entry};

START_TEST(a_line_is_one_json_object_whatever_is_in_it)
{
    char text[ACCESS_LOG_LINE];
    size_t length = access_line_format(&line, text, sizeof text);
    ck_assert_uint_eq(length, strlen(text));
    ck_assert_ptr_eq(strchr(text, '\n'), text + length - 1);
    json_error_t error;
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(json != NULL, "%s: %s", error.text, text);
    ck_assert_str_eq(json_string_value(json_object_get(json, "time")), "2023-11-14T22:13:20.123Z");
    ck_assert_str_eq(json_string_value(json_object_get(json, "path")),
                     "/v1/\xef\xbf\xbd\"\\\n\xe2\x82\xac\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    ck_assert_int_eq(json_integer_value(json_object_get(json, "answer_tokens")), 7);
    ck_assert(fabs(json_real_value(json_object_get(json, "first_token_ms")) - 250.0) < 1e-9);
    ck_assert(fabs(json_real_value(json_object_get(json, "total_ms")) - 1.234) < 1e-9);
    ck_assert_ptr_null(json_object_get(json, "prompt"));
    json_decref(json);
    for (size_t room = 0; room <= length; room++) { // never more than there is room for
        text[room] = 'z';
        ck_assert_uint_eq(access_line_format(&line, text, room), 0);
        ck_assert_int_eq(text[room], 'z');
    }
}
END_TEST

START_TEST(the_log_rotates_and_a_full_disk_costs_lines_only)
{
    struct world world = {.ctx = graft_test_ctx(NULL, 0)};
    char path[128], text[1024];
    snprintf(path, sizeof path, "%s", world_file(&world, "a.log", ""));
    size_t each = access_line_format(&line, text, sizeof text);
    struct access_log *log;
    ck_assert_ok(access_log_open(world.ctx, &log, HTTP_LOG_FILE, path, each * 3, 2));
    for (int i = 0; i < 11; i++) {
        access_log_write(log, &line);
    }
    static const struct {
        const char *name;
        unsigned lines;
    } left[] = {{"a.log", 2}, {"a.log.1", 3}, {"a.log.2", 3}, {"a.log.3", 0}};
    for (int i = 0; i < 4; i++) {
        char *found = world_read(&world, left[i].name);
        ck_assert_uint_eq(strlen(found), left[i].lines * each);
        free(found);
    }
    ck_assert_uint_eq(access_log_lost(log), 0);
    access_log_close(&log);
    // Texts that make a line too long are left out; the line is not.
    char *big = malloc(20000);
    memset(big, 'x', 19999);
    big[19999] = '\0';
    struct access_line loud = line;
    loud.prompt = big;
    loud.answer = "short";
    ck_assert_ok(access_log_open(world.ctx, &log, HTTP_LOG_FILE, world_file(&world, "b.log", ""), 1 << 20, 2));
    access_log_write(log, &loud);
    loud.prompt = "why";
    access_log_write(log, &loud);
    char *found = world_read(&world, "b.log");
    ck_assert_ptr_eq(strstr(found, "\"prompt\""), strstr(found, "\"prompt\":\"why\",\"answer\":\"short\""));
    ck_assert_ptr_nonnull(strstr(found, "\"prompt\""));
    free(found);
    free(big);
    access_log_close(&log);
    ck_assert_status(access_log_open(world.ctx, &log, HTTP_LOG_FILE, "/nowhere/a.log", 1, 1), GRAFT_E_IO);
    ck_assert_ok(access_log_open(world.ctx, &log, HTTP_LOG_FILE, "/dev/full", 1 << 20, 0));
    access_log_write(log, &line);
    access_log_write(log, &line);
    ck_assert_uint_eq(access_log_lost(log), 2);
    access_log_close(&log);
    world_close(&world);
}
END_TEST

// ---- metrics ----

static const double bounds[] = {0.1, 0.5, 1, 2.5};
static const struct metric_info infos[] = {
    {METRIC_COUNTER, "t_requests_total", "Requests,\nwith a \\ in \"help\".", {"adapter", "outcome"}, NULL, 0},
    {METRIC_GAUGE, "t_running", "Running.", {NULL}, NULL, 0},
    {METRIC_HISTOGRAM, "t_seconds", "Time.", {"adapter"}, bounds, 4},
    {METRIC_GAUGE, "t_value", "Odd values.", {"what"}, NULL, 0},
};

// Text that PyPI's prometheus_client parses, and promtool if there is one; the sums come back as they were put in.
START_TEST(prometheus_reads_what_is_rendered)
{
    struct world world = {.ctx = graft_test_ctx(NULL, 0)};
    struct metrics *metrics;
    ck_assert_ok(metrics_create(world.ctx, &metrics, infos, 4, 8));
    const char *const odd[] = {"a\\b\"c\nd\xff\xe2\x82\xac", "stop"};
    metric_add(metrics, 0, odd, 2);
    metric_add(metrics, 0, odd, 0.25);
    metric_add(metrics, 0, odd, -5); // a counter does not fall
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        metric_add(metrics, 0, (const char *[]){name, "stop"}, 1);
        metric_observe(metrics, 2, (const char *[]){"x"}, i * 0.03);
    }
    metric_set(metrics, 1, NULL, 1e21);
    metric_set(metrics, 3, (const char *[]){"nan"}, NAN);
    metric_set(metrics, 3, (const char *[]){"inf"}, -INFINITY);
    metric_set(metrics, 3, (const char *[]){"third"}, 1.0 / 3.0);
    metric_set(metrics, 3, (const char *[]){"gone"}, 1);
    metric_drop(metrics, 3, (const char *[]){"gone"});
    metric_observe(metrics, 0, odd, 1);
    metric_add(metrics, 99, odd, 1);
    size_t bytes = metrics_bytes(metrics);
    char *text = malloc(bytes);
    size_t length = metrics_render(metrics, text, bytes);
    ck_assert_uint_gt(length, 0);
    ck_assert_uint_eq(length, strlen(text));
    for (size_t room = 0; room <= length; room += 7) {
        ck_assert_uint_eq(metrics_render(metrics, text, room), 0);
    }
    ck_assert_uint_eq(metrics_render(metrics, text, length + 1), length);
    ck_assert_ptr_nonnull(
        strstr(text, "# HELP t_requests_total Requests,\\nwith a \\\\ in \"help\".\n# TYPE t_requests_total counter\n"));
    ck_assert_ptr_nonnull(strstr(text, "t_requests_total{adapter=\"a\\\\b\\\"c\\nd?\xe2\x82\xac\",outcome=\"stop\"} 2.25\n"));
    ck_assert_ptr_nonnull(strstr(text, "t_requests_total{adapter=\"n6\",outcome=\"stop\"} 1\n"));
    ck_assert_ptr_null(strstr(text, "\"n7\""));
    ck_assert_ptr_nonnull(strstr(text, "t_requests_total{adapter=\"other\",outcome=\"other\"} 93\n"));
    ck_assert_ptr_nonnull(
        strstr(text, "t_seconds_bucket{adapter=\"x\",le=\"0.5\"} 17\nt_seconds_bucket{adapter=\"x\",le=\"1\"} 34\n"));
    ck_assert_ptr_nonnull(strstr(text, "t_seconds_bucket{adapter=\"x\",le=\"+Inf\"} 100\n"));
    ck_assert_ptr_nonnull(strstr(text, "t_seconds_count{adapter=\"x\"} 100\n"));
    ck_assert_ptr_nonnull(
        strstr(text, "t_value{what=\"nan\"} NaN\nt_value{what=\"inf\"} -Inf\nt_value{what=\"third\"} 0.3333333333333333\n"));
    ck_assert_ptr_null(strstr(text, "gone"));
    const char *path = world_file(&world, "m.txt", text);
    const char *python = getenv("GRAFT_TEST_PYTHON");
    char command[700];
    snprintf(command, sizeof command, "%s -c 'import prometheus_client' 2>/dev/null", python ? python : "false");
    if (system(command) == 0) {
        snprintf(command, sizeof command, "%s %s/serve/check_metrics.py %s", python, GRAFT_TEST_SOURCE_DIR, path);
        ck_assert_int_eq(system(command), 0);
    } else {
        printf("skipped: GRAFT_TEST_PYTHON has no prometheus_client\n");
    }
    if (system("command -v promtool >/dev/null") == 0) {
        snprintf(command, sizeof command, "promtool check metrics < %s", path);
        ck_assert_int_eq(system(command), 0);
    }
    free(text);
    metrics_destroy(&metrics);
    world_close(&world);
}
END_TEST

START_TEST(metrics_that_prometheus_does_not_allow_are_refused)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    static const double falling[] = {1, 1};
    static const struct metric_info bad[] = {
        {METRIC_COUNTER, "requests", "h", {NULL}, NULL, 0}, {METRIC_GAUGE, "x_total", "h", {NULL}, NULL, 0},
        {METRIC_GAUGE, "9x", "h", {NULL}, NULL, 0},         {METRIC_GAUGE, "x-y", "h", {NULL}, NULL, 0},
        {METRIC_GAUGE, "x", "h", {"le"}, NULL, 0},          {METRIC_GAUGE, "x", "h", {"a-b"}, NULL, 0},
        {METRIC_GAUGE, "x", "h", {"__x"}, NULL, 0},         {METRIC_HISTOGRAM, "x", "h", {NULL}, NULL, 0},
        {METRIC_HISTOGRAM, "x", "h", {NULL}, falling, 2},   {METRIC_GAUGE, "x", "h", {NULL}, bounds, 1},
        {METRIC_GAUGE, "x", NULL, {NULL}, NULL, 0},         {METRIC_GAUGE, NULL, "h", {NULL}, NULL, 0},
    };
    struct metrics *metrics;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_status(metrics_create(ctx, &metrics, &bad[i], 1, 4), GRAFT_E_ARGUMENT);
        ck_assert_ptr_null(metrics);
    }
    const struct metric_info twice[] = {infos[1], infos[1]};
    ck_assert_status(metrics_create(ctx, &metrics, twice, 2, 4), GRAFT_E_ARGUMENT);
    ck_assert_status(metrics_create(ctx, &metrics, infos, 4, 100000), GRAFT_E_LIMIT);
    graft_ctx_destroy(&ctx);
}
END_TEST

// ---- targets, queries ----

START_TEST(targets_and_queries_are_decoded_once)
{
    static const struct {
        const char *target, *path, *query;
        int status;
    } cases[] = {
        {"/a", "/a", NULL, 0},       {"/a?b=c", "/a", "b=c", 0}, {"/a?", "/a", "", 0},    {"/%41%2e%2E", "/A..", NULL, 0},
        {"/%2541", "/%41", NULL, 0}, {"/a%", "", NULL, 400},     {"/a%2", "", NULL, 400}, {"/a%2g", "", NULL, 400},
        {"/%2f", "", NULL, 400},     {"/%0a", "", NULL, 400},    {"/%7f", "", NULL, 400}, {"/a b", "", NULL, 400},
        {"/a#b", "", NULL, 400},     {"", "", NULL, 400},        {"a", "", NULL, 400},    {"/%c3%a4", "/\xc3\xa4", NULL, 0},
    };
    char path[HTTP_MAX_PATH], value[8];
    const char *query;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct http_verdict verdict = http_target_split(cases[i].target, strlen(cases[i].target), path, &query);
        ck_assert_msg(verdict.status == cases[i].status, "%s: %d", cases[i].target, verdict.status);
        ck_assert_str_eq(path, cases[i].path);
        ck_assert_str_eq(query ? query : "(none)", cases[i].query ? cases[i].query : "(none)");
    }
    ck_assert(http_query_value("a=1&b=2+3&a=4", "a", value, sizeof value) && strcmp(value, "1") == 0);
    ck_assert(http_query_value("a=1&b=2+%33", "b", value, sizeof value) && strcmp(value, "2 3") == 0);
    ck_assert(http_query_value("a&b", "b", value, sizeof value) && strcmp(value, "") == 0);
    ck_assert(!http_query_value("aa=1", "a", value, sizeof value));
    ck_assert(!http_query_value("a=%0", "a", value, sizeof value));
    ck_assert(!http_query_value("a=%00", "a", value, sizeof value));
    ck_assert(!http_query_value("a=12345678", "a", value, sizeof value));
    ck_assert(http_query_value("a=1234567", "a", value, sizeof value));
    ck_assert(!http_query_value(NULL, "a", value, sizeof value));
    ck_assert(http_guard_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    ck_assert(!http_guard_traceparent("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    ck_assert(!http_guard_traceparent("00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    ck_assert(!http_guard_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"));
    ck_assert(!http_guard_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x"));
}
END_TEST

// Every allocation of a start can fail; the error says so and nothing is left.
START_TEST(a_start_without_memory_fails_and_leaves_nothing)
{
    uint64_t points = 0;
    for (uint64_t k = 1;; k += k > 20 && k < 500 ? 23 : 1) { // the mutexes of 512 exchanges are all alike
        struct graft_test_alloc alloc = {.fail_at = 0};
        struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
        alloc.fail_at = alloc.requests + k;
        struct http_server *server = NULL;
        struct http_config config = {.listen = {"127.0.0.1:0"}, .n_listen = 1};
        enum graft_status status = http_server_create(ctx, &server, &config);
        if (status == GRAFT_OK) {
            status = http_server_start(server, world_routes, world_n_routes, NULL);
        }
        http_server_destroy(&server);
        graft_ctx_destroy(&ctx);
        ck_assert_uint_eq(alloc.live, 0);
        if (status == GRAFT_OK) {
            break;
        }
        ck_assert_int_eq(status, GRAFT_E_MEMORY);
        points++;
    }
    ck_assert_uint_gt(points, 20);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_parts");
    TCase *tests = tcase_create("parts");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, keys_files_are_read_strictly);
    tcase_add_test(tests, buckets_drip_and_keys_in_use_outlive_the_file);
    tcase_add_test(tests, a_line_is_one_json_object_whatever_is_in_it);
    tcase_add_test(tests, the_log_rotates_and_a_full_disk_costs_lines_only);
    tcase_add_test(tests, prometheus_reads_what_is_rendered);
    tcase_add_test(tests, metrics_that_prometheus_does_not_allow_are_refused);
    tcase_add_test(tests, targets_and_queries_are_decoded_once);
    tcase_add_test(tests, a_start_without_memory_fails_and_leaves_nothing);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
