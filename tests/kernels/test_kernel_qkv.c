// SPDX-License-Identifier: Apache-2.0
// The kernel `qkv` against sums in double: projections over the root mean square, rotary pairs, scaled queries, keys and values
// in pages; and with what other architectures add: biases, norms of the heads, rotary pairs that are halves of a head.
#include <math.h>
#include <string.h>

#include "runtime/quant/quant.h"
#include "support/matrices.h"

enum { PARTS = 5, STATE_ROWS = 4, VECTOR = 5, MAX_OUT = 256, GAP = 96 }; // GAP: bytes between the matrices in their binding

static const struct heads {
    uint32_t n_head, n_head_kv, head_dim, rope_dim;
    bool bias, norm, halves;
} all_heads[] = {{1, 1, 16, 16, false, false, false}, {4, 2, 16, 16, false, true, true}, {3, 1, 64, 32, true, false, true},
                 {7, 1, 32, 32, true, true, true},    {2, 2, 96, 96, false, false, false}, {2, 1, 128, 96, false, true, true}};

struct world {
    struct graft_test_gpu *gpu;
    struct heads heads;
    struct graft_test_matrix w[3]; // q, k, v
    uint32_t base[3];              // byte offsets in the binding
    uint32_t rows, n_pages, state_rope;
    enum graft_kv_format kv_k, kv_v;
    struct graft_test_buffer weights, xn, ss, state, q, kv, fresh, count, vectors, raw, counter;
};

static uint32_t slot(uint32_t row, uint32_t n_pages)
{
    return (n_pages - 1 - row) * GRAFT_PAGE_TOKENS + row * 11 % GRAFT_PAGE_TOKENS; // never page 0
}

static uint64_t unit_bytes(const struct world *world, bool values)
{
    return graft_kv_unit_bytes(values ? world->kv_v : world->kv_k, world->heads.head_dim);
}

static uint64_t keys_bytes(const struct world *world)
{
    return (uint64_t)world->n_pages * world->heads.n_head_kv * unit_bytes(world, false);
}

static uint8_t *unit_of(const struct world *world, bool values, uint32_t slot, uint32_t head)
{
    return world->kv.b + (values ? keys_bytes(world) : 0) +
           ((uint64_t)slot / GRAFT_PAGE_TOKENS * world->heads.n_head_kv + head) * unit_bytes(world, values);
}

static void make_buffers(struct world *world, struct graft_test_gpu *gpu, uint32_t rows)
{
    uint32_t padded = graft_test_padded(rows), n_in = world->w[0].n_in, byte = 32;
    const struct heads *h = &world->heads;
    world->gpu = gpu;
    world->rows = rows;
    world->n_pages = rows + 2;
    world->state_rope = STATE_ROWS + padded * GRAFT_ROW_WORDS;
    for (uint32_t i = 0; i < 3; i++) {
        world->base[i] = byte;
        byte += (uint32_t)(world->w[i].bytes + GAP + 31) & ~31u;
    }
    world->weights = graft_test_buffer(gpu, byte / 4);
    world->xn = graft_test_buffer(gpu, (uint64_t)padded * n_in);
    world->ss = graft_test_buffer(gpu, (uint64_t)padded * PARTS);
    world->state = graft_test_buffer(gpu, world->state_rope + padded * h->rope_dim);
    world->q = graft_test_buffer(gpu, (uint64_t)padded * h->n_head * h->head_dim);
    uint64_t units = (uint64_t)world->n_pages * h->n_head_kv;
    world->kv = graft_test_buffer(gpu, units * (unit_bytes(world, false) + unit_bytes(world, true)) / 4);
    world->fresh = graft_test_buffer(gpu, (uint64_t)padded * 2 * h->n_head_kv * h->head_dim);
    world->count = graft_test_buffer(gpu, (uint64_t)padded * 2 * h->n_head_kv);
    memset(world->count.data, 0, world->count.words * 4);
    uint32_t n_heads = h->n_head + h->n_head_kv;
    world->vectors = graft_test_buffer(gpu, VECTOR + (n_heads + h->n_head_kv + 2) * h->head_dim);
    world->raw = graft_test_buffer(gpu, (uint64_t)padded * n_heads * h->head_dim);
    world->counter = graft_test_buffer(gpu, (uint64_t)padded * n_heads + 3);
    graft_test_fill(world->vectors.f, world->vectors.words, -0.5f, 1.0f, 7);
    memset(world->counter.u, 0, world->counter.words * 4);
    for (uint32_t i = 0; i < 3; i++) {
        graft_test_matrix_put(&world->w[i], &world->weights, world->base[i]);
    }
    graft_test_fill(world->xn.f, (uint64_t)rows * n_in, -2.0f, 2.5f, 5);
    graft_test_fill(world->ss.f, (uint64_t)rows * PARTS, 0.1f * (float)n_in, 0.4f * (float)n_in, 6);
    memset(world->state.u, 0, world->state.words * 4);
    for (uint32_t r = 0; r < rows; r++) {
        world->state.u[STATE_ROWS + r * GRAFT_ROW_WORDS + GRAFT_ROW_SLOT] = slot(r, world->n_pages);
        for (uint32_t i = 0; i < h->rope_dim / 2; i++) {
            double angle = r * 3 + 1.0 + i;
            world->state.f[world->state_rope + r * h->rope_dim + 2 * i] = (float)cos(angle);
            world->state.f[world->state_rope + r * h->rope_dim + 2 * i + 1] = (float)sin(angle);
        }
    }
}

