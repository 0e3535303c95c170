// SPDX-License-Identifier: Apache-2.0
// Every kind of adapter against the logits that PEFT computes with it (tests/golden/make_peft.py), on the reference and on the
// three variants of the kernels.
#include <stdio.h>

#include "support/peft_golden.h"
#include "support/support.h"

static const struct {
    const char *name;
    struct graft_device_params params;
} devices[] = {
    {"ref", {.select = "ref"}},
    {"lane", {0}},
    {"subgroup", {.no_texel = true}},
    {"team", {.no_texel = true, .no_subgroups = true}},
};

static const struct {
    const char *logits;
    const char *adapters[2];
    float weights[2];
} cases[] = {
    {"base", {NULL}, {0}},
    {"plain", {"plain"}, {1}},
    {"rslora", {"rslora"}, {1}},
    {"dora", {"dora"}, {1}},
    {"dora-patterns", {"dora-patterns"}, {1}},
    {"bias", {"bias"}, {1}},
    {"embed-head", {"embed-head"}, {1}},
    {"dora-embed", {"dora-embed"}, {1}},
    {"norms", {"norms"}, {1}},
    {"head", {"head"}, {1}},
    {"rank1", {"rank1"}, {1}},
    {"rank256", {"rank256"}, {1}},
    {"regex", {"regex"}, {1}},
    {"f16", {"f16"}, {1}},
    {"bf16", {"bf16"}, {1}},
    {"alora", {"alora"}, {1}},
    {"blend", {"plain", "rslora"}, {0.6f, -0.4f}},
    // the same tensors as GGUF adapters: make_adapter_gguf.py
    {"plain", {"plain.gguf"}, {1}},
    {"rslora", {"rslora.gguf"}, {1}},
    {"embed-head", {"embed-head.gguf"}, {1}},
    {"norms", {"norms.gguf"}, {1}},
    {"alora", {"alora.gguf"}, {1}},
    {"bf16", {"bf16.gguf"}, {1}},
};
enum { CASES = sizeof cases / sizeof *cases };

static void check_case(struct graft_model *model, size_t index, const char *device)
{
    char path[GRAFT_PEFT_PATH_BYTES];
    struct graft_adapter *adapters[2] = {0};
    struct graft_adapter_use uses[2];
    struct graft_seq *seq;
    static float got[GRAFT_PEFT_TOKENS][GRAFT_PEFT_VOCAB];
    uint32_t n = 0;
    for (; n < 2 && cases[index].adapters[n]; n++) {
        graft_peft_path(path, cases[index].adapters[n]);
        ck_assert_msg(graft_adapter_load(model, &adapters[n], path) == GRAFT_OK, "%s", graft_last_error());
        uses[n] = (struct graft_adapter_use){.adapter = adapters[n],
                                             .weight = cases[index].weights[n],
                                             .from = graft_adapter_invoked(adapters[n], graft_peft_ids, GRAFT_PEFT_TOKENS)};
    }
    ck_assert_ok(graft_seq_create(model, &seq));
    ck_assert_ok(graft_seq_set_adapters(seq, uses, n));
    for (int single = 0; single < 2; single++) {
        graft_seq_truncate(seq, 0);
        graft_peft_compute(model, seq, single, got);
        double worst, most = graft_peft_divergence(cases[index].logits, got, &worst);
        ck_assert_msg(most <= 1e-5 && worst <= 0.02, "%s on %s%s: KL %.3g, largest difference %.3g", cases[index].logits,
                      device, single ? ", token by token" : "", most, worst);
        printf("%s on %s%s: KL %.2g, largest difference %.2g\n", cases[index].logits, device, single ? ", token by token" : "",
               most, worst);
    }
    graft_seq_destroy(&seq);
    for (uint32_t i = 0; i < n; i++) {
        graft_adapter_release(&adapters[i]);
    }
}

START_TEST(every_kind_gives_the_logits_of_peft)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_device *device;
    struct graft_model *model;
    char path[GRAFT_PEFT_PATH_BYTES];
    struct graft_device_params params = devices[_i].params;
    params.size = sizeof params;
    if (graft_device_open(ctx, &device, &params) != GRAFT_OK) {
        printf("skipped: %s\n", graft_last_error());
        graft_ctx_destroy(&ctx);
        return;
    }
    struct graft_model_params model_params = {
        .size = sizeof model_params, .n_ctx = 64, .n_batch = 16, .exact = true, .adapter_pool_bytes = 8 << 20};
    graft_peft_path(path, "base.gguf");
    ck_assert_ok(graft_model_open(device, &model, path, &model_params));
    for (size_t i = 0; i < CASES; i++) {
        check_case(model, i, devices[_i].name);
    }
    graft_model_close(&model);
    graft_device_close(&device);
    graft_ctx_destroy(&ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("adapter_kinds");
    TCase *tests = tcase_create("adapter_kinds");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, every_kind_gives_the_logits_of_peft, 0, sizeof devices / sizeof *devices);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
