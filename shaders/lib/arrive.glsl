// SPDX-License-Identifier: Apache-2.0
// Which workgroup is the last of several to get somewhere. Needs ARRIVE, the function's name, and ARRIVE_COUNTER, a coherent
// buffer of counters that are 0 at first and are 0 again behind the last one; may be included once for each counter. All
// invocations of the workgroup must get here.
#if !defined(ONE_SUBGROUP) && !defined(ARRIVED_COUNT)
#define ARRIVED_COUNT
shared uint arrived_count;
#endif

// True for the last of `total` workgroups that count at `at`; what the others wrote to coherent buffers before is visible to
// it.
bool ARRIVE(uint at, uint total)
{
    memoryBarrierBuffer();
    WORKGROUP_BARRIER();
    uint arrived = 0u;
    if (gl_LocalInvocationIndex == 0u) {
        arrived = atomicAdd(ARRIVE_COUNTER[at], 1u);
        if (arrived == total - 1u) {
            ARRIVE_COUNTER[at] = 0u;
        }
    }
#ifdef ONE_SUBGROUP
    arrived = subgroupBroadcastFirst(arrived);
#else
    if (gl_LocalInvocationIndex == 0u) {
        arrived_count = arrived;
    }
    barrier();
    arrived = arrived_count;
#endif
    memoryBarrierBuffer();
    return arrived == total - 1u;
}
#undef ARRIVE
#undef ARRIVE_COUNTER
