// SPDX-License-Identifier: Apache-2.0
// Whole tiny models on the Vulkan device against the scalar reference, step by step and to the end.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/quant/quant.h"
#include "runtime/vk/vk_internal.h"
#include "support/matrices.h"
#include "support/model_world.h"

enum { PROMPT = 45, MAX_VALUES = 8 * 4 * 256 };

// ---- step by step ----

// The buffers a step writes.
static uint32_t written(enum graft_step_kind kind, enum graft_exec_buffer out[3])
{
    switch (kind) {
    case GRAFT_STEP_QKV:
        out[0] = GRAFT_BUFFER_Q;
        return 1;
    case GRAFT_STEP_ATTENTION:
        out[0] = GRAFT_BUFFER_AO;
        return 1;
    case GRAFT_STEP_GATE_UP:
        out[0] = GRAFT_BUFFER_H;
        return 1;
    default:
        out[0] = GRAFT_BUFFER_X, out[1] = GRAFT_BUFFER_XN, out[2] = GRAFT_BUFFER_SS;
        return 3;
    }
}

static uint64_t width(const struct graft_config *c, enum graft_exec_buffer buffer)
{
    return buffer == GRAFT_BUFFER_SS                               ? 1
           : buffer == GRAFT_BUFFER_H                              ? c->n_ff
           : buffer == GRAFT_BUFFER_Q || buffer == GRAFT_BUFFER_AO ? (uint64_t)c->n_head * c->head_dim
                                                                   : c->n_embd;
}

static void compare(const float *got, const float *want, uint64_t count, double tolerance, const char *where, int buffer)
{
    double most = 0;
    for (uint64_t i = 0; i < count; i++) {
        most = fmax(most, fabs((double)want[i]));
    }
    for (uint64_t i = 0; i < count; i++) {
        ck_assert_msg(fabs((double)got[i] - (double)want[i]) <= tolerance * most,
                      "%s, buffer %d, value %u: %.9g, the reference has %.9g (largest %g)", where, buffer, (unsigned)i,
                      (double)got[i], (double)want[i], most);
    }
}

// n_rows rows behind the prompts of two sequences, the same in both models.
static void compare_steps(struct graft_model *vk, struct graft_model *ref, uint32_t n_rows, double tolerance)
{
    static float got[MAX_VALUES], want[MAX_VALUES];
    struct graft_exec_row rows[8];
    int32_t ids[8];
    graft_test_ids(ids, n_rows, 77);
    for (uint32_t i = 0; i < n_rows; i++) {
        uint32_t seq = i % 2, slot, other, pos = vk->kv->lengths[seq];
        ck_assert(graft_kv_append(vk->kv, seq, &slot) && graft_kv_append(ref->kv, seq, &other));
        ck_assert_uint_eq(slot, other);
        rows[i] = (struct graft_exec_row){.token = (uint32_t)ids[i], .pos = pos, .seq = seq, .slot = slot};
    }
    struct graft_exec_batch batch = {.rows = rows, .n_rows = n_rows, .tables = vk->kv->tables};
    for (uint32_t s = 0; s < vk->plan->n_body; s++) {
        enum graft_exec_buffer buffers[3];
        uint32_t n = written(vk->plan->body[s].kind, buffers);
        for (uint32_t i = 0; i < n; i++) {
            uint64_t count = width(&vk->source->config, buffers[i]) * n_rows;
            ck_assert_uint_le(count, MAX_VALUES);
            ck_assert_ok(vk->exec->functions->peek(vk->exec, &batch, s + 1, buffers[i], got, MAX_VALUES));
            ck_assert_ok(ref->exec->functions->peek(ref->exec, &batch, s + 1, buffers[i], want, MAX_VALUES));
            compare(got, want, count, tolerance, vk->plan->body[s].name, (int)buffers[i]);
        }
    }
    for (uint32_t seq = 0; seq < 2; seq++) {
        uint32_t own = (n_rows + 1 - seq) / 2;
        graft_kv_truncate(vk->kv, seq, vk->kv->lengths[seq] - own);
        graft_kv_truncate(ref->kv, seq, ref->kv->lengths[seq] - own);
    }
}

