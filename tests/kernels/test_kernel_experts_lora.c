// SPDX-License-Identifier: Apache-2.0
// Adapters on a mixture's router and experts: the kernels router, experts_shrink, experts_up, experts_down and experts_residual
// with adapters against the scalar reference, rows with one adapter, two and none beside each other; windows of experts and
// small batches give the bits of large ones.
#include <math.h>
#include <string.h>

#include "loaders/adapter.h"
#include "runtime/quant/quant.h"
#include "runtime/ref/ref.h"
#include "support/matrices.h"

enum { PARTS = 3, EXPERTS = 5, USED = 2, EMBD = 64, FF = 96, SLOTS = 2, MAX_ROWS = 16, POOL_WORDS = 1 << 17 };

struct world {
    struct graft_test_gpu *gpu;
    uint32_t rows, parts;
    struct graft_test_matrix gate, up, down, router;
    struct graft_test_buffer gates, ups, downs, routers, xn, ss, route, tiles, h, in, y, x, gain, out_xn, out_ss, scores,
        counter, chosen;
    struct graft_test_buffer pool, table, state, t, expert_t, t_out, lora_count;
};

static const struct graft_experts_shape shape = {EXPERTS, USED, EMBD, FF};

// A linear entry at quad `at`, places counted from quad `from`; what is behind it.
static uint32_t put_linear(struct world *w, uint32_t *e, uint32_t at, uint32_t from, uint32_t rank, uint32_t in, uint32_t out,
                           bool extras, uint64_t seed)
{
    uint32_t counts[2] = {rank * in, rank * out};
    uint32_t *places[2] = {&e[GRAFT_LORA_A], &e[GRAFT_LORA_B]};
    struct graft_test_random random = {.state = seed};
    for (int i = 0; i < 2; i++) {
        uint16_t *halves = (uint16_t *)(void *)(w->pool.u + 4 * (uint64_t)at);
        for (uint32_t k = 0; k < counts[i]; k++) {
            float value = graft_test_random_f32(&random, -0.2f, 0.25f);
            graft_quant_find(GRAFT_TYPE_F16)->quantize_row(&value, (uint8_t *)&halves[k], 1);
        }
        *places[i] = at - from;
        at += counts[i] / 8;
    }
    e[GRAFT_LORA_ENTRY_RANK] = rank;
    for (int i = 0; i < 2 && extras; i++) {
        e[i ? GRAFT_LORA_BIAS : GRAFT_LORA_DORA] = at - from;
        graft_test_fill(w->pool.f + 4 * (uint64_t)at, out, -0.3f, 0.4f, seed + 1 + (uint64_t)i);
        at += (out + 3) / 4;
    }
    ck_assert_uint_lt(at, POOL_WORDS / 4);
    return at;
}

// Slot 0: ranks 8 and 24, every expert but one in three; slot 1: DoRA's multipliers and biases too.
static void put_adapters(struct world *w)
{
    const uint32_t in[] = {EMBD, EMBD, FF, EMBD}, out[] = {FF, FF, EMBD, EXPERTS};
    uint32_t at = 1;
    memset(w->table.u, 0, w->table.words * 4);
    memset(w->pool.u, 0, w->pool.words * 4);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        for (uint32_t t = 0; t < 4; t++) {
            uint32_t *e = w->table.u + (slot * GRAFT_LORA_TARGETS + GRAFT_TARGET_GATE + t) * GRAFT_LORA_ENTRY, table = at;
            if (t == 3) {
                at = put_linear(w, e, at, 0, 8, in[t], out[t], slot == 1, slot);
                continue;
            }
            e[GRAFT_LORA_A] = table;
            at += EXPERTS * GRAFT_LORA_ENTRY / 4;
            for (uint32_t i = 0; i < EXPERTS; i++) {
                if ((i + slot) % 3 != 2) {
                    at = put_linear(w, w->pool.u + 4 * (uint64_t)table + i * GRAFT_LORA_ENTRY, at, table, i % 2 ? 8 : 24, in[t],
                                    out[t], slot == 1, 10 * slot + 100 * t + i);
                }
            }
        }
    }
}

