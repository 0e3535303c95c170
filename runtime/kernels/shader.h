// SPDX-License-Identifier: Apache-2.0
// The embedded SPIR-V modules, made from shaders/kernels.cmake's list.
#ifndef GRAFT_RUNTIME_KERNELS_SHADER_H
#define GRAFT_RUNTIME_KERNELS_SHADER_H

#include <stdint.h>

struct graft_shader {
    const char *name; // "qkv.q4_1.lane"
    const uint32_t *spirv;
    uint64_t bytes;
};

extern const struct graft_shader graft_shaders[];
extern const uint32_t graft_shader_count;

// A number that differs between builds whose modules differ (FNV-1a, 64 bits): names the build in the pipeline cache's key.
uint64_t graft_shader_build(void);

#endif
