// SPDX-License-Identifier: Apache-2.0
// Architecture "qwen3": as llama, but with a norm on each head of q and k before rope, a head size free of n_embd / n_head, and
// rotary pairs of halves. Source: Yang et al. 2025 (Qwen3).
#include "runtime/model/arch.h"

static const char *const known_keys[] = {GRAFT_ARCH_KNOWN_KEYS, GRAFT_ARCH_LINEAR_ROPE_KEYS, GRAFT_ARCH_YARN_KEYS, NULL};

static const struct graft_arch_neutral neutral_keys[] = {
    GRAFT_ARCH_NEUTRAL_KEYS, GRAFT_ARCH_DENSE_NEUTRAL_KEYS, GRAFT_ARCH_NO_WINDOW, GRAFT_ARCH_NO_ROPE_FACTOR,
    GRAFT_ARCH_YARN_NEUTRAL_KEYS, {NULL, 0, NULL}};

static enum graft_status read_qwen3(struct graft_source *source, const struct graft_gguf *gguf)
{
    static const struct graft_arch_rules rules = {.known = known_keys,
                                                  .neutral = neutral_keys,
                                                  .rope_pairs = GRAFT_ROPE_HALVES,
                                                  .parts = GRAFT_ARCH_HEAD_NORMS,
                                                  .finish = graft_arch_plain_rope};
    return graft_arch_read_dense(source, gguf, "qwen3", &rules);
}

const struct graft_arch graft_arch_qwen3 = {"qwen3", read_qwen3};
