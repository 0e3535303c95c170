// SPDX-License-Identifier: Apache-2.0
// The kernel `top` against runtime/ref/top.c: the best 64 logits of every row are among the candidates, bit for bit.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/ref/ref.h"
#include "support/matrices.h"

enum data { ORDINARY, TIES, ALL_EQUAL, INFINITE, NAN_POSITIVE, NAN_NEGATIVE, RISING, KINDS_OF_DATA };

static void fill(float *logits, uint32_t n, enum data data, uint64_t seed)
{
    struct graft_test_random random = {.state = seed * 2 + 1};
    const uint32_t nan_bits = data == NAN_POSITIVE ? 0x7fc00000 : 0xffc00000; // x86 makes the negative one
    for (uint32_t i = 0; i < n; i++) {
        float x = graft_test_random_f32(&random, -20, 10);
        switch (data) {
        case TIES:
            x = floorf(x);
            break;
        case ALL_EQUAL:
            x = -3.5f;
            break;
        case INFINITE:
            x = i % 5 == 0 ? -INFINITY : i % 31 == 0 ? INFINITY : x;
            break;
        case NAN_POSITIVE:
        case NAN_NEGATIVE:
            if (i == n / 2) {
                memcpy(&x, &nan_bits, sizeof x);
            }
            break;
        case RISING: // the best are all in the last chunk
            x = (float)i;
            break;
        case ORDINARY:
        case KINDS_OF_DATA:
            break;
        }
        logits[i] = x;
    }
}

static void check_row(const struct graft_test_gpu *gpu, const float *logits, uint32_t n, const uint32_t *top, uint32_t entries,
                      enum data data)
{
    static uint8_t seen[65536];
    int32_t best[GRAFT_TOP_K];
    float values[GRAFT_TOP_K];
    uint32_t found = 0, k = n < GRAFT_TOP_K ? n : GRAFT_TOP_K;
    ck_assert_uint_le(n, sizeof seen);
    memset(seen, 0, n);
    for (uint32_t i = 0; i < entries; i++) {
        uint32_t id = top[2 * i];
        if (id == UINT32_MAX) {
            continue;
        }
        ck_assert_msg(id < n && !seen[id], "%s: candidate %u of %u is there twice or outside the row", gpu->mask, id, n);
        seen[id] = 1;
        found++;
        float value;
        memcpy(&value, &top[2 * i + 1], sizeof value);
        ck_assert_msg(isnan(logits[id]) ? isnan(value) : memcmp(&value, &logits[id], 4) == 0, "%s: logit of %u changed",
                      gpu->mask, id);
    }
    ck_assert_uint_ge(found, k);
    graft_ref_top(logits, n, k, best, values);
    for (uint32_t i = 0; i < k; i++) {
        ck_assert_msg(seen[best[i]], "%s, %u logits, data %d: %d (%g) is among the best %u, not among the candidates",
                      gpu->mask, n, (int)data, best[i], (double)values[i], k);
    }
}

static void one_case(struct graft_test_gpu *gpu, uint32_t n, uint32_t rows, enum data data)
{
    struct graft_kernel kernel;
    ck_assert_ok(graft_kernel_top(&kernel, gpu->caps, n, rows));
    uint32_t entries = kernel.groups[0] * GRAFT_TOP_K;
    struct graft_test_buffer logits = graft_test_buffer(gpu, (uint64_t)n * rows),
                             top = graft_test_buffer(gpu, (uint64_t)entries * 2 * rows);
    for (uint32_t r = 0; r < rows; r++) {
        fill(logits.f + (uint64_t)r * n, n, data, n + r);
    }
    graft_test_dispatch(gpu, &kernel, (const struct graft_test_buffer *const[]){&logits, &top}, 2);
    for (uint32_t i = 0; i < entries * rows; i++) {
        ck_assert_msg(!graft_test_poisoned(&top, 2 * i), "%s: entry %u was not written", gpu->mask, i);
    }
    for (uint32_t r = 0; r < rows; r++) {
        check_row(gpu, logits.f + (uint64_t)r * n, n, top.u + (uint64_t)r * entries * 2, entries, data);
    }
    graft_test_buffer_free(&logits);
    graft_test_buffer_free(&top);
}

START_TEST(the_best_of_every_row_are_candidates)
{
    static const uint32_t sizes[] = {1, 63, 64, 65, 290, 511, 513, 5000, 49152};
    struct graft_test_gpu gpu;
    if (!graft_test_gpu_open(&gpu, (enum graft_test_mask)_i)) {
        return;
    }
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (enum data data = ORDINARY; data < KINDS_OF_DATA; data++) {
            one_case(&gpu, sizes[i], data == ORDINARY ? 3 : 1, data);
        }
    }
    graft_test_gpu_close(&gpu);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernel top");
    TCase *tc = tcase_create("top");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, the_best_of_every_row_are_candidates, 0, GRAFT_TEST_KERNEL_MASKS);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
