// SPDX-License-Identifier: Apache-2.0
// Messages -> template -> tokens.
//
// The template's control tokens ("<|im_start|>") must become tokens, the same text inside a message must not: whoever writes a
// message could play another role otherwise. So every control token spelled in a message is wrapped in two noncharacters before
// rendering (what a message holds of them itself is replaced), and the rendered text is cut there: wrapped parts are tokenized
// as plain text.
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

// A copy of the messages with marked contents, as the template's variables. *out is NULL on failure.
static enum graft_status make_variables(const struct graft_model *model, const struct controls *controls,
                                        const json_t *messages, json_t **out)
{
    *out = NULL;
    json_t *variables = json_object(), *copies = json_array();
    struct buffer b = {.ctx = model->ctx};
    enum graft_status status = GRAFT_OK;
    size_t i;
    json_t *message;
    bool ok = json_object_set_new(variables, "messages", copies) == 0 &&
              json_object_set_new(variables, "add_generation_prompt", json_true()) == 0;
    json_array_foreach(messages, i, message)
    {
        const json_t *content = json_object_get(message, "content");
        b.used = 0;
        status = mark(controls, &b, json_string_value(content), json_string_length(content));
        if (status != GRAFT_OK) {
            break;
        }
        json_t *copy = json_object();
        ok = ok && json_object_set(copy, "role", json_object_get(message, "role")) == 0 &&
             json_object_set_new(copy, "content", json_stringn(b.data ? b.data : "", (size_t)b.used)) == 0;
        ok = json_array_append_new(copies, copy) == 0 && ok;
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

enum graft_status graft_prompt_tokens(const struct graft_model *model, const struct graft_template *template_,
                                      const json_t *messages, int32_t *ids, uint32_t capacity, uint32_t *count)
{
    *count = 0;
    struct controls controls;
    GRAFT_TRY(find_controls(model->vocabulary->vocab, &controls));
    json_t *variables;
    GRAFT_TRY(make_variables(model, &controls, messages, &variables));
    char *text;
    uint64_t length;
    enum graft_status status = graft_template_render(template_, variables, &text, &length);
    json_decref(variables);
    GRAFT_TRY(status);
    status = tokenize_parts(model->vocabulary->vocab, text, length, ids, capacity, count);
    GRAFT_FREE(model->ctx, &text);
    return status;
}
