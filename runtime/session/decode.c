// SPDX-License-Identifier: Apache-2.0
// Sequences, and batches of rows that append to them.
#include <string.h>

#include "platform/plat.h"
#include "runtime/session/session.h"

enum graft_status graft_seq_create(struct graft_model *model, struct graft_seq **out)
{
    *out = NULL;
    for (uint32_t i = 0; i < model->limits.n_seq; i++) {
        if (!model->seqs[i].alive) {
            model->seqs[i] = (struct graft_seq){.model = model, .index = i, .alive = true};
            *out = &model->seqs[i];
            return GRAFT_OK;
        }
    }
    return graft_fail(GRAFT_E_LIMIT, "the model was opened for %u sequences, and all of them are in use", model->limits.n_seq);
}

void graft_seq_destroy(struct graft_seq **seq)
{
    if (!seq || !*seq) {
        return;
    }
    graft_seq_truncate(*seq, 0);
    graft_seq_drop_adapters(*seq);
    (*seq)->alive = false;
    *seq = NULL;
}

uint32_t graft_seq_length(const struct graft_seq *seq)
{
    return seq->model->kv->lengths[seq->index];
}

void graft_seq_truncate(struct graft_seq *seq, uint32_t length)
{
    graft_kv_truncate(seq->model->kv, seq->index, length);
}

static void take_back(struct graft_model *model)
{
    for (uint32_t i = 0; i < model->limits.n_seq; i++) {
        graft_kv_truncate(model->kv, i, model->lengths[i]);
    }
    model->n_rows = 0;
}

static enum graft_status check_rows(const struct graft_model *model, const struct graft_row *rows, uint32_t n_rows)
{
    if (model->lost) {
        return graft_fail(GRAFT_E_DEVICE_LOST, "the device was lost: rebuild the model (graft_model_rebuild), or close it");
    }
    GRAFT_TRY(model->gguf ? graft_gguf_check_intact(model->gguf) : GRAFT_OK);
    if (n_rows == 0 || n_rows > model->limits.n_batch) {
        return graft_fail(GRAFT_E_ARGUMENT, "a batch of %u rows was given, allowed are 1 to %u", n_rows, model->limits.n_batch);
    }
    uint32_t wanted_rows = 0;
    for (uint32_t i = 0; i < n_rows; i++) {
        wanted_rows += rows[i].want;
        if (wanted_rows > model->limits.n_out) {
            return graft_fail(GRAFT_E_ARGUMENT, "more than %u rows want their next token", model->limits.n_out);
        }
        if (!rows[i].seq || rows[i].seq->model != model || !rows[i].seq->alive) {
            return graft_fail(GRAFT_E_ARGUMENT, "row %u has no sequence of this model", i);
        }
        if (rows[i].seq->gone) {
            return graft_fail(GRAFT_E_IO,
                              "row %u: an adapter of the sequence was lost with the device, and its file is not what "
                              "it was: choose another",
                              i);
        }
        if (rows[i].token < 0 || (uint32_t)rows[i].token >= model->source->config.n_vocab) {
            return graft_fail(GRAFT_E_ARGUMENT, "row %u has token %d, the vocabulary has 0 to %u", i, rows[i].token,
                              model->source->config.n_vocab - 1);
        }
    }
    return GRAFT_OK;
}

// The adapters of a row: those of its sequence that are active at its position.
static void add_pairs(struct graft_exec_row *row, const struct graft_seq *seq)
{
    for (uint32_t k = 0; k < seq->n_uses; k++) {
        if (row->pos >= seq->uses[k].from) {
            row->pairs[row->n_pairs].slot = seq->uses[k].slot;
            row->pairs[row->n_pairs++].weight = seq->uses[k].weight;
        }
    }
}

static uint32_t adapter_key(const struct graft_exec_row *row)
{
    return row->n_pairs ? row->pairs[0].slot + 1 : 0;
}

// Rows with the same first adapter together, otherwise in their order: neighbours with the same adapters share what kernels
// fetch (lib/expand.glsl). A row's bits do not depend on where it stands.
static void sort_rows(struct graft_model *model, uint32_t n_rows)
{
    uint32_t *ends = model->key_ends, n_keys = model->limits.n_slots + 1;
    memset(ends, 0, n_keys * sizeof *ends);
    for (uint32_t i = 0; i < n_rows; i++) {
        ends[adapter_key(&model->rows[i])]++;
    }
    for (uint32_t k = 1; k < n_keys; k++) {
        ends[k] += ends[k - 1];
    }
    for (uint32_t i = n_rows; i-- > 0;) {
        uint32_t at = --ends[adapter_key(&model->rows[i])];
        model->sorted[at] = model->rows[i];
        model->sorted_at[i] = at;
    }
}

