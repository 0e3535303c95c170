// SPDX-License-Identifier: Apache-2.0
// Saved sequences and conversations: they go on with the bits of those that were never interrupted, and whatever else a file
// may be is refused in one sentence with nothing lost.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "graft/graft.h"
#include "loaders/sha256.h"
#include "platform/bytes.h"
#include "support/model_world.h"
#include "support/peft_golden.h"

enum { PROMPT = 75, HEADER = 108 };

static const struct graft_vk_options lane;
static const struct {
    bool vk;
    enum graft_kv_type keys, values;
} cases[] = {{false, GRAFT_KV_DEFAULT, GRAFT_KV_DEFAULT},
             {true, GRAFT_KV_DEFAULT, GRAFT_KV_DEFAULT},
             {true, GRAFT_KV_Q8_0, GRAFT_KV_Q4_0}};

static bool open_world(struct graft_test_world *world, int i, const char *path)
{
    struct graft_model_params params = {
        .size = sizeof params, .n_ctx = 512, .n_batch = 32, .n_seq = 2, .kv_keys = cases[i].keys, .kv_values = cases[i].values};
    return graft_test_world_open(world, cases[i].vk ? &lane : NULL, path, &params);
}

static void session_path(char path[64])
{
    snprintf(path, 64, "/tmp/graft-saved-%ld.session", (long)getpid());
}

START_TEST(a_restored_sequence_goes_on_with_the_same_bits)
{
    char path[GRAFT_TINY_PATH_BYTES], file[64], *extra;
    static float before[GRAFT_TINY_VOCAB], after[GRAFT_TINY_VOCAB];
    int32_t ids[PROMPT + 1], got[PROMPT + 1];
    uint32_t n;
    size_t bytes;
    session_path(file);
    graft_tiny_model_file(&(struct graft_tiny_model){.head_dim = 32, .n_layer = 3}, path);
    struct graft_test_world world, other;
    struct graft_seq *seq;
    if (!open_world(&world, _i, path)) {
        remove(path);
        return;
    }
    graft_test_ids(ids, PROMPT + 1, 5);
    ck_assert_ok(graft_seq_create(world.model, &seq));
    graft_test_feed(world.model, seq, ids, PROMPT, 32, NULL);
    ck_assert_ok(graft_seq_save(seq, file, ids, PROMPT + 1, "what I say", 10));
    graft_test_feed(world.model, seq, ids + PROMPT, 1, 1, before);
    graft_seq_destroy(&seq);
    graft_test_world_close(&world);
    ck_assert(open_world(&other, _i, path));
    struct graft_seq *first;
    ck_assert_ok(graft_seq_create(other.model, &first)); // other pages than before
    graft_test_feed(other.model, first, ids + 3, 40, 32, NULL);
    ck_assert_ok(graft_seq_create(other.model, &seq));
    graft_test_feed(other.model, seq, ids + 9, 33, 32, NULL);
    ck_assert_status(graft_seq_restore(seq, file, got, 10, &n, NULL, NULL), GRAFT_E_LIMIT);
    ck_assert_uint_eq(graft_seq_length(seq), 33); // as before
    ck_assert_ok(graft_seq_restore(seq, file, got, PROMPT + 1, &n, &extra, &bytes));
    ck_assert_uint_eq(n, PROMPT + 1);
    ck_assert_uint_eq(graft_seq_length(seq), PROMPT);
    ck_assert_mem_eq(ids, got, sizeof ids);
    ck_assert_uint_eq(bytes, 10);
    ck_assert_str_eq(extra, "what I say");
    graft_text_free(other.model, &extra);
    graft_test_feed(other.model, seq, ids + PROMPT, 1, 1, after);
    ck_assert_mem_eq(before, after, sizeof before);
    graft_seq_destroy(&seq);
    graft_seq_destroy(&first);
    graft_test_world_close(&other);
    remove(file);
    remove(path);
}
END_TEST