static void free_buffers(struct world *world)
{
    struct graft_test_buffer *all[] = {&world->weights, &world->xn,    &world->ss,    &world->state,   &world->q,  &world->kv,
                                       &world->fresh,   &world->count, &world->vectors, &world->raw, &world->counter};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        graft_test_buffer_free(all[i]);
    }
}

// Segments [from, to) in one dispatch.
static void run_segments(struct world *world, uint32_t from, uint32_t to)
{
    struct graft_variant variant = graft_test_variant(world->gpu, world->w[0].type, world->rows, 0);
    struct graft_kernel kernel;
    uint32_t n_out[3] = {0};
    for (uint32_t i = from; i < to; i++) {
        n_out[i - from] = world->w[i].n_out;
    }
    ck_assert_ok(graft_kernel_matmul(&kernel, GRAFT_MATMUL_QKV, world->gpu->caps, &variant, world->w[0].type, to - from, n_out,
                                     world->rows));
    graft_kernel_kv(&kernel, world->kv_k, world->kv_v);
    const struct graft_qkv_shape shape = {.head_dim = world->heads.head_dim,
                                          .rope_dim = world->heads.rope_dim,
                                          .n_head_kv = world->heads.n_head_kv,
                                          .rope_halves = world->heads.halves,
                                          .bias = world->heads.bias,
                                          .head_norm = world->heads.norm};
    graft_kernel_qkv_shape(&kernel, &shape);
    struct graft_matmul_push *push = &kernel.push.matmul;
    for (uint32_t i = from; i < to; i++) {
        push->base[i - from] = world->base[i];
        push->kinds |= i << 2 * (i - from);
    }
    push->subs = world->w[0].n_in / 32;
    push->row_bytes = (uint32_t)world->w[0].row_bytes;
    push->out_stride = world->heads.n_head * world->heads.head_dim;
    push->parts_in = PARTS;
    push->inv_n = 1.0f / (float)world->w[0].n_in;
    push->eps = 1e-5f;
    push->scale = 0.125f;
    push->v_words = (uint32_t)(keys_bytes(world) / 4);
    push->state_rows = STATE_ROWS;
    push->state_rope = world->state_rope;
    push->vector = VECTOR;
    push->norm = VECTOR + (world->heads.n_head + 2 * world->heads.n_head_kv) * world->heads.head_dim;
    const struct graft_test_buffer *buffers[] = {&world->weights, &world->xn,    &world->ss,    &world->state,
                                                 &world->q,       &world->kv,    &world->fresh, &world->count,
                                                 &world->vectors, &world->raw,   &world->counter};
    graft_test_dispatch(world->gpu, &kernel, buffers, 11);
}

// All three at once, or values apart from queries and keys (as when their type differs).
static void run(struct world *world, bool apart)
{
    graft_test_buffer_poison(&world->q);
    graft_test_buffer_poison(&world->kv);
    if (apart) {
        run_segments(world, 2, 3);
        run_segments(world, 0, 2);
    } else {
        run_segments(world, 0, 3);
    }
}

