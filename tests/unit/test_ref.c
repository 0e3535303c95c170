// SPDX-License-Identifier: Apache-2.0
// Every scalar kernel against numpy in double precision (tests/golden/make_ref.py).
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/quant/quant.h"
#include "runtime/model/exec.h"
#include "runtime/ref/ref.h"
#include "support/support.h"
#include "support/vocab_fixture.h"

enum { ROWS = 3, TABLE = 2, SCRATCH = 4096, MAX_VALUES = 8192 };

// One golden case: numbers by name, and the state image of its three rows. Sequence i has pages 1 + 2i and 2 + 2i.
struct fixture {
    const json_t *json;
    struct graft_ref_heads heads;
    struct graft_config config;
    struct graft_limits limits;
    struct graft_exec_row rows[ROWS];
    uint32_t tables[ROWS * TABLE], out[2];
    uint32_t image[1024];
    struct graft_ref_state state;
    float inv_rms[ROWS];
    float scratch[SCRATCH];
};

static uint32_t number(const struct fixture *f, const char *name)
{
    return (uint32_t)json_integer_value(json_object_get(f->json, name));
}

static uint32_t read_list(const json_t *list, float *out, uint32_t room)
{
    uint32_t count = (uint32_t)json_array_size(list);
    ck_assert_uint_gt(count, 0);
    ck_assert_uint_le(count, room);
    for (uint32_t i = 0; i < count; i++) {
        out[i] = (float)json_number_value(json_array_get(list, i));
    }
    return count;
}

static float *values(const struct fixture *f, const char *name)
{
    static float pool[8][MAX_VALUES]; // the last eight lists stay valid
    static uint32_t next;
    float *out = pool[next++ % 8];
    read_list(json_object_get(f->json, name), out, MAX_VALUES);
    return out;
}

static struct graft_ref_matrix matrix(const float *data, uint32_t n_in, uint32_t n_out)
{
    return (struct graft_ref_matrix){
        .data = (const uint8_t *)data, .type = GRAFT_TYPE_F32, .n_in = n_in, .n_out = n_out, .row_bytes = 4 * (uint64_t)n_in};
}

static void expect(const struct fixture *f, const char *name, const float *got, double tolerance)
{
    const json_t *want = json_object_get(f->json, name);
    ck_assert_uint_gt(json_array_size(want), 0);
    for (size_t i = 0; i < json_array_size(want); i++) {
        double w = json_number_value(json_array_get(want, i));
        ck_assert_msg(fabs((double)got[i] - w) <= tolerance * (1.0 + fabs(w)), "%s[%zu] is %.9g, numpy has %.9g", name, i,
                      (double)got[i], w);
    }
}

static void fill(struct fixture *f, const json_t *json)
{
    *f = (struct fixture){.json = json};
    f->heads = (struct graft_ref_heads){.n_head = number(f, "n_head"),
                                        .n_head_kv = number(f, "n_head_kv"),
                                        .head_dim = number(f, "head_dim"),
                                        .rope_dim = number(f, "rope_dim"),
                                        .rope_halves = json_is_true(json_object_get(json, "halves")),
                                        .attention_scale = 0.25f};
    f->config = (struct graft_config){.rope_dim = f->heads.rope_dim, .rope_magnitude = 1.0f};
    read_list(json_object_get(json, "inv_freq"), f->config.rope_inv_freq, GRAFT_MAX_ROPE_PAIRS);
    f->limits = (struct graft_limits){.n_batch = ROWS, .n_seq = ROWS, .n_pages = 1 + ROWS * TABLE, .table_pages = TABLE};
    for (uint32_t i = 0; i < ROWS; i++) {
        f->tables[i * TABLE] = 1 + 2 * i;
        f->tables[i * TABLE + 1] = 2 + 2 * i;
        uint32_t pos = (uint32_t)json_integer_value(json_array_get(json_object_get(json, "positions"), i));
        f->rows[i] = (struct graft_exec_row){
            .token = (uint32_t)json_integer_value(json_array_get(json_object_get(json, "tokens"), i)),
            .pos = pos,
            .seq = i,
            .slot = f->tables[i * TABLE + pos / GRAFT_PAGE_TOKENS] * GRAFT_PAGE_TOKENS + pos % GRAFT_PAGE_TOKENS};
    }
    f->out[0] = 2;
    struct graft_exec_batch batch = {.rows = f->rows, .n_rows = ROWS, .out = f->out, .n_out = 2, .tables = f->tables};
    ck_assert_uint_le(graft_state_words(&f->config, &f->limits, ROWS, &f->state.layout), sizeof f->image / sizeof *f->image);
    graft_state_fill(&f->config, &f->limits, &f->state.layout, ROWS, &batch, f->image);
    f->state.words = f->image;
    f->heads.rope = f->state.layout.rope;
    f->state.n_rows = ROWS;
    float ss[ROWS];
    read_list(json_object_get(json, "ss"), ss, ROWS);
    for (uint32_t i = 0; i < ROWS; i++) {
        f->inv_rms[i] = graft_ref_inverse_rms(ss[i], number(f, "n_embd"), 1e-5f);
    }
}

