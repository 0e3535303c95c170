// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/http_local.h"

enum graft_status http_local_bind(const char *text, bool operator_side, int *fd)
{
    (void)operator_side;
    *fd = -1;
    return graft_fail(GRAFT_E_ARGUMENT,
                      "the address \"%.200s\": graft has no Unix sockets on Windows; 127.0.0.1:PORT, for "
                      "operators with --keys FILE",
                      text);
}

void http_local_remove(const char *path)
{
    (void)path;
}

bool http_local_peer(int fd, unsigned *uid)
{
    (void)fd;
    *uid = 0;
    return false;
}

bool http_peer_is_us(int fd)
{
    (void)fd;
    return false;
}
