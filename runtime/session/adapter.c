// SPDX-License-Identifier: Apache-2.0
// Adapters of an open model: handles, and what a sequence runs with. Loading: adapter_load.c.
#include "graft/adapter.h"

#include <math.h>
#include <string.h>

#include "platform/bytes.h"
#include "platform/plat.h"
#include "runtime/session/chat_private.h"

void graft_adapter_release(struct graft_adapter **adapter)
{
    if (!adapter || !*adapter) {
        return;
    }
    graft_pool_release((*adapter)->model->pool, (*adapter)->slot);
    GRAFT_FREE((*adapter)->model->ctx, adapter);
}

static void describe(const struct graft_model *model, uint32_t slot, struct graft_adapter_info *out)
{
    const struct graft_pool_slot *s = &model->pool->slots[slot];
    *out = model->infos[slot];
    out->bytes = s->bytes;
    out->references = s->references;
    out->gone = s->gone;
    out->hits = s->hits;
    out->loads = s->loads;
    out->idle_ns = graft_clock_ns() - s->last_use_ns;
}

void graft_adapter_describe(const struct graft_adapter *adapter, struct graft_adapter_info *out)
{
    describe(adapter->model, adapter->slot, out);
}

void graft_adapter_list(struct graft_model *model, struct graft_adapter_info *infos, uint32_t capacity, uint32_t *count)
{
    *count = 0;
    for (uint32_t i = 0; model->pool && i < model->pool->n_slots; i++) {
        if (model->pool->slots[i].used && !graft_adapter_loading(model, i)) {
            if (*count < capacity) {
                describe(model, i, &infos[*count]);
            }
            (*count)++;
        }
    }
}

uint32_t graft_adapter_expire(struct graft_model *model, uint64_t idle_ns)
{
    return model->pool ? graft_pool_expire(model->pool, idle_ns) : 0;
}

void graft_seq_drop_adapters(struct graft_seq *seq)
{
    for (uint32_t i = 0; i < seq->n_uses; i++) {
        graft_pool_release(seq->model->pool, seq->uses[i].slot);
    }
    seq->gone = false;
    seq->n_uses = 0;
}

// Rows from the start that two choices compute alike. Slots stand for digests: a slot that is held never changes its bytes.
static uint32_t common_rows(const struct graft_seq_use *a, uint32_t n_a, const struct graft_seq_use *b, uint32_t n_b)
{
    uint32_t rows = UINT32_MAX, i = 0;
    while (i < n_a && i < n_b && a[i].slot == b[i].slot && memcmp(&a[i].weight, &b[i].weight, sizeof a[i].weight) == 0 &&
           a[i].from == b[i].from) {
        i++;
    }
    for (uint32_t k = i; k < n_a; k++) {
        rows = a[k].from < rows ? a[k].from : rows;
    }
    for (uint32_t k = i; k < n_b; k++) {
        rows = b[k].from < rows ? b[k].from : rows;
    }
    return rows;
}

static enum graft_status check_uses(const struct graft_seq *seq, const struct graft_adapter_use *uses, uint32_t n)
{
    uint32_t n_invoked = 0;
    if (n > GRAFT_MAX_BLEND) {
        return graft_fail(GRAFT_E_ARGUMENT, "%u adapters for one sequence, at most %d", n, GRAFT_MAX_BLEND);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!uses[i].adapter || uses[i].adapter->model != seq->model || !isfinite(uses[i].weight)) {
            return graft_fail(GRAFT_E_ARGUMENT, "adapter %u of %u is not one of this model, or its weight is not finite", i + 1,
                              n);
        }
        if (seq->model->pool->slots[uses[i].adapter->slot].gone) {
            return graft_fail(GRAFT_E_IO,
                              "adapter %u of %u was lost with the device, and its file is not what it was: release it and load "
                              "it anew",
                              i + 1, n);
        }
        n_invoked += seq->model->infos[uses[i].adapter->slot].n_invocation > 0;
    }
    if (n_invoked > 1) {
        return graft_fail(GRAFT_E_ARGUMENT, "%u of the adapters are aLoRA, of which a sequence has one at most", n_invoked);
    }
    return GRAFT_OK;
}

