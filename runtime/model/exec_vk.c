// SPDX-License-Identifier: Apache-2.0
// The plan as Vulkan dispatches: not part of this build.
#include "runtime/model/exec.h"

enum graft_status graft_exec_vk_create(struct graft_exec **out, struct graft_vk *vk, const struct graft_exec_params *params)
{
    (void)vk, (void)params;
    *out = NULL;
    return graft_fail(GRAFT_E_UNSUPPORTED, "this build has no Vulkan executor; use the device \"ref\"");
}

void graft_exec_vk_estimate(const struct graft_plan *plan, const struct graft_limits *limits, const struct graft_vk_caps *caps,
                            enum graft_weights_mode weights, uint64_t bytes[GRAFT_MEM_CLASSES], uint64_t *mapped_bytes)
{
    (void)caps, (void)weights;
    *mapped_bytes = 0;
    graft_exec_ref_estimate(plan, limits, bytes);
}
