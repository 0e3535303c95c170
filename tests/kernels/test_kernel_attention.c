// SPDX-License-Identifier: Apache-2.0
// The kernel `attention` against softmax(q k) v in double: grouped heads, shuffled pages, splits, hostile values.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/quant/quant.h"
#include "support/matrices.h"

enum { MAX_LENGTH = 1000, TABLE_PAGES = 32, STATE_ROWS = 4, MAX_HEAD_DIM = 256 };

enum data {
    ORDINARY,
    SHARP,
    EQUAL,
    LARGE,
    KINDS_OF_DATA
}; // SHARP: one position wins; EQUAL: all scores are 0; LARGE: values at f16's end

struct shape {
    uint32_t n_head, n_head_kv, head_dim;
    enum graft_kv_format kv_k, kv_v;
    uint32_t window; // 0: all
    float cap;       // 0: none
};

struct world {
    struct graft_test_gpu *gpu;
    struct graft_attention_shape shape;
    uint32_t rows, n_pages, tables;
    const uint32_t *lengths; // tokens each row sees
    struct graft_test_buffer q, kv, state, ao, part, counter;
};

static uint64_t half_bytes(const struct world *world, bool values) // of all keys, of all values
{
    return (uint64_t)world->n_pages * world->shape.n_head_kv *
           graft_kv_unit_bytes(values ? world->shape.kv_v : world->shape.kv_k, world->shape.head_dim);
}

// The unit of a row's KV head that holds position t.
static uint8_t *unit_of(const struct world *world, bool values, uint32_t row, uint32_t head, uint32_t t)
{
    uint32_t page = world->state.u[world->tables + row * TABLE_PAGES + t / GRAFT_PAGE_TOKENS];
    uint64_t unit = graft_kv_unit_bytes(values ? world->shape.kv_v : world->shape.kv_k, world->shape.head_dim);
    return world->kv.b + (values ? half_bytes(world, false) : 0) + ((uint64_t)page * world->shape.n_head_kv + head) * unit;
}

static void load(const struct world *world, bool values, uint32_t row, uint32_t head, uint32_t t, float *out)
{
    graft_kv_load(values ? world->shape.kv_v : world->shape.kv_k, world->shape.head_dim, unit_of(world, values, row, head, t),
                  t % GRAFT_PAGE_TOKENS, out);
}

// First position that a row attends to.
static uint32_t first_of(const struct world *world, uint32_t row)
{
    uint32_t window = world->shape.window, length = world->lengths[row];
    return window && length > window ? length - window : 0;
}

static void fill_pages(struct world *world, uint32_t row, enum data data, uint64_t seed)
{
    struct graft_test_random random = {.state = seed * 2 + 1};
    // Behind it and before the window: the poison, which is NaN as f16, too.
    for (uint32_t t = first_of(world, row); t < world->lengths[row]; t++) {
        for (uint32_t head = 0; head < world->shape.n_head_kv; head++) {
            float keys[MAX_HEAD_DIM], values[MAX_HEAD_DIM];
            for (uint32_t d = 0; d < world->shape.head_dim; d++) {
                float k = graft_test_random_f32(&random, -1, 1), v = graft_test_random_f32(&random, -1, 1);
                keys[d] = data == EQUAL ? 0 : k;
                values[d] = data == LARGE ? v * 65504 : v;
            }
            graft_kv_store(world->shape.kv_k, world->shape.head_dim, unit_of(world, false, row, head, t), t % GRAFT_PAGE_TOKENS,
                           keys);
            graft_kv_store(world->shape.kv_v, world->shape.head_dim, unit_of(world, true, row, head, t), t % GRAFT_PAGE_TOKENS,
                           values);
        }
    }
}

