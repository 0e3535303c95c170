// SPDX-License-Identifier: Apache-2.0
// The last workgroup to finish does what needs the results of all of them, so that no dispatch and no barrier is spent on it.
// LAST_TO_ARRIVE(name, counter): defines bool name(uint at, uint total): true for the last of `total` workgroups that count at
// counter[at], which is 0 before and after; what the others wrote to coherent buffers before is visible to it. Uniform control
// flow; the counter is a coherent buffer.
#ifndef LAST_GLSL
#define LAST_GLSL
#ifdef ONE_SUBGROUP
#define LAST_TO_ARRIVE(name, counter)                                                                                          \
    bool name(uint at, uint total)                                                                                             \
    {                                                                                                                          \
        memoryBarrierBuffer();                                                                                                 \
        WORKGROUP_BARRIER();                                                                                                   \
        uint arrived = 0u;                                                                                                     \
        if (gl_LocalInvocationIndex == 0u) {                                                                                   \
            arrived = atomicAdd(counter[at], 1u);                                                                              \
            if (arrived == total - 1u) {                                                                                       \
                counter[at] = 0u;                                                                                              \
            }                                                                                                                  \
        }                                                                                                                      \
        arrived = subgroupBroadcastFirst(arrived);                                                                             \
        memoryBarrierBuffer();                                                                                                 \
        return arrived == total - 1u;                                                                                          \
    }
#else
shared uint last_arrived;
#define LAST_TO_ARRIVE(name, counter)                                                                                          \
    bool name(uint at, uint total)                                                                                             \
    {                                                                                                                          \
        memoryBarrierBuffer();                                                                                                 \
        barrier();                                                                                                             \
        if (gl_LocalInvocationIndex == 0u) {                                                                                   \
            last_arrived = atomicAdd(counter[at], 1u);                                                                         \
            if (last_arrived == total - 1u) {                                                                                  \
                counter[at] = 0u;                                                                                              \
            }                                                                                                                  \
        }                                                                                                                      \
        barrier();                                                                                                             \
        uint arrived = last_arrived;                                                                                           \
        barrier();                                                                                                             \
        memoryBarrierBuffer();                                                                                                 \
        return arrived == total - 1u;                                                                                          \
    }
#endif
#endif
