// SPDX-License-Identifier: Apache-2.0
// Arenas under AddressSanitizer: what was not given out of a chunk may not be touched, and there is a gap behind every value.
// Without the sanitizer nothing of it is there.
#ifndef GRAFT_PLATFORM_POISON_H
#define GRAFT_PLATFORM_POISON_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GRAFT_POISONING 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define GRAFT_POISONING 1
#endif

#ifdef GRAFT_POISONING
#include <sanitizer/asan_interface.h>
enum { GRAFT_POISON_GAP = 16 }; // bytes
#define GRAFT_POISON(memory, bytes)   ASAN_POISON_MEMORY_REGION((memory), (bytes))
#define GRAFT_UNPOISON(memory, bytes) ASAN_UNPOISON_MEMORY_REGION((memory), (bytes))
#else
enum { GRAFT_POISON_GAP = 0 };
#define GRAFT_POISON(memory, bytes)   ((void)(memory), (void)(bytes))
#define GRAFT_UNPOISON(memory, bytes) ((void)(memory), (void)(bytes))
#endif

#endif
