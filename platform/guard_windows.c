// SPDX-License-Identifier: Apache-2.0
// guard.h on Windows: the system lets nobody cut a mapped file short, so nothing is watched.
#include "platform/guard.h"

#include "platform/plat.h"

struct graft_guarded *graft_guard_add(const void *data, uint64_t bytes)
{
    (void)data;
    (void)bytes;
    return NULL;
}

void graft_guard_remove(struct graft_guarded *guarded)
{
    (void)guarded;
}

bool graft_guard_struck(const struct graft_guarded *guarded)
{
    (void)guarded;
    return false;
}

enum graft_status graft_guard_mapped_files(void)
{
    return GRAFT_OK;
}
