// SPDX-License-Identifier: Apache-2.0
// Shared by the kernel tests: a device under a mask of capabilities, guarded and poisoned buffers, one dispatch at a time.
#ifndef GRAFT_TESTS_GPU_H
#define GRAFT_TESTS_GPU_H

#include "runtime/kernels/kernel.h"
#include "support/vk_support.h"

// Devices made from the one at hand by switching capabilities off. The first ones differ in the variant the kernels choose.
enum graft_test_mask {
    GRAFT_TEST_PLAIN,                              // lavapipe: variant lane
    GRAFT_TEST_NO_TEXEL,                           // variant subgroup
    GRAFT_TEST_NO_SUBGROUPS,                       // variant team
    GRAFT_TEST_SMALL,                              // 16 KiB of shared memory, 128 invocations, no texel buffers
    GRAFT_TEST_SMALLEST,                           // the same without subgroup operations: the baseline
    GRAFT_TEST_KERNEL_MASKS,                       // those above are all that the choice of kernels looks at
    GRAFT_TEST_INT16 = GRAFT_TEST_KERNEL_MASKS,    // variant dot, where the device has integer dot products, 16-bit activations
    GRAFT_TEST_INT8,                               // the same with 8-bit ones
    GRAFT_TEST_MATRIX,                             // variant matrix, where the device and the build have it
    GRAFT_TEST_MATRIX_MASKS,                       // those above: for matrix kernels
    GRAFT_TEST_NO_16BIT = GRAFT_TEST_MATRIX_MASKS, // no f16 arithmetic, no 16-bit storage
    GRAFT_TEST_NO_IMPORT,
    GRAFT_TEST_STAGED, // device buffers are never mapped, as on a discrete GPU
    GRAFT_TEST_MASKS
};
const char *graft_test_mask_name(enum graft_test_mask mask);
// Masks like the devices of a vendor, by name in the environment variable GRAFT_TEST_MASK: "mobile" (Mali and Adreno at their
// poorest), "mali_4", "mali_16", "intel_8", "intel_16", "intel_32", "amd_32", "amd_64" (of what they have, and by the size of
// their subgroups). Programs then run once, under this mask alone, with fewer shapes. A size that the device at hand has not
// and cannot be asked for is skipped, and the line says so; lavapipe's size follows LP_NATIVE_VECTOR_WIDTH: 4, 8 or 16 (above,
// it says more than it computes with).
struct graft_vk_options graft_test_mask_options(enum graft_test_mask mask);
// What matrix kernels, and models, are tried with under a mask.
enum graft_activations graft_test_mask_activations(enum graft_test_mask mask);

struct graft_test_gpu {
    struct graft_ctx *ctx;
    struct graft_vk *vk;
    const struct graft_vk_caps *caps;
    enum graft_test_mask which;
    enum graft_activations activations; // that matrix kernels are tried with
    bool matrix_cores;                  // the same
    bool few;         // take fewer shapes
    const char *mask; // name, for messages
    // Software Vulkan takes up to half a second to make a pipeline: all are kept until the device is closed.
    struct graft_vk_pipeline *pipelines[2048];
    uint32_t n_pipelines;
};

// The variant of a matrix kernel for weights of `type`, as the executor chooses it, with the mask's activations. free_rows:
// graft_variant_use_dot.
struct graft_variant graft_test_variant(const struct graft_test_gpu *gpu, uint32_t type, uint32_t rows, uint32_t free_rows);

// True when the program runs under the validation layers (environment variable GRAFT_TEST_VALIDATION): tests then take fewer
// shapes.
bool graft_test_validating(void);
// Open the device. False, with a line "skipped: ...", if there is none, or no validation layer when one is asked for.
bool graft_test_gpu_open(struct graft_test_gpu *gpu, enum graft_test_mask mask);
// Close; fails the test if the validation layers had anything to say or memory was not given back.
void graft_test_gpu_close(struct graft_test_gpu *gpu);

// `words` 32-bit words of device memory that the host sees, full of a NaN pattern, between two guards.
enum { GRAFT_TEST_POISON = 0x7fd5a5a5, GRAFT_TEST_MAX_BUFFERS = 14 };
struct graft_test_buffer {
    struct graft_vk_buffer *buffer;
    uint64_t words; // a multiple of 4: texel bindings see whole vectors
    union {
        void *data;
        float *f;
        uint32_t *u;
        uint16_t *h;
        uint8_t *b;
    };
};
struct graft_test_buffer graft_test_buffer(struct graft_test_gpu *gpu, uint64_t words);
void graft_test_buffer_free(struct graft_test_buffer *buffer);
// Fill with the poison again.
void graft_test_buffer_poison(struct graft_test_buffer *buffer);
// The word was never written.
static inline bool graft_test_poisoned(const struct graft_test_buffer *buffer, uint64_t word)
{
    return buffer->u[word] == GRAFT_TEST_POISON;
}

// Record one kernel on its buffers, run it, and check the guards of all.
void graft_test_dispatch(struct graft_test_gpu *gpu, struct graft_kernel *kernel,
                         const struct graft_test_buffer *const *buffers, uint32_t count);

// Fail unless |got - want| <= bound, NaN included; `what` and `index` say where.
void graft_test_close(float got, double want, double bound, const struct graft_test_gpu *gpu, const char *what, uint64_t index);

#endif
