// SPDX-License-Identifier: Apache-2.0
// How kernels with integer dot products round what they multiply weights with (shaders/lib/dot.glsl).
#include <math.h>

#include "runtime/ref/ref.h"

void graft_ref_round_values(const float *x, uint32_t n, uint32_t planes, int32_t *q, float *d)
{
    enum { GROUP = 32 };
    float levels = planes == 1 ? 127.0f : 127.0f * 128.0f;
    for (uint32_t g = 0; g < n / GROUP; g++) {
        float most = 0.0f;
        for (uint32_t i = 0; i < GROUP; i++) {
            most = fmaxf(most, fabsf(x[g * GROUP + i]));
        }
        float factor = most < 0x1p-100f ? 0.0f : levels / most;
        for (uint32_t i = 0; i < GROUP; i++) {
            q[g * GROUP + i] = (int32_t)rintf(x[g * GROUP + i] * factor);
        }
        d[g] = most * (1.0f / levels);
    }
}
