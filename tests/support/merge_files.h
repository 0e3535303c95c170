// SPDX-License-Identifier: Apache-2.0
// A folder for merges, and looking at what they wrote.
#ifndef GRAFT_TESTS_MERGE_FILES_H
#define GRAFT_TESTS_MERGE_FILES_H

#include "graft/merge.h"
#include "loaders/gguf.h"

enum { GRAFT_MERGE_PATH_BYTES = 512 };

// A new folder below /tmp; everything in it is removed at the end.
void graft_merge_folder_begin(char folder[GRAFT_MERGE_PATH_BYTES]);
void graft_merge_folder_end(const char *folder);
// The same with the end of a context, from which nothing may be held any more.
void graft_merge_end(struct graft_ctx **ctx, const char *folder);
// "FOLDER/NAME" in one of a few buffers that are used in turn.
const char *graft_merge_at(const char *folder, const char *name);
// Entries of a folder without . and ..; `but` (may be NULL) is not counted.
uint32_t graft_merge_entries(const char *folder, const char *but);
// True if both files have the same bytes.
bool graft_merge_same_bytes(const char *a, const char *b);
// Merge one adapter with weight 1.
enum graft_status graft_merge_one(struct graft_ctx *ctx, const char *base, const char *adapter, const char *type,
                                  const char *out, struct graft_merge_report **report);
// A tensor's values; freed by the caller.
float *graft_merge_values(const struct graft_gguf *gguf, const struct graft_gguf_tensor *tensor);

#endif
