// SPDX-License-Identifier: Apache-2.0
// What a model needs, from metadata alone, and the refusal of what does not fit.
#include <stdio.h>

#include "platform/bytes.h"
#include "runtime/model/weights_vk.h"
#include "runtime/session/session.h"

void graft_model_exec_bytes(const struct graft_model *model, const struct graft_device *device,
                            const struct graft_limits *limits, uint64_t bytes[GRAFT_MEM_CLASSES], uint64_t *mapped_bytes)
{
    *mapped_bytes = 0;
    if (device && !device->vk) {
        graft_exec_ref_estimate(model->plan, limits, bytes);
        *mapped_bytes = model->gguf ? model->source->base_bytes : 0;
        return;
    }
    graft_exec_vk_estimate(model->plan, limits, device ? graft_vk_caps(device->vk) : NULL, model->weights, bytes, mapped_bytes);
}

static uint64_t sum(const uint64_t bytes[GRAFT_MEM_CLASSES])
{
    uint64_t total = 0;
    for (int i = 0; i < GRAFT_MEM_CLASSES; i++) {
        if (!graft_add_u64(total, bytes[i], &total)) {
            return UINT64_MAX;
        }
    }
    return total;
}

// Executor and page tables for another context length; the rest of the model does not depend on it.
static uint64_t bytes_at(const struct graft_model *model, const struct graft_device *device, uint32_t n_ctx)
{
    struct graft_limits limits = graft_kv_limits(n_ctx, model->limits.n_batch, model->limits.n_seq);
    limits.kv_k = model->limits.kv_k;
    limits.kv_v = model->limits.kv_v;
    limits.pool_bytes = model->limits.pool_bytes;
    limits.n_slots = model->limits.n_slots;
    limits.n_streamed = model->limits.n_streamed;
    graft_limits_set_rings(&limits, model->source);
    uint64_t bytes[GRAFT_MEM_CLASSES] = {0}, mapped;
    graft_model_exec_bytes(model, device, &limits, bytes, &mapped);
    uint64_t tables = ((uint64_t)limits.n_seq * limits.table_pages + limits.n_pages) * sizeof(uint32_t), total;
    return graft_add_u64(sum(bytes), tables, &total) ? total : UINT64_MAX;
}

// Largest context in whole pages for which bytes_at is at most `room`; 0 if none is.
static uint32_t largest_ctx(const struct graft_model *model, const struct graft_device *device, uint64_t room)
{
    uint32_t most = model->source->config.n_ctx_train > model->n_ctx ? model->source->config.n_ctx_train : model->n_ctx;
    uint32_t low = 0, high = graft_kv_pages(most); // low fits
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (bytes_at(model, device, middle * GRAFT_PAGE_TOKENS) <= room) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low * GRAFT_PAGE_TOKENS;
}

static double mib(uint64_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0);
}

// Executor's bytes with n layers streamed.
static uint64_t streamed_bytes(const struct graft_model *model, const struct graft_device *device, uint32_t n)
{
    struct graft_limits limits = model->limits;
    limits.n_streamed = n;
    uint64_t bytes[GRAFT_MEM_CLASSES] = {0}, mapped;
    graft_model_exec_bytes(model, device, &limits, bytes, &mapped);
    return sum(bytes);
}

