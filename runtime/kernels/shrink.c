// SPDX-License-Identifier: Apache-2.0
// shrink: A x of every adapter of every batch row. Shader: shaders/shrink.comp.
#include "runtime/kernels/kernel.h"

enum { PARTS = 8 }; // workgroups that share the rows of A: with 4 subgroups of 2 rows, rank 64 in one pass

enum graft_status graft_kernel_shrink(struct graft_kernel *out, const struct graft_vk_caps *caps, uint32_t n_in,
                                      uint32_t batch_rows)
{
    *out = (struct graft_kernel){0};
    struct graft_variant variant = graft_variant_choose(caps, 1);
    GRAFT_TRY(graft_kernel_name(out, "shrink", NULL, variant.kind, sizeof out->push.shrink));
    struct graft_vk_pipeline_params *p = &out->pipeline;
    bool texel = variant.kind == GRAFT_VARIANT_LANE;
    p->n_bindings = 6;
    p->kinds[0] = texel ? GRAFT_VK_TEXEL_U32X4 : GRAFT_VK_STORAGE;
    p->kinds[1] = texel ? GRAFT_VK_TEXEL_F32X4 : GRAFT_VK_STORAGE;
    p->kinds[3] = p->kinds[5] = p->kinds[0];
    for (uint32_t i = 0; i < 6; i++) {
        p->access[i] = i != 4 ? GRAFT_VK_READ : GRAFT_VK_WRITE;
    }
    p->n_constants = 1;
    p->constants[0] = variant.workgroup;
    p->required_subgroup_size = variant.subgroup;
    p->full_subgroups = variant.subgroup != 0;
    out->push.shrink.fours = n_in / 4;
    out->groups[0] = GRAFT_LORA_PAIRS * (variant.kind == GRAFT_VARIANT_LANE ? 1 : PARTS);
    out->groups[1] = batch_rows;
    out->groups[2] = 1;
    return GRAFT_OK;
}
