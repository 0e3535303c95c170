// SPDX-License-Identifier: Apache-2.0
// The arguments of a tool call, as they come: the object of a call, JSON behind a name, or one marked text per argument.
#include <stdio.h>
#include <string.h>

#include "runtime/text/tool_parse.h"

// ---- JSON ----

static bool end_call(struct graft_tool_parser *p)
{
    graft_tool_tell(p, GRAFT_TOOL_CALL_END, "", 0);
    p->begun = false;
    graft_tool_drop(p, p->at);
    p->state = p->tools->single ? DONE : AFTER;
    return true;
}

// One character of strings and braces; true when the outermost brace was closed.
static bool walk(struct graft_tool_parser *p, char c)
{
    if (p->in_string) {
        p->in_string = p->escaped || c != '"';
        p->escaped = !p->escaped && c == '\\';
    } else if (c == '"') {
        p->in_string = true;
    } else if (c == '{' || c == '[') {
        p->depth++;
    } else if ((c == '}' || c == ']') && p->depth) {
        p->depth--;
        return p->depth == 0;
    }
    return false;
}

bool graft_tool_step_json(struct graft_tool_parser *p)
{
    bool whole = false;
    while (p->at < p->held.length && !whole) {
        whole = walk(p, p->held.text[p->at++]);
    }
    graft_tool_tell(p, GRAFT_TOOL_ARGUMENTS, p->held.text, p->at);
    graft_tool_drop(p, p->at);
    return whole && end_call(p);
}

static bool is_key(const char *key, const char *const *list)
{
    while (*list && strcmp(*list, key) != 0) {
        list++;
    }
    return *list != NULL;
}

static const char *const name_keys[] = {"name", "tool_name", "function", NULL};
static const char *const argument_keys[] = {"arguments", "parameters", "args", NULL};
static const char *const id_keys[] = {"id", "tool_call_id", "call_id", NULL};
static const char *const other_keys[] = {"type", NULL};

// A value of the call's object is whole. False: this is no call.
static bool take_value(struct graft_tool_parser *p)
{
    const char *text = p->held.text + p->value;
    size_t length = p->value_end - p->value;
    bool string = length >= 2 && *text == '"';
    if (is_key(p->key, name_keys)) {
        return string && graft_tool_is_known(p, text + 1, length - 2);
    }
    if (is_key(p->key, argument_keys)) {
        p->arguments = p->value;
        p->arguments_end = p->value_end;
        if (p->streaming) {
            graft_tool_tell(p, GRAFT_TOOL_ARGUMENTS, text, length);
            p->streaming = false;
        }
    } else if (is_key(p->key, id_keys) && length < sizeof p->id) {
        size_t n = string ? length - 2 : length;
        memcpy(p->id, text + string, n);
        p->id[n] = 0;
    }
    p->value = 0;
    return true;
}

// Arguments that could not be told as they came: the name came later, or they are JSON in a string.
static void tell_arguments(struct graft_tool_parser *p)
{
    const char *text = p->held.text + p->arguments;
    size_t length = p->arguments_end - p->arguments;
    json_t *inside = length && *text == '"' ? json_loadb(text, length, JSON_DECODE_ANY, NULL) : NULL;
    bool object = length && *text == '{';
    graft_tool_tell(p, GRAFT_TOOL_CALL, "", 0);
    graft_tool_tell(p, GRAFT_TOOL_ARGUMENTS,
                    inside   ? json_string_value(inside)
                    : object ? text
                             : "{}",
                    inside   ? json_string_length(inside)
                    : object ? length
                             : 2);
    json_decref(inside);
}

// The object of a call, character by character; p->at is the first that was not looked at.
bool graft_tool_step_object(struct graft_tool_parser *p)
{
    while (p->at < p->held.length) {
        size_t at = p->at++;
        char c = p->held.text[at];
        bool was_string = p->in_string;
        uint32_t was = p->depth;
        bool whole = walk(p, c), string_ends = was_string && !p->in_string;
        if (whole && p->value && !p->value_end) {
            p->value_end = at;
        }
        if (was == 1 && p->phase == KEY && !was_string && c == '"') {
            p->value = at + 1;
        } else if (was == 1 && p->phase == KEY && string_ends) {
            snprintf(p->key, sizeof p->key, "%.*s", (int)(at - p->value), p->held.text + p->value);
            p->value = 0;
            p->phase = COLON;
            bool any = is_key(p->key, name_keys) || is_key(p->key, argument_keys) || is_key(p->key, id_keys) ||
                       is_key(p->key, other_keys);
            if (!any && !*p->name && !p->arguments) {
                return graft_tool_give_up(p);
            }
        } else if (was == 1 && p->phase == COLON && c == ':') {
            p->phase = VALUE;
            p->value = p->value_end = 0;
        } else if (was == 1 && p->phase == VALUE && !p->value && !graft_tool_is_blank(c) && !whole) {
            p->value = at;
            bool object = c == '{' && is_key(p->key, argument_keys);
            if (object && *p->name && !p->begun) {
                graft_tool_tell(p, GRAFT_TOOL_CALL, "", 0);
                graft_tool_drop(p, at); // the call is one: what was in front is needed no more
                p->at = 1;
                p->value = 0;
                p->streaming = true;
            }
        } else if (p->phase == VALUE && ((was == 2 && p->depth == 1) || (was == 1 && string_ends))) {
            p->value_end = p->at;
        } else if (was == 1 && p->phase == VALUE && (p->value || p->streaming) && !was_string && c == ',') {
            p->value_end = p->value_end ? p->value_end : at;
        }
        if (p->phase == VALUE && p->value_end) {
            if (!take_value(p)) {
                return graft_tool_give_up(p);
            }
            p->value_end = 0;
            p->phase = c == ',' ? KEY : COMMA;
        } else if (was == 1 && p->phase == COMMA && c == ',') {
            p->phase = KEY;
        }
        if (whole) {
            if (!*p->name) {
                return graft_tool_give_up(p);
            }
            if (!p->begun) {
                tell_arguments(p);
            }
            return end_call(p);
        }
    }
    if (p->streaming) {
        graft_tool_tell(p, GRAFT_TOOL_ARGUMENTS, p->held.text, p->at);
        graft_tool_drop(p, p->at);
    }
    return false;
}

