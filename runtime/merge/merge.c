// SPDX-License-Identifier: Apache-2.0
// The merge as a whole: read, choose formats, lay out, write in file order, put in place.
#include <stdio.h>

#include "platform/bytes.h"
#include "runtime/merge/merge_private.h"

enum { PATH_BYTES = 4096 };

static const char tag[] = "graft-merge"; // of temporaries
static const double default_keep_effect = 0.95;

static enum graft_status check_params(const char *base, const char *out, const struct graft_merge_params *given,
                                      struct graft_merge_params *params)
{
    if (!given || given->size == 0 || given->size > sizeof *params) {
        return graft_fail(GRAFT_E_ARGUMENT, "graft_merge_params.size is %zu, this library knows %zu", given ? given->size : 0,
                          sizeof *params);
    }
    memcpy(params, given, given->size);
    if (!params->adapters || params->n_adapters < 1 || params->n_adapters > GRAFT_MERGE_MAX_ADAPTERS) {
        return graft_fail(GRAFT_E_ARGUMENT, "%u adapters are to be merged, allowed are 1 to %d", params->n_adapters,
                          GRAFT_MERGE_MAX_ADAPTERS);
    }
    if (params->keep_effect == 0) {
        params->keep_effect = default_keep_effect;
    }
    if (!(params->keep_effect > 0) || params->keep_effect > 1) {
        return graft_fail(GRAFT_E_ARGUMENT, "the share to keep is %g, allowed are numbers above 0, at most 1",
                          params->keep_effect);
    }
    if (graft_same_file(base, out)) {
        return graft_fail(GRAFT_E_ARGUMENT, "%s: is the base itself; name another file for the merged model", out);
    }
    return GRAFT_OK;
}

// An adapter's own files as the output would be replaced.
static enum graft_status check_adapters(const char *out, const struct graft_merge_params *params)
{
    static const char *const files[] = {"", "/adapter_model.safetensors", "/adapter_config.json"};
    for (uint32_t i = 0; i < params->n_adapters; i++) {
        for (size_t k = 0; params->adapters[i].path && k < sizeof files / sizeof *files; k++) {
            char path[PATH_BYTES];
            int length = snprintf(path, sizeof path, "%s%s", params->adapters[i].path, files[k]);
            if (length > 0 && (size_t)length < sizeof path && graft_same_file(path, out)) {
                return graft_fail(GRAFT_E_ARGUMENT, "%s: belongs to an adapter; name another file for the merged model", out);
            }
        }
    }
    return GRAFT_OK;
}

// What the base had in memory of a tensor is not needed any more; what comes next is.
static void move_on(const struct graft_merge *m, uint32_t i)
{
    const struct graft_gguf_tensor *done = m->items[i].from, *next = i + 1 < m->n_items ? m->items[i + 1].from : NULL;
    graft_map_advise(&m->gguf->map, done->offset, done->bytes, GRAFT_ADVICE_DONT_NEED);
    if (next) {
        graft_map_advise(&m->gguf->map, next->offset, next->bytes, GRAFT_ADVICE_WILL_NEED);
    }
}

static enum graft_status write_all(struct graft_merge *m)
{
    GRAFT_TRY(graft_output_reserve(m->output, m->out_bytes));
    graft_sha256_begin(&m->hash);
    for (uint32_t i = 0; i < m->n_items; i++) {
        GRAFT_TRY(graft_merge_write(m, &m->items[i]));
        move_on(m, i);
        graft_output_behind(m->output, m->out_data_offset + m->items[i].offset + m->items[i].bytes);
    }
    graft_merge_hash(m, m->gguf->map.size);
    graft_sha256_end(&m->hash, m->digest);
    GRAFT_TRY(graft_gguf_check_intact(m->gguf));
    return graft_merge_header(m, true);
}

static enum graft_status merge(struct graft_merge *m, const char *base, const char *out, struct graft_merge_report **report)
{
    uint64_t begin = graft_clock_ns(), chosen, written;
    GRAFT_TRY(graft_merge_read(m, base));
    for (uint32_t i = 1; i < m->gguf->n_parts; i++) {
        if (graft_same_file(m->gguf->parts[i].path, out)) {
            return graft_fail(GRAFT_E_ARGUMENT, "%s: belongs to the base; name another file for the merged model", out);
        }
    }
    GRAFT_TRY(graft_merge_threads(m));
    m->progress_total = graft_gguf_bytes(m->gguf);
    GRAFT_TRY(graft_merge_choose(m));
    GRAFT_TRY(graft_merge_layout(m));
    GRAFT_TRY(graft_output_begin(m->ctx, &m->output, out, tag));
    chosen = graft_clock_ns();
    GRAFT_TRY(write_all(m));
    written = graft_clock_ns();
    if (report) {
        GRAFT_TRY(graft_merge_report_make(m, report)); // nothing may fail once the file is in its place
    }
    GRAFT_TRY(graft_output_commit(&m->output));
    if (report) {
        (*report)->summary.decide_ns = chosen - begin;
        (*report)->summary.merge_ns = written - chosen;
        (*report)->summary.sync_ns = graft_clock_ns() - written;
    }
    return GRAFT_OK;
}

enum graft_status graft_merge(struct graft_ctx *ctx, const char *base, const char *out, const struct graft_merge_params *params,
                              struct graft_merge_report **report)
{
    struct graft_merge m = {.ctx = ctx};
    if (report) {
        *report = NULL;
    }
    GRAFT_TRY(check_params(base, out, params, &m.params));
    GRAFT_TRY(check_adapters(out, &m.params));
    enum graft_status status = merge(&m, base, out, report);
    if (status != GRAFT_OK && m.gguf && graft_map_damaged(&m.gguf->map)) { // whatever was made of the zeros
        status = graft_gguf_check_intact(m.gguf);
    }
    graft_merge_release(&m);
    if (status != GRAFT_OK && report) {
        graft_merge_report_free(report);
    }
    return status;
}
