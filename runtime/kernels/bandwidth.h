// SPDX-License-Identifier: Apache-2.0
// A kernel that only reads: the device's own measure of what decode could reach.
#ifndef GRAFT_RUNTIME_KERNELS_BANDWIDTH_H
#define GRAFT_RUNTIME_KERNELS_BANDWIDTH_H

#include "runtime/vk/vk.h"

// Bytes per second: median of `repeats` runs (0 = 5, at most 64) over a buffer of `bytes` (0 = a default that exceeds caches),
// taken from the ledger for the time of the call. Errors: GRAFT_E_BUDGET, GRAFT_E_MEMORY, GRAFT_E_DEVICE_LOST.
GRAFT_MUST_CHECK enum graft_status graft_bandwidth_measure(struct graft_ctx *ctx, struct graft_vk *vk, uint64_t bytes,
                                                           uint32_t repeats, double *out);

#endif
