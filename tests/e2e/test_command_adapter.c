// SPDX-License-Identifier: Apache-2.0
// graft adapter as a user runs it; what it writes is read by PyPI's gguf and numpy (tests/golden/check_adapter.py) where
// GRAFT_TEST_PYTHON names an interpreter that has them.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "e2e/command.h"
#include "support/support.h"

#define GOLDEN GRAFT_TEST_SOURCE_DIR "/golden/peft/"
#define BASE   GOLDEN "base.gguf"

static const char *python;

static const struct {
    const char *name;
    bool gguf; // can be a GGUF adapter
} kinds[] = {{"plain", true},      {"rslora", true}, {"dora", false}, {"dora-patterns", false}, {"bias", false},
             {"embed-head", true}, {"norms", true},  {"head", false}, {"rank1", true},          {"rank256", true},
             {"regex", false},     {"f16", true},    {"bf16", true},  {"alora", true}};
enum { KINDS = sizeof kinds / sizeof *kinds };

// check_adapter.py must find nothing.
static void check(const char *original, const char *written)
{
    char line[2048], answer[1024] = "";
    if (!python) {
        return;
    }
    snprintf(line, sizeof line, "'%s' %s/golden/check_adapter.py '%s' '%s' 4 2 2>&1", python, GRAFT_TEST_SOURCE_DIR, original,
             written);
    FILE *pipe = popen(line, "r");
    ck_assert_ptr_nonnull(pipe);
    answer[fread(answer, 1, sizeof answer - 1, pipe)] = 0;
    ck_assert_msg(pclose(pipe) == 0, "%s, %s: %s", original, written, answer);
}

START_TEST(every_kind_is_converted_and_back)
{
    const char *name = kinds[_i].name;
    char original[512];
    snprintf(original, sizeof original, GOLDEN "%s", name);
    ck_assert_code(command("adapter convert '%s' -o graft-copy -m " BASE, original), 0);
    check(original, "graft-copy");
    ck_assert_code(command("adapter diff '%s' graft-copy", original), 0);
    const struct ran *r = command("adapter convert '%s' -o a.gguf -m " BASE, original);
    if (!kinds[_i].gguf) {
        ck_assert_code(r, 3);
        ck_assert_three_parts(r, "GGUF");
        ck_assert_int_ne(access("a.gguf", F_OK), 0);
        return;
    }
    ck_assert_code(r, 0);
    check(original, "a.gguf");
    ck_assert_code(command("adapter convert a.gguf -o graft-back -m " BASE " --json"), 0);
    check(original, "graft-back");
    json_t *diff = command_json(command("adapter diff '%s' graft-back --json", original));
    json_t *counts = json_object_get(diff, "counts");
    ck_assert_int_eq(json_integer_value(json_object_get(counts, "differs")), 0);
    ck_assert_int_eq(json_integer_value(json_object_get(counts, "only in B")), 0);
    json_decref(diff);
}
END_TEST

