// SPDX-License-Identifier: Apache-2.0
// Metrics: a flat array of series, found by comparing label values; a registry is small and is read rarely.
#include "tools/serve/prometheus.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { NUMBER_BYTES = 32 };
static const char other[] = "other";

struct series {
    bool used;
    char values[METRIC_MAX_LABELS][METRIC_MAX_VALUE];
    double value;                                   // sum of a histogram
    uint64_t count, buckets[METRIC_MAX_BOUNDS + 1]; // not cumulative; the last one is above all bounds
};

struct metrics {
    struct graft_ctx *ctx;
    struct graft_mutex *mutex;
    const struct metric_info *infos;
    uint32_t n_infos, n_series; // per metric, "other" included
    struct series *series;      // [n_infos][n_series]; the last of a metric is "other"
};

static uint32_t n_labels(const struct metric_info *info)
{
    uint32_t n = 0;
    while (n < METRIC_MAX_LABELS && info->labels[n]) {
        n++;
    }
    return n;
}

// [a-zA-Z_:][a-zA-Z0-9_:]*, for labels without the colon.
static bool is_name(const char *text, bool colon)
{
    if (!text || !text[0] || (text[0] >= '0' && text[0] <= '9')) {
        return false;
    }
    for (; *text; text++) {
        bool letter = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') || *text == '_';
        if (!letter && !(*text >= '0' && *text <= '9') && !(colon && *text == ':')) {
            return false;
        }
    }
    return true;
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static enum graft_status check(const struct metric_info *infos, uint32_t i)
{
    const struct metric_info *info = &infos[i];
    bool good = is_name(info->name, true) && info->help && info->kind <= METRIC_HISTOGRAM &&
                (info->kind == METRIC_COUNTER) == (info->name && ends_in(info->name, "_total"));
    for (uint32_t k = 0; good && k < n_labels(info); k++) {
        good = is_name(info->labels[k], false) && strncmp(info->labels[k], "__", 2) != 0 &&
               strcmp(info->labels[k], "le") != 0 && strcmp(info->labels[k], "quantile") != 0;
    }
    for (uint32_t k = 0; good && k < i; k++) {
        good = strcmp(infos[k].name, info->name) != 0;
    }
    good = good && info->n_bounds <= METRIC_MAX_BOUNDS && (info->kind == METRIC_HISTOGRAM) == (info->n_bounds > 0);
    for (uint32_t k = 0; good && k < info->n_bounds; k++) {
        good = isfinite(info->bounds[k]) && (k == 0 || info->bounds[k] > info->bounds[k - 1]);
    }
    return good ? GRAFT_OK
                : graft_fail(GRAFT_E_ARGUMENT,
                             "metric %u (%s): its name, a label or its bounds are not allowed, or it is there twice", i,
                             info->name ? info->name : "without a name");
}

enum graft_status metrics_create(struct graft_ctx *ctx, struct metrics **out, const struct metric_info *infos, uint32_t n_infos,
                                 uint32_t series)
{
    *out = NULL;
    if (n_infos == 0 || n_infos > METRICS_MAX || series == 0 || series > METRIC_MAX_SERIES) {
        return graft_fail(GRAFT_E_LIMIT, "%u metrics of %u series each: 1 to %d and 1 to %d are allowed", n_infos, series,
                          METRICS_MAX, METRIC_MAX_SERIES);
    }
    for (uint32_t i = 0; i < n_infos; i++) {
        GRAFT_TRY(check(infos, i));
    }
    struct metrics *metrics;
    GRAFT_TRY(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &metrics, 1, "metrics"));
    *metrics = (struct metrics){.ctx = ctx, .infos = infos, .n_infos = n_infos, .n_series = series + 1};
    enum graft_status status = graft_mutex_create(ctx, &metrics->mutex);
    status = status == GRAFT_OK
                 ? GRAFT_NEW(ctx, GRAFT_MEM_HOST, &metrics->series, (uint64_t)n_infos * metrics->n_series, "series of metrics")
                 : status;
    if (status != GRAFT_OK) {
        metrics_destroy(&metrics);
        return status;
    }
    for (uint32_t i = 0; i < n_infos; i++) { // what has no labels is there from the start
        metrics->series[(size_t)i * metrics->n_series].used = n_labels(&infos[i]) == 0;
    }
    *out = metrics;
    return GRAFT_OK;
}

void metrics_destroy(struct metrics **metrics)
{
    if (!metrics || !*metrics) {
        return;
    }
    struct graft_ctx *ctx = (*metrics)->ctx;
    graft_mutex_destroy(&(*metrics)->mutex);
    GRAFT_FREE(ctx, &(*metrics)->series);
    GRAFT_FREE(ctx, metrics);
}