// ---- named arguments ----

static bool is_text(const struct graft_tool_parser *p, const char *key)
{
    const json_t *properties = json_object_get(graft_tool_parameters(p->tools, p->function), "properties");
    const char *type = json_string_value(json_object_get(json_object_get(properties, key), "type"));
    return type && strcmp(type, "string") == 0;
}

// JSON, or what Python prints for what JSON calls true, false and null: some templates write that. NULL: neither.
static json_t *read_value(const char *text, size_t length)
{
    json_t *value = json_loadb(text, length, JSON_DECODE_ANY, NULL);
    if (!value && length == 4 && memcmp(text, "True", 4) == 0) {
        return json_true();
    }
    if (!value && length == 5 && memcmp(text, "False", 5) == 0) {
        return json_false();
    }
    return !value && length == 4 && memcmp(text, "None", 4) == 0 ? json_null() : value;
}

static enum graft_status tell_parameter(struct graft_tool_parser *p, const char *key, const char *text, size_t length)
{
    struct graft_line line = {.ctx = p->format->ctx};
    json_t *name = json_string(key), *value = is_text(p, key) ? NULL : read_value(text, length);
    value = value ? value : json_stringn(text, length);
    graft_line_add(&line, "%s", p->n_parameters++ ? ", " : "{");
    graft_tool_write_json(name, &line);
    graft_line_add(&line, ": ");
    graft_tool_write_json(value, &line);
    json_decref(name);
    json_decref(value);
    if (line.status == GRAFT_OK) {
        graft_tool_tell(p, GRAFT_TOOL_ARGUMENTS, line.text, (size_t)line.length);
    }
    GRAFT_FREE(line.ctx, &line.text);
    return line.status;
}

static bool ends_with_break(const char *text)
{
    return *text && text[strlen(text) - 1] == '\n';
}

enum graft_status graft_tool_step_params(struct graft_tool_parser *p, bool *go_on)
{
    char *const *texts = p->format->texts;
    size_t before = p->at;
    enum match match = graft_tool_take(p, graft_tool_words(p, GRAFT_TOOL_T_KEY, ""));
    *go_on = match == NO;
    if (match == NO) {
        graft_tool_tell(p, GRAFT_TOOL_ARGUMENTS, p->n_parameters ? "}" : "{}", p->n_parameters ? 1 : 2);
        end_call(p);
        return GRAFT_OK;
    }
    struct words text = graft_tool_words(p, GRAFT_TOOL_T_VALUE_TEXT, ""),
                 other = graft_tool_words(p, GRAFT_TOOL_T_VALUE_OTHER, ""),
                 close = graft_tool_words(p, GRAFT_TOOL_T_VALUE_END, "");
    ptrdiff_t is_string = match == YES ? graft_tool_find_words(p, p->at, text) : AT_NONE,
              not_string = graft_tool_find_words(p, p->at, other);
    bool first = is_string != AT_NONE && (not_string == AT_NONE || is_string <= not_string);
    ptrdiff_t key_end = match == YES ? (first ? is_string : not_string) : AT_NONE;
    size_t value = key_end == AT_NONE ? 0 : (size_t)key_end + (first ? text.n : other.n);
    ptrdiff_t end = key_end == AT_NONE ? AT_NONE : graft_tool_find_words(p, value, close);
    if (end == AT_NONE) {
        p->at = before;
        return GRAFT_OK;
    }
    char key[256];
    snprintf(key, sizeof key, "%.*s", (int)((size_t)key_end - p->at), p->held.text + p->at);
    size_t length = (size_t)end - value;
    if (length && p->held.text[value] == '\n' &&
        ends_with_break(texts[first ? GRAFT_TOOL_T_VALUE_TEXT : GRAFT_TOOL_T_VALUE_OTHER])) {
        value++;
        length--;
    }
    length -= length && p->held.text[value + length - 1] == '\n' && texts[GRAFT_TOOL_T_VALUE_END][0] == '\n';
    GRAFT_TRY(tell_parameter(p, key, p->held.text + value, length));
    p->at = (size_t)end + close.n;
    graft_tool_drop(p, p->at);
    *go_on = true;
    return GRAFT_OK;
}
