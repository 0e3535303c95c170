// SPDX-License-Identifier: Apache-2.0
// The inside of graft load-test: load_test.c asks and keeps times, load_report.c prints them, load_plot.c draws them.
#ifndef GRAFT_TOOLS_LOAD_H
#define GRAFT_TOOLS_LOAD_H

#include <pthread.h>

#include "tools/load_crowd.h"
#include "tools/tool.h"

enum { LOAD_ADAPTERS = 64 };

// A time that was measured, and when: nanoseconds, at_ns of graft's clock.
struct sample {
    uint64_t at_ns, value_ns;
};
struct samples {
    struct sample *values;
    size_t count, room;
};
void samples_add(struct samples *samples, uint64_t at_ns, uint64_t value_ns);
// By value, the smallest first: what the functions below need.
void samples_sort(struct samples *samples);
// The smallest value that at least this share is not above (nearest rank); milliseconds, 0 without any.
double samples_quantile_ms(const struct samples *samples, double share);
double samples_mean_ms(const struct samples *samples);

struct load_run {
    const struct options *options;
    struct client_place place;
    const char *adapters[LOAD_ADAPTERS];
    uint32_t n_adapters;
    uint64_t begin_ns, end_ns; // no request begins behind end_ns; 0 = no such time
    pthread_mutex_t mutex;     // all below
    uint64_t next, n_requests, random, arrival_ns;
    uint64_t ok, good, failed, tokens, good_tokens, prompt_tokens, last_ns; // good: within the limits
    struct samples first, between, whole; // at: when the request was asked, when the token came, when it was asked
    struct samples adapter_first[LOAD_ADAPTERS];
    uint64_t adapter_tokens[LOAD_ADAPTERS];
    struct crowd_counts crowd; // of --idle and --trickle
    char why[256];             // of the first failure
    int status;
    // Of --long-words: prompts that enter beside the others, which are not counted above.
    bool streams_ended;
    struct samples entries;         // from asking to the first token, or to the end of the run; at: when it was asked
    struct samples beside;          // times between tokens during such an entry; made at the end
    uint64_t n_long, long_tokens;   // whole entries, and tokens of their prompts
    uint64_t entry_steps, entry_ns; // steps of the engine during entries, and the time they took
};

json_t *load_json(const struct load_run *run, double seconds);
void load_print(const struct load_run *run, double seconds);
// Write the run as an SVG picture; prints an error and returns the exit code.
int load_plot(const struct load_run *run, double seconds, const char *path);

#endif
