// SPDX-License-Identifier: Apache-2.0
// top: candidates of each output row. Shader: shaders/top.comp.
#include "runtime/kernels/kernel.h"

enum graft_status graft_kernel_top(struct graft_kernel *out, const struct graft_vk_caps *caps, uint32_t n_vocab, uint32_t n_out)
{
    *out = (struct graft_kernel){0};
    struct graft_variant variant = graft_variant_choose(caps, 1);
    GRAFT_TRY(graft_kernel_name(out, "top", NULL, variant.kind, sizeof out->push.top));
    struct graft_vk_pipeline_params *p = &out->pipeline;
    // A chunk is large against the 64 it keeps, and its keys live in registers.
    uint32_t workgroup = variant.kind == GRAFT_VARIANT_LANE   ? variant.workgroup
                         : variant.kind == GRAFT_VARIANT_TEAM ? 64
                                                              : variant.workgroup;
    uint32_t values = variant.kind == GRAFT_VARIANT_LANE ? 64 : 16;
    graft_kernel_bind(p, "ro", false);
    p->n_constants = 2;
    p->constants[0] = workgroup;
    p->constants[1] = values;
    p->required_subgroup_size = variant.subgroup;
    p->full_subgroups = variant.subgroup != 0;
    uint32_t chunk = workgroup * values;
    out->push.top.n_vocab = n_vocab;
    out->groups[0] = n_vocab / chunk + (n_vocab % chunk != 0);
    out->groups[1] = n_out;
    out->groups[2] = 1;
    return GRAFT_OK;
}