static void make(struct world *w, struct graft_test_gpu *gpu, uint32_t rows)
{
    uint32_t padded = graft_test_padded(rows);
    struct graft_variant variant = graft_variant_choose(gpu->caps, 1);
    memset(w, 0, sizeof *w);
    w->gpu = gpu;
    w->rows = rows;
    w->parts = (EMBD + graft_variant_rows(&variant) - 1) / graft_variant_rows(&variant);
    ck_assert(graft_test_matrix(&w->gate, GRAFT_TYPE_Q4_1, EMBD, EXPERTS * FF, GRAFT_TEST_ORDINARY, 1));
    ck_assert(graft_test_matrix(&w->up, GRAFT_TYPE_Q4_1, EMBD, EXPERTS * FF, GRAFT_TEST_ORDINARY, 2));
    ck_assert(graft_test_matrix(&w->down, GRAFT_TYPE_Q8_0, FF, EXPERTS * EMBD, GRAFT_TEST_ORDINARY, 3));
    ck_assert(graft_test_matrix(&w->router, GRAFT_TYPE_F32, EMBD, EXPERTS, GRAFT_TEST_ORDINARY, 4));
    const struct {
        struct graft_test_buffer *buffer;
        uint64_t words;
    } list[] = {{&w->gates, w->gate.bytes / 4 + 4},
                {&w->ups, w->up.bytes / 4 + 4},
                {&w->downs, w->down.bytes / 4 + 4},
                {&w->routers, w->router.bytes / 4 + 4},
                {&w->xn, (uint64_t)padded * EMBD},
                {&w->ss, (uint64_t)padded * PARTS},
                {&w->route, (uint64_t)padded * USED * 2},
                {&w->tiles, (uint64_t)(rows * USED + EXPERTS) * (1 + GRAFT_MAX_COLS)},
                {&w->h, (uint64_t)padded * USED * FF},
                {&w->in, (uint64_t)padded * USED * FF},
                {&w->y, (uint64_t)padded * USED * EMBD},
                {&w->x, (uint64_t)padded * EMBD},
                {&w->gain, EMBD},
                {&w->out_xn, (uint64_t)padded * EMBD},
                {&w->out_ss, (uint64_t)padded * w->parts},
                {&w->scores, (uint64_t)padded * (EXPERTS + USED)},
                {&w->counter, padded},
                {&w->chosen, (uint64_t)padded * USED * 2},
                {&w->pool, POOL_WORDS},
                {&w->table, SLOTS * GRAFT_LORA_TARGETS * GRAFT_LORA_ENTRY},
                {&w->state, (uint64_t)padded * GRAFT_ROW_WORDS},
                {&w->t, (uint64_t)padded * GRAFT_LORA_PAIRS * GRAFT_LORA_STAGE * GRAFT_LORA_RANK},
                {&w->expert_t, (uint64_t)padded * USED * GRAFT_LORA_PAIRS * GRAFT_LORA_EXPERT_STAGE * GRAFT_LORA_RANK},
                {&w->t_out, 16},
                {&w->lora_count, padded}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        *list[i].buffer = graft_test_buffer(gpu, list[i].words);
    }
    graft_test_matrix_put(&w->gate, &w->gates, 0);
    graft_test_matrix_put(&w->up, &w->ups, 0);
    graft_test_matrix_put(&w->down, &w->downs, 0);
    graft_test_matrix_put(&w->router, &w->routers, 0);
    memset(w->state.u, 0xff, w->state.words * 4); // no adapter
    memset(w->counter.u, 0, w->counter.words * 4);
    memset(w->lora_count.u, 0, w->lora_count.words * 4);
    graft_test_fill(w->gain.f, EMBD, 0.5f, 2.0f, 9);
    put_adapters(w);
}

