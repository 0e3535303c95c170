// SPDX-License-Identifier: Apache-2.0
// Rows of a merged tensor: dequantize, add what the adapters change, quantize, and measure what of it survived.
//
//   W' = W + sum over adapters of weight * D_i
//   LoRA   D = scale * B A                              (Hu et al. 2021)
//   DoRA   D = m / || W + scale B A || * (W + scale B A) - W, the norm over the row (Liu et al. 2024, section 4); of the
//          embedding, whose rows are tokens, over the column
//   whole  D = V - W                                    (PEFT's modules_to_save)
//
// Each value is computed in one order, whatever rows are computed beside it and by which thread.
#include <math.h>

#include "platform/bytes.h"
#include "runtime/adapter/dora.h"
#include "runtime/merge/merge_private.h"
#include "runtime/quant/quant.h"

enum { TILE = GRAFT_MERGE_TILE, COLUMNS = 8, LANES = 4 };

static void read_values(const struct graft_adapter_view *view, uint64_t first, uint64_t count, float *out)
{
    uint64_t item = graft_adapter_value_bytes(view->type);
    graft_quant_find(view->type)->dequantize_row(view->data + first * item, out, count);
}

// The row of B that belongs to the base's row: the inverse of what convert_hf_to_gguf does to rows of q and k, which puts the
// two halves of a head's rows alternately.
static uint64_t row_of_b(const struct graft_merge_part *part, uint64_t row)
{
    if (part->head_dim == 0) {
        return row;
    }
    uint64_t in_head = row % part->head_dim;
    return row - in_head + in_head % 2 * (part->head_dim / 2) + in_head / 2;
}

// coefficients[k][j] = factor * (B's row of the base's row first + j)[k]; rows from n on are zero.
static void read_coefficients(const struct graft_merge_part *part, uint64_t first, uint64_t n, double factor,
                              float coefficients[GRAFT_ADAPTER_MAX_RANK][TILE])
{
    const struct graft_adapter_pair *pair = part->pair;
    float b[GRAFT_ADAPTER_MAX_RANK];
    for (uint64_t j = 0; j < TILE; j++) {
        for (uint32_t k = 0; j < n && k < pair->rank && part->embed; k++) {
            read_values(&pair->a, k * pair->a.cols + first + j, 1, &b[k]);
        }
        if (j < n && !part->embed) {
            read_values(&pair->b, row_of_b(part, first + j) * pair->rank, pair->rank, b);
        }
        for (uint32_t k = 0; k < pair->rank; k++) {
            coefficients[k][j] = j < n ? (float)(factor * (double)b[k]) : 0.0f;
        }
    }
}

// out[j][i] += sum over k of coefficients[k][j] * a[k][i]: a block of TILE x COLUMNS sums stays in registers.
static void multiply_add(float *out, const float *a, uint64_t n_in, uint32_t rank,
                         float coefficients[GRAFT_ADAPTER_MAX_RANK][TILE])
{
    uint64_t i = 0;
    for (; i + COLUMNS <= n_in; i += COLUMNS) {
        float sums[TILE][COLUMNS] = {{0}};
        for (uint32_t k = 0; k < rank; k++) {
            const float *row = a + k * n_in + i;
            for (int j = 0; j < TILE; j++) {
                float c = coefficients[k][j];
                for (int x = 0; x < COLUMNS; x++) {
                    sums[j][x] += c * row[x];
                }
            }
        }
        for (int j = 0; j < TILE; j++) {
            for (int x = 0; x < COLUMNS; x++) {
                out[(uint64_t)j * n_in + i + (uint64_t)x] += sums[j][x];
            }
        }
    }
    for (; i < n_in; i++) {
        for (int j = 0; j < TILE; j++) {
            float sum = 0.0f;
            for (uint32_t k = 0; k < rank; k++) {
                sum += coefficients[k][j] * a[k * n_in + i];
            }
            out[(uint64_t)j * n_in + i] += sum;
        }
    }
}

// weight * ((m / || W + P || - 1) W + m / || W + P || P), P = scale B A.
static enum graft_status add_dora(const struct graft_merge_rows *rows, const struct graft_merge_part *part,
                                  struct graft_merge_scratch *s, uint64_t first, uint64_t n)
{
    uint64_t n_in = rows->n_in;
    for (uint64_t j = 0; j < n; j++) {
        const float *w = s->base + j * n_in, *p = s->product + j * n_in;
        float *change = s->change + j * n_in, multiplier;
        double squares = 0;
        for (uint64_t i = 0; i < n_in && part->multipliers; i++) {
            change[i] += part->weight * ((part->multipliers[i] - 1.0f) * w[i] + part->multipliers[i] * p[i]);
        }
        if (part->multipliers) {
            continue;
        }
        for (uint64_t i = 0; i < n_in; i++) {
            float v = w[i] + p[i];
            squares += (double)v * (double)v;
        }
        GRAFT_TRY(graft_dora_of_squares(part->pair, row_of_b(part, first + j), squares, &multiplier));
        float of_w = part->weight * (multiplier - 1.0f), of_p = part->weight * multiplier;
        for (uint64_t i = 0; i < n_in; i++) {
            change[i] += of_w * w[i] + of_p * p[i];
        }
    }
    return GRAFT_OK;
}

static void add_whole(const struct graft_merge_rows *rows, const struct graft_merge_part *part, struct graft_merge_scratch *s,
                      uint64_t first, uint64_t n)
{
    uint64_t n_in = rows->n_in;
    for (uint64_t j = 0; j < n; j++) {
        const float *w = s->base + j * n_in;
        float *change = s->change + j * n_in;
        read_values(&part->whole->view, (first + j) * n_in, n_in, s->row);
        for (uint64_t i = 0; i < n_in; i++) {
            change[i] += part->weight * (s->row[i] + part->plus - w[i]);
        }
    }
}

