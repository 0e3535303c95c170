// SPDX-License-Identifier: Apache-2.0
// Adapters, batched by row: y = W x + sum over the row's (adapter, weight) pairs of weight * (B (A x) + DORA * (W x) + BIAS);
// the embedding and the norms' gains likewise, and in a mixture the matrices of a row's experts. LoRA: Hu 2021; DoRA: Liu 2024;
// rows with different adapters in one batch: Punica, Chen 2023. Scales are in B already.
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

// The entry of an expert, from the table that a target's entry points to; false if the row has no such pair or its adapter
// nothing for the expert.
static bool expert_entry(const struct graft_ref_lora *lora, uint32_t r, uint32_t pair, uint32_t target, uint32_t expert,
                         uint32_t out[GRAFT_LORA_ENTRY])
{
    static const uint32_t places[] = {GRAFT_LORA_A, GRAFT_LORA_B, GRAFT_LORA_DORA, GRAFT_LORA_BIAS};
    const uint32_t *e = entry(lora, r, pair, target);
    uint32_t table = e ? e[GRAFT_LORA_A] : 0;
    if (!table) {
        return false;
    }
    memcpy(out, halves(lora, table) + (uint64_t)expert * GRAFT_LORA_ENTRY * 2, GRAFT_LORA_ENTRY * sizeof *out);
    for (uint32_t i = 0; i < 4; i++) {
        out[places[i]] += out[places[i]] ? table : 0;
    }
    return out[GRAFT_LORA_ENTRY_RANK] > 0;
}

static float *t_of(const struct graft_ref_lora *lora, uint32_t r, uint32_t pair, uint32_t stage)
{
    return lora->t + (((uint64_t)r * GRAFT_LORA_PAIRS + pair) * GRAFT_LORA_STAGE + stage) * GRAFT_LORA_RANK;
}

static float *expert_t(const struct graft_ref_lora *lora, uint32_t i, uint32_t pair, uint32_t stage)
{
    return lora->expert_t + (((uint64_t)i * GRAFT_LORA_PAIRS + pair) * GRAFT_LORA_EXPERT_STAGE + stage) * GRAFT_LORA_RANK;
}

// t = weight * A x
static void shrink(const struct graft_ref_lora *lora, const uint32_t *e, const float *x, uint32_t n_in, float weight, float *t)
{
    const uint16_t *a = halves(lora, e[GRAFT_LORA_A]); // [rank][n_in]
    for (uint32_t k = 0; k < e[GRAFT_LORA_ENTRY_RANK] && !e[GRAFT_LORA_DENSE]; k++) {
        float sum = 0.0f;
        for (uint32_t j = 0; j < n_in; j++) {
            sum += graft_f16_to_f32(a[(uint64_t)k * n_in + j]) * x[j];
        }
        t[k] = sum * weight;
    }
}

void graft_ref_shrink(const struct graft_ref_lora *lora, const float *x, uint32_t n_in, uint32_t target, uint32_t n_targets)
{
    for (uint32_t r = 0; r < lora->state->n_rows; r++) {
        for (uint32_t i = 0; i < n_targets * GRAFT_LORA_PAIRS; i++) {
            uint32_t stage = i / GRAFT_LORA_PAIRS, pair = i % GRAFT_LORA_PAIRS;
            const uint32_t *e = entry(lora, r, pair, target + stage);
            if (e) {
                shrink(lora, e, x + (uint64_t)r * n_in, n_in, weight_of(lora, r, pair), t_of(lora, r, pair, stage));
            }
        }
    }
}

void graft_ref_shrink_experts(const struct graft_ref_lora *lora, const struct graft_ref_route *route, const float *x, bool own,
                              uint32_t n_in, uint32_t target, uint32_t n_targets)
{
    for (uint32_t i = 0; i < lora->state->n_rows * lora->n_used; i++) {
        uint32_t r = i / lora->n_used;
        for (uint32_t k = 0; k < n_targets * GRAFT_LORA_PAIRS; k++) {
            uint32_t stage = k / GRAFT_LORA_PAIRS, pair = k % GRAFT_LORA_PAIRS, e[GRAFT_LORA_ENTRY];
            if (expert_entry(lora, r, pair, target + stage, route[i].expert, e)) {
                shrink(lora, e, x + (uint64_t)(own ? i : r) * n_in, n_in, weight_of(lora, r, pair),
                       expert_t(lora, i, pair, stage));
            }
        }
    }
}

// What one pair adds: base = W[o] . x of the pair's matrix, t = weight * A x.
static float expand(const struct graft_ref_lora *lora, const uint32_t *e, uint32_t r, uint32_t pair, uint32_t o, float base,
                    const float *t)
{
    float weight = weight_of(lora, r, pair), sum = 0.0f;
    if (e[GRAFT_LORA_DORA]) {
        sum += weight * floats(lora, e[GRAFT_LORA_DORA])[o] * base;
    }
    if (e[GRAFT_LORA_BIAS]) {
        sum += weight * floats(lora, e[GRAFT_LORA_BIAS])[o] / (lora->inv_rms ? lora->inv_rms[r] : 1.0f);
    }
    uint32_t rank = e[GRAFT_LORA_DENSE] ? 0 : e[GRAFT_LORA_ENTRY_RANK];
    const uint16_t *b = halves(lora, e[GRAFT_LORA_B]) + (uint64_t)o * rank; // [n_out][rank]
    for (uint32_t k = 0; k < rank; k++) {
        sum += graft_f16_to_f32(b[k]) * t[k];
    }
    return sum;
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
        sum += expand(lora, e, r, pair, o, base, t_of(lora, r, pair, stage));
        if (e[GRAFT_LORA_DENSE]) {
            const uint16_t *b = halves(lora, e[GRAFT_LORA_B]) + (uint64_t)o * n_in; // [n_out][n_in]
            float dot = 0.0f;
            for (uint32_t j = 0; j < n_in; j++) {
                dot += graft_f16_to_f32(b[j]) * x[j];
            }
            sum += weight_of(lora, r, pair) * dot;
        }
    }
    return sum;
}

float graft_ref_expand_expert(const struct graft_ref_lora *lora, const struct graft_ref_route *route, uint32_t target,
                              uint32_t stage, uint32_t o, uint32_t i, float base)
{
    float sum = 0.0f;
    for (uint32_t pair = 0; pair < GRAFT_LORA_PAIRS; pair++) {
        uint32_t e[GRAFT_LORA_ENTRY], r = i / lora->n_used;
        if (expert_entry(lora, r, pair, target, route[i].expert, e)) {
            sum += expand(lora, e, r, pair, o, base, expert_t(lora, i, pair, stage));
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