static struct graft_chat *make_chat(struct graft_test_world *world, bool raw)
{
    struct graft_chat *chat;
    struct graft_chat_params params = {.size = sizeof params, .system = raw ? NULL : "Be kind.", .max_tokens = 20, .raw = raw};
    params.sampling = (struct graft_sampling){.size = sizeof params.sampling, .temperature = 2, .seed = 11};
    ck_assert_ok(graft_chat_create(world->model, &chat, &params));
    return chat;
}

static void ask(struct graft_chat *chat, const char *question, char *out, size_t room)
{
    bool done = false;
    size_t used = 0;
    ck_assert_ok(graft_chat_send(chat, question, strlen(question)));
    while (!done) {
        const char *piece;
        size_t length;
        ck_assert_ok(graft_chat_next(chat, &piece, &length, &done));
        ck_assert_uint_lt(used + length, room);
        memcpy(out + used, piece, length);
        used += length;
    }
    out[used] = 0;
}

// Also with random draws: the generator's state goes along.
START_TEST(a_restored_conversation_answers_as_the_one_that_went_on)
{
    char path[GRAFT_TINY_PATH_BYTES], file[64], text[2][3][1024];
    const char *json;
    char history[8192];
    bool raw = _i % 2;
    struct graft_chat_stats stats[2];
    session_path(file);
    graft_tiny_model_file(&(struct graft_tiny_model){.head_dim = 32}, path);
    struct graft_test_world world, other;
    if (!open_world(&world, _i / 2, path)) {
        remove(path);
        return;
    }
    struct graft_chat *chat = make_chat(&world, raw);
    ask(chat, "Who?", text[0][0], 1024);
    ask(chat, "Why?", text[0][1], 1024);
    ck_assert_ok(graft_chat_save(chat, file));
    ask(chat, "And then?", text[0][2], 1024);
    graft_chat_last_stats(chat, &stats[0]);
    ck_assert_ok(graft_chat_history(chat, &json));
    snprintf(history, sizeof history, "%s", json);
    graft_chat_destroy(&chat);
    graft_test_world_close(&world);
    ck_assert(open_world(&other, _i / 2, path));
    chat = make_chat(&other, raw);
    ask(chat, "Something else", text[1][0], 1024);
    ck_assert_ok(graft_chat_restore(chat, file));
    ask(chat, "And then?", text[1][2], 1024);
    graft_chat_last_stats(chat, &stats[1]);
    ck_assert_str_eq(text[0][2], text[1][2]);
    ck_assert_uint_eq(stats[0].prompt_tokens, stats[1].prompt_tokens);
    ck_assert_uint_eq(stats[0].reused_tokens, stats[1].reused_tokens);
    ck_assert_ok(graft_chat_history(chat, &json));
    ck_assert_str_eq(json, history);
    ck_assert_ok(graft_chat_undo(chat));
    ck_assert_ok(graft_chat_undo(chat));
    graft_chat_destroy(&chat);
    chat = make_chat(&other, !raw);
    ck_assert_status(graft_chat_restore(chat, file), GRAFT_E_ARGUMENT);
    ck_assert_error_has(raw ? "is a raw conversation, this one is templated" : "is a templated conversation, this one is raw");
    graft_chat_destroy(&chat);
    graft_test_world_close(&other);
    remove(file);
    remove(path);
}
END_TEST

static uint8_t *read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(1 << 20);
    ck_assert(f && data);
    *size = fread(data, 1, 1 << 20, f);
    fclose(f);
    return data;
}

