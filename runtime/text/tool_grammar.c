// SPDX-License-Identifier: Apache-2.0
// Grammars of answers with tool calls: the literal texts of the format, and in the slots the names that may be called, ids, and
// arguments of the function's JSON schema.
#include <inttypes.h>
#include <string.h>

#include "runtime/text/tool_format.h"

enum { MAX_MARK = 96, MAX_CALLS = 32 };

// What a text may not contain, as characters.
struct mark {
    uint32_t characters[MAX_MARK];
    uint32_t n;
};

static enum graft_status read_mark(const char *text, size_t length, struct mark *out)
{
    out->n = 0;
    for (size_t i = 0; i < length;) {
        uint8_t c = (uint8_t)text[i];
        uint32_t more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3, value = more ? c & (0x3fu >> more) : c;
        for (uint32_t k = 1; k <= more && i + k < length; k++) {
            value = value << 6 | ((uint8_t)text[i + k] & 0x3fu);
        }
        if (out->n == MAX_MARK) {
            return graft_fail(GRAFT_E_UNSUPPORTED, "the template marks calls with more than %d characters", MAX_MARK);
        }
        out->characters[out->n++] = value;
        i += more + 1;
    }
    return GRAFT_OK;
}

// How much of the mark stands at the end of its first `matched` characters and one more (Knuth, Morris and Pratt 1977).
static uint32_t advance(const struct mark *mark, uint32_t matched, uint32_t character)
{
    for (uint32_t n = matched + 1; n > 0; n--) {
        bool same = mark->characters[n - 1] == character;
        for (uint32_t i = 0; i + 1 < n && same; i++) {
            same = mark->characters[i] == mark->characters[matched + 1 - n + i];
        }
        if (same) {
            return n;
        }
    }
    return 0;
}

// Rules NAME0, NAME1 ...: any text without the mark, from NAME0 on.
static void add_free_text(const char *name, const struct mark *mark, struct graft_line *line)
{
    for (uint32_t state = 0; state < mark->n; state++) {
        graft_line_add(line, "%s%" PRIu32 " ::= \"\" | [^", name, state);
        for (uint32_t i = 0; i < mark->n; i++) {
            graft_line_add_character(line, mark->characters[i]);
        }
        graft_line_add(line, "] %s0", name);
        for (uint32_t i = 0; i < mark->n; i++) {
            uint32_t c = mark->characters[i], seen = 0, next = advance(mark, state, c);
            while (mark->characters[seen] != c) {
                seen++;
            }
            if (seen == i && next < mark->n) {
                graft_line_add(line, " | [");
                graft_line_add_character(line, c);
                graft_line_add(line, "] %s%" PRIu32, name, next);
            }
        }
        graft_line_add(line, "\n");
    }
}

static void stripped(const char **text, size_t *length)
{
    *length = strlen(*text);
    while (*length && strchr(" \n\r\t", **text)) {
        (*text)++;
        (*length)--;
    }
    while (*length && strchr(" \n\r\t", (*text)[*length - 1])) {
        (*length)--;
    }
}

static void add_text(const struct graft_tool_format *format, enum graft_tool_text which, struct graft_line *line)
{
    if (*format->texts[which]) {
        graft_line_add(line, " ");
        graft_line_add_literal(line, format->texts[which], strlen(format->texts[which]));
    }
}

// ---- arguments ----

static bool is_strict(const struct graft_tools *tools, uint32_t index)
{
    return json_is_true(json_object_get(json_object_get(json_array_get(tools->list, index), "function"), "strict"));
}

// A schema's rule, or that of anything (`loose`) where the schema is not understood and need not be.
static enum graft_status add_schema(const struct graft_tools *tools, uint32_t index, struct graft_schema *schema,
                                    const json_t *node, const char *loose, struct graft_line *line)
{
    uint32_t rule;
    enum graft_status status = graft_schema_rule(schema, node, &rule);
    if (status == GRAFT_OK) {
        graft_line_add(line, " r%" PRIu32, rule);
    } else if ((status == GRAFT_E_UNSUPPORTED || status == GRAFT_E_ARGUMENT) && !is_strict(tools, index)) {
        graft_line_add(line, " %s", loose);
        return line->status;
    } else {
        return graft_fail_prefix(status, "tools[%" PRIu32 "].function.parameters", index);
    }
    return line->status;
}

static bool is_required(const json_t *parameters, const char *name)
{
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(parameters, "required"), i, item)
    {
        if (json_is_string(item) && strcmp(json_string_value(item), name) == 0) {
            return true;
        }
    }
    return false;
}

