// SPDX-License-Identifier: Apache-2.0
// JSON files that say who may do what: keys, and the rules for tokens.
#ifndef GRAFT_TOOLS_SERVE_HTTP_TRUSTED_H
#define GRAFT_TOOLS_SERVE_HTTP_TRUSTED_H

#include <jansson.h>

#include "tools/serve/http.h"

// The file as JSON, for json_decref. Errors: GRAFT_E_IO (also: others than its owner may write it), GRAFT_E_LIMIT (longer than
// `most` bytes), GRAFT_E_FORMAT (no JSON, or two members of one name; line and column), GRAFT_E_MEMORY, GRAFT_E_BUDGET. On
// failure *out is NULL. Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status http_trusted_json(struct graft_ctx *ctx, const char *path, uint64_t most, json_t **out);

#endif
