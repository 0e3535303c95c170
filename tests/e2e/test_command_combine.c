// SPDX-License-Identifier: Apache-2.0
// graft merge --adapter-out and -f on tiny adapters: reports, recipes of both kinds, every mistake in a recipe with its line.
#include <stdio.h>
#include <string.h>

#include "e2e/command.h"
#include "runtime/merge/lapack.h"
#include "support/support.h"

#define IN   GRAFT_TEST_SOURCE_DIR "/golden/combine/in/"
#define BASE GRAFT_TEST_SOURCE_DIR "/golden/peft/base.gguf"

START_TEST(two_adapters_become_one)
{
    const struct ran *r =
        command("merge --adapter %sone:0.5 --adapter %swide:-1 --adapter-out both --method cat --json", IN, IN);
    ck_assert_code(r, 0);
    json_t *json = command_json(r), *all = json_object_get(json, "all"), *adapters = json_object_get(json, "adapters");
    ck_assert_str_eq(json_string_value(json_object_get(json, "method")), "cat");
    ck_assert_int_eq(json_integer_value(json_object_get(all, "rank")), 10);
    ck_assert_int_eq(json_integer_value(json_object_get(all, "modules")), 4);
    ck_assert_double_lt(json_real_value(json_object_get(all, "error")), 1e-6);
    ck_assert_uint_eq(json_array_size(json_object_get(json, "modules")), 4);
    ck_assert_double_eq(json_real_value(json_object_get(json_array_get(adapters, 1), "weight")), -1);
    json_decref(json);
    bool svd = graft_lapack_require("this") == GRAFT_OK;
    r = command("merge --adapter both --adapter %stwo:0.3 -m %s --adapter-out all.gguf --dtype f16 --method %s", IN, BASE,
                svd ? "svd --svd-rank 3" : "cat");
    ck_assert_code(r, 0);
    ck_assert_msg(strstr(r->out, "model.layers.1.mlp.down_proj") &&
                      strstr(r->out, svd ? "method svd, computed tensors f16" : "method cat"),
                  "%s", r->out);
    r = command("run -m %s --device ref --adapter both --adapter all.gguf:0.5 --temp 0 -n 2 -p th", BASE); // both load
    ck_assert_code(r, 0);
}
END_TEST

START_TEST(options_that_do_not_fit_are_refused)
{
    ck_assert_three_parts(command("merge --adapter %sone --method ties --density 0.5", IN), "--adapter-out");
    ck_assert_code(command("merge --adapter %sone --method ties --density 0.5", IN), 2);
    ck_assert_three_parts(command("merge --adapter-out x"), "no --adapter was given");
    ck_assert_three_parts(command("merge --adapter %sone --adapter-out x -o y.gguf", IN), "an adapter, not a model");
    ck_assert_three_parts(command("merge --adapter %sone --adapter-out x --method mean", IN), "mean");
    ck_assert_three_parts(command("merge --adapter %sone --adapter %stwo --adapter-out x --method ties", IN, IN),
                          "ties needs a density");
    ck_assert_three_parts(command("merge --adapter %sone --adapter %swide --adapter-out x --method linear", IN, IN),
                          "has rank 4 in");
    ck_assert_three_parts(command("merge --adapter %sone --adapter nothing --adapter-out x", IN), "nothing");
    ck_assert_code(command("merge --adapter %sone --adapter %stwo --adapter-out x --memory 10K", IN, IN), 4);
    ck_assert_three_parts(command("merge -f r.yml --adapter a"), "stand in the recipe");
}
END_TEST

