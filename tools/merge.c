// SPDX-License-Identifier: Apache-2.0
// graft merge: adapters into a base model's file, with what survived of them.
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "platform/plat.h"

#include "tools/merge.h"
#include "tools/score.h"

static volatile sig_atomic_t interrupted;

static void on_interrupt(void)
{
    interrupted = 1;
}

static bool on_progress(void *user, uint64_t done, uint64_t total)
{
    struct progress *progress = user;
    char suffix[48];
    double seconds = (double)(graft_clock_ns() - progress->begin_ns) * 1e-9;
    snprintf(suffix, sizeof suffix, "%.0f MB/s", seconds > 0 ? (double)done / seconds * 1e-6 : 0.0);
    progress_show(progress, done, total, suffix);
    return !interrupted;
}

int merge_inputs(const struct options *options, struct merge_inputs *out)
{
    *out = (struct merge_inputs){0};
    if (!options->out) {
        return error_usage("there is no place for the merged model", "-o was not given", "-o merged.gguf");
    }
    if (options->adapters.count == 0) {
        return error_usage("there is nothing to merge", "no --adapter was given", "--adapter FOLDER");
    }
    if (options->eval_tokens && options->adapters.count > GRAFT_MAX_BLEND) {
        return error_usage("the merge cannot be compared with its adapters unmerged",
                           "more adapters than a sequence can run with were given", "at most 4, or no --eval");
    }
    int code = model_find(options->model, out->base);
    for (uint32_t i = 0; i < options->adapters.count && code == EXIT_GOOD; i++) {
        adapter_spec_parse(options->adapters.values[i], &out->specs[i]);
        out->adapters[i] = (struct graft_merge_adapter){.path = out->specs[i].path, .weight = out->specs[i].weight};
        out->n++;
    }
    return code;
}

static void print_table(const struct graft_merge_report *report, const struct graft_merge_summary *sum)
{
    printf("%-28s %-13s %10s %10s %8s %8s %9s\n", "tensor", "format", "before", "after", "change", "share", "residual");
    for (uint32_t i = 0; i < sum->n_touched; i++) {
        struct graft_merge_tensor t;
        char format[40];
        if (graft_merge_tensor(report, i, &t) != GRAFT_OK) {
            continue;
        }
        bool same = strcmp(t.type_before, t.type_after) == 0;
        snprintf(format, sizeof format, "%s%s%s", t.type_before, same ? "" : ">", same ? "" : t.type_after);
        printf("%-28s %-13s %10s %10s %8.4f %8.4f %9.4f\n", t.name, format,
               t.bytes_before ? bytes_text(t.bytes_before).text : "-", bytes_text(t.bytes_after).text, t.change, t.share,
               t.residual);
    }
    printf("%-28s %-13s %10s %10s %8.4f %8.4f %9.4f\n", "all of them", "", bytes_text(sum->touched_before).text,
           bytes_text(sum->touched_after).text, sum->change, sum->share, sum->residual);
    printf("file: %s, %s before; %" PRIu32 " of %" PRIu32 " tensors changed\n", bytes_text(sum->out_bytes).text,
           bytes_text(sum->base_bytes).text, sum->n_touched, sum->n_tensors);
}

static double seconds_of(uint64_t ns)
{
    return (double)ns * 1e-9;
}

static double rate_of(const struct graft_merge_summary *sum)
{
    return sum->merge_ns ? (double)sum->base_bytes / seconds_of(sum->merge_ns) * 1e-6 : 0;
}

static void print_times(const struct graft_merge_summary *sum, const struct graft_memory_use *use)
{
    if (sum->decide_ns) {
        printf("formats chosen in %.1f s; ", seconds_of(sum->decide_ns));
    }
    printf("merged in %.1f s (%.0f MB/s of the base, %" PRIu32 " threads), synced in %.1f s; at most %s of memory\n",
           seconds_of(sum->merge_ns), rate_of(sum), sum->n_threads, seconds_of(sum->sync_ns), bytes_text(use->peak_bytes).text);
}

static void print_divergence(const char *what, const struct divergence *d)
{
    double n = d->rows ? (double)d->rows : 1;
    printf("KL(unmerged || %s): mean %.3g, largest %.3g over %" PRIu64
           " tokens; the most likely token is the same for %.1f %%\n",
           what, d->sum / n, d->most, d->rows, 100 * (double)d->same_best / n);
}

static json_t *divergence_json(const struct divergence *d)
{
    double n = d->rows ? (double)d->rows : 1;
    return json_pack("{s:f, s:f, s:I, s:f}", "mean", d->sum / n, "largest", d->most, "tokens", (json_int_t)d->rows,
                     "same_most_likely", (double)d->same_best / n);
}

static json_t *tensors_json(const struct graft_merge_report *report, const struct graft_merge_summary *sum)
{
    json_t *out = json_array();
    for (uint32_t i = 0; i < sum->n_touched; i++) {
        struct graft_merge_tensor t;
        if (graft_merge_tensor(report, i, &t) == GRAFT_OK) {
            json_array_append_new(out, json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:f}", "name", t.name, "type_before",
                                                 t.type_before, "type_after", t.type_after, "values", (json_int_t)t.n_values,
                                                 "bytes_before", (json_int_t)t.bytes_before, "bytes_after",
                                                 (json_int_t)t.bytes_after, "change", t.change, "share", t.share, "residual",
                                                 t.residual));
        }
    }
    return out;
}

