// SPDX-License-Identifier: Apache-2.0
// How a template writes tool calls: conversations of made-up words are rendered, and what stands around the words is looked at.
//
// An answer with one call is compared with an answer of text: what is in front of the call in both, and behind it, belongs to
// the turn, the rest is the section of calls. In it, name, arguments and id are found again; an answer with two calls shows
// what stands between them, and by that where a call begins and ends.
#include <inttypes.h>
#include <string.h>

#include "runtime/text/tool_probe.h"

#define USER "Zq7user"
#define SAID "Zq7said"

static struct part behind(struct part text, const char *what) // the last one
{
    size_t at = 0, next = 0;
    for (const char *p; (p = graft_tool_find_text(text, next, what)) != NULL;) {
        next = (size_t)(p - text.p) + strlen(what);
        at = next;
    }
    return (struct part){text.p + at, text.n - at};
}

static bool is_same(struct part a, struct part b)
{
    return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

// ---- rendering ----

static json_t *function(int which)
{
    return json_pack("{s:s, s:{s:s, s:s, s:{s:s, s:{s:{s:s, s:s}, s:{s:s, s:s}}, s:[s]}}}", "type", "function", "function",
                     "name", graft_tool_probe_names[which], "description", "zq", "parameters", "type", "object", "properties",
                     KEY, "type", "string", "description", "zq", OTHER_KEY, "type", "integer", "description", "zq", "required",
                     KEY);
}

static json_t *call(const struct graft_tool_format *format, int which, const char *id)
{
    json_t *arguments = json_pack("{s:s, s:i}", KEY, graft_tool_probe_values[which], OTHER_KEY, 7331);
    if (format->text_arguments) {
        char text[128];
        snprintf(text, sizeof text, "{\"%s\": \"%s\", \"%s\": %s}", KEY, graft_tool_probe_values[which], OTHER_KEY, NUMBER);
        json_decref(arguments);
        arguments = json_string(text);
    }
    return json_pack("{s:s, s:s, s:{s:s, s:o}}", "id", id, "type", "function", "function", "name",
                     graft_tool_probe_names[which], "arguments", arguments);
}

// *text gets the rendering, to be freed, or NULL where the template refuses. Takes messages.
static enum graft_status render(const struct graft_tool_format *format, json_t *messages, bool with_tools, bool begin_answer,
                                char **text, struct part *part)
{
    uint64_t length = 0;
    *text = NULL;
    json_t *variables = json_pack("{s:o, s:b}", "messages", messages, "add_generation_prompt", (int)begin_answer);
    if (!variables || json_object_update(variables, format->tokens) != 0 ||
        (with_tools && json_object_set_new(variables, "tools", json_pack("[o, o]", function(0), function(1))) != 0)) {
        json_decref(variables);
        return graft_fail(GRAFT_E_MEMORY, "no memory for the template's variables");
    }
    enum graft_status status = graft_template_render(format->template_, variables, text, &length);
    json_decref(variables);
    *part = (struct part){*text ? *text : "", *text ? (size_t)length : 0};
    return status == GRAFT_E_MEMORY || status == GRAFT_E_BUDGET ? status : GRAFT_OK;
}

static json_t *said(json_t *content, json_t *calls)
{
    json_t *answer = json_pack("{s:s, s:o}", "role", "assistant", "content", content);
    if (calls && answer) {
        json_object_set_new(answer, "tool_calls", calls);
    }
    return json_pack("[{s:s, s:s}, o]", "role", "user", "content", USER, answer);
}

static enum graft_status render_calls(const struct graft_tool_format *format, int count, const char *id, char **text,
                                      struct part *part)
{
    json_t *calls = json_array();
    for (int i = 0; i < count; i++) {
        json_array_append_new(calls, call(format, i, id ? id : graft_tool_probe_ids[i]));
    }
    return render(format, said(format->null_content ? json_null() : json_string(""), calls), true, false, text, part);
}

// ---- texts around it ----

// The same bytes at the begin, not cutting a tag (<...).
static size_t common_begin(struct part a, struct part b)
{
    size_t n = 0, most = a.n < b.n ? a.n : b.n;
    while (n < most && a.p[n] == b.p[n]) {
        n++;
    }
    size_t cut = n;
    while (cut > 0 && a.p[cut - 1] != '<' && a.p[cut - 1] != '>') {
        cut--;
    }
    return cut > 0 && a.p[cut - 1] == '<' && n < a.n ? cut - 1 : n;
}

static size_t common_end(struct part a, struct part b)
{
    size_t n = 0, most = a.n < b.n ? a.n : b.n;
    while (n < most && a.p[a.n - n - 1] == b.p[b.n - n - 1]) {
        n++;
    }
    const char *p = a.p + (a.n - n);
    size_t cut = 0;
    while (cut < n && p[cut] != '<' && p[cut] != '>') {
        cut++;
    }
    return cut < n && p[cut] == '>' && n < a.n ? n - cut - 1 : n;
}

static enum graft_status keep(struct graft_tool_format *format, enum graft_tool_text which, struct part text)
{
    GRAFT_FREE(format->ctx, &format->texts[which]);
    return graft_strdup(format->ctx, &format->texts[which], text.p, text.n);
}

// The texts of named arguments, and where they end: the first value's end is what both values have behind them.
static enum graft_status keep_parameters(struct graft_tool_format *format, struct part in, struct place *place, bool *good)
{
    size_t key_end = place->first_key + strlen(KEY), value_end = place->first_value + strlen(graft_tool_probe_values[0]),
           second_end = place->second_key + strlen(OTHER_KEY), number_end = place->second_value + strlen(NUMBER);
    struct part between = {in.p + value_end, place->second_key - value_end}, rest = {in.p + number_end, in.n - number_end};
    size_t close = common_begin(between, rest), open = between.n - close, name_end = place->slots[0].end;
    *good = close > 0 && open > 0 && place->first_key - name_end >= open &&
            memcmp(in.p + place->first_key - open, between.p + close, open) == 0;
    if (!*good) {
        return GRAFT_OK;
    }
    place->slots[1].begin = place->first_key - open;
    place->slots[1].end = place->end = number_end + close;
    GRAFT_TRY(keep(format, GRAFT_TOOL_T_KEY, (struct part){between.p + close, open}));
    GRAFT_TRY(keep(format, GRAFT_TOOL_T_VALUE_TEXT, (struct part){in.p + key_end, place->first_value - key_end}));
    GRAFT_TRY(keep(format, GRAFT_TOOL_T_VALUE_OTHER, (struct part){in.p + second_end, place->second_value - second_end}));
    return keep(format, GRAFT_TOOL_T_VALUE_END, (struct part){between.p, close});
}

// The core's literal texts.
static enum graft_status keep_core(struct graft_tool_format *format, struct part in, const struct place *place)
{
    size_t at = place->begin;
    format->n_slots = place->n_slots;
    for (uint32_t i = 0; i < place->n_slots; i++) {
        const struct slot *slot = &place->slots[i];
        GRAFT_TRY(keep(format, (enum graft_tool_text)(GRAFT_TOOL_T_CORE + i), (struct part){in.p + at, slot->begin - at}));
        format->slots[i] = slot->slot;
        at = slot->end;
    }
    return keep(format, (enum graft_tool_text)(GRAFT_TOOL_T_CORE + place->n_slots), (struct part){in.p + at, place->end - at});
}

// Does another call have the same literal texts? Named arguments end where theirs do.
static bool has_core(const struct graft_tool_format *format, struct part in, struct place *place)
{
    if (place->style != format->style || place->n_slots != format->n_slots) {
        return false;
    }
    if (place->style == GRAFT_TOOL_PARAMETERS) {
        size_t end = strlen(format->texts[GRAFT_TOOL_T_VALUE_END]);
        if (in.n - place->end < end || memcmp(in.p + place->end, format->texts[GRAFT_TOOL_T_VALUE_END], end) != 0) {
            return false;
        }
        place->slots[1].begin = place->first_key - strlen(format->texts[GRAFT_TOOL_T_KEY]);
        place->slots[1].end = place->end = place->end + end;
    }
    size_t at = place->begin;
    for (uint32_t i = 0; i <= place->n_slots; i++) {
        size_t end = i < place->n_slots ? place->slots[i].begin : place->end;
        const char *text = format->texts[GRAFT_TOOL_T_CORE + i];
        if (end < at || !is_same((struct part){in.p + at, end - at}, (struct part){text, strlen(text)}) ||
            (i < place->n_slots && place->slots[i].slot != format->slots[i])) {
            return false;
        }
        at = i < place->n_slots ? place->slots[i].end : at;
    }
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static struct part stripped(struct part text, const char *also)
{
    while (text.n && is_blank(*text.p)) {
        text.p++;
        text.n--;
    }
    while (text.n && (is_blank(text.p[text.n - 1]) || strchr(also, text.p[text.n - 1]))) {
        text.n--;
    }
    return text;
}

static struct part unended(struct part text)
{
    while (text.n && is_blank(text.p[text.n - 1])) {
        text.n--;
    }
    return text;
}

static enum graft_status keep_marker(struct graft_tool_format *format)
{
    const char *also = format->style == GRAFT_TOOL_PARAMETERS ? "" : "[{\"";
    const char *begin = format->texts[GRAFT_TOOL_T_BEGIN], *open = format->texts[GRAFT_TOOL_T_OPEN];
    struct part marker = stripped((struct part){begin, strlen(begin)}, also);
    if (!marker.n) {
        marker = stripped((struct part){open, strlen(open)}, also);
    }
    return keep(format, GRAFT_TOOL_T_MARKER, marker);
}

// Names stand in ids (functions.NAME:0): the name is a slot of its own then.
static enum graft_status name_by_id(struct graft_tool_format *format)
{
    format->ids = GRAFT_TOOL_IDS_NAME;
    format->slots[2] = format->slots[1];
    format->slots[1] = GRAFT_TOOL_S_ID;
    format->n_slots = 3;
    GRAFT_FREE(format->ctx, &format->texts[GRAFT_TOOL_T_CORE + 3]);
    format->texts[GRAFT_TOOL_T_CORE + 3] = format->texts[GRAFT_TOOL_T_CORE + 2];
    format->texts[GRAFT_TOOL_T_CORE + 2] = format->texts[GRAFT_TOOL_T_CORE + 1];
    format->texts[GRAFT_TOOL_T_CORE + 1] = NULL;
    GRAFT_TRY(keep(format, (enum graft_tool_text)(GRAFT_TOOL_T_CORE + 1), (struct part){":", 1}));
    return keep(format, GRAFT_TOOL_T_CORE, (struct part){"functions.", 10});
}

// ---- the whole section ----

// Texts of a section with one call and, where there is one, with two.
static enum graft_status take_apart(struct graft_tool_format *format, struct part one, struct part two, bool *good)
{
    struct place place, first, second;
    if (!graft_tool_locate(one, 0, 0, &place)) {
        return GRAFT_OK;
    }
    bool fits = true;
    format->style = place.style;
    format->ids = place.ids;
    if (place.style == GRAFT_TOOL_PARAMETERS) {
        GRAFT_TRY(keep_parameters(format, one, &place, &fits));
    }
    if (!fits) {
        return GRAFT_OK;
    }
    GRAFT_TRY(keep_core(format, one, &place));
    struct part before = {one.p, place.begin}, after = {one.p + place.end, one.n - place.end};
    format->parallel = two.n && graft_tool_locate(two, 0, 0, &first) && has_core(format, two, &first) &&
                       graft_tool_locate(two, first.end, 1, &second) && has_core(format, two, &second) &&
                       is_same(before, (struct part){two.p, first.begin}) &&
                       is_same(after, (struct part){two.p + second.end, two.n - second.end});
    size_t close = after.n, open = before.n;
    struct part between = {"", 0};
    if (format->parallel) {
        between = (struct part){two.p + first.end, second.begin - first.end};
        close = common_begin(between, after);
        between = (struct part){between.p + close, between.n - close};
        open = common_end(between, before);
        between.n -= open;
    }
    GRAFT_TRY(keep(format, GRAFT_TOOL_T_BEGIN, (struct part){before.p, before.n - open}));
    GRAFT_TRY(keep(format, GRAFT_TOOL_T_OPEN, (struct part){before.p + before.n - open, open}));
    GRAFT_TRY(keep(format, GRAFT_TOOL_T_CLOSE, (struct part){after.p, close}));
    GRAFT_TRY(keep(format, GRAFT_TOOL_T_END, (struct part){after.p + close, after.n - close}));
    GRAFT_TRY(keep(format, GRAFT_TOOL_T_BETWEEN, between));
    GRAFT_TRY(place.ids == GRAFT_TOOL_IDS_NAME ? name_by_id(format) : GRAFT_OK);
    GRAFT_TRY(keep_marker(format));
    // A call without a mark in front can only be told from text by its braces.
    *good = *format->texts[GRAFT_TOOL_T_MARKER] || format->style == GRAFT_TOOL_OBJECT;
    return GRAFT_OK;
}

// What is between the begin of an answer and its end, both as an answer of text has them.
static struct part section(struct part answer, size_t begin, size_t end)
{
    return answer.n >= begin + end ? (struct part){answer.p + begin, answer.n - begin - end} : (struct part){"", 0};
}

// How much of an answer's end stands behind every text of an assistant that a user answers: some templates end the last answer
// of calls only.
static enum graft_status ended_turn(const struct graft_tool_format *format, struct part answer, size_t *out)
{
    char *text;
    struct part part;
    json_t *messages = said(json_string(SAID), NULL);
    json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "user", "content", USER));
    *out = 0;
    GRAFT_TRY(render(format, messages, true, false, &text, &part));
    part = behind(part, SAID);
    for (size_t n = answer.n < part.n ? answer.n : part.n; n > 1 && !*out; n--) {
        const char *end = answer.p + answer.n - n;
        *out = (*end == '<' || *end == '[') && memcmp(end, part.p, n) == 0 ? n : 0;
    }
    GRAFT_FREE(format->ctx, &text);
    return GRAFT_OK;
}

