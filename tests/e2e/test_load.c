// SPDX-License-Identifier: Apache-2.0
// graft load-test: what it counts, when it asks, the picture it draws.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "e2e/served.h"
#include "support/certificate.h"
#include "support/support.h"

static json_int_t whole(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static double real(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

START_TEST(load_test_measures)
{
    served_begin("--adapter-dir '%s/golden/peft' -c 512", GRAFT_TEST_SOURCE_DIR);
    json_t *r = command_json(
        command("load-test --url 127.0.0.1:%u --streams 3 --requests 9 --mix plain,none,dora -n 6 --prompt-words 4 --json",
                served_port()));
    ck_assert_int_eq(whole(r, "ok"), 9);
    ck_assert_int_eq(whole(r, "good"), 9);
    ck_assert_int_eq(whole(json_object_get(r, "first_token"), "count"), 9);
    ck_assert_double_gt(real(r, "goodput_tokens_per_second"), 0);
    ck_assert_uint_eq(json_array_size(json_object_get(r, "adapters")), 3);
    const json_t *times = json_object_get(r, "between_tokens");
    ck_assert(real(times, "p50_ms") <= real(times, "p95_ms") && real(times, "p95_ms") <= real(times, "p99_ms") &&
              real(times, "p99_ms") <= real(times, "max_ms") && real(times, "mean_ms") <= real(times, "max_ms"));
    json_decref(r);
    const struct ran *ran = command("load-test --url 127.0.0.1:%u --mix nothing --requests 2", served_port());
    ck_assert_code(ran, 1);
    ck_assert_three_parts(ran, "does not exist");
    served_end();
}
END_TEST

#ifdef GRAFT_TEST_TLS
// A server with TLS is measured and looked at where its name and who signed it are right, and nowhere else.
START_TEST(https_is_spoken_and_names_are_checked)
{
    graft_test_certificate("localhost", "cert.pem", "key.pem");
    graft_test_certificate("localhost", "other.pem", "other-key.pem");
    served_begin("-c 512 --tls-cert cert.pem --tls-key key.pem");
    uint16_t port = served_port();
    static const char asked[] = "--requests 3 -n 6 --prompt-words 4 --json";
    json_t *r = command_json(command("load-test --url https://localhost:%u --tls-ca cert.pem %s", port, asked));
    ck_assert_int_eq(whole(r, "ok"), 3);
    json_decref(r);
    r = command_json(command("ps --json https://localhost:%u --tls-ca cert.pem", port));
    ck_assert_int_eq(whole(json_array_get(json_object_get(r, "servers"), 0), "context"), 512);
    json_decref(r);
    const struct {
        const char *address, *authorities, *says;
    } wrong[] = {{"https://localhost", "other.pem", "certificate is NOT trusted"},
                 {"https://localhost", NULL, "certificate is NOT trusted"},
                 {"https://127.0.0.1", "cert.pem", "name in the certificate does not match"},
                 {"https://localhost", "key.pem", "key.pem: no certificate in it"},
                 {"https://localhost", "none.pem", "none.pem"},
                 {"http://localhost", NULL, "does not say what it does"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *authorities = wrong[i].authorities;
        const struct ran *ran =
            command("ps %s:%u %s%s", wrong[i].address, port, authorities ? "--tls-ca " : "", authorities ? authorities : "");
        ck_assert_code(ran, 1);
        ck_assert_three_parts(ran, wrong[i].says);
    }
    ck_assert_code(command("load-test --url https://localhost:%u --idle 3", port), 2);
    served_end();
    served_begin("-c 512");
    const struct ran *ran = command("ps https://127.0.0.1:%u", served_port());
    ck_assert_code(ran, 1);
    ck_assert_three_parts(ran, "no TLS: ");
    served_end();
}
END_TEST
#endif

START_TEST(goodput_is_what_held_its_limits)
{
    served_begin("-c 512");
    static const char asked[] = "--requests 6 -n 6 --prompt-words 4 --json";
    json_t *r = command_json(
        command("load-test --url 127.0.0.1:%u %s --first-limit 60000 --between-limit 60000", served_port(), asked));
    ck_assert_int_eq(whole(r, "good"), 6);
    ck_assert(fabs(real(r, "goodput_tokens_per_second") - real(r, "tokens_per_second")) < 1e-9);
    json_decref(r);
    static const char *const limits[] = {"--first-limit 0.0001", "--between-limit 0.0001"};
    for (int i = 0; i < 2; i++) {
        r = command_json(command("load-test --url 127.0.0.1:%u %s %s", served_port(), asked, limits[i]));
        ck_assert_int_eq(whole(r, "ok"), 6);
        ck_assert_int_eq(whole(r, "good"), 0);
        ck_assert(real(r, "goodput_tokens_per_second") == 0 && real(r, "tokens_per_second") > 0);
        json_decref(r);
    }
    served_end();
}
END_TEST

// Seconds since midnight of "time":"2026-11-25T16:45:35.136Z".
static double logged_time(const char *line)
{
    unsigned h = 0, m = 0;
    double s = 0;
    const char *at = strstr(line, "\"time\":\"");
    ck_assert_ptr_nonnull(at);
    ck_assert_int_eq(sscanf(at + 8 + 11, "%u:%u:%lf", &h, &m, &s), 3);
    return h * 3600 + m * 60 + s;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

// As the server's log has them: the gaps between arrivals of a Poisson process have this mean, and a deviation as large.
START_TEST(arrivals_are_a_poisson_process)
{
    enum { N = 120, RATE = 50 };
    served_begin("-c 512 -np 8 --max-waiting 1000");
    const struct ran *ran =
        command("load-test --url 127.0.0.1:%u --rate %d --requests %d -n 1 --prompt-words 1", served_port(), RATE, N);
    ck_assert_code(ran, 0);
    ck_assert_ptr_nonnull(strstr(ran->out, "120 answers, 0 failed"));
    served_end();
    FILE *log = fopen("access.log", "rb");
    ck_assert_ptr_nonnull(log);
    char line[4096];
    double times[N];
    int n = 0;
    while (n < N && fgets(line, sizeof line, log)) {
        if (strstr(line, "/v1/completions")) {
            times[n++] = logged_time(line);
        }
    }
    fclose(log);
    ck_assert_int_eq(n, N);
    qsort(times, N, sizeof *times, by_value); // the log has them in the order of their ends
    double sum = 0, squares = 0;
    for (int i = 1; i < N; i++) {
        double gap = times[i] - times[i - 1];
        sum += gap;
        squares += gap * gap;
    }
    double mean = sum / (N - 1), deviation = sqrt(squares / (N - 1) - mean * mean);
    ck_assert_msg(fabs(mean * RATE - 1) < 0.37, "mean gap %.4f s, expected %.4f", mean, 1.0 / RATE); // 4 deviations
    ck_assert_msg(deviation / mean > 0.6 && deviation / mean < 1.8, "deviation %.4f s, mean %.4f", deviation, mean);
}
END_TEST

START_TEST(a_random_mix_is_uniform)
{
    enum { N = 120 };
    double squares = 0;
    served_begin("--adapter-dir '%s/golden/peft' -c 512", GRAFT_TEST_SOURCE_DIR);
    json_t *r = command_json(command("load-test --url 127.0.0.1:%u --requests %d --mix plain,none,dora -n 1 --prompt-words 1 "
                                     "--random-mix --json",
                                     served_port(), N)),
           *adapter;
    size_t i;
    json_array_foreach(json_object_get(r, "adapters"), i, adapter)
    {
        double d = (double)whole(json_object_get(adapter, "first_token"), "count") - N / 3.0;
        squares += d * d / (N / 3.0);
    }
    ck_assert_msg(squares < 13.8 && squares > 0, "chi squared %.1f",
                  squares); // 2 degrees of freedom: 1 in 1000; and not in turn
    json_decref(r);
    served_end();
}
END_TEST

// The picture and the figures of one run, judged by Python's XML parser.
static void check_picture(const char *arguments)
{
    const struct ran *ran =
        command("load-test --url 127.0.0.1:%u %s --json --svg out.svg > out.json", served_port(), arguments);
    ck_assert_code(ran, 0);
    char line[512];
    snprintf(line, sizeof line, "python3 '%s/support/check_svg.py' out.svg out.json", GRAFT_TEST_SOURCE_DIR);
    ck_assert_msg(system(line) == 0, "the picture of %s", arguments);
}

START_TEST(pictures_are_sound_and_labelled)
{
    served_begin("--adapter-dir '%s/golden/peft' -c 2048 -np 4", GRAFT_TEST_SOURCE_DIR);
    check_picture("--streams 3 --requests 24 --mix plain,none -n 20");
    check_picture("--rate 30 --requests 40 -n 5 --first-limit 1000");
    check_picture("--streams 1 --requests 1 -n 1");
    check_picture("--streams 2 --requests 4 -n 100 --long-words 200");
    command("load-test --url 127.0.0.1:%u --mix '<b>&\"\1,x' --requests 2 --svg out.svg", served_port());
    ck_assert_int_eq(system("python3 -c \"import xml.dom.minidom as m, sys; "
                            "t = m.parse('out.svg').getElementsByTagName('text'); "
                            "sys.exit(not any('adapters <b>&' in x.firstChild.data for x in t))\""),
                     0);
    const struct ran *ran = command("load-test --url 127.0.0.1:%u --requests 1 -n 1 --svg /proc/none/out.svg", served_port());
    ck_assert_code(ran, 3);
    ck_assert_three_parts(ran, "/proc/none");
    served_end();
}
END_TEST

START_TEST(long_prompts_beside_are_told_apart)
{
    served_begin("-c 4096 -np 3");
    json_t *r =
        command_json(command("load-test --url 127.0.0.1:%u --streams 2 --requests 4 -n 200 --prompt-words 4 --long-words "
                             "400 --json",
                             served_port()));
    const json_t *beside = json_object_get(r, "long_prompts");
    ck_assert_int_eq(whole(r, "ok"), 4);
    ck_assert_int_ge(whole(beside, "count"), 1);
    ck_assert_int_ge(whole(beside, "prompt_tokens"), 400 * whole(beside, "count"));
    const json_t *gaps = json_object_get(beside, "between_tokens_beside"), *all = json_object_get(r, "between_tokens");
    ck_assert(whole(gaps, "count") > 0 && whole(gaps, "count") <= whole(all, "count"));
    ck_assert(real(gaps, "max_ms") <= real(all, "max_ms"));
    ck_assert(real(beside, "step_ms") > 0);
    ck_assert(fabs(real(beside, "worst_gap_steps") - real(gaps, "max_ms") / real(beside, "step_ms")) < 1e-6);
    ck_assert_int_lt(whole(r, "answer_tokens"), 4 * 200 + 1); // theirs are not counted
    json_decref(r);
    const struct ran *ran = command("load-test --url 127.0.0.1:%u --requests 4 --long-words 9000", served_port()); // too long
    ck_assert_code(ran, 1);
    ck_assert_three_parts(ran, "context");
    served_end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("load");
    TCase *c = tcase_create("load");
    tcase_set_timeout(c, 240);
    tcase_add_checked_fixture(c, command_begin, command_end);
    tcase_add_test(c, load_test_measures);
#ifdef GRAFT_TEST_TLS
    tcase_add_test(c, https_is_spoken_and_names_are_checked);
#endif
    tcase_add_test(c, goodput_is_what_held_its_limits);
    tcase_add_test(c, arrivals_are_a_poisson_process);
    tcase_add_test(c, a_random_mix_is_uniform);
    tcase_add_test(c, pictures_are_sound_and_labelled);
    tcase_add_test(c, long_prompts_beside_are_told_apart);
    suite_add_tcase(suite, c);
    return graft_test_main(suite);
}