// Copy a value, made UTF-8 and cut to fit: bytes that are not part of a character become '?'.
static void copy_value(char out[METRIC_MAX_VALUE], const char *text)
{
    size_t used = 0;
    for (const unsigned char *c = (const unsigned char *)(text ? text : ""); *c;) {
        size_t n = *c < 0x80 ? 1 : *c >= 0xc2 && *c < 0xe0 ? 2 : *c >= 0xe0 && *c < 0xf0 ? 3 : *c >= 0xf0 && *c < 0xf5 ? 4 : 0;
        for (size_t i = 1; i < n; i++) {
            n = (c[i] & 0xc0) == 0x80 ? n : 0;
        }
        bool strange = n == 0 || (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) ||
                       (c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] > 0x8f);
        size_t take = strange ? 1 : n;
        if (used + take >= METRIC_MAX_VALUE) {
            break;
        }
        memcpy(out + used, strange ? (const void *)"?" : (const void *)c, take);
        used += take;
        c += take;
    }
    out[used] = '\0';
}

// The series of these values; made if `make` and there is room, else "other" or NULL. With the mutex held.
static struct series *find(struct metrics *metrics, uint32_t metric, const char *const *values, bool make)
{
    const struct metric_info *info = &metrics->infos[metric];
    uint32_t labels = n_labels(info);
    char wanted[METRIC_MAX_LABELS][METRIC_MAX_VALUE];
    for (uint32_t k = 0; k < labels; k++) {
        copy_value(wanted[k], values ? values[k] : NULL);
    }
    struct series *all = &metrics->series[(size_t)metric * metrics->n_series], *spare = NULL;
    for (uint32_t i = 0; i < metrics->n_series; i++) {
        bool same = all[i].used;
        for (uint32_t k = 0; same && k < labels; k++) {
            same = strcmp(all[i].values[k], wanted[k]) == 0;
        }
        if (same) {
            return &all[i];
        }
        if (!all[i].used && i + 1 < metrics->n_series && !spare) {
            spare = &all[i];
        }
    }
    if (!make) {
        return NULL;
    }
    if (!spare) {
        spare = &all[metrics->n_series - 1];
        for (uint32_t k = 0; k < labels; k++) {
            memcpy(wanted[k], other, sizeof other);
        }
        if (spare->used) {
            return spare;
        }
    }
    *spare = (struct series){.used = true};
    memcpy(spare->values, wanted, sizeof wanted[0] * labels);
    return spare;
}

void metric_add(struct metrics *metrics, uint32_t metric, const char *const *values, double amount)
{
    if (metric >= metrics->n_infos || metrics->infos[metric].kind == METRIC_HISTOGRAM || !isfinite(amount) ||
        (metrics->infos[metric].kind == METRIC_COUNTER && amount < 0)) {
        return;
    }
    graft_mutex_lock(metrics->mutex);
    find(metrics, metric, values, true)->value += amount;
    graft_mutex_unlock(metrics->mutex);
}

void metric_set(struct metrics *metrics, uint32_t metric, const char *const *values, double value)
{
    if (metric >= metrics->n_infos || metrics->infos[metric].kind == METRIC_HISTOGRAM) {
        return;
    }
    graft_mutex_lock(metrics->mutex);
    find(metrics, metric, values, true)->value = value;
    graft_mutex_unlock(metrics->mutex);
}

void metric_observe(struct metrics *metrics, uint32_t metric, const char *const *values, double value)
{
    if (metric >= metrics->n_infos || metrics->infos[metric].kind != METRIC_HISTOGRAM || !isfinite(value)) {
        return;
    }
    const struct metric_info *info = &metrics->infos[metric];
    uint32_t bucket = 0;
    while (bucket < info->n_bounds && value > info->bounds[bucket]) {
        bucket++;
    }
    graft_mutex_lock(metrics->mutex);
    struct series *series = find(metrics, metric, values, true);
    series->buckets[bucket]++;
    series->count++;
    series->value += value;
    graft_mutex_unlock(metrics->mutex);
}

void metric_drop(struct metrics *metrics, uint32_t metric, const char *const *values)
{
    if (metric >= metrics->n_infos) {
        return;
    }
    graft_mutex_lock(metrics->mutex);
    struct series *series = find(metrics, metric, values, false);
    if (series) {
        *series = (struct series){.used = false};
    }
    graft_mutex_unlock(metrics->mutex);
}

double metric_value(struct metrics *metrics, uint32_t metric, const char *const *values)
{
    if (metric >= metrics->n_infos) {
        return 0;
    }
    graft_mutex_lock(metrics->mutex);
    const struct series *series = find(metrics, metric, values, false);
    double value = series ? series->value : 0;
    graft_mutex_unlock(metrics->mutex);
    return value;
}