START_TEST(inspect_says_what_is_inside)
{
    const struct ran *r = command("adapter inspect " GOLDEN "plain -m " BASE);
    ck_assert_code(r, 0);
    static const char *const texts[] = {"LoRA, PEFT", "parameters   9280, 9.4095 % of the base's 98624", "fits         yes",
                                        "down_proj", "2807c2611a17d6b44e87204b18bdfe7644b60ec64cee925243d3c24963b2c186"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        ck_assert_msg(strstr(r->out, texts[i]) != NULL, "no \"%s\" in\n%s", texts[i], r->out);
    }
    json_t *info = command_json(command("adapter inspect " GOLDEN "dora-patterns -m " BASE " --json"));
    ck_assert_str_eq(json_string_value(json_object_get(info, "kind")), "DoRA, rsLoRA");
    ck_assert(json_is_true(json_object_get(info, "fits")));
    json_t *targets = json_object_get(info, "targets"), *modules = json_object_get(info, "modules");
    ck_assert_uint_eq(json_array_size(targets), 4);
    ck_assert_uint_eq(json_array_size(modules), 8);
    json_int_t sum = 0;
    for (size_t i = 0; i < 4; i++) {
        sum += json_integer_value(json_object_get(json_array_get(targets, i), "parameters"));
    }
    ck_assert_int_eq(sum, json_integer_value(json_object_get(info, "parameters")));
    ck_assert_double_eq_tol(json_real_value(json_object_get(info, "share")), 5984.0 / 98624, 1e-8);
    json_t *down = json_array_get(modules, 3);
    ck_assert_str_eq(json_string_value(json_object_get(down, "module")), "model.layers.0.mlp.down_proj");
    ck_assert_int_eq(json_integer_value(json_object_get(down, "rank")), 9);
    ck_assert_double_eq_tol(json_real_value(json_object_get(down, "scale")), 6 / sqrt(9), 1e-7);
    json_decref(info);
    r = command("adapter inspect '%s/../demo/adapters/legal' -m " BASE, GRAFT_TEST_SOURCE_DIR);
    ck_assert_code(r, 3);
    ck_assert_three_parts(r, "576 x 576");
    ck_assert(strstr(r->out, "fits         no") != NULL);
    ck_assert_code(command("adapter inspect " GOLDEN "embed-head.gguf --all"), 0);
}
END_TEST

START_TEST(verify_compares_the_digest)
{
    static const char digest[] = "2807c2611a17d6b44e87204b18bdfe7644b60ec64cee925243d3c24963b2c186";
    const struct ran *r = command("adapter verify " GOLDEN "plain -m " BASE " --digest %s", digest);
    ck_assert_code(r, 0);
    ck_assert(strncmp(r->out, digest, sizeof digest - 1) == 0);
    r = command("adapter verify " GOLDEN "rslora --digest %s", digest);
    ck_assert_code(r, 3);
    ck_assert_three_parts(r, "is another adapter");
    r = command("adapter verify " GOLDEN);
    ck_assert_code(r, 3);
    ck_assert_three_parts(r, "adapter_config.json");
    ck_assert_int_eq(system("cp -r " GOLDEN "plain cut && truncate -s -40 cut/adapter_model.safetensors"), 0);
    r = command("adapter verify cut");
    ck_assert_code(r, 3);
    ck_assert_three_parts(r, "cut/adapter_model.safetensors");
    ck_assert_str_eq(r->out, "");
    // four bytes of NaN in place of the last value
    ck_assert_int_eq(system("rm -r cut && cp -r " GOLDEN "plain cut && truncate -s -4 cut/adapter_model.safetensors && "
                            "printf '\\000\\000\\300\\177' >> cut/adapter_model.safetensors"),
                     0);
    r = command("adapter verify cut");
    ck_assert_code(r, 3);
    ck_assert_three_parts(r, "has NaN at index");
}
END_TEST

START_TEST(diff_ends_with_1_where_something_differs)
{
    const struct ran *r = command("adapter diff " GOLDEN "plain " GOLDEN "rslora");
    ck_assert_code(r, 1);
    ck_assert_str_eq(r->err, "");
    ck_assert(strstr(r->out, "A: LoRA") && strstr(r->out, "B: rsLoRA") && strstr(r->out, "8 differ, 6 only in A, 0 only in B"));
    json_t *diff = command_json(command("adapter diff " GOLDEN "plain " GOLDEN "rslora --json"));
    ck_assert(json_is_false(json_object_get(diff, "same")));
    ck_assert_uint_eq(json_array_size(json_object_get(diff, "parts")), 14);
    ck_assert_double_gt(json_real_value(json_object_get(diff, "relative")), 1);
    json_decref(diff);
    ck_assert_code(command("adapter diff " GOLDEN "plain " GOLDEN "plain.gguf -m " BASE), 0);
    r = command("adapter diff " GOLDEN "plain " GOLDEN "plain.gguf");
    ck_assert_code(r, 2);
    ck_assert_three_parts(r, "-m BASE.gguf");
}
END_TEST

