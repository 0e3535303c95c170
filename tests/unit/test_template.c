// SPDX-License-Identifier: Apache-2.0
// Chat templates against PyPI's jinja2: stored cases (tests/golden/make_templates.py), real templates when they are there, and
// hostile input.
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/plat.h"
#include "runtime/text/jinja.h"
#include "runtime/text/template.h"
#include "support/support.h"

enum { CLOCK = 1700000000 };

// Text from malloc, or NULL with the status.
static char *render(struct graft_ctx *ctx, const char *source, size_t source_length, const json_t *variables,
                    enum graft_status *status)
{
    struct graft_template *template_ = NULL;
    char *text = NULL;
    uint64_t length = 0;
    *status = graft_template_create(ctx, &template_, source, source_length);
    if (*status != GRAFT_OK) {
        ck_assert_ptr_null(template_);
        return NULL;
    }
    *status = graft_template_render(template_, variables, &text, &length);
    graft_template_destroy(&template_);
    if (*status != GRAFT_OK) {
        ck_assert_ptr_null(text);
        return NULL;
    }
    ck_assert_uint_eq(text[length], 0);
    char *copy = malloc(length + 1);
    memcpy(copy, text, length + 1);
    GRAFT_FREE(ctx, &text);
    return copy;
}

static void expect_status(const char *source, enum graft_status wanted, const char *error)
{
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    json_t *variables = json_pack("{s:s,s:[i,i],s:{s:i}}", "s", "text", "list", 1, 2, "d", "a", 1);
    enum graft_status status;
    char *text = render(ctx, source, strlen(source), variables, &status);
    ck_assert_msg(status == wanted, "%.100s: %s (%s)", source, graft_status_name(status), graft_last_error());
    if (error) {
        ck_assert_error_has(error);
    }
    free(text);
    json_decref(variables);
    graft_ctx_destroy(&ctx);
    ck_assert_uint_eq(alloc.live, 0);
}

// "" if the case agrees, else what differs.
static const char *check_case(struct graft_ctx *ctx, const json_t *test, const char *source, size_t length)
{
    static char difference[2048];
    const json_t *expected = json_object_get(test, "expected");
    enum graft_status status;
    char *text = render(ctx, source, length, json_object_get(test, "variables"), &status);
    difference[0] = 0;
    if (expected && !text) {
        snprintf(difference, sizeof difference, "%s: %s: %s", json_string_value(json_object_get(test, "name")),
                 graft_status_name(status), graft_last_error());
    } else if (expected && strcmp(text, json_string_value(expected)) != 0) {
        const char *wanted = json_string_value(expected);
        size_t at = 0;
        while (text[at] && text[at] == wanted[at]) {
            at++;
        }
        size_t from = at > 40 ? at - 40 : 0;
        snprintf(difference, sizeof difference, "%s: at byte %zu: got \"%.160s\", wanted \"%.160s\"",
                 json_string_value(json_object_get(test, "name")), at, text + from, wanted + from);
    } else if (!expected && text) {
        snprintf(difference, sizeof difference, "%s: rendered \"%.80s\", but jinja2 says %s",
                 json_string_value(json_object_get(test, "name")), text, json_string_value(json_object_get(test, "message")));
    } else if (!expected && strcmp(json_string_value(json_object_get(test, "error")), "TemplateError") == 0 &&
               !strstr(graft_last_error(), json_string_value(json_object_get(test, "message")))) {
        snprintf(difference, sizeof difference, "%s: \"%s\" lacks the template's own message \"%s\"",
                 json_string_value(json_object_get(test, "name")), graft_last_error(),
                 json_string_value(json_object_get(test, "message")));
    }
    free(text);
    return difference;
}

