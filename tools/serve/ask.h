// SPDX-License-Identifier: Apache-2.0
// A request for an answer, read from the body of /v1/chat/completions or /v1/completions.
#ifndef GRAFT_TOOLS_SERVE_ASK_H
#define GRAFT_TOOLS_SERVE_ASK_H

#include "graft/engine.h"
#include "graft/tools.h"
#include "tools/serve/body.h"

enum { ASK_MESSAGES = 2048, ASK_BIASES = 1024 };

struct ask {
    json_t *body; // strings below point into it
    bool chat, stream, include_usage, echo, logprobs, timings, low_priority, no_speculation;
    bool no_answer;                  // max_tokens is 0: the prompt with its log-probabilities
    uint32_t n_logprobs, max_tokens; // max_tokens 0: until the context is full
    int32_t *tokens;                 // [n_tokens] the prompt
    uint32_t n_tokens;
    struct graft_sampling sampling;
    struct graft_logit_bias *biases;
    const char *stops[GRAFT_MAX_STOPS];
    uint32_t n_stops;
    const char *model; // NULL: not said
    const json_t *adapter, *lora;
    struct graft_grammar *grammar; // of response_format, or NULL
    struct graft_tools *tools;     // or NULL
    bool calls;                    // there are tools, and they may be called
    int32_t shown[GRAFT_MAX_SHOWN];
    uint32_t n_shown;
    uint64_t deadline_ns;  // 0: none of its own
    uint32_t draft_tokens; // most guesses in a step; 0: the server's
    uint32_t n_unknown;    // members that nobody knows
};

struct ask_limits {
    struct graft_ctx *ctx;
    const struct graft_model *model;
    const struct graft_tool_format *format; // NULL: there is no chat template
    uint32_t n_ctx, n_vocab;
};

// Takes the reference to body. False: *error says which member is wrong; ask_free in any case. What is not supported is refused
// by name, what nobody knows is ignored and counted. Blocks for as long as the template and the tokenizer take.
bool ask_read(struct ask *ask, json_t *body, bool chat, const struct ask_limits *limits, struct api_error *error);
void ask_free(struct ask *ask);

// ask_prompt.c: the prompt's tokens. ask_messages also serves /apply-template: *variables gets what the template takes.
bool ask_messages(const json_t *body, json_t **variables, struct api_error *error);
// ask_tools.c: functions; then the template's variables, which *text gets, to be given to graft_ctx_text_free.
bool ask_tools(struct ask *ask, const struct ask_limits *limits, struct api_error *error);
bool ask_variables(const struct ask *ask, const struct ask_limits *limits, char **text, struct api_error *error);
// A status of the library as an error about `param`, or about the member that its text begins with. Always false.
bool ask_library_error(enum graft_status status, const char *param, struct api_error *error);
bool ask_prompt(struct ask *ask, const struct ask_limits *limits, struct api_error *error);

#endif
