// SPDX-License-Identifier: Apache-2.0
// Architecture "llama": Llama 1 to 3, Mistral, SmolLM and everything converted with that name: RMS norm, rotary positions on
// adjacent pairs, grouped queries, SwiGLU, no biases; Mistral's sliding window where the file has one; Mixtral's experts.
// Source: Touvron et al. 2023; Jiang et al. 2023, 2024.
#include "runtime/model/arch.h"

static const char *const known_keys[] = {GRAFT_ARCH_KNOWN_KEYS, GRAFT_ARCH_EXPERT_KEYS, "attention.sliding_window",
                                         GRAFT_ARCH_LINEAR_ROPE_KEYS, GRAFT_ARCH_YARN_KEYS, NULL};

static const struct graft_arch_neutral neutral_keys[] = {GRAFT_ARCH_NEUTRAL_KEYS,
                                                         GRAFT_ARCH_EXPERT_NEUTRAL_KEYS,
                                                         {"logit_scale", 1, "scaled logits"},
                                                         {"embedding_scale", 1, "scaled embeddings"},
                                                         {"residual_scale", 1, "scaled residuals"},
                                                         GRAFT_ARCH_NO_ROPE_FACTOR,
                                                         GRAFT_ARCH_YARN_NEUTRAL_KEYS,
                                                         {NULL, 0, NULL}};

static enum graft_status finish(struct graft_arch_reader *r)
{
    float factors[GRAFT_MAX_ROPE_PAIRS];
    bool found;
    GRAFT_TRY(graft_arch_factors(r, "rope_freqs.weight", factors, &found));
    GRAFT_TRY(graft_arch_scaled_rope(r, found ? factors : NULL));
    return graft_arch_windows(r, 0, 1);
}

static enum graft_status read_llama(struct graft_source *source, const struct graft_gguf *gguf)
{
    static const struct graft_arch_rules rules = {.known = known_keys,
                                                  .neutral = neutral_keys,
                                                  .rope_pairs = GRAFT_ROPE_ADJACENT,
                                                  .parts = GRAFT_ARCH_EXPERTS,
                                                  .finish = finish};
    return graft_arch_read_dense(source, gguf, "llama", &rules);
}

const struct graft_arch graft_arch_llama = {"llama", read_llama};
