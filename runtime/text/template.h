// SPDX-License-Identifier: Apache-2.0
// Chat templates: a bounded interpreter of the Jinja subset that real templates use.
// Reference behaviour: Jinja2 as transformers sets it up (trim_blocks, lstrip_blocks, loop controls, sandboxed).
#ifndef GRAFT_RUNTIME_TEXT_TEMPLATE_H
#define GRAFT_RUNTIME_TEXT_TEMPLATE_H

#include <jansson.h>

#include "platform/bounds.h"
#include "platform/ctx.h"

enum {
    GRAFT_TEMPLATE_MAX_SOURCE_BYTES = 1 << 20,
    GRAFT_TEMPLATE_MAX_DEPTH = 64,                            // nesting of statements, expressions and calls
    GRAFT_TEMPLATE_MAX_STEPS = GRAFT_BOUND(4 << 20, 1 << 16), // evaluated nodes in one rendering
    GRAFT_TEMPLATE_MAX_OUTPUT_BYTES = GRAFT_BOUND(16 << 20, 1 << 18),
    GRAFT_TEMPLATE_MAX_MEMORY_BYTES = GRAFT_BOUND(64 << 20, 1 << 20) // values made in one rendering
};

struct graft_template;

// Parse a template. Errors: GRAFT_E_FORMAT with line and column and what was expected; GRAFT_E_UNSUPPORTED naming an unknown
// filter, test, function or statement; GRAFT_E_LIMIT. Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status graft_template_create(struct graft_ctx *ctx, struct graft_template **out, const char *source,
                                                         uint64_t length);
void graft_template_destroy(struct graft_template **template_);

// Render with `variables` (a JSON object; its members are the template's variables, in the object's order). *text gets
// NUL-terminated UTF-8 from graft_alloc, to be freed with graft_free; *length its bytes. Errors: GRAFT_E_ARGUMENT
// (raise_exception: the template's own message; undefined used where a value is needed; wrong types), GRAFT_E_LIMIT (steps,
// depth, memory, output), with line. Same inputs give the same text. Thread-safety: safe on different threads with the same
// template.
GRAFT_MUST_CHECK enum graft_status graft_template_render(const struct graft_template *template_, const json_t *variables,
                                                         char **text, uint64_t *length);

#endif
