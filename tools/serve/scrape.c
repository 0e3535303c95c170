// SPDX-License-Identifier: Apache-2.0
// /metrics: the state of the server in Prometheus' text format.
//
// Labels are names of known adapters that the caller may use, at most METRIC_ADAPTERS of them; the others are summed up as
// "other". The base's label is its empty name "".
#include <stdlib.h>
#include <string.h>

#include "tools/serve/process.h"
#include "tools/serve/serve.h"

enum { METRIC_ADAPTERS = 100 };

void count_error(struct server *server, int status)
{
    pthread_mutex_lock(&server->adapters.mutex);
    server->counts.errors[usage_status_place(status)]++;
    pthread_mutex_unlock(&server->adapters.mutex);
}

// What one label stands for.
struct row {
    char label[ADAPTER_NAME_BYTES + 16]; // adapter="name"
    struct adapter_usage usage;
    bool is_adapter, resident, pinned, quarantined;
    uint64_t loads, failures, evictions, load_ns, bytes, faults;
};

// Under the lock.
static uint32_t make_rows(const struct server *server, const struct http_exchange *exchange, struct row *rows)
{
    const struct adapters *table = &server->adapters;
    uint32_t n = 1, others = 0;
    snprintf(rows[0].label, sizeof rows[0].label, "adapter=\"\"");
    rows[0].usage = table->base_usage;
    rows[0].faults = table->base_faults;
    for (uint32_t i = 0; i < table->n_entries; i++) {
        const struct adapter_entry *entry = table->entries[i];
        if ((!entry->known && !entry->loads) || !serve_allows(exchange, entry->name)) {
            continue;
        }
        bool own = n <= METRIC_ADAPTERS;
        struct row *row = &rows[own ? n++ : METRIC_ADAPTERS + 1];
        others += !own;
        snprintf(row->label, sizeof row->label, "adapter=\"%s\"", own ? entry->name : "other");
        row->is_adapter = true;
        usage_merge(&row->usage, &entry->usage);
        row->loads += entry->loads;
        row->failures += entry->failures;
        row->evictions += entry->evictions;
        row->load_ns += entry->load_ns;
        row->faults += entry->faults;
        row->pinned = entry->pinned;
        row->quarantined = row->quarantined || (entry->current && adapter_quarantined(entry->current));
        for (const struct adapter_version *v = entry->versions; v; v = v->next) {
            row->resident = row->resident || v->handle;
            row->bytes += v->handle ? v->info.bytes : 0;
        }
    }
    return n + (others > 0);
}

static void header(struct out *out, const char *name, const char *type, const char *help)
{
    metric_header(out, name, type, help);
}

static void one(struct out *out, const char *name, const char *type, const char *help, double value)
{
    metric_one(out, name, type, help, value);
}

static uint64_t counter_of(const struct row *row, int which)
{
    const uint64_t values[] = {row->usage.requests,
                               row->usage.prompt_tokens,
                               row->usage.reused_tokens,
                               row->usage.answer_tokens,
                               row->usage.answers,
                               row->usage.refusals,
                               row->usage.judged_tokens,
                               row->usage.running,
                               row->faults,
                               row->loads,
                               row->failures,
                               row->evictions,
                               row->bytes};
    return values[which];
}

// 500 and 504 from the start, so that a rise from nothing is seen; the others when they come.
static void print_errors(struct out *out, const struct row *rows, uint32_t n)
{
    header(out, "graft_request_errors_total", "counter",
           "Requests whose adapter was known and that ended with an error, by status; 499: the client left.");
    for (uint32_t i = 0; i < n; i++) {
        for (int k = 0; k < USAGE_STATUSES; k++) {
            if (rows[i].usage.errors[k] || usage_statuses[k] == 500 || usage_statuses[k] == 504) {
                char code[8];
                snprintf(code, sizeof code, "%d", usage_statuses[k]);
                out_format(out, "graft_request_errors_total{%s,code=\"%s\"} %llu\n", rows[i].label,
                           usage_statuses[k] ? code : "other", (unsigned long long)rows[i].usage.errors[k]);
            }
        }
    }
}

