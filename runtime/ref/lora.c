// SPDX-License-Identifier: Apache-2.0
// Adapters, batched by row: y = W x + sum over the row's (adapter, weight) pairs of weight * B (A x). LoRA: Hu 2021; rows
// with different
// adapters in one batch: Punica, Chen 2023. Scales are in B already.
#include <string.h>

#include "runtime/quant/quant.h"
#include "runtime/ref/ref.h"

// The table entry of a row's pair and target, or NULL if the row has no such pair.
static const uint32_t *entry(const struct graft_ref_lora *lora, uint32_t r, uint32_t pair, uint32_t target)
{
    uint32_t slot = graft_ref_row(lora->state, r)[GRAFT_ROW_LORA + 2 * pair];
    if (slot == GRAFT_NO_SLOT) {
        return NULL;
    }
    return lora->table + (((uint64_t)slot * lora->n_layer + lora->layer) * GRAFT_LORA_TARGETS + target) * GRAFT_LORA_ENTRY;
}

static float *t_of(const struct graft_ref_lora *lora, uint32_t r, uint32_t pair, uint32_t stage)
{
    return lora->t + (((uint64_t)r * GRAFT_LORA_PAIRS + pair) * GRAFT_LORA_STAGE + stage) * GRAFT_LORA_RANK;
}

void graft_ref_shrink(const struct graft_ref_lora *lora, const float *x, uint32_t n_in, uint32_t target, uint32_t n_targets)
{
    for (uint32_t r = 0; r < lora->state->n_rows; r++) {
        for (uint32_t i = 0; i < n_targets * GRAFT_LORA_PAIRS; i++) {
            uint32_t stage = i / GRAFT_LORA_PAIRS, pair = i % GRAFT_LORA_PAIRS;
            const uint32_t *e = entry(lora, r, pair, target + stage);
            if (!e) {
                continue;
            }
            const uint16_t *a = lora->pool + (uint64_t)e[0] * 8; // [rank][n_in]
            float weight, *t = t_of(lora, r, pair, stage);
            memcpy(&weight, &graft_ref_row(lora->state, r)[GRAFT_ROW_LORA + 2 * pair + 1], sizeof weight);
            for (uint32_t k = 0; k < e[2]; k++) {
                float sum = 0.0f;
                for (uint32_t j = 0; j < n_in; j++) {
                    sum += graft_f16_to_f32(a[(uint64_t)k * n_in + j]) * x[(uint64_t)r * n_in + j];
                }
                t[k] = sum * weight;
            }
        }
    }
}

float graft_ref_expand(const struct graft_ref_lora *lora, uint32_t target, uint32_t stage, uint32_t o, uint32_t r)
{
    float sum = 0.0f;
    for (uint32_t pair = 0; pair < GRAFT_LORA_PAIRS; pair++) {
        const uint32_t *e = entry(lora, r, pair, target);
        if (!e) {
            break;
        }
        const uint16_t *b = lora->pool + (uint64_t)e[1] * 8 + (uint64_t)o * e[2]; // [n_out][rank]
        const float *t = t_of(lora, r, pair, stage);
        for (uint32_t k = 0; k < e[2]; k++) {
            sum += graft_f16_to_f32(b[k]) * t[k];
        }
    }
    return sum;
}
