// SPDX-License-Identifier: Apache-2.0
// What a model says, piece by piece, as text and tool calls.
//
// Everything is kept in one buffer until it is told: text up to what may be the begin of a call, a call's arguments as they
// come. What begins like a call and is none, or one of a function that does not exist, is text in the end.
#include <stdlib.h>
#include <string.h>

#include "runtime/text/tool_parse.h"

// ---- telling ----

void graft_tool_tell(struct graft_tool_parser *p, enum graft_tool_event_kind kind, const char *text, size_t length)
{
    struct graft_tool_event event = {kind, p->n_calls, p->id, p->name, text, length};
    if (kind == GRAFT_TOOL_CALL) {
        p->begun = true;
        event.id = p->format->ids == GRAFT_TOOL_IDS_COUNT ? "" : p->id; // a count is none outside of the answer
    }
    event.index -= p->begun && kind != GRAFT_TOOL_CALL && kind != GRAFT_TOOL_TEXT;
    p->n_calls += kind == GRAFT_TOOL_CALL;
    if (length || kind == GRAFT_TOOL_CALL || kind == GRAFT_TOOL_CALL_END) {
        p->said = p->said || kind == GRAFT_TOOL_TEXT;
        p->on_event(p->user, &event);
    }
}

// Drop what is in front of `to`.
void graft_tool_drop(struct graft_tool_parser *p, size_t to)
{
    p->held.length -= to;
    if (p->held.text) {
        memmove(p->held.text, p->held.text + to, (size_t)p->held.length + 1);
    }
    p->at -= to < p->at ? to : p->at;
    p->begin = 0;
}

static void tell_text(struct graft_tool_parser *p, size_t to)
{
    graft_tool_tell(p, GRAFT_TOOL_TEXT, p->held.text, to);
    graft_tool_drop(p, to);
}

// ---- looking ----

static bool is_name(char c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_' || c == '-' || c == '.';
}

// A text of the format without blanks around it, nor what `also` has in front.
struct words graft_tool_words(const struct graft_tool_parser *p, enum graft_tool_text which, const char *also)
{
    const char *text = p->format->texts[which];
    struct words words = {text, strlen(text)};
    while (words.n && (graft_tool_is_blank(*words.p) || strchr(also, *words.p))) {
        words.p++;
        words.n--;
    }
    while (words.n && graft_tool_is_blank(words.p[words.n - 1])) {
        words.n--;
    }
    return words;
}

static enum match match_at(const struct graft_tool_parser *p, size_t at, struct words words)
{
    size_t have = p->held.length - at, n = have < words.n ? have : words.n;
    if (!words.n || memcmp(p->held.text + at, words.p, n) != 0) {
        return NO;
    }
    return n == words.n ? YES : p->over ? NO : MAYBE;
}

static void skip(struct graft_tool_parser *p, const char *also)
{
    while (p->at < p->held.length && (graft_tool_is_blank(p->held.text[p->at]) || strchr(also, p->held.text[p->at]))) {
        p->at++;
    }
}

// Blanks, then these words: consumed if they are there.
enum match graft_tool_take(struct graft_tool_parser *p, struct words words)
{
    skip(p, "");
    enum match match = match_at(p, p->at, words);
    p->at += match == YES ? words.n : 0;
    return match == NO && p->at == p->held.length && words.n && !p->over ? MAYBE : match;
}

// Where words begin, from `from` on; AT_NONE.
ptrdiff_t graft_tool_find_words(const struct graft_tool_parser *p, size_t from, struct words words)
{
    for (size_t i = from; words.n && i + words.n <= p->held.length; i++) {
        if (memcmp(p->held.text + i, words.p, words.n) == 0) {
            return (ptrdiff_t)i;
        }
    }
    return AT_NONE;
}

// ---- text ----

bool graft_tool_give_up(struct graft_tool_parser *p)
{
    struct words marker = graft_tool_words(p, GRAFT_TOOL_T_MARKER, "");
    p->state = marker.n ? TEXT : PLAIN;
    size_t end = marker.n ? p->begin + marker.n : p->held.length;
    tell_text(p, end < p->held.length ? end : (size_t)p->held.length);
    p->at = 0;
    return true;
}