static void write_file(const char *path, const uint8_t *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    ck_assert(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
}

// Make the digest at the end right again.
static void sign(uint8_t *data, size_t size)
{
    struct graft_sha256 hash;
    graft_sha256_begin(&hash);
    graft_sha256_add(&hash, data, size - 32);
    graft_sha256_end(&hash, data + size - 32);
}

START_TEST(damaged_and_hostile_files_are_refused_and_nothing_is_lost)
{
    static const struct {
        uint32_t number, value; // of the header's words
        enum graft_status status;
        const char *says;
    } words[] = {{0, 2, GRAFT_E_UNSUPPORTED, "format 2, this version reads format 1"},
                 {1, 1, GRAFT_E_ARGUMENT, "order of rotary pairs"},
                 {2, 3, GRAFT_E_ARGUMENT, "number of layers is 3, this model's is 2"},
                 {3, 9, GRAFT_E_ARGUMENT, "number of KV heads"},
                 {4, 64, GRAFT_E_ARGUMENT, "head size is 64"},
                 {5, 2, GRAFT_E_ARGUMENT, "keys of type q8_0, the model is open with f16"},
                 {6, 77, GRAFT_E_ARGUMENT, "values of type unknown"},
                 {7, 64, GRAFT_E_FORMAT, "pages of 64 tokens"},
                 {8, 70, GRAFT_E_FORMAT, "of which 70 are computed"},
                 {8, 20, GRAFT_E_FORMAT, "are too many"},
                 {9, 4000000000u, GRAFT_E_CONTEXT_FULL, "the context has room"},
                 {9, 500, GRAFT_E_FORMAT, "needs "},
                 {10, 200, GRAFT_E_FORMAT, "200 adapters"},
                 {10, 1, GRAFT_E_FORMAT, ""},
                 {14, 1, GRAFT_E_FORMAT, "has window pages from 1 on, its next token needs those from 0 on"},
                 {11, 4000000000u, GRAFT_E_FORMAT, "bytes of conversation"},
                 {11, 5, GRAFT_E_FORMAT, "needs 32768 bytes"}};
    char path[GRAFT_TINY_PATH_BYTES], other[GRAFT_TINY_PATH_BYTES], file[64];
    static float before[GRAFT_TINY_VOCAB], after[GRAFT_TINY_VOCAB];
    struct graft_test_world world;
    struct graft_seq *seq;
    int32_t ids[40], got[64];
    uint32_t n;
    size_t size;
    session_path(file);
    graft_tiny_model_file(&(struct graft_tiny_model){.head_dim = 32}, path);
    graft_tiny_model_file(&(struct graft_tiny_model){.head_dim = 32, .seed = 5}, other);
    ck_assert(open_world(&world, 0, path));
    graft_test_ids(ids, 40, 5);
    ck_assert_ok(graft_seq_create(world.model, &seq));
    graft_test_feed(world.model, seq, ids, 40, 32, NULL);
    ck_assert_ok(graft_seq_save(seq, file, ids, 40, "{}", 2));
    uint8_t *good = read_file(file, &size), *bad = malloc(size + 1);
    uint64_t requests = world.alloc.requests;
    for (size_t i = 0; i < size; i += i < 400 ? 1 : 997) { // cut; flipped, with and without a right digest
        write_file(file, good, i);
        ck_assert_int_ne(graft_seq_restore(seq, file, got, 64, &n, NULL, NULL), GRAFT_OK);
        ck_assert_ptr_nonnull(strstr(graft_last_error(), file));
        memcpy(bad, good, size);
        bad[i] ^= 0x40;
        write_file(file, bad, size);
        ck_assert_int_ne(graft_seq_restore(seq, file, got, 64, &n, NULL, NULL), GRAFT_OK);
        if (i < 400 && i < size - 32) {
            sign(bad, size);
            write_file(file, bad, size);
            (void)(graft_seq_restore(seq, file, got, 64, &n, NULL, NULL) == GRAFT_OK); // tokens may be others; nothing breaks
        }
    }
    ck_assert_uint_eq(world.alloc.requests, requests); // nothing was ever allocated by what a file says
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        memcpy(bad, good, size);
        for (int k = 0; k < 4; k++) {
            bad[40 + 4 * words[i].number + k] = (uint8_t)(words[i].value >> 8 * k);
        }
        sign(bad, size);
        write_file(file, bad, size);
        ck_assert_status(graft_seq_restore(seq, file, got, 64, &n, NULL, NULL), words[i].status);
        ck_assert_error_has(words[i].says);
    }
    memcpy(bad, good, size);
    memset(bad + HEADER, 0xff, 4); // a token
    sign(bad, size);
    write_file(file, bad, size);
    ck_assert_status(graft_seq_restore(seq, file, got, 64, &n, NULL, NULL), GRAFT_E_FORMAT);
    ck_assert_error_has("token 0 is -1");
    write_file(file, good, size);
    struct graft_chat *chat = make_chat(&world, false);
    ck_assert_status(graft_chat_restore(chat, file), GRAFT_E_FORMAT); // {} is no conversation
    ck_assert_error_has("holds no conversation");
    char text[1024];
    ask(chat, "Still there?", text, sizeof text);
    graft_chat_destroy(&chat);
    ck_assert_ok(graft_seq_restore(seq, file, got, 64, &n, NULL, NULL));
    graft_test_feed(world.model, seq, ids, 1, 1, before);
    graft_seq_truncate(seq, 0);
    graft_test_feed(world.model, seq, ids, 40, 32, NULL);
    graft_test_feed(world.model, seq, ids, 1, 1, after);
    ck_assert_mem_eq(before, after, sizeof before);
    ck_assert_status(graft_seq_restore(seq, "/tmp/graft-no-such.session", got, 64, &n, NULL, NULL), GRAFT_E_IO);
    ck_assert_status(graft_seq_save(seq, "/proc/nowhere/x.session", got, 41, NULL, 0), GRAFT_E_IO);
    ck_assert_status(graft_seq_save(seq, file, got, 40, NULL, 0), GRAFT_E_ARGUMENT); // it has 41
    graft_seq_destroy(&seq);
    graft_test_world_close(&world);
    ck_assert(open_world(&world, 0, other));
    ck_assert_ok(graft_seq_create(world.model, &seq));
    ck_assert_status(graft_seq_restore(seq, file, got, 64, &n, NULL, NULL), GRAFT_E_ARGUMENT);
    ck_assert_error_has("another base model");
    graft_seq_destroy(&seq);
    graft_test_world_close(&world);
    free(good);
    free(bad);
    remove(file);
    remove(path);
    remove(other);
}
END_TEST

