// SPDX-License-Identifier: Apache-2.0
// Fault F14: a device that computes wrong results. The self-test passes on sound devices with every variant and format, finds a
// kernel that computes nothing, falls back to simpler ones, names the kernel when none is right, and is done once.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/model/cut.h"
#include "runtime/vk/vk_internal.h"
#include "support/model_world.h"

static const float BOUND = 0.05f, BOUND_COARSE = 0.12f; // as in selftest.c

static const struct graft_model_params params = {.size = sizeof params, .n_ctx = 64, .n_batch = 8, .n_seq = 1};

static bool open_device(struct graft_test_world *w, const struct graft_vk_options *options, const char *cache)
{
    memset(w, 0, sizeof *w);
    w->ctx = graft_test_vk_ctx(&w->alloc, 0, cache, &w->log);
    w->device = (struct graft_device){.ctx = w->ctx, .self_test = true, .options = *options};
    enum graft_status status = graft_vk_open(w->ctx, &w->device.vk, options);
    if (status == GRAFT_E_DEVICE) {
        printf("skipped: %s\n", graft_last_error());
        graft_ctx_destroy(&w->ctx);
        return false;
    }
    ck_assert_ok(status);
    return true;
}

START_TEST(sound_devices_pass_with_every_variant_and_format)
{
    static const enum graft_test_mask masks[] = {GRAFT_TEST_PLAIN, GRAFT_TEST_NO_TEXEL, GRAFT_TEST_NO_SUBGROUPS};
    static const uint32_t types[] = {GRAFT_TYPE_Q4_0, GRAFT_TYPE_Q4_K, GRAFT_TYPE_F16, GRAFT_TYPE_Q6_K};
    struct graft_vk_options options = graft_test_mask_options(masks[_i]);
    for (size_t t = 0; t < (_i ? 2 : sizeof types / sizeof *types); t++) {
        struct graft_test_world w;
        char path[GRAFT_TINY_PATH_BYTES];
        if (!open_device(&w, &options, NULL)) {
            return;
        }
        graft_tiny_model_file(&(struct graft_tiny_model){.type = types[t], .untied = t % 2}, path);
        ck_assert_ok(graft_model_open(&w.device, &w.model, path, &params));
        ck_assert_msg(!strstr(w.log.text, "self-test"), "%s", w.log.text); // only wrong results warn
        ck_assert(w.device.options.no_texel == options.no_texel && w.device.options.no_subgroups == options.no_subgroups);
        remove(path);
        graft_test_world_close(&w);
    }
}
END_TEST

// The lane variant alone is wrong: the subgroup variant takes its place.
START_TEST(a_variant_that_computes_nothing_is_replaced_by_a_simpler_one)
{
    struct graft_vk_options options = graft_test_mask_options(GRAFT_TEST_PLAIN);
    struct graft_test_world w;
    char path[GRAFT_TINY_PATH_BYTES], folder[64];
    graft_test_folder(folder);
    graft_tiny_model_file(&(struct graft_tiny_model){.type = GRAFT_TYPE_Q4_0}, path);
    for (int again = 0; again < 2 && open_device(&w, &options, folder); again++) {
        if (graft_variant_choose(graft_vk_caps(w.device.vk), 1).kind != GRAFT_VARIANT_LANE) {
            graft_test_world_close(&w);
            break;
        }
        graft_vk_spoil(w.device.vk, "gate_up.q4_0.lane");
        ck_assert_ok(graft_model_open(&w.device, &w.model, path, &params));
        ck_assert(w.device.options.no_texel && !w.device.options.no_subgroups);
        ck_assert_int_eq(graft_variant_choose(graft_vk_caps(w.device.vk), 1).kind, GRAFT_VARIANT_SUBGROUP);
        if (again == 0) {
            ck_assert_msg(strstr(w.log.text, "self-test, kernels as chosen: ") && strstr(w.log.text, "gate_up.q4_0.lane") &&
                              strstr(w.log.text, "self-test: passed with kernels without texel buffers"),
                          "%s", w.log.text);
        } else {
            ck_assert_msg(!strstr(w.log.text, "self-test"), "%s", w.log.text); // remembered, with what it found
        }
        struct graft_seq *seq;
        float logits[GRAFT_TINY_VOCAB];
        int32_t ids[5];
        graft_test_ids(ids, 5, 3);
        ck_assert_ok(graft_seq_create(w.model, &seq));
        graft_test_feed(w.model, seq, ids, 5, 5, logits);
        graft_seq_destroy(&seq);
        graft_test_world_close(&w);
    }
    remove(path);
    graft_test_folder_remove(folder);
}
END_TEST

