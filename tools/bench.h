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

struct bench_test {
    uint32_t n_prompt, n_gen, n_seq;
    double *samples; // [repetitions] tokens per second, as they were measured
    uint32_t n_samples;
    double median, least, most;
    double share;                        // of the device's own read bandwidth; negative: unknown
    struct graft_device_counters counts; // of all counted runs
    uint64_t tokens;                     // of all counted runs
    struct bench_stage *stages;
    uint32_t n_stages;
};

struct bench {
    struct session session;
    struct bench_test *tests;
    uint32_t n_tests;
    double bandwidth; // bytes per second; 0: unknown
    bool timed;
};

json_t *bench_json(const struct bench *bench, bool exact);
void bench_markdown(const struct bench *bench);
void bench_csv(const struct bench *bench);

#endif