// Row r of every batch is the same: values, route and adapters depend on `first` + r only.
static void fill(struct world *w, uint32_t first)
{
    static const uint32_t experts[][USED] = {{0, 4}, {2, 1}, {4, 0}, {1, 0}, {0, 2}};
    for (uint32_t r = 0; r < w->rows; r++) {
        uint64_t seed = first + r;
        struct graft_test_random random = {.state = seed};
        graft_test_fill(w->xn.f + (uint64_t)r * EMBD, EMBD, -2.0f, 2.5f, 100 + seed);
        graft_test_fill(w->ss.f + (uint64_t)r * PARTS, PARTS, 0.1f * EMBD, 0.6f * EMBD, 200 + seed);
        graft_test_fill(w->in.f + (uint64_t)r * USED * FF, USED * FF, -1.0f, 1.5f, 300 + seed);
        graft_test_fill(w->x.f + (uint64_t)r * EMBD, EMBD, -2.0f, 3.0f, 400 + seed);
        for (uint32_t k = 0; k < USED; k++) {
            float weight = graft_test_random_f32(&random, 0.05f, 1.0f);
            w->route.u[(r * USED + k) * 2] = experts[seed % 5][k];
            memcpy(&w->route.u[(r * USED + k) * 2 + 1], &weight, 4);
        }
        uint32_t *pairs = w->state.u + r * GRAFT_ROW_WORDS + GRAFT_ROW_LORA;
        for (uint32_t k = 0; k < seed % 3; k++) { // none, one, two
            float weight = k ? -0.5f : 1.0f;
            pairs[2 * k] = (uint32_t)((seed + k) % SLOTS);
            memcpy(&pairs[2 * k + 1], &weight, 4);
        }
    }
}

static void free_world(struct world *w)
{
    struct graft_test_buffer *all[] = {&w->gates,  &w->ups,      &w->downs,   &w->routers,   &w->xn,   &w->ss,    &w->route,
                                       &w->tiles,  &w->h,        &w->in,      &w->y,         &w->x,    &w->gain,  &w->out_xn,
                                       &w->out_ss, &w->scores,   &w->counter, &w->chosen,    &w->pool, &w->table, &w->state,
                                       &w->t,      &w->expert_t, &w->t_out,   &w->lora_count};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        graft_test_buffer_free(all[i]);
    }
    struct graft_test_matrix *matrices[] = {&w->gate, &w->up, &w->down, &w->router};
    for (size_t i = 0; i < 4; i++) {
        graft_test_matrix_free(matrices[i]);
    }
}

static struct graft_experts_push *kernel_of(struct world *w, struct graft_kernel *kernel, enum graft_experts_kind kind,
                                            const struct graft_test_matrix *matrix, enum graft_target target)
{
    ck_assert_ok(graft_kernel_experts(kernel, kind, w->gpu->caps, &shape, matrix ? matrix->type : 0, w->gpu->activations,
                                      w->rows, GRAFT_LORA_EXTRAS));
    struct graft_experts_push *push = &kernel->push.experts;
    push->row_bytes = matrix ? (uint32_t)matrix->row_bytes : 0;
    push->expert_bytes = matrix ? (uint32_t)(matrix->bytes / EXPERTS) : 0;
    push->parts_in = PARTS;
    push->inv_n = 1.0f / EMBD;
    push->eps = 1e-5f;
    push->normalize = 1;
    push->lora = (struct graft_lora_push){.stride = GRAFT_LORA_TARGETS, .entry = target, .norm = GRAFT_LORA_OUTPUT_NORM};
    return push;
}

static void shrink(struct world *w, enum graft_experts_kind kind, enum graft_target target, uint32_t n,
                   const struct graft_test_buffer *input)
{
    struct graft_kernel kernel;
    graft_test_buffer_poison(&w->expert_t);
    kernel_of(w, &kernel, kind, NULL, target)->lora.next = n << GRAFT_LORA_NEXT_SHIFT;
    const struct graft_test_buffer *buffers[] = {&w->pool, input, &w->route, &w->table, &w->expert_t, &w->state};
    graft_test_dispatch(w->gpu, &kernel, buffers, 6);
}

