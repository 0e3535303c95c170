// SPDX-License-Identifier: Apache-2.0
// The kernels of a mixture of experts: router, experts_group, experts_shrink, experts_up, experts_down, experts_residual.
// Shaders of the same names; their matrix core is that of the dense kernels (shaders/lib/matmul.glsl) with an expert's offset.
#include <stdio.h>

#include "loaders/types.h"
#include "runtime/kernels/kernel.h"

// Bindings as in matmul.c: w = weights, v = input vectors, p = adapter data, r = read, o = written, x = read and written.
static const struct {
    const char *name;
    const char *bindings, *lora;
} kinds[] = {
    [GRAFT_EXPERTS_ROUTER] = {"router", "wvrxxo", "wvrxxoppvp"},
    [GRAFT_EXPERTS_GROUP] = {"experts_group", "ro", NULL},
    [GRAFT_EXPERTS_GATE_UP] = {"experts_up", "wvrrow", "wvrrowppvp"},
    [GRAFT_EXPERTS_GATE] = {"experts_up", "wvrrow", "wvrrowppvp"},
    [GRAFT_EXPERTS_UP] = {"experts_up", "wvrrxw", "wvrrxwppvp"},
    [GRAFT_EXPERTS_DOWN] = {"experts_down", "wvro", "wvroppvp"},
    [GRAFT_EXPERTS_RESIDUAL] = {"experts_residual", "wvxroorr", "wvxrxorrppoxpv"},
    [GRAFT_EXPERTS_SUM] = {"experts_residual", "wvxroorr", "wvxrxorrppoxpv"},
};

enum {
    PAIRS_OF_AN_EXPERT = 2, // from so many rows of a batch on, on average, grouping them pays
    SHRINK_PARTS = 4        // workgroups that share the rows of A: with 4 subgroups of 2 rows, rank 32 in one pass
};

struct graft_experts_tiling graft_experts_tiles(const struct graft_vk_caps *caps, const struct graft_experts_shape *shape,
                                                uint32_t batch_rows)
{
    uint32_t pairs = batch_rows * shape->n_used, each = pairs / shape->n_expert;
    if (each < PAIRS_OF_AN_EXPERT) {
        return (struct graft_experts_tiling){false, 1, pairs};
    }
    uint32_t cols = graft_variant_choose(caps, each).cols; // at most one tile of an expert is not full
    return (struct graft_experts_tiling){true, cols, (pairs + (cols - 1) * shape->n_expert) / cols};
}

static uint32_t divide_up(uint32_t n, uint32_t by)
{
    return n / by + (n % by != 0);
}

// One workgroup, whose memory all subgroups share: no variant for several of them.
static enum graft_status group_kernel(struct graft_kernel *out, const struct graft_vk_caps *caps,
                                      const struct graft_experts_shape *shape, uint32_t batch_rows)
{
    struct graft_variant variant = graft_variant_choose(caps, 1);
    struct graft_experts_tiling tiling = graft_experts_tiles(caps, shape, batch_rows);
    bool lane = variant.kind == GRAFT_VARIANT_LANE;
    GRAFT_TRY(graft_kernel_name(out, "experts_group", NULL, lane ? GRAFT_VARIANT_LANE : GRAFT_VARIANT_TEAM,
                                sizeof out->push.experts));
    graft_kernel_bind(&out->pipeline, kinds[GRAFT_EXPERTS_GROUP].bindings, false);
    out->pipeline.n_constants = 3;
    out->pipeline.constants[0] = lane ? variant.workgroup : 128;
    out->pipeline.constants[2] = tiling.cols;
    out->pipeline.required_subgroup_size = lane ? variant.subgroup : 0;
    out->pipeline.full_subgroups = out->pipeline.required_subgroup_size != 0;
    out->push.experts = (struct graft_experts_push){.expert_count = shape->n_expert,
                                                    .n_used = shape->n_used,
                                                    .n_assigned = batch_rows * shape->n_used,
                                                    .n_tiles = tiling.n_tiles};
    out->groups[0] = out->groups[1] = out->groups[2] = 1;
    return GRAFT_OK;
}

static enum graft_status shrink_kernel(struct graft_kernel *out, bool down, const struct graft_vk_caps *caps,
                                       const struct graft_experts_shape *shape, uint32_t batch_rows)
{
    GRAFT_TRY(graft_kernel_shrink_as(out, "experts_shrink", caps, SHRINK_PARTS, down ? 1 : 2, batch_rows * shape->n_used,
                                     sizeof out->push.experts));
    out->push.experts = (struct graft_experts_push){
        .subs = (down ? shape->n_ff : shape->n_embd) / 32, .n_used = shape->n_used, .sharing = down ? 1 : shape->n_used};
    return graft_kernel_check_grid(out, caps);
}

