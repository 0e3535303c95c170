// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/lower_private.h"

static void fill_common(const struct graft_lowering *lo, struct graft_matmul_push *push, const struct graft_weight *weight)
{
    const struct graft_config *config = &lo->plan->source->config;
    push->subs = weight->n_in / 32;
    push->row_bytes = (uint32_t)weight->row_bytes;
    push->parts_in = lo->ss_parts;
    push->inv_n = 1.0f / (float)config->n_embd;
    push->eps = config->rms_eps;
    push->scale = config->attention_scale;
    push->state_rows = lo->layout.rows;
    push->state_out = lo->layout.outs;
    push->state_rope = lo->layout.rope;
}

enum graft_status graft_lower_shrink(struct graft_lowering *lo, const struct graft_step *step,
                                     const struct graft_vk_buffer *input, uint32_t n_in, uint32_t entry, uint32_t n_targets,
                                     int t)
{
    const struct graft_buffers_vk *b = lo->buffers;
    struct graft_kernel kernel;
    if (!lo->lora || (folds(lo) && step->kind != GRAFT_STEP_HEAD)) {
        return GRAFT_OK;
    }
    GRAFT_TRY(graft_kernel_shrink(&kernel, lo->caps, n_in, n_targets, lo->rows));
    kernel.push.shrink.state_rows = lo->layout.rows;
    kernel.push.shrink.state_out = step->kind == GRAFT_STEP_HEAD ? lo->layout.outs : 0;
    kernel.push.shrink.lora = lora_push(lo, entry);
    fold(&kernel.push.shrink.lora, 0, n_targets);
    struct graft_vk_bind binds[] = {whole(b->pool), whole(input), whole(b->state[lo->state]), whole(b->table),
                                    whole(b->lora_t[t]), whole(b->state[lo->state])};
    return record(lo, &kernel, binds, step->name, 0);
}

// Rows of one window of a matrix: a multiple of what a workgroup covers.
static uint32_t window_rows(const struct graft_lowering *lo, const struct graft_variant *variant,
                            const struct graft_weight *weight)
{
    uint64_t rows = window_bytes(lo->caps, variant->kind == GRAFT_VARIANT_LANE) / weight->row_bytes;
    rows -= rows % graft_variant_rows(variant);
    return rows == 0 ? 0 : rows < weight->n_out ? (uint32_t)rows : weight->n_out;
}

// Rows of a window of q, k or v that cuts no head: the kernel reads a head's rows in an order of its own. 0: no such window.
static uint32_t head_rows(const struct graft_lowering *lo, const struct graft_variant *variant,
                          const struct graft_weight *weight)
{
    uint32_t rows = window_rows(lo, variant, weight), head_dim = lo->plan->source->config.head_dim;
    uint32_t unit = graft_variant_rows(variant), heads = unit;
    while (heads % head_dim != 0) {
        heads += unit;
    }
    return rows == weight->n_out ? rows : rows - rows % heads;
}

// The variant of a matrix kernel for weights of `type`. free_rows: graft_variant_use_dot.
static struct graft_variant matrix_variant(const struct graft_lowering *lo, uint32_t type, uint32_t free_rows)
{
    struct graft_variant variant = graft_variant_choose(lo->caps, lo->rows);
    if (lo->matrix_cores) {
        graft_variant_use_matrix(&variant, lo->caps, type, lo->rows);
    }
    graft_variant_use_dot(&variant, lo->caps, type, lo->activations, free_rows);
    variant.lora = lo->lora;
    return variant;
}

