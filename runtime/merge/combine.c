// SPDX-License-Identifier: Apache-2.0
// graft_combine from end to end: read, plan, compute module by module, write, report.
#include "runtime/merge/combine.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "loaders/adapter_parts.h"
#include "loaders/gguf.h"
#include "platform/bytes.h"
#include "platform/plat.h"
#include "runtime/adapter/fit.h"
#include "runtime/merge/lapack.h"

struct graft_combine_report {
    struct graft_ctx *ctx;
    struct graft_combine_summary summary;
    struct graft_combine_module *modules;
};

static const struct {
    const char *name;
    enum graft_type type;
} dtypes[] = {{"f32", GRAFT_TYPE_F32}, {"f16", GRAFT_TYPE_F16}, {"bf16", GRAFT_TYPE_BF16}};
enum { DTYPES = sizeof dtypes / sizeof *dtypes };

static const char *dtype_name(enum graft_type type)
{
    for (uint32_t i = 0; i < DTYPES; i++) {
        if (dtypes[i].type == type) {
            return dtypes[i].name;
        }
    }
    return "?";
}

static bool in_share(double x)
{
    return x > 0 && x <= 1;
}

static enum graft_status check_density(struct graft_combine *combine)
{
    const struct graft_combine_params *params = combine->params;
    const char *method = combine->rules->name;
    for (uint32_t i = 0; i < params->n_adapters; i++) {
        double own = params->adapters[i].density, density = own != 0 ? own : params->density;
        if (combine->rules->prune == GRAFT_PRUNE_NONE) {
            if (density != 0) {
                return graft_fail(GRAFT_E_ARGUMENT, "density is %g, but %s prunes nothing", density, method);
            }
        } else if (!in_share(density)) {
            return graft_fail(GRAFT_E_ARGUMENT, "%s needs a density above 0 and at most 1; for %s it is %g", method,
                              params->adapters[i].path, density);
        }
        combine->density[i] = density;
    }
    return GRAFT_OK;
}

static enum graft_status check_params(struct graft_combine *combine, const char *out)
{
    const struct graft_combine_params *params = combine->params;
    if (!params || params->size != sizeof *params) {
        return graft_fail(GRAFT_E_ARGUMENT, "params->size is %zu, this library has %zu", params ? params->size : 0,
                          sizeof *params);
    }
    if (!out || !*out || params->n_adapters < 1 || params->n_adapters > GRAFT_COMBINE_MAX_ADAPTERS || !params->adapters) {
        return graft_fail(GRAFT_E_ARGUMENT, "combining takes an output and 1 to %d adapters, given are %u",
                          GRAFT_COMBINE_MAX_ADAPTERS, params->n_adapters);
    }
    GRAFT_TRY(graft_combine_rules_find(params->method, &combine->rules));
    for (uint32_t i = 0; i < params->n_adapters; i++) {
        if (!params->adapters[i].path || !isfinite(params->adapters[i].weight)) {
            return graft_fail(GRAFT_E_ARGUMENT, "adapter %u has no path, or its weight is not finite", i + 1);
        }
        if (strcmp(params->adapters[i].path, out) == 0) {
            return graft_fail(GRAFT_E_ARGUMENT, "%s is an input and the output", out);
        }
    }
    GRAFT_TRY(check_density(combine));
    const char *sign = params->majority_sign_method;
    if (sign && strcmp(sign, "total") != 0 && strcmp(sign, "frequency") != 0) {
        return graft_fail(GRAFT_E_ARGUMENT, "majority_sign_method \"%s\" is not known; there are total, frequency", sign);
    }
    if (sign && !combine->rules->elect) {
        return graft_fail(GRAFT_E_ARGUMENT, "majority_sign_method is %s, but %s has no election of signs", sign,
                          combine->rules->name);
    }
    combine->elect = !combine->rules->elect                   ? GRAFT_ELECT_NONE
                     : sign && strcmp(sign, "frequency") == 0 ? GRAFT_ELECT_FREQUENCY
                                                              : GRAFT_ELECT_TOTAL;
    bool svd = combine->rules->way == GRAFT_COMBINE_SVD || combine->rules->way == GRAFT_COMBINE_DENSE;
    if (!svd && (params->svd_rank || params->svd_clamp != 0)) {
        return graft_fail(GRAFT_E_ARGUMENT, "svd_rank and svd_clamp are for methods with an SVD, not for %s",
                          combine->rules->name);
    }
    if (params->svd_rank > GRAFT_ADAPTER_MAX_RANK || (params->svd_clamp != 0 && !in_share(params->svd_clamp))) {
        return graft_fail(GRAFT_E_ARGUMENT, "svd_rank is %u and svd_clamp %g; at most %d, and above 0 to 1, are allowed",
                          params->svd_rank, params->svd_clamp, GRAFT_ADAPTER_MAX_RANK);
    }
    combine->n_adapters = params->n_adapters;
    combine->single = params->n_adapters == 1 && params->svd_rank == 0 && params->svd_clamp == 0;
    if (svd && !combine->single) {
        GRAFT_TRY(graft_lapack_require(combine->rules->name));
    }
    size_t length = strlen(out);
    combine->to_gguf = length > 5 && strcmp(out + length - 5, ".gguf") == 0;
    return GRAFT_OK;
}