// The recipe and the command line give the same bytes.
START_TEST(a_recipe_gives_what_its_options_give)
{
    char text[2048];
    snprintf(text, sizeof text,
             "# two of a kind\n"
             "merge_method: dare_ties\n"
             "adapters:\n"
             "  - path: %sone\n"
             "    weight: 0.7\n"
             "  - {path: '%stwo', weight: -0.4}\n"
             "parameters: {density: 0.5, majority_sign_method: frequency, seed: 12}\n"
             "dtype: bf16\n"
             "output: recipe-out\n",
             IN, IN);
    command_file("recipe.yml", text);
    ck_assert_code(command("merge -f recipe.yml"), 0);
    ck_assert_code(command("merge --adapter %sone:0.7 --adapter %stwo:-0.4 --method dare_ties --density 0.5 --seed 12 "
                           "--majority-sign-method frequency --dtype bf16 --adapter-out line-out",
                           IN, IN),
                   0);
    ck_assert_int_eq(system("cmp -s recipe-out/adapter_model.safetensors line-out/adapter_model.safetensors"), 0);
    ck_assert_int_eq(system("cmp -s recipe-out/adapter_config.json line-out/adapter_config.json"), 0);
    ck_assert_code(command("merge -f - --adapter-out stdin-out < recipe.yml"), 0);
    ck_assert_int_eq(system("cmp -s recipe-out/adapter_model.safetensors stdin-out/adapter_model.safetensors"), 0);
    // Paths are relative to the recipe; models, model and parameters are mergekit's words for the same.
    snprintf(text, sizeof text,
             "models:\n- model: near\n  parameters: {weight: 0.7, density: 0.25}\n- model: %stwo\n  weight: -0.4\n"
             "merge_method: ties_svd\nparameters:\n  density: 0.5\n  svd_rank: 3\noutput: far\n",
             IN);
    ck_assert_int_eq(system("mkdir folder && cp -r " IN "one folder/near"), 0);
    command_file("folder/recipe.yml", text);
    if (graft_lapack_require("this") != GRAFT_OK) {
        puts("skipped: a recipe of ties_svd, in a build without LAPACK");
        return;
    }
    const struct ran *r = command("merge -f folder/recipe.yml --json");
    ck_assert_code(r, 0);
    json_t *json = command_json(r), *adapters = json_object_get(json, "adapters");
    ck_assert_str_eq(json_string_value(json_object_get(json, "out")), "folder/far");
    ck_assert_double_eq(json_real_value(json_object_get(json_array_get(adapters, 0), "density")), 0.25);
    ck_assert_double_eq(json_real_value(json_object_get(json_array_get(adapters, 1), "density")), 0.5);
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(json, "all"), "rank")), 3);
    json_decref(json);
}
END_TEST

START_TEST(a_recipe_merges_into_the_base_as_options_do)
{
    char text[2048];
    snprintf(text, sizeof text,
             "merge_method: task_arithmetic\nadapters:\n- {path: '%sone', weight: 0.5}\n- {name: b, path: '%stwo'}\n"
             "base_model: %s\ndtype: q8_0\noutput: recipe.gguf\n",
             IN, IN, BASE);
    command_file("into.yml", text);
    ck_assert_code(command("merge -f into.yml"), 0);
    ck_assert_code(command("merge -m %s --adapter %sone:0.5 --adapter b=%stwo --type q8_0 -o line.gguf", BASE, IN, IN), 0);
    ck_assert_int_eq(system("cmp -s recipe.gguf line.gguf"), 0);
    ck_assert_code(command("merge -f into.yml -o other.gguf --type keep"), 0); // the place is the command line's
    ck_assert_int_eq(system("cmp -s recipe.gguf other.gguf"), 0);
    ck_assert_three_parts(command("merge -f into.yml --adapter-out x"), "this recipe merges into the base");
    strcat(text, "parameters: {svd_rank: 3}\n");
    command_file("into.yml", text);
    ck_assert_three_parts(command("merge -f into.yml"), "parameters of other methods have no effect");
    command_file("into.yml", "merge_method: task_arithmetic\nadapters: [{path: a}]\noutput: x.gguf\nbase_model: none.gguf\n");
    ck_assert_three_parts(command("merge -f into.yml"), "none.gguf");
    command_file("into.yml", "merge_method: task_arithmetic\nadapters: [{path: a}]\nbase_model: x\n");
    ck_assert_three_parts(command("merge -f into.yml"), "-o was not given");
}
END_TEST

