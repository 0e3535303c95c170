// SPDX-License-Identifier: Apache-2.0
// Other processes of this machine, as far as this user may see them. processes_posix.c and processes_windows.c.
#ifndef GRAFT_TOOLS_PROCESSES_H
#define GRAFT_TOOLS_PROCESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Arguments stand one behind the other, each with a NUL behind it; the first is the program. UTF-8.
// length 0: they are not to be seen.
typedef void process_fn(void *user, int64_t pid, const char *arguments, size_t length);
// Call `each` with the processes of a program ("graft": the name of its file, without ".exe").
void process_each(const char *program, process_fn *each, void *user);
// The folder that a process is in. False: it is not to be seen.
bool process_folder(int64_t pid, char *out, size_t room);

enum { PROCESS_ADDRESS = 264 };
// "127.0.0.1:8080", "[::1]:8080", "unix:/PATH"; at most PROCESS_ADDRESS bytes.
typedef void process_address_fn(void *user, const char *address);
// Call `add` with what a process listens on; where that is all addresses, with the loopback.
void process_listens(int64_t pid, process_address_fn *add, void *user);

#endif