static enum graft_status lower_embed(struct graft_lowering *lo, const struct graft_step *step)
{
    const struct graft_weight *w = step->weight[0];
    const struct graft_buffers_vk *b = lo->buffers;
    struct graft_place place = graft_weights_vk_find(lo->weights, w);
    struct graft_variant variant = graft_variant_choose(lo->caps, 1);
    enum graft_lora_kind lora = lo->lora == GRAFT_LORA_EXTRAS || folds(lo) ? lo->lora : GRAFT_LORA_NONE;
    uint32_t rows = window_rows(lo, &variant, w);
    if (!rows) {
        return too_wide(w);
    }
    for (uint32_t first = 0; first < w->n_out; first += rows) {
        uint32_t count = w->n_out - first < rows ? w->n_out - first : rows;
        struct graft_kernel kernel;
        GRAFT_TRY(graft_kernel_embed(&kernel, lo->caps, w->type, w->n_in, lo->rows, lora));
        struct graft_embed_push *push = &kernel.push.embed;
        struct graft_vk_bind binds[11] = {
            window(lo, place.buffer, place.offset + first * w->row_bytes, count * w->row_bytes, &push->base),
            whole(b->state[lo->state]),
            whole(lo->weights->vectors), // layer 0's attention norm is the first
            whole(b->x), whole(b->xn), whole(b->ss),
        };
        bind_lora(lo, binds + 6, -1, T_OF_XN);
        push->lora = lora_push(lo, entry_of(0, GRAFT_LORA_EMBED));
        push->lora.norm = entry_of(0, GRAFT_LORA_ATTN_NORM);
        fold(&push->lora, entry_of(0, GRAFT_TARGET_Q), 3);
        push->row_bytes = (uint32_t)w->row_bytes;
        push->first = first;
        push->count = count;
        push->state_rows = lo->layout.rows;
        push->scale = lo->plan->source->config.embedding_scale;
        lo->ss_parts = push->parts_out;
        GRAFT_TRY(record(lo, &kernel, binds, step->name, 0));
    }
    return GRAFT_OK;
}

// Segments [from, to) of the step, all of one type, in one dispatch if they can be seen through one binding, else one by one
// and by windows.
static enum graft_status lower_qkv_group(struct graft_lowering *lo, const struct graft_step *step, uint32_t from, uint32_t to)
{
    const struct graft_config *config = &lo->plan->source->config;
    const struct graft_layer *layer = &lo->plan->source->layers[step->layer];
    const struct graft_buffers_vk *b = lo->buffers;
    struct graft_variant variant = matrix_variant(lo, step->weight[from]->type, 0);
    const struct graft_qkv_shape shape = {.head_dim = config->head_dim,
                                          .rope_dim = config->rope_dim,
                                          .n_head_kv = config->n_head_kv,
                                          .rope_halves = config->rope_pairs == GRAFT_ROPE_HALVES,
                                          .bias = layer->q_bias.data != NULL,
                                          .head_norm = layer->q_norm.data != NULL,
                                          .ring = graft_layer_has_ring(lo->plan->source, lo->limits, step->layer)};
    uint64_t begin = UINT64_MAX, end = 0;
    struct graft_place places[3];
    uint32_t segment_rows[3] = {0};
    bool one_buffer = true;
    for (uint32_t i = from; i < to; i++) {
        places[i] = graft_weights_vk_find(lo->weights, step->weight[i]);
        one_buffer = one_buffer && places[i].buffer == places[from].buffer;
        uint64_t last = places[i].offset + step->weight[i]->row_bytes * step->weight[i]->n_out;
        begin = places[i].offset < begin ? places[i].offset : begin;
        end = last > end ? last : end;
        segment_rows[i - from] = step->weight[i]->n_out;
    }
    uint64_t most = window_bytes(lo->caps, variant.kind == GRAFT_VARIANT_LANE);
    if (to - from > 1 && (!one_buffer || end - begin > most)) {
        for (uint32_t i = from; i < to; i++) {
            GRAFT_TRY(lower_qkv_group(lo, step, i, i + 1));
        }
        return GRAFT_OK;
    }
    uint32_t rows = to - from > 1 ? UINT32_MAX : head_rows(lo, &variant, step->weight[from]);
    if (!rows) {
        return too_wide(step->weight[from]);
    }
    for (uint32_t first = 0; first < step->weight[from]->n_out; first += rows) {
        if (to - from == 1) {
            uint32_t left = step->weight[from]->n_out - first;
            segment_rows[0] = left < rows ? left : rows;
            begin = places[from].offset + first * step->weight[from]->row_bytes;
            end = begin + segment_rows[0] * step->weight[from]->row_bytes;
        }
        struct graft_kernel kernel;
        GRAFT_TRY(graft_kernel_matmul(&kernel, GRAFT_MATMUL_QKV, lo->caps, &variant, step->weight[from]->type, to - from,
                                      segment_rows, lo->rows));
        struct graft_matmul_push *push = &kernel.push.matmul;
        fill_common(lo, push, step->weight[from]);
        uint32_t delta;
        struct graft_vk_bind binds[15] = {
            window(lo, places[from].buffer, begin, end - begin, &delta),
            whole(b->xn),
            whole(b->ss),
            whole(b->state[lo->state]),
            whole(b->q),
            whole(b->kv[step->layer]),
            whole(b->kv_new),
            whole(b->kv_count),
            whole(lo->weights->vectors),
            whole(b->ao), // not in use now: raw heads
            whole(b->counter),
        };
        bind_lora(lo, binds + 11, T_OF_XN, -1);
        push->lora = lora_push(lo, entry_of(step->layer, GRAFT_TARGET_Q));
        push->lora.norm = entry_of(step->layer, GRAFT_LORA_Q_NORM);
        uint64_t bytes = 0;
        for (uint32_t i = from; i < to; i++) {
            push->base[i - from] = delta + (to - from > 1 ? (uint32_t)(places[i].offset - begin) : 0);
            push->kinds |= i << (2 * (i - from));
            push->first[i - from] = first;
            bytes += segment_rows[i - from] * step->weight[i]->row_bytes;
        }
        push->out_stride = config->n_head * config->head_dim;
        push->v_words = (uint32_t)(graft_lower_keys_bytes(lo->plan, lo->limits, step->layer) / 4);
        push->vector = shape.bias ? graft_weights_vk_vector(lo->weights, &layer->q_bias) : 0;
        push->norm = shape.head_norm ? graft_weights_vk_vector(lo->weights, &layer->q_norm) : 0;
        push->state_rope = graft_state_rope(config, &lo->layout, layer->rope_local);
        graft_kernel_kv(&kernel, lo->limits->kv_k, lo->limits->kv_v);
        graft_kernel_qkv_shape(&kernel, &shape);
        GRAFT_TRY(record(lo, &kernel, binds, step->name, bytes));
        if (to - from > 1) {
            break;
        }
    }
    return GRAFT_OK;
}

