// SPDX-License-Identifier: Apache-2.0
// Shared by the fuzz targets. A target is one file: LLVMFuzzerTestOneInput takes any bytes, and stops the program when what it
// promises does not hold. With -DGRAFT_FUZZ=ON (clang) libFuzzer calls it under sanitizers; otherwise fuzz_main.c replays the
// corpus with it. tests/fuzz/run builds and runs all.
#ifndef GRAFT_TESTS_FUZZ_H
#define GRAFT_TESTS_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// What does not hold ends the program, with the last error.
#define FUZZ_CHECK(holds, what)                                                                                                \
    do {                                                                                                                       \
        if (!(holds)) {                                                                                                        \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, what, graft_last_error());                                 \
            abort();                                                                                                           \
        }                                                                                                                      \
    } while (0)

// A context whose blocks are counted, with a budget; and its end, which checks that nothing was left.
static inline struct graft_ctx *fuzz_begin(struct graft_test_alloc *alloc, uint64_t budget)
{
    *alloc = (struct graft_test_alloc){0};
    struct graft_ctx_params params = {
        .size = sizeof params, .budget_bytes = budget, .alloc = graft_test_alloc, .free = graft_test_free, .alloc_user = alloc};
    struct graft_ctx *ctx = NULL;
    FUZZ_CHECK(graft_ctx_create(&ctx, &params) == GRAFT_OK, "no context");
    return ctx;
}

static inline void fuzz_end(struct graft_ctx **ctx, struct graft_test_alloc *alloc)
{
    struct graft_memory_use use;
    graft_ctx_memory(*ctx, &use);
    graft_ctx_destroy(ctx);
    FUZZ_CHECK(alloc->live == 0 && use.used_bytes == 0, "memory was not given back");
}

#endif
