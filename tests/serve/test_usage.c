// SPDX-License-Identifier: Apache-2.0
// What is counted for an adapter: statuses, sums, answers that read like refusals.
#include <string.h>

#include "support/support.h"
#include "tools/serve/usage.h"

START_TEST(refusals_are_known_by_their_beginning)
{
    static const char *const refusals[] = {"I'm sorry, but I cannot help with that.",
                                           "  \"I\xe2\x80\x99m sorry, I can't assist.",
                                           "I cannot provide legal advice.",
                                           "i CAN'T do this",
                                           "As an AI language model, I ...",
                                           "Unfortunately, I cannot say.",
                                           "\n\nI am unable to answer.",
                                           "Sorry, but no."};
    static const char *const answers[] = {"",
                                          "Paris.",
                                          "The clerk said: I cannot help with that.",
                                          "I cannon",
                                          "I can help you.",
                                          "Sorry is a word of five letters.",
                                          "As an air force base, it",
                                          "Ich kann das nicht.",
                                          "I",
                                          "\xe2\x80"};
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        ck_assert_msg(usage_is_refusal(refusals[i], strlen(refusals[i])), "%s", refusals[i]);
    }
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        ck_assert_msg(!usage_is_refusal(answers[i], strlen(answers[i])), "%s", answers[i]);
    }
    char late[200];
    memset(late, 'x', sizeof late);
    memcpy(late + 90, "I'm sorry", 9);
    ck_assert(!usage_is_refusal(late, sizeof late));
    memset(late, ' ', sizeof late);
    ck_assert(!usage_is_refusal(late, sizeof late)); // no byte behind USAGE_OPENING is read
}
END_TEST

START_TEST(sums_are_of_everything)
{
    struct adapter_usage a = {.requests = 1, .answers = 2, .refusals = 3, .judged_tokens = 4, .judged_nats = 5.5, .running = 6},
                         b = a;
    a.errors[usage_status_place(504)] = 7;
    a.errors[usage_status_place(418)] = 8; // no place of its own
    histogram_add_tokens(&a.answer_length, 100);
    histogram_add(&a.queue, 1500000000u);
    usage_merge(&b, &a);
    ck_assert(b.requests == 2 && b.answers == 4 && b.refusals == 6 && b.judged_tokens == 8 && b.running == 12);
    ck_assert(b.judged_nats > 10.99 && b.judged_nats < 11.01);
    ck_assert(b.errors[usage_status_place(504)] == 7 && b.errors[USAGE_STATUSES - 1] == 8);
    ck_assert(b.answer_length.count == 1 && b.answer_length.sum == 100 && b.queue.sum == 1500000000u);
    ck_assert_int_ne(usage_status_place(500), usage_status_place(503));
}
END_TEST

START_TEST(one_request_in_sixteen_is_judged)
{
    struct adapter_usage usage = {0};
    int judged = 0;
    for (; usage.requests < 160; usage.requests++) {
        judged += usage_is_judged(&usage);
    }
    ck_assert_int_eq(judged, 160 / USAGE_JUDGED_EVERY);
    usage.requests = 0;
    ck_assert(usage_is_judged(&usage)); // the first one
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("usage");
    TCase *c = tcase_create("usage");
    tcase_add_test(c, refusals_are_known_by_their_beginning);
    tcase_add_test(c, sums_are_of_everything);
    tcase_add_test(c, one_request_in_sixteen_is_judged);
    suite_add_tcase(suite, c);
    return graft_test_main(suite);
}