START_TEST(mistakes_end_with_advice)
{
    static const struct {
        const char *line;
        int code;
        const char *text;
    } cases[] = {{"adapter", 2, "graft adapter inspect A"},
                 {"adapter look " GOLDEN "plain", 2, "none of inspect"},
                 {"adapter inspect", 2, "an adapter is missing"},
                 {"adapter diff " GOLDEN "plain", 2, "graft adapter diff A B"},
                 {"adapter verify " GOLDEN "plain " GOLDEN "f16", 2, "too many"},
                 {"adapter convert " GOLDEN "plain", 2, "-o was not given"},
                 {"adapter convert " GOLDEN "plain -o x.gguf --to peft", 2, "-o FOLDER"},
                 {"adapter convert " GOLDEN "plain -o x.safetensors", 2, "-o FOLDER"},
                 {"adapter convert " GOLDEN "plain -o x --to gguf", 2, "-o x.gguf"},
                 {"adapter convert " GOLDEN "plain -o x.gguf", 2, "-m BASE.gguf"},
                 {"adapter inspect " GOLDEN "plain -o x", 2, "graft adapter convert"},
                 {"adapter inspect " GOLDEN "plain --digest 00", 2, "graft adapter verify"},
                 {"adapter inspect nothing", 3, "nothing"},
                 {"adapter inspect model.bin", 3, "pickle"},
                 {"adapter inspect " BASE, 3, "general.type"},
                 {"adapter inspect " GOLDEN "plain -m nowhere.gguf", 3, "there is no model"},
                 {"adapter inspect " GOLDEN "plain --memory 10K", 4, "budget"},
                 {"adapter convert " GOLDEN "plain -o absent/x", 3, "absent/x"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct ran *r = command("%s", cases[i].line);
        ck_assert_msg(r->code == cases[i].code, "%s: %d\n%s", cases[i].line, r->code, r->err);
        ck_assert_three_parts(r, cases[i].text);
        ck_assert_str_eq(r->out, "");
    }
    ck_assert_int_eq(system("mkdir full && touch full/notes"), 0);
    const struct ran *r = command("adapter convert " GOLDEN "plain -o full");
    ck_assert_code(r, 2);
    ck_assert_three_parts(r, "the folder holds notes");
}
END_TEST

START_TEST(a_killed_conversion_leaves_the_old_adapter)
{
    char line[1024];
    ck_assert_code(command("adapter convert " GOLDEN "f16 -o out"), 0);
    for (int i = 0; i < 20; i++) { // whenever it is killed, what is there is one adapter or the other
        snprintf(line, sizeof line,
                 "'%s' adapter convert %s/../demo/adapters/%s -o out >/dev/null 2>&1 & sleep 0.00%d; kill -9 $! 2>/dev/null; "
                 "wait $! 2>/dev/null; true",
                 GRAFT_TEST_COMMAND, GRAFT_TEST_SOURCE_DIR, i % 2 ? "legal" : "finance", i % 10);
        ck_assert_int_eq(system(line), 0);
        ck_assert_code(command("adapter verify out"), 0);
    }
    ck_assert_code(command("adapter convert " GOLDEN "f16 -o out"), 0);
    ck_assert_int_ne(access("out.tmp", F_OK), 0);
    ck_assert_code(command("adapter diff out " GOLDEN "f16"), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("command_adapter");
    TCase *tests = tcase_create("command_adapter");
    python = getenv("GRAFT_TEST_PYTHON");
    if (!python || system("\"$GRAFT_TEST_PYTHON\" -c 'import gguf, numpy' 2>/dev/null") != 0) {
        printf("skipped: what is written is not read by PyPI's gguf (GRAFT_TEST_PYTHON)\n");
        python = NULL;
    }
    tcase_add_checked_fixture(tests, command_begin, command_end);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, every_kind_is_converted_and_back, 0, KINDS);
    tcase_add_test(tests, inspect_says_what_is_inside);
    tcase_add_test(tests, verify_compares_the_digest);
    tcase_add_test(tests, diff_ends_with_1_where_something_differs);
    tcase_add_test(tests, mistakes_end_with_advice);
    tcase_add_test(tests, a_killed_conversion_leaves_the_old_adapter);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