// What the adapters change in rows [first, first + n), n at most TILE, beside the base's rows.
static enum graft_status tile_change(const struct graft_merge_rows *rows, struct graft_merge_scratch *s, uint64_t first,
                                     uint64_t n)
{
    float coefficients[GRAFT_ADAPTER_MAX_RANK][TILE];
    uint64_t n_in = rows->n_in;
    memset(s->change, 0, (size_t)(TILE * n_in * sizeof *s->change));
    for (uint32_t i = 0; i < rows->n_parts; i++) {
        const struct graft_merge_part *part = &rows->parts[i];
        if (part->whole) {
            add_whole(rows, part, s, first, n);
            continue;
        }
        bool dora = part->pair->magnitude.data != NULL;
        double factor = (double)part->pair->scale * (dora ? 1.0 : (double)part->weight);
        read_coefficients(part, first, n, factor, coefficients);
        if (dora) {
            memset(s->product, 0, (size_t)(TILE * n_in * sizeof *s->product));
        }
        multiply_add(dora ? s->product : s->change, part->a, n_in, part->pair->rank, coefficients);
        if (dora) {
            GRAFT_TRY(add_dora(rows, part, s, first, n));
        }
    }
    return GRAFT_OK;
}

static bool all_zero(const float *x, uint64_t n)
{
    bool any = false;
    for (uint64_t i = 0; i < n; i++) {
        any |= x[i] != 0.0f;
    }
    return !any;
}

// Adds the inner products of a row: w the base, d the intended change, now the new weights. In double, in LANES partial sums.
static void add_sums(struct graft_merge_sums *sums, const float *w, const float *d, const float *now, uint64_t n)
{
    double dd[LANES] = {0}, rd[LANES] = {0}, rr[LANES] = {0}, ww[LANES] = {0};
    uint64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            double intended = (double)d[i + l], old = (double)w[i + l], actual = (double)now[i + l] - old;
            dd[l] += intended * intended;
            rd[l] += actual * intended;
            rr[l] += actual * actual;
            ww[l] += old * old;
        }
    }
    for (; i < n; i++) {
        double intended = (double)d[i], old = (double)w[i], actual = (double)now[i] - old;
        dd[0] += intended * intended;
        rd[0] += actual * intended;
        rr[0] += actual * actual;
        ww[0] += old * old;
    }
    for (int l = 0; l < LANES; l++) {
        sums->dd += dd[l];
        sums->rd += rd[l];
        sums->rr += rr[l];
        sums->ww += ww[l];
    }
}

// The new row, from base and change, to `out`. exact: the only replacement, whose row is taken instead of the sum.
static enum graft_status finish_row(const struct graft_merge_rows *rows, struct graft_merge_scratch *s, uint64_t j,
                                    uint64_t row, const struct graft_merge_part *exact, uint8_t *out,
                                    struct graft_merge_sums *sums)
{
    uint64_t n_in = rows->n_in;
    const float *w = s->base + j * n_in, *d = s->change + j * n_in;
    struct graft_merge_sums now = {0};
    if (rows->from == rows->to && all_zero(d, n_in)) {
        memcpy(out, rows->data + row * rows->from_bytes, (size_t)rows->from_bytes);
        add_sums(sums, w, d, w, n_in);
        return GRAFT_OK;
    }
    if (exact) {
        read_values(&exact->whole->view, row * n_in, n_in, s->row);
        for (uint64_t i = 0; i < n_in && exact->plus != 0.0f; i++) {
            s->row[i] += exact->plus;
        }
    } else {
        for (uint64_t i = 0; i < n_in; i++) {
            s->row[i] = w[i] + d[i];
        }
    }
    rows->to->quantize_row(s->row, out, n_in);
    rows->to->dequantize_row(out, s->row, n_in);
    add_sums(&now, w, d, s->row, n_in);
    if (!isfinite(now.rr)) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "tensor %.*s, row %" PRIu64 ": the merged weights are beyond what %s can hold",
                          (int)rows->item->name.length, rows->item->name.data, row, graft_type_gguf_name(rows->to->type));
    }
    sums->dd += now.dd;
    sums->rd += now.rd;
    sums->rr += now.rr;
    sums->ww += now.ww;
    return GRAFT_OK;
}

enum graft_status graft_merge_compute(const struct graft_merge_rows *rows, struct graft_merge_scratch *s, uint64_t first,
                                      uint64_t n, struct graft_merge_sums *sums)
{
    const struct graft_merge_part *only = rows->n_parts == 1 ? &rows->parts[0] : NULL;
    const struct graft_merge_part *exact = only && only->whole && only->weight == 1.0f ? only : NULL;
    *sums = (struct graft_merge_sums){0};
    for (uint64_t at = 0; at < n; at += TILE) {
        uint64_t tile = n - at < TILE ? n - at : TILE;
        for (uint64_t j = 0; j < tile; j++) {
            rows->from->dequantize_row(rows->data + (first + at + j) * rows->from_bytes, s->base + j * rows->n_in, rows->n_in);
        }
        GRAFT_TRY(tile_change(rows, s, first + at, tile));
        for (uint64_t j = 0; j < tile; j++) {
            GRAFT_TRY(finish_row(rows, s, j, first + at + j, exact, s->out + (at + j) * rows->to_bytes, sums));
        }
    }
    return GRAFT_OK;
}
