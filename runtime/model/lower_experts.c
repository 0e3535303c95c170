// SPDX-License-Identifier: Apache-2.0
// Lowering the steps of a mixture of experts.
//
// A matrix of experts larger than a binding is cut into windows of whole experts: every window has a dispatch for all pairs
// (row, expert), and those whose expert is elsewhere do nothing. experts_residual computes its products itself (one dispatch)
// where all experts are in one window and rows hardly share experts; otherwise experts_down leaves them in Y.
#include "runtime/model/lower_private.h"

static struct graft_experts_shape shape_of(const struct graft_config *c)
{
    return (struct graft_experts_shape){c->n_expert, c->n_expert_used, c->n_embd, c->n_ff_expert};
}

static uint64_t expert_bytes(const struct graft_weight *w)
{
    return w->row_bytes * w->n_out;
}

// Experts of one window; 0: not even one.
static uint32_t window_experts(const struct graft_vk_caps *caps, const struct graft_weight *w)
{
    bool texel = graft_variant_choose(caps, 1).kind == GRAFT_VARIANT_LANE;
    uint64_t fit = window_bytes(caps, texel) / expert_bytes(w);
    return fit < w->n_expert ? (uint32_t)fit : w->n_expert;
}

// Does experts_down leave its products in Y?
static bool has_products(const struct graft_vk_caps *caps, const struct graft_experts_shape *shape,
                         const struct graft_weight *down, uint32_t rows)
{
    return graft_experts_tiles(caps, shape, rows).grouped || window_experts(caps, down) < down->n_expert;
}

void graft_lower_experts_bytes(const struct graft_plan *plan, const struct graft_limits *limits,
                               const struct graft_vk_caps *caps, uint64_t *tiles, uint64_t *y)
{
    const struct graft_config *c = &plan->source->config;
    struct graft_experts_shape shape = shape_of(c);
    bool products = false;
    uint32_t n = limits->n_batch;
    *tiles = 0;
    for (uint32_t rows = 1; rows < 2 * n; rows *= 2) { // the buckets
        uint32_t bucket = rows < n ? rows : n;
        struct graft_experts_tiling tiling = graft_experts_tiles(caps, &shape, bucket);
        uint64_t bytes = tiling.grouped ? (uint64_t)tiling.n_tiles * (1 + tiling.cols) * 4 : 0;
        *tiles = bytes > *tiles ? bytes : *tiles;
        for (uint32_t l = 0; l < c->n_layer; l++) {
            products = products || has_products(caps, &shape, &plan->source->layers[l].down, bucket);
        }
    }
    *y = products ? (uint64_t)n * c->n_expert_used * c->n_embd * 4 : 0;
}

static void fill(const struct graft_lowering *lo, struct graft_experts_push *push, const struct graft_weight *w)
{
    const struct graft_config *c = &lo->plan->source->config;
    push->row_bytes = (uint32_t)w->row_bytes;
    push->expert_bytes = (uint32_t)expert_bytes(w);
    push->parts_in = lo->ss_parts;
    push->inv_n = 1.0f / (float)c->n_embd;
    push->eps = c->rms_eps;
    push->normalize = c->expert_norm;
    push->state_rows = lo->layout.rows;
}

// What a step reads at most: every expert once, or those of each row.
static uint64_t bytes_read(const struct graft_lowering *lo, const struct graft_weight *w, uint32_t experts)
{
    uint64_t pairs = (uint64_t)lo->rows * lo->plan->source->config.n_expert_used;
    return expert_bytes(w) * (pairs < experts ? pairs : experts);
}

