// SPDX-License-Identifier: Apache-2.0
// Bounds of work and memory that no input may pass. In builds for fuzzers they are small: inputs reach them often, and none
// takes long.
#ifndef GRAFT_PLATFORM_BOUNDS_H
#define GRAFT_PLATFORM_BOUNDS_H

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#define GRAFT_BOUND(bound, fuzzing) (fuzzing)
#else
#define GRAFT_BOUND(bound, fuzzing) (bound)
#endif

#endif
