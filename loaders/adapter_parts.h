// SPDX-License-Identifier: Apache-2.0
// What the writers of adapter files share: a description -> checked, sorted list of tensors -> their bytes.
#ifndef GRAFT_LOADERS_ADAPTER_PARTS_H
#define GRAFT_LOADERS_ADAPTER_PARTS_H

#include "loaders/adapter_build.h"
#include "loaders/adapter_write.h"
#include "platform/aside.h"

enum { GRAFT_ADAPTER_NAME_BYTES = 128 };

enum graft_adapter_rows {
    GRAFT_ADAPTER_ROWS_KEEP,
    GRAFT_ADAPTER_ROWS_PERMUTE, // PEFT's order -> the GGUF file's
    GRAFT_ADAPTER_ROWS_UNDO,    // and back
    GRAFT_ADAPTER_ROWS_TURN     // rows become columns
};

// A tensor as it will be written: `view` as it is in memory, n_dims 1 (view.rows is 1) or 2.
struct graft_adapter_item {
    char name[GRAFT_ADAPTER_NAME_BYTES];
    uint32_t layer;
    enum graft_target target;
    enum graft_adapter_part part;
    uint32_t n_dims;
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

// Bytes of one value; of a whole tensor.
uint64_t graft_adapter_value_bytes(uint32_t type);
static inline uint64_t graft_adapter_item_bytes(const struct graft_adapter_item *item)
{
    return item->view.rows * item->view.cols * graft_adapter_value_bytes(item->view.type);
}
// Append the tensor's bytes, rows in their new order.
GRAFT_MUST_CHECK enum graft_status graft_adapter_item_write(const struct graft_adapter_item *item, struct graft_aside *out);

// "model.layers.3.self_attn.q_proj", "lm_head"; of a norm "model.layers.3.input_layernorm". Returns `out`.
const char *graft_adapter_module(enum graft_target target, uint32_t layer, char out[GRAFT_ADAPTER_NAME_BYTES]);

// The simplest alpha (the fewest decimal digits) for which (float)(alpha / divisor) is `scale`.
double graft_adapter_find_alpha(float scale, double divisor);

// adapter_config.json of a description whose pairs are checked; *text is JSON with a line break behind, free it with
// graft_free. Errors: GRAFT_E_UNSUPPORTED, GRAFT_E_LIMIT, GRAFT_E_MEMORY, GRAFT_E_BUDGET.
GRAFT_MUST_CHECK enum graft_status graft_adapter_config_write(const struct graft_adapter_desc *desc,
                                                              const struct graft_adapter_base *base, char **text,
                                                              uint64_t *bytes);

#endif