static bool step_plain(struct graft_tool_parser *p)
{
    tell_text(p, p->held.length);
    return false;
}

// Without a marker only an answer that begins with a brace can be a call.
static bool step_unmarked(struct graft_tool_parser *p)
{
    p->at = 0;
    skip(p, "");
    if (p->at == p->held.length) {
        return false;
    }
    if (p->held.text[p->at] == '{' && !p->said) {
        graft_tool_drop(p, p->at);
        p->state = BODY;
    } else {
        p->state = PLAIN;
    }
    return true;
}

// True: go on at once.
static bool step_text(struct graft_tool_parser *p)
{
    struct words marker = graft_tool_words(p, GRAFT_TOOL_T_MARKER, "");
    size_t end = p->held.length;
    if (!marker.n) {
        return step_unmarked(p);
    }
    for (size_t i = 0; i < end; i++) {
        enum match match = match_at(p, i, marker);
        if (match == NO) {
            continue;
        }
        size_t text = i;
        while (text && graft_tool_is_blank(p->held.text[text - 1])) { // blanks in front of a call are not text
            text--;
        }
        tell_text(p, text);
        p->begin = i - text;
        p->at = p->begin + marker.n;
        p->state = match == YES ? OPEN : TEXT;
        p->marked = graft_tool_words(p, GRAFT_TOOL_T_BEGIN, "[").n == 0;
        return match == YES;
    }
    while (end && graft_tool_is_blank(p->held.text[end - 1])) {
        end--;
    }
    tell_text(p, end);
    return false;
}

// ---- the begin of a call ----

static bool begin_object(struct graft_tool_parser *p)
{
    if (p->held.text[p->at] != '{') {
        return graft_tool_give_up(p);
    }
    p->state = OBJECT;
    p->phase = KEY;
    p->depth = 0;
    return true;
}

static void forget_call(struct graft_tool_parser *p)
{
    p->begun = p->in_string = p->escaped = p->streaming = false;
    p->name[0] = p->id[0] = p->key[0] = 0;
    p->n_parameters = p->depth = 0;
    p->value = p->value_end = p->arguments = p->arguments_end = 0;
}

bool graft_tool_is_known(struct graft_tool_parser *p, const char *name, size_t length)
{
    p->function = graft_tool_find(p->tools, name, length);
    bool there = p->function < p->tools->count && length < sizeof p->name;
    if (there) {
        memcpy(p->name, name, length);
        p->name[length] = 0;
    }
    return there;
}

// A run of these characters that has ended; 0: it has not, or there is none.
static size_t run_of(const struct graft_tool_parser *p, size_t at, bool (*is)(char c))
{
    size_t end = at;
    while (end < p->held.length && is(p->held.text[end])) {
        end++;
    }
    return end < p->held.length || p->over ? end - at : 0;
}

// NAME, perhaps an id, and what stands in front of the arguments. MAYBE: more is needed.
static enum match read_name(struct graft_tool_parser *p)
{
    bool by_id = p->format->ids == GRAFT_TOOL_IDS_NAME, has_id = p->format->n_slots == 3;
    size_t before = p->at;
    skip(p, "");
    if (by_id && graft_tool_take(p, (struct words){"functions.", 10}) == MAYBE) {
        p->at = before;
        return MAYBE;
    }
    size_t begin = p->at, length = run_of(p, begin, is_name);
    if (!length) {
        bool more = p->held.length - begin <= GRAFT_MAX_TOOL_NAME_BYTES && !p->over;
        for (size_t i = begin; i < p->held.length; i++) {
            more = more && is_name(p->held.text[i]);
        }
        p->at = before;
        return more ? MAYBE : NO;
    }
    if (!graft_tool_is_known(p, p->held.text + begin, length)) {
        return NO;
    }
    p->at = begin + length;
    for (uint32_t i = 1; i < p->format->n_slots; i++) {
        struct words words = graft_tool_words(p, (enum graft_tool_text)(GRAFT_TOOL_T_CORE + i), "");
        enum match match = words.n ? graft_tool_take(p, words) : YES;
        if (match == NO && has_id && i == 1 && !by_id) {
            continue; // some leave the id out
        }
        if (match != YES) {
            p->at = before;
            return match;
        }
        if (p->format->slots[i] == GRAFT_TOOL_S_ID) {
            size_t bytes = run_of(p, p->at, is_name);
            if (!bytes || bytes >= sizeof p->id - 80) {
                p->at = before;
                return bytes || p->over ? NO : MAYBE;
            }
            snprintf(p->id, sizeof p->id, "%s%s%s%.*s", by_id ? "functions." : "", by_id ? p->name : "", by_id ? ":" : "",
                     (int)bytes, p->held.text + p->at);
            p->at += bytes;
        }
    }
    return YES;
}

