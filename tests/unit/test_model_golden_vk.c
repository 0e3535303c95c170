// SPDX-License-Identifier: Apache-2.0
// SmolLM2-135M-Instruct on the Vulkan device: goldens (support/golden_model.h), and what one token costs in commands.
#include <stdio.h>

#include "graft/graft.h"
#include "support/golden_model.h"
#include "support/model_path.h"
#include "support/support.h"

// False, with a line, where there is no Vulkan device or no model.
static bool can_run(void)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_device *device;
    enum graft_status status = graft_device_open(ctx, &device, NULL);
    if (status != GRAFT_OK) {
        printf("skipped: %s\n", graft_last_error());
    } else if (!graft_test_model_path()) {
        printf("skipped: SmolLM2-135M-Instruct.Q4_1.gguf is not there (GRAFT_TEST_MODEL)\n");
        status = GRAFT_E_IO;
    }
    graft_device_close(&device);
    graft_ctx_destroy(&ctx);
    return status == GRAFT_OK;
}

START_TEST(token_ids_and_log_probabilities_are_those_of_the_reference)
{
    if (can_run()) {
        graft_test_golden_probabilities(NULL, _i, NULL);
    }
}
END_TEST

START_TEST(greedy_answers_are_those_of_the_reference)
{
    if (can_run()) {
        graft_test_golden_answers(NULL, false, NULL);
    }
}
END_TEST

static const char *const departments[] = {"legal", "finance", "support"};

START_TEST(adapters_give_the_log_probabilities_of_peft)
{
    if (can_run()) {
        graft_test_golden_probabilities(NULL, true, departments[_i]);
    }
}
END_TEST

START_TEST(adapters_give_the_greedy_answers_of_peft)
{
    if (can_run()) {
        graft_test_golden_answers(NULL, false, departments[_i]);
    }
}
END_TEST

START_TEST(a_decoded_token_costs_one_submission_and_no_recording)
{
    enum { TOKENS = 8 };
    if (!can_run()) {
        return;
    }
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_device *device;
    struct graft_model *model;
    struct graft_seq *seq;
    ck_assert_ok(graft_device_open(ctx, &device, NULL));
    struct graft_model_params params = {.size = sizeof params, .n_ctx = 1024, .n_batch = 1};
    ck_assert_ok(graft_model_open(device, &model, graft_test_model_path(), &params));
    ck_assert_ok(graft_seq_create(model, &seq));
    for (uint32_t t = 0; t < TOKENS; t++) {
        struct graft_device_counters before, after;
        struct graft_memory_use use, later;
        struct graft_candidate best;
        uint32_t count = 1;
        graft_device_count(device, &before);
        graft_ctx_memory(ctx, &use);
        struct graft_row row = {seq, (int32_t)(100 + t), true};
        ck_assert_ok(graft_decode(model, &row, 1, GRAFT_WANT_CANDIDATES));
        ck_assert_ok(graft_model_candidates(model, 0, &best, &count));
        graft_device_count(device, &after);
        graft_ctx_memory(ctx, &later);
        ck_assert_uint_gt(after.dispatches, before.dispatches);
        ck_assert_uint_le(after.dispatches - before.dispatches, 190);
        ck_assert_uint_le(after.barriers - before.barriers, 160);
        ck_assert_uint_eq(after.submissions - before.submissions, 1);
        ck_assert_uint_eq(after.recordings, before.recordings);
        ck_assert_uint_eq(after.descriptor_updates, before.descriptor_updates);
        ck_assert_uint_eq(after.pipelines, before.pipelines);
        ck_assert_uint_eq(after.device_allocations, before.device_allocations);
        ck_assert_uint_eq(later.allocations, use.allocations);
        if (t == 0) {
            printf("a token: %u dispatches, %u barriers\n", (unsigned)(after.dispatches - before.dispatches),
                   (unsigned)(after.barriers - before.barriers));
        }
    }
    graft_seq_destroy(&seq);
    graft_model_close(&model);
    graft_device_close(&device);
    graft_ctx_destroy(&ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model_golden_vk");
    TCase *tc = tcase_create("smollm2");
    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, a_decoded_token_costs_one_submission_and_no_recording);
    tcase_add_loop_test(tc, token_ids_and_log_probabilities_are_those_of_the_reference, 0, 2); // default, exact
    tcase_add_test(tc, greedy_answers_are_those_of_the_reference);
    tcase_add_loop_test(tc, adapters_give_the_log_probabilities_of_peft, 0, 3);
    tcase_add_loop_test(tc, adapters_give_the_greedy_answers_of_peft, 0, 3);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