static void check_file(const char *name)
{
    char path[512];
    json_error_t error;
    snprintf(path, sizeof path, "%s/golden/templates/%s", GRAFT_TEST_SOURCE_DIR, name);
    json_t *cases = json_load_file(path, JSON_ALLOW_NUL, &error);
    ck_assert_msg(cases != NULL, "%s: %s", path, error.text);
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    size_t index, failed = 0;
    json_t *test;
    json_array_foreach(cases, index, test)
    {
        const json_t *source = json_object_get(test, "template");
        const char *difference = check_case(ctx, test, json_string_value(source), json_string_length(source));
        if (*difference) {
            fprintf(stderr, "%s\n  in %.200s\n", difference, json_string_value(source));
            failed++;
        }
    }
    ck_assert_msg(json_array_size(cases) > 80 && failed == 0, "%zu of %zu cases differ", failed, json_array_size(cases));
    json_decref(cases);
    graft_ctx_destroy(&ctx);
    ck_assert_uint_eq(alloc.live, 0);
}

START_TEST(every_construct_renders_as_in_jinja2)
{
    check_file("constructs.json");
}
END_TEST

START_TEST(four_families_render_as_in_jinja2)
{
    check_file("families.json");
}
END_TEST

START_TEST(real_templates_render_as_in_jinja2)
{
    const char *shared = getenv("GRAFT_TEST_SHARED_DIR");
    char dir[512];
    snprintf(dir, sizeof dir, "%s/data/templates", shared ? shared : GRAFT_TEST_SHARED_DIR);
    if (access(dir, R_OK) != 0 || system("python3 -c 'import jinja2' 2>/dev/null") != 0) {
        printf("skipped: no real templates in %s, or no python3 with jinja2\n", dir);
        return;
    }
    char command[1024];
    snprintf(command, sizeof command, "python3 '%s/golden/make_templates.py' --real '%s'", GRAFT_TEST_SOURCE_DIR, dir);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    json_error_t error;
    json_t *cases = json_loadf(pipe, JSON_ALLOW_NUL, &error);
    pclose(pipe);
    ck_assert_msg(cases != NULL, "%s", error.text);
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    size_t index, files = 0, failed_files = 0, failed = 0, relaxed = 0;
    char now[256] = "";
    bool file_failed = false;
    json_t *test;
    char *source = NULL;
    uint64_t length = 0;
    json_array_foreach(cases, index, test)
    {
        const char *file = json_string_value(json_object_get(test, "file"));
        if (strcmp(file, now) != 0) {
            char path[1024];
            failed_files += file_failed;
            file_failed = false;
            files++;
            snprintf(now, sizeof now, "%s", file);
            snprintf(path, sizeof path, "%s/%s", dir, file);
            GRAFT_FREE(ctx, &source);
            ck_assert_ok(graft_file_read(ctx, path, 1 << 20, &source, &length));
        }
        const char *difference = check_case(ctx, test, source, length);
        relaxed += json_is_true(json_object_get(test, "relaxed"));
        if (*difference) {
            fprintf(stderr, "%s: %s\n", file, difference);
            file_failed = true;
            failed++;
        }
    }
    failed_files += file_failed;
    printf("%zu of %zu real templates agree with jinja2 (%zu of %zu conversations, %zu of them where its sandbox refuses)\n",
           files - failed_files, files, json_array_size(cases) - failed, json_array_size(cases), relaxed);
    ck_assert_msg(failed == 0, "%zu conversations differ", failed);
    GRAFT_FREE(ctx, &source);
    json_decref(cases);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(errors_name_the_line_and_the_cause)
{
    expect_status("a\n\n{{ nothing.x }}", GRAFT_E_ARGUMENT, "line 3: 'nothing' is undefined");
    expect_status("\n{{ raise_exception('own words') }}", GRAFT_E_ARGUMENT, "line 2: own words");
    expect_status("{{ s | nope }}", GRAFT_E_UNSUPPORTED, "line 1, column 8: filter 'nope' is unknown");
    expect_status("{{ s | urlize }}", GRAFT_E_UNSUPPORTED, "line 1, column 8: filter 'urlize' is not supported: it makes");
    expect_status("{{ [1] | random }}", GRAFT_E_UNSUPPORTED, "filter 'random' is not supported");
    expect_status("{{ 'AT&T' | striptags }}", GRAFT_E_UNSUPPORTED, "may be a character of HTML");
    expect_status("{{ 'x' | wordwrap(0) }}", GRAFT_E_ARGUMENT, "a width of 1 or more");
    expect_status("{{ s is nope }}", GRAFT_E_UNSUPPORTED, "test 'nope' is unknown");
    expect_status("{% if s %}{{ s | nope }}{% endif %}", GRAFT_E_UNSUPPORTED, "filter 'nope' is unknown");
    expect_status("{% if not s %}{{ s | nope }}{% endif %}", GRAFT_OK, NULL);
    expect_status("{% nope %}", GRAFT_E_UNSUPPORTED, "statement 'nope' is unknown");
    expect_status("\n  {% if %}", GRAFT_E_FORMAT, "line 2, column 9");
    expect_status("{{ \xff }}", GRAFT_E_FORMAT, "not UTF-8");
}
END_TEST

START_TEST(lists_and_dicts_can_be_changed_where_the_sandbox_of_jinja2_refuses)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    static const char source[] =
        "{% set l = [1] %}{{ l.append(2) }}{% set _ = l.extend([3, 4]) %}{% set _ = l.insert(0, 0) %}{{ l }}{{ l.pop() }}"
        "{{ l.pop(0) }}{{ l }}{% set d = {'a': 1, 'b': 2} %}{% set _ = d.update({'c': 3}, e=5) %}{{ d.pop('a') }}"
        "{{ d.setdefault('f', 6) }}{{ d }}{{ d.pop('zz', 'none') }}{{ '[1, {\"a\": \"\\\\u00e9\"}]' | from_json }}";
    json_t *variables = json_object();
    enum graft_status status;
    char *text = render(ctx, source, strlen(source), variables, &status);
    ck_assert_ok(status);
    ck_assert_str_eq(text, "None[0, 1, 2, 3, 4]40[1, 2, 3]16{'b': 2, 'c': 3, 'e': 5, 'f': 6}none[1, {'a': '\xc3\xa9'}]");
    free(text);
    json_decref(variables);
    graft_ctx_destroy(&ctx);
}
END_TEST

