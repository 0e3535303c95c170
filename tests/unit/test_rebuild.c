// SPDX-License-Identifier: Apache-2.0
// After the device was lost: the model is rebuilt, adapters come back from their files, the engine goes on with those that
// wait.
#define _DEFAULT_SOURCE // symlink
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "support/engine_world.h"

enum { VOCAB = 288, PROMPT = 20, ANSWER = 12, WAITING = 6 };

static int32_t ids[PROMPT];
static char link_path[64];

// 0: the reference; 1, 2: Vulkan, mapped and staged.
static bool open_world(struct graft_test_world *world, int vulkan, uint32_t n_seq)
{
    struct graft_vk_options options = graft_test_mask_options(vulkan == 2 ? GRAFT_TEST_STAGED : GRAFT_TEST_PLAIN);
    struct graft_model_params params = {
        .size = sizeof params, .n_ctx = 128, .n_batch = 8, .n_seq = n_seq, .adapter_pool_bytes = 256 << 10, .adapter_slots = 4};
    char path[512];
    snprintf(path, sizeof path, "%s/golden/peft/base.gguf", GRAFT_TEST_SOURCE_DIR);
    return graft_test_world_open(world, vulkan ? &options : NULL, path, &params);
}

static void point_link_at(const char *adapter)
{
    char path[512];
    snprintf(path, sizeof path, "%s/golden/peft/%s", GRAFT_TEST_SOURCE_DIR, adapter);
    unlink(link_path);
    ck_assert_int_eq(symlink(path, link_path), 0);
}

static enum graft_status one_row(struct graft_seq *seq)
{
    struct graft_row row = {seq, 1, true};
    return graft_decode(seq->model, &row, 1, GRAFT_WANT_LOGITS);
}

static void lose(struct graft_model *model, struct graft_seq *seq)
{
    graft_vk_fault(model->device->vk, GRAFT_VK_FAULT_SUBMIT, 1);
    ck_assert_status(one_row(seq), GRAFT_E_DEVICE_LOST);
    ck_assert_status(one_row(seq), GRAFT_E_DEVICE_LOST);
}

START_TEST(a_rebuilt_model_has_the_bits_it_had)
{
    static float base[VOCAB], adapted[VOCAB], again[VOCAB];
    struct graft_test_world world;
    struct graft_memory_use before, after;
    struct graft_adapter *kept, *idle;
    struct graft_adapter_info info;
    struct graft_seq *seq;
    uint32_t count;
    if (!open_world(&world, _i, 1)) {
        return;
    }
    struct graft_model *model = world.model;
    point_link_at("plain");
    ck_assert_ok(graft_adapter_load(model, &kept, link_path));
    point_link_at("rslora"); // the path of the first is another adapter's now
    ck_assert_ok(graft_adapter_load(model, &idle, link_path));
    point_link_at("plain");
    graft_adapter_release(&idle);
    ck_assert_ok(graft_seq_create(model, &seq));
    graft_test_feed(model, seq, ids, PROMPT, 8, base);
    graft_seq_truncate(seq, 0);
    ck_assert_ok(graft_seq_set_adapters(seq, &(struct graft_adapter_use){.adapter = kept, .weight = 0.5f}, 1));
    graft_test_feed(model, seq, ids, PROMPT, 8, adapted);
    graft_ctx_memory(world.ctx, &before);
    if (_i) {
        lose(model, seq);
    }
    ck_assert_ok(graft_model_rebuild(model));
    graft_ctx_memory(world.ctx, &after);
    ck_assert_uint_eq(graft_seq_length(seq), 0);
    ck_assert_uint_eq(before.used_bytes, after.used_bytes);
    graft_adapter_list(model, NULL, 0, &count);
    ck_assert_uint_eq(count, 1); // what nothing held was dropped
    graft_adapter_describe(kept, &info);
    ck_assert(!info.gone);
    graft_test_feed(model, seq, ids, PROMPT, 8, again);
    ck_assert_mem_eq(again, adapted, sizeof again);
    graft_seq_truncate(seq, 0);
    ck_assert_ok(graft_seq_set_adapters(seq, NULL, 0));
    graft_test_feed(model, seq, ids, PROMPT, 8, again);
    ck_assert_mem_eq(again, base, sizeof again);
    graft_adapter_release(&kept);
    graft_seq_destroy(&seq);
    graft_test_world_close(&world);
}
END_TEST

