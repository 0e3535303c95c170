// SPDX-License-Identifier: Apache-2.0
// Every kind of adapter against the logits that PEFT computes with it (tests/golden/make_peft.py), on the reference and on the
// three variants of the kernels.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graft/graft.h"
#include "platform/plat.h"
#include "support/support.h"

enum { VOCAB = 288, TOKENS = 10, FOLDER_BYTES = 512 };

static const int32_t ids[TOKENS] = {1, 84, 200, 17, 7, 9, 45, 283, 100, 2};

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

static void golden_path(char path[FOLDER_BYTES], const char *name)
{
    snprintf(path, FOLDER_BYTES, "%s/golden/peft/%s", GRAFT_TEST_SOURCE_DIR, name);
}

// log-probabilities in double precision
static void log_softmax(const float *logits, double out[VOCAB])
{
    double most = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < VOCAB; i++) {
        most = fmax(most, (double)logits[i]);
    }
    for (uint32_t i = 0; i < VOCAB; i++) {
        sum += exp((double)logits[i] - most);
    }
    for (uint32_t i = 0; i < VOCAB; i++) {
        out[i] = (double)logits[i] - most - log(sum);
    }
}

// KL(want || got), and the largest difference of a log-probability.
static double divergence(const float *want, const float *got, double *worst)
{
    double p[VOCAB], q[VOCAB], sum = 0;
    log_softmax(want, p);
    log_softmax(got, q);
    for (uint32_t i = 0; i < VOCAB; i++) {
        sum += exp(p[i]) * (p[i] - q[i]);
        *worst = fmax(*worst, fabs(p[i] - q[i]));
    }
    return sum;
}

// The tokens in one batch, or one after the other.
static void compute(struct graft_model *model, struct graft_seq *seq, bool single, float got[TOKENS][VOCAB])
{
    struct graft_row rows[TOKENS];
    const float *logits;
    for (uint32_t i = 0; i < TOKENS; i++) {
        rows[i] = (struct graft_row){.seq = seq, .token = ids[i], .want = true};
        if (single) {
            ck_assert_ok(graft_decode(model, &rows[i], 1, GRAFT_WANT_LOGITS));
            ck_assert_ok(graft_model_logits(model, 0, &logits));
            memcpy(got[i], logits, sizeof got[i]);
        }
    }
    if (!single) {
        ck_assert_ok(graft_decode(model, rows, TOKENS, GRAFT_WANT_LOGITS));
        for (uint32_t i = 0; i < TOKENS; i++) {
            ck_assert_ok(graft_model_logits(model, i, &logits));
            memcpy(got[i], logits, sizeof got[i]);
        }
    }
}

static void check_case(struct graft_model *model, size_t index, const char *device)
{
    char path[FOLDER_BYTES], file[64];
    struct graft_adapter *adapters[2] = {0};
    struct graft_adapter_use uses[2];
    struct graft_seq *seq;
    struct graft_map map;
    static float got[TOKENS][VOCAB];
    uint32_t n = 0;
    for (; n < 2 && cases[index].adapters[n]; n++) {
        golden_path(path, cases[index].adapters[n]);
        ck_assert_msg(graft_adapter_load(model, &adapters[n], path) == GRAFT_OK, "%s", graft_last_error());
        uses[n] = (struct graft_adapter_use){.adapter = adapters[n],
                                             .weight = cases[index].weights[n],
                                             .from = graft_adapter_invoked(adapters[n], ids, TOKENS)};
    }
    snprintf(file, sizeof file, "%s.logits", cases[index].logits);
    golden_path(path, file);
    ck_assert_ok(graft_map_open(&map, path));
    ck_assert_uint_eq(map.size, sizeof got);
    const float *want = (const float *)(const void *)map.data;
    ck_assert_ok(graft_seq_create(model, &seq));
    ck_assert_ok(graft_seq_set_adapters(seq, uses, n));
    for (int single = 0; single < 2; single++) {
        double worst = 0, most = 0;
        graft_seq_truncate(seq, 0);
        compute(model, seq, single, got);
        for (uint32_t i = 0; i < TOKENS; i++) {
            most = fmax(most, divergence(want + (size_t)i * VOCAB, got[i], &worst));
        }
        ck_assert_msg(most <= 1e-5 && worst <= 0.02, "%s on %s%s: KL %.3g, largest difference %.3g", cases[index].logits,
                      device, single ? ", token by token" : "", most, worst);
        printf("%s on %s%s: KL %.2g, largest difference %.2g\n", cases[index].logits, device, single ? ", token by token" : "",
               most, worst);
    }
    graft_seq_destroy(&seq);
    graft_map_close(&map);
    for (uint32_t i = 0; i < n; i++) {
        graft_adapter_release(&adapters[i]);
    }
}

START_TEST(every_kind_gives_the_logits_of_peft)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_device *device;
    struct graft_model *model;
    char path[FOLDER_BYTES];
    struct graft_device_params params = devices[_i].params;
    params.size = sizeof params;
    if (graft_device_open(ctx, &device, &params) != GRAFT_OK) {
        printf("skipped: %s\n", graft_last_error());
        graft_ctx_destroy(&ctx);
        return;
    }
    struct graft_model_params model_params = {
        .size = sizeof model_params, .n_ctx = 64, .n_batch = 16, .exact = true, .adapter_pool_bytes = 8 << 20};
    golden_path(path, "base.gguf");
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
