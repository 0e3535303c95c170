// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/support.h"
#include "support/vocab_fixture.h"

// A vocabulary small enough to read: 5 tokens, "a b" -> "ab".
struct small {
    const char *model, *pre;
    const char *const *tokens;
    uint64_t n_tokens;
    const char *const *merges;
    uint64_t n_merges;
    const int32_t *types;
    uint64_t n_types;
    const float *scores;
    uint64_t n_scores;
    const char *id_key;
    uint32_t id;
};
static const char *const plain_tokens[] = {"a", "b", "ab", "<|x|>", "<0x41>"};
static const char *const plain_merges[] = {"a b"};

static struct small small_of(const char *model)
{
    return (struct small){
        .model = model, .pre = "gpt-2", .tokens = plain_tokens, .n_tokens = 5, .merges = plain_merges, .n_merges = 1};
}

static enum graft_status open_small(struct graft_ctx *ctx, const struct small *s, struct graft_vocab **out)
{
    struct graft_test_gguf b = {0};
    graft_test_gguf_text(&b, "general.architecture", "llama");
    if (s->model) {
        graft_test_gguf_text(&b, "tokenizer.ggml.model", s->model);
    }
    if (s->pre) {
        graft_test_gguf_text(&b, "tokenizer.ggml.pre", s->pre);
    }
    if (s->tokens) {
        graft_test_gguf_texts(&b, "tokenizer.ggml.tokens", s->tokens, s->n_tokens);
    }
    if (s->merges) {
        graft_test_gguf_texts(&b, "tokenizer.ggml.merges", s->merges, s->n_merges);
    }
    if (s->types) {
        graft_test_gguf_i32s(&b, "tokenizer.ggml.token_type", s->types, s->n_types);
    }
    if (s->scores) {
        graft_test_gguf_f32s(&b, "tokenizer.ggml.scores", s->scores, s->n_scores);
    }
    if (s->id_key) {
        graft_test_gguf_u32(&b, s->id_key, s->id);
    }
    return graft_test_vocab_open(ctx, &b, out);
}

static void expect_refusal(const struct small *s, enum graft_status status, const char *text)
{
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    struct graft_vocab *vocab;
    ck_assert_status(open_small(ctx, s, &vocab), status);
    ck_assert_ptr_null(vocab);
    ck_assert_error_has(text);
    ck_assert_error_has("vocab.gguf: ");
    graft_ctx_destroy(&ctx);
    ck_assert_uint_eq(alloc.live, 0);
}

START_TEST(a_small_vocabulary_is_read_as_written)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct small s = small_of("gpt2");
    struct graft_vocab *vocab;
    ck_assert_ok(open_small(ctx, &s, &vocab));
    int32_t ids[8];
    uint64_t count;
    ck_assert_ok(graft_vocab_tokenize(vocab, "abba", 4, (struct graft_tokenize_options){0}, ids, 8, &count));
    ck_assert_uint_eq(count, 3); // ab, b, a
    ck_assert(ids[0] == 2 && ids[1] == 1 && ids[2] == 0);
    // Bytes without a token are left out, never replaced by a control token.
    ck_assert_ok(graft_vocab_tokenize(vocab, "a-b", 3, (struct graft_tokenize_options){0}, ids, 8, &count));
    ck_assert_uint_eq(count, 2);
    ck_assert_int_eq(graft_vocab_bos(vocab), GRAFT_NO_TOKEN);
    ck_assert_int_eq(graft_vocab_eos(vocab), GRAFT_NO_TOKEN);
    graft_vocab_destroy(&vocab);
    ck_assert_ptr_null(vocab);
    graft_vocab_destroy(&vocab);
    graft_ctx_destroy(&ctx);
}
END_TEST