static enum graft_status lower_qkv(struct graft_lowering *lo, const struct graft_step *step)
{
    uint32_t from = 0;
    GRAFT_TRY(graft_lower_shrink(lo, step, lo->buffers->xn, step->weight[0]->n_in, entry_of(step->layer, GRAFT_TARGET_Q), 3,
                                 T_OF_XN));
    while (from < 3) { // neighbours of one type share a dispatch; q, k in one type and v in another is common
        uint32_t to = from + 1;
        while (to < 3 && step->weight[to]->type == step->weight[from]->type) {
            to++;
        }
        GRAFT_TRY(lower_qkv_group(lo, step, from, to));
        from = to;
    }
    return GRAFT_OK;
}

static enum graft_status lower_attention(struct graft_lowering *lo, const struct graft_step *step)
{
    const struct graft_config *config = &lo->plan->source->config;
    const struct graft_buffers_vk *b = lo->buffers;
    struct graft_attention_shape shape = {.n_head = config->n_head,
                                          .n_head_kv = config->n_head_kv,
                                          .head_dim = config->head_dim,
                                          .n_ctx = lo->limits->table_pages * GRAFT_PAGE_TOKENS,
                                          .kv_k = lo->limits->kv_k,
                                          .kv_v = lo->limits->kv_v,
                                          .window = lo->plan->source->layers[step->layer].window,
                                          .cap = config->attention_cap};
    struct graft_kernel kernel;
    GRAFT_TRY(graft_kernel_attention(&kernel, lo->caps, &shape, lo->rows, lo->lora && folds(lo)));
    kernel.push.attention.v_quads = (uint32_t)(graft_lower_keys_bytes(lo->plan, lo->limits, step->layer) / 16);
    kernel.push.attention.state_rows = lo->layout.rows;
    bool ring = graft_layer_has_ring(lo->plan->source, lo->limits, step->layer);
    kernel.push.attention.state_tables = ring ? lo->layout.rings : lo->layout.tables;
    struct graft_vk_bind binds[12] = {
        whole(b->q),    whole(b->kv[step->layer]), whole(b->kv[step->layer]), whole(b->state[lo->state]), whole(b->ao),
        whole(b->part), whole(b->counter)};
    bind_lora(lo, binds + 7, -1, T_OF_OTHERS);
    kernel.push.attention.lora = lora_push(lo, 0);
    fold(&kernel.push.attention.lora, entry_of(step->layer, GRAFT_TARGET_O), 1);
    return record(lo, &kernel, binds, step->name, 0);
}

