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

uint64_t graft_adapter_value_bytes(uint32_t type)
{
    return type == GRAFT_TYPE_F32 ? 4 : 2;
}

const char *graft_adapter_module(enum graft_target target, uint32_t layer, char out[GRAFT_ADAPTER_NAME_BYTES])
{
    const char *name = graft_target_name(target);
    if (target == GRAFT_TARGET_HEAD) {
        snprintf(out, GRAFT_ADAPTER_NAME_BYTES, "%s", name);
    } else if (target == GRAFT_TARGET_EMBED || target == GRAFT_TARGET_OUTPUT_NORM) {
        snprintf(out, GRAFT_ADAPTER_NAME_BYTES, "model.%s", name);
    } else {
        const char *block = target < GRAFT_TARGET_GATE || target == GRAFT_TARGET_QKV          ? "self_attn."
                            : target < GRAFT_LAYER_TARGETS || target == GRAFT_TARGET_GATE_UP ? "mlp."
                                                                                             : "";
        snprintf(out, GRAFT_ADAPTER_NAME_BYTES, "model.layers.%u.%s%s", layer, block, name);
    }
    return out;
}

static void name_peft(struct graft_adapter_item *item)
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
    (void)snprintf(item->name, sizeof item->name, "base_model.model.%.60s.%s",
                   graft_adapter_module(item->target, item->layer, module), ending);
}

static void name_gguf(struct graft_adapter_item *item)
{
    static const char *const names[GRAFT_ALL_TARGETS] = {"attn_q",   "attn_k",    "attn_v",   "attn_output",
                                                     "ffn_gate", "ffn_up",    "ffn_down", "token_embd",
                                                     "output",   "attn_norm", "ffn_norm", "output_norm",
                                                         "attn_qkv", "ffn_up"};
    const char *ending = item->part == GRAFT_ADAPTER_A ? ".lora_a" : item->part == GRAFT_ADAPTER_B ? ".lora_b" : "";
    bool of_layer =
        item->target < GRAFT_LAYER_TARGETS || item->target == GRAFT_TARGET_ATTN_NORM || item->target == GRAFT_TARGET_FFN_NORM ||
        item->target >= GRAFT_TARGETS;
    char layer[24] = "";
    if (of_layer) {
        snprintf(layer, sizeof layer, "blk.%u.", item->layer);
    }
    snprintf(item->name, sizeof item->name, "%s%s.weight%s", layer, names[item->target], ending);
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
    const char *name = graft_adapter_module(pair->target, pair->layer, module);
    bool known = (unsigned)pair->target <= GRAFT_TARGET_HEAD || pair->target == GRAFT_TARGET_QKV ||
                 pair->target == GRAFT_TARGET_GATE_UP;
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
    if (!moves || !turned || l->desc->rows_permuted == l->gguf || l->base->plain_rows) {
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

static enum graft_status add(const struct listing *l, enum graft_target target, uint32_t layer, enum graft_adapter_part part,
                             const struct graft_adapter_view *view)
{
    struct graft_adapter_item *item = &l->items->list[l->items->n];
    *item = (struct graft_adapter_item){.layer = layer, .target = target, .part = part, .view = *view};
    bool vector = part == GRAFT_ADAPTER_BIAS || part == GRAFT_ADAPTER_MAGNITUDE || target >= GRAFT_TARGET_ATTN_NORM;
    item->n_dims = vector ? 1 : 2;
    if (vector) {
        item->view.cols *= item->view.rows;
        item->view.rows = 1;
    }
    if (l->gguf) {
        name_gguf(item);
    } else {
        name_peft(item);
    }
    GRAFT_TRY(choose_rows(l, item));
    l->items->n++;
    return GRAFT_OK;
}

static enum graft_status add_whole(const struct listing *l, const struct graft_adapter_whole *whole)
{
    char module[GRAFT_ADAPTER_NAME_BYTES];
    graft_adapter_module(whole->target, whole->layer, module);
    if ((unsigned)whole->target >= GRAFT_TARGETS || whole->target < GRAFT_LAYER_TARGETS || !good_view(&whole->view)) {
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
    if (l->gguf && whole->target < GRAFT_TARGET_ATTN_NORM) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s is replaced as a whole (modules_to_save), which a GGUF adapter cannot hold",
                          module);
    }
    return add(l, whole->target, whole->layer, whole->base_copy ? GRAFT_ADAPTER_BASE_COPY : GRAFT_ADAPTER_WHOLE, &whole->view);
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
        const struct graft_adapter_pair *pair = &desc->pairs[i];
        GRAFT_TRY(check_pair(pair));
        const struct graft_adapter_view *views[GRAFT_ADAPTER_PARTS] = {&pair->a, &pair->b, &pair->bias, &pair->magnitude};
        for (unsigned part = 0; part < GRAFT_ADAPTER_PARTS; part++) {
            if (views[part]->data) {
                GRAFT_TRY(add(&l, pair->target, pair->layer, (enum graft_adapter_part)part, views[part]));
            }
        }
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
