// SPDX-License-Identifier: Apache-2.0
// graft load-test: many streams against a server, and what their clients saw.
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "platform/plat.h"
#include "tools/load.h"

enum { OPEN_STREAMS = 256, LONG_PREDICT = 1 };

// One request, on its own thread.
struct stream {
    struct load_run *run;
    uint64_t asked_ns, first_ns, last_ns;
    uint32_t tokens, prompt_tokens;
    bool done, is_long;
    char error[256];
    struct samples between;
};

// splitmix64 (Steele 2014).
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static bool has_ended(struct load_run *run)
{
    pthread_mutex_lock(&run->mutex);
    bool ended = run->streams_ended;
    pthread_mutex_unlock(&run->mutex);
    return ended;
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
            samples_add(&stream->between, now, now - stream->last_ns);
        }
        stream->first_ns = stream->first_ns ? stream->first_ns : now;
        stream->last_ns = now;
    }
    if (json_is_object(usage)) {
        stream->tokens = (uint32_t)json_integer_value(json_object_get(usage, "completion_tokens"));
        stream->prompt_tokens = (uint32_t)json_integer_value(json_object_get(usage, "prompt_tokens"));
    }
    json_decref(chunk);
    return !stream->is_long || !has_ended(stream->run); // a long prompt has nobody left to disturb: hang up
}

// A prompt of common words that no other request begins with.
static char *make_body(const struct options *o, const char *adapter, uint64_t number, int64_t n_words, int64_t predict)
{
    static const char *const words[] = {"the",   "river", "of",   "time", "stone", "city",  "a",     "light",
                                        "under", "green", "hill", "old",  "house", "and",   "music", "walks",
                                        "with",  "rain",  "over", "blue", "field", "tells", "story", "night"};
    size_t room = 64 + (size_t)n_words * 8, used = 0;
    char *prompt = get_memory(room, 1);
    used += (size_t)snprintf(prompt, room, "%" PRIu64 ":", number + 1);
    uint64_t state = (uint64_t)o->seed * 1000003u + number;
    for (int64_t i = 0; i < n_words; i++) {
        used +=
            (size_t)snprintf(prompt + used, room - used, " %s", words[next_random(&state) % (sizeof words / sizeof *words)]);
    }
    json_t *body = json_pack("{s:s, s:I, s:b, s:{s:b}, s:I}", "prompt", prompt, "max_tokens", (json_int_t)predict, "stream", 1,
                             "stream_options", "include_usage", 1, "seed", (json_int_t)number + 1);
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

static bool within(double limit, double value)
{
    return limit <= 0 || value <= limit;
}

static void keep(struct load_run *run, struct stream *stream, uint32_t adapter, int status, const char *why)
{
    const struct options *o = run->options;
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
        double first_ms = (double)(stream->first_ns - stream->asked_ns) * 1e-6;
        bool good =
            within(o->load_first_limit, stream->first_ns ? first_ms : 0) &&
            within(o->load_between_limit,
                   stream->tokens > 1 ? (double)(stream->last_ns - stream->first_ns) * 1e-6 / (double)(stream->tokens - 1) : 0);
        run->ok++;
        run->good += good;
        run->tokens += stream->tokens;
        run->good_tokens += good ? stream->tokens : 0;
        run->prompt_tokens += stream->prompt_tokens;
        run->adapter_tokens[adapter] += stream->tokens;
        samples_add(&run->whole, stream->asked_ns, now - stream->asked_ns);
        if (stream->first_ns) {
            samples_add(&run->first, stream->asked_ns, stream->first_ns - stream->asked_ns);
            samples_add(&run->adapter_first[adapter], stream->asked_ns, stream->first_ns - stream->asked_ns);
        }
        for (size_t i = 0; i < stream->between.count; i++) {
            samples_add(&run->between, stream->between.values[i].at_ns, stream->between.values[i].value_ns);
        }
    }
    pthread_mutex_unlock(&run->mutex);
}

// The number and the time of the next request; false: there is none.
static bool take_next(struct load_run *run, uint64_t *number, uint64_t *at, uint32_t *adapter)
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
    *adapter = (uint32_t)((o->load_random ? next_random(&run->random) >> 8 : *number) % run->n_adapters);
    pthread_mutex_unlock(&run->mutex);
    return more;
}

static void *work(void *user)
{
    struct load_run *run = user;
    const struct options *o = run->options;
    uint64_t number, at;
    uint32_t adapter;
    while (take_next(run, &number, &at, &adapter)) {
        uint64_t now = graft_clock_ns();
        if (at > now) {
            nanosleep(
                &(struct timespec){.tv_sec = (time_t)((at - now) / 1000000000u), .tv_nsec = (long)((at - now) % 1000000000u)},
                NULL);
        }
        struct stream stream = {.run = run, .asked_ns = o->load_rate > 0 ? at : graft_clock_ns()};
        char why[256] = "", *body = make_body(o, run->adapters[adapter], number, o->load_prompt, o->load_predict);
        struct client_request request = {
            .method = "POST", .path = "/v1/completions", .body = body, .key = o->api_key, .on_line = on_line, .user = &stream};
        int status = client_do(&run->place, &request, why, sizeof why);
        keep(run, &stream, adapter, status, why);
        free(stream.between.values);
        free(body);
    }
    return NULL;
}

// ---- long prompts beside the streams ----

static bool on_metric(void *user, const char *line, size_t length)
{
    (void)length;
    return sscanf(line, "graft_engine_steps_total %" SCNu64, (uint64_t *)user) != 1;
}

