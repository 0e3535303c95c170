// SPDX-License-Identifier: Apache-2.0
// graft/common.h: what every other header needs: status codes, version, allocator, log, budget, the context.
//
// A context is the root object: it carries the log sink, the allocator and the ledger that keeps every byte of host and
// device memory inside one budget. Nothing in the library is global except the thread-local error detail.
#ifndef GRAFT_COMMON_H
#define GRAFT_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GRAFT_VERSION_MAJOR 0
#define GRAFT_VERSION_MINOR 1
#define GRAFT_VERSION_PATCH 0
#define GRAFT_VERSION_STRING "0.1.0"

#if defined(GRAFT_STATIC)
#define GRAFT_API
#elif defined(_WIN32)
#define GRAFT_API __declspec(dllexport)
#else
#define GRAFT_API __attribute__((visibility("default")))
#endif

#if defined(__GNUC__) || defined(__clang__)
#define GRAFT_MUST_CHECK __attribute__((warn_unused_result))
#if defined(__MINGW32__) && !defined(__clang__) // formats are C99's there, too, not those of Microsoft's old library
#define GRAFT_PRINTF(fmt_index, arg_index) __attribute__((format(gnu_printf, fmt_index, arg_index)))
#else
#define GRAFT_PRINTF(fmt_index, arg_index) __attribute__((format(printf, fmt_index, arg_index)))
#endif
#else
#define GRAFT_MUST_CHECK
#define GRAFT_PRINTF(fmt_index, arg_index)
#endif

// Every status the library returns: name, number, short text. 0 is success, all others are negative.
#define GRAFT_STATUS_MAP(X)                                                                                                    \
    X(GRAFT_OK, 0, "ok")                                                                                                       \
    X(GRAFT_E_ARGUMENT, -1, "argument outside what the function accepts")                                                      \
    X(GRAFT_E_IO, -2, "file could not be read or written")                                                                     \
    X(GRAFT_E_FORMAT, -3, "file is damaged or not of the expected format")                                                     \
    X(GRAFT_E_UNSUPPORTED, -4, "well-formed, but not supported by this version")                                               \
    X(GRAFT_E_MEMORY, -5, "the system is out of memory")                                                                       \
    X(GRAFT_E_BUDGET, -6, "does not fit into the memory budget")                                                               \
    X(GRAFT_E_DEVICE, -7, "no usable device, or the device refused")                                                           \
    X(GRAFT_E_DEVICE_LOST, -8, "the device was lost; rebuild the model, or close it and open it again")                        \
    X(GRAFT_E_CONTEXT_FULL, -9, "no room left in the context (KV cache)")                                                      \
    X(GRAFT_E_CANCELLED, -10, "cancelled")                                                                                     \
    X(GRAFT_E_LIMIT, -11, "a built-in bound was reached")                                                                      \
    X(GRAFT_E_INTERNAL, -12, "internal error")                                                                                 \
    X(GRAFT_E_SIGNATURE, -13, "a signature is missing, or not of these bytes by a trusted key")                                \
    X(GRAFT_E_NOT_FINITE, -14, "what was computed is no number: weights, an adapter or the device are damaged")

#define GRAFT_STATUS_ENUM(name, value, text) name = value,
enum graft_status { GRAFT_STATUS_MAP(GRAFT_STATUS_ENUM) };
#undef GRAFT_STATUS_ENUM

// Name of a status ("GRAFT_E_IO"); never NULL. Thread-safety: safe.
GRAFT_API const char *graft_status_name(enum graft_status status);
// Short text of a status; never NULL. Thread-safety: safe.
GRAFT_API const char *graft_status_text(enum graft_status status);
// What went wrong in the last call on this thread that returned something other than GRAFT_OK: one sentence with
// file, field, offset, found and allowed value. Valid until the next failing call on this thread; "" if none.
// Thread-safety: safe (thread-local).
GRAFT_API const char *graft_last_error(void);
// The library's version, "MAJOR.MINOR.PATCH". Thread-safety: safe.
GRAFT_API const char *graft_version(void);

