// SPDX-License-Identifier: Apache-2.0
// graft/engine.h: many requests at a time on one model, from any thread: continuous batching, prefix reuse, fair shares.
//
//     graft_engine_create(model, &engine, NULL);            // a thread of its own now has the model
//     graft_engine_submit(engine, &request, &params);       // tokens come through params.on_event
//     graft_request_release(&request);
//
// Requests join and leave between two tokens. Each step has one row per running answer and a chunk of one or more prompts;
// rows with different adapters, blends and none share it. An answer's tokens do not depend on what else is running.
// When the device is lost, the answers that were under way end with GRAFT_E_DEVICE_LOST, the model is rebuilt
// (graft_model_rebuild), and the requests that wait go on.
// Continuous batching after Orca (Yu 2022); pages shared by prefix after vLLM (Kwon 2023).
#ifndef GRAFT_ENGINE_H
#define GRAFT_ENGINE_H

#include "graft/adapter.h"
#include "graft/grammar.h"

#ifdef __cplusplus
extern "C" {
#endif

struct graft_engine;
struct graft_request;

enum graft_device_state { GRAFT_DEVICE_WORKS, GRAFT_DEVICE_LOST, GRAFT_DEVICE_GIVEN_UP };

struct graft_engine_params {
    size_t size;           // sizeof(struct graft_engine_params)
    uint32_t max_waiting;  // requests that may wait; 0 = 64
    uint32_t prefill_rows; // most prompt tokens of a step in which answers are running; 0 = 32
    bool no_prefix_reuse;  // compute every prompt whole
    uint32_t grammars;     // requests with a grammar that run at a time, others wait, 2 MiB each; 0 = n_seq, at most 4
    // Prompt lookup (Saxena 2023): tokens are guessed from the request's own text and computed beside the one that is due,
    // where measuring says that it pays; answers are bit for bit those without.
    bool no_speculation;   // never guess
    uint32_t draft_tokens; // most guesses of a request in a step; 0 = 10, at most 16
    // An answer that fills the context goes on without the oldest half of what stands behind its first n_keep tokens
    // (graft_seq_shift) instead of ending. Its tokens then depend on when that was; one that loses its pages to others is
    // computed anew from the tokens that are left. Shifting takes memory while it lasts.
    bool context_shift;
    bool no_rebuild;       // a lost device ends all requests and is not opened again
    // Called on the engine's thread when the device is lost (its answers have ended, others wait), when the model has been
    // rebuilt, and when that is given up; detail says why. May call what fn of graft_engine_run may. NULL = none.
    void (*on_device)(void *user, enum graft_device_state state, const char *detail);
    void *user;
};

enum { GRAFT_MAX_REBUILDS = 3, GRAFT_REBUILD_MINUTES = 10 }; // so many within so long; then a lost device is given up

// Start the engine's thread, which from here on is the only one that may use the model and its adapters, until
// graft_engine_destroy has returned: others go through graft_engine_run. Takes memory for all requests now: requests, steps and
// tokens allocate nothing, on the host or on the device. The model must have no sequences alive. On failure *out is NULL.
// Errors: GRAFT_E_ARGUMENT, GRAFT_E_MEMORY, GRAFT_E_BUDGET, GRAFT_E_INTERNAL (no thread). Thread-safety: safe.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_engine_create(struct graft_model *model, struct graft_engine **out,
                                                                 const struct graft_engine_params *params);
// Cancel everything, wait for the thread, free. Requests must be released before or never used again.
GRAFT_API void graft_engine_destroy(struct graft_engine **engine);

// Call fn(model, user) on the engine's thread between two steps, and wait for it: loading, describing and releasing adapters,
// and whatever else needs the model. What fn returns is returned, with its detail. fn may not call the engine.
GRAFT_MUST_CHECK GRAFT_API enum graft_status
graft_engine_run(struct graft_engine *engine, enum graft_status (*fn)(struct graft_model *model, void *user), void *user);

enum graft_finish {
    GRAFT_FINISH_NONE,      // goes on
    GRAFT_FINISH_STOP,      // the model ended its turn, or a stop text came
    GRAFT_FINISH_LENGTH,    // max_tokens, or the context is full
    GRAFT_FINISH_CANCELLED, // graft_request_cancel, or the engine is being destroyed
    GRAFT_FINISH_DEADLINE,  // deadline_ns passed
    GRAFT_FINISH_ERROR      // status and detail say why
};

enum {
    GRAFT_MAX_LOGPROBS = 20,
    GRAFT_MAX_STOPS = 4,
    GRAFT_MAX_STOP_BYTES = 64,
    GRAFT_MAX_SHOWN = 16,
    GRAFT_MAX_REQUEST_BIASES = 1024,
    GRAFT_MAX_REQUEST_BREAKERS = 1024
};

struct graft_token_logprob {
    int32_t id;
    float logprob; // natural logarithm, of the model's own distribution before sampling settings
};

// One token, or the end. Texts and arrays are valid during the call only.
struct graft_event {
    int32_t token;    // -1: none, at the end
    const char *text; // whole UTF-8 characters, perhaps none; what may begin a stop text is held back
    size_t text_length;
    float logprob;                         // of the token; with n_logprobs
    const struct graft_token_logprob *top; // [n_top] the most likely tokens
    uint32_t n_top;
    bool prompt; // a token of the prompt, with prompt_logprobs; it has no text. The first one has logprob 0 and n_top 0
    enum graft_finish finish; // not NONE: the last event of the request
    enum graft_status status; // with GRAFT_FINISH_ERROR
    const char *detail;
};

