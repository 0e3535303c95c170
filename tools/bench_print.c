// SPDX-License-Identifier: Apache-2.0
// The results of graft bench as a Markdown table, JSON or CSV.
#include <inttypes.h>
#include <string.h>

#include "tools/bench.h"

// Counters in the order they are printed: name, field of struct graft_device_counters.
#define COUNTER_MAP(X) X(dispatches) X(barriers) X(submissions) X(recordings) X(descriptor_updates)

static double per_token(const struct bench_test *test, uint64_t count)
{
    return test->tokens ? (double)count / (double)test->tokens : 0;
}

static uint64_t stage_sum(const struct bench_test *test)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < test->n_stages; i++) {
        sum += test->stages[i].ns;
    }
    return sum ? sum : 1;
}

static json_t *stages_json(const struct bench_test *test)
{
    json_t *array = json_array();
    double sum = (double)stage_sum(test);
    for (uint32_t i = 0; i < test->n_stages; i++) {
        const struct bench_stage *s = &test->stages[i];
        json_array_append_new(array, json_pack("{s:s, s:i, s:I, s:f, s:I}", "kernel", s->kernel, "steps", (int)s->steps, "ns",
                                               (json_int_t)s->ns, "share", (double)s->ns / sum, "weight_bytes",
                                               (json_int_t)s->weight_bytes));
    }
    return array;
}

// Of copying alone, bytes per second; 0: not known.
static double link_rate(const struct bench *bench)
{
    double copy_s = bench->streamed.median.copy_s;
    return copy_s > 0 ? (double)bench->session.info.stream_bytes / copy_s : 0;
}

static json_t *streamed_json(const struct bench *bench)
{
    const struct bench_streamed *s = &bench->streamed;
    return json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:o}", "layers", (json_int_t)bench->session.info.n_streamed, "bytes",
                     (json_int_t)bench->session.info.stream_bytes, "link_bytes_per_second",
                     link_rate(bench), "copy_seconds", s->median.copy_s, "compute_seconds", s->median.compute_s,
                     "token_seconds", s->median.token_s, "share", s->share, "processors_share",
                     s->processors_share > 0 ? json_real(s->processors_share) : json_null());
}

json_t *bench_json(const struct bench *bench, bool exact)
{
    const struct session *s = &bench->session;
    struct graft_memory_use use;
    graft_ctx_memory(s->ctx, &use);
    json_t *array = json_array();
    for (uint32_t i = 0; i < bench->n_tests; i++) {
        const struct bench_test *test = &bench->tests[i];
        json_t *samples = json_array(), *out = json_object();
        for (uint32_t k = 0; k < test->n_samples; k++) {
            json_array_append_new(samples, json_real(test->samples[k]));
        }
        json_object_set_new(out, "n_prompt", json_integer(test->n_prompt));
        json_object_set_new(out, "n_gen", json_integer(test->n_gen));
        json_object_set_new(out, "n_seq", json_integer(test->n_seq));
        char adapters[256];
        bench_adapters_text(bench, test, adapters, sizeof adapters);
        json_object_set_new(out, "adapters", json_text(adapters, strlen(adapters)));
        json_object_set_new(out, "swap_ms", json_real(bench->swap_ms));
        json_object_set_new(out, "loads", json_integer(bench->n_loads));
        json_object_set_new(out, "tokens_per_second", json_real(test->median));
        json_object_set_new(out, "samples", samples);
        json_object_set_new(out, "bandwidth_share", test->share < 0 ? json_null() : json_real(test->share));
#define COUNTER(name) json_object_set_new(out, #name, json_real(per_token(test, test->counts.name)));
        COUNTER_MAP(COUNTER)
#undef COUNTER
        json_object_set_new(out, "model", json_text(s->info.name, strlen(s->info.name)));
        json_object_set_new(out, "quantization", json_string(s->info.quantization));
        json_object_set_new(out, "device", json_text(s->device_info.name, strlen(s->device_info.name)));
        json_object_set_new(out, "exact", json_boolean(exact));
        json_object_set_new(out, "matrix_cores", json_boolean(s->info.matrix_cores));
        json_object_set_new(out, "activations", json_string(session_activations(s)));
        json_object_set_new(out, "imported", json_boolean(s->info.imported));
        json_object_set_new(out, "n_ctx", json_integer(s->info.n_ctx));
        json_object_set_new(out, "n_batch", json_integer(s->info.n_batch));
        json_object_set_new(out, "token_weight_bytes", json_integer((json_int_t)s->info.token_weight_bytes));
        json_object_set_new(out, "read_bandwidth", bench->bandwidth > 0 ? json_real(bench->bandwidth) : json_null());
        json_object_set_new(out, "memory", json_memory(&use));
        if (bench->streamed.n_samples) {
            json_object_set_new(out, "streamed", streamed_json(bench));
        }
        if (bench->timed) {
            json_object_set_new(out, "stages", stages_json(test));
        }
        json_array_append_new(array, out);
    }
    return array;
}

