// SPDX-License-Identifier: Apache-2.0
// Unigram and WordPiece vocabularies against sentencepiece and tokenizers (tests/golden/make_unigram.py).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loaders/gguf.h"
#include "platform/bytes.h"
#include "platform/plat.h"
#include "support/support.h"
#include "support/vocab_fixture.h"

static int32_t token_of(const json_t *tokens, const char *text)
{
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        if (strcmp(json_string_value(json_array_get(tokens, i)), text) == 0) {
            return (int32_t)i;
        }
    }
    ck_abort_msg("no token %s", text);
    return 0;
}

// Write one golden vocabulary as GGUF keys. map NULL: the golden character map.
static void put_vocab(struct graft_test_gguf *b, const json_t *golden, const uint8_t *map, size_t map_bytes)
{
    const json_t *tokens = json_object_get(golden, "tokens"), *item;
    size_t n = json_array_size(tokens), i;
    const char **texts = calloc(n, sizeof *texts);
    int32_t *types = calloc(n, sizeof *types);
    float *scores = calloc(n, sizeof *scores);
    ck_assert(texts && types && scores);
    json_array_foreach(tokens, i, item)
    {
        texts[i] = json_string_value(item);
        types[i] = (int32_t)json_integer_value(json_array_get(json_object_get(golden, "types"), i));
        scores[i] = (float)json_number_value(json_array_get(json_object_get(golden, "scores"), i));
    }
    const char *model = json_string_value(json_object_get(golden, "model"));
    graft_test_gguf_text(b, "general.architecture", "llama");
    graft_test_gguf_text(b, "tokenizer.ggml.model", model);
    graft_test_gguf_texts(b, "tokenizer.ggml.tokens", texts, n);
    graft_test_gguf_i32s(b, "tokenizer.ggml.token_type", types, n);
    if (strcmp(model, "t5") == 0) {
        graft_test_gguf_f32s(b, "tokenizer.ggml.scores", scores, n);
        graft_test_gguf_bool(b, "tokenizer.ggml.add_space_prefix", json_is_true(json_object_get(golden, "add_space_prefix")));
        graft_test_gguf_bool(b, "tokenizer.ggml.remove_extra_whitespaces",
                             json_is_true(json_object_get(golden, "remove_extra_whitespaces")));
        graft_test_gguf_u32(b, "tokenizer.ggml.eos_token_id", (uint32_t)token_of(tokens, "</s>"));
        const json_t *charsmap = json_object_get(golden, "charsmap");
        uint8_t *bytes = calloc(json_array_size(charsmap) + 1, 1);
        ck_assert_ptr_nonnull(bytes);
        json_array_foreach(charsmap, i, item)
        {
            bytes[i] = (uint8_t)json_integer_value(item);
        }
        size_t count = map ? map_bytes : json_array_size(charsmap);
        graft_test_gguf_array(b, "tokenizer.ggml.precompiled_charsmap", GRAFT_GGUF_U8, count, map ? map : bytes, count);
        free(bytes);
    } else {
        graft_test_gguf_bool(b, "tokenizer.ggml.normalizer.lowercase", json_is_true(json_object_get(golden, "lowercase")));
        graft_test_gguf_u32(b, "tokenizer.ggml.cls_token_id", (uint32_t)token_of(tokens, "[CLS]"));
        graft_test_gguf_u32(b, "tokenizer.ggml.seperator_token_id", (uint32_t)token_of(tokens, "[SEP]"));
        graft_test_gguf_u32(b, "tokenizer.ggml.unknown_token_id", (uint32_t)token_of(tokens, "[UNK]"));
    }
    free(texts);
    free(types);
    free(scores);
}

static struct graft_vocab *open_vocab(struct graft_ctx *ctx, const json_t *golden)
{
    struct graft_test_gguf b = {0};
    struct graft_vocab *vocab;
    put_vocab(&b, golden, NULL, 0);
    ck_assert_ok(graft_test_vocab_open(ctx, &b, &vocab));
    return vocab;
}

