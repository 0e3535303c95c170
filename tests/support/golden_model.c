// SPDX-License-Identifier: Apache-2.0
#include "support/golden_model.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graft/graft.h"
#include "support/model_path.h"
#include "support/support.h"
#include "support/vocab_fixture.h"

enum { MAX_IDS = 256, N_BATCH = 32 };

static struct graft_ctx *ctx;
static struct graft_device *device;
static struct graft_model *model;
static json_t *golden;
static struct graft_adapter *adapter;
static const json_t *cases; // of the adapter, or of the base

static bool open_model(const char *select, bool exact, const char *name)
{
    const char *path = graft_test_model_path();
    if (!path) {
        printf("skipped: SmolLM2-135M-Instruct.Q4_1.gguf is not there (GRAFT_TEST_MODEL)\n");
        return false;
    }
    ctx = graft_test_ctx(NULL, 0);
    struct graft_device_params device_params = {.size = sizeof device_params, .select = select};
    ck_assert_ok(graft_device_open(ctx, &device, &device_params));
    struct graft_model_params params = {.size = sizeof params, .n_ctx = MAX_IDS, .n_batch = N_BATCH, .exact = exact,
                                        .adapter_pool_bytes = name ? 8 << 20 : 0};
    ck_assert_ok(graft_model_open(device, &model, path, &params));
    golden = graft_test_golden("smollm2-135m-instruct.json");
    cases = json_object_get(json_object_get(golden, "cases"), name ? name : "base");
    if (name) {
        char folder[512];
        snprintf(folder, sizeof folder, "%s/../demo/adapters/%s", GRAFT_TEST_SOURCE_DIR, name);
        ck_assert_ok(graft_adapter_load(model, &adapter, folder));
    }
    return true;
}

static void close_model(void)
{
    json_decref(golden);
    graft_adapter_release(&adapter);
    graft_model_close(&model);
    graft_device_close(&device);
    graft_ctx_destroy(&ctx);
}

static uint32_t ids_of(const json_t *prompt, int32_t ids[MAX_IDS])
{
    const json_t *list = json_object_get(prompt, "ids");
    uint32_t count = (uint32_t)json_array_size(list);
    ck_assert_uint_le(count, MAX_IDS);
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    return count;
}

static double log_sum_exp(const float *logits, uint32_t n)
{
    double most = (double)logits[0], sum = 0.0;
    for (uint32_t i = 1; i < n; i++) {
        most = (double)logits[i] > most ? (double)logits[i] : most;
    }
    for (uint32_t i = 0; i < n; i++) {
        sum += exp((double)logits[i] - most);
    }
    return most + log(sum);
}

// -log p of a token.
static double nll_of(const float *logits, uint32_t n_vocab, int32_t token)
{
    return log_sum_exp(logits, n_vocab) - (double)logits[token];
}

// One prompt; returns the sum over the reference's top 20 of p_ref (log p_ref - log p_ours).
static double compare(const char *name, const int32_t *ids, uint32_t count, const json_t *want)
{
    struct graft_model_info info;
    graft_model_describe(model, &info);
    struct graft_seq *seq;
    ck_assert_ok(graft_seq_create(model, &seq));
    ck_assert_ok(graft_seq_set_adapters(seq, &(struct graft_adapter_use){.adapter = adapter, .weight = 1.0f}, adapter != NULL));
    const json_t *nll = json_object_get(want, "nll"), *top = json_object_get(want, "top");
    const float *logits = NULL;
    for (uint32_t at = 0; at < count; at += N_BATCH) {
        struct graft_row rows[N_BATCH];
        uint32_t n = count - at < N_BATCH ? count - at : N_BATCH;
        for (uint32_t i = 0; i < n; i++) {
            rows[i] = (struct graft_row){.seq = seq, .token = ids[at + i], .want = true};
        }
        ck_assert_ok(graft_decode(model, rows, n, GRAFT_WANT_LOGITS));
        for (uint32_t i = 0; i < n; i++) {
            ck_assert_ok(graft_model_logits(model, i, &logits));
            if (at + i + 1 < count) {
                double got = nll_of(logits, info.n_vocab, ids[at + i + 1]),
                       reference = json_number_value(json_array_get(nll, at + i));
                ck_assert_msg(fabs(got - reference) < (adapter ? 0.06 : 0.02), "%s, token %u: nll %g, the reference has %g",
                              name, at + i + 1, got, reference);
            }
        }
    }
    double kl = 0.0;
    for (size_t k = 0; k < json_array_size(top); k++) {
        const json_t *pair = json_array_get(top, k);
        double log_p = json_number_value(json_array_get(pair, 1));
        kl += exp(log_p) * (log_p + nll_of(logits, info.n_vocab, (int32_t)json_integer_value(json_array_get(pair, 0))));
    }
    graft_seq_destroy(&seq);
    return kl;
}

