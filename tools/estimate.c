// SPDX-License-Identifier: Apache-2.0
// graft estimate: the memory table of a model before anything is loaded.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/tool.h"

static json_t *estimate_json(const struct graft_estimate *e, uint64_t budget, bool fits)
{
    json_t *classes = json_object();
    for (int c = 0; c < GRAFT_MEM_CLASSES; c++) {
        json_object_set_new(classes, graft_mem_class_name((enum graft_mem_class)c),
                            json_integer((json_int_t)e->class_bytes[c]));
    }
    return json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:o, s:b, s:I, s:I, s:I}", "classes", classes, "total_bytes",
                     (json_int_t)e->total_bytes, "mapped_bytes", (json_int_t)e->mapped_bytes, "n_ctx", (json_int_t)e->n_ctx,
                     "n_batch", (json_int_t)e->n_batch, "n_seq", (json_int_t)e->n_seq, "budget_bytes",
                     budget ? json_integer((json_int_t)budget) : json_null(), "fits", (int)fits, "n_ctx_fits",
                     (json_int_t)e->n_ctx_fits, "n_streamed", (json_int_t)e->n_streamed, "stream_bytes",
                     (json_int_t)e->stream_bytes);
}

static void estimate_print(const struct session *session, const struct graft_estimate *e, uint64_t budget)
{
    printf("%s\n  context %" PRIu32 ", batch %" PRIu32 ", sequences %" PRIu32 ", on %s\n\n", session->path, e->n_ctx,
           e->n_batch, e->n_seq, session->device ? session->device_info.name : "a discrete GPU (assumed)");
    for (int c = 0; c < GRAFT_MEM_CLASSES; c++) {
        printf("  %-10s %12s\n", graft_mem_class_name((enum graft_mem_class)c), bytes_text(e->class_bytes[c]).text);
    }
    printf("  %-10s %12s\n", "in all", bytes_text(e->total_bytes).text);
    if (e->mapped_bytes) {
        printf("\n%s of the file are used in place and are not counted.\n", bytes_text(e->mapped_bytes).text);
    }
    if (e->n_streamed) {
        printf("\n%" PRIu32 " layers are streamed: %s are copied to the device for every batch.\n", e->n_streamed,
               bytes_text(e->stream_bytes).text);
    }
    if (budget && e->total_bytes <= budget) {
        printf("\nFits into %s, with %s to spare; the largest context that fits is %" PRIu32 ".\n", bytes_text(budget).text,
               bytes_text(budget - e->total_bytes).text, e->n_ctx_fits);
    }
}

// The device a run would choose, so that both print the same table; without any, the estimate assumes a discrete GPU.
static int best_device(struct session *session, const struct options *options)
{
    int code = session_context(session, options);
    struct graft_device_params params = {.size = sizeof params};
    if (code == EXIT_GOOD && graft_device_open(session->ctx, &session->device, &params) == GRAFT_OK) {
        graft_device_describe(session->device, &session->device_info);
    }
    return code;
}

int verb_ESTIMATE(const struct options *options)
{
    struct session session = {0};
    struct graft_estimate estimate;
    int code = model_find(options->model, session.path);
    if (code == EXIT_GOOD) {
        code = options->device ? session_device(&session, options) : best_device(&session, options);
    }
    if (code == EXIT_GOOD) {
        struct graft_model_params params = session_params(options);
        enum graft_status status = graft_model_estimate(session.ctx, session.device, session.path, &params, &estimate);
        if (status != GRAFT_OK) {
            char what[PATH_BYTES + 64];
            snprintf(what, sizeof what, "the memory of %s cannot be estimated", session.path);
            code = error_status(status, what);
        } else {
            bool fits = !options->memory || estimate.total_bytes <= options->memory;
            if (options->json) {
                code = print_json(estimate_json(&estimate, options->memory, fits));
            } else {
                estimate_print(&session, &estimate, options->memory);
            }
            if (!fits) {
                char because[160];
                snprintf(because, sizeof because, "it takes %s, %s more than %s", bytes_text(estimate.total_bytes).text,
                         bytes_text(estimate.total_bytes - options->memory).text, bytes_text(options->memory).text);
                if (estimate.n_ctx_fits) {
                    error3("this does not fit into the memory budget", because, "-c %" PRIu32 ", which fits",
                           estimate.n_ctx_fits);
                } else {
                    error3("this does not fit into the memory budget", because,
                           "a larger --memory; no context is small enough");
                }
                code = EXIT_OVER_BUDGET;
            }
        }
    }
    session_close(&session);
    return code;
}
