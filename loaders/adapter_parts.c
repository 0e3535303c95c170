// SPDX-License-Identifier: Apache-2.0
// A description in memory -> the tensors that a file gets, in PEFT's or llama.cpp's names and order of rows.
// Sources: PEFT's checkpoint format (huggingface/peft, docs/source/developer_guides/checkpoint.md); llama.cpp,
// convert_lora_to_gguf.py: NAME.lora_a, NAME.lora_b; token_embd's A is turned, [n_vocab][rank], its B [n_embd][rank] is not.
#include "loaders/adapter_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/bytes.h"

static const struct graft_adapter_base unknown_base = {0};

// What depends on the base's architecture.
static bool has_post_norms(const struct graft_adapter_desc *desc, const struct graft_adapter_base *base)
{
    return base->post_norms || strncmp(desc->architecture, "gemma", 5) == 0;
}

bool graft_adapter_pre_norms(const struct graft_adapter_desc *desc, const struct graft_adapter_base *base)
{
    return (desc->norms_placed || desc->rows_permuted) && has_post_norms(desc, base ? base : &unknown_base);
}

static bool has_plain_rows(const struct graft_adapter_desc *desc, const struct graft_adapter_base *base)
{
    return base->plain_rows || (desc->architecture[0] && strcmp(desc->architecture, "llama") != 0);
}

static void name_peft(struct graft_adapter_item *item, const struct graft_adapter_base *base)
{
    static const char *const endings[] = {
        [GRAFT_ADAPTER_A] = "lora_A.weight",  [GRAFT_ADAPTER_B] = "lora_B.weight",
        [GRAFT_ADAPTER_BIAS] = "lora_B.bias", [GRAFT_ADAPTER_MAGNITUDE] = "lora_magnitude_vector",
        [GRAFT_ADAPTER_WHOLE] = "weight",     [GRAFT_ADAPTER_BASE_COPY] = "base_layer.weight"};
    char module[GRAFT_ADAPTER_NAME_BYTES];
    const char *ending = endings[item->part];
    if (item->target == GRAFT_TARGET_EMBED && item->part <= GRAFT_ADAPTER_B) {
        ending = item->part == GRAFT_ADAPTER_A ? "lora_embedding_A" : "lora_embedding_B";
    }
    enum graft_target target = item->target == GRAFT_TARGET_FFN_NORM && graft_adapter_pre_norms(item->desc, base)
                                   ? GRAFT_TARGET_PRE_FFN_NORM
                                   : item->target;
    graft_adapter_module(target, item->layer, item->expert, item->desc->mixtral_names || base->mixtral, module);
    (void)snprintf(item->name, sizeof item->name, "base_model.model.%.80s.%s", module, ending);
}

static void name_gguf(struct graft_adapter_item *item)
{
    static const char *const names[GRAFT_ALL_TARGETS] = {"attn_q",        "attn_k",      "attn_v",      "attn_output",
                                                         "ffn_gate",      "ffn_up",      "ffn_down",    "ffn_gate_inp",
                                                         "token_embd",    "output",      "attn_norm",   "ffn_norm",
                                                         "output_norm",   "attn_q_norm", "attn_k_norm", "post_attention_norm",
                                                         "post_ffw_norm", "attn_qkv",    "ffn_up",      "ffn_norm"};
    const char *ending = item->part == GRAFT_ADAPTER_A ? ".lora_a" : item->part == GRAFT_ADAPTER_B ? ".lora_b" : "";
    char layer[24] = "";
    if (graft_target_of_layer(item->target)) {
        snprintf(layer, sizeof layer, "blk.%u.", item->layer);
    }
    snprintf(item->name, sizeof item->name, "%s%s%s.weight%s", layer, names[item->target], item->expert ? "_exps" : "", ending);
}

static int by_name(const void *left, const void *right)
{
    const struct graft_adapter_item *a = left, *b = right;
    return strcmp(a->name, b->name);
}

static int by_place(const void *left, const void *right)
{
    const struct graft_adapter_item *a = left, *b = right;
    uint64_t wide = graft_adapter_value_bytes(a->view.type), other = graft_adapter_value_bytes(b->view.type);
    return wide != other ? (wide > other ? -1 : 1) : by_name(a, b);
}

static bool good_view(const struct graft_adapter_view *view)
{
    uint64_t values;
    return view->data && view->rows > 0 && view->cols > 0 && graft_mul_u64(view->rows, view->cols, &values) &&
           values <= GRAFT_ADAPTER_MAX_BYTES &&
           (view->type == GRAFT_TYPE_F32 || view->type == GRAFT_TYPE_F16 || view->type == GRAFT_TYPE_BF16);
}

