// SPDX-License-Identifier: Apache-2.0
// Text: tokens of a file's vocabulary, rendering of its chat template; with and without a model.
#include "platform/bytes.h"
#include "runtime/session/session.h"

enum graft_status graft_vocabulary_create(struct graft_ctx *ctx, struct graft_vocabulary **out, const struct graft_gguf *gguf)
{
    *out = NULL;
    struct graft_vocabulary *vocabulary;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &vocabulary, 1, "a vocabulary"));
    vocabulary->ctx = ctx;
    struct graft_text text = {NULL, 0};
    enum graft_status status;
    GRAFT_TRY_OUT(graft_vocab_create(ctx, &vocabulary->vocab, gguf), status, failed);
    GRAFT_TRY_OUT(graft_gguf_text_or_none(gguf, "tokenizer.chat_template", &text), status, failed);
    if (text.data) {
        GRAFT_TRY_OUT(graft_strdup(ctx, &vocabulary->chat_template, text.data, text.length), status, failed);
        vocabulary->template_bytes = text.length;
    }
    *out = vocabulary;
    return GRAFT_OK;
failed:
    graft_vocabulary_close(&vocabulary);
    return status;
}

enum graft_status graft_vocabulary_open(struct graft_ctx *ctx, struct graft_vocabulary **out, const char *path)
{
    *out = NULL;
    struct graft_gguf *gguf;
    GRAFT_TRY(graft_gguf_open(ctx, &gguf, path, true));
    enum graft_status status = graft_vocabulary_create(ctx, out, gguf);
    if (graft_map_damaged(&gguf->map)) {
        graft_vocabulary_close(out);
        status = graft_gguf_check_intact(gguf);
    }
    graft_gguf_close(&gguf);
    return status;
}

void graft_vocabulary_close(struct graft_vocabulary **vocabulary)
{
    if (!vocabulary || !*vocabulary) {
        return;
    }
    struct graft_ctx *ctx = (*vocabulary)->ctx;
    graft_vocab_destroy(&(*vocabulary)->vocab);
    GRAFT_FREE(ctx, &(*vocabulary)->chat_template);
    GRAFT_FREE(ctx, vocabulary);
}

enum graft_status graft_vocabulary_tokenize(const struct graft_vocabulary *vocabulary, const char *text, size_t length,
                                            bool special, bool bos, int32_t *ids, size_t capacity, size_t *count)
{
    uint64_t n = 0;
    struct graft_tokenize_options options = {.special = special, .bos = bos};
    enum graft_status status = graft_vocab_tokenize(vocabulary->vocab, text, length, options, ids, capacity, &n);
    *count = (size_t)n;
    return status;
}

enum graft_status graft_vocabulary_detokenize(const struct graft_vocabulary *vocabulary, const int32_t *ids, size_t count,
                                              bool special, char *text, size_t capacity, size_t *length)
{
    uint64_t n = 0;
    enum graft_status status = graft_vocab_detokenize(vocabulary->vocab, ids, count, special, text, capacity, &n);
    *length = (size_t)n;
    return status;
}

static enum graft_status add_token(const struct graft_vocab *vocab, json_t *variables, const char *name, int32_t id)
{
    if (id == GRAFT_NO_TOKEN || json_object_get(variables, name)) {
        return GRAFT_OK;
    }
    const char *text;
    uint64_t length;
    GRAFT_TRY(graft_vocab_piece(vocab, id, true, &text, &length));
    if (json_object_set_new(variables, name, json_stringn(text, (size_t)length)) != 0) {
        return graft_fail(GRAFT_E_MEMORY, "no memory for the template's variable %s", name);
    }
    return GRAFT_OK;
}

enum graft_status graft_vocabulary_add_tokens(const struct graft_vocabulary *vocabulary, json_t *variables)
{
    if (!vocabulary) {
        return GRAFT_OK;
    }
    GRAFT_TRY(add_token(vocabulary->vocab, variables, "bos_token", graft_vocab_bos(vocabulary->vocab)));
    return add_token(vocabulary->vocab, variables, "eos_token", graft_vocab_eos(vocabulary->vocab));
}

static enum graft_status render(struct graft_ctx *ctx, const struct graft_vocabulary *vocabulary, const char *source,
                                uint64_t bytes, json_t *variables, char **text, size_t *length)
{
    GRAFT_TRY(graft_vocabulary_add_tokens(vocabulary, variables));
    struct graft_template *template_;
    GRAFT_TRY(graft_template_create(ctx, &template_, source, bytes));
    uint64_t n = 0;
    enum graft_status status = graft_template_render(template_, variables, text, &n);
    graft_template_destroy(&template_);
    *length = (size_t)n;
    return status;
}

enum graft_status graft_vocabulary_render(struct graft_ctx *ctx, const struct graft_vocabulary *vocabulary,
                                          const char *template_text, const char *variables_json, char **text, size_t *length)
{
    *text = NULL;
    *length = 0;
    const char *source = template_text ? template_text : vocabulary ? vocabulary->chat_template : NULL;
    if (!source) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "the file has no chat template (tokenizer.chat_template)");
    }
    json_error_t error;
    json_t *variables = json_loads(variables_json, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(variables)) {
        enum graft_status status = variables ? graft_fail(GRAFT_E_ARGUMENT, "the template's variables are no JSON object")
                                             : graft_fail(GRAFT_E_ARGUMENT, "the template's variables, line %d column %d: %s",
                                                          error.line, error.column, error.text);
        json_decref(variables);
        return status;
    }
    enum graft_status status = render(ctx, vocabulary, source, strlen(source), variables, text, length);
    json_decref(variables);
    return status;
}

void graft_ctx_text_free(struct graft_ctx *ctx, char **text)
{
    GRAFT_FREE(ctx, text);
}

enum graft_status graft_model_vocabulary(const struct graft_model *model, const struct graft_vocabulary **out)
{
    if (!model->vocabulary) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "the synthetic model %s has no vocabulary", model->source->config.name);
    }
    *out = model->vocabulary;
    return GRAFT_OK;
}

enum graft_status graft_tokenize(const struct graft_model *model, const char *text, size_t length, bool special, bool bos,
                                 int32_t *ids, size_t capacity, size_t *count)
{
    const struct graft_vocabulary *vocabulary;
    *count = 0;
    GRAFT_TRY(graft_model_vocabulary(model, &vocabulary));
    return graft_vocabulary_tokenize(vocabulary, text, length, special, bos, ids, capacity, count);
}

enum graft_status graft_detokenize(const struct graft_model *model, const int32_t *ids, size_t count, bool special, char *text,
                                   size_t capacity, size_t *length)
{
    const struct graft_vocabulary *vocabulary;
    *length = 0;
    GRAFT_TRY(graft_model_vocabulary(model, &vocabulary));
    return graft_vocabulary_detokenize(vocabulary, ids, count, special, text, capacity, length);
}

bool graft_token_is_end(const struct graft_model *model, int32_t id)
{
    return model->vocabulary && graft_vocab_is_end(model->vocabulary->vocab, id);
}

enum graft_status graft_render(const struct graft_model *model, const char *template_text, const char *variables_json,
                               char **text, size_t *length)
{
    *text = NULL;
    *length = 0;
    const struct graft_vocabulary *vocabulary;
    GRAFT_TRY(graft_model_vocabulary(model, &vocabulary));
    return graft_vocabulary_render(model->ctx, vocabulary, template_text, variables_json, text, length);
}

void graft_text_free(const struct graft_model *model, char **text)
{
    GRAFT_FREE(model->ctx, text);
}