// Steps that the engine has computed so far; UINT64_MAX if the server does not say.
static uint64_t engine_steps(const struct load_run *run)
{
    uint64_t steps = UINT64_MAX;
    char why[256];
    struct client_request request = {
        .method = "GET", .path = "/metrics", .key = run->options->api_key, .on_line = on_metric, .user = &steps};
    client_do(&run->place, &request, why, sizeof why);
    return steps;
}

static void *enter_long(void *user)
{
    struct load_run *run = user;
    const struct options *o = run->options;
    for (uint64_t number = 1u << 30; !has_ended(run); number++) {
        uint64_t steps = engine_steps(run);
        struct stream stream = {.run = run, .asked_ns = graft_clock_ns(), .is_long = true};
        char why[256] = "", *body = make_body(o, run->adapters[number % run->n_adapters], number, o->load_long, LONG_PREDICT);
        struct client_request request = {
            .method = "POST", .path = "/v1/completions", .body = body, .key = o->api_key, .on_line = on_line, .user = &stream};
        (void)client_do(&run->place, &request, why, sizeof why);
        uint64_t end = stream.first_ns ? stream.first_ns : graft_clock_ns();
        bool whole = stream.first_ns && stream.done;
        uint64_t later = whole ? engine_steps(run) : UINT64_MAX;
        pthread_mutex_lock(&run->mutex);
        samples_add(&run->entries, stream.asked_ns, end - stream.asked_ns);
        run->n_long += whole;
        run->long_tokens += whole ? stream.prompt_tokens : 0;
        if (later != UINT64_MAX && later > steps) {
            run->entry_steps += later - steps;
            run->entry_ns += graft_clock_ns() - stream.asked_ns;
        }
        if (!whole && !run->streams_ended) {
            run->failed++;
            snprintf(run->why, sizeof run->why, "%.255s",
                     *stream.error ? stream.error
                     : *why        ? why
                                   : "a long prompt was refused");
            run->streams_ended = true; // and again it would be
        }
        pthread_mutex_unlock(&run->mutex);
        free(stream.between.values);
        free(body);
    }
    return NULL;
}

// The times between tokens that overlap with the entry of a long prompt.
static void find_beside(struct load_run *run)
{
    for (size_t i = 0; i < run->between.count; i++) {
        const struct sample *gap = &run->between.values[i];
        for (size_t k = 0; k < run->entries.count; k++) {
            const struct sample *entry = &run->entries.values[k];
            if (gap->at_ns > entry->at_ns && gap->at_ns - gap->value_ns < entry->at_ns + entry->value_ns) {
                samples_add(&run->beside, gap->at_ns, gap->value_ns);
                break;
            }
        }
    }
}

static int check_mix(struct load_run *run, char *mix)
{
    char *rest = NULL;
    for (char *name = strtok_r(mix, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        if (run->n_adapters == LOAD_ADAPTERS) {
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
    int code = client_place(url, options->tls_ca, &run->place)
                   ? check_mix(run, mix)
                   : error_usage("the server's address is not understood", url,
                                 "--url 127.0.0.1:8080, https://HOST:PORT, or unix:/PATH");
    bool crowded = options->load_idle + options->load_trickle > 0;
    if (code == EXIT_GOOD && crowded && run->place.tls) {
        code = error_usage("a crowd speaks no TLS", "--idle and --trickle open connections without a handshake",
                           "an address without TLS, or no crowd");
    }
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
    struct crowd *crowd =
        crowded ? crowd_begin(&run->place, (uint32_t)options->load_idle, (uint32_t)options->load_trickle) : NULL;
    run->begin_ns = run->arrival_ns = graft_clock_ns();
    run->end_ns = options->load_seconds ? run->begin_ns + (uint64_t)options->load_seconds * 1000000000u : 0;
    pthread_t threads[OPEN_STREAMS], long_thread;
    bool has_long = options->load_long && pthread_create(&long_thread, NULL, enter_long, run) == 0;
    while (started < n && pthread_create(&threads[started], NULL, work, run) == 0) {
        started++;
    }
    for (uint32_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_mutex_lock(&run->mutex);
    run->streams_ended = true;
    pthread_mutex_unlock(&run->mutex);
    if (has_long) {
        pthread_join(long_thread, NULL);
    }
    double seconds = (double)((run->last_ns ? run->last_ns : graft_clock_ns()) - run->begin_ns) * 1e-9;
    find_beside(run);
    run->crowd = crowded ? crowd_end(&crowd) : run->crowd;
    struct samples *all[] = {&run->first, &run->between, &run->whole, &run->entries, &run->beside};
    enum { KINDS = sizeof all / sizeof *all };
    for (uint32_t i = 0; i < KINDS + run->n_adapters; i++) {
        samples_sort(i < KINDS ? all[i] : &run->adapter_first[i - KINDS]);
    }
    if (options->json) {
        code = print_json(load_json(run, seconds));
    } else {
        load_print(run, seconds);
    }
    if (options->svg && code == EXIT_GOOD) {
        code = load_plot(run, seconds, options->svg);
    }
    if (run->failed) {
        char what[64];
        snprintf(what, sizeof what, "%" PRIu64 " requests failed", run->failed);
        error3(what, run->why, run->status ? "the server's log" : "graft serve -m MODEL, or another --url");
        code = EXIT_FAILED;
    }
    for (uint32_t i = 0; i < KINDS + run->n_adapters; i++) {
        free(i < KINDS ? all[i]->values : run->adapter_first[i - KINDS].values);
    }
    pthread_mutex_destroy(&run->mutex);
    free(run);
    return code;
}