static enum graft_status check_pair(const struct graft_adapter_pair *pair)
{
    char module[GRAFT_ADAPTER_NAME_BYTES];
    const char *name = graft_adapter_module(pair->target, pair->layer, pair->expert, false, module);
    bool known = (unsigned)pair->target <= GRAFT_TARGET_HEAD || pair->target == GRAFT_TARGET_QKV ||
                 pair->target == GRAFT_TARGET_GATE_UP;
    known = known && (!pair->expert || (pair->target >= GRAFT_TARGET_GATE && pair->target <= GRAFT_TARGET_DOWN));
    if (!known || pair->rank < 1 || pair->rank > GRAFT_ADAPTER_MAX_RANK ||
        !good_view(&pair->a) || !good_view(&pair->b) || pair->a.rows != pair->rank || pair->b.cols != pair->rank) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "%s has rank %u, A of %" PRIu64 " x %" PRIu64 " and B of %" PRIu64 " x %" PRIu64
                          ": allowed are ranks 1 to %d, A of rank x n_in, B of n_out x rank",
                          name, pair->rank, pair->a.rows, pair->a.cols, pair->b.rows, pair->b.cols, GRAFT_ADAPTER_MAX_RANK);
    }
    if (!(pair->scale > 1e-27f && pair->scale < 1e27f)) { // alpha stays within what the readers take
        return graft_fail(GRAFT_E_ARGUMENT, "%s has the scale %g, allowed in a file are 1e-27 to 1e27", name,
                          (double)pair->scale);
    }
    const struct graft_adapter_view *const vectors[] = {&pair->magnitude, &pair->bias};
    for (size_t i = 0; i < 2; i++) {
        if (vectors[i]->data && (!good_view(vectors[i]) || vectors[i]->rows * vectors[i]->cols != pair->b.rows)) {
            return graft_fail(GRAFT_E_ARGUMENT, "%s has a %s of %" PRIu64 " values, B has %" PRIu64 " rows", name,
                              i ? "bias" : "magnitude vector", vectors[i]->rows * vectors[i]->cols, pair->b.rows);
        }
    }
    return GRAFT_OK;
}

struct listing {
    struct graft_adapter_items *items;
    const struct graft_adapter_desc *desc;
    const struct graft_adapter_base *base;
    bool gguf;
};

// Where the rows of q's or k's outputs go.
static enum graft_status choose_rows(const struct listing *l, struct graft_adapter_item *item)
{
    bool moves = item->part == GRAFT_ADAPTER_B || item->part == GRAFT_ADAPTER_BIAS || item->part == GRAFT_ADAPTER_MAGNITUDE;
    bool turned = item->target == GRAFT_TARGET_Q || item->target == GRAFT_TARGET_K;
    if (!moves || !turned || l->desc->rows_permuted == l->gguf || has_plain_rows(l->desc, l->base)) {
        item->rows = l->gguf && item->target == GRAFT_TARGET_EMBED && item->part == GRAFT_ADAPTER_A ? GRAFT_ADAPTER_ROWS_TURN
                                                                                                    : GRAFT_ADAPTER_ROWS_KEEP;
        return GRAFT_OK;
    }
    uint32_t heads = item->target == GRAFT_TARGET_Q ? l->base->n_head : l->base->n_head_kv;
    uint64_t n_out = item->n_dims == 1 ? item->view.cols : item->view.rows;
    if (heads == 0) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "%s: the rows of q and k are in another order in a GGUF file, which depends on the base's number of "
                          "heads: the base model is needed",
                          item->name);
    }
    if (n_out % heads != 0 || n_out / heads % 2 != 0) {
        return graft_fail(GRAFT_E_FORMAT, "%s: %" PRIu64 " rows are not the base's %u heads of an even size", item->name, n_out,
                          heads);
    }
    item->head_dim = (uint32_t)(n_out / heads);
    item->rows = l->gguf ? GRAFT_ADAPTER_ROWS_PERMUTE : GRAFT_ADAPTER_ROWS_UNDO;
    return GRAFT_OK;
}

static enum graft_status add(const struct listing *l, const struct graft_adapter_item *given)
{
    struct graft_adapter_item *item = &l->items->list[l->items->n];
    *item = *given;
    bool vector =
        item->part == GRAFT_ADAPTER_BIAS || item->part == GRAFT_ADAPTER_MAGNITUDE || graft_target_is_norm(item->target);
    item->desc = l->desc;
    item->n_dims = vector ? 1 : item->n_views > 1 ? 3 : 2;
    if (vector) {
        item->view.cols *= item->view.rows;
        item->view.rows = 1;
    }
    if (l->gguf) {
        name_gguf(item);
    } else {
        name_peft(item, l->base);
    }
    GRAFT_TRY(choose_rows(l, item));
    l->items->n++;
    return GRAFT_OK;
}

