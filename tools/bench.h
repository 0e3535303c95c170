// SPDX-License-Identifier: Apache-2.0
// What graft bench measures (bench.c) and how it is printed (bench_print.c).
#ifndef GRAFT_TOOLS_BENCH_H
#define GRAFT_TOOLS_BENCH_H

#include "tools/tool.h"

// Time of one kind of kernel in a test's last run.
struct bench_stage {
    char kernel[96];
    uint32_t steps; // steps of the plan that are of this kind
    uint64_t ns, weight_bytes;
};

// What the sequences of a test run with.
enum bench_adapters {
    BENCH_BLEND, // what --adapter says; the others: with --adapters
    BENCH_NONE,
    BENCH_FIRST,   // one for all
    BENCH_EACH,    // each its own
    BENCH_LOADING, // as BENCH_FIRST, while the last of the list is loaded again and again
};

struct bench_test {
    uint32_t n_prompt, n_gen, n_seq;
    enum bench_adapters adapters;
    double *samples; // [repetitions] tokens per second, as they were measured
    uint32_t n_samples;
    double median, least, most;
    double share;                        // of the device's own read bandwidth; negative: unknown
    struct graft_device_counters counts; // of all counted runs
    uint64_t tokens;                     // of all counted runs
    struct bench_stage *stages;
    uint32_t n_stages;
};

// A model whose layers are streamed: one for each repetition, and the medians.
struct bench_streamed {
    struct graft_stream_times *samples, median;
    uint32_t n_samples;
    // Of the token's time, what it could be at least: the slower of copying and computing. On software both take the same
    // processors: computing on all of them and copying on one; then this is what they allow.
    double share, processors_share;
};

struct bench {
    struct session session;
    struct bench_streamed streamed; // n_samples 0: nothing is streamed
    struct bench_test *tests;
    uint32_t n_tests;
    double bandwidth; // bytes per second; 0: unknown
    bool timed;
    // --adapters: which of the session's adapters each sequence has, in turn; -1: none
    int *own;
    uint32_t n_own;
    struct graft_adapter_load *load; // BENCH_LOADING: under way
    uint32_t n_loads;                // that were finished
    double swap_ms; // what a token costs more behind a change to another resident adapter
};

// bench_adapters.c: --adapters, a list with commas, as options for the session, and bench->own. Returns an exit code.
int bench_read_adapters(struct bench *bench, const char *list, struct options *options);
// Choose what the sequences of a test run with; they are empty afterwards.
enum graft_status bench_choose(const struct bench *bench, const struct bench_test *test, struct graft_seq **seqs,
                               uint32_t n_seqs);
// BENCH_LOADING: between two tokens, and behind the last one.
enum graft_status bench_load_on(struct bench *bench);
enum graft_status bench_load_end(struct bench *bench);
// Fill bench->swap_ms, if there are two adapters.
enum graft_status bench_swap(struct bench *bench, struct graft_seq *seq);
// "none", "legal", "legal, finance": for tables.
void bench_adapters_text(const struct bench *bench, const struct bench_test *test, char *out, size_t size);

json_t *bench_json(const struct bench *bench, bool exact);
void bench_markdown(const struct bench *bench);
void bench_csv(const struct bench *bench);

#endif