static void test_name(const struct bench_test *test, char out[32])
{
    if (test->n_prompt) {
        snprintf(out, 32, "pp%" PRIu32, test->n_prompt);
    } else {
        snprintf(out, 32, "tg%" PRIu32, test->n_gen);
    }
}

static double rate(const struct bench *bench, uint32_t n_gen, uint32_t n_seq, enum bench_adapters adapters)
{
    for (uint32_t i = 0; i < bench->n_tests; i++) {
        const struct bench_test *test = &bench->tests[i];
        if (test->n_gen == n_gen && test->n_seq == n_seq && test->adapters == adapters) {
            return test->median;
        }
    }
    return 0;
}

// --adapters: how the ways of giving adapters to the sequences compare, and what was loaded.
static void compare(const struct bench *bench)
{
    for (uint32_t i = 0; i < bench->session.n_adapters; i++) {
        struct graft_adapter_info info;
        graft_adapter_describe(bench->session.adapters[i].handle, &info);
        printf("%s%s: rank %" PRIu32 ", %s, loaded in %.1f ms\n", i ? "" : "\n", bench->session.adapters[i].name, info.rank,
               bytes_text(info.bytes).text, (double)bench->session.adapters[i].load_ns * 1e-6);
    }
    if (bench->session.n_adapters > 1) {
        printf("A token behind a swap to another of them takes %.2f ms more.\n", bench->swap_ms > 0 ? bench->swap_ms : 0.0);
    }
    for (uint32_t i = 0; i < bench->n_tests; i++) {
        const struct bench_test *test = &bench->tests[i];
        double none = rate(bench, test->n_gen, test->n_seq, BENCH_NONE), alone = rate(bench, test->n_gen, 1, BENCH_NONE),
               same = rate(bench, test->n_gen, test->n_seq, BENCH_FIRST);
        if (test->n_gen == 0 || test->adapters != BENCH_FIRST || none <= 0) {
            continue;
        }
        printf("tg%" PRIu32 ", %" PRIu32 " sequence%s: one adapter / none %.3f", test->n_gen, test->n_seq,
               test->n_seq > 1 ? "s" : "", same / none);
        if (test->n_seq > 1) {
            printf("; each its own / one for all %.3f; %" PRIu32 " sequences / 1, without adapters, %.2f",
                   rate(bench, test->n_gen, test->n_seq, BENCH_EACH) / same, test->n_seq, none / alone);
        }
        double loading = rate(bench, test->n_gen, test->n_seq, BENCH_LOADING);
        if (loading > 0) {
            printf("; beside loads of another one, end to end / without %.3f (%" PRIu32 " loads)", loading / same,
                   bench->n_loads);
        }
        puts("");
    }
}

// A token of a model whose layers are streamed, beside its two halves alone.
static void print_streamed(const struct bench *bench)
{
    const struct bench_streamed *s = &bench->streamed;
    puts("\n| streamed | a token | GB/s | copying alone, ms | computing alone, ms | both, ms | share |\n"
         "|---------:|--------:|-----:|------------------:|--------------------:|---------:|------:|");
    printf("| %" PRIu32 " of %" PRIu32 " layers | %s | %.2f | %.2f | %.2f | %.2f | %.2f |\n", bench->session.info.n_streamed,
           bench->session.info.n_layer, bytes_text(bench->session.info.stream_bytes).text, link_rate(bench) * 1e-9,
           s->median.copy_s * 1e3, s->median.compute_s * 1e3, s->median.token_s * 1e3, s->share);
    puts("\nShare: the slower of copying and computing, of the time that both take together.");
    if (s->processors_share > 0) {
        printf("Here both use the same processors; of what these allow it is %.2f.\n", s->processors_share);
    }
}

