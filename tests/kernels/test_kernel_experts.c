// SPDX-License-Identifier: Apache-2.0
// The kernels experts_group, experts_up, experts_down and experts_residual against sums in double, in every weight format; and
// that a row's bits do not depend on the batch, although small batches take pairs one by one and large ones group them.
#include <math.h>
#include <string.h>

#include "support/matrices.h"

enum { PARTS = 3, EXPERTS = 5, USED = 2, GATE_AT = 16, UP_AT = 64, DOWN_AT = 32 };

struct world {
    struct graft_test_gpu *gpu;
    struct graft_test_matrix gate, up, down; // EXPERTS matrices, one below the other
    uint32_t rows, n_ff, n_embd;             // outputs of an expert's gate, of its down
    struct graft_test_buffer gates, ups, downs, xn, ss, route, tiles, h, in, y, x, old, gain, out_xn, out_ss;
    uint32_t parts;
    bool small_chunks; // with integer dot products: a chunk holds fewer groups than an expert has, or only one expert's
};

static struct graft_experts_shape up_shape(const struct world *w)
{
    return (struct graft_experts_shape){EXPERTS, USED, w->gate.n_in, w->n_ff};
}

static struct graft_experts_shape down_shape(const struct world *w)
{
    return (struct graft_experts_shape){EXPERTS, USED, w->n_embd, w->down.n_in};
}

static void make_buffers(struct world *w, struct graft_test_gpu *gpu, uint32_t rows)
{
    uint32_t padded = graft_test_padded(rows), n_in = w->gate.n_in, down_in = w->down.n_in;
    w->gpu = gpu;
    w->rows = rows;
    struct graft_variant variant = graft_variant_choose(gpu->caps, 1);
    uint32_t covered = graft_variant_rows(&variant);
    w->parts = w->n_embd / covered + (w->n_embd % covered != 0);
    w->gates = graft_test_buffer(gpu, (w->gate.bytes + GATE_AT) / 4 + 4);
    w->ups = graft_test_buffer(gpu, (w->up.bytes + UP_AT) / 4 + 4);
    w->downs = graft_test_buffer(gpu, (w->down.bytes + DOWN_AT) / 4 + 4);
    w->xn = graft_test_buffer(gpu, (uint64_t)padded * n_in);
    w->ss = graft_test_buffer(gpu, (uint64_t)padded * PARTS);
    w->route = graft_test_buffer(gpu, (uint64_t)rows * USED * 2);
    w->tiles = graft_test_buffer(gpu, (uint64_t)(rows * USED + EXPERTS) * (1 + GRAFT_MAX_COLS));
    w->h = graft_test_buffer(gpu, (uint64_t)rows * USED * w->n_ff);
    w->in = graft_test_buffer(gpu, (uint64_t)rows * USED * down_in);
    w->y = graft_test_buffer(gpu, (uint64_t)rows * USED * w->n_embd);
    w->x = graft_test_buffer(gpu, (uint64_t)rows * w->n_embd);
    w->old = graft_test_buffer(gpu, (uint64_t)rows * w->n_embd);
    w->gain = graft_test_buffer(gpu, w->n_embd);
    w->out_xn = graft_test_buffer(gpu, (uint64_t)rows * w->n_embd);
    w->out_ss = graft_test_buffer(gpu, (uint64_t)rows * w->parts);
    graft_test_matrix_put(&w->gate, &w->gates, GATE_AT);
    graft_test_matrix_put(&w->up, &w->ups, UP_AT);
    graft_test_matrix_put(&w->down, &w->downs, DOWN_AT);
    graft_test_fill(w->xn.f, (uint64_t)rows * n_in, -2.0f, 2.5f, 5);
    graft_test_fill(w->ss.f, (uint64_t)rows * PARTS, 0.1f * (float)n_in, 0.6f * (float)n_in, 6);
    graft_test_fill(w->in.f, (uint64_t)rows * USED * down_in, -2.0f, 3.0f, 7);
    graft_test_fill(w->old.f, (uint64_t)rows * w->n_embd, -2.0f, 3.0f, 8);
    graft_test_fill(w->gain.f, w->n_embd, 0.5f, 2.0f, 9);
    struct graft_test_random random = {.state = rows * 2 + 1};
    for (uint32_t r = 0; r < rows; r++) { // two of the experts, a row's not the same; expert 3 is never chosen
        static const uint32_t pairs[][USED] = {{0, 4}, {2, 1}, {4, 0}, {1, 0}, {0, 2}};
        for (uint32_t k = 0; k < USED; k++) {
            float weight = graft_test_random_f32(&random, 0.05f, 1.0f);
            w->route.u[(r * USED + k) * 2] = pairs[(r * 7 + rows) % 5][k];
            memcpy(&w->route.u[(r * USED + k) * 2 + 1], &weight, 4);
        }
    }
}

