// SPDX-License-Identifier: Apache-2.0
// Activations rounded to integers in whole models (shaders/lib/dot.glsl): what is chosen, what is refused, adapters, counts per
// token, and what they cost in quality. The kernels: tests/kernels, under GRAFT_TEST_INT16 and GRAFT_TEST_INT8.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/adapter_folder.h"
#include "support/arch_golden.h"
#include "support/model_world.h"
#include "support/peft_golden.h"
#include "support/quality.h"

static const struct graft_vk_options plain = {.select = NULL}, no_texel = {.no_texel = true}, no_dot = {.no_dot8 = true};
static const enum graft_activations integers[] = {GRAFT_ACTIVATIONS_INT16, GRAFT_ACTIVATIONS_INT8};
static const char *const names[] = {"16-bit", "8-bit"};

// What a model that asks for `wanted` computes with; *texel: its device has texel buffers still.
static enum graft_activations used(const struct graft_vk_options *options, enum graft_activations wanted, bool exact,
                                   bool *texel)
{
    char path[GRAFT_TINY_PATH_BYTES];
    struct graft_test_world w;
    struct graft_model_info info = {.activations = wanted};
    struct graft_model_params params = {.size = sizeof params, .n_ctx = 32, .activations = wanted, .exact = exact};
    graft_tiny_model_file(&(struct graft_tiny_model){.type = GRAFT_TYPE_Q4_0}, path);
    if (graft_test_world_open(&w, options, path, &params)) {
        graft_model_describe(w.model, &info);
        *texel = w.device.vk && graft_vk_caps(w.device.vk)->max_texel_elements > 0;
        graft_test_world_close(&w);
    }
    remove(path);
    return info.activations;
}

START_TEST(software_computes_with_f32_unless_asked_and_the_reference_always)
{
    struct graft_test_world w;
    bool texel = false;
    ck_assert_int_eq(used(NULL, GRAFT_ACTIVATIONS_INT8, false, &texel), GRAFT_ACTIVATIONS_F32);
    if (!graft_test_world_device(&w, &plain)) {
        return;
    }
    const struct graft_vk_caps caps = *graft_vk_caps(w.device.vk);
    graft_test_world_close(&w);
    if (caps.kind != GRAFT_VK_SOFTWARE || !caps.dot8) {
        printf("skipped: the device is not software with integer dot products\n");
        return;
    }
    ck_assert_int_eq(used(&plain, GRAFT_ACTIVATIONS_DEFAULT, false, &texel), GRAFT_ACTIVATIONS_F32);
    ck_assert(texel == (caps.max_texel_elements > 0));
    ck_assert_int_eq(used(&plain, GRAFT_ACTIVATIONS_INT8, false, &texel), GRAFT_ACTIVATIONS_INT8);
    ck_assert(!texel); // kernels without texel buffers, all of them
    ck_assert_int_eq(used(&no_texel, GRAFT_ACTIVATIONS_INT16, false, &texel), GRAFT_ACTIVATIONS_INT16);
    ck_assert_int_eq(used(&no_texel, GRAFT_ACTIVATIONS_F32, true, &texel), GRAFT_ACTIVATIONS_F32);
    ck_assert_int_eq(used(&no_dot, GRAFT_ACTIVATIONS_INT8, false, &texel), GRAFT_ACTIVATIONS_F32);
}
END_TEST

// A device that says its integer dot products are fast gets them, and `exact` does without.
START_TEST(fast_ones_are_used_by_default_and_exact_does_without)
{
    char path[GRAFT_TINY_PATH_BYTES];
    struct graft_test_world w;
    graft_tiny_model_file(&(struct graft_tiny_model){.type = GRAFT_TYPE_Q4_0}, path);
    for (int exact = 0; exact < 2; exact++) {
        struct graft_model_params params = {.size = sizeof params, .n_ctx = 32, .exact = exact};
        struct graft_model_info info;
        if (!graft_test_world_device(&w, &no_texel)) {
            break;
        }
        struct graft_vk_caps *caps = (struct graft_vk_caps *)(uintptr_t)graft_vk_caps(w.device.vk);
        caps->dot8_accelerated = caps->dot8; // a claim
        ck_assert_ok(graft_model_open(&w.device, &w.model, path, &params));
        graft_model_describe(w.model, &info);
        ck_assert_int_eq(info.activations, caps->dot8 && !exact ? GRAFT_ACTIVATIONS_INT16 : GRAFT_ACTIVATIONS_F32);
        graft_test_world_close(&w);
    }
    remove(path);
}
END_TEST

