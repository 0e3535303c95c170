// SPDX-License-Identifier: Apache-2.0
// graft load-test: many streams against a server, and what their clients saw.
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "platform/plat.h"
#include "tools/client.h"
#include "tools/tool.h"

enum { MOST_ADAPTERS = 64, OPEN_STREAMS = 256 };

// Times in nanoseconds, in a row that grows.
struct times {
    uint64_t *values;
    size_t count, room;
};

static void times_add(struct times *times, uint64_t value)
{
    if (times->count == times->room) {
        times->room = 2 * times->room + 64;
        times->values = grow_memory(times->values, times->room, sizeof *times->values);
    }
    times->values[times->count++] = value;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

// The smallest value that at least this share is not above; milliseconds. Sorted.
static double quantile_ms(const struct times *times, double share)
{
    if (!times->count) {
        return 0;
    }
    size_t i = (size_t)ceil(share * (double)times->count);
    return (double)times->values[i ? i - 1 : 0] * 1e-6;
}

struct load_run {
    const struct options *options;
    struct client_place place;
    const char *adapters[MOST_ADAPTERS];
    uint32_t n_adapters;
    uint64_t begin_ns, end_ns; // no request begins behind end_ns; 0 = no such time
    pthread_mutex_t mutex;     // all below
    uint64_t next, n_requests, random, arrival_ns;
    uint64_t ok, failed, tokens, prompt_tokens, last_ns;
    struct times first, between, whole;
    struct times adapter_first[MOST_ADAPTERS];
    uint64_t adapter_tokens[MOST_ADAPTERS];
    char why[256]; // of the first failure
    int status;
};

// One request, on its own thread.
struct stream {
    struct load_run *run;
    uint64_t asked_ns, first_ns, last_ns;
    uint32_t tokens, prompt_tokens;
    bool done;
    char error[256];
    struct times between;
};

// splitmix64 (Steele 2014).
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static bool on_line(void *user, const char *line, size_t length)
{
    struct stream *stream = user;
    (void)length;
    if (strncmp(line, "data: ", 6) != 0) {
        if (line[0] == '{' && !*stream->error) {
            snprintf(stream->error, sizeof stream->error, "%.200s", line);
        }
        return true;
    }
    if (strcmp(line + 6, "[DONE]") == 0) {
        stream->done = true;
        return true;
    }
    uint64_t now = graft_clock_ns();
    json_t *chunk = json_loads(line + 6, 0, NULL);
    json_t *choice = json_array_get(json_object_get(chunk, "choices"), 0), *usage = json_object_get(chunk, "usage");
    if (json_object_get(chunk, "error")) {
        snprintf(stream->error, sizeof stream->error, "%.200s", line + 6);
    }
    if (json_string_length(json_object_get(choice, "text"))) {
        if (stream->first_ns) {
            times_add(&stream->between, now - stream->last_ns);
        }
        stream->first_ns = stream->first_ns ? stream->first_ns : now;
        stream->last_ns = now;
    }
    if (json_is_object(usage)) {
        stream->tokens = (uint32_t)json_integer_value(json_object_get(usage, "completion_tokens"));
        stream->prompt_tokens = (uint32_t)json_integer_value(json_object_get(usage, "prompt_tokens"));
    }
    json_decref(chunk);
    return true;
}

// A prompt of common words that no other request begins with.
static char *make_body(const struct options *o, const char *adapter, uint64_t number, uint64_t seed)
{
    static const char *const words[] = {"the",   "river", "of",   "time", "stone", "city",  "a",     "light",
                                        "under", "green", "hill", "old",  "house", "and",   "music", "walks",
                                        "with",  "rain",  "over", "blue", "field", "tells", "story", "night"};
    size_t room = 64 + (size_t)o->load_prompt * 8, used = 0;
    char *prompt = get_memory(room, 1);
    used += (size_t)snprintf(prompt, room, "%" PRIu64 ":", number + 1);
    uint64_t state = seed * 1000003u + number;
    for (int64_t i = 0; i < o->load_prompt; i++) {
        used +=
            (size_t)snprintf(prompt + used, room - used, " %s", words[next_random(&state) % (sizeof words / sizeof *words)]);
    }
    json_t *body = json_pack("{s:s, s:I, s:b, s:{s:b}, s:I}", "prompt", prompt, "max_tokens", (json_int_t)o->load_predict,
                             "stream", 1, "stream_options", "include_usage", 1, "seed", (json_int_t)(number + 1));
    if (strcmp(adapter, "none") == 0) {
        json_object_set_new(body, "lora", json_array());
    } else {
        json_object_set_new(body, "adapter", json_string(adapter));
    }
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    free(prompt);
    return text;
}

static void keep(struct load_run *run, struct stream *stream, uint32_t adapter, int status, const char *why)
{
    uint64_t now = graft_clock_ns();
    pthread_mutex_lock(&run->mutex);
    run->last_ns = now;
    if (status != 200 || !stream->done || *stream->error) {
        run->failed++;
        if (!*run->why) {
            run->status = status;
            snprintf(run->why, sizeof run->why, "%s",
                     *stream->error ? stream->error
                     : *why         ? why
                                    : "the stream ended without [DONE]");
        }
    } else {
        run->ok++;
        run->tokens += stream->tokens;
        run->prompt_tokens += stream->prompt_tokens;
        run->adapter_tokens[adapter] += stream->tokens;
        times_add(&run->whole, now - stream->asked_ns);
        if (stream->first_ns) {
            times_add(&run->first, stream->first_ns - stream->asked_ns);
            times_add(&run->adapter_first[adapter], stream->first_ns - stream->asked_ns);
        }
        for (size_t i = 0; i < stream->between.count; i++) {
            times_add(&run->between, stream->between.values[i]);
        }
    }
    pthread_mutex_unlock(&run->mutex);
    free(stream->between.values);
}

// The number and the time of the next request; false: there is none.
static bool take_next(struct load_run *run, uint64_t *number, uint64_t *at)
{
    const struct options *o = run->options;
    pthread_mutex_lock(&run->mutex);
    if (o->load_rate > 0) { // the gaps of a Poisson process are exponential
        double uniform = ((double)(next_random(&run->random) >> 11) + 0.5) / 9007199254740992.0;
        run->arrival_ns += (uint64_t)(-log(uniform) / o->load_rate * 1e9);
    }
    *at = o->load_rate > 0 ? run->arrival_ns : graft_clock_ns();
    *number = run->next;
    bool more = (!run->n_requests || run->next < run->n_requests) && (!run->end_ns || *at < run->end_ns);
    run->next += more;
    pthread_mutex_unlock(&run->mutex);
    return more;
}

static void *work(void *user)
{
    struct load_run *run = user;
    const struct options *o = run->options;
    uint64_t number, at;
    while (take_next(run, &number, &at)) {
        uint64_t now = graft_clock_ns();
        if (at > now) {
            nanosleep(
                &(struct timespec){.tv_sec = (time_t)((at - now) / 1000000000u), .tv_nsec = (long)((at - now) % 1000000000u)},
                NULL);
        }
        uint32_t adapter = (uint32_t)(number % run->n_adapters);
        struct stream stream = {.run = run, .asked_ns = o->load_rate > 0 ? at : graft_clock_ns()};
        char why[256] = "", *body = make_body(o, run->adapters[adapter], number, (uint64_t)o->seed);
        struct client_request request = {
            .method = "POST", .path = "/v1/completions", .body = body, .key = o->api_key, .on_line = on_line, .user = &stream};
        int status = client_do(&run->place, &request, why, sizeof why);
        keep(run, &stream, adapter, status, why);
        free(body);
    }
    return NULL;
}

// ---- what came of it ----

static json_t *times_json(const struct times *times)
{
    return json_pack("{s:f, s:f, s:f, s:I}", "p50_ms", quantile_ms(times, 0.5), "p95_ms", quantile_ms(times, 0.95), "p99_ms",
                     quantile_ms(times, 0.99), "count", (json_int_t)times->count);
}

static json_t *run_json(struct load_run *run, double seconds)
{
    json_t *adapters = json_array();
    for (uint32_t i = 0; i < run->n_adapters; i++) {
        json_array_append_new(adapters,
                              json_pack("{s:s, s:I, s:o}", "adapter", run->adapters[i], "answer_tokens",
                                        (json_int_t)run->adapter_tokens[i], "first_token", times_json(&run->adapter_first[i])));
    }
    const struct options *o = run->options;
    return json_pack("{s:I, s:f, s:I, s:I, s:f, s:I, s:I, s:f, s:f, s:o, s:o, s:o, s:o}", "streams",
                     (json_int_t)o->load_streams, "rate", o->load_rate, "ok", (json_int_t)run->ok, "failed",
                     (json_int_t)run->failed, "seconds", seconds, "prompt_tokens", (json_int_t)run->prompt_tokens,
                     "answer_tokens", (json_int_t)run->tokens, "goodput_tokens_per_second", (double)run->tokens / seconds,
                     "requests_per_second", (double)run->ok / seconds, "first_token", times_json(&run->first), "between_tokens",
                     times_json(&run->between), "whole_answer", times_json(&run->whole), "adapters", adapters);
}

static void print_times(const char *name, const struct times *times)
{
    printf("  %-16s %10.1f %10.1f %10.1f ms  (%zu)\n", name, quantile_ms(times, 0.5), quantile_ms(times, 0.95),
           quantile_ms(times, 0.99), times->count);
}

static void print_run(const struct load_run *run, double seconds)
{
    printf("%" PRIu64 " answers, %" PRIu64 " failed, in %.1f s; %" PRIu64 " prompt tokens, %" PRIu64 " answer tokens\n",
           run->ok, run->failed, seconds, run->prompt_tokens, run->tokens);
    printf("goodput %.1f tokens/s, %.2f requests/s\n", (double)run->tokens / seconds, (double)run->ok / seconds);
    printf("  %-16s %10s %10s %10s\n", "", "p50", "p95", "p99");
    print_times("first token", &run->first);
    print_times("between tokens", &run->between);
    print_times("whole answer", &run->whole);
    for (uint32_t i = 0; i < run->n_adapters && run->n_adapters > 1; i++) {
        char name[40];
        snprintf(name, sizeof name, "first, %.30s", run->adapters[i]);
        print_times(name, &run->adapter_first[i]);
    }
}

static int check_mix(struct load_run *run, char *mix)
{
    char *rest = NULL;
    for (char *name = strtok_r(mix, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        if (run->n_adapters == MOST_ADAPTERS) {
            return error_usage("the mix is too long", "more than 64 adapters were named", "fewer of them");
        }
        run->adapters[run->n_adapters++] = name;
    }
    return run->n_adapters ? EXIT_GOOD : error_usage("the mix is empty", "no adapter was named", "--mix legal,none");
}

int verb_LOAD_TEST(const struct options *options)
{
    struct load_run *run = get_memory(1, sizeof *run);
    char mix[4096];
    const char *url = options->url ? options->url : "127.0.0.1:8080";
    snprintf(mix, sizeof mix, "%s", options->load_adapters ? options->load_adapters : "none");
    *run = (struct load_run){.options = options, .random = (uint64_t)options->seed + 1};
    int code = client_place(url, &run->place)
                   ? check_mix(run, mix)
                   : error_usage("the server's address is not understood", url, "--url 127.0.0.1:8080, or unix:/PATH");
    if (code != EXIT_GOOD) {
        free(run);
        return code;
    }
    pthread_mutex_init(&run->mutex, NULL);
    bool open = options->load_rate > 0;
    uint32_t n = open ? OPEN_STREAMS : (uint32_t)options->load_streams, started = 0;
    run->n_requests = options->load_requests  ? (uint64_t)options->load_requests
                      : options->load_seconds ? 0
                                              : 4 * (uint64_t)options->load_streams;
    run->begin_ns = run->arrival_ns = graft_clock_ns();
    run->end_ns = options->load_seconds ? run->begin_ns + (uint64_t)options->load_seconds * 1000000000u : 0;
    pthread_t threads[OPEN_STREAMS];
    while (started < n && pthread_create(&threads[started], NULL, work, run) == 0) {
        started++;
    }
    for (uint32_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    double seconds = (double)((run->last_ns ? run->last_ns : graft_clock_ns()) - run->begin_ns) * 1e-9;
    struct times *all[] = {&run->first, &run->between, &run->whole};
    for (uint32_t i = 0; i < 3 + run->n_adapters; i++) {
        struct times *times = i < 3 ? all[i] : &run->adapter_first[i - 3];
        if (times->count) {
            qsort(times->values, times->count, sizeof *times->values, by_value);
        }
    }
    if (options->json) {
        code = print_json(run_json(run, seconds));
    } else {
        print_run(run, seconds);
    }
    if (run->failed) {
        char what[64];
        snprintf(what, sizeof what, "%" PRIu64 " requests failed", run->failed);
        error3(what, run->why, run->status ? "the server's log" : "graft serve -m MODEL, or another --url");
        code = EXIT_FAILED;
    }
    for (uint32_t i = 0; i < 3 + run->n_adapters; i++) {
        free(i < 3 ? all[i]->values : run->adapter_first[i - 3].values);
    }
    pthread_mutex_destroy(&run->mutex);
    free(run);
    return code;
}
