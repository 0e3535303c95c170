// SPDX-License-Identifier: Apache-2.0
// The kernel `read`: sums of words modulo 2^32, whatever the size.
#include "support/matrices.h"

START_TEST(the_sums_are_those_of_all_words)
{
    static const uint32_t sizes[] = {1, 2, 3, 31, 32, 33, 1000, 4097, 70001};
    struct graft_test_gpu gpu;
    if (!graft_test_gpu_open(&gpu, (enum graft_test_mask)_i)) {
        return;
    }
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct graft_kernel kernel;
        ck_assert_ok(graft_kernel_read(&kernel, gpu.caps, sizes[i]));
        struct graft_test_buffer data = graft_test_buffer(&gpu, sizes[i] * 4ull),
                                 sums = graft_test_buffer(&gpu, kernel.groups[0]);
        struct graft_test_random random = {.state = sizes[i]};
        uint32_t want = 0, got = 0;
        for (uint64_t k = 0; k < data.words; k++) {
            data.u[k] = (uint32_t)(graft_test_random_u64(&random) >> 16);
            want += data.u[k];
        }
        graft_test_dispatch(&gpu, &kernel, (const struct graft_test_buffer *const[]){&data, &sums}, 2);
        for (uint32_t k = 0; k < kernel.groups[0]; k++) {
            got += sums.u[k];
        }
        ck_assert_msg(got == want, "%s, %u quads: sum %u, expected %u", gpu.mask, sizes[i], got, want);
        graft_test_buffer_free(&data);
        graft_test_buffer_free(&sums);
    }
    graft_test_gpu_close(&gpu);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernel read");
    TCase *tc = tcase_create("read");
    tcase_add_loop_test(tc, the_sums_are_those_of_all_words, 0, GRAFT_TEST_KERNEL_MASKS);
    suite_add_tcase(suite, tc);
    return graft_test_main(suite);
}
