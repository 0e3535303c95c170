// SPDX-License-Identifier: Apache-2.0
// The plan's shape, the state image word by word, and looking at a plan's buffers.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/model/exec.h"
#include "runtime/model/kv.h"
#include "support/support.h"
#include "support/tiny_model.h"

static struct graft_ctx *ctx;
static struct graft_test_gguf builder;
static struct graft_gguf *gguf;
static struct graft_source *source;
static struct graft_plan *plan;

static void set_up(void)
{
    builder = (struct graft_test_gguf){0};
    graft_tiny_model_build(&builder, &(struct graft_tiny_model){.n_layer = 3});
    graft_test_gguf_finish(&builder);
    ctx = graft_test_ctx(NULL, 0);
    ck_assert_ok(graft_gguf_open_memory(ctx, &gguf, builder.file, builder.file_size, "tiny.gguf", false));
    ck_assert_ok(graft_source_open(ctx, &source, gguf));
    ck_assert_ok(graft_plan_create(ctx, &plan, source));
}

static void tear_down(void)
{
    graft_plan_destroy(&plan);
    graft_source_close(&source);
    graft_gguf_close(&gguf);
    struct graft_memory_use use;
    graft_ctx_memory(ctx, &use);
    ck_assert_uint_eq(use.used_bytes, 0);
    graft_ctx_destroy(&ctx);
    graft_test_gguf_free(&builder);
}

START_TEST(a_layer_is_five_steps_and_every_norm_is_folded_into_the_step_before)
{
    static const enum graft_step_kind kinds[] = {GRAFT_STEP_QKV, GRAFT_STEP_ATTENTION, GRAFT_STEP_RESIDUAL, GRAFT_STEP_GATE_UP,
                                                 GRAFT_STEP_RESIDUAL};
    ck_assert_uint_eq(plan->n_body, 1 + 3 * 5);
    ck_assert_int_eq(plan->body[0].kind, GRAFT_STEP_EMBED);
    ck_assert_ptr_eq(plan->body[0].gain, &source->layers[0].attn_norm);
    for (uint32_t layer = 0; layer < 3; layer++) {
        const struct graft_step *s = &plan->body[1 + layer * 5];
        const struct graft_layer *l = &source->layers[layer];
        for (int k = 0; k < 5; k++) {
            ck_assert_int_eq(s[k].kind, kinds[k]);
            ck_assert_uint_eq(s[k].layer, layer);
        }
        ck_assert_ptr_eq(s[0].weight[0], &l->q);
        ck_assert_ptr_eq(s[0].weight[2], &l->v);
        ck_assert_ptr_null(s[1].weight[0]);
        ck_assert_ptr_eq(s[2].weight[0], &l->o);
        ck_assert(!s[2].from_ff);
        ck_assert_ptr_eq(s[2].gain, &l->ffn_norm);
        ck_assert_ptr_eq(s[3].weight[1], &l->up);
        ck_assert_ptr_eq(s[4].weight[0], &l->down);
        ck_assert(s[4].from_ff);
        ck_assert_ptr_eq(s[4].gain, layer == 2 ? &source->output_norm : &source->layers[layer + 1].attn_norm);
    }
    ck_assert_str_eq(plan->body[6].name, "blk.1.qkv");
    ck_assert_str_eq(plan->body[15].name, "blk.2.ffn_down");
    ck_assert_int_eq(plan->head[0].kind, GRAFT_STEP_HEAD);
    ck_assert_ptr_eq(plan->head[0].weight[0], &source->output);
    ck_assert_int_eq(plan->head[1].kind, GRAFT_STEP_TOP);
}
END_TEST

static float as_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