// prompt: what stands behind the question before the answer begins.
static enum graft_status try_calls(struct graft_tool_format *format, struct part prompt, struct part text_answer, bool *good)
{
    char *one = NULL, *two = NULL;
    struct part a, b;
    const char *words = graft_tool_find_text(text_answer, 0, SAID);
    *good = false;
    enum graft_status status = words ? render_calls(format, 1, NULL, &one, &a) : GRAFT_OK;
    status = status == GRAFT_OK && one ? render_calls(format, 2, NULL, &two, &b) : status;
    if (status == GRAFT_OK && one) {
        a = behind(a, USER);
        b = two ? behind(b, USER) : (struct part){"", 0};
        size_t at = (size_t)(words - text_answer.p), after = at + strlen(SAID);
        size_t begin = common_begin(a, (struct part){text_answer.p, at});
        bool prompted = a.n > prompt.n && prompt.n > begin && memcmp(a.p, prompt.p, prompt.n) == 0;
        begin = prompted ? prompt.n : begin;
        struct part tail = unended(section(a, begin, 0)), said_tail = {text_answer.p + after, text_answer.n - after};
        size_t same_end = common_end(tail, unended(said_tail));
        status = same_end ? GRAFT_OK : ended_turn(format, tail, &same_end);
        size_t end = a.n - begin - tail.n + same_end;
        struct part many = section(b, begin, end);
        bool same = many.n && memcmp(a.p, b.p, begin) == 0 && memcmp(a.p + a.n - end, b.p + b.n - end, end) == 0;
        status =
            status != GRAFT_OK ? status : take_apart(format, section(a, begin, end), same ? many : (struct part){"", 0}, good);
    }
    GRAFT_FREE(format->ctx, &one);
    GRAFT_FREE(format->ctx, &two);
    return status;
}