static enum graft_status lower_router(struct graft_lowering *lo, const struct graft_step *step)
{
    const struct graft_weight *w = step->weight[0];
    const struct graft_buffers_vk *b = lo->buffers;
    struct graft_experts_shape shape = shape_of(&lo->plan->source->config);
    struct graft_place place = graft_weights_vk_find(lo->weights, w);
    struct graft_kernel kernel;
    if (lo->lora == GRAFT_LORA_EXTRAS) {
        GRAFT_TRY(graft_lower_shrink(lo, step, b->xn, w->n_in, entry_of(step->layer, GRAFT_LORA_ROUTER), 1, T_OF_XN));
    }
    GRAFT_TRY(
        graft_kernel_experts(&kernel, GRAFT_EXPERTS_ROUTER, lo->caps, &shape, w->type, lo->activations, lo->rows, lo->lora));
    struct graft_experts_push *push = &kernel.push.experts;
    fill(lo, push, w);
    struct graft_vk_bind binds[10] = {
        window(lo, place.buffer, place.offset, expert_bytes(w), &push->base[0]),
        whole(b->xn),
        whole(b->ss),
        whole(b->scores),
        whole(b->counter),
        whole(b->route),
    };
    push->lora = lora_push(lo, entry_of(step->layer, GRAFT_LORA_ROUTER));
    bind_lora(lo, binds + 6, T_OF_XN, -1);
    GRAFT_TRY(record(lo, &kernel, binds, step->name, expert_bytes(w)));
    if (graft_experts_tiles(lo->caps, &shape, lo->rows).grouped) {
        struct graft_vk_bind group[] = {whole(b->route), whole(b->tiles)};
        GRAFT_TRY(
            graft_kernel_experts(&kernel, GRAFT_EXPERTS_GROUP, lo->caps, &shape, w->type, lo->activations, lo->rows, lo->lora));
        GRAFT_TRY(record(lo, &kernel, group, step->name, 0));
    }
    return GRAFT_OK;
}

static const struct graft_vk_buffer *work_of(const struct graft_lowering *lo, const struct graft_experts_shape *shape)
{
    return graft_experts_tiles(lo->caps, shape, lo->rows).grouped ? lo->buffers->tiles : lo->buffers->route;
}

// Adapters of experts, of a target and n - 1 behind it, which read the same input: T.
static enum graft_status lower_expert_shrink(struct graft_lowering *lo, const struct graft_step *step,
                                             enum graft_experts_kind kind, enum graft_target target, uint32_t n)
{
    const struct graft_buffers_vk *b = lo->buffers;
    struct graft_experts_shape shape = shape_of(&lo->plan->source->config);
    struct graft_kernel kernel;
    if (lo->lora != GRAFT_LORA_EXTRAS) {
        return GRAFT_OK;
    }
    GRAFT_TRY(graft_kernel_experts(&kernel, kind, lo->caps, &shape, 0, lo->activations, lo->rows, lo->lora));
    kernel.push.experts.state_rows = lo->layout.rows;
    kernel.push.experts.lora = lora_push(lo, entry_of(step->layer, target));
    fold(&kernel.push.experts.lora, 0, n);
    struct graft_vk_bind binds[] = {whole(b->pool),     whole(kind == GRAFT_EXPERTS_SHRINK_UP ? b->xn : b->h),
                                    whole(b->route),    whole(b->table),
                                    whole(b->expert_t), whole(b->state[lo->state])};
    return record(lo, &kernel, binds, step->name, 0);
}

// Both matrices, of one type, or one of them, which is then bound in both places; or experts_down's.
static enum graft_status lower_windows(struct graft_lowering *lo, const struct graft_step *step, enum graft_experts_kind kind)
{
    const struct graft_weight *first = step->weight[kind == GRAFT_EXPERTS_UP];
    const struct graft_weight *second = kind == GRAFT_EXPERTS_GATE_UP ? step->weight[1] : first;
    const struct graft_buffers_vk *b = lo->buffers;
    struct graft_experts_shape shape = shape_of(&lo->plan->source->config);
    struct graft_place places[2] = {graft_weights_vk_find(lo->weights, first), graft_weights_vk_find(lo->weights, second)};
    uint32_t experts = window_experts(lo->caps, first);
    if (!experts) {
        return too_wide(first);
    }
    for (uint32_t from = 0; from < shape.n_expert; from += experts) {
        uint32_t count = shape.n_expert - from < experts ? shape.n_expert - from : experts;
        uint64_t offset = from * expert_bytes(first), bytes = count * expert_bytes(first);
        struct graft_kernel kernel;
        GRAFT_TRY(graft_kernel_experts(&kernel, kind, lo->caps, &shape, first->type, lo->activations, lo->rows, lo->lora));
        struct graft_experts_push *push = &kernel.push.experts;
        fill(lo, push, first);
        push->expert_first = from;
        push->expert_count = count;
        struct graft_vk_bind matrix = window(lo, places[0].buffer, places[0].offset + offset, bytes, &push->base[0]);
        const struct graft_vk_buffer *work = work_of(lo, &shape);
        push->lora = lora_push(lo, entry_of(step->layer, kind == GRAFT_EXPERTS_DOWN ? GRAFT_TARGET_DOWN : GRAFT_TARGET_GATE));
        struct graft_vk_bind ups[10] = {
            matrix,      whole(b->xn), whole(b->ss),
            whole(work), whole(b->h),  window(lo, places[1].buffer, places[1].offset + offset, bytes, &push->base[1])};
        bool down = kind == GRAFT_EXPERTS_DOWN;
        uint64_t read = bytes_read(lo, first, count);
        if (down) {
            struct graft_vk_bind downs[8] = {matrix, whole(b->h), whole(work), whole(b->y)};
            bind_lora(lo, downs + 4, T_OF_EXPERTS, -1);
            GRAFT_TRY(record(lo, &kernel, downs, step->name, read));
        } else {
            bind_lora(lo, ups + 6, T_OF_EXPERTS, -1);
            GRAFT_TRY(record(lo, &kernel, ups, step->name, kind == GRAFT_EXPERTS_GATE_UP ? 2 * read : read));
        }
    }
    return GRAFT_OK;
}

