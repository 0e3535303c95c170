// SPDX-License-Identifier: Apache-2.0
// Shrink: t = weight * A x. The workgroup shares the sum over x; workgroups share the rows of A. Nothing is divided by the root
// mean square here: the consumer does that to the whole sum. Loops test at their ends for software Vulkan's sake
// (lib/matmul.glsl).
//   lora_t_out [row][pair][target of the stage][GRAFT_LORA_RANK] f32; the rest: lib/lora.glsl
// Needs SHRINK_X(i): the i-th vec4 of x. With SHRINK_EXPERT rows are (row, expert) pairs, and A is that of expert lora_expert.
// All invocations of the workgroup must get here.

// Rows of A that one pass over x serves. Software Vulkan computes one pass in every workgroup that is not the last one, too.
#if defined(ONE_SUBGROUP) && !defined(SHRINK_BY_THE_LAST)
const uint SHRINK_ROWS = 2u;
#else
const uint SHRINK_ROWS = 4u;
#endif

#ifdef SHRINK_EXPERT
uint lora_expert;
#define SHRINK_ENTRY(slot, target) lora_expert_entry(slot, target, lora_expert)
#define SHRINK_STAGE GRAFT_LORA_EXPERT_STAGE
#else
#define SHRINK_ENTRY(slot, target) lora_entry(slot, target)
#define SHRINK_STAGE GRAFT_LORA_STAGE
#endif

// Rows [k, k + SHRINK_ROWS) of A (a: their first quad), for x at vec4 x_at.
void shrink_rows(uint a, uint quads, uint x_at, float weight, uint t)
{
    float sum[SHRINK_ROWS];
    [[unroll]] for (uint r = 0u; r < SHRINK_ROWS; r++) {
        sum[r] = 0.0;
    }
    uint i = gl_LocalInvocationIndex;
    if (i < quads) {
        do {
            vec4 x0 = SHRINK_X(x_at + i * 2u), x1 = SHRINK_X(x_at + i * 2u + 1u);
            [[unroll]] for (uint r = 0u; r < SHRINK_ROWS; r++) {
                sum[r] = lora_dot(QUAD(lora_pool, a + r * quads + i), x0, x1, sum[r]);
            }
            i += WORKGROUP;
        } while (i < quads);
    }
    [[unroll]] for (uint r = 0u; r < SHRINK_ROWS; r++) {
        sum[r] = workgroup_sum(sum[r]);
    }
    if (gl_LocalInvocationIndex == 0u) {
        [[unroll]] for (uint r = 0u; r < SHRINK_ROWS; r++) {
            lora_t_out[t + r] = sum[r] * weight;
        }
    }
}

// Part `part` of `parts` of one pair of row n, for the target that is number `target` of a stage whose first one has entry
// `first`. x_at, fours: where x begins and how many vec4 it has.
void shrink(uint n, uint pair, uint slot, float weight, uint first, uint target, uint x_at, uint fours, uint part, uint parts)
{
    lora_target entry = SHRINK_ENTRY(slot, first + target);
    uint quads = fours / 2u, rank = entry.dense ? 0u : entry.rank, k = part * SHRINK_ROWS;
    uint t = ((n * GRAFT_LORA_PAIRS + pair) * SHRINK_STAGE + target) * GRAFT_LORA_RANK;
    if (k < rank) {
        do {
            shrink_rows(entry.a + k * quads, quads, x_at, weight, t + k);
            k += parts * SHRINK_ROWS;
        } while (k < rank);
    }
}

#ifndef SHRINK_BY_THE_LAST
// What a workgroup of a dispatch of its own does of row n, whose adapters are those of batch row `batch_row`. Grid: x = (pair *
// targets + target) * parts + part of the rows of A.
void shrink_own(uint n, uint batch_row, uint x_at, uint fours)
{
    uint targets = push.lora.next >> GRAFT_LORA_NEXT_SHIFT, parts = gl_NumWorkGroups.x / (GRAFT_LORA_PAIRS * targets);
    uint part = gl_WorkGroupID.x % parts, target = gl_WorkGroupID.x / parts % targets;
    uint pair = gl_WorkGroupID.x / (parts * targets);
    uvec4 slots;
    vec4 weights;
    lora_row_pairs(batch_row, slots, weights);
    if (slots[pair] != GRAFT_NO_SLOT) {
        shrink(n, pair, slots[pair], weights[pair], push.lora.entry, target, x_at, fours, part, parts);
    }
}
#endif

#ifdef SHRINK_BY_THE_LAST
#define ARRIVE_COUNTER lora_counter
#define ARRIVE last_to_arrive
#include "lib/arrive.glsl"

// The last of `total` workgroups that write batch rows [n0, n0 + count) does the shrink of the targets that read them next, so
// that no dispatch and no barrier is spent on it: software Vulkan. (On a GPU all others would wait for the one.) fours: vec4 of
// a row.
void shrink_by_the_last(uint n0, uint count, uint total, uint fours)
{
    uint next = push.lora.next & ((1u << GRAFT_LORA_NEXT_SHIFT) - 1u), n_next = push.lora.next >> GRAFT_LORA_NEXT_SHIFT;
    bool any = false;
    uvec4 slots;
    vec4 weights;
    uint n = n0;
    do {
        lora_row_pairs(n, slots, weights);
        any = any || slots.x != GRAFT_NO_SLOT;
        n++;
    } while (n < n0 + count);
    if (n_next == 0u || !any || !last_to_arrive(n0, total)) {
        return;
    }
    n = n0;
    do {
        lora_row_pairs(n, slots, weights);
        uint pair = 0u;
        if (slots.x != GRAFT_NO_SLOT) {
            do {
                uint target = 0u;
                do {
                    shrink(n, pair, slots.x, weights.x, next, target, n * fours, fours, 0u, 1u);
                    target++;
                } while (target < n_next);
                slots = uvec4(slots.yzw, GRAFT_NO_SLOT);
                weights = weights.yzww;
                pair++;
            } while (slots.x != GRAFT_NO_SLOT);
        }
        n++;
    } while (n < n0 + count);
}
#endif