// ---- the rest ----

static enum graft_status probe_ids(struct graft_tool_format *format)
{
    char *text;
    struct part part;
    GRAFT_TRY(render_calls(format, 1, "call_zq0123456789", &text, &part));
    format->ids = text || format->ids != GRAFT_TOOL_IDS_FREE ? format->ids : GRAFT_TOOL_IDS_NINE;
    GRAFT_FREE(format->ctx, &text);
    return GRAFT_OK;
}

static enum graft_status probe_system(struct graft_tool_format *format)
{
    char *text;
    struct part part;
    json_t *messages =
        json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "system", "content", "Zq7system", "role", "user", "content", USER);
    GRAFT_TRY(render(format, messages, false, true, &text, &part));
    format->system_role = text && graft_tool_find_text(part, 0, "Zq7system") != NULL;
    GRAFT_FREE(format->ctx, &text);
    return GRAFT_OK;
}

static enum graft_status probe_tools(struct graft_tool_format *format)
{
    char *text;
    struct part part;
    GRAFT_TRY(render(format, json_pack("[{s:s, s:s}]", "role", "user", "content", USER), true, true, &text, &part));
    format->native_tools = text && graft_tool_find_text(part, 0, graft_tool_probe_names[0]) &&
                           graft_tool_find_text(part, 0, graft_tool_probe_names[1]) && graft_tool_find_text(part, 0, KEY);
    part = behind(part, USER);
    const char *think = graft_tool_find_text(part, 0, "<think>");
    format->thinks = think && !graft_tool_find_text(part, (size_t)(think - part.p), "</think>");
    GRAFT_FREE(format->ctx, &text);
    return GRAFT_OK;
}

