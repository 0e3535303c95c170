// SPDX-License-Identifier: Apache-2.0
// The graft command on the real model, mostly on the scalar reference: tokens, scores, answers, measurements, budget.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "e2e/command.h"
#include "support/model_path.h"
#include "support/support.h"

static const char *model;
static json_t *golden;

static void golden_begin(void)
{
    command_begin();
    json_error_t error;
    golden = json_load_file(GRAFT_TEST_SOURCE_DIR "/golden/smollm2-135m-instruct.json", 0, &error);
    ck_assert_msg(golden != NULL, "%s", error.text);
}

static void golden_end(void)
{
    json_decref(golden);
    command_end();
}

START_TEST(token_ids_of_all_golden_prompts_are_identical)
{
    const char *name;
    json_t *prompt;
    json_object_foreach(json_object_get(golden, "prompts"), name, prompt)
    {
        command_file("prompt.txt", json_string_value(json_object_get(prompt, "text")));
        json_t *ids = command_json(command("tokenize -m '%s' -f prompt.txt --special --no-bos --json", model));
        ck_assert_msg(json_equal(ids, json_object_get(prompt, "ids")), "ids of %s differ", name);
        json_decref(ids);
        const struct ran *r =
            command("tokenize -m '%s' -f prompt.txt --special --json > ids && '%s' detokenize -m '%s' -f ids --special", model,
                    GRAFT_TEST_COMMAND, model);
        ck_assert_str_eq(r->out, json_string_value(json_object_get(prompt, "text")));
    }
}
END_TEST

START_TEST(special_tokens_in_plain_text_stay_text)
{
    json_t *ids = command_json(command("tokenize -m '%s' --json '<|im_start|>'", model));
    ck_assert_uint_gt(json_array_size(ids), 1);
    json_decref(ids);
    ids = command_json(command("tokenize -m '%s' --json --special '<|im_start|>'", model));
    ck_assert_uint_eq(json_array_size(ids), 1);
    json_decref(ids);
}
END_TEST

START_TEST(eval_scores_given_tokens_as_the_golden_reference_does)
{
    json_t *ids = json_object_get(json_object_get(json_object_get(golden, "prompts"), "capital"), "ids");
    json_t *reference = json_object_get(json_object_get(json_object_get(golden, "cases"), "base"), "capital");
    json_t *file = json_pack("{s:{s:O}}", "prompts", "capital", ids);
    ck_assert_int_eq(json_dump_file(file, "ids.json", 0), 0);
    json_decref(file);
    const struct ran *r = command("eval -m '%s' --device ref --exact --tokens ids.json --top 20 --json", model);
    ck_assert_code(r, 0);
    json_t *answer = command_json(r), *result = json_object_get(json_object_get(answer, "prompts"), "capital");
    json_t *nll = json_object_get(result, "nll"), *top = json_object_get(result, "top");
    ck_assert_uint_eq(json_array_size(nll), json_array_size(ids) - 1);
    ck_assert_uint_eq(json_array_size(top), 20);
    for (size_t i = 0; i < json_array_size(nll); i++) {
        double want = json_real_value(json_array_get(json_object_get(reference, "nll"), i));
        ck_assert_double_eq_tol(json_real_value(json_array_get(nll, i)), want, 0.01);
    }
    json_t *first = json_array_get(top, 0), *want = json_array_get(json_object_get(reference, "top"), 0);
    ck_assert_int_eq(json_integer_value(json_array_get(first, 0)), json_integer_value(json_array_get(want, 0)));
    ck_assert_double_eq_tol(json_real_value(json_array_get(first, 1)), json_real_value(json_array_get(want, 1)), 0.01);
    json_decref(answer);
}
END_TEST

