// SPDX-License-Identifier: Apache-2.0
// Reading a model's shape and weights: what is accepted, and every refusal with what it says.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/model/config.h"
#include "runtime/quant/quant.h"
#include "support/support.h"
#include "support/tiny_model.h"

// A source read from a finished builder; closes the file on failure and checks that nothing is left.
struct opened {
    struct graft_ctx *ctx;
    struct graft_test_gguf b;
    struct graft_gguf *gguf;
    struct graft_source *source;
};

static enum graft_status open_built(struct opened *o)
{
    graft_test_gguf_finish(&o->b);
    o->ctx = graft_test_ctx(NULL, 0);
    ck_assert_ok(graft_gguf_open_memory(o->ctx, &o->gguf, o->b.file, o->b.file_size, "tiny.gguf", true));
    return graft_source_open(o->ctx, &o->source, o->gguf);
}

static void close_opened(struct opened *o)
{
    graft_source_close(&o->source);
    graft_gguf_close(&o->gguf);
    struct graft_memory_use use;
    graft_ctx_memory(o->ctx, &use);
    ck_assert_uint_eq(use.used_bytes, 0);
    graft_ctx_destroy(&o->ctx);
    graft_test_gguf_free(&o->b);
}

static struct opened accept(struct graft_tiny_model model)
{
    struct opened o = {0};
    graft_tiny_model_build(&o.b, &model);
    ck_assert_ok(open_built(&o));
    return o;
}

// Refused with this status and these words in the message.
static void refuse_built(struct opened *o, enum graft_status status, const char *first, const char *second)
{
    ck_assert_status(open_built(o), status);
    ck_assert_ptr_null(o->source);
    ck_assert_error_has("tiny.gguf");
    ck_assert_error_has(first);
    ck_assert_error_has(second);
    close_opened(o);
}

static void refuse(struct graft_tiny_model model, enum graft_status status, const char *first, const char *second)
{
    struct opened o = {0};
    graft_tiny_model_build(&o.b, &model);
    refuse_built(&o, status, first, second);
}

static void refuse_u32(const char *key, uint32_t value, enum graft_status status, const char *first, const char *second)
{
    struct opened o = {0};
    graft_tiny_model_build(&o.b, &(struct graft_tiny_model){.leave_out = {key}});
    graft_test_gguf_u32(&o.b, key, value);
    refuse_built(&o, status, first, second);
}

static void refuse_f32(const char *key, float value, const char *words)
{
    struct opened o = {0};
    graft_tiny_model_build(&o.b, &(struct graft_tiny_model){.leave_out = {key}});
    graft_test_gguf_f32(&o.b, key, value);
    refuse_built(&o, GRAFT_E_FORMAT, key, words);
}

START_TEST(shape_and_weights_are_read)
{
    struct opened o = accept((struct graft_tiny_model){.type = GRAFT_TYPE_Q8_0, .n_head = 6, .n_head_kv = 3, .head_dim = 16});
    const struct graft_config *c = &o.source->config;
    ck_assert_str_eq(c->architecture, "llama");
    ck_assert_str_eq(c->name, "tiny");
    ck_assert_uint_eq(c->n_layer, 2);
    ck_assert_uint_eq(c->n_embd, 64);
    ck_assert_uint_eq(c->n_ff, 96);
    ck_assert_uint_eq(c->n_head, 6);
    ck_assert_uint_eq(c->n_head_kv, 3);
    ck_assert_uint_eq(c->head_dim, 16); // attention.key_length, not n_embd / n_head
    ck_assert_uint_eq(c->n_vocab, GRAFT_TINY_VOCAB);
    ck_assert_uint_eq(c->n_ctx_train, 512);
    ck_assert_uint_eq(c->rope_dim, 16);
    ck_assert_float_eq(c->attention_scale, 0.25f);
    ck_assert_int_eq(c->rope_pairs, GRAFT_ROPE_ADJACENT);
    ck_assert(o.source->tied);
    ck_assert_ptr_eq(o.source->output.data, o.source->embd.data);
    const struct graft_weight *o_1 = &o.source->layers[1].o;
    ck_assert_str_eq(o_1->label, "blk.1.attn_output.weight");
    ck_assert_uint_eq(o_1->n_in, 96);
    ck_assert_uint_eq(o_1->n_out, 64);
    ck_assert_uint_eq(o_1->row_bytes, 96 / 32 * 34);
    ck_assert_ptr_eq(o_1->data, o.gguf->map.data + o_1->offset);
    close_opened(&o);
    o = accept((struct graft_tiny_model){.untied = true});
    ck_assert(!o.source->tied);
    ck_assert_ptr_ne(o.source->output.data, o.source->embd.data);
    close_opened(&o);
}
END_TEST

