// SPDX-License-Identifier: Apache-2.0
#include "support/vocab_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/bytes.h"

// Not Check's own macros: the fuzz target uses these functions outside a test.
static void require(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "vocabulary fixture: %s (%s)\n", what, graft_last_error());
        abort();
    }
}

json_t *graft_test_golden(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/golden/%s", GRAFT_TEST_SOURCE_DIR, name);
    json_error_t error;
    json_t *json = json_load_file(path, JSON_ALLOW_NUL, &error);
    require(json != NULL, path);
    return json;
}

static void put_texts(struct graft_test_gguf *b, const char *name, const json_t *list)
{
    size_t count = json_array_size(list);
    const char **items = calloc(count + 1, sizeof *items);
    require(items != NULL, "no memory");
    for (size_t i = 0; i < count; i++) {
        items[i] = json_string_value(json_array_get(list, i));
    }
    graft_test_gguf_texts(b, name, items, count);
    free(items);
}

static uint32_t token_of(const json_t *tokens, const char *text)
{
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        if (strcmp(json_string_value(json_array_get(tokens, i)), text) == 0) {
            return (uint32_t)i;
        }
    }
    require(false, text);
    return 0;
}

void graft_test_vocab_keys(struct graft_test_gguf *b, const json_t *golden, const char *kind,
                           struct graft_test_vocab_options options)
{
    const json_t *vocab = json_object_get(golden, kind), *tokens = json_object_get(vocab, "tokens");
    bool bpe = strcmp(kind, "bpe") == 0;
    size_t count = json_array_size(tokens);
    graft_test_gguf_text(b, "general.architecture", "llama");
    graft_test_gguf_text(b, "tokenizer.ggml.model", bpe ? "gpt2" : "llama");
    const char *pre = options.pre ? options.pre : "gpt-2";
    if (bpe && *pre) {
        graft_test_gguf_text(b, "tokenizer.ggml.pre", pre);
    }
    put_texts(b, "tokenizer.ggml.tokens", tokens);
    if (!options.no_types) {
        int32_t *types = calloc(count, sizeof *types);
        require(types != NULL, "no memory");
        for (size_t i = 0; i < count; i++) {
            types[i] = (int32_t)json_integer_value(json_array_get(json_object_get(vocab, "types"), i));
        }
        graft_test_gguf_i32s(b, "tokenizer.ggml.token_type", types, count);
        free(types);
    }
    if (!bpe && !options.no_scores) {
        float *scores = calloc(count, sizeof *scores);
        require(scores != NULL, "no memory");
        for (size_t i = 0; i < count; i++) {
            scores[i] = (float)json_number_value(json_array_get(json_object_get(vocab, "scores"), i));
        }
        graft_test_gguf_f32s(b, "tokenizer.ggml.scores", scores, count);
        free(scores);
    }
    if (bpe && !options.no_merges) {
        put_texts(b, "tokenizer.ggml.merges", json_object_get(vocab, "merges"));
    }
    if (!options.no_ids) {
        graft_test_gguf_u32(b, "tokenizer.ggml.bos_token_id", token_of(tokens, bpe ? "<|im_start|>" : "<s>"));
        graft_test_gguf_u32(b, "tokenizer.ggml.eos_token_id", token_of(tokens, bpe ? "<|im_end|>x" : "</s>"));
    }
    if (!bpe && !options.no_ids) {
        graft_test_gguf_u32(b, "tokenizer.ggml.unknown_token_id", token_of(tokens, "<unk>"));
    }
    if (!options.no_bos_key) {
        graft_test_gguf_bool(b, "tokenizer.ggml.add_bos_token", true);
    }
    if (options.no_prefix) {
        graft_test_gguf_bool(b, "tokenizer.ggml.add_space_prefix", false);
    }
}

enum graft_status graft_test_vocab_open(struct graft_ctx *ctx, struct graft_test_gguf *b, struct graft_vocab **out)
{
    *out = NULL;
    graft_test_gguf_finish(b);
    struct graft_gguf *gguf;
    enum graft_status status = graft_gguf_open_memory(ctx, &gguf, b->file, b->file_size, "vocab.gguf", false);
    if (status == GRAFT_OK) {
        status = graft_vocab_create(ctx, out, gguf);
        graft_gguf_close(&gguf);
    }
    graft_test_gguf_free(b);
    return status;
}

struct graft_vocab *graft_test_vocab(struct graft_ctx *ctx, const char *kind, struct graft_test_vocab_options options)
{
    json_t *golden = graft_test_golden("tokenize.json");
    struct graft_test_gguf b = {0};
    graft_test_vocab_keys(&b, golden, kind, options);
    json_decref(golden);
    struct graft_vocab *vocab;
    require(graft_test_vocab_open(ctx, &b, &vocab) == GRAFT_OK, "a golden vocabulary is refused");
    return vocab;
}
