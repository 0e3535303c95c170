// SPDX-License-Identifier: Apache-2.0
// graft template: what a chat template makes of messages.
#include <stdlib.h>
#include <string.h>

#include "tools/tool.h"

// The variables as JSON text: the file's object as it is, or {"messages": [...]} around a bare array. To be freed.
static int variables_read(const char *path, char **out)
{
    json_t *value;
    int code = json_read(path, &value);
    if (code != EXIT_GOOD) {
        return code;
    }
    if (json_is_array(value)) {
        value = json_pack("{s:o}", "messages", value);
    }
    if (json_is_object(value)) {
        *out = json_dumps(value, 0);
    }
    json_decref(value);
    if (!*out) {
        error3("the messages cannot be used", "the file holds neither an object nor an array",
               "{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}], \"add_generation_prompt\": true}");
        return EXIT_BAD_FILE;
    }
    return EXIT_GOOD;
}

int verb_TEMPLATE(const struct options *options)
{
    if (!options->messages) {
        return error_usage("there are no messages to render", "--messages is missing",
                           "graft template -m MODEL --messages FILE.json");
    }
    struct session session = {0};
    struct text source = {0};
    char *variables = NULL, *rendered = NULL;
    size_t length = 0;
    int code = variables_read(options->messages, &variables);
    if (code == EXIT_GOOD && options->template_file) {
        code = text_read(options->template_file, &source);
    }
    if (code ==
        EXIT_GOOD) { // with a template of its own no model is needed, but one that is given lends its bos and eos tokens
        bool needs_model = !options->template_file || options->model;
        code = needs_model ? session_vocabulary(&session, options) : session_context(&session, options);
    }
    if (code == EXIT_GOOD) {
        enum graft_status status =
            graft_vocabulary_render(session.ctx, session.vocabulary, source.data, variables, &rendered, &length);
        if (status != GRAFT_OK) {
            code = error_status(status, "the template cannot be rendered");
        } else if (options->json) {
            code = print_json(json_text(rendered, length));
        } else if (fwrite(rendered, 1, length, stdout) != length || fflush(stdout) != 0) {
            code = EXIT_FAILED;
        }
    }
    if (rendered) {
        graft_ctx_text_free(session.ctx, &rendered);
    }
    free(variables);
    text_free(&source);
    session_close(&session);
    return code;
}
