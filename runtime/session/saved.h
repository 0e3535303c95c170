// SPDX-License-Identifier: Apache-2.0
// Saved sequences: tokens, keys and values, and what they were computed with, in one file (docs/memory.md has the layout).
#ifndef GRAFT_RUNTIME_SESSION_SAVED_H
#define GRAFT_RUNTIME_SESSION_SAVED_H

#include "runtime/session/session.h"

// A file that was checked whole: its digest, its sizes, and that it fits the model.
struct graft_saved {
    struct graft_model *model;
    struct graft_map map;
    uint32_t n_cached, n_ids, n_uses;
    uint32_t ring_begin;  // first page that it has in layers with a ring; the file has zeros for those before it
    const uint8_t *ids;   // [n_ids] i32
    const uint8_t *uses;  // [n_uses] digest, weight, from
    const uint8_t *pages; // [layer][page] keys, values
    const char *extra;    // what the caller of saving had to say, not NUL-terminated
    uint64_t extra_bytes;
};

// Map and check. Errors as graft_seq_restore. On failure *out holds nothing.
GRAFT_MUST_CHECK enum graft_status graft_saved_open(struct graft_model *model, struct graft_saved *out, const char *path);
void graft_saved_close(struct graft_saved *saved);
// That the sequence has the adapters, with the weights, that the file was computed with.
GRAFT_MUST_CHECK enum graft_status graft_saved_check_uses(const struct graft_saved *saved, const struct graft_seq *seq,
                                                          const char *path);
// The sequence gives its pages up and gets those of the file. GRAFT_E_CONTEXT_FULL: others have too many; it is empty then.
GRAFT_MUST_CHECK enum graft_status graft_saved_apply(const struct graft_saved *saved, struct graft_seq *seq);
int32_t graft_saved_id(const struct graft_saved *saved, uint32_t i);

#endif