// Open a small vocabulary and compare the ids of a text, given as digits: token 10 would be 'a'.
static void expect_small(const struct small *s, const char *text, bool special, const char *want)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_vocab *vocab;
    ck_assert_ok(open_small(ctx, s, &vocab));
    int32_t ids[32];
    uint64_t count;
    ck_assert_ok(
        graft_vocab_tokenize(vocab, text, strlen(text), (struct graft_tokenize_options){.special = special}, ids, 32, &count));
    char got[33] = "";
    for (uint64_t i = 0; i < count; i++) {
        got[i] = "0123456789abcdef"[ids[i] & 15];
    }
    ck_assert_str_eq(got, want);
    graft_vocab_destroy(&vocab);
    graft_ctx_destroy(&ctx);
}

START_TEST(merges_go_by_rank_also_after_neighbours_have_changed)
{
    // "abcd": bc first (rank 0); the pair a b is gone then, and bc d (rank 2) goes before a bc (rank 3).
    static const char *const tokens[] = {"a", "b", "c", "d", "ab", "bc", "bcd", "abc"};
    static const char *const merges[] = {"b c", "a b", "bc d", "a bc"};
    struct small s = small_of("gpt2");
    s.tokens = tokens;
    s.n_tokens = 8;
    s.merges = merges;
    s.n_merges = 4;
    expect_small(&s, "abcd", false, "06");
    expect_small(&s, "abc", false, "7");
    expect_small(&s, "abab", false, "44");
    static const char *const twice[] = {"b c", "a b", "bc d", "a bc", "a b"};
    s.merges = twice; // the first rank of a pair counts
    s.n_merges = 5;
    expect_small(&s, "abcd", false, "06");
    expect_small(&s, "abd", false, "43");
}
END_TEST

START_TEST(scores_go_before_positions_and_ties_go_left)
{
    static const char *const tokens[] = {"<unk>", "a", "b", "c", "ab", "bc", "\xe2\x96\x81"};
    static const int32_t types[] = {2, 1, 1, 1, 1, 1, 1};
    static const float scores[] = {0, -1, -1, -1, -3, 2, 0}, negative_zero[] = {0, -1, -1, -1, -0.0f, 0, -2};
    struct small s = {.model = "llama",
                      .tokens = tokens,
                      .n_tokens = 7,
                      .types = types,
                      .n_types = 7,
                      .scores = scores,
                      .n_scores = 7,
                      .id_key = "tokenizer.ggml.unknown_token_id"};
    expect_small(&s, "abc", false, "615");
    s.scores = negative_zero;
    expect_small(&s, "abc", false, "643");
    expect_small(&s,
                 "a\xc3\xa9"
                 "b",
                 false, "6102"); // no byte tokens: one unknown token for the character
}
END_TEST

START_TEST(text_never_becomes_control_tokens_by_scores_or_as_unknown)
{
    static const char *const tokens[] = {"<c>", "a", "b", "ab", "\xe2\x96\x81"};
    static const int32_t types[] = {3, 1, 1, 3, 1};
    static const float scores[5] = {0};
    struct small s = {.model = "llama",
                      .tokens = tokens,
                      .n_tokens = 5,
                      .types = types,
                      .n_types = 5,
                      .scores = scores,
                      .n_scores = 5,
                      .id_key = "tokenizer.ggml.unknown_token_id",
                      .id = 0};
    expect_small(&s, "ab?", false, "412"); // "?" has no token, and the unknown one named by the file is a control token
    expect_small(&s, "ab", true, "3");
}
END_TEST

START_TEST(tokens_written_like_control_tokens_are_control_tokens)
{
    static const char *const tokens[] = {"<", "|", "x", ">", "<|x|>", "<x>", "<y>", "y"};
    static const int32_t types[] = {1, 1, 1, 1, 4, 4, 3, 1};
    struct small s = small_of("gpt2");
    s.tokens = tokens;
    s.n_tokens = 8;
    s.n_merges = 0;
    s.types = types;
    s.n_types = 8;
    expect_small(&s, "<|x|>", false, "01213");
    expect_small(&s, "<|x|>", true, "4");
    expect_small(&s, "<x><y>", false, "5073"); // user-defined always, control only when asked for
    expect_small(&s, "<x><y>", true, "56");
}
END_TEST