// `windows`: experts [0, 2) and [2, EXPERTS) in dispatches of their own.
static void run(struct world *w, bool windows)
{
    struct graft_experts_tiling tiling = graft_experts_tiles(w->gpu->caps, &shape, w->rows);
    struct graft_kernel kernel;
    const struct graft_test_buffer *work = tiling.grouped ? &w->tiles : &w->route;
    if (tiling.grouped) {
        const struct graft_test_buffer *group[] = {&w->route, &w->tiles};
        ck_assert_ok(graft_kernel_experts(&kernel, GRAFT_EXPERTS_GROUP, w->gpu->caps, &shape, 0, w->gpu->activations, w->rows,
                                          GRAFT_LORA_EXTRAS));
        graft_test_dispatch(w->gpu, &kernel, group, 2);
    }
    for (uint32_t half = 0; half < 2; half++) { // up, then down
        shrink(w, half ? GRAFT_EXPERTS_SHRINK_DOWN : GRAFT_EXPERTS_SHRINK_UP, half ? GRAFT_TARGET_DOWN : GRAFT_TARGET_GATE,
               half ? 1 : 2, half ? &w->in : &w->xn);
        for (uint32_t first = 0; first < EXPERTS; first += windows && first == 0 ? 2 : EXPERTS) {
            bool down = half && (windows || tiling.grouped);
            struct graft_experts_push *push =
                kernel_of(w, &kernel, half ? GRAFT_EXPERTS_DOWN : GRAFT_EXPERTS_GATE_UP, half ? &w->down : &w->gate,
                          half ? GRAFT_TARGET_DOWN : GRAFT_TARGET_GATE);
            push->expert_first = first;
            push->expert_count = !windows ? EXPERTS : first == 0 ? 2 : EXPERTS - 2;
            push->base[0] = push->base[1] = first * push->expert_bytes;
            const struct graft_test_buffer *ups[] = {&w->gates, &w->xn,   &w->ss,    work,         &w->h,
                                                     &w->ups,   &w->pool, &w->table, &w->expert_t, &w->state};
            const struct graft_test_buffer *downs[] = {&w->downs, &w->in,    work,         &w->y,
                                                       &w->pool,  &w->table, &w->expert_t, &w->state};
            if (!half) {
                graft_test_dispatch(w->gpu, &kernel, ups, 10);
            } else if (down) {
                graft_test_dispatch(w->gpu, &kernel, downs, 8);
            }
        }
    }
    kernel_of(w, &kernel, windows || tiling.grouped ? GRAFT_EXPERTS_SUM : GRAFT_EXPERTS_RESIDUAL, &w->down, GRAFT_TARGET_DOWN);
    const struct graft_test_buffer *last[] = {&w->downs,  &w->in,         &w->x,     &w->gain,    &w->out_xn,
                                              &w->out_ss, &w->route,      &w->y,     &w->pool,    &w->table,
                                              &w->t_out,  &w->lora_count, &w->state, &w->expert_t};
    graft_test_dispatch(w->gpu, &kernel, last, 14);
}

static struct graft_ref_matrix matrix_of(const struct graft_test_matrix *m, const struct graft_ref_lora *lora, uint32_t target)
{
    return (struct graft_ref_matrix){.data = m->data,
                                     .type = m->type,
                                     .n_in = m->n_in,
                                     .n_out = target == GRAFT_TARGET_ROUTER ? m->n_out : m->n_out / EXPERTS,
                                     .row_bytes = m->row_bytes,
                                     .lora = lora,
                                     .target = target,
                                     .stage = target == GRAFT_TARGET_UP};
}

