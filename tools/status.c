// SPDX-License-Identifier: Apache-2.0
// Asking a server: /props, /v1/adapters, /v1/requests and /metrics become one JSON object.
#include "tools/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/client.h"
#include "tools/tool.h"

enum { ANSWER_SECONDS = 5, MOST_BYTES = 8 << 20 };
#define RATE "answer_tokens_per_second"

// ---- replies ----

struct body {
    char *text;
    size_t length, room;
    bool lines; // keep the ends of lines
};

static bool on_line(void *user, const char *line, size_t length)
{
    struct body *body = user;
    if (body->length + length + 2 > body->room) {
        body->room = 2 * body->room + length + 4096;
        body->text = grow_memory(body->text, body->room, 1);
    }
    memcpy(body->text + body->length, line, length);
    body->length += length;
    body->text[body->length] = '\n';
    body->length += body->lines;
    body->text[body->length] = 0;
    return body->length < MOST_BYTES;
}

// The reply's text, to be freed, or NULL with *status (0: none) and why.
static char *get(const struct client_place *place, const char *path, const char *key, bool lines, int *status, char *why,
                 size_t why_bytes)
{
    struct body body = {.lines = lines};
    struct client_request request = {
        .method = "GET", .path = path, .key = key, .timeout_seconds = ANSWER_SECONDS, .on_line = on_line, .user = &body};
    *status = client_do(place, &request, why, why_bytes);
    if (*status == 200 && body.text) {
        return body.text;
    }
    free(body.text);
    if (*status == 401 || *status == 403) {
        snprintf(why, why_bytes, "it wants a key (HTTP %d)", *status);
    } else if (*status) {
        snprintf(why, why_bytes, "it answers %s with HTTP %d", path, *status);
    }
    return NULL;
}

static json_t *get_json(const struct client_place *place, const char *path, const char *key, char *why, size_t why_bytes)
{
    int status;
    char *text = get(place, path, key, false, &status, why, why_bytes);
    json_t *value = text ? json_loads(text, 0, NULL) : NULL;
    if (text && !json_is_object(value)) {
        snprintf(why, why_bytes, "its answer to %s is no JSON object", path);
        json_decref(value);
        value = NULL;
    }
    free(text);
    return value;
}

// ---- metrics ----

// {series: number} of a text in Prometheus' format; what is not understood is left out.
static json_t *parse_metrics(char *text)
{
    json_t *out = json_object();
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *blank = *line == '#' ? NULL : strrchr(line, ' '), *end;
        if (!blank) {
            continue;
        }
        double value = strtod(blank + 1, &end);
        if (end != blank + 1 && isfinite(value)) {
            *blank = 0;
            json_object_set_new(out, line, json_real(value));
        }
    }
    return out;
}

static double number_of(const json_t *metrics, const char *series)
{
    return json_number_value(json_object_get(metrics, series));
}

static json_t *whole(double value)
{
    return json_integer((json_int_t)llround(value));
}

static void put_whole(json_t *out, const char *name, const json_t *metrics, const char *series)
{
    json_object_set_new(out, name, whole(number_of(metrics, series)));
}

// Sum of all series that begin so.
static double sum_of(const json_t *metrics, const char *head)
{
    const char *series;
    json_t *value;
    double sum = 0;
    json_object_foreach((json_t *)(uintptr_t)metrics, series, value)
    {
        sum += strncmp(series, head, strlen(head)) == 0 ? json_number_value(value) : 0;
    }
    return sum;
}

static json_t *memory_json(const json_t *metrics)
{
    static const char head[] = "graft_memory_bytes{class=\"";
    json_t *out = json_object(), *value;
    const char *series;
    double used = 0, budget = number_of(metrics, "graft_memory_budget_bytes");
    json_object_set_new(out, "budget", budget > 0 ? whole(budget) : json_null());
    json_object_set_new(out, "used", json_null());
    put_whole(out, "peak", metrics, "graft_memory_peak_bytes");
    json_object_foreach((json_t *)(uintptr_t)metrics, series, value)
    {
        if (strncmp(series, head, sizeof head - 1) == 0) {
            char name[64];
            snprintf(name, sizeof name, "%.*s", (int)strcspn(series + sizeof head - 1, "\""), series + sizeof head - 1);
            json_object_set_new(out, name, whole(json_number_value(value)));
            used += json_number_value(value);
        }
    }
    json_object_set_new(out, "used", whole(used));
    return out;
}

