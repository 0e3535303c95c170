// SPDX-License-Identifier: Apache-2.0
// Shared by gguf.c (one file) and gguf_split.c (a model in several files).
#ifndef GRAFT_LOADERS_GGUF_PRIVATE_H
#define GRAFT_LOADERS_GGUF_PRIVATE_H

#include <sodium.h>

#include "loaders/gguf.h"

// Open addressing, at most half full; a slot holds the entry's number + 1, or 0.
struct graft_gguf_table {
    uint32_t *slots;
    uint64_t mask;
};

// SipHash with a random key per file: nobody can choose names that collide and make opening slow.
struct graft_gguf_index {
    uint8_t seed[crypto_shorthash_KEYBYTES];
    struct graft_gguf_table keys, tensors;
    uint64_t trailing_bytes;
    uint32_t split_count;        // the key split.count, 0 if absent
    struct graft_gguf_part only; // of a file that is no split model
    bool borrowed;               // the bytes belong to the caller
};

// Parse one file, whatever its split.count. Takes over `map`, also on failure, unless it is borrowed.
GRAFT_MUST_CHECK enum graft_status graft_gguf_open_map(struct graft_ctx *ctx, struct graft_gguf **out, struct graft_map map,
                                                       const char *path, bool allow_unknown_types, bool borrowed);
// An empty table for so many entries.
GRAFT_MUST_CHECK enum graft_status graft_gguf_make_table(struct graft_ctx *ctx, struct graft_gguf_table *table,
                                                         uint64_t entries);
// The slot that holds `name`, or the free one where it belongs.
uint32_t *graft_gguf_slot(const struct graft_gguf *gguf, bool tensor, const char *name, uint64_t length);

#endif