// The type of what is computed: as asked for, or that of all matrices if they have one.
static enum graft_status choose_type(struct graft_combine *combine)
{
    const char *asked = combine->params->dtype;
    for (uint32_t i = 0; asked && i < DTYPES; i++) {
        if (strcmp(asked, dtypes[i].name) == 0) {
            combine->type = dtypes[i].type;
            return GRAFT_OK;
        }
    }
    if (asked && strcmp(asked, "auto") != 0) {
        return graft_fail(GRAFT_E_ARGUMENT, "dtype \"%s\" is not known; there are auto, f32, f16, bf16", asked);
    }
    uint32_t type = combine->adapters[0]->n_pairs ? combine->adapters[0]->pairs[0].a.type : GRAFT_TYPE_F32;
    for (uint32_t i = 0; i < combine->n_adapters; i++) {
        for (uint32_t j = 0; j < combine->adapters[i]->n_pairs; j++) {
            const struct graft_adapter_pair *pair = &combine->adapters[i]->pairs[j];
            type = pair->a.type == type && pair->b.type == type ? type : GRAFT_TYPE_F32;
        }
    }
    combine->type = (enum graft_type)type;
    return GRAFT_OK;
}

static enum graft_status read_adapters(struct graft_combine *combine)
{
    const char *path = combine->params->base;
    struct graft_gguf *gguf = NULL;
    struct graft_source *source = NULL;
    enum graft_status status = GRAFT_OK;
    if (path) {
        GRAFT_TRY_OUT(graft_gguf_open(combine->ctx, &gguf, path, false), status, out);
        GRAFT_TRY_OUT(graft_source_open(combine->ctx, &source, gguf), status, out);
        graft_adapter_base_of(source, &combine->base); // copies are checked by graft_adapter_fit, below
        combine->head_dim = source->config.head_dim;
    }
    for (uint32_t i = 0; i < combine->n_adapters; i++) {
        GRAFT_TRY_OUT(graft_adapter_read(combine->ctx, &combine->adapters[i], combine->params->adapters[i].path), status, out);
        status = source ? graft_adapter_fit(combine->adapters[i], source) : GRAFT_OK;
        if (status != GRAFT_OK) {
            graft_fail_prefix(status, "%s", combine->params->adapters[i].path);
            goto out;
        }
    }
    for (uint32_t i = 0; i < combine->n_adapters; i++) { // what names depend on
        const struct graft_adapter_desc *desc = combine->adapters[i];
        combine->out->n_expert = desc->n_expert > combine->out->n_expert ? desc->n_expert : combine->out->n_expert;
        combine->out->mixtral_names = combine->out->mixtral_names || desc->mixtral_names;
        combine->out->norms_placed = combine->out->norms_placed || desc->norms_placed;
        memcpy(combine->out->architecture, desc->architecture, desc->architecture[0] ? sizeof desc->architecture : 0);
    }
    status = choose_type(combine);
out:
    graft_source_close(&source);
    graft_gguf_close(&gguf);
    return status;
}