struct graft_request_params {
    size_t size;           // sizeof(struct graft_request_params)
    const int32_t *tokens; // the prompt; copied
    uint32_t n_tokens;
    uint32_t max_tokens; // of the answer; 0 = until the context is full
    struct graft_sampling sampling; // at most GRAFT_MAX_REQUEST_BIASES biases and GRAFT_MAX_REQUEST_BREAKERS DRY breakers
    const struct graft_adapter_use
        *uses;                // as graft_seq_set_adapters; the handles must live until the last event. `from` is not used: an
    uint32_t n_uses;          // aLoRA begins where the prompt invokes it last
    const char *tenant;       // whose request: fair shares, and whose prefixes it may reuse; NULL = ""
    bool low_priority;        // waits until no other request does
    uint64_t deadline_ns;     // of graft's clock from submission on; 0 = none
    const char *const *stops; // [n_stops] texts that end the answer and are not part of it
    uint32_t n_stops;
    uint32_t n_logprobs; // alternatives in graft_event.top; 0 and !logprobs = none
    bool logprobs;
    bool no_speculation;   // not for this request
    uint32_t draft_tokens; // most guesses in a step; 0 or more than the engine's: as many as the engine's
    // The answer is a text of this grammar, as with graft_chat_set_grammar; it must live until the last event. NULL: any text.
    const struct graft_grammar *grammar;
    uint32_t n_keep; // with context_shift: tokens of the prompt that stay; 0 = the first page of 32
    const int32_t *shown; // [n_shown] control tokens that are part of the text, by name; copied. Others are not seen in it
    uint32_t n_shown;     // at most GRAFT_MAX_SHOWN
    // An event for every token of the prompt, in order, before those of the answer: its log-probability behind the tokens in
    // front of it. The prompt is computed whole then, whatever was kept of it, at most GRAFT_MAX_WANTED rows a step.
    bool prompt_logprobs;
    bool no_answer; // ends with GRAFT_FINISH_LENGTH when the prompt is computed
    // Called on the engine's thread, in order; must not block, and of the engine's functions it may only call those of its own
    // request: graft_request_cancel, graft_request_describe, graft_request_release. The last call has finish set.
    void (*on_event)(void *user, const struct graft_event *event);
    void *user;
};

// Messages to the tokens of a prompt: variables_json is a JSON object with what graft_render takes, `messages` and perhaps
// `tools` (add_generation_prompt is true unless it says otherwise). Text inside messages and tools never becomes a control
// token, as in graft_chat_send. *count gets the number of ids. Errors: GRAFT_E_ARGUMENT (no such object), GRAFT_E_UNSUPPORTED
// (the model has no chat template), GRAFT_E_CONTEXT_FULL (more than capacity), GRAFT_E_FORMAT and GRAFT_E_LIMIT (the template
// refuses them: its own words are in the detail), GRAFT_E_MEMORY, GRAFT_E_BUDGET. Thread-safety: safe.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_prompt(const struct graft_model *model, const char *variables_json,
                                                          int32_t *ids, uint32_t capacity, uint32_t *count);

// Put a request into the queue. Errors, nothing is queued then: GRAFT_E_ARGUMENT (no tokens, one outside the vocabulary, bad
// sampling, too many stops or shown tokens), GRAFT_E_CONTEXT_FULL (the prompt does not fit the context), GRAFT_E_LIMIT (the
// queue is full; too many biases or breakers), GRAFT_E_DEVICE_LOST. Allocates nothing. Thread-safety: safe.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_engine_submit(struct graft_engine *engine, struct graft_request **out,
                                                                 const struct graft_request_params *params);
// End it within one token; the last event comes all the same. Thread-safety: safe.
GRAFT_API void graft_request_cancel(struct graft_request *request);

struct graft_request_stats {
    uint32_t prompt_tokens, reused_tokens, answer_tokens;
    uint64_t queue_ns, first_token_ns, total_ns; // from submission on: left the queue; first token; last event or now
    uint32_t preemptions;                        // times its KV was given to others, to be computed again
    uint32_t draft_tokens, accepted_tokens;      // guesses that were computed; those that came true
};
GRAFT_API void graft_request_describe(struct graft_request *request, struct graft_request_stats *out);
// The caller needs the handle no more; the request runs on. *request becomes NULL. Thread-safety: safe.
GRAFT_API void graft_request_release(struct graft_request **request);

struct graft_engine_stats {
    uint32_t waiting, running;
    uint64_t requests, steps, rows; // since the engine was created
    uint64_t prompt_tokens, reused_tokens, answer_tokens, preemptions;
    uint64_t draft_tokens, accepted_tokens, draft_steps; // guesses computed, come true; steps that had some
    uint32_t pages, free_pages, cached_pages; // of the KV cache; cached: of no running request
    bool lost;                                // the device was lost and is not there again; submitting is refused
    uint32_t rebuilds;                        // times it came back
};
GRAFT_API void graft_engine_describe(struct graft_engine *engine, struct graft_engine_stats *out);

#ifdef __cplusplus
}
#endif
#endif
