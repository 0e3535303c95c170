// SPDX-License-Identifier: Apache-2.0
// graft merge --adapter-out: several adapters into one; and -f: the same, or a merge into the base, as a recipe says.
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "platform/plat.h"

#include "tools/merge.h"
#include "tools/recipe.h"

static volatile sig_atomic_t stopped;

static void on_interrupt(void)
{
    stopped = 1;
}

static bool show_progress(void *user, uint64_t done, uint64_t total)
{
    progress_show(user, done, total, "");
    return !stopped;
}

bool merge_is_combine(const struct options *options)
{
    return options->file || options->adapter_out || options->method || options->density > 0 || options->sign_method ||
           options->svd_rank > 0 || options->svd_clamp > 0 || options->dtype;
}

static void print_report(const struct graft_combine_report *report, const struct graft_combine_summary *sum,
                         const struct graft_memory_use *use)
{
    printf("%-42s %8s %6s %10s %10s %10s\n", "module", "adapters", "rank", "bytes", "norm", "error");
    for (uint32_t i = 0; i < sum->n_modules; i++) {
        struct graft_combine_module m;
        if (graft_combine_module(report, i, &m) == GRAFT_OK) {
            printf("%-42s %8u %6u %10s %10.4g %10.2e\n", m.name, m.n_adapters, m.rank, bytes_text(m.bytes).text, m.norm,
                   m.error);
        }
    }
    printf("%-42s %8s %6u %10s %10.4g %10.2e\n", "all of them", "", sum->rank, bytes_text(sum->bytes).text, sum->norm,
           sum->error);
    printf("method %s, computed tensors %s; combined in %.1f s, written in %.1f s; at most %s of memory\n", sum->method,
           sum->dtype, (double)sum->combine_ns * 1e-9, (double)sum->write_ns * 1e-9, bytes_text(use->peak_bytes).text);
}

static json_t *report_json(const struct adapter_spec *specs, const struct graft_combine_params *params, const char *out,
                           const struct graft_combine_report *report, const struct graft_combine_summary *sum,
                           const struct graft_memory_use *use)
{
    json_t *adapters = json_array(), *modules = json_array();
    for (uint32_t i = 0; i < params->n_adapters; i++) {
        json_t *adapter = json_pack("{s:o, s:o, s:f}", "name", json_text(specs[i].name, strlen(specs[i].name)), "path",
                                    json_text(specs[i].path, strlen(specs[i].path)), "weight", params->adapters[i].weight);
        double density = params->adapters[i].density > 0 ? params->adapters[i].density : params->density;
        if (density > 0) {
            json_object_set_new(adapter, "density", json_real(density));
        }
        json_array_append_new(adapters, adapter);
    }
    for (uint32_t i = 0; i < sum->n_modules; i++) {
        struct graft_combine_module m;
        if (graft_combine_module(report, i, &m) == GRAFT_OK) {
            json_array_append_new(modules, json_pack("{s:s, s:I, s:I, s:I, s:f, s:f}", "name", m.name, "adapters",
                                                     (json_int_t)m.n_adapters, "rank", (json_int_t)m.rank, "bytes",
                                                     (json_int_t)m.bytes, "norm", m.norm, "error", m.error));
        }
    }
    json_t *json =
        json_pack("{s:s, s:s, s:o, s:o, s:o, s:{s:I, s:I, s:I, s:I, s:f, s:f}, s:{s:f, s:f}}", "method", sum->method, "dtype",
                  sum->dtype, "out", json_text(out, strlen(out)), "adapters", adapters, "modules", modules, "all", "modules",
                  (json_int_t)sum->n_modules, "rank", (json_int_t)sum->rank, "parameters", (json_int_t)sum->n_parameters,
                  "bytes", (json_int_t)sum->bytes, "norm", sum->norm, "error", sum->error, "time", "combine_seconds",
                  (double)sum->combine_ns * 1e-9, "write_seconds", (double)sum->write_ns * 1e-9);
    json_object_set_new(json, "memory", json_memory(use));
    return json;
}

static int combine(const struct options *options, const struct adapter_spec *specs, const struct graft_combine_params *given,
                   const char *out)
{
    struct session session = {0};
    struct graft_combine_params params = *given;
    struct graft_combine_report *report = NULL;
    struct graft_combine_summary sum;
    struct graft_memory_use use;
    struct progress progress;
    int code = session_context(&session, options);
    if (code != EXIT_GOOD) {
        return code;
    }
    params.progress = show_progress;
    params.progress_user = &progress;
    system_on_interrupt(on_interrupt);
    progress_begin(&progress, "Combining");
    enum graft_status status = graft_combine(session.ctx, out, &params, &report);
    progress_end(&progress);
    system_on_interrupt(NULL);
    graft_ctx_memory(session.ctx, &use);
    if (status != GRAFT_OK) {
        char what[PATH_BYTES + 64];
        snprintf(what, sizeof what, "%.*s cannot be made", PATH_BYTES, out);
        code = error_status(status, what);
    } else {
        graft_combine_summarize(report, &sum);
        if (options->json) {
            code = print_json(report_json(specs, &params, out, report, &sum, &use));
        } else {
            print_report(report, &sum, &use);
        }
    }
    graft_combine_report_free(&report);
    session_close(&session);
    return code;
}

// -m is optional here: only a base that was named is read.
static int find_base(const char *given, char out[PATH_BYTES])
{
    out[0] = 0;
    return given && *given ? model_find(given, out) : EXIT_GOOD;
}