// `before` n times, `middle`, `after` n times.
static char *repeated(const char *before, const char *middle, const char *after, size_t n)
{
    size_t a = strlen(before), b = strlen(middle), c = strlen(after);
    char *text = malloc(n * (a + c) + b + 1), *p = text;
    for (size_t i = 0; i < n; i++, p += a) {
        memcpy(p, before, a);
    }
    memcpy(p, middle, b);
    p += b;
    for (size_t i = 0; i < n; i++, p += c) {
        memcpy(p, after, c);
    }
    *p = 0;
    return text;
}

START_TEST(endless_nesting_is_refused)
{
    static const char *const cases[][3] = {
        {"(", "1", ")"},    {"[", "1", "]"},           {"{1:", "1", "}"},        {"-", "1", ""},
        {"not ", "1", ""},  {"1 if 1 else ", "1", ""}, {"d[", "1", "]"},         {"s.upper(", "", ")"},
        {"1 if ", "1", ""}, {"s is in ", "s", ""},     {"1|default(", "1", ")"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *inner = repeated(cases[i][0], cases[i][1], cases[i][2], 50000);
        char *source = malloc(strlen(inner) + 16);
        sprintf(source, "{{ %s }}", inner);
        expect_status(source, i == 9 ? GRAFT_E_ARGUMENT : GRAFT_E_LIMIT, NULL);
        free(source);
        free(inner);
    }
    static const char *const statements[][2] = {
        {"{% if 1 %}", "{% endif %}"},         {"{% for i in list %}", "{% endfor %}"},   {"{% set x %}", "{% endset %}"},
        {"{% macro m() %}", "{% endmacro %}"}, {"{% filter upper %}", "{% endfilter %}"}, {"{% with %}", "{% endwith %}"}};
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        char *source = repeated(statements[i][0], "x", statements[i][1], 20000);
        expect_status(source, GRAFT_E_LIMIT, "nested");
        free(source);
    }
    expect_status("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", GRAFT_E_LIMIT, "macro calls");
    expect_status("{% macro m(n) %}{{ m(n + 1) if n }}{% endmacro %}{{ m(1) }}", GRAFT_E_LIMIT, NULL);
    expect_status("{% for x in [[1]] recursive %}{{ loop(list) }}{% endfor %}", GRAFT_E_LIMIT, NULL);
    expect_status("{% set n = namespace(v=[]) %}{% for i in range(9999) %}{% set n.v = [n.v] %}{% endfor %}{{ n.v }}",
                  GRAFT_E_LIMIT, "nested");
    expect_status("{% set n = namespace(v=[]) %}{% for i in range(9999) %}{% set n.v = [n.v] %}{% endfor %}{{ n.v | tojson }}",
                  GRAFT_E_LIMIT, "nested");
    expect_status(
        "{% set n = namespace(v=[], w=[]) %}{% for i in range(9999) %}{% set n.v = [n.v] %}{% set n.w = [n.w] %}{% endfor %}"
        "{{ n.v == n.w }}",
        GRAFT_E_LIMIT, "nested");
    expect_status("{% set l = [] %}{% set _ = l.append(l) %}{{ l }}", GRAFT_E_LIMIT, "nested");
    expect_status("{{ ('[' * 100000) | from_json }}", GRAFT_E_LIMIT, "nested");
}
END_TEST

