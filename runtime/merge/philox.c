// SPDX-License-Identifier: Apache-2.0
#include "runtime/merge/philox.h"

enum { ROUNDS = 10, BLOCK = 4 };

void graft_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t left = UINT64_C(0xd2511f53) * c0, right = UINT64_C(0xcd9e8d57) * c2;
        c0 = (uint32_t)(right >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(left >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)right;
        c3 = (uint32_t)left;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void graft_philox_words(uint64_t key, uint64_t first, uint64_t count, uint32_t *out)
{
    const uint32_t halves[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
    for (uint64_t i = 0; i < count;) {
        uint64_t at = first + i, block = at / BLOCK;
        const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), 0, 0};
        uint32_t words[BLOCK];
        graft_philox(counter, halves, words);
        for (uint64_t j = at % BLOCK; j < BLOCK && i < count; j++) {
            out[i++] = words[j];
        }
    }
}
