// SPDX-License-Identifier: Apache-2.0
// graft bench: rates of prompts and generation, interleaved repetitions, counters, share of bandwidth, time by kernel.
#include "tools/bench.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "platform/plat.h"

enum { MOST_STAGES = 16384, PAGE_MARGIN = 256 };

// One run of a test: its sequences start empty.
struct runner {
    struct bench *bench;
    struct graft_seq **seqs;
    uint32_t n_seqs;
    struct graft_row *rows; // [n_batch]
    uint64_t random;
};

// Tokens to feed: which ones makes no difference to the time. xorshift64*.
static int32_t random_token(struct runner *runner)
{
    runner->random ^= runner->random >> 12;
    runner->random ^= runner->random << 25;
    runner->random ^= runner->random >> 27;
    return (int32_t)((runner->random * 2685821657736338717u >> 33) % runner->bench->session.info.n_vocab);
}

static enum graft_status run_prompt(struct runner *runner, uint32_t tokens)
{
    const uint32_t most = runner->bench->session.info.n_batch;
    for (uint32_t done = 0; done < tokens;) {
        uint32_t n = tokens - done < most ? tokens - done : most;
        for (uint32_t i = 0; i < n; i++) {
            runner->rows[i] = (struct graft_row){runner->seqs[0], random_token(runner), done + i + 1 == tokens};
        }
        enum graft_status status = graft_decode(runner->bench->session.model, runner->rows, n, GRAFT_WANT_CANDIDATES);
        if (status != GRAFT_OK) {
            return status;
        }
        done += n;
    }
    return GRAFT_OK;
}

static enum graft_status run_generation(struct runner *runner, uint32_t tokens, uint32_t n_seq, bool loading)
{
    struct graft_model *model = runner->bench->session.model;
    for (uint32_t step = 0; step < tokens; step++) {
        for (uint32_t i = 0; i < n_seq; i++) {
            runner->rows[i] = (struct graft_row){runner->seqs[i], random_token(runner), true};
        }
        enum graft_status status = loading ? bench_load_on(runner->bench) : GRAFT_OK;
        status = status != GRAFT_OK ? status : graft_decode(model, runner->rows, n_seq, GRAFT_WANT_CANDIDATES);
        for (uint32_t i = 0; i < n_seq && status == GRAFT_OK; i++) { // what a sampler would read
            struct graft_candidate candidates[64];
            uint32_t count = 64;
            status = graft_model_candidates(model, i, candidates, &count);
        }
        if (status != GRAFT_OK) {
            return status;
        }
    }
    return GRAFT_OK;
}

static void count_up(struct graft_device_counters *sum, const struct graft_device_counters *before,
                     const struct graft_device_counters *after)
{
    sum->dispatches += after->dispatches - before->dispatches;
    sum->barriers += after->barriers - before->barriers;
    sum->submissions += after->submissions - before->submissions;
    sum->recordings += after->recordings - before->recordings;
    sum->descriptor_updates += after->descriptor_updates - before->descriptor_updates;
    sum->pipelines += after->pipelines - before->pipelines;
    sum->device_allocations += after->device_allocations - before->device_allocations;
}

static enum graft_status run_test(struct runner *runner, struct bench_test *test, bool counted)
{
    struct graft_device_counters before, after;
    enum graft_status status = bench_choose(runner->bench, test, runner->seqs, runner->n_seqs);
    if (status != GRAFT_OK) {
        return status;
    }
    graft_device_count(runner->bench->session.device, &before);
    uint64_t begin = graft_clock_ns();
    status = test->n_prompt ? run_prompt(runner, test->n_prompt)
                            : run_generation(runner, test->n_gen, test->n_seq, test->adapters == BENCH_LOADING);
    uint64_t ns = graft_clock_ns() - begin;
    status = status != GRAFT_OK ? status : bench_load_end(runner->bench);
    graft_device_count(runner->bench->session.device, &after);
    if (status == GRAFT_OK && counted) {
        uint64_t tokens = test->n_prompt ? test->n_prompt : (uint64_t)test->n_gen * test->n_seq;
        test->samples[test->n_samples++] = (double)tokens * 1e9 / (double)(ns ? ns : 1);
        test->tokens += tokens;
        count_up(&test->counts, &before, &after);
    }
    return status;
}

