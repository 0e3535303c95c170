// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/http_local.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/net.h"

static enum graft_status clear_path(const char *text, const struct sockaddr_un *address)
{
    struct stat found;
    if (lstat(address->sun_path, &found) != 0) {
        return GRAFT_OK;
    }
    if (!S_ISSOCK(found.st_mode)) {
        return graft_fail(GRAFT_E_IO, "%s: there is a file of this name that is no socket", text);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool alive =
        fd >= 0 && (connect(fd, (const struct sockaddr *)(const void *)address, sizeof *address) == 0 || errno == EAGAIN);
    net_close(fd);
    if (alive) {
        return graft_fail(GRAFT_E_IO, "%s: another server listens there", text);
    }
    unlink(address->sun_path);
    return GRAFT_OK;
}

enum graft_status http_local_bind(const char *text, bool operator_side, int *fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = text + 5;
    if (path[0] != '/' || strlen(path) >= sizeof address.sun_path) {
        return graft_fail(GRAFT_E_ARGUMENT, "the address \"%.200s\": a Unix socket needs an absolute path of at most %zu bytes",
                          text, sizeof address.sun_path - 1);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    GRAFT_TRY(clear_path(text, &address));
    mode_t mask = umask(operator_side ? 0177 : 0117); // the socket file is never wider than it ends up
    *fd = net_bind((const struct sockaddr *)(const void *)&address, sizeof address);
    int why = errno;
    umask(mask);
    return *fd >= 0 ? GRAFT_OK : graft_fail(GRAFT_E_IO, "%s cannot be listened on: %s", text, strerror(why));
}

void http_local_remove(const char *path)
{
    unlink(path);
}

bool http_local_peer(int fd, unsigned *uid)
{
    struct ucred who;
    socklen_t length = sizeof who;
    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) != 0) {
        return false;
    }
    *uid = who.uid;
    return true;
}

bool http_peer_is_us(int fd)
{
    unsigned uid;
    return http_local_peer(fd, &uid) && (uid == geteuid() || uid == 0);
}