// Candidates of the last batch's only answer are the best of its logits.
static void compare_candidates(struct graft_model *model, uint32_t row)
{
    struct graft_candidate list[64];
    const float *logits;
    uint32_t count = 64, n_vocab = model->source->config.n_vocab;
    ck_assert_ok(graft_model_logits(model, row, &logits));
    ck_assert_ok(graft_model_candidates(model, row, list, &count));
    ck_assert_uint_eq(count, 64);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t better = 0;
        for (uint32_t k = 0; k < n_vocab; k++) {
            better += logits[k] > list[i].logit || (logits[k] == list[i].logit && (int32_t)k < list[i].id);
        }
        ck_assert_uint_eq(better, i);
        ck_assert(logits[list[i].id] == list[i].logit);
    }
}

// A model on the device with `options` against the reference. Without `exact`, keys and values are f16: where the two round
// differently they are 2^-11 apart, hence the wider tolerance. 8-bit activations are off by up to 1 / 254 of a group's largest
// value each.
static void compare_model(const struct graft_vk_options *options, const char *path, uint32_t n_batch, bool exact,
                          enum graft_activations activations)
{
    static float got[GRAFT_TINY_VOCAB], want[GRAFT_TINY_VOCAB];
    double tolerance = exact ? 3e-5 : activations == GRAFT_ACTIVATIONS_INT8 ? 0.12 : 2e-3;
    struct graft_test_world vk, ref;
    struct graft_model_params params = {
        .size = sizeof params, .n_ctx = 128, .n_batch = n_batch, .n_seq = 2, .exact = exact, .activations = activations};
    if (!graft_test_world_open(&vk, options, path, &params)) {
        return;
    }
    struct graft_model_info info;
    graft_model_describe(vk.model, &info);
    ck_assert(info.activations == activations || !graft_vk_caps(vk.device.vk)->dot8);
    ck_assert(graft_test_world_open(&ref, NULL, path, &params));
    int32_t ids[PROMPT];
    graft_test_ids(ids, PROMPT, 5);
    for (uint32_t s = 0; s < 2; s++) {
        struct graft_seq *a, *b;
        ck_assert_ok(graft_seq_create(vk.model, &a));
        ck_assert_ok(graft_seq_create(ref.model, &b));
        graft_test_feed(vk.model, a, ids + s, s ? 7 : PROMPT, n_batch, got);
        graft_test_feed(ref.model, b, ids + s, s ? 7 : PROMPT, n_batch, want);
        compare(got, want, GRAFT_TINY_VOCAB, tolerance, "logits", 0);
        compare_candidates(vk.model, ((s ? 7 : PROMPT) - 1) % n_batch);
    }
    compare_steps(vk.model, ref.model, n_batch, tolerance);
    compare_steps(vk.model, ref.model, 1, tolerance);
    graft_test_world_close(&ref);
    graft_test_world_close(&vk);
}

START_TEST(every_weight_type_follows_the_reference_step_by_step)
{
    char path[GRAFT_TINY_PATH_BYTES];
    uint32_t type = graft_test_types[_i];
    struct graft_tiny_model tiny = {.type = type, .untied = _i % 2, .rope_factors = _i % 3 == 0};
    graft_tiny_model_file(&tiny, path);
    compare_model(&(struct graft_vk_options){0}, path, _i % 2 ? 3 : 2, _i % 4 != 1, GRAFT_ACTIVATIONS_F32);
    remove(path);
}
END_TEST

