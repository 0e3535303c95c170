// SPDX-License-Identifier: Apache-2.0
#define _POSIX_C_SOURCE 200809L
#include "support/merge_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/quant/quant.h"
#include "support/support.h"

void graft_merge_folder_begin(char folder[GRAFT_MERGE_PATH_BYTES])
{
    snprintf(folder, GRAFT_MERGE_PATH_BYTES, "/tmp/graft-merge-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

void graft_merge_folder_end(const char *folder)
{
    graft_test_remove_all(folder);
}

void graft_merge_end(struct graft_ctx **ctx, const char *folder)
{
    struct graft_memory_use use;
    graft_ctx_memory(*ctx, &use);
    ck_assert_uint_eq(use.used_bytes, 0);
    graft_ctx_destroy(ctx);
    graft_merge_folder_end(folder);
}

const char *graft_merge_at(const char *folder, const char *name)
{
    static char paths[8][GRAFT_MERGE_PATH_BYTES];
    static unsigned next;
    char *path = paths[next++ % 8];
    ck_assert_int_lt(snprintf(path, GRAFT_MERGE_PATH_BYTES, "%s/%s", folder, name), GRAFT_MERGE_PATH_BYTES);
    return path;
}

uint32_t graft_merge_entries(const char *folder, const char *but)
{
    char path[2 * GRAFT_MERGE_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", folder, but ? but : "");
    return (uint32_t)(graft_test_entries(folder) - (but && access(path, F_OK) == 0));
}

bool graft_merge_same_bytes(const char *a, const char *b)
{
    struct graft_map one, two;
    ck_assert_ok(graft_map_open(&one, a));
    ck_assert_ok(graft_map_open(&two, b));
    bool same = one.size == two.size && (one.size == 0 || memcmp(one.data, two.data, one.size) == 0);
    graft_map_close(&one);
    graft_map_close(&two);
    return same;
}

enum graft_status graft_merge_one(struct graft_ctx *ctx, const char *base, const char *adapter, const char *type,
                                  const char *out, struct graft_merge_report **report)
{
    struct graft_merge_adapter adapters[] = {{adapter, 1}};
    struct graft_merge_params params = {.size = sizeof params, .adapters = adapters, .n_adapters = 1, .type = type};
    return graft_merge(ctx, base, out, &params, report);
}

float *graft_merge_values(const struct graft_gguf *gguf, const struct graft_gguf_tensor *tensor)
{
    uint64_t n = tensor->dims[0] * tensor->dims[1];
    float *values = malloc(n * sizeof *values);
    ck_assert_ptr_nonnull(values);
    graft_quant_find(tensor->type)->dequantize_row(graft_gguf_data(gguf, tensor), values, n);
    return values;
}
