// SPDX-License-Identifier: Apache-2.0
// The inside of the parser of tool calls: tool_parse.c (text, sections, names) and tool_parse_call.c (arguments).
#ifndef GRAFT_RUNTIME_TEXT_TOOL_PARSE_H
#define GRAFT_RUNTIME_TEXT_TOOL_PARSE_H

#include <stddef.h>

#include "runtime/text/tool_format.h"

enum { GRAFT_TOOL_MAX_HELD = 1 << 20, GRAFT_TOOL_KEY_BYTES = 64, AT_NONE = -1 };

enum graft_tool_state {
    TEXT,   // no call so far, or between sections of calls
    PLAIN,  // no call can come any more
    OPEN,   // behind the marker
    BODY,   // in front of the name or the object
    OBJECT, // inside {"name": ..., "arguments": ...}
    JSON,   // inside the arguments behind a name
    PARAMS, // in front of an argument, or behind the last
    AFTER,  // behind a call
    DONE    // nothing more is heard
};
enum match { NO, MAYBE, YES };
enum phase { KEY, COLON, VALUE, COMMA };

struct graft_tool_parser {
    const struct graft_tools *tools;
    const struct graft_tool_format *format;
    void (*on_event)(void *user, const struct graft_tool_event *event);
    void *user;
    struct graft_line held; // what was not told yet
    size_t at;              // in it: what is looked at next
    size_t begin;           // where the call begins, marker included
    enum graft_tool_state state;
    bool over, marked; // no more comes; the marker was OPEN
    bool said;         // some text was told
    uint32_t n_calls;
    // The call that is read.
    bool begun; // told
    char name[GRAFT_MAX_TOOL_NAME_BYTES + 1], id[GRAFT_TOOL_ID_BYTES];
    uint32_t function, n_parameters;
    // Of JSON.
    enum phase phase;
    uint32_t depth;
    bool in_string, escaped, streaming;
    char key[GRAFT_TOOL_KEY_BYTES];
    size_t value, value_end, arguments, arguments_end; // 0: not there
};

struct words {
    const char *p;
    size_t n;
};

static inline bool graft_tool_is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

// tool_parse.c. Tell the caller; empty texts are not told.
void graft_tool_tell(struct graft_tool_parser *p, enum graft_tool_event_kind kind, const char *text, size_t length);
// Drop what is held in front of `to`.
void graft_tool_drop(struct graft_tool_parser *p, size_t to);
// A text of the format without blanks around it, nor what `also` has in front.
struct words graft_tool_words(const struct graft_tool_parser *p, enum graft_tool_text which, const char *also);
// Blanks, then these words: consumed if they are there.
enum match graft_tool_take(struct graft_tool_parser *p, struct words words);
// Where words begin, from `from` on; AT_NONE.
ptrdiff_t graft_tool_find_words(const struct graft_tool_parser *p, size_t from, struct words words);
// This is no call: its marker is text, and what is behind it is looked at again.
bool graft_tool_give_up(struct graft_tool_parser *p);
// Is there a function of this name? It is the call's then.
bool graft_tool_is_known(struct graft_tool_parser *p, const char *name, size_t length);

// tool_parse_call.c: one step in these states. True: go on at once.
bool graft_tool_step_json(struct graft_tool_parser *p);
bool graft_tool_step_object(struct graft_tool_parser *p);
enum graft_status graft_tool_step_params(struct graft_tool_parser *p, bool *go_on);

#endif
