// SPDX-License-Identifier: Apache-2.0
// Unix sockets: their files, and who is at the other end. http_local_posix.c; on Windows (http_local_windows.c) there are none.
#ifndef GRAFT_TOOLS_SERVE_HTTP_LOCAL_H
#define GRAFT_TOOLS_SERVE_HTTP_LOCAL_H

#include "platform/err.h"

// Bind "unix:/PATH". An old socket file of a server that is no more is removed; anything else under that name is left alone.
// The file can be used by the owner alone on the operator's side, else by the group too. Errors: GRAFT_E_ARGUMENT (the form of
// the address; a system without Unix sockets), GRAFT_E_IO.
GRAFT_MUST_CHECK enum graft_status http_local_bind(const char *text, bool operator_side, int *fd);
// Remove its file.
void http_local_remove(const char *path);
// The user whose process is at the other end. False: not known, or no Unix socket.
bool http_local_peer(int fd, unsigned *uid);
// That is this user or root.
bool http_peer_is_us(int fd);

#endif
