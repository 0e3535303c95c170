// SPDX-License-Identifier: Apache-2.0
// `graft serve`: one process, one base model, many adapters. What its parts share.
//
// Threads: HTTP threads run the handlers; the engine's thread calls on_event of jobs.c; the table of adapters has one of its
// own; the ticker of jobs.c writes pings. Locks, from outside to inside: server.jobs_mutex, job.mutex, adapters.mutex, those of
// http.h. Nothing waits for the engine under any of them.
#ifndef GRAFT_TOOLS_SERVE_SERVE_H
#define GRAFT_TOOLS_SERVE_SERVE_H

#include <time.h>

#include "tools/serve/ask.h"
#include "tools/serve/base_digest.h"
#include "tools/serve/histogram.h"
#include "tools/serve/http.h"
#include "tools/serve/select.h"

struct job;

enum { SERVE_POOL_BYTES = 64 << 20 };

struct server {
    const struct options *options;
    struct session session;
    struct graft_model_info info;
    struct graft_engine *engine;
    struct adapters adapters;
    struct http_server *http;
    struct ask_limits limits;
    struct graft_tool_format *format; // NULL: no chat template
    char base[128];                   // id of the base model
    struct base_digest digest;
    uint64_t request_ns;              // most time of a request
    bool fallback;                    // a model that does not exist is the base
    time_t created;
    atomic_bool device_gone; // it was lost and does not come back
    atomic_bool file_lost;   // the model file was cut: the server ends
    uint64_t begun_ns;       // of graft's clock
    // Running and waiting requests.
    pthread_mutex_t jobs_mutex;
    struct job *jobs;
    uint32_t n_jobs;
    pthread_t ticker;
    pthread_cond_t ticker_wake;
    bool ticking, ending;
    // Under the adapters' lock.
    struct counts {
        struct histogram load_wait;      // of requests that had to wait for an adapter
        uint64_t errors[USAGE_STATUSES]; // error replies, by status
        uint64_t unknown_fields;         // requests' members that nobody knows
        uint64_t fallbacks;              // requests whose model does not exist, run with the base
        uint64_t finishes[5];            // stop, length, cancelled, deadline, error
    } counts;
};

// ---- jobs.c: answers ----

// Routes: /v1/chat/completions, /v1/{route}/chat/completions, /v1/completions.
void serve_chat(struct http_exchange *exchange, void *server);
void serve_completions(struct http_exchange *exchange, void *server);
int jobs_start(struct server *server);
// Wait until no request is left, after the engine and the adapters' thread have ended them.
void jobs_end(struct server *server);

// ---- texts.c, state.c, adapter_api.c, alias_api.c, adapter_compat.c, requests.c, scrape.c: the other routes ----

void serve_tokenize(struct http_exchange *exchange, void *server);
void serve_detokenize(struct http_exchange *exchange, void *server);
void serve_apply_template(struct http_exchange *exchange, void *server);
void serve_embeddings(struct http_exchange *exchange, void *server);

void serve_models(struct http_exchange *exchange, void *server);
void serve_model(struct http_exchange *exchange, void *server);
void serve_props(struct http_exchange *exchange, void *server);
void serve_slots(struct http_exchange *exchange, void *server);
void serve_health(struct http_exchange *exchange, void *server);
void serve_livez(struct http_exchange *exchange, void *server);
void serve_readyz(struct http_exchange *exchange, void *server);
void serve_memory(struct http_exchange *exchange, void *server);

void serve_adapters(struct http_exchange *exchange, void *server);
void serve_adapters_add(struct http_exchange *exchange, void *server);
void serve_adapter(struct http_exchange *exchange, void *server);
void serve_adapter_put(struct http_exchange *exchange, void *server);
void serve_adapter_delete(struct http_exchange *exchange, void *server);
void serve_adapter_pin(struct http_exchange *exchange, void *server);
void serve_adapter_unpin(struct http_exchange *exchange, void *server);
void serve_adapter_warm(struct http_exchange *exchange, void *server);
void serve_adapters_scan(struct http_exchange *exchange, void *server);

void serve_aliases(struct http_exchange *exchange, void *server);
void serve_alias_put(struct http_exchange *exchange, void *server);
void serve_alias_delete(struct http_exchange *exchange, void *server);

void serve_load_lora(struct http_exchange *exchange, void *server);
void serve_unload_lora(struct http_exchange *exchange, void *server);
void serve_lora_list(struct http_exchange *exchange, void *server);
void serve_lora_scales(struct http_exchange *exchange, void *server);

void serve_requests(struct http_exchange *exchange, void *server);
void serve_metrics(struct http_exchange *exchange, void *server);
// The model's file was cut while it was in use: said once, and the server ends for its supervisor to start it again.
void serve_file_lost(struct server *server, const char *detail);
// Count an answer that is an error.
void count_error(struct server *server, int status);

// An adapter as /v1/adapters shows it; under the adapters' lock. Paths are the operator's to see.
json_t *adapter_json(const struct server *server, const struct adapter_entry *entry, bool with_paths);
// Reply with an error, counted.
void serve_refuse(struct server *server, struct http_exchange *exchange, const struct api_error *error);
// The body as an object; NULL: the exchange is finished with an error.
json_t *serve_body(struct server *server, struct http_exchange *exchange);
// http_caller_allows for select.h.
bool serve_allows(const void *exchange, const char *name);

#endif