// ---- text ----

struct text {
    char *out;
    size_t room, used;
    bool full;
};

GRAFT_PRINTF(2, 3) static void say(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = text->full ? -1 : vsnprintf(text->out + text->used, text->room - text->used, format, arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n >= text->room - text->used) {
        text->full = true;
    } else {
        text->used += (size_t)n;
    }
}

// Backslash and line break, in label values quotation marks too.
static void say_escaped(struct text *text, const char *value, bool quotes)
{
    for (; *value; value++) {
        if (*value == '\\' || (quotes && *value == '"')) {
            say(text, "\\%c", *value);
        } else if (*value == '\n') {
            say(text, "\\n");
        } else {
            say(text, "%c", *value);
        }
    }
}

struct number {
    char text[NUMBER_BYTES];
};

// The shortest decimal that reads back as the same double.
static struct number number(double value)
{
    struct number out;
    if (isnan(value)) {
        return (struct number){.text = "NaN"};
    }
    if (isinf(value)) {
        snprintf(out.text, sizeof out.text, "%s", value > 0 ? "+Inf" : "-Inf");
        return out;
    }
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(out.text, sizeof out.text, "%.*g", digits, value);
        double back = 0;
        if (sscanf(out.text, "%lf", &back) == 1 && !(back < value) && !(back > value)) {
            break;
        }
    }
    return out;
}

// NAME{label="value",le="..."}
static void say_series(struct text *text, const struct metric_info *info, const char *suffix, const struct series *series,
                       const char *le)
{
    uint32_t labels = n_labels(info);
    say(text, "%s%s", info->name, suffix);
    for (uint32_t k = 0; k < labels; k++) {
        say(text, "%s%s=\"", k ? "," : "{", info->labels[k]);
        say_escaped(text, series->values[k], true);
        say(text, "\"");
    }
    if (le) {
        say(text, "%sle=\"%s\"", labels ? "," : "{", le);
    }
    say(text, "%s ", labels || le ? "}" : "");
}

static void say_histogram(struct text *text, const struct metric_info *info, const struct series *series)
{
    uint64_t sum = 0;
    for (uint32_t b = 0; b <= info->n_bounds; b++) {
        sum += series->buckets[b];
        struct number bound = b < info->n_bounds ? number(info->bounds[b]) : number(INFINITY);
        say_series(text, info, "_bucket", series, bound.text);
        say(text, "%" PRIu64 "\n", sum);
    }
    say_series(text, info, "_sum", series, NULL);
    say(text, "%s\n", number(series->value).text);
    say_series(text, info, "_count", series, NULL);
    say(text, "%" PRIu64 "\n", series->count);
}

size_t metrics_render(struct metrics *metrics, char *out, size_t bytes)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    struct text text = {.out = out, .room = bytes, .full = bytes == 0};
    graft_mutex_lock(metrics->mutex);
    for (uint32_t i = 0; i < metrics->n_infos; i++) {
        const struct metric_info *info = &metrics->infos[i];
        say(&text, "# HELP %s ", info->name);
        say_escaped(&text, info->help, false);
        say(&text, "\n# TYPE %s %s\n", info->name, kinds[info->kind]);
        for (uint32_t k = 0; k < metrics->n_series && !text.full; k++) {
            const struct series *series = &metrics->series[(size_t)i * metrics->n_series + k];
            if (series->used && info->kind == METRIC_HISTOGRAM) {
                say_histogram(&text, info, series);
            } else if (series->used) {
                say_series(&text, info, "", series, NULL);
                say(&text, "%s\n", number(series->value).text);
            }
        }
    }
    graft_mutex_unlock(metrics->mutex);
    return text.full ? 0 : text.used;
}

size_t metrics_bytes(struct metrics *metrics)
{
    size_t bytes = 1;
    graft_mutex_lock(metrics->mutex);
    for (uint32_t i = 0; i < metrics->n_infos; i++) {
        const struct metric_info *info = &metrics->infos[i];
        size_t name = strlen(info->name), line = name + 2 * NUMBER_BYTES + 32, used = 0;
        for (uint32_t k = 0; k < n_labels(info); k++) {
            line += strlen(info->labels[k]) + 8 + (size_t)2 * METRIC_MAX_VALUE; // every byte escaped
        }
        for (uint32_t k = 0; k < metrics->n_series; k++) {
            used += metrics->series[(size_t)i * metrics->n_series + k].used;
        }
        bytes +=
            2 * name + 2 * strlen(info->help) + 64 + used * line * (info->kind == METRIC_HISTOGRAM ? info->n_bounds + 3 : 1);
    }
    graft_mutex_unlock(metrics->mutex);
    return bytes;
}
