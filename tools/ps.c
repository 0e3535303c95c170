// SPDX-License-Identifier: Apache-2.0
// graft ps: the servers of this machine, or those named, and what they do right now.
#include <string.h>
#include <time.h>

#include "tools/out.h"
#include "tools/status.h"
#include "tools/tool.h"

// The first address of a process that answers; *address is it.
static json_t *ask_any(const json_t *addresses, const struct options *options, const char **address, char *why,
                       size_t why_bytes)
{
    size_t i;
    json_t *place, *status = NULL;
    snprintf(why, why_bytes, "it listens nowhere yet");
    json_array_foreach(addresses, i, place)
    {
        *address = json_string_value(place);
        status = status_fetch(*address, options->api_key, options->tls_ca, why, why_bytes);
        if (status) {
            break;
        }
    }
    return status;
}

// Where to ask: [{"pid" (absent: unknown), "addresses"}].
static json_t *places(const struct options *options)
{
    if (!options->n_operands) {
        return servers_find();
    }
    json_t *out = json_array();
    for (int i = 0; i < options->n_operands; i++) {
        json_array_append_new(out, json_pack("{s:[s]}", "addresses", options->operands[i]));
    }
    return out;
}

static bool is_busy(const json_t *status)
{
    return json_integer_value(json_object_get(status, "running")) > 0 || json_array_size(json_object_get(status, "requests"));
}

static void show(const json_t *status, const struct status_view *view)
{
    struct out text = {0};
    status_print(&text, status, view);
    fputs(text.data ? text.data : "", stdout);
    out_free(&text);
}

int verb_PS(const struct options *options)
{
    json_t *where = places(options), *servers = json_array(), *place;
    char why[300];
    size_t i, failed = 0;
    bool busy = false;
    double wait = options->interval < 0 ? 1 : options->interval;
    json_array_foreach(where, i, place)
    {
        const char *address = "";
        json_t *status = ask_any(json_object_get(place, "addresses"), options, &address, why, sizeof why);
        if (!status) {
            failed++;
            status = json_pack("{s:s, s:s}", "address", address, "error", why);
        }
        json_object_set(status, "pid", json_object_get(place, "pid"));
        status_rates(status, status, 0); // nothing runs: nothing a second
        busy = busy || is_busy(status);
        json_array_append_new(servers, status);
    }
    if (busy && wait > 0) { // a second look, for the rates
        nanosleep(&(struct timespec){.tv_sec = (time_t)wait, .tv_nsec = (long)((wait - (double)(time_t)wait) * 1e9)}, NULL);
    }
    for (i = 0; busy && wait > 0 && i < json_array_size(servers); i++) {
        json_t *before = json_array_get(servers, i);
        const char *address = json_string_value(json_object_get(before, "address"));
        json_t *now =
            json_object_get(before, "error") ? NULL : status_fetch(address, options->api_key, options->tls_ca, why, sizeof why);
        if (now) {
            json_object_set(now, "pid", json_object_get(before, "pid"));
            double seconds = json_number_value(json_object_get(now, "uptime_seconds")) -
                             json_number_value(json_object_get(before, "uptime_seconds"));
            status_rates(now, before, seconds);
            json_array_set_new(servers, i, now);
        }
    }
    json_decref(where);
    if (options->json) {
        int code = print_json(json_pack("{s:o}", "servers", servers));
        return failed && code == EXIT_GOOD ? EXIT_FAILED : code;
    }
    struct status_view view = {.idle = options->all, .bold = colours(stdout)};
    json_array_foreach(servers, i, place)
    {
        const char *error = json_string_value(json_object_get(place, "error"));
        if (i) {
            puts("");
        }
        if (error) {
            char what[300];
            snprintf(what, sizeof what, "%.200s does not say what it does",
                     json_string_value(json_object_get(place, "address")));
            fflush(stdout);
            error3(what, error, "its operator's socket, as the user it runs as or root; or --api-key KEY");
        } else {
            show(place, &view);
        }
    }
    if (!json_array_size(servers)) {
        puts("no graft serve runs on this machine");
    }
    json_decref(servers);
    return failed ? EXIT_FAILED : EXIT_GOOD;
}
