// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "platform/plat.h"

char *mkdtemp(char *name)
{
    char *digits = name + strlen(name) - 6;
    uint64_t seed = graft_clock_ns();
    for (int i = 0; i < 100; i++, seed += 7919) {
        snprintf(digits, 7, "%06u", (unsigned)(seed / 100 % 1000000));
        if (_mkdir(name) == 0) {
            return name;
        }
    }
    return NULL;
}

void *memmem(const void *large, size_t length, const void *small_one, size_t small_length)
{
    for (size_t i = 0; i + small_length <= length; i++) {
        if (memcmp((const char *)large + i, small_one, small_length) == 0) {
            return (char *)(size_t)large + i;
        }
    }
    return NULL;
}
