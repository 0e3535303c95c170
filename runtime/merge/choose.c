// SPDX-License-Identifier: Apache-2.0
// The format of each changed tensor: its own, a named one, or the smallest that keeps enough of the change.
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "platform/bytes.h"
#include "runtime/merge/merge_private.h"
#include "runtime/quant/quant.h"

enum { MAX_TYPES = 64 }; // numbers of formats are below it

double graft_merge_share(const struct graft_merge_sums *s)
{
    return s->dd > 0 ? s->rd / s->dd : 1;
}

double graft_merge_residual(const struct graft_merge_sums *s)
{
    double rest = s->dd > 0 ? (s->rr - s->rd * s->rd / s->dd) / s->dd : 0;
    return rest > 0 ? sqrt(rest) : 0; // below zero by rounding alone
}

double graft_merge_cosine(const struct graft_merge_sums *s)
{
    return s->dd > 0 ? s->rr > 0 ? s->rd / sqrt(s->rr * s->dd) : 0 : 1;
}

double graft_merge_error(const struct graft_merge_sums *s)
{
    double rest = s->dd > 0 ? (s->rr - 2 * s->rd + s->dd) / s->dd : 0;
    return rest > 0 ? sqrt(rest) : 0;
}

static bool is_vector(const struct graft_gguf_tensor *tensor)
{
    return tensor->dims[1] == 1; // gains: every reader takes them as F32
}

uint32_t graft_merge_base_type(const struct graft_merge *m)
{
    uint32_t counts[MAX_TYPES] = {0}, most = 0;
    for (uint64_t i = 0; i < m->gguf->n_tensors; i++) {
        const struct graft_gguf_tensor *t = &m->gguf->tensors[i];
        if (!is_vector(t) && t->type < MAX_TYPES && ++counts[t->type] > counts[most]) {
            most = t->type;
        }
    }
    return most;
}

// Formats that can be written, as a list for errors.
static void list_types(char *out, size_t room)
{
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t n = 0; n < MAX_TYPES; n++) {
        const struct graft_quant *quant = graft_quant_find(n);
        if (quant && quant->quantize_row && used < room) {
            used += (size_t)snprintf(out + used, room - used, "%s%s", used ? ", " : "", graft_type_info(n)->name);
        }
    }
}

static bool same_name(const char *a, const char *b)
{
    while (*a && tolower((unsigned char)*a) == tolower((unsigned char)*b)) {
        a++, b++;
    }
    return *a == *b;
}

static enum graft_status find_type(const char *name, uint32_t *out)
{
    for (uint32_t n = 0; n < MAX_TYPES; n++) {
        const struct graft_quant *quant = graft_quant_find(n);
        if (quant && quant->quantize_row && same_name(graft_type_info(n)->name, name)) {
            *out = n;
            return GRAFT_OK;
        }
    }
    char list[256];
    list_types(list, sizeof list);
    return graft_fail(GRAFT_E_ARGUMENT, "\"%.32s\" is no format that can be written; keep, auto, and: %s", name, list);
}

static enum graft_status check_type(const struct graft_merge_item *item, uint32_t type)
{
    const struct graft_quant *quant = graft_quant_find(type);
    uint64_t bytes;
    if (!quant || !quant->quantize_row) {
        return graft_fail(GRAFT_E_UNSUPPORTED,
                          "tensor %.*s has type %s, which can be read but not written; name another --type",
                          (int)item->name.length, item->name.data, graft_type_gguf_name(type));
    }
    if (!graft_type_row_bytes(type, item->from->dims[0], &bytes)) {
        return graft_fail(GRAFT_E_UNSUPPORTED,
                          "tensor %.*s has rows of %" PRIu64 " weights, %s needs a multiple of %u; name another --type",
                          (int)item->name.length, item->name.data, item->from->dims[0], graft_type_info(type)->name,
                          graft_type_info(type)->block_values);
    }
    return GRAFT_OK;
}

struct candidate {
    uint32_t type;
    uint64_t row_bytes;
};

static int by_size(const void *left, const void *right)
{
    const struct candidate *a = left, *b = right;
    if (a->row_bytes != b->row_bytes) {
        return a->row_bytes < b->row_bytes ? -1 : 1;
    }
    return a->type < b->type ? -1 : a->type > b->type;
}

// Formats with more bytes than the tensor's own, smallest first. Smaller ones would throw away what the base has, which the
// share of the change does not show.
static uint32_t larger_types(const struct graft_merge_item *item, struct candidate out[MAX_TYPES])
{
    uint64_t own, bytes;
    uint32_t count = 0;
    (void)graft_type_row_bytes(item->from->type, item->from->dims[0], &own);
    for (uint32_t n = 0; n < MAX_TYPES; n++) {
        const struct graft_quant *quant = graft_quant_find(n);
        if (quant && quant->quantize_row && graft_type_row_bytes(n, item->from->dims[0], &bytes) && bytes > own) {
            out[count++] = (struct candidate){n, bytes};
        }
    }
    qsort(out, count, sizeof *out, by_size);
    return count;
}

static enum graft_status measure(struct graft_merge *m, const struct graft_merge_item *item, uint32_t type,
                                 struct graft_merge_sums *sums)
{
    m->progress_total += item->from->bytes;
    return graft_merge_measure(m, item, type, sums);
}

static bool keeps(const struct graft_merge *m, const struct graft_merge_sums *sums)
{
    return graft_merge_share(sums) >= m->params.keep_effect && graft_merge_cosine(sums) >= m->params.keep_effect;
}

static enum graft_status choose_smallest(struct graft_merge *m, struct graft_merge_item *item)
{
    struct graft_merge_sums sums;
    double own_error = INFINITY;
    if (graft_quant_find(item->type)->quantize_row) {
        GRAFT_TRY(measure(m, item, item->type, &sums));
        if (keeps(m, &sums)) {
            return GRAFT_OK;
        }
        own_error = graft_merge_error(&sums);
    }
    struct candidate candidates[MAX_TYPES];
    uint32_t n = larger_types(item, candidates);
    for (uint32_t i = 0; i < n; i++) {
        GRAFT_TRY(measure(m, item, candidates[i].type, &sums));
        if (keeps(m, &sums) && graft_merge_error(&sums) <= own_error) {
            item->type = candidates[i].type;
            return GRAFT_OK;
        }
    }
    item->type = n ? candidates[n - 1].type : item->type; // the largest there is
    return check_type(item, item->type);
}

enum graft_status graft_merge_choose(struct graft_merge *m)
{
    const char *wanted = m->params.type ? m->params.type : "keep";
    bool keep = same_name("keep", wanted), automatic = same_name("auto", wanted);
    uint32_t type = 0;
    if (!keep && !automatic) {
        GRAFT_TRY(find_type(wanted, &type));
    }
    for (uint32_t i = 0; i < m->n_items; i++) {
        struct graft_merge_item *item = &m->items[i];
        if (item->n_links == 0) {
            continue;
        }
        if (automatic && !is_vector(item->from)) {
            GRAFT_TRY(choose_smallest(m, item));
            continue;
        }
        item->type = keep || is_vector(item->from) ? item->from->type : type;
        GRAFT_TRY(check_type(item, item->type));
    }
    return GRAFT_OK;
}