// Kernels with integer dot products are wrong: those without take their place.
START_TEST(wrong_integer_dot_products_are_replaced_by_f32)
{
    struct graft_vk_options options = graft_test_mask_options(GRAFT_TEST_NO_TEXEL);
    struct graft_model_params integers = params;
    struct graft_model_info info;
    struct graft_test_world w;
    char path[GRAFT_TINY_PATH_BYTES];
    integers.activations = _i ? GRAFT_ACTIVATIONS_INT8 : GRAFT_ACTIVATIONS_INT16;
    graft_tiny_model_file(&(struct graft_tiny_model){.type = GRAFT_TYPE_Q4_0}, path);
    for (int spoil = 0; spoil < 2 && open_device(&w, &options, NULL); spoil++) {
        bool can = graft_vk_caps(w.device.vk)->dot8;
        graft_vk_spoil(w.device.vk, spoil ? "gate_up.q4_0.dot" : "nothing");
        ck_assert_ok(graft_model_open(&w.device, &w.model, path, &integers));
        graft_model_describe(w.model, &info);
        ck_assert_int_eq(info.activations, can && !spoil ? integers.activations : GRAFT_ACTIVATIONS_F32);
        ck_assert(w.device.options.no_dot8 == (can && spoil) && !w.device.options.no_subgroups);
        bool told = strstr(w.log.text, "passed with kernels without integer dot products");
        ck_assert_msg(told == (can && spoil), "%s", w.log.text);
        graft_test_world_close(&w);
    }
    remove(path);
}
END_TEST

// Kernels with cooperative matrices are wrong: those without take their place.
START_TEST(wrong_cooperative_matrices_are_replaced)
{
    struct graft_vk_options options = graft_test_mask_options(GRAFT_TEST_NO_TEXEL);
    struct graft_model_params matrices = {
        .size = sizeof matrices, .n_ctx = 64, .n_batch = _i ? 24 : 64, .n_seq = 1, .matrix_cores = true};
    struct graft_model_info info;
    struct graft_test_world w;
    char path[GRAFT_TINY_PATH_BYTES];
    graft_tiny_model_file(&(struct graft_tiny_model){.type = GRAFT_TYPE_Q4_0, .n_embd = 256}, path);
    for (int spoil = 0; spoil < 2 && open_device(&w, &options, NULL); spoil++) {
        bool can = graft_matrix_cores(graft_vk_caps(w.device.vk));
        graft_vk_spoil(w.device.vk, spoil ? "gate_up.q4_0.matrix" : "nothing");
        ck_assert_ok(graft_model_open(&w.device, &w.model, path, &matrices));
        graft_model_describe(w.model, &info);
        ck_assert_msg(info.matrix_cores == (can && !spoil), "%s", w.log.text);
        bool told = strstr(w.log.text, "passed with kernels without cooperative matrices");
        ck_assert_msg(told == (can && spoil), "%s", w.log.text);
        if (can) {
            printf("cooperative matrices, %u rows: %s, error %.3g\n", matrices.n_batch, spoil ? "spoilt" : "sound",
                   (double)(spoil ? w.device.self_test_fault : w.device.self_test_error));
        } else {
            printf("skipped: this device has no cooperative matrices\n");
        }
        graft_test_world_close(&w);
    }
    remove(path);
}
END_TEST

START_TEST(a_kernel_that_is_wrong_in_every_variant_is_named)
{
    static const char *const kernels[] = {"qkv.", "attention", "head."};
    struct graft_vk_options options = graft_test_mask_options(GRAFT_TEST_PLAIN);
    char path[GRAFT_TINY_PATH_BYTES], folder[64], file[512];
    graft_test_folder(folder);
    graft_tiny_model_file(&(struct graft_tiny_model){.type = GRAFT_TYPE_Q4_0, .untied = true}, path);
    for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++) {
        struct graft_test_world w;
        if (!open_device(&w, &options, NULL)) {
            break;
        }
        graft_vk_spoil(w.device.vk, kernels[k]);
        ck_assert_status(graft_model_open(&w.device, &w.model, path, &params), GRAFT_E_DEVICE);
        char text[64];
        snprintf(text, sizeof text, "kernel %s", kernels[k]);
        ck_assert_error_has(text);
        ck_assert_error_has("computes wrong results");
        ck_assert_error_has("simpler kernels are wrong, too");
        ck_assert_ptr_null(w.model);
        graft_test_world_close(&w);
    }
    graft_test_folder_file(folder, file);
    ck_assert_str_eq(file, ""); // nothing is remembered of that
    remove(path);
    graft_test_folder_remove(folder);
}
END_TEST

static uint32_t count_files(const char *folder)
{
    uint32_t n = 0;
    DIR *dir = opendir(folder);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        n += strncmp(entry->d_name, "selftest-", 9) == 0;
    }
    closedir(dir);
    return n;
}

