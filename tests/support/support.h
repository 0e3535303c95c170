// SPDX-License-Identifier: Apache-2.0
// Shared by all test programs: a runner for one Check suite, a seeded random generator, a counting and failing allocator.
#ifndef GRAFT_TESTS_SUPPORT_H
#define GRAFT_TESTS_SUPPORT_H

#include <check.h>
#include <stdint.h>

#include "platform/ctx.h"

// Run one suite, print Check's report, return the process's exit code. Suites run without fork: a Vulkan device opened in
// a parent cannot be used in a child.
int graft_test_main(Suite *suite);

// xorshift64*: the same numbers on every machine.
struct graft_test_random {
    uint64_t state;
};
uint64_t graft_test_random_u64(struct graft_test_random *random);
float graft_test_random_f32(struct graft_test_random *random, float low, float high);

// Allocator for graft_ctx_params that counts live blocks and fails the n-th request (n from 1; 0 = never).
struct graft_test_alloc {
    uint64_t fail_at;
    _Atomic uint64_t requests, live; // threads of the library allocate, too
    bool fail_from_then_on;
};
void *graft_test_alloc(void *user, size_t bytes);
void graft_test_free(void *user, void *memory);
// A context on that allocator (alloc may be NULL).
struct graft_ctx *graft_test_ctx(struct graft_test_alloc *alloc, uint64_t budget_bytes);

// Remove a folder and everything in it.
void graft_test_remove_all(const char *path);
// How many files and folders a folder holds.
int graft_test_entries(const char *path);

// Fail the test unless the status is as given; prints graft_last_error().
#define ck_assert_status(call, expected)                                                                              \
    do {                                                                                                              \
        enum graft_status got_ = (call);                                                                              \
        ck_assert_msg(got_ == (expected), "%s: %s (%s), expected %s", #call, graft_status_name(got_),                 \
                      graft_last_error(), graft_status_name(expected));                                               \
    } while (0)
#define ck_assert_ok(call) ck_assert_status(call, GRAFT_OK)
// Fail unless the last error contains the text.
#define ck_assert_error_has(text) \
    ck_assert_msg(strstr(graft_last_error(), (text)) != NULL, "error \"%s\" lacks \"%s\"", graft_last_error(), (text))

#endif