void bench_markdown(const struct bench *bench)
{
    const struct session *s = &bench->session;
    struct graft_memory_use use;
    graft_ctx_memory(s->ctx, &use);
    printf("%s (%s), %s of weights, %s per token\n%s (%s), ", s->info.name, s->info.quantization,
           bytes_text(s->info.weight_bytes).text, bytes_text(s->info.token_weight_bytes).text, s->device_info.name,
           device_kind_name(s->device_info.kind));
    if (bench->bandwidth > 0) {
        printf("reads %.2f GB/s, ", bench->bandwidth * 1e-9);
    }
    printf("weights %s, memory %s\n\n", s->info.imported ? "used in place" : "copied", bytes_text(use.peak_bytes).text);
    puts("| test | sequences | adapters | tokens/s |   min |   max | of bandwidth | dispatches | barriers | submissions | "
         "recordings | "
         "descriptor updates |");
    puts("|------|----------:|----------|---------:|------:|------:|-------------:|-----------:|---------:|------------:|------"
         "-----:|----"
         "---------------:|");
    for (uint32_t i = 0; i < bench->n_tests; i++) {
        const struct bench_test *test = &bench->tests[i];
        char name[32], share[16] = "", adapters[128];
        test_name(test, name);
        bench_adapters_text(bench, test, adapters, sizeof adapters);
        if (test->share >= 0) {
            snprintf(share, sizeof share, "%.0f %%", 100 * test->share);
        }
        printf("| %s | %" PRIu32 " | %s | %.2f | %.2f | %.2f | %s | %.1f | %.1f | %.2f | %.2f | %.2f |\n", name, test->n_seq,
               adapters, test->median, test->least, test->most, share, per_token(test, test->counts.dispatches),
               per_token(test, test->counts.barriers), per_token(test, test->counts.submissions),
               per_token(test, test->counts.recordings), per_token(test, test->counts.descriptor_updates));
    }
    puts("\nMedians; counters are per token.");
    if (bench->streamed.n_samples) {
        print_streamed(bench);
    }
    compare(bench);
    for (uint32_t i = 0; bench->timed && i < bench->n_tests; i++) {
        const struct bench_test *test = &bench->tests[i];
        char name[32];
        test_name(test, name);
        double sum = (double)stage_sum(test);
        printf("\n| %s: kernel | steps | ms | share | GB/s of weights |\n|---|---:|---:|---:|---:|\n", name);
        for (uint32_t k = 0; k < test->n_stages; k++) {
            const struct bench_stage *stage = &test->stages[k];
            printf("| %s | %" PRIu32 " | %.3f | %.1f %% | ", stage->kernel, stage->steps, (double)stage->ns * 1e-6,
                   100 * (double)stage->ns / sum);
            if (stage->weight_bytes && stage->ns) {
                printf("%.2f |\n", (double)stage->weight_bytes / (double)stage->ns);
            } else {
                puts("|");
            }
        }
    }
}

void bench_csv(const struct bench *bench)
{
    fputs("n_prompt,n_gen,n_seq,tokens_per_second,min,max,bandwidth_share", stdout);
#define COUNTER(name) fputs("," #name, stdout);
    COUNTER_MAP(COUNTER)
#undef COUNTER
    putchar('\n');
    for (uint32_t i = 0; i < bench->n_tests; i++) {
        const struct bench_test *test = &bench->tests[i];
        printf("%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%.4f,%.4f,%.4f,", test->n_prompt, test->n_gen, test->n_seq, test->median,
               test->least, test->most);
        if (test->share >= 0) {
            printf("%.4f", test->share);
        }
#define COUNTER(name) printf(",%.4f", per_token(test, test->counts.name));
        COUNTER_MAP(COUNTER)
#undef COUNTER
        putchar('\n');
    }
}
