// SPDX-License-Identifier: Apache-2.0
// Files and folders that are written aside in pieces and take their place at once: whoever looks finds the old one or the whole
// new one, whatever happens in between.
//
//     graft_aside_open(ctx, &out, "model.gguf");      // writes model.gguf.tmp
//     graft_aside_write(out, data, bytes);  ...
//     status = status == GRAFT_OK ? graft_aside_commit(&out) : (graft_aside_discard(&out), status);
//
// The temporary's name is fixed and it is locked while it is written: what a killed process left behind is taken over (and so
// removed) by the next run, and two processes never write the same file.
#ifndef GRAFT_PLATFORM_ASIDE_H
#define GRAFT_PLATFORM_ASIDE_H

#include "platform/ctx.h"

struct graft_aside;

// Begin a file at `path` (its folder must be there): PATH.tmp is created or taken over, emptied and locked. Rights are those of
// the umask. Errors: GRAFT_E_IO (also: another process is writing it; `path` is something else than a regular file),
// GRAFT_E_MEMORY, GRAFT_E_BUDGET; *out is NULL then and no temporary is left.
GRAFT_MUST_CHECK enum graft_status graft_aside_open(struct graft_ctx *ctx, struct graft_aside **out, const char *path);
// Append; small pieces are collected. Errors: GRAFT_E_IO (disk full, with the path). Thread-safety: one thread at a time.
GRAFT_MUST_CHECK enum graft_status graft_aside_write(struct graft_aside *out, const void *data, uint64_t bytes);
// Append `bytes` zeros.
GRAFT_MUST_CHECK enum graft_status graft_aside_zeros(struct graft_aside *out, uint64_t bytes);
// Bytes appended so far.
uint64_t graft_aside_bytes(const struct graft_aside *out);
// Write out, fsync, rename over `path`, fsync the folder; *out becomes NULL in any case. On failure the temporary is removed
// and what was at `path` is still there. Errors: GRAFT_E_IO.
GRAFT_MUST_CHECK enum graft_status graft_aside_commit(struct graft_aside **out);
// Give up: the temporary is removed, *out becomes NULL. NULL is accepted. Keeps this thread's error detail.
void graft_aside_discard(struct graft_aside **out);

struct graft_aside_folder;

// Begin a folder at `path`: PATH.tmp is made, or taken over and emptied, and locked. `names` (NULL behind the last) are all the
// files that it will hold: a folder that is there already and holds anything else is refused, so nothing else can be lost.
// Errors: GRAFT_E_IO, GRAFT_E_ARGUMENT (other files at `path`: the first is named), GRAFT_E_MEMORY, GRAFT_E_BUDGET; *out is
// NULL then and no temporary is left. `names` is borrowed until the end.
GRAFT_MUST_CHECK enum graft_status graft_aside_folder_open(struct graft_ctx *ctx, struct graft_aside_folder **out,
                                                            const char *path, const char *const *names);
// Begin one of its files, to be ended as every other output.
GRAFT_MUST_CHECK enum graft_status graft_aside_folder_file(struct graft_aside_folder *folder, struct graft_aside **out,
                                                            const char *name);
// Put the folder in its place: renamed if there was none, exchanged with the old one in one step otherwise (the old one is then
// removed). *out becomes NULL in any case; on failure what was at `path` is still there. Errors: GRAFT_E_IO (also a file system
// that cannot exchange folders).
GRAFT_MUST_CHECK enum graft_status graft_aside_folder_commit(struct graft_aside_folder **out);
// Give up: the temporary is removed, *out becomes NULL. NULL is accepted. Keeps this thread's error detail.
void graft_aside_folder_discard(struct graft_aside_folder **out);

#endif