START_TEST(what_cannot_be_is_refused_by_name)
{
    char path[GRAFT_TINY_PATH_BYTES];
    struct graft_test_world w;
    struct graft_model *model;
    struct graft_model_params params = {.size = sizeof params, .exact = true, .activations = GRAFT_ACTIVATIONS_INT8};
    graft_tiny_model_file(&(struct graft_tiny_model){.type = GRAFT_TYPE_Q4_0}, path);
    ck_assert(graft_test_world_device(&w, NULL));
    ck_assert_status(graft_model_open(&w.device, &model, path, &params), GRAFT_E_ARGUMENT);
    ck_assert_error_has("activations of 8 bits are not exact");
    params.activations = (enum graft_activations)9;
    ck_assert_status(graft_model_open(&w.device, &model, path, &params), GRAFT_E_ARGUMENT);
    ck_assert_error_has("activations are 9");
    params.activations = GRAFT_ACTIVATIONS_F32;
    params.matrix_cores = true;
    ck_assert_status(graft_model_open(&w.device, &model, path, &params), GRAFT_E_ARGUMENT);
    ck_assert_error_has("cooperative matrices are not exact");
    graft_test_world_close(&w);
    remove(path);
}
END_TEST

// Kernels of the experts that ran last for one token, and how many of them have integer dot products.
static void count_expert_kernels(struct graft_model *model, uint32_t *all, uint32_t *dot)
{
    struct graft_stage stages[64];
    uint32_t n = 64;
    ck_assert_ok(graft_model_stages(model, 1, stages, &n));
    *all = *dot = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool experts = strncmp(stages[i].kernel, "experts_", 8) == 0;
        *all += experts;
        *dot += experts && strstr(stages[i].kernel, ".dot");
    }
}

// Of a dense model, and of a mixture of experts.
START_TEST(a_token_costs_no_dispatch_and_no_barrier_more)
{
    char path[GRAFT_TINY_PATH_BYTES];
    uint64_t dispatches[2], barriers[2];
    if (_i) {
        snprintf(path, sizeof path, "%s/golden/moe/qwen3moe.gguf", GRAFT_TEST_SOURCE_DIR);
    } else {
        graft_tiny_model_file(&(struct graft_tiny_model){.type = GRAFT_TYPE_Q4_0}, path);
    }
    for (int i = 0; i < 2; i++) {
        struct graft_test_world w;
        struct graft_model_params params = {
            .size = sizeof params, .n_ctx = 32, .activations = i ? GRAFT_ACTIVATIONS_INT16 : GRAFT_ACTIVATIONS_F32};
        if (!graft_test_world_open(&w, &no_texel, path, &params)) {
            dispatches[1] = barriers[1] = dispatches[0] = barriers[0] = 0;
            break;
        }
        uint32_t all, dot;
        graft_test_token_cost(&w, &dispatches[i], &barriers[i]);
        count_expert_kernels(w.model, &all, &dot);
        ck_assert_uint_eq(all, _i ? 5 : 0); // of two layers: up, or gate and up of two types, and residual
        ck_assert_uint_eq(dot, w.model->exec->activations == GRAFT_ACTIVATIONS_INT16 ? all : 0);
        graft_test_world_close(&w);
    }
    ck_assert_uint_eq(dispatches[0], dispatches[1]);
    ck_assert_uint_eq(barriers[0], barriers[1]);
    if (!_i) {
        remove(path);
    }
}
END_TEST

