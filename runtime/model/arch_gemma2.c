// SPDX-License-Identifier: Apache-2.0
// Architecture "gemma2": embeddings scaled by sqrt(n_embd), norms behind attention and feed-forward as well, GELU, capped
// scores and logits, and every other layer, the first included, with a sliding window. Norm weights in the file include the 1
// that the model adds. Source: Riviere et al. 2024 (Gemma 2).
#include "runtime/model/arch.h"

enum { DEFAULT_WINDOW = 4096, LAYERS_OF_27B = 46 };

static const char *const known_keys[] = {GRAFT_ARCH_KNOWN_KEYS,
                                         "attention.sliding_window",
                                         "attention.scale",
                                         "attn_logit_softcapping",
                                         "final_logit_softcapping",
                                         GRAFT_ARCH_LINEAR_ROPE_KEYS,
                                         NULL};

static const struct graft_arch_neutral neutral_keys[] = {
    GRAFT_ARCH_NEUTRAL_KEYS, GRAFT_ARCH_DENSE_NEUTRAL_KEYS, GRAFT_ARCH_NO_ROPE_FACTOR, {NULL, 0, NULL}};

static enum graft_status finish(struct graft_arch_reader *r)
{
    struct graft_config *c = &r->source->config;
    GRAFT_TRY(graft_arch_plain_rope(r));
    GRAFT_TRY(graft_arch_gemma_scales(r, LAYERS_OF_27B));
    GRAFT_TRY(graft_arch_cap(r, "attn_logit_softcapping", &c->attention_cap));
    GRAFT_TRY(graft_arch_cap(r, "final_logit_softcapping", &c->logit_cap));
    return graft_arch_windows(r, DEFAULT_WINDOW, 2);
}

static enum graft_status read_gemma2(struct graft_source *source, const struct graft_gguf *gguf)
{
    static const struct graft_arch_rules rules = {.known = known_keys,
                                                  .neutral = neutral_keys,
                                                  .rope_pairs = GRAFT_ROPE_HALVES,
                                                  .parts = GRAFT_ARCH_POST_NORMS,
                                                  .finish = finish};
    return graft_arch_read_dense(source, gguf, "gemma2", &rules);
}

const struct graft_arch graft_arch_gemma2 = {"gemma2", read_gemma2};