static int combine_options(const struct options *options)
{
    struct adapter_spec *specs = get_memory(OPTION_TEXTS_ITEMS, sizeof *specs);
    struct graft_combine_adapter adapters[OPTION_TEXTS_ITEMS] = {{0}};
    char base[PATH_BYTES];
    for (uint32_t i = 0; i < options->adapters.count; i++) {
        adapter_spec_parse(options->adapters.values[i], &specs[i]);
        adapters[i] = (struct graft_combine_adapter){.path = specs[i].path, .weight = (double)specs[i].weight};
    }
    int code = find_base(options->model, base);
    if (code == EXIT_GOOD) {
        code = combine(options, specs,
                       &(struct graft_combine_params){.size = sizeof(struct graft_combine_params),
                                                      .adapters = adapters,
                                                      .n_adapters = options->adapters.count,
                                                      .method = options->method,
                                                      .density = options->density,
                                                      .majority_sign_method = options->sign_method,
                                                      .seed = (uint64_t)options->seed,
                                                      .svd_rank = (uint32_t)options->svd_rank,
                                                      .svd_clamp = options->svd_clamp,
                                                      .dtype = options->dtype,
                                                      .base = base[0] ? base : NULL},
                       options->adapter_out);
    }
    free(specs);
    return code;
}

static const char *or_null(const char *text)
{
    return *text ? text : NULL;
}

static int combine_recipe(const struct options *options, const struct recipe *recipe)
{
    struct graft_combine_adapter adapters[GRAFT_COMBINE_MAX_ADAPTERS];
    char base[PATH_BYTES];
    const char *out = options->adapter_out ? options->adapter_out : recipe->out;
    if (options->out || !*out) {
        return error_usage(options->out ? "-o is the place for a merged model" : "there is no place for the adapter",
                           "this recipe makes one adapter of several", "--adapter-out PATH, or output: in the recipe");
    }
    if (recipe->keep_effect > 0) {
        return error_usage("the recipe has a parameter without effect", "keep_effect belongs to merge_method: task_arithmetic",
                           "the recipe without keep_effect");
    }
    for (uint32_t i = 0; i < recipe->n_adapters; i++) {
        adapters[i] = (struct graft_combine_adapter){
            .path = recipe->adapters[i].path, .weight = (double)recipe->adapters[i].weight, .density = recipe->densities[i]};
    }
    int code = find_base(options->model ? options->model : recipe->base, base);
    if (code != EXIT_GOOD) {
        return code;
    }
    return combine(options, recipe->adapters,
                   &(struct graft_combine_params){.size = sizeof(struct graft_combine_params),
                                                  .adapters = adapters,
                                                  .n_adapters = recipe->n_adapters,
                                                  .method = recipe->method,
                                                  .density = recipe->density,
                                                  .majority_sign_method = or_null(recipe->sign),
                                                  .seed = (uint64_t)recipe->seed,
                                                  .svd_rank = (uint32_t)recipe->svd_rank,
                                                  .svd_clamp = recipe->svd_clamp,
                                                  .dtype = or_null(recipe->dtype),
                                                  .base = or_null(base)},
                   out);
}

// The same as options: -m, -o, --adapter, --type.
static int merge_into_base(const struct options *options, const struct recipe *recipe)
{
    struct options merged = *options;
    char(*texts)[PATH_BYTES + 128] = get_memory(GRAFT_COMBINE_MAX_ADAPTERS, sizeof *texts);
    bool density = recipe->density > 0;
    for (uint32_t i = 0; i < recipe->n_adapters; i++) {
        density |= recipe->densities[i] > 0;
        snprintf(texts[i], sizeof texts[i], "%s=%s:%.9g", recipe->adapters[i].name, recipe->adapters[i].path,
                 (double)recipe->adapters[i].weight);
        merged.adapters.values[merged.adapters.count++] = texts[i];
    }
    merged.file = NULL;
    merged.model = options->model ? options->model : or_null(recipe->base);
    merged.out = options->out ? options->out : or_null(recipe->out);
    merged.merge_type = *recipe->dtype ? recipe->dtype : options->merge_type;
    merged.keep_effect = recipe->keep_effect > 0 ? recipe->keep_effect : options->keep_effect;
    int code;
    if (options->adapter_out || density || recipe->seed || recipe->svd_rank || recipe->svd_clamp > 0 || *recipe->sign) {
        code = error_usage("this recipe merges into the base",
                           "--adapter-out and the parameters of other methods have no effect", "another merge_method, or -o");
    } else {
        code = verb_MERGE(&merged);
    }
    free(texts);
    return code;
}

int merge_combine(const struct options *options)
{
    bool others = options->method || options->density > 0 || options->sign_method || options->svd_rank > 0 ||
                  options->svd_clamp > 0 || options->dtype;
    if (!options->file) {
        if (!options->adapter_out) {
            return error_usage("there is no place for the adapter", "--method and its options make one adapter of several",
                               "--adapter-out PATH");
        }
        if (options->out || options->eval_tokens) {
            return error_usage("-o and --eval have no effect here", "--adapter-out makes an adapter, not a model",
                               "one of the two");
        }
        if (options->adapters.count == 0) {
            return error_usage("there is nothing to combine", "no --adapter was given", "--adapter FOLDER");
        }
        return combine_options(options);
    }
    if (others || options->adapters.count > 0 || options->seed != 0) {
        return error_usage("two places say what to merge", "adapters, method and its parameters stand in the recipe",
                           "the recipe alone, with -m, -o or --adapter-out where they differ");
    }
    struct recipe *recipe = get_memory(1, sizeof *recipe);
    int code = recipe_read(options->file, recipe);
    if (code == EXIT_GOOD) {
        code =
            strcmp(recipe->method, "task_arithmetic") == 0 ? merge_into_base(options, recipe) : combine_recipe(options, recipe);
    }
    free(recipe);
    return code;
}