START_TEST(unknown_models_and_families_are_refused_by_name)
{
    struct small s = small_of("rwkv");
    expect_refusal(&s, GRAFT_E_UNSUPPORTED, "tokenizer.ggml.model is \"rwkv\"; supported are gpt2 (byte-level BPE), llama");
    s = small_of("gpt2");
    s.pre = "default";
    expect_refusal(&s, GRAFT_E_UNSUPPORTED, "tokenizer.ggml.pre is \"default\"; supported are gpt-2");
    s.pre = NULL;
    expect_refusal(&s, GRAFT_E_UNSUPPORTED, "tokenizer.ggml.pre is \"\"");
    s = small_of(NULL);
    expect_refusal(&s, GRAFT_E_FORMAT, "tokenizer.ggml.model");
}
END_TEST

START_TEST(missing_and_empty_tables_are_refused)
{
    struct small s = small_of("gpt2");
    s.tokens = NULL;
    expect_refusal(&s, GRAFT_E_FORMAT, "key tokenizer.ggml.tokens is missing");
    s = small_of("gpt2");
    s.n_tokens = 0;
    expect_refusal(&s, GRAFT_E_FORMAT, "key tokenizer.ggml.tokens is empty");
    s = small_of("gpt2");
    s.merges = NULL;
    expect_refusal(&s, GRAFT_E_FORMAT, "key tokenizer.ggml.merges is missing");
    s = small_of("llama");
    expect_refusal(&s, GRAFT_E_FORMAT, "key tokenizer.ggml.scores is missing");
}
END_TEST

START_TEST(merges_must_name_tokens)
{
    static const char *const bad[] = {"a c", "c a", "b a", "ab", " ab", "ab ", "a  b", "", " ", "a", "a b b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *merges[] = {"a b", bad[i]};
        struct small s = small_of("gpt2");
        s.merges = merges;
        s.n_merges = 2;
        char text[80];
        snprintf(text, sizeof text, "key tokenizer.ggml.merges: item 1 \"%s\" must be two tokens", bad[i]);
        expect_refusal(&s, GRAFT_E_FORMAT, text);
    }
}
END_TEST

START_TEST(merges_never_make_control_tokens)
{
    static const char *const merges[] = {"a b"};
    static const int32_t types[] = {1, 1, 3, 3, 1};
    struct small s = small_of("gpt2");
    s.merges = merges;
    s.types = types;
    s.n_types = 5;
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_vocab *vocab;
    ck_assert_ok(open_small(ctx, &s, &vocab));
    int32_t ids[4];
    uint64_t count;
    ck_assert_ok(graft_vocab_tokenize(vocab, "ab", 2, (struct graft_tokenize_options){0}, ids, 4, &count));
    ck_assert_uint_eq(count, 2);
    ck_assert_ok(graft_vocab_tokenize(vocab, "ab", 2, (struct graft_tokenize_options){.special = true}, ids, 4, &count));
    ck_assert_uint_eq(count, 1);
    graft_vocab_destroy(&vocab);
    graft_ctx_destroy(&ctx);
}
END_TEST

START_TEST(duplicate_tokens_are_refused_with_both_ids)
{
    static const char *const tokens[] = {"a", "b", "ab", "c", "b"};
    struct small s = small_of("gpt2");
    s.tokens = tokens;
    expect_refusal(&s, GRAFT_E_FORMAT, "tokens 1 and 4 have the same text \"b\"");
}
END_TEST