// The fewest layers that have to be streamed so that the executor takes at most `room`; 0: none has to be, or it does not help.
static uint32_t find_streamed(const struct graft_model *model, const struct graft_device *device, uint64_t room)
{
    uint32_t n_layer = model->source->config.n_layer, low = 1, high = n_layer;
    bool can = model->stream == GRAFT_STREAM_AUTO && model->weights != GRAFT_WEIGHTS_MAP && (!device || device->vk);
    if (!can || streamed_bytes(model, device, 0) <= room || streamed_bytes(model, device, n_layer) > room) {
        return 0;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (streamed_bytes(model, device, middle) <= room) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    // An even number, so that the first layer's slot is not the last one's, and the next batch's copies begin early.
    return low % 2 && low < n_layer && streamed_bytes(model, device, low + 1) <= room ? low + 1 : low;
}

enum graft_status graft_model_check_budget(struct graft_model *model)
{
    uint64_t room = graft_ledger_free(model->ctx);
    model->limits.n_streamed = find_streamed(model, model->device, room);
    if (model->limits.n_streamed) {
        graft_log(model->ctx, GRAFT_LOG_INFO, "%u of %u layers are streamed: all of them do not fit the budget",
                  model->limits.n_streamed, model->source->config.n_layer);
    }
    uint64_t bytes[GRAFT_MEM_CLASSES] = {0}, mapped;
    graft_model_exec_bytes(model, model->device, &model->limits, bytes, &mapped);
    uint64_t total = sum(bytes);
    if (total <= room) {
        return GRAFT_OK;
    }
    struct graft_memory_use use;
    graft_ctx_memory(model->ctx, &use);
    char table[256];
    size_t used = 0;
    for (int i = 0; i < GRAFT_MEM_CLASSES; i++) {
        uint64_t of_class = use.class_bytes[i] + bytes[i];
        if (of_class) {
            used += (size_t)snprintf(table + used, sizeof table - used, "%s%s %.1f MiB", used ? ", " : "",
                                     graft_mem_class_name((enum graft_mem_class)i), mib(of_class));
        }
    }
    uint64_t tables = ((uint64_t)model->limits.n_seq * model->limits.table_pages + model->limits.n_pages) * sizeof(uint32_t);
    uint32_t fits = largest_ctx(model, model->device, room + tables);
    char advice[160];
    uint64_t all = streamed_bytes(model, model->device, model->source->config.n_layer);
    if (all < total && all <= room) {
        snprintf(advice, sizeof advice, "streaming its layers (stream auto) takes %.1f MiB and would fit",
                 mib(use.used_bytes + all));
    } else if (fits) {
        snprintf(advice, sizeof advice, "a context of %u tokens instead of %u would fit", fits, model->n_ctx);
    } else {
        snprintf(advice, sizeof advice, "no context length makes it fit; a smaller batch or model may");
    }
    return graft_fail(GRAFT_E_BUDGET, "%s needs %.1f MiB (%s), the budget is %.1f MiB: %.1f MiB are missing; %s",
                      model->source->config.name, mib(use.used_bytes + total), table, mib(use.budget_bytes), mib(total - room),
                      advice);
}

static void estimate(struct graft_ctx *ctx, struct graft_ctx *scratch, const struct graft_model *model,
                     const struct graft_device *device, struct graft_estimate *out)
{
    // What was built is what opening will take; the executor's part is computed.
    struct graft_memory_use built;
    graft_ctx_memory(scratch, &built);
    memcpy(out->class_bytes, built.class_bytes, sizeof out->class_bytes);
    uint64_t tables = ((uint64_t)model->limits.n_seq * model->limits.table_pages + model->limits.n_pages) * sizeof(uint32_t);
    uint64_t fixed = built.used_bytes - tables;
    uint64_t free_bytes = graft_ledger_free(ctx), own = built.used_bytes;
    struct graft_limits limits = model->limits;
    limits.n_streamed =
        free_bytes < own ? 0 : find_streamed(model, device, free_bytes == UINT64_MAX ? UINT64_MAX : free_bytes - own);
    graft_model_exec_bytes(model, device, &limits, out->class_bytes, &out->mapped_bytes);
    out->total_bytes = sum(out->class_bytes);
    out->n_streamed = limits.n_streamed;
    out->stream_bytes = graft_weights_vk_stream_bytes(model->source, limits.n_streamed);
    out->n_ctx = model->n_ctx;
    out->n_batch = model->limits.n_batch;
    out->n_seq = model->limits.n_seq;
    uint64_t room = graft_ledger_free(ctx);
    out->n_ctx_fits = room < fixed ? 0 : largest_ctx(model, device, room == UINT64_MAX ? UINT64_MAX : room - fixed);
}

enum graft_status graft_model_estimate(struct graft_ctx *ctx, const struct graft_device *device, const char *path,
                                       const struct graft_model_params *params, struct graft_estimate *out)
{
    *out = (struct graft_estimate){0};
    struct graft_ctx *scratch;
    GRAFT_TRY(graft_ctx_create_like(ctx, &scratch));
    // Only the kind of the device is looked at while preparing.
    struct graft_device seen = {0};
    if (device) {
        seen = *device;
    }
    struct graft_model *model;
    enum graft_status status = graft_model_prepare(scratch, device ? &seen : NULL, &model, path, NULL, params);
    if (status == GRAFT_OK) {
        estimate(ctx, scratch, model, device, out);
        graft_model_close(&model);
    }
    graft_ctx_destroy(&scratch);
    return status;
}
