// SPDX-License-Identifier: Apache-2.0
// Opening a tiny model and generating with it while each allocation and each Vulkan call fails in turn; and under the
// validation layers. The calls of opening a device itself: test_vk_faults.c.
#include <stdio.h>
#include <string.h>

#include "runtime/vk/vk_internal.h"
#include "support/model_world.h"

enum { PROMPT = 9, ANSWER = 3 };

static char path[GRAFT_TINY_PATH_BYTES];
static const struct graft_model_params params = {.size = sizeof params, .n_ctx = 64, .n_batch = 2};

// Open a model, read a prompt, decode a few tokens, close. The device stays.
static enum graft_status use_model(struct graft_device *device, const struct graft_model_params *with)
{
    struct graft_model *model = NULL;
    struct graft_seq *seq = NULL;
    int32_t ids[PROMPT];
    graft_test_ids(ids, PROMPT, 4);
    enum graft_status status = graft_model_open(device, &model, path, with);
    if (status == GRAFT_OK) {
        status = graft_seq_create(model, &seq);
    } else {
        ck_assert_ptr_null(model);
    }
    for (uint32_t i = 0; status == GRAFT_OK && i < PROMPT + ANSWER; i++) {
        struct graft_row row = {seq, ids[i % PROMPT], true};
        uint32_t length = graft_seq_length(seq);
        status = graft_decode(model, &row, 1, GRAFT_WANT_CANDIDATES);
        if (status == GRAFT_OK) {
            struct graft_candidate best[4];
            uint32_t count = 4;
            status = graft_model_candidates(model, 0, best, &count);
        } else {
            ck_assert_uint_eq(graft_seq_length(seq), length); // nothing was appended
            ck_assert_status(graft_decode(model, &row, 1, GRAFT_WANT_CANDIDATES), GRAFT_E_DEVICE_LOST);
        }
    }
    graft_seq_destroy(&seq);
    graft_model_close(&model);
    return status;
}

static uint64_t used(struct graft_ctx *ctx)
{
    struct graft_memory_use use;
    graft_ctx_memory(ctx, &use);
    return use.used_bytes;
}

static void check_message(enum graft_status status, enum graft_status expected, const char *what, uint64_t n)
{
    ck_assert_msg(status == expected && strlen(graft_last_error()) > 20, "%s %u: %s (%s)", what, (unsigned)n,
                  graft_status_name(status), graft_last_error());
}

// A device whose pipelines are all made: a model that stays open holds them, so that opening another takes milliseconds.
static bool warm_device(struct graft_test_world *w, uint32_t staged)
{
    struct graft_vk_options options = graft_test_mask_options(staged ? GRAFT_TEST_STAGED : GRAFT_TEST_PLAIN);
    return graft_test_world_open(w, &options, path, &params);
}

START_TEST(each_allocation_may_fail_and_all_is_given_back)
{
    struct graft_test_world w;
    if (!warm_device(&w, (uint32_t)_i)) {
        return;
    }
    uint64_t bytes = used(w.ctx), live = w.alloc.live, buffers = w.device.vk->live_buffers,
             commands = w.device.vk->live_commands, n = 1;
    uint32_t failed = 0;
    for (bool struck = true; struck; n++) {
        ck_assert_uint_lt(n, 20000);
        w.alloc.fail_at = w.alloc.requests + n;
        enum graft_status status = use_model(&w.device, &params);
        struck = w.alloc.requests >= w.alloc.fail_at;
        w.alloc.fail_at = 0;
        failed += status != GRAFT_OK;
        if (status != GRAFT_OK) { // some are answered by a smaller request, or by copying instead of mapping
            check_message(status, GRAFT_E_MEMORY, "allocation", n);
            ck_assert(struck);
        }
        ck_assert_msg(used(w.ctx) == bytes && w.alloc.live == live && w.device.vk->live_buffers == buffers &&
                          w.device.vk->live_commands == commands,
                      "allocation %u: %llu bytes and %llu blocks were not given back", (unsigned)n,
                      (unsigned long long)(used(w.ctx) - bytes), (unsigned long long)(w.alloc.live - live));
    }
    ck_assert_uint_gt(failed, 20);
    graft_test_world_close(&w);
}
END_TEST

