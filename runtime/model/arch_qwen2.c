// SPDX-License-Identifier: Apache-2.0
// Architecture "qwen2": Qwen 1.5, 2 and 2.5: as llama, but with biases on q, k and v, and rotary pairs of halves. Source: Yang
// et al. 2024 (Qwen2).
#include "runtime/model/arch.h"

static const char *const known_keys[] = {GRAFT_ARCH_KNOWN_KEYS, GRAFT_ARCH_LINEAR_ROPE_KEYS, GRAFT_ARCH_YARN_KEYS, NULL};

static const struct graft_arch_neutral neutral_keys[] = {
    GRAFT_ARCH_NEUTRAL_KEYS, GRAFT_ARCH_DENSE_NEUTRAL_KEYS, GRAFT_ARCH_NO_WINDOW, GRAFT_ARCH_NO_ROPE_FACTOR,
    GRAFT_ARCH_YARN_NEUTRAL_KEYS, {NULL, 0, NULL}};

static enum graft_status read_qwen2(struct graft_source *source, const struct graft_gguf *gguf)
{
    static const struct graft_arch_rules rules = {.known = known_keys,
                                                  .neutral = neutral_keys,
                                                  .rope_pairs = GRAFT_ROPE_HALVES,
                                                  .parts = GRAFT_ARCH_BIASES,
                                                  .finish = graft_arch_plain_rope};
    return graft_arch_read_dense(source, gguf, "qwen2", &rules);
}

const struct graft_arch graft_arch_qwen2 = {"qwen2", read_qwen2};
