// SPDX-License-Identifier: Apache-2.0
// A kernel that only reads: the device's own measure of what decode could reach.
#ifndef GRAFT_RUNTIME_KERNELS_BANDWIDTH_H
#define GRAFT_RUNTIME_KERNELS_BANDWIDTH_H

#include "runtime/vk/vk.h"

// Bytes per second: median of `repeats` runs (0 = 5) over a buffer of `bytes` (0 = a default that exceeds caches).
GRAFT_MUST_CHECK enum graft_status graft_bandwidth_measure(struct graft_vk *vk, uint64_t bytes, uint32_t repeats, double *out);

#endif
