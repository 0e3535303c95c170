// SPDX-License-Identifier: Apache-2.0
// The kernel `residual` against sums in double: X += W in, XN = X gain, SS = parts of the sum of X^2; and where
// what is added is normed first: X += y gain / rms(y), y = W in.
#include <math.h>
#include <string.h>

#include "support/matrices.h"

// The device's buffers for one matrix and up to `rows` batch rows, and the host's copies of what they start from.
struct world {
    struct graft_test_gpu *gpu;
    struct graft_test_matrix w;
    uint32_t rows, parts, padded;
    bool post; // what is added is normed; SS has one part then
    struct graft_test_buffer weights, in, x, gain, xn, ss, raw, counter;
    struct graft_test_buffer old; // X before
};

static void make_world(struct world *world, struct graft_test_gpu *gpu, uint32_t rows, float low, float high)
{
    world->gpu = gpu;
    world->rows = rows;
    world->padded = graft_test_padded(rows);
    struct graft_variant variant = graft_test_variant(gpu, world->w.type, rows, 0);
    uint32_t n_in = world->w.n_in, n_out = world->w.n_out;
    world->parts = n_out / variant.part_rows + (n_out % variant.part_rows != 0);
    world->weights = graft_test_buffer(gpu, world->w.bytes / 4 + 12);
    world->in = graft_test_buffer(gpu, (uint64_t)world->padded * n_in);
    world->x = graft_test_buffer(gpu, (uint64_t)world->padded * n_out);
    world->old = graft_test_buffer(gpu, (uint64_t)world->padded * n_out);
    world->xn = graft_test_buffer(gpu, (uint64_t)world->padded * n_out);
    world->gain = graft_test_buffer(gpu, 2 * n_out); // of the next norm, of what is added
    world->raw = graft_test_buffer(gpu, (uint64_t)world->padded * n_out);
    world->counter = graft_test_buffer(gpu, world->padded);
    memset(world->counter.u, 0, world->counter.words * 4);
    world->ss = graft_test_buffer(gpu, (uint64_t)world->padded * world->parts);
    graft_test_matrix_put(&world->w, &world->weights, 32);
    graft_test_fill(world->in.f, (uint64_t)rows * n_in, low, high, 5);
    graft_test_fill(world->old.f, (uint64_t)rows * n_out, low, high, 6);
    graft_test_fill(world->gain.f, 2 * n_out, 0.5f, 2.0f, 7);
}

static void free_world(struct world *world)
{
    struct graft_test_buffer *all[] = {&world->weights, &world->in,   &world->x, &world->old,
                                       &world->xn,      &world->gain, &world->ss, &world->raw, &world->counter};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        graft_test_buffer_free(all[i]);
    }
}

static void run(struct world *world)
{
    struct graft_variant variant = graft_test_variant(world->gpu, world->w.type, world->rows, 0);
    struct graft_kernel kernel;
    graft_test_buffer_poison(&world->x);
    graft_test_buffer_poison(&world->xn);
    graft_test_buffer_poison(&world->ss);
    memcpy(world->x.f, world->old.f, (uint64_t)world->rows * world->w.n_out * 4);
    ck_assert_ok(graft_kernel_matmul(&kernel, GRAFT_MATMUL_RESIDUAL, world->gpu->caps, &variant, world->w.type, 1,
                                     &world->w.n_out, world->rows));
    ck_assert(variant.kind == GRAFT_VARIANT_MATRIX || kernel.groups[0] == world->parts);
    struct graft_matmul_push *push = &kernel.push.matmul;
    push->subs = world->w.n_in / 32;
    push->row_bytes = (uint32_t)world->w.row_bytes;
    push->base[0] = 32;
    push->out_stride = world->w.n_out;
    push->parts_out = world->parts;
    push->norm = world->w.n_out;
    push->inv_n = 1.0f / (float)world->w.n_out;
    push->eps = 1e-5f;
    kernel.pipeline.constants[GRAFT_MATMUL_CONSTANT] = world->post;
    const struct graft_test_buffer *buffers[] = {&world->weights, &world->in, &world->x,   &world->gain,
                                                 &world->xn,      &world->ss, &world->raw, &world->counter};
    graft_test_dispatch(world->gpu, &kernel, buffers, 8);
}

