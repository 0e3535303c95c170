// SPDX-License-Identifier: Apache-2.0
// The merge as a whole.
#include "graft/merge.h"

#include "platform/err.h"

enum graft_status graft_merge(struct graft_ctx *ctx, const char *base, const char *out, const struct graft_merge_params *params,
                              struct graft_merge_report **report)
{
    (void)ctx;
    (void)params;
    *report = NULL;
    return graft_fail(GRAFT_E_UNSUPPORTED, "%s, %s: merging is to follow", base, out);
}

void graft_merge_report_free(struct graft_merge_report **report)
{
    (void)report;
}

void graft_merge_summarize(const struct graft_merge_report *report, struct graft_merge_summary *out)
{
    (void)report;
    *out = (struct graft_merge_summary){0};
}

enum graft_status graft_merge_tensor(const struct graft_merge_report *report, uint32_t index, struct graft_merge_tensor *out)
{
    (void)report;
    (void)index;
    (void)out;
    return graft_fail(GRAFT_E_ARGUMENT, "there is no report");
}

enum graft_status graft_merge_adapter(const struct graft_merge_report *report, uint32_t index, const char **digest,
                                      const char **base_name)
{
    (void)report;
    (void)index;
    (void)digest;
    (void)base_name;
    return graft_fail(GRAFT_E_ARGUMENT, "there is no report");
}

const char *graft_merge_warning(const struct graft_merge_report *report, uint32_t index)
{
    (void)report;
    (void)index;
    return NULL;
}
