// SPDX-License-Identifier: Apache-2.0
// The kernel `router`: logits against sums in double; the choice against runtime/ref/router.c on the kernel's own logits, so
// that it must agree to the last tie.
#include <math.h>
#include <string.h>

#include "runtime/ref/ref.h"
#include "support/matrices.h"

enum { PARTS = 3, N_IN = 96, BASE = 32 };

struct world {
    struct graft_test_gpu *gpu;
    struct graft_test_matrix w;
    uint32_t rows, n_used;
    bool normalize;
    struct graft_test_buffer weights, xn, ss, scores, counter, route;
};

static void make_world(struct world *world, struct graft_test_gpu *gpu)
{
    uint32_t padded = graft_test_padded(world->rows), n_expert = world->w.n_out;
    world->gpu = gpu;
    world->weights = graft_test_buffer(gpu, (world->w.bytes + BASE) / 4 + 4);
    world->xn = graft_test_buffer(gpu, (uint64_t)padded * N_IN);
    world->ss = graft_test_buffer(gpu, (uint64_t)padded * PARTS);
    world->scores = graft_test_buffer(gpu, (uint64_t)padded * (n_expert + world->n_used));
    world->counter = graft_test_buffer(gpu, padded);
    world->route = graft_test_buffer(gpu, (uint64_t)padded * world->n_used * 2);
    graft_test_matrix_put(&world->w, &world->weights, BASE);
    graft_test_fill(world->xn.f, (uint64_t)world->rows * N_IN, -2.0f, 2.5f, 5);
    graft_test_fill(world->ss.f, (uint64_t)world->rows * PARTS, 0.1f * N_IN, 0.6f * N_IN, 6);
    memset(world->counter.u, 0, padded * 4);
}

static void free_world(struct world *world)
{
    struct graft_test_buffer *all[] = {&world->weights, &world->xn, &world->ss, &world->scores, &world->counter, &world->route};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        graft_test_buffer_free(all[i]);
    }
}

static void run(struct world *world)
{
    struct graft_experts_shape shape = {world->w.n_out, world->n_used, N_IN, 32};
    struct graft_kernel kernel;
    graft_test_buffer_poison(&world->scores);
    graft_test_buffer_poison(&world->route);
    ck_assert_ok(graft_kernel_experts(&kernel, GRAFT_EXPERTS_ROUTER, world->gpu->caps, &shape, world->w.type,
                                      world->gpu->activations, world->rows, GRAFT_LORA_NONE));
    struct graft_experts_push *push = &kernel.push.experts;
    push->row_bytes = (uint32_t)world->w.row_bytes;
    push->base[0] = BASE;
    push->normalize = world->normalize;
    push->parts_in = PARTS;
    push->inv_n = 1.0f / N_IN;
    push->eps = 1e-5f;
    const struct graft_test_buffer *buffers[] = {&world->weights, &world->xn,      &world->ss,
                                                 &world->scores,  &world->counter, &world->route};
    graft_test_dispatch(world->gpu, &kernel, buffers, 6);
}

static void check(struct world *world)
{
    uint32_t n_expert = world->w.n_out, stride = n_expert + world->n_used;
    struct graft_ref_route want[GRAFT_MAX_EXPERTS_USED];
    for (uint32_t r = 0; r < world->rows; r++) {
        const float *scores = world->scores.f + (uint64_t)r * stride, *xn = world->xn.f + (uint64_t)r * N_IN;
        double sum = 0;
        for (uint32_t p = 0; p < PARTS; p++) {
            sum += (double)world->ss.f[r * PARTS + p];
        }
        double inverse = 1 / sqrt(sum / N_IN + 1e-5);
        for (uint32_t e = 0; e < n_expert && isfinite(xn[0]); e++) {
            double bound, score = graft_test_product(&world->w, e, xn, &bound) * inverse;
            graft_test_close(scores[e], score, bound * inverse + fabs(score) * 0x1p-20, world->gpu, "logit", e);
        }
        graft_ref_choose_experts(scores, n_expert, world->n_used, world->normalize, want);
        for (uint32_t k = 0; k < world->n_used; k++) {
            const uint32_t *got = world->route.u + ((uint64_t)r * world->n_used + k) * 2;
            float weight;
            memcpy(&weight, &got[1], 4);
            ck_assert_msg(got[0] == want[k].expert, "%s, row %u, place %u of %u: expert %u, expected %u", world->gpu->mask, r,
                          k, world->n_used, got[0], want[k].expert);
            if (isfinite(xn[0])) { // Vulkan's exp is good to 3 + 2 |x| units in the last place
                graft_test_close(weight, (double)want[k].weight, (double)want[k].weight * 0x1p-16 + 1e-30, world->gpu, "weight",
                                 k);
            } else {
                ck_assert(isnan(weight));
            }
        }
    }
    for (uint32_t r = 0; r < world->rows; r++) {
        ck_assert_uint_eq(world->counter.u[r], 0); // for the next layer
    }
}