static void make_world(struct world *world, struct graft_test_gpu *gpu, struct shape shape, uint32_t n_ctx, uint32_t rows,
                       const uint32_t *lengths, enum data data)
{
    *world = (struct world){.gpu = gpu,
                            .shape = {shape.n_head, shape.n_head_kv, shape.head_dim, n_ctx, shape.kv_k, shape.kv_v,
                                      shape.window, shape.cap},
                            .rows = rows,
                            .lengths = lengths};
    uint64_t width = (uint64_t)shape.n_head * shape.head_dim;
    uint32_t splits = graft_attention_splits(gpu->caps, &world->shape, rows);
    world->n_pages = rows * TABLE_PAGES + 1;
    world->tables = STATE_ROWS + rows * GRAFT_ROW_WORDS;
    world->q = graft_test_buffer(gpu, rows * width);
    world->ao = graft_test_buffer(gpu, rows * width);
    world->kv = graft_test_buffer(gpu, (half_bytes(world, false) + half_bytes(world, true)) / 4);
    world->state = graft_test_buffer(gpu, world->tables + rows * TABLE_PAGES);
    world->part = graft_test_buffer(gpu, (uint64_t)rows * shape.n_head * splits * (shape.head_dim + 2));
    world->counter = graft_test_buffer(gpu, (uint64_t)rows * shape.n_head_kv * graft_attention_head_groups(&world->shape));
    memset(world->counter.data, 0, world->counter.words * 4);
    graft_test_fill(world->q.f, rows * width, data == SHARP ? -30.0f : -0.7f, data == SHARP ? 30.0f : 0.7f, 3);
    for (uint32_t r = 0; r < rows; r++) {
        world->state.u[STATE_ROWS + r * GRAFT_ROW_WORDS + GRAFT_ROW_POS] = lengths[r] - 1;
        world->state.u[STATE_ROWS + r * GRAFT_ROW_WORDS + GRAFT_ROW_TABLE] = r * TABLE_PAGES;
        for (uint32_t p = 0; p < TABLE_PAGES;
             p++) { // 37 and the number of pages - 1 share no factor: every page once, far from in order
            world->state.u[world->tables + r * TABLE_PAGES + p] = 1 + (r * TABLE_PAGES + p) * 37 % (world->n_pages - 1);
        }
        fill_pages(world, r, data, 100 + r);
    }
}

static void free_world(struct world *world)
{
    struct graft_test_buffer *all[] = {&world->q, &world->ao, &world->kv, &world->state, &world->part, &world->counter};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        graft_test_buffer_free(all[i]);
    }
}

static void run(struct world *world)
{
    struct graft_kernel kernel;
    graft_test_buffer_poison(&world->ao);
    ck_assert_ok(graft_kernel_attention(&kernel, world->gpu->caps, &world->shape, world->rows, false));
    kernel.push.attention.v_quads = (uint32_t)(half_bytes(world, false) / 16);
    kernel.push.attention.state_rows = STATE_ROWS;
    kernel.push.attention.state_tables = world->tables;
    const struct graft_test_buffer *buffers[] = {&world->q,  &world->kv,   &world->kv,     &world->state,
                                                 &world->ao, &world->part, &world->counter};
    graft_test_dispatch(world->gpu, &kernel, buffers, 7);
    for (uint64_t i = 0; i < world->counter.words; i++) {
        ck_assert_uint_eq(world->counter.u[i], 0); // ready for the next step
    }
}