// Mixtures as files have them: tensors of other types than the rest of the model; those that need other dispatches in every
// mask of features that has a variant of its own.
enum { MIXED = 4, FIRST_BLOCKS = 3 }; // types of graft_test_types from there on have blocks
static const struct mixture {
    uint32_t type; // of all other matrices
    struct {
        const char *suffix;
        uint32_t type;
    } others[MIXED];
} mixtures[] = {
    // Q4_K_M, Q5_K_M, Q3_K_M, Q2_K, IQ4_XS, and blocks of 32 for rows that 256 does not divide
    {GRAFT_TYPE_Q4_K, {{"attn_v", GRAFT_TYPE_Q6_K}, {"ffn_down", GRAFT_TYPE_Q6_K}}},
    {GRAFT_TYPE_Q5_K, {{"attn_v", GRAFT_TYPE_Q6_K}, {"ffn_down", GRAFT_TYPE_Q6_K}, {"attn_k", GRAFT_TYPE_Q8_0}}},
    {GRAFT_TYPE_Q3_K, {{"attn_v", GRAFT_TYPE_Q5_K}, {"attn_output", GRAFT_TYPE_Q4_K}, {"ffn_down", GRAFT_TYPE_Q4_K}}},
    {GRAFT_TYPE_Q2_K, {{"attn_v", GRAFT_TYPE_Q4_K}, {"attn_output", GRAFT_TYPE_Q3_K}, {"ffn_down", GRAFT_TYPE_Q3_K}}},
    {GRAFT_TYPE_IQ4_XS, {{"attn_v", GRAFT_TYPE_Q5_K}, {"ffn_down", GRAFT_TYPE_IQ4_NL}}},
    {GRAFT_TYPE_Q8_0, {{"ffn_gate", GRAFT_TYPE_MXFP4}, {"ffn_up", GRAFT_TYPE_MXFP4}, {"ffn_down", GRAFT_TYPE_MXFP4}}},
    // gate and up of different types: one dispatch each
    {GRAFT_TYPE_Q4_K, {{"ffn_gate", GRAFT_TYPE_Q5_1}}},
    {GRAFT_TYPE_IQ4_NL, {{"ffn_up", GRAFT_TYPE_F16}, {"attn_q", GRAFT_TYPE_Q5_0}}},
    {GRAFT_TYPE_Q5_0, {{"ffn_gate", GRAFT_TYPE_Q2_K}, {"ffn_up", GRAFT_TYPE_Q6_K}, {"attn_k", GRAFT_TYPE_MXFP4}}},
};
enum { MIXTURES = sizeof mixtures / sizeof *mixtures, GATE_UP_MIXTURES = 6 }; // from there on gate and up differ

static void mixed_model(const struct mixture *mixture, char path[GRAFT_TINY_PATH_BYTES])
{
    char names[2 * MIXED][64];
    struct graft_tiny_model tiny = {.type = mixture->type, .n_embd = 256, .n_ff = 256, .head_dim = 64};
    struct graft_test_gguf b = {0};
    uint32_t n = 0;
    for (uint32_t l = 0; l < 2; l++) {
        for (uint32_t i = 0; i < MIXED && mixture->others[i].suffix; i++) {
            snprintf(names[n], sizeof *names, "blk.%u.%s.weight", l, mixture->others[i].suffix);
            tiny.leave_out[n] = names[n];
            n++;
        }
    }
    graft_tiny_model_build(&b, &tiny);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t type = mixture->others[i % (n / 2)].type;
        uint32_t n_out = strstr(names[i], "attn_k") || strstr(names[i], "attn_v") ? 128 : 256;
        struct graft_test_matrix m;
        ck_assert(graft_test_matrix(&m, type, 256, n_out, GRAFT_TEST_ORDINARY, 9 + i));
        graft_test_gguf_tensor(&b, names[i], type, 2, (uint64_t[]){256, n_out}, m.data, m.bytes);
        graft_test_matrix_free(&m);
    }
    graft_tiny_save(&b, path);
    graft_test_gguf_free(&b);
}

START_TEST(mixtures_of_types_follow_the_reference_step_by_step)
{
    static const enum graft_test_mask masks[] = {GRAFT_TEST_PLAIN, GRAFT_TEST_NO_TEXEL, GRAFT_TEST_NO_SUBGROUPS};
    char path[GRAFT_TINY_PATH_BYTES];
    mixed_model(&mixtures[_i], path);
    for (size_t i = 0; i < (_i < GATE_UP_MIXTURES ? 1 : sizeof masks / sizeof *masks); i++) {
        struct graft_vk_options options = graft_test_mask_options(masks[i]);
        compare_model(&options, path, 2 + (uint32_t)i, true, GRAFT_ACTIVATIONS_F32);
    }
    remove(path);
}
END_TEST

