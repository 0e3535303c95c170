// SPDX-License-Identifier: Apache-2.0
// Two adapter files compared part by part.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "platform/bytes.h"
#include "runtime/adapter/delta.h"
#include "runtime/session/adapter_file.h"

struct graft_adapter_diff {
    struct graft_ctx *ctx;
    uint32_t n;
    struct graft_adapter_difference *items;
};

struct comparing {
    struct graft_adapter_diff *diff;
    const struct graft_adapter_file *a, *b;
};

// Size of the heads whose rows are in another order in b (or, *swapped, in a); 0 if the order is the same.
static enum graft_status row_order(const struct comparing *c, enum graft_target target, const char *module, uint64_t n_out,
                                   uint64_t *head_dim, bool *swapped)
{
    const struct graft_adapter_base *base = c->a->base_parameters ? &c->a->base : &c->b->base;
    bool turned = target == GRAFT_TARGET_Q || target == GRAFT_TARGET_K;
    *head_dim = 0;
    *swapped = c->a->desc->rows_permuted;
    if (!turned || c->a->desc->rows_permuted == c->b->desc->rows_permuted || base->plain_rows) {
        return GRAFT_OK;
    }
    uint32_t heads = target == GRAFT_TARGET_Q ? base->n_head : base->n_head_kv;
    if (heads == 0) {
        return graft_fail(
            GRAFT_E_ARGUMENT,
            "%s: one adapter is GGUF, where rows of q and k are in another order than in PEFT, which depends on the "
            "base's number of heads: the base model is needed",
            module);
    }
    if (n_out % heads != 0 || n_out / heads % 2 != 0) {
        return graft_fail(GRAFT_E_FORMAT, "%s: %" PRIu64 " rows are not the base's %u heads of an even size", module, n_out,
                          heads);
    }
    *head_dim = n_out / heads;
    return GRAFT_OK;
}

// The same type and bytes; rows of b (vectors: values) are where llama.cpp puts them in heads of head_dim, if that is not 0.
static bool same_bytes(const struct graft_adapter_view *a, const struct graft_adapter_view *b, uint64_t head_dim, bool vector)
{
    if (a->type != b->type || a->rows * a->cols != b->rows * b->cols) {
        return false;
    }
    uint64_t item = graft_adapter_value_bytes(a->type), rows = vector ? a->rows * a->cols : a->rows;
    uint64_t row_bytes = vector ? item : a->cols * item;
    for (uint64_t row = 0; row < rows; row++) {
        uint64_t other = head_dim ? graft_adapter_permuted_row(row, head_dim) : row;
        if (memcmp(a->data + row * row_bytes, b->data + other * row_bytes, (size_t)row_bytes) != 0) {
            return false;
        }
    }
    return true;
}

static struct graft_adapter_difference *add(struct comparing *c, enum graft_target target, uint32_t layer, uint32_t expert,
                                            const char *part, enum graft_adapter_difference_kind kind)
{
    struct graft_adapter_difference *item = &c->diff->items[c->diff->n++];
    *item = (struct graft_adapter_difference){.part = part, .kind = kind};
    graft_adapter_module(target, layer, expert, false, item->module);
    return item;
}

// Norms into an item; they are those of a and b, whichever way they were compared.
static void set_norms(struct graft_adapter_difference *item, const struct graft_delta_norms *norms, bool swapped)
{
    item->norm_a = swapped ? norms->b : norms->a;
    item->norm_b = swapped ? norms->a : norms->b;
    item->relative = norms->difference == 0 ? 0 : item->norm_a == 0 ? INFINITY : norms->difference / item->norm_a;
}

static void compare_vectors(struct comparing *c, const struct graft_adapter_pair *at, const char *part,
                            const struct graft_adapter_view *a, const struct graft_adapter_view *b, uint64_t head_dim,
                            bool swapped)
{
    if (!a->data && !b->data) {
        return;
    }
    struct graft_adapter_difference *item = add(c, at->target, at->layer, at->expert, part,
                                                !b->data   ? GRAFT_ADAPTER_ONLY_A
                                                : !a->data ? GRAFT_ADAPTER_ONLY_B
                                                           : GRAFT_ADAPTER_DIFFER);
    if (item->kind == GRAFT_ADAPTER_DIFFER) {
        struct graft_delta_norms norms;
        graft_delta_compare_values(swapped ? b : a, swapped ? a : b, head_dim, &norms);
        set_norms(item, &norms, swapped);
        item->kind = same_bytes(swapped ? b : a, swapped ? a : b, head_dim, true) ? GRAFT_ADAPTER_SAME : GRAFT_ADAPTER_DIFFER;
    }
}

static enum graft_status compare_pairs(struct comparing *c, const struct graft_adapter_pair *a,
                                       const struct graft_adapter_pair *b)
{
    struct graft_adapter_difference *item = add(c, a->target, a->layer, a->expert, "delta", GRAFT_ADAPTER_UNLIKE);
    item->rank_a = a->rank;
    item->rank_b = b->rank;
    item->scale_a = a->scale;
    item->scale_b = b->scale;
    if (a->a.cols != b->a.cols || a->b.rows != b->b.rows) {
        return GRAFT_OK;
    }
    uint64_t head_dim;
    bool swapped;
    struct graft_delta_norms norms;
    GRAFT_TRY(row_order(c, a->target, item->module, a->b.rows, &head_dim, &swapped));
    const struct graft_adapter_pair *first = swapped ? b : a, *second = swapped ? a : b;
    bool same = a->scale == b->scale && a->rank == b->rank && same_bytes(&a->a, &b->a, 0, false) &&
                same_bytes(&first->b, &second->b, head_dim, false);
    GRAFT_TRY(graft_delta_compare(c->diff->ctx, first, same ? NULL : second, head_dim, &norms));
    norms.b = same ? norms.a : norms.b;
    set_norms(item, &norms, swapped);
    item->kind = same ? GRAFT_ADAPTER_SAME : GRAFT_ADAPTER_DIFFER;
    compare_vectors(c, a, "magnitude", &a->magnitude, &b->magnitude, head_dim, swapped);
    compare_vectors(c, a, "bias", &a->bias, &b->bias, head_dim, swapped);
    return GRAFT_OK;
}

