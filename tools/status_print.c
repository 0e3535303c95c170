// SPDX-License-Identifier: Apache-2.0
// The state of a server as a table.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/out.h"
#include "tools/output.h"
#include "tools/status.h"

enum { BAR_CELLS = 24 };

const char *const status_sort_names[SORTS] = {"name", "tokens/s", "running", "requests", "size"};

struct span_text span_text(double seconds)
{
    struct span_text out;
    long long s = llround(seconds);
    if (seconds < 99.95) {
        snprintf(out.text, sizeof out.text, "%.1f s", seconds);
    } else if (s < 100 * 60) {
        snprintf(out.text, sizeof out.text, "%lld min %lld s", s / 60, s % 60);
    } else if (s < 48 * 3600) {
        snprintf(out.text, sizeof out.text, "%lld h %lld min", s / 3600, s / 60 % 60);
    } else {
        snprintf(out.text, sizeof out.text, "%lld d %lld h", s / 86400, s / 3600 % 24);
    }
    return out;
}

static double number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

static const char *text(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value ? value : "";
}

static struct bytes_text bytes(const json_t *object, const char *name)
{
    double value = number(object, name);
    return bytes_text(value > 0 ? (uint64_t)value : 0);
}

// "12.3", or "-" when no second sample was taken.
struct rate_text {
    char text[16];
};
static struct rate_text rate(const json_t *object, const char *name)
{
    struct rate_text out = {.text = "-"};
    if (json_object_get(object, name)) {
        snprintf(out.text, sizeof out.text, "%.1f", number(object, name));
    }
    return out;
}

static void print_bar(struct out *out, double share, const struct status_view *view)
{
    int full = (int)lround((share < 0 ? 0 : share > 1 ? 1 : share) * BAR_CELLS);
    out_text(out, "[");
    for (int i = 0; i < BAR_CELLS; i++) {
        out_text(out, i < full ? (view->utf8 ? "\xe2\x96\x88" : "#") : (view->utf8 ? "\xe2\x96\x91" : "."));
    }
    out_format(out, "] %3.0f %%", 100 * share);
}

static void print_head(struct out *out, const struct status_view *view, const char *head)
{
    out_format(out, "%s%s%s\n", view->bold ? "\033[1m" : "", head, view->bold ? "\033[0m" : "");
}

static void print_memory_of(struct out *out, const json_t *status, const struct status_view *view)
{
    static const char *const left_out[] = {"budget", "used", "peak"};
    const json_t *memory = json_object_get(status, "memory"), *pages = json_object_get(status, "kv_pages"),
                 *pool = json_object_get(status, "adapter_pool");
    double budget = number(memory, "budget"), total = number(pages, "total"), room = number(pool, "bytes");
    out_text(out, "memory    ");
    if (budget > 0) {
        print_bar(out, number(memory, "used") / budget, view);
        out_format(out, " of %s", bytes(memory, "budget").text);
    } else {
        out_text(out, "no budget");
    }
    out_format(out, ": %s, peak %s\n          ", bytes(memory, "used").text, bytes(memory, "peak").text);
    const char *name, *gap = "";
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)memory, name, value)
    {
        bool shown = json_number_value(value) > 0;
        for (size_t i = 0; i < sizeof left_out / sizeof *left_out; i++) {
            shown = shown && strcmp(name, left_out[i]) != 0;
        }
        if (shown) {
            out_format(out, "%s%s %s", gap, name, bytes(memory, name).text);
            gap = ", ";
        }
    }
    out_text(out, "\nkv pages  ");
    print_bar(out, total > 0 ? 1 - (number(pages, "free") + number(pages, "cached")) / total : 0, view);
    out_format(out, " of %.0f; %.0f kept for prefixes\nadapters  ", total, number(pages, "cached"));
    print_bar(out, room > 0 ? number(pool, "used") / room : 0, view);
    out_format(out, " of %s; %.0f of %.0f slots\n", bytes(pool, "bytes").text, number(pool, "resident"), number(pool, "slots"));
}

static void print_summary(struct out *out, const json_t *status)
{
    const json_t *pid = json_object_get(status, "pid");
    out_format(out, "%s on %s\n", text(status, "model"), text(status, "device"));
    out_text(out, "graft ");
    out_text(out, text(status, "version"));
    if (json_is_integer(pid)) {
        out_format(out, ", pid %lld", (long long)json_integer_value(pid));
    }
    out_format(out, ", up %s, %s%s%s\n", span_text(number(status, "uptime_seconds")).text, text(status, "address"),
               json_is_true(json_object_get(status, "draining")) ? ", ENDING" : "",
               json_is_true(json_object_get(status, "device_lost")) ? ", DEVICE LOST" : "");
    out_format(out, "streams   %.0f of %.0f running, %.0f waiting, %.0f for adapters; %.0f requests, %.0f errors\n",
               number(status, "running"), number(status, "slots"), number(status, "waiting"),
               number(status, "waiting_for_adapter"), number(status, "requests_total"), number(status, "errors_total"));
    out_format(out, "tokens/s  %s of answers, %s of prompts\n", rate(status, "answer_tokens_per_second").text,
               rate(status, "prompt_tokens_per_second").text);
}