static void print_rows(struct out *out, const struct row *rows, uint32_t n)
{
    static const struct {
        const char *name, *type, *help;
        bool adapters_only;
    } counters[] = {
        {"graft_requests_total", "counter", "Requests that reached the engine.", false},
        {"graft_prompt_tokens_total", "counter", "Tokens of prompts, reused ones included.", false},
        {"graft_reused_prompt_tokens_total", "counter", "Tokens of prompts whose keys and values were there.", false},
        {"graft_answer_tokens_total", "counter", "Tokens of answers.", false},
        {"graft_answers_total", "counter", "Answers that came to their end.", false},
        {"graft_answer_refusals_total", "counter", "Answers that begin like a refusal, in English.", false},
        {"graft_answer_judged_tokens_total", "counter",
         "Tokens of answers whose log-probability was taken: of one request in 16.", false},
        {"graft_requests_running", "gauge", "Requests in the engine, waiting or running.", false},
        {"graft_faults_total", "counter",
         "Requests that ended because what was computed is no number; of blends with the base.", false},
        {"graft_adapter_loads_total", "counter", "Times the adapter's file was loaded.", true},
        {"graft_adapter_load_failures_total", "counter", "Times it could not be loaded.", true},
        {"graft_adapter_evictions_total", "counter", "Times it made room for another.", true},
        {"graft_adapter_bytes", "gauge", "Bytes in the pool.", true}};
    for (int c = 0; c < (int)(sizeof counters / sizeof *counters); c++) {
        header(out, counters[c].name, counters[c].type, counters[c].help);
        for (uint32_t i = 0; i < n; i++) {
            if (rows[i].is_adapter || !counters[c].adapters_only) {
                out_format(out, "%s{%s} %llu\n", counters[c].name, rows[i].label, (unsigned long long)counter_of(&rows[i], c));
            }
        }
    }
    header(out, "graft_answer_judged_nats_total", "counter",
           "Sum of -log p of the judged tokens; exp(nats / tokens) is the perplexity of answers.");
    for (uint32_t i = 0; i < n; i++) {
        out_format(out, "graft_answer_judged_nats_total{%s} %.9g\n", rows[i].label, rows[i].usage.judged_nats);
    }
    print_errors(out, rows, n);
    header(out, "graft_adapter_load_seconds_total", "counter", "Time from the beginning to the end of its loads.");
    for (uint32_t i = 0; i < n; i++) {
        if (rows[i].is_adapter) {
            out_format(out, "graft_adapter_load_seconds_total{%s} %.9g\n", rows[i].label, (double)rows[i].load_ns * 1e-9);
        }
    }
    header(out, "graft_adapter_resident", "gauge", "1 if the adapter is in the pool, whether it is used or not.");
    for (uint32_t i = 0; i < n; i++) {
        if (rows[i].is_adapter) {
            out_format(out, "graft_adapter_resident{%s,level=\"device\",pinned=\"%s\"} %d\n", rows[i].label,
                       rows[i].pinned ? "true" : "false", rows[i].resident);
        }
    }
    header(out, "graft_adapter_quarantined", "gauge", "1 if requests for it are refused, since its results were no numbers.");
    for (uint32_t i = 0; i < n; i++) {
        if (rows[i].is_adapter) {
            out_format(out, "graft_adapter_quarantined{%s} %d\n", rows[i].label, rows[i].quarantined);
        }
    }
    static const struct {
        const char *name, *help;
        size_t offset;
    } times[] = {{"graft_time_to_first_token_seconds", "From the request to its first token.",
                  offsetof(struct adapter_usage, first_token)},
                 {"graft_time_between_tokens_seconds", "Between two tokens of an answer.",
                  offsetof(struct adapter_usage, between_tokens)},
                 {"graft_queue_seconds", "In the engine's queue.", offsetof(struct adapter_usage, queue)}};
    for (int c = 0; c < 3; c++) {
        header(out, times[c].name, "histogram", times[c].help);
        for (uint32_t i = 0; i < n; i++) {
            const char *at = (const char *)&rows[i].usage + times[c].offset;
            histogram_print(out, times[c].name, rows[i].label, (const struct histogram *)(const void *)at);
        }
    }
}

static void print_lengths(struct out *out, const struct row *rows, uint32_t n)
{
    header(out, "graft_answer_length_tokens", "histogram", "Tokens of an answer.");
    for (uint32_t i = 0; i < n; i++) {
        histogram_print_tokens(out, "graft_answer_length_tokens", rows[i].label, &rows[i].usage.answer_length);
    }
}

