// SPDX-License-Identifier: Apache-2.0
// The context's inside: the byte ledger, the host allocator that goes through it, and the log.
//
// All host memory of the library comes from graft_alloc and friends; all device memory is reserved with
// graft_ledger_reserve before it is taken. Both are refused once the budget would be exceeded.
#ifndef GRAFT_PLATFORM_CTX_H
#define GRAFT_PLATFORM_CTX_H

#include <stdarg.h>

#include "graft/common.h"
#include "platform/err.h"

// Take `bytes` of class `mem_class` from the budget. Errors: GRAFT_E_BUDGET, whose detail says what was asked, what is
// used by class and how much is missing; nothing is taken then. Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status graft_ledger_reserve(struct graft_ctx *ctx, enum graft_mem_class mem_class,
                                                        uint64_t bytes, const char *what);
// Give back what graft_ledger_reserve took. Thread-safety: safe.
void graft_ledger_release(struct graft_ctx *ctx, enum graft_mem_class mem_class, uint64_t bytes);
// Bytes that could still be reserved; UINT64_MAX without a budget. Thread-safety: safe.
uint64_t graft_ledger_free(struct graft_ctx *ctx);

// Allocate count * item bytes, zeroed, aligned to 64 bytes. `what` names it in errors. On failure *out is NULL.
// count or item 0 gives a valid pointer to nothing. Errors: GRAFT_E_MEMORY (also on overflow), GRAFT_E_BUDGET.
// Thread-safety: safe.
GRAFT_MUST_CHECK enum graft_status graft_alloc(struct graft_ctx *ctx, enum graft_mem_class mem_class, void **out,
                                               uint64_t count, uint64_t item, const char *what);
// The same with undefined contents, for large blocks that are written whole right away: a zeroing pass would cost as much as
// filling them. Free with graft_free.
GRAFT_MUST_CHECK enum graft_status graft_alloc_unset(struct graft_ctx *ctx, enum graft_mem_class mem_class, void **out,
                                                     uint64_t count, uint64_t item, const char *what);
// Grow an array made by graft_alloc to `count` items (contents kept, new part zeroed). On failure *memory is untouched.
GRAFT_MUST_CHECK enum graft_status graft_realloc(struct graft_ctx *ctx, enum graft_mem_class mem_class, void **memory,
                                                 uint64_t count, uint64_t item, const char *what);
// Free; *memory becomes NULL. NULL is accepted. Thread-safety: safe.
void graft_free(struct graft_ctx *ctx, void **memory);
// Copy `length` bytes of `text` and add a NUL.
GRAFT_MUST_CHECK enum graft_status graft_strdup(struct graft_ctx *ctx, char **out, const char *text, uint64_t length);

// Typed forms: GRAFT_NEW(ctx, class, &pointer, count, "what") and GRAFT_FREE(ctx, &pointer).
#define GRAFT_NEW(ctx, mem_class, pointer, count, what) \
    graft_alloc((ctx), (mem_class), (void **)(pointer), (count), sizeof(**(pointer)), (what))
#define GRAFT_GROW(ctx, mem_class, pointer, count, what) \
    graft_realloc((ctx), (mem_class), (void **)(pointer), (count), sizeof(**(pointer)), (what))
#define GRAFT_FREE(ctx, pointer) graft_free((ctx), (void **)(pointer))

// One line to the log sink, without newline; dropped if the level is not wanted. Thread-safety: safe.
GRAFT_PRINTF(3, 4) void graft_log(struct graft_ctx *ctx, enum graft_log_level level, const char *format, ...);

// A context with the same allocator and no budget, cache or log: what is built in it measures what building costs. Destroy it
// with graft_ctx_destroy. Errors: GRAFT_E_MEMORY.
GRAFT_MUST_CHECK enum graft_status graft_ctx_create_like(struct graft_ctx *ctx, struct graft_ctx **out);

// What adapters must be signed with (loaders/minisign.h), NULL: nothing is asked. Setting it takes a block of graft_alloc,
// which goes with the context or when it is set again.
struct graft_trust;
const struct graft_trust *graft_ctx_trust(const struct graft_ctx *ctx);
void graft_ctx_set_trust(struct graft_ctx *ctx, struct graft_trust *trust);

// Directory of cache files, or NULL.
const char *graft_ctx_cache_dir(const struct graft_ctx *ctx);

#endif