// The weights' row of output o.
static uint32_t weight_row(const struct world *world, uint32_t kind, uint32_t o)
{
    uint32_t dim = o % world->heads.head_dim, half = world->heads.rope_dim / 2;
    bool moved = world->heads.halves && kind != 2 && dim < 2 * half;
    return moved ? o - dim + (dim % 2 ? half + dim / 2 : dim / 2) : o;
}

// What `projected` gave before, for one row: sums are over a whole head.
struct heads_of_row {
    double value[3][MAX_OUT], bound[3][MAX_OUT];
};

// Output o of matrix `kind` in a row before the head's norm.
static double projected(const struct world *world, uint32_t kind, uint32_t row, uint32_t o, double *bound)
{
    const struct heads *h = &world->heads;
    const struct graft_test_matrix *w = &world->w[kind];
    uint32_t at = weight_row(world, kind, o), before[] = {0, h->n_head, h->n_head + h->n_head_kv};
    double sum = 0;
    for (uint32_t p = 0; p < PARTS; p++) {
        sum += (double)world->ss.f[row * PARTS + p];
    }
    double inverse = 1 / sqrt(sum / w->n_in + 1e-5);
    const float *xn = world->xn.f + (uint64_t)row * w->n_in;
    double own = graft_test_product_as(w, at, xn, world->gpu, bound) * inverse;
    own += h->bias ? (double)world->vectors.f[VECTOR + before[kind] * h->head_dim + at] : 0;
    *bound = *bound * inverse + fabs(own) * 0x1p-20;
    return own;
}

// The same behind it: times gain, over the root mean square of the head.
static double normed(const struct world *world, const struct heads_of_row *all, uint32_t kind, uint32_t o, double *bound)
{
    const struct heads *h = &world->heads;
    double own = all->value[kind][o], squares = 0, off = 0;
    *bound = all->bound[kind][o];
    if (!h->norm || kind == 2) {
        return own;
    }
    for (uint32_t d = 0; d < h->head_dim; d++) {
        uint32_t at = o - o % h->head_dim + d;
        squares += all->value[kind][at] * all->value[kind][at];
        off += 2 * fabs(all->value[kind][at]) * all->bound[kind][at];
    }
    uint32_t at = VECTOR + (h->n_head + 2 * h->n_head_kv + kind) * h->head_dim + weight_row(world, kind, o) % h->head_dim;
    double mean = squares / h->head_dim + 1e-5, factor = (double)world->vectors.f[at] / sqrt(mean);
    *bound = fabs(factor) * (*bound + fabs(own) * (0.5 * off / h->head_dim / mean + 0x1p-20));
    return own * factor;
}

// The same behind rope, before scaling and rounding to f16.
static double expected(const struct world *world, const struct heads_of_row *all, uint32_t kind, uint32_t row, uint32_t o,
                       double *bound)
{
    const struct heads *h = &world->heads;
    double own = normed(world, all, kind, o, bound), other_bound;
    uint32_t dim = o % h->head_dim;
    if (kind == 2 || dim >= h->rope_dim) {
        return own;
    }
    double other = normed(world, all, kind, o ^ 1u, &other_bound);
    const float *pair = world->state.f + world->state_rope + row * h->rope_dim + (dim & ~1u);
    double c = (double)pair[0], s = dim % 2 ? (double)pair[1] : -(double)pair[1];
    *bound = *bound + other_bound + (fabs(own) + fabs(other)) * 0x1p-22;
    return own * c + other * s;
}

static void check_plain_value(struct world *world, bool f32, float got, uint64_t at, double want, double bound)
{
    if (f32) {
        graft_test_close(got, want, bound, world->gpu, "KV", at);
        return;
    }
    if (fabs(want) + bound >= 65504) { // f16 ends here; beyond it the largest value and infinity are both allowed
        ck_assert_msg(fabs(want) - bound < 65504 || fabs((double)got) >= 65504, "KV %llu: %g, expected %g",
                      (unsigned long long)at, (double)got, want);
        return;
    }
    graft_test_close(got, want, bound + fabs(want) * 0x1p-10 + 0x1p-24, world->gpu, "KV", at);
}