static void free_buffers(struct world *w)
{
    struct graft_test_buffer *all[] = {&w->gates, &w->ups, &w->downs, &w->xn,  &w->ss,   &w->route,  &w->tiles, &w->h,
                                       &w->in,    &w->y,   &w->x,     &w->old, &w->gain, &w->out_xn, &w->out_ss};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        graft_test_buffer_free(all[i]);
    }
}

static void kernel_of(struct world *w, struct graft_kernel *kernel, enum graft_experts_kind kind,
                      const struct graft_experts_shape *shape, const struct graft_test_matrix *matrix)
{
    ck_assert_ok(
        graft_kernel_experts(kernel, kind, w->gpu->caps, shape, matrix->type, w->gpu->activations, w->rows, GRAFT_LORA_NONE));
    kernel->push.experts.row_bytes = (uint32_t)matrix->row_bytes;
    kernel->push.experts.expert_bytes = (uint32_t)(matrix->bytes / EXPERTS);
    kernel->push.experts.parts_in = PARTS;
    kernel->push.experts.inv_n = 1.0f / (float)w->gate.n_in;
    kernel->push.experts.eps = 1e-5f;
    if (w->small_chunks && kernel->pipeline.constants[GRAFT_CHUNK_CONSTANT]) {
        kernel->pipeline.constants[GRAFT_CHUNK_CONSTANT] = 8;
    }
}

