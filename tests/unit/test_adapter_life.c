// SPDX-License-Identifier: Apache-2.0
// Adapters coming and going while sequences run: swaps, compaction of the pool, what a sequence keeps.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "platform/plat.h"
#include "runtime/vk/vk_internal.h"
#include "support/model_world.h"

enum { VOCAB = 288, ADAPTERS = 8, SLOTS = 3, POOL = 112 << 10, SWAPS = 1000, LONG = 32 };

static const char *const names[ADAPTERS] = {"plain", "rslora", "rank1", "rank256", "regex", "f16", "bf16", "alora"};
static const int32_t ids[3] = {5, 130, 77};

static void golden_path(char path[512], const char *name)
{
    snprintf(path, 512, "%s/golden/peft/%s", GRAFT_TEST_SOURCE_DIR, name);
}

static struct graft_adapter *load(struct graft_model *model, const char *name)
{
    char path[512];
    struct graft_adapter *adapter;
    golden_path(path, name);
    ck_assert_ok(graft_adapter_load(model, &adapter, path));
    return adapter;
}

static struct graft_adapter_load *begin(struct graft_model *model, const char *name)
{
    char path[512];
    struct graft_adapter_load *under_way;
    golden_path(path, name);
    ck_assert_ok(graft_adapter_load_begin(model, &under_way, path));
    return under_way;
}

static void choose(struct graft_seq *seq, struct graft_adapter *adapter)
{
    graft_seq_truncate(seq, 0);
    ck_assert_ok(graft_seq_set_adapters(seq, &(struct graft_adapter_use){.adapter = adapter, .weight = 1}, adapter != NULL));
}

static int32_t long_id(uint32_t i)
{
    return (int32_t)(i * 37 % VOCAB);
}

static const struct graft_model_params PARAMS = {.size = sizeof PARAMS,
                                                 .n_ctx = 64,
                                                 .n_batch = 8,
                                                 .n_seq = 2,
                                                 .adapter_pool_bytes = POOL,
                                                 .adapter_slots = SLOTS};

// The stream's next token, which must be what it was before any swap.
static void step(struct graft_model *model, struct graft_seq *busy, uint32_t *at, float stream[LONG][VOCAB])
{
    float logits[VOCAB];
    int32_t id = long_id(*at);
    if (*at == 0) {
        graft_seq_truncate(busy, 0);
    }
    graft_test_feed(model, busy, &id, 1, 1, logits);
    ck_assert_msg(memcmp(logits, stream[*at], sizeof logits) == 0, "the stream beside loads, token %u", *at);
    *at = (*at + 1) % LONG;
}

// Odd tests use Vulkan; the last one a device whose pool is not mapped.
static bool open_world(struct graft_test_world *world, int number, const struct graft_model_params *params)
{
    struct graft_vk_options options = graft_test_mask_options(number == 2 ? GRAFT_TEST_STAGED : GRAFT_TEST_PLAIN);
    char path[512];
    golden_path(path, "base.gguf");
    return graft_test_world_open(world, number ? &options : NULL, path, params);
}

// Pages that were full of NaN and infinities belong to another sequence: what it has not written yet touches nothing.
START_TEST(what_is_no_number_stays_where_it_was)
{
    struct graft_test_world world;
    struct graft_seq *seq;
    float want[VOCAB], got[VOCAB];
    int32_t tokens[40];
    bool wild = false;
    if (!open_world(&world, _i, &PARAMS)) {
        return;
    }
    ck_assert_ok(graft_seq_create(world.model, &seq));
    for (uint32_t i = 0; i < 40; i++) {
        tokens[i] = long_id(i);
    }
    graft_test_feed(world.model, seq, tokens, 35, 8, want);
    struct graft_adapter *adapter = load(world.model, "plain");
    graft_seq_truncate(seq, 0);
    ck_assert_ok(graft_seq_set_adapters(seq, &(struct graft_adapter_use){.adapter = adapter, .weight = 3e38f}, 1));
    graft_test_feed(world.model, seq, tokens, 40, 8, got);
    for (uint32_t i = 0; i < VOCAB; i++) {
        wild = wild || isnan(got[i]);
    }
    ck_assert_msg(wild, "no NaN to begin with");
    choose(seq, NULL);
    graft_adapter_release(&adapter);
    graft_test_feed(world.model, seq, tokens, 35, 8, got);
    ck_assert_mem_eq(want, got, sizeof got);
    graft_seq_destroy(&seq);
    graft_test_world_close(&world);
}
END_TEST

