// SPDX-License-Identifier: Apache-2.0
// graft merge as an administrator uses it: mistakes, table and JSON; on the real model with the departments' adapters what
// survives, KL against the unmerged adapters, and the reference's greedy text.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "e2e/command.h"
#include "support/model_path.h"
#include "support/support.h"

static const char *model;
static const char golden_folder[] = GRAFT_TEST_SOURCE_DIR "/golden", demo[] = GRAFT_TEST_SOURCE_DIR "/../demo/adapters";
static const char *const departments[] = {"legal", "finance", "support"};

START_TEST(mistakes_are_told)
{
    static const struct {
        const char *line, *text;
        int code;
    } cases[] = {
        {"merge -m x.gguf --adapter a", "-o", 2},
        {"merge -m x.gguf -o y.gguf", "--adapter", 2},
        {"merge -m x.gguf --adapter a -o y.gguf --keep-effect 2", "0.01", 2},
        {"merge -m missing.gguf --adapter a -o y.gguf", "missing.gguf", 3},
        {"merge -m x.gguf --adapter a --adapter b --adapter c --adapter d --adapter e -o y.gguf --eval ids.json", "at most 4",
         2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct ran *r = command("%s", cases[i].line);
        ck_assert_code(r, cases[i].code);
        ck_assert_three_parts(r, cases[i].text);
    }
    const struct ran *r =
        command("merge -m %s/peft/base.gguf --adapter %s/peft/plain -o y.gguf --type q5_9", golden_folder, golden_folder);
    ck_assert_code(r, 2);
    ck_assert_three_parts(r, "Q8_0");
    r = command("merge -m %s/peft/base.gguf --adapter %s/peft/bias -o y.gguf", golden_folder, golden_folder);
    ck_assert_code(r, 3);
    ck_assert_three_parts(r, "lora_bias");
    r = command("merge -m %s/peft/base.gguf --adapter %s/peft/plain -o y.gguf --memory 20K", golden_folder, golden_folder);
    ck_assert_code(r, 4);
    r = command("merge -m %s/peft/base.gguf --adapter %s/peft/plain -o y.gguf --eval missing.json", golden_folder,
                golden_folder);
    ck_assert_code(r, 3);
    struct stat info;
    ck_assert_int_ne(stat("y.gguf", &info), 0);
}
END_TEST

START_TEST(table_and_json_say_the_same)
{
    const struct ran *r =
        command("merge -m %s/peft/base.gguf --adapter law=%s/peft/rslora:0.02 -o a.gguf", golden_folder, golden_folder);
    ck_assert_code(r, 0);
    ck_assert_ptr_nonnull(strstr(r->out, "blk.1.attn_output.weight     Q4_0"));
    ck_assert_ptr_nonnull(strstr(r->out, "8 of 21 tensors changed"));
    ck_assert_ptr_nonnull(strstr(r->err, "warning"));
    r = command("merge -m %s/peft/base.gguf --adapter law=%s/peft/rslora:0.02 -o b.gguf --json --threads 1 2>/dev/null && "
                "cmp a.gguf b.gguf",
                golden_folder, golden_folder);
    ck_assert_code(r, 0);
    json_t *report = command_json(r), *adapter = json_array_get(json_object_get(report, "adapters"), 0);
    ck_assert_uint_eq(json_array_size(json_object_get(report, "tensors")), 8);
    ck_assert_str_eq(json_string_value(json_object_get(adapter, "name")), "law");
    ck_assert_double_eq_tol(json_number_value(json_object_get(adapter, "weight")), 0.02, 1e-7);
    ck_assert_uint_eq(json_array_size(json_object_get(report, "warnings")), 1);
    json_decref(report);
}
END_TEST

START_TEST(auto_keeps_what_it_is_asked_for_on_every_demo_adapter)
{
    for (size_t d = 0; d < 3; d++) {
        const struct ran *r =
            command("merge -m '%s' --adapter %s/%s --type auto -o out.gguf --json", model, demo, departments[d]);
        ck_assert_code(r, 0);
        json_t *report = command_json(r), *all = json_object_get(report, "all");
        double share = json_number_value(json_object_get(all, "share"));
        ck_assert_double_ge(share, 0.95);
        ck_assert_int_eq(json_integer_value(json_object_get(all, "below")), 0);
        ck_assert_uint_eq(json_array_size(json_object_get(report, "warnings")), 0);
        printf("%s: share %.4f, residual %.4f, %.2f times the bytes of the changed tensors\n", departments[d], share,
               json_number_value(json_object_get(all, "residual")),
               json_number_value(json_object_get(all, "bytes_after")) /
                   json_number_value(json_object_get(all, "bytes_before")));
        json_decref(report);
    }
}
END_TEST

START_TEST(keep_has_the_size_of_the_base)
{
    struct stat before, after;
    const struct ran *r = command("merge -m '%s' --adapter %s/legal -o out.gguf --memory 24M", model, demo);
    ck_assert_code(r, 0);
    ck_assert_int_eq(stat(model, &before), 0);
    ck_assert_int_eq(stat("out.gguf", &after), 0);
    ck_assert_int_lt(after.st_size - before.st_size, 16384); // what the file says about the merge
    ck_assert_int_ge(after.st_size, before.st_size);
}
END_TEST

START_TEST(merged_to_f16_it_answers_as_the_reference_with_the_adapter)
{
    json_error_t error;
    json_t *golden = json_load_file(GRAFT_TEST_SOURCE_DIR "/golden/smollm2-135m-instruct.json", 0, &error);
    ck_assert_ptr_nonnull(golden);
    for (size_t d = 0; d < 3; d++) {
        static const char *const questions[] = {"files", "expense", "gateway"}; // of the department
        json_t *prompt = json_object_get(json_object_get(golden, "prompts"), questions[d]);
        json_t *reference = json_object_get(json_object_get(json_object_get(golden, "cases"), departments[d]), questions[d]);
        json_t *ids = json_pack("{s:{s:O}}", "prompts", "ids", json_object_get(prompt, "ids"));
        ck_assert_int_eq(json_dump_file(ids, "ids.json", 0), 0);
        json_decref(ids);
        const struct ran *r =
            command("merge -m '%s' --adapter %s/%s --type f16 -o out.gguf --json --device ref --exact --eval ids.json", model,
                    demo, departments[d]);
        ck_assert_code(r, 0);
        json_t *report = command_json(r), *kl = json_object_get(report, "kl");
        double mean = json_number_value(json_object_get(kl, "mean"));
        printf("%s as F16: KL against unmerged %.2g, of the base alone %.2g\n", departments[d], mean,
               json_number_value(json_object_get(json_object_get(report, "kl_base"), "mean")));
        ck_assert_double_le(mean, 1e-4);
        ck_assert_int_eq(json_integer_value(json_object_get(kl, "tokens")),
                         (json_int_t)json_array_size(json_object_get(prompt, "ids")));
        json_decref(report);
        command_file("prompt.txt", json_string_value(json_object_get(prompt, "text")));
        r = command("run -m out.gguf --device ref --exact --raw --temp 0 -n %d -f prompt.txt --json",
                    (int)json_array_size(json_object_get(reference, "greedy_ids")));
        ck_assert_code(r, 0);
        json_t *answer = command_json(r);
        ck_assert_str_eq(json_string_value(json_object_get(answer, "text")),
                         json_string_value(json_object_get(reference, "greedy_text")));
        json_decref(answer);
    }
    json_decref(golden);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("graft merge");
    TCase *tests = tcase_create("graft merge");
    tcase_add_checked_fixture(tests, command_begin, command_end);
    tcase_set_timeout(tests, 600);
    tcase_add_test(tests, mistakes_are_told);
    tcase_add_test(tests, table_and_json_say_the_same);
    model = graft_test_model_path();
    if (model) {
        tcase_add_test(tests, auto_keeps_what_it_is_asked_for_on_every_demo_adapter);
        tcase_add_test(tests, keep_has_the_size_of_the_base);
        tcase_add_test(tests, merged_to_f16_it_answers_as_the_reference_with_the_adapter);
    } else {
        puts("skipped: the real model is not there");
    }
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