START_TEST(adapters_and_weights_must_be_those_it_was_computed_with)
{
    char path[GRAFT_PEFT_PATH_BYTES], file[64];
    struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
    struct graft_device *device;
    struct graft_model *model;
    struct graft_seq *seq;
    struct graft_adapter *a, *b;
    static float logits[2][GRAFT_PEFT_TOKENS][GRAFT_PEFT_VOCAB];
    int32_t got[64];
    uint32_t n;
    session_path(file);
    ck_assert_ok(graft_device_open(ctx, &device,
                                   &(struct graft_device_params){.size = sizeof(struct graft_device_params), .select = "ref"}));
    graft_peft_path(path, "base.gguf");
    struct graft_model_params params = {.size = sizeof params, .adapter_pool_bytes = 1 << 22};
    ck_assert_ok(graft_model_open(device, &model, path, &params));
    graft_peft_path(path, "plain");
    ck_assert_ok(graft_adapter_load(model, &a, path));
    graft_peft_path(path, "rslora");
    ck_assert_ok(graft_adapter_load(model, &b, path));
    ck_assert_ok(graft_seq_create(model, &seq));
    struct graft_adapter_use uses[2] = {{.adapter = a, .weight = 1}, {.adapter = b, .weight = 0.5f}};
    ck_assert_ok(graft_seq_set_adapters(seq, uses, 2));
    graft_peft_compute(model, seq, false, logits[0]);
    ck_assert_ok(graft_seq_save(seq, file, graft_peft_ids, GRAFT_PEFT_TOKENS, NULL, 0));
    graft_seq_truncate(seq, 0);
    ck_assert_ok(graft_seq_set_adapters(seq, uses, 1));
    ck_assert_status(graft_seq_restore(seq, file, got, 64, &n, NULL, NULL), GRAFT_E_ARGUMENT);
    ck_assert_error_has("was computed with 2 adapters, 1 are set");
    uses[1].weight = 0.25f;
    graft_seq_truncate(seq, 0);
    ck_assert_ok(graft_seq_set_adapters(seq, uses, 2));
    ck_assert_status(graft_seq_restore(seq, file, got, 64, &n, NULL, NULL), GRAFT_E_ARGUMENT);
    ck_assert_error_has("adapter 2 had weight 0.5, now it has 0.25");
    uses[0].adapter = b, uses[1].adapter = a;
    graft_seq_truncate(seq, 0);
    ck_assert_ok(graft_seq_set_adapters(seq, uses, 2));
    ck_assert_status(graft_seq_restore(seq, file, got, 64, &n, NULL, NULL), GRAFT_E_ARGUMENT);
    ck_assert_error_has("adapter 1 was ");
    uses[0] = (struct graft_adapter_use){.adapter = a, .weight = 1};
    uses[1] = (struct graft_adapter_use){.adapter = b, .weight = 0.5f};
    graft_seq_truncate(seq, 0);
    ck_assert_ok(graft_seq_set_adapters(seq, uses, 2));
    ck_assert_ok(graft_seq_restore(seq, file, got, 64, &n, NULL, NULL));
    ck_assert_uint_eq(n, GRAFT_PEFT_TOKENS);
    ck_assert_uint_eq(graft_seq_length(seq), GRAFT_PEFT_TOKENS);
    graft_seq_destroy(&seq);
    graft_adapter_release(&a);
    graft_adapter_release(&b);
    graft_model_close(&model);
    graft_device_close(&device);
    graft_ctx_destroy(&ctx);
    remove(file);
}
END_TEST