static void check_single_rows(struct world *batch)
{
    struct world one = {.w = batch->w, .rows = 1, .n_used = batch->n_used, .normalize = batch->normalize};
    make_world(&one, batch->gpu);
    for (uint32_t r = 0; r < batch->rows; r++) {
        memcpy(one.xn.f, batch->xn.f + (uint64_t)r * N_IN, N_IN * 4);
        memcpy(one.ss.f, batch->ss.f + r * PARTS, PARTS * 4);
        run(&one);
        ck_assert_msg(memcmp(one.route.u, batch->route.u + (uint64_t)r * batch->n_used * 2, batch->n_used * 8) == 0,
                      "%s: row %u of %u differs from the row alone", batch->gpu->mask, r, batch->rows);
    }
    free_world(&one);
}

static void one_case(struct graft_test_gpu *gpu, uint32_t type, uint32_t n_expert, uint32_t n_used, uint32_t rows,
                     bool normalize)
{
    struct world world = {.rows = rows, .n_used = n_used, .normalize = normalize};
    ck_assert(graft_test_matrix(&world.w, type, N_IN, n_expert, GRAFT_TEST_ORDINARY, n_expert + n_used));
    // Every third expert is as the one before it: ties, which the smaller number wins.
    for (uint32_t e = 2; e < n_expert; e += 3) {
        memcpy(world.w.data + e * world.w.row_bytes, world.w.data + (e - 1) * world.w.row_bytes, world.w.row_bytes);
        memcpy(world.w.values + (uint64_t)e * N_IN, world.w.values + (uint64_t)(e - 1) * N_IN, N_IN * sizeof(double));
        memcpy(world.w.spans + (uint64_t)e * N_IN, world.w.spans + (uint64_t)(e - 1) * N_IN, N_IN * sizeof(double));
    }
    make_world(&world, gpu);
    if (rows > 2) {
        world.xn.f[2 * N_IN] = NAN;
    }
    run(&world);
    check(&world);
    check_single_rows(&world);
    free_world(&world);
    graft_test_matrix_free(&world.w);
}

START_TEST(the_chosen_are_those_of_the_reference)
{
    static const struct {
        uint32_t type, n_expert, n_used;
    } shapes[] = {{GRAFT_TYPE_F32, 128, 8},
                  {GRAFT_TYPE_F32, 512, 32},
                  {GRAFT_TYPE_F32, 1, 1},
                  {GRAFT_TYPE_Q4_0, 33, 33 - 1},
                  {GRAFT_TYPE_BF16, 7, 2}};
    struct graft_test_gpu gpu;
    if (graft_test_gpu_open(&gpu, (enum graft_test_mask)_i)) {
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            one_case(&gpu, shapes[i].type, shapes[i].n_expert, shapes[i].n_used, 1, true);
            one_case(&gpu, shapes[i].type, shapes[i].n_expert, shapes[i].n_used, 5, i % 2 == 0);
        }
        graft_test_gpu_close(&gpu);
    }
}
END_TEST

START_TEST(equal_logits_go_to_the_smaller_numbers)
{
    const float scores[] = {1, 3, 2, 3, -0.0f, 3, 0.0f};
    struct graft_ref_route route[7];
    graft_ref_choose_experts(scores, 7, 7, true, route);
    const uint32_t want[] = {1, 3, 5, 2, 0, 4, 6};
    double sum = 0;
    for (int i = 0; i < 7; i++) {
        ck_assert_uint_eq(route[i].expert, want[i]);
        sum += (double)route[i].weight;
    }
    ck_assert(fabs(sum - 1) < 1e-6);
    graft_ref_choose_experts(scores, 7, 2, false, route);
    double all = 3 * exp(3) + exp(2) + exp(1) + 2;
    ck_assert(fabs((double)route[1].weight - exp(3) / all) < 1e-6);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernel router");
    TCase *tc = tcase_create("router");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, equal_logits_go_to_the_smaller_numbers);
    tcase_add_loop_test(tc, the_chosen_are_those_of_the_reference, 0, GRAFT_TEST_KERNEL_MASKS);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
