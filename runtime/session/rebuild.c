// SPDX-License-Identifier: Apache-2.0
// A model on a device that was lost: the executor is made anew on the same device, from what the host still has.
#include "runtime/session/session.h"

static void forget_tokens(struct graft_model *model)
{
    for (uint32_t i = 0; i < model->limits.n_seq; i++) {
        graft_kv_truncate(model->kv, i, 0);
    }
    model->n_rows = 0;
}

// Sequences that cannot go on, because an adapter of theirs is not there any more.
static void mark_sequences(struct graft_model *model)
{
    for (uint32_t i = 0; i < model->limits.n_seq; i++) {
        struct graft_seq *seq = &model->seqs[i];
        for (uint32_t k = 0; seq->alive && k < seq->n_uses; k++) {
            seq->gone = seq->gone || model->pool->slots[seq->uses[k].slot].gone;
        }
    }
}

enum graft_status graft_model_rebuild(struct graft_model *model)
{
    if (model->device->n_models > 1) {
        return graft_fail(GRAFT_E_ARGUMENT, "%u models are open on the device: close the others first, then rebuild this one",
                          model->device->n_models);
    }
    model->lost = true; // from here on, until all is there again
    forget_tokens(model);
    if (model->exec) {
        model->exec->functions->destroy(&model->exec);
    }
    GRAFT_TRY(graft_device_reopen(model->device));
    GRAFT_TRY(graft_model_start(model, NULL));
    GRAFT_TRY(graft_adapters_restore(model));
    mark_sequences(model);
    model->lost = false;
    return GRAFT_OK;
}
