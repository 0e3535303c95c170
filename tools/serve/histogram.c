// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/histogram.h"

#include "tools/serve/body.h"

const double histogram_bounds[HISTOGRAM_BUCKETS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                                    0.5,   1,      2.5,   5,    10,    30,   60};
const double histogram_token_bounds[HISTOGRAM_BUCKETS] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};

static void add(struct histogram *histogram, const double *bounds, double value)
{
    int i = 0;
    while (i < HISTOGRAM_BUCKETS && value > bounds[i]) {
        i++;
    }
    histogram->buckets[i]++;
    histogram->count++;
}

void histogram_add(struct histogram *histogram, uint64_t ns)
{
    add(histogram, histogram_bounds, (double)ns * 1e-9);
    histogram->sum += ns;
}

void histogram_add_tokens(struct histogram *histogram, uint64_t tokens)
{
    add(histogram, histogram_token_bounds, (double)tokens);
    histogram->sum += tokens;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (int i = 0; i <= HISTOGRAM_BUCKETS; i++) {
        into->buckets[i] += from->buckets[i];
    }
    into->count += from->count;
    into->sum += from->sum;
}

static void print(struct out *out, const char *name, const char *labels, const struct histogram *histogram,
                  const double *bounds, double unit)
{
    uint64_t sum = 0;
    const char *comma = *labels ? "," : "";
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++) {
        sum += histogram->buckets[i];
        out_format(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, labels, comma, bounds[i], (unsigned long long)sum);
    }
    out_format(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, labels, comma, (unsigned long long)histogram->count);
    const char *open = *labels ? "{" : "", *close = *labels ? "}" : "";
    out_format(out, "%s_sum%s%s%s %.9g\n", name, open, labels, close, (double)histogram->sum * unit);
    out_format(out, "%s_count%s%s%s %llu\n", name, open, labels, close, (unsigned long long)histogram->count);
}

void histogram_print(struct out *out, const char *name, const char *labels, const struct histogram *histogram)
{
    print(out, name, labels, histogram, histogram_bounds, 1e-9);
}

void histogram_print_tokens(struct out *out, const char *name, const char *labels, const struct histogram *histogram)
{
    print(out, name, labels, histogram, histogram_token_bounds, 1);
}