START_TEST(an_adapter_whose_file_changed_is_refused_until_it_is_loaded_anew)
{
    static float first[VOCAB], again[VOCAB];
    struct graft_test_world world;
    struct graft_adapter *adapter, *anew;
    struct graft_adapter_info info;
    struct graft_seq *seq;
    if (!open_world(&world, _i, 1)) {
        return;
    }
    struct graft_model *model = world.model;
    point_link_at("plain");
    ck_assert_ok(graft_adapter_load(model, &adapter, link_path));
    ck_assert_ok(graft_seq_create(model, &seq));
    struct graft_adapter_use use = {.adapter = adapter, .weight = 1};
    ck_assert_ok(graft_seq_set_adapters(seq, &use, 1));
    graft_test_feed(model, seq, ids, PROMPT, 8, first);
    point_link_at("rslora");
    ck_assert_ok(graft_model_rebuild(model));
    graft_adapter_describe(adapter, &info);
    ck_assert(info.gone);
    ck_assert_status(one_row(seq), GRAFT_E_IO); // it does not run with the base in its place
    ck_assert_status(graft_seq_set_adapters(seq, &use, 1), GRAFT_E_IO);
    ck_assert_ok(graft_seq_set_adapters(seq, NULL, 0));
    ck_assert_ok(one_row(seq));
    point_link_at("plain");
    ck_assert_ok(graft_adapter_load(model, &anew, link_path));
    graft_adapter_release(&adapter);
    use.adapter = anew;
    graft_seq_truncate(seq, 0);
    ck_assert_ok(graft_seq_set_adapters(seq, &use, 1));
    graft_test_feed(model, seq, ids, PROMPT, 8, again);
    ck_assert_mem_eq(again, first, sizeof again);
    graft_adapter_release(&anew);
    graft_seq_destroy(&seq);
    graft_test_world_close(&world);
}
END_TEST

START_TEST(a_device_that_does_not_come_back_may_be_tried_again)
{
    static float before[VOCAB], after[VOCAB];
    struct graft_test_world world;
    struct graft_adapter *adapter;
    struct graft_seq *seq;
    uint32_t failed = 0;
    if (!open_world(&world, 2, 1)) {
        return;
    }
    struct graft_model *model = world.model;
    point_link_at("plain");
    ck_assert_ok(graft_adapter_load(model, &adapter, link_path));
    ck_assert_ok(graft_seq_create(model, &seq));
    ck_assert_ok(graft_seq_set_adapters(seq, &(struct graft_adapter_use){.adapter = adapter, .weight = 1}, 1));
    graft_test_feed(model, seq, ids, PROMPT, 8, before);
    static const enum graft_vk_fault kinds[] = {GRAFT_VK_FAULT_CREATE, GRAFT_VK_FAULT_ALLOCATE, GRAFT_VK_FAULT_SUBMIT};
    for (uint32_t k = 0; k < 3; k++) {
        for (uint32_t n = 1; n < 40; n += 8) {
            world.device.options.fault = kinds[k];
            world.device.options.fault_at = n;
            if (graft_model_rebuild(model) != GRAFT_OK) {
                failed++;
                ck_assert_status(one_row(seq), GRAFT_E_DEVICE_LOST);
            }
        }
    }
    ck_assert_uint_gt(failed, 8);
    world.device.options.fault_at = 0;
    ck_assert_ok(graft_model_rebuild(model));
    graft_test_feed(model, seq, ids, PROMPT, 8, after);
    ck_assert_mem_eq(after, before, sizeof after);
    graft_adapter_release(&adapter);
    graft_seq_destroy(&seq);
    graft_test_world_close(&world);
}
END_TEST

START_TEST(a_device_with_two_models_is_not_taken_from_the_other)
{
    struct graft_test_world world;
    struct graft_model *other;
    char path[512];
    snprintf(path, sizeof path, "%s/golden/peft/base.gguf", GRAFT_TEST_SOURCE_DIR);
    (void)open_world(&world, 0, 1);
    ck_assert_ok(graft_model_open(&world.device, &other, path, NULL));
    ck_assert_status(graft_model_rebuild(world.model), GRAFT_E_ARGUMENT);
    graft_model_close(&other);
    ck_assert_ok(graft_model_rebuild(world.model));
    graft_test_world_close(&world);
}
END_TEST

// ---- the engine ----

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static enum graft_device_state states[16];
static uint32_t n_states;

