// SPDX-License-Identifier: Apache-2.0
// Tool calls: what finding out the format (tool_probe.c), prompts (tool_prompt.c), grammars (tool_grammar.c) and the parser
// (tool_parse.c) share.
//
// A template's calls are  BEGIN call (BETWEEN call)* END,  a call is  OPEN core CLOSE,  and a core is literal text around up to
// three slots: name, arguments, id. Arguments are a JSON object, or with GRAFT_TOOL_PARAMETERS
// (KEY key VALUE_TEXT value VALUE_END)*, where VALUE_OTHER stands for VALUE_TEXT if the value is not a string.
#ifndef GRAFT_RUNTIME_TEXT_TOOL_FORMAT_H
#define GRAFT_RUNTIME_TEXT_TOOL_FORMAT_H

#include <jansson.h>

#include "graft/tools.h"
#include "runtime/text/schema.h"
#include "runtime/text/template.h"
#include "runtime/text/vocab.h"

// Texts of a format. MARKER is what a call is recognized by: BEGIN, or OPEN, without white space and brackets around it.
enum graft_tool_text {
    GRAFT_TOOL_T_BEGIN,
    GRAFT_TOOL_T_OPEN,
    GRAFT_TOOL_T_CLOSE,
    GRAFT_TOOL_T_BETWEEN,
    GRAFT_TOOL_T_END,
    GRAFT_TOOL_T_CORE, // and three more: in front of, between and behind the slots
    GRAFT_TOOL_T_CORE_LAST = GRAFT_TOOL_T_CORE + 3,
    GRAFT_TOOL_T_KEY,
    GRAFT_TOOL_T_VALUE_TEXT,
    GRAFT_TOOL_T_VALUE_OTHER,
    GRAFT_TOOL_T_VALUE_END,
    GRAFT_TOOL_T_MARKER,
    GRAFT_TOOL_TEXTS
};

enum graft_tool_slot { GRAFT_TOOL_S_NAME, GRAFT_TOOL_S_ARGUMENTS, GRAFT_TOOL_S_ID };

// Where ids come from.
enum graft_tool_ids {
    GRAFT_TOOL_IDS_FREE,  // any, or not shown to the model
    GRAFT_TOOL_IDS_NINE,  // nine letters and digits
    GRAFT_TOOL_IDS_COUNT, // the template counts calls: 0, 1 ...
    GRAFT_TOOL_IDS_NAME   // functions.NAME:COUNT instead of the name
};

enum { GRAFT_TOOL_SLOTS = 3, GRAFT_TOOL_SHORT_ID = 9 };

struct graft_tool_format {
    struct graft_ctx *ctx;
    struct graft_template *template_; // while it is found out
    const struct graft_vocab *vocab;  // NULL: none
    json_t *tokens;                   // bos_token and eos_token
    enum graft_tool_style style;
    enum graft_tool_ids ids;
    bool native_calls, native_tools, parallel;
    bool system_role;    // a system message is rendered
    bool null_content;   // content of a message with calls is null, not ""
    bool text_arguments; // arguments are given to the template as JSON text
    bool thinks;         // the answer begins inside <think>
    char *texts[GRAFT_TOOL_TEXTS];
    enum graft_tool_slot slots[GRAFT_TOOL_SLOTS]; // in the order of the core
    uint32_t n_slots;
};

struct graft_tools {
    const struct graft_tool_format *format;
    json_t *list; // the array as it was given
    uint32_t count;
    enum graft_tool_choice choice;
    uint32_t chosen; // with GRAFT_TOOL_NAMED_ONE
    bool single;
    struct graft_grammar *grammar; // or NULL
};

// tool_probe.c: how the template writes calls; native_calls stays false if it does not, or in no style that is understood.
// Errors: GRAFT_E_MEMORY, GRAFT_E_BUDGET.
GRAFT_MUST_CHECK enum graft_status graft_tool_probe(struct graft_tool_format *format);
// The form that is asked for where the template has none.
GRAFT_MUST_CHECK enum graft_status graft_tool_standard(struct graft_tool_format *format);

// tool_write.c: calls as the format has them: calls is an array of {"id", "function": {"name", "arguments": object}}.
void graft_tool_write(const struct graft_tool_format *format, const json_t *calls, struct graft_line *line);
// JSON as templates write it: ", " and ": " between members.
void graft_tool_write_json(const json_t *value, struct graft_line *line);

// tool_grammar.c: the grammar of what may be said; *out stays NULL if that is everything.
GRAFT_MUST_CHECK enum graft_status graft_tool_bind(const struct graft_tools *tools, struct graft_grammar **out);

// tools.c
const char *graft_tool_name(const struct graft_tools *tools, uint32_t index);
const json_t *graft_tool_parameters(const struct graft_tools *tools, uint32_t index); // NULL: none given
// GRAFT_MAX_TOOLS: there is none of this name.
uint32_t graft_tool_find(const struct graft_tools *tools, const char *name, size_t length);

#endif