enum graft_status graft_decode(struct graft_model *model, const struct graft_row *rows, uint32_t n_rows, enum graft_want want)
{
    GRAFT_TRY(check_rows(model, rows, n_rows));
    graft_adapter_loads_go_on(model);
    if (model->lost) { // while adapters were moved
        return check_rows(model, rows, n_rows);
    }
    memcpy(model->lengths, model->kv->lengths, model->limits.n_seq * sizeof *model->lengths);
    uint32_t n_out = 0;
    for (uint32_t i = 0; i < n_rows; i++) {
        uint32_t seq = rows[i].seq->index, slot;
        uint32_t pos = model->kv->lengths[seq];
        if (!graft_kv_append(model->kv, seq, &slot)) {
            take_back(model);
            return graft_fail(GRAFT_E_CONTEXT_FULL,
                              "row %u: the sequence has %u tokens, %u pages of %u tokens are free and no sequence may "
                              "have more than %u tokens",
                              i, pos, model->kv->pages.n_free, GRAFT_PAGE_TOKENS, model->n_ctx);
        }
        model->rows[i] = (struct graft_exec_row){.token = (uint32_t)rows[i].token, .pos = pos, .seq = seq, .slot = slot};
        add_pairs(&model->rows[i], rows[i].seq);
        model->out_of[i] = GRAFT_NO_SLOT;
        if (rows[i].want) {
            model->out_of[i] = n_out;
            model->out[n_out++] = i;
        }
    }
    sort_rows(model, n_rows);
    for (uint32_t o = 0; o < n_out; o++) {
        model->out[o] = model->sorted_at[model->out[o]];
    }
    struct graft_exec_batch batch = {.rows = model->sorted,
                                     .n_rows = n_rows,
                                     .out = model->out,
                                     .n_out = n_out,
                                     .tables = model->kv->tables,
                                     .rings = model->kv->rings,
                                     .logits = want == GRAFT_WANT_LOGITS};
    model->n_batches++;
    uint64_t begin = graft_clock_ns();
    enum graft_status status = model->exec->functions->run(model->exec, &batch);
    model->run_ns = graft_clock_ns() - begin;
    if (status == GRAFT_OK && model->gguf) {
        status = graft_gguf_check_intact(model->gguf);
    }
    if (status != GRAFT_OK) {
        take_back(model);
        model->lost = model->lost || status == GRAFT_E_DEVICE_LOST;
        return status;
    }
    model->n_rows = n_rows;
    model->has_logits = batch.logits;
    return GRAFT_OK;
}

static enum graft_status wanted(const struct graft_model *model, uint32_t row, uint32_t *out)
{
    if (row >= model->n_rows || model->out_of[row] == GRAFT_NO_SLOT) {
        return graft_fail(GRAFT_E_ARGUMENT, "row %u of the last batch (%u rows) did not want a next token", row, model->n_rows);
    }
    *out = model->out_of[row];
    return GRAFT_OK;
}

enum graft_status graft_model_candidates(struct graft_model *model, uint32_t row, struct graft_candidate *out, uint32_t *count)
{
    uint32_t o;
    GRAFT_TRY(wanted(model, row, &o));
    uint32_t n = GRAFT_MAX_CANDIDATES;
    GRAFT_TRY(model->exec->functions->candidates(model->exec, o, model->candidates, &n));
    graft_candidates_sort(model->candidates, n);
    *count = *count < n ? *count : n;
    memcpy(out, model->candidates, *count * sizeof *out);
    return GRAFT_OK;
}

enum graft_status graft_model_logits(struct graft_model *model, uint32_t row, const float **out)
{
    uint32_t o;
    GRAFT_TRY(wanted(model, row, &o));
    if (!model->has_logits) {
        return graft_fail(GRAFT_E_ARGUMENT, "the last batch was computed with GRAFT_WANT_CANDIDATES, not GRAFT_WANT_LOGITS");
    }
    return model->exec->functions->logits(model->exec, o, out);
}
