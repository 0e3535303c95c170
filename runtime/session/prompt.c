// SPDX-License-Identifier: Apache-2.0
// Messages -> template -> tokens.
//
// The template's control tokens ("<|im_start|>") must become tokens, the same text inside a message must not: whoever writes a
// message could play another role otherwise. So every control token spelled in a message is wrapped in two noncharacters before
// rendering (what a message holds of them itself is replaced), and the rendered text is cut there: wrapped parts are tokenized
// as plain text.
#include "graft/engine.h"
#include "platform/bytes.h"
#include "runtime/session/session.h"

static const char OPEN_MARK[] = "\xef\xb7\x90";  // U+FDD0
static const char CLOSE_MARK[] = "\xef\xb7\x91"; // U+FDD1
enum {
    MARK_BYTES = 3,
    MAX_CONTROL_BYTES = 256 // longer names are not looked for: time stays linear whatever the vocabulary
};

// Growing text.
struct buffer {
    struct graft_ctx *ctx;
    char *data;
    uint64_t used, room;
};

static enum graft_status append(struct buffer *b, const char *text, uint64_t length)
{
    uint64_t need;
    if (length == 0) { // there may be no memory yet, and memcpy must not be given NULL
        return GRAFT_OK;
    }
    if (!graft_add_u64(b->used, length, &need)) {
        return graft_fail(GRAFT_E_LIMIT, "a message is longer than any memory");
    }
    if (need > b->room) {
        uint64_t room = need > UINT64_MAX / 2 ? need : 2 * need;
        GRAFT_TRY(GRAFT_GROW(b->ctx, GRAFT_MEM_HOST, &b->data, room, "a message"));
        b->room = room;
    }
    memcpy(b->data + b->used, text, (size_t)length);
    b->used = need;
    return GRAFT_OK;
}

static bool is_mark(const char *p, uint64_t left)
{
    return left >= MARK_BYTES && (memcmp(p, OPEN_MARK, MARK_BYTES) == 0 || memcmp(p, CLOSE_MARK, MARK_BYTES) == 0);
}

// First bytes of the control tokens, so that ordinary text is passed over quickly.
struct controls {
    const struct graft_vocab *vocab;
    bool first[256];
    uint64_t longest;
};

static enum graft_status find_controls(const struct graft_vocab *vocab, struct controls *out)
{
    *out = (struct controls){.vocab = vocab};
    for (uint32_t id = 0; id < graft_vocab_size(vocab); id++) {
        if (graft_vocab_is_control(vocab, (int32_t)id)) {
            const char *text;
            uint64_t length;
            GRAFT_TRY(graft_vocab_piece(vocab, (int32_t)id, true, &text, &length));
            length = length < MAX_CONTROL_BYTES ? length : MAX_CONTROL_BYTES;
            if (length) {
                out->first[(uint8_t)text[0]] = true;
                out->longest = length > out->longest ? length : out->longest;
            }
        }
    }
    return GRAFT_OK;
}

// Length of the longest control token that `text` starts with; 0 if there is none.
static uint64_t control_at(const struct controls *controls, const char *text, uint64_t left)
{
    if (!controls->first[(uint8_t)text[0]]) {
        return 0;
    }
    for (uint64_t length = left < controls->longest ? left : controls->longest; length > 0; length--) {
        int32_t id = graft_vocab_find(controls->vocab, text, length);
        if (id != GRAFT_NO_TOKEN && graft_vocab_is_control(controls->vocab, id)) {
            return length;
        }
    }
    return 0;
}

static enum graft_status mark(const struct controls *controls, struct buffer *b, const char *text, uint64_t length)
{
    uint64_t i = 0, plain = 0; // [plain, i) waits to be copied
    while (i < length) {
        uint64_t control = control_at(controls, text + i, length - i);
        bool own = control == 0 && is_mark(text + i, length - i);
        if (!control && !own) {
            i++;
            continue;
        }
        GRAFT_TRY(append(b, text + plain, i - plain));
        if (own) {
            GRAFT_TRY(append(b, "\xef\xbf\xbd", 3));
            i += MARK_BYTES;
        } else {
            GRAFT_TRY(append(b, OPEN_MARK, MARK_BYTES));
            GRAFT_TRY(append(b, text + i, control));
            GRAFT_TRY(append(b, CLOSE_MARK, MARK_BYTES));
            i += control;
        }
        plain = i;
    }
    return append(b, text + plain, i - plain);
}