// Sum the stages of the last run of `test` by kernel, the longest first.
static enum graft_status read_stages(struct bench *bench, struct bench_test *test)
{
    struct graft_stage *stages = get_memory(MOST_STAGES, sizeof *stages);
    uint32_t n_batch = bench->session.info.n_batch, count = MOST_STAGES;
    uint32_t rows = test->n_gen ? test->n_seq : test->n_prompt < n_batch ? test->n_prompt : n_batch;
    enum graft_status status = graft_model_stages(bench->session.model, rows, stages, &count);
    test->n_stages = 0;
    free(test->stages);
    test->stages = get_memory(count, sizeof *test->stages);
    for (uint32_t i = 0; status == GRAFT_OK && i < count; i++) {
        uint32_t k = 0;
        while (k < test->n_stages &&
               strncmp(test->stages[k].kernel, stages[i].kernel, sizeof test->stages[k].kernel - 1) != 0) {
            k++;
        }
        if (k == test->n_stages) {
            snprintf(test->stages[k].kernel, sizeof test->stages[k].kernel, "%s", stages[i].kernel);
            test->n_stages++;
        }
        test->stages[k].steps++;
        test->stages[k].ns += stages[i].ns;
        test->stages[k].weight_bytes += stages[i].weight_bytes;
    }
    for (uint32_t i = 1; i < test->n_stages; i++) { // by time, downwards
        struct bench_stage stage = test->stages[i];
        uint32_t k = i;
        for (; k > 0 && test->stages[k - 1].ns < stage.ns; k--) {
            test->stages[k] = test->stages[k - 1];
        }
        test->stages[k] = stage;
    }
    free(stages);
    return status;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Median of values, which stay in their order; also the least and the most.
static double median(const double *values, uint32_t count, double *least, double *most)
{
    double *sorted = get_memory(count, sizeof *sorted);
    memcpy(sorted, values, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_value);
    double middle = count == 0 ? 0 : count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
    *least = count ? sorted[0] : 0;
    *most = count ? sorted[count - 1] : 0;
    free(sorted);
    return middle;
}

static void summarize_streamed(const struct bench *bench, struct bench_streamed *streamed)
{
    uint32_t n = streamed->n_samples;
    double *copy = get_memory(3 * (size_t)n, sizeof *copy), *compute = copy + n, *token = compute + n, least, most;
    struct graft_stream_times *out = &streamed->median;
    for (uint32_t i = 0; i < n; i++) {
        copy[i] = streamed->samples[i].copy_s;
        compute[i] = streamed->samples[i].compute_s;
        token[i] = streamed->samples[i].token_s;
    }
    out->copy_s = median(copy, n, &least, &most);
    out->compute_s = median(compute, n, &least, &most);
    out->token_s = median(token, n, &least, &most);
    free(copy);
    double slower = out->copy_s > out->compute_s ? out->copy_s : out->compute_s;
    streamed->share = out->token_s > 0 ? slower / out->token_s : 0;
    if (bench->session.device_info.kind == GRAFT_DEVICE_SOFTWARE) {
        double both = out->compute_s + out->copy_s / graft_cpu_count();
        streamed->processors_share = out->token_s > 0 ? (both > slower ? both : slower) / out->token_s : 0;
    }
}

static void summarize(struct bench *bench)
{
    if (bench->streamed.n_samples) {
        summarize_streamed(bench, &bench->streamed);
    }
    for (uint32_t i = 0; i < bench->n_tests; i++) {
        struct bench_test *test = &bench->tests[i];
        test->median = median(test->samples, test->n_samples, &test->least, &test->most);
        test->share = -1;
        if (bench->bandwidth > 0 && test->n_gen > 0) { // all sequences of a step share one reading of the weights
            double steps = test->median / test->n_seq;
            test->share = (double)bench->session.info.token_weight_bytes * steps / bench->bandwidth;
        }
    }
}

// Every repetition runs each test once, and the reading kernel, so that a slow moment of the machine meets them all.
static enum graft_status measure(struct bench *bench, struct runner *runner, uint32_t repetitions)
{
    double *bandwidths = get_memory(repetitions, sizeof *bandwidths), least, most;
    uint32_t n_bandwidths = 0;
    bool knows_bandwidth = true;
    struct progress progress;
    progress_begin(&progress, "Measuring");
    uint64_t done = 0, total = ((uint64_t)repetitions + 1) * bench->n_tests;
    enum graft_status status = GRAFT_OK;
    bench->streamed.samples = get_memory(repetitions, sizeof *bench->streamed.samples);
    for (uint32_t r = 0; r <= repetitions && status == GRAFT_OK; r++) {
        if (r > 0 && knows_bandwidth) {
            enum graft_status known = graft_device_read_bandwidth(bench->session.device, 0, 3, &bandwidths[n_bandwidths]);
            n_bandwidths += known == GRAFT_OK;
            knows_bandwidth = known == GRAFT_OK;
            if (!knows_bandwidth && known != GRAFT_E_UNSUPPORTED) {
                note("the device's read bandwidth is not known: %s", graft_last_error());
            }
        }
        if (r > 0 && bench->session.info.n_streamed) {
            status = graft_model_stream_times(bench->session.model, &bench->streamed.samples[bench->streamed.n_samples]);
            bench->streamed.n_samples += status == GRAFT_OK;
        }
        for (uint32_t i = 0; i < bench->n_tests && status == GRAFT_OK; i++) {
            char suffix[48];
            snprintf(suffix, sizeof suffix, "run %" PRIu32 " of %" PRIu32, r, repetitions);
            progress_show(&progress, done++, total, suffix);
            status = run_test(runner, &bench->tests[i], r > 0);
            if (status == GRAFT_OK && bench->timed && r == repetitions) {
                status = read_stages(bench, &bench->tests[i]);
                if (status == GRAFT_E_UNSUPPORTED) {
                    note("no --stages: %s", graft_last_error());
                    bench->timed = false;
                    status = GRAFT_OK;
                }
            }
        }
    }
    progress_end(&progress);
    bench->bandwidth = median(bandwidths, n_bandwidths, &least, &most);
    free(bandwidths);
    return status;
}

static int run_all(struct bench *bench, const struct options *options)
{
    struct runner runner = {.bench = bench, .n_seqs = (uint32_t)options->n_seq, .random = 88172645463325252u};
    runner.seqs = get_memory(runner.n_seqs, sizeof *runner.seqs);
    runner.rows = get_memory(bench->session.info.n_batch, sizeof *runner.rows);
    enum graft_status status = GRAFT_OK;
    for (uint32_t i = 0; i < runner.n_seqs && status == GRAFT_OK; i++) {
        status = graft_seq_create(bench->session.model, &runner.seqs[i]);
    }
    if (status == GRAFT_OK) {
        status = measure(bench, &runner, (uint32_t)options->repetitions);
    }
    if (status == GRAFT_OK) {
        status = bench_swap(bench, runner.seqs[0]);
    }
    for (uint32_t i = 0; i < runner.n_seqs; i++) {
        if (runner.seqs[i]) {
            graft_seq_destroy(&runner.seqs[i]);
        }
    }
    free(runner.seqs);
    free(runner.rows);
    if (status != GRAFT_OK) {
        return error_status(status, "the measurement stopped");
    }
    summarize(bench);
    return EXIT_GOOD;
}

static void add_test(struct bench *bench, struct bench_test test, int64_t repetitions)
{
    test.samples = get_memory((size_t)repetitions, sizeof(double));
    bench->tests = grow_memory(bench->tests, bench->n_tests + 1, sizeof *bench->tests);
    bench->tests[bench->n_tests++] = test;
}

// One test, or with --adapters one for each way of giving them to the sequences, so that a run can compare them.
static void add_tests(struct bench *bench, uint32_t n_prompt, uint32_t n_gen, uint32_t n_seq, uint32_t n_adapters,
                      int64_t repetitions)
{
    struct bench_test test = {.n_prompt = n_prompt, .n_gen = n_gen, .n_seq = n_seq};
    if (bench->n_own == 0) {
        add_test(bench, test, repetitions);
        return;
    }
    for (test.n_seq = n_seq > 1 ? 1 : n_seq; test.n_seq <= n_seq; test.n_seq += n_seq > 1 ? n_seq - 1 : 1) {
        for (test.adapters = BENCH_NONE; test.adapters <= (test.n_seq > 1 ? BENCH_EACH : BENCH_FIRST); test.adapters++) {
            add_test(bench, test, repetitions);
        }
        if (test.n_seq == 1 && n_gen > 0 && n_adapters > 1) {
            test.adapters = BENCH_LOADING;
            add_test(bench, test, repetitions);
        }
    }
}

int verb_BENCH(const struct options *given)
{
    struct options own_options = *given, *options = &own_options;
    struct bench bench = {.timed = options->stages};
    struct graft_model_params params = session_params(options);
    uint64_t context = 0;
    if (options->synthetic && options->model) {
        return error_usage("there are two models to measure", "both -m and --synthetic were given", "one of the two");
    }
    if (options->bench_adapters) {
        int read = bench_read_adapters(&bench, options->bench_adapters, options);
        if (read != EXIT_GOOD) {
            return read;
        }
        params = session_params(options);
    }
    for (uint32_t i = 0; i < options->bench_prompt.count; i++) {
        uint32_t n = options->bench_prompt.values[i];
        add_tests(&bench, n, 0, 1, options->adapters.count, options->repetitions);
        context = n > context ? n : context;
    }
    for (uint32_t i = 0; i < options->bench_gen.count; i++) {
        uint32_t n = options->bench_gen.values[i];
        add_tests(&bench, 0, n, params.n_seq, options->adapters.count, options->repetitions);
        uint64_t need = ((uint64_t)n + PAGE_MARGIN) * params.n_seq; // each sequence has its own last page
        context = need > context ? need : context;
    }
    int code = EXIT_GOOD;
    if (bench.n_tests == 0) {
        code = error_usage("there is nothing to measure", "both -p and -n are 0", "graft bench -p 64 -n 32");
    }
    if (params.n_ctx == 0) {
        params.n_ctx = (uint32_t)context;
    }
    if (params.n_batch != 0 && params.n_batch < params.n_seq) {
        code = error_usage("these sequences cannot generate together", "-np is larger than -b", "-b %" PRIu32, params.n_seq);
    } else if (params.n_seq > 32) {
        params.n_batch = params.n_batch ? params.n_batch : params.n_seq;
    }
    if (code == EXIT_GOOD) {
        code = session_model(&bench.session, options, &params);
    }
    if (code == EXIT_GOOD) {
        code = run_all(&bench, options);
    }
    if (code == EXIT_GOOD && (options->json || strcmp(options->format, "json") == 0)) {
        code = print_json(bench_json(&bench, options->exact));
    } else if (code == EXIT_GOOD && strcmp(options->format, "csv") == 0) {
        bench_csv(&bench);
    } else if (code == EXIT_GOOD) {
        bench_markdown(&bench);
    }
    for (uint32_t i = 0; i < bench.n_tests; i++) {
        free(bench.tests[i].samples);
        free(bench.tests[i].stages);
    }
    free(bench.tests);
    free(bench.streamed.samples);
    free(bench.own);
    session_close(&bench.session);
    return code;
}
