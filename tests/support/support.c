// SPDX-License-Identifier: Apache-2.0
#include "support/support.h"

#include <stdlib.h>

int graft_test_main(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

uint64_t graft_test_random_u64(struct graft_test_random *random)
{
    uint64_t x = random->state ? random->state : 88172645463325252u;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    random->state = x;
    return x * 2685821657736338717u;
}

float graft_test_random_f32(struct graft_test_random *random, float low, float high)
{
    return low + (high - low) * ((float)(graft_test_random_u64(random) >> 40) / 16777216.0f);
}

void *graft_test_alloc(void *user, size_t bytes)
{
    struct graft_test_alloc *alloc = user;
    uint64_t request = ++alloc->requests;
    if (alloc->fail_at && (request == alloc->fail_at || (alloc->fail_from_then_on && request > alloc->fail_at))) {
        return NULL;
    }
    void *memory = malloc(bytes);
    alloc->live += memory != NULL;
    return memory;
}

void graft_test_free(void *user, void *memory)
{
    struct graft_test_alloc *alloc = user;
    alloc->live -= memory != NULL;
    free(memory);
}

struct graft_ctx *graft_test_ctx(struct graft_test_alloc *alloc, uint64_t budget_bytes)
{
    struct graft_ctx_params params = {.size = sizeof params, .budget_bytes = budget_bytes};
    if (alloc) {
        params.alloc = graft_test_alloc;
        params.free = graft_test_free;
        params.alloc_user = alloc;
    }
    struct graft_ctx *ctx = NULL;
    ck_assert_ok(graft_ctx_create(&ctx, &params));
    return ctx;
}
