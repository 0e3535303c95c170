// SPDX-License-Identifier: Apache-2.0
// The inside of a request for an answer, shared by jobs.c (its way) and answer.c (what is written).
#ifndef GRAFT_TOOLS_SERVE_JOBS_H
#define GRAFT_TOOLS_SERVE_JOBS_H

#include <stdatomic.h>

#include "platform/plat.h"
#include "tools/serve/serve.h"

struct job {
    struct server *server;
    struct http_exchange *exchange;
    struct job *next, **before; // in the server's list
    struct ask ask;
    struct selected selected;
    char tenant[HTTP_MAX_TENANT], id[64];
    char digest[72]; // of its adapter; of a blend the generations, with + between them
    time_t created;
    uint64_t begun_ns;
    // Set by the exchange when the client goes away.
    atomic_bool gone;
    _Atomic(struct graft_request *) to_cancel;
    // Under the mutex.
    pthread_mutex_t mutex;
    struct graft_request *request;
    bool streaming, too_many, done; // the stream has begun; could not, there are too many; the exchange is finished
    uint32_t n_said;                // tokens
    uint64_t first_ns, last_ns, written_ns;
    struct histogram between;
    char opening[USAGE_OPENING]; // of the answer
    uint32_t opening_length, judged_tokens;
    bool judged; // log-probabilities are taken for the metrics
    double judged_nats;
    struct out head;                         // what all chunks and the answer begin with
    struct out text;                         // the answer so far, when it is not streamed; the prompt in front with echo
    struct out probs;                        // log-probabilities so far, as members of JSON arrays
    struct out chunk;                        // what is being written
    uint32_t n_probs, n_scored, text_offset; // of the prompt's tokens; in characters
    struct out probs_tokens, probs_values, probs_offsets; // the other arrays of /v1/completions
    // Tool calls.
    struct graft_tool_parser *parser; // NULL: the answer is text
    struct out calls, arguments;      // members of the array, whole but for the last one's arguments; these, when not streamed
    uint32_t n_calls;
    bool in_call; // one has begun and not ended
    bool enough;  // no more may come: the request is cancelled, and that is no error
    bool deaf;    // the parser failed
};

// Under the adapters' lock, when they are there: digest, version and the headers of the reply.
void name_adapters(struct job *job);
// The prompt as text, into job->text.
void echo_prompt(struct job *job);
void head_build(struct job *job);

// These fill job->chunk.
void chunk_role(struct job *job);
void chunk_text(struct job *job, const char *text, size_t length);
// A choice that begins with this text; then its delta is written, then chunk_finish with what log-probabilities are kept.
void chunk_begin(struct job *job, const char *choice);
void chunk_finish(struct job *job);
void chunk_end(struct job *job, const char *reason, const struct graft_request_stats *stats);
void chunk_usage(struct job *job, const struct graft_request_stats *stats);
// The whole answer.
void answer_whole(struct job *job, const char *reason, const struct graft_request_stats *stats);
// Keep a token's log-probability for the next chunk, or for answer_whole.
void add_logprob(struct job *job, const struct graft_event *event);
// job_error.c: why the engine took no request; from the library's last error.
void job_submit_error(enum graft_status status, struct api_error *error);
// jobs.c: job->chunk to the client.
void job_write(struct job *job);

// answer_tools.c: what is said goes through the parser, which writes to the client or into the job. False: no memory, or a call
// is too long; the library's last error says which.
bool tools_begin(struct job *job);
bool tools_hear(struct job *job, const char *text, size_t length);
// The last of it.
bool tools_end(struct job *job, const char *text, size_t length);

#endif