// Both forms of rotary pairs, one after the other.
static void for_each_case(void (*check)(struct fixture *f))
{
    static struct fixture f;
    json_t *golden = graft_test_golden("ref.json"), *json;
    const char *name;
    json_object_foreach(golden, name, json)
    {
        fill(&f, json);
        check(&f);
    }
    json_decref(golden);
}

// XN = X * gain, from the golden X.
static void scaled(const struct fixture *f, float *xn)
{
    uint32_t n = number(f, "n_embd");
    const float *x = values(f, "x"), *gain = values(f, "gain");
    for (uint32_t i = 0; i < ROWS * n; i++) {
        xn[i] = x[i] * gain[i % n];
    }
}

static uint64_t page_at(const struct fixture *f, uint32_t row, uint32_t head, uint32_t t)
{
    uint32_t page = f->tables[row * TABLE + t / GRAFT_PAGE_TOKENS];
    return (((uint64_t)page * f->heads.n_head_kv + head) * GRAFT_PAGE_TOKENS + t % GRAFT_PAGE_TOKENS) * f->heads.head_dim;
}

static void check_embed_and_norm(struct fixture *f)
{
    uint32_t n = number(f, "n_embd");
    struct graft_ref_matrix embd = matrix(values(f, "embd"), n, number(f, "n_vocab"));
    float x[512], xn[512], want[512], ss[ROWS];
    graft_ref_embed(&embd, &f->state, x);
    expect(f, "x", x, 1e-8); // the list has nine digits
    graft_ref_norm(x, values(f, "gain"), NULL, 0, ROWS, n, xn, ss);
    expect(f, "ss", ss, 1e-6);
    scaled(f, want);
    ck_assert_mem_eq(xn, want, ROWS * n * sizeof *xn);
}

START_TEST(embedding_and_norm)
{
    for_each_case(check_embed_and_norm);
}
END_TEST

static void check_qkv(struct fixture *f)
{
    uint32_t n = number(f, "n_embd"), dim = f->heads.head_dim, n_kv = f->heads.n_head_kv;
    struct graft_ref_matrix wq = matrix(values(f, "wq"), n, f->heads.n_head * dim), wk = matrix(values(f, "wk"), n, n_kv * dim),
                            wv = matrix(values(f, "wv"), n, n_kv * dim);
    float xn[512], q[512], got[2][256];
    static uint16_t k[MAX_VALUES], v[MAX_VALUES];
    memset(k, 0xff, sizeof k);
    scaled(f, xn);
    uint32_t all = f->heads.n_head + 2 * n_kv;
    for (uint32_t h = 0; h < all; h++) { // any division of the range
        graft_ref_qkv(&f->heads, &wq, &wk, &wv, &f->state, xn, f->inv_rms, q, k, v, h, h + 1, f->scratch);
    }
    expect(f, "q", q, 1e-5);
    for (uint32_t r = 0, at = 0; r < ROWS; r++) {
        for (uint32_t h = 0; h < n_kv; h++) {
            for (uint32_t d = 0; d < dim; d++, at++) {
                uint64_t from = page_at(f, r, h, f->rows[r].pos) + d;
                got[0][at] = graft_f16_to_f32(k[from]);
                got[1][at] = graft_f16_to_f32(v[from]);
            }
        }
    }
    expect(f, "k", got[0], 6e-4); // f16 has 11 bits
    expect(f, "v", got[1], 6e-4);
    uint32_t written = 0;
    for (uint32_t i = 0; i < MAX_VALUES; i++) {
        written += k[i] != 0xffff;
    }
    ck_assert_uint_eq(written, ROWS * n_kv * dim); // and nothing else
}

START_TEST(projections_rotation_and_pages)
{
    for_each_case(check_qkv);
}
END_TEST

