// SPDX-License-Identifier: Apache-2.0
#include "support/peft_golden.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "platform/plat.h"
#include "support/support.h"

enum { VOCAB = GRAFT_PEFT_VOCAB, TOKENS = GRAFT_PEFT_TOKENS };

const int32_t graft_peft_ids[TOKENS] = {1, 84, 200, 17, 7, 9, 45, 283, 100, 2};

void graft_peft_path(char path[GRAFT_PEFT_PATH_BYTES], const char *name)
{
    snprintf(path, GRAFT_PEFT_PATH_BYTES, "%s/golden/peft/%s", GRAFT_TEST_SOURCE_DIR, name);
}

// log-probabilities in double precision
static void log_softmax(const float *logits, double out[VOCAB])
{
    double most = (double)logits[0], sum = 0;
    for (uint32_t i = 1; i < VOCAB; i++) {
        if ((double)logits[i] > most) { // fmax here makes gcc 12 for aarch64 fail with an internal error
            most = (double)logits[i];
        }
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

void graft_peft_compute(struct graft_model *model, struct graft_seq *seq, bool single, float got[TOKENS][VOCAB])
{
    struct graft_row rows[TOKENS];
    const float *logits;
    for (uint32_t i = 0; i < TOKENS; i++) {
        rows[i] = (struct graft_row){.seq = seq, .token = graft_peft_ids[i], .want = true};
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

double graft_peft_divergence(const char *logits, float got[TOKENS][VOCAB], double *worst)
{
    char path[GRAFT_PEFT_PATH_BYTES], file[64];
    struct graft_map map;
    double most = 0;
    snprintf(file, sizeof file, "%s.logits", logits);
    graft_peft_path(path, file);
    ck_assert_ok(graft_map_open(&map, path));
    ck_assert_uint_eq(map.size, sizeof(float) * TOKENS * VOCAB);
    const float *want = (const float *)(const void *)map.data;
    *worst = 0;
    for (uint32_t i = 0; i < TOKENS; i++) {
        most = fmax(most, divergence(want + (size_t)i * VOCAB, got[i], worst));
    }
    graft_map_close(&map);
    return most;
}