static void check_head(struct world *world, uint32_t row, uint32_t head)
{
    static double weights[MAX_LENGTH];
    static float values[MAX_LENGTH][MAX_HEAD_DIM];
    const struct graft_attention_shape *s = &world->shape;
    uint32_t length = world->lengths[row], head_kv = head / (s->n_head / s->n_head_kv);
    uint64_t first = ((uint64_t)row * s->n_head + head) * s->head_dim;
    double most = -INFINITY, sum = 0, error = 0;
    for (uint32_t t = first_of(world, row); t < length; t++) {
        double score = 0, span = 0;
        float key[MAX_HEAD_DIM];
        load(world, false, row, head_kv, t, key);
        load(world, true, row, head_kv, t, values[t]);
        for (uint32_t d = 0; d < s->head_dim; d++) {
            double term = (double)world->q.f[first + d] * (double)key[d];
            score += term;
            span += fabs(term);
        }
        score = s->cap > 0 ? (double)s->cap * tanh(score / (double)s->cap) : score; // no steeper than 1
        weights[t] = score;
        most = score > most ? score : most;
        // A score is a sum of head_dim products, in chains of 8; its error is a relative one of its weight.
        error = fmax(error, span * 0x1p-24 * (s->head_dim / 8 + 12) + fabs(score) * 0x1p-22 +
                                (double)s->cap * 0x1p-20);
    }
    for (uint32_t t = first_of(world, row); t < length; t++) {
        weights[t] = exp(weights[t] - most);
        sum += weights[t];
    }
    // exp is good to 3 + 2 |x| units in the last place, |x| up to 88 where it matters; sums over positions have fewer than 128
    // roundings per tile and split.
    double relative = 2 * error + 0x1p-23 * (3 + 2 * 88) * 0.1 + 0x1p-24 * (length / 4 + 64);
    for (uint32_t d = 0; d < s->head_dim; d++) {
        double want = 0, span = 0;
        for (uint32_t t = first_of(world, row); t < length; t++) {
            double term = weights[t] * (double)values[t][d] / sum;
            want += term;
            span += fabs(term);
        }
        graft_test_close(world->ao.f[first + d], want, span * relative + 1e-30, world->gpu, "AO", first + d);
    }
}

static void check(struct world *world)
{
    for (uint32_t r = 0; r < world->rows; r++) {
        for (uint32_t h = 0; h < world->shape.n_head; h++) {
            check_head(world, r, h);
        }
    }
}

// Row r of the batch alone must give the bits it has in the batch.
static void check_single_rows(struct world *batch, enum data data)
{
    const struct graft_attention_shape *s = &batch->shape;
    uint64_t width = (uint64_t)s->n_head * s->head_dim;
    for (uint32_t r = 0; r < batch->rows; r++) {
        struct world one;
        make_world(&one, batch->gpu, (struct shape){s->n_head, s->n_head_kv, s->head_dim, s->kv_k, s->kv_v, s->window, s->cap},
                   s->n_ctx, 1,
                   batch->lengths + r, data);
        memcpy(one.q.f, batch->q.f + r * width, width * 4);
        fill_pages(&one, 0, data, 100 + r);
        run(&one);
        ck_assert_msg(
            memcmp(one.ao.f, batch->ao.f + r * width, width * 4) == 0,
            "%s, %u heads of %u, %u KV heads, %u tokens: row %u of %u differs from the row alone (%u splits, alone %u)",
            batch->gpu->mask, s->n_head, s->head_dim, s->n_head_kv, batch->lengths[r], r, batch->rows,
            graft_attention_splits(batch->gpu->caps, s, batch->rows), graft_attention_splits(batch->gpu->caps, s, 1));
        free_world(&one);
    }
}

static void one_case(struct graft_test_gpu *gpu, struct shape shape, uint32_t n_ctx, uint32_t rows, const uint32_t *lengths,
                     enum data data)
{
    struct world world;
    make_world(&world, gpu, shape, n_ctx, rows, lengths, data);
    run(&world);
    check(&world);
    if (rows == 1) { // the counters of the splits start over
        run(&world);
        check(&world);
    } else if (rows <= 8) {
        check_single_rows(&world, data);
    }
    free_world(&world);
}

static const uint32_t lengths[] = {32, 200, 1, 33, 31, 64, 7, 100, 2, 5};
static const uint32_t long_lengths[] = {1000, 999, 33, 1, 256, 257, 500, 640};