// version="..." of graft_build_info.
static json_t *version_json(const json_t *metrics)
{
    const char *series, *at;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)metrics, series, value)
    {
        if (strncmp(series, "graft_build_info{", 17) == 0 && (at = strstr(series, "version=\"")) != NULL) {
            return json_stringn(at + 9, strcspn(at + 9, "\""));
        }
    }
    return json_null();
}

static void put_usage(json_t *out, const json_t *metrics, const char *name)
{
    static const char *const members[][2] = {{"requests", "graft_requests_total"},
                                             {"running", "graft_requests_running"},
                                             {"prompt_tokens", "graft_prompt_tokens_total"},
                                             {"answer_tokens", "graft_answer_tokens_total"}};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        char series[192];
        snprintf(series, sizeof series, "%s{adapter=\"%s\"}", members[i][1], name);
        put_whole(out, members[i][0], metrics, series);
    }
    char head[192];
    snprintf(head, sizeof head, "graft_request_errors_total{adapter=\"%s\",", name);
    json_object_set_new(out, "errors", whole(sum_of(metrics, head)));
}

// The element of an array whose member has this text.
static json_t *find_by(const json_t *array, const char *member, const char *text)
{
    size_t i;
    json_t *value;
    json_array_foreach(array, i, value)
    {
        const char *own = json_string_value(json_object_get(value, member));
        if (own && text && strcmp(own, text) == 0) {
            return value;
        }
    }
    return NULL;
}

// Tokens of answers are counted when a request has ended; those of running ones come on top here.
static void add_running(json_t *adapters, const json_t *requests)
{
    size_t i;
    json_t *request;
    json_array_foreach(requests, i, request)
    {
        const char *label = json_string_value(json_object_get(request, "adapter")); // "legal", "legal+finance:0.5"
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(label ? label : "", "+:@"), label ? label : "");
        json_t *tokens = json_object_get(find_by(adapters, "name", name), "answer_tokens");
        if (tokens) {
            json_integer_set(tokens,
                             json_integer_value(tokens) + json_integer_value(json_object_get(request, "answer_tokens")));
        }
    }
}

static json_t *adapters_json(const json_t *list, const json_t *requests, const json_t *metrics)
{
    static const char *const kept[] = {"name",     "version",  "generation",  "residency", "pinned",
                                       "changing", "draining", "quarantined", "faults",    "bytes",
                                       "rank",     "scale",    "loads",       "evictions", "failures"};
    json_t *out = json_array(), *base = json_pack("{s:s, s:s, s:n}", "name", "", "residency", "base", "bytes"), *adapter;
    put_usage(base, metrics, "");
    json_array_append_new(out, base);
    size_t i;
    json_array_foreach(json_object_get(list, "data"), i, adapter)
    {
        json_t *row = json_object();
        for (size_t k = 0; k < sizeof kept / sizeof *kept; k++) {
            json_object_set(row, kept[k], json_object_get(adapter, kept[k]));
        }
        put_usage(row, metrics, json_string_value(json_object_get(adapter, "name")));
        json_array_append_new(out, row);
    }
    add_running(out, requests);
    return out;
}

