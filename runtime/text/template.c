// SPDX-License-Identifier: Apache-2.0
// Chat templates: create, render, destroy.
#include "runtime/text/template.h"

#include "runtime/text/jinja.h"

struct graft_template {
    struct graft_ctx *ctx;
    struct jinja_arena arena;
    struct jinja_tree tree;
};

// Newlines become "\n" and one at the very end goes, as Jinja reads templates. Returns the new length.
static uint64_t normalize(char *text, const char *source, uint64_t length)
{
    uint64_t used = 0;
    for (uint64_t i = 0; i < length; i++) {
        bool lone = source[i] == '\r' && !(i + 1 < length && source[i + 1] == '\n');
        if (source[i] != '\r' || lone) {
            text[used++] = (char)(lone ? '\n' : source[i]);
        }
    }
    return used > 0 && text[used - 1] == '\n' ? used - 1 : used;
}

enum graft_status graft_template_create(struct graft_ctx *ctx, struct graft_template **out, const char *source, uint64_t length)
{
    if (length > GRAFT_TEMPLATE_MAX_SOURCE_BYTES) {
        return graft_fail(GRAFT_E_LIMIT, "template: %" PRIu64 " bytes, at most %d are allowed", length,
                          GRAFT_TEMPLATE_MAX_SOURCE_BYTES);
    }
    if (!graft_utf8_valid((const uint8_t *)source, length)) {
        return graft_fail(GRAFT_E_FORMAT, "template: its %" PRIu64 " bytes are not UTF-8", length);
    }
    struct graft_template *made;
    char *text = NULL;
    enum graft_status status;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &made, 1, "a chat template"));
    made->ctx = ctx;
    made->arena = (struct jinja_arena){.ctx = ctx, .limit_bytes = GRAFT_TEMPLATE_MAX_MEMORY_BYTES};
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &text, length + 1, "a chat template's source"), status, failed);
    GRAFT_TRY_OUT(graft_jinja_parse(&made->arena, text, normalize(text, source, length), &made->tree), status, failed);
    GRAFT_FREE(ctx, &text);
    *out = made;
    return GRAFT_OK;
failed:
    GRAFT_FREE(ctx, &text);
    graft_template_destroy(&made);
    return status;
}

void graft_template_destroy(struct graft_template **template_)
{
    if (!template_ || !*template_) {
        return;
    }
    struct graft_ctx *ctx = (*template_)->ctx;
    graft_jinja_arena_free(&(*template_)->arena);
    GRAFT_FREE(ctx, template_);
}

static enum graft_status render(struct jinja_run *run, const json_t *variables)
{
    struct jinja_value all;
    GRAFT_TRY(graft_jinja_from_json(run, variables, 0, &all));
    run->variables = all.as.dict;
    GRAFT_TRY(JINJA_NEW(&run->arena, &run->frame, 1));
    enum graft_status status = graft_jinja_put(run, run->out, "", 0);
    if (status == GRAFT_OK) {
        status = graft_jinja_exec(run, run->tree->root);
    }
    return status == GRAFT_OK ? status : graft_fail_prefix(status, "template line %" PRIu32, run->line);
}

enum graft_status graft_template_render(const struct graft_template *template_, const json_t *variables, char **text,
                                        uint64_t *length)
{
    struct jinja_buffer buffer = {.outermost = true};
    struct jinja_run run = {
        .arena = {.ctx = template_->ctx, .limit_bytes = GRAFT_TEMPLATE_MAX_MEMORY_BYTES},
        .tree = &template_->tree,
        .out = &buffer,
    };
    *text = NULL;
    *length = 0;
    if (!json_is_object(variables)) {
        return graft_fail(GRAFT_E_ARGUMENT, "template variables: a JSON object is needed");
    }
    enum graft_status status = render(&run, variables);
    graft_jinja_arena_free(&run.arena);
    if (status != GRAFT_OK) {
        GRAFT_FREE(template_->ctx, &buffer.data);
        return status;
    }
    buffer.data[buffer.length] = 0;
    *text = buffer.data;
    *length = buffer.length;
    return GRAFT_OK;
}