static void print_engine(struct out *out, struct server *server)
{
    struct graft_engine_stats s;
    graft_engine_describe(server->engine, &s);
    one(out, "graft_engine_waiting", "gauge", "Requests in the queue.", s.waiting);
    one(out, "graft_engine_running", "gauge", "Requests that are computed.", s.running);
    one(out, "graft_engine_slots", "gauge", "Requests that can be computed at a time.", server->info.n_seq);
    one(out, "graft_engine_steps_total", "counter", "Batches computed.", (double)s.steps);
    one(out, "graft_engine_rows_total", "counter", "Rows of all batches: tokens computed.", (double)s.rows);
    one(out, "graft_engine_prompt_rows_total", "counter", "Rows that were tokens of prompts.", (double)s.prompt_tokens);
    one(out, "graft_engine_reused_tokens_total", "counter", "Tokens of prompts that were not computed again.",
        (double)s.reused_tokens);
    one(out, "graft_engine_answer_tokens_total", "counter", "Tokens of answers.", (double)s.answer_tokens);
    one(out, "graft_engine_preemptions_total", "counter", "Requests that gave their pages to others.", (double)s.preemptions);
    one(out, "graft_speculation_draft_tokens_total", "counter", "Tokens guessed from the text and computed.",
        (double)s.draft_tokens);
    one(out, "graft_speculation_accepted_tokens_total", "counter", "Guessed tokens that came true.", (double)s.accepted_tokens);
    one(out, "graft_speculation_steps_total", "counter", "Batches with guessed tokens.", (double)s.draft_steps);
    one(out, "graft_kv_pages", "gauge", "Pages of keys and values.", s.pages);
    one(out, "graft_kv_pages_free", "gauge", "Pages that nobody has.", s.free_pages);
    one(out, "graft_kv_pages_cached", "gauge", "Pages of the prefix cache that no running request has.", s.cached_pages);
    one(out, "graft_device_lost", "gauge", "1 while the device is lost.", s.lost);
    one(out, "graft_model_damaged", "gauge", "1: the model's file was cut while it was in use, and the server ends.",
        graft_model_damaged(server->session.model));
    one(out, "graft_device_rebuilds_total", "counter", "Times the device was lost and set up again.", s.rebuilds);
}

static void print_memory_use(struct out *out, struct server *server, uint64_t pool_used, uint32_t resident)
{
    struct graft_memory_use use;
    graft_ctx_memory(server->session.ctx, &use);
    header(out, "graft_memory_bytes", "gauge", "Bytes held, host and device, by class.");
    for (int c = 0; c < GRAFT_MEM_CLASSES; c++) {
        out_format(out, "graft_memory_bytes{class=\"%s\"} %llu\n", graft_mem_class_name((enum graft_mem_class)c),
                   (unsigned long long)use.class_bytes[c]);
    }
    one(out, "graft_memory_budget_bytes", "gauge", "The budget; 0: none was given.", (double)use.budget_bytes);
    one(out, "graft_memory_peak_bytes", "gauge", "The most that was held so far.", (double)use.peak_bytes);
    one(out, "graft_memory_allocations_total", "counter", "Allocations, host and device.", (double)use.allocations);
    one(out, "graft_adapter_pool_bytes", "gauge", "Room for adapters.", (double)server->adapters.pool_bytes);
    one(out, "graft_adapter_pool_used_bytes", "gauge", "Bytes of resident adapters.", (double)pool_used);
    one(out, "graft_adapter_pool_slots", "gauge", "Adapters that can be resident.", server->adapters.pool_slots);
    one(out, "graft_adapters_resident", "gauge", "Adapters that are.", resident);
}

static void print_http(struct out *out, struct server *server)
{
    struct http_stats s;
    http_server_describe(server->http, &s);
    one(out, "graft_http_connections", "gauge", "Open connections.", s.connections);
    one(out, "graft_http_streams", "gauge", "Answers that are streamed.", s.streams);
    one(out, "graft_http_requests_total", "counter", "Requests over HTTP.", (double)s.requests);
    one(out, "graft_http_gone_total", "counter", "Clients that left before their reply was complete.", (double)s.gone);
    header(out, "graft_http_refused_total", "counter", "Refused by the HTTP server, by reason.");
    out_format(out, "graft_http_refused_total{reason=\"connections\"} %llu\n", (unsigned long long)s.refused_connections);
    out_format(out, "graft_http_refused_total{reason=\"malformed\"} %llu\n", (unsigned long long)s.refused_guard);
    out_format(out, "graft_http_refused_total{reason=\"key\"} %llu\n", (unsigned long long)s.refused_auth);
    out_format(out, "graft_http_refused_total{reason=\"rate\"} %llu\n", (unsigned long long)s.refused_rate);
    header(out, "graft_http_cut_total", "counter", "Connections that were cut for being slow, by what was slow.");
    out_format(out, "graft_http_cut_total{at=\"head\"} %llu\n", (unsigned long long)s.cut_head);
    out_format(out, "graft_http_cut_total{at=\"body\"} %llu\n", (unsigned long long)s.cut_body);
    out_format(out, "graft_http_cut_total{at=\"reader\"} %llu\n", (unsigned long long)s.cut_stall);
    one(out, "graft_http_received_bytes_total", "counter", "Bytes of bodies received.", (double)s.bytes_in);
    one(out, "graft_http_sent_bytes_total", "counter", "Bytes of bodies sent.", (double)s.bytes_out);
    one(out, "graft_access_log_lost_total", "counter", "Lines of the access log that could not be written.",
        (double)s.log_lost);
}