START_TEST(every_failing_allocation_leaves_file_and_conversation_as_they_were)
{
    char path[GRAFT_TINY_PATH_BYTES], file[64], text[1024];
    struct graft_test_world world;
    size_t size, now;
    session_path(file);
    graft_tiny_model_file(&(struct graft_tiny_model){.head_dim = 32}, path);
    ck_assert(open_world(&world, 0, path));
    struct graft_chat *chat = make_chat(&world, false);
    ask(chat, "Who?", text, sizeof text);
    ck_assert_ok(graft_chat_save(chat, file));
    uint8_t *good = read_file(file, &size);
    for (int restoring = 0; restoring < 2; restoring++) {
        enum graft_status status = GRAFT_E_MEMORY;
        for (uint32_t k = 1; status != GRAFT_OK; k++) {
            ck_assert_uint_lt(k, 100);
            world.alloc.fail_at = world.alloc.requests + k;
            status = restoring ? graft_chat_restore(chat, file) : graft_chat_save(chat, file);
            ck_assert(status == GRAFT_OK || status == GRAFT_E_MEMORY);
            uint8_t *data = read_file(file, &now);
            ck_assert_uint_eq(now, size);
            ck_assert_mem_eq(data, good, size);
            free(data);
        }
        world.alloc.fail_at = 0;
        ask(chat, "Go on.", text, sizeof text);
        if (!restoring) {
            ck_assert_ok(graft_chat_restore(chat, file));
        }
    }
    graft_chat_destroy(&chat);
    graft_test_world_close(&world);
    free(good);
    remove(file);
    remove(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("saved");
    TCase *tc = tcase_create("saved");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, a_restored_sequence_goes_on_with_the_same_bits, 0, sizeof cases / sizeof *cases);
    tcase_add_loop_test(tc, a_restored_conversation_answers_as_the_one_that_went_on, 0, 6);
    tcase_add_test(tc, damaged_and_hostile_files_are_refused_and_nothing_is_lost);
    tcase_add_test(tc, adapters_and_weights_must_be_those_it_was_computed_with);
    tcase_add_test(tc, every_failing_allocation_leaves_file_and_conversation_as_they_were);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