// Weights that are all NaN or infinite: no crash, no hang, the model answers and can be closed. MXFP4 knows no NaN.
START_TEST(hostile_blocks_do_no_harm)
{
    static const uint8_t bytes[] = {0xff, 0x7c};
    static float logits[GRAFT_TINY_VOCAB];
    static uint8_t rows[256 * 1024];
    for (size_t i = 0; i < sizeof bytes; i++) {
        char path[GRAFT_TINY_PATH_BYTES];
        uint64_t row_bytes;
        uint32_t type = graft_test_types[_i];
        struct graft_tiny_model tiny = {
            .type = type, .n_embd = 256, .n_ff = 256, .head_dim = 64, .leave_out = {"blk.1.ffn_up.weight"}};
        struct graft_test_gguf b = {0};
        graft_tiny_model_build(&b, &tiny);
        ck_assert(graft_type_row_bytes(type, 256, &row_bytes) && row_bytes * 256 <= sizeof rows);
        memset(rows, bytes[i], sizeof rows);
        graft_test_gguf_tensor(&b, tiny.leave_out[0], type, 2, (uint64_t[]){256, 256}, rows, row_bytes * 256);
        graft_tiny_save(&b, path);
        graft_test_gguf_free(&b);
        struct graft_test_world vk;
        struct graft_model_params params = {.size = sizeof params, .n_ctx = 128, .n_batch = 2, .n_seq = 1};
        if (graft_test_world_open(&vk, &(struct graft_vk_options){0}, path, &params)) {
            struct graft_seq *seq;
            struct graft_candidate list[64];
            uint32_t count = 64;
            ck_assert_ok(graft_seq_create(vk.model, &seq));
            graft_test_feed(vk.model, seq, (int32_t[]){1, 2}, 2, 2, logits);
            ck_assert_ok(graft_model_candidates(vk.model, 1, list, &count));
            ck_assert_uint_le(count, 64);
            graft_test_world_close(&vk);
        }
        remove(path);
    }
}
END_TEST

START_TEST(every_mask_of_features_follows_the_reference)
{
    char path[GRAFT_TINY_PATH_BYTES];
    graft_tiny_model_file(&(struct graft_tiny_model){.type = GRAFT_TYPE_Q4_1}, path);
    struct graft_vk_options options = graft_test_mask_options((enum graft_test_mask)_i);
    enum graft_activations activations = graft_test_mask_activations((enum graft_test_mask)_i);
    compare_model(&options, path, 4, activations == GRAFT_ACTIVATIONS_F32 && _i != GRAFT_TEST_PLAIN, activations);
    remove(path);
}
END_TEST

// ---- bits ----

// Logits do not depend on how a prompt is cut, nor on what else is in a batch; mapped weights are the same weights.
START_TEST(bits_depend_on_neither_chunks_nor_neighbours_nor_the_place_of_weights)
{
    enum { N = 8, LENGTH = 12 };
    static float one[GRAFT_TINY_VOCAB], other[GRAFT_TINY_VOCAB], last[N][GRAFT_TINY_VOCAB];
    char path[GRAFT_TINY_PATH_BYTES];
    int32_t ids[PROMPT], each[N][LENGTH];
    graft_tiny_model_file(&(struct graft_tiny_model){.type = GRAFT_TYPE_Q8_0}, path);
    struct graft_vk_options options = graft_test_mask_options((enum graft_test_mask)_i);
    struct graft_model_params params = {
        .size = sizeof params, .n_ctx = 512, .n_batch = N, .n_seq = N, .weights = GRAFT_WEIGHTS_COPY};
    params.activations = graft_test_mask_activations((enum graft_test_mask)_i);
    struct graft_test_world w;
    if (!graft_test_world_open(&w, &options, path, &params)) {
        return;
    }
    graft_test_ids(ids, PROMPT, 3);
    struct graft_seq *seqs[N];
    for (uint32_t s = 0; s < N; s++) {
        ck_assert_ok(graft_seq_create(w.model, &seqs[s]));
    }
    graft_test_feed(w.model, seqs[0], ids, PROMPT, 8, one);
    for (uint32_t batch = 1; batch < 8; batch++) {
        graft_seq_truncate(seqs[0], 0);
        graft_test_feed(w.model, seqs[0], ids, PROMPT, batch, other);
        ck_assert_msg(memcmp(one, other, sizeof one) == 0, "%s: chunks of %u", graft_test_mask_name((enum graft_test_mask)_i),
                      batch);
    }
    graft_seq_truncate(seqs[0], 0);
    for (uint32_t n = 2; n <= N; n *= 2) {
        struct graft_row rows[N];
        for (uint32_t t = 0; t < LENGTH; t++) {
            for (uint32_t s = 0; s < n; s++) {
                graft_test_ids(each[s], LENGTH, 50 + s);
                rows[s] = (struct graft_row){seqs[s], each[s][t], true};
            }
            ck_assert_ok(graft_decode(w.model, rows, n, GRAFT_WANT_LOGITS));
        }
        for (uint32_t s = 0; s < n; s++) {
            const float *logits;
            ck_assert_ok(graft_model_logits(w.model, s, &logits));
            memcpy(last[s], logits, sizeof last[s]);
        }
        for (uint32_t s = 0; s < n; s++) {
            graft_seq_truncate(seqs[s], 0);
            graft_test_feed(w.model, seqs[s], each[s], LENGTH, 1, other);
            ck_assert_msg(memcmp(last[s], other, sizeof other) == 0, "%s: sequence %u of %u",
                          graft_test_mask_name((enum graft_test_mask)_i), s, n);
            graft_seq_truncate(seqs[s], 0);
        }
    }
    if (w.device.vk && graft_vk_caps(w.device.vk)->host_import) {
        struct graft_model *copied = w.model;
        params.weights = GRAFT_WEIGHTS_MAP;
        ck_assert_ok(graft_model_open(&w.device, &w.model, path, &params));
        ck_assert(w.model->exec->imported && !copied->exec->imported);
        ck_assert_ok(graft_seq_create(w.model, &seqs[0]));
        graft_test_feed(w.model, seqs[0], ids, PROMPT, 8, other);
        ck_assert_msg(memcmp(one, other, sizeof one) == 0, "mapped weights");
        graft_model_close(&copied);
    }
    graft_test_world_close(&w);
    remove(path);
}
END_TEST

