// SPDX-License-Identifier: Apache-2.0
// Mixtures of experts from files: the logits of transformers, and of PEFT with adapters on them, on their experts and routers
// (tests/golden/make_moe.py, make_moe_modules.py), with --exact on the reference and on every variant of the device, and with
// 16-bit activations; rows with different adapters in one batch; what cannot be computed is refused by name.
#include <stdio.h>
#include <string.h>

#include "support/peft_golden.h"
#include "support/support.h"

static const struct {
    const char *name;
    struct graft_device_params params;
    enum graft_activations activations; // DEFAULT: exact
} devices[] = {
    {.name = "reference", .params = {.select = "ref"}},
    {.name = "lane", .params = {.no_texel = false}},
    {.name = "subgroup", .params = {.no_texel = true}},
    {.name = "team", .params = {.no_texel = true, .no_subgroups = true}},
    {.name = "copied", .params = {.no_import = true}},
    {.name = "int16", .params = {.no_texel = true}, .activations = GRAFT_ACTIVATIONS_INT16},
};

static const struct {
    const char *model, *logits;
    const char *adapters[2];
    float weights[2];
} cases[] = {
    {"qwen3moe", "qwen3moe", {NULL}, {0}},
    {"qwen3moe", "plain", {"plain"}, {1}},
    {"qwen3moe", "dora", {"dora"}, {1}},
    {"qwen3moe", "norms", {"norms"}, {1}},
    {"qwen3moe", "embed-head", {"embed-head"}, {1}},
    {"qwen3moe", "router", {"router"}, {1}},
    {"qwen3moe", "every-expert", {"every-expert"}, {1}},
    {"qwen3moe", "every-expert", {"every-expert.gguf"}, {1}},
    {"qwen3moe", "some-experts", {"some-experts"}, {1}},
    {"qwen3moe", "experts-dora", {"experts-dora"}, {1}},
    {"qwen3moe", "experts-bias", {"experts-bias"}, {1}},
    {"qwen3moe", "head-norms", {"head-norms"}, {1}},
    {"qwen3moe", "experts-blend", {"every-expert", "some-experts"}, {0.7f, -0.6f}},
    {"qwen3moe", "stacked", {"stacked"}, {1}},
    {"qwen3moe", "stacked-down", {"stacked-down"}, {1}},
    {"qwen3moe", "whole-router", {"whole-router"}, {1}},
    {"mixtral", "mixtral", {NULL}, {0}},
    {"mixtral", "mixtral-experts", {"mixtral-experts"}, {1}},
    {"mixtral", "mixtral-experts", {"mixtral-experts.gguf"}, {1}},
    {"mixtral", "mixtral-router", {"mixtral-router"}, {1}},
};

// graft_peft_path counts from the folder peft.
static void moe_path(char path[GRAFT_PEFT_PATH_BYTES], const char *name, const char *ending)
{
    char text[128];
    snprintf(text, sizeof text, "../moe/%s%s", name, ending);
    graft_peft_path(path, text);
}

static enum graft_status open_model(struct graft_device *device, struct graft_model **model, const char *name,
                                    enum graft_activations activations)
{
    char path[GRAFT_PEFT_PATH_BYTES];
    struct graft_model_params params = {.size = sizeof params,
                                        .n_ctx = 64,
                                        .n_batch = 16,
                                        .exact = activations == GRAFT_ACTIVATIONS_DEFAULT,
                                        .activations = activations,
                                        .kv_keys = GRAFT_KV_F32,
                                        .kv_values = GRAFT_KV_F32,
                                        .adapter_pool_bytes = 4 << 20};
    moe_path(path, name, ".gguf");
    return graft_model_open(device, model, path, &params);
}

