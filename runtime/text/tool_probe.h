// SPDX-License-Identifier: Apache-2.0
// The inside of finding out how a template calls: tool_probe.c renders and compares, tool_locate.c finds a call in what was
// rendered.
#ifndef GRAFT_RUNTIME_TEXT_TOOL_PROBE_H
#define GRAFT_RUNTIME_TEXT_TOOL_PROBE_H

#include <stddef.h>

#include "runtime/text/tool_format.h"

// Made-up words of two calls.
extern const char *const graft_tool_probe_names[2], *const graft_tool_probe_values[2], *const graft_tool_probe_ids[2];
#define KEY       "zq_alpha"
#define OTHER_KEY "zq_count"
#define NUMBER    "7331"

struct part {
    const char *p;
    size_t n;
};

// NULL: it is not in there, from `from` on.
const char *graft_tool_find_text(struct part in, size_t from, const char *what);

// A call inside a section of calls, places from the section's begin.
struct place {
    enum graft_tool_style style;
    enum graft_tool_ids ids;
    size_t begin, end;
    struct slot {
        enum graft_tool_slot slot;
        size_t begin, end;
    } slots[GRAFT_TOOL_SLOTS];
    uint32_t n_slots;
    // With GRAFT_TOOL_PARAMETERS: behind the name; of the first value; of the second key and value.
    size_t first_key, first_value, second_key, second_value;
};

// Find call `which` from `from` on. False: it is not there, or in no style that is understood.
bool graft_tool_locate(struct part in, size_t from, int which, struct place *place);

#endif
