// SPDX-License-Identifier: Apache-2.0
#include "support/arch_golden.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "platform/plat.h"
#include "support/support.h"

enum { VOCAB = GRAFT_ARCH_VOCAB, TOKENS = GRAFT_ARCH_TOKENS };

static const int32_t ids[TOKENS] = {1, 84, 200, 17, 7, 9, 45, 283, 100, 2, 66, 150, 31, 32, 33, 240, 12, 99, 180, 5};

static const struct {
    const char *name;
    struct graft_device_params params;
} devices[GRAFT_ARCH_DEVICES] = {
    {"ref", {.select = "ref"}},
    {"lane", {0}},
    {"subgroup", {.no_texel = true}},
    {"team", {.no_texel = true, .no_subgroups = true}},
};

const char *graft_arch_device_name(int device)
{
    return devices[device].name;
}

void graft_arch_path(char path[512], const char *name)
{
    snprintf(path, 512, "%s/golden/arch/%s", GRAFT_TEST_SOURCE_DIR, name);
}

bool graft_arch_open(struct graft_arch_world *world, const char *name, int device, uint64_t pool_bytes)
{
    char path[512], file[64];
    struct graft_device_params device_params = devices[device].params;
    device_params.size = sizeof device_params;
    struct graft_model_params params = {
        .size = sizeof params, .n_ctx = 32, .n_batch = 22, .n_seq = 2, .exact = true, .adapter_pool_bytes = pool_bytes};
    world->ctx = graft_test_ctx(NULL, 0);
    if (graft_device_open(world->ctx, &world->device, &device_params) != GRAFT_OK) {
        printf("skipped: %s\n", graft_last_error());
        graft_ctx_destroy(&world->ctx);
        return false;
    }
    snprintf(file, sizeof file, "%s.gguf", name);
    graft_arch_path(path, file);
    ck_assert_ok(graft_model_open(world->device, &world->model, path, &params));
    return true;
}

void graft_arch_close(struct graft_arch_world *world)
{
    graft_model_close(&world->model);
    graft_device_close(&world->device);
    graft_ctx_destroy(&world->ctx);
}

void graft_arch_read(const char *name, const char *what, void *out, size_t bytes)
{
    char path[512], file[64];
    struct graft_map map;
    snprintf(file, sizeof file, "%s.%s", name, what);
    graft_arch_path(path, file);
    ck_assert_ok(graft_map_open(&map, path));
    ck_assert_uint_eq(map.size, bytes);
    memcpy(out, map.data, bytes);
    graft_map_close(&map);
}

void graft_arch_compute(struct graft_model *model, struct graft_seq *seq, struct graft_seq *other, uint32_t batch,
                        float (*got)[VOCAB])
{
    struct graft_row rows[TOKENS + 2];
    const float *logits;
    for (uint32_t first = 0; first < TOKENS; first += batch) {
        uint32_t n = 0, count = TOKENS - first < batch ? TOKENS - first : batch;
        if (other) {
            rows[n++] = (struct graft_row){.seq = other, .token = (int32_t)(7 * first + 3) % VOCAB};
        }
        for (uint32_t i = 0; i < count; i++) {
            rows[n++] = (struct graft_row){.seq = seq, .token = ids[first + i], .want = true};
        }
        if (other) {
            rows[n++] = (struct graft_row){.seq = other, .token = (int32_t)(5 * first + 11) % VOCAB};
        }
        ck_assert_ok(graft_decode(model, rows, n, GRAFT_WANT_LOGITS));
        for (uint32_t i = 0; i < count; i++) {
            ck_assert_ok(graft_model_logits(model, (other ? 1 : 0) + i, &logits));
            memcpy(got[first + i], logits, sizeof got[0]);
        }
    }
}

int32_t graft_arch_best(const float *logits)
{
    int32_t best = 0;
    for (int32_t i = 1; i < VOCAB; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

int32_t graft_arch_next(struct graft_model *model, struct graft_seq *seq, int32_t token)
{
    struct graft_row row = {.seq = seq, .token = token, .want = true};
    const float *logits;
    ck_assert_ok(graft_decode(model, &row, 1, GRAFT_WANT_LOGITS));
    ck_assert_ok(graft_model_logits(model, 0, &logits));
    return graft_arch_best(logits);
}

static double log_sum(const float *logits)
{
    double most = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < VOCAB; i++) {
        most = fmax(most, (double)logits[i]);
    }
    for (uint32_t i = 0; i < VOCAB; i++) {
        sum += exp((double)logits[i] - most);
    }
    return most + log(sum);
}

double graft_arch_compare(const float *want, float (*got)[VOCAB], uint32_t n, double *worst)
{
    double most = 0;
    *worst = 0;
    for (uint32_t r = 0; r < n; r++) {
        double p_sum = log_sum(want + (size_t)r * VOCAB), q_sum = log_sum(got[r]), divergence = 0;
        for (uint32_t i = 0; i < VOCAB; i++) {
            double p = (double)want[(size_t)r * VOCAB + i] - p_sum, q = (double)got[r][i] - q_sum;
            divergence += exp(p) * (p - q);
            *worst = isnan(q) ? INFINITY : fmax(*worst, fabs(p - q));
        }
        most = fmax(most, divergence);
    }
    return most;
}