// Buffers as the executor binds them. `windows`: experts_up and experts_down in two windows, experts [0, 2) and [2, EXPERTS).
static void run(struct world *w, bool windows)
{
    struct graft_experts_shape up = up_shape(w), down = down_shape(w);
    struct graft_experts_tiling tiling = graft_experts_tiles(w->gpu->caps, &up, w->rows);
    struct graft_kernel kernel;
    struct graft_test_buffer *outputs[] = {&w->tiles, &w->h, &w->y, &w->x, &w->out_xn, &w->out_ss};
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
        graft_test_buffer_poison(outputs[i]);
    }
    memcpy(w->x.f, w->old.f, (uint64_t)w->rows * w->n_embd * 4);
    const struct graft_test_buffer *work = tiling.grouped ? &w->tiles : &w->route;
    if (tiling.grouped) {
        const struct graft_test_buffer *group[] = {&w->route, &w->tiles};
        ck_assert_ok(graft_kernel_experts(&kernel, GRAFT_EXPERTS_GROUP, w->gpu->caps, &up, 0, w->gpu->activations, w->rows,
                                          GRAFT_LORA_NONE));
        graft_test_dispatch(w->gpu, &kernel, group, 2);
    }
    for (uint32_t first = 0; first < EXPERTS; first += windows && first == 0 ? 2 : EXPERTS) {
        uint32_t count = !windows ? EXPERTS : first == 0 ? 2 : EXPERTS - 2;
        kernel_of(w, &kernel, GRAFT_EXPERTS_GATE_UP, &up, &w->gate);
        kernel.push.experts.expert_first = first;
        kernel.push.experts.expert_count = count;
        kernel.push.experts.base[0] = GATE_AT + first * kernel.push.experts.expert_bytes;
        kernel.push.experts.base[1] = UP_AT + first * kernel.push.experts.expert_bytes;
        const struct graft_test_buffer *ups[] = {&w->gates, &w->xn, &w->ss, work, &w->h, &w->ups};
        graft_test_dispatch(w->gpu, &kernel, ups, 6);
        if (windows || tiling.grouped) {
            kernel_of(w, &kernel, GRAFT_EXPERTS_DOWN, &down, &w->down);
            kernel.push.experts.expert_first = first;
            kernel.push.experts.expert_count = count;
            kernel.push.experts.base[0] = DOWN_AT + first * kernel.push.experts.expert_bytes;
            const struct graft_test_buffer *downs[] = {&w->downs, &w->in, work, &w->y};
            graft_test_dispatch(w->gpu, &kernel, downs, 4);
        }
    }
    kernel_of(w, &kernel, windows || tiling.grouped ? GRAFT_EXPERTS_SUM : GRAFT_EXPERTS_RESIDUAL, &down, &w->down);
    kernel.push.experts.base[0] = DOWN_AT;
    ck_assert_uint_eq(kernel.push.experts.parts_out, w->parts);
    const struct graft_test_buffer *last[] = {&w->downs, &w->in, &w->x, &w->gain, &w->out_xn, &w->out_ss, &w->route, &w->y};
    graft_test_dispatch(w->gpu, &kernel, last, 8);
}

static uint32_t expert_of(const struct world *w, uint32_t pair)
{
    return w->route.u[pair * 2];
}

static void check_up(struct world *w)
{
    uint32_t n_in = w->gate.n_in, n_ff = w->n_ff;
    for (uint32_t i = 0; i < w->rows * USED; i++) {
        uint32_t r = i / USED;
        double sum = 0;
        for (uint32_t p = 0; p < PARTS; p++) {
            sum += (double)w->ss.f[r * PARTS + p];
        }
        double inverse = 1 / sqrt(sum / n_in + 1e-5);
        for (uint32_t o = 0; o < n_ff; o++) {
            double g_bound, u_bound;
            uint32_t row = expert_of(w, i) * n_ff + o;
            double g = graft_test_product_as(&w->gate, row, w->xn.f + (uint64_t)r * n_in, w->gpu, &g_bound) * inverse;
            double u = graft_test_product_as(&w->up, row, w->xn.f + (uint64_t)r * n_in, w->gpu, &u_bound) * inverse;
            g_bound = g_bound * inverse + fabs(g) * 0x1p-20; // as in test_kernel_gate_up.c
            u_bound = u_bound * inverse + fabs(u) * 0x1p-20;
            double silu = g / (1 + exp(-g)), want = silu * u;
            double exp_error = (3 + 2 * (fabs(g) < 100 ? fabs(g) : 0)) * 0x1p-23;
            double bound = 1.1 * g_bound * (fabs(u) + u_bound) + fabs(silu) * u_bound + fabs(want) * (exp_error + 0x1p-21) +
                           fabs(u) * 1e-36 + 1e-37;
            graft_test_close(w->h.f[(uint64_t)i * n_ff + o], want, bound, w->gpu, "H", (uint64_t)i * n_ff + o);
        }
    }
}

