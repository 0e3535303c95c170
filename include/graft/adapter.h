// SPDX-License-Identifier: Apache-2.0
// graft/adapter.h: small LoRA adapters over one base model: loaded into a pool of fixed size, chosen per sequence, blended, and
// mixed in one batch.
//
//     params.adapter_pool_bytes = 64 << 20;  params.adapter_slots = 8;          // when the model is opened
//     graft_adapter_load(model, &legal, "adapters/legal");
//     graft_seq_set_adapters(seq, &(struct graft_adapter_use){.adapter = legal, .weight = 1}, 1);
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

// Read an adapter (a PEFT folder, its .safetensors file, or a GGUF adapter) once, hash it, check it against the model, pack it
// into the pool. The same bytes loaded twice are one adapter; a file that changed is another one, and who uses the old one
// goes on with it. An adapter whose bytes are free in the pool, or held by adapters that nothing uses, always fits: the least
// recently used of those are dropped, and the others are moved together if need be. A handle and a sequence hold what they
// use: keep the handle to pin an adapter, release it to let it go when its room is needed; load and release for a warm start.
// On failure *out is NULL and everything else stays as it was. Errors: those of reading (GRAFT_E_IO, GRAFT_E_FORMAT,
// GRAFT_E_UNSUPPORTED, GRAFT_E_LIMIT, GRAFT_E_SIGNATURE), GRAFT_E_FORMAT (does not fit the model: tensor and both shapes),
// GRAFT_E_BUDGET (pool or slots full: bytes needed and held), GRAFT_E_ARGUMENT (the model was opened without a pool).
// Thread-safety: one thread at a time per device.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_adapter_load(struct graft_model *model, struct graft_adapter **out,
                                                                const char *path);
// The same beside generation: a thread of its own, which gives way to others, reads, checks and packs; then graft_decode and
// graft_adapter_load_ready, on the caller's thread, write the bytes into the pool piece by piece between two batches, in at
// most a thirty-second of the time that a batch takes (one piece of 1 MiB or one adapter to be moved at least). Begin early to
// prefetch. Several may be under way; they are finished one after the other. End or cancel each before the model is closed.
// On failure of the begin *out is NULL; errors: GRAFT_E_ARGUMENT, GRAFT_E_MEMORY, GRAFT_E_BUDGET, GRAFT_E_INTERNAL (no
// thread), GRAFT_E_DEVICE_LOST. Those of reading come with the end.
struct graft_adapter_load;
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_adapter_load_begin(struct graft_model *model,
                                                                      struct graft_adapter_load **out, const char *path);
// True when the end would not wait: the adapter is there, or could not be loaded. Does a piece of the work.
GRAFT_API bool graft_adapter_load_ready(struct graft_adapter_load *load);
// Wait for it, and get what graft_adapter_load returns. *load becomes NULL, in any case.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_adapter_load_end(struct graft_adapter_load **load,
                                                                    struct graft_adapter **out);
// Give it up: waits for its thread at most. *load becomes NULL. NULL is accepted.
GRAFT_API void graft_adapter_load_cancel(struct graft_adapter_load **load);
// Give the handle back; *adapter becomes NULL. Sequences that use it finish with it; after that it stays resident until its
// room is needed.
GRAFT_API void graft_adapter_release(struct graft_adapter **adapter);

enum { GRAFT_MAX_INVOCATION = 64 }; // tokens

struct graft_adapter_info {
    char digest[65];     // SHA-256 of file and configuration, hexadecimal: the adapter's identity
    char base_name[256]; // what it says it was made for
    char signer[17];     // id of the key it is signed with; "" where graft_require_signed was not called
    uint32_t rank;       // largest
    uint32_t n_targets;  // matrices and vectors it changes
    uint64_t n_parameters;
    uint64_t bytes;      // in the pool
    uint32_t references; // handles and sequences that hold it
    uint64_t loads;      // times its bytes were put into this pool
    uint64_t hits;       // times it was chosen, or asked for while it was there; both as long as the pool remembers it
    bool gone;           // after graft_model_rebuild: its file was not what it was; it can only be released
    uint64_t idle_ns;    // since it was last chosen or given back
    uint32_t n_invocation; // aLoRA: it is active from the first of these tokens on; 0: from the start
    int32_t invocation[GRAFT_MAX_INVOCATION];
};
GRAFT_API void graft_adapter_describe(const struct graft_adapter *adapter, struct graft_adapter_info *out);
// All adapters in the model's pool: *count gets their number, at most `capacity` are written (infos may be NULL with capacity
// 0).
GRAFT_API void graft_adapter_list(struct graft_model *model, struct graft_adapter_info *infos, uint32_t capacity,
                                  uint32_t *count);
// Drop the adapters that nothing holds and that were not used for idle_ns; how many. Call it now and then: the library has no
// clock of its own that runs.
GRAFT_API uint32_t graft_adapter_expire(struct graft_model *model, uint64_t idle_ns);

struct graft_adapter_use {
    struct graft_adapter *adapter;
    float weight;  // 1 = as trained
    uint32_t from; // rows at this position and behind it run with the adapter, those before with the base; 0 = all
};
// Choose what a sequence runs with: n = 0 is the base model, several are added up with their weights. The choice may not touch
// what is computed already: the same choice again is allowed at any length, another one only where each use that differs begins
// (`from`) at the sequence's length or behind it; truncate first otherwise. Rows of different sequences may use different
// adapters in one batch, and a row's bits do not depend on the others. Errors: GRAFT_E_ARGUMENT (more than GRAFT_MAX_BLEND,
// rows that would change, another model's adapter, weight not finite).
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_seq_set_adapters(struct graft_seq *seq, const struct graft_adapter_use *uses,
                                                                    uint32_t n);

// Where aLoRA begins: the position of the first token of the last occurrence of the adapter's invocation in ids; `count` if it
// does not occur, 0 for an adapter without an invocation. Source: PEFT, calculate_alora_offsets.
GRAFT_API uint32_t graft_adapter_invoked(const struct graft_adapter *adapter, const int32_t *ids, uint32_t count);

// The same for a conversation, from its next answer on. What was said stays; keys and values that another choice computed are
// computed anew (graft_chat_stats.recomputed_tokens), those that the choice does not change are kept. `from` is not used: an
// aLoRA begins where the prompt invokes it last, and does nothing in a prompt that does not (a line in the log).
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_chat_set_adapters(struct graft_chat *chat,
                                                                     const struct graft_adapter_use *uses, uint32_t n);

#ifdef __cplusplus
}
#endif
#endif