static void compare(const struct graft_vocab *vocab, const char *name, const json_t *text, const json_t *want)
{
    static int32_t ids[4096];
    uint64_t count;
    ck_assert_ok(graft_vocab_tokenize(vocab, json_string_value(text), json_string_length(text),
                                      (struct graft_tokenize_options){0}, ids, 4096, &count));
    bool same = count == json_array_size(want);
    for (uint64_t i = 0; same && i < count; i++) {
        same = ids[i] == json_integer_value(json_array_get(want, i));
    }
    if (!same) {
        char got[2000] = "";
        for (uint64_t i = 0, used = 0; i < count && used < sizeof got - 16; i++) {
            used += (uint64_t)snprintf(got + used, sizeof got - used, "%d ", ids[i]);
        }
        ck_abort_msg("%s, text \"%s\": got %s, expected %s", name, json_string_value(text), got,
                     json_dumps(want, JSON_COMPACT));
    }
}

START_TEST(ids_are_those_of_the_reference_tokenizers)
{
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    json_t *golden = graft_test_golden("unigram.json"), *one, *item;
    const char *name;
    size_t cases = 0, i;
    json_object_foreach(golden, name, one)
    {
        struct graft_vocab *vocab = open_vocab(ctx, one);
        json_array_foreach(json_object_get(one, "cases"), i, item)
        {
            compare(vocab, name, json_array_get(item, 0), json_array_get(item, 1));
            cases++;
        }
        graft_vocab_destroy(&vocab);
    }
    ck_assert_uint_ge(cases, 350);
    json_decref(golden);
    graft_ctx_destroy(&ctx);
    ck_assert_uint_eq(alloc.live, 0);
}
END_TEST

// T5 ends a text with EOS, BERT stands it between [CLS] and [SEP]; text of a user never becomes one of them.
START_TEST(beginnings_and_ends_are_put_when_asked_for)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    json_t *golden = graft_test_golden("unigram.json");
    static const struct {
        const char *name, *first, *last, *special;
    } cases[] = {{"mapped", NULL, "</s>", "</s>"}, {"uncased", "[CLS]", "[SEP]", "[SEP]"}};
    for (size_t k = 0; k < 2; k++) {
        const json_t *one = json_object_get(golden, cases[k].name), *tokens = json_object_get(one, "tokens");
        struct graft_vocab *vocab = open_vocab(ctx, one);
        int32_t ids[64], bare[64];
        uint64_t count, n;
        ck_assert_ok(graft_vocab_tokenize(vocab, "the", 3, (struct graft_tokenize_options){0}, bare, 64, &n));
        ck_assert_ok(graft_vocab_tokenize(vocab, "the", 3, (struct graft_tokenize_options){.bos = true}, ids, 64, &count));
        uint64_t front = cases[k].first != NULL;
        ck_assert_uint_eq(count, n + front + 1);
        ck_assert_mem_eq(ids + front, bare, n * sizeof *ids);
        ck_assert_int_eq(ids[count - 1], token_of(tokens, cases[k].last));
        ck_assert(!front || ids[0] == token_of(tokens, cases[k].first));
        for (int special = 0; special < 2; special++) {
            struct graft_tokenize_options options = {.special = special};
            ck_assert_ok(graft_vocab_tokenize(vocab, cases[k].special, strlen(cases[k].special), options, ids, 64, &count));
            ck_assert_int_eq(count == 1 && ids[0] == token_of(tokens, cases[k].special), special);
        }
        char text[64];
        uint64_t length;
        ck_assert_ok(graft_vocab_detokenize(vocab, bare, n, false, text, sizeof text, &length));
        ck_assert(length == 3 && memcmp(text, "the", 3) == 0);
        graft_vocab_destroy(&vocab);
    }
    json_decref(golden);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(a_mebibyte_of_anything_takes_linear_time)
{
    enum { SIZE = 1 << 20, MOST_MS = 20000 }; // the aim is 1 s on a quiet machine
    static const char *const fills[] = {"a",        " ", "the harbour ", "\n", "\xef\xbc\xa1", "ab", "\xe2\x98\x83", "\xff",
                                        "\xcc\x81", "."};
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    json_t *golden = graft_test_golden("unigram.json"), *one;
    char *text = malloc(SIZE);
    int32_t *ids = malloc((size_t)SIZE * 4 * sizeof *ids);
    ck_assert(text && ids);
    const char *name;
    uint64_t worst = 0;
    json_object_foreach(golden, name, one)
    {
        struct graft_vocab *vocab = open_vocab(ctx, one);
        for (size_t k = 0; k < sizeof fills / sizeof *fills; k++) {
            for (size_t i = 0, n = strlen(fills[k]); i < SIZE; i++) {
                text[i] = fills[k][i % n];
            }
            uint64_t count, start = graft_clock_ns();
            ck_assert_ok(graft_vocab_tokenize(vocab, text, SIZE, (struct graft_tokenize_options){.special = true}, ids,
                                              SIZE * 4u, &count));
            uint64_t ms = (graft_clock_ns() - start) / 1000000;
            ck_assert_msg(ms < MOST_MS, "%s, fill %zu: %d ms", name, k, (int)ms);
            worst = ms > worst ? ms : worst;
        }
        graft_vocab_destroy(&vocab);
    }
    printf("slowest mebibyte: %d ms\n", (int)worst);
    free(text);
    free(ids);
    json_decref(golden);
    graft_ctx_destroy(&ctx);
}
END_TEST

