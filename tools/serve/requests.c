// SPDX-License-Identifier: Apache-2.0
// GET /v1/requests: what is being answered now, for graft ps and graft top. Never a text.
#include "tools/serve/jobs.h"

#include <string.h>

// Where a request is; under its mutex, before it is done.
static const char *state_of(const struct job *job, const struct graft_request_stats *stats)
{
    if (!job->request) {
        return "adapter"; // waits for its adapters
    }
    if (!stats->queue_ns) {
        return "queue";
    }
    return job->n_said ? "answer" : "prompt";
}

// Under the job's mutex.
static json_t *request_json(const struct job *job, uint64_t now)
{
    struct graft_request_stats stats = {0};
    if (job->request) {
        graft_request_describe(job->request, &stats);
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:I, s:I, s:I, s:f, s:o}", "id", job->id, "tenant", job->tenant, "adapter",
                     job->selected.label, "state", state_of(job, &stats), "stream", (int)job->ask.stream, "priority",
                     job->ask.low_priority ? "low" : "normal", "prompt_tokens", (json_int_t)job->ask.n_tokens, "reused_tokens",
                     (json_int_t)stats.reused_tokens, "answer_tokens", (json_int_t)job->n_said, "seconds",
                     (double)(now - job->begun_ns) * 1e-9, "first_token_seconds",
                     job->first_ns ? json_real((double)(job->first_ns - job->begun_ns) * 1e-9) : json_null());
}

// Operators see all of them, others those of their own tenant.
void serve_requests(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    const struct http_caller *caller = http_caller(exchange);
    json_t *data = json_array();
    uint64_t now = graft_clock_ns();
    pthread_mutex_lock(&server->jobs_mutex);
    for (struct job *job = server->jobs; job; job = job->next) {
        if (caller->role != HTTP_OPERATOR && strcmp(caller->tenant, job->tenant) != 0) {
            continue;
        }
        pthread_mutex_lock(&job->mutex);
        if (!job->done) {
            json_array_insert_new(data, 0, request_json(job, now)); // the list begins with the youngest
        }
        pthread_mutex_unlock(&job->mutex);
    }
    pthread_mutex_unlock(&server->jobs_mutex);
    http_reply_json(exchange, 200, json_pack("{s:s, s:o}", "object", "list", "data", data));
}
