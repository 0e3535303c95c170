// SPDX-License-Identifier: Apache-2.0
// Tool calls as text: what a template would write, from its format.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/tool_format.h"

static void add_text(const struct graft_tool_format *format, enum graft_tool_text which, struct graft_line *line)
{
    graft_line_add_bytes(line, format->texts[which], strlen(format->texts[which]));
}

// The fewest digits that read back as the same number.
static void add_real(double value, struct graft_line *line)
{
    char text[40];
    int digits = 15;
    do {
        snprintf(text, sizeof text, "%.*g", digits, value);
    } while (strtod(text, NULL) != value && ++digits <= 17);
    graft_line_add(line, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

static void add_scalar(const json_t *value, struct graft_line *line)
{
    if (json_is_real(value)) {
        add_real(json_real_value(value), line);
        return;
    }
    size_t length = json_dumpb(value, NULL, 0, JSON_ENCODE_ANY);
    char *text = length ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    if (text) {
        graft_line_add_bytes(line, text, length);
    } else if (line->status == GRAFT_OK) {
        line->status = graft_fail(GRAFT_E_MEMORY, "no memory for JSON text");
    }
    free(text);
}

void graft_tool_write_json(const json_t *value, struct graft_line *line)
{
    const char *key, *comma = "";
    size_t i;
    json_t *item;
    if (!json_is_object(value) && !json_is_array(value)) {
        add_scalar(value, line);
        return;
    }
    graft_line_add(line, json_is_object(value) ? "{" : "[");
    json_object_foreach((json_t *)(uintptr_t)value, key, item)
    {
        json_t *name = json_string(key);
        graft_line_add(line, "%s", comma);
        add_scalar(name, line);
        json_decref(name);
        graft_line_add(line, ": ");
        graft_tool_write_json(item, line);
        comma = ", ";
    }
    json_array_foreach(value, i, item)
    {
        graft_line_add(line, "%s", comma);
        graft_tool_write_json(item, line);
        comma = ", ";
    }
    graft_line_add(line, json_is_object(value) ? "}" : "]");
}

static void add_arguments(const struct graft_tool_format *format, const json_t *arguments, struct graft_line *line)
{
    const char *key;
    json_t *value;
    if (format->style != GRAFT_TOOL_PARAMETERS) {
        graft_tool_write_json(arguments, line);
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)arguments, key, value)
    {
        bool text = json_is_string(value);
        add_text(format, GRAFT_TOOL_T_KEY, line);
        graft_line_add_bytes(line, key, strlen(key));
        add_text(format, text ? GRAFT_TOOL_T_VALUE_TEXT : GRAFT_TOOL_T_VALUE_OTHER, line);
        if (text) {
            graft_line_add_bytes(line, json_string_value(value), json_string_length(value));
        } else {
            graft_tool_write_json(value, line);
        }
        add_text(format, GRAFT_TOOL_T_VALUE_END, line);
    }
}

static void add_slot(const struct graft_tool_format *format, enum graft_tool_slot slot, const json_t *call, size_t index,
                     struct graft_line *line)
{
    const json_t *function = json_object_get(call, "function");
    const char *name = json_string_value(json_object_get(function, "name")), *id;
    switch (slot) {
    case GRAFT_TOOL_S_NAME:
        graft_line_add_bytes(line, name, strlen(name));
        break;
    case GRAFT_TOOL_S_ARGUMENTS:
        add_arguments(format, json_object_get(function, "arguments"), line);
        break;
    case GRAFT_TOOL_S_ID:
        id = json_string_value(json_object_get(call, "id"));
        if (format->ids == GRAFT_TOOL_IDS_COUNT || format->ids == GRAFT_TOOL_IDS_NAME) {
            graft_line_add(line, "%zu", index);
        } else {
            graft_line_add_bytes(line, id ? id : "", id ? strlen(id) : 0);
        }
    }
}

void graft_tool_write(const struct graft_tool_format *format, const json_t *calls, struct graft_line *line)
{
    size_t i;
    json_t *call;
    add_text(format, GRAFT_TOOL_T_BEGIN, line);
    json_array_foreach(calls, i, call)
    {
        if (i) {
            add_text(format, GRAFT_TOOL_T_BETWEEN, line);
        }
        add_text(format, GRAFT_TOOL_T_OPEN, line);
        for (uint32_t k = 0; k < format->n_slots; k++) {
            add_text(format, (enum graft_tool_text)(GRAFT_TOOL_T_CORE + k), line);
            add_slot(format, format->slots[k], call, i, line);
        }
        add_text(format, (enum graft_tool_text)(GRAFT_TOOL_T_CORE + format->n_slots), line);
        add_text(format, GRAFT_TOOL_T_CLOSE, line);
    }
    add_text(format, GRAFT_TOOL_T_END, line);
}