// Damaged character maps: refused when their shape is wrong, harmless whatever their units are.
START_TEST(damaged_character_maps_do_no_harm)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    json_t *golden = graft_test_golden("unigram.json");
    const json_t *one = json_object_get(golden, "mapped"), *charsmap = json_object_get(one, "charsmap");
    size_t n = json_array_size(charsmap);
    uint8_t *bytes = malloc(n);
    ck_assert_ptr_nonnull(bytes);
    static const struct {
        size_t keep;
        uint32_t trie;
        const char *error;
    } shapes[] = {{3, 0, "length of its trie"},
                  {0, 0, "length of its trie"},
                  {0, 6, "length of its trie"},
                  {0, 1u << 30, "length of its trie"}};
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        for (size_t i = 0; i < n; i++) {
            bytes[i] = (uint8_t)json_integer_value(json_array_get(charsmap, i));
        }
        memcpy(bytes, &shapes[k].trie, 4);
        struct graft_test_gguf b = {0};
        struct graft_vocab *vocab;
        put_vocab(&b, one, bytes, shapes[k].keep ? shapes[k].keep : n);
        ck_assert_status(graft_test_vocab_open(ctx, &b, &vocab), GRAFT_E_FORMAT);
        ck_assert_error_has(shapes[k].error);
    }
    struct graft_test_random random = {.state = 5};
    int opened = 0;
    for (int round = 0; round < 300; round++) {
        for (size_t i = 0; i < n; i++) {
            bytes[i] = (uint8_t)json_integer_value(json_array_get(charsmap, i));
        }
        uint32_t trie = graft_load_u32(bytes);
        for (int hits = 0; hits < 40; hits++) {
            bytes[4 + graft_test_random_u64(&random) % trie] = (uint8_t)graft_test_random_u64(&random);
        }
        struct graft_test_gguf b = {0};
        struct graft_vocab *vocab;
        put_vocab(&b, one, bytes, n);
        if (graft_test_vocab_open(ctx, &b, &vocab) != GRAFT_OK) {
            continue;
        }
        opened++;
        static const char text[] = "abc \xef\xbc\xa1 \xef\xac\x81sh the harbour \xe2\x91\xa0 e\xcc\x81 abab";
        int32_t ids[256];
        uint64_t count;
        ck_assert_ok(graft_vocab_tokenize(vocab, text, sizeof text - 1, (struct graft_tokenize_options){0}, ids, 256, &count));
        graft_vocab_destroy(&vocab);
    }
    ck_assert_int_ge(opened, 250);
    free(bytes);
    json_decref(golden);
    graft_ctx_destroy(&ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("unigram and wordpiece");
    TCase *tests = tcase_create("unigram and wordpiece");
    tcase_add_test(tests, ids_are_those_of_the_reference_tokenizers);
    tcase_add_test(tests, beginnings_and_ends_are_put_when_asked_for);
    tcase_add_test(tests, a_mebibyte_of_anything_takes_linear_time);
    tcase_add_test(tests, damaged_character_maps_do_no_harm);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
