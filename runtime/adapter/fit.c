// SPDX-License-Identifier: Apache-2.0
// Does an adapter fit a base? Everything that packing relies on is checked here.
#include "runtime/adapter/fit.h"

#include <math.h>
#include <stdlib.h>

#include "platform/bytes.h"
#include "runtime/quant/quant.h"
#include "shaders/params.h"

// A copy of a base's tensor in an adapter's file may differ from the base by its quantization: || copy - base || / || base ||
// up to this (4-bit formats: about 0.1).
static const double COPY_TOLERANCE = 0.25;

const struct graft_weight *graft_adapter_base_weight(const struct graft_source *source, enum graft_target target,
                                                     uint32_t layer)
{
    const struct graft_layer *l = &source->layers[layer];
    const struct graft_weight *weights[GRAFT_ALL_TARGETS] = {&l->q,
                                                             &l->k,
                                                             &l->v,
                                                             &l->o,
                                                             &l->gate,
                                                             &l->up,
                                                             &l->down,
                                                             &l->router,
                                                             &source->embd,
                                                             &source->output,
                                                             &l->attn_norm,
                                                             &l->ffn_norm,
                                                             &source->output_norm,
                                                             &l->q_norm,
                                                             &l->k_norm,
                                                             &l->post_attn_norm,
                                                             &l->post_ffn_norm,
                                                             &l->q,
                                                             &l->gate,
                                                             &l->ffn_norm};
    return weights[target];
}

struct graft_weight graft_adapter_pair_weight(const struct graft_source *source, const struct graft_adapter_pair *pair)
{
    struct graft_weight weight = *graft_adapter_base_weight(source, pair->target, pair->layer);
    if (pair->expert) {
        uint64_t at = weight.row_bytes * weight.n_out * (pair->expert - 1);
        weight.data += at;
        weight.offset += at;
        weight.n_expert = 0;
    }
    return weight;
}

void graft_adapter_base_of(const struct graft_source *source, struct graft_adapter_base *out)
{
    const struct graft_config *c = &source->config;
    *out = (struct graft_adapter_base){.n_layer = c->n_layer,
                                       .n_head = c->n_head,
                                       .n_head_kv = c->n_head_kv,
                                       .n_expert = c->n_expert,
                                       .mixtral = c->n_expert && strcmp(c->architecture, "llama") == 0,
                                       .post_norms = source->layers[0].post_attn_norm.data != NULL,
                                       .norms_plus_one = c->norms_plus_one,
                                       .plain_rows = c->rope_pairs == GRAFT_ROPE_HALVES,
                                       .checked = true};
    memcpy(out->architecture, c->architecture, sizeof out->architecture);
}

// Pairs of experts are of a mixture, and the other way.
static enum graft_status check_expert(const struct graft_adapter_pair *pair, const struct graft_source *source)
{
    uint32_t n_expert = source->config.n_expert;
    bool of_expert = pair->target >= GRAFT_TARGET_GATE && pair->target <= GRAFT_TARGET_DOWN;
    char name[GRAFT_PAIR_NAME_BYTES];
    graft_adapter_pair_name(pair->target, pair->layer, pair->expert, name);
    if (!n_expert && (pair->expert || pair->target == GRAFT_TARGET_ROUTER)) {
        return graft_fail(GRAFT_E_UNSUPPORTED,
                          "the adapter changes %s, and the base has no experts; was it made for another base?", name);
    }
    if (n_expert && of_expert && !pair->expert) {
        return graft_fail(GRAFT_E_UNSUPPORTED,
                          "the adapter changes %s, and the base is a mixture of %u experts; was it made for another base?",
                          name, n_expert);
    }
    if (pair->expert > n_expert || (pair->expert && !of_expert)) {
        return graft_fail(GRAFT_E_FORMAT, "the adapter changes %s, the base has experts 0 to %u; was it made for another base?",
                          name, n_expert - 1);
    }
    return GRAFT_OK;
}

static enum graft_status check_layer(enum graft_target target, uint32_t layer, const struct graft_source *source)
{
    if (graft_adapter_fused(target) && !source->fused) {
        return graft_fail(GRAFT_E_UNSUPPORTED,
                          "the adapter changes %s, which the base (architecture %s) has as %s; was it made for another base?",
                          graft_target_name(target), source->config.architecture,
                          target == GRAFT_TARGET_QKV ? "q_proj, k_proj and v_proj" : "gate_proj and up_proj");
    }
    if ((unsigned)target >= GRAFT_ALL_TARGETS) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "the adapter changes %s, which is not supported", graft_target_name(target));
    }
    if (layer >= source->config.n_layer) {
        return graft_fail(GRAFT_E_FORMAT,
                          "the adapter changes layer %u, the base has layers 0 to %u; was it made for another base?", layer,
                          source->config.n_layer - 1);
    }
    return GRAFT_OK;
}

static enum graft_status wrong_shape(const char *name, uint64_t rows, uint64_t cols, uint64_t base_rows, uint64_t base_cols)
{
    return graft_fail(GRAFT_E_FORMAT,
                      "the adapter's %s has shape %" PRIu64 " x %" PRIu64 ", the base's %" PRIu64 " x %" PRIu64
                      "; was it made for another base?",
                      name, rows, cols, base_rows, base_cols);
}