// Adapters are added to rounded sums as to others: what PEFT computes is as near as rounding lets it be.
START_TEST(adapters_give_the_logits_of_peft)
{
    static const char *const adapters[] = {"plain", "dora", "bias", "head", "embed-head", "norms", "rank256"};
    static const double most[] = {1e-4, 1e-2};
    static float got[GRAFT_PEFT_TOKENS][GRAFT_PEFT_VOCAB];
    char path[GRAFT_PEFT_PATH_BYTES];
    struct graft_test_world w;
    struct graft_model_params params = {
        .size = sizeof params, .n_ctx = 64, .n_batch = 16, .adapter_pool_bytes = 8 << 20, .activations = integers[_i]};
    graft_peft_path(path, "base.gguf");
    if (!graft_test_world_open(&w, &no_texel, path, &params)) {
        return;
    }
    double largest = 0;
    for (size_t i = 0; i < sizeof adapters / sizeof *adapters; i++) {
        struct graft_adapter *adapter;
        struct graft_seq *seq;
        graft_peft_path(path, adapters[i]);
        ck_assert_ok(graft_adapter_load(w.model, &adapter, path));
        ck_assert_ok(graft_seq_create(w.model, &seq));
        ck_assert_ok(graft_seq_set_adapters(seq, &(struct graft_adapter_use){.adapter = adapter, .weight = 1}, 1));
        for (int single = 0; single < 2; single++) {
            double worst, kl;
            graft_seq_truncate(seq, 0);
            graft_peft_compute(w.model, seq, single, got);
            kl = graft_peft_divergence(adapters[i], got, &worst);
            ck_assert_msg(kl < most[_i], "%s, %s activations: KL %g", adapters[i], names[_i], kl);
            largest = kl > largest ? kl : largest;
        }
        graft_seq_destroy(&seq);
        graft_adapter_release(&adapter);
    }
    printf("adapters with %s activations: largest KL from PEFT %.2e\n", names[_i], largest);
    graft_test_world_close(&w);
}
END_TEST

START_TEST(what_they_cost_on_a_real_model_stays_within_bounds)
{
    static const double most[] = {1e-5, 0.02};
    struct graft_model_params params = {.size = sizeof params, .activations = GRAFT_ACTIVATIONS_F32};
    float *f32 = graft_test_scores(&plain, &params);
    for (size_t i = 0; f32 && i < 2; i++) {
        params.activations = integers[i];
        float *got = graft_test_scores(&no_texel, &params);
        if (!got) {
            break;
        }
        uint32_t same;
        double kl = graft_test_divergence(f32, got, &same);
        printf("%s activations: KL from f32 %.2e, same best token at %u of %d, perplexity %.4f (f32 %.4f)\n", names[i], kl,
               same, GRAFT_TEST_SCORED, graft_test_perplexity(got), graft_test_perplexity(f32));
        free(got);
        ck_assert_double_lt(kl, most[i]);
        ck_assert_uint_ge(same, GRAFT_TEST_SCORED * 95 / 100);
    }
    free(f32);
}
END_TEST

// Weights and inputs rounded to f16, where the device and the build have cooperative matrices.
START_TEST(cooperative_matrices_cost_as_little_as_f16_does)
{
    struct graft_test_world w;
    bool can = false;
    if (graft_test_world_device(&w, &no_texel)) {
        can = graft_matrix_cores(graft_vk_caps(w.device.vk));
        graft_test_world_close(&w);
    }
    if (!can) {
        printf("skipped: there are no cooperative matrices, or the build has no kernels for them\n");
        return;
    }
    struct graft_model_params params = {.size = sizeof params, .activations = GRAFT_ACTIVATIONS_F32};
    float *f32 = graft_test_scores(&plain, &params);
    params.matrix_cores = true;
    float *got = f32 ? graft_test_scores(&no_texel, &params) : NULL;
    if (got) {
        uint32_t same;
        double kl = graft_test_divergence(f32, got, &same);
        printf("cooperative matrices: KL from f32 %.2e, same best token at %u of %d\n", kl, same, GRAFT_TEST_SCORED);
        ck_assert_double_gt(kl, 0); // they were used
        ck_assert_double_lt(kl, 1e-4);
        ck_assert_uint_ge(same, GRAFT_TEST_SCORED * 97 / 100);
    }
    free(got);
    free(f32);
}
END_TEST

