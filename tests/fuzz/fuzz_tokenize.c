// SPDX-License-Identifier: Apache-2.0
// Any bytes as text: tokenizing never crashes, ids are in range, plain text makes no control token, and valid UTF-8 comes back
// from its tokens. The first byte picks vocabulary, family and options.
#include "fuzz/fuzz.h"
#include "platform/bytes.h"
#include "platform/plat.h"
#include "support/vocab_fixture.h"

static const char *const families[] = {"gpt-2",  "smollm",       "llama-bpe", "qwen2", "deepseek-r1-qwen",
                                       "falcon", "deepseek-llm", NULL};
enum { FAMILIES = sizeof families / sizeof *families };

static void stop_with(const char *what)
{
    fprintf(stderr, "%s (%s)\n", what, graft_last_error());
    abort();
}

static bool has(const uint8_t *text, size_t size, const char *part)
{
    size_t n = strlen(part);
    for (size_t i = 0; i + n <= size; i++) {
        if (memcmp(text + i, part, n) == 0) {
            return true;
        }
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct graft_ctx *ctx;
    static struct graft_vocab *vocabs[FAMILIES];
    if (!ctx) {
        if (graft_ctx_create(&ctx, NULL) != GRAFT_OK) {
            stop_with("no context");
        }
        for (size_t f = 0; f < FAMILIES; f++) {
            vocabs[f] =
                graft_test_vocab(ctx, families[f] ? "bpe" : "spm", (struct graft_test_vocab_options){.pre = families[f]});
        }
    }
    if (size == 0) {
        return 0;
    }
    size_t family = data[0] % FAMILIES;
    bool special = data[0] & 0x80;
    const struct graft_vocab *vocab = vocabs[family];
    data++;
    size--;
    uint64_t capacity = 3 * (uint64_t)size + 8, count, length;
    int32_t *ids = malloc(capacity * sizeof *ids);
    char *text = malloc(capacity);
    if (!ids || !text) {
        abort();
    }
    if (graft_vocab_tokenize(vocab, (const char *)data, size, (struct graft_tokenize_options){.special = special}, ids,
                             capacity, &count) != GRAFT_OK) {
        stop_with("not tokenized");
    }
    for (uint64_t i = 0; i < count; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= graft_vocab_size(vocab) || (!special && graft_vocab_is_control(vocab, ids[i]))) {
            stop_with("an id that plain text must not have");
        }
    }
    if (graft_vocab_detokenize(vocab, ids, count, true, text, capacity, &length) != GRAFT_OK) {
        stop_with("not detokenized");
    }
    // Qwen2 normalizes; SentencePiece writes spaces as U+2581 and puts one behind each special or user-defined token.
    bool exact = graft_utf8_valid(data, size) && family != 3;
    if (!families[family]) {
        exact = exact && !special && !has(data, size, "\xe2\x96\x81") && !has(data, size, "<tool>");
    }
    if (exact && (length != size || memcmp(text, data, size) != 0)) {
        stop_with("the text does not come back");
    }
    free(ids);
    free(text);
    return 0;
}
