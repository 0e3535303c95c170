// SPDX-License-Identifier: Apache-2.0
// What is merged into what: base and adapters are read and checked, every change is listed by tensor, and the output's tensors
// are laid out.
#include <math.h>
#include <stdlib.h>

#include "platform/bytes.h"
#include "runtime/adapter/fit.h"
#include "runtime/merge/merge_private.h"
#include "runtime/quant/quant.h"

static const char head_name[] = "output.weight";

// What cannot become part of a file's tensors.
static enum graft_status check_kind(const struct graft_adapter_desc *desc, const struct graft_source *source, const char *path)
{
    if (desc->n_alora > 0) {
        return graft_fail(GRAFT_E_UNSUPPORTED,
                          "%s: is an aLoRA, active only from its invocation on; merged it would be active always", path);
    }
    for (uint32_t i = 0; i < desc->n_pairs; i++) {
        enum graft_target target = desc->pairs[i].target;
        bool part = target <= GRAFT_TARGET_V || target == GRAFT_TARGET_GATE || target == GRAFT_TARGET_UP;
        if (source->fused && part) {
            return graft_fail(GRAFT_E_UNSUPPORTED,
                              "%s: changes layer %u %s, which is a part of a tensor of the base; run it unmerged", path,
                              desc->pairs[i].layer, graft_target_name(target));
        }
        if (desc->pairs[i].bias.data) {
            return graft_fail(
                GRAFT_E_UNSUPPORTED,
                "%s: layer %u %s has a bias (lora_bias), and the base's architecture has no biases that could hold "
                "it; run it unmerged",
                path, desc->pairs[i].layer, graft_target_name(desc->pairs[i].target));
        }
    }
    return GRAFT_OK;
}

// The last part of a path, without slashes at its end; "" if it is no UTF-8, which GGUF's strings must be.
static struct graft_text last_part(const char *path)
{
    size_t end = strlen(path), begin;
    while (end > 1 && graft_path_separator(path[end - 1])) {
        end--;
    }
    for (begin = end; begin > 0 && !graft_path_separator(path[begin - 1]); begin--) {
    }
    struct graft_text name = {path + begin, end - begin};
    if (!graft_utf8_valid((const uint8_t *)name.data, name.length)) {
        name.length = 0;
    }
    return name;
}

static enum graft_status read_adapters(struct graft_merge *m)
{
    for (uint32_t i = 0; i < m->params.n_adapters; i++) {
        const struct graft_merge_adapter *given = &m->params.adapters[i];
        if (!given->path || !isfinite(given->weight)) {
            return graft_fail(GRAFT_E_ARGUMENT, "adapter %u has %s", i,
                              given->path ? "a weight that is not finite" : "no path");
        }
        GRAFT_TRY(graft_adapter_read(m->ctx, &m->adapters[i], given->path));
        m->weights[i] = given->weight;
        m->names[i] = last_part(given->path);
        enum graft_status status = graft_adapter_fit(m->adapters[i], m->source);
        if (status != GRAFT_OK) {
            return graft_fail_prefix(status, "%s", given->path);
        }
        GRAFT_TRY(check_kind(m->adapters[i], m->source, given->path));
    }
    return GRAFT_OK;
}

// The item that a change of a target belongs to. The head of a tied model is the last one, which is added.
static uint32_t item_of(const struct graft_merge *m, enum graft_target target, uint32_t layer)
{
    if (target == GRAFT_TARGET_HEAD && m->source->tied) {
        return (uint32_t)m->gguf->n_tensors;
    }
    const struct graft_weight *weight = graft_adapter_base_weight(m->source, target, layer);
    return (uint32_t)(graft_gguf_tensor(m->gguf, weight->label) - m->gguf->tensors);
}

uint32_t graft_merge_expert(const struct graft_merge_link *link)
{
    return link->pair && link->pair->expert ? link->pair->expert - 1 : 0;
}

static int by_tensor(const void *left, const void *right)
{
    const struct graft_merge_link *a = left, *b = right;
    uint32_t own = graft_merge_expert(a), other = graft_merge_expert(b);
    if (a->tensor != b->tensor) {
        return a->tensor < b->tensor ? -1 : 1;
    }
    if (own != other) {
        return own < other ? -1 : 1;
    }
    return a->adapter < b->adapter ? -1 : a->adapter > b->adapter;
}

static enum graft_status list_links(struct graft_merge *m)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < m->params.n_adapters; i++) {
        most += (uint64_t)m->adapters[i]->n_pairs + m->adapters[i]->n_whole;
    }
    GRAFT_TRY(GRAFT_NEW(m->ctx, GRAFT_MEM_HOST, &m->links, most, "the list of changes"));
    for (uint32_t i = 0; i < m->params.n_adapters; i++) {
        const struct graft_adapter_desc *desc = m->adapters[i];
        for (uint32_t k = 0; k < desc->n_pairs; k++) {
            const struct graft_adapter_pair *pair = &desc->pairs[k];
            m->links[m->n_links++] =
                (struct graft_merge_link){.tensor = item_of(m, pair->target, pair->layer), .adapter = i, .pair = pair};
        }
        for (uint32_t k = 0; k < desc->n_whole; k++) {
            const struct graft_adapter_whole *whole = &desc->whole[k];
            if (!whole->base_copy) {
                m->links[m->n_links++] =
                    (struct graft_merge_link){.tensor = item_of(m, whole->target, whole->layer), .adapter = i, .whole = whole};
            }
        }
    }
    qsort(m->links, m->n_links, sizeof *m->links, by_tensor);
    return GRAFT_OK;
}