// ---- adapters ----

static const struct status_view *sorting; // qsort has no room for it; the command has one thread that prints

static int by_view(const void *a, const void *b)
{
    static const char *const members[SORTS] = {"", "answer_tokens_per_second", "running", "requests", "bytes"};
    const json_t *x = *(const json_t *const *)a, *y = *(const json_t *const *)b;
    double difference = sorting->sort == SORT_NAME ? 0 : number(y, members[sorting->sort]) - number(x, members[sorting->sort]);
    int order = difference > 0 ? 1 : difference < 0 ? -1 : strcmp(text(x, "name"), text(y, "name"));
    return sorting->reverse ? -order : order;
}

static const char *state_of(const json_t *adapter)
{
    const char *residency = text(adapter, "residency");
    if (json_is_true(json_object_get(adapter, "quarantined"))) {
        return "refused";
    }
    if (json_is_true(json_object_get(adapter, "draining"))) {
        return "leaving";
    }
    if (strcmp(residency, "device") == 0) {
        return json_is_true(json_object_get(adapter, "pinned")) ? "pinned" : "resident";
    }
    return strcmp(residency, "none") == 0 ? "cold" : residency; // loading, base
}

static bool is_shown(const json_t *adapter, const struct status_view *view)
{
    const char *residency = text(adapter, "residency");
    return view->idle || number(adapter, "requests") > 0 || number(adapter, "running") > 0 || strcmp(residency, "base") == 0 ||
           strcmp(residency, "device") == 0 || strcmp(residency, "loading") == 0;
}

static void print_adapter(struct out *out, const json_t *adapter)
{
    bool base = !*text(adapter, "name");
    char version[16] = "-";
    if (!base) {
        snprintf(version, sizeof version, "%.0f", number(adapter, "version"));
    }
    out_format(out, "%-20.20s %-8s %3.0f %8s %8.0f %8.0f %10s %5.0f %3s %s\n", base ? "(base)" : text(adapter, "name"),
               state_of(adapter), number(adapter, "running"), rate(adapter, "answer_tokens_per_second").text,
               number(adapter, "requests"), number(adapter, "answer_tokens"),
               number(adapter, "bytes") > 0 ? bytes(adapter, "bytes").text : "-", number(adapter, "loads"), version,
               *text(adapter, "generation") ? text(adapter, "generation") : "-");
}

// Rows that are skipped are taken off *skip.
static void print_adapters(struct out *out, const json_t *status, const struct status_view *view, unsigned *skip)
{
    const json_t *adapters = json_object_get(status, "adapters");
    size_t n = json_array_size(adapters), hidden = 0, i;
    const json_t **sorted = get_memory(n, sizeof *sorted);
    for (i = 0; i < n; i++) {
        sorted[i] = json_array_get(adapters, i);
    }
    sorting = view;
    if (n > 1) {
        qsort(sorted, n, sizeof *sorted, by_view);
    }
    out_text(out, "\n");
    print_head(out, view, "ADAPTER              STATE    RUN TOKENS/S REQUESTS   TOKENS       SIZE LOADS VER GENERATION");
    for (i = 0; i < n; i++) {
        if (!is_shown(sorted[i], view)) {
            hidden++;
        } else if (*skip) {
            --*skip;
        } else {
            print_adapter(out, sorted[i]);
        }
    }
    if (hidden) {
        out_format(out, "and %zu that are cold and were not asked for\n", hidden);
    }
    free(sorted);
}

static void print_requests(struct out *out, const json_t *status, const struct status_view *view, unsigned *skip)
{
    const json_t *requests = json_object_get(status, "requests"), *request;
    size_t i;
    out_text(out, "\n");
    print_head(out, view, "ADAPTER              STATE   ANSWER TOKENS/S  SECONDS PROMPT REUSED TENANT       REQUEST");
    json_array_foreach(requests, i, request)
    {
        if (*skip) {
            --*skip;
            continue;
        }
        const char *adapter = text(request, "adapter"), *tenant = text(request, "tenant");
        out_format(out, "%-20.20s %-7s %6.0f %8s %8.1f %6.0f %6.0f %-12.12s %s\n", *adapter ? adapter : "(base)",
                   text(request, "state"), number(request, "answer_tokens"), rate(request, "answer_tokens_per_second").text,
                   number(request, "seconds"), number(request, "prompt_tokens"), number(request, "reused_tokens"),
                   *tenant ? tenant : "-", text(request, "id"));
    }
}

void status_print(struct out *out, const json_t *status, const struct status_view *view)
{
    unsigned skip = view->skip;
    print_summary(out, status);
    print_memory_of(out, status, view);
    print_adapters(out, status, view, &skip);
    if (json_array_size(json_object_get(status, "requests"))) {
        print_requests(out, status, view, &skip);
    }
}