// Workgroups of a RESIDUAL step for a tile of batch rows.
static uint32_t residual_groups(const struct graft_plan *plan, const struct graft_vk_caps *caps)
{
    struct graft_variant variant = graft_variant_choose(caps, 1);
    uint32_t n_embd = plan->source->config.n_embd;
    return n_embd / variant.part_rows + (n_embd % variant.part_rows != 0);
}

// RESIDUAL and HEAD: one matrix, by windows of rows.
static enum graft_status lower_one_matrix(struct graft_lowering *lo, const struct graft_step *step)
{
    const struct graft_weight *w = step->weight[0];
    const struct graft_buffers_vk *b = lo->buffers;
    bool head = step->kind == GRAFT_STEP_HEAD;
    struct graft_place place = graft_weights_vk_find(lo->weights, w);
    struct graft_variant variant = matrix_variant(lo, w->type, head ? w->n_out : 0);
    uint32_t entry = entry_of(step->layer, head ? GRAFT_LORA_HEAD : step->from_ff ? GRAFT_TARGET_DOWN : GRAFT_TARGET_O);
    GRAFT_TRY(graft_lower_shrink(lo, step,
                                 head            ? b->xn
                                 : step->from_ff ? b->h
                                                 : b->ao,
                                 w->n_in, entry, 1, head ? T_OF_XN : T_OF_OTHERS));
    uint32_t rows = window_rows(lo, &variant, w);
    if (!rows) {
        return too_wide(w);
    }
    for (uint32_t first = 0; first < w->n_out; first += rows) {
        uint32_t count = w->n_out - first < rows ? w->n_out - first : rows;
        struct graft_kernel kernel;
        GRAFT_TRY(graft_kernel_matmul(&kernel, head ? GRAFT_MATMUL_HEAD : GRAFT_MATMUL_RESIDUAL, lo->caps, &variant, w->type, 1,
                                      &count, lo->rows));
        struct graft_matmul_push *push = &kernel.push.matmul;
        fill_common(lo, push, w);
        push->first[0] = first;
        push->out_stride = w->n_out;
        push->part_first = first / variant.part_rows;
        push->vector = head ? 0 : graft_weights_vk_vector(lo->weights, step->gain);
        push->parts_out = residual_groups(lo->plan, lo->caps);
        push->norm = step->post ? graft_weights_vk_vector(lo->weights, step->post) : 0;
        push->kinds = entry_of(step->layer, step->from_ff ? GRAFT_LORA_POST_FFN_NORM : GRAFT_LORA_POST_ATTN_NORM);
        if (step->post) {
            graft_kernel_post_norm(&kernel);
        }
        if (head) {
            memcpy(&kernel.pipeline.constants[GRAFT_MATMUL_CONSTANT], &lo->plan->source->config.logit_cap, sizeof(uint32_t));
        }
        struct graft_vk_bind matrix =
            window(lo, place.buffer, place.offset + first * w->row_bytes, count * w->row_bytes, &push->base[0]);
        struct graft_vk_bind head_binds[9] = {matrix, whole(b->xn), whole(b->ss), whole(b->state[lo->state]), whole(b->logits)};
        struct graft_vk_bind residual_binds[14] = {
            matrix,
            whole(step->from_ff ? b->h : b->ao),
            whole(b->x),
            whole(lo->weights->vectors),
            whole(b->xn),
            whole(b->ss),
            whole(b->q), // not in use now: what is added, before its norm
            whole(b->counter),
        };
        push->lora = lora_push(lo, entry);
        bind_lora(lo, head_binds + 5, T_OF_XN, -1);
        bind_lora(lo, residual_binds + 8, T_OF_OTHERS, T_OF_XN);
        if (!step->from_ff) {
            push->lora.norm = entry_of(step->layer, GRAFT_LORA_FFN_NORM);
            bool mixture = lo->plan->source->config.n_expert > 0, router = lo->lora == GRAFT_LORA_EXTRAS;
            fold(&push->lora, entry_of(step->layer, mixture ? GRAFT_TARGET_ROUTER : GRAFT_TARGET_GATE),
                 mixture ? (uint32_t)router : 2);
        } else {
            next_layer(lo, &push->lora, step->layer);
        }
        GRAFT_TRY(record(lo, &kernel, head ? head_binds : residual_binds, step->name, count * w->row_bytes));
    }
    if (!head) {
        lo->ss_parts = graft_lower_residual_parts(lo->plan, lo->caps);
    }
    return GRAFT_OK;
}