// A model with cooperative matrices or, in turn 0, without. False, with a line "skipped: ...", where that cannot be.
static bool open_matrix(struct graft_test_world *w, const char *path, uint32_t n_ctx, uint32_t n_batch, int turn)
{
    struct graft_model_params params = {.size = sizeof params,
                                        .n_ctx = n_ctx,
                                        .n_batch = n_batch,
                                        .n_seq = 3,
                                        .adapter_pool_bytes = 8 << 20,
                                        .activations = GRAFT_ACTIVATIONS_F32,
                                        .matrix_cores = turn};
    if (!graft_test_world_open(w, &no_texel, path, &params)) {
        return false;
    }
    if (turn && !w->model->exec->matrix_cores) {
        printf("skipped: there are no cooperative matrices, or the build has no kernels for them\n");
        graft_test_world_close(w);
        return false;
    }
    return true;
}

// Rows of three sequences, with an adapter, with two, with none, in batches whose tiles mix them: the logits behind each.
static void mixed_logits(struct graft_model *model, const char *const folders[2], float out[3][GRAFT_TINY_VOCAB])
{
    enum { ROWS = 64, BATCHES = 2 };
    static const uint32_t ends[BATCHES][3] = {{20, 41, 64}, {5, 9, 16}}; // rows of each batch, by sequence
    struct graft_adapter *adapters[2];
    struct graft_seq *seqs[3];
    int32_t ids[ROWS];
    graft_test_ids(ids, ROWS, 7);
    for (int i = 0; i < 2; i++) {
        ck_assert_ok(graft_adapter_load(model, &adapters[i], folders[i]));
    }
    const struct graft_adapter_use uses[2] = {{.adapter = adapters[0], .weight = 1}, {.adapter = adapters[1], .weight = -0.5f}};
    for (uint32_t s = 0; s < 3; s++) {
        ck_assert_ok(graft_seq_create(model, &seqs[s]));
        ck_assert_ok(graft_seq_set_adapters(seqs[s], uses, s == 2 ? 0 : s + 1));
    }
    for (int b = 0; b < BATCHES; b++) {
        struct graft_row rows[ROWS];
        uint32_t n = 0;
        for (uint32_t s = 0; s < 3; s++) {
            for (; n < ends[b][s]; n++) {
                rows[n] = (struct graft_row){.seq = seqs[s], .token = ids[n], .want = n + 1 == ends[b][s]};
            }
        }
        ck_assert_ok(graft_decode(model, rows, n, GRAFT_WANT_LOGITS));
        for (uint32_t s = 0; s < 3 && b + 1 == BATCHES; s++) {
            const float *row;
            ck_assert_ok(graft_model_logits(model, ends[b][s] - 1, &row));
            memcpy(out[s], row, sizeof out[s]);
        }
    }
    for (uint32_t s = 0; s < 3; s++) {
        graft_seq_destroy(&seqs[s]);
    }
    for (int i = 0; i < 2; i++) {
        graft_adapter_release(&adapters[i]);
    }
}

START_TEST(adapters_are_added_to_cooperative_matrices_as_to_others)
{
    static float got[2][3][GRAFT_TINY_VOCAB];
    char path[GRAFT_TINY_PATH_BYTES], folders[2][64];
    struct graft_test_adapter a = {
        .n_layer = 2, .n_embd = 256, .n_ff = 320, .q_rows = 256, .kv_rows = 128, .rank = 12, .layers = true};
    graft_tiny_model_file(
        &(struct graft_tiny_model){.type = GRAFT_TYPE_Q4_0, .n_embd = 256, .n_ff = 320, .head_dim = 64, .untied = true}, path);
    for (int i = 0; i < 2; i++) {
        graft_test_folder(folders[i]);
        a.seed = 1 + (uint64_t)i;
        a.embed = a.head = i; // the second one needs what only LORA_EXTRAS has
        a.n_vocab = GRAFT_TINY_VOCAB;
        graft_test_adapter_folder(&a, folders[i]);
    }
    bool both = true;
    for (int matrix = 0; matrix < 2 && both; matrix++) {
        struct graft_test_world w;
        both = open_matrix(&w, path, 256, 64, matrix);
        if (both) {
            mixed_logits(w.model, (const char *const[]){folders[0], folders[1]}, got[matrix]);
            graft_test_world_close(&w);
        }
    }
    for (int s = 0; s < 3 && both; s++) {
        double largest = 0, error = 0, others = 0;
        for (int i = 0; i < GRAFT_TINY_VOCAB; i++) {
            largest = fmax(largest, fabs((double)got[0][s][i]));
            error = fmax(error, fabs((double)got[1][s][i] - (double)got[0][s][i]));
            others = fmax(others, fabs((double)got[0][(s + 1) % 3][i] - (double)got[0][s][i]));
        }
        printf("sequence %d: error %.2e of the largest logit, the next sequence is %.2e away\n", s, error / largest,
               others / largest);
        ck_assert_double_lt(error, 0.005 * largest);
        ck_assert_double_gt(error, 0);
        ck_assert_double_gt(others, 0.1 * largest);
    }
    for (int i = 0; i < 2; i++) {
        graft_test_folder_remove(folders[i]);
    }
    remove(path);
}
END_TEST