// A quantized head: the f32 values on their way are those that are wanted, and the unit holds what the scalar quantizer makes
// of them. Devices may divide with an error of a few units in the last place: a value that is near the middle between two codes
// may get either.
static void check_quantized(struct world *world, enum graft_kv_format format, const float *fresh, const float *got, uint64_t at)
{
    static uint8_t unit[GRAFT_PAGE_TOKENS * 128 * 4];
    float want[128];
    uint32_t dim = world->heads.head_dim;
    graft_kv_store(format, dim, unit, 3, fresh);
    graft_kv_load(format, dim, unit, 3, want);
    for (uint32_t d = 0; d < dim; d++) {
        double most = 0;
        for (uint32_t i = d / 32 * 32; i < d / 32 * 32 + 32; i++) {
            most = fmax(most, fabs((double)fresh[i]));
        }
        double step = most / (format == GRAFT_KV_FORMAT_Q8_0 ? 127 : 8);
        if (step > 65000 || step < 0x1p-14) {
            continue; // the scale is not a normal f16: as good as nothing is known of it
        }
        double off = fabs((double)got[d] - (double)want[d]);
        double middle = fabs((double)fresh[d] - ((double)got[d] + (double)want[d]) / 2);
        ck_assert_msg(off <= most * 0x1p-10 || (off < step * 1.01 && middle < step * 0.002),
                      "%s: KV %llu: %g, the scalar quantizer has %g of %g (%s)", world->gpu->mask, (unsigned long long)at + d,
                      (double)got[d], (double)want[d], (double)fresh[d], graft_kv_format_name(format));
    }
}

static void check(struct world *world)
{
    const struct heads *h = &world->heads;
    uint32_t width = h->n_head * h->head_dim;
    static struct heads_of_row all;
    for (uint32_t r = 0; r < world->rows; r++) {
        double bound;
        for (uint32_t kind = 0; kind < 3; kind++) {
            for (uint32_t o = 0; o < world->w[kind].n_out; o++) {
                all.value[kind][o] = projected(world, kind, r, o, &all.bound[kind][o]);
            }
        }
        for (uint32_t o = 0; o < width; o++) {
            double want = expected(world, &all, 0, r, o, &bound);
            graft_test_close(world->q.f[(uint64_t)r * width + o], want * 0.125, bound * 0.125 + fabs(want) * 0x1p-24,
                             world->gpu, "Q", (uint64_t)r * width + o);
        }
        uint32_t at = slot(r, world->n_pages);
        for (uint32_t i = 0; i < 2 * h->n_head_kv; i++) {
            uint32_t kind = 1 + i / h->n_head_kv, head = i % h->n_head_kv;
            enum graft_kv_format format = kind == 2 ? world->kv_v : world->kv_k;
            float got[128];
            graft_kv_load(format, h->head_dim, unit_of(world, kind == 2, at, head), at % GRAFT_PAGE_TOKENS, got);
            uint64_t first = (((uint64_t)r * 2 + kind - 1) * h->n_head_kv + head) * h->head_dim;
            for (uint32_t d = 0; d < h->head_dim; d++) {
                double want = expected(world, &all, kind, r, head * h->head_dim + d, &bound);
                if (graft_kv_is_quantized(format)) {
                    graft_test_close(world->fresh.f[first + d], want, bound, world->gpu, "fresh", first + d);
                } else {
                    check_plain_value(world, format == GRAFT_KV_FORMAT_F32, got[d], first + d, want, bound);
                }
            }
            if (graft_kv_is_quantized(format)) {
                check_quantized(world, format, world->fresh.f + first, got, first);
            }
        }
    }
    for (uint64_t i = 0; i < world->count.words; i++) {
        ck_assert_uint_eq(world->count.u[i], 0); // ready for the next step
    }
    // Nothing else was written but slot 0 of page 0, which rows beyond the batch use.
    uint64_t token = (unit_bytes(world, false) + unit_bytes(world, true)) / GRAFT_PAGE_TOKENS * h->n_head_kv;
    uint64_t most = token / 4 * (world->rows + (graft_test_padded(world->rows) > world->rows)), written = 0;
    for (uint64_t i = 0; i < world->kv.words; i++) {
        written += !graft_test_poisoned(&world->kv, i);
    }
    ck_assert_uint_le(written, most);
}