void graft_test_golden_probabilities(const char *select, bool exact, const char *adapter_name)
{
    if (!open_model(select, exact, adapter_name)) {
        return;
    }
    const char *name;
    json_t *prompt;
    double sum = 0.0;
    uint32_t n = 0;
    json_object_foreach(json_object_get(golden, "prompts"), name, prompt)
    {
        int32_t ids[MAX_IDS], own[MAX_IDS];
        uint32_t count = ids_of(prompt, ids);
        const json_t *text = json_object_get(prompt, "text");
        size_t own_count;
        ck_assert_ok(
            graft_tokenize(model, json_string_value(text), json_string_length(text), true, true, own, MAX_IDS, &own_count));
        ck_assert_msg(own_count == count && memcmp(ids, own, count * sizeof *ids) == 0, "%s: token ids differ", name);
        double kl = compare(name, ids, count, json_object_get(cases, name));
        ck_assert_msg(fabs(kl) < 1e-3, "%s: KL %g", name, kl);
        sum += kl;
        n++;
    }
    printf("%s: mean KL over the top 20 of %u prompts: %.2e\n", adapter_name ? adapter_name : "base", n, sum / n);
    ck_assert_uint_gt(n, 0);
    ck_assert_msg(fabs(sum / n) <= 1e-4, "mean KL %g", sum / n);
    close_model();
}

void graft_test_golden_answers(const char *select, bool exact, const char *adapter_name)
{
    if (!open_model(select, exact, adapter_name)) {
        return;
    }
    // The question inside the golden prompt, through the file's own template.
    const char *name;
    json_t *want;
    json_object_foreach((json_t *)(uintptr_t)cases, name, want)
    {
        const json_t *greedy = json_object_get(want, "greedy_text");
        if (!greedy) {
            continue;
        }
        const char *text =
            json_string_value(json_object_get(json_object_get(json_object_get(golden, "prompts"), name), "text"));
        const char *question = strstr(text, "<|im_start|>user\n") + strlen("<|im_start|>user\n");
        const char *end = strstr(question, "<|im_end|>");
        struct graft_chat_params params = {.size = sizeof params,
                                           .max_tokens = (uint32_t)json_array_size(json_object_get(want, "greedy_ids"))};
        params.sampling = (struct graft_sampling){.size = sizeof params.sampling, .temperature = -1.0f};
        struct graft_chat *chat;
        ck_assert_ok(graft_chat_create(model, &chat, &params));
        ck_assert_ok(
            graft_chat_set_adapters(chat, &(struct graft_adapter_use){.adapter = adapter, .weight = 1.0f}, adapter != NULL));
        ck_assert_ok(graft_chat_send(chat, question, (size_t)(end - question)));
        char answer[1024];
        size_t used = 0;
        for (bool done = false; !done;) {
            const char *piece;
            size_t length;
            ck_assert_ok(graft_chat_next(chat, &piece, &length, &done));
            ck_assert_uint_lt(used + length, sizeof answer);
            memcpy(answer + used, piece, length);
            used += length;
        }
        answer[used] = '\0';
        ck_assert_str_eq(answer, json_string_value(greedy));
        graft_chat_destroy(&chat);
    }
    close_model();
}