// Pair of an expert; NULL if there is none.
static const struct graft_adapter_pair *pair_of(const struct graft_adapter_desc *desc, enum graft_target target, uint32_t layer,
                                                uint32_t expert)
{
    for (uint32_t i = 0; i < desc->n_pairs; i++) {
        const struct graft_adapter_pair *pair = &desc->pairs[i];
        if (pair->target == target && pair->layer == layer && pair->expert == expert) {
            return pair;
        }
    }
    return NULL;
}

static bool alike(const struct graft_adapter_view *a, const struct graft_adapter_view *b)
{
    return a->type == b->type && a->rows == b->rows && a->cols == b->cols;
}

// The experts of a layer as one tensor, at the first of them: all are there and alike.
static enum graft_status check_experts(const struct graft_adapter_desc *desc, const struct graft_adapter_pair *first)
{
    for (uint32_t e = 2; e <= desc->n_expert; e++) {
        const struct graft_adapter_pair *pair = pair_of(desc, first->target, first->layer, e);
        if (!pair || !alike(&pair->a, &first->a) || !alike(&pair->b, &first->b) || pair->scale != first->scale) {
            return graft_fail(
                GRAFT_E_UNSUPPORTED,
                "a GGUF adapter has the matrices of all experts of a layer in one tensor: layer %u %s of expert %u %s",
                first->layer, graft_target_name(first->target), e - 1,
                pair ? "differs in rank, type or scale from expert 0's" : "is missing");
        }
    }
    return GRAFT_OK;
}

static enum graft_status add_pair(const struct listing *l, const struct graft_adapter_pair *pair)
{
    GRAFT_TRY(check_pair(pair));
    bool stacked = l->gguf && pair->expert;
    if (stacked && pair->expert > 1) {
        return pair_of(l->desc, pair->target, pair->layer, 1)
                   ? GRAFT_OK
                   : graft_fail(
                         GRAFT_E_UNSUPPORTED,
                         "a GGUF adapter has the matrices of all experts of a layer in one tensor: layer %u %s of expert 0 "
                         "is missing",
                         pair->layer, graft_target_name(pair->target));
    }
    if (stacked) {
        GRAFT_TRY(check_experts(l->desc, pair));
    }
    const struct graft_adapter_view *views[GRAFT_ADAPTER_PARTS] = {&pair->a, &pair->b, &pair->bias, &pair->magnitude};
    for (unsigned part = 0; part < GRAFT_ADAPTER_PARTS; part++) {
        if (views[part]->data) {
            GRAFT_TRY(add(l, &(struct graft_adapter_item){.layer = pair->layer,
                                                          .expert = pair->expert,
                                                          .target = pair->target,
                                                          .part = (enum graft_adapter_part)part,
                                                          .n_views = stacked ? l->desc->n_expert : 1,
                                                          .view = *views[part]}));
        }
    }
    return GRAFT_OK;
}

static enum graft_status add_whole(const struct listing *l, const struct graft_adapter_whole *whole)
{
    char module[GRAFT_ADAPTER_NAME_BYTES];
    graft_adapter_module(whole->target, whole->layer, 0, false, module);
    bool norm = graft_target_is_norm(whole->target), gemma = l->base->norms_plus_one || has_post_norms(l->desc, l->base);
    bool matrix = whole->target == GRAFT_TARGET_EMBED || whole->target == GRAFT_TARGET_HEAD ||
                  (whole->target == GRAFT_TARGET_ROUTER && !whole->base_copy);
    if ((!norm && !matrix) || !good_view(&whole->view)) {
        return graft_fail(GRAFT_E_ARGUMENT, "%s is no tensor that can be written as a whole", module);
    }
    if (l->gguf && whole->base_copy) {
        return l->base->checked
                   ? GRAFT_OK
                   : graft_fail(GRAFT_E_UNSUPPORTED,
                                "%s is saved with the adapter (save_embedding_layers), which a GGUF adapter cannot "
                                "hold: the base model is needed, to see that it is only a copy",
                                module);
    }
    if (l->gguf && !norm) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s is replaced as a whole (modules_to_save), which a GGUF adapter cannot hold",
                          module);
    }
    if (norm && l->desc->rows_permuted != l->gguf && gemma) {
        return graft_fail(GRAFT_E_UNSUPPORTED,
                          "%s is replaced, whose values a GGUF file of such a base holds with 1 added: they would change",
                          module);
    }
    if (l->gguf && whole->target == GRAFT_TARGET_PRE_FFN_NORM) {
        return graft_fail(GRAFT_E_ARGUMENT, "%s: the base model is needed, to see which of its norms that is", module);
    }
    return add(l, &(struct graft_adapter_item){.layer = whole->layer,
                                               .target = whole->target,
                                               .part = whole->base_copy ? GRAFT_ADAPTER_BASE_COPY : GRAFT_ADAPTER_WHOLE,
                                               .n_views = 1,
                                               .view = whole->view});
}

