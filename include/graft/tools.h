// SPDX-License-Identifier: Apache-2.0
// graft/tools.h: tool calls: functions that a model may ask its caller to run, in the way its chat template writes them.
//
//     graft_model_tool_format(model, &format);                     // once: how does the template write calls?
//     graft_tools_create(format, &tools, &params);                 // the functions of a request, and which must be called
//     graft_tool_prompt(format, tools, variables_json, &text);     // -> graft_prompt: what the template takes
//     graft_tools_grammar(tools, &grammar);                        // -> graft_request_params.grammar
//     graft_tools_controls(tools, ids, capacity, &count);          // -> graft_request_params.shown
//     graft_tool_parser_create(tools, &parser, on_event, user);    // what the model says -> text and calls
//
// Nothing goes by a model's name: a conversation with calls is rendered by the template, and what stands around names and
// arguments is how this model calls. Three styles are understood: a JSON object that has the name and the arguments
// (<tool_call>{"name": ..., "arguments": ...}</tool_call>, [TOOL_CALLS][{...}], or the bare object of Llama 3), a name with a
// JSON object behind it ([TOOL_CALLS]name[ARGS]{...}), and a name with one marked text per argument
// (<function=name><parameter=key>value</parameter></function>). What the template writes must come out of that description
// again, byte by byte. If a template writes no calls, or in another style, calls are asked for in a system message instead and
// have the first form; if it writes calls but no list of functions, the list stands in a system message.
#ifndef GRAFT_TOOLS_H
#define GRAFT_TOOLS_H

#include "graft/grammar.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { GRAFT_MAX_TOOLS = 128, GRAFT_MAX_TOOL_NAME_BYTES = 64, GRAFT_TOOL_ID_BYTES = 128 };

enum graft_tool_style { GRAFT_TOOL_OBJECT, GRAFT_TOOL_NAMED, GRAFT_TOOL_PARAMETERS };

// How a template writes tool calls; never changed after creation, may serve many threads.
struct graft_tool_format;
struct graft_tools;

// Find it out, by a few renderings. template_text: another template than the file's, or NULL. vocabulary: may be NULL when
// template_text is given; it must live as long as the format. A template that renders no calls is no error. On failure *out is
// NULL. Errors: GRAFT_E_UNSUPPORTED (no template), GRAFT_E_FORMAT, GRAFT_E_LIMIT (the template is not one),
// GRAFT_E_MEMORY, GRAFT_E_BUDGET. Thread-safety: safe.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_tool_format_create(struct graft_ctx *ctx, struct graft_tool_format **out,
                                                                      const struct graft_vocabulary *vocabulary,
                                                                      const char *template_text);
// The same for the template of a model, which must live as long as the format.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_model_tool_format(const struct graft_model *model,
                                                                     struct graft_tool_format **out);
// All tools of it must be destroyed before. *format becomes NULL; NULL is accepted.
GRAFT_API void graft_tool_format_destroy(struct graft_tool_format **format);

// Texts are valid as long as the format.
struct graft_tool_format_info {
    enum graft_tool_style style;
    bool native_calls; // the template writes calls; otherwise they are asked for in a system message
    bool native_tools; // the template lists the functions; otherwise a system message does
    bool parallel;     // several calls in one answer
    const char *begin; // what stands in front of the first call; "" = nothing does
};
GRAFT_API void graft_tool_format_describe(const struct graft_tool_format *format, struct graft_tool_format_info *out);

enum graft_tool_choice {
    GRAFT_TOOL_AUTO,     // text, or calls, as the model likes
    GRAFT_TOOL_NONE,     // text: the functions are not even shown
    GRAFT_TOOL_REQUIRED, // at least one call
    GRAFT_TOOL_NAMED_ONE // one call of params.name
};

struct graft_tools_params {
    size_t size;            // sizeof(struct graft_tools_params)
    const char *tools_json; // array of {"type": "function", "function": {"name", "description", "parameters", "strict"}}
    enum graft_tool_choice choice;
    const char *name; // with GRAFT_TOOL_NAMED_ONE
    bool single;      // at most one call
};

