// SPDX-License-Identifier: Apache-2.0
// Parameters that hold the matrices of all experts: what PEFT trains of them, as pairs of single experts. Source: PEFT,
// lora.ParamWrapper.get_delta_weight: A is read as (expert, rank, n_in), B as (n_out, rank, expert).
#include <string.h>

#include "loaders/adapter_build.h"
#include "platform/bytes.h"

// B [n_out][rank][n_expert] -> [n_expert][n_out][rank], in place.
static enum graft_status turn(struct graft_adapter_desc *desc, const struct graft_adapter_view *b, uint64_t n_expert)
{
    uint64_t item = graft_adapter_value_bytes(b->type), rank = b->cols / n_expert;
    uint8_t *copy, *data = desc->bytes + (b->data - desc->bytes);
    GRAFT_TRY(graft_alloc_unset(desc->ctx, GRAFT_MEM_HOST, (void **)&copy, b->rows * b->cols, item, "experts of an adapter"));
    memcpy(copy, data, (size_t)(b->rows * b->cols * item));
    for (uint64_t o = 0; o < b->rows; o++) {
        for (uint64_t k = 0; k < rank; k++) {
            for (uint64_t e = 0; e < n_expert; e++) {
                memcpy(data + ((e * b->rows + o) * rank + k) * item, copy + (o * b->cols + k * n_expert + e) * item,
                       (size_t)item);
            }
        }
    }
    GRAFT_FREE(desc->ctx, &copy);
    return GRAFT_OK;
}

enum graft_status graft_adapter_unstack(struct graft_adapter_desc *desc, const struct graft_adapter_stack *stack, uint32_t rank,
                                        struct graft_adapter_tensor *tensors, uint64_t *n, const char *file)
{
    const struct graft_adapter_view *a = &stack->a, *b = &stack->b;
    bool both = strcmp(stack->parameter, "gate_up_proj") == 0;
    uint64_t n_expert = a->rows / rank;
    if (a->rows % rank != 0 || a->rows != b->cols || (both && b->rows % 2 != 0)) {
        return graft_fail(GRAFT_E_FORMAT,
                          "%s: %s of layer %u has A of shape %" PRIu64 " x %" PRIu64 " and B of shape %" PRIu64 " x %" PRIu64
                          "; A has rank %u for each expert, B as many columns%s",
                          file, stack->parameter, stack->layer, a->rows, a->cols, b->rows, b->cols, rank,
                          both ? ", and rows for gate and up" : "");
    }
    if (n_expert > GRAFT_ADAPTER_MAX_EXPERTS) {
        return graft_fail(GRAFT_E_LIMIT, "%s: %s of layer %u is of %" PRIu64 " experts of rank %u, allowed are 1 to %d", file,
                          stack->parameter, stack->layer, n_expert, rank, GRAFT_ADAPTER_MAX_EXPERTS);
    }
    GRAFT_TRY(turn(desc, b, n_expert));
    uint64_t item_a = graft_adapter_value_bytes(a->type), item_b = graft_adapter_value_bytes(b->type);
    uint64_t rows = both ? b->rows / 2 : b->rows;
    for (uint64_t e = 0; e < n_expert; e++) {
        for (uint32_t half = 0; half < (both ? 2 : 1); half++) {
            struct graft_adapter_tensor tensor = {.layer = stack->layer,
                                                  .expert = (uint32_t)e + 1,
                                                  .target = !both       ? GRAFT_TARGET_DOWN
                                                            : half == 0 ? GRAFT_TARGET_GATE
                                                                        : GRAFT_TARGET_UP,
                                                  .part = GRAFT_ADAPTER_A,
                                                  .stacked = true,
                                                  .name = stack->name_a,
                                                  .n_dims = 2,
                                                  .view = *a};
            tensor.view.data += e * rank * a->cols * item_a;
            tensor.view.rows = rank;
            tensors[(*n)++] = tensor;
            tensor.part = GRAFT_ADAPTER_B;
            tensor.name = stack->name_b;
            tensor.view = *b;
            tensor.view.data += (e * b->rows + half * rows) * rank * item_b;
            tensor.view.rows = rows;
            tensor.view.cols = rank;
            tensors[(*n)++] = tensor;
        }
    }
    return GRAFT_OK;
}
