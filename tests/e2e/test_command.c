// SPDX-License-Identifier: Apache-2.0
// The graft command without a model: help, suggestions, errors, exit codes, pages, listings.
#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>
#include <string.h>

#include "e2e/command.h"
#include "support/support.h"

static const char *const verbs[] = {"run",      "serve",      "key",      "ps",         "top",   "load-test", "bench",
                                    "eval",     "estimate",   "inspect",  "adapter",    "merge", "devices",   "doctor",
                                    "tokenize", "detokenize", "template", "completion", "man",   "version"};
enum { VERB_COUNT = sizeof verbs / sizeof verbs[0] };

static void screen(const char *text, size_t *lines, size_t *widest)
{
    *lines = *widest = 0;
    for (const char *p = text; *p;) {
        size_t width = strcspn(p, "\n");
        *widest = width > *widest ? width : *widest;
        (*lines)++;
        p += width + (p[width] == '\n');
    }
}

START_TEST(help_of_every_verb_fits_a_screen_and_starts_with_examples)
{
    for (size_t i = 0; i < VERB_COUNT; i++) {
        size_t lines, widest;
        const struct ran *r = command("%s -h", verbs[i]);
        ck_assert_code(r, 0);
        screen(r->out, &lines, &widest);
        ck_assert_msg(lines <= 23 && widest <= 80, "%s: %zu lines of at most %zu columns", verbs[i], lines, widest);
        const char *example = strstr(r->out, "\n\n  graft ");
        ck_assert_msg(example && example == strchr(r->out, '\n'), "%s: no example on the third line", verbs[i]);
        ck_assert_str_eq(r->err, "");
        screen(command("%s --help-all", verbs[i])->out, &lines, &widest);
        ck_assert_msg(widest <= 80, "%s --help-all: %zu columns", verbs[i], widest);
    }
    size_t lines, widest;
    screen(command("--help")->out, &lines, &widest);
    ck_assert(lines <= 24 && widest <= 80);
}
END_TEST