START_TEST(rotary_frequencies_follow_base_scaling_and_factors)
{
    struct opened o = accept((struct graft_tiny_model){0});
    for (int i = 0; i < 8; i++) {
        ck_assert_double_eq_tol(o.source->config.rope_inv_freq[i], pow(10000.0, -i / 8.0), 1e-7);
    }
    close_opened(&o);
    o = accept((struct graft_tiny_model){.rope_factors = true}); // factor i + 1, as Llama 3 files carry them
    for (int i = 0; i < 8; i++) {
        ck_assert_double_eq_tol(o.source->config.rope_inv_freq[i], pow(10000.0, -i / 8.0) / (i + 1), 1e-7);
    }
    close_opened(&o);
    o = (struct opened){0};
    graft_tiny_model_build(&o.b, &(struct graft_tiny_model){0});
    graft_test_gguf_text(&o.b, "llama.rope.scaling.type", "linear");
    graft_test_gguf_f32(&o.b, "llama.rope.scaling.factor", 4.0f);
    graft_test_gguf_u32(&o.b, "llama.rope.dimension_count", 8);
    ck_assert_ok(open_built(&o));
    for (int i = 0; i < 4; i++) {
        ck_assert_double_eq_tol(o.source->config.rope_inv_freq[i], pow(10000.0, -i / 4.0) / 4.0, 1e-7);
    }
    close_opened(&o);
}
END_TEST

START_TEST(missing_keys_and_tensors_are_listed_together)
{
    struct graft_tiny_model model = {
        .leave_out = {"llama.context_length", "llama.feed_forward_length", "blk.1.ffn_up.weight", "output_norm.weight"}};
    struct opened o = {0};
    graft_tiny_model_build(&o.b, &model);
    ck_assert_status(open_built(&o), GRAFT_E_FORMAT);
    for (int i = 0; i < 4; i++) {
        ck_assert_error_has(model.leave_out[i]);
    }
    ck_assert_error_has("4 keys or tensors");
    close_opened(&o);
    refuse((struct graft_tiny_model){.leave_out = {"token_embd.weight"}}, GRAFT_E_FORMAT, "token_embd.weight",
           "1 keys or tensors");
}
END_TEST

START_TEST(a_long_list_of_missing_tensors_is_cut)
{
    struct opened o = {0};
    graft_tiny_model_build(&o.b, &(struct graft_tiny_model){.leave_out = {"llama.block_count"}});
    graft_test_gguf_u32(&o.b, "llama.block_count", 512);
    refuse_built(&o, GRAFT_E_FORMAT, "4590 keys or tensors", "...");
}
END_TEST

START_TEST(hyperparameters_out_of_range_are_refused_with_both_values)
{
    refuse_u32("llama.block_count", 0, GRAFT_E_FORMAT, "llama.block_count is 0", "1 to 512");
    refuse_u32("llama.block_count", 4000000000u, GRAFT_E_FORMAT, "llama.block_count is 4000000000", "1 to 512");
    refuse_u32("llama.context_length", 0, GRAFT_E_FORMAT, "llama.context_length is 0", "allowed are 1 to");
    refuse_u32("llama.embedding_length", 0, GRAFT_E_FORMAT, "llama.embedding_length is 0", "allowed are 1 to");
    refuse_u32("llama.attention.head_count", 0, GRAFT_E_FORMAT, "llama.attention.head_count is 0", "allowed are 1 to");
    refuse_u32("llama.attention.head_count_kv", 0, GRAFT_E_FORMAT, "llama.attention.head_count_kv is 0", "allowed are 1 to");
    refuse_u32("llama.attention.head_count_kv", 8, GRAFT_E_FORMAT, "head_count is 4", "head_count_kv 8");
    refuse_u32("llama.attention.head_count_kv", 3, GRAFT_E_FORMAT, "head_count is 4", "head_count_kv 3");
    refuse_u32("llama.rope.dimension_count", 18, GRAFT_E_FORMAT, "llama.rope.dimension_count is 18", "2 to 16");
    refuse_u32("llama.rope.dimension_count", 7, GRAFT_E_FORMAT, "llama.rope.dimension_count is 7", "even");
    refuse_u32("llama.attention.key_length", 12, GRAFT_E_UNSUPPORTED, "key_length 12", "must be equal");
    refuse_u32("llama.attention.value_length", 32, GRAFT_E_UNSUPPORTED, "value_length is 32", "key_length 16");
    refuse_u32("llama.vocab_size", 1000, GRAFT_E_FORMAT, "llama.vocab_size is 1000", "290 rows");
    refuse((struct graft_tiny_model){.head_dim = 12, .n_head = 8}, GRAFT_E_UNSUPPORTED, "12 values", "multiples of 8");
    refuse((struct graft_tiny_model){.n_embd = 40}, GRAFT_E_UNSUPPORTED, "embedding_length is 40", "multiples of 32");
    refuse_f32("llama.attention.layer_norm_rms_epsilon", 0.0f, "above 0");
    refuse_f32("llama.attention.layer_norm_rms_epsilon", NAN, "above 0");
    refuse_f32("llama.rope.freq_base", -1.0f, "above 0");
    struct opened o = {0}; // width no multiple of heads, and no key_length that would say otherwise
    graft_tiny_model_build(
        &o.b, &(struct graft_tiny_model){
                  .leave_out = {"llama.attention.key_length", "llama.attention.value_length", "llama.attention.head_count"}});
    graft_test_gguf_u32(&o.b, "llama.attention.head_count", 6);
    refuse_built(&o, GRAFT_E_FORMAT, "embedding_length is 64", "head_count 6");
}
END_TEST

