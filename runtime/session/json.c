// SPDX-License-Identifier: Apache-2.0
// JSON values to text in the ledger's memory.
#include "runtime/session/session.h"

enum graft_status graft_json_text(struct graft_ctx *ctx, const json_t *value, char **out)
{
    // Nine digits keep every f32.
    const size_t flags = JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9);
    size_t length = json_dumpb(value, NULL, 0, flags);
    if (length == 0) {
        return graft_fail(GRAFT_E_MEMORY, "no memory for JSON text");
    }
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, out, length + 1, "JSON text"));
    if (json_dumpb(value, *out, length, flags) != length) {
        GRAFT_FREE(ctx, out);
        return graft_fail(GRAFT_E_MEMORY, "no memory for JSON text");
    }
    return GRAFT_OK;
}
