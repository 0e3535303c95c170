// SPDX-License-Identifier: Apache-2.0
// The engine's inside: engine.c (thread, queue, requests), engine_step.c (who is let in), engine_rows.c (what is
// computed next), engine_say.c (what is said).
#ifndef GRAFT_RUNTIME_SESSION_ENGINE_PRIVATE_H
#define GRAFT_RUNTIME_SESSION_ENGINE_PRIVATE_H

#include <stdatomic.h>

#include "runtime/session/choose.h"
#include "runtime/session/prefix.h"
#include "runtime/session/sampler.h"
#include "runtime/session/speculate.h"
#include "runtime/session/stream.h"

enum graft_request_state { GRAFT_REQUEST_FREE, GRAFT_REQUEST_WAITING, GRAFT_REQUEST_RUNNING, GRAFT_REQUEST_ENDED };

// Who the requests belong to, as long as one of them waits or runs, and a while longer.
struct graft_tenant {
    uint8_t key[32]; // SHA-256 of the name
    uint32_t n_waiting, n_running;
    uint64_t served; // tokens, prompts' and answers'
    uint64_t used;   // of the engine's clock; 0: the entry is free
};

struct graft_request {
    struct graft_engine *engine;
    // Under the engine's lock.
    enum graft_request_state state;
    bool released;
    uint64_t arrival; // order of submission
    struct graft_request_stats stats;
    // Set at submission, afterwards the engine thread's.
    atomic_bool cancelled;
    bool preempted, low_priority, logprobs, prompt_logprobs, no_answer, speculates;
    uint32_t n_logprobs, max_tokens, draft_tokens, tenant;
    uint64_t submitted_ns, deadline_ns;
    struct graft_adapter_use uses[GRAFT_MAX_BLEND];
    uint32_t n_uses;
    void (*on_event)(void *user, const struct graft_event *event);
    void *user;
    struct graft_stream *stream; // the request's for good, as is ids
    int32_t *ids;                // [n_ctx + 1] prompt, then answer
    uint32_t n_prompt, n_ids;
    uint32_t n_keep, n_forgotten; // context shift: tokens that stay; that went
    uint32_t n_scored;            // tokens of the prompt that were told, with prompt_logprobs
    struct graft_sampler sampler; // its room is the request's for good; its ring of tokens is ids
    const struct graft_grammar *grammar;
    struct graft_grammar_state *place; // in the grammar, from the first row on; NULL: none
    // While it runs.
    struct graft_seq *seq;
    uint8_t key[GRAFT_PREFIX_KEY_BYTES]; // of the pages found or kept so far
    uint32_t n_kept;
    bool shifted;                          // its pages are not what its tokens alone give
    uint32_t n_rows, row;                  // in this step, without its draft; the last one of them
    uint32_t n_before;                     // n_ids when the step began
    struct graft_speculation *speculation; // of its sequence; NULL: none
};

struct graft_engine_command {
    enum graft_status (*fn)(struct graft_model *model, void *user);
    void *user;
    enum graft_status status;
    char detail[1024];
    bool done;
    struct graft_engine_command *next;
};

struct graft_engine {
    struct graft_ctx *ctx;
    struct graft_model *model;
    struct graft_engine_params params;
    struct graft_thread *thread;
    struct graft_mutex *mutex;
    struct graft_cond *wake, *done; // for the engine thread; for those that wait for commands
    // Under the lock.
    struct graft_request *requests; // [n_requests]
    uint32_t n_requests, n_waiting;
    uint64_t arrivals;
    struct graft_engine_command *commands;
    struct graft_engine_stats stats;
    struct graft_tenant *tenants; // [n_requests]
    bool quit;
    // The engine thread's.
    bool given_up;                           // the device does not come back
    uint64_t rebuilt_ns[GRAFT_MAX_REBUILDS]; // when the model was rebuilt last; 0 = free
    struct graft_request **running;          // [n_seq] in the order of admission
    uint32_t n_running;
    struct graft_prefix *prefix;                  // NULL: no reuse
    struct graft_row *rows;                       // [n_batch]
    struct graft_candidate *candidates, *allowed; // [n_vocab]
    int32_t *ids;                                 // [all requests][n_ctx + 1]
    struct graft_logit_bias *biases;              // [all requests][GRAFT_MAX_REQUEST_BIASES]
    int32_t *breakers;                            // [all requests][GRAFT_MAX_REQUEST_BREAKERS]
    struct graft_sampler_room room;               // what the samplers share
    struct graft_grammar_state **places;          // [n_places] a stack of those that nobody has
    uint32_t n_places, n_free_places;
    struct graft_speculation *speculations; // [n_seq] of the sequences; NULL: none
    struct graft_speculation **drafts;      // [n_seq] of a step
    struct graft_draft_meter meter;
    uint32_t kind;     // of the step, for the meter
    bool only_answers; // no rows of prompts in the step
};

// engine_step.c: let in, compute one step, sample, tell. Without the lock.
void graft_engine_step(struct graft_engine *engine);
// engine_lost.c. End those that run, or those that wait: GRAFT_OK: as cancelled; otherwise with this error. Without the lock.
void graft_engine_end_running(struct graft_engine *engine, enum graft_status status, const char *detail);
void graft_engine_end_waiting(struct graft_engine *engine, enum graft_status status, const char *detail);
// What was computed is gone: whoever was being answered is told so; other failures of a batch end them, too.
void graft_engine_lose(struct graft_engine *engine, enum graft_status status);
// Under the lock, which is given up: rebuild a model whose device was lost. If that was tried too often, everything ends and
// engine->given_up is set.
void graft_engine_try_again(struct graft_engine *engine);
// End a request: its last event, its sequence and its place in a grammar given back. status counts with GRAFT_FINISH_ERROR.
void graft_engine_finish(struct graft_request *request, enum graft_finish finish, enum graft_status status);

// The youngest request gives its pages to the others and waits, to compute them again. What was said is not said again.
void graft_engine_preempt(struct graft_request *request);
// The context is full of this one request: forget half of its tokens. False: it must end.
bool graft_request_shift(struct graft_request *request);
// Keep the pages that are full now.
void graft_engine_keep_pages(struct graft_request *request);
// The opposite: nobody is to find the request's pages again, since what they hold is not sound.
void graft_engine_forget_pages(struct graft_request *request);
// Whether it was cancelled or is too late.
enum graft_finish graft_request_why_ended(const struct graft_request *request, uint64_t now);

// engine_rows.c: the rows of a step for which there are pages: drafts are dropped first, then pages that nobody has, then the
// youngest requests; the last one ends when it alone fills the context. 0: none is running.
uint32_t graft_engine_gather(struct graft_engine *engine);
// Has it to tell log-probabilities of its prompt still?
bool graft_request_scores(const struct graft_request *request);
// Tokens of the answer so far.
uint32_t graft_request_said(const struct graft_request *request);
// Tokens that are not computed yet.
uint32_t graft_request_left(const struct graft_request *request);

// engine_say.c: what the step means for a request. False: it ended.
bool graft_request_take(struct graft_request *request);
bool graft_request_wants_logits(const struct graft_request *request);

#endif