// A device that can bind little sees matrices through several windows of rows: more dispatches, the same bits.
START_TEST(small_bindings_split_matrices_by_rows_and_keep_the_bits)
{
    static float one[GRAFT_TINY_VOCAB], other[GRAFT_TINY_VOCAB];
    char path[GRAFT_TINY_PATH_BYTES];
    int32_t ids[20];
    graft_tiny_model_file(&(struct graft_tiny_model){.type = GRAFT_TYPE_Q8_0}, path);
    graft_test_ids(ids, 20, 3);
    struct graft_vk_options options = graft_test_mask_options(_i ? GRAFT_TEST_NO_TEXEL : GRAFT_TEST_PLAIN);
    struct graft_model_params params = {.size = sizeof params, .n_ctx = 64, .n_batch = 2, .weights = GRAFT_WEIGHTS_COPY};
    struct graft_test_world w;
    if (!graft_test_world_open(&w, &options, path, &params)) {
        return;
    }
    uint64_t dispatches[2];
    for (uint32_t run = 0; run < 2; run++) {
        struct graft_seq *seq;
        struct graft_vk_counters before, after;
        ck_assert_ok(graft_seq_create(w.model, &seq));
        graft_vk_counters(w.device.vk, &before);
        graft_test_feed(w.model, seq, ids, 20, 2, run ? other : one);
        graft_vk_counters(w.device.vk, &after);
        dispatches[run] = after.dispatches - before.dispatches;
        if (run == 0) { // the embeddings have 290 rows of 68 bytes; 8 KiB of them can be bound from now on
            struct graft_model *whole = w.model;
            w.device.vk->caps.max_storage_bytes = 4096 + 8192;
            w.device.vk->caps.max_texel_elements = w.device.vk->caps.max_texel_elements ? (4096 + 8192) / 4 : 0;
            ck_assert_ok(graft_model_open(&w.device, &w.model, path, &params));
            graft_model_close(&whole);
        }
    }
    ck_assert_msg(memcmp(one, other, sizeof one) == 0, "logits differ");
    ck_assert_uint_ge(dispatches[1],
                      dispatches[0] + 10 * 2); // two more windows of the embeddings in each of ten steps, at least
    graft_test_world_close(&w);
    remove(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exec_vk");
    TCase *tc = tcase_create("models");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, every_weight_type_follows_the_reference_step_by_step, 0, GRAFT_TEST_TYPES);
    tcase_add_loop_test(tc, hostile_blocks_do_no_harm, FIRST_BLOCKS, GRAFT_TEST_TYPES);
    tcase_add_loop_test(tc, mixtures_of_types_follow_the_reference_step_by_step, 0, MIXTURES);
    tcase_add_loop_test(tc, every_mask_of_features_follows_the_reference, 0, GRAFT_TEST_MASKS);
    tcase_add_loop_test(tc, bits_depend_on_neither_chunks_nor_neighbours_nor_the_place_of_weights, 0,
                        GRAFT_TEST_NO_SUBGROUPS + 1);
    tcase_add_loop_test(tc, small_bindings_split_matrices_by_rows_and_keep_the_bits, 0, 2);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