START_TEST(wrong_shapes_are_refused_with_both)
{
    refuse((struct graft_tiny_model){.wrong_shape = "blk.1.ffn_down.weight"}, GRAFT_E_FORMAT,
           "blk.1.ffn_down.weight has shape [96, 65", "[96, 64]");
    refuse((struct graft_tiny_model){.wrong_shape = "blk.0.attn_norm.weight"}, GRAFT_E_FORMAT,
           "blk.0.attn_norm.weight has shape [65", "[64, 1]");
    refuse((struct graft_tiny_model){.wrong_shape = "token_embd.weight"}, GRAFT_E_FORMAT, "tokenizer.ggml.tokens has 290",
           "token_embd.weight has 291");
    refuse((struct graft_tiny_model){.untied = true, .wrong_shape = "output.weight"}, GRAFT_E_FORMAT,
           "output.weight has shape [64, 291", "[64, 290]");
}
END_TEST

START_TEST(tensors_that_would_be_ignored_are_refused_by_name)
{
    static const char *const names[] = {"blk.0.attn_q.bias", "blk.0.ffn_gate_inp.weight", "blk.2.attn_norm.weight",
                                        "output.bias", "anything"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct opened o = {0};
        graft_tiny_model_build(&o.b, &(struct graft_tiny_model){0});
        graft_test_gguf_tensor(&o.b, names[i], GRAFT_TYPE_F32, 1, (uint64_t[]){64}, NULL, 256);
        refuse_built(&o, GRAFT_E_UNSUPPORTED, names[i], "not part of the architecture");
    }
}
END_TEST

START_TEST(keys_that_change_the_computation_are_refused_by_name)
{
    refuse_u32("llama.expert_shared_count", 1, GRAFT_E_UNSUPPORTED, "llama.expert_shared_count", "experts that all rows share");
    refuse_u32("llama.expert_count", 8, GRAFT_E_FORMAT, "llama.expert_used_count", "blk.0.ffn_gate_exps.weight");
    refuse_u32("llama.expert_count", 513, GRAFT_E_FORMAT, "llama.expert_count", "0 to 512");
    refuse_u32("llama.expert_used_count", 2, GRAFT_E_FORMAT, "llama.expert_used_count", "0 to 0");
    refuse_u32("llama.something_new", 1, GRAFT_E_UNSUPPORTED, "llama.something_new", "not known");
    struct opened o = {0};
    graft_tiny_model_build(&o.b, &(struct graft_tiny_model){0});
    graft_test_gguf_text(&o.b, "llama.rope.scaling.type", "dynamic");
    refuse_built(&o, GRAFT_E_UNSUPPORTED, "\"dynamic\"", "supported are none, linear, yarn");
    o = (struct opened){0};
    graft_tiny_model_build(&o.b, &(struct graft_tiny_model){0});
    graft_test_gguf_u32(&o.b, "llama.expert_count", 0);
    graft_test_gguf_u32(&o.b, "llama.rope.scaling.original_context_length", 512);
    graft_test_gguf_f32(&o.b, "llamas.are_fine", 1.0f); // another prefix
    ck_assert_ok(open_built(&o));
    close_opened(&o);
}
END_TEST

START_TEST(unsupported_types_are_refused_with_the_list)
{
    struct opened o = {0};
    graft_tiny_model_build(&o.b, &(struct graft_tiny_model){.leave_out = {"blk.0.attn_k.weight"}});
    graft_test_gguf_tensor(&o.b, "blk.0.attn_k.weight", 40, 2, (uint64_t[]){64, 32}, NULL, 36 * 32); // NVFP4
    refuse_built(&o, GRAFT_E_UNSUPPORTED, "blk.0.attn_k.weight has type NVFP4", "IQ4_XS and MXFP4");
    o = (struct opened){0};
    graft_tiny_model_build(&o.b, &(struct graft_tiny_model){.leave_out = {"output_norm.weight"}});
    graft_test_gguf_tensor(&o.b, "output_norm.weight", GRAFT_TYPE_F16, 1, (uint64_t[]){64}, NULL, 128);
    refuse_built(&o, GRAFT_E_UNSUPPORTED, "output_norm.weight has type F16", "must be F32");
}
END_TEST