START_TEST(a_thousand_swaps_under_generation_change_no_answer_and_leak_nothing)
{
    static float alone[ADAPTERS][VOCAB], stream[LONG][VOCAB];
    struct graft_test_world world;
    struct graft_test_random random = {.state = 11};
    struct graft_seq *busy, *seq;
    const float *logits;
    uint32_t at = 0, most_waits = 0;
    if (!open_world(&world, _i, &PARAMS)) {
        return;
    }
    struct graft_model *model = world.model;
    ck_assert_ok(graft_seq_create(model, &busy));
    ck_assert_ok(graft_seq_create(model, &seq));
    for (uint32_t a = 0; a < ADAPTERS; a++) { // what each says alone
        struct graft_adapter *adapter = load(model, names[a]);
        choose(seq, adapter);
        graft_test_feed(model, seq, ids, 3, 3, alone[a]);
        choose(seq, NULL);
        graft_adapter_release(&adapter);
    }
    struct graft_adapter *own = load(model, "rslora");
    choose(busy, own);
    graft_adapter_release(&own); // the sequence holds it
    for (uint32_t i = 0; i < LONG; i++) {
        int32_t id = long_id(i);
        graft_test_feed(model, busy, &id, 1, 1, stream[i]);
    }
    struct graft_memory_use before, after;
    struct graft_device_counters counted, later;
    graft_ctx_memory(world.ctx, &before);
    graft_device_count(&world.device, &counted);
    for (uint32_t swap = 0; swap < SWAPS; swap++) {
        uint64_t chance = graft_test_random_u64(&random) >> 20;
        uint32_t a = (uint32_t)chance % ADAPTERS, waits = 0;
        struct graft_adapter *adapter = NULL;
        if (chance >> 20 & 1) {
            adapter = load(model, names[a]);
        } else { // beside the stream
            struct graft_adapter_load *under_way = begin(model, names[a]);
            while (!graft_adapter_load_ready(under_way)) {
                step(model, busy, &at, stream);
                waits++;
            }
            ck_assert_ok(graft_adapter_load_end(&under_way, &adapter));
            most_waits = waits > most_waits ? waits : most_waits;
        }
        choose(seq, adapter);
        graft_adapter_release(&adapter);
        if (at == 0) {
            graft_seq_truncate(busy, 0);
        }
        struct graft_row rows[4] = {{seq, ids[0], false}, {busy, long_id(at), true}, {seq, ids[1], false}, {seq, ids[2], true}};
        ck_assert_ok(graft_decode(model, rows, 4, GRAFT_WANT_LOGITS));
        ck_assert_ok(graft_model_logits(model, 3, &logits));
        ck_assert_msg(memcmp(logits, alone[a], sizeof alone[a]) == 0, "swap %u: %s", swap, names[a]);
        ck_assert_ok(graft_model_logits(model, 1, &logits));
        ck_assert_msg(memcmp(logits, stream[at], sizeof stream[at]) == 0, "swap %u: the stream beside it", swap);
        at = (at + 1) % LONG;
    }
    choose(seq, NULL);
    graft_ctx_memory(world.ctx, &after);
    graft_device_count(&world.device, &later);
    ck_assert_uint_eq(after.used_bytes, before.used_bytes);
    ck_assert_uint_eq(later.device_allocations, counted.device_allocations);
    bool copies = _i > 0 && !world.device.vk->mapped_device; // every one is a recording
    ck_assert(later.recordings == counted.recordings || copies);
    ck_assert_uint_gt(most_waits, 0);
    ck_assert_uint_eq(later.descriptor_updates, counted.descriptor_updates);
    ck_assert_uint_gt(model->pool->n_compactions, 20);
    graft_seq_destroy(&seq);
    graft_seq_destroy(&busy);
    graft_test_world_close(&world);
}
END_TEST