static void check_attention(struct fixture *f)
{
    static uint16_t k[MAX_VALUES], v[MAX_VALUES];
    static float keys[4096], vals[4096];
    uint32_t dim = f->heads.head_dim, n_kv = f->heads.n_head_kv;
    memset(k, 0x7e, sizeof k); // NaN wherever nothing was stored: later tokens must not be read
    memset(v, 0x7e, sizeof v);
    for (uint32_t r = 0; r < ROWS; r++) {
        const json_t *history = json_array_get(json_object_get(f->json, "history"), r);
        read_list(json_object_get(history, "k"), keys, 4096);
        read_list(json_object_get(history, "v"), vals, 4096);
        for (uint32_t t = 0; t <= f->rows[r].pos; t++) {
            for (uint32_t h = 0; h < n_kv; h++) {
                for (uint32_t d = 0; d < dim; d++) {
                    k[page_at(f, r, h, t) + d] = graft_f32_to_f16(keys[(t * n_kv + h) * dim + d]);
                    v[page_at(f, r, h, t) + d] = graft_f32_to_f16(vals[(t * n_kv + h) * dim + d]);
                }
            }
        }
    }
    float ao[512];
    graft_ref_attention(&f->heads, &f->state, values(f, "q"), k, v, ao, 0, 1, f->scratch);
    graft_ref_attention(&f->heads, &f->state, values(f, "q"), k, v, ao, 1, f->heads.n_head, f->scratch);
    expect(f, "ao", ao, 1e-5);
}

START_TEST(attention_over_pages)
{
    for_each_case(check_attention);
}
END_TEST

static void check_residual_and_gate_up(struct fixture *f)
{
    uint32_t n = number(f, "n_embd"), n_ff = number(f, "n_ff"), heads = f->heads.n_head * f->heads.head_dim;
    float x[512], xn[512], h[512];
    memcpy(x, values(f, "x"), ROWS * n * sizeof *x);
    struct graft_ref_matrix wo = matrix(values(f, "wo"), heads, n);
    const float *ao = values(f, "ao");
    graft_ref_residual(&wo, ao, ROWS, x, false, 0, 5, f->scratch);
    graft_ref_residual(&wo, ao, ROWS, x, false, 5, n, f->scratch);
    expect(f, "residual", x, 1e-5);
    struct graft_ref_matrix wg = matrix(values(f, "wg"), n, n_ff), wu = matrix(values(f, "wu"), n, n_ff);
    scaled(f, xn);
    graft_ref_gate_up(&wg, &wu, xn, f->inv_rms, ROWS, false, h, 0, 7, f->scratch);
    graft_ref_gate_up(&wg, &wu, xn, f->inv_rms, ROWS, false, h, 7, n_ff, f->scratch);
    expect(f, "h", h, 1e-5);
}

START_TEST(residual_and_gated_feed_forward)
{
    for_each_case(check_residual_and_gate_up);
}
END_TEST

static void check_head(struct fixture *f)
{
    uint32_t n = number(f, "n_embd"), n_vocab = number(f, "n_vocab");
    struct graft_ref_matrix w = matrix(values(f, "embd"), n, n_vocab);
    float xn[512], logits[128];
    scaled(f, xn);
    graft_ref_head(&w, &f->state, xn, f->inv_rms, 0.0f, logits, 0, 11, f->scratch);
    graft_ref_head(&w, &f->state, xn, f->inv_rms, 0.0f, logits, 11, n_vocab, f->scratch);
    expect(f, "logits", logits, 1e-5);
}

START_TEST(logits_of_wanted_rows)
{
    for_each_case(check_head);
}
END_TEST

static int ascending(const void *a, const void *b)
{
    return (*(const int32_t *)a > *(const int32_t *)b) - (*(const int32_t *)a < *(const int32_t *)b);
}

START_TEST(top_keeps_the_best_and_the_smaller_id_of_equals)
{
    static const float logits[] = {1, 5, 3, 5, -2, 3, 3, 0}; // order: 1 3 2 5 6 0 7 4
    static const int32_t order[] = {1, 3, 2, 5, 6, 0, 7, 4};
    for (uint32_t k = 0; k <= 8; k++) {
        int32_t ids[8], want[8];
        float got[8];
        graft_ref_top(logits, 8, k, ids, got);
        for (uint32_t i = 0; i < k; i++) {
            ck_assert_float_eq(got[i], logits[ids[i]]);
            want[i] = order[i];
        }
        qsort(ids, k, sizeof *ids, ascending);
        qsort(want, k, sizeof *want, ascending);
        ck_assert(k == 0 || memcmp(ids, want, k * sizeof *ids) == 0);
    }
    float with_nan[] = {1, NAN, 2, 3};
    int32_t id;
    float value;
    graft_ref_top(with_nan, 4, 1, &id, &value);
    ck_assert_int_eq(id, 1); // a broken model shows
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ref");
    TCase *tc = tcase_create("ref");
    tcase_add_test(tc, embedding_and_norm);
    tcase_add_test(tc, projections_rotation_and_pages);
    tcase_add_test(tc, attention_over_pages);
    tcase_add_test(tc, residual_and_gated_feed_forward);
    tcase_add_test(tc, logits_of_wanted_rows);
    tcase_add_test(tc, top_keeps_the_best_and_the_smaller_id_of_equals);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