START_TEST(endless_work_and_output_is_refused)
{
    static const char *const cases[] = {
        "{{ range(10 ** 15) }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
        "{% set n = namespace(s='ab') %}{% for i in range(999) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s }}",
        "{% set n = namespace(s='ab') %}{% for i in range(999) %}{% set n.s = n.s ~ n.s ~ n.s %}{% endfor %}{{ n.s }}",
        "{% set n = namespace(s='ab') %}{% for i in range(999) %}{% set n.s = n.s | replace('a', n.s) %}{% endfor %}",
        "{% set n = namespace(s=[1]) %}{% for i in range(999) %}{% set n.s = n.s + n.s %}{% endfor %}",
        "{{ 'x' * 10 ** 12 }}",
        "{{ [1] * 10 ** 12 }}",
        "{{ ('x' * 10000000) * 2 }}",
        "{{ 9 ** 99999 }}",
        "{{ [[0] * 10000] * 100000 }}",
        "{% for i in list %}{{ list.append(1) or '' }}{% endfor %}",
        "{% set x = 'x' * 1000000 %}{% for i in range(100000) %}{{ x }}{% endfor %}",
        "{% set x = 'x' * 1000000 %}{% for i in range(100000) %}{% set y = x | upper %}{% endfor %}",
        "{% set x = 'x' * 1000000 %}{% for i in range(100000) %}{% if x.find('y') == 0 %}{% endif %}{% endfor %}",
        "{% set x = ('a' * 500000) %}{% set y = ('a' * 250000) ~ 'b' %}{% for i in range(1000) %}{{ y in x }}{% endfor %}",
        "{% set x = 'é' * 1000000 %}{% for i in range(100000) %}{% set y = x[999999] %}{% endfor %}",
        "{{ '%100000s' * 10000 % 'x' }}",
        "{{ '{:99999999}'.format('x') if false else range(999999) }}",
        "{{ ('1' * 9999999) | tojson(indent='x' * 9999999) }}{{ [[1]] * 9999 | tojson(indent=9999999) }}",
        "{% set d = {} %}{% for i in range(99999) %}{% set _ = d.update({i: d}) %}{% endfor %}{{ d }}",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
        json_t *variables = json_pack("{s:[i]}", "list", 1);
        enum graft_status status;
        uint64_t start = graft_clock_ns();
        char *text = render(ctx, cases[i], strlen(cases[i]), variables, &status);
        struct graft_memory_use use;
        graft_ctx_memory(ctx, &use);
        ck_assert_msg(status == GRAFT_E_LIMIT || status == GRAFT_E_ARGUMENT, "%s: %s", cases[i], graft_status_name(status));
        ck_assert_msg(use.peak_bytes < 180u << 20, "%s: %llu bytes", cases[i], (unsigned long long)use.peak_bytes);
        double seconds = (double)(graft_clock_ns() - start) * 1e-9;
        if (seconds > 1) {
            fprintf(stderr, "%.1f s: %s\n", seconds, cases[i]);
        }
        free(text);
        json_decref(variables);
        graft_ctx_destroy(&ctx);
    }
}
END_TEST