START_TEST(a_sequence_keeps_what_a_choice_does_not_change)
{
    static const int32_t prompt[8] = {3, 7, 9, 20, 7, 9, 31, 32};
    struct graft_test_world world;
    struct graft_seq *seq;
    char path[512];
    golden_path(path, "base.gguf");
    ck_assert(graft_test_world_open(&world, NULL, path, &PARAMS));
    ck_assert_ok(graft_seq_create(world.model, &seq));
    struct graft_adapter *plain = load(world.model, "plain"), *alora = load(world.model, "alora");
    struct graft_adapter_use one = {.adapter = plain, .weight = 1}, half = {.adapter = plain, .weight = 0.5f},
                             late = {.adapter = alora, .weight = 1};
    late.from = graft_adapter_invoked(alora, prompt, 8);
    ck_assert_uint_eq(late.from, 4); // the last of the two
    ck_assert_uint_eq(graft_adapter_invoked(alora, prompt, 2), 2);
    ck_assert_uint_eq(graft_adapter_invoked(plain, prompt, 8), 0);
    ck_assert_ok(graft_seq_set_adapters(seq, &one, 1));
    graft_test_feed(world.model, seq, prompt, 4, 4, NULL);
    ck_assert_ok(graft_seq_set_adapters(seq, &one, 1)); // the same choice
    ck_assert_uint_eq(graft_seq_length(seq), 4);
    ck_assert_status(graft_seq_set_adapters(seq, &half, 1), GRAFT_E_ARGUMENT); // another weight
    ck_assert_error_has("truncate it to 0 first");
    ck_assert_status(graft_seq_set_adapters(seq, NULL, 0), GRAFT_E_ARGUMENT);
    graft_seq_truncate(seq, 0);
    ck_assert_ok(graft_seq_set_adapters(seq, NULL, 0));
    graft_test_feed(world.model, seq, prompt, 4, 4, NULL);
    ck_assert_ok(graft_seq_set_adapters(seq, &late, 1)); // begins behind what is computed
    graft_test_feed(world.model, seq, prompt + 4, 4, 4, NULL);
    ck_assert_status(graft_seq_set_adapters(seq, NULL, 0), GRAFT_E_ARGUMENT);
    ck_assert_error_has("of which 4 were computed with other adapters: truncate it to 4 first");
    struct graft_adapter_use both[2] = {late, late};
    ck_assert_status(graft_seq_set_adapters(seq, both, 2), GRAFT_E_ARGUMENT);
    ck_assert_error_has("are aLoRA");
    struct graft_adapter_info info, infos[SLOTS];
    uint32_t count;
    graft_adapter_list(world.model, infos, SLOTS, &count);
    ck_assert_uint_eq(count, 2);
    graft_adapter_describe(alora, &info);
    ck_assert(info.references == 2 && info.hits == 1 && info.n_invocation == 2 && info.invocation[1] == 9);
    graft_adapter_release(&plain);
    graft_adapter_release(&alora);
    ck_assert_uint_eq(graft_adapter_expire(world.model, 0), 1); // the other one is held by the sequence
    graft_seq_destroy(&seq);
    ck_assert_uint_eq(graft_adapter_expire(world.model, 0), 1);
    graft_test_world_close(&world);
}
END_TEST

static struct graft_adapter_info find(struct graft_model *model, const char *digest)
{
    struct graft_adapter_info infos[SLOTS];
    uint32_t count;
    graft_adapter_list(model, infos, SLOTS, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(infos[i].digest, digest) == 0) {
            return infos[i];
        }
    }
    return (struct graft_adapter_info){0};
}

START_TEST(loads_beside_generation_end_as_others_do)
{
    struct graft_test_world world;
    struct graft_adapter *adapter, *other;
    struct graft_adapter_info info, twin;
    if (!open_world(&world, _i, &PARAMS)) {
        return;
    }
    struct graft_model *model = world.model;
    // Two of the same bytes and one of others, without a batch between them: the end does the work.
    struct graft_adapter_load *loads[3] = {begin(model, "plain"), begin(model, "plain"), begin(model, "rank1")};
    ck_assert_ok(graft_adapter_load_end(&loads[1], &other));
    ck_assert_ptr_null(loads[1]);
    ck_assert_ok(graft_adapter_load_end(&loads[0], &adapter));
    graft_adapter_describe(adapter, &info);
    graft_adapter_describe(other, &twin);
    ck_assert_str_eq(info.digest, twin.digest);
    ck_assert(info.references == 2 && info.loads == 1 && info.hits == 1);
    graft_adapter_release(&other);
    ck_assert_ok(graft_adapter_load_end(&loads[2], &other));
    graft_adapter_release(&other);
    // An error waits for the end, with the sentence of its thread; what was there still is.
    ck_assert_ok(graft_adapter_load_begin(model, &loads[0], "/nowhere/at/all"));
    ck_assert_status(graft_adapter_load_end(&loads[0], &other), GRAFT_E_IO);
    ck_assert_error_has("/nowhere/at/all");
    ck_assert_ptr_null(other);
    graft_adapter_describe(adapter, &info);
    ck_assert(info.references == 1);
    // Counts outlive being dropped.
    char digest[65];
    memcpy(digest, info.digest, sizeof digest);
    graft_adapter_release(&adapter);
    ck_assert_uint_eq(graft_adapter_expire(model, 0), 2);
    ck_assert_uint_eq(find(model, digest).loads, 0);
    adapter = load(model, "plain");
    ck_assert(find(model, digest).loads == 2 && find(model, digest).hits == 1);
    graft_adapter_release(&adapter);
    graft_test_world_close(&world);
}
END_TEST