// A model that differs in what its kernels are made from is tested anew; the same one is not.
START_TEST(what_kernels_are_made_from_belongs_to_what_is_remembered)
{
    static const struct {
        uint32_t window, n_ctx, files;
    } cases[] = {{0, 64, 1}, {0, 64, 1}, {40, 64, 2}, {40, 512, 3}, {40, 512, 3}, {48, 512, 4}};
    struct graft_vk_options options = graft_test_mask_options(GRAFT_TEST_PLAIN);
    char path[GRAFT_TINY_PATH_BYTES], folder[64];
    graft_test_folder(folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct graft_test_world w;
        struct graft_model_params p = params;
        struct graft_test_gguf b = {0};
        p.n_ctx = cases[i].n_ctx;
        if (!open_device(&w, &options, folder)) {
            break;
        }
        graft_tiny_model_build(&b, &(struct graft_tiny_model){.head_dim = 32});
        if (cases[i].window) {
            graft_test_gguf_u32(&b, "llama.attention.sliding_window", cases[i].window);
        }
        graft_tiny_save(&b, path);
        graft_test_gguf_free(&b);
        ck_assert_ok(graft_model_open(&w.device, &w.model, path, &p));
        ck_assert_uint_eq(w.model->limits.ring_pages > 0, cases[i].n_ctx > 64);
        ck_assert_msg(w.device.self_test_error < BOUND / 2 && w.device.self_test_fault == 0, "%s", w.log.text);
        ck_assert_uint_eq(count_files(folder), cases[i].files);
        graft_test_world_close(&w);
        remove(path);
    }
    graft_test_folder_remove(folder);
}
END_TEST

// The bound lies between what sound kernels differ by and what wrong ones do, with room on both sides. All formats, variants
// and kinds of keys and values take minutes of compiling on software Vulkan: GRAFT_TEST_ALL_FORMATS asks for them.
START_TEST(sound_and_wrong_kernels_lie_far_on_either_side_of_the_bound)
{
    static const enum graft_test_mask masks[] = {GRAFT_TEST_PLAIN, GRAFT_TEST_INT16, GRAFT_TEST_NO_TEXEL,
                                                 GRAFT_TEST_NO_SUBGROUPS};
    static const uint32_t types[] = {GRAFT_TYPE_Q8_0, GRAFT_TYPE_Q4_K,   GRAFT_TYPE_F16,    GRAFT_TYPE_F32,
                                     GRAFT_TYPE_BF16, GRAFT_TYPE_Q4_0,   GRAFT_TYPE_Q4_1,   GRAFT_TYPE_Q5_0,
                                     GRAFT_TYPE_Q5_1, GRAFT_TYPE_Q2_K,   GRAFT_TYPE_Q3_K,   GRAFT_TYPE_Q5_K,
                                     GRAFT_TYPE_Q6_K, GRAFT_TYPE_IQ4_NL, GRAFT_TYPE_IQ4_XS, GRAFT_TYPE_MXFP4};
    static const enum graft_kv_type kvs[] = {GRAFT_KV_F16, GRAFT_KV_Q8_0, GRAFT_KV_Q4_0};
    bool all = getenv("GRAFT_TEST_ALL_FORMATS");
    float most = 0;
    for (size_t m = 0; m < (all ? sizeof masks / sizeof *masks : 2); m++) {
        for (size_t t = 0; t < (all ? sizeof types / sizeof *types : 1); t++) {
            for (size_t k = 0; k < 3; k++) {
                struct graft_vk_options options = graft_test_mask_options(masks[m]);
                struct graft_model_params p = params;
                struct graft_test_world w;
                char path[GRAFT_TINY_PATH_BYTES];
                p.n_batch = all && m ? 1 : 8;
                p.kv_keys = p.kv_values = kvs[k];
                p.activations = masks[m] == GRAFT_TEST_INT16 ? GRAFT_ACTIVATIONS_INT16 : GRAFT_ACTIVATIONS_DEFAULT;
                if (!open_device(&w, &options, NULL)) {
                    return;
                }
                graft_tiny_model_file(&(struct graft_tiny_model){.type = types[t], .n_embd = 256, .n_ff = 512, .head_dim = 64},
                                      path);
                ck_assert_ok(graft_model_open(&w.device, &w.model, path, &p));
                printf("sound: %s, type %" PRIu32 ", kv %zu: %.2g\n", graft_test_mask_name(masks[m]), types[t], k,
                       (double)w.device.self_test_error);
                fflush(stdout);
                bool coarse = kvs[k] == GRAFT_KV_Q4_0 && w.model->exec->activations != GRAFT_ACTIVATIONS_F32;
                float bound = coarse ? BOUND_COARSE : BOUND;
                ck_assert_msg(w.device.self_test_error < bound / 2 && w.device.self_test_fault == 0,
                              "%s: error %g, fault %g: %s", graft_test_mask_name(masks[m]), (double)w.device.self_test_error,
                              (double)w.device.self_test_fault, w.log.text);
                most = w.device.self_test_error > most ? w.device.self_test_error : most;
                remove(path);
                graft_test_world_close(&w);
            }
        }
    }
    static const char *const kernels[] = {"embed", "qkv.", "attention", "residual.", "gate_up.", "head."};
    float least = 1e30f;
    for (size_t k = 0; k <= sizeof kernels / sizeof *kernels; k++) {
        bool lies = k == sizeof kernels / sizeof *kernels; // about the size of its subgroups: sums lose values
        struct graft_vk_options options = graft_test_mask_options(lies ? GRAFT_TEST_NO_TEXEL : GRAFT_TEST_PLAIN);
        options.no_size_control = lies;
        struct graft_test_world w;
        char path[GRAFT_TINY_PATH_BYTES];
        if (!open_device(&w, &options, NULL)) {
            return;
        }
        w.device.vk->caps.subgroup_size *= lies ? 2 : 1;
        graft_vk_spoil(w.device.vk, lies ? NULL : kernels[k]);
        graft_tiny_model_file(&(struct graft_tiny_model){.type = GRAFT_TYPE_Q8_0, .n_embd = 256, .n_ff = 512, .head_dim = 64},
                              path);
        struct graft_model_params p = params;
        p.n_batch = 1;
        enum graft_status status = graft_model_open(&w.device, &w.model, path, &p);
        ck_assert(lies || status == GRAFT_E_DEVICE);
        printf("wrong: %s: %.2g\n", lies ? "subgroups of half the size" : kernels[k], (double)w.device.self_test_fault);
        least = w.device.self_test_fault < least && w.device.self_test_fault > 0 ? w.device.self_test_fault : least;
        remove(path);
        graft_test_world_close(&w);
    }
    printf("largest error of sound kernels %.2g, smallest of wrong ones %.2g\n", (double)most, (double)least);
    ck_assert(least > 2 * BOUND_COARSE);
}
END_TEST