enum graft_status graft_kernel_experts(struct graft_kernel *out, enum graft_experts_kind kind, const struct graft_vk_caps *caps,
                                       const struct graft_experts_shape *shape, uint32_t type,
                                       enum graft_activations activations, uint32_t batch_rows, enum graft_lora_kind lora)
{
    *out = (struct graft_kernel){0};
    if (shape->n_expert > GRAFT_MAX_EXPERTS || shape->n_used > GRAFT_MAX_EXPERTS_USED || shape->n_used > shape->n_expert ||
        shape->n_used == 0) {
        return graft_fail(GRAFT_E_LIMIT, "%u of %u experts, allowed are 1 to %u of at most %u", shape->n_used, shape->n_expert,
                          GRAFT_MAX_EXPERTS_USED, GRAFT_MAX_EXPERTS);
    }
    if (kind == GRAFT_EXPERTS_GROUP) {
        return group_kernel(out, caps, shape, batch_rows);
    }
    if (kind == GRAFT_EXPERTS_SHRINK_UP || kind == GRAFT_EXPERTS_SHRINK_DOWN) {
        return shrink_kernel(out, kind == GRAFT_EXPERTS_SHRINK_DOWN, caps, shape, batch_rows);
    }
    const struct graft_kernel_format *format = graft_kernel_format(type);
    if (!format) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "weight type %u has no kernel", type);
    }
    bool router = kind == GRAFT_EXPERTS_ROUTER, ends = kind == GRAFT_EXPERTS_RESIDUAL || kind == GRAFT_EXPERTS_SUM;
    bool up = !router && !ends && kind != GRAFT_EXPERTS_DOWN;
    struct graft_experts_tiling tiling = graft_experts_tiles(caps, shape, batch_rows);
    uint32_t n_in = router || up ? shape->n_embd : shape->n_ff;
    uint32_t rows = router ? shape->n_expert : up ? shape->n_ff : shape->n_embd;
    struct graft_variant variant = graft_variant_choose(caps, router ? batch_rows : 1);
    variant.cols = router ? variant.cols : ends ? 1 : tiling.cols;
    if (!router) { // parts of SS have one size, whatever computes them: so experts_residual is always cut alike
        uint64_t all = (uint64_t)tiling.n_tiles * rows * (kind == GRAFT_EXPERTS_GATE_UP ? 2 : 1);
        graft_variant_use_dot(&variant, caps, type, activations, ends ? 0 : all < UINT32_MAX ? (uint32_t)all : UINT32_MAX);
    }
    char name[32];
    bool adapted = ends ? lora != GRAFT_LORA_NONE : lora == GRAFT_LORA_EXTRAS; // those of others leave the experts as they are
    snprintf(name, sizeof name, "%s%s", kinds[kind].name, adapted ? "_lora" : "");
    GRAFT_TRY(graft_kernel_name(out, name, format, variant.kind, sizeof out->push.experts));
    struct graft_vk_pipeline_params *p = &out->pipeline;
    graft_kernel_bind(p, adapted ? kinds[kind].lora : kinds[kind].bindings, variant.kind == GRAFT_VARIANT_LANE);
    p->n_constants = variant.kind == GRAFT_VARIANT_DOT ? GRAFT_CHUNK_CONSTANT + 1 : GRAFT_FORMAT_CONSTANT + 1;
    p->constants[0] = variant.workgroup;
    p->constants[1] = variant.rows;
    p->constants[2] = variant.cols;
    p->constants[3] = up     ? (uint32_t)(kind == GRAFT_EXPERTS_GATE) + 2u * (uint32_t)(kind == GRAFT_EXPERTS_UP)
                      : ends ? (uint32_t)(kind == GRAFT_EXPERTS_RESIDUAL)
                             : 0;
    p->constants[4] = ends ? (uint32_t)(lora == GRAFT_LORA_EXTRAS) : (uint32_t)tiling.grouped;
    p->constants[GRAFT_FORMAT_CONSTANT] = type;
    p->constants[GRAFT_PLANES_CONSTANT] = variant.planes;
    p->constants[GRAFT_CHUNK_CONSTANT] = variant.chunk;
    p->required_subgroup_size = variant.subgroup;
    p->full_subgroups = variant.subgroup != 0;
    uint32_t covered = graft_variant_rows(&variant) / (kind == GRAFT_EXPERTS_GATE_UP ? 2 : 1);
    out->groups[0] = divide_up(rows, covered);
    out->groups[1] = router ? divide_up(batch_rows, variant.cols) : ends ? batch_rows : tiling.n_tiles;
    out->groups[2] = 1;
    out->push.experts = (struct graft_experts_push){
        .subs = n_in / 32, .rows = rows, .expert_count = shape->n_expert, .n_used = shape->n_used, .parts_out = out->groups[0]};
    return graft_kernel_check_grid(out, caps);
}