static void check_down(struct world *w)
{
    uint32_t n_in = w->down.n_in, n_embd = w->n_embd;
    for (uint32_t r = 0; r < w->rows; r++) {
        double squares = 0, found = 0;
        for (uint32_t o = 0; o < n_embd; o++) {
            uint64_t at = (uint64_t)r * n_embd + o;
            double want = (double)w->old.f[at], bound = fabs(want) * 0x1p-23, sum = 0;
            for (uint32_t i = r * USED; i < (r + 1) * USED; i++) {
                float weight;
                double part_bound;
                memcpy(&weight, &w->route.u[i * 2 + 1], 4);
                double part = (double)weight * graft_test_product_as(&w->down, expert_of(w, i) * n_embd + o,
                                                                     w->in.f + (uint64_t)i * n_in, w->gpu, &part_bound);
                sum += part;
                bound += (double)weight * part_bound + (fabs(part) + fabs(sum)) * 0x1p-23;
            }
            want += sum;
            graft_test_close(w->x.f[at], want, bound + fabs(want) * 0x1p-23, w->gpu, "X", at);
            ck_assert_msg(w->out_xn.f[at] == w->x.f[at] * w->gain.f[o], "XN is not X times the gain at %u", (unsigned)at);
            squares += (double)w->x.f[at] * (double)w->x.f[at];
        }
        for (uint32_t p = 0; p < w->parts; p++) {
            found += (double)w->out_ss.f[r * w->parts + p];
        }
        graft_test_close((float)found, squares, squares * (0x1p-24 * 100 + 0x1p-23) + 1e-37, w->gpu, "SS", r);
    }
}

static bool same(const struct graft_test_buffer *one, const struct graft_test_buffer *batch, uint32_t r, uint64_t words)
{
    return memcmp(one->u, batch->u + r * words, words * 4) == 0;
}

// Row i of the batch alone must give the bits it has in the batch; in windows too, and in chunks of any size.
static void check_single_rows(struct world *batch)
{
    struct world one = {
        .gate = batch->gate, .up = batch->up, .down = batch->down, .n_ff = batch->n_ff, .n_embd = batch->n_embd};
    uint64_t n_in = one.gate.n_in, down_in = USED * (uint64_t)one.down.n_in;
    make_buffers(&one, batch->gpu, 1);
    for (uint32_t r = 0; r < batch->rows; r++) {
        memcpy(one.xn.f, batch->xn.f + r * n_in, n_in * 4);
        memcpy(one.ss.f, batch->ss.f + r * PARTS, PARTS * 4);
        memcpy(one.in.f, batch->in.f + r * down_in, down_in * 4);
        memcpy(one.old.f, batch->old.f + (uint64_t)r * one.n_embd, one.n_embd * 4);
        memcpy(one.route.u, batch->route.u + (uint64_t)r * USED * 2, USED * 8);
        one.small_chunks = r % 2;
        run(&one, r % 4 == 3);
        ck_assert_msg(same(&one.h, &batch->h, r, (uint64_t)USED * one.n_ff) && same(&one.x, &batch->x, r, one.n_embd) &&
                          same(&one.out_xn, &batch->out_xn, r, one.n_embd) && same(&one.out_ss, &batch->out_ss, r, one.parts),
                      "%s, type %u: row %u of %u differs from the row alone", batch->gpu->mask, one.gate.type, r, batch->rows);
    }
    free_buffers(&one);
}

static void one_case(struct graft_test_gpu *gpu, uint32_t type, uint32_t n_in, uint32_t rows, enum graft_test_data data)
{
    static const uint32_t outputs[] = {1, 7, 33, 90};
    struct world world;
    memset(&world, 0, sizeof world);
    world.n_ff = outputs[(n_in + rows) % 4];
    world.n_embd = outputs[(n_in + rows + 1) % 4];
    ck_assert(graft_test_matrix(&world.gate, type, n_in, EXPERTS * world.n_ff, data, n_in + rows));
    ck_assert(graft_test_matrix(&world.up, type, n_in, EXPERTS * world.n_ff, data, n_in + rows + 1000));
    ck_assert(graft_test_matrix(&world.down, type, n_in, EXPERTS * world.n_embd, data, n_in + rows + 2000));
    make_buffers(&world, gpu, rows);
    run(&world, rows == 12);
    check_up(&world);
    check_down(&world);
    if (rows <= 12) {
        check_single_rows(&world);
    }
    free_buffers(&world);
    graft_test_matrix_free(&world.gate);
    graft_test_matrix_free(&world.up);
    graft_test_matrix_free(&world.down);
}