static bool step_open(struct graft_tool_parser *p)
{
    size_t before = p->at;
    struct words open = graft_tool_words(p, GRAFT_TOOL_T_OPEN, "");
    forget_call(p);
    if (!p->marked) {
        skip(p, p->format->style == GRAFT_TOOL_PARAMETERS ? "" : "[,;");
        enum match match = open.n ? graft_tool_take(p, open) : YES;
        if (match != YES) {
            p->at = before;
            return match == NO && graft_tool_give_up(p);
        }
    } else if (p->format->style != GRAFT_TOOL_PARAMETERS) { // what the marker was stripped of
        skip(p, p->format->style == GRAFT_TOOL_OBJECT ? "[" : "[{\"");
    }
    if (p->at == p->held.length && !p->over) {
        p->at = before; // there may be more to skip
        return false;
    }
    p->state = BODY;
    return true;
}

static bool step_body(struct graft_tool_parser *p)
{
    if (p->format->style == GRAFT_TOOL_OBJECT) {
        skip(p, "");
        return p->at < p->held.length && begin_object(p);
    }
    size_t before = p->at;
    enum match match = read_name(p);
    bool json = p->format->style == GRAFT_TOOL_NAMED;
    if (match == YES && json) {
        skip(p, "");
        match = p->at < p->held.length ? (p->held.text[p->at] == '{' ? YES : NO) : p->over ? NO : MAYBE;
    }
    if (match != YES) {
        p->at = before;
        return match == NO && graft_tool_give_up(p);
    }
    graft_tool_tell(p, GRAFT_TOOL_CALL, "", 0);
    p->begin = p->at;
    graft_tool_drop(p, p->at);
    p->state = json ? JSON : PARAMS;
    p->depth = 0;
    return true;
}

// ---- behind a call ----

// Is all that is left the begin of these words?
static bool is_begin(const struct graft_tool_parser *p, size_t at, struct words words)
{
    size_t left = (size_t)p->held.length - at;
    return left < words.n && memcmp(p->held.text + at, words.p, left) == 0;
}

// Another call, the end of the section, or neither. What is skipped is no text.
static bool step_after(struct graft_tool_parser *p)
{
    struct words close = graft_tool_words(p, GRAFT_TOOL_T_CLOSE, ""), end = graft_tool_words(p, GRAFT_TOOL_T_END, "]"),
                 open = graft_tool_words(p, GRAFT_TOOL_T_OPEN, ""), marker = graft_tool_words(p, GRAFT_TOOL_T_MARKER, "");
    bool json = p->format->style != GRAFT_TOOL_PARAMETERS;
    p->at = 0;
    if (close.n && graft_tool_take(p, close) == MAYBE) {
        p->at = 0;
        return false;
    }
    skip(p, json ? ",;]" : "");
    size_t here = p->at;
    if (here == p->held.length || (p->over && (is_begin(p, here, close) || is_begin(p, here, end)))) {
        return false;
    }
    enum match over = match_at(p, here, end), opened = match_at(p, here, open), marked = match_at(p, here, marker);
    if (over == MAYBE || opened == MAYBE || marked == MAYBE) {
        return false;
    }
    if (over == YES) {
        graft_tool_drop(p, here + end.n);
        p->state = TEXT;
    } else if (opened == YES) {
        graft_tool_drop(p, here);
        p->begin = 0;
        p->at = open.n;
        forget_call(p);
        p->state = BODY;
    } else if (!open.n && p->format->style == GRAFT_TOOL_OBJECT && p->held.text[here] == '{') {
        graft_tool_drop(p, here);
        p->at = 0;
        forget_call(p);
        p->state = BODY;
    } else {
        graft_tool_drop(p, here);
        p->state = marker.n ? TEXT : PLAIN;
    }
    return true;
}