START_TEST(the_state_image_is_laid_out_as_described)
{
    enum { ROWS = 4, N_SEQ = 2, TABLE = 3 };
    struct graft_limits limits = {.n_batch = 8, .n_seq = N_SEQ, .n_pages = 7, .table_pages = TABLE};
    const struct graft_config *c = &source->config; // 16 rotated values
    struct graft_state_layout layout;
    uint32_t words = graft_state_words(c, &limits, ROWS, &layout);
    ck_assert_uint_eq(layout.rows, 4);
    ck_assert_uint_eq(layout.outs, 4 + ROWS * 16);
    ck_assert_uint_eq(layout.rope, layout.outs + ROWS);
    ck_assert_uint_eq(layout.tables, layout.rope + ROWS * 16);
    ck_assert_uint_eq(words, layout.tables + (N_SEQ + 1) * TABLE);
    uint32_t image[512];
    memset(image, 0xab, sizeof image);
    const uint32_t tables[N_SEQ * TABLE] = {4, 2, 0, 6, 0, 0}, out[] = {1};
    const struct graft_exec_row rows[] = {{.token = 11, .pos = 37, .seq = 0, .slot = 2 * 32 + 5},
                                          {.token = 9, .pos = 3, .seq = 1, .slot = 6 * 32 + 3}};
    struct graft_exec_batch batch = {.rows = rows, .n_rows = 2, .out = out, .n_out = 1, .tables = tables};
    graft_state_fill(c, &limits, &layout, ROWS, &batch, image);
    ck_assert_uint_eq(image[0], 2);
    ck_assert_uint_eq(image[1], 1);
    const uint32_t want[ROWS][4] = {{11, 37, 0, 69}, {9, 3, TABLE, 195}, {0, 0, N_SEQ * TABLE, 0}, {0, 0, N_SEQ * TABLE, 0}};
    for (uint32_t r = 0; r < ROWS; r++) {
        const uint32_t *row = image + 4 + r * 16;
        ck_assert_mem_eq(row, want[r], sizeof want[r]);
        for (uint32_t k = 0; k < 4; k++) {
            ck_assert_uint_eq(row[4 + 2 * k], 0xffffffffu);
        }
        for (uint32_t i = 0; i < 8; i++) {
            double angle = want[r][1] * pow(10000.0, -(double)i / 8.0);
            ck_assert_double_eq_tol(as_float(image[layout.rope + r * 16 + 2 * i]), cos(angle), 1e-5);
            ck_assert_double_eq_tol(as_float(image[layout.rope + r * 16 + 2 * i + 1]), sin(angle), 1e-5);
        }
    }
    ck_assert_uint_eq(image[layout.outs], 1);
    ck_assert_mem_eq(image + layout.tables, tables, sizeof tables);
    for (uint32_t i = 0; i < TABLE; i++) {
        ck_assert_uint_eq(image[layout.tables + N_SEQ * TABLE + i], 0); // the spare table
    }
    ck_assert_uint_eq(image[words], 0xababababu);
}
END_TEST

START_TEST(peeking_shows_each_step_and_changes_nothing)
{
    struct graft_exec_params params = {.ctx = ctx, .plan = plan, .limits = graft_kv_limits(64, 8, 1)};
    struct graft_exec *exec;
    struct graft_kv *kv;
    ck_assert_ok(graft_exec_ref_create(&exec, &params));
    ck_assert_ok(graft_kv_create(ctx, &kv, &params.limits));
    struct graft_exec_row rows[3];
    for (uint32_t i = 0; i < 3; i++) {
        rows[i] = (struct graft_exec_row){.token = 5 + i, .pos = i};
        ck_assert(graft_kv_append(kv, 0, &rows[i].slot));
    }
    const uint32_t out[] = {2};
    struct graft_exec_batch batch = {.rows = rows, .n_rows = 3, .out = out, .n_out = 1, .tables = kv->tables, .logits = true};
    ck_assert_ok(exec->functions->run(exec, &batch));
    float before[GRAFT_TINY_VOCAB], x[3 * 64], ss[3];
    const float *logits;
    ck_assert_ok(exec->functions->logits(exec, 0, &logits));
    memcpy(before, logits, sizeof before);
    ck_assert_status(exec->functions->logits(exec, 1, &logits), GRAFT_E_ARGUMENT);
    ck_assert_ok(exec->functions->peek(exec, &batch, 1, GRAFT_BUFFER_X, x, 3 * 64)); // after the embedding
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert_mem_eq(x + i * 64, source->embd.data + (5 + i) * source->embd.row_bytes, 64 * 4);
    }
    ck_assert_ok(exec->functions->peek(exec, &batch, plan->n_body, GRAFT_BUFFER_X, x, 3 * 64));
    ck_assert_ok(exec->functions->peek(exec, &batch, plan->n_body, GRAFT_BUFFER_SS, ss, 3));
    for (uint32_t i = 0; i < 3; i++) {
        double sum = 0.0;
        for (uint32_t k = 0; k < 64; k++) {
            sum += (double)x[i * 64 + k] * (double)x[i * 64 + k];
        }
        ck_assert_double_eq_tol(ss[i], sum, 1e-4 * sum);
    }
    ck_assert_status(exec->functions->peek(exec, &batch, 1, GRAFT_BUFFER_H, x, 3), GRAFT_E_ARGUMENT);
    ck_assert_status(exec->functions->peek(exec, &batch, 99, GRAFT_BUFFER_X, x, 3 * 64), GRAFT_E_ARGUMENT);
    ck_assert_ok(exec->functions->run(exec, &batch));
    ck_assert_ok(exec->functions->logits(exec, 0, &logits));
    ck_assert_mem_eq(before, logits, sizeof before);
    graft_kv_destroy(&kv);
    exec->functions->destroy(&exec);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("plan");
    TCase *tc = tcase_create("plan");
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, a_layer_is_five_steps_and_every_norm_is_folded_into_the_step_before);
    tcase_add_test(tc, the_state_image_is_laid_out_as_described);
    tcase_add_test(tc, peeking_shows_each_step_and_changes_nothing);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