START_TEST(types_and_scores_must_cover_the_tokens)
{
    static const int32_t types[] = {1, 1, 1, 3, 1}, negative[] = {1, 1, -1, 3, 1}, large[] = {1, 1, 1, 7, 1},
                         bytes[] = {1, 6, 1, 3, 1};
    static const float scores[] = {0, -1, -2, 0, 0}, nan_scores[] = {0, -1, NAN, 0, 0};
    struct small s = small_of("gpt2");
    s.types = types;
    s.n_types = 4;
    expect_refusal(&s, GRAFT_E_FORMAT, "key tokenizer.ggml.token_type has 4 items for 5 tokens");
    s.n_types = 5;
    s.types = negative;
    expect_refusal(&s, GRAFT_E_FORMAT, "key tokenizer.ggml.token_type: item 2 is -1, types are 0 to 6");
    s.types = large;
    expect_refusal(&s, GRAFT_E_FORMAT, "item 3 is 7");
    s = small_of("llama");
    s.scores = scores;
    s.n_scores = 4;
    expect_refusal(&s, GRAFT_E_FORMAT, "key tokenizer.ggml.scores has 4 items for 5 tokens");
    s.n_scores = 5;
    s.scores = nan_scores;
    expect_refusal(&s, GRAFT_E_FORMAT, "key tokenizer.ggml.scores: item 2 is not a number");
    s.scores = scores;
    s.types = bytes;
    s.n_types = 5;
    expect_refusal(&s, GRAFT_E_FORMAT, "byte token 1 is \"b\", not like \"<0x0A>\"");
}
END_TEST

START_TEST(special_ids_must_be_tokens)
{
    static const char *const keys[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct small s = small_of("gpt2");
        s.id_key = keys[i];
        s.id = i % 2 ? UINT32_MAX : 5;
        char text[100];
        snprintf(text, sizeof text, "key %s is %u, the vocabulary has tokens 0 to 4", keys[i], s.id);
        expect_refusal(&s, GRAFT_E_FORMAT, text);
    }
}
END_TEST

START_TEST(overlong_tokens_are_refused)
{
    char *large = malloc(16386);
    ck_assert_ptr_nonnull(large);
    memset(large, 'a', 16385);
    large[16385] = '\0';
    const char *tokens[] = {"a", "b", "ab", large};
    struct small s = small_of("gpt2");
    s.tokens = tokens;
    s.n_tokens = 4;
    expect_refusal(&s, GRAFT_E_LIMIT, "token 3 has 16385 bytes, at most 16384 are supported");
    free(large);
}
END_TEST

START_TEST(overlong_merges_are_refused)
{
    char *large = malloc(40001);
    ck_assert_ptr_nonnull(large);
    memset(large, 'a', 40000);
    large[20000] = ' ';
    large[40000] = '\0';
    const char *merges[] = {large};
    struct small s = small_of("gpt2");
    s.merges = merges;
    expect_refusal(&s, GRAFT_E_FORMAT, "key tokenizer.ggml.merges: item 0");
    free(large);
}
END_TEST

START_TEST(wrongly_typed_keys_are_refused)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    static const char *const keys[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.token_type",
                                       "tokenizer.ggml.scores"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        for (int array = 0; array < 2; array++) {
            struct graft_test_gguf b = {0};
            graft_test_gguf_text(&b, "tokenizer.ggml.model", "gpt2");
            graft_test_gguf_text(&b, "tokenizer.ggml.pre", "gpt-2");
            static const char *const texts[] = {"a"};
            static const int32_t numbers[] = {1};
            if (i > 0) {
                graft_test_gguf_texts(&b, "tokenizer.ggml.tokens", texts, 1);
            }
            if (!array) {
                graft_test_gguf_u32(&b, keys[i], 3);
            } else if (i < 2) {
                graft_test_gguf_i32s(&b, keys[i], numbers, 1);
            } else {
                graft_test_gguf_texts(&b, keys[i], texts, 1);
            }
            struct graft_vocab *vocab;
            ck_assert_status(graft_test_vocab_open(ctx, &b, &vocab), GRAFT_E_FORMAT);
            ck_assert_error_has(keys[i]);
            ck_assert_error_has(i < 2 ? "array of strings" : "array of numbers");
        }
    }
    graft_ctx_destroy(&ctx);
}
END_TEST

