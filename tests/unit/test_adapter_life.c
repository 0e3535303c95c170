// SPDX-License-Identifier: Apache-2.0
// Adapters coming and going while sequences run: swaps, compaction of the pool, what a sequence keeps.
#include <stdio.h>
#include <string.h>

#include "support/model_world.h"

enum { VOCAB = 288, ADAPTERS = 8, SLOTS = 3, POOL = 112 << 10, SWAPS = 1000, LONG = 32 };

static const char *const names[ADAPTERS] = {"plain", "rslora", "rank1", "rank256", "regex", "f16", "bf16", "alora"};
static const int32_t ids[3] = {5, 130, 77};

static void golden_path(char path[512], const char *name)
{
    snprintf(path, 512, "%s/golden/peft/%s", GRAFT_TEST_SOURCE_DIR, name);
}

static struct graft_adapter *load(struct graft_model *model, const char *name)
{
    char path[512];
    struct graft_adapter *adapter;
    golden_path(path, name);
    ck_assert_ok(graft_adapter_load(model, &adapter, path));
    return adapter;
}

static void choose(struct graft_seq *seq, struct graft_adapter *adapter)
{
    graft_seq_truncate(seq, 0);
    ck_assert_ok(graft_seq_set_adapters(seq, &(struct graft_adapter_use){.adapter = adapter, .weight = 1}, adapter != NULL));
}

static int32_t long_id(uint32_t i)
{
    return (int32_t)(i * 37 % VOCAB);
}

static const struct graft_model_params PARAMS = {.size = sizeof PARAMS,
                                                 .n_ctx = 64,
                                                 .n_batch = 8,
                                                 .n_seq = 2,
                                                 .adapter_pool_bytes = POOL,
                                                 .adapter_slots = SLOTS};

START_TEST(a_thousand_swaps_under_generation_change_no_answer_and_leak_nothing)
{
    static float alone[ADAPTERS][VOCAB], stream[LONG][VOCAB];
    struct graft_test_world world;
    struct graft_test_random random = {.state = 11};
    struct graft_seq *busy, *seq;
    const float *logits;
    char path[512];
    golden_path(path, "base.gguf");
    if (!graft_test_world_open(&world, _i ? NULL : &(struct graft_vk_options){0}, path, &PARAMS)) {
        return;
    }
    struct graft_model *model = world.model;
    ck_assert_ok(graft_seq_create(model, &busy));
    ck_assert_ok(graft_seq_create(model, &seq));
    for (uint32_t a = 0; a < ADAPTERS; a++) { // what each says alone
        struct graft_adapter *adapter = load(model, names[a]);
        choose(seq, adapter);
        graft_test_feed(model, seq, ids, 3, 3, alone[a]);
        choose(seq, NULL);
        graft_adapter_release(&adapter);
    }
    struct graft_adapter *own = load(model, "rslora");
    choose(busy, own);
    graft_adapter_release(&own); // the sequence holds it
    for (uint32_t i = 0; i < LONG; i++) {
        int32_t id = long_id(i);
        graft_test_feed(model, busy, &id, 1, 1, stream[i]);
    }
    struct graft_memory_use before, after;
    struct graft_device_counters counted, later;
    graft_ctx_memory(world.ctx, &before);
    graft_device_count(&world.device, &counted);
    for (uint32_t swap = 0; swap < SWAPS; swap++) {
        uint32_t a = (uint32_t)(graft_test_random_u64(&random) >> 20) % ADAPTERS, at = swap % LONG;
        struct graft_adapter *adapter = load(model, names[a]);
        choose(seq, adapter);
        graft_adapter_release(&adapter);
        if (at == 0) {
            graft_seq_truncate(busy, 0);
        }
        struct graft_row rows[4] = {{seq, ids[0], false}, {busy, long_id(at), true}, {seq, ids[1], false}, {seq, ids[2], true}};
        ck_assert_ok(graft_decode(model, rows, 4, GRAFT_WANT_LOGITS));
        ck_assert_ok(graft_model_logits(model, 3, &logits));
        ck_assert_msg(memcmp(logits, alone[a], sizeof alone[a]) == 0, "swap %u: %s", swap, names[a]);
        ck_assert_ok(graft_model_logits(model, 1, &logits));
        ck_assert_msg(memcmp(logits, stream[at], sizeof stream[at]) == 0, "swap %u: the stream beside it", swap);
    }
    choose(seq, NULL);
    graft_ctx_memory(world.ctx, &after);
    graft_device_count(&world.device, &later);
    ck_assert_uint_eq(after.used_bytes, before.used_bytes);
    ck_assert_uint_eq(later.device_allocations, counted.device_allocations);
    ck_assert_uint_eq(later.recordings, counted.recordings);
    ck_assert_uint_eq(later.descriptor_updates, counted.descriptor_updates);
    ck_assert_uint_gt(model->pool->n_compactions, 20);
    graft_seq_destroy(&seq);
    graft_seq_destroy(&busy);
    graft_test_world_close(&world);
}
END_TEST

