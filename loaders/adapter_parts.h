// SPDX-License-Identifier: Apache-2.0
// What the writers of adapter files share: a description -> checked, sorted list of tensors -> their bytes.
#ifndef GRAFT_LOADERS_ADAPTER_PARTS_H
#define GRAFT_LOADERS_ADAPTER_PARTS_H

#include "loaders/adapter_build.h"
#include "loaders/adapter_write.h"
#include "platform/aside.h"

enum graft_adapter_rows {
    GRAFT_ADAPTER_ROWS_KEEP,
    GRAFT_ADAPTER_ROWS_PERMUTE, // PEFT's order -> the GGUF file's
    GRAFT_ADAPTER_ROWS_UNDO,    // and back
    GRAFT_ADAPTER_ROWS_TURN     // rows become columns
};

// A tensor as it will be written: `view` as it is in memory, n_dims 1 (view.rows is 1), 2 or 3.
struct graft_adapter_item {
    char name[GRAFT_ADAPTER_NAME_BYTES];
    uint32_t layer, expert;
    enum graft_target target;
    enum graft_adapter_part part;
    uint32_t n_dims;                       // 3: of all experts of a layer, one after the other; `view` is the first one's
    uint32_t n_views;                      // so many; else 1
    const struct graft_adapter_desc *desc; // whose pairs they are
    struct graft_adapter_view view;
    enum graft_adapter_rows rows;
    uint32_t head_dim; // for PERMUTE and UNDO
};

struct graft_adapter_items {
    struct graft_ctx *ctx;
    uint64_t n;
    struct graft_adapter_item *list; // sorted by size of a value downwards, then name
};

// Every tensor of `desc`, checked as loaders/adapter_write.h says; gguf chooses names and order of rows. End with
// graft_adapter_items_free in any case.
GRAFT_MUST_CHECK enum graft_status graft_adapter_items_list(struct graft_adapter_items *items,
                                                            const struct graft_adapter_desc *desc,
                                                            const struct graft_adapter_base *base, bool gguf);
void graft_adapter_items_free(struct graft_adapter_items *items);

// Bytes of a whole tensor.
static inline uint64_t graft_adapter_item_bytes(const struct graft_adapter_item *item)
{
    return item->n_views * item->view.rows * item->view.cols * graft_adapter_value_bytes(item->view.type);
}
// Append the tensor's bytes, rows in their new order.
GRAFT_MUST_CHECK enum graft_status graft_adapter_item_write(const struct graft_adapter_item *item, struct graft_aside *out);

// Is the norm in front of the feed-forward called pre_feedforward_layernorm in PEFT? (Its other name is that of the norm behind
// attention there.) base NULL: unknown.
bool graft_adapter_pre_norms(const struct graft_adapter_desc *desc, const struct graft_adapter_base *base);

// The simplest alpha (the fewest decimal digits) for which (float)(alpha / divisor) is `scale`.
double graft_adapter_find_alpha(float scale, double divisor);

// adapter_config.json of a description whose pairs are checked; *text is JSON with a line break behind, free it with
// graft_free. Errors: GRAFT_E_UNSUPPORTED, GRAFT_E_LIMIT, GRAFT_E_MEMORY, GRAFT_E_BUDGET.
GRAFT_MUST_CHECK enum graft_status graft_adapter_config_write(const struct graft_adapter_desc *desc,
                                                              const struct graft_adapter_base *base, char **text,
                                                              uint64_t *bytes);

#endif