// Take the new references before the old ones go: they may be the same.
static void replace_uses(struct graft_seq *seq, const struct graft_seq_use *uses, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        graft_pool_acquire(seq->model->pool, uses[i].slot);
        seq->model->pool->slots[uses[i].slot].hits++;
    }
    graft_seq_drop_adapters(seq);
    memcpy(seq->uses, uses, n * sizeof *uses);
    seq->n_uses = n;
}

enum graft_status graft_seq_set_adapters(struct graft_seq *seq, const struct graft_adapter_use *uses, uint32_t n)
{
    struct graft_seq_use wanted[GRAFT_MAX_BLEND] = {0};
    GRAFT_TRY(check_uses(seq, uses, n));
    for (uint32_t i = 0; i < n; i++) {
        wanted[i] = (struct graft_seq_use){uses[i].adapter->slot, uses[i].weight, uses[i].from};
    }
    uint32_t rows = common_rows(seq->uses, seq->n_uses, wanted, n);
    if (graft_seq_length(seq) > rows) {
        return graft_fail(GRAFT_E_ARGUMENT,
                          "the sequence has %u tokens, of which %u were computed with other adapters: truncate it "
                          "to %u first",
                          graft_seq_length(seq), graft_seq_length(seq) - rows, rows);
    }
    replace_uses(seq, wanted, n);
    return GRAFT_OK;
}

static uint32_t invoked(const struct graft_adapter_info *info, const int32_t *ids, uint32_t count)
{
    uint32_t n = info->n_invocation;
    for (uint32_t at = count >= n ? count - n + 1 : 0; at-- > 0;) {
        if (memcmp(ids + at, info->invocation, n * sizeof *ids) == 0) {
            return n ? at : 0;
        }
    }
    return count;
}

uint32_t graft_adapter_invoked(const struct graft_adapter *adapter, const int32_t *ids, uint32_t count)
{
    return invoked(&adapter->model->infos[adapter->slot], ids, count);
}

uint32_t graft_seq_invoke(struct graft_seq *seq, const int32_t *ids, uint32_t count)
{
    uint32_t length = graft_seq_length(seq);
    for (uint32_t i = 0; i < seq->n_uses; i++) {
        const struct graft_adapter_info *info = &seq->model->infos[seq->uses[i].slot];
        if (info->n_invocation == 0) {
            continue;
        }
        uint32_t from = invoked(info, ids, count), old = seq->uses[i].from, first = from < old ? from : old;
        if (from == count) {
            graft_log(seq->model->ctx, GRAFT_LOG_WARN,
                      "the prompt does not have the adapter's invocation (alora_invocation_tokens): the adapter does nothing");
            from = UINT32_MAX;
            first = old;
        }
        if (from != old && graft_seq_length(seq) > first) {
            graft_seq_truncate(seq, first);
        }
        seq->uses[i].from = from;
    }
    return length - graft_seq_length(seq);
}

enum graft_status graft_chat_set_adapters(struct graft_chat *chat, const struct graft_adapter_use *uses, uint32_t n)
{
    struct graft_seq_use wanted[GRAFT_MAX_BLEND] = {0};
    struct graft_seq *seq = chat->seq;
    GRAFT_TRY(check_uses(seq, uses, n));
    graft_chat_drop_draft(chat);
    for (uint32_t i = 0; i < n; i++) {
        bool alora = seq->model->infos[uses[i].adapter->slot].n_invocation > 0; // it begins where the next prompt invokes it
        wanted[i] = (struct graft_seq_use){uses[i].adapter->slot, uses[i].weight, alora ? UINT32_MAX : 0};
        for (uint32_t k = 0; k < seq->n_uses && alora; k++) {
            wanted[i].from = seq->uses[k].slot == wanted[i].slot ? seq->uses[k].from : wanted[i].from;
        }
    }
    uint32_t length = graft_seq_length(seq), rows = common_rows(seq->uses, seq->n_uses, wanted, n);
    if (length > rows) {
        graft_seq_truncate(seq, rows);
        chat->forgotten += length - rows;
    }
    replace_uses(seq, wanted, n);
    return GRAFT_OK;
}
