// SPDX-License-Identifier: Apache-2.0
// Architecture "phi3": Phi 3, 3.5 and 4 mini: as llama, but with q, k and v in one tensor, gate and up in another; rotary pairs
// of halves of a part of the head; long rope: two sets of factors, one for contexts up to the original length and one for
// longer ones, and a factor on cos and sin for both. The choice follows the context that the model is opened with, so that keys
// in the cache stay what they are. Source: Abdin et al. 2024 (Phi 3), Ding et al. 2024 (LongRoPE).
#include "runtime/model/arch.h"

static const char *const known_keys[] = {GRAFT_ARCH_KNOWN_KEYS,      "attention.sliding_window",
                                         "rope.scaling.attn_factor", "rope.scaling.original_context_length",
                                         "rope.scaling.finetuned",   NULL};

static const struct graft_arch_neutral neutral_keys[] = {
    GRAFT_ARCH_NEUTRAL_KEYS, GRAFT_ARCH_DENSE_NEUTRAL_KEYS, {NULL, 0, NULL}};

static enum graft_status finish(struct graft_arch_reader *r)
{
    struct graft_config *c = &r->source->config;
    float base, long_factors[GRAFT_MAX_ROPE_PAIRS], short_factors[GRAFT_MAX_ROPE_PAIRS];
    bool has_long, has_short;
    uint32_t original;
    GRAFT_TRY(graft_arch_positive(r, "rope.freq_base", false, 10000.0f, &base));
    GRAFT_TRY(graft_arch_factors(r, "rope_factors_long.weight", long_factors, &has_long));
    GRAFT_TRY(graft_arch_factors(r, "rope_factors_short.weight", short_factors, &has_short));
    GRAFT_TRY(graft_arch_positive(r, "rope.scaling.attn_factor", false, 1.0f, &c->rope_magnitude));
    GRAFT_TRY(graft_arch_u32_or(r, "rope.scaling.original_context_length", c->n_ctx_train, 1, UINT32_MAX, &original));
    if (has_long != has_short) {
        return graft_fail(GRAFT_E_FORMAT, "%s: has tensor %s, but not %s", r->gguf->path,
                          has_long ? "rope_factors_long.weight" : "rope_factors_short.weight",
                          has_long ? "rope_factors_short.weight" : "rope_factors_long.weight");
    }
    graft_rope_frequencies(c, base, 1.0f, has_short ? short_factors : NULL, c->rope_inv_freq);
    if (has_long) {
        graft_rope_frequencies(c, base, 1.0f, long_factors, c->rope_inv_freq_long);
        c->n_ctx_short = original;
    }
    return graft_arch_windows(r, 0, 1);
}

static enum graft_status read_phi3(struct graft_source *source, const struct graft_gguf *gguf)
{
    static const struct graft_arch_rules rules = {.known = known_keys,
                                                  .neutral = neutral_keys,
                                                  .rope_pairs = GRAFT_ROPE_HALVES,
                                                  .parts = GRAFT_ARCH_FUSED,
                                                  .finish = finish};
    return graft_arch_read_dense(source, gguf, "phi3", &rules);
}

const struct graft_arch graft_arch_phi3 = {"phi3", read_phi3};