START_TEST(each_vulkan_call_may_fail_and_all_is_given_back)
{
    static const enum graft_vk_fault kinds[] = {GRAFT_VK_FAULT_ALLOCATE, GRAFT_VK_FAULT_CREATE, GRAFT_VK_FAULT_RECORD};
    struct graft_test_world w;
    if (!warm_device(&w, (uint32_t)_i)) {
        return;
    }
    uint64_t bytes = used(w.ctx), live = w.alloc.live, buffers = w.device.vk->live_buffers,
             commands = w.device.vk->live_commands;
    for (uint32_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        uint32_t failed = 0;
        uint64_t n = 1;
        for (bool struck = true; struck; n++) {
            ck_assert_uint_lt(n, 20000);
            graft_vk_fault(w.device.vk, kinds[k], n);
            enum graft_status status = use_model(&w.device, &params);
            struck = w.device.vk->fault_left[kinds[k]] == 0;
            graft_vk_fault(w.device.vk, kinds[k], 0);
            failed += status != GRAFT_OK;
            if (status != GRAFT_OK) {
                check_message(status, GRAFT_E_MEMORY, "call", n);
                ck_assert(struck);
            }
            ck_assert_msg(used(w.ctx) == bytes && w.alloc.live == live && w.device.vk->live_buffers == buffers &&
                              w.device.vk->live_commands == commands,
                          "kind %u, call %u: not all was given back", k, (unsigned)n);
        }
        ck_assert_uint_gt(failed, 3);
    }
    graft_test_world_close(&w);
}
END_TEST

// A lost device can only be closed: everything is opened anew for each n.
START_TEST(each_submission_and_each_wait_may_lose_the_device)
{
    enum graft_vk_fault kind = _i % 2 ? GRAFT_VK_FAULT_WAIT : GRAFT_VK_FAULT_SUBMIT;
    struct graft_model_params one_row = params;
    one_row.n_batch = 1;
    uint64_t n = 1;
    for (bool struck = true; struck; n += n < 6 ? 1 : 4) { // after opening come equal steps: not each is needed
        struct graft_test_world w;
        struct graft_vk_options options = graft_test_mask_options(_i < 2 ? GRAFT_TEST_PLAIN : GRAFT_TEST_STAGED);
        ck_assert_uint_lt(n, 200);
        if (!graft_test_world_device(&w, &options)) {
            return;
        }
        graft_vk_fault(w.device.vk, kind, n);
        enum graft_status status = use_model(&w.device, &one_row);
        struck = w.device.vk->fault_left[kind] == 0;
        if (struck) {
            check_message(status, GRAFT_E_DEVICE_LOST, "call", n);
        } else {
            ck_assert_ok(status);
        }
        graft_test_world_close(&w);
    }
    ck_assert_uint_gt(n, PROMPT + ANSWER);
}
END_TEST

START_TEST(the_validation_layers_have_nothing_to_say_about_a_whole_model)
{
    struct graft_test_world w;
    struct graft_vk_options options = graft_test_mask_options((enum graft_test_mask)_i);
    options.validation = true;
    if (!graft_test_world_device(&w, &options)) {
        return;
    }
    struct graft_model_params many = {.size = sizeof many, .n_ctx = 512, .n_batch = 3, .n_seq = 2, .timed = true};
    ck_assert_ok(graft_model_open(&w.device, &w.model, path, &many));
    static float logits[GRAFT_TINY_VOCAB];
    int32_t ids[40];
    graft_test_ids(ids, 40, 6);
    for (uint32_t s = 0; s < 2; s++) {
        struct graft_seq *seq;
        ck_assert_ok(graft_seq_create(w.model, &seq));
        graft_test_feed(w.model, seq, ids, 40, 3, logits);
        graft_test_feed(w.model, seq, ids, 4, 1, NULL);
    }
    graft_test_world_close(&w); // fails if there were messages
}
END_TEST

static void make_file(void)
{
    graft_tiny_model_file(&(struct graft_tiny_model){.type = GRAFT_TYPE_Q4_0, .n_layer = 1, .untied = true}, path);
}

static void remove_file(void)
{
    remove(path);
}

int main(void)
{
    Suite *suite = suite_create("model faults");
    TCase *tc = tcase_create("faults");
    tcase_set_timeout(tc, 300);
    tcase_add_unchecked_fixture(tc, make_file, remove_file);
    tcase_add_loop_test(tc, each_allocation_may_fail_and_all_is_given_back, 0, 2);
    tcase_add_loop_test(tc, each_vulkan_call_may_fail_and_all_is_given_back, 0, 2);
    tcase_add_loop_test(tc, each_submission_and_each_wait_may_lose_the_device, 0, 4);
    tcase_add_loop_test(tc, the_validation_layers_have_nothing_to_say_about_a_whole_model, 0, GRAFT_TEST_NO_SUBGROUPS + 1);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