static void check(struct world *world)
{
    uint32_t n_in = world->w.n_in, n_out = world->w.n_out;
    for (uint32_t r = 0; r < world->rows; r++) {
        double squares = 0, found = 0, ys = 0, off = 0;
        const float *in = world->in.f + (uint64_t)r * n_in;
        for (uint32_t o = 0; o < n_out && world->post; o++) {
            double bound, y = graft_test_product_as(&world->w, o, in, world->gpu, &bound);
            ys += y * y;
            off += 2 * fabs(y) * bound;
        }
        double mean = ys / n_out + 1e-5, inverse = 1 / sqrt(mean);
        for (uint32_t o = 0; o < n_out; o++) {
            uint64_t at = (uint64_t)r * n_out + o;
            double bound, y = graft_test_product_as(&world->w, o, in, world->gpu, &bound);
            if (world->post) {
                double factor = inverse * (double)world->gain.f[n_out + o];
                bound = factor * (bound + fabs(y) * (off / n_out / mean + 0x1p-20));
                y *= factor;
            }
            double want = y + (double)world->old.f[at];
            graft_test_close(world->x.f[at], want, bound + (fabs(want) + fabs(y)) * 0x1p-23, world->gpu, "X", at);
            ck_assert_msg(world->xn.f[at] == world->x.f[at] * world->gain.f[o], "XN is not X times the gain at %u",
                          (unsigned)at);
            squares += (double)world->x.f[at] * (double)world->x.f[at];
        }
        for (uint32_t p = 0; p < (world->post ? 1 : world->parts); p++) {
            found += (double)world->ss.f[r * (world->post ? 1 : world->parts) + p];
        }
        // At most 4 squares in a chain per owner, then a workgroup's 4 to 64 owners; 100 roundings are more than enough.
        graft_test_close((float)found, squares, squares * (0x1p-24 * 100 + 0x1p-23) + 1e-37, world->gpu, "SS", r);
    }
}

// Row i of the batch alone must give the bits it has in the batch.
static void check_single_rows(struct world *batch)
{
    uint32_t n_in = batch->w.n_in, n_out = batch->w.n_out;
    struct world one = {.w = batch->w, .post = batch->post};
    uint32_t parts = batch->post ? 1 : batch->parts;
    make_world(&one, batch->gpu, 1, 0, 1);
    ck_assert_uint_eq(one.parts, batch->parts);
    for (uint32_t r = 0; r < batch->rows; r++) {
        memcpy(one.in.f, batch->in.f + (uint64_t)r * n_in, n_in * 4);
        memcpy(one.old.f, batch->old.f + (uint64_t)r * n_out, n_out * 4);
        run(&one);
        ck_assert_msg(memcmp(one.x.f, batch->x.f + (uint64_t)r * n_out, n_out * 4) == 0 &&
                          memcmp(one.xn.f, batch->xn.f + (uint64_t)r * n_out, n_out * 4) == 0 &&
                          memcmp(one.ss.f, batch->ss.f + r * parts, parts * 4) == 0,
                      "%s, type %u: row %u of %u differs from the row alone", batch->gpu->mask, batch->w.type, r, batch->rows);
    }
    free_world(&one);
}

static void one_case(struct graft_test_gpu *gpu, uint32_t type, uint32_t n_in, uint32_t rows, enum graft_test_data data)
{
    static const uint32_t outputs[] = {1, 7, 33, 90}; // fewer than a tile, many tiles, never a multiple of one
    struct world world;
    memset(&world, 0, sizeof world);
    world.post = type % 2;
    ck_assert(graft_test_matrix(&world.w, type, n_in, outputs[(n_in + rows) % 4], data, n_in + rows));
    make_world(&world, gpu, rows, -2.0f, 3.0f);
    run(&world);
    check(&world);
    if (!gpu->matrix_cores) { // those round differently
        check_single_rows(&world);
    }
    free_world(&world);
    graft_test_matrix_free(&world.w);
}

START_TEST(outputs_are_the_sums_and_rows_keep_their_bits_in_any_batch)
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
    Suite *suite = suite_create("kernel residual");
    TCase *tc = tcase_create("residual");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, outputs_are_the_sums_and_rows_keep_their_bits_in_any_batch, 0, GRAFT_TEST_MATRIX_MASKS);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
