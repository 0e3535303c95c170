// SPDX-License-Identifier: Apache-2.0
// What the engine's refusals mean as replies.
#include "tools/serve/jobs.h"

void job_submit_error(enum graft_status status, struct api_error *error)
{
    const char *detail = graft_last_error();
    switch (status) {
    case GRAFT_E_LIMIT:
        api_fail(error, 429, "queue_full", NULL, "%.600s", detail);
        error->retry_after = 1;
        break;
    case GRAFT_E_CONTEXT_FULL:
        api_fail(error, 400, "context_length_exceeded", "messages", "%.600s", detail);
        break;
    case GRAFT_E_ARGUMENT:
        api_fail(error, 400, "invalid_value", NULL, "%.600s", detail);
        break;
    case GRAFT_E_DEVICE_LOST:
    case GRAFT_E_CANCELLED:
    case GRAFT_E_BUDGET:
    case GRAFT_E_MEMORY:
        api_fail(error, 503, status == GRAFT_E_DEVICE_LOST ? "device_lost" : "over_budget", NULL, "%.600s", detail);
        error->retry_after = 5;
        break;
    default:
        api_fail(error, 500, "internal", NULL, "%.600s", detail);
    }
}