START_TEST(run_answers_on_standard_output_and_nothing_else)
{
    const struct ran *r = command("run -m '%s' --device ref -p 'What is the capital of France?' --temp 0 -n 8", model);
    ck_assert_code(r, 0);
    ck_assert_msg(strstr(r->out, "Paris") != NULL, "%s", r->out);
    ck_assert_str_eq(r->err, "");
    command_file("question.txt", "Hello\n");
    r = command("run -m '%s' --device ref --temp 0 -n 4 --json --memory 600M < question.txt", model);
    ck_assert_code(r, 0);
    json_t *answer = command_json(r), *memory = json_object_get(answer, "memory");
    ck_assert_int_eq(json_integer_value(json_object_get(answer, "answer_tokens")), 4);
    ck_assert(json_integer_value(json_object_get(memory, "peak")) <= 600 * 1024 * 1024);
    json_decref(answer);
}
END_TEST

START_TEST(raw_greedy_text_is_that_of_the_golden_reference)
{
    json_t *prompt = json_object_get(json_object_get(json_object_get(golden, "prompts"), "capital"), "text");
    json_t *reference = json_object_get(json_object_get(json_object_get(golden, "cases"), "base"), "capital");
    const char *want = json_string_value(json_object_get(reference, "greedy_text"));
    ck_assert_ptr_nonnull(want);
    command_file("prompt.txt", json_string_value(prompt));
    const struct ran *r = command("run -m '%s' --device ref --exact --raw --temp 0 -n 6 -f prompt.txt --json", model);
    ck_assert_code(r, 0);
    json_t *answer = command_json(r);
    const char *got = json_string_value(json_object_get(answer, "text"));
    ck_assert_msg(strlen(got) > 0 && strncmp(got, want, strlen(got)) == 0, "\"%s\", expected the beginning of \"%s\"", got,
                  want);
    json_decref(answer);
}
END_TEST

START_TEST(over_budget_ends_with_4_and_says_what_would_fit)
{
    const struct ran *r = command("run -m '%s' --device ref -p hi --memory 2M", model);
    ck_assert_code(r, 4);
    ck_assert_three_parts(r, "--memory");
    r = command("estimate -m '%s' -c 2048 --memory 20M", model);
    ck_assert_code(r, 4);
    ck_assert_three_parts(r, "");
    json_t *estimate = command_json(command("estimate -m '%s' -c 2048 --memory 2G --json", model));
    json_t *classes = json_object_get(estimate, "classes");
    double sum = 0;
    const char *name;
    json_t *bytes;
    json_object_foreach(classes, name, bytes)
    {
        sum += (double)json_integer_value(bytes);
    }
    ck_assert_double_eq(sum, (double)json_integer_value(json_object_get(estimate, "total_bytes")));
    ck_assert(json_is_true(json_object_get(estimate, "fits")));
    json_decref(estimate);
}
END_TEST

START_TEST(a_full_context_ends_with_1)
{
    const struct ran *r = command("run -m '%s' --device ref -c 16 -p \"$(seq 1 600 | tr '\\n' ' ')\"", model);
    ck_assert_code(r, 1);
    ck_assert_three_parts(r, "-c");
}
END_TEST

START_TEST(inspect_shows_keys_and_tensors)
{
    json_t *file = command_json(command("inspect '%s' --json", model));
    json_t *architecture = json_object_get(json_object_get(file, "keys"), "general.architecture");
    ck_assert_str_eq(json_string_value(json_object_get(architecture, "value")), "llama");
    ck_assert_uint_eq(json_array_size(json_object_get(file, "tensors")), 272);
    json_t *tensor = json_array_get(json_object_get(file, "tensors"), 0);
    ck_assert(json_is_string(json_object_get(tensor, "name")) && json_is_array(json_object_get(tensor, "shape")));
    json_decref(file);
    ck_assert_code(command("inspect '%s'", model), 0);
}
END_TEST

