// SPDX-License-Identifier: Apache-2.0
// What a module takes from a device, read from its SPIR-V: drivers on a desktop do not mind what a phone's would refuse.
#ifndef GRAFT_TESTS_SPIRV_H
#define GRAFT_TESTS_SPIRV_H

#include "runtime/vk/vk.h"

// Bytes of shared memory with the pipeline's specialization constants. Fails the test on a type it does not know.
uint64_t graft_test_shared_bytes(const struct graft_vk_pipeline_params *params);
// Bytes of the smallest element of shared memory that a cooperative matrix is loaded from or stored to; UINT64_MAX: there is
// none. Such addresses must be multiples of 16: arrays of smaller elements may begin anywhere, and a GPU loses its device then.
uint64_t graft_test_matrix_element_bytes(const struct graft_vk_pipeline_params *params);
// True if the module declares the capability (numbers of the SPIR-V specification).
enum {
    GRAFT_SPIRV_FLOAT16 = 9,
    GRAFT_SPIRV_INT8 = 39,
    GRAFT_SPIRV_GROUP_NON_UNIFORM = 61,
    GRAFT_SPIRV_STORAGE_16BIT = 4433,
    GRAFT_SPIRV_STORAGE_8BIT = 4448,
    GRAFT_SPIRV_DOT_PRODUCT = 6019
};
bool graft_test_needs(const struct graft_vk_pipeline_params *params, uint32_t capability);

#endif