START_TEST(a_mistyped_verb_or_option_gets_a_suggestion)
{
    static const char *const cases[][2] = {
        {"rnu -m x", "try: graft run"},         {"bnech", "try: graft bench"},
        {"tokenise hi", "try: graft tokenize"}, {"run --tmep 1", "try: --temp?"},
        {"run -temp 1", "try: --temp?"},        {"run --repeat-penality 1", "try: --repeat-penalty?"},
        {"bench --stage", "try: --stages?"},    {"run --stages", "belongs to graft bench"},
        {"man rn", "try: graft man run"},       {"tokenize --specail x", "try: --special?"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct ran *r = command("%s", cases[i][0]);
        ck_assert_code(r, 2);
        ck_assert_three_parts(r, cases[i][1]);
        ck_assert_str_eq(r->out, "");
    }
}
END_TEST

START_TEST(mistakes_in_the_command_line_end_with_2)
{
    static const char *const cases[] = {
        "run -p hi --temp warm",
        "run -p hi --top-p 2",
        "run -p -n 3",
        "run -p hi --memory 6Q",
        "run -p hi --raw=1",
        "run -p a -f b",
        "bench -p 1,x",
        "bench -p 0 -n 0",
        "bench -o xml",
        "bench --weights some",
        "eval",
        "eval -f a --tokens b",
        "template",
        "completion",
        "completion tcsh",
        "merge -m x --adapter a",
        "merge -m x -o y",
        "devices everything",
        "detokenize -m x 12 twelve",
        "tokenize a b",
        "-m x",
        "run -c 99999999999999",
        "bench -m x --synthetic llama-8b:q4_0",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct ran *r = command("%s", cases[i]);
        ck_assert_code(r, 2);
        ck_assert_three_parts(r, "");
        ck_assert_str_eq(r->out, "");
    }
    ck_assert_code(command("%s", ""), 2); // no verb: help, but not what was meant
}
END_TEST

START_TEST(files_that_cannot_be_used_end_with_3)
{
    command_file("note.gguf", "this is not a model, it only has the name of one");
    command_file("cut.gguf", "GGUF\3");
    command_file("list.json", "[1, 2");
    static const char *const cases[][2] = {
        {"inspect missing.gguf", "missing.gguf"},
        {"inspect note.gguf", "note.gguf"},
        {"inspect cut.gguf", "cut.gguf"},
        {"inspect .", "directory"},
        {"tokenize -m note.gguf x", "note.gguf"},
        {"estimate -m cut.gguf", "cut.gguf"},
        {"template --template t.jinja --messages missing.json", "missing.json"},
        {"template --template t.jinja --messages list.json", "line 1"},
        {"run -m note.gguf --device ref -p hi", "note.gguf"},
        {"run -m note.gguf -f missing.txt", "missing.txt"},
        {"eval -m note.gguf --tokens list.json", "list.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct ran *r = command("%s", cases[i][0]);
        ck_assert_code(r, 3);
        ck_assert_three_parts(r, cases[i][1]);
        ck_assert_str_eq(r->out, "");
    }
}
END_TEST

START_TEST(a_device_that_is_not_there_ends_with_5)
{
    command_file("note.gguf", "the device is opened before the model");
    const struct ran *r = command("run -m note.gguf --device no-such-device -p hi");
    ck_assert_code(r, 5);
    ck_assert_three_parts(r, "no-such-device");
}
END_TEST

START_TEST(without_m_the_only_model_of_the_data_folder_is_taken)
{
    const struct ran *r = command("tokenize hi");
    ck_assert_code(r, 2);
    ck_assert_three_parts(r, "tools/fetch-model");
    ck_assert_int_eq(system("mkdir -p .local/share/graft"), 0);
    command_file(".local/share/graft/First.gguf", "no model");
    r = command("tokenize hi");
    ck_assert_code(r, 3); // it is taken, and found to be no model
    ck_assert_three_parts(r, "First.gguf");
    ck_assert_code(command("inspect First"), 3);
    ck_assert_three_parts(command("inspect First"), "share/graft/First.gguf");
    ck_assert_three_parts(command("inspect Frist"), "-m First.gguf");
    command_file(".local/share/graft/Second.gguf", "no model");
    r = command("tokenize hi");
    ck_assert_code(r, 2);
    ck_assert_three_parts(r, "First.gguf Second.gguf");
}
END_TEST

START_TEST(a_template_is_rendered_without_a_model)
{
    command_file("t.jinja", "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}"
                            "{% if add_generation_prompt %}<assistant>{% endif %}");
    command_file("m.json",
                 "{\"messages\": [{\"role\": \"user\", \"content\": \" Gr\\u00fc\\u00df dich \"}], \"bos_token\": \"<s>\", "
                 "\"add_generation_prompt\": true}");
    const struct ran *r = command("template --template t.jinja --messages m.json");
    ck_assert_code(r, 0);
    ck_assert_str_eq(r->out, "<s><user>Gr\xc3\xbc\xc3\x9f dich<assistant>");
    ck_assert_str_eq(command("template --template t.jinja --messages - < m.json")->out,
                     "<s><user>Gr\xc3\xbc\xc3\x9f dich<assistant>");
    json_t *text = command_json(command("template --template t.jinja --messages m.json --json"));
    ck_assert_str_eq(json_string_value(text), "<s><user>Gr\xc3\xbc\xc3\x9f dich<assistant>");
    json_decref(text);
    command_file("bad.jinja", "{% for m in messages %}");
    r = command("template --template bad.jinja --messages m.json");
    ck_assert_code(r, 3);
    ck_assert_three_parts(r, "");
}
END_TEST

START_TEST(listings_are_json_when_asked)
{
    json_t *devices = command_json(command("devices --json"));
    ck_assert(json_is_array(devices) && json_array_size(devices) > 0);
    json_t *last = json_array_get(devices, json_array_size(devices) - 1);
    ck_assert_str_eq(json_string_value(json_object_get(last, "kind")), "reference");
    ck_assert(json_is_true(json_object_get(last, "usable")));
    json_decref(devices);
    json_t *version = command_json(command("version --json"));
    ck_assert_str_eq(json_string_value(json_object_get(version, "version")), graft_version());
    json_decref(version);
    const struct ran *r = command("doctor --json");
    ck_assert_msg(r->code == 0 || r->code == 5, "exit code %d", r->code);
    json_t *findings = command_json(r);
    ck_assert(json_is_array(findings) && json_array_size(findings) >= 4);
    json_decref(findings);
}
END_TEST

START_TEST(doctor_without_a_driver_says_what_to_install)
{
    command_file("none.json", "{}");
    setenv("VK_DRIVER_FILES", "/nonexistent.json", 1);
    setenv("VK_ICD_FILENAMES", "/nonexistent.json", 1);
    const struct ran *r = command("doctor");
    unsetenv("VK_DRIVER_FILES");
    unsetenv("VK_ICD_FILENAMES");
    ck_assert_code(r, 5);
    ck_assert_ptr_nonnull(strstr(r->out, "mesa-vulkan-drivers"));
}
END_TEST

START_TEST(pages_and_completion_come_from_the_tables)
{
    ck_assert_code(command("completion bash | bash -n"), 0);
    const struct ran *r =
        command("completion bash > graft.bash && bash -c 'source graft.bash; COMP_WORDS=(graft run --te); COMP_CWORD=2; "
                "_graft 2>/dev/null; echo ${COMPREPLY[@]}'");
    ck_assert_str_eq(r->out, "--template --temp\n");
    for (size_t i = 0; i < VERB_COUNT; i++) {
        r = command("man %s", verbs[i]);
        ck_assert_code(r, 0);
        ck_assert_msg(strncmp(r->out, ".TH ", 4) == 0 && strstr(r->out, ".SH EXAMPLES"), "page of %s", verbs[i]);
    }
    ck_assert_ptr_nonnull(strstr(command("man")->out, ".SH VERBS"));
}
END_TEST

START_TEST(colours_are_for_terminals_only)
{
    ck_assert_ptr_null(strchr(command("rnu")->err, '\033'));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("command");
    TCase *tests = tcase_create("without a model");
    tcase_add_checked_fixture(tests, command_begin, command_end);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, help_of_every_verb_fits_a_screen_and_starts_with_examples);
    tcase_add_test(tests, a_mistyped_verb_or_option_gets_a_suggestion);
    tcase_add_test(tests, mistakes_in_the_command_line_end_with_2);
    tcase_add_test(tests, files_that_cannot_be_used_end_with_3);
    tcase_add_test(tests, a_device_that_is_not_there_ends_with_5);
    tcase_add_test(tests, without_m_the_only_model_of_the_data_folder_is_taken);
    tcase_add_test(tests, a_template_is_rendered_without_a_model);
    tcase_add_test(tests, listings_are_json_when_asked);
    tcase_add_test(tests, doctor_without_a_driver_says_what_to_install);
    tcase_add_test(tests, pages_and_completion_come_from_the_tables);
    tcase_add_test(tests, colours_are_for_terminals_only);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