// The value of a named argument: a string stands there as it is.
static enum graft_status add_value(const struct graft_tools *tools, uint32_t index, struct graft_schema *schema,
                                   const json_t *node, struct graft_line *line)
{
    const char *type = json_string_value(json_object_get(node, "type"));
    const json_t *choices = json_object_get(node, "enum");
    bool text = !json_is_object(node) || (type ? strcmp(type, "string") == 0 : !json_object_get(node, "anyOf"));
    add_text(tools->format, text ? GRAFT_TOOL_T_VALUE_TEXT : GRAFT_TOOL_T_VALUE_OTHER, line);
    if (text && json_array_size(choices) > 0) {
        size_t i;
        json_t *item;
        json_array_foreach(choices, i, item)
        {
            const char *word = json_string_value(item);
            graft_line_add(line, i ? " | " : " (");
            graft_line_add_literal(line, word ? word : "", word ? strlen(word) : 0);
        }
        graft_line_add(line, ")");
    } else if (text) {
        graft_line_add(line, " free0");
    } else if (type && strcmp(type, "boolean") == 0) {
        graft_line_add(line, " ([tT] \"rue\" | [fF] \"alse\")"); // some templates write them as Python does
    } else {
        GRAFT_TRY(add_schema(tools, index, schema, node, "value", line));
    }
    add_text(tools->format, GRAFT_TOOL_T_VALUE_END, line);
    return line->status;
}

static enum graft_status add_parameters(const struct graft_tools *tools, uint32_t index, struct graft_schema *schema,
                                        struct graft_line *line)
{
    const json_t *parameters = graft_tool_parameters(tools, index);
    const char *key;
    json_t *node;
    json_object_foreach((json_t *)(uintptr_t)json_object_get(parameters, "properties"), key, node)
    {
        bool required = is_required(parameters, key);
        graft_line_add(line, required ? "" : " (");
        add_text(tools->format, GRAFT_TOOL_T_KEY, line);
        graft_line_add(line, " ");
        graft_line_add_literal(line, key, strlen(key));
        GRAFT_TRY(add_value(tools, index, schema, node, line));
        graft_line_add(line, required ? "" : ")?");
    }
    return line->status;
}

static enum graft_status add_arguments(const struct graft_tools *tools, uint32_t index, struct graft_schema *schema,
                                       struct graft_line *line)
{
    const json_t *parameters = graft_tool_parameters(tools, index);
    if (tools->format->style == GRAFT_TOOL_PARAMETERS) {
        return add_parameters(tools, index, schema, line);
    }
    if (!parameters) {
        graft_line_add(line, " \"{}\"");
        return line->status;
    }
    const char *type = json_string_value(json_object_get(parameters, "type"));
    bool object = type ? strcmp(type, "object") == 0 : json_object_get(parameters, "properties") != NULL;
    if (!object) {
        graft_line_add(line, " object");
        return line->status;
    }
    return add_schema(tools, index, schema, parameters, "object", line);
}

// ---- calls ----

static enum graft_status add_call(const struct graft_tools *tools, uint32_t index, struct graft_schema *schema)
{
    const struct graft_tool_format *format = tools->format;
    struct graft_line line = {.ctx = format->ctx};
    enum graft_status status = GRAFT_OK;
    graft_line_add(&line, "call%" PRIu32 " ::=", index);
    for (uint32_t i = 0; i <= format->n_slots && status == GRAFT_OK; i++) {
        add_text(format, (enum graft_tool_text)(GRAFT_TOOL_T_CORE + i), &line);
        bool slot = i < format->n_slots;
        if (slot && format->slots[i] == GRAFT_TOOL_S_NAME) {
            const char *name = graft_tool_name(tools, index);
            graft_line_add(&line, " ");
            graft_line_add_literal(&line, name, strlen(name));
        } else if (slot && format->slots[i] == GRAFT_TOOL_S_ID) {
            bool counted = format->ids == GRAFT_TOOL_IDS_COUNT || format->ids == GRAFT_TOOL_IDS_NAME;
            graft_line_add(&line, counted ? " [0-9]{1,2}" : " [a-zA-Z0-9]{9}");
        } else if (slot) {
            status = add_arguments(tools, index, schema, &line);
        }
    }
    add_text(format, GRAFT_TOOL_T_CLOSE, &line);
    graft_line_add(&line, "\n");
    status = status == GRAFT_OK ? line.status : status;
    if (status == GRAFT_OK) {
        graft_line_add_bytes(&schema->out, line.text, line.length);
    }
    GRAFT_FREE(line.ctx, &line.text);
    return status;
}

