// SPDX-License-Identifier: Apache-2.0
// The context: byte ledger by class, host allocator that goes through it, log.
#include "platform/ctx.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/bytes.h"
#include "platform/plat.h"

struct graft_ctx {
    void *(*alloc)(void *user, size_t bytes);
    void (*free)(void *user, void *memory);
    void *alloc_user;
    void (*log)(void *user, enum graft_log_level level, const char *text);
    void *log_user;
    enum graft_log_level log_level;
    char *cache_dir;
    struct graft_trust *trust;
    pthread_mutex_t mutex; // guards use
    struct graft_memory_use use;
};

// In front of every block: what graft_free must give back. 64 bytes, so that the block keeps its alignment.
struct block_head {
    void *base;      // what the allocator returned
    uint64_t bytes;  // counted in the ledger
    uint32_t mem_class;
    uint32_t magic;
    uint8_t padding[40];
};
_Static_assert(sizeof(struct block_head) == 64, "block head keeps 64-byte alignment");
enum { BLOCK_MAGIC = 0x6772616f, BLOCK_EXTRA = 64 + 63, LARGE_BLOCK = 4 << 20 };

static void *default_alloc(void *user, size_t bytes)
{
    (void)user;
    return malloc(bytes);
}

static void default_free(void *user, void *memory)
{
    (void)user;
    free(memory);
}

enum graft_status graft_ctx_create(struct graft_ctx **out, const struct graft_ctx_params *params)
{
    struct graft_ctx_params given = {.size = sizeof given};
    if (params) {
        if (params->size == 0 || params->size > sizeof given) {
            return graft_fail(GRAFT_E_ARGUMENT, "graft_ctx_params.size is %zu, this library knows %zu", params->size,
                              sizeof given);
        }
        memcpy(&given, params, params->size);
    }
    if (!given.alloc != !given.free) {
        return graft_fail(GRAFT_E_ARGUMENT, "graft_ctx_params: alloc and free must be given together");
    }
    void *(*alloc)(void *, size_t) = given.alloc ? given.alloc : default_alloc;
    void (*release)(void *, void *) = given.free ? given.free : default_free;
    size_t dir_bytes = given.cache_dir ? strlen(given.cache_dir) + 1 : 0;
    struct graft_ctx *ctx = alloc(given.alloc_user, sizeof *ctx + dir_bytes);
    if (!ctx) {
        return graft_fail(GRAFT_E_MEMORY, "no memory for a context (%zu bytes)", sizeof *ctx + dir_bytes);
    }
    memset(ctx, 0, sizeof *ctx);
    ctx->alloc = alloc;
    ctx->free = release;
    ctx->alloc_user = given.alloc_user;
    ctx->log = given.log;
    ctx->log_user = given.log_user;
    ctx->log_level = given.log_level ? given.log_level : GRAFT_LOG_WARN;
    ctx->use.budget_bytes = given.budget_bytes;
    if (dir_bytes) {
        ctx->cache_dir = (char *)(ctx + 1);
        memcpy(ctx->cache_dir, given.cache_dir, dir_bytes);
    }
    pthread_mutex_init(&ctx->mutex, NULL);
    *out = ctx;
    return GRAFT_OK;
}

void graft_ctx_destroy(struct graft_ctx **ctx)
{
    if (!ctx || !*ctx) {
        return;
    }
    GRAFT_FREE(*ctx, &(*ctx)->trust);
    pthread_mutex_destroy(&(*ctx)->mutex);
    (*ctx)->free((*ctx)->alloc_user, *ctx);
    *ctx = NULL;
}

void graft_ctx_memory(struct graft_ctx *ctx, struct graft_memory_use *out)
{
    pthread_mutex_lock(&ctx->mutex);
    *out = ctx->use;
    pthread_mutex_unlock(&ctx->mutex);
}

enum graft_status graft_ledger_reserve(struct graft_ctx *ctx, enum graft_mem_class mem_class, uint64_t bytes, const char *what)
{
    pthread_mutex_lock(&ctx->mutex);
    struct graft_memory_use *use = &ctx->use;
    uint64_t total;
    bool fits = graft_add_u64(use->used_bytes, bytes, &total) && (use->budget_bytes == 0 || total <= use->budget_bytes);
    if (fits) {
        use->used_bytes = total;
        use->class_bytes[mem_class] += bytes;
        use->allocations++;
        if (total > use->peak_bytes) {
            use->peak_bytes = total;
        }
    }
    struct graft_memory_use now = *use;
    pthread_mutex_unlock(&ctx->mutex);
    if (fits) {
        return GRAFT_OK;
    }
    return graft_fail(GRAFT_E_BUDGET,
                      "%s needs %" PRIu64 " bytes (%s), but %" PRIu64 " of the budget of %" PRIu64 " bytes are taken: %" PRIu64
                      " bytes are missing",
                      what, bytes, graft_mem_class_name(mem_class), now.used_bytes, now.budget_bytes,
                      bytes - (now.budget_bytes - now.used_bytes));
}

