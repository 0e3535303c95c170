// SPDX-License-Identifier: Apache-2.0
// Quantized keys and values in whole models: device against reference, the same bits however a prompt is cut, memory as
// estimated, no step more, what cannot be is refused, and what the formats cost in quality.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graft/graft.h"
#include "support/model_world.h"
#include "support/quality.h"

enum { PROMPT = 70 };

static const struct {
    enum graft_kv_type keys, values;
    double tolerance; // of logits between device and reference: a value between two codes may get either
} types[] = {{GRAFT_KV_Q8_0, GRAFT_KV_Q8_0, 0.02},
             {GRAFT_KV_Q4_0, GRAFT_KV_Q4_0, 0.2},
             {GRAFT_KV_Q8_0, GRAFT_KV_Q4_0, 0.2},
             {GRAFT_KV_F16, GRAFT_KV_Q8_0, 0.02}};
enum { TYPES = sizeof types / sizeof *types };

// lane, subgroup, team; NULL options: the reference.
static const struct graft_vk_options devices[] = {{0}, {.no_texel = true}, {.no_texel = true, .no_subgroups = true}};

static bool open_world(struct graft_test_world *world, int device, const char *path, enum graft_kv_type keys,
                       enum graft_kv_type values)
{
    struct graft_model_params params = {
        .size = sizeof params, .n_ctx = 128, .n_batch = 32, .n_seq = 2, .kv_keys = keys, .kv_values = values};
    return graft_test_world_open(world, device < 3 ? &devices[device] : NULL, path, &params);
}

START_TEST(devices_follow_the_reference_and_cut_prompts_have_the_same_bits)
{
    static float got[GRAFT_TINY_VOCAB], again[GRAFT_TINY_VOCAB], want[GRAFT_TINY_VOCAB], plain[GRAFT_TINY_VOCAB];
    char path[GRAFT_TINY_PATH_BYTES];
    // heads of 32, and of 96: an odd number of blocks
    graft_tiny_model_file(&(struct graft_tiny_model){.head_dim = _i % 2 ? 96 : 32, .n_layer = 3}, path);
    struct graft_test_world vk, ref, f16;
    ck_assert(open_world(&ref, 3, path, types[_i].keys, types[_i].values));
    ck_assert(open_world(&f16, 3, path, GRAFT_KV_DEFAULT, GRAFT_KV_DEFAULT));
    graft_test_feed_prompt(&ref, PROMPT, 32, want);
    graft_test_feed_prompt(&f16, PROMPT, 32, plain);
    ck_assert_int_ne(memcmp(want, plain, sizeof want), 0);
    graft_test_feed_prompt(&ref, PROMPT, 3, again);
    ck_assert_mem_eq(want, again, sizeof want);
    double most = 0, off = 0;
    for (uint32_t i = 0; i < GRAFT_TINY_VOCAB; i++) {
        most = fmax(most, fabs((double)plain[i]));
        off = fmax(off, fabs((double)plain[i] - (double)want[i]));
    }
    ck_assert_msg(off < 5 * types[_i].tolerance * most, "%g of %g", off, most);
    for (int device = 0; device < 3; device++) {
        if (device && device != 1 + _i % 2) {
            continue; // the kernels' own tests have all combinations
        }
        if (!open_world(&vk, device, path, types[_i].keys, types[_i].values)) {
            continue;
        }
        graft_test_feed_prompt(&vk, PROMPT, 32, got);
        for (uint32_t i = 0; i < GRAFT_TINY_VOCAB; i++) {
            ck_assert_msg(fabs((double)got[i] - (double)want[i]) <= types[_i].tolerance * most, "device %d, logit %u: %g, %g",
                          device, i, (double)got[i], (double)want[i]);
        }
        for (uint32_t batch = 1; batch < 32; batch = batch * 3 + 1) {
            graft_test_feed_prompt(&vk, PROMPT, batch, again);
            ck_assert_msg(memcmp(got, again, sizeof got) == 0, "device %d, %u rows at a time", device, batch);
        }
        graft_test_world_close(&vk);
    }
    graft_test_world_close(&ref);
    graft_test_world_close(&f16);
    remove(path);
}
END_TEST