static json_t *report_json(const struct merge_inputs *inputs, const struct graft_merge_report *report,
                           const struct graft_merge_summary *sum, const struct graft_memory_use *use)
{
    json_t *adapters = json_array(), *warnings = json_array();
    for (uint32_t i = 0; i < inputs->n; i++) {
        const char *digest = "", *made_for = "";
        if (graft_merge_adapter(report, i, &digest, &made_for) == GRAFT_OK) {
            json_array_append_new(adapters, json_pack("{s:o, s:s, s:o, s:f}", "name",
                                                      json_text(inputs->specs[i].name, strlen(inputs->specs[i].name)), "digest",
                                                      digest, "made_for", json_text(made_for, strlen(made_for)), "weight",
                                                      (double)inputs->specs[i].weight));
        }
    }
    for (uint32_t i = 0; i < sum->n_warnings; i++) {
        const char *text = graft_merge_warning(report, i);
        json_array_append_new(warnings, json_text(text, strlen(text)));
    }
    json_t *out =
        json_pack("{s:{s:s, s:s, s:I}, s:o, s:o, s:{s:I, s:I}, s:{s:I, s:I, s:I, s:I, s:f, s:f, s:f}}", "base", "digest",
                  sum->base_digest, "type", sum->base_type, "bytes", (json_int_t)sum->base_bytes, "adapters", adapters,
                  "tensors", tensors_json(report, sum), "out", "bytes", (json_int_t)sum->out_bytes, "tensors",
                  (json_int_t)sum->n_tensors, "all", "changed", (json_int_t)sum->n_touched, "below", (json_int_t)sum->n_below,
                  "bytes_before", (json_int_t)sum->touched_before, "bytes_after", (json_int_t)sum->touched_after, "change",
                  sum->change, "share", sum->share, "residual", sum->residual);
    json_object_set_new(out, "time",
                        json_pack("{s:f, s:f, s:f, s:f, s:I}", "decide_seconds", seconds_of(sum->decide_ns), "merge_seconds",
                                  seconds_of(sum->merge_ns), "sync_seconds", seconds_of(sum->sync_ns), "base_mb_per_second",
                                  rate_of(sum), "threads", (json_int_t)sum->n_threads));
    json_object_set_new(out, "memory", json_memory(use));
    json_object_set_new(out, "warnings", warnings);
    return out;
}

// The context of the merge is closed before anything is run on a device.
static int run_merge(const struct options *options, const struct merge_inputs *inputs, struct graft_merge_report **report,
                     struct graft_memory_use *use, struct session *session)
{
    struct progress progress;
    struct graft_merge_params params = {
        .size = sizeof params,
        .adapters = inputs->adapters,
        .n_adapters = inputs->n,
        .type = options->merge_type,
        .keep_effect = options->keep_effect,
        .progress = on_progress,
        .progress_user = &progress,
    };
    int code = session_context(session, options);
    if (code != EXIT_GOOD) {
        return code;
    }
    system_on_interrupt(on_interrupt);
    progress_begin(&progress, "Merging");
    enum graft_status status = graft_merge(session->ctx, inputs->base, options->out, &params, report);
    progress_end(&progress);
    system_on_interrupt(NULL);
    graft_ctx_memory(session->ctx, use);
    if (status != GRAFT_OK) {
        char what[PATH_BYTES + 64];
        snprintf(what, sizeof what, "%.*s cannot be made", PATH_BYTES, options->out);
        return error_status(status, what);
    }
    return EXIT_GOOD;
}

// The table first: the evaluation takes its time.
static int report_all(const struct options *options, const struct merge_inputs *inputs, const struct graft_merge_report *report,
                      const struct graft_memory_use *use)
{
    struct graft_merge_summary sum;
    struct merge_evaluation evaluation;
    int code = EXIT_GOOD;
    graft_merge_summarize(report, &sum);
    if (!options->json) {
        print_table(report, &sum);
        print_times(&sum, use);
        fflush(stdout);
    }
    if (options->eval_tokens) {
        code = merge_evaluate(options, &evaluation);
    }
    if (code == EXIT_GOOD && options->json) {
        json_t *json = report_json(inputs, report, &sum, use);
        if (options->eval_tokens) {
            json_object_set_new(json, "kl", divergence_json(&evaluation.merged));
            json_object_set_new(json, "kl_base", divergence_json(&evaluation.base));
        }
        return print_json(json);
    }
    if (code == EXIT_GOOD && options->eval_tokens) {
        print_divergence("merged", &evaluation.merged);
        print_divergence("base alone", &evaluation.base);
    }
    return code;
}

int verb_MERGE(const struct options *options)
{
    if (merge_is_combine(options)) {
        return merge_combine(options);
    }
    struct merge_inputs inputs;
    struct session session = {0};
    struct graft_merge_report *report = NULL;
    struct graft_memory_use use;
    int code = merge_inputs(options, &inputs);
    if (code == EXIT_GOOD && options->eval_tokens) { // before the work, not behind it
        json_t *file, *prompts;
        uint32_t longest;
        code = score_prompts(options->eval_tokens, &file, &prompts, &longest);
        json_decref(file);
    }
    if (code == EXIT_GOOD) {
        code = run_merge(options, &inputs, &report, &use, &session);
    }
    if (code == EXIT_GOOD) {
        code = report_all(options, &inputs, report, &use);
    }
    graft_merge_report_free(&report);
    session_close(&session);
    return code;
}
