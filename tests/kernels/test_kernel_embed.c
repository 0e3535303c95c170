// SPDX-License-Identifier: Apache-2.0
// The kernel `embed` against dequantized rows: X = E[token], XN = X gain, SS = parts of the sum of X^2.
#include <math.h>
#include <string.h>

#include "support/matrices.h"

enum { VOCAB = 45, WEIGHTS_AT = 32, STATE_ROWS = 4 };

struct world {
    struct graft_test_gpu *gpu;
    struct graft_test_matrix w;
    uint32_t rows, parts;
    struct graft_test_buffer weights, state, gain, x, xn, ss;
};

static uint32_t token(uint32_t row)
{
    return (row * 17 + VOCAB - 1) % VOCAB; // the last one first
}

// Tokens [first, first + count): one window of the table.
static void run_window(struct world *world, uint32_t first, uint32_t count)
{
    struct graft_kernel kernel;
    ck_assert_ok(graft_kernel_embed(&kernel, world->gpu->caps, world->w.type, world->w.n_in, world->rows, GRAFT_LORA_NONE));
    ck_assert_uint_eq(kernel.push.embed.parts_out, world->parts);
    struct graft_embed_push *push = &kernel.push.embed;
    push->row_bytes = (uint32_t)world->w.row_bytes;
    push->base = WEIGHTS_AT + first * (uint32_t)world->w.row_bytes;
    push->first = first;
    push->count = count;
    push->state_rows = STATE_ROWS;
    const struct graft_test_buffer *buffers[] = {&world->weights, &world->state, &world->gain,
                                                 &world->x,       &world->xn,    &world->ss};
    graft_test_dispatch(world->gpu, &kernel, buffers, 6);
}

// Rows whose token is in [first, first + count) are right; all others were not touched.
static void check(struct world *world, uint32_t first, uint32_t count)
{
    uint32_t n = world->w.n_in;
    for (uint32_t r = 0; r < world->rows; r++) {
        uint32_t id = token(r);
        bool inside = id >= first && id < first + count;
        double squares = 0, found = 0;
        for (uint32_t i = 0; i < n; i++) {
            uint64_t at = (uint64_t)r * n + i;
            if (!inside) {
                ck_assert(graft_test_poisoned(&world->x, at) && graft_test_poisoned(&world->xn, at));
                continue;
            }
            // scale * code + offset: two roundings of terms that may cancel.
            double bound = world->w.spans[(uint64_t)id * n + i] * 0x1p-22;
            graft_test_close(world->x.f[at], world->w.values[(uint64_t)id * n + i], bound, world->gpu, "X", at);
            ck_assert_msg(world->xn.f[at] == world->x.f[at] * world->gain.f[i], "XN is not X times the gain at %u",
                          (unsigned)at);
            squares += (double)world->x.f[at] * (double)world->x.f[at];
        }
        for (uint32_t p = 0; p < world->parts; p++) {
            found += inside ? (double)world->ss.f[r * world->parts + p] : 0;
            ck_assert(inside || graft_test_poisoned(&world->ss, r * world->parts + p));
        }
        graft_test_close((float)found, squares, squares * (0x1p-24 * 100 + 0x1p-23) + 1e-37, world->gpu, "SS", r);
    }
}

static void one_case(struct graft_test_gpu *gpu, uint32_t type, uint32_t n_in, uint32_t rows, enum graft_test_data data)
{
    struct world world;
    struct graft_kernel kernel;
    memset(&world, 0, sizeof world);
    world.gpu = gpu;
    world.rows = rows;
    ck_assert(graft_test_matrix(&world.w, type, n_in, VOCAB, data, n_in + rows));
    ck_assert_ok(graft_kernel_embed(&kernel, gpu->caps, type, n_in, rows, GRAFT_LORA_NONE));
    world.parts = kernel.groups[0];
    world.weights = graft_test_buffer(gpu, (world.w.bytes + WEIGHTS_AT) / 4 + 4);
    world.state = graft_test_buffer(gpu, STATE_ROWS + (uint64_t)rows * GRAFT_ROW_WORDS);
    world.gain = graft_test_buffer(gpu, n_in);
    world.x = graft_test_buffer(gpu, (uint64_t)rows * n_in);
    world.xn = graft_test_buffer(gpu, (uint64_t)rows * n_in);
    world.ss = graft_test_buffer(gpu, (uint64_t)rows * world.parts);
    graft_test_matrix_put(&world.w, &world.weights, WEIGHTS_AT);
    graft_test_fill(world.gain.f, n_in, 0.5f, 2.0f, 7);
    for (uint32_t r = 0; r < rows; r++) {
        world.state.u[STATE_ROWS + r * GRAFT_ROW_WORDS + GRAFT_ROW_TOKEN] = token(r);
    }
    run_window(&world, 0, 20);
    check(&world, 0, 20);
    run_window(&world, 20, VOCAB - 20);
    check(&world, 0, VOCAB);
    struct graft_test_buffer *all[] = {&world.weights, &world.state, &world.gain, &world.x, &world.xn, &world.ss};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        graft_test_buffer_free(all[i]);
    }
    graft_test_matrix_free(&world.w);
}

START_TEST(rows_are_those_of_the_table_window_by_window)
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
    Suite *suite = suite_create("kernel embed");
    TCase *tc = tcase_create("embed");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, rows_are_those_of_the_table_window_by_window, 0, GRAFT_TEST_KERNEL_MASKS);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