// A string with its marks; NULL on failure.
static json_t *mark_string(const struct controls *controls, struct buffer *b, const json_t *text, enum graft_status *status)
{
    b->used = 0;
    *status = mark(controls, b, json_string_value(text), json_string_length(text));
    return *status == GRAFT_OK ? json_stringn(b->data ? b->data : "", (size_t)b->used) : NULL;
}

static json_t *mark_value(const struct controls *controls, struct buffer *b, json_t *value, bool free_keys,
                          enum graft_status *status);

// A member of an object: the names of arguments are text like any other, the others are the form's.
static bool mark_member(const struct controls *controls, struct buffer *b, json_t *object, const char *key, json_t *value,
                        bool free_keys, enum graft_status *status)
{
    bool below = free_keys || strcmp(key, "arguments") == 0 || strcmp(key, "properties") == 0;
    json_t *name = json_string(key), *marked = name && free_keys ? mark_string(controls, b, name, status) : json_incref(name);
    const char *text = json_string_value(marked);
    bool ok = text && json_object_set_new(object, text, mark_value(controls, b, value, below, status)) == 0;
    json_decref(name);
    json_decref(marked);
    return ok;
}

// A copy of a value in which every string is marked, names of members too if free_keys; NULL on failure.
static json_t *mark_value(const struct controls *controls, struct buffer *b, json_t *value, bool free_keys,
                          enum graft_status *status)
{
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_string(value)) {
        return mark_string(controls, b, value, status);
    }
    if (!json_is_array(value) && !json_is_object(value)) {
        return json_incref(value);
    }
    json_t *copy = json_is_array(value) ? json_array() : json_object();
    bool ok = copy != NULL;
    json_array_foreach(value, i, item)
    {
        ok = ok && json_array_append_new(copy, mark_value(controls, b, item, free_keys, status)) == 0;
    }
    json_object_foreach(value, key, item)
    {
        ok = ok && mark_member(controls, b, copy, key, item, free_keys, status);
    }
    if (!ok) {
        json_decref(copy);
        return NULL;
    }
    return copy;
}

// Roles are the caller's, not text that somebody wrote: as they were.
static void restore_roles(const json_t *given, const json_t *marked)
{
    size_t i;
    json_t *message;
    json_array_foreach(marked, i, message)
    {
        json_t *role = json_object_get(json_array_get(given, i), "role");
        if (json_is_string(role)) {
            json_object_set(message, "role", role); // replaces a member: takes no memory
        }
    }
}

// The template's variables with marked messages and tools. *out is NULL on failure.
static enum graft_status make_variables(const struct graft_model *model, const struct controls *controls, json_t *given,
                                        json_t **out)
{
    static const char *const spoken[] = {"messages", "tools"};
    json_t *variables = json_copy(given);
    struct buffer b = {.ctx = model->ctx};
    enum graft_status status = GRAFT_OK;
    bool ok = variables != NULL;
    *out = NULL;
    for (int i = 0; i < 2 && ok; i++) {
        json_t *value = json_object_get(given, spoken[i]);
        ok = !value || json_object_set_new(variables, spoken[i], mark_value(controls, &b, value, false, &status)) == 0;
    }
    restore_roles(json_object_get(given, "messages"), json_object_get(variables, "messages"));
    if (ok && !json_object_get(variables, "add_generation_prompt")) {
        ok = json_object_set_new(variables, "add_generation_prompt", json_true()) == 0;
    }
    GRAFT_FREE(model->ctx, &b.data);
    if (status == GRAFT_OK && !ok) {
        status = graft_fail(GRAFT_E_MEMORY, "no memory for the template's variables");
    }
    if (status == GRAFT_OK) {
        status = graft_vocabulary_add_tokens(model->vocabulary, variables);
    }
    if (status != GRAFT_OK) {
        json_decref(variables);
        return status;
    }
    *out = variables;
    return GRAFT_OK;
}

