// SPDX-License-Identifier: Apache-2.0
// The list of weight formats.
#include "runtime/quant/block.h"

static const struct graft_quant *const formats[] = {
    &graft_quant_f32,  &graft_quant_f16,    &graft_quant_bf16,   &graft_quant_q4_0,  &graft_quant_q4_1, &graft_quant_q5_0,
    &graft_quant_q5_1, &graft_quant_q8_0,   &graft_quant_q2_k,   &graft_quant_q3_k,  &graft_quant_q4_k, &graft_quant_q5_k,
    &graft_quant_q6_k, &graft_quant_iq4_nl, &graft_quant_iq4_xs, &graft_quant_mxfp4,
};

const struct graft_quant *graft_quant_find(uint32_t type)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if ((uint32_t)formats[i]->type == type) {
            return formats[i];
        }
    }
    return NULL;
}
