// SPDX-License-Identifier: Apache-2.0
// What the command asks of the operating system beside platform/plat.h: terminal, Ctrl-C, folders of its own, the machine.
// Paths and names are UTF-8 on every system. system_posix.c and system_windows.c.
#ifndef GRAFT_TOOLS_SYSTEM_H
#define GRAFT_TOOLS_SYSTEM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { PATH_BYTES = 4096 };

// Before anything else: arguments in UTF-8, standard streams that change no byte, a terminal that takes UTF-8; and a limit on
// the size of files is an error like a full disk. False: there is no memory.
bool system_begin(int *argc, char ***argv);

// ---- the terminal ----

bool system_is_terminal(FILE *stream);
// It is a terminal that takes escape sequences.
bool system_takes_escapes(FILE *stream);
// Columns of the terminal at standard output; 0: it is none.
uint32_t system_columns(void);
// Call `handler` on Ctrl-C: in a signal handler, on Windows on a thread of its own. NULL: the system's own way again.
void system_on_interrupt(void (*handler)(void));
// End the program at once, from such a handler.
_Noreturn void system_end_now(int code);

// ---- files ----

// Folders of this program: data holds models, state the history, cache what can be made again. XDG rules; on Windows below
// %LOCALAPPDATA%. "" when there is no home.
enum folder { FOLDER_DATA, FOLDER_STATE, FOLDER_CACHE };
void folder_path(enum folder folder, char out[PATH_BYTES]);
// Call `each` with the name of everything in a folder. Nothing happens if it cannot be read.
void system_list(const char *folder, void (*each)(void *user, const char *name), void *user);
// There is a file or folder of this name.
bool file_exists(const char *path);
// It may be written to, as far as the system says.
bool system_writable(const char *path);
// Open a file for reading. NULL: *why says why not, until the next call.
FILE *system_open(const char *path, const char **why);
// A new file beside `path` for writing and reading that goes away when it is closed or the process ends. NULL: errno.
FILE *system_nameless(const char *path);

// ---- the machine ----

// A seed that nobody can guess; false if the system has none to give.
bool system_random(uint32_t *out);
// Keep the whole process on the first `count` of the processors it may use. False: the system cannot.
bool system_use_processors(int64_t count);
// "Linux 6.1 on x86_64"
void system_name(char *out, size_t bytes);
uint64_t system_memory_bytes(void);
// Let the process have `want` files and sockets open, or as many of them as the system allows.
void system_raise_files(uint64_t want);
// What stands between this user and the GPU, as the system's own files show it: lines for graft doctor, with their level
// ("good", "note", "bad").
void system_look_at_gpu(void (*say)(void *user, const char *level, const char *text), void *user);

#endif
