// SPDX-License-Identifier: Apache-2.0
// Sums and maxima over a workgroup in a fixed order. Every invocation must call them in uniform control flow and gets the
// result.
// SUBGROUPS: the workgroup is a whole number of full subgroups. Otherwise a tree in shared memory, no subgroup operations.
// ONE_SUBGROUP (with SUBGROUPS): the workgroup is exactly one subgroup, and nothing ever needs a barrier; software Vulkan
// compiles a kernel with a barrier into coroutines, which cost more than the kernel (docs/performance.md).
// Needs: WORKGROUP, a specialization constant, at most 256.
#ifdef SUBGROUPS
#extension GL_KHR_shader_subgroup_ballot : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif

#ifdef ONE_SUBGROUP
#define WORKGROUP_BARRIER() subgroupBarrier()
#else
#define WORKGROUP_BARRIER() barrier()
shared float reduce_shared[256];
#endif

float workgroup_sum(float v)
{
#ifdef ONE_SUBGROUP
    return subgroupAdd(v);
#elif defined(SUBGROUPS)
    v = subgroupAdd(v);
    if (gl_NumSubgroups > 1u) {
        if (subgroupElect()) {
            reduce_shared[gl_SubgroupID] = v;
        }
        barrier();
        v = 0.0;
        for (uint i = 0u; i < gl_NumSubgroups; i++) {
            v += reduce_shared[i];
        }
        barrier();
    }
    return v;
#else
    uint lane = gl_LocalInvocationIndex;
    reduce_shared[lane] = v;
    barrier();
    for (uint width = WORKGROUP / 2u; width > 0u; width /= 2u) {
        if (lane < width) {
            reduce_shared[lane] += reduce_shared[lane + width];
        }
        barrier();
    }
    v = reduce_shared[0];
    barrier();
    return v;
#endif
}

float workgroup_max(float v)
{
#ifdef ONE_SUBGROUP
    return subgroupMax(v);
#elif defined(SUBGROUPS)
    v = subgroupMax(v);
    if (gl_NumSubgroups > 1u) {
        if (subgroupElect()) {
            reduce_shared[gl_SubgroupID] = v;
        }
        barrier();
        v = reduce_shared[0];
        for (uint i = 1u; i < gl_NumSubgroups; i++) {
            v = max(v, reduce_shared[i]);
        }
        barrier();
    }
    return v;
#else
    uint lane = gl_LocalInvocationIndex;
    reduce_shared[lane] = v;
    barrier();
    for (uint width = WORKGROUP / 2u; width > 0u; width /= 2u) {
        if (lane < width) {
            reduce_shared[lane] = max(reduce_shared[lane], reduce_shared[lane + width]);
        }
        barrier();
    }
    v = reduce_shared[0];
    barrier();
    return v;
#endif
}
