// SPDX-License-Identifier: Apache-2.0
// Adapters of an open model: loading into the pool, handles, and what a sequence runs with.
#include "graft/adapter.h"

#include <math.h>
#include <string.h>

#include "loaders/adapter.h"
#include "loaders/sha256.h"
#include "platform/bytes.h"
#include "runtime/adapter/fit.h"
#include "runtime/session/chat_private.h"

struct graft_adapter {
    struct graft_model *model;
    uint32_t slot;
    struct graft_adapter_info info;
};

// Pack, take room and write: the table entry comes last, so that a slot is whole when it can be chosen.
static enum graft_status put(struct graft_model *model, const struct graft_adapter_desc *desc, uint32_t *slot)
{
    uint64_t bytes = graft_adapter_packed_bytes(desc);
    uint64_t words = (uint64_t)model->source->config.n_layer * GRAFT_LORA_TARGETS * GRAFT_LORA_ENTRY;
    uint8_t *packed = NULL;
    uint32_t *entries = NULL;
    enum graft_status status;
    *slot = model->pool->n_slots;
    GRAFT_TRY_OUT(graft_alloc(model->ctx, GRAFT_MEM_HOST, (void **)&packed, bytes, 1, "a packed adapter"), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(model->ctx, GRAFT_MEM_HOST, &entries, words, "an adapter's table"), status, out);
    GRAFT_TRY_OUT(graft_adapter_pack(desc, model->source, packed, entries), status, out);
    GRAFT_TRY_OUT(graft_pool_take(model->pool, desc->digest, bytes, slot), status, out);
    uint32_t base = (uint32_t)(model->pool->slots[*slot].offset / 16);
    for (uint64_t i = 0; i < words; i += GRAFT_LORA_ENTRY) {
        static const uint32_t offsets[] = {GRAFT_LORA_A, GRAFT_LORA_B, GRAFT_LORA_DORA, GRAFT_LORA_BIAS};
        for (uint32_t k = 0; k < sizeof offsets / sizeof *offsets; k++) {
            entries[i + offsets[k]] += entries[i + offsets[k]] ? base : 0;
        }
    }
    const struct graft_exec_functions *exec = model->exec->functions;
    GRAFT_TRY_OUT(exec->adapter_write(model->exec, model->pool->slots[*slot].offset, packed, (bytes + 15) & ~UINT64_C(15)),
                  status, out);
    GRAFT_TRY_OUT(exec->adapter_table(model->exec, *slot, entries), status, out);
out:
    if (status != GRAFT_OK && *slot < model->pool->n_slots) {
        graft_pool_drop(model->pool, *slot);
    }
    GRAFT_FREE(model->ctx, &packed);
    GRAFT_FREE(model->ctx, &entries);
    return status;
}

enum graft_status graft_adapter_load(struct graft_model *model, struct graft_adapter **out, const char *path)
{
    *out = NULL;
    if (!model->pool) {
        return graft_fail(GRAFT_E_ARGUMENT, "the model was opened without an adapter pool (adapter_pool_bytes)");
    }
    struct graft_adapter_desc *desc = NULL;
    struct graft_adapter *adapter = NULL;
    enum graft_status status;
    GRAFT_TRY(graft_adapter_read(model->ctx, &desc, path));
    GRAFT_TRY_OUT(graft_adapter_fit(desc, model->source), status, out);
    GRAFT_TRY_OUT(GRAFT_NEW(model->ctx, GRAFT_MEM_HOST, &adapter, 1, "an adapter"), status, out);
    adapter->model = model;
    adapter->slot = graft_pool_find(model->pool, desc->digest);
    if (adapter->slot < model->pool->n_slots) {
        graft_pool_acquire(model->pool, adapter->slot);
    } else {
        GRAFT_TRY_OUT(put(model, desc, &adapter->slot), status, out);
    }
    struct graft_adapter_info *info = &adapter->info;
    for (uint32_t i = 0; i < sizeof desc->digest; i++) {
        static const char hex[] = "0123456789abcdef";
        info->digest[2 * i] = hex[desc->digest[i] >> 4];
        info->digest[2 * i + 1] = hex[desc->digest[i] & 15];
    }
    memcpy(info->base_name, desc->base_name, sizeof info->base_name);
    info->rank = desc->max_rank;
    info->n_targets = desc->n_pairs;
    info->n_parameters = desc->n_parameters;
    info->bytes = model->pool->slots[adapter->slot].bytes;
    *out = adapter;
    adapter = NULL;
    status = GRAFT_OK;
out:
    GRAFT_FREE(model->ctx, &adapter);
    graft_adapter_free(&desc);
    return status;
}

void graft_adapter_release(struct graft_adapter **adapter)
{
    if (!adapter || !*adapter) {
        return;
    }
    graft_pool_release((*adapter)->model->pool, (*adapter)->slot);
    GRAFT_FREE((*adapter)->model->ctx, adapter);
}

void graft_adapter_describe(const struct graft_adapter *adapter, struct graft_adapter_info *out)
{
    *out = adapter->info;
}

void graft_seq_drop_adapters(struct graft_seq *seq)
{
    for (uint32_t i = 0; i < seq->n_uses; i++) {
        graft_pool_release(seq->model->pool, seq->uses[i].slot);
    }
    seq->n_uses = 0;
}

enum graft_status graft_seq_set_adapters(struct graft_seq *seq, const struct graft_adapter_use *uses, uint32_t n)
{
    if (n > GRAFT_MAX_BLEND) {
        return graft_fail(GRAFT_E_ARGUMENT, "%u adapters for one sequence, at most %d", n, GRAFT_MAX_BLEND);
    }
    if (graft_seq_length(seq) != 0) {
        return graft_fail(GRAFT_E_ARGUMENT, "the sequence has %u tokens computed with other adapters: truncate it first",
                          graft_seq_length(seq));
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!uses[i].adapter || uses[i].adapter->model != seq->model || !isfinite(uses[i].weight)) {
            return graft_fail(GRAFT_E_ARGUMENT, "adapter %u of %u is not one of this model, or its weight is not finite", i + 1,
                              n);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        graft_pool_acquire(seq->model->pool, uses[i].adapter->slot); // before the old ones go: they may be the same
    }
    graft_seq_drop_adapters(seq);
    for (uint32_t i = 0; i < n; i++) {
        seq->uses[i].slot = uses[i].adapter->slot;
        seq->uses[i].weight = uses[i].weight;
    }
    seq->n_uses = n;
    return GRAFT_OK;
}

enum graft_status graft_chat_set_adapters(struct graft_chat *chat, const struct graft_adapter_use *uses, uint32_t n)
{
    graft_seq_truncate(chat->seq, 0);
    return graft_seq_set_adapters(chat->seq, uses, n);
}
