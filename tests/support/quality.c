// SPDX-License-Identifier: Apache-2.0
#include "support/quality.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/model_path.h"
#include "support/model_world.h"

enum { MAX_IDS = 1024, N_VOCAB = 49152 }; // SmolLM2's

// The beginning of the Apache License's second section and of the third, as English as any.
static const char text[] =
    "Grant of Copyright License. Subject to the terms and conditions of this License, each Contributor hereby grants to You"
    " a perpetual, worldwide, non-exclusive, no-charge, royalty-free, irrevocable copyright license to reproduce, prepare "
    "Derivative Works of, publicly display, publicly perform, sublicense, and distribute the Work and such Derivative Works"
    " in Source or Object form. Grant of Patent License. Subject to the terms and conditions of this License, each "
    "Contributor hereby grants to You a perpetual, worldwide, non-exclusive, no-charge, royalty-free, irrevocable (except "
    "as stated in this section) patent license to make, have made, use, offer to sell, sell, import, and otherwise transfer"
    " the Work, where such license applies only to those patent claims licensable by such Contributor that are necessarily "
    "infringed by their Contribution(s) alone or by combination of their Contribution(s) with the Work to which such "
    "Contribution(s) was submitted. If You institute patent litigation against any entity (including a cross-claim or "
    "counterclaim in a lawsuit) alleging that the Work or a Contribution incorporated within the Work constitutes direct or"
    " contributory patent infringement, then any patent licenses granted to You under this License for that Work shall "
    "terminate as of the date such litigation is filed. The river rose during the night, and by morning the bridge was "
    "gone.";
static int32_t ids[MAX_IDS]; // of the text

static void tokenize(struct graft_ctx *ctx, const char *path)
{
    struct graft_vocabulary *vocabulary;
    size_t count = 0;
    ck_assert_ok(graft_vocabulary_open(ctx, &vocabulary, path));
    ck_assert_ok(graft_vocabulary_tokenize(vocabulary, text, sizeof text - 1, false, true, ids, MAX_IDS, &count));
    graft_vocabulary_close(&vocabulary);
    ck_assert_uint_gt(count, 2 * GRAFT_TEST_SCORED);
}

// Logits to log-probabilities.
static void normalize(const float *logits, float *out)
{
    double top = -INFINITY, sum = 0;
    for (uint32_t k = 0; k < N_VOCAB; k++) {
        top = fmax(top, (double)logits[k]);
    }
    for (uint32_t k = 0; k < N_VOCAB; k++) {
        sum += exp((double)logits[k] - top);
    }
    for (uint32_t k = 0; k < N_VOCAB; k++) {
        out[k] = (float)((double)logits[k] - top - log(sum));
    }
}

float *graft_test_scores(const struct graft_vk_options *options, const struct graft_model_params *given)
{
    enum { SCORED = GRAFT_TEST_SCORED, BATCH = 32 };
    const char *path = graft_test_model_path();
    struct graft_vk_options patient = *options;
    struct graft_model_params params = *given;
    struct graft_test_world world;
    struct graft_seq *seq;
    params.n_ctx = 2 * SCORED;
    patient.timeout_ns = UINT64_C(1200000000000); // slow kernels on a busy machine
    if (!path || !graft_test_world_open(&world, &patient, path, &params)) {
        printf("skipped: quality, for want of the model or a device\n");
        return NULL;
    }
    float *out = calloc((size_t)SCORED * N_VOCAB, sizeof *out);
    ck_assert_ptr_nonnull(out);
    tokenize(world.ctx, path);
    ck_assert_ok(graft_seq_create(world.model, &seq));
    for (uint32_t at = 0; at < 2 * SCORED; at += BATCH) {
        struct graft_row rows[BATCH];
        for (uint32_t i = 0; i < BATCH; i++) {
            rows[i] = (struct graft_row){seq, ids[at + i], at >= SCORED};
        }
        ck_assert_ok(graft_decode(world.model, rows, BATCH, at >= SCORED ? GRAFT_WANT_LOGITS : GRAFT_WANT_CANDIDATES));
        for (uint32_t i = 0; i < BATCH && at >= SCORED; i++) {
            const float *logits;
            ck_assert_ok(graft_model_logits(world.model, i, &logits));
            normalize(logits, out + (uint64_t)(at - SCORED + i) * N_VOCAB);
        }
    }
    graft_seq_destroy(&seq);
    graft_test_world_close(&world);
    return out;
}

static uint32_t best(const float *row)
{
    uint32_t at = 0;
    for (uint32_t k = 1; k < N_VOCAB; k++) {
        at = row[k] > row[at] ? k : at;
    }
    return at;
}

double graft_test_divergence(const float *p, const float *q, uint32_t *same)
{
    double kl = 0;
    for (uint64_t i = 0; i < (uint64_t)GRAFT_TEST_SCORED * N_VOCAB; i++) {
        kl += exp((double)p[i]) * ((double)p[i] - (double)q[i]);
    }
    for (uint32_t i = 0; same && i < GRAFT_TEST_SCORED; i++) {
        *same = (i ? *same : 0) + (best(p + (uint64_t)i * N_VOCAB) == best(q + (uint64_t)i * N_VOCAB));
    }
    return kl / GRAFT_TEST_SCORED;
}

double graft_test_perplexity(const float *p)
{
    double sum = 0;
    for (uint32_t i = 0; i < GRAFT_TEST_SCORED; i++) {
        sum -= (double)p[(uint64_t)i * N_VOCAB + (uint32_t)ids[GRAFT_TEST_SCORED + i + 1]];
    }
    return exp(sum / GRAFT_TEST_SCORED);
}