// Formats that differ between layers all have a layer in the small model.
START_TEST(the_small_model_has_every_combination_of_formats_once)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_source *source, *cut;
    ck_assert_ok(graft_source_synthetic(ctx, &source, "llama-135m:q8_0"));
    ck_assert_ok(graft_source_cut(ctx, &cut, source));
    ck_assert_uint_eq(cut->config.n_layer, 1);
    ck_assert_uint_eq(cut->config.n_embd, GRAFT_CUT_WIDTH);
    ck_assert_uint_eq(cut->config.n_head / cut->config.n_head_kv, source->config.n_head / source->config.n_head_kv);
    ck_assert_uint_eq(cut->config.head_dim, source->config.head_dim);
    ck_assert_uint_lt(cut->base_bytes, 4 << 20);
    ck_assert_int_eq(memcmp(cut->layers[0].down.data + cut->layers[0].down.row_bytes,
                            source->layers[0].down.data + source->layers[0].down.row_bytes, 34),
                     0);
    graft_source_close(&cut);
    source->layers[7].v.type = GRAFT_TYPE_F16; // never read: only its number counts
    source->layers[9].v.type = GRAFT_TYPE_F16;
    source->layers[9].v.row_bytes = source->layers[7].v.row_bytes = 2 * 576;
    source->layers[7].v.data = source->layers[9].v.data = source->embd.data;
    ck_assert_ok(graft_source_cut(ctx, &cut, source));
    ck_assert_uint_eq(cut->config.n_layer, 2);
    ck_assert_uint_eq(cut->layers[1].v.type, GRAFT_TYPE_F16);
    graft_source_close(&cut);
    graft_source_close(&source);
    graft_ctx_destroy(&ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("self-test");
    TCase *tc = tcase_create("self-test");
    tcase_set_timeout(tc, getenv("GRAFT_TEST_ALL_FORMATS") ? 14400 : 300);
    tcase_add_loop_test(tc, sound_devices_pass_with_every_variant_and_format, 0, 3);
    tcase_add_test(tc, a_variant_that_computes_nothing_is_replaced_by_a_simpler_one);
    tcase_add_loop_test(tc, wrong_integer_dot_products_are_replaced_by_f32, 0, 2);
    tcase_add_loop_test(tc, wrong_cooperative_matrices_are_replaced, 0, 2);
    tcase_add_test(tc, a_kernel_that_is_wrong_in_every_variant_is_named);
    tcase_add_test(tc, what_kernels_are_made_from_belongs_to_what_is_remembered);
    tcase_add_test(tc, sound_and_wrong_kernels_lie_far_on_either_side_of_the_bound);
    tcase_add_test(tc, the_small_model_has_every_combination_of_formats_once);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