// Every allocation of loading and of tokenizing fails, alone or with all after it: a clear error, nothing leaked.
START_TEST(every_failing_allocation_is_an_error_and_leaks_nothing)
{
    static const struct {
        const char *kind, *pre, *text;
    } cases[] = {{"bpe", "qwen2", "Cafe\xcc\x81 <|im_start|> \xff 12 the harbour"},
                 {"bpe", "deepseek-llm", "a b\n"},
                 {"spm", NULL, "the \xff harbour"}};
    json_t *golden = graft_test_golden("tokenize.json");
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct graft_test_gguf b = {0};
        graft_test_vocab_keys(&b, golden, cases[c].kind, (struct graft_test_vocab_options){.pre = cases[c].pre});
        graft_test_gguf_finish(&b);
        bool whole = false;
        for (uint64_t n = 2; !whole; n++) { // the first request is the context
            struct graft_test_alloc alloc = {.fail_at = n, .fail_from_then_on = n % 2};
            struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
            struct graft_gguf *gguf = NULL;
            struct graft_vocab *vocab = NULL;
            int32_t ids[64];
            uint64_t count;
            enum graft_status status = graft_gguf_open_memory(ctx, &gguf, b.file, b.file_size, "vocab.gguf", false);
            if (status == GRAFT_OK) {
                status = graft_vocab_create(ctx, &vocab, gguf);
            }
            if (status == GRAFT_OK) {
                struct graft_tokenize_options options = {.special = true, .bos = true};
                status = graft_vocab_tokenize(vocab, cases[c].text, strlen(cases[c].text), options, ids, 64, &count);
            }
            whole = alloc.requests < n;
            ck_assert_msg(status == (whole ? GRAFT_OK : GRAFT_E_MEMORY), "case %zu, allocation %d: %s (%s)", c, (int)n,
                          graft_status_name(status), graft_last_error());
            graft_vocab_destroy(&vocab);
            graft_gguf_close(&gguf);
            graft_ctx_destroy(&ctx);
            ck_assert_msg(alloc.live == 0, "case %zu, allocation %d: %d blocks leaked", c, (int)n, (int)alloc.live);
            ck_assert_uint_lt(n, 500);
        }
        graft_test_gguf_free(&b);
    }
    json_decref(golden);
}
END_TEST

// Bytes of a good file changed at random: refused with a text or read, never a crash; what is read also tokenizes.
START_TEST(damaged_vocabularies_are_refused_or_work)
{
    json_t *golden = graft_test_golden("tokenize.json");
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 0);
    static const char text[] = "Caf\xc3\xa9 <|im_start|> \xff 12 the harbour<tool>don't</s>";
    for (int kind = 0; kind < 2; kind++) {
        struct graft_test_gguf b = {0};
        graft_test_vocab_keys(&b, golden, kind ? "spm" : "bpe", (struct graft_test_vocab_options){.pre = "llama-bpe"});
        graft_test_gguf_finish(&b);
        uint8_t *copy = malloc(b.file_size);
        ck_assert_ptr_nonnull(copy);
        struct graft_test_random random = {.state = 9};
        int refused = 0, read = 0;
        for (int i = 0; i < 1500; i++) {
            memcpy(copy, b.file, b.file_size);
            for (uint64_t n = 1 + graft_test_random_u64(&random) % 4; n > 0; n--) {
                copy[graft_test_random_u64(&random) % b.file_size] = (uint8_t)graft_test_random_u64(&random);
            }
            struct graft_gguf *gguf;
            struct graft_vocab *vocab = NULL;
            enum graft_status status = graft_gguf_open_memory(ctx, &gguf, copy, b.file_size, "vocab.gguf", false);
            if (status == GRAFT_OK) {
                status = graft_vocab_create(ctx, &vocab, gguf);
                graft_gguf_close(&gguf);
            }
            refused += status != GRAFT_OK;
            if (status == GRAFT_OK) {
                int32_t ids[256];
                char back[1024];
                uint64_t count, length;
                struct graft_tokenize_options options = {.special = i % 2, .bos = true};
                ck_assert_ok(graft_vocab_tokenize(vocab, text, sizeof text - 1, options, ids, 256, &count));
                ck_assert_ok(graft_vocab_detokenize(vocab, ids, count, true, back, sizeof back, &length));
                read++;
            } else {
                ck_assert_error_has("vocab.gguf: ");
            }
            graft_vocab_destroy(&vocab);
        }
        ck_assert_msg(refused > 100 && read > 5, "kind %d: %d refused, %d read", kind, refused, read);
        free(copy);
        graft_test_gguf_free(&b);
    }
    json_decref(golden);
    graft_ctx_destroy(&ctx);
    ck_assert_uint_eq(alloc.live, 0);
}
END_TEST