// Relative to the largest value: of sums in f32, and of what one value does that the device rounds to its other neighbour.
static double tolerance_of(const struct graft_test_gpu *gpu)
{
    return gpu->activations == GRAFT_ACTIVATIONS_INT8 ? 2e-3 : gpu->activations == GRAFT_ACTIVATIONS_INT16 ? 5e-5 : 2e-5;
}

// The values that the weights are multiplied with; adapters get them as they are.
static const float *rounded(const struct graft_test_gpu *gpu, const float *x, uint32_t n)
{
    enum { MOST = MAX_ROWS * USED * FF };
    static float values[MOST], d[MOST / 32];
    static int32_t q[MOST];
    if (gpu->activations == GRAFT_ACTIVATIONS_F32) {
        return x;
    }
    graft_ref_round_values(x, n, gpu->activations == GRAFT_ACTIVATIONS_INT8 ? 1 : 2, q, d);
    for (uint32_t i = 0; i < n; i++) {
        values[i] = (float)q[i] * d[i / 32];
    }
    return values;
}

static void compare(const struct world *w, const float *got, const float *want, uint64_t n, const char *what)
{
    double most = 0;
    for (uint64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)want[i]));
    }
    for (uint64_t i = 0; i < n; i++) {
        graft_test_close(got[i], (double)want[i], tolerance_of(w->gpu) * most, w->gpu, what, i);
    }
}

static void check(struct world *w, const float *old)
{
    static float t[MAX_ROWS * USED * GRAFT_LORA_PAIRS * GRAFT_LORA_EXPERT_STAGE * GRAFT_LORA_RANK], inverse[MAX_ROWS],
        want[MAX_ROWS * USED * FF], scratch[FF + MAX_ROWS];
    struct graft_ref_state state = {.words = w->state.u, .n_rows = w->rows};
    struct graft_ref_lora lora = {.state = &state,
                                  .pool = (const uint16_t *)w->pool.data,
                                  .table = w->table.u,
                                  .n_layer = 1,
                                  .inv_rms = inverse,
                                  .t = t,
                                  .expert_t = t,
                                  .n_used = USED};
    const struct graft_ref_route *route = w->route.data;
    for (uint32_t r = 0; r < w->rows; r++) {
        float sum = 0;
        for (uint32_t p = 0; p < PARTS; p++) {
            sum += w->ss.f[r * PARTS + p];
        }
        inverse[r] = graft_ref_inverse_rms(sum, EMBD, 1e-5f);
    }
    struct graft_ref_matrix gate = matrix_of(&w->gate, &lora, GRAFT_TARGET_GATE),
                            up = matrix_of(&w->up, &lora, GRAFT_TARGET_UP),
                            down = matrix_of(&w->down, &lora, GRAFT_TARGET_DOWN);
    graft_ref_shrink_experts(&lora, route, w->xn.f, false, EMBD, GRAFT_TARGET_GATE, 2);
    graft_ref_experts_up(&gate, &up, route, USED, rounded(w->gpu, w->xn.f, w->rows * EMBD), inverse, w->rows, want, 0, FF,
                         scratch);
    compare(w, w->h.f, want, (uint64_t)w->rows * USED * FF, "H");
    lora.inv_rms = NULL;
    memcpy(want, old, (uint64_t)w->rows * EMBD * sizeof *want);
    graft_ref_shrink_experts(&lora, route, w->in.f, true, FF, GRAFT_TARGET_DOWN, 1);
    graft_ref_experts_down(&down, route, USED, rounded(w->gpu, w->in.f, w->rows * USED * FF), w->rows, want, 0, EMBD, scratch);
    compare(w, w->x.f, want, (uint64_t)w->rows * EMBD, "X");
}

