// SPDX-License-Identifier: Apache-2.0
// The thread-local error detail behind graft_last_error(), and the two macros that pass errors up.
#ifndef GRAFT_PLATFORM_ERR_H
#define GRAFT_PLATFORM_ERR_H

#include "graft/common.h"

// Set this thread's error detail (printf style, at most 1023 bytes, longer text is cut) and return `status`, so that
// a failing function ends with: return graft_fail(GRAFT_E_FORMAT, "tensor %s ends at %" PRIu64 ...);
GRAFT_PRINTF(2, 3) enum graft_status graft_fail(enum graft_status status, const char *format, ...);

#ifdef GRAFT_ANALYZE // static analyzers see one file at a time: a failure is no success
#define graft_fail(status, ...) ((graft_fail)((status), __VA_ARGS__), (status) == GRAFT_OK ? GRAFT_E_INTERNAL : (status))
#endif

// Put "prefix: " in front of this thread's detail (a file name, say) and return `status` unchanged.
GRAFT_PRINTF(2, 3) enum graft_status graft_fail_prefix(enum graft_status status, const char *format, ...);

// Return from the current function if `expr` is not GRAFT_OK.
#define GRAFT_TRY(expr)                                  \
    do {                                                 \
        enum graft_status graft_try_status_ = (expr);    \
        if (graft_try_status_ != GRAFT_OK) {             \
            return graft_try_status_;                    \
        }                                                \
    } while (0)

// Store the status of `expr` in `status` and jump to `label` if it is not GRAFT_OK.
#define GRAFT_TRY_OUT(expr, status, label)               \
    do {                                                 \
        (status) = (expr);                               \
        if ((status) != GRAFT_OK) {                      \
            goto label;                                  \
        }                                                \
    } while (0)

#endif
