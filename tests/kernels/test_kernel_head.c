// SPDX-License-Identifier: Apache-2.0
// The kernel `head` against sums in double: LOGITS[o] = W XN[out[o]] / rms, for rows in any order.
#include <math.h>
#include <string.h>

#include "support/matrices.h"

enum { PARTS = 2, WEIGHTS_AT = 32, STATE_OUT = 9 };

struct world {
    struct graft_test_gpu *gpu;
    struct graft_test_matrix w;
    uint32_t n_out, n_batch; // wanted rows; rows of XN
    float cap;               // 0: none
    struct graft_test_buffer weights, xn, ss, state, logits;
};

// The batch row that answer o is for: neither in order nor dense.
static uint32_t wanted(uint32_t o, uint32_t n_batch)
{
    return (o * 5 + 2) % n_batch;
}

static void make_buffers(struct world *world, struct graft_test_gpu *gpu, uint32_t n_out, uint32_t n_batch)
{
    uint32_t padded = graft_test_padded(n_out), n_in = world->w.n_in;
    world->gpu = gpu;
    world->n_out = n_out;
    world->n_batch = n_batch;
    world->weights = graft_test_buffer(gpu, (world->w.bytes + WEIGHTS_AT) / 4 + 4);
    world->xn = graft_test_buffer(gpu, (uint64_t)n_batch * n_in);
    world->ss = graft_test_buffer(gpu, (uint64_t)n_batch * PARTS);
    world->state = graft_test_buffer(gpu, STATE_OUT + padded);
    world->logits = graft_test_buffer(gpu, (uint64_t)padded * world->w.n_out);
    graft_test_matrix_put(&world->w, &world->weights, WEIGHTS_AT);
    graft_test_fill(world->xn.f, (uint64_t)n_batch * n_in, -2.0f, 2.5f, 5);
    graft_test_fill(world->ss.f, (uint64_t)n_batch * PARTS, 0.2f * (float)n_in, 0.9f * (float)n_in, 6);
    for (uint32_t o = 0; o < padded; o++) { // behind the list: zeros, as graft_state_fill leaves them
        world->state.u[STATE_OUT + o] = o < n_out ? wanted(o, n_batch) : 0;
    }
}

static void free_buffers(struct world *world)
{
    struct graft_test_buffer *all[] = {&world->weights, &world->xn, &world->ss, &world->state, &world->logits};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        graft_test_buffer_free(all[i]);
    }
}

// Rows [first, first + count) of the matrix, as one window of it.
static void run_window(struct world *world, uint32_t first, uint32_t count)
{
    struct graft_variant variant =
        graft_test_variant(world->gpu, world->w.type, world->n_out, world->n_out == 1 ? UINT32_MAX : 0);
    struct graft_kernel kernel;
    ck_assert_ok(
        graft_kernel_matmul(&kernel, GRAFT_MATMUL_HEAD, world->gpu->caps, &variant, world->w.type, 1, &count, world->n_out));
    struct graft_matmul_push *push = &kernel.push.matmul;
    push->subs = world->w.n_in / 32;
    push->row_bytes = (uint32_t)world->w.row_bytes;
    push->base[0] = WEIGHTS_AT + first * (uint32_t)world->w.row_bytes;
    push->first[0] = first;
    push->out_stride = world->w.n_out;
    push->parts_in = PARTS;
    push->inv_n = 1.0f / (float)world->w.n_in;
    push->eps = 1e-5f;
    push->state_out = STATE_OUT;
    memcpy(&kernel.pipeline.constants[GRAFT_MATMUL_CONSTANT], &world->cap, sizeof world->cap);
    const struct graft_test_buffer *buffers[] = {&world->weights, &world->xn, &world->ss, &world->state, &world->logits};
    graft_test_dispatch(world->gpu, &kernel, buffers, 5);
}

static void run(struct world *world)
{
    graft_test_buffer_poison(&world->logits);
    run_window(world, 0, world->w.n_out);
}

static void check(struct world *world)
{
    uint32_t n_in = world->w.n_in, n_vocab = world->w.n_out;
    for (uint32_t o = 0; o < world->n_out; o++) {
        uint32_t row = wanted(o, world->n_batch);
        double sum = 0;
        for (uint32_t p = 0; p < PARTS; p++) {
            sum += (double)world->ss.f[row * PARTS + p];
        }
        double inverse = 1 / sqrt(sum / n_in + 1e-5);
        for (uint32_t v = 0; v < n_vocab; v++) {
            const float *xn = world->xn.f + (uint64_t)row * n_in;
            double bound, want = graft_test_product_as(&world->w, v, xn, world->gpu, &bound) * inverse;
            bound = bound * inverse + fabs(want) * 0x1p-20;
            if (world->cap > 0) { // no steeper than 1
                want = (double)world->cap * tanh(want / (double)world->cap);
                bound += (double)world->cap * 0x1p-20;
            }
            graft_test_close(world->logits.f[(uint64_t)o * n_vocab + v], want, bound,
                             world->gpu, "logit", (uint64_t)o * n_vocab + v);
        }
    }
}

// An answer alone must have the bits it has among others.
static void check_single_answers(struct world *batch)
{
    uint32_t n_vocab = batch->w.n_out;
    struct world one = {.w = batch->w, .cap = batch->cap};
    make_buffers(&one, batch->gpu, 1, batch->n_batch);
    for (uint32_t o = 0; o < batch->n_out; o++) {
        one.state.u[STATE_OUT] = wanted(o, batch->n_batch);
        run(&one);
        ck_assert_msg(memcmp(one.logits.f, batch->logits.f + (uint64_t)o * n_vocab, n_vocab * 4) == 0,
                      "%s, type %u: answer %u of %u differs from the answer alone", batch->gpu->mask, batch->w.type, o,
                      batch->n_out);
    }
    free_buffers(&one);
}

static void one_case(struct graft_test_gpu *gpu, uint32_t type, uint32_t n_in, uint32_t rows, enum graft_test_data data)
{
    static const uint32_t sizes[] = {1, 31, 33, 290};
    struct world world;
    memset(&world, 0, sizeof world);
    world.cap = type % 2 ? 30.0f : 0.0f;
    ck_assert(graft_test_matrix(&world.w, type, n_in, rows > 8 ? 33 : sizes[(n_in + rows) % 4], data, n_in + rows));
    make_buffers(&world, gpu, rows, rows + 3);
    run(&world);
    check(&world);
    if (!gpu->matrix_cores) { // those round differently
        check_single_answers(&world);
    }
    if (world.w.n_out > 32) { // the same through two windows of rows
        graft_test_buffer_poison(&world.logits);
        run_window(&world, 0, 32);
        run_window(&world, 32, world.w.n_out - 32);
        check(&world);
    }
    free_buffers(&world);
    graft_test_matrix_free(&world.w);
}

START_TEST(logits_are_the_sums_of_the_wanted_rows_and_keep_their_bits_in_any_batch)
{
    struct graft_test_gpu gpu;
    if (graft_test_gpu_open(&gpu, (enum graft_test_mask)_i)) {
        graft_test_each_matrix(&gpu, one_case);
        graft_test_gpu_close(&gpu);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernel head");
    TCase *tc = tcase_create("head");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, logits_are_the_sums_of_the_wanted_rows_and_keep_their_bits_in_any_batch, 0,
                        GRAFT_TEST_MATRIX_MASKS);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
