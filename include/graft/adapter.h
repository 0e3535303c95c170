// SPDX-License-Identifier: Apache-2.0
// graft/adapter.h: small LoRA adapters over one base model: loaded into a pool of fixed size, chosen per sequence, blended,
// and mixed in one
// batch.
//
//     params.adapter_pool_bytes = 64 << 20;  params.adapter_slots = 8;          // when the model is opened
//     graft_adapter_load(model, &legal, "adapters/legal");
//     graft_seq_set_adapters(seq, &(struct graft_adapter_use){legal, 1.0f}, 1);  // from the sequence's first token on
//
// Activation is a table write between two steps: nothing is recorded, allocated or uploaded again.
#ifndef GRAFT_ADAPTER_H
#define GRAFT_ADAPTER_H

#include "graft/chat.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { GRAFT_MAX_BLEND = 4 }; // adapters of one sequence

struct graft_adapter;

// Read an adapter (a PEFT folder, its .safetensors file, or a GGUF adapter) once, hash it, check it against the model, pack
// it into the pool.
// The same bytes loaded twice are one adapter. If the pool is full, adapters that no sequence uses and no handle holds are
// dropped, least
// recently used first. On failure *out is NULL and everything else stays as it was. Errors: those of reading (GRAFT_E_IO,
// GRAFT_E_FORMAT,
// GRAFT_E_UNSUPPORTED, GRAFT_E_LIMIT), GRAFT_E_FORMAT (does not fit the model: tensor and both shapes), GRAFT_E_BUDGET (pool
// or slots full:
// bytes needed and free), GRAFT_E_ARGUMENT (the model was opened without a pool). Thread-safety: one thread at a time per
// device.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_adapter_load(struct graft_model *model, struct graft_adapter **out,
                                                                const char *path);
// Give the handle back; *adapter becomes NULL. Sequences that use it finish with it; after that it stays resident until its
// room is needed.
GRAFT_API void graft_adapter_release(struct graft_adapter **adapter);

struct graft_adapter_info {
    char digest[65];     // SHA-256 of file and configuration, hexadecimal: the adapter's identity
    char base_name[256]; // what it says it was made for
    uint32_t rank;       // largest
    uint32_t n_targets;  // matrices it changes
    uint64_t n_parameters;
    uint64_t bytes;      // in the pool
};
GRAFT_API void graft_adapter_describe(const struct graft_adapter *adapter, struct graft_adapter_info *out);

struct graft_adapter_use {
    struct graft_adapter *adapter;
    float weight; // 1 = as trained
};
// Choose what a sequence runs with: n = 0 is the base model, several are added up with their weights. The sequence must be
// empty (its keys and
// values would be another adapter's): truncate it first. Rows of different sequences may use different adapters in one batch,
// and a row's
// bits do not depend on the others. Errors: GRAFT_E_ARGUMENT (more than GRAFT_MAX_BLEND, not empty, another model's adapter,
// weight not
// finite).
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_seq_set_adapters(struct graft_seq *seq, const struct graft_adapter_use *uses,
                                                                    uint32_t n);

// The same for a conversation, from its next answer on: what was said stays, its keys and values are computed anew with the
// new choice.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_chat_set_adapters(struct graft_chat *chat,
                                                                     const struct graft_adapter_use *uses, uint32_t n);

#ifdef __cplusplus
}
#endif
#endif