// Both matrices, of one type, or one of them, which is then bound in both places.
static enum graft_status lower_gate_up_part(struct graft_lowering *lo, const struct graft_step *step,
                                            enum graft_matmul_kind kind)
{
    const struct graft_weight *gate = step->weight[kind == GRAFT_MATMUL_UP], *up = step->weight[kind != GRAFT_MATMUL_GATE];
    const struct graft_buffers_vk *b = lo->buffers;
    struct graft_place places[2] = {graft_weights_vk_find(lo->weights, gate), graft_weights_vk_find(lo->weights, up)};
    struct graft_variant variant = matrix_variant(lo, gate->type, 2 * gate->n_out);
    uint32_t rows = window_rows(lo, &variant, gate);
    if (!rows) {
        return too_wide(gate);
    }
    bool both = kind == GRAFT_MATMUL_GATE_UP;
    uint32_t covered = graft_variant_rows(&variant) / (both ? 2 : 1), groups = 0; // of all windows
    for (uint32_t first = 0; first < gate->n_out; first += rows) {
        uint32_t count = gate->n_out - first < rows ? gate->n_out - first : rows;
        groups += count / covered + (count % covered != 0);
    }
    for (uint32_t first = 0; first < gate->n_out; first += rows) {
        uint32_t count = gate->n_out - first < rows ? gate->n_out - first : rows;
        struct graft_kernel kernel;
        GRAFT_TRY(graft_kernel_matmul(&kernel, kind, lo->caps, &variant, gate->type, 1, &count, lo->rows));
        struct graft_matmul_push *push = &kernel.push.matmul;
        fill_common(lo, push, gate);
        kernel.pipeline.constants[GRAFT_MATMUL_CONSTANT] =
            lo->plan->source->config.activation == GRAFT_ACTIVATION_GELU;
        push->first[0] = first;
        push->out_stride = gate->n_out;
        push->parts_out = groups;
        struct graft_vk_bind binds[11] = {
            window(lo, places[0].buffer, places[0].offset + first * gate->row_bytes, count * gate->row_bytes, &push->base[0]),
            whole(b->xn), whole(b->ss), whole(b->h),
            window(lo, places[1].buffer, places[1].offset + first * gate->row_bytes, count * gate->row_bytes, &push->base[1]),
        };
        push->lora = lora_push(lo, entry_of(step->layer, GRAFT_TARGET_GATE));
        bind_lora(lo, binds + 5, T_OF_XN, T_OF_OTHERS);
        fold(&push->lora, entry_of(step->layer, GRAFT_TARGET_DOWN), 1);
        GRAFT_TRY(record(lo, &kernel, binds, step->name, (both ? 2ull : 1ull) * count * gate->row_bytes));
    }
    return GRAFT_OK;
}

static enum graft_status lower_gate_up(struct graft_lowering *lo, const struct graft_step *step)
{
    GRAFT_TRY(graft_lower_shrink(lo, step, lo->buffers->xn, step->weight[0]->n_in, entry_of(step->layer, GRAFT_TARGET_GATE), 2,
                                 T_OF_XN));
    if (step->weight[0]->type == step->weight[1]->type) {
        return lower_gate_up_part(lo, step, GRAFT_MATMUL_GATE_UP);
    }
    GRAFT_TRY(lower_gate_up_part(lo, step, GRAFT_MATMUL_GATE));
    return lower_gate_up_part(lo, step, GRAFT_MATMUL_UP);
}