static void only_pair(struct comparing *c, const struct graft_adapter_pair *pair, enum graft_adapter_difference_kind kind)
{
    struct graft_adapter_difference *item = add(c, pair->target, pair->layer, pair->expert, "delta", kind);
    bool a = kind == GRAFT_ADAPTER_ONLY_A;
    item->rank_a = a ? pair->rank : 0;
    item->rank_b = a ? 0 : pair->rank;
    item->scale_a = a ? pair->scale : 0;
    item->scale_b = a ? 0 : pair->scale;
}

// Order of pairs, and of whole tensors, in a description.
static int order(uint32_t layer_a, unsigned target_a, uint32_t layer_b, unsigned target_b)
{
    return layer_a != layer_b ? (layer_a < layer_b ? -1 : 1) : target_a != target_b ? (target_a < target_b ? -1 : 1) : 0;
}

static int pair_order(const struct graft_adapter_pair *a, const struct graft_adapter_pair *b)
{
    return a->layer == b->layer && a->expert != b->expert ? (a->expert < b->expert ? -1 : 1)
                                                          : order(a->layer, a->target, b->layer, b->target);
}

static void compare_wholes(struct comparing *c, const struct graft_adapter_whole *a, const struct graft_adapter_whole *b)
{
    const struct graft_adapter_whole *at = a ? a : b;
    struct graft_adapter_difference *item = add(c, at->target, at->layer, 0, at->base_copy ? "copy of the base" : "weight",
                                                !b   ? GRAFT_ADAPTER_ONLY_A
                                                : !a ? GRAFT_ADAPTER_ONLY_B
                                                     : GRAFT_ADAPTER_UNLIKE);
    if (a && b && a->view.rows == b->view.rows && a->view.cols == b->view.cols) {
        struct graft_delta_norms norms;
        graft_delta_compare_values(&a->view, &b->view, 0, &norms);
        set_norms(item, &norms, false);
        item->kind = same_bytes(&a->view, &b->view, 0, true) ? GRAFT_ADAPTER_SAME : GRAFT_ADAPTER_DIFFER;
    }
}

static enum graft_status compare(struct comparing *c)
{
    const struct graft_adapter_desc *a = c->a->desc, *b = c->b->desc;
    for (uint32_t i = 0, k = 0; i < a->n_pairs || k < b->n_pairs;) {
        const struct graft_adapter_pair *p = &a->pairs[i], *q = &b->pairs[k];
        int which = i == a->n_pairs ? 1 : k == b->n_pairs ? -1 : pair_order(p, q);
        if (which == 0) {
            GRAFT_TRY(compare_pairs(c, p, q));
        } else {
            only_pair(c, which < 0 ? p : q, which < 0 ? GRAFT_ADAPTER_ONLY_A : GRAFT_ADAPTER_ONLY_B);
        }
        i += which <= 0;
        k += which >= 0;
    }
    for (uint32_t i = 0, k = 0; i < a->n_whole || k < b->n_whole;) {
        const struct graft_adapter_whole *p = &a->whole[i], *q = &b->whole[k];
        int which = i == a->n_whole ? 1 : k == b->n_whole ? -1 : order(p->layer, p->target, q->layer, q->target);
        which = which == 0 ? (int)p->base_copy - (int)q->base_copy : which;
        compare_wholes(c, which <= 0 ? p : NULL, which >= 0 ? q : NULL);
        i += which <= 0;
        k += which >= 0;
    }
    return GRAFT_OK;
}

enum graft_status graft_adapter_diff_open(struct graft_ctx *ctx, struct graft_adapter_diff **out,
                                          const struct graft_adapter_file *a, const struct graft_adapter_file *b)
{
    struct graft_adapter_diff *diff;
    *out = NULL;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &diff, 1, "a comparison"));
    diff->ctx = ctx;
    struct comparing c = {.diff = diff, .a = a, .b = b};
    uint64_t most = 3 * ((uint64_t)a->desc->n_pairs + b->desc->n_pairs) + a->desc->n_whole + b->desc->n_whole;
    enum graft_status status = GRAFT_NEW(ctx, GRAFT_MEM_HOST, &diff->items, most, "a comparison");
    status = status == GRAFT_OK ? compare(&c) : status;
    if (status != GRAFT_OK) {
        graft_adapter_diff_close(&diff);
    }
    *out = diff;
    return status;
}

void graft_adapter_diff_close(struct graft_adapter_diff **diff)
{
    if (!diff || !*diff) {
        return;
    }
    struct graft_ctx *ctx = (*diff)->ctx;
    GRAFT_FREE(ctx, &(*diff)->items);
    GRAFT_FREE(ctx, diff);
}

uint32_t graft_adapter_diff_count(const struct graft_adapter_diff *diff)
{
    return diff->n;
}

void graft_adapter_diff_item(const struct graft_adapter_diff *diff, uint32_t index, struct graft_adapter_difference *out)
{
    *out = index < diff->n ? diff->items[index] : (struct graft_adapter_difference){.part = ""};
}