static void print_ends(struct out *out, const struct counts *counts)
{
    static const char *const ends[] = {"stop", "length", "cancelled", "deadline", "error"};
    header(out, "graft_finished_total", "counter", "Requests that ended in the engine, by how.");
    for (int i = 0; i < 5; i++) {
        out_format(out, "graft_finished_total{reason=\"%s\"} %llu\n", ends[i], (unsigned long long)counts->finishes[i]);
    }
    header(out, "graft_errors_total", "counter", "Error replies, by status.");
    for (int i = 0; i < USAGE_STATUSES; i++) {
        char text[8];
        snprintf(text, sizeof text, "%d", usage_statuses[i]);
        out_format(out, "graft_errors_total{code=\"%s\"} %llu\n", usage_statuses[i] ? text : "other",
                   (unsigned long long)counts->errors[i]);
    }
    one(out, "graft_model_fallbacks_total", "counter", "Requests whose model does not exist, run with the base.",
        (double)counts->fallbacks);
    one(out, "graft_unknown_fields_total", "counter", "Members of requests that nobody knows.", (double)counts->unknown_fields);
    header(out, "graft_adapter_wait_seconds", "histogram", "Of requests that waited for their adapters.");
    histogram_print(out, "graft_adapter_wait_seconds", "", &counts->load_wait);
}

// What scrapers of vLLM know.
static void print_vllm(struct out *out, const struct row *rows, uint32_t n, uint32_t slots, uint32_t waiting)
{
    header(out, "vllm:lora_requests_info", "gauge", "Adapters with running requests.");
    out_format(out, "vllm:lora_requests_info{max_lora=\"%u\",running_lora_adapters=\"", slots);
    bool first = true;
    for (uint32_t i = 0; i < n; i++) {
        if (rows[i].is_adapter && rows[i].usage.running) {
            size_t length = strlen(rows[i].label);
            out_format(out, "%s%.*s", first ? "" : ",", (int)length - 10, rows[i].label + 9); // adapter="NAME"
            first = false;
        }
    }
    out_format(out, "\",waiting_lora_adapters=\"%s\"} 1\n", waiting ? "waiting" : "");
}

void serve_metrics(struct http_exchange *exchange, void *user)
{
    struct server *server = user;
    struct row *rows = try_memory(METRIC_ADAPTERS + 2, sizeof *rows);
    struct out out = {0};
    struct api_error error = {0};
    if (!rows) {
        api_no_memory(&error);
        serve_refuse(server, exchange, &error);
        return;
    }
    uint32_t resident;
    pthread_mutex_lock(&server->adapters.mutex);
    uint32_t n = make_rows(server, exchange, rows), waiting = server->adapters.n_leases;
    struct counts counts = server->counts;
    uint64_t used = adapters_resident(&server->adapters, &resident);
    pthread_mutex_unlock(&server->adapters.mutex);
    header(&out, "graft_build_info", "gauge", "1, with the version and the model.");
    out_format(&out, "graft_build_info{version=\"%s\",model=\"", graft_version());
    for (const char *p = server->base; *p; p++) {
        out_format(&out, "%s%c", *p == '"' || *p == '\\' ? "\\" : "", *p);
    }
    out_bytes(&out, "\"} 1\n", 5);
    one(&out, "graft_uptime_seconds", "gauge", "Since the server began to start.",
        (double)(graft_clock_ns() - server->begun_ns) * 1e-9);
    print_rows(&out, rows, n);
    print_lengths(&out, rows, n);
    process_print(&out);
    one(&out, "graft_adapter_line", "gauge", "Requests that wait for their adapters.", waiting);
    print_ends(&out, &counts);
    print_engine(&out, server);
    print_memory_use(&out, server, used, resident);
    print_http(&out, server);
    size_t room = http_server_metrics_bytes(server->http);
    char *http = try_memory(room, 1);
    out.failed |= !http;
    out_bytes(&out, http ? http : "", http ? http_server_metrics(server->http, http, room) : 0);
    free(http);
    if (http_query(exchange, "vllm")) { // its name has a colon, which promtool does not like
        print_vllm(&out, rows, n, server->adapters.pool_slots, waiting);
    }
    free(rows);
    if (out.failed) {
        api_no_memory(&error);
        serve_refuse(server, exchange, &error);
    } else {
        http_reply(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", out.data ? out.data : "", out.length);
    }
    out_free(&out);
}
