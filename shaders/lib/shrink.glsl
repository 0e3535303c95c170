// SPDX-License-Identifier: Apache-2.0
// Shrink: t = weight * A x, rows of A shared by the subgroups (or all of the workgroup). Nothing is divided by
// the root mean square here: the consumer does that to the whole sum. Loops test at their ends for software Vulkan's sake
// (lib/matmul.glsl).
//   lora_t_out [row][pair][target of the stage][GRAFT_LORA_RANK] f32; the rest: lib/lora.glsl
// Needs SHRINK_X(i): the i-th vec4 of x. With SHRINK_EXPERT rows are (row, expert) pairs, and A is that of expert lora_expert.
// All invocations of the workgroup must get here.
#ifdef SUBGROUPS
#define SHRINK_TEAMS gl_NumSubgroups
#define SHRINK_TEAM gl_SubgroupID
#define SHRINK_FIRST gl_SubgroupInvocationID
#define SHRINK_STEP gl_SubgroupSize
#else
#define SHRINK_TEAMS 1u
#define SHRINK_TEAM 0u
#define SHRINK_FIRST gl_LocalInvocationIndex
#define SHRINK_STEP WORKGROUP
#endif

// Rows of A that one pass over x serves. A dispatch of its own has workgroups enough to take few each; software Vulkan computes
// one pass in every workgroup that is not the last one, too.
#if defined(SHRINK_BY_THE_LAST) && !defined(ONE_SUBGROUP)
const uint SHRINK_ROWS = 8u;
#elif defined(SHRINK_BY_THE_LAST)
const uint SHRINK_ROWS = 4u;
#else
const uint SHRINK_ROWS = 2u;
#endif
#ifndef SHRINK_PARTS // workgroups that share the rows, and which of them this is
#define SHRINK_PARTS 1u
#define SHRINK_PART 0u
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
    uint i = SHRINK_FIRST;
    if (i < quads) {
        do {
            vec4 x0 = SHRINK_X(x_at + i * 2u), x1 = SHRINK_X(x_at + i * 2u + 1u);
            [[unroll]] for (uint r = 0u; r < SHRINK_ROWS; r++) {
                sum[r] = lora_dot(QUAD(lora_pool, a + r * quads + i), x0, x1, sum[r]);
            }
            i += SHRINK_STEP;
        } while (i < quads);
    }
    [[unroll]] for (uint r = 0u; r < SHRINK_ROWS; r++) {
#ifdef SUBGROUPS
        sum[r] = subgroupAdd(sum[r]);
#else
        sum[r] = workgroup_sum(sum[r]);
#endif
    }
    if (SHRINK_FIRST == 0u) {
        [[unroll]] for (uint r = 0u; r < SHRINK_ROWS; r++) {
            lora_t_out[t + r] = sum[r] * weight;
        }
    }
}

// One pair of row n, for the n_targets targets from `first` on, which share x. x_at, fours: where x begins and how many vec4 it
// has.
void shrink(uint n, uint pair, uint slot, float weight, uint first, uint n_targets, uint x_at, uint fours)
{
    uint quads = fours / 2u, team = SHRINK_PART * SHRINK_TEAMS + SHRINK_TEAM, teams = SHRINK_PARTS * SHRINK_TEAMS;
    uint target = 0u;
    do {
        lora_target entry = SHRINK_ENTRY(slot, first + target);
        uint rank = entry.dense ? 0u : entry.rank, k = team * SHRINK_ROWS;
        uint t = ((n * GRAFT_LORA_PAIRS + pair) * SHRINK_STAGE + target) * GRAFT_LORA_RANK;
        if (k < rank) {
            do {
                shrink_rows(entry.a + k * quads, quads, x_at, weight, t + k);
                k += teams * SHRINK_ROWS;
            } while (k < rank);
        }
        target++;
    } while (target < n_targets);
}

#ifdef SHRINK_BY_THE_LAST
#define ARRIVE_COUNTER lora_counter
#define ARRIVE last_to_arrive
#include "lib/arrive.glsl"

// The last of `total` workgroups that write batch rows [n0, n0 + count) does the shrink of the targets that read them next, so
// that no dispatch and no barrier is spent on it. fours: vec4 of a row.
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
                shrink(n, pair, slots.x, weights.x, next, n_next, n * fours, fours);
                slots = uvec4(slots.yzw, GRAFT_NO_SLOT);
                weights = weights.yzww;
                pair++;
            } while (slots.x != GRAFT_NO_SLOT);
        }
        n++;
    } while (n < n0 + count);
}
#endif
