// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/http_trusted.h"

#include "platform/plat.h"
#include "tools/serve/server_files.h"

enum graft_status http_trusted_json(struct graft_ctx *ctx, const char *path, uint64_t most, json_t **out)
{
    char *text;
    uint64_t size;
    json_error_t error;
    *out = NULL;
    if (others_may_write(path)) {
        return graft_fail(GRAFT_E_IO, "%s: others than its owner may write it; %s makes it acceptable", path,
                          others_write_advice);
    }
    GRAFT_TRY(graft_file_read(ctx, path, most, &text, &size));
    *out = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    GRAFT_FREE(ctx, &text);
    if (!*out) {
        return graft_fail(GRAFT_E_FORMAT, "%s: line %d, column %d: %s", path, error.line, error.column, error.text);
    }
    return GRAFT_OK;
}