// section ::= the calls with everything around them, from the first character that is not white space.
static enum graft_status add_section(const struct graft_tools *tools, struct graft_line *line)
{
    const struct graft_tool_format *format = tools->format;
    const char *begin = format->texts[GRAFT_TOOL_T_BEGIN], *open = format->texts[GRAFT_TOOL_T_OPEN];
    begin += strspn(begin, " \n\r\t");
    open += *begin ? 0 : strspn(open, " \n\r\t");
    graft_line_add(line, "section ::=");
    if (*begin || *open) {
        graft_line_add(line, " ");
        graft_line_add_literal(line, begin, strlen(begin));
        graft_line_add(line, " ");
        graft_line_add_literal(line, open, strlen(open));
    }
    graft_line_add(line, " call");
    if (!tools->single && format->parallel && tools->choice != GRAFT_TOOL_NAMED_ONE) {
        graft_line_add(line, " (");
        add_text(format, GRAFT_TOOL_T_BETWEEN, line);
        add_text(format, GRAFT_TOOL_T_OPEN, line);
        graft_line_add(line, " call){0,%d}", MAX_CALLS - 1);
    }
    add_text(format, GRAFT_TOOL_T_END, line);
    graft_line_add(line, "\ncall ::=");
    for (uint32_t i = 0, n = 0; i < tools->count; i++) {
        if (tools->choice != GRAFT_TOOL_NAMED_ONE || tools->chosen == i) {
            graft_line_add(line, n++ ? " | call%" PRIu32 : " call%" PRIu32, i);
        }
    }
    graft_line_add(line, "\n");
    return line->status;
}

// What is in front of the calls: thoughts where the template has opened them, white space; text if calls are not a must.
static enum graft_status add_root(const struct graft_tools *tools, struct graft_line *line)
{
    const struct graft_tool_format *format = tools->format;
    struct mark mark;
    const char *text = "</think>";
    size_t length;
    if (format->thinks) {
        GRAFT_TRY(read_mark(text, strlen(text), &mark));
        add_free_text("think", &mark, line);
    }
    graft_line_add(line, "blank ::= [ \\n]{0,4}\nroot ::= %s", format->thinks ? "think0 \"</think>\" " : "");
    if (tools->choice != GRAFT_TOOL_AUTO) {
        graft_line_add(line, "blank section\n");
        return line->status;
    }
    text = format->texts[GRAFT_TOOL_T_MARKER];
    stripped(&text, &length);
    if (!length) { // a call is known by its brace, at the begin
        graft_line_add(line, "blank (section | [^{ \\n\\r\\t] [^\\x00]*)?\n");
        return line->status;
    }
    GRAFT_TRY(read_mark(text, length, &mark));
    graft_line_add(line, "text0 section?\n");
    add_free_text("text", &mark, line);
    return line->status;
}

enum graft_status graft_tool_bind(const struct graft_tools *tools, struct graft_grammar **out)
{
    bool must = tools->choice == GRAFT_TOOL_REQUIRED || tools->choice == GRAFT_TOOL_NAMED_ONE, strict = false;
    for (uint32_t i = 0; i < tools->count; i++) {
        strict = strict || is_strict(tools, i);
    }
    *out = NULL;
    if (tools->choice == GRAFT_TOOL_NONE || (!must && !strict) || !tools->count) {
        return GRAFT_OK;
    }
    struct graft_schema schema;
    struct mark mark;
    enum graft_status status = graft_schema_begin(&schema, tools->format->ctx);
    for (uint32_t i = 0; i < tools->count && status == GRAFT_OK; i++) {
        bool may = tools->choice != GRAFT_TOOL_NAMED_ONE || tools->chosen == i;
        status = may ? add_call(tools, i, &schema) : GRAFT_OK;
    }
    if (status == GRAFT_OK && tools->format->style == GRAFT_TOOL_PARAMETERS) {
        const char *text = tools->format->texts[GRAFT_TOOL_T_VALUE_END];
        size_t length;
        stripped(&text, &length);
        status = read_mark(text, length, &mark);
        add_free_text("free", &mark, &schema.out);
    }
    status = status == GRAFT_OK ? add_section(tools, &schema.out) : status;
    status = status == GRAFT_OK ? add_root(tools, &schema.out) : status;
    status = status == GRAFT_OK ? schema.out.status : status;
    status = status == GRAFT_OK ? graft_grammar_create(tools->format->ctx, out, schema.out.text, schema.out.length) : status;
    graft_schema_end(&schema);
    return status;
}