START_TEST(bench_has_the_promised_json)
{
    const struct ran *r = command("bench -m '%s' --device ref -p 4 -n 2 -r 2 -o json", model);
    ck_assert_code(r, 0);
    json_t *tests = command_json(r);
    ck_assert_uint_eq(json_array_size(tests), 2);
    static const char *const keys[] = {"n_prompt",          "n_gen",      "n_seq",    "tokens_per_second", "samples",
                                       "bandwidth_share",   "dispatches", "barriers", "submissions",       "recordings",
                                       "descriptor_updates"};
    for (size_t i = 0; i < 2; i++) {
        for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
            ck_assert_msg(json_object_get(json_array_get(tests, i), keys[k]) != NULL, "%s is missing", keys[k]);
        }
        ck_assert_uint_eq(json_array_size(json_object_get(json_array_get(tests, i), "samples")), 2);
        ck_assert_str_eq(json_string_value(json_object_get(json_array_get(tests, i), "activations")), "f32"); // the reference
    }
    ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(tests, 0), "n_prompt")), 4);
    ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(tests, 1), "n_gen")), 2);
    json_decref(tests);
}
END_TEST

START_TEST(rounded_activations_are_not_exact)
{
    const struct ran *r = command("run -m '%s' --device ref -p hi --exact --activations int8", model);
    ck_assert_int_ne(r->code, 0);
    ck_assert_msg(strstr(r->err, "activations of 8 bits are not exact") != NULL, "%s", r->err);
    ck_assert_code(command("run -m '%s' --device ref -p hi --activations int4", model), 2);
}
END_TEST

// True if the best device is not the reference, that is, some Vulkan driver works.
static bool has_vulkan(void)
{
    json_t *devices = command_json(command("devices --json"));
    const char *kind = json_string_value(json_object_get(json_array_get(devices, 0), "kind"));
    bool has = kind && strcmp(kind, "reference") != 0 && json_is_true(json_object_get(json_array_get(devices, 0), "usable"));
    json_decref(devices);
    return has;
}

START_TEST(a_decoded_token_is_one_submission_of_what_was_recorded_before)
{
    static const struct {
        const char *name;
        double most;
    } limits[] = {{"dispatches", 190}, {"barriers", 160}, {"submissions", 1}, {"recordings", 0}, {"descriptor_updates", 0}};
    if (!has_vulkan()) {
        puts("skipped: no Vulkan device is usable");
        return;
    }
    const struct ran *r = command("bench -m '%s' -p 0 -n 4 -r 1 -o json", model);
    ck_assert_code(r, 0);
    json_t *tests = command_json(r);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        double value = json_number_value(json_object_get(json_array_get(tests, 0), limits[i].name));
        ck_assert_msg(value <= limits[i].most, "%s per token: %g, at most %g", limits[i].name, value, limits[i].most);
    }
    ck_assert_double_gt(json_number_value(json_object_get(json_array_get(tests, 0), "bandwidth_share")), 0);
    json_decref(tests);
}
END_TEST

START_TEST(perplexity_has_an_error)
{
    command_file("text.txt",
                 "The harbour was quiet in the morning, and the boats lay at the quay as they had for a hundred years. "
                 "The fishermen came back from the sea with little in their nets.");
    const struct ran *r = command("eval -m '%s' --device ref -f text.txt -c 32 --json", model);
    ck_assert_code(r, 0);
    json_t *answer = command_json(r);
    double value = json_real_value(json_object_get(answer, "perplexity")),
           error = json_real_value(json_object_get(answer, "error"));
    ck_assert_msg(value > 2 && value < 200 && error > 0 && error < value, "%f +/- %f", value, error);
    json_decref(answer);
}
END_TEST

START_TEST(the_models_own_template_is_rendered)
{
    json_t *want = json_object_get(json_object_get(json_object_get(golden, "prompts"), "capital"), "text");
    command_file("m.json", "{\"messages\": [{\"role\": \"user\", \"content\": \"What is the capital of France?\"}], "
                           "\"add_generation_prompt\": true}");
    ck_assert_str_eq(command("template -m '%s' --messages m.json", model)->out, json_string_value(want));
}
END_TEST