// The functions of one request. Names have 1 to 64 of A-Z a-z 0-9 _ - . and are different; parameters is a JSON schema or
// absent. On failure *out is NULL. Errors: GRAFT_E_ARGUMENT (what is wrong, as tools[2].function.name), GRAFT_E_LIMIT (more
// than GRAFT_MAX_TOOLS), GRAFT_E_UNSUPPORTED (a schema with strict that is not understood, see graft_grammar_from_schema),
// GRAFT_E_MEMORY, GRAFT_E_BUDGET. Thread-safety: safe.
GRAFT_MUST_CHECK GRAFT_API enum graft_status
graft_tools_create(const struct graft_tool_format *format, struct graft_tools **out, const struct graft_tools_params *params);
// *tools becomes NULL; NULL is accepted.
GRAFT_API void graft_tools_destroy(struct graft_tools **tools);

// The template's variables for messages as OpenAI's clients write them (variables_json: an object with `messages` and what else
// graft_render takes): arguments as the template wants them, ids that it accepts, names of results; functions, calls and
// results in messages of their own where the template has none. tools may be NULL: only messages then. *text is NUL-terminated
// and freed with graft_ctx_text_free. Errors: GRAFT_E_ARGUMENT (naming the member), GRAFT_E_MEMORY, GRAFT_E_BUDGET.
// Thread-safety: safe.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_tool_prompt(const struct graft_tool_format *format,
                                                               const struct graft_tools *tools, const char *variables_json,
                                                               char **text);
// What binds the answer: NULL with GRAFT_TOOL_AUTO and GRAFT_TOOL_NONE, unless a function is strict: then what begins like a
// call is one. Arguments are JSON of the function's schema; a schema that is not understood, and is not strict, allows any
// object. Valid as long as the tools.
GRAFT_API const struct graft_grammar *graft_tools_grammar(const struct graft_tools *tools);
// Control tokens that are part of how calls are written, for graft_request_params.shown. At most `capacity` are written; 16 are
// always enough.
GRAFT_API void graft_tools_controls(const struct graft_tools *tools, int32_t *ids, uint32_t capacity, uint32_t *count);

// ---- what the model says ----

enum graft_tool_event_kind {
    GRAFT_TOOL_TEXT,      // text that is no call
    GRAFT_TOOL_CALL,      // a call begins: index, id, name
    GRAFT_TOOL_ARGUMENTS, // the next piece of its arguments, JSON
    GRAFT_TOOL_CALL_END
};
struct graft_tool_event {
    enum graft_tool_event_kind kind;
    uint32_t index;        // of the call: 0, 1 ...
    const char *id, *name; // with GRAFT_TOOL_CALL: the model's own id, or "" if none stands in front of the arguments
    const char *text;      // with TEXT and ARGUMENTS; valid during the call, no NUL
    size_t length;
};

struct graft_tool_parser;
// One answer's parser. on_event is called by push and end, in order. What may be the beginning of a call is held back; what
// looks like a call of no known function is text. Errors: GRAFT_E_MEMORY, GRAFT_E_BUDGET. Thread-safety: one thread at a time
// per parser.
GRAFT_MUST_CHECK GRAFT_API enum graft_status
graft_tool_parser_create(const struct graft_tools *tools, struct graft_tool_parser **out,
                         void (*on_event)(void *user, const struct graft_tool_event *event), void *user);
GRAFT_API void graft_tool_parser_destroy(struct graft_tool_parser **parser);
// The next piece of the answer, whole UTF-8 characters. *enough: all calls that may come are there, the rest of the answer
// would not be heard. Errors: GRAFT_E_LIMIT (a call of more than 1 MiB), GRAFT_E_MEMORY, GRAFT_E_BUDGET.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_tool_parser_push(struct graft_tool_parser *parser, const char *text,
                                                                    size_t length, bool *enough);
// The answer is over: what was held back comes, a call that is not whole stays without its end. *calls: how many there were.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_tool_parser_end(struct graft_tool_parser *parser, uint32_t *calls);

#ifdef __cplusplus
}
#endif
#endif
