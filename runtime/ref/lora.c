// SPDX-License-Identifier: Apache-2.0
// Adapters, batched by row: y = W x + sum over the row's (adapter, weight) pairs of weight * (B (A x) + DORA * (W x) + BIAS);
// the embedding and the norms' gains likewise. LoRA: Hu 2021; DoRA: Liu 2024; rows with different adapters in one batch:
// Punica, Chen 2023. Scales are in B already.
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
            const uint16_t *a = lora->pool + (uint64_t)e[GRAFT_LORA_A] * 8; // [rank][n_in]
            float weight, *t = t_of(lora, r, pair, stage);
            memcpy(&weight, &graft_ref_row(lora->state, r)[GRAFT_ROW_LORA + 2 * pair + 1], sizeof weight);
            for (uint32_t k = 0; k < e[GRAFT_LORA_ENTRY_RANK] && !e[GRAFT_LORA_DENSE]; k++) {
                float sum = 0.0f;
                for (uint32_t j = 0; j < n_in; j++) {
                    sum += graft_f16_to_f32(a[(uint64_t)k * n_in + j]) * x[(uint64_t)r * n_in + j];
                }
                t[k] = sum * weight;
            }
        }
    }
}

static float weight_of(const struct graft_ref_lora *lora, uint32_t r, uint32_t pair)
{
    float weight;
    memcpy(&weight, &graft_ref_row(lora->state, r)[GRAFT_ROW_LORA + 2 * pair + 1], sizeof weight);
    return weight;
}

// Matrices and vectors of the pool.
static const uint16_t *halves(const struct graft_ref_lora *lora, uint32_t at)
{
    return lora->pool + (uint64_t)at * 8;
}

static const float *floats(const struct graft_ref_lora *lora, uint32_t at)
{
    return (const float *)(const void *)halves(lora, at);
}

float graft_ref_expand(const struct graft_ref_lora *lora, uint32_t target, uint32_t stage, uint32_t o, uint32_t r, float base,
                       const float *x, uint32_t n_in)
{
    float sum = 0.0f;
    for (uint32_t pair = 0; pair < GRAFT_LORA_PAIRS; pair++) {
        const uint32_t *e = entry(lora, r, pair, target);
        if (!e) {
            break;
        }
        float weight = weight_of(lora, r, pair);
        if (e[GRAFT_LORA_DORA]) {
            sum += weight * floats(lora, e[GRAFT_LORA_DORA])[o] * base;
        }
        if (e[GRAFT_LORA_BIAS]) {
            sum += weight * floats(lora, e[GRAFT_LORA_BIAS])[o] / (lora->inv_rms ? lora->inv_rms[r] : 1.0f);
        }
        if (e[GRAFT_LORA_DENSE]) {
            const uint16_t *b = halves(lora, e[GRAFT_LORA_B]) + (uint64_t)o * n_in; // [n_out][n_in]
            float dot = 0.0f;
            for (uint32_t j = 0; j < n_in; j++) {
                dot += graft_f16_to_f32(b[j]) * x[j];
            }
            sum += weight * dot;
            continue;
        }
        uint32_t rank = e[GRAFT_LORA_ENTRY_RANK];
        const uint16_t *b = halves(lora, e[GRAFT_LORA_B]) + (uint64_t)o * rank; // [n_out][rank]
        const float *t = t_of(lora, r, pair, stage);
        for (uint32_t k = 0; k < rank; k++) {
            sum += graft_f16_to_f32(b[k]) * t[k];
        }
    }
    return sum;
}

void graft_ref_expand_embed(const struct graft_ref_lora *lora, float *x, uint32_t n_embd)
{
    for (uint32_t r = 0; r < lora->state->n_rows; r++) {
        uint64_t token = graft_ref_row(lora->state, r)[GRAFT_ROW_TOKEN];
        for (uint32_t i = 0; i < n_embd; i++) {
            float base = x[(uint64_t)r * n_embd + i], difference = 0.0f;
            for (uint32_t pair = 0; pair < GRAFT_LORA_PAIRS; pair++) {
                const uint32_t *e = entry(lora, r, pair, GRAFT_LORA_EMBED);
                if (!e) {
                    break;
                }
                uint32_t rank = e[GRAFT_LORA_ENTRY_RANK];
                const uint16_t *a = halves(lora, e[GRAFT_LORA_A]) + token * rank;
                const uint16_t *b = halves(lora, e[GRAFT_LORA_B]) + (uint64_t)i * rank;
                float change = e[GRAFT_LORA_DORA] ? floats(lora, e[GRAFT_LORA_DORA])[i] * base : 0.0f;
                for (uint32_t k = 0; k < rank; k++) {
                    change += graft_f16_to_f32(a[k]) * graft_f16_to_f32(b[k]);
                }
                difference += weight_of(lora, r, pair) * change;
            }
            x[(uint64_t)r * n_embd + i] = base + difference;
        }
    }
}

float graft_ref_norm_difference(const struct graft_ref_lora *lora, uint32_t target, uint32_t r, uint32_t i)
{
    float sum = 0.0f;
    for (uint32_t pair = 0; pair < GRAFT_LORA_PAIRS; pair++) {
        const uint32_t *e = entry(lora, r, pair, target);
        if (!e) {
            break;
        }
        sum += e[GRAFT_LORA_A] ? weight_of(lora, r, pair) * floats(lora, e[GRAFT_LORA_A])[i] : 0.0f;
    }
    return sum;
}
