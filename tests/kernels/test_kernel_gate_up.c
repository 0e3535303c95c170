// SPDX-License-Identifier: Apache-2.0
// The kernel `gate_up` against sums in double: H = f(g) u, f = silu or GELU, g = Wg XN / rms, u = Wu XN / rms.
#include <math.h>
#include <string.h>

#include "support/matrices.h"

enum { PARTS = 3, GATE_AT = 16, UP_AT = 64 }; // byte offsets in the bindings

struct world {
    struct graft_test_gpu *gpu;
    struct graft_test_matrix gate, up;
    uint32_t rows;
    bool gelu;
    struct graft_test_buffer gates, ups, xn, ss, h;
};

static void make_buffers(struct world *world, struct graft_test_gpu *gpu, uint32_t rows)
{
    uint32_t padded = graft_test_padded(rows), n_in = world->gate.n_in;
    world->gpu = gpu;
    world->rows = rows;
    world->gates = graft_test_buffer(gpu, (world->gate.bytes + GATE_AT) / 4 + 4);
    world->ups = graft_test_buffer(gpu, (world->up.bytes + UP_AT) / 4 + 4);
    world->xn = graft_test_buffer(gpu, (uint64_t)padded * n_in);
    world->ss = graft_test_buffer(gpu, (uint64_t)padded * PARTS);
    world->h = graft_test_buffer(gpu, (uint64_t)padded * world->gate.n_out);
    graft_test_matrix_put(&world->gate, &world->gates, GATE_AT);
    graft_test_matrix_put(&world->up, &world->ups, UP_AT);
    graft_test_fill(world->xn.f, (uint64_t)rows * n_in, -2.0f, 2.5f, 5);
    graft_test_fill(world->ss.f, (uint64_t)rows * PARTS, 0.1f * (float)n_in, 0.6f * (float)n_in, 6);
}

static void free_buffers(struct world *world)
{
    struct graft_test_buffer *all[] = {&world->gates, &world->ups, &world->xn, &world->ss, &world->h};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        graft_test_buffer_free(all[i]);
    }
}

static void run(struct world *world)
{
    struct graft_variant variant =
        graft_test_variant(world->gpu, world->gate.type, world->rows, world->rows == 1 ? UINT32_MAX : 0);
    struct graft_kernel kernel;
    graft_test_buffer_poison(&world->h);
    ck_assert_ok(graft_kernel_matmul(&kernel, GRAFT_MATMUL_GATE_UP, world->gpu->caps, &variant, world->gate.type, 1,
                                     &world->gate.n_out, world->rows));
    struct graft_matmul_push *push = &kernel.push.matmul;
    push->subs = world->gate.n_in / 32;
    push->row_bytes = (uint32_t)world->gate.row_bytes;
    push->base[0] = GATE_AT;
    push->base[1] = UP_AT;
    push->out_stride = world->gate.n_out;
    push->parts_in = PARTS;
    push->inv_n = 1.0f / (float)world->gate.n_in;
    push->eps = 1e-5f;
    kernel.pipeline.constants[GRAFT_MATMUL_CONSTANT] = world->gelu;
    const struct graft_test_buffer *buffers[] = {&world->gates, &world->xn, &world->ss, &world->h, &world->ups};
    graft_test_dispatch(world->gpu, &kernel, buffers, 5);
}

static void check(struct world *world)
{
    uint32_t n_in = world->gate.n_in, n_out = world->gate.n_out;
    for (uint32_t r = 0; r < world->rows; r++) {
        const float *xn = world->xn.f + (uint64_t)r * n_in;
        double sum = 0;
        for (uint32_t p = 0; p < PARTS; p++) {
            sum += (double)world->ss.f[r * PARTS + p];
        }
        double inverse = 1 / sqrt(sum / n_in + 1e-5);
        for (uint32_t o = 0; o < n_out; o++) {
            double g_bound, u_bound;
            double g = graft_test_product_as(&world->gate, o, xn, world->gpu, &g_bound) * inverse;
            double u = graft_test_product_as(&world->up, o, xn, world->gpu, &u_bound) * inverse;
            g_bound = g_bound * inverse + fabs(g) * 0x1p-20; // the inverse root: a few units in the last place
            u_bound = u_bound * inverse + fabs(u) * 0x1p-20;
            double z = world->gelu ? 1.5957691216057308 * (g + 0.044715 * g * g * g) : g; // 2 sqrt(2 / pi)
            double silu = g / (1 + exp(-z)), want = silu * u;
            // Slopes are below 1.2; Vulkan's exp is good to 3 + 2 |x| units in the last place, and overflows beyond 88
            // where the value is below 1e-35.
            double exp_error = (3 + 2 * (fabs(z) < 100 ? fabs(z) : 0)) * 0x1p-23;
            double bound = 1.2 * g_bound * (fabs(u) + u_bound) + fabs(silu) * u_bound + fabs(want) * (exp_error + 0x1p-21) +
                           fabs(u) * 1e-35 + 1e-37;
            graft_test_close(world->h.f[(uint64_t)r * n_out + o], want, bound, world->gpu, "H", (uint64_t)r * n_out + o);
        }
    }
}

// Row i of the batch alone must give the bits it has in the batch.
static void check_single_rows(struct world *batch)
{
    uint32_t n_in = batch->gate.n_in, n_out = batch->gate.n_out;
    struct world one = {.gate = batch->gate, .up = batch->up, .gelu = batch->gelu};
    make_buffers(&one, batch->gpu, 1);
    for (uint32_t r = 0; r < batch->rows; r++) {
        memcpy(one.xn.f, batch->xn.f + (uint64_t)r * n_in, n_in * 4);
        memcpy(one.ss.f, batch->ss.f + r * PARTS, PARTS * 4);
        run(&one);
        ck_assert_msg(memcmp(one.h.f, batch->h.f + (uint64_t)r * n_out, n_out * 4) == 0,
                      "%s, type %u: row %u of %u differs from the row alone", batch->gpu->mask, batch->gate.type, r,
                      batch->rows);
    }
    free_buffers(&one);
}

static void one_case(struct graft_test_gpu *gpu, uint32_t type, uint32_t n_in, uint32_t rows, enum graft_test_data data)
{
    static const uint32_t outputs[] = {1, 7, 33, 90}; // fewer than a tile, many tiles, never a multiple of one
    struct world world;
    memset(&world, 0, sizeof world);
    uint32_t n_out = outputs[(n_in + rows) % 4];
    world.gelu = type % 2;
    ck_assert(graft_test_matrix(&world.gate, type, n_in, n_out, data, n_in + rows));
    ck_assert(graft_test_matrix(&world.up, type, n_in, n_out, data, n_in + rows + 1000));
    make_buffers(&world, gpu, rows);
    run(&world);
    check(&world);
    if (!gpu->matrix_cores) { // those round differently
        check_single_rows(&world);
    }
    free_buffers(&world);
    graft_test_matrix_free(&world.gate);
    graft_test_matrix_free(&world.up);
}

START_TEST(values_are_the_gated_sums_and_rows_keep_their_bits_in_any_batch)
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
    Suite *suite = suite_create("kernel gate_up");
    TCase *tc = tcase_create("gate_up");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, values_are_the_gated_sums_and_rows_keep_their_bits_in_any_batch, 0, GRAFT_TEST_MATRIX_MASKS);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
