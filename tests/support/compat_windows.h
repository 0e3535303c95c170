// SPDX-License-Identifier: Apache-2.0
// Included before everything in tests for Windows: what mingw-w64 lacks of POSIX and tests use to make their files.
#ifndef GRAFT_TESTS_COMPAT_WINDOWS_H
#define GRAFT_TESTS_COMPAT_WINDOWS_H

#include <direct.h>
#include <stddef.h>
#include <stdio.h>

// A new folder whose name ends in what takes the place of XXXXXX; NULL on failure.
char *mkdtemp(char *name);
#define mkdir(path, mode) _mkdir(path)
// The first place of `small` in `large`, or NULL.
void *memmem(const void *large, size_t length, const void *small_one, size_t small_length);

#endif
