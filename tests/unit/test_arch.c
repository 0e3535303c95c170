// SPDX-License-Identifier: Apache-2.0
// Every architecture against transformers (make_arch.py): logits of a tiny random model whose prompt is longer than its sliding
// window, on the reference executor and on every variant of the kernels; in one batch, a token at a time, and beside other
// sequences; and the tokens that follow greedily. Then with
// adapters of every kind, against PEFT.
#include <stdio.h>
#include <string.h>

#include "support/arch_golden.h"
#include "support/support.h"

static const char *const names[] = {"mistral", "qwen2", "qwen2-yarn", "qwen3", "phi3", "phi3-long", "gemma2", "gemma3"};
enum { NAMES = sizeof names / sizeof *names };

static void check(const char *name, const char *device, const char *how, const float *want, float (*got)[GRAFT_ARCH_VOCAB],
                  uint32_t n)
{
    double worst;
    graft_arch_compare(want, got, n, &worst);
    ck_assert_msg(worst < 0.01, "%s on %s, %s: log-probabilities are off by %g", name, device, how, worst);
}

// The prompt in one batch, one by one, and split over batches in which another sequence computes as well.
static void check_model(struct graft_model *model, const char *name, const char *device)
{
    static float want[GRAFT_ARCH_TOKENS][GRAFT_ARCH_VOCAB], got[GRAFT_ARCH_TOKENS][GRAFT_ARCH_VOCAB];
    struct graft_seq *seq, *other;
    int32_t greedy[GRAFT_ARCH_GREEDY], token;
    graft_arch_read(name, "logits", want, sizeof want);
    graft_arch_read(name, "greedy", greedy, sizeof greedy);
    ck_assert_ok(graft_seq_create(model, &seq));
    graft_arch_compute(model, seq, NULL, GRAFT_ARCH_TOKENS, got);
    check(name, device, "at once", want[0], got, GRAFT_ARCH_TOKENS);
    token = graft_arch_best(got[GRAFT_ARCH_TOKENS - 1]);
    for (uint32_t i = 0; i < GRAFT_ARCH_GREEDY; i++) {
        ck_assert_msg(token == greedy[i], "%s on %s: greedy token %u is %d, transformers has %d", name, device, i, token,
                      greedy[i]);
        token = graft_arch_next(model, seq, token);
    }
    graft_seq_destroy(&seq);
    ck_assert_ok(graft_seq_create(model, &seq));
    ck_assert_ok(graft_seq_create(model, &other));
    graft_arch_compute(model, seq, NULL, 1, got);
    check(name, device, "a token at a time", want[0], got, GRAFT_ARCH_TOKENS);
    graft_seq_destroy(&seq);
    ck_assert_ok(graft_seq_create(model, &seq));
    graft_arch_compute(model, seq, other, 3, got);
    check(name, device, "beside another sequence", want[0], got, GRAFT_ARCH_TOKENS);
    graft_seq_destroy(&seq);
    graft_seq_destroy(&other);
}

START_TEST(logits_and_greedy_tokens_are_those_of_transformers)
{
    for (int i = 0; i < NAMES; i++) {
        struct graft_arch_world world;
        if (graft_arch_open(&world, names[i], _i, 0)) {
            check_model(world.model, names[i], graft_arch_device_name(_i));
            graft_arch_close(&world);
        }
    }
}
END_TEST

static const char *const adapted[] = {"qwen2", "qwen3", "phi3", "gemma2", "gemma3"};
// "norms": all but input_layernorm and the last one, where an architecture has them. ".gguf": the same adapter in that format.
static const struct {
    const char *kind, *ending, *names;
} kinds[] = {{"lora", "", "qwen2 qwen3 phi3 gemma2 gemma3"},  {"dora", "", "qwen2 qwen3 phi3 gemma2 gemma3"},
             {"bias", "", "qwen2 qwen3 phi3 gemma2 gemma3"},  {"whole", "", "qwen2 qwen3 phi3 gemma2 gemma3"},
             {"norms", "", "qwen3 gemma2 gemma3"},            {"lora", ".gguf", "qwen2 qwen3 phi3 gemma3"},
             {"norms", ".gguf", "gemma3"}};

static void check_adapter(struct graft_model *model, const char *name, const char *kind, const char *ending, const char *device)
{
    static float want[GRAFT_ARCH_TAIL][GRAFT_ARCH_VOCAB], got[GRAFT_ARCH_TOKENS][GRAFT_ARCH_VOCAB];
    char path[512], file[64];
    struct graft_adapter *adapter;
    struct graft_seq *seq, *other;
    snprintf(file, sizeof file, "%s.%s%s", name, kind, ending);
    graft_arch_path(path, file);
    snprintf(file, sizeof file, "%s.%s", name, kind);
    graft_arch_read(file, "logits", want, sizeof want);
    ck_assert_msg(graft_adapter_load(model, &adapter, path) == GRAFT_OK, "%s: %s", file, graft_last_error());
    ck_assert_ok(graft_seq_create(model, &seq));
    ck_assert_ok(graft_seq_create(model, &other));
    ck_assert_ok(graft_seq_set_adapters(seq, &(struct graft_adapter_use){.adapter = adapter, .weight = 1}, 1));
    graft_arch_compute(model, seq, other, GRAFT_ARCH_TOKENS, got);
    double worst, most = graft_arch_compare(want[0], got + GRAFT_ARCH_TOKENS - GRAFT_ARCH_TAIL, GRAFT_ARCH_TAIL, &worst);
    // Matrices are kept as f16: what that costs is a KL far below any format's.
    ck_assert_msg(most <= 1e-5 && worst <= 0.01, "%s on %s: KL %.3g, log-probabilities are off by %g", file, device, most,
                  worst);
    graft_seq_destroy(&seq);
    graft_seq_destroy(&other);
    graft_adapter_release(&adapter);
}

START_TEST(adapters_of_every_kind_give_the_logits_of_peft)
{
    for (size_t i = 0; i < sizeof adapted / sizeof *adapted; i++) {
        struct graft_arch_world world;
        if (!graft_arch_open(&world, adapted[i], _i, 4 << 20)) {
            continue;
        }
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            if (strstr(kinds[k].names, adapted[i])) {
                check_adapter(world.model, adapted[i], kinds[k].kind, kinds[k].ending, graft_arch_device_name(_i));
            }
        }
        graft_arch_close(&world);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("architectures");
    TCase *tc = tcase_create("arch");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, logits_and_greedy_tokens_are_those_of_transformers, 0, GRAFT_ARCH_DEVICES);
    tcase_add_loop_test(tc, adapters_of_every_kind_give_the_logits_of_peft, 0, GRAFT_ARCH_DEVICES);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