static enum graft_status lower_down(struct graft_lowering *lo, const struct graft_step *step)
{
    const struct graft_weight *w = step->weight[0];
    const struct graft_buffers_vk *b = lo->buffers;
    struct graft_experts_shape shape = shape_of(&lo->plan->source->config);
    bool products = has_products(lo->caps, &shape, w, lo->rows);
    GRAFT_TRY(lower_expert_shrink(lo, step, GRAFT_EXPERTS_SHRINK_DOWN, GRAFT_TARGET_DOWN, 1));
    if (products) {
        GRAFT_TRY(lower_windows(lo, step, GRAFT_EXPERTS_DOWN));
    }
    struct graft_place place = graft_weights_vk_find(lo->weights, w);
    struct graft_kernel kernel;
    GRAFT_TRY(graft_kernel_experts(&kernel, products ? GRAFT_EXPERTS_SUM : GRAFT_EXPERTS_RESIDUAL, lo->caps, &shape, w->type,
                                   lo->activations, lo->rows, lo->lora));
    struct graft_experts_push *push = &kernel.push.experts;
    fill(lo, push, w);
    uint64_t bytes = products ? expert_bytes(w) : graft_weight_bytes(w); // the sum reads no weights, but a binding is there
    struct graft_vk_bind binds[14] = {
        window(lo, place.buffer, place.offset, bytes, &push->base[0]),
        whole(b->h),
        whole(b->x),
        whole(lo->weights->vectors),
        whole(b->xn),
        whole(b->ss),
        whole(b->route),
        whole(products ? b->y : b->h),
    };
    push->vector = graft_weights_vk_vector(lo->weights, step->gain);
    push->lora = lora_push(lo, entry_of(step->layer, GRAFT_TARGET_DOWN));
    bind_lora(lo, binds + 8, -1, T_OF_XN);
    if (lo->lora) {
        binds[13] = whole(b->expert_t);
    }
    next_layer(lo, &push->lora, step->layer);
    lo->ss_parts = graft_lower_residual_parts(lo->plan, lo->caps);
    return record(lo, &kernel, binds, step->name, products ? 0 : bytes_read(lo, w, shape.n_expert));
}

enum graft_status graft_lower_experts(struct graft_lowering *lo, const struct graft_step *step)
{
    if (step->kind == GRAFT_STEP_ROUTER) {
        return lower_router(lo, step);
    }
    if (step->kind == GRAFT_STEP_EXPERTS_DOWN) {
        return lower_down(lo, step);
    }
    GRAFT_TRY(lower_expert_shrink(lo, step, GRAFT_EXPERTS_SHRINK_UP, GRAFT_TARGET_GATE, 2));
    if (step->weight[0]->type == step->weight[1]->type) {
        return lower_windows(lo, step, GRAFT_EXPERTS_GATE_UP);
    }
    GRAFT_TRY(lower_windows(lo, step, GRAFT_EXPERTS_GATE));
    return lower_windows(lo, step, GRAFT_EXPERTS_UP);
}
