// SPDX-License-Identifier: Apache-2.0
// read: a kernel that only reads. Shader: shaders/read.comp.
#include "runtime/kernels/kernel.h"

enum graft_status graft_kernel_read(struct graft_kernel *out, const struct graft_vk_caps *caps, uint32_t quads)
{
    *out = (struct graft_kernel){0};
    bool texel = graft_variant_choose(caps, 1).kind == GRAFT_VARIANT_LANE;
    GRAFT_TRY(graft_kernel_name(out, "read", NULL, texel ? GRAFT_VARIANT_LANE : GRAFT_VARIANT_TEAM, sizeof out->push.n_quads));
    struct graft_vk_pipeline_params *p = &out->pipeline;
    graft_kernel_bind(p, "po", texel);
    p->n_constants = 1;
    p->constants[0] = texel ? caps->subgroup_size : 128;
    out->push.n_quads = quads;
    // Every workgroup reads at least 4 quads an invocation; enough of them to fill any device.
    uint32_t most = texel ? 256 : 4096, each = p->constants[0] * 4;
    uint32_t groups = quads / each + 1;
    out->groups[0] = groups < most ? groups : most;
    out->groups[1] = 1;
    out->groups[2] = 1;
    return GRAFT_OK;
}