static enum graft_status fit_pair(const struct graft_adapter_pair *pair, const struct graft_source *source)
{
    char name[GRAFT_PAIR_NAME_BYTES];
    GRAFT_TRY(check_layer(pair->target, pair->layer, source));
    GRAFT_TRY(check_expert(pair, source));
    graft_adapter_pair_name(pair->target, pair->layer, pair->expert, name);
    if (pair->rank < 1 || pair->rank > GRAFT_ADAPTER_MAX_RANK) {
        return graft_fail(GRAFT_E_LIMIT, "the adapter's %s has rank %u, allowed are 1 to %d", name, pair->rank,
                          GRAFT_ADAPTER_MAX_RANK);
    }
    if (pair->a.rows != pair->rank || pair->b.cols != pair->rank) {
        return graft_fail(GRAFT_E_FORMAT, "the adapter's %s has rank %u, but A has %" PRIu64 " rows and B %" PRIu64 " columns",
                          name, pair->rank, pair->a.rows, pair->b.cols);
    }
    if (!isfinite(pair->scale)) {
        return graft_fail(GRAFT_E_FORMAT, "the adapter's %s has the scale %g", name, (double)pair->scale);
    }
    const struct graft_weight *weight = graft_adapter_base_weight(source, pair->target, pair->layer);
    bool embed = pair->target == GRAFT_TARGET_EMBED; // its table has a row per token, which is A's column
    uint64_t rows = embed ? weight->n_in : weight->n_out;
    for (uint32_t i = 1; i < graft_adapter_fused(pair->target); i++) {
        enum graft_target part = (enum graft_target)(graft_adapter_fused_first(pair->target) + i);
        rows += graft_adapter_base_weight(source, part, pair->layer)->n_out;
    }
    uint64_t cols = embed ? weight->n_out : weight->n_in;
    if (pair->a.cols != cols || pair->b.rows != rows) {
        return wrong_shape(name, pair->b.rows, pair->a.cols, rows, cols);
    }
    if (embed && pair->bias.data) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "the adapter has a bias on embed_tokens, which is not supported");
    }
    if (pair->magnitude.data && pair->bias.data) { // PEFT refuses it too (LoraConfig)
        return graft_fail(GRAFT_E_UNSUPPORTED, "the adapter's %s has a bias (lora_bias) and is DoRA: PEFT knows no such thing",
                          name);
    }
    return GRAFT_OK;
}

static float value_at(const struct graft_adapter_view *view, uint64_t i)
{
    float value;
    graft_quant_find(view->type)->dequantize_row(view->data + i * graft_adapter_value_bytes(view->type), &value, 1);
    return value;
}

// Is the tensor the base's own, but for its quantization?
static enum graft_status check_copy(const struct graft_adapter_whole *whole, const struct graft_weight *weight,
                                    struct graft_ctx *ctx)
{
    double difference = 0, size = 0;
    float *row;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &row, weight->n_in, "a row of the base"));
    for (uint64_t o = 0; o < weight->n_out; o++) {
        graft_quant_find(weight->type)->dequantize_row(weight->data + o * weight->row_bytes, row, weight->n_in);
        for (uint64_t i = 0; i < weight->n_in; i++) {
            double copy = (double)value_at(&whole->view, o * weight->n_in + i), off = copy - (double)row[i];
            difference += off * off;
            size += (double)row[i] * (double)row[i];
        }
    }
    GRAFT_FREE(ctx, &row);
    double share = difference > 0 ? sqrt(difference / size) : 0; // of a base of zeros infinite
    if (!(share <= COPY_TOLERANCE)) {
        return graft_fail(
            GRAFT_E_UNSUPPORTED,
            "the adapter's %s is not the base's tensor: it differs by %.3g of its size, quantization explains %.2g; a "
            "trained or resized copy is not supported",
            whole->name, share, COPY_TOLERANCE);
    }
    graft_log(ctx, GRAFT_LOG_INFO, "the adapter's %s is the base's tensor (off by %.3g of its size) and is not loaded",
              whole->name, share);
    return GRAFT_OK;
}

static enum graft_status fit_whole(const struct graft_adapter_whole *whole, const struct graft_source *source,
                                   struct graft_ctx *ctx)
{
    GRAFT_TRY(check_layer(whole->target, whole->layer, source));
    if (whole->target == GRAFT_TARGET_ROUTER && whole->view.rows > GRAFT_ADAPTER_MAX_RANK) {
        return graft_fail(GRAFT_E_LIMIT,
                          "the adapter replaces %s, a router of %" PRIu64
                          " experts, which is computed as a change of that rank; "
                          "allowed are 1 to %d",
                          whole->name, whole->view.rows, GRAFT_ADAPTER_MAX_RANK);
    }
    const struct graft_weight *weight = graft_adapter_base_weight(source, whole->target, whole->layer);
    char name[GRAFT_PAIR_NAME_BYTES];
    if (whole->target == GRAFT_TARGET_PRE_FFN_NORM || !weight->data) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "the adapter replaces %s, which a base of architecture %s does not have",
                          whole->name, source->config.architecture);
    }
    uint64_t rows = weight->n_out, cols = weight->n_in;
    if (whole->view.rows != rows || whole->view.cols != cols) {
        graft_adapter_pair_name(whole->target, whole->layer, 0, name);
        return wrong_shape(name, whole->view.rows, whole->view.cols, rows, cols);
    }
    return whole->base_copy ? check_copy(whole, weight, ctx) : GRAFT_OK;
}