// ---- all of it ----

static enum graft_status run(struct graft_tool_parser *p)
{
    bool go_on = true;
    enum graft_status status = p->held.status;
    while (go_on && status == GRAFT_OK && p->held.length) {
        switch (p->state) {
        case TEXT:
            go_on = step_text(p);
            break;
        case PLAIN:
            go_on = step_plain(p);
            break;
        case OPEN:
            go_on = step_open(p);
            break;
        case BODY:
            go_on = step_body(p);
            break;
        case OBJECT:
            go_on = graft_tool_step_object(p);
            break;
        case JSON:
            go_on = graft_tool_step_json(p);
            break;
        case PARAMS:
            status = graft_tool_step_params(p, &go_on);
            break;
        case AFTER:
            go_on = step_after(p);
            break;
        case DONE:
            graft_tool_drop(p, p->held.length);
            go_on = false;
        }
    }
    return status;
}

enum graft_status graft_tool_parser_create(const struct graft_tools *tools, struct graft_tool_parser **out,
                                           void (*on_event)(void *user, const struct graft_tool_event *event), void *user)
{
    *out = NULL;
    GRAFT_TRY(GRAFT_NEW(tools->format->ctx, GRAFT_MEM_HOST, out, 1, "a parser of tool calls"));
    **out = (struct graft_tool_parser){.tools = tools,
                                       .format = tools->format,
                                       .on_event = on_event,
                                       .user = user,
                                       .held = {.ctx = tools->format->ctx},
                                       .state = tools->choice == GRAFT_TOOL_NONE ? PLAIN : TEXT};
    return GRAFT_OK;
}

void graft_tool_parser_destroy(struct graft_tool_parser **parser)
{
    if (parser && *parser) {
        struct graft_ctx *ctx = (*parser)->format->ctx;
        GRAFT_FREE(ctx, &(*parser)->held.text);
        GRAFT_FREE(ctx, parser);
    }
}

enum graft_status graft_tool_parser_push(struct graft_tool_parser *parser, const char *text, size_t length, bool *enough)
{
    *enough = parser->state == DONE;
    if (parser->held.length + length > GRAFT_TOOL_MAX_HELD) {
        return graft_fail(GRAFT_E_LIMIT, "a tool call has more than %d bytes", GRAFT_TOOL_MAX_HELD);
    }
    graft_line_add_bytes(&parser->held, text, length);
    GRAFT_TRY(run(parser));
    *enough = parser->state == DONE;
    return GRAFT_OK;
}

enum graft_status graft_tool_parser_end(struct graft_tool_parser *parser, uint32_t *calls)
{
    parser->over = true;
    enum graft_status status = run(parser);
    bool open = parser->state == OPEN || parser->state == BODY || (parser->state == OBJECT && !parser->begun);
    for (; status == GRAFT_OK && open && parser->held.length;) {
        graft_tool_give_up(parser);
        status = run(parser);
        open = parser->state == OPEN || parser->state == BODY || (parser->state == OBJECT && !parser->begun);
    }
    bool text = parser->state == TEXT && (!parser->n_calls || parser->said);
    if (status == GRAFT_OK && text && parser->held.length) {
        tell_text(parser, (size_t)parser->held.length); // blanks
    }
    *calls = parser->n_calls;
    return status;
}
