// SPDX-License-Identifier: Apache-2.0
// Conversations in files: the messages and what else is not in the cache go as JSON beside tokens, keys and values.
#include <stdio.h>
#include <string.h>

#include "runtime/session/chat_private.h"
#include "runtime/session/sampler.h"
#include "runtime/session/saved.h"

enum { WORDS = 4, HEX = 16 };

static struct graft_sampler *sampler_of(const struct graft_chat *chat)
{
    return chat->next_sampler ? chat->next_sampler : chat->sampler; // the one that answers next
}

static json_t *describe(const struct graft_chat *chat)
{
    char words[WORDS * HEX + 1] = "";
    for (int i = 0; i < WORDS; i++) {
        snprintf(words + i * HEX, HEX + 1, "%016llx", (unsigned long long)sampler_of(chat)->state[i]);
    }
    json_t *turns = json_array();
    for (uint32_t i = 0; turns && i < chat->n_turns; i++) {
        (void)json_array_append_new(
            turns, json_pack("[I, I]", (json_int_t)chat->turns[i].question, (json_int_t)chat->turns[i].answer));
    }
    return json_pack("{s:O, s:I, s:b, s:I, s:I, s:s, s:o}", "messages", chat->messages, "n_system", (json_int_t)chat->n_system,
                     "raw", (int)chat->raw, "n_skipped", (json_int_t)chat->n_skipped, "n_exact", (json_int_t)chat->n_exact,
                     "random", words, "turns", turns);
}

enum graft_status graft_chat_save(struct graft_chat *chat, const char *path)
{
    GRAFT_TRY(graft_chat_commit(chat));
    json_t *json = describe(chat);
    char *text = NULL;
    if (!json || json_array_size(json_object_get(json, "turns")) != chat->n_turns) {
        json_decref(json);
        return graft_fail(GRAFT_E_MEMORY, "no memory for the conversation's description");
    }
    enum graft_status status = graft_json_text(chat->ctx, json, &text);
    json_decref(json);
    if (status == GRAFT_OK) {
        status = graft_seq_save(chat->seq, path, chat->ids, chat->n_ids, text, strlen(text));
    }
    GRAFT_FREE(chat->ctx, &text);
    return status;
}

// A number in 0 .. most.
static bool take_number(const json_t *json, const char *name, uint64_t most, uint32_t *out)
{
    const json_t *value = json_object_get(json, name);
    json_int_t number = json_integer_value(value);
    *out = (uint32_t)number;
    return json_is_integer(value) && number >= 0 && (uint64_t)number <= most;
}

// What describe() wrote, and nothing that the rest could stumble over.
static bool read_description(const struct graft_chat *chat, const struct graft_saved *saved, const json_t *json,
                             struct graft_chat *out)
{
    json_t *messages = json_object_get(json, "messages"), *turns = json_object_get(json, "turns");
    const char *words = json_string_value(json_object_get(json, "random"));
    size_t n = json_array_size(messages);
    for (size_t i = 0; i < n; i++) {
        const json_t *message = json_array_get(messages, i);
        if (!json_is_string(json_object_get(message, "role")) || !json_is_string(json_object_get(message, "content"))) {
            return false;
        }
    }
    if (!json_is_array(messages) || !take_number(json, "n_system", n < 1 ? 0 : 1, &out->n_system) ||
        !take_number(json, "n_skipped", n - out->n_system, &out->n_skipped) ||
        !take_number(json, "n_exact", UINT32_MAX, &out->n_exact) || !words || strlen(words) != WORDS * HEX ||
        strspn(words, "0123456789abcdef") != WORDS * HEX || !json_is_array(turns) || json_array_size(turns) != out->n_turns) {
        return false;
    }
    uint32_t last = 0;
    for (uint32_t i = 0; i < out->n_turns; i++) { // in order, inside the tokens
        const json_t *turn = json_array_get(turns, i);
        json_int_t question = json_integer_value(json_array_get(turn, 0)), answer = json_integer_value(json_array_get(turn, 1));
        if (question < (json_int_t)last || answer < question || answer > (json_int_t)saved->n_ids) {
            return false;
        }
        out->turns[i] = (struct graft_chat_turn){(uint32_t)question, last = (uint32_t)answer};
    }
    for (int i = 0; i < WORDS; i++) {
        unsigned long long word = 0;
        char digits[HEX + 1];
        snprintf(digits, sizeof digits, "%.*s", HEX, words + i * HEX);
        (void)sscanf(digits, "%llx", &word);
        out->stats.seed |= word; // all zeros would stay zeros
    }
    (void)chat;
    return out->stats.seed != 0;
}