START_TEST(values_are_those_of_the_chosen_experts_and_rows_keep_their_bits_in_any_batch)
{
    struct graft_test_gpu gpu;
    if (graft_test_gpu_open(&gpu, (enum graft_test_mask)_i)) {
        graft_test_each_matrix(&gpu, one_case);
        graft_test_gpu_close(&gpu);
    }
}
END_TEST

// Every pair of a batch is in one tile of its expert, whatever the counts.
START_TEST(tiles_hold_every_pair_once)
{
    static const uint32_t experts[] = {1, 2, 128, 512}, used[] = {1, 2, 8, 32};
    struct graft_test_gpu gpu;
    if (!graft_test_gpu_open(&gpu, (enum graft_test_mask)_i)) {
        return;
    }
    for (uint32_t s = 0; s < 4; s++) {
        uint32_t rows = 2 * experts[s] / used[s] + 37, pairs = rows * used[s];
        struct graft_experts_shape shape = {experts[s], used[s], 32, 32};
        struct graft_experts_tiling tiling = graft_experts_tiles(gpu.caps, &shape, rows);
        struct graft_test_buffer route = graft_test_buffer(&gpu, 2ull * pairs);
        struct graft_test_buffer tiles = graft_test_buffer(&gpu, (uint64_t)tiling.n_tiles * (1 + tiling.cols));
        struct graft_test_buffer seen = graft_test_buffer(&gpu, pairs);
        const struct graft_test_buffer *buffers[] = {&route, &tiles};
        struct graft_kernel kernel;
        ck_assert(tiling.grouped);
        for (uint32_t i = 0; i < pairs; i++) {
            route.u[2 * i] = (i * 7 + i / 5) % experts[s] / (i % 3 + 1); // the smaller ones more often
        }
        memset(seen.u, 0, pairs * 4);
        ck_assert_ok(graft_kernel_experts(&kernel, GRAFT_EXPERTS_GROUP, gpu.caps, &shape, 0, GRAFT_ACTIVATIONS_F32, rows,
                                          GRAFT_LORA_NONE));
        graft_test_dispatch(&gpu, &kernel, buffers, 2);
        for (uint32_t t = 0; t < tiling.n_tiles; t++) {
            const uint32_t *tile = tiles.u + t * (1 + tiling.cols);
            for (uint32_t c = 0; c < tiling.cols; c++) {
                if (tile[1 + c] != GRAFT_NO_EXPERT) {
                    ck_assert_uint_lt(tile[1 + c], pairs);
                    ck_assert_uint_eq(route.u[2 * tile[1 + c]], tile[0]);
                    seen.u[tile[1 + c]]++;
                    ck_assert(c == 0 || tile[c] != GRAFT_NO_EXPERT); // no gaps
                }
            }
            ck_assert((tile[0] == GRAFT_NO_EXPERT) == (tile[1] == GRAFT_NO_EXPERT));
        }
        for (uint32_t i = 0; i < pairs; i++) {
            ck_assert_uint_eq(seen.u[i], 1);
        }
        graft_test_buffer_free(&route);
        graft_test_buffer_free(&tiles);
        graft_test_buffer_free(&seen);
    }
    graft_test_gpu_close(&gpu);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernel experts");
    TCase *tc = tcase_create("experts");
    tcase_set_timeout(tc, 600);
    tcase_add_loop_test(tc, tiles_hold_every_pair_once, 0, GRAFT_TEST_KERNEL_MASKS);
    tcase_add_loop_test(tc, values_are_those_of_the_chosen_experts_and_rows_keep_their_bits_in_any_batch, 0,
                        GRAFT_TEST_MATRIX); // cooperative matrices are for others
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