START_TEST(memory_is_as_estimated_and_a_token_costs_no_dispatch_more)
{
    char path[GRAFT_TINY_PATH_BYTES];
    graft_tiny_model_file(&(struct graft_tiny_model){.head_dim = 64}, path);
    uint64_t kv[2], dispatches[2], barriers[2];
    for (int quantized = 0; quantized < 2; quantized++) {
        struct graft_test_world world;
        struct graft_estimate estimate;
        struct graft_memory_use use;
        enum graft_kv_type type = quantized ? GRAFT_KV_Q8_0 : GRAFT_KV_DEFAULT;
        struct graft_model_params params = {
            .size = sizeof params, .n_ctx = 128, .n_batch = 32, .n_seq = 2, .kv_keys = type, .kv_values = type};
        if (!open_world(&world, 0, path, type, type)) {
            remove(path);
            return;
        }
        graft_ctx_memory(world.ctx, &use);
        ck_assert_ok(graft_model_estimate(world.ctx, &world.device, path, &params, &estimate));
        ck_assert_uint_eq(use.class_bytes[GRAFT_MEM_KV], estimate.class_bytes[GRAFT_MEM_KV]);
        ck_assert_uint_le(use.class_bytes[GRAFT_MEM_SCRATCH] - estimate.class_bytes[GRAFT_MEM_SCRATCH], 4096);
        kv[quantized] = use.class_bytes[GRAFT_MEM_KV];
        graft_test_token_cost(&world, &dispatches[quantized], &barriers[quantized]);
        graft_test_world_close(&world);
    }
    ck_assert_uint_eq(kv[1] * 128, kv[0] * 68); // a head of 64: 64 codes and 2 scales for 64 halves
    ck_assert_uint_eq(dispatches[0], dispatches[1]);
    ck_assert_uint_eq(barriers[0], barriers[1]);
    remove(path);
}
END_TEST

START_TEST(what_cannot_be_is_refused_by_name)
{
    char path[GRAFT_TINY_PATH_BYTES];
    struct graft_test_world world;
    struct graft_model *model;
    graft_tiny_model_file(&(struct graft_tiny_model){.head_dim = 16}, path);
    ck_assert(graft_test_world_device(&world, NULL));
    struct graft_model_params params = {.size = sizeof params, .kv_values = GRAFT_KV_Q4_0};
    ck_assert_status(graft_model_open(&world.device, &model, path, &params), GRAFT_E_UNSUPPORTED);
    ck_assert_error_has("heads of 16 values cannot have values of type q4_0");
    params.kv_values = GRAFT_KV_F16;
    params.exact = true;
    ck_assert_status(graft_model_open(&world.device, &model, path, &params), GRAFT_E_ARGUMENT);
    ck_assert_error_has("values of type f16 are not exact");
    params.exact = false;
    params.kv_keys = (enum graft_kv_type)9;
    ck_assert_status(graft_model_open(&world.device, &model, path, &params), GRAFT_E_ARGUMENT);
    ck_assert_error_has("the type of keys is 9");
    graft_test_world_close(&world);
    remove(path);
}
END_TEST

START_TEST(what_the_formats_cost_on_a_real_model_stays_within_bounds)
{
    static const struct {
        enum graft_kv_type keys, values;
        const char *name;
        double most;
    } cases[] = {{GRAFT_KV_Q8_0, GRAFT_KV_Q8_0, "q8_0", 0.003},
                 {GRAFT_KV_Q8_0, GRAFT_KV_Q4_0, "keys q8_0, values q4_0", 0.1},
                 {GRAFT_KV_Q4_0, GRAFT_KV_Q4_0, "q4_0", 1}};
    struct graft_model_params params = {.size = sizeof params, .kv_keys = GRAFT_KV_F16, .kv_values = GRAFT_KV_F16};
    float *plain = graft_test_scores(&devices[0], &params);
    for (size_t i = 0; plain && i < sizeof cases / sizeof *cases; i++) {
        params.kv_keys = cases[i].keys;
        params.kv_values = cases[i].values;
        float *got = graft_test_scores(&devices[0], &params);
        double kl = graft_test_divergence(plain, got, NULL);
        free(got);
        printf("KV %s: KL from f16 %.5f over %d tokens\n", cases[i].name, kl, GRAFT_TEST_SCORED);
        ck_assert_double_ge(kl, 0);
        ck_assert_double_lt(kl, cases[i].most);
    }
    free(plain);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kv types");
    TCase *tc = tcase_create("kv types");
    tcase_set_timeout(tc, 600);
    tcase_add_loop_test(tc, devices_follow_the_reference_and_cut_prompts_have_the_same_bits, 0, TYPES);
    tcase_add_test(tc, memory_is_as_estimated_and_a_token_costs_no_dispatch_more);
    tcase_add_test(tc, what_cannot_be_is_refused_by_name);
    tcase_add_test(tc, what_the_formats_cost_on_a_real_model_stays_within_bounds);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
