// SPDX-License-Identifier: Apache-2.0
// embed: token rows of the embedding table, and what the first norm needs. Shader: shaders/embed.comp.
#include "runtime/kernels/kernel.h"

enum graft_status graft_kernel_embed(struct graft_kernel *out, const struct graft_vk_caps *caps, uint32_t type, uint32_t n_embd,
                                     uint32_t batch_rows, enum graft_lora_kind lora)
{
    *out = (struct graft_kernel){0};
    const struct graft_kernel_format *format = graft_kernel_format(type);
    if (!format) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "weight type %u has no kernel", type);
    }
    struct graft_variant variant = graft_variant_choose(caps, 1);
    GRAFT_TRY(graft_kernel_name(out, lora ? "embed_lora" : "embed", format, variant.kind, sizeof out->push.embed));
    struct graft_vk_pipeline_params *p = &out->pipeline;
    uint32_t workgroup = variant.kind == GRAFT_VARIANT_SUBGROUP ? caps->subgroup_size
                         : variant.kind == GRAFT_VARIANT_TEAM   ? 32
                                                                : variant.workgroup;
    graft_kernel_bind(p, lora ? "wrroxoppoxp" : "wrrooo", variant.kind == GRAFT_VARIANT_LANE);
    p->n_constants = GRAFT_FORMAT_CONSTANT + 1;
    p->constants[0] = workgroup;
    p->constants[1] = lora == GRAFT_LORA_EXTRAS;
    p->constants[GRAFT_FORMAT_CONSTANT] = type;
    p->required_subgroup_size = variant.subgroup;
    p->full_subgroups = variant.subgroup != 0;
    uint32_t subs = n_embd / 32;
    out->push.embed.subs = subs;
    out->push.embed.scale = 1.0f;
    out->groups[0] = subs / workgroup + (subs % workgroup != 0);
    out->groups[1] = batch_rows;
    out->groups[2] = 1;
    out->push.embed.parts_out = out->groups[0];
    return GRAFT_OK;
}
