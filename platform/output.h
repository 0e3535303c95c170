// SPDX-License-Identifier: Apache-2.0
// Files and folders that are written aside in pieces and take their place at once: whoever looks finds the old one or the whole
// new one, whatever happens in between.
//
//     graft_output_open(ctx, &out, "model.gguf");      // writes model.gguf.tmp
//     graft_output_write(out, data, bytes);  ...
//     status = status == GRAFT_OK ? graft_output_commit(&out) : (graft_output_discard(&out), status);
//
// The temporary's name is fixed and it is locked while it is written: what a killed process left behind is taken over (and so
// removed) by the next run, and two processes never write the same file.
#ifndef GRAFT_PLATFORM_OUTPUT_H
#define GRAFT_PLATFORM_OUTPUT_H

#include "platform/ctx.h"

struct graft_output;

// Begin a file at `path` (its folder must be there): PATH.tmp is created or taken over, emptied and locked. Rights are those of
// the umask. Errors: GRAFT_E_IO (also: another process is writing it; `path` is something else than a regular file),
// GRAFT_E_MEMORY, GRAFT_E_BUDGET; *out is NULL then and no temporary is left.
GRAFT_MUST_CHECK enum graft_status graft_output_open(struct graft_ctx *ctx, struct graft_output **out, const char *path);
// Append; small pieces are collected. Errors: GRAFT_E_IO (disk full, with the path). Thread-safety: one thread at a time.
GRAFT_MUST_CHECK enum graft_status graft_output_write(struct graft_output *out, const void *data, uint64_t bytes);
// Append `bytes` zeros.
GRAFT_MUST_CHECK enum graft_status graft_output_zeros(struct graft_output *out, uint64_t bytes);
// Bytes appended so far.
uint64_t graft_output_bytes(const struct graft_output *out);
// Write out, fsync, rename over `path`, fsync the folder; *out becomes NULL in any case. On failure the temporary is removed
// and what was at `path` is still there. Errors: GRAFT_E_IO.
GRAFT_MUST_CHECK enum graft_status graft_output_commit(struct graft_output **out);
// Give up: the temporary is removed, *out becomes NULL. NULL is accepted. Keeps this thread's error detail.
void graft_output_discard(struct graft_output **out);

struct graft_output_folder;

// Begin a folder at `path`: PATH.tmp is made, or taken over and emptied, and locked. `names` (NULL behind the last) are all the
// files that it will hold: a folder that is there already and holds anything else is refused, so nothing else can be lost.
// Errors: GRAFT_E_IO, GRAFT_E_ARGUMENT (other files at `path`: the first is named), GRAFT_E_MEMORY, GRAFT_E_BUDGET; *out is
// NULL then and no temporary is left. `names` is borrowed until the end.
GRAFT_MUST_CHECK enum graft_status graft_output_folder_open(struct graft_ctx *ctx, struct graft_output_folder **out,
                                                            const char *path, const char *const *names);
// Begin one of its files, to be ended as every other output.
GRAFT_MUST_CHECK enum graft_status graft_output_folder_file(struct graft_output_folder *folder, struct graft_output **out,
                                                            const char *name);
// Put the folder in its place: renamed if there was none, exchanged with the old one in one step otherwise (the old one is then
// removed). *out becomes NULL in any case; on failure what was at `path` is still there. Errors: GRAFT_E_IO (also a file system
// that cannot exchange folders).
GRAFT_MUST_CHECK enum graft_status graft_output_folder_commit(struct graft_output_folder **out);
// Give up: the temporary is removed, *out becomes NULL. NULL is accepted. Keeps this thread's error detail.
void graft_output_folder_discard(struct graft_output_folder **out);

#endif
