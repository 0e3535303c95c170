// SPDX-License-Identifier: Apache-2.0
// Counters, gauges and histograms with labels, rendered as Prometheus text (exposition format 0.0.4).
//
//     static const struct metric_info infos[] = {
//         {METRIC_COUNTER, "graft_requests_total", "Requests that ended.", {"adapter", "outcome"}},
//         {METRIC_HISTOGRAM, "graft_first_token_seconds", "From the request to its first token.", {"adapter"}, bounds, n}};
//     metrics_create(ctx, &metrics, infos, 2, 64);
//     metric_add(metrics, 0, (const char *[]){"finance", "stop"}, 1);
//     length = metrics_render(metrics, buffer, sizeof buffer);
//
// All memory is taken when the registry is made. Each metric has at most `series` combinations of label values; what comes
// after that is counted under the value "other" in every label, so that a client cannot grow it.
#ifndef GRAFT_TOOLS_SERVE_PROMETHEUS_H
#define GRAFT_TOOLS_SERVE_PROMETHEUS_H

#include "platform/plat.h"

enum {
    METRICS_MAX = 128,        // metrics of a registry
    METRIC_MAX_LABELS = 4,    // of a metric
    METRIC_MAX_VALUE = 96,    // bytes of a label's value; longer ones are cut between characters
    METRIC_MAX_SERIES = 1024, // of a metric
    METRIC_MAX_BOUNDS = 24    // of a histogram
};

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_info {
    enum metric_kind kind;
    const char *name, *help;               // counters end in _total; units are seconds and bytes
    const char *labels[METRIC_MAX_LABELS]; // up to a NULL
    const double *bounds;                  // of a histogram: upper bounds, growing, without +Inf
    uint32_t n_bounds;
};

struct metrics;

// infos must outlive the registry. Errors: GRAFT_E_ARGUMENT (a name or bound that Prometheus does not allow, a name twice),
// GRAFT_E_LIMIT, GRAFT_E_MEMORY, GRAFT_E_BUDGET. On failure *out is NULL.
GRAFT_MUST_CHECK enum graft_status metrics_create(struct graft_ctx *ctx, struct metrics **out, const struct metric_info *infos,
                                                  uint32_t n_infos, uint32_t series);
void metrics_destroy(struct metrics **metrics);

// `metric` is an index of infos; `values` has one text per label (NULL without labels; a NULL value is ""). All of these are
// safe from any thread and do nothing for an index or kind that is wrong.
void metric_add(struct metrics *metrics, uint32_t metric, const char *const *values, double amount); // counters: >= 0; gauges
void metric_set(struct metrics *metrics, uint32_t metric, const char *const *values, double value);  // gauges; counters that
                                                                                                     // another part counts
void metric_observe(struct metrics *metrics, uint32_t metric, const char *const *values, double value); // histograms
// Forget one combination, of an adapter that is no more.
void metric_drop(struct metrics *metrics, uint32_t metric, const char *const *values);
double metric_value(struct metrics *metrics, uint32_t metric, const char *const *values); // 0 if there is none; not histograms

// The whole text; its length, or 0 if it does not fit. A NUL stands behind. metrics_bytes says what is always enough.
size_t metrics_render(struct metrics *metrics, char *out, size_t bytes);
size_t metrics_bytes(struct metrics *metrics);

#endif
