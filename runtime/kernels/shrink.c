// SPDX-License-Identifier: Apache-2.0
// shrink: A x of every adapter of every batch row. Shader: shaders/shrink.comp.
#include "runtime/kernels/kernel.h"

enum { PARTS = 8 }; // workgroups that share the rows of A, 4 in a pass: rank 32 in one pass

enum graft_status graft_kernel_shrink_as(struct graft_kernel *out, const char *name, const struct graft_vk_caps *caps,
                                         uint32_t parts, uint32_t n_targets, uint32_t n, uint32_t push_bytes)
{
    *out = (struct graft_kernel){0};
    struct graft_variant variant = graft_variant_choose(caps, 1);
    bool lane = variant.kind == GRAFT_VARIANT_LANE;
    GRAFT_TRY(graft_kernel_name(out, name, NULL, variant.kind, push_bytes));
    struct graft_vk_pipeline_params *p = &out->pipeline;
    graft_kernel_bind(p, "pvrpop", lane);
    p->n_constants = 1;
    p->constants[0] = variant.workgroup;
    p->required_subgroup_size = variant.subgroup;
    p->full_subgroups = variant.subgroup != 0;
    out->groups[0] = GRAFT_LORA_PAIRS * n_targets * (lane ? 1 : parts);
    out->groups[1] = n;
    out->groups[2] = 1;
    return GRAFT_OK;
}

enum graft_status graft_kernel_shrink(struct graft_kernel *out, const struct graft_vk_caps *caps, uint32_t n_in,
                                      uint32_t n_targets, uint32_t batch_rows)
{
    GRAFT_TRY(graft_kernel_shrink_as(out, "shrink", caps, PARTS, n_targets, batch_rows, sizeof out->push.shrink));
    out->push.shrink.fours = n_in / 4;
    return GRAFT_OK;
}