static void on_device(void *user, enum graft_device_state state, const char *detail)
{
    (void)user;
    pthread_mutex_lock(&lock);
    ck_assert_uint_lt(n_states, 16);
    ck_assert((state == GRAFT_DEVICE_WORKS) == (*detail == 0));
    states[n_states++] = state;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void submit(struct graft_engine *engine, struct graft_test_answer *a, struct graft_adapter *adapter, uint32_t seed)
{
    struct graft_adapter_use use = {.adapter = adapter, .weight = 1};
    struct graft_request_params params = {.tokens = ids,
                                          .n_tokens = PROMPT,
                                          .max_tokens = ANSWER,
                                          .sampling = {.seed = seed + 57, .top_k = 20},
                                          .uses = &use,
                                          .n_uses = adapter != NULL};
    graft_test_submit(engine, a, params);
}

static void wait_for_state(uint32_t n, enum graft_device_state state)
{
    pthread_mutex_lock(&lock);
    while (n_states < n) {
        pthread_cond_wait(&changed, &lock);
    }
    ck_assert_int_eq(states[n - 1], state);
    pthread_mutex_unlock(&lock);
}

static enum graft_status load(struct graft_model *model, void *user)
{
    return graft_adapter_load(model, user, link_path);
}

static enum graft_status release(struct graft_model *model, void *user)
{
    (void)model;
    graft_adapter_release(user);
    return GRAFT_OK;
}

// The device is lost at this submission from now on.
static enum graft_status arm(struct graft_model *model, void *user)
{
    graft_vk_fault(model->device->vk, GRAFT_VK_FAULT_SUBMIT, *(const uint64_t *)user);
    return GRAFT_OK;
}

START_TEST(answers_end_those_that_wait_go_on_and_the_third_loss_within_minutes_is_the_last)
{
    struct graft_test_world world;
    struct graft_engine *engine;
    struct graft_engine_stats stats;
    struct graft_adapter *adapter;
    static struct graft_test_answer alone[WAITING], answers[WAITING];
    n_states = 0;
    if (!open_world(&world, 1 + _i, 1)) {
        return;
    }
    struct graft_engine_params params = {.size = sizeof params, .on_device = on_device};
    ck_assert_ok(graft_engine_create(world.model, &engine, &params));
    point_link_at("plain");
    ck_assert_ok(graft_engine_run(engine, load, &adapter));
    for (uint32_t i = 0; i < WAITING; i++) {
        submit(engine, &alone[i], i % 2 ? adapter : NULL, i);
        graft_test_end(&alone[i]);
        ck_assert_uint_eq(alone[i].n, ANSWER);
    }
    uint64_t soon = 14;
    for (uint32_t loss = 0; loss < GRAFT_MAX_REBUILDS; loss++) {
        ck_assert_ok(graft_engine_run(engine, arm, &soon)); // in the middle of the first answer
        for (uint32_t i = 0; i < WAITING; i++) {
            submit(engine, &answers[i], i % 2 ? adapter : NULL, i);
        }
        for (uint32_t i = 0; i < WAITING; i++) {
            graft_test_end(&answers[i]);
            bool lost = i == 0;
            ck_assert_int_eq(answers[i].status, lost ? GRAFT_E_DEVICE_LOST : GRAFT_OK);
            ck_assert_int_eq(answers[i].finish, lost ? GRAFT_FINISH_ERROR : GRAFT_FINISH_LENGTH);
            ck_assert(lost ? answers[i].n > 0 && answers[i].n < ANSWER : answers[i].n == ANSWER);
            ck_assert_mem_eq(answers[i].tokens, alone[i].tokens, answers[i].n * sizeof *alone[i].tokens);
        }
        wait_for_state(2 * loss + 1, GRAFT_DEVICE_LOST);
        wait_for_state(2 * loss + 2, GRAFT_DEVICE_WORKS);
        graft_engine_describe(engine, &stats);
        ck_assert(!stats.lost && stats.rebuilds == loss + 1);
    }
    ck_assert_ok(graft_engine_run(engine, arm, &soon));
    submit(engine, &answers[0], NULL, 0);
    graft_test_end(&answers[0]);
    wait_for_state(2 * GRAFT_MAX_REBUILDS + 2, GRAFT_DEVICE_GIVEN_UP);
    ck_assert_int_eq(answers[0].status, GRAFT_E_DEVICE_LOST);
    graft_engine_describe(engine, &stats);
    ck_assert(stats.lost && stats.rebuilds == GRAFT_MAX_REBUILDS && stats.running == 0);
    struct graft_request_params refused = {
        .size = sizeof refused, .tokens = ids, .n_tokens = 1, .on_event = graft_test_on_event};
    struct graft_request *request;
    ck_assert_status(graft_engine_submit(engine, &request, &refused), GRAFT_E_DEVICE_LOST);
    ck_assert_ok(graft_engine_run(engine, release, &adapter));
    graft_engine_destroy(&engine);
    graft_test_world_close(&world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rebuild");
    TCase *tests = tcase_create("rebuild");
    graft_test_ids(ids, PROMPT, 3);
    snprintf(link_path, sizeof link_path, "/tmp/graft-rebuild-%d", (int)getpid());
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, a_rebuilt_model_has_the_bits_it_had, 0, 3);
    tcase_add_loop_test(tests, an_adapter_whose_file_changed_is_refused_until_it_is_loaded_anew, 0, 3);
    tcase_add_test(tests, a_device_that_does_not_come_back_may_be_tried_again);
    tcase_add_test(tests, a_device_with_two_models_is_not_taken_from_the_other);
    tcase_add_loop_test(tests, answers_end_those_that_wait_go_on_and_the_third_loss_within_minutes_is_the_last, 0, 2);
    suite_add_tcase(suite, tests);
    int code = graft_test_main(suite);
    unlink(link_path);
    return code;
}