START_TEST(a_load_given_up_leaves_nothing_behind)
{
    struct graft_test_world world;
    struct graft_seq *seq;
    static float before[VOCAB], after[VOCAB];
    if (!open_world(&world, _i, &PARAMS)) {
        return;
    }
    struct graft_model *model = world.model;
    ck_assert_ok(graft_seq_create(model, &seq));
    struct graft_memory_use use, later;
    for (uint32_t pieces = 0; pieces < 7; pieces++) { // after so many pieces of work it is given up
        struct graft_adapter *first = load(model, "dora"), *moved = load(model, "plain");
        choose(seq, moved);
        graft_test_feed(model, seq, ids, 3, 3, before);
        graft_adapter_release(&first);
        graft_adapter_expire(model, 0); // rank256 fits only when the other one is moved down
        graft_ctx_memory(world.ctx, &use);
        struct graft_adapter_load *under_way = begin(model, "rank256");
        model->run_ns = 0; // one piece at a time
        for (uint32_t i = 0; i < pieces; i++) {
            while (!graft_adapter_load_ready(under_way) && !model->placing) { // until it is prepared
            }
        }
        graft_adapter_load_cancel(&under_way);
        ck_assert_ptr_null(under_way);
        ck_assert(!model->lost && !model->placing && !model->loads);
        graft_adapter_expire(model, 0);
        graft_ctx_memory(world.ctx, &later);
        ck_assert_uint_eq(later.used_bytes, use.used_bytes);
        first = load(model, "dora"); // may not be written over the other one
        graft_adapter_release(&first);
        graft_seq_truncate(seq, 0);
        graft_test_feed(model, seq, ids, 3, 3, after);
        ck_assert_msg(memcmp(before, after, sizeof before) == 0, "after %u pieces", pieces);
        ck_assert_uint_eq(model->pool->n_compactions, pieces);
        choose(seq, NULL);
        graft_adapter_release(&moved);
        graft_adapter_expire(model, 0);
    }
    graft_adapter_load_cancel(NULL);
    graft_seq_destroy(&seq);
    graft_test_world_close(&world);
}
END_TEST

// Load as `beside` says; an error counts only with a sentence.
static enum graft_status try_load(struct graft_model *model, const char *path, bool beside)
{
    struct graft_adapter *adapter = NULL;
    struct graft_adapter_load *under_way = NULL;
    enum graft_status status =
        beside ? graft_adapter_load_begin(model, &under_way, path) : graft_adapter_load(model, &adapter, path);
    status = status == GRAFT_OK && beside ? graft_adapter_load_end(&under_way, &adapter) : status;
    ck_assert((status == GRAFT_OK) == (adapter != NULL));
    ck_assert(status == GRAFT_OK || strlen(graft_last_error()) > 10);
    graft_adapter_release(&adapter);
    return status;
}

START_TEST(each_allocation_of_a_load_may_fail)
{
    struct graft_test_world world;
    struct graft_memory_use use, later;
    char path[512];
    if (!open_world(&world, 0, &PARAMS)) {
        return;
    }
    golden_path(path, "dora-patterns");
    ck_assert_ok(try_load(world.model, path, false));
    graft_adapter_expire(world.model, 0);
    graft_ctx_memory(world.ctx, &use);
    uint32_t failed = 0;
    for (uint64_t n = 1;; n++) {
        world.alloc.fail_at = world.alloc.requests + n;
        enum graft_status status = try_load(world.model, path, _i);
        world.alloc.fail_at = 0;
        graft_adapter_expire(world.model, 0);
        graft_ctx_memory(world.ctx, &later);
        ck_assert_msg(later.used_bytes == use.used_bytes && !world.model->loads, "allocation %u", (unsigned)n);
        if (status == GRAFT_OK) {
            break;
        }
        ck_assert_msg(status == GRAFT_E_MEMORY, "allocation %u: %s", (unsigned)n, graft_last_error());
        failed++;
    }
    ck_assert_uint_gt(failed, 10);
    graft_test_world_close(&world);
}
END_TEST