// End of the part that starts at `at`: the next mark, or the end.
static uint64_t part_end(const char *text, uint64_t length, uint64_t at)
{
    while (at < length && !is_mark(text + at, length - at)) {
        at++;
    }
    return at;
}

static enum graft_status tokenize_parts(const struct graft_vocab *vocab, const char *text, uint64_t length, int32_t *ids,
                                        uint32_t capacity, uint32_t *count)
{
    bool special = true;
    uint64_t at = 0;
    *count = 0;
    while (at < length) {
        uint64_t end = part_end(text, length, at), n = 0;
        // No BOS is put in front: templates spell it themselves, and the reference tokenizes rendered text as it is.
        struct graft_tokenize_options options = {.special = special, .bos = false};
        enum graft_status status =
            end == at ? GRAFT_OK
                      : graft_vocab_tokenize(vocab, text + at, end - at, options, ids + *count, capacity - *count, &n);
        if (status == GRAFT_E_LIMIT) {
            return graft_fail(GRAFT_E_CONTEXT_FULL, "the messages have %" PRIu64 " tokens or more, the context has room for %u",
                              *count + n, capacity);
        }
        GRAFT_TRY(status);
        *count += (uint32_t)n;
        at = end;
        if (at < length) {
            special = memcmp(text + at, OPEN_MARK, MARK_BYTES) != 0;
            at += MARK_BYTES;
        }
    }
    return GRAFT_OK;
}

static enum graft_status render_tokens(const struct graft_model *model, const struct graft_template *template_, json_t *given,
                                       int32_t *ids, uint32_t capacity, uint32_t *count)
{
    *count = 0;
    struct controls controls;
    GRAFT_TRY(find_controls(model->vocabulary->vocab, &controls));
    json_t *variables;
    GRAFT_TRY(make_variables(model, &controls, given, &variables));
    char *text;
    uint64_t length;
    enum graft_status status = graft_template_render(template_, variables, &text, &length);
    json_decref(variables);
    GRAFT_TRY(status);
    status = tokenize_parts(model->vocabulary->vocab, text, length, ids, capacity, count);
    GRAFT_FREE(model->ctx, &text);
    return status;
}

enum graft_status graft_prompt_tokens(const struct graft_model *model, const struct graft_template *template_,
                                      const json_t *messages, int32_t *ids, uint32_t capacity, uint32_t *count)
{
    *count = 0;
    json_t *given = json_object();
    json_t *copies = json_copy((json_t *)(uintptr_t)messages); // shallow: its items are not changed
    if (json_object_set_new(given, "messages", copies) != 0) {
        json_decref(given);
        return graft_fail(GRAFT_E_MEMORY, "no memory for the template's variables");
    }
    enum graft_status status = render_tokens(model, template_, given, ids, capacity, count);
    json_decref(given);
    return status;
}

enum graft_status graft_prompt(const struct graft_model *model, const char *variables_json, int32_t *ids, uint32_t capacity,
                               uint32_t *count)
{
    struct graft_template *template_;
    *count = 0;
    if (!model->vocabulary || !model->vocabulary->chat_template) {
        return graft_fail(GRAFT_E_UNSUPPORTED, "the model has no chat template (tokenizer.chat_template)");
    }
    json_t *given = json_loads(variables_json, JSON_ALLOW_NUL, NULL);
    if (!json_is_object(given) || !json_is_array(json_object_get(given, "messages"))) {
        json_decref(given);
        return graft_fail(GRAFT_E_ARGUMENT, "the template's variables must be a JSON object with an array of messages");
    }
    enum graft_status status =
        graft_template_create(model->ctx, &template_, model->vocabulary->chat_template, model->vocabulary->template_bytes);
    if (status == GRAFT_OK) {
        status = render_tokens(model, template_, given, ids, capacity, count);
        graft_template_destroy(&template_);
    }
    json_decref(given);
    return status;
}