void graft_ledger_release(struct graft_ctx *ctx, enum graft_mem_class mem_class, uint64_t bytes)
{
    pthread_mutex_lock(&ctx->mutex);
    ctx->use.used_bytes -= bytes;
    ctx->use.class_bytes[mem_class] -= bytes;
    pthread_mutex_unlock(&ctx->mutex);
}

uint64_t graft_ledger_free(struct graft_ctx *ctx)
{
    pthread_mutex_lock(&ctx->mutex);
    uint64_t left = ctx->use.budget_bytes ? ctx->use.budget_bytes - ctx->use.used_bytes : UINT64_MAX;
    pthread_mutex_unlock(&ctx->mutex);
    return left;
}

enum graft_status graft_alloc_unset(struct graft_ctx *ctx, enum graft_mem_class mem_class, void **out, uint64_t count,
                                    uint64_t item, const char *what)
{
    *out = NULL;
    uint64_t bytes, whole;
    if (!graft_mul_u64(count, item, &bytes) || !graft_add_u64(bytes, BLOCK_EXTRA, &whole) || whole > SIZE_MAX) {
        return graft_fail(GRAFT_E_MEMORY, "%s: %" PRIu64 " x %" PRIu64 " bytes overflow", what, count, item);
    }
    GRAFT_TRY(graft_ledger_reserve(ctx, mem_class, whole, what));
    uint8_t *base = ctx->alloc(ctx->alloc_user, (size_t)whole);
    if (!base) {
        graft_ledger_release(ctx, mem_class, whole);
        return graft_fail(GRAFT_E_MEMORY, "%s: the system has no %" PRIu64 " bytes", what, whole);
    }
    uint8_t *data = (uint8_t *)(((uintptr_t)base + BLOCK_EXTRA) & ~(uintptr_t)63);
    if (bytes >= LARGE_BLOCK) {
        graft_pages_hint(data, bytes);
    }
    struct block_head head = {.base = base, .bytes = whole, .mem_class = (uint32_t)mem_class, .magic = BLOCK_MAGIC};
    memcpy(data - sizeof head, &head, sizeof head);
    *out = data;
    return GRAFT_OK;
}

enum graft_status graft_alloc(struct graft_ctx *ctx, enum graft_mem_class mem_class, void **out, uint64_t count, uint64_t item,
                              const char *what)
{
    GRAFT_TRY(graft_alloc_unset(ctx, mem_class, out, count, item, what));
    memset(*out, 0, (size_t)(count * item));
    return GRAFT_OK;
}

enum graft_status graft_realloc(struct graft_ctx *ctx, enum graft_mem_class mem_class, void **memory, uint64_t count,
                                uint64_t item, const char *what)
{
    void *bigger;
    GRAFT_TRY(graft_alloc(ctx, mem_class, &bigger, count, item, what));
    if (*memory) {
        struct block_head head;
        memcpy(&head, (uint8_t *)*memory - sizeof head, sizeof head);
        uint64_t old_bytes = head.bytes - BLOCK_EXTRA;
        uint64_t new_bytes = count * item;
        memcpy(bigger, *memory, (size_t)(old_bytes < new_bytes ? old_bytes : new_bytes));
        graft_free(ctx, memory);
    }
    *memory = bigger;
    return GRAFT_OK;
}

void graft_free(struct graft_ctx *ctx, void **memory)
{
    if (!memory || !*memory) {
        return;
    }
    struct block_head head;
    memcpy(&head, (uint8_t *)*memory - sizeof head, sizeof head);
    if (head.magic != BLOCK_MAGIC) {
        graft_log(ctx, GRAFT_LOG_ERROR, "memory: freeing a block that graft_alloc did not make; it is left alone");
        *memory = NULL;
        return;
    }
    ctx->free(ctx->alloc_user, head.base);
    graft_ledger_release(ctx, (enum graft_mem_class)head.mem_class, head.bytes);
    *memory = NULL;
}

enum graft_status graft_strdup(struct graft_ctx *ctx, char **out, const char *text, uint64_t length)
{
    GRAFT_TRY(graft_alloc(ctx, GRAFT_MEM_HOST, (void **)out, length + 1, 1, "a string"));
    memcpy(*out, text, (size_t)length);
    return GRAFT_OK;
}

void graft_log(struct graft_ctx *ctx, enum graft_log_level level, const char *format, ...)
{
    if (!ctx || !ctx->log || level > ctx->log_level) {
        return;
    }
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ctx->log(ctx->log_user, level, text);
}

const struct graft_trust *graft_ctx_trust(const struct graft_ctx *ctx)
{
    return ctx->trust;
}

void graft_ctx_set_trust(struct graft_ctx *ctx, struct graft_trust *trust)
{
    GRAFT_FREE(ctx, &ctx->trust);
    ctx->trust = trust;
}

const char *graft_ctx_cache_dir(const struct graft_ctx *ctx)
{
    return ctx->cache_dir;
}

enum graft_status graft_ctx_create_like(struct graft_ctx *ctx, struct graft_ctx **out)
{
    struct graft_ctx_params params = {
        .size = sizeof params, .alloc = ctx->alloc, .free = ctx->free, .alloc_user = ctx->alloc_user};
    return graft_ctx_create(out, &params);
}
