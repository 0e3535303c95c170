// SPDX-License-Identifier: Apache-2.0
// From an adapter's file to the bytes that the kernels read: does it fit the base, how large is it, and the packing itself.
//
// Packed bytes: 16 that are not used (offset 0 means absent); of a mixture, for each layer and target that experts have, an
// entry per expert of the base (shaders/params.h); then for each pair A as f16 [rank padded to a multiple of 8][n_in] (of the
// embedding transposed), B as f16 [n_out][rank padded] with the scale (and DoRA's multiplier) folded in, DoRA's multipliers
// less 1 and the scaled bias as f32; then what replaces tensors of the base, as differences to it. Padding is zero. Everything
// begins at a multiple of 16 bytes.
#ifndef GRAFT_RUNTIME_ADAPTER_FIT_H
#define GRAFT_RUNTIME_ADAPTER_FIT_H

#include "loaders/adapter_write.h"
#include "runtime/model/config.h"

// How many targets a fused one stands for, and the first of them, the others follow.
static inline uint32_t graft_adapter_fused(enum graft_target target)
{
    return target == GRAFT_TARGET_QKV ? 3 : target == GRAFT_TARGET_GATE_UP ? 2 : 0;
}
static inline enum graft_target graft_adapter_fused_first(enum graft_target target)
{
    return target == GRAFT_TARGET_QKV ? GRAFT_TARGET_Q : GRAFT_TARGET_GATE;
}

// The base's tensor that a target changes, of a fused one the first of its parts. target < GRAFT_ALL_TARGETS, layer < n_layer.
const struct graft_weight *graft_adapter_base_weight(const struct graft_source *source, enum graft_target target,
                                                     uint32_t layer);
// The matrix that a pair changes, of an expert its own: offset, data and label are those of the whole tensor's part.
struct graft_weight graft_adapter_pair_weight(const struct graft_source *source, const struct graft_adapter_pair *pair);

// What the writers of adapter files must know of a base that graft_adapter_fit has accepted an adapter for.
void graft_adapter_base_of(const struct graft_source *source, struct graft_adapter_base *out);

// GRAFT_OK if every pair names a layer of the base and has its shape, and everything in the adapter is computed by this
// version. Names that mean another tensor in some architectures (norms, fused projections) become what they are in this one.
// Errors: GRAFT_E_FORMAT (both shapes), GRAFT_E_UNSUPPORTED, GRAFT_E_LIMIT. Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status graft_adapter_fit(struct graft_adapter_desc *desc, const struct graft_source *source);

// Pairs of fused targets -> pairs of their parts: one A, rows of one B. For an adapter that graft_adapter_fit accepted; those
// with a part twice are GRAFT_E_FORMAT. Errors: GRAFT_E_MEMORY, GRAFT_E_BUDGET; desc is unchanged then.
GRAFT_MUST_CHECK enum graft_status graft_adapter_split(struct graft_adapter_desc *desc, const struct graft_source *source);

// Bytes that graft_adapter_pack writes: a multiple of 16.
uint64_t graft_adapter_packed_bytes(const struct graft_adapter_desc *desc);

// Write the packed bytes to out[graft_adapter_packed_bytes()] and the table rows to entries[n_layer][GRAFT_LORA_TARGETS]
// [GRAFT_LORA_ENTRY] (shaders/params.h): a and b count 16-byte units from `out`'s start; targets without a pair are all zero.
// Only for an adapter that graft_adapter_fit accepted and that graft_adapter_split cut. Takes scratch for DoRA and replaced
// tensors (class HOST). Rows of q's and k's B go to the places that convert_hf_to_gguf gives the base's rows. Errors:
// GRAFT_E_MEMORY, GRAFT_E_BUDGET,
// GRAFT_E_FORMAT (DoRA without a norm), GRAFT_E_UNSUPPORTED (a value beyond f16's range, with tensor and index); out and
// entries are then unusable. Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status graft_adapter_pack(const struct graft_adapter_desc *desc, const struct graft_source *source,
                                                      uint8_t *out, uint32_t *entries);

#endif
