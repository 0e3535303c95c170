// SPDX-License-Identifier: Apache-2.0
// Histograms of times, or of numbers of tokens, with fixed bounds, as Prometheus has them.
#ifndef GRAFT_TOOLS_SERVE_HISTOGRAM_H
#define GRAFT_TOOLS_SERVE_HISTOGRAM_H

#include <stdint.h>

struct out;

enum { HISTOGRAM_BUCKETS = 15 };
extern const double histogram_bounds[HISTOGRAM_BUCKETS]; // seconds
extern const double histogram_token_bounds[HISTOGRAM_BUCKETS];

struct histogram {
    uint64_t buckets[HISTOGRAM_BUCKETS + 1]; // not cumulative; the last: above all bounds
    uint64_t count, sum;                     // nanoseconds, or tokens
};

void histogram_add(struct histogram *histogram, uint64_t ns);
void histogram_add_tokens(struct histogram *histogram, uint64_t tokens);
void histogram_merge(struct histogram *into, const struct histogram *from);
// name_bucket, name_sum and name_count, with these labels ("a=\"b\"", or "").
void histogram_print(struct out *out, const char *name, const char *labels, const struct histogram *histogram);
void histogram_print_tokens(struct out *out, const char *name, const char *labels, const struct histogram *histogram);

#endif