enum graft_status graft_adapter_items_list(struct graft_adapter_items *items, const struct graft_adapter_desc *desc,
                                           const struct graft_adapter_base *base, bool gguf)
{
    struct listing l = {.items = items, .desc = desc, .base = base ? base : &unknown_base, .gguf = gguf};
    *items = (struct graft_adapter_items){.ctx = desc->ctx};
    if (desc->n_pairs == 0) {
        return graft_fail(GRAFT_E_ARGUMENT, "an adapter without a pair of matrices cannot be written");
    }
    if (desc->n_alora > GRAFT_ADAPTER_MAX_ALORA) {
        return graft_fail(GRAFT_E_ARGUMENT, "the adapter has %u invocation tokens, allowed are %d", desc->n_alora,
                          GRAFT_ADAPTER_MAX_ALORA);
    }
    GRAFT_TRY(GRAFT_NEW(desc->ctx, GRAFT_MEM_HOST, &items->list, 4 * (uint64_t)desc->n_pairs + desc->n_whole,
                        "an adapter's list of tensors"));
    for (uint32_t i = 0; i < desc->n_pairs; i++) {
        GRAFT_TRY(add_pair(&l, &desc->pairs[i]));
    }
    for (uint32_t i = 0; i < desc->n_whole; i++) {
        GRAFT_TRY(add_whole(&l, &desc->whole[i]));
    }
    qsort(items->list, (size_t)items->n, sizeof *items->list, by_name);
    uint64_t total = 0;
    for (uint64_t i = 0; i < items->n; i++) {
        total += graft_adapter_item_bytes(&items->list[i]); // each at most 8 GiB, less than 2^34 of them: no overflow
        if (i > 0 && strcmp(items->list[i - 1].name, items->list[i].name) == 0) {
            return graft_fail(GRAFT_E_ARGUMENT, "the adapter has %s twice", items->list[i].name);
        }
    }
    qsort(items->list, (size_t)items->n, sizeof *items->list, by_place);
    if (total > GRAFT_ADAPTER_MAX_BYTES) {
        return graft_fail(GRAFT_E_LIMIT, "the adapter has %" PRIu64 " bytes, allowed are %" PRIu64, total,
                          (uint64_t)GRAFT_ADAPTER_MAX_BYTES);
    }
    return GRAFT_OK;
}

void graft_adapter_items_free(struct graft_adapter_items *items)
{
    GRAFT_FREE(items->ctx, &items->list);
    items->n = 0;
}

enum graft_status graft_adapter_item_write(const struct graft_adapter_item *item, struct graft_aside *out)
{
    const struct graft_adapter_view *view = &item->view;
    uint64_t value = graft_adapter_value_bytes(view->type);
    for (uint32_t e = 1; e <= item->n_views && item->n_dims == 3; e++) {
        const struct graft_adapter_pair *pair = pair_of(item->desc, item->target, item->layer, e);
        GRAFT_TRY(graft_aside_write(out, (item->part == GRAFT_ADAPTER_A ? &pair->a : &pair->b)->data,
                                    view->rows * view->cols * value));
    }
    if (item->n_dims == 3) {
        return GRAFT_OK;
    }
    if (item->rows == GRAFT_ADAPTER_ROWS_KEEP) {
        return graft_aside_write(out, view->data, graft_adapter_item_bytes(item));
    }
    if (item->rows == GRAFT_ADAPTER_ROWS_TURN) {
        for (uint64_t col = 0; col < view->cols; col++) {
            for (uint64_t row = 0; row < view->rows; row++) {
                GRAFT_TRY(graft_aside_write(out, view->data + (row * view->cols + col) * value, value));
            }
        }
        return GRAFT_OK;
    }
    uint64_t rows = item->n_dims == 1 ? view->cols : view->rows, row_bytes = item->n_dims == 1 ? value : view->cols * value;
    uint64_t half = item->head_dim / 2;
    for (uint64_t row = 0; row < rows; row++) {
        uint64_t in_head = row % item->head_dim, from = row - in_head + in_head % 2 * half + in_head / 2;
        if (item->rows == GRAFT_ADAPTER_ROWS_UNDO) {
            from = graft_adapter_permuted_row(row, item->head_dim);
        }
        GRAFT_TRY(graft_aside_write(out, view->data + from * row_bytes, row_bytes));
    }
    return GRAFT_OK;
}

double graft_adapter_find_alpha(float scale, double divisor)
{
    double exact = (double)scale * divisor;
    for (int digits = 1; digits < 17; digits++) {
        char text[40];
        snprintf(text, sizeof text, "%.*g", digits, exact);
        double alpha = strtod(text, NULL);
        if ((float)(alpha / divisor) == scale) {
            return alpha;
        }
    }
    return exact;
}