START_TEST(a_copy_that_fails_while_loading_loses_the_model_or_nothing)
{
    static const enum graft_vk_fault kinds[] = {GRAFT_VK_FAULT_RECORD, GRAFT_VK_FAULT_SUBMIT, GRAFT_VK_FAULT_WAIT};
    char path[512];
    static float before[VOCAB], after[VOCAB];
    struct graft_model_params one_row = PARAMS; // opens faster
    one_row.n_batch = one_row.n_seq = 1;
    golden_path(path, "rank256");
    bool struck = true;
    for (uint64_t n = 1; struck; n++) {
        struct graft_test_world world;
        struct graft_seq *seq;
        if (!open_world(&world, 2, &one_row)) {
            return;
        }
        struct graft_adapter *first = load(world.model, "dora"), *moved = load(world.model, "plain");
        ck_assert_ok(graft_seq_create(world.model, &seq));
        choose(seq, moved);
        graft_test_feed(world.model, seq, ids, 3, 1, before);
        graft_adapter_release(&first);
        graft_adapter_expire(world.model, 0);
        graft_vk_fault(world.device.vk, kinds[_i], n);
        enum graft_status status = try_load(world.model, path, false);
        struck = world.device.vk->fault_left[kinds[_i]] == 0;
        graft_vk_fault(world.device.vk, kinds[_i], 0);
        ck_assert((status == GRAFT_OK) == !struck);
        graft_seq_truncate(seq, 0);
        if (world.model->lost) {
            struct graft_row row = {seq, 1, true};
            ck_assert_status(graft_decode(world.model, &row, 1, GRAFT_WANT_LOGITS), GRAFT_E_DEVICE_LOST);
            ck_assert_status(try_load(world.model, path, true), GRAFT_E_DEVICE_LOST);
        } else {
            graft_test_feed(world.model, seq, ids, 3, 1, after);
            ck_assert_msg(memcmp(before, after, sizeof before) == 0, "call %u", (unsigned)n);
        }
        choose(seq, NULL);
        graft_adapter_release(&moved);
        graft_seq_destroy(&seq);
        graft_test_world_close(&world);
        ck_assert_uint_lt(n, 40);
    }
}
END_TEST

// Copy the two files of a golden adapter into a folder, over what is there.
static void put_files(const char *folder, const char *name)
{
    static const char *const files[] = {"adapter_model.safetensors", "adapter_config.json"};
    for (int i = 0; i < 2; i++) {
        char from[600], to[600], *bytes;
        uint64_t size;
        snprintf(from, sizeof from, "%s/golden/peft/%s/%s", GRAFT_TEST_SOURCE_DIR, name, files[i]);
        snprintf(to, sizeof to, "%s/%s", folder, files[i]);
        struct graft_ctx *ctx = graft_test_ctx(NULL, 0);
        ck_assert_ok(graft_file_read(ctx, from, 1 << 20, &bytes, &size));
        ck_assert_ok(graft_file_replace(to, bytes, size));
        GRAFT_FREE(ctx, &bytes);
        graft_ctx_destroy(&ctx);
    }
}

START_TEST(a_replaced_file_is_another_adapter_and_the_old_one_goes_on)
{
    struct graft_test_world world;
    struct graft_seq *old, *new;
    static float before[VOCAB], after[VOCAB], other[VOCAB];
    struct graft_adapter *first, *again, *second;
    struct graft_adapter_info infos[3];
    char folder[64];
    ck_assert(open_world(&world, 0, &PARAMS));
    graft_test_folder(folder);
    put_files(folder, "plain");
    ck_assert_ok(graft_adapter_load(world.model, &first, folder));
    ck_assert_ok(graft_seq_create(world.model, &old));
    ck_assert_ok(graft_seq_create(world.model, &new));
    choose(old, first);
    graft_test_feed(world.model, old, ids, 2, 2, NULL);
    choose(new, first);
    graft_test_feed(world.model, new, ids, 3, 3, before); // what the old one says to the third token
    put_files(folder, "rslora");
    ck_assert_ok(graft_adapter_load(world.model, &second, folder));
    graft_test_feed(world.model, old, ids + 2, 1, 1, after); // in the middle of its conversation
    ck_assert(memcmp(before, after, sizeof before) == 0);
    choose(new, second);
    graft_test_feed(world.model, new, ids, 3, 3, other);
    ck_assert(memcmp(other, after, sizeof other) != 0);
    put_files(folder, "plain");
    ck_assert_ok(graft_adapter_load(world.model, &again, folder)); // the same bytes are the same adapter
    graft_adapter_describe(first, &infos[0]);
    graft_adapter_describe(second, &infos[1]);
    graft_adapter_describe(again, &infos[2]);
    ck_assert_str_ne(infos[0].digest, infos[1].digest);
    ck_assert_str_eq(infos[0].digest, infos[2].digest);
    ck_assert(infos[0].references == 3 && infos[1].references == 2);
    graft_test_folder_remove(folder);
    graft_adapter_release(&first);
    graft_adapter_release(&second);
    graft_adapter_release(&again);
    graft_seq_destroy(&old);
    graft_seq_destroy(&new);
    graft_test_world_close(&world);
}
END_TEST

