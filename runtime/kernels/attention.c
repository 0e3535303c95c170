// SPDX-License-Identifier: Apache-2.0
// attention: causal attention of a batch row over its pages. Shader: shaders/attention.comp.
#include <string.h>

#include "runtime/kernels/kernel.h"

enum { MAX_HEADS = 4 }; // query heads of a workgroup: their accumulators live in registers

uint32_t graft_attention_head_groups(const struct graft_attention_shape *shape)
{
    uint32_t per_kv = shape->n_head / shape->n_head_kv;
    return (per_kv + MAX_HEADS - 1) / MAX_HEADS;
}

uint32_t graft_attention_splits(const struct graft_vk_caps *caps, const struct graft_attention_shape *shape,
                                uint32_t batch_rows)
{
    // As one row alone needs them, whatever the batch: so a row's bits do not depend on what shares its batch. Two workgroups a
    // core in software, about a hundred on a GPU, and at least 128 positions a split.
    (void)batch_rows;
    uint32_t wanted = caps->kind == GRAFT_VK_SOFTWARE ? 8 : 128;
    uint32_t have = shape->n_head_kv * graft_attention_head_groups(shape);
    uint32_t splits = 1;
    while (splits < 16 && have * splits * 2 <= wanted && shape->n_ctx / (splits * 2) >= 128) {
        splits *= 2;
    }
    return splits;
}

enum graft_status graft_kernel_attention(struct graft_kernel *out, const struct graft_vk_caps *caps,
                                         const struct graft_attention_shape *shape, uint32_t batch_rows, bool lora)
{
    *out = (struct graft_kernel){0};
    struct graft_variant variant = graft_variant_choose(caps, 1);
    GRAFT_TRY(graft_kernel_name(out, lora ? "attention_lora" : "attention", NULL, variant.kind, sizeof out->push.attention));
    struct graft_vk_pipeline_params *p = &out->pipeline;
    uint32_t workgroup = variant.kind == GRAFT_VARIANT_TEAM ? 32 : caps->subgroup_size;
    uint32_t groups = graft_attention_head_groups(shape), per_kv = shape->n_head / shape->n_head_kv;
    uint32_t splits = graft_attention_splits(caps, shape, batch_rows);
    graft_kernel_bind(p, lora ? "vpwrxxxppoxp" : "vpwroxx", variant.kind == GRAFT_VARIANT_LANE);
    p->n_constants = 11;
    p->constants[0] = workgroup;
    p->constants[1] = (per_kv + groups - 1) / groups;
    p->constants[2] = workgroup < 32 ? 32 / workgroup : 1;
    p->constants[3] = shape->head_dim / 8;
    p->constants[4] = (shape->head_dim / 2 + workgroup - 1) / workgroup;
    p->constants[5] = splits;
    p->constants[6] = shape->kv_k;
    p->constants[8] = shape->kv_v;
    p->constants[9] = shape->window;
    memcpy(&p->constants[10], &shape->cap, sizeof shape->cap);
    p->required_subgroup_size = variant.subgroup;
    p->full_subgroups = variant.subgroup != 0;
    out->push.attention = (struct graft_attention_push){.n_head = shape->n_head, .n_head_kv = shape->n_head_kv,
                                                        .head_dim = shape->head_dim, .head_groups = groups};
    out->groups[0] = shape->n_head_kv * groups * splits;
    out->groups[1] = batch_rows;
    out->groups[2] = 1;
    return GRAFT_OK;
}
