// SPDX-License-Identifier: Apache-2.0
// Architecture "gemma3", the text part: as gemma2 without caps, but with norms of the heads of q and k; five layers with a
// sliding window and a rope of their own (base 10000, not stretched) to each one that sees everything. Source: Gemma Team 2025.
#include "runtime/model/arch.h"

enum { DEFAULT_WINDOW = 1024, DEFAULT_PATTERN = 6, LAYERS_OF_27B = 62 };

static const char *const known_keys[] = {
    GRAFT_ARCH_KNOWN_KEYS,     "attention.sliding_window", "attention.sliding_window_pattern", "attention.scale",
    "final_logit_softcapping", "rope.freq_base_swa",       GRAFT_ARCH_LINEAR_ROPE_KEYS,        NULL};

static const struct graft_arch_neutral neutral_keys[] = {GRAFT_ARCH_NEUTRAL_KEYS,
                                                         GRAFT_ARCH_DENSE_NEUTRAL_KEYS,
                                                         {"attn_logit_softcapping", 0, "capped scores"},
                                                         GRAFT_ARCH_NO_ROPE_FACTOR,
                                                         {NULL, 0, NULL}};

static enum graft_status finish(struct graft_arch_reader *r)
{
    struct graft_config *c = &r->source->config;
    uint32_t window, pattern;
    float base, linear, local;
    GRAFT_TRY(graft_arch_positive(r, "rope.freq_base", false, 1e6f, &base));
    GRAFT_TRY(graft_arch_positive(r, "rope.freq_base_swa", false, 10000.0f, &local));
    GRAFT_TRY(graft_arch_linear_scaling(r, &linear));
    graft_rope_frequencies(c, base, linear, NULL, c->rope_inv_freq);
    graft_rope_frequencies(c, local, 1.0f, NULL, c->rope_inv_freq_local);
    c->two_ropes = true;
    GRAFT_TRY(graft_arch_gemma_scales(r, LAYERS_OF_27B));
    GRAFT_TRY(graft_arch_cap(r, "final_logit_softcapping", &c->logit_cap));
    GRAFT_TRY(graft_arch_u32_or(r, "attention.sliding_window", DEFAULT_WINDOW, 0, UINT32_MAX, &window));
    GRAFT_TRY(graft_arch_u32_or(r, "attention.sliding_window_pattern", DEFAULT_PATTERN, 1, GRAFT_MAX_LAYERS, &pattern));
    for (uint32_t i = 0; i < c->n_layer; i++) {
        bool all = i % pattern == pattern - 1;
        r->source->layers[i].window = all ? 0 : window;
        r->source->layers[i].rope_local = !all;
    }
    return GRAFT_OK;
}

static enum graft_status read_gemma3(struct graft_source *source, const struct graft_gguf *gguf)
{
    static const struct graft_arch_rules rules = {.known = known_keys,
                                                  .neutral = neutral_keys,
                                                  .rope_pairs = GRAFT_ROPE_HALVES,
                                                  .parts = GRAFT_ARCH_POST_NORMS | GRAFT_ARCH_HEAD_NORMS,
                                                  .finish = finish};
    return graft_arch_read_dense(source, gguf, "gemma3", &rules);
}

const struct graft_arch graft_arch_gemma3 = {"gemma3", read_gemma3};
