// SPDX-License-Identifier: Apache-2.0
// Where lapack.c finds LAPACKE and OpenBLAS. lapack_library_posix.c, lapack_library_windows.c.
#ifndef GRAFT_RUNTIME_MERGE_LAPACK_LIBRARY_H
#define GRAFT_RUNTIME_MERGE_LAPACK_LIBRARY_H

// What they are called on this system, for an error: "X and Y (where they come from)".
extern const char graft_lapack_libraries[];

// A function of theirs by its name; NULL: it is not on this machine. They are opened at the first call and stay open: what
// OpenBLAS started does not end before the process does. One thread at a time.
void *graft_lapack_find(const char *name);

#endif
