// SPDX-License-Identifier: Apache-2.0
// Devices as the public API shows them: Vulkan's, best first, then the scalar reference.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "platform/plat.h"
#include "runtime/kernels/bandwidth.h"
#include "runtime/kernels/shader.h"
#include "runtime/session/session.h"

static enum graft_device_kind kind_of(enum graft_vk_kind kind)
{
    switch (kind) {
    case GRAFT_VK_DISCRETE:
        return GRAFT_DEVICE_DISCRETE;
    case GRAFT_VK_INTEGRATED:
        return GRAFT_DEVICE_INTEGRATED;
    case GRAFT_VK_SOFTWARE:
        return GRAFT_DEVICE_SOFTWARE;
    case GRAFT_VK_VIRTUAL:
    case GRAFT_VK_OTHER:
        break;
    }
    return GRAFT_DEVICE_VIRTUAL;
}

static void describe_vk(const struct graft_vk_caps *caps, struct graft_device_info *out)
{
    *out = (struct graft_device_info){.kind = kind_of(caps->kind),
                                      .memory_bytes = caps->heap_bytes,
                                      .unified = caps->unified,
                                      .subgroup_size = caps->subgroup_size,
                                      .f16 = caps->shader_f16,
                                      .dot8 = caps->dot8_accelerated,
                                      .matrix_cores = caps->coopmat_khr || caps->coopmat_nv2,
                                      .host_import = caps->host_import,
                                      .max_buffer_bytes = caps->max_storage_bytes};
    snprintf(out->name, sizeof out->name, "%s", caps->name);
    snprintf(out->driver, sizeof out->driver, "%s", caps->driver);
    snprintf(out->api_version, sizeof out->api_version, "%s", caps->api_version);
}

static void describe_reference(struct graft_device_info *out)
{
    *out = (struct graft_device_info){
        .kind = GRAFT_DEVICE_REFERENCE, .usable = true, .unified = true, .host_import = true, .max_buffer_bytes = UINT64_MAX};
    snprintf(out->name, sizeof out->name, "ref");
    snprintf(out->driver, sizeof out->driver, "scalar C, no Vulkan");
    snprintf(out->reason, sizeof out->reason, "the definition of every kernel; slow");
}

enum graft_status graft_device_list(struct graft_ctx *ctx, struct graft_device_info *infos, uint32_t capacity, uint32_t *count,
                                    const char **note)
{
    if (note) {
        *note = NULL;
    }
    struct graft_vk_found *found = NULL;
    uint32_t n = 0;
    enum graft_status status = graft_vk_list(ctx, &found, &n);
    if (status == GRAFT_E_MEMORY || status == GRAFT_E_BUDGET) {
        return status;
    }
    if (status != GRAFT_OK || n == 0) {
        n = 0;
        if (note) {
            *note = graft_no_vulkan_device;
        }
    }
    for (uint32_t i = 0; i < n && i < capacity; i++) {
        describe_vk(&found[i].caps, &infos[i]);
        infos[i].usable = found[i].usable;
        snprintf(infos[i].reason, sizeof infos[i].reason, "%s", found[i].reason);
    }
    if (n < capacity) {
        describe_reference(&infos[n]);
    }
    *count = n + 1;
    GRAFT_FREE(ctx, &found);
    return GRAFT_OK;
}

// "ref", or the reference's number in the list.
static enum graft_status selects_reference(struct graft_ctx *ctx, const char *select, bool *out)
{
    *out = select && strcmp(select, "ref") == 0;
    if (*out || !select || !*select || strspn(select, "0123456789") != strlen(select)) {
        return GRAFT_OK;
    }
    uint32_t count;
    GRAFT_TRY(graft_device_list(ctx, NULL, 0, &count, NULL));
    char last[16];
    snprintf(last, sizeof last, "%u", count - 1);
    *out = strcmp(select, last) == 0;
    return GRAFT_OK;
}

// What the device is opened with; select NULL: the first usable one.
static void set_options(struct graft_device *device, const struct graft_device_params *p)
{
    snprintf(device->build, sizeof device->build, "%s %016" PRIx64, GRAFT_VERSION_STRING, graft_shader_build());
    snprintf(device->select, sizeof device->select, "%s", p->select ? p->select : "auto");
    device->options = (struct graft_vk_options){.select = device->select,
                                                .cache_key = device->build,
                                                .no_subgroups = p->no_subgroups,
                                                .no_f16 = p->no_f16,
                                                .no_storage_16bit = p->no_storage_16bit,
                                                .no_import = p->no_import,
                                                .no_texel = p->no_texel,
                                                .validation = p->validation,
                                                .timeout_ns = p->timeout_ns};
}

enum graft_status graft_device_reopen(struct graft_device *device)
{
    struct graft_vk *vk;
    if (!device->vk) {
        return GRAFT_OK;
    }
    GRAFT_TRY(graft_vk_open(device->ctx, &vk, &device->options));
    graft_vk_close(&device->vk);
    device->vk = vk;
    return GRAFT_OK;
}

enum graft_status graft_device_open(struct graft_ctx *ctx, struct graft_device **out, const struct graft_device_params *params)
{
    *out = NULL;
    struct graft_device_params given = {.size = sizeof given};
    if (params) {
        if (params->size == 0 || params->size > sizeof given) {
            return graft_fail(GRAFT_E_ARGUMENT, "graft_device_params.size is %zu, this library knows %zu", params->size,
                              sizeof given);
        }
        memcpy(&given, params, params->size);
    }
    bool reference;
    GRAFT_TRY(selects_reference(ctx, given.select, &reference));
    struct graft_device *device;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &device, 1, "a device"));
    device->ctx = ctx;
    set_options(device, &given);
    device->self_test = !given.no_self_test;
    if (!reference) {
        enum graft_status status = graft_vk_open(ctx, &device->vk, &device->options);
        if (status != GRAFT_OK) {
            GRAFT_FREE(ctx, &device);
            return status;
        }
    }
    *out = device;
    return GRAFT_OK;
}

void graft_device_close(struct graft_device **device)
{
    if (!device || !*device) {
        return;
    }
    struct graft_ctx *ctx = (*device)->ctx;
    if ((*device)->vk) {
        graft_vk_close(&(*device)->vk);
    }
    GRAFT_FREE(ctx, device);
}

void graft_device_describe(const struct graft_device *device, struct graft_device_info *out)
{
    if (device->vk) {
        describe_vk(graft_vk_caps(device->vk), out);
        out->usable = true;
    } else {
        describe_reference(out);
    }
}

void graft_device_count(const struct graft_device *device, struct graft_device_counters *out)
{
    *out = (struct graft_device_counters){0};
    if (device->vk) {
        struct graft_vk_counters c;
        graft_vk_counters(device->vk, &c);
        *out = (struct graft_device_counters){.dispatches = c.dispatches,
                                              .barriers = c.barriers,
                                              .submissions = c.submissions,
                                              .recordings = c.recordings,
                                              .descriptor_updates = c.descriptor_updates,
                                              .pipelines = c.pipelines,
                                              .device_allocations = c.allocations};
    }
}

enum graft_status graft_device_read_bandwidth(struct graft_device *device, uint64_t bytes, uint32_t repeats,
                                              double *bytes_per_second)
{
    if (!device->vk) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "read bandwidth is measured on Vulkan devices only");
    }
    return graft_bandwidth_measure(device->ctx, device->vk, bytes, repeats, bytes_per_second);
}