static enum graft_status lower_top(struct graft_lowering *lo, const struct graft_step *step)
{
    const struct graft_buffers_vk *b = lo->buffers;
    struct graft_kernel kernel;
    GRAFT_TRY(graft_kernel_top(&kernel, lo->caps, lo->plan->source->config.n_vocab, lo->rows));
    struct graft_vk_bind binds[] = {whole(b->logits), whole(b->top)};
    return record(lo, &kernel, binds, step->name, 0);
}

enum graft_status graft_lower_step(struct graft_lowering *lo, const struct graft_step *step)
{
    switch (step->kind) {
    case GRAFT_STEP_EMBED: return lower_embed(lo, step);
    case GRAFT_STEP_QKV: return lower_qkv(lo, step);
    case GRAFT_STEP_ATTENTION: return lower_attention(lo, step);
    case GRAFT_STEP_RESIDUAL:
    case GRAFT_STEP_HEAD: return lower_one_matrix(lo, step);
    case GRAFT_STEP_GATE_UP: return lower_gate_up(lo, step);
    case GRAFT_STEP_ROUTER:
    case GRAFT_STEP_EXPERTS_UP:
    case GRAFT_STEP_EXPERTS_DOWN: return graft_lower_experts(lo, step);
    case GRAFT_STEP_TOP: return lower_top(lo, step);
    }
    return graft_fail(GRAFT_E_INTERNAL, "unknown step %s", step->name);
}

uint32_t graft_lower_residual_parts(const struct graft_plan *plan, const struct graft_vk_caps *caps)
{
    return plan->source->layers[0].post_attn_norm.data ? 1 : residual_groups(plan, caps);
}

uint32_t graft_lower_max_parts(const struct graft_plan *plan, const struct graft_vk_caps *caps)
{
    uint32_t residual = graft_lower_residual_parts(plan, caps), embed = plan->source->config.n_embd / 32;
    return residual > embed ? residual : embed;
}

uint32_t graft_lower_top_chunks(const struct graft_plan *plan, const struct graft_vk_caps *caps)
{
    struct graft_kernel kernel;
    return graft_kernel_top(&kernel, caps, plan->source->config.n_vocab, 1) == GRAFT_OK ? kernel.groups[0] : 0;
}

uint64_t graft_lower_keys_bytes(const struct graft_plan *plan, const struct graft_limits *limits, uint32_t layer)
{
    uint64_t keys = 0, values;
    (void)graft_kv_layer_bytes(&plan->source->config, limits, graft_layer_has_ring(plan->source, limits, layer), &keys,
                               &values);
    return keys; // it fits: the buffers were measured
}

uint32_t graft_lower_max_dispatches(const struct graft_plan *plan, const struct graft_vk_caps *caps)
{
    uint64_t n = (uint64_t)graft_lower_dispatches(plan->body, plan->n_body, caps) + graft_lower_dispatches(plan->head, 2, caps);
    return (uint32_t)(n > UINT32_MAX ? UINT32_MAX : n);
}

uint32_t graft_lower_dispatches(const struct graft_step *steps, uint32_t n_steps, const struct graft_vk_caps *caps)
{
    uint64_t n = 8, window_size = window_bytes(caps, false) < window_bytes(caps, true) ? window_bytes(caps, false)
                                                                                       : window_bytes(caps, true);
    if (caps->max_texel_elements == 0) {
        window_size = window_bytes(caps, false);
    }
    for (uint32_t i = 0; i < n_steps; i++) {
        const struct graft_step *step = &steps[i];
        n += 4;
        for (uint32_t k = 0; k < 3 && step->weight[k]; k++) {
            const struct graft_weight *w = step->weight[k];
            uint64_t each = w->row_bytes * w->n_out, fit = window_size / (each ? each : 1);
            n += w->n_expert && fit ? w->n_expert / fit + 1 : each / window_size + 1;
        }
    }
    return (uint32_t)(n > UINT32_MAX ? UINT32_MAX : n);
}