// Norms of heads and behind blocks, biases, fused projections, windows: what the workgroup that finishes last does.
START_TEST(every_architecture_has_cooperative_matrices)
{
    static const char *const architectures[] = {"qwen2", "qwen3", "phi3", "gemma2", "gemma3"};
    static float got[2][GRAFT_ARCH_TOKENS][GRAFT_ARCH_VOCAB];
    double largest = 0;
    for (size_t i = 0; i < 2 * sizeof architectures / sizeof *architectures; i++) {
        const char *name = architectures[i / 2];
        char path[512], file[32];
        bool adapted = i % 2;
        graft_arch_path(path, name);
        strcat(path, ".gguf");
        for (int matrix = 0; matrix < 2; matrix++) {
            struct graft_test_world w;
            struct graft_seq *seq;
            struct graft_adapter *adapter = NULL;
            if (!open_matrix(&w, path, 64, 32, matrix)) {
                return;
            }
            ck_assert_ok(graft_seq_create(w.model, &seq));
            if (adapted) {
                char folder[512];
                snprintf(file, sizeof file, "%s.dora", name);
                graft_arch_path(folder, file);
                ck_assert_ok(graft_adapter_load(w.model, &adapter, folder));
                ck_assert_ok(graft_seq_set_adapters(seq, &(struct graft_adapter_use){.adapter = adapter, .weight = 1}, 1));
            }
            graft_arch_compute(w.model, seq, NULL, GRAFT_ARCH_TOKENS, got[matrix]);
            graft_seq_destroy(&seq);
            graft_adapter_release(&adapter);
            graft_test_world_close(&w);
        }
        double worst, kl = graft_arch_compare(got[0][0], got[1], GRAFT_ARCH_TOKENS, &worst);
        ck_assert_msg(kl < 1e-4 && worst < 0.02 && worst > 0, "%s%s: KL %g, log-probabilities are off by %g", name,
                      adapted ? " with an adapter" : "", kl, worst);
        largest = kl > largest ? kl : largest;
    }
    printf("architectures with cooperative matrices: largest KL %.2e\n", largest);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("activations");
    TCase *tc = tcase_create("activations");
    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, software_computes_with_f32_unless_asked_and_the_reference_always);
    tcase_add_test(tc, fast_ones_are_used_by_default_and_exact_does_without);
    tcase_add_test(tc, what_cannot_be_is_refused_by_name);
    tcase_add_loop_test(tc, a_token_costs_no_dispatch_and_no_barrier_more, 0, 2);
    tcase_add_loop_test(tc, adapters_give_the_logits_of_peft, 0, 2);
    tcase_add_test(tc, what_they_cost_on_a_real_model_stays_within_bounds);
    suite_add_tcase(suite, tc);
    TCase *matrices = tcase_create("matrices"); // CK_RUN_CASE=matrices
    tcase_set_timeout(matrices, 600);
    tcase_add_test(matrices, adapters_are_added_to_cooperative_matrices_as_to_others);
    tcase_add_test(matrices, every_architecture_has_cooperative_matrices);
    tcase_add_test(matrices, cooperative_matrices_cost_as_little_as_f16_does);
    suite_add_tcase(suite, matrices);
    return graft_test_main(suite);
}