static int by_place(const void *left, const void *right)
{
    const struct graft_adapter_whole *a = left, *b = right;
    return a->layer != b->layer ? (a->layer < b->layer ? -1 : 1) : (int)a->target - (int)b->target;
}

// With norms behind the blocks too, PEFT's post_attention_layernorm is the one behind attention, and the feed-forward's is
// called pre_feedforward_layernorm (Gemma).
static void place_norms(struct graft_adapter_desc *desc, const struct graft_source *source)
{
    bool post = source->layers[0].post_attn_norm.data && !desc->rows_permuted && !desc->norms_placed;
    for (uint32_t i = 0; i < desc->n_whole && post; i++) {
        enum graft_target *target = &desc->whole[i].target;
        *target = *target == GRAFT_TARGET_FFN_NORM       ? GRAFT_TARGET_POST_ATTN_NORM
                  : *target == GRAFT_TARGET_PRE_FFN_NORM ? GRAFT_TARGET_FFN_NORM
                                                         : *target;
    }
    if (post) {
        qsort(desc->whole, desc->n_whole, sizeof *desc->whole, by_place);
    }
    desc->norms_placed = true;
}

static enum graft_status check_architecture(const struct graft_adapter_desc *desc, const struct graft_source *source)
{
    if (desc->architecture[0] && strcmp(desc->architecture, source->config.architecture) != 0) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "the adapter is for architecture %s, the base's is %s", desc->architecture,
                          source->config.architecture);
    }
    return GRAFT_OK;
}

enum graft_status graft_adapter_fit(struct graft_adapter_desc *desc, const struct graft_source *source)
{
    GRAFT_TRY(check_architecture(desc, source));
    place_norms(desc, source);
    for (uint32_t i = 0; i < desc->n_pairs && source->fused; i++) { // llama.cpp's name of both is that of the second
        struct graft_adapter_pair *pair = &desc->pairs[i];
        bool both = desc->rows_permuted && pair->target == GRAFT_TARGET_UP && pair->b.rows == 2 * (uint64_t)source->config.n_ff;
        pair->target = both ? GRAFT_TARGET_GATE_UP : pair->target;
    }
    uint32_t changes = desc->n_pairs;
    for (uint32_t i = 0; i < desc->n_pairs; i++) {
        const struct graft_adapter_pair *pair = &desc->pairs[i];
        GRAFT_TRY(fit_pair(pair, source));
        for (uint32_t k = i; k-- > 0 && desc->pairs[k].layer == pair->layer;) { // pairs are sorted by layer
            if (desc->pairs[k].expert != pair->expert) {                        // nor are those of an expert apart
                break;
            }
            if (desc->pairs[k].target == pair->target) {
                char name[GRAFT_PAIR_NAME_BYTES];
                return graft_fail(GRAFT_E_FORMAT, "the adapter changes %s twice",
                                  graft_adapter_pair_name(pair->target, pair->layer, pair->expert, name));
            }
        }
    }
    desc->n_expert = source->config.n_expert;
    for (uint32_t i = 0; i < desc->n_whole; i++) {
        const struct graft_adapter_whole *whole = &desc->whole[i];
        GRAFT_TRY(fit_whole(whole, source, desc->ctx));
        changes += !whole->base_copy;
        for (uint32_t k = 0; k < i; k++) {
            if (desc->whole[k].target == whole->target && desc->whole[k].layer == whole->layer) {
                return graft_fail(GRAFT_E_FORMAT, "the adapter has %s and %s for one tensor of the base", desc->whole[k].name,
                                  whole->name);
            }
        }
        for (uint32_t k = 0; k < desc->n_pairs; k++) {
            if (!whole->base_copy && desc->pairs[k].target == whole->target && desc->pairs[k].layer == whole->layer) {
                return graft_fail(GRAFT_E_FORMAT, "the adapter replaces %s and adds matrices to it", whole->name);
            }
        }
    }
    if (changes == 0) {
        return graft_fail(GRAFT_E_FORMAT, "the adapter changes nothing");
    }
    for (uint32_t i = 0; i < desc->n_alora; i++) {
        if (desc->alora[i] < 0 || (uint32_t)desc->alora[i] >= source->config.n_vocab) {
            return graft_fail(GRAFT_E_FORMAT, "alora_invocation_tokens has token %d, the base's vocabulary has 0 to %u",
                              desc->alora[i], source->config.n_vocab - 1);
        }
    }
    return GRAFT_OK;
}
