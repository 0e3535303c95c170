// SPDX-License-Identifier: Apache-2.0
// One tensor on all threads: its rows, or the bytes of a copy, are taken in units by whoever is free. What a unit gives does
// not depend on who computes it, and inner products are added up in the order of units.
#include <stdatomic.h>
#include <stdio.h>

#include "platform/bytes.h"
#include "runtime/adapter/dora.h"
#include "runtime/merge/merge_private.h"
#include "runtime/quant/quant.h"

struct pass {
    struct graft_merge *merge;
    const struct graft_merge_item *item;
    const struct graft_merge_rows *rows; // NULL: a copy
    bool write, hash;                    // write the result; hash the base
    uint64_t n_units;                    // without the hashing
    struct graft_merge_sums *sums;       // [n_units]; NULL for a copy
    atomic_uint_fast64_t next, done;     // unit, with the hashing in front if there is any; bytes of the base
    atomic_bool failed;
    enum graft_status status; // with its text, of the unit that failed first
    char text[1024];
};

enum graft_status graft_merge_progress(struct graft_merge *m, uint64_t bytes)
{
    m->progress_done += bytes;
    if (m->params.progress && !m->params.progress(m->params.progress_user, m->progress_done, m->progress_total)) {
        return graft_fail(GRAFT_E_CANCELLED, "the merge was cancelled");
    }
    return GRAFT_OK;
}

static uint64_t scratch_bytes(uint64_t n_in)
{
    uint64_t floats = (3 * GRAFT_MERGE_TILE + 1) * n_in, head = (sizeof(struct graft_merge_scratch) + 63) / 64 * 64;
    return head + floats * sizeof(float) +
           GRAFT_MERGE_UNIT_ROWS * n_in * sizeof(float); // no format has more than 4 bytes a value
}

static enum graft_status make_scratch(struct graft_ctx *ctx, struct graft_merge_scratch **out, uint64_t n_in)
{
    uint8_t *block;
    GRAFT_TRY(graft_alloc(ctx, GRAFT_MEM_SCRATCH, (void **)&block, scratch_bytes(n_in), 1, "rows of a merge"));
    struct graft_merge_scratch *s = (struct graft_merge_scratch *)(void *)block;
    s->base = (float *)(void *)(block + (sizeof *s + 63) / 64 * 64);
    s->change = s->base + GRAFT_MERGE_TILE * n_in;
    s->product = s->change + GRAFT_MERGE_TILE * n_in;
    s->row = s->product + GRAFT_MERGE_TILE * n_in;
    s->out = (uint8_t *)(void *)(s->row + n_in);
    *out = s;
    return GRAFT_OK;
}

enum graft_status graft_merge_threads(struct graft_merge *m)
{
    uint64_t n_in = 0, left = graft_ledger_free(m->ctx);
    for (uint32_t i = 0; i < m->n_items; i++) {
        if (m->items[i].n_links > 0 && m->items[i].from->dims[0] > n_in) {
            n_in = m->items[i].from->dims[0];
        }
    }
    uint32_t n = m->params.n_threads ? m->params.n_threads : graft_cpu_count();
    n = n < GRAFT_MAX_WORKERS ? n : GRAFT_MAX_WORKERS;
    while (n > 1 && n * scratch_bytes(n_in) > left / 2) { // the other half is for the matrices A
        n--;
    }
    GRAFT_TRY(GRAFT_NEW(m->ctx, GRAFT_MEM_HOST, &m->scratch, n, "rows of a merge"));
    m->n_threads = n;
    for (uint32_t i = 0; i < n; i++) {
        GRAFT_TRY(make_scratch(m->ctx, &m->scratch[i], n_in));
    }
    return graft_workers_create(m->ctx, &m->workers, n);
}

// ---- the parts of a tensor's change ----

// What the coefficients multiply, as f32: A; for embeddings B transposed.
static enum graft_status read_factor(struct graft_ctx *ctx, struct graft_merge_part *part)
{
    const struct graft_adapter_pair *pair = part->pair;
    const struct graft_adapter_view *view = part->embed ? &pair->b : &pair->a;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_SCRATCH, &part->a, view->rows * view->cols, "a matrix of an adapter"));
    if (!part->embed) {
        graft_quant_find(view->type)->dequantize_row(view->data, part->a, view->rows * view->cols);
        return GRAFT_OK;
    }
    uint64_t item = graft_adapter_value_bytes(view->type);
    for (uint64_t row = 0; row < view->rows; row++) {
        float values[GRAFT_ADAPTER_MAX_RANK];
        graft_quant_find(view->type)->dequantize_row(view->data + row * view->cols * item, values, view->cols);
        for (uint64_t k = 0; k < view->cols; k++) {
            part->a[k * view->rows + row] = values[k];
        }
    }
    return GRAFT_OK;
}

