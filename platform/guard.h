// SPDX-License-Identifier: Apache-2.0
// Mapped files that vanish under their readers. A page of a mapping that the file does not hold any more (it was cut short) or
// that the disk cannot give makes the system send SIGBUS to the thread that reads it, be it ours or a driver's. With
// graft_guard_mapped_files a handler puts zeros from that page to the end of the mapping and marks it as damaged, so that the
// reader goes on and whoever owns the mapping says what happened (graft_map_damaged).
#ifndef GRAFT_PLATFORM_GUARD_H
#define GRAFT_PLATFORM_GUARD_H

#include "platform/err.h"

struct graft_guarded; // one mapping in the table of those that are watched

// Watch a mapping of `bytes` > 0 bytes from `data` (start of a page), with or without the handler. NULL if the table of 1024 is
// full: that one is not watched. Thread-safety: safe.
struct graft_guarded *graft_guard_add(const void *data, uint64_t bytes);
// Not watched any more; to be called before the mapping goes. NULL is accepted. Thread-safety: safe.
void graft_guard_remove(struct graft_guarded *guarded);
// True once a page of it could not be read. NULL: false. Thread-safety: safe.
bool graft_guard_struck(const struct graft_guarded *guarded);

#endif
