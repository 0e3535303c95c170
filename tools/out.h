// SPDX-License-Identifier: Apache-2.0
// Text that grows.
#ifndef GRAFT_TOOLS_OUT_H
#define GRAFT_TOOLS_OUT_H

#include <stdbool.h>
#include <stddef.h>

#include "graft/common.h"

// What is written when there is no memory is lost, and `failed` says so.
struct out {
    char *data; // NUL-terminated, or NULL
    size_t length, room;
    bool failed;
};
void out_bytes(struct out *out, const char *text, size_t length);
void out_text(struct out *out, const char *text);
GRAFT_PRINTF(2, 3) void out_format(struct out *out, const char *format, ...);
// A JSON string of UTF-8, with its quotes.
void out_json(struct out *out, const char *text, size_t length);
void out_free(struct out *out);

#endif