// An answer of two tokens to "ab" as plain text.
static struct graft_chat_stats talk(struct graft_chat *chat, const char *text)
{
    struct graft_chat_stats stats;
    ck_assert_ok(graft_chat_send(chat, text, strlen(text)));
    for (bool done = false; !done;) {
        const char *piece;
        size_t length;
        ck_assert_ok(graft_chat_next(chat, &piece, &length, &done));
    }
    graft_chat_last_stats(chat, &stats);
    return stats;
}

START_TEST(a_conversation_says_what_it_computes_anew)
{
    struct graft_test_world world;
    struct graft_chat *chat;
    struct graft_chat_params params = {
        .size = sizeof params, .sampling = {.size = sizeof params.sampling, .seed = 3}, .max_tokens = 2, .raw = true};
    ck_assert(open_world(&world, 0, &PARAMS));
    struct graft_adapter *plain = load(world.model, "plain");
    struct graft_adapter_use use = {.adapter = plain, .weight = 1}, half = {.adapter = plain, .weight = 0.5f};
    ck_assert_ok(graft_chat_create(world.model, &chat, &params));
    struct graft_chat_stats stats = talk(chat, "one two");
    uint32_t used = stats.context_used;
    ck_assert(used >= 3 && stats.recomputed_tokens == 0);
    ck_assert_ok(graft_chat_set_adapters(chat, &use, 1));
    stats = talk(chat, "three");
    ck_assert_uint_ge(stats.recomputed_tokens, used - 1); // all but the last one shown, which was not computed yet
    ck_assert_uint_le(stats.recomputed_tokens, used);
    ck_assert_uint_eq(stats.reused_tokens, 0);
    used = stats.context_used;
    ck_assert_ok(graft_chat_set_adapters(chat, &use, 1)); // the same choice changes nothing
    stats = talk(chat, "four");
    ck_assert_uint_eq(stats.recomputed_tokens, 0);
    ck_assert_uint_ge(stats.reused_tokens, used - 1);
    used = stats.context_used;
    ck_assert_ok(graft_chat_set_adapters(chat, &half, 1)); // another weight does
    stats = talk(chat, "five");
    ck_assert_uint_ge(stats.recomputed_tokens, used - 1);
    graft_chat_destroy(&chat);
    graft_adapter_release(&plain);
    graft_test_world_close(&world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("adapter_life");
    TCase *tests = tcase_create("adapter_life");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, what_is_no_number_stays_where_it_was, 0, 3);
    tcase_add_loop_test(tests, a_thousand_swaps_under_generation_change_no_answer_and_leak_nothing, 0, 3);
    tcase_add_loop_test(tests, loads_beside_generation_end_as_others_do, 0, 3);
    tcase_add_loop_test(tests, a_load_given_up_leaves_nothing_behind, 0, 3);
    tcase_add_loop_test(tests, each_allocation_of_a_load_may_fail, 0, 2);
    tcase_add_loop_test(tests, a_copy_that_fails_while_loading_loses_the_model_or_nothing, 0, 3);
    tcase_add_test(tests, a_replaced_file_is_another_adapter_and_the_old_one_goes_on);
    tcase_add_test(tests, a_conversation_says_what_it_computes_anew);
    tcase_add_test(tests, a_sequence_keeps_what_a_choice_does_not_change);
    suite_add_tcase(suite, tests);
    return graft_test_main(suite);
}
