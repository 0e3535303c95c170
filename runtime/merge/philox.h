// SPDX-License-Identifier: Apache-2.0
// Philox 4x32-10, a counter-based generator: word i of a stream depends on the key and on i alone, so that a mask is the same
// in whatever order and pieces it is asked for. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#ifndef GRAFT_RUNTIME_MERGE_PHILOX_H
#define GRAFT_RUNTIME_MERGE_PHILOX_H

#include <stdint.h>

// One block of four words. counter and key: low word first.
void graft_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

// Words [first, first + count) of the stream that belongs to `key`: word i is word i % 4 of the block with counter i / 4.
void graft_philox_words(uint64_t key, uint64_t first, uint64_t count, uint32_t *out);

#endif