START_TEST(text_built_piece_by_piece_costs_linear_memory)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 24u << 20);
    static const char source[] = "{% set n = namespace(s='') %}{% for i in range(20000) %}{% set n.s = n.s + 'twenty bytes of "
                                 "text' %}{% endfor %}{{ n.s | length }}";
    json_t *variables = json_object();
    enum graft_status status;
    char *text = render(ctx, source, strlen(source), variables, &status);
    ck_assert_ok(status);
    ck_assert_str_eq(text, "400000");
    free(text);
    json_decref(variables);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(megabyte_templates_take_linear_time)
{
    static const char *const pieces[] = {"{{ 1 }}",
                                         "{% set a = 1 %}",
                                         "{#",
                                         "{",
                                         "{{",
                                         "{% ",
                                         "x",
                                         "{% raw %}",
                                         "{% if 1 %}{% endif %}",
                                         "{%-",
                                         " ",
                                         "\n",
                                         "{{ s }} ",
                                         "'",
                                         "{% macro a(b) %}{% endmacro %}",
                                         "}}",
                                         "\xc3\xa9"};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        char *source = repeated(pieces[i], "", "", (1 << 20) / strlen(pieces[i]));
        struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
        json_t *variables = json_pack("{s:s}", "s", "text");
        enum graft_status status;
        uint64_t start = graft_clock_ns();
        free(render(ctx, source, strlen(source), variables, &status));
        double seconds = (double)(graft_clock_ns() - start) * 1e-9;
        if (seconds > 1) {
            fprintf(stderr, "%.1f s: %s\n", seconds, pieces[i]);
        }
        json_decref(variables);
        graft_ctx_destroy(&ctx);
        free(source);
    }
    char *longer = repeated("x", "", "", (1 << 20) + 1);
    expect_status(longer, GRAFT_E_LIMIT, "1048577 bytes");
    free(longer);
}
END_TEST

static const char *const rich =
    "{%- set ns = namespace(x=[], y='') -%}{% macro m(a, b='c', *) %}{% endmacro %}"
    "{% for k, v in d.items() if v is not none %}{{ loop.index }}: {{ k ~ '\\u00e9' | upper }}={{ v | tojson(indent=2) }}{% "
    "else %}x{% endfor %}"
    "{% raw %}{{ {% endraw %}{# c #}{{ [1, 2.5e3, 'a', {'b': (1,)}][0:2][::-1] if s is string and not missing else 'q' }}";
static const char *const good = "{%- set ns = namespace(x=[], y='') -%}{% macro m(a, b='c') %}{{ a }}{{ caller() }}{% endmacro "
                                "%}{% call m(1) %}in{% endcall %}"
                                "{% for k, v in d.items() if v is not none %}{{ loop.index }}: {{ k ~ '\\u00e9' | upper }}={{ "
                                "v | tojson(indent=2) }}{% else %}x{% endfor %}"
                                "{% set q | trim %} a {% endset %}{{ '{:>5}'.format(q) }}{{ '%s' % q }}{{ list | sort | "
                                "map('string') | join(', ') }}{% set ns.y = ns.y + q * 99 %}"
                                "{{ [1, 2.5e3, 'a', {'b': (1,)}][0:2][::-1] if s is string and not missing else 'q' }}{{ d | "
                                "dictsort }}{{ s.split('e') }}{{ ns.y | replace('a', s) }}";