enum graft_log_level { GRAFT_LOG_ERROR = 1, GRAFT_LOG_WARN = 2, GRAFT_LOG_INFO = 3, GRAFT_LOG_DEBUG = 4, GRAFT_LOG_TRACE = 5 };

// Classes of the byte ledger: every allocation, host or device, belongs to one.
#define GRAFT_MEM_CLASS_MAP(X)                                                                      \
    X(GRAFT_MEM_WEIGHTS, "weights")   /* base model tensors: imported, copied or repacked */        \
    X(GRAFT_MEM_KV, "kv")             /* key and value pages */                                     \
    X(GRAFT_MEM_ADAPTERS, "adapters") /* the adapter pool */                                        \
    X(GRAFT_MEM_SCRATCH, "scratch")   /* activations, logits, state buffers */                      \
    X(GRAFT_MEM_STAGING, "staging")   /* upload ring and readback */                                \
    X(GRAFT_MEM_HOST, "host")         /* vocabulary, metadata, plans, everything else on the host */

#define GRAFT_MEM_CLASS_ENUM(name, text) name,
enum graft_mem_class { GRAFT_MEM_CLASS_MAP(GRAFT_MEM_CLASS_ENUM) GRAFT_MEM_CLASSES };
#undef GRAFT_MEM_CLASS_ENUM

// Name of a ledger class ("weights"); "?" for a value outside the enum. Thread-safety: safe.
GRAFT_API const char *graft_mem_class_name(enum graft_mem_class mem_class);

struct graft_memory_use {
    uint64_t budget_bytes;                   // the promise; 0 = none given
    uint64_t used_bytes;                     // now, all classes
    uint64_t peak_bytes;                     // highest used_bytes so far
    uint64_t class_bytes[GRAFT_MEM_CLASSES]; // now, by class
    uint64_t allocations;                    // number of allocations taken so far, host and device (only ever grows)
};

struct graft_ctx;

struct graft_ctx_params {
    size_t size;            // sizeof(struct graft_ctx_params)
    uint64_t budget_bytes;  // most memory, host and device together, ever held; 0 = no limit
    // Host allocator; NULL = malloc and free. alloc must return memory aligned for any type, or NULL.
    void *(*alloc)(void *user, size_t bytes);
    void (*free)(void *user, void *memory);
    void *alloc_user;
    // Log sink; NULL = silent. Called without any lock held, from the thread that logs.
    void (*log)(void *user, enum graft_log_level level, const char *text);
    void *log_user;
    enum graft_log_level log_level; // most detailed level delivered; 0 = GRAFT_LOG_WARN
    const char *cache_dir;          // where pipeline caches and tuning results are kept; NULL = nothing is stored
};

// Create a context. params may be NULL (all defaults). On failure *out is untouched.
// Errors: GRAFT_E_ARGUMENT (params->size unknown), GRAFT_E_MEMORY. Thread-safety: safe.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_ctx_create(struct graft_ctx **out, const struct graft_ctx_params *params);
// Destroy a context; *ctx becomes NULL. Everything made from it must be closed before. NULL is accepted.
// Thread-safety: one thread at a time.
GRAFT_API void graft_ctx_destroy(struct graft_ctx **ctx);
// The ledger as it stands. Thread-safety: safe.
GRAFT_API void graft_ctx_memory(struct graft_ctx *ctx, struct graft_memory_use *out);

// A model file is mapped. If another program cuts it short, or its disk fails, the system sends SIGBUS to the thread that reads
// it, which ends the process. After this call a handler puts zeros there instead, and the function that works on the model says
// GRAFT_E_IO: graft_decode before anything computed from such bytes is given out, opening, merging. Signals that have nothing
// to do with a mapped file go to the handler that was there before. Handlers belong to the process: the library installs this
// one only when a program asks for it, at its start; it stays. Calling it again does nothing.
// Errors: GRAFT_E_INTERNAL (the system refused). Thread-safety: safe.
GRAFT_MUST_CHECK GRAFT_API enum graft_status graft_guard_mapped_files(void);

#ifdef __cplusplus
}
#endif
#endif