// A batch that is grouped by expert; each of its rows alone, also in windows, must have the same bits.
START_TEST(experts_of_rows_with_adapters_are_those_of_the_reference)
{
    struct graft_test_gpu gpu;
    struct world w, one;
    static float old[MAX_ROWS * EMBD];
    if (!graft_test_gpu_open(&gpu, (enum graft_test_mask)_i)) {
        return;
    }
    make(&w, &gpu, MAX_ROWS - 1);
    make(&one, &gpu, 1);
    fill(&w, 0);
    memcpy(old, w.x.f, (uint64_t)w.rows * EMBD * 4);
    run(&w, false);
    check(&w, old);
    for (uint32_t r = 0; r < w.rows; r += 2) {
        memset(one.state.u, 0xff, one.state.words * 4);
        fill(&one, r);
        run(&one, r % 4 == 2);
        ck_assert_msg(memcmp(one.h.f, w.h.f + (uint64_t)r * USED * FF, USED * FF * 4) == 0, "%s: H of row %u", gpu.mask, r);
        ck_assert_msg(memcmp(one.x.f, w.x.f + (uint64_t)r * EMBD, EMBD * 4) == 0, "%s: X of row %u", gpu.mask, r);
    }
    free_world(&one);
    free_world(&w);
    graft_test_gpu_close(&gpu);
}
END_TEST

START_TEST(the_router_chooses_by_adapted_logits)
{
    static float want[MAX_ROWS * EXPERTS], inverse[MAX_ROWS], scratch[EMBD + MAX_ROWS];
    struct graft_test_gpu gpu;
    struct world w;
    if (!graft_test_gpu_open(&gpu, (enum graft_test_mask)_i)) {
        return;
    }
    make(&w, &gpu, 7);
    fill(&w, 0);
    struct graft_ref_state state = {.words = w.state.u, .n_rows = w.rows};
    struct graft_ref_lora lora = {.state = &state,
                                  .pool = (const uint16_t *)w.pool.data,
                                  .table = w.table.u,
                                  .n_layer = 1,
                                  .inv_rms = inverse,
                                  .t = w.t.f};
    for (uint32_t r = 0; r < w.rows; r++) {
        inverse[r] = graft_ref_inverse_rms(w.ss.f[r * PARTS] + w.ss.f[r * PARTS + 1] + w.ss.f[r * PARTS + 2], EMBD, 1e-5f);
    }
    graft_ref_shrink(&lora, w.xn.f, EMBD, GRAFT_TARGET_ROUTER, 1); // the step in front of the router leaves it in T
    struct graft_ref_matrix router = matrix_of(&w.router, &lora, GRAFT_TARGET_ROUTER);
    graft_ref_router(&router, w.xn.f, inverse, w.rows, want, 0, EXPERTS, scratch);
    struct graft_kernel kernel;
    kernel_of(&w, &kernel, GRAFT_EXPERTS_ROUTER, &w.router, GRAFT_TARGET_ROUTER);
    const struct graft_test_buffer *buffers[] = {&w.routers, &w.xn,   &w.ss,    &w.scores, &w.counter,
                                                 &w.chosen,  &w.pool, &w.table, &w.t,      &w.state};
    graft_test_dispatch(&gpu, &kernel, buffers, 10);
    for (uint32_t r = 0; r < w.rows; r++) {
        struct graft_ref_route route[USED];
        const float *scores = w.scores.f + (uint64_t)r * (EXPERTS + USED);
        compare(&w, scores, want + r * EXPERTS, EXPERTS, "a logit");
        graft_ref_choose_experts(scores, EXPERTS, USED, true, route);
        for (uint32_t k = 0; k < USED; k++) {
            ck_assert_uint_eq(w.chosen.u[(r * USED + k) * 2], route[k].expert);
        }
    }
    free_world(&w);
    graft_test_gpu_close(&gpu);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernel experts lora");
    TCase *tc = tcase_create("experts lora");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, experts_of_rows_with_adapters_are_those_of_the_reference, 0, GRAFT_TEST_MATRIX);
    tcase_add_loop_test(tc, the_router_chooses_by_adapted_logits, 0, GRAFT_TEST_KERNEL_MASKS);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