START_TEST(a_recipe_says_where_it_is_wrong)
{
#define FINE "merge_method: cat\nadapters:\n- path: a\n"
    static const struct {
        const char *text, *because;
    } wrong[] = {
        {"merge_method: cat\nadapter:\n- path: a\n", "line 2: adapter is no key of a recipe; there are merge_method, adapters"},
        {FINE "  wieght: 1\n", "line 4: wieght is no key of an adapter; there are path"},
        {FINE "parameters:\n  rank: 3\n", "line 5: rank is no key of parameters; there are density"},
        {FINE "merge_method: svd\n", "line 4: merge_method stands twice"},
        {FINE "models:\n- path: b\n", "line 4: adapters and models are the same"},
        {FINE "  model: b\n", "line 4: path and model are the same"},
        {FINE "  weight: heavy\n", "line 4: weight is \"heavy\", allowed is a number"},
        {FINE "  weight: .nan\n", "line 4: weight"},
        {FINE "  weight: [1, 2]\n", "line 4: weight has a list or a map"},
        {FINE "parameters: {density: 2}\n", "line 4: density is \"2\""},
        {FINE "parameters: {seed: 1.5}\n", "line 4: seed is \"1.5\", allowed is a whole number"},
        {FINE "output: ''\n", "line 4: output has 0 bytes"},
        {FINE "output: \"a\\0b\"\n", "line 4: output has 3 bytes"},
        {FINE "  weight: &w 1\n", "line 4: &w: anchors and tags are not allowed"},
        {FINE "  weight: *w\n", "line 4: *w is an alias"},
        {FINE "  weight: !!int 1\n", "line 4: tag:yaml.org,2002:int: anchors and tags are not allowed"},
        {FINE "---\na: b\n", "line 4: a second document"},
        {FINE "  parameters: {{{{{{{a: b}: c}: d}: e}: f}: g}: h}\n", "line 4: "},
        {"[[[[[[[[a]]]]]]]]\n", "line 1: a map (key: value) is expected here"},
        {"merge_method: cat\n", "adapters are missing"},
        {"adapters:\n- path: a\n", "merge_method is missing"},
        {"merge_method: cat\nadapters: []\n", "adapters are missing"},
        {"merge_method: cat\nadapters:\n- weight: 1\n", "line 3: this adapter has no path"},
        {"merge_method: cat\nadapters: a\n", "line 2: a list of adapters"},
        {"merge_method: cat\nadapters:\n- a\n", "line 3: an adapter (path: ...) is expected here"},
        {"merge_method: cat\n\tadapters:\n", "line 2: "},
        {"merge_method: {\n", "line 1: merge_method has a list or a map"},
        {"\"m\\x1b[31m\": 1\n", "line 1: m?[31m is no key"},
        {"", "line 1: "},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        command_file("wrong.yml", wrong[i].text);
        const struct ran *r = command("merge -f wrong.yml --adapter-out out");
        ck_assert_msg(r->code == 3, "recipe %zu: exit code %d\n%s", i, r->code, r->err);
        ck_assert_three_parts(r, wrong[i].because);
    }
    ck_assert_int_eq(system("(printf 'merge_method: cat\\nadapters:\\n'; yes -- '- path: a' | head -17) > wrong.yml"), 0);
    ck_assert_three_parts(command("merge -f wrong.yml --adapter-out out"), "line 19: more than 16 adapters");
    ck_assert_int_eq(system("yes -- '# a comment' | head -c 70000 > wrong.yml"), 0);
    ck_assert_three_parts(command("merge -f wrong.yml --adapter-out out"), "a recipe has at most 65536");
    command_file("wrong.yml", FINE);
    ck_assert_three_parts(command("merge -f wrong.yml"), "there is no place for the adapter");
    ck_assert_three_parts(command("merge -f none.yml"), "none.yml cannot be read");
    command_file("wrong.yml", FINE "parameters: {keep_effect: 0.9}\noutput: x\n");
    ck_assert_three_parts(command("merge -f wrong.yml"), "keep_effect belongs to");
    command_file("wrong.yml", "merge_method: average\nadapters:\n- path: a\noutput: x\n");
    ck_assert_three_parts(command("merge -f wrong.yml"), "method \"average\" is not known");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("combine_command");
    TCase *tcase = tcase_create("combine_command");
    tcase_add_checked_fixture(tcase, command_begin, command_end);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, two_adapters_become_one);
    tcase_add_test(tcase, options_that_do_not_fit_are_refused);
    tcase_add_test(tcase, a_recipe_gives_what_its_options_give);
    tcase_add_test(tcase, a_recipe_merges_into_the_base_as_options_do);
    tcase_add_test(tcase, a_recipe_says_where_it_is_wrong);
    suite_add_tcase(suite, tcase);
    return graft_test_main(suite);
}