static void take_random(struct graft_chat *chat, const char *words)
{
    for (int i = 0; i < WORDS; i++) {
        unsigned long long word = 0;
        char digits[HEX + 1];
        snprintf(digits, sizeof digits, "%.*s", HEX, words + i * HEX);
        (void)sscanf(digits, "%llx", &word);
        sampler_of(chat)->state[i] = word;
    }
}

static enum graft_status restore(struct graft_chat *chat, const struct graft_saved *saved, const json_t *json, const char *path)
{
    struct graft_chat read = {.n_turns = (uint32_t)json_array_size(json_object_get(json, "turns"))};
    if (!json_is_boolean(json_object_get(json, "raw")) || json_array_size(json_object_get(json, "turns")) > saved->n_ids + 1) {
        return graft_fail(GRAFT_E_FORMAT, "%s: holds no conversation", path);
    }
    if (json_is_true(json_object_get(json, "raw")) != chat->raw) {
        return graft_fail(GRAFT_E_ARGUMENT, "%s: is a %s conversation, this one is %s", path, chat->raw ? "templated" : "raw",
                          chat->raw ? "raw" : "templated");
    }
    enum graft_status status =
        GRAFT_NEW(chat->ctx, GRAFT_MEM_HOST, &read.turns, (uint64_t)read.n_turns + 1, "the questions' starts");
    if (status == GRAFT_OK && !read_description(chat, saved, json, &read)) {
        status = graft_fail(GRAFT_E_FORMAT, "%s: its description of the conversation is damaged", path);
    }
    status = status == GRAFT_OK ? graft_saved_apply(saved, chat->seq) : status;
    if (status != GRAFT_OK) {
        GRAFT_FREE(chat->ctx, &read.turns);
        return status;
    }
    GRAFT_FREE(chat->ctx, &chat->turns);
    json_decref(chat->messages);
    chat->messages = json_incref(json_object_get(json, "messages"));
    chat->turns = read.turns;
    chat->n_turns = read.n_turns;
    chat->n_system = read.n_system;
    chat->n_skipped = read.n_skipped;
    chat->n_exact = read.n_exact;
    chat->n_ids = saved->n_ids;
    for (uint32_t i = 0; i < saved->n_ids; i++) {
        chat->ids[i] = graft_saved_id(saved, i);
    }
    chat->answer = chat->n_ids;
    chat->n_lost = 0;
    chat->has_answer = chat->answering = chat->ready = false;
    take_random(chat, json_string_value(json_object_get(json, "random")));
    return GRAFT_OK;
}

enum graft_status graft_chat_restore(struct graft_chat *chat, const char *path)
{
    struct graft_saved saved;
    json_error_t error;
    GRAFT_TRY(graft_saved_open(chat->model, &saved, path));
    enum graft_status status = graft_saved_check_uses(&saved, chat->seq, path);
    if (status == GRAFT_OK) {
        json_t *json = json_loadb(saved.extra, (size_t)saved.extra_bytes, JSON_ALLOW_NUL, &error);
        status = json ? restore(chat, &saved, json, path) : graft_fail(GRAFT_E_FORMAT, "%s: holds no conversation", path);
        json_decref(json);
    }
    graft_saved_close(&saved);
    return status;
}