static void refuse_text(const char *architecture, const char *key, const char *value, const char *first, const char *second)
{
    struct opened o = {0};
    if (architecture) {
        graft_test_gguf_text(&o.b, "general.architecture", architecture);
    } else {
        graft_tiny_model_build(&o.b, &(struct graft_tiny_model){0});
        graft_test_gguf_text(&o.b, key, value);
    }
    refuse_built(&o, GRAFT_E_UNSUPPORTED, first, second);
}

START_TEST(other_files_are_refused_for_what_they_are)
{
    refuse_text("mamba", NULL, NULL, "architecture \"mamba\"", "supported are: llama");
    refuse_text(NULL, "general.type", "adapter", "general.type is \"adapter\"", "\"model\"");
    struct opened o = {0};
    graft_test_gguf_text(&o.b, "general.name", "nothing");
    ck_assert_status(open_built(&o), GRAFT_E_FORMAT);
    ck_assert_error_has("general.architecture");
    close_opened(&o);
}
END_TEST

START_TEST(rope_factors_must_be_positive)
{
    struct opened o = {0};
    graft_tiny_model_build(&o.b, &(struct graft_tiny_model){0});
    float factors[8] = {1, 1, 1, 0, 1, 1, 1, 1};
    graft_test_gguf_tensor(&o.b, "rope_freqs.weight", GRAFT_TYPE_F32, 1, (uint64_t[]){8}, factors, sizeof factors);
    refuse_built(&o, GRAFT_E_FORMAT, "rope_freqs.weight holds 0 at 3", "above 0");
}
END_TEST

START_TEST(synthetic_models_have_the_shape_and_spread_asked_for)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_source *source;
    ck_assert_ok(graft_source_synthetic(ctx, &source, "llama-135m:q4_0"));
    ck_assert_uint_eq(source->config.n_layer, 30);
    ck_assert_uint_eq(source->config.n_embd, 576);
    ck_assert_uint_eq(source->embd.n_out, 49152);
    ck_assert(source->tied);
    float row[1536];
    double sum = 0.0;
    const struct graft_weight *w = &source->layers[29].down;
    ck_assert_str_eq(w->label, "blk.29.ffn_down.weight");
    for (uint32_t o = 0; o < w->n_out; o++) {
        graft_quant_find(w->type)->dequantize_row(w->data + o * w->row_bytes, row, w->n_in);
        for (uint32_t i = 0; i < w->n_in; i++) {
            sum += (double)row[i] * (double)row[i];
        }
    }
    ck_assert_double_eq_tol(sqrt(sum / w->n_in / w->n_out), 0.02, 0.002);
    ck_assert(w->data + w->row_bytes * w->n_out <= source->base + source->base_bytes);
    struct graft_memory_use use;
    graft_ctx_memory(ctx, &use);
    ck_assert_uint_ge(use.class_bytes[GRAFT_MEM_WEIGHTS], source->base_bytes);
    graft_source_close(&source);
    graft_ctx_memory(ctx, &use);
    ck_assert_uint_eq(use.used_bytes, 0);
    static const char *const bad[] = {
        "", "llama-135m", "llama-135m:", "llama-9b:q4_0", "llama-135m:q9", "llama-135m:q4_k", "llama-135m:iq4_xs"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_status(graft_source_synthetic(ctx, &source, bad[i]), GRAFT_E_ARGUMENT);
    }
    graft_ctx_destroy(&ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *tc = tcase_create("config");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, shape_and_weights_are_read);
    tcase_add_test(tc, rotary_frequencies_follow_base_scaling_and_factors);
    tcase_add_test(tc, missing_keys_and_tensors_are_listed_together);
    tcase_add_test(tc, a_long_list_of_missing_tensors_is_cut);
    tcase_add_test(tc, hyperparameters_out_of_range_are_refused_with_both_values);
    tcase_add_test(tc, wrong_shapes_are_refused_with_both);
    tcase_add_test(tc, tensors_that_would_be_ignored_are_refused_by_name);
    tcase_add_test(tc, keys_that_change_the_computation_are_refused_by_name);
    tcase_add_test(tc, unsupported_types_are_refused_with_the_list);
    tcase_add_test(tc, other_files_are_refused_for_what_they_are);
    tcase_add_test(tc, rope_factors_must_be_positive);
    tcase_add_test(tc, synthetic_models_have_the_shape_and_spread_asked_for);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