// DoRA's multipliers of the embedding's dimensions: their norms are over all tokens.
static enum graft_status read_multipliers(struct graft_merge *m, struct graft_merge_part *part)
{
    struct graft_dora dora;
    uint64_t n = part->pair->b.rows;
    GRAFT_TRY(GRAFT_NEW(m->ctx, GRAFT_MEM_SCRATCH, &part->multipliers, n, "multipliers of an adapter"));
    enum graft_status status = graft_dora_begin(&dora, m->ctx, part->pair, &m->source->embd);
    for (uint64_t i = 0; i < n && status == GRAFT_OK; i++) {
        status = graft_dora_multiplier(&dora, i, i, &part->multipliers[i]);
    }
    graft_dora_end(&dora, m->ctx);
    return status;
}

static void end_rows(struct graft_merge *m, struct graft_merge_rows *rows)
{
    for (uint32_t i = 0; i < rows->n_parts; i++) {
        GRAFT_FREE(m->ctx, &rows->parts[i].a);
        GRAFT_FREE(m->ctx, &rows->parts[i].multipliers);
    }
}

static enum graft_status begin_rows(struct graft_merge *m, const struct graft_merge_item *item, uint32_t expert, uint32_t type,
                                    struct graft_merge_rows *rows)
{
    *rows = (struct graft_merge_rows){.item = item,
                                      .expert = expert,
                                      .data = graft_gguf_data(m->gguf, item->from),
                                      .from = graft_quant_find(item->from->type),
                                      .to = graft_quant_find(type),
                                      .n_in = item->from->dims[0],
                                      .n_out = item->from->dims[1]};
    (void)graft_type_row_bytes(item->from->type, rows->n_in, &rows->from_bytes); // checked: by the reader, when it was chosen
    (void)graft_type_row_bytes(type, rows->n_in, &rows->to_bytes);
    rows->data += expert * rows->n_out * rows->from_bytes;
    for (uint32_t i = 0; i < item->n_links; i++) {
        const struct graft_merge_link *link = &m->links[item->first_link + i];
        if (graft_merge_expert(link) != expert) {
            continue;
        }
        struct graft_merge_part *part = &rows->parts[rows->n_parts++];
        *part = (struct graft_merge_part){.pair = link->pair, .whole = link->whole, .weight = m->weights[link->adapter]};
        if (!link->pair) {
            bool gain = graft_target_is_norm(link->whole->target) && m->source->config.norms_plus_one;
            part->plus = gain && !m->adapters[link->adapter]->rows_permuted ? 1.0f : 0.0f;
            continue;
        }
        bool halves = !m->adapters[link->adapter]->rows_permuted && m->source->config.rope_pairs == GRAFT_ROPE_ADJACENT;
        bool rotated = link->pair->target == GRAFT_TARGET_Q || link->pair->target == GRAFT_TARGET_K;
        part->head_dim = halves && rotated ? m->source->config.head_dim : 0;
        part->embed = link->pair->target == GRAFT_TARGET_EMBED;
        GRAFT_TRY(read_factor(m->ctx, part));
        if (part->embed && link->pair->magnitude.data) {
            GRAFT_TRY(read_multipliers(m, part));
        }
    }
    return GRAFT_OK;
}

// ---- units ----

void graft_merge_hash(struct graft_merge *m, uint64_t end)
{
    for (uint32_t i = 0; i < m->gguf->n_parts; i++) { // what is between two files belongs to none
        const struct graft_gguf_part *part = &m->gguf->parts[i];
        uint64_t from = m->hashed > part->start ? m->hashed : part->start;
        uint64_t to = end < part->start + part->bytes ? end : part->start + part->bytes;
        if (to > from) {
            graft_sha256_add(&m->hash, m->gguf->map.data + from, to - from);
        }
    }
    m->hashed = end > m->hashed ? end : m->hashed;
}

static enum graft_status copy_unit(struct pass *p, uint64_t unit)
{
    struct graft_merge *m = p->merge;
    uint64_t at = unit * GRAFT_MERGE_UNIT_BYTES, left = p->item->bytes - at;
    uint64_t bytes = left < GRAFT_MERGE_UNIT_BYTES ? left : GRAFT_MERGE_UNIT_BYTES;
    atomic_fetch_add(&p->done, bytes);
    return graft_output_write(m->output, m->out_data_offset + p->item->offset + at,
                              graft_gguf_data(m->gguf, p->item->from) + at, bytes);
}