START_TEST(every_prefix_and_every_changed_byte_ends_in_a_status)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    json_t *variables = json_pack("{s:s,s:[i,i],s:{s:i,s:n}}", "s", "text", "list", 1, 2, "d", "a", 1, "n");
    enum graft_status status;
    const char *const sources[] = {rich, good};
    struct graft_test_random random = {.state = 7};
    for (int k = 0; k < 2; k++) {
        size_t length = strlen(sources[k]);
        char *copy = malloc(length);
        for (size_t i = 0; i < length; i++) {
            memcpy(copy, sources[k], i); // an exact block, so that a sanitizer sees reads behind it
            char *part = malloc(i + !i);
            memcpy(part, copy, i);
            free(render(ctx, part, i, variables, &status));
            free(part);
        }
        for (int i = 0; i < 20000; i++) {
            memcpy(copy, sources[k], length);
            for (int n = 0; n < 3; n++) {
                uint64_t r = graft_test_random_u64(&random);
                static const char bytes[] = "{}%#|.()[]'\"+-*/~:,= \n0a_\\xiforset";
                copy[(r >> 20) % length] = bytes[r % (sizeof bytes - 1)];
            }
            free(render(ctx, copy, length, variables, &status));
            ck_assert(status != GRAFT_E_INTERNAL);
        }
        free(copy);
    }
    json_decref(variables);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(every_failing_allocation_is_an_error_without_leak)
{
    json_t *variables = json_pack("{s:s,s:[i,i],s:{s:i}}", "s", "text", "list", 1, 2, "d", "a", 1);
    char *source = repeated(good, "", "", 40);
    for (uint64_t n = 2;; n++) {
        struct graft_test_alloc alloc = {.fail_at = n};
        struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
        enum graft_status status;
        char *text = render(ctx, source, strlen(source), variables, &status);
        graft_ctx_destroy(&ctx);
        ck_assert_uint_eq(alloc.live, 0);
        free(text);
        if (status == GRAFT_OK) {
            ck_assert_uint_gt(n, 10);
            break;
        }
        ck_assert_int_eq(status, GRAFT_E_MEMORY);
    }
    free(source);
    json_decref(variables);
}
END_TEST

START_TEST(variables_are_checked)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    json_t *variables = json_array(), *deep = json_array();
    enum graft_status status;
    free(render(ctx, "x", 1, variables, &status));
    ck_assert_int_eq(status, GRAFT_E_ARGUMENT);
    for (int i = 0; i < 5000; i++) {
        json_t *outer = json_array();
        json_array_append_new(outer, deep);
        deep = outer;
    }
    json_t *object = json_object();
    json_object_set_new(object, "deep", deep);
    free(render(ctx, "x", 1, object, &status));
    ck_assert_int_eq(status, GRAFT_E_LIMIT);
    json_decref(object);
    json_decref(variables);
    graft_ctx_destroy(&ctx);
}
END_TEST

int main(void)
{
    graft_jinja_set_clock(CLOCK);
    Suite *suite = suite_create("template");
    TCase *tcase = tcase_create("template");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, every_construct_renders_as_in_jinja2);
    tcase_add_test(tcase, four_families_render_as_in_jinja2);
    tcase_add_test(tcase, real_templates_render_as_in_jinja2);
    tcase_add_test(tcase, errors_name_the_line_and_the_cause);
    tcase_add_test(tcase, lists_and_dicts_can_be_changed_where_the_sandbox_of_jinja2_refuses);
    tcase_add_test(tcase, endless_nesting_is_refused);
    tcase_add_test(tcase, endless_work_and_output_is_refused);
    tcase_add_test(tcase, text_built_piece_by_piece_costs_linear_memory);
    tcase_add_test(tcase, megabyte_templates_take_linear_time);
    tcase_add_test(tcase, every_prefix_and_every_changed_byte_ends_in_a_status);
    tcase_add_test(tcase, every_failing_allocation_is_an_error_without_leak);
    tcase_add_test(tcase, variables_are_checked);
    suite_add_tcase(suite, tcase);
    return graft_test_main(suite);
}
