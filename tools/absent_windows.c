// SPDX-License-Identifier: Apache-2.0
// The verbs that graft for Windows does not have: the server.
#include "tools/tool.h"

static int absent(const char *verb)
{
    char what[80];
    snprintf(what, sizeof what, "graft %s is not there on Windows", verb);
    error3(what, "the server uses sockets as POSIX systems have them",
           "graft %s on Linux (WSL is one); here: run, bench, eval, merge, adapter, inspect and the rest of graft -h", verb);
    return EXIT_FAILED;
}

#define ABSENT(id, name)                       \
    int verb_##id(const struct options *options) \
    {                                          \
        (void)options;                         \
        return absent(name);                   \
    }
ABSENT(SERVE, "serve")
ABSENT(KEY, "key")