static enum graft_status rows_unit(struct pass *p, uint32_t thread, uint64_t unit)
{
    struct graft_merge *m = p->merge;
    const struct graft_merge_rows *rows = p->rows;
    uint64_t first = unit * GRAFT_MERGE_UNIT_ROWS, left = rows->n_out - first;
    uint64_t n = left < GRAFT_MERGE_UNIT_ROWS ? left : GRAFT_MERGE_UNIT_ROWS;
    GRAFT_TRY(graft_merge_compute(rows, m->scratch[thread], first, n, &p->sums[unit]));
    atomic_fetch_add(&p->done, n * rows->from_bytes);
    if (!p->write) {
        return GRAFT_OK;
    }
    uint64_t row = rows->expert * rows->n_out + first;
    return graft_output_write(m->output, m->out_data_offset + p->item->offset + row * rows->to_bytes, m->scratch[thread]->out,
                              n * rows->to_bytes);
}

static void work(void *user, uint32_t thread, uint32_t first, uint32_t last)
{
    struct pass *p = user;
    (void)first;
    (void)last;
    while (!atomic_load(&p->failed)) {
        uint64_t unit = atomic_fetch_add(&p->next, 1);
        enum graft_status status = GRAFT_OK;
        if (unit >= p->n_units + p->hash) {
            return;
        }
        if (p->hash && unit == 0) {
            graft_merge_hash(p->merge, p->item->from->offset + p->item->from->bytes);
        } else if (p->rows) {
            status = rows_unit(p, thread, unit - p->hash);
        } else {
            status = copy_unit(p, unit - p->hash);
        }
        if (status == GRAFT_OK && thread == 0) {
            status = graft_merge_progress(p->merge, atomic_exchange(&p->done, 0));
        }
        if (status != GRAFT_OK && !atomic_exchange(&p->failed, true)) {
            p->status = status; // the text belongs to this thread
            snprintf(p->text, sizeof p->text, "%s", graft_last_error());
        }
    }
}

static enum graft_status run(struct pass *p)
{
    struct graft_merge *m = p->merge;
    bool serial = p->n_units < 2;
    graft_workers_run(m->workers, m->n_threads, serial, work, p);
    if (p->failed) {
        return graft_fail(p->status, "%s", p->text);
    }
    return graft_merge_progress(m, atomic_exchange(&p->done, 0));
}

// One matrix of a changed tensor, measured and perhaps written.
static enum graft_status run_matrix(struct graft_merge *m, const struct graft_merge_item *item, uint32_t expert, uint32_t type,
                                    bool write, struct graft_merge_sums *sums)
{
    struct graft_merge_rows rows;
    struct pass p = {.merge = m, .item = item, .rows = &rows, .write = write, .hash = write && expert == 0};
    enum graft_status status = begin_rows(m, item, expert, type, &rows);
    p.n_units = (rows.n_out + GRAFT_MERGE_UNIT_ROWS - 1) / GRAFT_MERGE_UNIT_ROWS;
    if (status == GRAFT_OK) {
        status = GRAFT_NEW(m->ctx, GRAFT_MEM_SCRATCH, &p.sums, p.n_units, "sums of a merge");
    }
    if (status == GRAFT_OK) {
        status = run(&p);
    }
    for (uint64_t i = 0; i < p.n_units && status == GRAFT_OK; i++) {
        sums->dd += p.sums[i].dd;
        sums->rd += p.sums[i].rd;
        sums->rr += p.sums[i].rr;
        sums->ww += p.sums[i].ww;
    }
    GRAFT_FREE(m->ctx, &p.sums);
    end_rows(m, &rows);
    return status;
}

// A changed tensor: all its experts' matrices, or the one it has.
static enum graft_status run_rows(struct graft_merge *m, const struct graft_merge_item *item, uint32_t type, bool write,
                                  struct graft_merge_sums *sums)
{
    *sums = (struct graft_merge_sums){0};
    for (uint32_t e = 0; e < item->from->dims[2]; e++) {
        GRAFT_TRY(run_matrix(m, item, e, type, write, sums));
    }
    return GRAFT_OK;
}

enum graft_status graft_merge_measure(struct graft_merge *m, const struct graft_merge_item *item, uint32_t type,
                                      struct graft_merge_sums *sums)
{
    return run_rows(m, item, type, false, sums);
}

enum graft_status graft_merge_write(struct graft_merge *m, struct graft_merge_item *item)
{
    if (item->n_links > 0) {
        return run_rows(m, item, item->type, true, &item->sums);
    }
    struct pass p = {.merge = m, .item = item, .write = true, .hash = true};
    p.n_units = (item->bytes + GRAFT_MERGE_UNIT_BYTES - 1) / GRAFT_MERGE_UNIT_BYTES;
    return run(&p);
}
