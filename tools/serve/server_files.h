// SPDX-License-Identifier: Apache-2.0
// What the server asks of the system about files: where a path leads, who may use a file, logs that are moved while they are
// written. Paths are UTF-8. server_files_posix.c, server_files_windows.c.
#ifndef GRAFT_TOOLS_SERVE_SERVER_FILES_H
#define GRAFT_TOOLS_SERVE_SERVER_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "platform/plat.h"
#include "tools/system.h"

// The one path of a file or folder that has no link, no "." and no ".." in it, with '/' between its parts. False: *why says
// why, until the next call.
bool real_path(const char *path, char out[PATH_BYTES], const char **why);
// The path itself is a link (on Windows also a junction).
bool path_is_link(const char *path);

// Somebody beside its owner and those who administer the machine may write a file.
// POSIX: its mode; Windows: its access list. A file that is not there is nobody's.
bool others_may_write(const char *path);
// Everybody may read it.
bool others_may_read(const char *path);
// How to take that away: "chmod go-w", "chmod go-w,o-r" and what Windows has for it.
extern const char others_write_advice[], others_read_advice[];

// As graft_file_replace; a new file can be used by its owner alone, one that was there keeps its owner and rights. *kept is
// false if that could not be done. Errors: GRAFT_E_IO.
GRAFT_MUST_CHECK enum graft_status replace_private_file(const char *path, const void *data, uint64_t size, bool *kept);

// A file that is written at its end, made if it is not there, and may be renamed by anybody meanwhile; no link is followed.
// *bytes: its size. -1: *why says why.
int log_file_open(const char *path, uint64_t *bytes, const char **why);
// Give a file another name, over one that is there; remove a file. What is not there is no fault.
void file_rename(const char *from, const char *to);
void file_remove(const char *path);

#endif
