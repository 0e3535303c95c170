// SPDX-License-Identifier: Apache-2.0
// What architectures with a mixture of experts have in common. Key names: PyPI's gguf, constants.py.
#include "platform/bytes.h"
#include "runtime/model/arch.h"
#include "shaders/params.h"

enum { MAX_FF = 1 << 19, SOFTMAX = 1 };

enum graft_status graft_arch_expert_keys(struct graft_arch_reader *r)
{
    struct graft_config *c = &r->source->config;
    const char *path = r->gguf->path;
    uint32_t gating;
    char key[GRAFT_ARCH_KEY_BYTES];
    GRAFT_TRY(graft_arch_u32_or(r, "expert_count", 0, 0, GRAFT_MAX_EXPERTS, &c->n_expert));
    if (c->n_expert == 0) {
        GRAFT_TRY(graft_arch_u32_or(r, "expert_used_count", 0, 0, 0, &c->n_expert_used));
        return GRAFT_OK;
    }
    uint32_t most = c->n_expert < GRAFT_MAX_EXPERTS_USED ? c->n_expert : GRAFT_MAX_EXPERTS_USED;
    GRAFT_TRY(graft_arch_u32(r, "expert_used_count", 1, most, &c->n_expert_used));
    GRAFT_TRY(graft_arch_u32_or(r, "expert_feed_forward_length", c->n_ff, 1, MAX_FF, &c->n_ff_expert));
    if (c->n_ff_expert % 32 != 0) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s: an expert has %u values, allowed are multiples of 32", path,
                          c->n_ff_expert);
    }
    GRAFT_TRY(graft_arch_u32_or(r, "expert_gating_func", SOFTMAX, 0, UINT32_MAX, &gating));
    if (gating != SOFTMAX) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "%s: %s.expert_gating_func is %u, supported is %d (softmax)", path, r->prefix,
                          gating, SOFTMAX);
    }
    graft_arch_key(r, "expert_weights_norm", key);
    return graft_gguf_bool_or(r->gguf, key, true, &c->expert_norm);
}
