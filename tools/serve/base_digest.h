// SPDX-License-Identifier: Apache-2.0
// SHA-256 of the model file, as sha256sum prints it, found by a thread that gives way to all others while the server answers:
// what /v1/models says a department runs on. Of a split model it is that of all parts, one after the other.
#ifndef GRAFT_TOOLS_SERVE_BASE_DIGEST_H
#define GRAFT_TOOLS_SERVE_BASE_DIGEST_H

#include <stdatomic.h>

#include "platform/plat.h"

struct base_digest {
    const char *path;
    struct graft_thread *thread;
    atomic_bool ending, known;
    char text[65];
};

// Begin; `path` must stay until the end, "" is no file (a synthetic model). A digest that cannot be found stays unknown. One
// thread calls start and end; the text may be asked for by any.
void base_digest_start(struct base_digest *digest, struct graft_ctx *ctx, const char *path);
// Stop it, whether it is known or not. Once more, or without a start, it does nothing.
void base_digest_end(struct base_digest *digest);
// NULL until it is known.
const char *base_digest_text(const struct base_digest *digest);

#endif