enum graft_status graft_tool_probe(struct graft_tool_format *format)
{
    char *text = NULL, *prompt = NULL;
    struct part part, question;
    bool good = false;
    GRAFT_TRY(probe_system(format));
    GRAFT_TRY(probe_tools(format));
    GRAFT_TRY(render(format, json_pack("[{s:s, s:s}]", "role", "user", "content", USER), true, true, &prompt, &question));
    enum graft_status status = render(format, said(json_string(SAID), NULL), true, false, &text, &part);
    for (int i = 0; i < 4 && text && !good && status == GRAFT_OK; i++) {
        format->null_content = i & 1;
        format->text_arguments = i & 2;
        status = try_calls(format, behind(question, USER), behind(part, USER), &good);
    }
    GRAFT_FREE(format->ctx, &prompt);
    GRAFT_FREE(format->ctx, &text);
    GRAFT_TRY(status);
    format->native_calls = good;
    return good ? probe_ids(format) : graft_tool_standard(format);
}

enum graft_status graft_tool_standard(struct graft_tool_format *format)
{
    static const char *const texts[GRAFT_TOOL_TEXTS] = {
        [GRAFT_TOOL_T_BEGIN] = "",
        [GRAFT_TOOL_T_OPEN] = "<tool_call>\n",
        [GRAFT_TOOL_T_CLOSE] = "\n</tool_call>",
        [GRAFT_TOOL_T_BETWEEN] = "\n",
        [GRAFT_TOOL_T_END] = "",
        [GRAFT_TOOL_T_CORE] = "{\"name\": \"",
        [GRAFT_TOOL_T_CORE + 1] = "\", \"arguments\": ",
        [GRAFT_TOOL_T_CORE + 2] = "}",
        [GRAFT_TOOL_T_MARKER] = "<tool_call>",
    };
    format->style = GRAFT_TOOL_OBJECT;
    format->ids = GRAFT_TOOL_IDS_FREE;
    format->native_calls = format->native_tools = format->null_content = format->text_arguments = false;
    format->parallel = true;
    format->slots[0] = GRAFT_TOOL_S_NAME;
    format->slots[1] = GRAFT_TOOL_S_ARGUMENTS;
    format->n_slots = 2;
    for (int i = 0; i < GRAFT_TOOL_TEXTS; i++) {
        GRAFT_TRY(
            keep(format, (enum graft_tool_text)i, (struct part){texts[i] ? texts[i] : "", texts[i] ? strlen(texts[i]) : 0}));
    }
    return GRAFT_OK;
}