START_TEST(answers_are_bound_by_a_grammar_or_a_schema)
{
    command_file("g.gbnf", "root ::= (\"yes\" | \"no\") \"!\"");
    command_file(
        "s.json",
        "{\"type\": \"object\", \"properties\": {\"city\": {\"type\": \"string\", \"maxLength\": 12}, \"n\": {\"type\": "
        "\"integer\", \"minimum\": 1}}, \"required\": [\"city\", \"n\"], \"additionalProperties\": false}");
    const struct ran *r =
        command("run -m '%s' --device ref -c 256 --grammar g.gbnf -p 'Is Paris in France?' --temp 2 -s 1", model);
    ck_assert_int_eq(r->code, 0);
    ck_assert_msg(strcmp(r->out, "yes!\n") == 0 || strcmp(r->out, "no!\n") == 0, "%s", r->out);
    json_t *value =
        command_json(command("run -m '%s' --device ref -c 256 --json-schema s.json -p 'Describe Paris.' --temp 0", model));
    ck_assert_str_eq(json_string_value(json_object_get(value, "city")), "Paris");
    ck_assert_int_ge(json_integer_value(json_object_get(value, "n")), 1);
    ck_assert_uint_eq(json_object_size(value), 2);
    json_decref(value);
    command_file("bad.gbnf", "root ::= \"a\"\nx ::= y");
    r = command("run -m '%s' --device ref -c 256 --grammar bad.gbnf -p hi", model);
    ck_assert_int_ne(r->code, 0);
    ck_assert_ptr_nonnull(strstr(r->err, "line 2 column 7: this rule is not defined"));
    r = command("run -m '%s' --device ref --grammar g.gbnf --json-schema s.json -p hi", model);
    ck_assert_int_eq(r->code, 2);
}
END_TEST

START_TEST(samplers_are_options)
{
    const struct ran *r =
        command("run -m '%s' --device ref -c 128 -p hi -n 4 -s 1 --typical-p 0.9 --top-n-sigma 2 --xtc-probability 0.5 "
                "--dry-multiplier 0.8 -l 5-inf",
                model);
    ck_assert_int_eq(r->code, 0);
    r = command("run -m '%s' --device ref -c 128 -p hi -n 4 -s 1 --mirostat 2 --mirostat-ent 3", model);
    ck_assert_int_eq(r->code, 0);
    r = command("run -m '%s' --device ref -c 128 -p hi -n 3 -l 28+99 -s 1", model); // token 28 is a comma
    ck_assert_str_eq(r->out, ",,,\n");
    r = command("run -m '%s' --device ref -p hi -l 5", model);
    ck_assert_int_eq(r->code, 2);
    r = command("run -m '%s' --device ref -p hi --mirostat 3", model);
    ck_assert_int_eq(r->code, 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("command with a model");
    TCase *tests = tcase_create("on the real model");
    model = graft_test_model_path();
    if (!model) {
        puts("skipped: the real model is not there");
        return graft_test_main(suite);
    }
    tcase_add_checked_fixture(tests, golden_begin, golden_end);
    tcase_set_timeout(tests, 300);
    tcase_add_test(tests, token_ids_of_all_golden_prompts_are_identical);
    tcase_add_test(tests, special_tokens_in_plain_text_stay_text);
    tcase_add_test(tests, eval_scores_given_tokens_as_the_golden_reference_does);
    tcase_add_test(tests, run_answers_on_standard_output_and_nothing_else);
    tcase_add_test(tests, raw_greedy_text_is_that_of_the_golden_reference);
    tcase_add_test(tests, over_budget_ends_with_4_and_says_what_would_fit);
    tcase_add_test(tests, a_full_context_ends_with_1);
    tcase_add_test(tests, inspect_shows_keys_and_tensors);
    tcase_add_test(tests, bench_has_the_promised_json);
    tcase_add_test(tests, rounded_activations_are_not_exact);
    tcase_add_test(tests, a_decoded_token_is_one_submission_of_what_was_recorded_before);
    tcase_add_test(tests, perplexity_has_an_error);
    tcase_add_test(tests, the_models_own_template_is_rendered);
    tcase_add_test(tests, answers_are_bound_by_a_grammar_or_a_schema);
    tcase_add_test(tests, samplers_are_options);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