// Query heads per KV head: 1, 2, 3, 4, 7, 8; the widths of SmolLM2 (3 of 3, 64) and Llama (4, 128) among them.
// Sliding windows and caps as Mistral, Gemma 2 and 3 have them, and Gemma's head of 256.
#define F16 GRAFT_KV_FORMAT_F16
#define F32 GRAFT_KV_FORMAT_F32
#define Q8  GRAFT_KV_FORMAT_Q8_0
#define Q4  GRAFT_KV_FORMAT_Q4_0
static const struct shape shapes[] = {
    {2, 2, 16, F16, F16, 0, 0},  {4, 2, 64, F32, F32, 0, 0},  {9, 3, 64, F16, F16, 0, 0},   {3, 1, 96, F16, F16, 40, 0},
    {8, 2, 128, F16, F16, 0, 0}, {7, 1, 64, F16, F16, 0, 0},  {16, 2, 16, F32, F32, 0, 0},  {8, 1, 96, F16, F16, 0, 0},
    {4, 2, 32, Q8, Q4, 0, 0},    {9, 3, 64, Q8, Q8, 33, 5},   {9, 3, 64, Q4, Q4, 0, 0},     {3, 1, 96, Q4, Q8, 100, 0},
    {8, 2, 128, Q8, Q8, 0, 0},   {8, 2, 128, Q4, Q4, 0, 0},   {7, 1, 64, F16, Q4, 0, 0},    {8, 1, 96, Q8, F16, 0, 0},
    {4, 2, 64, F16, F16, 33, 5}, {2, 1, 256, F16, F16, 0, 3}, {4, 1, 32, F16, F16, 100, 0}, {2, 2, 256, F32, F32, 1, 0}};

START_TEST(outputs_are_the_weighted_means_in_every_shape)
{
    struct graft_test_gpu gpu;
    if (!graft_test_gpu_open(&gpu, (enum graft_test_mask)_i)) {
        return;
    }
    for (uint32_t s = 0; s < sizeof shapes / sizeof *shapes; s += gpu.few ? 3 : 1) {
        for (uint32_t i = 0; i < 5; i++) {
            one_case(&gpu, shapes[s], 224, 1, lengths + i, ORDINARY);
        }
        one_case(&gpu, shapes[s], 224, 2, lengths, ORDINARY);
        one_case(&gpu, shapes[s], 224, 3, lengths + 2, ORDINARY);
        one_case(&gpu, shapes[s], 224, 8, lengths, ORDINARY);
        for (enum data data = SHARP; data < KINDS_OF_DATA; data++) {
            one_case(&gpu, shapes[s], 224, 1, lengths + 1, data);
        }
    }
    graft_test_gpu_close(&gpu);
}
END_TEST

START_TEST(splits_of_long_sequences_add_up_and_rows_keep_their_bits)
{
    struct graft_test_gpu gpu;
    if (!graft_test_gpu_open(&gpu, (enum graft_test_mask)_i)) {
        return;
    }
    uint32_t most = 1;
    for (uint32_t s = 0; s < sizeof shapes / sizeof *shapes; s += 2) {
        struct graft_attention_shape shape = {shapes[s].n_head, shapes[s].n_head_kv, shapes[s].head_dim, 1024, F16, F16, 0, 0};
        uint32_t splits = graft_attention_splits(gpu.caps, &shape, 1);
        most = splits > most ? splits : most;
        one_case(&gpu, shapes[s], 1024, 1, long_lengths, s % 4 ? SHARP : ORDINARY);
        one_case(&gpu, shapes[s], 1024, 1, long_lengths + 3, ORDINARY); // most splits have nothing
        for (uint32_t rows = 2; rows <= 8; rows *= 2) {
            one_case(&gpu, shapes[s], 1024, rows, long_lengths, ORDINARY);
        }
    }
    ck_assert_uint_gt(most, 1);
    graft_test_gpu_close(&gpu);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernel attention");
    TCase *tc = tcase_create("attention");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, outputs_are_the_weighted_means_in_every_shape, 0, GRAFT_TEST_KERNEL_MASKS);
    tcase_add_loop_test(tc, splits_of_long_sequences_add_up_and_rows_keep_their_bits, 0, GRAFT_TEST_NO_SUBGROUPS + 1);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
