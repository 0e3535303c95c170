// SPDX-License-Identifier: Apache-2.0
#include "runtime/merge/elements.h"

#include <string.h>

#include "runtime/merge/philox.h"

// A magnitude's 31 bits are found in two steps, from histograms of the upper and then of the lower ones.
enum { LOW_BITS = 15, HIGH_BUCKETS = 1 << 16, LOW_MASK = (1 << LOW_BITS) - 1 };
static const double WORDS = 4294967296.0;

static uint32_t magnitude(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffffu;
}

static uint64_t rows_at(const struct graft_elements *e, uint64_t first)
{
    return e->rows - first < e->block ? e->rows - first : e->block;
}

// counts[] of tensor i's magnitudes: by upper bits, or with `upper` by the lower bits of those with these upper bits.
static void count(const struct graft_elements *e, uint32_t i, const uint32_t *upper, uint64_t *counts)
{
    memset(counts, 0, HIGH_BUCKETS * sizeof *counts);
    for (uint64_t row = 0; row < e->rows; row += e->block) {
        uint64_t rows = rows_at(e, row);
        e->read(e->user, i, row, rows, e->values);
        for (uint64_t j = 0; j < rows * e->cols; j++) {
            uint32_t bits = magnitude(e->values[j]);
            if (!upper) {
                counts[bits >> LOW_BITS]++;
            } else if (bits >> LOW_BITS == *upper) {
                counts[bits & LOW_MASK]++;
            }
        }
    }
}

// The bucket that holds the value of rank *rank from the top, counted from 1; *rank becomes its rank within the bucket.
static uint32_t bucket_of(const uint64_t *counts, uint64_t *rank)
{
    uint32_t bucket = HIGH_BUCKETS - 1;
    for (; bucket > 0 && counts[bucket] < *rank; bucket--) {
        *rank -= counts[bucket];
    }
    return bucket;
}

// Which magnitudes of tensor i stay: the int(density * values) largest.
static void find_threshold(struct graft_elements *e, uint32_t i, uint64_t *counts)
{
    uint64_t rank = (uint64_t)(e->density[i] * (double)(e->rows * e->cols));
    e->threshold[i] = UINT32_MAX;
    e->quota[i] = 0;
    if (rank == 0) {
        return;
    }
    count(e, i, NULL, counts);
    uint32_t upper = bucket_of(counts, &rank);
    count(e, i, &upper, counts);
    uint32_t lower = bucket_of(counts, &rank);
    e->threshold[i] = upper << LOW_BITS | lower;
    e->quota[i] = rank;
}

enum graft_status graft_elements_begin(struct graft_elements *e, struct graft_ctx *ctx)
{
    uint64_t *counts = NULL;
    e->values = NULL;
    e->words = NULL;
    e->block = GRAFT_ELEMENTS_VALUES / e->cols;
    e->block = e->block < 1 ? 1 : e->block > GRAFT_ELEMENTS_ROWS ? GRAFT_ELEMENTS_ROWS : e->block;
    GRAFT_TRY(graft_alloc(ctx, GRAFT_MEM_HOST, (void **)&e->values, (uint64_t)e->n * e->block * e->cols, sizeof *e->values,
                          "rows of tensors to merge"));
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &e->words, e->cols, "random words"));
    if (e->prune == GRAFT_PRUNE_MAGNITUDE) {
        GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &counts, HIGH_BUCKETS, "a histogram"));
        for (uint32_t i = 0; i < e->n; i++) {
            if (e->density[i] < 1) {
                find_threshold(e, i, counts);
            }
        }
        GRAFT_FREE(ctx, &counts);
    }
    graft_elements_rewind(e);
    return GRAFT_OK;
}

void graft_elements_rewind(struct graft_elements *e)
{
    e->next = 0;
    memcpy(e->left, e->quota, sizeof e->left);
}

static void prune_by_magnitude(struct graft_elements *e, uint32_t i, uint64_t values, float *x)
{
    for (uint64_t j = 0; j < values; j++) {
        uint32_t bits = magnitude(x[j]);
        bool stays = bits > e->threshold[i];
        if (bits == e->threshold[i] && e->left[i] > 0) {
            e->left[i]--;
            stays = true;
        }
        x[j] = stays ? x[j] : 0.0f;
    }
}

static void prune_by_chance(struct graft_elements *e, uint32_t i, uint64_t rows, float *x)
{
    double bound = e->density[i] * WORDS;
    for (uint64_t row = 0; row < rows; row++, x += e->cols) {
        graft_philox_words(e->keys[i], (e->next + row) * e->cols, e->cols, e->words);
        for (uint64_t j = 0; j < e->cols; j++) {
            x[j] = (double)e->words[j] < bound ? (float)((double)x[j] / e->density[i]) : 0.0f;
        }
    }
}

static double sign_of(float x)
{
    return x > 0 ? 1 : x < 0 ? -1 : 0;
}

// One value of each tensor, `stride` apart -> the merged value.
static double merge_elected(const struct graft_elements *e, const float *x, uint64_t stride)
{
    double vote = 0, sum = 0, counted = 0;
    for (uint32_t i = 0; i < e->n; i++) {
        vote += e->elect == GRAFT_ELECT_TOTAL ? (double)x[i * stride] : sign_of(x[i * stride]);
    }
    double elected = vote >= 0 ? 1 : -1;
    for (uint32_t i = 0; i < e->n; i++) {
        if (sign_of(x[i * stride]) == elected) {
            sum += e->weights[i] * (double)x[i * stride];
            counted += 1;
        }
    }
    return counted > 1 ? sum / counted : sum;
}

uint64_t graft_elements_next(struct graft_elements *e, double *out)
{
    uint64_t rows = rows_at(e, e->next), values = rows * e->cols, stride = e->block * e->cols;
    if (rows == 0) {
        return 0;
    }
    memset(out, 0, values * sizeof *out);
    for (uint32_t i = 0; i < e->n; i++) {
        float *x = e->values + i * stride;
        e->read(e->user, i, e->next, rows, x);
        if (e->prune == GRAFT_PRUNE_MAGNITUDE && e->density[i] < 1) {
            prune_by_magnitude(e, i, values, x);
        } else if (e->prune == GRAFT_PRUNE_RANDOM && e->density[i] < 1) {
            prune_by_chance(e, i, rows, x);
        }
        for (uint64_t j = 0; j < values && e->elect == GRAFT_ELECT_NONE; j++) {
            out[j] += e->weights[i] * (double)x[j];
        }
    }
    for (uint64_t j = 0; j < values && e->elect != GRAFT_ELECT_NONE; j++) {
        out[j] = merge_elected(e, e->values + j, stride);
    }
    e->next += rows;
    return rows;
}

void graft_elements_end(struct graft_elements *e, struct graft_ctx *ctx)
{
    GRAFT_FREE(ctx, &e->values);
    GRAFT_FREE(ctx, &e->words);
}
