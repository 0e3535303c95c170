// SPDX-License-Identifier: Apache-2.0
// Connections beside those that graft load-test measures, which cost a server something and ask it nothing.
#ifndef GRAFT_TOOLS_LOAD_CROWD_H
#define GRAFT_TOOLS_LOAD_CROWD_H

#include <stdint.h>

#include "tools/client.h"

struct crowd;
struct crowd_counts {
    uint64_t opened, refused, closed; // by the server
    uint32_t open;                    // at the end
};

// Open them all, then keep them open from a thread of its own: `idle` say nothing, `trickling` send a byte of a head every 250
// ms.
struct crowd *crowd_begin(const struct client_place *place, uint32_t idle, uint32_t trickling);
struct crowd_counts crowd_end(struct crowd **crowd);

#endif