static json_t *build(const char *address, const json_t *props, const json_t *adapters, json_t *requests, const json_t *metrics)
{
    static const char *const numbers[][2] = {{"slots", "graft_engine_slots"},
                                             {"running", "graft_engine_running"},
                                             {"waiting", "graft_engine_waiting"},
                                             {"waiting_for_adapter", "graft_adapter_line"},
                                             {"prompt_tokens", "graft_engine_prompt_rows_total"},
                                             {"answer_tokens", "graft_engine_answer_tokens_total"},
                                             {"preemptions", "graft_engine_preemptions_total"},
                                             {"connections", "graft_http_connections"}};
    json_t *out = json_object(), *pages = json_object(), *pool = json_object();
    json_object_set_new(out, "address", json_string(address));
    json_object_set(out, "model", json_object_get(props, "model_alias"));
    json_object_set(out, "device", json_object_get(props, "device"));
    json_object_set_new(out, "version", version_json(metrics));
    json_object_set_new(out, "uptime_seconds", json_real(number_of(metrics, "graft_uptime_seconds")));
    json_object_set(out, "context", json_object_get(json_object_get(props, "default_generation_settings"), "n_ctx"));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        put_whole(out, numbers[i][0], metrics, numbers[i][1]);
    }
    json_object_set_new(out, "requests_total", whole(sum_of(metrics, "graft_requests_total{")));
    json_object_set_new(out, "errors_total", whole(sum_of(metrics, "graft_errors_total{")));
    json_object_set_new(out, "draining", json_boolean(number_of(metrics, "graft_http_draining") > 0));
    json_object_set_new(out, "device_lost", json_boolean(number_of(metrics, "graft_device_lost") > 0));
    json_object_set_new(out, "memory", memory_json(metrics));
    put_whole(pages, "total", metrics, "graft_kv_pages");
    put_whole(pages, "free", metrics, "graft_kv_pages_free");
    put_whole(pages, "cached", metrics, "graft_kv_pages_cached");
    json_object_set_new(out, "kv_pages", pages);
    put_whole(pool, "bytes", metrics, "graft_adapter_pool_bytes");
    put_whole(pool, "used", metrics, "graft_adapter_pool_used_bytes");
    put_whole(pool, "slots", metrics, "graft_adapter_pool_slots");
    put_whole(pool, "resident", metrics, "graft_adapters_resident");
    json_object_set_new(out, "adapter_pool", pool);
    json_object_set_new(out, "adapters", adapters_json(adapters, json_object_get(requests, "data"), metrics));
    json_object_set(out, "requests", json_object_get(requests, "data"));
    return out;
}

json_t *status_fetch(const char *address, const char *key, const char *authorities, char *why, size_t why_bytes)
{
    struct client_place place;
    if (!client_place(address, authorities, &place)) {
        snprintf(why, why_bytes, "%.200s is no address: HOST:PORT, https://HOST:PORT or unix:/PATH", address);
        return NULL;
    }
    int status = 0;
    json_t *props = get_json(&place, "/props", key, why, why_bytes);
    json_t *adapters = props ? get_json(&place, "/v1/adapters", key, why, why_bytes) : NULL;
    json_t *requests = adapters ? get_json(&place, "/v1/requests", key, why, why_bytes) : NULL;
    char *text = requests ? get(&place, "/metrics", key, true, &status, why, why_bytes) : NULL;
    json_t *metrics = text ? parse_metrics(text) : NULL, *out = NULL;
    if (metrics) {
        out = build(address, props, adapters, requests, metrics);
    }
    free(text);
    json_decref(props);
    json_decref(adapters);
    json_decref(requests);
    json_decref(metrics);
    return out;
}

// ---- rates ----

static void put_rate(json_t *now, const json_t *before, const char *member, const char *rate, double seconds)
{
    double difference = json_number_value(json_object_get(now, member)) - json_number_value(json_object_get(before, member));
    json_object_set_new(now, rate, json_real(seconds > 0 && difference > 0 ? difference / seconds : 0));
}

void status_rates(json_t *now, const json_t *before, double seconds)
{
    size_t i;
    json_t *value, *adapters = json_object_get(now, "adapters"), *requests = json_object_get(now, "requests");
    put_rate(now, before, "answer_tokens", RATE, seconds);
    put_rate(now, before, "prompt_tokens", "prompt_tokens_per_second", seconds);
    json_array_foreach(adapters, i, value)
    {
        const char *name = json_string_value(json_object_get(value, "name"));
        put_rate(value, find_by(json_object_get(before, "adapters"), "name", name), "answer_tokens", RATE, seconds);
    }
    json_array_foreach(requests, i, value)
    {
        const char *id = json_string_value(json_object_get(value, "id"));
        const json_t *old = find_by(json_object_get(before, "requests"), "id", id);
        double age = json_number_value(json_object_get(value, "seconds")); // a new one: since it came
        put_rate(value, old, "answer_tokens", RATE, old ? seconds : age);
    }
}
