// SPDX-License-Identifier: Apache-2.0
// The feed-forward of a mixture of experts: each row's own experts, their outputs added up in the order of the route.
#include <math.h>

#include "runtime/quant/quant.h"
#include "runtime/ref/ref.h"

static const uint8_t *weights_of(const struct graft_ref_matrix *w, uint32_t expert, uint32_t o)
{
    return w->data + expert * w->row_bytes * w->n_out + o * w->row_bytes;
}

void graft_ref_experts_up(const struct graft_ref_matrix *gate, const struct graft_ref_matrix *up,
                          const struct graft_ref_route *route, uint32_t n_used, const float *xn, const float *inv_rms,
                          uint32_t n_rows, float *h, uint32_t first, uint32_t last, float *scratch)
{
    const struct graft_quant *gates = graft_quant_find(gate->type), *ups = graft_quant_find(up->type);
    for (uint32_t o = first; o < last; o++) {
        for (uint32_t i = 0; i < n_rows * n_used; i++) {
            const float *x = xn + (uint64_t)(i / n_used) * gate->n_in;
            gates->dequantize_row(weights_of(gate, route[i].expert, o), scratch, gate->n_in);
            float g = graft_ref_dot(scratch, x, gate->n_in);
            g += gate->lora ? graft_ref_expand_expert(gate->lora, route, gate->target, gate->stage, o, i, g) : 0.0f;
            g *= inv_rms[i / n_used];
            ups->dequantize_row(weights_of(up, route[i].expert, o), scratch, up->n_in);
            float u = graft_ref_dot(scratch, x, up->n_in);
            u += up->lora ? graft_ref_expand_expert(up->lora, route, up->target, up->stage, o, i, u) : 0.0f;
            u *= inv_rms[i / n_used];
            h[(uint64_t)i * gate->n_out + o] = g / (1.0f + expf(-g)) * u;
        }
    }
}

void graft_ref_experts_down(const struct graft_ref_matrix *down, const struct graft_ref_route *route, uint32_t n_used,
                            const float *h, uint32_t n_rows, float *x, uint32_t first, uint32_t last, float *scratch)
{
    const struct graft_quant *quant = graft_quant_find(down->type);
    for (uint32_t o = first; o < last; o++) {
        for (uint32_t r = 0; r < n_rows; r++) {
            float sum = 0.0f;
            for (uint32_t i = r * n_used; i < (r + 1) * n_used; i++) {
                quant->dequantize_row(weights_of(down, route[i].expert, o), scratch, down->n_in);
                float y = graft_ref_dot(scratch, h + (uint64_t)i * down->n_in, down->n_in);
                y += down->lora ? graft_ref_expand_expert(down->lora, route, down->target, down->stage, o, i, y) : 0.0f;
                sum += route[i].weight * y;
            }
            x[(uint64_t)r * down->n_out + o] += sum;
        }
    }
}
