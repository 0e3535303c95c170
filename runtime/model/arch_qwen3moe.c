// SPDX-License-Identifier: Apache-2.0
// Architecture "qwen3moe": as qwen3 (a norm on each head of q and k before rope, a head size free of n_embd / n_head, rotary
// pairs of halves), with a mixture of experts in every layer. Source: Yang et al. 2025 (Qwen3).
#include "runtime/model/arch.h"
#include "shaders/params.h"

static const char *const known_keys[] = {GRAFT_ARCH_KNOWN_KEYS, GRAFT_ARCH_LINEAR_ROPE_KEYS, GRAFT_ARCH_YARN_KEYS,
                                         GRAFT_ARCH_EXPERT_KEYS, NULL};

static const struct graft_arch_neutral neutral_keys[] = {
    GRAFT_ARCH_EXPERT_NEUTRAL_KEYS, GRAFT_ARCH_NEUTRAL_KEYS, GRAFT_ARCH_NO_WINDOW, GRAFT_ARCH_NO_ROPE_FACTOR,
    GRAFT_ARCH_YARN_NEUTRAL_KEYS, {NULL, 0, NULL}};

static enum graft_status finish(struct graft_arch_reader *r)
{
    if (r->source->config.n_expert == 0) {
        return graft_fail(GRAFT_E_FORMAT, "%s: qwen3moe.expert_count is 0, allowed are 1 to %u", r->gguf->path,
                          GRAFT_MAX_EXPERTS);
    }
    return graft_arch_plain_rope(r);
}

static enum graft_status read_qwen3moe(struct graft_source *source, const struct graft_gguf *gguf)
{
    static const struct graft_arch_rules rules = {.known = known_keys,
                                                  .neutral = neutral_keys,
                                                  .rope_pairs = GRAFT_ROPE_HALVES,
                                                  .parts = GRAFT_ARCH_HEAD_NORMS | GRAFT_ARCH_EXPERTS,
                                                  .finish = finish};
    return graft_arch_read_dense(source, gguf, "qwen3moe", &rules);
}

const struct graft_arch graft_arch_qwen3moe = {"qwen3moe", read_qwen3moe};
