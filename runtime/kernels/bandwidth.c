// SPDX-License-Identifier: Apache-2.0
// Read bandwidth with the kernel `read`: what decode could reach if it did nothing but read its weights.
#include "runtime/kernels/bandwidth.h"

#include <stdlib.h>

#include "runtime/kernels/kernel.h"

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

// A size that exceeds every cache, fits one binding and leaves the budget alone.
static uint64_t default_bytes(struct graft_ctx *ctx, const struct graft_vk_caps *caps)
{
    uint64_t bytes = caps->kind == GRAFT_VK_SOFTWARE ? 64ull << 20 : 1024ull << 20;
    uint64_t most = caps->max_storage_bytes < caps->max_allocation_bytes ? caps->max_storage_bytes : caps->max_allocation_bytes;
    uint64_t left = graft_ledger_free(ctx) / 2;
    bytes = bytes < most ? bytes : most;
    bytes = bytes < left ? bytes : left;
    return bytes & ~(uint64_t)0xffff;
}

enum graft_status graft_bandwidth_measure(struct graft_ctx *ctx, struct graft_vk *vk, uint64_t bytes, uint32_t repeats,
                                          double *out)
{
    enum { MAX_REPEATS = 64, PASSES = 4 };
    const struct graft_vk_caps *caps = graft_vk_caps(vk);
    struct graft_vk_buffer *data = NULL, *sums = NULL;
    struct graft_vk_pipeline *pipeline = NULL;
    struct graft_vk_commands *commands = NULL;
    uint64_t times[MAX_REPEATS];
    repeats = repeats == 0 ? 5 : repeats > MAX_REPEATS ? MAX_REPEATS : repeats;
    bytes = bytes ? bytes & ~(uint64_t)15 : default_bytes(ctx, caps);
    if (bytes < 1 << 16) {
        return graft_fail(GRAFT_E_BUDGET, "no room to measure read bandwidth: %llu bytes are free",
                          (unsigned long long)graft_ledger_free(ctx));
    }
    struct graft_kernel kernel;
    GRAFT_TRY(graft_kernel_read(&kernel, caps, (uint32_t)(bytes / 16)));
    kernel.pipeline.name = kernel.name;
    enum graft_status status;
    GRAFT_TRY_OUT(graft_vk_buffer_create(vk, &data, bytes, GRAFT_VK_DEVICE, GRAFT_MEM_STAGING, "read bandwidth"), status, out);
    GRAFT_TRY_OUT(
        graft_vk_buffer_create(vk, &sums, kernel.groups[0] * 4ull, GRAFT_VK_DEVICE, GRAFT_MEM_STAGING, "read bandwidth"),
        status, out);
    GRAFT_TRY_OUT(graft_vk_pipeline_get(vk, &pipeline, &kernel.pipeline), status, out);
    GRAFT_TRY_OUT(graft_vk_commands_create(vk, &commands, PASSES, false), status, out);
    struct graft_vk_bind binds[2] = {{data, 0, bytes}, {sums, 0, sums->bytes}};
    for (uint32_t i = 0; i < PASSES; i++) {
        GRAFT_TRY_OUT(graft_vk_dispatch(commands, pipeline, binds, &kernel.push, kernel.groups), status, out);
    }
    GRAFT_TRY_OUT(graft_vk_commands_end(commands), status, out);
    for (uint32_t i = 0; i < repeats + 1; i++) { // the first warms up
        uint64_t start = graft_clock_ns();
        GRAFT_TRY_OUT(graft_vk_submit(vk, &commands, 1), status, out);
        GRAFT_TRY_OUT(graft_vk_wait(vk), status, out);
        if (i > 0) {
            times[i - 1] = graft_clock_ns() - start;
        }
    }
    qsort(times, repeats, sizeof *times, by_time);
    *out = (double)bytes * PASSES * 1e9 / (double)times[repeats / 2];
out:
    graft_vk_commands_destroy(&commands);
    graft_vk_pipeline_put(vk, &pipeline);
    graft_vk_buffer_destroy(&data);
    graft_vk_buffer_destroy(&sums);
    return status;
}
