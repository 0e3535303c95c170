// SPDX-License-Identifier: Apache-2.0
// The grammar of one JSON schema.
#include "runtime/text/schema.h"

enum graft_status graft_grammar_from_schema(struct graft_ctx *ctx, struct graft_grammar **out, const char *json, size_t length)
{
    *out = NULL;
    if (length > GRAFT_GRAMMAR_MAX_TEXT) {
        return graft_fail(GRAFT_E_LIMIT, "the schema has %zu bytes, at most %d are supported", length, GRAFT_GRAMMAR_MAX_TEXT);
    }
    json_error_t error;
    json_t *root = json_loadb(json, length, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        return graft_fail(GRAFT_E_ARGUMENT, "schema, line %d column %d: %s", error.line, error.column, error.text);
    }
    struct graft_schema schema;
    uint32_t rule;
    enum graft_status status = graft_schema_begin(&schema, ctx);
    status = status == GRAFT_OK ? graft_schema_rule(&schema, root, &rule) : status; // r0
    graft_line_add(&schema.out, "root ::= ws r0 ws\n");
    status = status == GRAFT_OK ? schema.out.status : status;
    status = status == GRAFT_OK ? graft_grammar_create(ctx, out, schema.out.text, schema.out.length) : status;
    json_decref(root);
    graft_schema_end(&schema);
    return status;
}