START_TEST(a_sequence_keeps_what_a_choice_does_not_change)
{
    static const int32_t prompt[8] = {3, 7, 9, 20, 7, 9, 31, 32};
    struct graft_test_world world;
    struct graft_seq *seq;
    char path[512];
    golden_path(path, "base.gguf");
    ck_assert(graft_test_world_open(&world, NULL, path, &PARAMS));
    ck_assert_ok(graft_seq_create(world.model, &seq));
    struct graft_adapter *plain = load(world.model, "plain"), *alora = load(world.model, "alora");
    struct graft_adapter_use one = {.adapter = plain, .weight = 1}, half = {.adapter = plain, .weight = 0.5f},
                             late = {.adapter = alora, .weight = 1};
    late.from = graft_adapter_invoked(alora, prompt, 8);
    ck_assert_uint_eq(late.from, 4); // the last of the two
    ck_assert_uint_eq(graft_adapter_invoked(alora, prompt, 2), 2);
    ck_assert_uint_eq(graft_adapter_invoked(plain, prompt, 8), 0);
    ck_assert_ok(graft_seq_set_adapters(seq, &one, 1));
    graft_test_feed(world.model, seq, prompt, 4, 4, NULL);
    ck_assert_ok(graft_seq_set_adapters(seq, &one, 1)); // the same choice
    ck_assert_uint_eq(graft_seq_length(seq), 4);
    ck_assert_status(graft_seq_set_adapters(seq, &half, 1), GRAFT_E_ARGUMENT); // another weight
    ck_assert_error_has("truncate it to 0 first");
    ck_assert_status(graft_seq_set_adapters(seq, NULL, 0), GRAFT_E_ARGUMENT);
    graft_seq_truncate(seq, 0);
    ck_assert_ok(graft_seq_set_adapters(seq, NULL, 0));
    graft_test_feed(world.model, seq, prompt, 4, 4, NULL);
    ck_assert_ok(graft_seq_set_adapters(seq, &late, 1)); // begins behind what is computed
    graft_test_feed(world.model, seq, prompt + 4, 4, 4, NULL);
    ck_assert_status(graft_seq_set_adapters(seq, NULL, 0), GRAFT_E_ARGUMENT);
    ck_assert_error_has("of which 4 were computed with other adapters: truncate it to 4 first");
    struct graft_adapter_use both[2] = {late, late};
    ck_assert_status(graft_seq_set_adapters(seq, both, 2), GRAFT_E_ARGUMENT);
    ck_assert_error_has("are aLoRA");
    struct graft_adapter_info info, infos[SLOTS];
    uint32_t count;
    graft_adapter_list(world.model, infos, SLOTS, &count);
    ck_assert_uint_eq(count, 2);
    graft_adapter_describe(alora, &info);
    ck_assert(info.references == 2 && info.hits == 1 && info.n_invocation == 2 && info.invocation[1] == 9);
    graft_adapter_release(&plain);
    graft_adapter_release(&alora);
    ck_assert_uint_eq(graft_adapter_expire(world.model, 0), 1); // the other one is held by the sequence
    graft_seq_destroy(&seq);
    ck_assert_uint_eq(graft_adapter_expire(world.model, 0), 1);
    graft_test_world_close(&world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("adapter_life");
    TCase *tests = tcase_create("adapter_life");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, a_thousand_swaps_under_generation_change_no_answer_and_leak_nothing, 0, 2);
    tcase_add_test(tests, a_sequence_keeps_what_a_choice_does_not_change);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
