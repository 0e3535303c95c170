// SPDX-License-Identifier: Apache-2.0
// graft/device.h: which devices there are, why one is or is not usable, and opening one.
#ifndef GRAFT_DEVICE_H
#define GRAFT_DEVICE_H

#include "graft/common.h"

#ifdef __cplusplus
extern "C" {
#endif

enum graft_device_kind {
    GRAFT_DEVICE_DISCRETE,
    GRAFT_DEVICE_INTEGRATED,
    GRAFT_DEVICE_VIRTUAL,
    GRAFT_DEVICE_SOFTWARE, // Vulkan on the processor
    GRAFT_DEVICE_REFERENCE // scalar C, no Vulkan: selected by "ref"
};

struct graft_device_info {
    char name[256];
    char driver[256];     // driver name and version
    char api_version[16]; // Vulkan version, "" for the reference
    enum graft_device_kind kind;
    bool usable;
    char reason[256];     // why it is not usable, or what is special; "" if nothing
    uint64_t memory_bytes; // largest device-local heap
    bool unified;         // shares the processor's memory
    uint32_t subgroup_size;
    bool f16, dot8, matrix_cores, host_import;
    uint64_t max_buffer_bytes; // largest range a kernel can see at once
};

struct graft_device;

// All devices, best first, the reference last: *count gets their number, at most `capacity` are written (infos may be NULL with
// capacity 0).
// A missing loader or driver is not an error: only the reference is listed then, and *note (may be NULL) gets a sentence that
// says what to install (static text; NULL if all is well). Errors: GRAFT_E_MEMORY, GRAFT_E_BUDGET. Thread-safety: safe.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_device_list(struct graft_ctx *ctx, struct graft_device_info *infos,
                                                               uint32_t capacity, uint32_t *count, const char **note);

struct graft_device_params {
    size_t size;        // sizeof(struct graft_device_params)
    const char *select; // NULL or "auto": the best usable one; a number as listed; part of a name; "ref": scalar C, no Vulkan
    bool validation;    // enable Vulkan's validation layers and log what they say
    // Capabilities to do without, for tests: each true field is treated as absent.
    bool no_subgroups, no_f16, no_storage_16bit, no_import, no_texel;
    // Models are opened only after a small one cut out of them has given the same results on the device as in scalar C; the
    // outcome is kept in the context's cache folder, per device, driver, build and formats. True: without that.
    bool no_self_test;
    uint64_t timeout_ns; // of one submission; 0 = 60 seconds
};

// Open a device. On failure *out is NULL. Errors: GRAFT_E_DEVICE (none usable, or no such name: all names and reasons are in
// the detail), GRAFT_E_MEMORY, GRAFT_E_BUDGET. Thread-safety: safe; the device itself: one thread at a time.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_device_open(struct graft_ctx *ctx, struct graft_device **out,
                                                               const struct graft_device_params *params);
// Close; models opened on it must be closed before. *device becomes NULL.
GRAFT_API void graft_device_close(struct graft_device **device);
GRAFT_API void graft_device_describe(const struct graft_device *device, struct graft_device_info *out);

// Running totals since the device was opened. All zero for the reference.
struct graft_device_counters {
    uint64_t dispatches, barriers, submissions, recordings, descriptor_updates, pipelines, device_allocations;
};
GRAFT_API void graft_device_count(const struct graft_device *device, struct graft_device_counters *out);

// Bytes per second a kernel that only reads reaches on this device: median of `repeats` runs over a buffer of `bytes` (0 = a
// default that exceeds caches). GRAFT_E_UNSUPPORTED on the reference.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_device_read_bandwidth(struct graft_device *device, uint64_t bytes,
                                                                         uint32_t repeats, double *bytes_per_second);

#ifdef __cplusplus
}
#endif
#endif