static void check_case(struct graft_model *model, const char *device_name, size_t i)
{
    static float got[GRAFT_PEFT_TOKENS][GRAFT_PEFT_VOCAB], alone[GRAFT_PEFT_TOKENS][GRAFT_PEFT_VOCAB];
    struct graft_adapter *adapters[2] = {0};
    struct graft_adapter_use uses[2];
    struct graft_seq *seq;
    char path[GRAFT_PEFT_PATH_BYTES], logits[64];
    uint32_t n = 0;
    ck_assert_ok(graft_seq_create(model, &seq));
    for (; n < 2 && cases[i].adapters[n]; n++) {
        moe_path(path, cases[i].adapters[n], "");
        ck_assert_msg(graft_adapter_load(model, &adapters[n], path) == GRAFT_OK, "%s", graft_last_error());
        uses[n] = (struct graft_adapter_use){.adapter = adapters[n], .weight = cases[i].weights[n]};
    }
    ck_assert_ok(graft_seq_set_adapters(seq, uses, n));
    snprintf(logits, sizeof logits, "../moe/%s", cases[i].logits);
    for (int single = 0; single < 2; single++) { // ten rows are grouped by expert, one goes pair by pair
        double worst, most;
        graft_seq_truncate(seq, 0);
        graft_peft_compute(model, seq, single, single ? alone : got);
        most = graft_peft_divergence(logits, single ? alone : got, &worst);
        ck_assert_msg(most <= 1e-5 && worst <= 0.01, "%s, %s on %s%s: KL %.3g, largest difference %.3g", cases[i].model,
                      cases[i].logits, device_name, single ? ", token by token" : "", most, worst);
        printf("%s, %s on %s%s: KL %.2g, largest difference %.2g\n", cases[i].model, cases[i].logits, device_name,
               single ? ", token by token" : "", most, worst);
    }
    ck_assert_msg(memcmp(got, alone, sizeof got) == 0, "%s on %s: a batch's bits are not those of its rows", cases[i].logits,
                  device_name);
    graft_seq_destroy(&seq);
    graft_adapter_release(&adapters[0]);
    graft_adapter_release(&adapters[1]);
}

START_TEST(logits_are_those_of_transformers)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_device *device;
    struct graft_device_params params = devices[_i].params;
    params.size = sizeof params;
    if (graft_device_open(ctx, &device, &params) != GRAFT_OK) {
        printf("skipped: %s\n", graft_last_error());
        graft_ctx_destroy(&ctx);
        return;
    }
    struct graft_model *model = NULL;
    bool copied = params.no_import;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (copied && cases[i].adapters[0]) { // whose kernels are those of `lane`
            continue;
        }
        if (!model || strcmp(cases[i].model, cases[i - 1].model) != 0) {
            graft_model_close(&model);
            ck_assert_msg(open_model(device, &model, cases[i].model, devices[_i].activations) == GRAFT_OK, "%s",
                          graft_last_error());
        }
        check_case(model, devices[_i].name, i);
    }
    graft_model_close(&model);
    graft_device_close(&device);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(adapters_of_other_bases_are_refused_by_name)
{
    static const struct {
        const char *model, *adapter, *words[2];
    } refused[] = {{"mixtral", "every-expert", {"q_proj", "shape"}},
                   {"mixtral", "whole-router", {"q_proj", "shape"}},
                   {"mixtral", "head-norms", {"up_proj", "shape"}},
                   {"mixtral", "every-expert.gguf", {"architecture qwen3moe", "the base's is llama"}},
                   {"mixtral", "../peft/rank1", {"gate_proj", "the base is a mixture of 4 experts"}}};
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_device *device;
    struct graft_model *model;
    struct graft_device_params params = {.size = sizeof params, .select = "ref"};
    ck_assert_ok(graft_device_open(ctx, &device, &params));
    ck_assert_ok(open_model(device, &model, "mixtral", GRAFT_ACTIVATIONS_DEFAULT));
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char path[GRAFT_PEFT_PATH_BYTES];
        struct graft_adapter *adapter;
        moe_path(path, refused[i].adapter, "");
        ck_assert_msg(graft_adapter_load(model, &adapter, path) != GRAFT_OK, "%s", refused[i].adapter);
        ck_assert_error_has(refused[i].words[0]);
        ck_assert_error_has(refused[i].words[1]);
    }
    struct graft_model_info info;
    graft_model_describe(model, &info);
    ck_assert_uint_eq(info.n_expert, 4);
    ck_assert_uint_eq(info.n_expert_used, 2);
    ck_assert_uint_eq(info.n_ff_expert, 64);
    // Two of four experts: half of gate and up (Q4_0; Q8_0 and Q5_0) and of down (Q8_0, Q4_1) are not read for a token; 288
    // rows of the embeddings less one neither.
    uint64_t experts = 4 * 64 * 2 * (18 + 18 + 34 + 34 + 22 + 20), rows = 287 * 36;
    ck_assert_uint_eq(info.token_weight_bytes, info.weight_bytes - experts / 2 - rows);
    graft_model_close(&model);
    graft_device_close(&device);
    graft_ctx_destroy(&ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("moe");
    TCase *tests = tcase_create("moe");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, logits_are_those_of_transformers, 0, sizeof devices / sizeof *devices);
    tcase_add_test(tests, adapters_of_other_bases_are_refused_by_name);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