START_TEST(a_budget_too_small_is_an_error)
{
    struct graft_test_alloc alloc = {0};
    struct graft_ctx *ctx = graft_test_ctx(&alloc, 30000);
    struct graft_test_gguf b = {0};
    json_t *golden = graft_test_golden("tokenize.json");
    graft_test_vocab_keys(&b, golden, "bpe", (struct graft_test_vocab_options){0});
    json_decref(golden);
    struct graft_vocab *vocab;
    ck_assert_status(graft_test_vocab_open(ctx, &b, &vocab), GRAFT_E_BUDGET);
    graft_ctx_destroy(&ctx);
    ck_assert_uint_eq(alloc.live, 0);
}
END_TEST

START_TEST(texts_over_the_bound_are_refused_unread)
{
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_vocab *vocab = graft_test_vocab(ctx, "bpe", (struct graft_test_vocab_options){0});
    uint64_t count = 1;
    ck_assert_status(graft_vocab_tokenize(vocab, "a", (64u << 20) + 1, (struct graft_tokenize_options){0}, NULL, 0, &count),
                     GRAFT_E_LIMIT);
    ck_assert_error_has("at most 67108864 bytes");
    ck_assert_uint_eq(count, 0);
    graft_vocab_destroy(&vocab);
    graft_ctx_destroy(&ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vocab refusals");
    TCase *tests = tcase_create("vocab refusals");
    tcase_add_test(tests, a_small_vocabulary_is_read_as_written);
    tcase_add_test(tests, merges_go_by_rank_also_after_neighbours_have_changed);
    tcase_add_test(tests, scores_go_before_positions_and_ties_go_left);
    tcase_add_test(tests, text_never_becomes_control_tokens_by_scores_or_as_unknown);
    tcase_add_test(tests, tokens_written_like_control_tokens_are_control_tokens);
    tcase_add_test(tests, unknown_models_and_families_are_refused_by_name);
    tcase_add_test(tests, missing_and_empty_tables_are_refused);
    tcase_add_test(tests, merges_must_name_tokens);
    tcase_add_test(tests, merges_never_make_control_tokens);
    tcase_add_test(tests, duplicate_tokens_are_refused_with_both_ids);
    tcase_add_test(tests, types_and_scores_must_cover_the_tokens);
    tcase_add_test(tests, special_ids_must_be_tokens);
    tcase_add_test(tests, overlong_tokens_are_refused);
    tcase_add_test(tests, overlong_merges_are_refused);
    tcase_add_test(tests, wrongly_typed_keys_are_refused);
    tcase_add_test(tests, every_failing_allocation_is_an_error_and_leaks_nothing);
    tcase_add_test(tests, damaged_vocabularies_are_refused_or_work);
    tcase_add_test(tests, a_budget_too_small_is_an_error);
    tcase_add_test(tests, texts_over_the_bound_are_refused_unread);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