static enum graft_status combine_part(struct graft_combine *combine, struct graft_combine_part *part)
{
    struct graft_adapter_pair *pair = &combine->out->pairs[combine->out->n_pairs];
    *pair = (struct graft_adapter_pair){
        .target = part->target, .layer = part->layer, .expert = part->expert, .rank = part->rank, .scale = part->scale};
    enum graft_status status = GRAFT_OK;
    switch (part->way) {
    case GRAFT_COMBINE_KEEP:
        status = graft_combine_keep(combine, part, pair);
        break;
    case GRAFT_COMBINE_PARTS:
        status = graft_combine_by_parts(combine, part, pair);
        break;
    case GRAFT_COMBINE_CAT:
        status = graft_combine_by_cat(combine, part, pair);
        break;
    case GRAFT_COMBINE_SVD:
        status = graft_combine_by_svd(combine, part, pair);
        break;
    case GRAFT_COMBINE_DENSE:
        status = graft_combine_by_dense(combine, part, pair);
        break;
    }
    GRAFT_TRY(status);
    if (part->bias && !pair->bias.data) {
        GRAFT_TRY(graft_combine_bias(combine, part, pair));
    }
    GRAFT_TRY(graft_combine_measure(combine, part, pair));
    combine->out->n_pairs++;
    return GRAFT_OK;
}

// One module after the other; then what replaces tensors of the base.
static enum graft_status combine_all(struct graft_combine *combine)
{
    const struct graft_combine_params *params = combine->params;
    struct graft_lapack lapack;
    enum graft_status status = GRAFT_OK;
    GRAFT_TRY(graft_combine_room(combine));
    graft_lapack_begin(&lapack);
    for (uint32_t i = 0; i < combine->n_parts && status == GRAFT_OK; i++) {
        char module[GRAFT_ADAPTER_NAME_BYTES];
        struct graft_combine_part *part = &combine->parts[i];
        status = combine_part(combine, part);
        if (status != GRAFT_OK) {
            graft_fail_prefix(status, "%s", graft_adapter_module(part->target, part->layer, part->expert, false, module));
        } else if (params->progress && !params->progress(params->progress_user, i + 1, combine->n_parts)) {
            status = graft_fail(GRAFT_E_CANCELLED, "cancelled after %u of %u modules", i + 1, combine->n_parts);
        }
    }
    graft_lapack_end(&lapack);
    return status == GRAFT_OK ? graft_combine_wholes(combine) : status;
}

static uint64_t view_bytes(const struct graft_adapter_view *view)
{
    return view->data ? view->rows * view->cols * graft_adapter_value_bytes(view->type) : 0;
}

static void report_module(struct graft_combine_report *report, const struct graft_combine_module *module, uint64_t parameters,
                          double norm, double difference)
{
    struct graft_combine_summary *sum = &report->summary;
    struct graft_combine_module *out = &report->modules[sum->n_modules++];
    *out = *module;
    out->norm = sqrt(norm);
    out->error = norm > 0 ? sqrt(difference / norm) : 0;
    sum->rank = module->rank > sum->rank ? module->rank : sum->rank;
    sum->n_parameters += parameters;
    sum->bytes += module->bytes;
    sum->norm += norm; // squared until all are there
    sum->error += difference;
}

static enum graft_status make_report(const struct graft_combine *combine, struct graft_combine_report *report)
{
    const struct graft_adapter_desc *out = combine->out;
    GRAFT_TRY(GRAFT_NEW(combine->ctx, GRAFT_MEM_HOST, &report->modules, (uint64_t)out->n_pairs + out->n_whole, "a report"));
    report->summary.method = combine->single ? "copy" : combine->rules->name;
    report->summary.dtype = dtype_name(combine->type);
    for (uint32_t i = 0; i < out->n_pairs; i++) {
        const struct graft_adapter_pair *pair = &out->pairs[i];
        const struct graft_combine_part *part = &combine->parts[i];
        struct graft_combine_module module = {.n_adapters = part->n, .rank = part->rank};
        char name[GRAFT_ADAPTER_NAME_BYTES];
        snprintf(module.name, sizeof module.name, "%.63s",
                 graft_adapter_module(part->target, part->layer, part->expert, false, name));
        module.bytes = view_bytes(&pair->a) + view_bytes(&pair->b) + view_bytes(&pair->magnitude) + view_bytes(&pair->bias);
        report_module(report, &module,
                      (part->n_in + part->n_out) * part->rank + (pair->magnitude.data ? part->n_out : 0) +
                          (pair->bias.data ? part->n_out : 0),
                      part->norm, part->difference);
    }
    for (uint32_t i = 0; i < out->n_whole; i++) {
        const struct graft_adapter_whole *whole = &out->whole[i];
        struct graft_combine_module module = {.n_adapters = graft_combine_holders(combine, whole),
                                              .bytes = view_bytes(&whole->view)};
        char name[GRAFT_ADAPTER_NAME_BYTES];
        snprintf(module.name, sizeof module.name, "%.63s", graft_adapter_module(whole->target, whole->layer, 0, false, name));
        report_module(report, &module, whole->base_copy ? 0 : whole->view.rows * whole->view.cols, 0, 0);
    }
    double norm = report->summary.norm, difference = report->summary.error;
    report->summary.norm = sqrt(norm);
    report->summary.error = norm > 0 ? sqrt(difference / norm) : 0;
    return GRAFT_OK;
}

