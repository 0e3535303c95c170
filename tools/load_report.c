// SPDX-License-Identifier: Apache-2.0
// What came of a load test, as a table and as JSON.
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "tools/load.h"

void samples_add(struct samples *samples, uint64_t at_ns, uint64_t value_ns)
{
    if (samples->count == samples->room) {
        samples->room = 2 * samples->room + 64;
        samples->values = grow_memory(samples->values, samples->room, sizeof *samples->values);
    }
    samples->values[samples->count++] = (struct sample){at_ns, value_ns};
}

static int by_value(const void *a, const void *b)
{
    const struct sample *x = a, *y = b;
    return (x->value_ns > y->value_ns) - (x->value_ns < y->value_ns);
}

void samples_sort(struct samples *samples)
{
    if (samples->count > 1) {
        qsort(samples->values, samples->count, sizeof *samples->values, by_value);
    }
}

double samples_quantile_ms(const struct samples *samples, double share)
{
    if (!samples->count) {
        return 0;
    }
    size_t i = (size_t)ceil(share * (double)samples->count);
    return (double)samples->values[i ? i - 1 : 0].value_ns * 1e-6;
}

double samples_mean_ms(const struct samples *samples)
{
    double sum = 0;
    for (size_t i = 0; i < samples->count; i++) {
        sum += (double)samples->values[i].value_ns * 1e-6;
    }
    return samples->count ? sum / (double)samples->count : 0;
}

static double step_ms(const struct load_run *run)
{
    return run->entry_steps ? (double)run->entry_ns * 1e-6 / (double)run->entry_steps : 0;
}

static double worst_steps(const struct load_run *run)
{
    return run->entry_steps ? samples_quantile_ms(&run->beside, 1) / step_ms(run) : 0;
}

static json_t *times_json(const struct samples *times)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:I}", "p50_ms", samples_quantile_ms(times, 0.5), "p95_ms",
                     samples_quantile_ms(times, 0.95), "p99_ms", samples_quantile_ms(times, 0.99), "max_ms",
                     samples_quantile_ms(times, 1), "mean_ms", samples_mean_ms(times), "count", (json_int_t)times->count);
}

json_t *load_json(const struct load_run *run, double seconds)
{
    json_t *adapters = json_array();
    for (uint32_t i = 0; i < run->n_adapters; i++) {
        json_array_append_new(adapters,
                              json_pack("{s:s, s:I, s:o}", "adapter", run->adapters[i], "answer_tokens",
                                        (json_int_t)run->adapter_tokens[i], "first_token", times_json(&run->adapter_first[i])));
    }
    const struct options *o = run->options;
    json_t *out = json_pack("{s:I, s:f, s:I, s:I, s:I, s:f, s:I, s:I, s:f, s:f, s:f, s:f, s:o, s:o, s:o, s:o}", "streams",
                            (json_int_t)o->load_streams, "rate", o->load_rate, "ok", (json_int_t)run->ok, "good",
                            (json_int_t)run->good, "failed", (json_int_t)run->failed, "seconds", seconds, "prompt_tokens",
                            (json_int_t)run->prompt_tokens, "answer_tokens", (json_int_t)run->tokens, "tokens_per_second",
                            (double)run->tokens / seconds, "goodput_tokens_per_second", (double)run->good_tokens / seconds,
                            "requests_per_second", (double)run->ok / seconds, "good_requests_per_second",
                            (double)run->good / seconds, "first_token", times_json(&run->first), "between_tokens",
                            times_json(&run->between), "whole_answer", times_json(&run->whole), "adapters", adapters);
    if (out && o->load_idle + o->load_trickle > 0) {
        json_object_set_new(out, "crowd",
                            json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "idle", (json_int_t)o->load_idle, "trickling",
                                      (json_int_t)o->load_trickle, "open", (json_int_t)run->crowd.open, "opened",
                                      (json_int_t)run->crowd.opened, "closed_by_server", (json_int_t)run->crowd.closed,
                                      "refused", (json_int_t)run->crowd.refused));
    }
    if (out && o->load_long) {
        json_object_set_new(out, "long_prompts",
                            json_pack("{s:I, s:I, s:I, s:o, s:o, s:f, s:f}", "words", (json_int_t)o->load_long, "count",
                                      (json_int_t)run->n_long, "prompt_tokens", (json_int_t)run->long_tokens, "entry",
                                      times_json(&run->entries), "between_tokens_beside", times_json(&run->beside), "step_ms",
                                      step_ms(run), "worst_gap_steps", worst_steps(run)));
    }
    return out;
}

static void print_times(const char *name, const struct samples *times)
{
    printf("  %-20s %10.1f %10.1f %10.1f %10.1f ms  (%zu)\n", name, samples_quantile_ms(times, 0.5),
           samples_quantile_ms(times, 0.95), samples_quantile_ms(times, 0.99), samples_quantile_ms(times, 1), times->count);
}

void load_print(const struct load_run *run, double seconds)
{
    const struct options *o = run->options;
    printf("%" PRIu64 " answers, %" PRIu64 " failed, in %.1f s; %" PRIu64 " prompt tokens, %" PRIu64 " answer tokens\n",
           run->ok, run->failed, seconds, run->prompt_tokens, run->tokens);
    printf("goodput %.1f tokens/s, %.2f requests/s", (double)run->good_tokens / seconds, (double)run->good / seconds);
    if (o->load_first_limit > 0 || o->load_between_limit > 0) {
        printf(" (%" PRIu64 " of %" PRIu64 " answers within the limits)", run->good, run->ok);
    }
    printf("\n  %-20s %10s %10s %10s %10s\n", "", "p50", "p95", "p99", "max");
    print_times("first token", &run->first);
    print_times("between tokens", &run->between);
    print_times("whole answer", &run->whole);
    for (uint32_t i = 0; i < run->n_adapters && run->n_adapters > 1; i++) {
        char name[40];
        snprintf(name, sizeof name, "first, %.30s", run->adapters[i]);
        print_times(name, &run->adapter_first[i]);
    }
    if (o->load_idle + o->load_trickle > 0) {
        printf("beside them %u connections were open at the end; the server closed %" PRIu64 " of %" PRIu64 "\n",
               run->crowd.open, run->crowd.closed, run->crowd.opened);
    }
    if (o->load_long) {
        printf("%" PRIu64 " long prompts entered beside them, %" PRIu64 " tokens in all\n", run->n_long, run->long_tokens);
        print_times("entry", &run->entries);
        print_times("between, beside them", &run->beside);
        printf("  worst gap %.1f ms = %.2f steps of %.1f ms\n", samples_quantile_ms(&run->beside, 1), worst_steps(run),
               step_ms(run));
    }
}
