// SPDX-License-Identifier: Apache-2.0
// Read bandwidth: not part of this build.
#include "runtime/kernels/bandwidth.h"

enum graft_status graft_bandwidth_measure(struct graft_vk *vk, uint64_t bytes, uint32_t repeats, double *out)
{
    (void)vk, (void)bytes, (void)repeats;
    *out = 0.0;
    return graft_fail(GRAFT_E_UNSUPPORTED, "this build cannot measure read bandwidth");
}