static void say_what_is_ignored(const struct graft_combine *combine)
{
    if (combine->single && combine->params->method) {
        graft_log(combine->ctx, GRAFT_LOG_INFO, "one adapter: %s has nothing to combine, it is kept as it is",
                  combine->rules->name);
    }
}

// What the description says about itself.
static void describe(struct graft_combine *combine)
{
    struct graft_adapter_desc *out = combine->out;
    const struct graft_adapter_desc *first = combine->adapters[0];
    out->ctx = combine->ctx;
    memcpy(out->base_name, first->base_name, sizeof out->base_name);
    memcpy(out->alora, first->alora, sizeof out->alora);
    out->n_alora = first->n_alora;
    out->use_rslora = combine->single && first->use_rslora;
}

enum graft_status graft_combine(struct graft_ctx *ctx, const char *out, const struct graft_combine_params *params,
                                struct graft_combine_report **report)
{
    struct graft_combine combine = {.ctx = ctx, .params = params};
    struct graft_combine_report *made = NULL;
    enum graft_status status;
    uint64_t begun = graft_clock_ns(), computed = 0;
    if (report) {
        *report = NULL;
    }
    GRAFT_TRY(check_params(&combine, out));
    say_what_is_ignored(&combine);
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &combine.out, 1, "the combined adapter"), status, done);
    combine.out->ctx = ctx;
    GRAFT_TRY_OUT(GRAFT_NEW(ctx, GRAFT_MEM_HOST, &made, 1, "a report"), status, done);
    made->ctx = ctx;
    GRAFT_TRY_OUT(read_adapters(&combine), status, done);
    describe(&combine);
    GRAFT_TRY_OUT(graft_combine_plan(&combine), status, done);
    GRAFT_TRY_OUT(combine_all(&combine), status, done);
    GRAFT_TRY_OUT(make_report(&combine, made), status, done);
    computed = graft_clock_ns();
    const struct graft_adapter_base *base = params->base ? &combine.base : NULL;
    status =
        combine.to_gguf ? graft_adapter_write_gguf(combine.out, base, out) : graft_adapter_write_peft(combine.out, base, out);
    made->summary.combine_ns = computed - begun;
    made->summary.write_ns = graft_clock_ns() - computed;
done:
    for (uint32_t i = 0; i < combine.n_adapters; i++) {
        graft_adapter_free(&combine.adapters[i]);
    }
    GRAFT_FREE(ctx, &combine.parts);
    GRAFT_FREE(ctx, &combine.sources);
    graft_adapter_free(&combine.out);
    if (status != GRAFT_OK || !report) {
        graft_combine_report_free(&made);
    }
    if (report) {
        *report = made;
    }
    return status;
}

void graft_combine_report_free(struct graft_combine_report **report)
{
    if (!report || !*report) {
        return;
    }
    struct graft_ctx *ctx = (*report)->ctx;
    GRAFT_FREE(ctx, &(*report)->modules);
    GRAFT_FREE(ctx, report);
}

void graft_combine_summarize(const struct graft_combine_report *report, struct graft_combine_summary *out)
{
    *out = report->summary;
}

enum graft_status graft_combine_module(const struct graft_combine_report *report, uint32_t index,
                                       struct graft_combine_module *out)
{
    if (index >= report->summary.n_modules) {
        return graft_fail(GRAFT_E_ARGUMENT, "module %u is not there, there are %u", index, report->summary.n_modules);
    }
    *out = report->modules[index];
    return GRAFT_OK;
}
