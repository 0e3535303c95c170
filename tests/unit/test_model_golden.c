// SPDX-License-Identifier: Apache-2.0
// SmolLM2-135M-Instruct on the scalar reference: see support/golden_model.h.
#include "support/golden_model.h"
#include "support/support.h"

START_TEST(token_ids_and_log_probabilities_are_those_of_the_reference)
{
    graft_test_golden_probabilities("ref", false, NULL);
}
END_TEST

START_TEST(greedy_answers_are_those_of_the_reference)
{
    graft_test_golden_answers("ref", false, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model_golden");
    TCase *tc = tcase_create("smollm2");
    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, token_ids_and_log_probabilities_are_those_of_the_reference);
    tcase_add_test(tc, greedy_answers_are_those_of_the_reference);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