// A tied model gets a head of its own as soon as embeddings and head are not the same any more.
static bool needs_head(const struct graft_merge *m)
{
    uint32_t embeddings = item_of(m, GRAFT_TARGET_EMBED, 0);
    for (uint32_t i = 0; i < m->n_links && m->source->tied; i++) {
        if (m->links[i].tensor == embeddings || m->links[i].tensor == m->gguf->n_tensors) {
            return true;
        }
    }
    return false;
}

static enum graft_status list_items(struct graft_merge *m)
{
    const struct graft_gguf *g = m->gguf;
    bool head = needs_head(m);
    m->n_items = (uint32_t)g->n_tensors + head;
    if (m->n_items > GRAFT_GGUF_MAX_TENSORS) {
        return graft_fail(GRAFT_E_LIMIT, "%s: %" PRIu64 " tensors and one more are over the limit of %d", g->path, g->n_tensors,
                          GRAFT_GGUF_MAX_TENSORS);
    }
    GRAFT_TRY(GRAFT_NEW(m->ctx, GRAFT_MEM_HOST, &m->items, m->n_items, "the output's tensors"));
    for (uint32_t i = 0, link = 0; i < m->n_items; i++) {
        struct graft_merge_item *item = &m->items[i];
        item->added = i == g->n_tensors;
        item->from = &g->tensors[item->added ? item_of(m, GRAFT_TARGET_EMBED, 0) : i];
        item->name = item->added ? (struct graft_text){head_name, sizeof head_name - 1} : item->from->name;
        item->type = item->from->type;
        item->first_link = link;
        while (link < m->n_links && m->links[link].tensor == i) {
            link++;
        }
        item->n_links = link - item->first_link;
    }
    return GRAFT_OK;
}

enum graft_status graft_merge_read(struct graft_merge *m, const char *base)
{
    GRAFT_TRY(graft_gguf_open(m->ctx, &m->gguf, base, false));
    GRAFT_TRY(graft_source_open(m->ctx, &m->source, m->gguf));
    GRAFT_TRY(read_adapters(m));
    GRAFT_TRY(list_links(m));
    GRAFT_TRY(list_items(m));
    return GRAFT_OK;
}

enum graft_status graft_merge_layout(struct graft_merge *m)
{
    uint64_t at = 0;
    bool fits = true;
    for (uint32_t i = 0; i < m->n_items; i++) {
        struct graft_merge_item *item = &m->items[i];
        item->bytes = item->from->bytes;
        if (item->type != item->from->type) { // only matrices of the architecture change: rows times their bytes
            uint64_t row;
            fits = fits && graft_type_row_bytes(item->type, item->from->dims[0], &row) &&
                   graft_mul_u64(row, item->from->dims[1], &item->bytes) &&
                   graft_mul_u64(item->bytes, item->from->dims[2], &item->bytes);
        }
        item->offset = at;
        fits = fits && graft_add_u64(at, item->bytes, &at) && graft_align_u64(at, m->gguf->alignment, &at);
    }
    GRAFT_TRY(graft_merge_header(m, false));
    fits = fits && graft_align_u64(m->out_header_bytes, m->gguf->alignment, &m->out_data_offset) &&
           graft_add_u64(m->out_data_offset, at, &m->out_bytes);
    if (!fits || m->out_bytes > INT64_MAX) {
        return graft_fail(GRAFT_E_LIMIT, "the merged file's size overflows");
    }
    if (m->out_header_bytes > GRAFT_GGUF_MAX_HEADER_BYTES) {
        return graft_fail(GRAFT_E_LIMIT, "the merged file's header has %" PRIu64 " bytes, allowed are %d", m->out_header_bytes,
                          GRAFT_GGUF_MAX_HEADER_BYTES);
    }
    return GRAFT_OK;
}

void graft_merge_release(struct graft_merge *m)
{
    struct graft_ctx *ctx = m->ctx;
    graft_output_abandon(&m->output);
    graft_workers_destroy(&m->workers);
    for (uint32_t i = 0; m->scratch && i < m->n_threads; i++) {
        GRAFT_FREE(ctx, &m->scratch[i]);
    }
    GRAFT_FREE(ctx, &m->scratch);
    GRAFT_FREE(ctx, &m->items);
    GRAFT_FREE(ctx, &m->links);
    for (uint32_t i = 0; i < GRAFT_MERGE_MAX_ADAPTERS; i++) {
        graft_adapter_free(&m->adapters[i]);
    }
    graft_source_close(&m->source);
    graft_gguf_close(&m->gguf);
}