// Row i of the batch alone must give the bits it has in the batch.
static void check_single_rows(struct world *batch)
{
    const struct heads *h = &batch->heads;
    uint32_t n_in = batch->w[0].n_in, width = h->n_head * h->head_dim;
    struct world one = {.heads = *h, .w = {batch->w[0], batch->w[1], batch->w[2]}, .kv_k = batch->kv_k, .kv_v = batch->kv_v};
    make_buffers(&one, batch->gpu, 1);
    for (uint32_t r = 0; r < batch->rows; r++) {
        memcpy(one.xn.f, batch->xn.f + (uint64_t)r * n_in, n_in * 4);
        memcpy(one.ss.f, batch->ss.f + r * PARTS, PARTS * 4);
        memcpy(one.state.f + one.state_rope, batch->state.f + batch->state_rope + r * h->rope_dim, h->rope_dim * 4);
        run(&one, false);
        bool same = memcmp(one.q.f, batch->q.f + (uint64_t)r * width, width * 4) == 0;
        uint32_t from = slot(r, batch->n_pages), to = slot(0, one.n_pages);
        for (uint32_t i = 0; i < 2 * h->n_head_kv; i++) {
            float a[128], b[128];
            bool value = i >= h->n_head_kv;
            enum graft_kv_format format = value ? batch->kv_v : batch->kv_k;
            graft_kv_load(format, h->head_dim, unit_of(batch, value, from, i % h->n_head_kv), from % GRAFT_PAGE_TOKENS, a);
            graft_kv_load(format, h->head_dim, unit_of(&one, value, to, i % h->n_head_kv), to % GRAFT_PAGE_TOKENS, b);
            same = same && memcmp(a, b, h->head_dim * sizeof *a) == 0;
        }
        ck_assert_msg(same, "%s, type %u: row %u of %u differs from the row alone", batch->gpu->mask, batch->w[0].type, r,
                      batch->rows);
    }
    free_buffers(&one);
}

static void one_case(struct graft_test_gpu *gpu, uint32_t type, uint32_t n_in, uint32_t rows, enum graft_test_data data)
{
    struct world world;
    memset(&world, 0, sizeof world);
    world.heads = all_heads[rows > 8 && !gpu->matrix_cores ? 1 : type % (sizeof all_heads / sizeof *all_heads)];
    // By type and mask: more pairs of them are more pipelines, which cost most of the time. Heads of 16 cannot be quantized.
    static const enum graft_kv_format formats[][2] = {
        {GRAFT_KV_FORMAT_F16, GRAFT_KV_FORMAT_F16},   {GRAFT_KV_FORMAT_Q8_0, GRAFT_KV_FORMAT_Q8_0},
        {GRAFT_KV_FORMAT_Q4_0, GRAFT_KV_FORMAT_Q4_0}, {GRAFT_KV_FORMAT_F32, GRAFT_KV_FORMAT_F32},
        {GRAFT_KV_FORMAT_Q8_0, GRAFT_KV_FORMAT_Q4_0}, {GRAFT_KV_FORMAT_Q4_0, GRAFT_KV_FORMAT_F16}};
    uint32_t turn = type + gpu->which, f = world.heads.head_dim % 32 ? turn % 2 * 3 : turn % 6;
    world.kv_k = formats[f][0];
    world.kv_v = formats[f][1];
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t n_head = i == 0 ? world.heads.n_head : world.heads.n_head_kv;
        ck_assert(graft_test_matrix(&world.w[i], type, n_in, n_head * world.heads.head_dim, data, n_in + rows + 1000 * i));
    }
    make_buffers(&world, gpu, rows);
    run(&world, true);
    check(&world);
    run(&world, false);
    check(&world);
    if (!gpu->matrix_cores) { // those round differently
        check_single_rows(&world);
    }
    free_buffers(&world);
    for (uint32_t i = 0; i < 3; i++) {
        graft_test_matrix_free(&world.w[i]);
    }
}

START_TEST(queries_and_pages_are_the_rotated_sums_and_rows_keep_their_bits_in_any_batch)
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
    Suite *suite = suite_create("kernel qkv");
    TCase *tc = tcase_create("qkv");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, queries_and_pages_are_the_rotated_sums_and_rows_keep_their_bits_in_any_batch, 0,
                        GRAFT_TEST_MATRIX_MASKS);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
